// SPDX-License-Identifier: GPL-2.0-only
#include "server/server.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>
#include <variant>

#include "base/check.hpp"
#include "base/limits.hpp"

namespace tapdisk {
namespace {

// What is to be done with a request's range. The data of a flush or barrier is written.
ImageVerb image_verb(RequestVerb verb) noexcept {
  switch (verb) {
    case RequestVerb::kRead: return ImageVerb::kRead;
    case RequestVerb::kDiscard: return ImageVerb::kDiscard;
    case RequestVerb::kWrite:
    case RequestVerb::kFlush:
    case RequestVerb::kBarrier: break;
  }
  return ImageVerb::kWrite;
}

}  // namespace

Server::Server(Source& source, Image& image, Engine& engine, ErrorLog& errors, FullStore& full,
               bool mixes)
    : source_(source), image_(image), engine_(engine), errors_(errors), full_(full),
      mixes_(mixes) {
  for (Slot slot = 0; slot < kSlotsMax; slot++) {
    ops_[slot].slot = slot;
    ops_[slot].client = this;
  }
  sync_op_.verb = ImageVerb::kSync;
  sync_op_.client = this;
}

void Server::stop() noexcept { ask(stop_asked_, true); }

void Server::ask(std::atomic<bool>& wish, bool value) noexcept {
  wish.store(value, std::memory_order_release);
  source_.wake();
}

// Whether something was asked since this turn began. A ring takes the wake-up that came with it;
// after the last one none does.
bool Server::is_asked() const noexcept {
  return (!draining_ && stop_asked_.load(std::memory_order_acquire)) ||
         give_up_asked_.load(std::memory_order_acquire) ||
         holds_ != hold_asked_.load(std::memory_order_acquire);
}

Result<void> Server::run() {
  sleeps_.store(false, std::memory_order_relaxed);
  while (!over_) turn();
  sleeps_.store(true, std::memory_order_relaxed);
  return outcome_;
}

void Server::turn() {
  counters_.turns.add();
  if (stop_asked_.load(std::memory_order_acquire)) drain();
  if (holds_ != hold_asked_.load(std::memory_order_acquire)) {
    holds_ = !holds_;
    news_ = true;
    rests_.store(false, std::memory_order_relaxed);
  }
  look_for_room();
  if (!gone_ && (news_ || source_.has_replies() || !(is_busy() || holds_))) ring();
  // What was answered while ringing is handed over before anything else.
  const bool more = !gone_ && source_.has_replies();
  if ((drained_ || leaves_writes()) && !more) over_ = true;
  if (over_) return;
  if (draining_ && Clock::now() >= deadline_)
    fail(Error{ETIMEDOUT, "still not idle after the time for it; giving up"});
  else if (is_busy())
    turn_engine(more);
  else if (holds_ && !more)
    rest();
}

// Held, with nothing under way: until somebody wakes the source.
void Server::rest() noexcept {
  if (is_asked()) return;
  rests_.store(true, std::memory_order_release);
  watch_source();
  asleep([&] { engine_.turn(-1); });
}

// Much ends as soon as it is begun: only what does not is worth watching the source for.
void Server::turn_engine(bool more) {
  if (asleep([&] { return engine_.turn(0); }) || more) return;
  if (is_asked()) return;
  watch_source();
  asleep([&] { engine_.turn(patience_ms()); });
}

void Server::ring() {
  news_ = false;
  const Ring how = draining_ || holds_ ? Ring::kHold : is_busy() ? Ring::kTake : Ring::kWait;
  const Result<SourceState> state = asleep([&] { return source_.ring(how); });
  if (!state) return fail(state.error());
  if (*state == SourceState::kGone) {
    gone_ = true;
    drain();
    return;
  }
  for (Request request;;) {
    const Result<bool> taken = source_.next(request);
    if (!taken) return fail(taken.error());
    if (!*taken) return;
    Pending pending{request};
    if (const std::optional<Place> place = place_of(request)) {
      // No concern of the queue's: with a barrier about, nothing is submittable.
      counters_.submits.add();
      source_.reply(std::move(pending).submit(*place));
      continue;
    }
    drained_ = false;
    if (holds_) rests_.store(false, std::memory_order_relaxed);
    perform(queue_.step(Arrived{std::move(pending)}));
  }
}

std::optional<Place> Server::place_of(const Request& request) noexcept {
  if (!request.submittable || (mixes_ && coin_.toss())) return {};
  return image_.place(image_verb(request.verb), request.sector, request.bytes);
}

void Server::perform(const Actions& actions) noexcept {
  for (const Action& action : actions) std::visit([this](const auto& a) { perform(a); }, action);
}

void Server::perform(const StartData& action) noexcept {
  const Request& request = queue_.request(action.slot);
  SlotOp& op = ops_[action.slot];
  op.verb = image_verb(request.verb);
  op.secure = request.secure;
  op.sector = request.sector;
  op.bytes = request.bytes;
  op.data = request.data;
  start(op);
}

void Server::perform(const StartSync&) noexcept { start(sync_op_); }

void Server::start(ImageOp& op) noexcept {
  under_way_++;
  image_.start(op);
}

void Server::perform(const SendReply& action) noexcept {
  if (!gone_) source_.reply(action.reply);
}

void Server::perform(const Drained&) noexcept { drained_ = true; }

// Once it has fired it is not needed before there is something to sleep for.
void Server::watch_source() noexcept {
  if (watching_ || gone_) return;
  watching_ = true;
  watch_.verb = IoVerb::kWatch;
  watch_.fd = source_.fd();
  watch_.client = this;
  engine_.start(watch_);
}

void Server::io_finished(Io& io) noexcept {
  watching_ = false;
  if (io.result < 0) return fail(system_error("waiting for the vbd", -io.result));
  news_ = true;
}

void Server::op_finished(ImageOp& op) noexcept {
  under_way_--;
  if (op.verb == ImageVerb::kWrite && waits_for_room(static_cast<SlotOp&>(op))) return;
  end(op);
}

// Whether a write that has ended is to be tried again.
bool Server::waits_for_room(SlotOp& op) noexcept {
  if (gone_ || op.given_up || !full_.holds(op.result)) {
    if (op.waited) goes_on(op);
    return false;
  }
  if (full_waits_.empty()) try_at_ = Clock::now() + full_.period();
  full_waits_.push_back(op.slot);
  if (!std::exchange(op.waited, true)) {
    counters_.writes_waited.add();
    full_.waits(Clock::now());
  }
  return true;
}

void Server::goes_on(SlotOp& op) noexcept {
  op.waited = op.given_up = false;
  counters_.writes_went_on.add();
  full_.goes_on(Clock::now());
}

// What waits for room is tried again, or fails.
void Server::look_for_room() noexcept {
  if (give_up_asked_.load(std::memory_order_acquire)) {
    give_up_asked_.store(false, std::memory_order_relaxed);
    give_up_writes();
  }
  if (full_waits_.empty() || draining_ || Clock::now() < try_at_) return;
  for (const Slot slot : std::exchange(full_waits_, {})) perform(StartData{slot});
}

void Server::give_up_writes() noexcept {
  for (const Slot slot : std::exchange(full_waits_, {})) {
    goes_on(ops_[slot]);
    end(ops_[slot]);
  }
  // The others are being tried, and whoever asked was told of them, too.
  for (SlotOp& op : ops_) op.given_up = op.waited;
}

void Server::end(ImageOp& op) noexcept {
  if (op.result && !gone_) {
    counters_.errors.add();
    errors_.report(op, Clock::now());
  }
  switch (op.verb) {
    case ImageVerb::kSync:
      counters_.syncs.add();
      perform(queue_.step(SyncDone{op.result}));
      return;
    case ImageVerb::kRead:
      counters_.reads.add();
      counters_.bytes_read.add(op.bytes);
      break;
    case ImageVerb::kWrite:
      counters_.writes.add();
      counters_.bytes_written.add(op.bytes);
      break;
    case ImageVerb::kDiscard:
      counters_.discards.add();
      counters_.bytes_discarded.add(op.bytes);
      break;
  }
  perform(queue_.step(DataDone{static_cast<SlotOp&>(op).slot, op.result}));
}

// What is owned is finished; what the guest asks for from now on stays on its ring. The source is
// told so even if nothing has to be finished.
void Server::drain() noexcept {
  if (draining_) return;
  draining_ = true;
  news_ = true;
  deadline_ = Clock::now() + std::chrono::milliseconds{kDrainLimitMs};
  perform(queue_.step(Drain{}));
}

// How long the engine may sleep.
int Server::patience_ms() const noexcept {
  if (!draining_ && full_waits_.empty()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(
      (draining_ ? deadline_ : try_at_) - Clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 1, kDrainLimitMs));
}

void Server::fail(Error error) {
  if (!over_) outcome_ = std::move(error);
  over_ = true;
}

}  // namespace tapdisk
