// SPDX-License-Identifier: GPL-2.0-only
//
// Log lines: one write(2) each to standard error, so lines of two threads do not mix. Under
// systemd standard error is the journal, and the line starts with its priority (sd-daemon(3)).
// Not for the data path: formatting allocates.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace tapdisk::log {

enum class Level { kError = 3, kWarning = 4, kInfo = 6 };

// With `journal` the priority is written in the journal's form, otherwise as a word.
// Called once, before other threads exist. Not called: as if with false.
void set_journal(bool journal) noexcept;

// Whether standard error is connected to the journal, as systemd says.
bool stderr_is_journal() noexcept;

void write(Level level, std::string_view text) noexcept;

template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kError, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kWarning, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kInfo, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace tapdisk::log
