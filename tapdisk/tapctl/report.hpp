// SPDX-License-Identifier: GPL-2.0-only
//
// What tap-ctl prints. Every function gives the whole text, newline included.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "tapctl/places.hpp"

namespace tapdisk {

// Who has no tapdisk but waits for one shows for how long it still does.
std::string list_as_table(const std::vector<VbdView>& vbds);
std::string list_as_json(const std::vector<VbdView>& vbds);

// `tapdisk` is its answer to "stats", or why there is none.
std::string stats_as_table(const std::string& vbd,
                           const std::map<std::string, std::string>& module,
                           const Result<std::string>& tapdisk);
std::string stats_as_json(const std::string& vbd,
                          const std::map<std::string, std::string>& module,
                          const Result<std::string>& tapdisk);

// `tapdisk` is its answer to "resize". The error says why the disk has not grown.
Result<std::string> resize_as_text(const std::string& vbd, const Result<std::string>& tapdisk);

}  // namespace tapdisk
