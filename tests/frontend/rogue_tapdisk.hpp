// SPDX-License-Identifier: GPL-2.0-only
//
// A tapdisk that does anything that its device node lets it do, at random, in two threads, and
// serves some requests between.
#ifndef TESTS_FRONTEND_ROGUE_TAPDISK_HPP
#define TESTS_FRONTEND_ROGUE_TAPDISK_HPP

#include <cstdint>
#include <string>

// One life: attaches, does what the seed says, and ends the process in some way. `scratch`: a file
// of 1 MiB for its I/O. Exit status 3: it could not attach; 4: the module let it do what nobody
// may.
[[noreturn]] void live_as_rogue_tapdisk(const std::string& node, const std::string& scratch,
                                        std::uint64_t seed);

#endif
