// SPDX-License-Identifier: GPL-2.0-only
#include "server/notify.hpp"

#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cstdlib>

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

std::chrono::milliseconds alive_period() {
  std::uint64_t usec = 0;
  if (sd_watchdog_enabled(0, &usec) <= 0) return {};
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::microseconds{usec}) / 3;
}

void alive() { sd_notify(0, "WATCHDOG=1"); }

bool is_supervised() { return std::getenv("NOTIFY_SOCKET") != nullptr; }

}  // namespace tapdisk::notify
