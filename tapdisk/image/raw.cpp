// SPDX-License-Identifier: GPL-2.0-only
#include "image/raw.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "base/syscall.hpp"
#include "image/geometry.hpp"
#include "image/lock.hpp"

namespace tapdisk {
namespace {

class RawImage final : public Image, private IoClient {
 public:
  RawImage(Fd file, const ImageInfo& info, Engine& engine) noexcept
      : file_(std::move(file)), info_(info), engine_(engine) {}

  const ImageInfo& info() const noexcept override { return info_; }

 private:
  static IoVerb io_verb(ImageVerb verb) noexcept {
    switch (verb) {
      case ImageVerb::kRead: return IoVerb::kRead;
      case ImageVerb::kWrite: return IoVerb::kWrite;
      case ImageVerb::kSync: break;
    }
    return IoVerb::kSync;
  }

  void do_start(ImageOp& op) noexcept override {
    ImageIo& io = op.ios[0];
    io.verb = io_verb(op.verb);
    io.fd = file_.get();
    io.offset = op.sector * kSectorSize;
    io.data = op.data;
    io.left = op.bytes;
    io.client = this;
    io.op = &op;
    engine_.start(io);
  }

  void io_finished(Io& io) noexcept override {
    finish(*static_cast<ImageIo&>(io).op, io.result);
  }

  Fd file_;
  ImageInfo info_;
  Engine& engine_;
};

struct OpenedFile {
  Fd fd;
  bool is_block = false;
  bool claimed = false;  // a block device that nobody else, the host included, has claimed
};

// A block device is claimed (O_EXCL), which fails if it is mounted or part of something else.
// O_NONBLOCK: opening a fifo by mistake must not wait for its other end.
Result<OpenedFile> open_raw_file(const ImageOptions& options) {
  struct stat status {};
  if (::stat(options.path.c_str(), &status)) return system_error(options.path, errno);
  if (S_ISDIR(status.st_mode)) return system_error(options.path, EISDIR);
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
    return plain_error(options.path, "neither a regular file nor a block device", EINVAL);

  OpenedFile opened;
  opened.is_block = S_ISBLK(status.st_mode);
  const int flags = (options.read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_LARGEFILE;
  Result<Fd> fd = open_file(options.path, opened.is_block ? flags | O_EXCL : flags);
  opened.claimed = fd.has_value() && opened.is_block;
  if (!fd && opened.is_block && fd.error().code == EBUSY) fd = open_file(options.path, flags);
  if (!fd) return fd.error();
  // From here on it is to wait: io_uring gives EAGAIN for a non-blocking file, again and again
  // where the device has no other answer to "not now" (device mapper).
  if (::fcntl(fd->get(), F_SETFL, 0)) return system_error(options.path, errno);
  opened.fd = std::move(*fd);
  return opened;
}

}  // namespace

Result<std::unique_ptr<Image>> open_raw_image(const ImageOptions& options, Engine& engine) {
  Result<OpenedFile> file = open_raw_file(options);
  if (!file) return file.error();

  LockRequest request = options.lock;
  request.writes = !options.read_only;
  const Result<void> locked = lock_image(file->fd.get(), options.path, request);
  if (!locked) return locked.error();
  // Another tapdisk with which we agree may have the claim; anything else may not.
  if (file->is_block && !file->claimed && !image_is_locked(file->fd.get()))
    return plain_error(options.path, "in use by this host (mounted, or part of another device)",
                       EBUSY);

  const Result<ImageInfo> info =
      find_geometry(file->fd.get(), options.path, options.read_only, options.direct);
  if (!info) return info.error();
  return std::make_unique<RawImage>(std::move(file->fd), *info, engine);
}

}  // namespace tapdisk
