// SPDX-License-Identifier: GPL-2.0-only
//
// Turns the crank of one queue: carries what happens to the queue and does what the queue says.
//
//     ring the source ──requests──► queue ──actions──► image ──► engine
//            ▲                        ▲                             │ one system call submits
//            └────────replies─────────┴─────────finished────────────┘ everything and sleeps
//
// One turn is one doorbell and one engine turn, so a request at depth one costs four system calls
// with io_uring, and a busy queue shares them among all that came together. The doorbell is rung
// only with replies to hand over or news to fetch, and always armed, because sleeping follows.
//
// Runs in the thread that made the engine; stop() and the counters are for any thread.
#pragma once

#include <array>
#include <chrono>
#include <optional>

#include "base/counter.hpp"
#include "base/resource.hpp"
#include "base/result.hpp"
#include "image/image.hpp"
#include "io/engine.hpp"
#include "server/error_log.hpp"
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
};

class Server final : private ImageClient, private IoClient {
 public:
  Server(Source& source, Image& image, Engine& engine, ErrorLog& errors, Fd stop);

  // Until the vbd is gone, or stop() and nothing is in flight. The error is a failure at run
  // time: the module is not understood, or I/O does not end.
  Result<void> run();

  void stop() noexcept;

  const ServerCounters& counters() const noexcept { return counters_; }

 private:
  struct SlotOp : ImageOp {
    Slot slot = 0;
  };
  using Clock = std::chrono::steady_clock;

  void turn();
  void ring();
  std::optional<Place> place_of(const Request& request) const noexcept;
  void perform(const Actions& actions) noexcept;
  void perform(const StartData& action) noexcept;
  void perform(const StartSync& action) noexcept;
  void perform(const SendReply& action) noexcept;
  void perform(const Drained& action) noexcept;

  void watch(Io& io, int fd) noexcept;
  void io_finished(Io& io) noexcept override;
  void op_finished(ImageOp& op) noexcept override;

  void drain() noexcept;
  int patience_ms() const noexcept;
  void fail(Error error);

  Source& source_;
  Image& image_;
  Engine& engine_;
  ErrorLog& errors_;
  Queue queue_;

  std::array<SlotOp, kSlotsMax> ops_;
  ImageOp sync_op_;
  Io device_watch_;
  Io stop_watch_;
  Fd stop_;

  bool news_ = true;      // the source may have requests
  bool gone_ = false;     // replies go nowhere
  bool draining_ = false;
  bool drained_ = false;  // nothing is in flight; says so until the next request
  Clock::time_point deadline_{};  // of the drain
  Result<void> outcome_;
  bool over_ = false;

  ServerCounters counters_;
};

}  // namespace tapdisk
