// SPDX-License-Identifier: GPL-2.0-only
#include "image/lock.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <random>
#include <system_error>

namespace tapdisk {
namespace {

constexpr std::uint64_t kNumbers = 1ull << 60;
constexpr std::uint64_t kWriters = 0;         // region W
constexpr std::uint64_t kReaders = kNumbers;  // region R

// Two machines that race may each see the other; they give way for unequal times.
constexpr int kAttempts = 5;
constexpr long kAttemptPauseMs = 40;

struct flock range(short type, std::uint64_t first, std::uint64_t count) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(first);
  lock.l_len = static_cast<off_t>(count);
  return lock;
}

// Whether another open file description holds a lock in the range. An exclusive lock is asked
// for, which clashes with the shared ones; asking needs no write access.
Result<bool> held(int fd, std::uint64_t first, std::uint64_t count) {
  if (count == 0) return false;
  struct flock lock = range(F_WRLCK, first, count);
  if (::fcntl(fd, F_OFD_GETLK, &lock)) return system_error("locks", errno);
  return lock.l_type != F_UNLCK;
}

Result<bool> held_by_another(int fd, std::uint64_t region, std::uint64_t number) {
  const Result<bool> below = held(fd, region, number);
  return !below || *below ? below : held(fd, region + number + 1, kNumbers - number - 1);
}

// Whether another machine holds what this one must not share.
Result<bool> clashes(int fd, std::uint64_t number, bool writes) {
  const Result<bool> with_writer = held_by_another(fd, kWriters, number);
  return !with_writer || *with_writer || !writes ? with_writer
                                                 : held_by_another(fd, kReaders, number);
}

Error cannot_lock(const std::string& path, int code) {
  return plain_error(path, "cannot be locked: " + std::generic_category().message(code), code);
}

struct Arguments {
  std::string vbd;
  std::string image;
  std::string vm;
};

Arguments read_arguments(const std::filesystem::path& file) {
  Arguments arguments;
  std::ifstream lines{file};
  for (std::string line; std::getline(lines, line);) {
    if (line == "--vbd") std::getline(lines, arguments.vbd);
    if (line == "--image") std::getline(lines, arguments.image);
    if (line == "--vm") std::getline(lines, arguments.vm);
  }
  return arguments;
}

// The vbd of another machine whose tapdisk was started with this image, or nothing.
std::string find_holder(int fd, const LockRequest& request) {
  struct stat mine {};
  if (::fstat(fd, &mine)) return {};
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(request.holder_dir, ignored)) {
    if (entry.path().extension() != ".args") continue;
    const Arguments other = read_arguments(entry.path());
    if (other.vbd == request.vbd || (!other.vm.empty() && other.vm == request.vm)) continue;
    struct stat theirs {};
    if (::stat(other.image.c_str(), &theirs) == 0 && theirs.st_dev == mine.st_dev &&
        theirs.st_ino == mine.st_ino)
      return other.vbd;
  }
  return {};
}

// The number of a virtual machine, below kNumbers.
std::uint64_t lock_number(const std::string& vm) {
  if (vm.empty()) {
    std::random_device random;
    return ((std::uint64_t{random()} << 32) | random()) % kNumbers;
  }
  // FNV-1a: the number must be the same in every build, which std::hash does not promise.
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : vm) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return (hash ^ (hash >> 60)) % kNumbers;
}

void pause(int attempt) {
  std::random_device random;
  const long ms = kAttemptPauseMs / 4 + static_cast<long>(random() % kAttemptPauseMs) * attempt;
  const timespec time{0, ms * 1'000'000L};
  ::nanosleep(&time, nullptr);
}

}  // namespace

Result<void> lock_image(int fd, const std::string& path, const LockRequest& request) {
  const std::uint64_t number = lock_number(request.vm);
  const std::uint64_t mine = (request.writes ? kWriters : kReaders) + number;

  for (int attempt = 1;; attempt++) {
    struct flock lock = range(F_RDLCK, mine, 1);
    if (::fcntl(fd, F_OFD_SETLK, &lock)) return cannot_lock(path, errno);
    const Result<bool> clash = clashes(fd, number, request.writes);
    if (!clash) return cannot_lock(path, clash.error().code);
    if (!*clash) return {};

    lock = range(F_UNLCK, mine, 1);
    ::fcntl(fd, F_OFD_SETLK, &lock);
    if (attempt == kAttempts) break;
    pause(attempt);
  }
  const std::string holder = find_holder(fd, request);
  return plain_error(path, holder.empty() ? "in use by another guest"
                                          : "in use by another guest (" + holder + ")", EBUSY);
}

Result<bool> image_is_locked(int fd, const std::string& path) {
  const Result<bool> locked = held(fd, 0, 2 * kNumbers);
  return locked ? locked : cannot_lock(path, locked.error().code);
}

}  // namespace tapdisk
