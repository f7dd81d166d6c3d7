// SPDX-License-Identifier: GPL-2.0-only
#include "server/pause.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <utility>

#include "base/limits.hpp"
#include "base/log.hpp"

namespace tapdisk {
namespace {

constexpr std::chrono::milliseconds kLookPeriod{1};
constexpr std::chrono::milliseconds kRestTime{kDrainLimitMs};

}  // namespace

Pause::~Pause() {
  {
    const std::lock_guard locked{lock_};
    ended_ = true;
  }
  ends_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Result<void> Pause::begin(std::chrono::milliseconds limit) {
  const std::lock_guard locked{lock_};
  if (state_ != State::kNone) return Error{EALREADY, "the disk is paused already"};
  if (thread_.joinable()) thread_.join();  // it has finished
  try {
    thread_ = std::thread{[this, limit] { run(limit); }};
  } catch (const std::system_error& error) {
    return system_error("pause", error.code().value());
  }
  state_ = State::kBegins;
  ended_ = false;
  return {};
}

Result<std::chrono::milliseconds> Pause::end() {
  const std::lock_guard locked{lock_};
  const State before = state_;
  // The pause's thread has not seen that yet.
  if (before != State::kNone && ended_)
    return Error{ESRCH, "not paused: its pause was ended"};
  if (before != State::kNone) {
    ended_ = true;
    ends_.notify_all();
  }
  if (before == State::kPaused)
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - since_);
  return Error{ESRCH, "not paused: " + (before == State::kBegins ? "it did not rest yet" : why_)};
}

Pause::State Pause::state() const {
  const std::lock_guard locked{lock_};
  return state_;
}

std::string Pause::why() const {
  const std::lock_guard locked{lock_};
  return why_;
}

// Waits so long at most.
bool Pause::is_ended(std::chrono::milliseconds within) {
  std::unique_lock locked{lock_};
  return ends_.wait_for(locked, within, [this] { return ended_; });
}

void Pause::run(std::chrono::milliseconds limit) {
  std::string why = pause(limit);
  {
    // Whoever ends it from here on is told that it was over.
    const std::lock_guard locked{lock_};
    state_ = State::kNone;
    why_ = std::move(why);
  }
  disk_.release();
}

// Says why it is over.
std::string Pause::pause(std::chrono::milliseconds limit) {
  if (const Result<void> rest = come_to_rest(); !rest) {
    log::warning("not paused: {}", rest.error().what);
    return rest.error().what;
  }
  {
    const std::lock_guard locked{lock_};
    state_ = State::kPaused;
    since_ = Clock::now();
  }
  log::info("paused for {} ms at most: nothing is under way, and the image is synced",
            limit.count());
  if (is_ended(limit)) {
    log::info("the pause was ended");
    return "its pause was ended";
  }
  std::string why = fmt::format("its pause was over after {} ms, which was its time",
                                limit.count());
  log::warning("nobody has ended the pause: {}", why);
  return why;
}

Result<void> Pause::come_to_rest() {
  Result<void> synced = disk_.sync();
  disk_.hold();
  const Result<void> rests = wait_for_rest();
  if (synced && rests) synced = disk_.sync();
  // The guest would hear of it at its next flush, but the kernel says so once.
  if (!synced) disk_.distrust();
  return synced ? rests : synced;
}

Result<void> Pause::wait_for_rest() {
  const Clock::time_point deadline = Clock::now() + kRestTime;
  while (!disk_.rests()) {
    if (is_ended(kLookPeriod)) return Error{ECANCELED, "its pause was given up"};
    if (Clock::now() > deadline)
      return Error{ETIMEDOUT, fmt::format("its I/O did not end within {} s", kDrainLimitMs / 1000)};
  }
  return {};
}

}  // namespace tapdisk
