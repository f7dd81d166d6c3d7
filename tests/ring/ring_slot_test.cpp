// SPDX-License-Identifier: GPL-2.0-only
//
// The judgement on tapdisk's commands.

#include "ring/slot.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

namespace {

constexpr std::uint32_t kDepth = 4;

class CmdJudge : public testing::Test {
protected:
    CmdJudge()
    {
        for (slot_state& slot : slots)
            slot = {10, SLOT_FREE, false};
        cmd.verb = BLKTAP_CMD_COMPLETE;
        cmd.slot = 2;
        cmd.generation = slot_offer(&slots[2], false);
    }

    cmd_verdict judge() const { return cmd_judge(&cmd, slots.data(), kDepth); }

    std::array<slot_state, kDepth> slots{};
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
        cmd.verb = BLKTAP_CMD_SUBMIT;
        cmd.generation = slot_offer(&slots[2], true);
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
    cmd.generation = slot_offer(&slots[2], false);
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
    slot_take_back(&slots[2]);
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
    slots[2].owner = SLOT_KERNEL;
    EXPECT_EQ(judge(), CMD_NOT_OWNED);
    slots[2].owner = SLOT_FREE;
    EXPECT_EQ(judge(), CMD_NOT_OWNED);
}

TEST_F(CmdJudge, CallsAnAnswerToAnEarlierOfferStaleWhenTheSlotIsInUseAgain)
{
    slots[2].owner = SLOT_FREE;
    slot_offer(&slots[2], false);
    EXPECT_EQ(judge(), CMD_STALE);
}

TEST_F(CmdJudge, AGuessAtASlotThatWasNeverOfferedIsRefusedWhateverItsGeneration)
{
    slots[1] = {0, SLOT_FREE, false};
    cmd.slot = 1;
    for (std::uint32_t generation : {0u, 1u, 2u, 0xffffffffu}) {
        cmd.generation = generation;
        EXPECT_EQ(judge(), generation == 0 ? CMD_NOT_OWNED : CMD_STALE);
    }
}

TEST_F(CmdJudge, ChangesNothing)
{
    const auto slots_before = slots;
    const blktap_cmd cmd_before = cmd;
    for (int verb = 0; verb < 4; verb++) {
        blktap_cmd tried = cmd;
        tried.verb = static_cast<std::uint8_t>(verb);
        cmd_judge(&tried, slots.data(), kDepth);
    }
    EXPECT_EQ(std::memcmp(&slots_before, &slots, sizeof slots), 0);
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

TEST(SlotOffer, GivesTheSlotAwayUnderANewGeneration)
{
    slot_state slot{5, SLOT_KERNEL, false};
    EXPECT_EQ(slot_offer(&slot, false), 6u);
    EXPECT_EQ(slot.generation, 6u);
    EXPECT_EQ(slot.owner, SLOT_TAPDISK);
}

TEST(SlotOffer, SkipsZeroWhenTheGenerationWraps)
{
    slot_state slot{0xfffffffeu, SLOT_FREE, false};
    EXPECT_EQ(slot_offer(&slot, false), 0xffffffffu);
    EXPECT_EQ(slot_offer(&slot, false), 1u);
    EXPECT_EQ(slot_offer(&slot, false), 2u);
}

TEST_F(CmdJudge, ASlotThatWasTakenBackIsAnsweredOnlyInItsNextUse)
{
    slot_take_back(&slots[2]);
    EXPECT_EQ(slots[2].owner, SLOT_KERNEL);
    EXPECT_EQ(judge(), CMD_NOT_OWNED);
    const std::uint32_t generation = slot_offer(&slots[2], false);
    EXPECT_EQ(judge(), CMD_STALE);
    cmd.generation = generation;
    EXPECT_EQ(judge(), CMD_VALID);
}

} // namespace
