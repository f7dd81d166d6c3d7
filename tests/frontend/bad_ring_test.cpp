// SPDX-License-Identifier: GPL-2.0-only
//
// A guest that lies about its ring, in the ring or in xenstore: that ends this
// vbd, is said once, and disturbs no other.

#include "tests/frontend/disk.hpp"

#include <gtest/gtest.h>
#include <poll.h>

#include <cstdlib>
#include <random>
#include <utility>

using namespace std::chrono_literals;
using Access = xen::Pages::Access;

namespace {

class BadRing : public testing::Test {
protected:
    // A neighbour, whom nothing of this may disturb.
    static void SetUpTestSuite()
    {
        other = new Disk({.sectors = 1024});
        neighbour = new Frontend(other->vbd());
        ASSERT_TRUE(neighbour->connect());
    }
    static void TearDownTestSuite()
    {
        delete std::exchange(neighbour, nullptr);
        delete std::exchange(other, nullptr);
    }
    void TearDown() override
    {
        EXPECT_EQ(other->vbd().state(), kConnected);
        expect_alive(*neighbour);
    }

    // The vbd gives up, says it once, and its neighbour does not notice.
    void expect_end_of(Disk& disk)
    {
        EXPECT_TRUE(disk.vbd().wait_for(kClosing)) << "state " << disk.vbd().state();
        EXPECT_TRUE(eventually(5s, [&] { return disk.vbd().attribute("state") == "error"; }))
            << disk.vbd().attribute("state");
        EXPECT_NE(disk.vbd().error(), "");
        expect_alive(*neighbour);
    }

    static inline Disk* other;
    static inline Frontend* neighbour;
};

// A vbd that gave up comes back when its frontend starts afresh, so one serves a whole suite.
class BadVictim : public BadRing {
protected:
    static void SetUpTestSuite()
    {
        BadRing::SetUpTestSuite();
        disk = new Disk({.sectors = 1024});
    }
    static void TearDownTestSuite()
    {
        delete std::exchange(disk, nullptr);
        BadRing::TearDownTestSuite();
    }
    // Leaves the vbd as a new one.
    void close(Frontend& frontend)
    {
        EXPECT_TRUE(frontend.close());
        disk->vbd().set_frontend_state(kInitialising);
        EXPECT_TRUE(disk->vbd().wait_for(kInitWait)) << disk->vbd().state();
        disk->vbd().forget_error();
    }

