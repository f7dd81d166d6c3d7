// SPDX-License-Identifier: GPL-2.0-only
#include "server/error_log.hpp"

#include <fmt/format.h>

#include <system_error>

#include "base/limits.hpp"

namespace tapdisk {
namespace {

std::string describe(const ImageOp& op) {
  switch (op.verb) {
    case ImageVerb::kRead:
      return fmt::format("reading {} bytes at byte {}", op.bytes, op.sector * kSectorSize);
    case ImageVerb::kWrite:
      return fmt::format("writing {} bytes at byte {}", op.bytes, op.sector * kSectorSize);
    case ImageVerb::kDiscard:
      return fmt::format("discarding {} bytes at byte {}", op.bytes, op.sector * kSectorSize);
    case ImageVerb::kSync: break;
  }
  return "flushing (every flush and write fails from now on)";
}

}  // namespace

ErrorLog::Kind& ErrorLog::kind_of(const ImageOp& op) {
  for (Kind& kind : kinds_)
    if (kind.verb == op.verb && kind.code == op.result) return kind;
  if (kinds_.size() < kKindsMax) kinds_.push_back(Kind{op.verb, op.result, {}, 0});
  return *(kinds_.end() - 1);
}

void ErrorLog::report(const ImageOp& op, Clock::time_point now) {
  const std::lock_guard lock{mutex_};
  Kind& kind = kind_of(op);
  const bool first = kind.said == Clock::time_point{};
  if (!first && now - kind.said < std::chrono::milliseconds{kErrorLogPeriodMs}) {
    kind.passed_over++;
    return;
  }
  std::string line = fmt::format("{}: {}: {}", path_, describe(op),
                                 std::generic_category().message(-op.result));
  if (kind.passed_over) line += fmt::format(" (and {} more times)", kind.passed_over);
  kind.said = now;
  kind.passed_over = 0;
  write_(line);
}

}  // namespace tapdisk
