// SPDX-License-Identifier: GPL-2.0-only
#include "hotplug/image_path.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/utf8.hpp"
#include "image/identity.hpp"

namespace tapdisk {
namespace {

constexpr mode_t kMayRead = S_IRUSR | S_IRGRP | S_IROTH;
constexpr mode_t kMayWrite = S_IWUSR | S_IWGRP | S_IWOTH;

// libxl keeps the name in a record of the domain that takes UTF-8 only, and reads it again for each
// attach and detach; the path is in xenstore, of which tools show lines.
Result<void> judge_name(const std::string& path) {
  std::string shown = path;
  std::ranges::replace(shown, '\n', '?');
  if (!path.starts_with('/')) return plain_error(shown, "not an absolute path", EINVAL);
  if (shown != path) return plain_error(shown, "newline in the path", EINVAL);
  if (!is_utf8(path))
    return plain_error(path, "the name is not UTF-8, which libxl needs; rename it, or attach a "
                             "link to it", EILSEQ);
  return {};
}

Result<void> judge_access(const std::string& path, mode_t mode, bool writes) {
  if (!(mode & kMayRead) || ::access(path.c_str(), R_OK)) return system_error(path, EACCES);
  if (!writes) return {};
  if (!(mode & kMayWrite))
    return plain_error(path, "Permission denied (disk is 'w', image is read-only)", EACCES);
  if (::access(path.c_str(), W_OK))
    return plain_error(path, "not writable (read-only file system or immutable image)", EROFS);
  return {};
}

}  // namespace

Result<ImagePath> judge_image(const std::string& path, bool writes, const std::string& sysfs) {
  if (const Result<void> good = judge_name(path); !good) return good.error();
  struct stat status {};
  if (::stat(path.c_str(), &status)) return system_error(path, errno);
  if (S_ISDIR(status.st_mode)) return system_error(path, EISDIR);
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
    return plain_error(path, "neither a regular file nor a block device", EINVAL);
  if (const Result<void> good = judge_access(path, status.st_mode, writes); !good)
    return good.error();

  ImagePath found{path, {}, {}, writes, S_ISBLK(status.st_mode), status.st_rdev};
  std::error_code error;
  found.image = std::filesystem::canonical(path, error);
  if (error) return system_error(path, error.value());
  if (found.image.find('\n') != std::string::npos)
    return plain_error(path, "newline in the path it leads to", EINVAL);
  const Result<std::string> identity = identify(path, sysfs);
  if (!identity) return identity.error();
  found.identity = *identity;
  return found;
}

bool is_same_file(const std::string& one, const std::string& other) {
  std::error_code ignored;
  return std::filesystem::equivalent(one, other, ignored);
}

}  // namespace tapdisk
