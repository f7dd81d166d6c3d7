// SPDX-License-Identifier: GPL-2.0-only
#include "image/geometry.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>

#include "base/log.hpp"
#include "base/syscall.hpp"

namespace tapdisk {
namespace {

bool set_direct(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && ::fcntl(fd, F_SETFL, flags | O_DIRECT) == 0;
}

void clear_direct(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags >= 0) ::fcntl(fd, F_SETFL, flags & ~O_DIRECT);
}

// Since Linux 6.6 tmpfs lets anybody ask for direct I/O, and goes through the page cache as ever.
bool only_pretends(int fd) noexcept {
  struct statfs status {};
  return ::fstatfs(fd, &status) == 0 && status.f_type == TMPFS_MAGIC;
}

bool can_read_direct(int fd, std::byte* buffer, unsigned bytes) noexcept {
  return retry_eintr([&] { return ::pread(fd, buffer, bytes, 0); }) >= 0;
}

Result<std::uint64_t> size_of(int fd, const std::string& path) {
  struct stat status {};
  std::uint64_t bytes = 0;
  if (::fstat(fd, &status)) return system_error(path, errno);
  if (!S_ISBLK(status.st_mode)) return static_cast<std::uint64_t>(status.st_size);
  if (::ioctl(fd, BLKGETSIZE64, &bytes)) return system_error(path, errno);
  return bytes;
}

Result<ImageInfo> block_device(int fd, const std::string& path) {
  int logical = 0;
  unsigned physical = 0;
  if (::ioctl(fd, BLKSSZGET, &logical) || ::ioctl(fd, BLKPBSZGET, &physical))
    return system_error(path, errno);
  ImageInfo info;
  info.sector_size = static_cast<std::uint32_t>(logical);
  info.physical_sector_size = std::max(physical, info.sector_size);
  return info;
}

ImageInfo regular_file(const struct stat& status) {
  ImageInfo info;
  info.sector_size = kSectorSize;
  // Writing less than the file system's block means reading the rest of it first.
  const auto block = std::clamp<std::uint64_t>(static_cast<std::uint64_t>(status.st_blksize),
                                               kSectorSize, kSectorSizeMax);
  info.physical_sector_size = static_cast<std::uint32_t>(std::bit_floor(block));
  return info;
}

// Direct I/O if the file can do it in blocks that a disk can have.
bool go_direct(int fd, bool is_block, ImageInfo& info) {
  if ((!is_block && only_pretends(fd)) || !set_direct(fd)) return false;
  const unsigned unit = is_block ? info.sector_size : direct_unit(fd);
  if (unit == 0) {
    clear_direct(fd);
    return false;
  }
  info.sector_size = unit;
  info.physical_sector_size = std::max(info.physical_sector_size, unit);
  info.direct = true;
  return true;
}

}  // namespace

unsigned direct_unit_by_trial(int fd) {
  alignas(kSectorSizeMax) std::array<std::byte, std::size_t{2} * kSectorSizeMax> buffer;
  // Memory aligned to no more than the unit, as a guest's will be.
  if (can_read_direct(fd, buffer.data() + kSectorSize, kSectorSize)) return kSectorSize;
  if (can_read_direct(fd, buffer.data() + kSectorSizeMax, kSectorSizeMax)) return kSectorSizeMax;
  return 0;
}

unsigned direct_unit(int fd) {
  struct statx status {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) ||
      !(status.stx_mask & STATX_DIOALIGN))
    return direct_unit_by_trial(fd);
  const unsigned unit = std::max(status.stx_dio_mem_align, status.stx_dio_offset_align);
  if (unit == 0 || unit > kSectorSizeMax) return 0;
  return unit <= kSectorSize ? kSectorSize : kSectorSizeMax;
}

Result<std::uint64_t> find_capacity(int fd, const std::string& path, std::uint32_t sector_size) {
  const Result<std::uint64_t> bytes = size_of(fd, path);
  if (!bytes) return bytes.error();
  return *bytes / sector_size * (sector_size / kSectorSize);
}

Result<ImageInfo> find_geometry(int fd, const std::string& path, bool read_only, Direct direct) {
  struct stat status {};
  if (::fstat(fd, &status)) return system_error(path, errno);
  const bool is_block = S_ISBLK(status.st_mode);

  Result<ImageInfo> found = is_block ? block_device(fd, path) : regular_file(status);
  if (!found) return found;
  ImageInfo info = *found;
  info.read_only = read_only;

  if (direct != Direct::kOff && !go_direct(fd, is_block, info)) {
    if (direct == Direct::kOn)
      return plain_error(path, "direct I/O is not possible here", EOPNOTSUPP);
    log::warning("{}: direct I/O is not possible here, going through the page cache", path);
  }
  if (!std::has_single_bit(info.sector_size) || info.sector_size > kSectorSizeMax)
    return plain_error(path, fmt::format("its blocks of {} bytes are too large for a disk",
                                         info.sector_size), EINVAL);

  // A block that the file holds only a part of is left out: nothing is ever written past the end.
  const Result<std::uint64_t> bytes = size_of(fd, path);
  if (!bytes) return bytes.error();
  const std::uint64_t usable = *bytes / info.sector_size * info.sector_size;
  if (usable == 0) return plain_error(path, *bytes ? "is smaller than one sector" : "is empty",
                                      EINVAL);
  if (usable != *bytes)
    log::warning("{}: the last {} bytes are not a whole sector of {} bytes and are not used",
                 path, *bytes - usable, info.sector_size);
  info.sectors = usable / kSectorSize;
  return info;
}

}  // namespace tapdisk
