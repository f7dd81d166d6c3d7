// SPDX-License-Identifier: GPL-2.0-only
//
// Turns the crank of one queue: carries what happens to the queue and does what the queue says.
//
//     ring the source ──requests──► queue ──actions──► image ──► engine
//            ▲                        ▲                             │ one system call submits
//            └────────replies─────────┴─────────finished────────────┘ everything
//
// One turn is one doorbell and one engine turn. With no I/O under way it is the doorbell that
// sleeps: at depth one, where I/O ends at once, a request costs two system calls with io_uring, and
// a busy queue shares them among all that came together. With I/O under way it is the engine that
// sleeps, and watches the source. The doorbell is rung only with replies to hand over, for news, or
// to sleep.
//
// Runs in the thread that made the engine; what is for any thread says so.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <optional>

#include "base/counter.hpp"
#include "base/limits.hpp"
#include "base/resource.hpp"
#include "base/result.hpp"
#include "base/static_vector.hpp"
#include "image/image.hpp"
#include "io/engine.hpp"
#include "server/error_log.hpp"
#include "server/full_store.hpp"
#include "server/mix.hpp"
#include "vbd/queue.hpp"
#include "vbd/source.hpp"

namespace tapdisk {

struct ServerCounters {
  Counter turns;
  Counter reads;
  Counter writes;
  Counter syncs;
  Counter discards;
  Counter submits;  // reads and writes that the module was told to carry out
  Counter bytes_read;
  Counter bytes_written;
  Counter bytes_discarded;
  Counter errors;
  Counter writes_waited;  // for room in the store; each once
  Counter writes_went_on;
};

class Server final : private ImageClient, private IoClient {
 public:
  // If it `mixes`, not all that is submittable is submitted.
  Server(Source& source, Image& image, Engine& engine, ErrorLog& errors, FullStore& full,
         bool mixes = false);

  // Until the vbd is gone, or stop() and nothing is in flight; writes that wait for room are then
  // left to whoever serves the vbd next. The error is a failure at run time: the module is not
  // understood, or I/O does not end.
  Result<void> run();

  // Whether run() has ended because the vbd is gone.
  bool vbd_is_gone() const noexcept { return gone_; }

  // Any thread.
  void stop() noexcept;

  // Between the two no request is taken; what is owned is finished. Any thread.
  void hold() noexcept { ask(hold_asked_, true); }
  void release() noexcept { ask(hold_asked_, false); }

  // What waits for room in the store fails. Any thread.
  void give_up() noexcept { ask(give_up_asked_, true); }

  // Whether it holds, and has nothing under way. Any thread.
  bool rests() const noexcept { return rests_.load(std::memory_order_acquire); }

  // Whether it is where it may have to wait for others, in the engine or the source; storage that
  // stalls may hold up any system call. If not, it takes turns or hangs. Any thread.
  bool sleeps() const noexcept { return sleeps_.load(std::memory_order_relaxed); }

  const ServerCounters& counters() const noexcept { return counters_; }

 private:
  struct SlotOp : ImageOp {
    Slot slot = 0;
    bool waited = false;  // for room; it may be tried again just now
    bool given_up = false;  // and this is the last try
  };
  using Clock = std::chrono::steady_clock;

  void turn();
  void ring();
  void turn_engine(bool more);
  void rest() noexcept;
  void ask(std::atomic<bool>& wish, bool value) noexcept;
  bool is_asked() const noexcept;
  template <class Call>
  auto asleep(Call call) {
    struct Asleep {
      explicit Asleep(std::atomic<bool>& flag_) : flag(flag_) { set(true); }
      ~Asleep() { set(false); }
      void set(bool value) noexcept { flag.store(value, std::memory_order_relaxed); }
      std::atomic<bool>& flag;
    } const guard{sleeps_};
    return call();
  }
  bool is_busy() const noexcept { return under_way_ > 0 || !full_waits_.empty(); }
  // Only what waits for room is left.
  bool leaves_writes() const noexcept { return draining_ && under_way_ == 0 && is_busy(); }
  std::optional<Place> place_of(const Request& request) noexcept;
  void perform(const Actions& actions) noexcept;
  void perform(const StartData& action) noexcept;
  void perform(const StartSync& action) noexcept;
  void perform(const SendReply& action) noexcept;
  void perform(const Drained& action) noexcept;

  void start(ImageOp& op) noexcept;
  void watch_source() noexcept;
  bool waits_for_room(SlotOp& op) noexcept;
  void goes_on(SlotOp& op) noexcept;
  void give_up_writes() noexcept;
  void end(ImageOp& op) noexcept;
  void look_for_room() noexcept;
  void io_finished(Io& io) noexcept override;
  void op_finished(ImageOp& op) noexcept override;

  void drain() noexcept;
  int patience_ms() const noexcept;
  void fail(Error error);

  Source& source_;
  Image& image_;
  Engine& engine_;
  ErrorLog& errors_;
  FullStore& full_;
  Queue queue_;
  const bool mixes_;
  Coin coin_;

  std::array<SlotOp, kSlotsMax> ops_;
  ImageOp sync_op_;
  Io watch_;
  bool watching_ = false;
  std::atomic<bool> stop_asked_{false};
  std::atomic<bool> hold_asked_{false};
  std::atomic<bool> give_up_asked_{false};
  std::atomic<bool> rests_{false};
  std::atomic<bool> sleeps_{true};  // not in run()

  unsigned under_way_ = 0;  // operations of the image
  StaticVector<Slot, kSlotsMax> full_waits_;  // whose writes wait for room
  Clock::time_point try_at_{};                // is there some?
  bool news_ = true;      // the source may have requests
  bool gone_ = false;     // replies go nowhere
  bool draining_ = false;
  bool holds_ = false;
  bool drained_ = false;  // nothing is in flight; says so until the next request
  Clock::time_point deadline_{};  // of the drain
  Result<void> outcome_;
  bool over_ = false;

  ServerCounters counters_;
};

}  // namespace tapdisk
