// SPDX-License-Identifier: GPL-2.0-only
//
// The libaio engine: one io_submit(2) for everything started, one io_getevents(2) to sleep. File
// readiness and fdatasync are iocbs too (Linux 4.18), so there is no other place to wait.
#include <libaio.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <utility>

#include "base/check.hpp"
#include "base/limits.hpp"
#include "base/static_vector.hpp"
#include "io/engine.hpp"
#include "io/refusal.hpp"

namespace tapdisk {
namespace {

// An AIO context, released by its destructor.
class Context {
 public:
  Context() = default;
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context() {
    if (context_) io_destroy(context_);
  }

  int open() noexcept { return io_setup(kEngineDepth, &context_); }
  io_context_t get() const noexcept { return context_; }

 private:
  io_context_t context_ = nullptr;
};

class AioEngine final : public Engine {
 public:
  int open() noexcept { return context_.open(); }

  std::string_view name() const noexcept override { return "libaio"; }
  const EngineCounters& counters() const noexcept override { return counters_; }

  void expect_data_in(std::span<std::byte>) noexcept override {}

  void start(Io& io) noexcept override {
    check(queued_ < kEngineDepth);
    prepare(queue_[queued_], io);
    queue_[queued_].data = &io;
    queued_++;
    counters_.started.add();
  }

  bool turn(int timeout_ms) noexcept override {
    if (std::exchange(later_, false)) pause_before_retry();
    finished_.clear();
    submit();
    // What the kernel did not take must not wait until something else is finished.
    collect(later_ || !finished_.empty() ? 0 : timeout_ms);
    for (Io* io : finished_) {
      counters_.finished.add();
      io->client->io_finished(*io);
    }
    return !finished_.empty();
  }

 private:
  static void prepare(iocb& entry, const Io& io) noexcept {
    const auto count = static_cast<int>(io.data.size());
    const auto offset = static_cast<long long>(io.offset);
    switch (io.verb) {
      case IoVerb::kRead:
        if (count == 1)
          io_prep_pread(&entry, io.fd, io.data[0].iov_base, io.left, offset);
        else
          io_prep_preadv(&entry, io.fd, io.data.data(), count, offset);
        break;
      case IoVerb::kWrite:
        if (count == 1)
          io_prep_pwrite(&entry, io.fd, io.data[0].iov_base, io.left, offset);
        else
          io_prep_pwritev(&entry, io.fd, io.data.data(), count, offset);
        break;
      case IoVerb::kSync:
        io_prep_fdsync(&entry, io.fd);
        break;
      case IoVerb::kWatch:
        io_prep_poll(&entry, io.fd, POLLIN);
        break;
    }
  }

  // io_submit(2) stops at the first entry that it refuses, and says why only if that is the
  // first of all.
  void submit() noexcept {
    unsigned at = 0;
    while (at < queued_) {
      for (unsigned i = at; i < queued_; i++) pointers_[i] = &queue_[i];
      counters_.calls.add();
      const int taken = io_submit(context_.get(), queued_ - at, &pointers_[at]);
      if (taken > 0) {
        at += static_cast<unsigned>(taken);
        continue;
      }
      if (taken == -EINTR) continue;
      later_ = taken == -EAGAIN;
      if (later_) break;
      Io& refused = *static_cast<Io*>(queue_[at].data);
      finish_io(refused, taken);
      finished_.push_back(&refused);
      at++;
    }
    std::move(queue_.begin() + at, queue_.begin() + queued_, queue_.begin());
    queued_ -= at;
  }

  void collect(int timeout_ms) noexcept {
    timespec limit{timeout_ms / 1000, (timeout_ms % 1000) * 1'000'000L};
    counters_.calls.add();
    counters_.sleeps.add(timeout_ms != 0);
    const int count = io_getevents(context_.get(), timeout_ms != 0, kEngineDepth, events_.data(),
                                   timeout_ms < 0 ? nullptr : &limit);
    check(count >= 0 || count == -EINTR);
    for (int i = 0; i < count; i++) {
      Io& io = *static_cast<Io*>(events_[static_cast<unsigned>(i)].data);
      const auto result = static_cast<long>(events_[static_cast<unsigned>(i)].res);
      const IoProgress progress = advance_io(io, result);
      if (progress == IoProgress::kFinished) {
        finished_.push_back(&io);
        continue;
      }
      later_ |= progress == IoProgress::kLater;
      counters_.repeats.add();
      start(io);
    }
  }

  Context context_;
  EngineCounters counters_;
  unsigned queued_ = 0;  // entries of queue_ that the kernel has not taken yet
  bool later_ = false;   // the kernel had no memory for something: it goes with the next turn
  std::array<iocb, kEngineDepth> queue_{};
  std::array<iocb*, kEngineDepth> pointers_{};
  std::array<io_event, kEngineDepth> events_{};
  StaticVector<Io*, kEngineDepth> finished_;
};

}  // namespace

Result<std::unique_ptr<Engine>> make_aio_engine() {
  auto engine = std::make_unique<AioEngine>();
  const int error = engine->open();
  if (error < 0) return aio_refused(-error);
  return engine;
}

}  // namespace tapdisk
