// SPDX-License-Identifier: GPL-2.0-only
#include "image/raw.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <ctime>
#include <system_error>

#include "base/log.hpp"
#include "base/syscall.hpp"
#include "image/aligner.hpp"
#include "image/discard.hpp"
#include "image/geometry.hpp"
#include "image/identity.hpp"
#include "image/lock.hpp"
#include "image/range_lock.hpp"

namespace tapdisk {
namespace {

// 0 or -errno.
int sync_all(int fd) noexcept {
  return retry_eintr([&] { return ::fdatasync(fd); });
}

// The first sync that failed, on any queue, which makes all later ones fail: what was lost is not
// told again.
class SyncError {
 public:
  // The result of a sync that has ended with `result`.
  int after(int result) noexcept {
    int none = 0;
    if (result && error_.compare_exchange_strong(none, result)) return result;
    return error_.load();
  }

 private:
  std::atomic<int> error_{0};
};

class RawImage final : public Image, private IoClient, private DiscardClient,
                       private AlignerClient {
 public:
  RawImage(int fd, Fd sync_fd, const ImageInfo& info, SyncError& sync_error,
           Engine& engine) noexcept
      : fd_(fd), sync_fd_(std::move(sync_fd)), info_(info), sync_error_(sync_error),
        engine_(engine) {}

  Result<void> open_discarder() {
    auto opened = Discarder::open(fd_, engine_, *this);
    if (!opened) return opened.error();
    discarder_ = std::move(*opened);
    return {};
  }

  Result<void> open_aligner(RangeLock& ranges) {
    auto opened = Aligner::open({fd_, info_.unit, ranges}, engine_, *this);
    if (!opened) return opened.error();
    aligner_ = std::move(*opened);
    return {};
  }

  const ImageInfo& info() const noexcept override { return info_; }
  std::uint64_t bytes_realigned() const noexcept override {
    return aligner_ ? aligner_->bytes_moved() : 0;
  }

  std::optional<Place> place(ImageVerb verb, std::uint64_t sector,
                             std::uint64_t) const noexcept override {
    if (!info_.direct || (verb == ImageVerb::kWrite && is_unaligned(info_))) return {};
    return Place{fd_, sector * kSectorSize};
  }

 private:
  void do_start(ImageOp& op) noexcept override {
    switch (op.verb) {
      case ImageVerb::kRead:
      case ImageVerb::kWrite:
        if (aligner_) return aligner_->start(op);
        return start_io(op, op.verb == ImageVerb::kRead ? IoVerb::kRead : IoVerb::kWrite);
      case ImageVerb::kSync: return start_io(op, IoVerb::kSync);
      case ImageVerb::kDiscard: return discarder_->start(op);
    }
  }

  void start_io(ImageOp& op, IoVerb verb) noexcept {
    ImageIo& io = op.ios[0];
    io.verb = verb;
    io.fd = verb == IoVerb::kSync ? sync_fd_.get() : fd_;
    io.offset = op.sector * kSectorSize;
    io.data = op.data;
    io.left = static_cast<std::uint32_t>(op.bytes);
    io.client = this;
    io.op = &op;
    engine_.start(io);
  }

  void io_finished(Io& io) noexcept override {
    ImageOp& op = *static_cast<ImageIo&>(io).op;
    finish(op, op.verb == ImageVerb::kSync ? sync_error_.after(io.result) : io.result);
  }
  void discard_finished(ImageOp& op, int result) noexcept override { finish(op, result); }
  void aligned_finished(ImageOp& op, int result) noexcept override { finish(op, result); }

  int fd_;
  // The kernel tells each open of a file once that it could not write something back. By an open of
  // its own each queue hears of it.
  Fd sync_fd_;
  const ImageInfo& info_;
  SyncError& sync_error_;
  Engine& engine_;
  std::unique_ptr<Discarder> discarder_;  // only if discards are offered
  std::unique_ptr<Aligner> aligner_;      // only if the store's units are larger than the disk's
};

class RawFile final : public OpenImage {
 public:
  RawFile(Fd file, bool needs_claim, const std::string& path, const ImageInfo& info, bool unsynced)
      : file_(std::move(file)), needs_claim_(needs_claim), path_(path), info_(info),
        unsynced_(unsynced) {}

