// SPDX-License-Identifier: GPL-2.0-only
//
// A tapdisk that forks, leaves, or dies at the worst moment.

#include "tests/frontend/bad_tapdisk.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <limits>
#include <system_error>

using namespace std::chrono_literals;

namespace {

TEST_F(BadTapdisk, GivesItsChildrenNothing)
{
    const blktap_req req = ask();
    std::uint8_t* page = seat->page(req, 0);
    *page = 0x55;
    EXPECT_EQ(in_child([&] { return signal_of_read(page); }), SIGSEGV);
    EXPECT_EQ(in_child([&] { return seat->run() == -EPERM ? 0 : 1; }), 0);

    // WIPEONFORK gives a child a page of zeros at most; the guest's it must not be.
    madvise(seat->window(true), seat->window_bytes(), MADV_DOFORK);
    EXPECT_NE(in_child([&] {
                  volatile std::uint8_t byte = 0;
                  const int number = signal_of([&] { byte = *page; });
                  return number ? 0 : byte;
              }),
              0x55);
    madvise(seat->window(true), seat->window_bytes(), MADV_KEEPONFORK);
    EXPECT_NE(in_child([&] {
                  volatile std::uint8_t byte = 0;
                  const int number = signal_of([&] { byte = *page; });
                  return number ? 0 : byte;
              }),
              0x55);
    in_child([&] { return signal_of_write(page); });
    EXPECT_EQ(pages.page(0)[0], 0x55);
    *page = 0x56;
    EXPECT_EQ(pages.page(0)[0], 0x56);
    seat->answer(req);
    ASSERT_TRUE(frontend.wait());
    expect_in_order();
}

TEST_F(BadTapdisk, LeavesWithRequestsInHand)
{
    for (int i = 0; i < 10; i++) {
        ask();
        seat.reset();
        const auto response = frontend.wait();
        ASSERT_TRUE(response) << "the guest waits for a process that is gone";
        EXPECT_EQ(response->status, BLKIF_RSP_ERROR);
        EXPECT_EQ(vbd.attribute("attached"), "0");
        seat.emplace(vbd.node());
        expect_in_order();
    }
    EXPECT_EQ(vbd.attribute("generation"), "11");
}

// /proc/PID/clear_refs changes page table entries, and no notifier tells of it.
TEST_F(BadTapdisk, ClearsReferencesOfItsMemory)
{
    const blktap_req req = ask();
    *seat->page(req, 0) = 0x57;
    for (const char* what : {"1", "3", "4"})
        std::ofstream("/proc/self/clear_refs") << what << std::flush;
    *seat->page(req, 0) = 0x58;
    EXPECT_EQ(pages.page(0)[0], 0x58);
    seat->answer(req);
    ASSERT_TRUE(frontend.wait());
    expect_in_order();
}

TEST_F(BadTapdisk, UnmapsItsWindowsWithRequestsInHand)
{
    ask();
    seat->unmap_window(true);
    EXPECT_EQ(seat->run(), -EPERM);
    seat.reset();
    const auto response = frontend.wait();
    ASSERT_TRUE(response);
    EXPECT_EQ(response->status, BLKIF_RSP_ERROR);
}

TEST_F(BadTapdisk, PutsOtherMemoryWhereItsWindowsWere)
{
    const blktap_req req = ask();
    ASSERT_EQ(mmap(seat->window(true), seat->window_bytes(), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
              seat->window(true));
    std::memset(seat->page(req, 0), 0x99, 4096);
    EXPECT_EQ(std::ranges::count(pages.page(0), 0x11), 4096);
    EXPECT_EQ(seat->answer(req), -EPERM);
    seat.reset();
    ASSERT_TRUE(frontend.wait());
    seat.emplace(vbd.node());
    expect_in_order();
}

TEST_F(BadTapdisk, UnmapsItsWindowsWhileItsIoIsStillInFlight)
{
    Holder io;
    const blktap_req req = ask(BLKIF_OP_READ, 0, 2);
    ASSERT_EQ(io.hold(seat->page(req, 1), 4096), 4096);
    seat->unmap_window(true);
    seat->unmap_window(false);
    seat.reset();
    EXPECT_FALSE(frontend.wait(500ms)) << "the guest was answered while its page is in use";
    io.release();
    const auto response = frontend.wait();
    ASSERT_TRUE(response);
    EXPECT_EQ(response->status, BLKIF_RSP_ERROR);
}

// The order of completion: no answer while anything holds a page of the guest.
TEST_F(BadTapdisk, AnswersWhileItsIoIsStillInFlight)
{
    Holder io;
    const blktap_req req = ask(BLKIF_OP_WRITE, 0, 2);
    const Counters before = vbd.counters();
    ASSERT_EQ(io.hold(seat->page(req, 1), 4096), 4096);
    seat->answer(req);
    EXPECT_FALSE(frontend.wait(500ms)) << "the guest was answered while its page is in use";
    EXPECT_EQ(signal_of_read(seat->page(req, 0)), SIGBUS);
    expect_in_order(); // other slots pass
    // They do not wait for it again and again.
    for (int i = 0; i < 20; i++)
        seat->run();
    EXPECT_EQ(vbd.counters().at("busy_waits"), before.at("busy_waits") + 1);
    io.release();
    ASSERT_TRUE(frontend.wait());
    EXPECT_EQ(vbd.counters().at("kernel_map_ops"), vbd.counters().at("kernel_unmap_ops"));
}

// So many references, of buffers that it has registered for io_uring, that their count is negative.
TEST_F(BadTapdisk, HoldsAPageMoreOftenThanCanBeCounted)
{
    std::ofstream held("/sys/kernel/debug/blktap_test/references");
    if (!held)
        GTEST_SKIP() << "blktap_test.ko is not loaded";
    const blktap_req req = ask(BLKIF_OP_READ);
    held << std::hex << reinterpret_cast<std::uintptr_t>(seat->page(req, 0)) << std::dec << ' '
         << std::numeric_limits<int>::max() << std::flush;
    ASSERT_TRUE(held);
    seat->answer(req);
    EXPECT_FALSE(frontend.wait(500ms)) << "the guest was answered while its page is in use";
    held.close();
    ASSERT_TRUE(frontend.wait());
    EXPECT_EQ(vbd.counters().at("kernel_map_ops"), vbd.counters().at("kernel_unmap_ops"));
}

TEST_F(BadTapdisk, IsKilledWhileItsIoIsStillInFlight)
{
    seat.reset();
    Holder io;
    int told[2];
    ASSERT_EQ(pipe(told), 0);
    const pid_t child = fork();
    if (child == 0) {
        Seat rogue(vbd.node());
        const auto req = rogue.next(20s);
        char token = req && io.hold(rogue.page(*req, 0), 4096) == 4096;
        if (write(told[1], &token, 1) == 1)
            pause();
        _exit(1);
    }
    EXPECT_TRUE(eventually(10s, [&] { return vbd.attribute("attached") == "1"; }));
    frontend.put(request(BLKIF_OP_READ, 8, pages, 0, 1));
    frontend.push();
    char token = 0;
    ASSERT_EQ(read(told[0], &token, 1), 1);
    EXPECT_EQ(token, 1);
    close(told[0]);
    close(told[1]);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);

    EXPECT_TRUE(eventually(10s, [&] { return vbd.attribute("attached") == "0"; }));
    EXPECT_FALSE(frontend.wait(500ms)) << "the guest was answered while its page is in use";
    seat.emplace(vbd.node());
    expect_in_order();
    io.release();
    const auto response = frontend.wait();
    ASSERT_TRUE(response);
    EXPECT_EQ(response->status, BLKIF_RSP_ERROR);
}

TEST_F(BadTapdisk, HoldsAPageWhileTheVbdIsDestroyed)
{
    Holder io;
    const blktap_req req = ask();
    ASSERT_EQ(io.hold(seat->page(req, 0), 4096), 4096);
    const auto start = std::chrono::steady_clock::now();
    vbd.destroy();
    EXPECT_TRUE(eventually(15s, [&] { return vbd.gone(); }));
    EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
    EXPECT_EQ(signal_of_read(seat->page(req, 0)), 0) << "taken from a tapdisk that lives";
    EXPECT_TRUE(seat->wait(1s) & POLLHUP);
    EXPECT_EQ(seat->answer(req), -ENODEV);
    EXPECT_EQ(signal_of_read(seat->page(req, 0)), SIGBUS);
    seat.reset();
    io.release();
}

TEST_F(BadTapdisk, OutlivesItsVbd)
{
    const blktap_req req = ask();
    vbd.destroy();
    EXPECT_TRUE(eventually(10s, [&] { return vbd.gone(); }));
    EXPECT_EQ(seat->answer(req), -ENODEV);
    EXPECT_EQ(signal_of_read(seat->page(req, 0)), SIGBUS);
    EXPECT_THROW(Seat{vbd.node()}, std::system_error);
}

} // namespace
