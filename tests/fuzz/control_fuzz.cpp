// SPDX-License-Identifier: GPL-2.0-only
//
// Any bytes from a client of tapdisk's control socket, line by line.
//
// The oracle: every line has one answer, a JSON object on one line that says
// whether it went well, and only the known commands do.

#include "server/control.hpp"
#include "tests/fuzz/input.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <string_view>

namespace {

tapdisk::Pause pause_of_nothing{{[] {}, [] {}, [] { return true; },
                                 [] { return tapdisk::Result<void>{}; }, [] {}}};

const tapdisk::ControlHooks kHooks{.stats = [] { return std::string{R"({"reads":5})"}; },
                                   .resize = [] { return tapdisk::Result<std::uint64_t>{8}; },
                                   .stop = [] { std::abort(); },
                                   .leave = [] { return tapdisk::Result<void>{}; },
                                   .pause = &pause_of_nothing};

constexpr std::string_view kCommands[] = {"stats", "version", "resize", "leave", "pause", "resume"};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes)
{
    std::string_view rest(reinterpret_cast<const char*>(data), bytes);
    while (!rest.empty()) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(rest.size(), line.size() + 1));

        const std::string answer = tapdisk::answer_line(line, kHooks);
        FUZZ_CHECK(answer.find('\n') == std::string::npos);
        const auto json = nlohmann::json::parse(answer, nullptr, false);
        FUZZ_CHECK(json.is_object() && json.contains("ok") && json["ok"].is_boolean());
        if (json["ok"])
            FUZZ_CHECK(std::ranges::any_of(kCommands, [&](std::string_view command) {
                           return line.find(command) != line.npos;
                       }) || line.find("\\u") != line.npos); // letters may be written as escapes
        else
            FUZZ_CHECK(json.contains("error") && json["error"].is_string());
    }
    return 0;
}
