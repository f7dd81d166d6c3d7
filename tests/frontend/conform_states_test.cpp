// SPDX-License-Identifier: GPL-2.0-only
//
// Walks through the state machine: frontends that close, come back in another shape, or vanish,
// idle and under load.

#include "tests/frontend/conform_load.hpp"

#include <algorithm>

using namespace std::chrono_literals;
using Access = xen::Pages::Access;

namespace {

class ConformStates : public Conform {
protected:
    // A write and a read on every queue.
    void expect_all_alive()
    {
        static std::uint64_t seed = 9000;
        for (std::size_t i = 0; i < frontend().queues(); i++) {
            xen::Pages page(1, Access::read_write);
            fill(page.all(), ++seed);
            Queue& queue = frontend().queue(i);
            ASSERT_EQ(queue.run(request(BLKIF_OP_WRITE, i * 8, page, 0, 1)), BLKIF_RSP_OKAY);
            std::ranges::fill(page.all(), 0);
            ASSERT_EQ(queue.run(request(BLKIF_OP_READ, i * 8, page, 0, 1)), BLKIF_RSP_OKAY);
            ASSERT_TRUE(std::ranges::equal(page.all(), pattern(seed, 4096)));
        }
    }

    // All that this back end can be asked for, and back to the first.
    std::vector<Shape> shapes()
    {
        const unsigned order = offers().ring_order, queues = offers().queues;
        return {{},
                {.order = order},
                {.queues = queues},
                {.order = order, .queues = queues},
                {.abi = guest::Abi::x86_32, .order = order / 2},
                {.order = std::min(order, 1u), .queues = queues, .persistent = true},
                {.abi = guest::Abi::x86_64},
                {.persistent = true},
                {}};
    }
};

TEST_F(ConformStates, ReopensInEveryOtherShape)
{
    connect();
    for (const Shape& shape : shapes()) {
        ASSERT_TRUE(frontend().reopen(shape))
            << "order " << shape.order << ", " << shape.queues << " queues; state "
            << vbd().state() << " " << vbd().error();
        expect_all_alive();
    }
}

TEST_F(ConformStates, ReopensUnderLoad)
{
    connect();
    const auto deviation = known_deviation(
        Backend::blkback, "stays in Closing if I/O is under way when the frontend has closed");
    std::uint64_t seed = 1;
    for (const Shape& shape : shapes()) {
        {
            Load load(disk(), frontend(), {.seed = seed++});
            load.start();
            for (std::uint64_t i = 0; i < seed * 3; i++)
                frontend().wait_any(); // some are answered, most are not
            ASSERT_TRUE(frontend().reopen(shape)) << "state " << vbd().state() << " "
                                                  << vbd().error();
        }
        expect_all_alive();
    }
    Load load(disk(), frontend(), {.seed = seed});
    ASSERT_TRUE(load.run(100));
    load.check_medium();
}

TEST_F(ConformStates, ClosesWithTheRingsFull)
{
    NOT_RUN_ON(Backend::qdisk, "its QEMU serves no disk any more afterwards");
    connect({.order = offers().ring_order, .queues = offers().queues});
    Load load(disk(), frontend(), {.seed = 50});
    load.start();
    ASSERT_TRUE(frontend().reopen());
    expect_all_alive();
}

// Without Closing: as a guest that panics and is started again by kexec.
TEST_F(ConformStates, ClosesWithoutAnnouncement)
{
    NOT_RUN_ON(Backend::qdisk, "its QEMU may serve no disk any more afterwards");
    connect({.queues = offers().queues});
    Load load(disk(), frontend(), {.seed = 51});
    load.start();
    vbd().set_frontend_state(kClosed);
    ASSERT_TRUE(vbd().wait_for(kClosed));
    vbd().set_frontend_state(kInitialising);
    ASSERT_TRUE(vbd().wait_for(kInitWait));
    ASSERT_TRUE(connect().close());
    vbd().set_frontend_state(kInitialising);
    ASSERT_TRUE(vbd().wait_for(kInitWait));
    connect();
    expect_all_alive();
}

TEST_F(ConformStates, RequestsMayWaitBeforeItConnects)
{
    prepare({.order = offers().ring_order, .queues = offers().queues});
    Frontend& early = frontend();
    xen::Pages page(1, Access::read_write);
    for (std::size_t i = 0; i < early.queues(); i++) {
        for (int n = 0; n < 5; n++)
            early.queue(i).put(request(BLKIF_OP_READ, 8, page, 0, 1));
        early.queue(i).push();
    }
    ASSERT_TRUE(early.connect());
    for (std::size_t i = 0; i < early.queues(); i++)
        EXPECT_EQ(early.queue(i).wait_all().size(), 5u) << "queue " << i;
    expect_all_alive();
}

TEST_F(ConformStates, VanishesUnderLoad)
{
    NOT_RUN_ON(Backend::qdisk, "its QEMU serves no disk any more afterwards");
    Disk other({.sectors = 1024});
    Frontend neighbour(other.vbd(), Shape{});
    ASSERT_TRUE(neighbour.connect());
    for (const bool large : {false, true}) {
        connect(large ? Shape{.order = offers().ring_order, .queues = offers().queues} : Shape{});
        Load load(disk(), frontend(), {.seed = 52});
        load.start();
        vbd().destroy_frontend();
        expect_alive(neighbour);
        // Then the toolstack clears up after the guest.
        vbd().destroy();
        EXPECT_TRUE(eventually(10s, [&] { return vbd().gone(); })) << "still there";
        give_up_disk();
        expect_alive(neighbour);
        SetUp(); // a new disk
    }
}

TEST_F(ConformStates, IsDetachedUnderLoad)
{
    NOT_RUN_ON(Backend::qdisk, "its QEMU serves no disk any more afterwards");
    connect({.order = offers().ring_order, .queues = offers().queues});
    Load load(disk(), frontend(), {.seed = 53});
    load.start();
    EXPECT_TRUE(vbd().close()) << "state " << vbd().state();
    vbd().destroy();
    EXPECT_TRUE(eventually(10s, [&] { return vbd().gone(); })) << "still there";
    give_up_disk();
}

} // namespace
