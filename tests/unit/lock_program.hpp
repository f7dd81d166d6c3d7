// SPDX-License-Identifier: GPL-2.0-only
//
// A program that wants an image, too.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

#include "base/syscall.hpp"

namespace tapdisk::testing {

inline struct flock whole_lock(int type, off_t first, off_t bytes) {
  struct flock lock {};
  lock.l_type = static_cast<short>(type);
  lock.l_whence = SEEK_SET;
  lock.l_start = first;
  lock.l_len = bytes;
  return lock;
}

// A process that has the image open, with locks.
class Program {
 public:
  struct Lock {
    int command, type;
    off_t first, bytes;
  };

  Program(const std::string& path, const std::vector<Lock>& locks) {
    std::array<int, 2> ready{};
    if (::pipe(ready.data())) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      const auto fd = open_file(path, O_RDWR);
      bool done = fd.has_value();
      for (const Lock& lock : locks) {
        struct flock wanted = whole_lock(lock.type, lock.first, lock.bytes);
        done = done && ::fcntl(fd->get(), lock.command, &wanted) == 0;
      }
      [[maybe_unused]] const ssize_t told = ::write(ready[1], done ? "y" : "n", 1);
      ::pause();
      ::_exit(0);
    }
    char answer = 0;
    locked_ = ::read(ready[0], &answer, 1) == 1 && answer == 'y';
    ::close(ready[0]);
    ::close(ready[1]);
  }
  ~Program() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  bool locked() const { return locked_; }
  std::string name() const { return "process " + std::to_string(pid_) + " ("; }

 private:
  pid_t pid_ = -1;
  bool locked_ = false;
};

}  // namespace tapdisk::testing
