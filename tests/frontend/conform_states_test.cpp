// SPDX-License-Identifier: GPL-2.0-only
//
// Walks through the state machine: frontends that close, come back in another shape, or vanish,
// idle and under load.

#include "tests/frontend/conform_load.hpp"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

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

// What a back end reads of a frontend that is quick, or whose boot loader has left the start to the
// next stage: it was Closed, and now it is ready.
TEST_F(ConformStates, ComesBackWithoutBeingSeenInInitialising)
{
    connect();
    for (const auto& states : {std::vector{kInitialised}, {kInitialising, kInitialised},
                               {kConnected}, {kInitialising, kConnected}}) {
        ASSERT_TRUE(frontend().close());
        ASSERT_TRUE(frontend().come_back(states))
            << "state " << vbd().state() << " " << vbd().error();
        expect_all_alive();
    }
}

// Attaches and detaches a vbd of its own again and again: the back end's host is busy.
class Bustle {
public:
    explicit Bustle(Backend backend) : thread_([this, backend] { run(backend); }) {}
    ~Bustle()
    {
        stop_ = true;
        thread_.join();
        EXPECT_GT(rounds_, 0) << "nothing came or went";
    }
    Bustle(const Bustle&) = delete;
    Bustle& operator=(const Bustle&) = delete;

private:
    void run(Backend backend)
    {
        try {
            while (!stop_) {
                const Vbd vbd({.backend = backend});
                rounds_++;
            }
        } catch (const std::runtime_error& error) {
            ADD_FAILURE() << error.what();
        }
    }

    std::atomic<bool> stop_ = false;
    std::atomic<int> rounds_ = 0;
    std::thread thread_;
};

TEST_F(ConformStates, ComesBackInAHurryWhileOthersComeAndGo)
{
    NOT_RUN_ON(Backend::qdisk, "a disk of its own, without an image, is none that it takes");
    connect();
    const Bustle bustle(settings.backend);
    for (int round = 0; round < 200; round++) {
        ASSERT_TRUE(frontend().close()) << "round " << round << ", state " << vbd().state();
        vbd().set_frontend_state(kInitialising);
        ASSERT_TRUE(frontend().come_back({kInitialised}))
            << "round " << round << ", state " << vbd().state() << " " << vbd().error();
        if (round % 20 == 0)
            expect_all_alive();
    }
}

// A kernel that dumps after a crash waits only so long for storage that is slow.
TEST_F(ConformStates, ComesBackWhileItsOldRequestsStillEnd)
{
    if (settings.slow_device.empty())
        GTEST_SKIP() << "no --slow-device";
    Disk slow({.device = settings.slow_device});
    const Vbd& vbd = slow.vbd();
    for (const bool waits : {true, false}) {
        xen::Pages pages(4, Access::read_only);
        Frontend old(vbd, Shape{});
        ASSERT_TRUE(old.connect()) << vbd.error();
        for (std::size_t i = 0; i < pages.count(); i++)
            old.put(request(BLKIF_OP_WRITE, i * 8, pages, i, 1));
        old.push();
        std::this_thread::sleep_for(200ms);
        vbd.set_frontend_state(kClosing);
        ASSERT_TRUE(vbd.wait_for(kClosing));
        vbd.set_frontend_state(kClosed);
        std::this_thread::sleep_for(100ms);
        vbd.set_frontend_state(kInitialising);
        std::this_thread::sleep_for(100ms);
        ASSERT_EQ(vbd.state(), kClosing) << "it has drained already: this proves nothing";
        if (waits) {
            ASSERT_TRUE(vbd.wait_for(kInitWait, 20s)) << "state " << vbd.state();
        }
        Frontend next(vbd, Shape{});
        ASSERT_TRUE(next.connect()) << "state " << vbd.state() << " " << vbd.error();
        expect_alive(next);
        ASSERT_TRUE(next.close());
        vbd.set_frontend_state(kInitialising);
        ASSERT_TRUE(vbd.wait_for(kInitWait));
    }
}

TEST_F(ConformStates, IsNotConnectedAnyMoreOnceItIsTakenAway)
{
    NOT_RUN_ON(Backend::qdisk, "it takes its directory away by itself");
    Disk other({.sectors = 1024});
    Frontend guest(other.vbd(), Shape{});
    ASSERT_TRUE(guest.connect());
    other.vbd().store().write({{other.vbd().backend_key("online"), "0"}});
    expect_alive(guest);
    ASSERT_TRUE(guest.close());
    other.vbd().set_frontend_state(kInitialising);
    guest.announce(guest.keys());
    std::this_thread::sleep_for(500ms);
    EXPECT_EQ(other.vbd().state(), kClosed);
}

} // namespace
