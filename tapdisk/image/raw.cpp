// SPDX-License-Identifier: GPL-2.0-only
#include "image/raw.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "base/syscall.hpp"
#include "image/discard.hpp"
#include "image/geometry.hpp"
#include "image/lock.hpp"

namespace tapdisk {
namespace {

class RawImage final : public Image, private IoClient, private DiscardClient {
 public:
  RawImage(int fd, const ImageInfo& info, Engine& engine) noexcept
      : fd_(fd), info_(info), engine_(engine) {}

  Result<void> open_discarder() {
    auto opened = Discarder::open(fd_, engine_, *this);
    if (!opened) return opened.error();
    discarder_ = std::move(*opened);
    return {};
  }

  const ImageInfo& info() const noexcept override { return info_; }

 private:
  void do_start(ImageOp& op) noexcept override {
    switch (op.verb) {
      case ImageVerb::kRead: return start_io(op, IoVerb::kRead);
      case ImageVerb::kWrite: return start_io(op, IoVerb::kWrite);
      case ImageVerb::kSync: return start_io(op, IoVerb::kSync);
      case ImageVerb::kDiscard: return discarder_->start(op);
    }
  }

  void start_io(ImageOp& op, IoVerb verb) noexcept {
    ImageIo& io = op.ios[0];
    io.verb = verb;
    io.fd = fd_;
    io.offset = op.sector * kSectorSize;
    io.data = op.data;
    io.left = static_cast<std::uint32_t>(op.bytes);
    io.client = this;
    io.op = &op;
    engine_.start(io);
  }

  void io_finished(Io& io) noexcept override {
    finish(*static_cast<ImageIo&>(io).op, io.result);
  }
  void discard_finished(ImageOp& op, int result) noexcept override { finish(op, result); }

  int fd_;
  const ImageInfo& info_;
  Engine& engine_;
  std::unique_ptr<Discarder> discarder_;  // only if discards are offered
};

class RawFile final : public OpenImage {
 public:
  RawFile(Fd file, const std::string& path, const ImageInfo& info)
      : file_(std::move(file)), path_(path), info_(info) {}

  const ImageInfo& info() const noexcept override { return info_; }

  dev_t device() const noexcept override {
    struct stat status {};
    return ::fstat(file_.get(), &status) == 0 && S_ISBLK(status.st_mode) ? status.st_rdev : 0;
  }

  Result<std::uint64_t> grow() override {
    Result<std::uint64_t> now = find_capacity(file_.get(), path_, info_.sector_size);
    if (!now) return now;
    if (*now < info_.sectors)
      return plain_error(path_, "has become smaller than the disk, which keeps its size", EINVAL);
    info_.sectors = *now;
    return now;
  }

  // Through the page cache somebody has to wait, and that is better not the kernel.
  std::vector<Extent> extents() const override {
    if (!info_.direct) return {};
    return {Extent{0, info_.sectors, 0, file_.get()}};
  }

  Result<std::unique_ptr<Image>> view(Engine& engine) const override {
    auto image = std::make_unique<RawImage>(file_.get(), info_, engine);
    if (info_.discard.offered)
      if (const Result<void> opened = image->open_discarder(); !opened) return opened.error();
    return image;
  }

 private:
  Fd file_;
  std::string path_;
  ImageInfo info_;
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
  // That a guest reads is not noted in the image's inode, which would cost writes. Only
  // the owner may ask for that, for we have no CAP_FOWNER; others' images get their time stamps.
  if (::fcntl(fd->get(), F_SETFL, O_NOATIME) && ::fcntl(fd->get(), F_SETFL, 0))
    return system_error(options.path, errno);
  opened.fd = std::move(*fd);
  return opened;
}

}  // namespace

Result<std::unique_ptr<OpenImage>> open_raw_image(const ImageOptions& options) {
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

  Result<ImageInfo> info =
      find_geometry(file->fd.get(), options.path, options.read_only, options.direct);
  if (!info) return info.error();
  // Of whatever this host has in its cache, each request would have to be kept in step with it;
  // somebody, such as udev, has most often looked at the device's beginning.
  if (file->is_block && info->direct)
    ::posix_fadvise(file->fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  if (options.discard && !options.read_only)
    info->discard = find_discard(file->fd.get(), *info);
  return std::make_unique<RawFile>(std::move(file->fd), options.path, *info);
}

}  // namespace tapdisk
