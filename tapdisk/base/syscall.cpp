// SPDX-License-Identifier: GPL-2.0-only
#include "base/syscall.hpp"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

namespace tapdisk {

Result<Fd> open_file(const std::string& path, int flags) {
  const int fd = retry_eintr([&] { return ::open(path.c_str(), flags | O_CLOEXEC); });
  if (fd < 0) return system_error(path, -fd);
  return Fd{fd};
}

Result<Mapping> map_shared(int fd, std::uint64_t offset, std::size_t bytes, int protection) {
  void* base = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (base == MAP_FAILED) return system_error("mmap", errno);
  return Mapping{base, bytes};
}

Result<Fd> make_eventfd() {
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return system_error("eventfd", errno);
  return Fd{fd};
}

}  // namespace tapdisk