    static inline Disk* disk;
};

class BadIndex : public BadVictim, public testing::WithParamInterface<std::int64_t> {};

INSTANTIATE_TEST_SUITE_P(Each, BadIndex,
                         testing::Values(33, 64, 1 << 20, 0x7fffffff, 0x80000000, -1, -32),
                         [](const auto& info) {
                             return (info.param < 0 ? "Back" : "Ahead") +
                                    std::to_string(std::abs(info.param));
                         });

TEST_P(BadIndex, EndsTheVbdAndNoOther)
{
    Frontend frontend(disk->vbd());
    ASSERT_TRUE(frontend.connect());
    expect_alive(frontend);
    const Counters before = disk->vbd().counters();
    const int said = kernel_log_lines(disk->vbd().name().substr(4)); // either spelling of the name
    frontend.ring()->req_prod = frontend.produced() + static_cast<std::uint32_t>(GetParam());
    for (int i = 0; i < 10; i++)
        frontend.channel().notify();
    expect_end_of(*disk);
    expect_trouble(before, disk->vbd().counters(), {{"lying_producer", 1}});
    EXPECT_EQ(kernel_log_lines(disk->vbd().name().substr(4)) - said, 1);
    close(frontend);
}

TEST_F(BadRing, OverwritesRequestsThatHaveNoResponse)
{
    Vbd vbd({});
    Seat seat(vbd.node()); // announces, never answers
    Frontend frontend(vbd);
    ASSERT_TRUE(frontend.connect());
    xen::Pages pages(1, Access::read_write);
    for (int i = 0; i < 32; i++)
        frontend.put(request(BLKIF_OP_READ, 0, pages, 0, 1));
    frontend.push();
    ASSERT_TRUE(seat.next());
    frontend.ring()->req_prod = frontend.produced() + 1; // within the ring, but not free
    frontend.channel().notify();
    seat.run();
    EXPECT_TRUE(vbd.wait_for(kClosing));
    EXPECT_EQ(vbd.counters().at("lying_producer"), 1u);
}

TEST_F(BadRing, ComesBackAfterItsLie)
{
    Disk disk({.sectors = 1024});
    Frontend frontend(disk.vbd());
    ASSERT_TRUE(frontend.connect());
    frontend.ring()->req_prod += 1000;
    frontend.channel().notify();
    expect_end_of(disk);
    ASSERT_TRUE(frontend.reopen()) << "state " << disk.vbd().state();
    expect_alive(frontend);
}

TEST_F(BadRing, TakesItsRingPageBackWhileItIsConnected)
{
    Disk disk({.sectors = 1024});
    Frontend frontend(disk.vbd());
    ASSERT_TRUE(frontend.connect());
    expect_alive(frontend);
    frontend.drop_ring_page();
    frontend.channel().notify();
    expect_alive(*neighbour);
    // Taken away by the fixture's rules: nothing hangs, nothing is left.
}

// --- lies in xenstore ----------------------------------------------------------------------------

struct BadKey {
    const char* name;
    const char* key;
    const char* value;
};

const BadKey kBadKeys[] = {
    {"RingOfNothing", "ring-ref", "2147483632"},
    {"RingZero", "ring-ref", "0"},
    {"RingNotANumber", "ring-ref", "page"},
    {"RingEmpty", "ring-ref", ""},
    {"ChannelOfNobody", "event-channel", "4000"},
    {"ChannelZero", "event-channel", "0"},
    {"ChannelNotANumber", "event-channel", "bell"},
    {"ChannelTooLarge", "event-channel", "4294967295"},
    {"UnknownProtocol", "protocol", "sparc-abi"},
    {"MoreQueuesThanOffered", "multi-queue-num-queues", "17"},
    {"NoQueues", "multi-queue-num-queues", "0"},
    {"LargerRingThanOffered", "ring-page-order", "5"},
};

void PrintTo(const BadKey& bad, std::ostream* out)
{
    *out << bad.name;
}

class BadKeys : public BadVictim, public testing::WithParamInterface<BadKey> {};

INSTANTIATE_TEST_SUITE_P(Each, BadKeys, testing::ValuesIn(kBadKeys),
                         [](const auto& info) { return info.param.name; });

TEST_P(BadKeys, AreRefusedAndMayBeMended)
{
    Frontend frontend(disk->vbd());
    auto keys = frontend.keys();
    std::erase_if(keys, [](const auto& key) { return key.first == GetParam().key; });
    keys.emplace_back(GetParam().key, GetParam().value);
    frontend.announce(keys);
    expect_end_of(*disk);

    disk->vbd().store().remove(disk->vbd().frontend_key(GetParam().key));
    ASSERT_TRUE(frontend.reopen()) << "state " << disk->vbd().state();
    expect_alive(frontend);
    close(frontend);
}

// What was mapped of it is given back: the case looks at Xen's list of what is mapped.
TEST_F(BadVictim, HasARingOfWhichOnePageIsNothing)
{
    for (const char* missing : {"ring-ref0", "ring-ref1", "ring-ref3"}) {
        Frontend frontend(disk->vbd(), Shape{.order = 2});
        auto keys = frontend.keys();
        for (auto& [key, value] : keys)
            if (key == missing)
                value = "2147483632";
        frontend.announce(keys);
        expect_end_of(*disk);
        close(frontend);
        disk->vbd().forget_frontend_keys();
    }
}

TEST_F(BadRing, GoesToInitialisedWithoutAnyKeys)
{
    Disk disk({.sectors = 1024});
    Frontend frontend(disk.vbd());
    frontend.announce({});
    expect_end_of(disk);
}

TEST_F(BadRing, StartsWithIndicesThatCannotBe)
{
    Disk disk({.sectors = 1024});
    Frontend frontend(disk.vbd());
    frontend.ring()->req_prod = 100;
    frontend.announce(frontend.keys());
    expect_end_of(disk);
}

TEST_F(BadRing, JumpsBetweenStates)
{
    Disk disk({.sectors = 1024});
    std::mt19937 random(17);
    {
        Frontend frontend(disk.vbd());
        for (int i = 0; i < 100; i++) {
            if (random() % 3 == 0)
                frontend.announce(frontend.keys());
            disk.vbd().set_frontend_state(static_cast<State>(random() % 9));
        }
        disk.vbd().set_frontend_state(kClosed);
        EXPECT_TRUE(eventually(10s, [&] { return disk.vbd().attribute("state") == "closed"; }))
            << disk.vbd().attribute("state");
    }
    Frontend frontend(disk.vbd());
    disk.vbd().set_frontend_state(kInitialising);
    ASSERT_TRUE(disk.vbd().wait_for(kInitWait)) << disk.vbd().state();
    ASSERT_TRUE(frontend.connect()) << disk.vbd().state();
    expect_alive(frontend);
}

TEST_F(BadRing, RemovesItsOwnDirectory)
{
    Disk disk({.sectors = 1024});
    Frontend frontend(disk.vbd());
    ASSERT_TRUE(frontend.connect());
    disk.vbd().store().remove(disk.vbd().frontend_key("state"));
    EXPECT_TRUE(eventually(10s, [&] { return disk.vbd().attribute("state") != "connected"; }));
}

TEST_F(BadRing, IsDestroyedWithTheRingFull)
{
    Vbd vbd({});
    Seat seat(vbd.node());
    Frontend frontend(vbd);
    ASSERT_TRUE(frontend.connect());
    xen::Pages pages(32 * 11, Access::read_write);
    for (std::uint32_t i = 0; i < 32; i++)
        frontend.put(request(BLKIF_OP_READ, i * 88, pages, i * 11, 11));
    frontend.push();
    ASSERT_TRUE(seat.next());
    vbd.destroy();
    EXPECT_TRUE(eventually(10s, [&] { return vbd.gone(); }));
    EXPECT_TRUE(seat.wait(1s) & POLLHUP) << "tapdisk is not told";
}

} // namespace
