// SPDX-License-Identifier: GPL-2.0-only
// The slots of the module against a guest that asks at any time, tapdisks that answer, lie and die,
// I/O that fails and pages that somebody holds on to. What the module performs with them is played
// here; the places, the moves and the judgement are its own (ring/slot.h).
#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "tests/sim/seeds.hpp"
#include "tests/support/slots.hpp"

namespace tapdisk {
namespace {

using testing::Dice;

constexpr std::uint32_t kSlots = 8;
constexpr unsigned kLossesMax = 3;
constexpr unsigned kNobody = 0;

using Move = std::pair<slot_place, slot_place>;

class SlotSim {
 public:
  SlotSim(std::uint64_t seed, std::set<Move>& moves) : dice_(seed), moves_(moves) {
    liar_percent_ = dice_.below(40);
    death_percent_ = dice_.below(10);
    failure_percent_ = dice_.below(30);
    keeps_ = dice_.percent(70);
    for (std::uint32_t slot = 0; slot < kSlots; slot++)
      slots_.set_generation(slot, dice_.percent(50) ? 0xfffffff0u + dice_.below(16) : 0);
  }

  void run() {
    for (unsigned step = 0; step < 600 && !::testing::Test::HasFailure(); step++) {
      something();
      check();
    }
    // An honest end: nobody dies, lies or fails any more.
    liar_percent_ = death_percent_ = failure_percent_ = 0;
    for (unsigned step = 0; step < 5000 && answers_.size() < asked_; step++) {
      if (tapdisk_ == kNobody) attach();
      something(false);
      check();
    }
    EXPECT_EQ(answers_.size(), asked_) << "a request got lost";
  }

 private:
  // What is known of the request in a slot, by whom it concerns.
  struct Life {
    unsigned request = 0;
    unsigned arrival = 0;
    unsigned losses = 0;
    bool carried_out = false;  // by tapdisk, which said so, or by the module
    bool again = false;
    bool bounced = false;
    bool held = false;  // somebody has references to its pages
    std::uint32_t generation = 0;  // of the latest offer
  };

  void something(bool asks = true) {
    switch (dice_.below(asks ? 8 : 7)) {
      case 0: take(); break;
      case 1:
      case 2: admit(); break;
      case 3: tapdisk_acts(); break;
      case 4: io_ends(); break;
      case 5: finish(); break;
      case 6: tapdisk_comes_or_goes(); break;
      case 7: if (asked_ < 200) ring_.push_back(++asked_);
    }
  }

  void take() {
    for (std::uint32_t slot = 0; slot < kSlots && !ring_.empty(); slot++) {
      // While requests are kept, new ones stay on the ring.
      if (!slots_.is_free(slot) || (tapdisk_ == kNobody && keeps_)) continue;
      lives_[slot] = Life{};
      lives_[slot].request = ring_.front();
      lives_[slot].arrival = arrivals_++;
      ring_.pop_front();
      move(slot, SLOT_BACKLOG);
    }
  }

  // The first that waits.
  void admit() {
    const auto slot = first_of_backlog();
    if (slot == kSlots) return;
    Life& life = lives_[slot];
    if (tapdisk_ == kNobody) {
      if (keeps_) return;
      life.again = false;
      move(slot, dice_.percent(50) ? SLOT_DONE : SLOT_FREE);
      if (slots_.is_free(slot)) answer(slot);
      return;
    }
    if (!life.bounced && dice_.percent(40)) return move(slot, SLOT_STARTED);
    moves_.insert({SLOT_BACKLOG, SLOT_OFFERED});
    const std::uint32_t before = life.generation;
    life.generation = slots_.offer_again(slot, dice_.percent(30));
    ASSERT_NE(life.generation, before);
    ASSERT_NE(life.generation, 0u);
  }

  std::uint32_t first_of_backlog() const {
    std::uint32_t first = kSlots;
    for (std::uint32_t slot = 0; slot < kSlots; slot++)
      if (slots_.place(slot) == SLOT_BACKLOG &&
          (first == kSlots || lives_[slot].arrival < lives_[first].arrival))
        first = slot;
    return first;
  }

  void tapdisk_acts() {
    if (tapdisk_ == kNobody) return;
    const std::uint32_t slot = dice_.below(kSlots);
    blktap_cmd command{};
    command.verb = dice_.percent(70) ? BLKTAP_CMD_COMPLETE : BLKTAP_CMD_SUBMIT;
    command.slot = static_cast<std::uint16_t>(slot);
    command.generation = lives_[slot].generation;
    if (command.verb == BLKTAP_CMD_COMPLETE && dice_.percent(failure_percent_))
      command.result = -5;
    if (dice_.percent(liar_percent_)) spoil(command);
    const bool is_its_own = command.slot < kSlots &&
                            slots_.place(command.slot) == SLOT_OFFERED &&
                            command.generation == lives_[command.slot].generation;
    if (slots_.judge(command) != CMD_VALID) return;
    ASSERT_TRUE(is_its_own) << "a command for what it has not";
    Life& life = lives_[command.slot];
    // Its I/O may be over, or not: it is tapdisk.
    life.held = dice_.percent(liar_percent_);
    if (command.verb == BLKTAP_CMD_SUBMIT) return move(command.slot, SLOT_STARTED);
    life.carried_out = command.result == 0;
    move(command.slot, SLOT_DONE);
  }

