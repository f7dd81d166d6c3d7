// SPDX-License-Identifier: GPL-2.0-only
//
// The unit of one tapdisk, as the hotplug program needs it of systemd. Tests have another one.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/result.hpp"

namespace tapdisk {

using Clock = std::chrono::steady_clock;

// Why a unit is not running, as far as systemd knows.
struct UnitReport {
  std::string status;   // the last STATUS= of its process
  std::string result;   // systemd's word: success, exit-code, timeout, ...
  std::string journal;  // the last line that it logged
};

class Unit {
 public:
  virtual ~Unit() = default;

  // Whether systemd can be asked at all.
  virtual bool is_there() = 0;

  // Waits until it is ready. The error is systemd's: EINTR for a signal that asks us to end, after
  // which no other wait is interrupted; ETIMEDOUT.
  virtual Result<void> start(Clock::time_point deadline) = 0;

  // Whether all has ended that it runs, whatever slice it is in.
  virtual bool has_ended() = 0;
  // Returns has_ended(), as soon as that is true.
  virtual bool wait_ended(Clock::time_point deadline) = 0;

  // These only ask for it. There is no stop: the unit refuses jobs that stop it.
  virtual void terminate() = 0;  // SIGTERM to its main process
  virtual void kill() = 0;       // SIGKILL to all of them

  // So that systemd keeps nothing of it.
  virtual void forget_failure() = 0;

  virtual UnitReport report() = 0;
};

// systemctl's own way: needs no D-Bus daemon, which a host need not have.
inline constexpr const char* kSystemdAddress = "unix:path=/run/systemd/private";

// `interrupts`: a signalfd(2), or -1. Talks to systemd only when it is asked something; if not at
// `address`, through the system's D-Bus.
std::unique_ptr<Unit> systemd_unit(const std::string& name, int interrupts,
                                   const std::string& address = kSystemdAddress);

}  // namespace tapdisk