  const ImageInfo& info() const noexcept override { return info_; }
  bool unsynced() const noexcept override { return unsynced_; }

  dev_t device() const noexcept override {
    struct stat status {};
    return ::fstat(file_.get(), &status) == 0 && S_ISBLK(status.st_mode) ? status.st_rdev : 0;
  }

  Result<std::uint64_t> grow() override {
    Result<std::uint64_t> now = find_capacity(file_.get(), path_, info_);
    if (!now) return now;
    if (*now < info_.sectors)
      return plain_error(path_, "has become smaller than the disk, which keeps its size", EINVAL);
    info_.sectors = *now;
    return now;
  }

  Result<void> settle() override { return info_.direct ? Result<void>{} : sync(); }

  Result<void> sync() override {
    if (info_.read_only) return {};
    if (const int error = -sync_all(file_.get()); error)
      return system_error(path_ + ": the guest's last writes may be lost: syncing them failed",
                          error);
    return {};
  }

  bool claim() override {
    if (!needs_claim_) return true;
    Result<Fd> claim =
        open_file(fmt::format("/proc/self/fd/{}", file_.get()), O_RDONLY | O_EXCL | O_NONBLOCK);
    if (claim) {
      claim_ = std::move(*claim);
      needs_claim_ = false;
      log::info("{}: claimed, as the other tapdisk has left", path_);
    } else if (!has_warned_ && is_alone()) {
      has_warned_ = true;
      log::warning("{}: in use by this host, too (mounted, or part of another device)", path_);
    }
    return !needs_claim_;
  }

  // Through the page cache somebody has to wait, and that is better not the kernel. And nobody but
  // the queues keeps what they write to a part of a unit from others; to read does no harm.
  std::vector<Extent> extents() const override {
    if (!info_.direct) return {};
    return {Extent{0, info_.sectors, 0, file_.get(), !info_.read_only && !is_unaligned(info_)}};
  }

  Result<std::unique_ptr<Image>> view(Engine& engine) const override {
    Result<Fd> sync_fd = open_file(fmt::format("/proc/self/fd/{}", file_.get()), O_RDONLY);
    if (!sync_fd) return plain_error(path_, sync_fd.error().what, sync_fd.error().code);
    auto image = std::make_unique<RawImage>(file_.get(), std::move(*sync_fd), info_, sync_error_,
                                            engine);
    if (info_.discard.offered)
      if (const Result<void> opened = image->open_discarder(); !opened) return opened.error();
    if (is_unaligned(info_))
      if (const Result<void> opened = image->open_aligner(ranges_); !opened) return opened.error();
    return image;
  }

 private:
  bool is_alone() const {
    const Result<bool> shared = image_is_shared(file_.get(), path_);
    return shared && !*shared;
  }

