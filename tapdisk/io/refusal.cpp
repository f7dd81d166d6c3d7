// SPDX-License-Identifier: GPL-2.0-only
#include "io/refusal.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <fstream>
#include <optional>

#include "base/limits.hpp"

namespace tapdisk {
namespace {

std::optional<unsigned long> setting(const std::string& path) {
  unsigned long value = 0;
  if (std::ifstream{path} >> value) return value;
  return {};
}

}  // namespace

Error uring_refused(int code, const std::string& sysctl) {
  const auto disabled = setting(sysctl + "/kernel/io_uring_disabled");
  if (code != EPERM || !disabled || *disabled == 0) return system_error("io_uring", code);
  return plain_error("io_uring", fmt::format("switched off on this host: kernel.io_uring_disabled "
                                             "is {}, and would have to be 0", *disabled), code);
}

// The number that the context is asked for counts, not what the kernel makes of it.
Error aio_refused(int code, const std::string& sysctl) {
  const auto most = setting(sysctl + "/fs/aio-max-nr");
  const auto used = setting(sysctl + "/fs/aio-nr");
  if (code != EAGAIN || !most || !used) return system_error("io_setup", code);
  return plain_error("io_setup", fmt::format("this host's limit on libaio is reached: "
                                             "fs.aio-max-nr is {}, {} are taken, and each queue "
                                             "of a disk needs {}",
                                             *most, *used, kEngineDepth), code);
}

}  // namespace tapdisk
