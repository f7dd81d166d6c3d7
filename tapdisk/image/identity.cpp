// SPDX-License-Identifier: GPL-2.0-only
#include "image/identity.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>

#include "base/first_line.hpp"

namespace tapdisk {
namespace {

std::string identify_device(const std::string& sysfs, unsigned major, unsigned minor) {
  const std::string device = fmt::format("{}/dev/block/{}:{}", sysfs, major, minor);
  if (const std::string uuid = first_line(device + "/dm/uuid"); !uuid.empty()) return "dm:" + uuid;
  std::string sequence = first_line(device + "/diskseq");
  // A partition has that of its disk.
  if (sequence.empty()) sequence = first_line(device + "/../diskseq");
  return fmt::format("device:{}:{}:{}", major, minor, sequence);
}

Result<std::string> identify_at(int fd, const char* relative, int flags, const std::string& path,
                                const std::string& sysfs) {
  struct statx status {};
  if (::statx(fd, relative, flags, STATX_BASIC_STATS | STATX_BTIME, &status))
    return system_error(path, errno);
  if (S_ISBLK(status.stx_mode))
    return identify_device(sysfs, status.stx_rdev_major, status.stx_rdev_minor);
  return fmt::format("file:{}.{}:{}:{}.{:09}", status.stx_dev_major, status.stx_dev_minor,
                     status.stx_ino, status.stx_btime.tv_sec, status.stx_btime.tv_nsec);
}

}  // namespace

Result<std::string> identify(const std::string& path, const std::string& sysfs) {
  return identify_at(AT_FDCWD, path.c_str(), 0, path, sysfs);
}

Result<std::string> identify(int fd, const std::string& path, const std::string& sysfs) {
  return identify_at(fd, "", AT_EMPTY_PATH, path, sysfs);
}

std::array<std::uint64_t, 2> number_of(const std::string& identity) noexcept {
  // FNV-1a, from two starts. A collision is no gain: whoever could seek one chooses the images.
  std::array<std::uint64_t, 2> number{0xcbf29ce484222325, 0x84222325cbf29ce4};
  for (std::uint64_t& half : number)
    for (const char byte : identity)
      half = (half ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  return number;
}

}  // namespace tapdisk
