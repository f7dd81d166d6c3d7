// SPDX-License-Identifier: GPL-2.0-only
//
// The io_uring engine. start() writes a submission entry, turn() is one io_uring_enter(2) that
// submits and waits. Of the memory that I/O may name, what lasts is registered; the window's pages
// come and go with the requests.
#include <liburing.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <functional>
#include <initializer_list>
#include <utility>

#include "base/check.hpp"
#include "base/limits.hpp"
#include "base/log.hpp"
#include "base/static_vector.hpp"
#include "io/engine.hpp"
#include "io/refusal.hpp"

namespace tapdisk {
namespace {

// An io_uring_queue, released by its destructor.
class Ring {
 public:
  Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() {
    if (open_) io_uring_queue_exit(&ring_);
  }

  // The kernel rounds the depth up to a power of two.
  int open(unsigned flags) noexcept {
    const int error = io_uring_queue_init(kEngineDepth, &ring_, flags | IORING_SETUP_R_DISABLED);
    open_ = error == 0;
    return error;
  }
  // What is said in prepare(), and nothing else: a system-call filter does not see it.
  int limit() noexcept {
    std::array<io_uring_restriction, 10> allowed{};
    unsigned count = 0;
    for (const std::uint8_t op :
         {IORING_OP_READ, IORING_OP_READV, IORING_OP_READ_FIXED, IORING_OP_WRITE, IORING_OP_WRITEV,
          IORING_OP_WRITE_FIXED, IORING_OP_FSYNC, IORING_OP_POLL_ADD}) {
      allowed.at(count).opcode = IORING_RESTRICTION_SQE_OP;
      allowed.at(count++).sqe_op = op;
    }
    for (const std::uint8_t op : {IORING_REGISTER_BUFFERS, IORING_REGISTER_FILES}) {
      allowed.at(count).opcode = IORING_RESTRICTION_REGISTER_OP;
      allowed.at(count++).register_op = op;
    }
    const int error = tell(IORING_REGISTER_RESTRICTIONS, allowed.data(), count);
    return error ? error : tell(IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  }
  io_uring* get() noexcept { return &ring_; }

 private:
  // liburing 2.3 has functions for both, but does not export them.
  int tell(unsigned what, const void* argument, unsigned count) const noexcept {
    const auto result = ::syscall(SYS_io_uring_register, ring_.ring_fd, what, argument, count);
    return result < 0 ? -errno : 0;
  }

  io_uring ring_{};
  bool open_ = false;
};

// Completion work runs in this thread when it enters the kernel anyway, and interrupts nothing.
// Older kernels know the first of these two flag sets, or both, not.
constexpr std::initializer_list<unsigned> kRingFlags = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_COOP_TASKRUN, 0};

class UringEngine final : public Engine {
 public:
  int open() noexcept {
    int error = -EINVAL;
    for (const unsigned flags : kRingFlags) {
      error = ring_.open(flags);
      if (error != -EINVAL) break;
    }
    return error ? error : ring_.limit();
  }

  std::string_view name() const noexcept override { return "io_uring"; }
  const EngineCounters& counters() const noexcept override { return counters_; }

  // Kernels before 6.9 refuse it for memory of a device, as the module's is: I/O works as well.
  void expect_data_in(std::span<std::byte> memory) noexcept override {
    const iovec range{memory.data(), memory.size()};
    if (memory.empty() || io_uring_register_buffers(ring_.get(), &range, 1)) return;
    registered_ = memory;
  }

  // A ring outlives its process as long as its I/O is under way, and what is registered with it.
  Result<void> outlast_with(int fd) noexcept override {
    const int error = io_uring_register_files(ring_.get(), &fd, 1);
    if (error) return system_error("io_uring: registering the vbd", -error);
    return {};
  }

  void start(Io& io) noexcept override {
    io_uring_sqe* entry = io_uring_get_sqe(ring_.get());
    check(entry != nullptr);  // limits.hpp proves it
    prepare(*entry, io);
    io_uring_sqe_set_data(entry, &io);
    counters_.started.add();
  }

  bool turn(int timeout_ms) noexcept override {
    if (std::exchange(later_, false)) pause_before_retry();
    enter(timeout_ms);
    collect();
    for (Io* io : finished_) {
      counters_.finished.add();
      io->client->io_finished(*io);
    }
    return !finished_.empty();
  }

