// SPDX-License-Identifier: GPL-2.0-only
//
// What takes rights of root while a disk is served: to tell systemd, to look what has become of the
// disk, to take away what is left of it. Before tapdisk gives its rights up (confine.hpp), it hands
// these errands to a process that keeps them, and that trusts it no further than this list.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "base/resource.hpp"
#include "base/result.hpp"

namespace tapdisk {

class Errands {
 public:
  // Whose: nothing else is looked at or taken away.
  struct Disk {
    std::string vbd;
    std::string record;   // path; empty: there is none
    std::string control;  // path of the control socket
  };

  explicit Errands(Disk disk) : disk_(std::move(disk)) {}

  // From now on they are run by a process of their own, which ends with this one. Called before
  // there is any other thread.
  Result<void> hand_over();

  // systemd is told (notify.hpp); errors are not.
  void say_ready(const std::string& status) { ask(What::kSayReady, status); }
  void say_alive() { ask(What::kSayAlive); }
  void say_stopping(const std::string& status) { ask(What::kSayStopping, status); }
  void say_failed(const Error& error) { ask(What::kSayFailed, error.what, error.code); }

  // Whoever ends the disk takes its record away first.
  bool disk_is_wanted() { return ask(What::kIsWanted); }
  bool guest_is_connected() { return ask(What::kIsConnected); }
  // No I/O that the module does by itself is in flight.
  bool module_rests() { return ask(What::kModuleRests); }

  // The record, which is of no use any more.
  void forget_disk() { ask(What::kForgetDisk); }
  void remove_socket() { ask(What::kRemoveSocket); }

 private:
  enum class What : std::uint8_t {
    kSayReady,
    kSayAlive,
    kSayStopping,
    kSayFailed,
    kIsWanted,
    kIsConnected,
    kModuleRests,
    kForgetDisk,
    kRemoveSocket,
  };
  struct Order;

  // Any thread. False, too, if there is no answer.
  bool ask(What what, std::string_view text = {}, int code = 0);
  bool run(What what, const std::string& text, int code) const;
  [[noreturn]] void run_all(const Fd& socket) const;

  Disk disk_;
  std::mutex lock_;
  Fd socket_;  // to the process that runs them; none: this one does
};

}  // namespace tapdisk
