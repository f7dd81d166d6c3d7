// SPDX-License-Identifier: GPL-2.0-only
//
// Decides in which order requests run and when they are answered; performs nothing. It sees no
// file, no engine and no clock: step() takes what happened and returns what is to be done.
//
//   READ, WRITE,  run at once, in any order.
//   DISCARD
//   FLUSH         a sync that starts after the flush arrived, then its data, if any. Everything
//                 answered before is durable when it is answered.
//   BARRIER       waits until everything before it is answered; sync, its data, sync; everything
//                 that arrives meanwhile is held and then goes on in its order.
//
// Each queue of a vbd has one of these and knows nothing of the others: before and after are meant
// in this queue. A sync is of the whole image, so what another queue has answered is durable too.
//
// One sync runs at a time. Those that ask while it runs share the next one, because the running
// one need not cover what was answered after it started.
//
// After a failed sync nobody knows what is on stable storage (the kernel may have dropped what it
// could not write, and would report the next sync as good), so from then on every flush fails. So
// does whatever changes the disk, also what is under way: Linux' blkfront does not ask for a flush
// again, so a write that succeeds would pass for one that lasts. Reads go on.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <variant>

#include "base/limits.hpp"
#include "base/static_vector.hpp"
#include "vbd/request.hpp"

namespace tapdisk {

struct Arrived {
  Pending pending;
};
struct DataDone {
  Slot slot;
  int result;  // 0 or -errno
};
struct SyncDone {
  int result;
};
struct Drain {};  // from now on say whenever nothing is left to be done

using Event = std::variant<Arrived, DataDone, SyncDone, Drain>;

struct StartData {  // read, write or discard what the slot's request says
  Slot slot;
  bool operator==(const StartData&) const = default;
};
struct StartSync {
  bool operator==(const StartSync&) const = default;
};
struct SendReply {
  Reply reply;
  bool operator==(const SendReply&) const = default;
};
struct Drained {
  bool operator==(const Drained&) const = default;
};

using Action = std::variant<StartData, StartSync, SendReply, Drained>;
using Actions = StaticVector<Action, kActionsMax>;

class Queue {
 public:
  // What follows from `event`, to be done in this order.
  Actions step(Event&& event) noexcept;

  // Of a slot between Arrived and SendReply.
  const Request& request(Slot slot) const noexcept { return entries_[slot].pending->request(); }

 private:
  // What a request waits for. Those without data skip kData; only barriers reach kSyncAfter.
  enum class Stage : std::uint8_t { kHeld, kTurn, kSyncBefore, kData, kSyncAfter };

  struct Entry {
    std::optional<Pending> pending;
    Stage stage = Stage::kHeld;
  };
  using Slots = StaticVector<Slot, kSlotsMax>;

  void on(Arrived&& event, Actions& actions) noexcept;
  void on(const DataDone& event, Actions& actions) noexcept;
  void on(const SyncDone& event, Actions& actions) noexcept;
  void on(const Drain& event, Actions& actions) noexcept;

  bool changes_disk(Slot slot) const noexcept {
    return request(slot).verb != RequestVerb::kRead;
  }
  void admit(Slot slot, Actions& actions) noexcept;
  void want_sync(Slot slot, Stage stage, Actions& actions) noexcept;
  void start_sync(const Slots& slots, Actions& actions) noexcept;
  void start_data(Slot slot, Actions& actions) noexcept;
  void synced(Slot slot, int result, Actions& actions) noexcept;
  void answer(Slot slot, int result, Actions& actions) noexcept;
  void advance_barrier(Actions& actions) noexcept;

  std::array<Entry, kSlotsMax> entries_{};
  StaticQueue<Slot, kSlotsMax> held_;  // behind the barrier, in order of arrival
  std::optional<Slot> barrier_;        // the one that everything else waits for
  unsigned running_ = 0;               // admitted and not answered, the barrier included

  Slots sync_now_;   // are served by the running sync
  Slots sync_next_;  // asked after it had started
  bool sync_running_ = false;
  int sync_error_ = 0;  // -errno of the first sync that failed

  bool draining_ = false;
};

}  // namespace tapdisk
