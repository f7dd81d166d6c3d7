// SPDX-License-Identifier: GPL-2.0-only
#include "vbd/queue.hpp"

#include "base/check.hpp"

namespace tapdisk {

Actions Queue::step(Event&& event) noexcept {
  Actions actions;
  std::visit([&](auto& happened) { on(std::move(happened), actions); }, event);
  if (draining_ && running_ == 0) actions.push_back(Drained{});
  return actions;
}

void Queue::on(Arrived&& event, Actions& actions) noexcept {
  const Slot slot = event.pending.request().slot;
  check(slot < kSlotsMax && !entries_[slot].pending);
  entries_[slot].pending.emplace(std::move(event.pending));
  if (barrier_) {
    entries_[slot].stage = Stage::kHeld;
    held_.push(slot);
  } else {
    admit(slot, actions);
  }
}

void Queue::on(const DataDone& event, Actions& actions) noexcept {
  const Slot slot = event.slot;
  check(slot < kSlotsMax && entries_[slot].pending && entries_[slot].stage == Stage::kData);
  if (barrier_ == slot && event.result == 0)
    want_sync(slot, Stage::kSyncAfter, actions);
  else
    answer(slot, event.result || !changes_disk(slot) ? event.result : sync_error_, actions);
}

void Queue::on(const SyncDone& event, Actions& actions) noexcept {
  check(sync_running_);
  sync_running_ = false;
  if (event.result && !sync_error_) sync_error_ = event.result;
  const Slots served = std::exchange(sync_now_, {});
  const Slots waiting = std::exchange(sync_next_, {});
  if (!waiting.empty() && !sync_error_) start_sync(waiting, actions);

  for (const Slot slot : served) synced(slot, event.result, actions);
  if (sync_error_)
    for (const Slot slot : waiting) answer(slot, sync_error_, actions);
}

void Queue::on(const Drain&, Actions&) noexcept { draining_ = true; }

// Lets a request run, or become the barrier.
void Queue::admit(Slot slot, Actions& actions) noexcept {
  running_++;
  switch (request(slot).verb) {
    case RequestVerb::kWrite:
    case RequestVerb::kDiscard:
      if (sync_error_) {
        answer(slot, sync_error_, actions);
        break;
      }
      [[fallthrough]];
    case RequestVerb::kRead:
      start_data(slot, actions);
      break;
    case RequestVerb::kFlush:
      want_sync(slot, Stage::kSyncBefore, actions);
      break;
    case RequestVerb::kBarrier:
      entries_[slot].stage = Stage::kTurn;
      barrier_ = slot;
      advance_barrier(actions);
      break;
  }
}

void Queue::want_sync(Slot slot, Stage stage, Actions& actions) noexcept {
  entries_[slot].stage = stage;
  if (sync_error_) {
    answer(slot, sync_error_, actions);
  } else if (sync_running_) {
    sync_next_.push_back(slot);
  } else {
    Slots slots;
    slots.push_back(slot);
    start_sync(slots, actions);
  }
}

void Queue::start_sync(const Slots& slots, Actions& actions) noexcept {
  sync_running_ = true;
  sync_now_ = slots;
  actions.push_back(StartSync{});
}

void Queue::start_data(Slot slot, Actions& actions) noexcept {
  entries_[slot].stage = Stage::kData;
  actions.push_back(StartData{slot});
}

void Queue::synced(Slot slot, int result, Actions& actions) noexcept {
  const Entry& entry = entries_[slot];
  if (result == 0 && entry.stage == Stage::kSyncBefore && request(slot).bytes)
    start_data(slot, actions);
  else
    answer(slot, result, actions);
}

void Queue::answer(Slot slot, int result, Actions& actions) noexcept {
  Pending pending = std::move(*entries_[slot].pending);
  entries_[slot].pending.reset();
  running_--;
  actions.push_back(SendReply{std::move(pending).answer(result)});

  if (barrier_ != slot) {
    advance_barrier(actions);
    return;
  }
  barrier_.reset();
  while (!barrier_ && !held_.empty()) admit(held_.pop(), actions);
}

// A barrier goes on when only it is left.
void Queue::advance_barrier(Actions& actions) noexcept {
  if (barrier_ && running_ == 1 && entries_[*barrier_].stage == Stage::kTurn)
    want_sync(*barrier_, Stage::kSyncBefore, actions);
}

}  // namespace tapdisk
