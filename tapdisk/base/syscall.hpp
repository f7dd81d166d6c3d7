// SPDX-License-Identifier: GPL-2.0-only
//
// System calls that give a Result. The error names the failing call, or the path where there is
// one; EINTR never comes out.
#pragma once

#include <cerrno>
#include <cstdint>
#include <string>

#include "base/resource.hpp"
#include "base/result.hpp"

namespace tapdisk {

// Repeats `call` while a signal interrupts it; gives its result, or -errno.
template <class Call>
auto retry_eintr(Call&& call) noexcept -> decltype(call()) {
  for (;;) {
    const auto result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return -errno;
  }
}

// O_CLOEXEC is added.
Result<Fd> open_file(const std::string& path, int flags);

Result<Mapping> map_shared(int fd, std::uint64_t offset, std::size_t bytes, int protection);

// A non-blocking eventfd.
Result<Fd> make_eventfd();

}  // namespace tapdisk
