// SPDX-License-Identifier: GPL-2.0-only
#include "image/aligner.hpp"

#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.hpp"
#include "base/syscall.hpp"

namespace tapdisk {
namespace {

std::uint64_t down(std::uint64_t bytes, std::uint32_t unit) noexcept {
  return bytes & ~(unit - 1ull);
}
std::uint64_t up(std::uint64_t bytes, std::uint32_t unit) noexcept {
  return down(bytes + unit - 1, unit);
}

}  // namespace

Result<std::unique_ptr<Aligner>> Aligner::open(const Store& store, Engine& engine,
                                               AlignerClient& client) {
  constexpr std::size_t kBytes = std::size_t{kAlignersBuffers} * kAlignersBufferBytes;
  void* const memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return system_error("memory for parts of blocks", errno);
  std::unique_ptr<Aligner> made{new Aligner{store, engine, client, Mapping{memory, kBytes}}};
  auto granted = Mailbox::open(engine, *made);
  if (!granted) return granted.error();
  made->granted_ = std::move(*granted);
  return made;
}

Aligner::Aligner(const Store& store, Engine& engine, AlignerClient& client, Mapping memory)
    : store_(store), engine_(engine), client_(client), memory_(std::move(memory)),
      jobs_(kSlotsMax) {
  for (Job& job : jobs_) idle_.push(&job);
  for (unsigned i = 0; i < kAlignersBuffers; i++)
    buffers_.push(memory_.at(std::size_t{i} * kAlignersBufferBytes));
}

Aligner::~Aligner() { store_.ranges.forget(*this); }

void Aligner::start(ImageOp& op) noexcept {
  Job& job = *idle_.pop();
  job.op = &op;
  job.at = op.sector * kSectorSize;
  job.op_end = job.at + op.bytes;
  if (is_whole(op)) {
    go_straight(job);
  } else if (buffers_.empty()) {
    starved_.push(&job);
  } else {
    job.buffer = buffers_.pop();
    go_piece(job);
  }
}

bool Aligner::is_whole(const ImageOp& op) const noexcept {
  std::uint64_t bits = op.sector * kSectorSize | op.bytes;
  for (const iovec& range : op.data)
    bits |= reinterpret_cast<std::uintptr_t>(range.iov_base) | range.iov_len;
  return bits % store_.unit == 0;
}

void Aligner::go_straight(Job& job) noexcept {
  job.step = Step::kStraight;
  if (job.op->verb == ImageVerb::kWrite)
    claim(job, job.at, job.op_end, false);
  else
    go_on(job);
}

// The units around as much of the rest as the buffer holds.
void Aligner::go_piece(Job& job) noexcept {
  const std::uint64_t start = down(job.at, store_.unit);
  const std::uint64_t end = std::min(up(job.op_end, store_.unit), start + kAlignersBufferBytes);
  const std::uint64_t piece_end = std::min(job.op_end, end);
  job.piece = static_cast<std::uint32_t>(piece_end - job.at);
  const bool is_write = job.op->verb == ImageVerb::kWrite;
  const bool has_edges = start != job.at || end != piece_end;
  job.units = {job.buffer, end - start};
  job.step = is_write && !has_edges ? Step::kWriteUnits : Step::kReadUnits;
  if (is_write)
    claim(job, start, end, has_edges);
  else
    go_on(job);
}

void Aligner::claim(Job& job, std::uint64_t start, std::uint64_t end, bool alone) noexcept {
  RangeClaim& range = job;
  range.start = start;
  range.end = end;
  range.alone = alone;
  range.owner = this;
  if (store_.ranges.take(range)) go_on(job);
}

// The job has the range that it needs, if it needs one.
void Aligner::go_on(Job& job) noexcept {
  ImageOp& op = *job.op;
  switch (job.step) {
    case Step::kStraight:
      job.offset = job.at;
      start_io(job, op.verb == ImageVerb::kWrite ? IoVerb::kWrite : IoVerb::kRead, op.data,
               static_cast<std::uint32_t>(op.bytes));
      break;
    case Step::kReadUnits:
      job.offset = down(job.at, store_.unit);
      start_io(job, IoVerb::kRead, std::span{&job.units, 1},
               static_cast<std::uint32_t>(job.units.iov_len));
      break;
    case Step::kWriteUnits: return write_units(job);
    case Step::kFailed: return finish(job, job.result);
  }
}

void Aligner::start_io(Job& job, IoVerb verb, DataCursor data, std::uint32_t bytes) noexcept {
  job.verb = verb;
  job.fd = store_.fd;
  job.data = data;
  job.left = bytes;
  job.client = this;
  engine_.start(job);
}

// Its end is never told from inside start().
void Aligner::write_units(Job& job) noexcept {
  job.result = copy(job, false);
  if (job.result) {
    job.step = Step::kFailed;
    granted_->post(&job);
    return;
  }
  job.step = Step::kWriteUnits;
  job.offset = down(job.at, store_.unit);
  job.units.iov_base = job.buffer;
  job.units.iov_len = up(job.at + job.piece, store_.unit) - job.offset;
  start_io(job, IoVerb::kWrite, std::span{&job.units, 1},
           static_cast<std::uint32_t>(job.units.iov_len));
}

void Aligner::io_finished(Io& io) noexcept {
  Job& job = static_cast<Job&>(io);
  const bool is_write = job.op->verb == ImageVerb::kWrite;
  if (job.result || job.step == Step::kStraight) return finish(job, job.result);
  if (job.step == Step::kReadUnits && is_write) return write_units(job);
  if (!is_write)
    if (const int error = copy(job, true); error) return finish(job, error);
  next_piece(job);
}

void Aligner::next_piece(Job& job) noexcept {
  job.at += job.piece;
  if (job.at == job.op_end) return finish(job, 0);
  if (job.op->verb == ImageVerb::kWrite) store_.ranges.give(job);
  go_piece(job);
}

// The piece, between the buffer and the guest's pages, which it leaves behind.
int Aligner::copy(Job& job, bool to_guest) noexcept {
  DataCursor& guest = job.op->data;
  const iovec mine{job.buffer + (job.at & (store_.unit - 1)), job.piece};
  const auto move = to_guest ? ::process_vm_writev : ::process_vm_readv;
  const ssize_t moved =
      retry_eintr([&] { return move(::getpid(), &mine, 1, guest.data(), guest.size(), 0); });
  if (moved < 0) return static_cast<int>(moved);
  if (moved != static_cast<ssize_t>(job.piece)) return -EFAULT;
  guest.drop_front(job.piece);
  bytes_moved_.add(job.piece);
  return 0;
}

// Who waits for its range or its buffer goes on.
void Aligner::finish(Job& job, int result) noexcept {
  ImageOp& op = *job.op;
  if (op.verb == ImageVerb::kWrite) store_.ranges.give(job);
  std::byte* const buffer = std::exchange(job.buffer, nullptr);
  idle_.push(&job);
  if (buffer && starved_.empty()) {
    buffers_.push(buffer);
  } else if (buffer) {
    Job& next = *starved_.pop();
    next.buffer = buffer;
    go_piece(next);
  }
  client_.aligned_finished(op, result);
}

void Aligner::granted(RangeClaim& claim) noexcept { granted_->post(static_cast<Job*>(&claim)); }

void Aligner::delivered(void* letter) noexcept {
  go_on(*static_cast<Job*>(letter));
}

}  // namespace tapdisk
