// SPDX-License-Identifier: GPL-2.0-only
//
// What is asked of a tapdisk, and either done or refused.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/result.hpp"
#include "tapctl/places.hpp"

namespace tapdisk {

// Its answer to `line`, an object with "ok". Error: why it refuses, or that it does not answer.
Result<nlohmann::json> ask(const Places& places, const std::string& vbd, const std::string& line);

}  // namespace tapdisk
