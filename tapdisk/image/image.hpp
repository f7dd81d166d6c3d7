// SPDX-License-Identifier: GPL-2.0-only
//
// An image maps the disk's sectors to I/O on files.
//
// What is opened once, with its lock and its geometry, is an OpenImage; each queue of the vbd works
// on a view of it, an Image, which does its I/O by that queue's engine. Views share nothing that
// changes but that a sync has failed, so their threads never wait for each other here.
//
// Contract, asserted for every driver at the one place through which all operations pass:
//   - start() takes an operation that lies inside the disk, in whole logical blocks, and that
//     does not change a read-only disk, and discards only if that is offered;
//   - op_finished() follows exactly once, from a later Engine::turn(), never from inside start();
//   - kSync makes durable whatever was finished before its start(), on any view; after one that
//     failed, on any view, all fail.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/capacity.hpp"
#include "base/limits.hpp"
#include "base/result.hpp"
#include "image/lock.hpp"
#include "image/place.hpp"
#include "io/engine.hpp"

namespace tapdisk {

// What can be forgotten of an image: the guest's discards.
struct DiscardInfo {
  bool offered = false;
  bool secure = false;            // also so that nobody can read it any more
  std::uint32_t granularity = 0;  // bytes that can be forgotten, whole logical blocks
  std::uint32_t alignment = 0;    // bytes, < granularity: where the first whole one starts
};

// Asked once after open; while the image is open it may grow, and nothing else changes.
struct ImageInfo {
  Capacity sectors;                        // units of 512 B, whole logical blocks
  std::uint32_t sector_size = 0;           // logical block, bytes
  std::uint32_t physical_sector_size = 0;  // bytes
  // What I/O on the store is made of: its offset, length and memory, bytes. More than sector_size:
  // tapdisk has to do what is not whole units, see aligner.hpp.
  std::uint32_t unit = kSectorSize;
  bool read_only = false;
  bool direct = false;                     // I/O bypasses the page cache
  std::array<std::uint64_t, 2> id{};       // of the image, whoever opens it
  DiscardInfo discard;
};

enum class ImageVerb : std::uint8_t { kRead, kWrite, kSync, kDiscard };

struct ImageOp;

// An Io that knows which operation it is a part of.
struct ImageIo : Io {
  ImageOp* op = nullptr;
};

class ImageClient {
 public:
  // `op` is the client's again, and its result is set.
  virtual void op_finished(ImageOp& op) noexcept = 0;

 protected:
  ~ImageClient() = default;
};

// One operation. It and the memory of `data` are the image's from start() to op_finished(), or
// until the image is destroyed; the ranges that name the memory are what they were by then.
struct ImageOp {
  ImageVerb verb = ImageVerb::kRead;
  bool running = false;
  bool secure = false;       // of a discard
  std::uint64_t sector = 0;  // units of 512 B
  std::uint64_t bytes = 0;   // length of the range; unless it is a discard, the sum over `data`
  DataCursor data;
  int result = 0;            // 0 or -errno
  ImageClient* client = nullptr;

  std::array<ImageIo, kIosPerRequestMax> ios;  // the driver's
};

// A view of an open image, for one engine and its thread.
class Image {
 public:
  virtual ~Image() = default;

  virtual const ImageInfo& info() const noexcept = 0;

  // Of what moved, bytes that went through a buffer because they were no whole units of the store.
  virtual std::uint64_t bytes_realigned() const noexcept { return 0; }

  // Where the whole of a read or write, of `bytes` at `sector`, can be carried out with direct I/O
  // by somebody who does not understand the format. Nothing: start() it.
  virtual std::optional<Place> place(ImageVerb verb, std::uint64_t sector,
                                     std::uint64_t bytes) const noexcept = 0;

  void start(ImageOp& op) noexcept;

 protected:
  // The driver's end of an operation.
  static void finish(ImageOp& op, int result) noexcept;

 private:
  virtual void do_start(ImageOp& op) noexcept = 0;
};

// Sectors that lie in a file as they are, where anybody may read and perhaps write them.
struct Extent {
  std::uint64_t sector = 0;   // the first, units of 512 B; whole logical blocks
  std::uint64_t sectors = 0;  // how many
  std::uint64_t offset = 0;   // bytes, of the first in the file
  int fd = -1;                // the image's
  bool writable = false;
};

class OpenImage {
 public:
  virtual ~OpenImage() = default;

  virtual const ImageInfo& info() const noexcept = 0;

  // The block device that it lies on, whose changes of size the kernel tells; 0: it does not.
  virtual dev_t device() const noexcept = 0;

  // Looks at the store again. Gives the capacity, which info() and all views have by then; the
  // error is that the store became smaller, and nothing has changed.
  virtual Result<std::uint64_t> grow() = 0;

  // Whether a block device is claimed, or needs no claim. If not, for another tapdisk had the claim
  // when it was opened, this tries again. One thread.
  virtual bool claim() = 0;

  // Makes durable what was written so far; waits. Any thread.
  virtual Result<void> sync() = 0;

  // The same of what this host's page cache may have that the storage has not. For the end, when no
  // view is used any more: who opens the store next may be another host.
  virtual Result<void> settle() = 0;

  // Whether something that was written through this host's page cache before it was opened could
  // not be synced. The kernel says so once, so nobody will hear of it again.
  virtual bool unsynced() const noexcept { return false; }

  // What of the disk needs nobody who understands the format. As of now: the image may grow.
  virtual std::vector<Extent> extents() const = 0;

  // In the engine's thread. The view is used only while this and the engine are there, and when it
  // is gone the engine turns no more.
  virtual Result<std::unique_ptr<Image>> view(Engine& engine) const = 0;
};

enum class Direct { kAuto, kOn, kOff };

struct ImageOptions {
  std::string path;
  std::string identity;  // what must be there, as identity.hpp has it; empty: whatever is there
  bool read_only = false;
  Direct direct = Direct::kAuto;
  std::uint32_t sector_size = 0;  // 512 or 4096 bytes; 0: a device's own, and 512 for a file
  bool discard = true;  // offered if the store can do it
  LockRequest lock;      // `writes` follows from read_only
};

// Opens and locks the image with the driver of that name. Errors read "/path: reason".
Result<std::unique_ptr<OpenImage>> open_image(std::string_view driver,
                                              const ImageOptions& options);

}  // namespace tapdisk
