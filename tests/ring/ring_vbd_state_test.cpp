// SPDX-License-Identifier: GPL-2.0-only
//
// What a back end does about its frontend: each rule by name, and all of them by exhaustion and by
// random walks of a frontend, a toolstack and a tapdisk who do not wait for it.

#include "ring/vbd_state.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <utility>

namespace {

// A back end that does what is decided, and the world that it looks at.
struct World {
    vbd_facts facts{.state = BLKTAP_INITWAIT,
                    .said = VBD_SAYS_INITWAIT,
                    .frontend = VBD_SAYS_INITIALISING,
                    .met = false,
                    .online = true,
                    .retired = false,
                    .served = true,
                    .idle = true,
                    .lied = false};
    bool good_keys = true;
    unsigned rings = 0;     // those that the frontend has now: it gets new ones when it starts
    unsigned connected = 0; // those that are mapped; 0: none
    std::string said;       // every state that was said, in order

    void say(vbd_says what)
    {
        facts.said = what;
        said += std::to_string(what);
    }

    // False: rest.
    bool step()
    {
        facts.met = facts.met || (facts.state == BLKTAP_CONNECTED &&
                                  facts.frontend == VBD_SAYS_CONNECTED);
        switch (vbd_decide(&facts)) {
        case VBD_REST: return false;
        case VBD_INVITE:
            facts.state = BLKTAP_INITWAIT;
            say(VBD_SAYS_INITWAIT);
            return true;
        case VBD_CONNECT:
            EXPECT_EQ(connected, 0u) << "connected twice";
            facts.met = facts.lied = false;
            facts.state = good_keys ? BLKTAP_CONNECTED : BLKTAP_ERROR;
            connected = good_keys ? rings : 0;
            say(good_keys ? VBD_SAYS_CONNECTED : VBD_SAYS_CLOSING);
            return true;
        case VBD_DRAIN:
            EXPECT_NE(facts.state, BLKTAP_CLOSING);
            facts.state = BLKTAP_CLOSING;
            return true;
        case VBD_FINISH:
            EXPECT_TRUE(facts.idle);
            facts.state = BLKTAP_CLOSED;
            connected = 0;
            return true;
        case VBD_RETIRE: facts.retired = true; return true;
        case VBD_CUT_OFF:
            facts.state = BLKTAP_ERROR;
            connected = 0;
            say(VBD_SAYS_CLOSING);
            return true;
        case VBD_SAY_CLOSING: say(VBD_SAYS_CLOSING); return true;
        case VBD_SAY_CLOSED: say(VBD_SAYS_CLOSED); return true;
        }
        ADD_FAILURE() << "an action that nobody knows";
        return false;
    }

    // Until there is nothing to do, which must come soon whatever is true.
    World& settle()
    {
        int steps = 0;
        while (step())
            if (++steps > 8) {
                ADD_FAILURE() << "goes on for ever: state " << facts.state << ", frontend "
                              << facts.frontend << ", said " << said;
                break;
            }
        return *this;
    }

    World& frontend(unsigned state)
    {
        if (state == VBD_SAYS_INITIALISING)
            rings++;
        facts.frontend = state;
        return settle();
    }

    // From the start to a connection.
    World& connect()
    {
        frontend(VBD_SAYS_INITIALISING).frontend(VBD_SAYS_INITIALISED);
        frontend(VBD_SAYS_CONNECTED);
        EXPECT_EQ(facts.state, BLKTAP_CONNECTED);
        said.clear();
        return *this;
    }

