// SPDX-License-Identifier: GPL-2.0-only
#include "tests/history/atomic.hpp"

#include <algorithm>
#include <iterator>
#include <map>

namespace history {
namespace {

// A value, from its write to the last read that found it.
struct Life {
  const Access* write = nullptr;
  const Access* first_to_end = nullptr;
  const Access* last_to_begin = nullptr;

  void add(const Access& access) {
    if (access.write) write = &access;
    if (!first_to_end || access.end < first_to_end->end) first_to_end = &access;
    if (!last_to_begin || access.begin > last_to_begin->begin) last_to_begin = &access;
  }
  // The value was there all the time between two accesses that do not overlap.
  bool is_certain() const { return first_to_end->end < last_to_begin->begin; }
  std::uint64_t zone_begin() const { return std::min(first_to_end->end, last_to_begin->begin); }
  std::uint64_t zone_end() const { return std::max(first_to_end->end, last_to_begin->begin); }
};

std::string told(const Access& access) {
  return (access.write ? "the write of " : "a read of ") + std::to_string(access.value) + " [" +
         std::to_string(access.begin) + ", " + std::to_string(access.end) + "]";
}

std::string told(const Life& life) {
  return told(*life.first_to_end) + " to " + told(*life.last_to_begin);
}

}  // namespace

std::optional<std::string> find_contradiction(const std::vector<Access>& accesses) {
  std::map<std::uint64_t, Life> lives;
  for (const Access& access : accesses) lives[access.value].add(access);

  std::vector<Life> certain;
  for (const auto& [value, life] : lives) {
    if (!life.write) return told(*life.first_to_end) + ": nobody has written that";
    if (life.first_to_end->end < life.write->begin)
      return told(*life.first_to_end) + " comes before " + told(*life.write);
    if (life.is_certain()) certain.push_back(life);
  }
  std::ranges::sort(certain, {}, &Life::zone_begin);
  for (std::size_t i = 1; i < certain.size(); i++)
    if (certain[i].zone_begin() < certain[i - 1].zone_end())
      return "two values at once: " + told(certain[i - 1]) + ", and " + told(certain[i]);

  // What is not certain needs one instant of its zone when nothing else is.
  for (const auto& [value, life] : lives) {
    if (life.is_certain()) continue;
    const auto next = std::ranges::upper_bound(certain, life.zone_begin(), {}, &Life::zone_begin);
    if (next != certain.begin() && life.zone_end() < std::prev(next)->zone_end())
      return told(*life.write) + " has no time: another value is there from " +
             told(*std::prev(next));
  }
  return std::nullopt;
}

}  // namespace history
