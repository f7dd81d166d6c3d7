// SPDX-License-Identifier: GPL-2.0-only
#include "server/notify.hpp"

#include <systemd/sd-daemon.h>

#include <algorithm>

#include "base/utf8.hpp"

namespace tapdisk::notify {
namespace {

// The protocol is lines, and systemd drops what is not UTF-8; a path may hold anything.
std::string one_line(const std::string& said) {
  std::string text = as_utf8(said);
  std::replace(text.begin(), text.end(), '\n', '?');
  return text;
}

}  // namespace

void ready(const std::string& status) {
  sd_notifyf(0, "READY=1\nSTATUS=%s", one_line(status).c_str());
}

void stopping(const std::string& status) {
  sd_notifyf(0, "STOPPING=1\nSTATUS=%s", one_line(status).c_str());
}

void failed(const Error& error) {
  sd_notifyf(0, "STATUS=%s\nERRNO=%d", one_line(error.what).c_str(), error.code);
}

}  // namespace tapdisk::notify
