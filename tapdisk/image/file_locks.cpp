// SPDX-License-Identifier: GPL-2.0-only
#include "image/file_locks.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <system_error>

namespace tapdisk {
namespace {

namespace fs = std::filesystem;

// So many that no disk has them; more are not told apart any more.
constexpr std::size_t kLocksMax = 4096;
// Whoever looks for the name of a process should not take longer than the user waits for it.
constexpr unsigned kFilesMax = 20'000;

struct flock range_lock(int type, ByteRange range) {
  struct flock lock {};
  lock.l_type = static_cast<short>(type);
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(range.first);
  // Zero is: to the end, which a length could not say.
  lock.l_len = range.last == kLastByte ? 0 : static_cast<off_t>(range.last - range.first + 1);
  return lock;
}

FileLock as_told(const struct flock& lock) {
  const auto first = static_cast<std::uint64_t>(lock.l_start);
  const std::uint64_t last =
      lock.l_len ? first + static_cast<std::uint64_t>(lock.l_len) - 1 : kLastByte;
  return {lock.l_type == F_WRLCK, first, last, lock.l_pid};
}

// One line of the kernel's: "1: OFDLCK  ADVISORY  READ -1 08:01:4711 100 EOF".
struct Line {
  FileLock lock;
  std::string file;  // device and inode
};

std::optional<Line> parse(const std::string& text) {
  std::istringstream words{text};
  std::string number, kind, advisory, type, pid, last;
  Line line;
  // A line with "->" is somebody who waits.
  if (!(words >> number >> kind) || (kind != "POSIX" && kind != "OFDLCK")) return {};
  if (!(words >> advisory >> type >> pid >> line.file >> line.lock.first >> last)) return {};
  line.lock.exclusive = type == "WRITE";
  line.lock.last = kLastByte;
  if (last != "EOF") std::from_chars(last.data(), last.data() + last.size(), line.lock.last);
  if (kind == "POSIX") std::from_chars(pid.data(), pid.data() + pid.size(), line.lock.pid);
  return line;
}

// The locks by which an open file is known to its process.
std::vector<Line> locks_of_open_file(const fs::path& fdinfo) {
  constexpr std::string_view kKey = "lock:";
  std::vector<Line> locks;
  std::ifstream lines{fdinfo};
  for (std::string text; std::getline(lines, text);) {
    if (!text.starts_with(kKey)) continue;
    if (std::optional<Line> line = parse(text.substr(kKey.size()))) locks.push_back(*line);
  }
  return locks;
}

std::vector<Line> own_locks(int fd) {
  return locks_of_open_file(fmt::format("/proc/self/fdinfo/{}", fd));
}

std::string describe_process(const std::string& pid) {
  std::string name;
  std::getline(std::ifstream{"/proc/" + pid + "/comm"}, name);
  return name.empty() ? "process " + pid : "process " + pid + " (" + name + ")";
}

// What is in the directory, as far as it can be read: processes come and go.
std::vector<fs::path> entries(const fs::path& directory) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry{directory, error}, end; !error && entry != end;
       entry.increment(error))
    found.push_back(entry->path());
  return found;
}

bool is_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

// Whether one of the process' open files, of which `left` may still be looked at, has the lock.
bool process_has(const fs::path& process, const FileLock& lock, const std::string& file,
                 unsigned& left) {
  for (const fs::path& fdinfo : entries(process / "fdinfo")) {
    if (left == 0) return false;
    left--;
    const std::vector<Line> locks = locks_of_open_file(fdinfo);
    if (std::any_of(locks.begin(), locks.end(), [&](const Line& line) {
          return line.file == file && line.lock == lock;
        }))
      return true;
  }
  return false;
}

}  // namespace

Result<void> take_shared_lock(int fd, ByteRange range) {
  struct flock lock = range_lock(F_RDLCK, range);
  if (::fcntl(fd, F_OFD_SETLK, &lock)) return system_error("fcntl", errno);
  return {};
}

void drop_locks(int fd) noexcept {
  struct flock lock = range_lock(F_UNLCK, {0, kLastByte});
  ::fcntl(fd, F_OFD_SETLK, &lock);
}

// An exclusive lock is asked for, which clashes with the shared ones; asking needs no write access.
Result<std::vector<FileLock>> locks_of_others(int fd, const std::vector<ByteRange>& ranges) {
  std::vector<FileLock> found;
  std::vector<ByteRange> left = ranges;
  while (!left.empty() && found.size() < kLocksMax) {
    const ByteRange range = left.back();
    left.pop_back();
    struct flock asked = range_lock(F_WRLCK, range);
    if (::fcntl(fd, F_OFD_GETLK, &asked)) return system_error("fcntl", errno);
    if (asked.l_type == F_UNLCK) continue;
    const FileLock lock = as_told(asked);
    found.push_back(lock);
    if (lock.first > range.first) left.push_back({range.first, lock.first - 1});
    if (lock.last < range.last) left.push_back({lock.last + 1, range.last});
  }
  return found;
}

std::vector<FileLock> listed_locks(int fd) {
  std::vector<Line> own = own_locks(fd);
  std::vector<FileLock> others;
  if (own.empty()) return others;
  const std::string file = own.front().file;
  std::ifstream lines{"/proc/locks"};
  for (std::string text; std::getline(lines, text) && others.size() < kLocksMax;) {
    const std::optional<Line> line = parse(text);
    if (!line || line->file != file) continue;
    const auto mine = std::find_if(own.begin(), own.end(), [&](const Line& one) {
      return one.lock == line->lock && line->lock.pid <= 0;
    });
    if (mine == own.end()) {
      others.push_back(line->lock);
    } else {
      own.erase(mine);
    }
  }
  return others;
}

std::string lock_owner(int fd, const FileLock& lock) {
  if (lock.pid > 0) return describe_process(std::to_string(lock.pid));
  const std::vector<Line> own = own_locks(fd);
  if (own.empty()) return {};
  const std::string self = std::to_string(::getpid());
  unsigned left = kFilesMax;
  for (const fs::path& process : entries("/proc")) {
    const std::string pid = process.filename();
    if (is_number(pid) && pid != self && process_has(process, lock, own.front().file, left))
      return describe_process(pid);
  }
  return {};
}

}  // namespace tapdisk
