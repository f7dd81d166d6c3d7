// SPDX-License-Identifier: GPL-2.0-only
//
// Any arguments of tapdisk, one to a line, as in an argument file.
//
// The oracle: what is accepted has an image and a vbd whose name can become
// part of a path, and what is refused has a sentence that says why.

#include "server/options.hpp"
#include "tests/fuzz/input.h"

#include <algorithm>
#include <string>
#include <vector>

namespace {

bool is_plain_vbd_name(const std::string& name)
{
    return name.starts_with("vbd-") && std::ranges::count(name, '-') == 2 &&
           name.find_first_not_of("0123456789-", 4) == name.npos;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes)
{
    std::vector<std::string> arguments(1);
    for (const char byte : std::string(reinterpret_cast<const char*>(data), bytes))
        if (byte == '\n')
            arguments.emplace_back();
        else if (byte != '\0') // an argument of a program has none
            arguments.back().push_back(byte);
    if (arguments.front().starts_with('@'))
        arguments.front().clear(); // would read a file

    const auto parsed = tapdisk::parse_options(arguments);
    if (!parsed) {
        FUZZ_CHECK(!parsed.error().what.empty());
        return 0;
    }
    if (const auto* options = std::get_if<tapdisk::Options>(&*parsed)) {
        FUZZ_CHECK(!options->image.path.empty());
        FUZZ_CHECK(is_plain_vbd_name(options->attach.vbd));
        FUZZ_CHECK(!options->control.empty());
    } else {
        FUZZ_CHECK(!std::get<tapdisk::Answer>(*parsed).text.empty());
    }
    return 0;
}
