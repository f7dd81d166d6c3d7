// SPDX-License-Identifier: GPL-2.0-only
#include "base/log.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace tapdisk::log {
namespace {

// The only state that is not handed around: where the process's standard error goes.
bool journal_format = false;

std::string_view prefix(Level level) {
  if (journal_format) {
    switch (level) {
      case Level::kError: return "<3>";
      case Level::kWarning: return "<4>";
      case Level::kInfo: return "<6>";
    }
  }
  switch (level) {
    case Level::kError: return "tapdisk: error: ";
    case Level::kWarning: return "tapdisk: warning: ";
    case Level::kInfo: return "tapdisk: ";
  }
  return "";
}

}  // namespace

void set_journal(bool journal) noexcept { journal_format = journal; }

bool stderr_is_journal() noexcept {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat status {};
  return stream && ::fstat(STDERR_FILENO, &status) == 0 &&
         fmt::format("{}:{}", status.st_dev, status.st_ino) == stream;
}

void write(Level level, std::string_view text) noexcept {
  std::string line{prefix(level)};
  // A path may hold any byte; a line stays one line.
  for (const char c : text) line += static_cast<unsigned char>(c) < ' ' ? '?' : c;
  line += '\n';
  // A log that cannot be written cannot be complained about either.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace tapdisk::log