 private:
  bool is_registered(const iovec& range) const noexcept {
    const auto* const start = static_cast<const std::byte*>(range.iov_base);
    const std::less_equal<const std::byte*> not_behind;
    return not_behind(registered_.data(), start) &&
           not_behind(start + range.iov_len, registered_.data() + registered_.size());
  }

  void prepare(io_uring_sqe& entry, const Io& io) const noexcept {
    const auto count = static_cast<unsigned>(io.data.size());
    switch (io.verb) {
      case IoVerb::kRead:
        // One range is the usual case, and spares the kernel the copy of the vector.
        if (count == 1 && is_registered(io.data[0]))
          io_uring_prep_read_fixed(&entry, io.fd, io.data[0].iov_base, io.left, io.offset, 0);
        else if (count == 1)
          io_uring_prep_read(&entry, io.fd, io.data[0].iov_base, io.left, io.offset);
        else
          io_uring_prep_readv(&entry, io.fd, io.data.data(), count, io.offset);
        break;
      case IoVerb::kWrite:
        if (count == 1 && is_registered(io.data[0]))
          io_uring_prep_write_fixed(&entry, io.fd, io.data[0].iov_base, io.left, io.offset, 0);
        else if (count == 1)
          io_uring_prep_write(&entry, io.fd, io.data[0].iov_base, io.left, io.offset);
        else
          io_uring_prep_writev(&entry, io.fd, io.data.data(), count, io.offset);
        break;
      case IoVerb::kSync:
        io_uring_prep_fsync(&entry, io.fd, IORING_FSYNC_DATASYNC);
        break;
      case IoVerb::kWatch:
        io_uring_prep_poll_add(&entry, io.fd, POLLIN);
        break;
    }
  }

  // What has ended, but is no completion before this thread enters the kernel.
  bool has_completion_work() noexcept {
    return IO_URING_READ_ONCE(*ring_.get()->sq.kflags) & IORING_SQ_TASKRUN;
  }

  void enter(int timeout_ms) noexcept {
    io_uring* ring = ring_.get();
    if (io_uring_cq_ready(ring)) timeout_ms = 0;
    if (timeout_ms == 0 && !io_uring_sq_ready(ring) && !has_completion_work()) return;

    counters_.calls.add();
    int error = 0;
    if (timeout_ms == 0) {
      error = io_uring_submit_and_get_events(ring);
    } else {
      counters_.sleeps.add();
      error = timeout_ms < 0 ? io_uring_submit_and_wait(ring, 1) : wait_at_most(timeout_ms);
    }
    // What was not taken stays in the submission queue and goes with the next turn.
    check(error >= 0 || error == -EINTR || error == -EAGAIN || error == -EBUSY ||
          error == -ENOMEM || error == -ETIME);
    later_ = error == -EAGAIN || error == -ENOMEM;
  }

  int wait_at_most(int timeout_ms) noexcept {
    __kernel_timespec limit{timeout_ms / 1000, (timeout_ms % 1000) * 1'000'000LL};
    io_uring_cqe* first = nullptr;
    return io_uring_submit_and_wait_timeout(ring_.get(), &first, 1, &limit, nullptr);
  }

  void collect() noexcept {
    finished_.clear();
    io_uring* ring = ring_.get();
    unsigned head = 0;
    unsigned seen = 0;
    io_uring_cqe* completion = nullptr;
    io_uring_for_each_cqe(ring, head, completion) {
      Io& io = *static_cast<Io*>(io_uring_cqe_get_data(completion));
      seen++;
      const IoProgress progress = advance_io(io, completion->res);
      if (progress == IoProgress::kFinished) {
        finished_.push_back(&io);
        continue;
      }
      later_ |= progress == IoProgress::kLater;
      counters_.repeats.add();
      start(io);
    }
    io_uring_cq_advance(ring, seen);
  }

  Ring ring_;
  std::span<std::byte> registered_;  // as buffer 0
  EngineCounters counters_;
  StaticVector<Io*, kEngineDepth> finished_;
  bool later_ = false;  // the kernel had no memory for something: it goes with the next turn
};

}  // namespace

Result<std::unique_ptr<Engine>> make_uring_engine() {
  auto engine = std::make_unique<UringEngine>();
  const int error = engine->open();
  if (error < 0) return uring_refused(-error);
  return engine;
}

}  // namespace tapdisk