  Fd file_;
  Fd claim_;  // an open of its own, if the claim came later
  bool needs_claim_;
  bool has_warned_ = false;
  std::string path_;
  ImageInfo info_;
  bool unsynced_;
  mutable SyncError sync_error_;
  mutable RangeLock ranges_;
};

// What this host has in its cache of the image. With direct I/O each request would have to be kept
// in step with it; somebody, such as udev, has most often looked at a device's beginning. Without,
// the guest would read it, though another host may have written to the storage since; what is not
// written back yet cannot be dropped. Gives whether there is nothing that could not be.
bool drop_cache(int fd, const std::string& path, bool direct) {
  const int error = direct ? 0 : -sync_all(fd);
  if (error)
    log::warning("{}: what this host has written to it before could not be synced: {}", path,
                 std::generic_category().message(error));
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  return !error;
}

constexpr int kClaimAttempts = 5;
constexpr timespec kClaimPause{0, 50'000'000};

struct OpenedFile {
  Fd fd;
  bool is_block = false;
  bool claimed = false;  // a block device that nobody else, the host included, has claimed
};

// The path may lead elsewhere by now; and a device that was made read-only can be opened for
// writing all the same.
Result<void> is_what_was_seen(int fd, const struct stat& seen, const ImageOptions& options) {
  struct stat status {};
  if (::fstat(fd, &status)) return system_error(options.path, errno);
  if (status.st_dev != seen.st_dev || status.st_ino != seen.st_ino ||
      (status.st_mode ^ seen.st_mode) & S_IFMT || status.st_rdev != seen.st_rdev)
    return plain_error(options.path, "was replaced while it was opened", ESTALE);
  if (!options.identity.empty()) {
    const Result<std::string> identity = identify(fd, options.path);
    if (!identity) return identity.error();
    if (*identity != options.identity)
      return plain_error(options.path,
                         "is not the image that the disk was attached with; detach the disk first",
                         ESTALE);
  }
  int read_only = 0;
  if (S_ISBLK(status.st_mode) && !options.read_only && !::ioctl(fd, BLKROGET, &read_only) &&
      read_only)
    return plain_error(options.path, "the device is read-only (disk is 'w')", EROFS);
  return {};
}

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
  if (const Result<void> same = is_what_was_seen(fd->get(), status, options); !same)
    return same.error();
  // From here on it is to wait: io_uring gives EAGAIN for a non-blocking file, again and again
  // where the device has no other answer to "not now" (device mapper).
  // That a guest reads is not noted in the image's inode, which would cost writes. Only
  // the owner may ask for that, for we have no CAP_FOWNER; others' images get their time stamps.
  if (::fcntl(fd->get(), F_SETFL, O_NOATIME) && ::fcntl(fd->get(), F_SETFL, 0))
    return system_error(options.path, errno);
  opened.fd = std::move(*fd);
  return opened;
}

Result<OpenedFile> open_and_lock(const ImageOptions& options) {
  LockRequest request = options.lock;
  request.writes = !options.read_only;
  for (int attempt = 1;; attempt++) {
    Result<OpenedFile> file = open_raw_file(options);
    if (!file) return file;
    const Result<void> locked = lock_image(file->fd.get(), options.path, request);
    if (!locked) return locked.error();
    if (!file->is_block || file->claimed) return file;
    // Another tapdisk with which we agree may have the claim; anything else may not.
    const Result<bool> agreed = image_is_shared(file->fd.get(), options.path);
    if (!agreed) return agreed.error();
    if (*agreed) return file;
    if (attempt == kClaimAttempts)
      return plain_error(options.path, "in use by this host (mounted, or part of another device)",
                         EBUSY);
    // A tapdisk that ends gives its lock away before its claim.
    ::nanosleep(&kClaimPause, nullptr);
  }
}

}  // namespace

Result<std::unique_ptr<OpenImage>> open_raw_image(const ImageOptions& options) {
  Result<OpenedFile> file = open_and_lock(options);
  if (!file) return file.error();

  Result<ImageInfo> info = find_geometry(file->fd.get(), options);
  if (!info) return info.error();
  const Result<std::string> identity = identify(file->fd.get(), options.path);
  if (!identity) return identity.error();
  info->id = number_of(*identity);
  const bool synced = (!file->is_block && info->direct) ||
                      drop_cache(file->fd.get(), options.path, info->direct);
  if (options.discard && !options.read_only)
    info->discard = find_discard(file->fd.get(), *info);
  return std::make_unique<RawFile>(std::move(file->fd), file->is_block && !file->claimed,
                                   options.path, *info, !synced);
}

}  // namespace tapdisk
