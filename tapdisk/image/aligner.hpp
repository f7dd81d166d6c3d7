// SPDX-License-Identifier: GPL-2.0-only
//
// Reads and writes of an image whose direct I/O is in larger units than the disk's sectors: of one
// queue.
//
// What is whole units, in the image and in memory, goes as it is. The rest goes piece by piece
// through a buffer, one of a fixed number:
//
//     read    the units around the piece, then the piece is copied to the guest's pages
//     write   the units around it, the piece is copied into them, then they are written
//
// Writes of whole units share their range with others of their kind; all other writes are alone in
// theirs, from the read to the end of the write, whichever queue the rest comes from. See
// range_lock.hpp. A buffer is there before a range is asked for, and an operation has one range at
// a time, so nobody waits in a circle.
//
// The guest's pages may be taken away at any moment; so the kernel copies, and an access is no
// fault of this process, but an error of the operation.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/counter.hpp"
#include "base/limits.hpp"
#include "base/resource.hpp"
#include "base/result.hpp"
#include "base/static_vector.hpp"
#include "image/image.hpp"
#include "image/mailbox.hpp"
#include "image/range_lock.hpp"
#include "io/engine.hpp"

namespace tapdisk {

class AlignerClient {
 public:
  virtual void aligned_finished(ImageOp& op, int result) noexcept = 0;

 protected:
  ~AlignerClient() = default;
};

class Aligner final : private IoClient, private MailboxClient, private RangeOwner {
 public:
  // What its I/O is done on. Outlives it.
  struct Store {
    int fd = -1;
    std::uint32_t unit = 0;  // bytes
    RangeLock& ranges;       // of all queues
  };

  // Called in the engine's thread, as start() is.
  static Result<std::unique_ptr<Aligner>> open(const Store& store, Engine& engine,
                                               AlignerClient& client);
  // The engine turns no more.
  ~Aligner();

  Aligner(const Aligner&) = delete;
  Aligner& operator=(const Aligner&) = delete;

  // A read or write. At most kSlotsMax at a time. aligned_finished() follows from a later turn of
  // the engine.
  void start(ImageOp& op) noexcept;

  // Bytes that went through a buffer. For any thread.
  std::uint64_t bytes_moved() const noexcept { return bytes_moved_.get(); }

 private:
  enum class Step : std::uint8_t { kStraight, kReadUnits, kWriteUnits, kFailed };

  // An operation under way.
  struct Job : RangeClaim, Io {
    ImageOp* op = nullptr;
    Step step = Step::kStraight;
    std::byte* buffer = nullptr;
    iovec units{};             // of the buffer
    std::uint64_t at = 0;      // bytes, where the piece begins in the image
    std::uint64_t op_end = 0;  // of the operation
    std::uint32_t piece = 0;   // bytes
  };

  Aligner(const Store& store, Engine& engine, AlignerClient& client, Mapping memory);

  bool is_whole(const ImageOp& op) const noexcept;
  void go_straight(Job& job) noexcept;
  void go_piece(Job& job) noexcept;
  void claim(Job& job, std::uint64_t start, std::uint64_t end, bool alone) noexcept;
  void go_on(Job& job) noexcept;
  void start_io(Job& job, IoVerb verb, DataCursor data, std::uint32_t bytes) noexcept;
  void write_units(Job& job) noexcept;
  void next_piece(Job& job) noexcept;
  int copy(Job& job, bool to_guest) noexcept;
  void finish(Job& job, int result) noexcept;

  void io_finished(Io& io) noexcept override;
  void granted(RangeClaim& claim) noexcept override;
  void delivered(void* letter) noexcept override;

  const Store store_;
  Engine& engine_;
  AlignerClient& client_;
  Mapping memory_;  // of the buffers
  std::unique_ptr<Mailbox> granted_;
  std::vector<Job> jobs_;
  StaticQueue<Job*, kSlotsMax> idle_;
  StaticQueue<std::byte*, kAlignersBuffers> buffers_;  // free
  StaticQueue<Job*, kSlotsMax> starved_;               // wait for one
  Counter bytes_moved_;
};

}  // namespace tapdisk
