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

constexpr std::string_view kNotHere = "direct I/O is not possible here";
constexpr std::string_view kNotOnBtrfs =
    "no direct I/O, for Btrfs keeps checksums of this file's data, and a guest that changes pages "
    "while they are written would spoil them (chattr +C, before the file has content, turns the "
    "checksums off)";
constexpr std::string_view kNotOnChecksums =
    "no direct I/O, for this file system keeps checksums of data, and a guest that changes pages "
    "while they are written would spoil them";

// Why there is no direct I/O on a file, although it may be asked for; nothing: there is.
std::string_view obstacle_of(int fd) noexcept {
  struct statfs status {};
  if (::fstatfs(fd, &status)) return {};
  int flags = 0;
  if (::ioctl(fd, FS_IOC_GETFLAGS, &flags)) flags = 0;
  return why_not_direct(static_cast<std::uint32_t>(status.f_type),
                        static_cast<std::uint32_t>(flags));
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

// Direct I/O if the file can do it in blocks that a disk can have. Gives the reason if not.
std::string_view go_direct(int fd, bool is_block, ImageInfo& info) {
  if (const std::string_view reason = is_block ? "" : obstacle_of(fd); !reason.empty())
    return reason;
  if (!set_direct(fd)) return kNotHere;
  info.unit = is_block ? info.sector_size : direct_unit(fd);
  if (info.unit == 0) {
    info.unit = kSectorSize;
    clear_direct(fd);
    return kNotHere;
  }
  info.direct = true;
  return {};
}

}  // namespace

// Since Linux 6.6 tmpfs lets anybody ask for direct I/O, and goes through the page cache as ever.
//
// A checksum is of the page as it was at that moment, and the page is the guest's. If it fits
// nothing, the block cannot be read any more (Btrfs of Linux 6.1); so newer ones go through the
// page cache, and say nothing of it. ZFS 2.3 fails the write, earlier ones only pretend.
std::string_view why_not_direct(std::uint32_t file_system, std::uint32_t flags) noexcept {
  constexpr std::uint32_t kBcachefs = 0xca451a4e;
  constexpr std::uint32_t kZfs = 0x2fc12fc1;
  switch (file_system) {
    case TMPFS_MAGIC: return kNotHere;
    case BTRFS_SUPER_MAGIC: return flags & FS_NOCOW_FL ? "" : kNotOnBtrfs;
    case kBcachefs:
    case kZfs: return kNotOnChecksums;
    default: return {};
  }
}

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

Result<std::uint64_t> find_capacity(int fd, const std::string& path, const ImageInfo& info) {
  const Result<std::uint64_t> bytes = size_of(fd, path);
  if (!bytes) return bytes.error();
  const std::uint32_t block = std::max(info.sector_size, info.unit);
  return *bytes / block * (block / kSectorSize);
}

Result<ImageInfo> find_geometry(int fd, const ImageOptions& options) {
  const std::string& path = options.path;
  struct stat status {};
  if (::fstat(fd, &status)) return system_error(path, errno);
  const bool is_block = S_ISBLK(status.st_mode);

  Result<ImageInfo> found = is_block ? block_device(fd, path) : regular_file(status);
  if (!found) return found;
  ImageInfo info = *found;
  info.read_only = options.read_only;

  const std::string_view obstacle =
      options.direct == Direct::kOff ? "" : go_direct(fd, is_block, info);
  if (!obstacle.empty()) {
    if (options.direct == Direct::kOn) return plain_error(path, obstacle, EOPNOTSUPP);
    log::warning("{}: {}, going through the page cache", path, obstacle);
  }
  if (options.sector_size) info.sector_size = options.sector_size;
  const std::uint32_t block = std::max(info.sector_size, info.unit);
  info.physical_sector_size = std::max(info.physical_sector_size, block);
  if (!std::has_single_bit(block) || block > kSectorSizeMax)
    return plain_error(path, fmt::format("its blocks of {} bytes are too large for a disk", block),
                       EINVAL);
  if (is_unaligned(info))
    log::info("{}: its storage has blocks of {} bytes, the disk of {}: writes of less are slow",
              path, info.unit, info.sector_size);

  // A block that the file holds only a part of is left out: nothing is ever written past the end.
  const Result<std::uint64_t> bytes = size_of(fd, path);
  if (!bytes) return bytes.error();
  const std::uint64_t usable = *bytes / block * block;
  if (usable == 0) return plain_error(path, *bytes ? "is smaller than one sector" : "is empty",
                                      EINVAL);
  if (usable != *bytes)
    log::warning("{}: the last {} bytes are not a whole sector of {} bytes and are not used",
                 path, *bytes - usable, block);
  info.sectors = usable / kSectorSize;
  return info;
}

}  // namespace tapdisk