    World& close()
    {
        frontend(VBD_SAYS_CLOSING).frontend(VBD_SAYS_CLOSED);
        EXPECT_EQ(said, "56");
        said.clear();
        return *this;
    }
};

TEST(VbdState, WalksThroughAWholeLife)
{
    World world;
    world.connect().close();
    world.frontend(VBD_SAYS_INITIALISING);
    EXPECT_EQ(world.said, "2");
    world.frontend(VBD_SAYS_INITIALISED);
    EXPECT_EQ(world.said, "24");
    EXPECT_EQ(world.connected, world.rings);
}

TEST(VbdState, ConnectsWithoutHavingSeenInitialising)
{
    for (const unsigned ready : {VBD_SAYS_INITIALISED, VBD_SAYS_CONNECTED}) {
        World world;
        world.connect().close();
        world.frontend(ready);
        EXPECT_EQ(world.said, "24");
        EXPECT_EQ(world.facts.state, BLKTAP_CONNECTED);
    }
}

TEST(VbdState, WhatWasSaidWhileItDrainedCountsWhenItHasDrained)
{
    for (const auto& [now, said] :
         {std::pair{VBD_SAYS_INITIALISING, "2"}, {VBD_SAYS_INITIALISED, "24"},
          {VBD_SAYS_CONNECTED, "24"}, {VBD_SAYS_CLOSED, "6"}, {VBD_SAYS_NOTHING, "6"}}) {
        World world;
        world.connect();
        world.facts.idle = false;
        world.frontend(VBD_SAYS_CLOSING).frontend(VBD_SAYS_CLOSED).frontend(now);
        EXPECT_EQ(world.said, "5") << now;
        world.facts.idle = true;
        world.settle();
        EXPECT_EQ(world.said, std::string("5") + said) << now;
    }
}

TEST(VbdState, AFrontendThatCameBackUnseenHasNewRings)
{
    for (const unsigned back : {VBD_SAYS_INITIALISING, VBD_SAYS_INITIALISED}) {
        World world;
        world.connect();
        world.rings++;
        world.frontend(back).frontend(VBD_SAYS_INITIALISED);
        EXPECT_EQ(world.said, "24") << back;
        EXPECT_EQ(world.connected, world.rings) << back;
    }
    // Closing was seen, Closed was not.
    World world;
    world.connect().frontend(VBD_SAYS_CLOSING);
    world.rings++;
    world.frontend(VBD_SAYS_CONNECTED);
    EXPECT_EQ(world.said, "524");
    EXPECT_EQ(world.connected, world.rings);
}

TEST(VbdState, InitialisedStaysWhatItIsUntilTheFrontendFollows)
{
    World world;
    world.frontend(VBD_SAYS_INITIALISING).frontend(VBD_SAYS_INITIALISED);
    world.said.clear();
    world.settle().frontend(VBD_SAYS_INITIALISED).frontend(VBD_SAYS_CONNECTED).settle();
    EXPECT_EQ(world.said, "");
    EXPECT_EQ(world.facts.state, BLKTAP_CONNECTED);
}

TEST(VbdState, WaitsForATapdisk)
{
    World world;
    world.facts.served = false;
    world.frontend(VBD_SAYS_INITIALISED);
    EXPECT_EQ(world.facts.state, BLKTAP_INITWAIT);
    world.facts.served = true;
    world.settle();
    EXPECT_EQ(world.said, "4");
}

TEST(VbdState, BadKeysAreRefusedOnceAndMayBeMended)
{
    World world;
    world.good_keys = false;
    world.frontend(VBD_SAYS_INITIALISED).frontend(VBD_SAYS_INITIALISED).settle();
    EXPECT_EQ(world.said, "5") << "tried again although nothing is different";
    world.good_keys = true;
    for (const unsigned back : {VBD_SAYS_CLOSING, VBD_SAYS_CLOSED, VBD_SAYS_INITIALISING}) {
        World mended = world;
        mended.frontend(back).frontend(VBD_SAYS_INITIALISED);
        EXPECT_EQ(mended.facts.state, BLKTAP_CONNECTED) << back;
    }
}

TEST(VbdState, ALiarIsCutOffAndMayComeBack)
{
    World world;
    world.connect();
    world.facts.lied = true;
    world.settle().frontend(VBD_SAYS_CONNECTED);
    EXPECT_EQ(world.said, "5");
    world.frontend(VBD_SAYS_CLOSED).frontend(VBD_SAYS_INITIALISED);
    EXPECT_EQ(world.said, "5624");
}

TEST(VbdState, ADiskThatIsTakenAwayIsNotConnectedAnyMore)
{
    World waiting;
    waiting.facts.online = false;
    waiting.frontend(VBD_SAYS_INITIALISED);
    EXPECT_EQ(waiting.said, "");
    waiting.frontend(VBD_SAYS_CLOSED);
    EXPECT_EQ(waiting.said, "6");
    EXPECT_TRUE(waiting.facts.retired);

    World connected;
    connected.connect();
    connected.facts.online = false;
    connected.settle();
    EXPECT_EQ(connected.said, "") << "the frontend may still have something to write";
    connected.close();
    EXPECT_TRUE(connected.facts.retired);
    connected.facts.online = true; // too late
    connected.frontend(VBD_SAYS_INITIALISING).frontend(VBD_SAYS_INITIALISED);
    EXPECT_EQ(connected.facts.state, BLKTAP_CLOSED);
    EXPECT_EQ(connected.said, "");
}

// As Windows' driver does when it starts.
TEST(VbdState, AFrontendMayCloseBeforeItConnects)
{
    World world;
    for (const unsigned state : {VBD_SAYS_CLOSING, VBD_SAYS_CLOSED, VBD_SAYS_INITIALISING,
                                 VBD_SAYS_INITIALISED, VBD_SAYS_CONNECTED})
        world.frontend(state);
    EXPECT_EQ(world.said, "5624");
}

TEST(VbdState, StatesThatNobodyKnowsChangeNothing)
{
    for (const unsigned odd : {2u, 7u, 8u, 9999u, 0xffffffffu}) {
        World world;
        world.connect().frontend(odd);
        EXPECT_EQ(world.facts.state, BLKTAP_CONNECTED) << odd;
        world.facts = World().facts;
        world.frontend(odd);
        EXPECT_EQ(world.facts.state, BLKTAP_INITWAIT) << odd;
    }
}

constexpr std::array kStates{BLKTAP_INITWAIT, BLKTAP_CONNECTED, BLKTAP_CLOSING, BLKTAP_CLOSED,
                             BLKTAP_ERROR};

// Whatever is true, it comes to rest; and there, the states of both ends fit each other.
TEST(VbdState, ComesToRestFromEverywhere)
{
    for (unsigned facts = 0; facts < 5u << 13; facts++) {
        World world;
        unsigned left = facts;
        const auto take = [&](unsigned n) { return std::exchange(left, left / n) % n; };
        world.facts.met = take(2);
        world.facts.online = take(2);
        world.facts.retired = take(2);
        world.facts.served = take(2);
        world.facts.idle = take(2);
        world.facts.lied = take(2);
        world.good_keys = take(2);
        world.facts.said = take(8);
        world.facts.frontend = take(8);
        world.facts.state = kStates[left];
        world.rings = 1;
        const vbd_facts from = world.facts;
        world.settle();
        const vbd_facts& at = world.facts;
        const bool comes = vbd_frontend_comes(&at);
        SCOPED_TRACE(facts);
        EXPECT_TRUE(at.state != BLKTAP_CLOSING || !at.idle);
        EXPECT_TRUE(!vbd_frontend_is_away(&at) || at.state == BLKTAP_CLOSING ||
                    (at.state == BLKTAP_CLOSED && at.said == VBD_SAYS_CLOSED));
        EXPECT_TRUE(at.state != BLKTAP_CLOSED || at.retired || !comes) << "it is not heard";
        EXPECT_TRUE(at.state != BLKTAP_INITWAIT || !at.served || !at.online || !comes ||
                    at.frontend == VBD_SAYS_INITIALISING)
            << "it is ready, and not connected";
        EXPECT_TRUE(from.state != BLKTAP_CLOSED || !from.retired || at.state == BLKTAP_CLOSED)
            << "brought back";
        if (testing::Test::HasFailure())
            return;
    }
}

// A frontend says this and that, often without waiting, while I/O drags on and the toolstack and
// tapdisk come and go; the back end looks when it gets to it. Where the frontend then stays counts.
void walk(std::uint64_t seed)
{
    std::mt19937_64 random(seed);
    const auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
    World world;
    for (int i = 0; i < 200; i++) {
        switch (below(10)) {
        case 0: world.facts.idle = world.facts.state != BLKTAP_CONNECTED || below(2); break;
        case 1: world.facts.served = below(2); break;
        case 2: world.facts.lied = world.facts.state == BLKTAP_CONNECTED && below(8) == 0; break;
        case 3: world.good_keys = below(4); break;
        case 4: case 5: world.step(); break; // one look, no more
        case 6: world.settle(); break;
        default:
            world.facts.frontend = below(9);
            world.rings += world.facts.frontend == VBD_SAYS_INITIALISING;
        }
        if (world.facts.state == BLKTAP_CLOSING && below(4) == 0)
            world.facts.idle = true;
    }
    // It gives up, and starts once more, and waits for nothing that does not come.
    world.good_keys = world.facts.served = world.facts.idle = true;
    world.facts.lied = false;
    world.facts.frontend = below(2) ? VBD_SAYS_CLOSED : VBD_SAYS_INITIALISING;
    if (below(2))
        world.step();
    else
        world.settle();
    world.rings++;
    world.frontend(VBD_SAYS_INITIALISING);
    EXPECT_EQ(world.facts.state, BLKTAP_INITWAIT);
    EXPECT_EQ(world.facts.said, VBD_SAYS_INITWAIT);
    world.frontend(VBD_SAYS_INITIALISED);
    EXPECT_EQ(world.facts.state, BLKTAP_CONNECTED);
    EXPECT_EQ(world.connected, world.rings) << "other rings than the frontend's";
}

TEST(VbdState, NoFrontendThatComesIsForgotten)
{
    for (std::uint64_t seed = 1; seed <= 5000 && !testing::Test::HasFailure(); seed++) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        walk(seed);
    }
}

} // namespace
