// SPDX-License-Identifier: GPL-2.0-only
#include "server/notify.hpp"

#include <systemd/sd-daemon.h>

#include <algorithm>

namespace tapdisk::notify {
namespace {

// The protocol is lines; a path may hold anything.
std::string one_line(std::string text) {
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
