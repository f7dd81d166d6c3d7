// SPDX-License-Identifier: GPL-2.0-only
//
// The judgement on tapdisk's commands.

#include "ring/slot.h"

#include "tests/support/slots.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>

namespace {

constexpr std::uint32_t kDepth = 4;

class CmdJudge : public testing::Test {
protected:
    CmdJudge()
    {
        for (std::uint32_t slot = 0; slot < kDepth; slot++)
            slots.set_generation(slot, 10);
        cmd.verb = BLKTAP_CMD_COMPLETE;
        cmd.slot = 2;
        cmd.generation = slots.offer(2);
    }

    cmd_verdict judge() const { return slots.judge(cmd); }

    tapdisk::testing::Slots<kDepth> slots;
    blktap_cmd cmd{};
};

TEST_F(CmdJudge, LetsAnHonestAnswerThrough)
{
    EXPECT_EQ(judge(), CMD_VALID);
}

TEST_F(CmdJudge, RefusesEveryOtherVerb)
{
    for (int verb = 0; verb < 256; verb++) {
        cmd.verb = static_cast<std::uint8_t>(verb);
        EXPECT_EQ(judge(), verb == BLKTAP_CMD_COMPLETE ? CMD_VALID
                           : verb == BLKTAP_CMD_SUBMIT ? CMD_NOT_SUBMITTABLE
                                                       : CMD_UNKNOWN_VERB) << verb;
    }
}

TEST_F(CmdJudge, RefusesEveryFlag)
{
    for (int flags = 1; flags < 256; flags++) {
        cmd.flags = static_cast<std::uint8_t>(flags);
        EXPECT_EQ(judge(), CMD_UNKNOWN_FLAG) << flags;
    }
}

TEST_F(CmdJudge, RefusesEveryReservedBit)
{
    const blktap_cmd honest = cmd;
    for (int bit = 0; bit < 32; bit++) {
        cmd = honest;
        cmd.fd = static_cast<std::int32_t>(1u << bit);
        EXPECT_EQ(judge(), CMD_RESERVED_SET);
    }
    for (const auto word : {&blktap_cmd::offset, &blktap_cmd::reserved})
        for (int bit = 0; bit < 64; bit++) {
            cmd = honest;
            cmd.*word = 1ull << bit;
            EXPECT_EQ(judge(), CMD_RESERVED_SET);
        }
}

// A command that submits what slot 2 has been offered for.
class CmdJudgeSubmit : public CmdJudge {
protected:
    CmdJudgeSubmit()
    {
        slots.finish(2);
        cmd.verb = BLKTAP_CMD_SUBMIT;
        cmd.generation = slots.offer(2, true);
        cmd.fd = 7;
        cmd.offset = 1ull << 40;
    }
};

TEST_F(CmdJudgeSubmit, WhatWasOfferedForItMayBeSubmitted)
{
    EXPECT_EQ(judge(), CMD_VALID);
    cmd.fd = -1; // whoever opens it judges that
    cmd.offset = ~0ull;
    EXPECT_EQ(judge(), CMD_VALID);
}

TEST_F(CmdJudgeSubmit, OrCompletedAllTheSame)
{
    cmd.verb = BLKTAP_CMD_COMPLETE;
    cmd.fd = 0;
    cmd.offset = 0;
    EXPECT_EQ(judge(), CMD_VALID);
}

TEST_F(CmdJudgeSubmit, WhatIsOfferedAgainMayNot)
{
    slots.move(2, SLOT_STARTED);
    slots.move(2, SLOT_BACKLOG);
    cmd.generation = slots.offer_again(2);
    EXPECT_EQ(judge(), CMD_NOT_SUBMITTABLE);
}

TEST_F(CmdJudgeSubmit, HasNoResult)
{
    for (std::int32_t result : {1, -1, -EIO, INT32_MIN}) {
        cmd.result = result;
        EXPECT_EQ(judge(), CMD_BAD_RESULT) << result;
    }
}

TEST_F(CmdJudgeSubmit, HasNoFlagsAndOneReservedWord)
{
    cmd.reserved = 1;
    EXPECT_EQ(judge(), CMD_RESERVED_SET);
    cmd.flags = 1;
    EXPECT_EQ(judge(), CMD_UNKNOWN_FLAG);
}

TEST_F(CmdJudgeSubmit, OfASlotThatWasTakenBackIsNotOwned)
{
    slots.move(2, SLOT_DONE);
    EXPECT_EQ(judge(), CMD_NOT_OWNED);
}

TEST_F(CmdJudge, RefusesSlotsBeyondTheTable)
{
    for (std::uint32_t slot : {4u, 5u, 31u, 0x7fffu, 0x8000u, 0xffffu}) {
        cmd.slot = static_cast<std::uint16_t>(slot);
        EXPECT_EQ(judge(), CMD_NO_SUCH_SLOT) << slot;
    }
}

// Not even by a processor that guesses how the check ends.
TEST_F(CmdJudge, FindsNoSlotBeyondTheTable)
{
    for (std::uint32_t slot = 0; slot <= 0xffff; slot++) {
        cmd.slot = static_cast<std::uint16_t>(slot);
        ASSERT_EQ(cmd_slot(&cmd, kDepth), slot % kDepth);
    }
}

TEST_F(CmdJudge, TakesOnlyZeroOrAnErrno)
{
    for (std::int32_t result : {0, -1, -EIO, -EOPNOTSUPP, -4095}) {
        cmd.result = result;
        EXPECT_EQ(judge(), CMD_VALID) << result;
    }
    for (std::int32_t result : {1, 4096, INT32_MAX, -4096, -100000, INT32_MIN}) {
        cmd.result = result;
        EXPECT_EQ(judge(), CMD_BAD_RESULT) << result;
    }
}

TEST_F(CmdJudge, CallsAnyOtherGenerationStale)
{
    const std::uint32_t now = cmd.generation;
    for (std::uint32_t generation : {now - 1, now + 1, 0u, 0xffffffffu, now ^ 0x80000000u}) {
        cmd.generation = generation;
        EXPECT_EQ(judge(), CMD_STALE) << generation;
    }
}

TEST_F(CmdJudge, CallsASecondAnswerNotOwned)
{
    for (const slot_place place : {SLOT_DONE, SLOT_BACKLOG, SLOT_STARTED, SLOT_DONE, SLOT_FREE}) {
        slots.move(2, place);
        EXPECT_EQ(judge(), CMD_NOT_OWNED) << place;
    }
}

TEST_F(CmdJudge, CallsAnAnswerToAnEarlierOfferStaleWhenTheSlotIsInUseAgain)
{
    slots.finish(2);
    slots.offer(2);
    EXPECT_EQ(judge(), CMD_STALE);
}

TEST_F(CmdJudge, AGuessAtASlotThatWasNeverOfferedIsRefusedWhateverItsGeneration)
{
    slots.set_generation(1, 0);
    cmd.slot = 1;
    for (std::uint32_t generation : {0u, 1u, 2u, 0xffffffffu}) {
        cmd.generation = generation;
        EXPECT_EQ(judge(), generation == 0 ? CMD_NOT_OWNED : CMD_STALE);
    }
}

TEST_F(CmdJudge, ChangesNothing)
{
    const auto slots_before = slots.states();
    const blktap_cmd cmd_before = cmd;
    for (int verb = 0; verb < 4; verb++) {
        blktap_cmd tried = cmd;
        tried.verb = static_cast<std::uint8_t>(verb);
        (void)slots.judge(tried);
    }
    EXPECT_EQ(std::memcmp(&slots_before, &slots.states(), sizeof slots_before), 0);
    EXPECT_EQ(std::memcmp(&cmd_before, &cmd, sizeof cmd), 0);
}

// The order is part of the ABI: it decides which counter a broken tapdisk moves.
TEST_F(CmdJudge, NamesTheFirstFaultInTheOrderOfItsList)
{
    cmd = {};
    cmd.verb = 9;
    cmd.flags = 1;
    cmd.fd = 1;
    cmd.slot = kDepth;
    cmd.result = 1;
    cmd.generation = 99;
    EXPECT_EQ(judge(), CMD_UNKNOWN_VERB);
    cmd.verb = BLKTAP_CMD_COMPLETE;
    EXPECT_EQ(judge(), CMD_UNKNOWN_FLAG);
    cmd.flags = 0;
    EXPECT_EQ(judge(), CMD_RESERVED_SET);
    cmd.fd = 0;
    EXPECT_EQ(judge(), CMD_NO_SUCH_SLOT);
    cmd.slot = 1;
    EXPECT_EQ(judge(), CMD_BAD_RESULT);
    cmd.result = 0;
    EXPECT_EQ(judge(), CMD_STALE);
    cmd.generation = 10;
    EXPECT_EQ(judge(), CMD_NOT_OWNED);
}

TEST_F(CmdJudge, ASlotThatWasTakenBackIsAnsweredOnlyInItsNextUse)
{
    slots.move(2, SLOT_DONE);
    slots.move(2, SLOT_BACKLOG);
    EXPECT_EQ(judge(), CMD_NOT_OWNED);
    const std::uint32_t generation = slots.offer_again(2);
    EXPECT_EQ(judge(), CMD_STALE);
    cmd.generation = generation;
    EXPECT_EQ(judge(), CMD_VALID);
}

TEST(SlotOffer, GivesTheSlotAwayUnderANewGeneration)
{
    tapdisk::testing::Slots<kDepth> slots;
    slots.set_generation(1, 5);
    EXPECT_EQ(slots.offer(1), 6u);
    EXPECT_EQ(slots.states()[1].generation, 6u);
    EXPECT_EQ(slots.place(1), SLOT_OFFERED);
}

TEST(SlotOffer, SkipsZeroWhenTheGenerationWraps)
{
    tapdisk::testing::Slots<kDepth> slots;
    slots.set_generation(1, 0xfffffffeu);
    for (const std::uint32_t expected : {0xffffffffu, 1u, 2u}) {
        EXPECT_EQ(slots.offer(1), expected);
        slots.finish(1);
    }
}

TEST(SlotTable, CountsWhereSlotsAre)
{
    tapdisk::testing::Slots<kDepth> slots;
    EXPECT_EQ(slots.table().nr[SLOT_FREE], kDepth);
    slots.offer(0);
    slots.offer(3);
    slots.move(3, SLOT_STARTED);
    const std::array<std::uint32_t, SLOT_PLACES> expected{kDepth - 2, 0, 1, 1, 0};
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), slots.table().nr));
}

// Nothing that was offered or started gets free but by DONE, where it loses what it had mapped.
TEST(SlotMoves, AreThese)
{
    std::string allowed;
    for (int from = 0; from < SLOT_PLACES; from++)
        for (int to = 0; to < SLOT_PLACES; to++)
            if (slot_may_move(static_cast<slot_place>(from), static_cast<slot_place>(to)))
                allowed += std::to_string(from) + std::to_string(to) + ' ';
    EXPECT_EQ(allowed, "01 10 12 13 14 23 24 31 34 40 41 ");
}

TEST(SlotMovesDeathTest, StopAtWhatIsNotAllowed)
{
    tapdisk::testing::Slots<kDepth> slots;
    EXPECT_DEATH(slots.move(0, SLOT_FREE), "");
    EXPECT_DEATH(slots.move(0, SLOT_DONE), "");
    slots.offer(0);
    EXPECT_DEATH(slots.offer(0), "");
    EXPECT_DEATH(slots.move(0, SLOT_FREE), "");
}

} // namespace
