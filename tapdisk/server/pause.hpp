// SPDX-License-Identifier: GPL-2.0-only
//
// A pause of the disk, as a snapshot of its storage needs it: nothing of it is under way, and what
// the guest has written is durable, until somebody ends the pause or its time is over. The guest
// waits meanwhile.
//
//     begin() ──► coming to rest ──► paused ──► end(), or the time is over
//                       └── does not, or is not synced: goes on, and why() tells
//
// The image is synced twice: while the guest is still served, for that may take long, and then.
//
// Works in a thread of its own, for storage may take its time; the calls are for any other.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "base/result.hpp"

namespace tapdisk {

// What is paused; called in the pause's thread.
struct PausedDisk {
  std::function<void()> hold;          // takes no new requests
  std::function<void()> release;
  std::function<bool()> rests;         // whether nothing is under way any more
  std::function<Result<void>()> sync;  // the image
  std::function<void()> distrust;      // while it is held: what the guest wrote may be lost
};

class Pause {
 public:
  enum class State { kNone, kBegins, kPaused };

  explicit Pause(PausedDisk disk) : disk_(std::move(disk)) {}
  // Ends it.
  ~Pause();

  Pause(const Pause&) = delete;
  Pause& operator=(const Pause&) = delete;

  // Begins one that lasts for `limit` at most. EALREADY: one has begun.
  Result<void> begin(std::chrono::milliseconds limit);

  // Ends it, and says for how long the disk was paused. ESRCH: it was not, or is not any more, and
  // why; one that had just begun is given up.
  Result<std::chrono::milliseconds> end();

  State state() const;
  std::string why() const;  // the last one is over, unless it was ended

 private:
  using Clock = std::chrono::steady_clock;

  void run(std::chrono::milliseconds limit);
  std::string pause(std::chrono::milliseconds limit);
  Result<void> come_to_rest();
  Result<void> wait_for_rest();
  bool is_ended(std::chrono::milliseconds within);

  const PausedDisk disk_;
  mutable std::mutex lock_;
  std::condition_variable ends_;
  State state_ = State::kNone;
  bool ended_ = false;
  std::string why_ = "it was never paused";
  Clock::time_point since_{};
  std::thread thread_;
};

}  // namespace tapdisk
