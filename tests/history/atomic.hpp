// SPDX-License-Identifier: GPL-2.0-only
//
// Judges what several threads have read and written at the same time: could all of it have
// happened in one order, each access at one instant between its begin and its end? (Herlihy and
// Wing, "Linearizability", 1990.) A sector of a disk that forgets an acknowledged write, brings an
// old one back, or carries one out a second time cannot have such an order.
#ifndef TESTS_HISTORY_ATOMIC_HPP
#define TESTS_HISTORY_ATOMIC_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace history {

// Instants are what one counter counts: no two are the same.
struct Access {
  std::uint64_t begin;
  std::uint64_t end;
  std::uint64_t value;  // written by this access and by no other one, or found by it
  bool write;
};

// Says what has no order, in words; nothing if all has one. What was there in the beginning counts
// as a write. In n log n, by the zones of Gibbons and Korach, "Testing Shared Memories", 1997, §4.
std::optional<std::string> find_contradiction(const std::vector<Access>& accesses);

}  // namespace history

#endif
