// SPDX-License-Identifier: GPL-2.0-only
//
// The slots of whoever plays the module's part.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "ring/slot.h"

namespace tapdisk::testing {

template <std::size_t kDepth>
class Slots {
 public:
  Slots() { slot_table_init(&table_, states_.data(), kDepth); }
  Slots(const Slots&) = delete;
  Slots& operator=(const Slots&) = delete;

  // A request comes, and tapdisk gets it; the generation.
  std::uint32_t offer(std::uint32_t slot, bool submittable = false) {
    slot_move(&table_, slot, SLOT_BACKLOG);
    return offer_again(slot, submittable);
  }
  // One that waits.
  std::uint32_t offer_again(std::uint32_t slot, bool submittable = false) {
    return slot_offer(&table_, slot, submittable);
  }

  // It has been answered, and so is the guest.
  void finish(std::uint32_t slot) {
    slot_move(&table_, slot, SLOT_DONE);
    slot_move(&table_, slot, SLOT_FREE);
  }

  void move(std::uint32_t slot, slot_place to) { slot_move(&table_, slot, to); }

  cmd_verdict judge(const blktap_cmd& cmd) const {
    return cmd_judge(&cmd, states_.data(), kDepth);
  }

  bool is_free(std::uint32_t slot) const { return place(slot) == SLOT_FREE; }
  slot_place place(std::uint32_t slot) const {
    return static_cast<slot_place>(states_[slot].place);
  }

  const std::array<slot_state, kDepth>& states() const { return states_; }
  const slot_table& table() const { return table_; }

  // The next use of the slot is under the generation after this.
  void set_generation(std::uint32_t slot, std::uint32_t generation) {
    states_[slot].generation = generation;
  }

 private:
  std::array<slot_state, kDepth> states_{};
  slot_table table_{};
};

}  // namespace tapdisk::testing
