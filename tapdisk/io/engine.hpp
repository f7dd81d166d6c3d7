// SPDX-License-Identifier: GPL-2.0-only
//
// An engine does I/O on files and is the one place where the data thread sleeps.
//
//     start(io)...  queues; no system call
//     turn()        hands everything queued to the kernel and sleeps until something is
//                   finished, in as few system calls as the kernel allows (io_uring: one);
//                   collects first, then tells the clients
//
// An Io belongs to its client; the engine borrows it from start() until io_finished(). The
// memory it names is used as it is (O_DIRECT reaches the guest's own pages), never copied; the
// ranges that name it are at the end what they were.
// One thread only, the one that made the engine.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/counter.hpp"
#include "base/result.hpp"
#include "io/data.hpp"

namespace tapdisk {

struct Io;

class IoClient {
 public:
  // `io` is the client's again, its result is set, and it may be started anew from here.
  virtual void io_finished(Io& io) noexcept = 0;

 protected:
  ~IoClient() = default;
};

enum class IoVerb : std::uint8_t {
  kRead,   // all of `data` from `offset`; ending before the file does is not a success
  kWrite,  // all of `data` at `offset`
  kSync,   // fdatasync: what was written before start() is durable
  kWatch,  // until `fd` is readable or hung up; looks at the level, fires once
};

struct Io {
  IoVerb verb = IoVerb::kRead;
  int fd = -1;
  std::uint64_t offset = 0;  // bytes from the start of the file
  DataCursor data;           // what is still to be moved
  std::uint32_t left = 0;    // bytes in `data`
  int result = 0;            // 0 or -errno; kWatch: poll(2) events
  unsigned starved = 0;      // the engine's: how often there was no memory for it
  IoClient* client = nullptr;
};

// Counted by the data thread, read by the control thread.
struct EngineCounters {
  Counter calls;     // system calls made
  Counter sleeps;    // of these, how many were allowed to wait
  Counter started;   // Ios handed to the kernel, repetitions included
  Counter finished;  // Ios given back to their clients
  Counter repeats;   // short transfers, EAGAIN and ENOMEM: the rest was started again
};

class Engine {
 public:
  virtual ~Engine() = default;

  virtual std::string_view name() const noexcept = 0;

  // Data will often lie in this memory, which stays as long as the engine: the kernel may look its
  // pages up now, once and for all. Called once at most, before the first start().
  virtual void expect_data_in(std::span<std::byte> memory) noexcept = 0;

  // Whatever ends this process, the kernel lets go of what `fd` has open only after the last I/O
  // has ended. Where the end of a process waits for its I/O by itself there is nothing to do.
  virtual Result<void> outlast_with(int fd) noexcept {
    static_cast<void>(fd);
    return {};
  }

  // At most kEngineDepth Ios are started and unfinished at any time: never fails, never waits.
  virtual void start(Io& io) noexcept = 0;

  // Sleeps at most `timeout_ms` if nothing is finished; -1: as long as it takes, 0: not at all.
  // False: nothing is finished, which may be so early.
  virtual bool turn(int timeout_ms) noexcept = 0;

  virtual const EngineCounters& counters() const noexcept = 0;
};

enum class EngineKind { kAuto, kUring, kAio };

// kAuto: io_uring where the kernel allows it, else libaio.
Result<std::unique_ptr<Engine>> make_engine(EngineKind kind);

// The two behind it.
Result<std::unique_ptr<Engine>> make_uring_engine();
Result<std::unique_ptr<Engine>> make_aio_engine();

// What the kernel's answer `result` (bytes, events or -errno) means for `io`.
enum class IoProgress {
  kFinished,  // io.result is set
  kAgain,     // start the rest at once
  kLater,     // start it again, but the kernel wants a pause
};
IoProgress advance_io(Io& io, long result) noexcept;

// It has ended, with 0, -errno or, a kWatch, events.
void finish_io(Io& io, int result) noexcept;

// A moment for the kernel to find memory again; the alternative to it is a busy loop.
void pause_before_retry() noexcept;

}  // namespace tapdisk