  void spoil(blktap_cmd& command) {
    switch (dice_.below(5)) {
      case 0: command.generation += 1 + dice_.below(3); break;
      case 1: command.generation -= 1 + dice_.below(3); break;
      case 2: command.slot = static_cast<std::uint16_t>(dice_.below(2 * kSlots)); break;
      case 3: command.verb = static_cast<std::uint8_t>(dice_.below(4)); break;
      case 4: command.flags = static_cast<std::uint8_t>(dice_.below(2)); break;
    }
  }

  void io_ends() {
    const std::uint32_t slot = dice_.below(kSlots);
    if (slots_.place(slot) != SLOT_STARTED) return;
    lives_[slot].carried_out = !dice_.percent(failure_percent_);
    lives_[slot].bounced = !lives_[slot].carried_out;
    move(slot, lives_[slot].carried_out ? SLOT_DONE : SLOT_BACKLOG);
  }

  void finish() {
    const std::uint32_t slot = dice_.below(kSlots);
    Life& life = lives_[slot];
    if (slots_.place(slot) != SLOT_DONE) return;
    if (life.held) {
      life.held = dice_.percent(50);
      return;
    }
    if (!life.again) {
      move(slot, SLOT_FREE);
      return answer(slot);
    }
    life.again = life.bounced = false;
    move(slot, SLOT_BACKLOG);
  }

  void tapdisk_comes_or_goes() {
    if (tapdisk_ == kNobody)
      attach();
    else if (dice_.percent(death_percent_))
      die();
  }

  // Not before everything that the last one had is out of its hands.
  void attach() {
    for (std::uint32_t slot = 0; slot < kSlots; slot++)
      if (slots_.place(slot) == SLOT_DONE && lives_[slot].again) return;
    tapdisk_ = ++tapdisks_;
  }

  void die() {
    tapdisk_ = kNobody;
    for (std::uint32_t slot = 0; slot < kSlots; slot++) {
      if (slots_.place(slot) != SLOT_OFFERED) continue;
      Life& life = lives_[slot];
      life.again = keeps_ && ++life.losses < kLossesMax;
      life.held = dice_.percent(50);
      move(slot, SLOT_DONE);
    }
  }

  void answer(std::uint32_t slot) {
    const Life& life = lives_[slot];
    ASSERT_FALSE(life.held) << "answered while its pages are in use";
    ASSERT_TRUE(answers_.emplace(life.request, life.carried_out).second) << "answered twice";
  }

  void move(std::uint32_t slot, slot_place to) {
    moves_.insert({slots_.place(slot), to});
    slots_.move(slot, to);
  }

  void check() const {
    std::array<std::uint32_t, SLOT_PLACES> counted{};
    for (std::uint32_t slot = 0; slot < kSlots; slot++) {
      const slot_place place = slots_.place(slot);
      counted[place]++;
      ASSERT_EQ(place == SLOT_OFFERED && tapdisk_ == kNobody, false) << "offered to nobody";
      ASSERT_EQ(place != SLOT_FREE && answers_.contains(lives_[slot].request), false);
    }
    for (int place = 0; place < SLOT_PLACES; place++)
      ASSERT_EQ(counted[static_cast<std::size_t>(place)], slots_.table().nr[place]) << place;
  }

  Dice dice_;
  std::set<Move>& moves_;
  unsigned liar_percent_ = 0;
  unsigned death_percent_ = 0;
  unsigned failure_percent_ = 0;
  bool keeps_ = false;

  testing::Slots<kSlots> slots_;
  std::array<Life, kSlots> lives_{};
  std::deque<unsigned> ring_;  // requests, by number
  std::map<unsigned, bool> answers_;
  unsigned asked_ = 0;
  unsigned arrivals_ = 0;
  unsigned tapdisk_ = kNobody;
  unsigned tapdisks_ = 0;
};

TEST(SlotSim, EveryRequestIsAnsweredOnceAndEveryMoveHasItsUse) {
  std::set<Move> moves;
  testing::for_each_seed(3000, [&](std::uint64_t seed) { SlotSim{seed, moves}.run(); });
  std::set<Move> allowed;
  for (int from = 0; from < SLOT_PLACES; from++)
    for (int to = 0; to < SLOT_PLACES; to++)
      if (const Move move{static_cast<slot_place>(from), static_cast<slot_place>(to)};
          slot_may_move(move.first, move.second))
        allowed.insert(move);
  if (!std::getenv("BLKTAP_SEED")) {
    EXPECT_EQ(moves, allowed);
  }
}

}  // namespace
}  // namespace tapdisk
