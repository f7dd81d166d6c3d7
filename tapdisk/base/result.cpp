// SPDX-License-Identifier: GPL-2.0-only
#include "base/result.hpp"

#include <fmt/format.h>

#include <system_error>

namespace tapdisk {

Error system_error(std::string_view subject, int code) {
  return plain_error(subject, std::generic_category().message(code), code);
}

Error plain_error(std::string_view subject, std::string_view reason, int code) {
  return Error{code, fmt::format("{}: {}", subject, reason)};
}

}  // namespace tapdisk
