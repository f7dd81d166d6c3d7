// SPDX-License-Identifier: GPL-2.0-only
//
// Says once what fails again and again. Each kind of failure (errno and direction) is written at
// most once a minute, with how many of its kind were passed over since. One for all queues of an
// image, for any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

#include "base/static_vector.hpp"
#include "image/image.hpp"

namespace tapdisk {

class ErrorLog {
 public:
  using Clock = std::chrono::steady_clock;
  using Write = void (*)(const std::string& line);

  // `path` names the image. `write` gets finished lines.
  ErrorLog(std::string path, Write write) : path_(std::move(path)), write_(write) {}

  void report(const ImageOp& op, Clock::time_point now);

 private:
  struct Kind {
    ImageVerb verb;
    int code;
    Clock::time_point said;
    std::uint64_t passed_over;
  };
  // More kinds than a device can produce; the last one stands for all further ones.
  static constexpr std::size_t kKindsMax = 32;

  Kind& kind_of(const ImageOp& op);

  std::string path_;
  Write write_;
  std::mutex mutex_;  // taken only when something fails
  StaticVector<Kind, kKindsMax> kinds_;
};

}  // namespace tapdisk
