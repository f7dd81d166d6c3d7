// SPDX-License-Identifier: GPL-2.0-only
//
// An image maps the disk's sectors to I/O on files.
//
// Contract, asserted for every driver at the one place through which all operations pass:
//   - start() takes an operation that lies inside the disk, in whole logical blocks, and that
//     does not write to a read-only disk;
//   - op_finished() follows exactly once, from a later Engine::turn(), never from inside start();
//   - kSync makes durable whatever was finished before its start().
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/limits.hpp"
#include "base/result.hpp"
#include "image/lock.hpp"
#include "io/engine.hpp"

namespace tapdisk {

// Asked once after open; the answers never change while the image is open.
struct ImageInfo {
  std::uint64_t sectors = 0;               // capacity, units of 512 B, whole logical blocks
  std::uint32_t sector_size = 0;           // logical block, bytes
  std::uint32_t physical_sector_size = 0;  // bytes
  bool read_only = false;
  bool direct = false;                     // I/O bypasses the page cache
};

enum class ImageVerb : std::uint8_t { kRead, kWrite, kSync };

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

// One operation. It and the memory of `data` are the image's from start() to op_finished().
struct ImageOp {
  ImageVerb verb = ImageVerb::kRead;
  bool running = false;
  std::uint64_t sector = 0;  // units of 512 B
  std::uint32_t bytes = 0;   // sum over `data`
  std::span<iovec> data;     // used up on the way
  int result = 0;            // 0 or -errno
  ImageClient* client = nullptr;

  std::array<ImageIo, kIosPerRequestMax> ios;  // the driver's
};

class Image {
 public:
  virtual ~Image() = default;

  virtual const ImageInfo& info() const noexcept = 0;

  void start(ImageOp& op) noexcept;

 protected:
  // The driver's end of an operation.
  static void finish(ImageOp& op, int result) noexcept;

 private:
  virtual void do_start(ImageOp& op) noexcept = 0;
};

enum class Direct { kAuto, kOn, kOff };

struct ImageOptions {
  std::string path;
  bool read_only = false;
  Direct direct = Direct::kAuto;
  LockRequest lock;  // `writes` follows from read_only
};

// Opens and locks the image with the driver of that name. Errors read "/path: reason".
Result<std::unique_ptr<Image>> open_image(std::string_view driver, const ImageOptions& options,
                                          Engine& engine);

}  // namespace tapdisk
