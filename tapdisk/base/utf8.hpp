// SPDX-License-Identifier: GPL-2.0-only
//
// Whether a text is UTF-8 (RFC 3629), which a file's name need not be. JSON, libxl's records and
// systemd's status take nothing else.
#pragma once

#include <string>
#include <string_view>

namespace tapdisk {

bool is_utf8(std::string_view text) noexcept;

// With a question mark for each byte that belongs to no character.
std::string as_utf8(std::string_view text);

}  // namespace tapdisk
