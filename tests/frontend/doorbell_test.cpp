// SPDX-License-Identifier: GPL-2.0-only
//
// A tapdisk that sleeps in the doorbell: nothing that it waits for is missed,
// whatever else it may do there.

#include "tests/frontend/bad_tapdisk.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <future>
#include <thread>

using namespace std::chrono_literals;

namespace {

constexpr unsigned kWait = BLKTAP_RUN_ARM | BLKTAP_RUN_WAIT;

// A thread that rings and sleeps, and is woken at the end if nothing else has.
class Sleeper {
public:
    explicit Sleeper(const Seat& seat)
        : seat_(seat), result_(done_.get_future()), thread_([this] {
              done_.set_value(seat_.run(kWait));
          })
    {
    }
    ~Sleeper()
    {
        if (result_.valid() && sleeps())
            seat_.wake();
        thread_.join();
    }
    Sleeper(const Sleeper&) = delete;
    Sleeper& operator=(const Sleeper&) = delete;

    bool sleeps() { return result_.wait_for(300ms) == std::future_status::timeout; }
    // What run() has said; nothing if it still sleeps.
    std::optional<int> result()
    {
        if (result_.wait_for(10s) != std::future_status::ready)
            return std::nullopt;
        return result_.get();
    }
    void interrupt() { pthread_kill(thread_.native_handle(), SIGUSR1); }

private:
    const Seat& seat_;
    std::promise<int> done_;
    std::future<int> result_;
    std::thread thread_;
};

class TapdiskDoorbell : public BadTapdisk {
protected:
    void SetUp() override
    {
        BadTapdisk::SetUp();
        // What has happened until now is a reason not to sleep.
        while (seat->wait(100ms))
            ASSERT_EQ(seat->run(), 0);
    }
};

TEST_F(TapdiskDoorbell, SleepsUntilTheGuestAsks)
{
    Sleeper sleeper(*seat);
    EXPECT_TRUE(sleeper.sleeps());
    frontend.put(request(BLKIF_OP_READ, 8, pages, 0, 1));
    frontend.push();
    EXPECT_EQ(sleeper.result(), 1);
    const auto req = seat->announced();
    ASSERT_TRUE(req);
    EXPECT_GE(seat->answer(*req), 0);
    EXPECT_TRUE(frontend.wait());
}

TEST_F(TapdiskDoorbell, AnswersTheGuestBeforeItSleeps)
{
    seat->put(answer_to(ask()));
    Sleeper sleeper(*seat);
    EXPECT_TRUE(frontend.wait());
    EXPECT_TRUE(sleeper.sleeps());
}

TEST_F(TapdiskDoorbell, DoesNotSleepWhenThereIsSomething)
{
    frontend.put(request(BLKIF_OP_READ, 8, pages, 0, 1));
    frontend.push();
    EXPECT_EQ(seat->run(kWait), 1);
    expect_in_order();
}

TEST_F(TapdiskDoorbell, IsWoken)
{
    Sleeper sleeper(*seat);
    EXPECT_TRUE(sleeper.sleeps());
    EXPECT_EQ(seat->wake(), 0);
    EXPECT_EQ(sleeper.result(), 0);
    expect_in_order();
}

TEST_F(TapdiskDoorbell, IsWokenBeforeItSleeps)
{
    EXPECT_EQ(seat->wake(), 0);
    EXPECT_TRUE(seat->wait(0ms) & POLLIN);
    EXPECT_EQ(Sleeper(*seat).result(), 0);
    EXPECT_TRUE(Sleeper(*seat).sleeps()) << "woken twice by one call";
}

TEST_F(TapdiskDoorbell, IsToldThatTheVbdIsGone)
{
    Sleeper sleeper(*seat);
    EXPECT_TRUE(sleeper.sleeps());
    vbd.destroy();
    EXPECT_EQ(sleeper.result(), -ENODEV);
}

TEST_F(TapdiskDoorbell, LeavesForASignal)
{
    struct sigaction action {};
    struct sigaction before {};
    action.sa_handler = [](int) {};
    sigaction(SIGUSR1, &action, &before);
    {
        Sleeper sleeper(*seat);
        EXPECT_TRUE(sleeper.sleeps());
        sleeper.interrupt();
        EXPECT_EQ(sleeper.result(), -EINTR);
    }
    sigaction(SIGUSR1, &before, nullptr);
    expect_in_order();
}

TEST_F(TapdiskDoorbell, IsRefusedWhereItCouldNotEnd)
{
    EXPECT_EQ(seat->run(BLKTAP_RUN_WAIT), -EINVAL);
    EXPECT_EQ(seat->run(BLKTAP_RUN_WAIT | BLKTAP_RUN_HOLD), -EINVAL);
    EXPECT_EQ(seat->run(kWait | BLKTAP_RUN_HOLD), -EINVAL);
    const int stranger = open(vbd.node().c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_GE(stranger, 0);
    errno = 0;
    EXPECT_EQ(ioctl(stranger, BLKTAP_IOC_WAKE), -1);
    EXPECT_EQ(errno, ENXIO);
    close(stranger);
    expect_in_order();
}

// Whose ring the module watches before it sleeps.
TEST(WatchingTapdisk, IsWokenByWhatComesAfterWhatWasFound)
{
    Vbd vbd({});
    blktap_attach attach = attach_to(Seat::kSectors);
    attach.poll_us = 1000;
    Seat seat(vbd.node(), attach);
    Frontend frontend(vbd);
    xen::Pages pages(1, xen::Pages::Access::read_write);
    ASSERT_TRUE(frontend.connect()) << vbd.error();
    const auto ask = [&] {
        frontend.put(request(BLKIF_OP_READ, 8, pages, 0, 1));
        frontend.push();
    };
    for (int round = 0; round < 20; round++) {
        while (seat.wait(20ms))
            ASSERT_EQ(seat.run(), 0);
        ask();
        ASSERT_EQ(seat.run(kWait), 1);
        EXPECT_EQ(seat.wait(20ms), 0) << "there is nothing more";
        ask();
        EXPECT_EQ(seat.wait(10s), POLLIN);
        EXPECT_EQ(seat.run(), 1);
        while (const auto req = seat.announced())
            EXPECT_GE(seat.answer(*req), 0);
        EXPECT_TRUE(frontend.wait() && frontend.wait());
    }
}

} // namespace
