// SPDX-License-Identifier: GPL-2.0-only
//
// A tapdisk that reaches for memory that it does not own.

#include "tests/frontend/bad_tapdisk.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

using Access = xen::Pages::Access;

namespace {

TEST_F(BadTapdisk, CannotWriteWhatTheModuleSays)
{
    const auto bytes = seat->attached().descriptors_bytes;
    EXPECT_EQ(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, seat->fd(),
                   BLKTAP_MAP_DESCRIPTORS),
              MAP_FAILED);
    EXPECT_EQ(mprotect(seat->descriptors(), bytes, PROT_READ | PROT_WRITE), -1);
    EXPECT_EQ(signal_of_write(seat->descriptors()), SIGSEGV);
    EXPECT_EQ(seat->head().magic, BLKTAP_MAGIC);
    expect_in_order();
}

TEST_F(BadTapdisk, CannotMapTheWindowsInOtherWays)
{
    const int fd = seat->fd();
    const std::size_t bytes = seat->window_bytes();
    const auto refused = [&](std::uint64_t area, std::size_t length, int protection, int flags) {
        void* at = mmap(nullptr, length, protection, flags, fd, static_cast<off_t>(area));
        if (at != MAP_FAILED)
            munmap(at, length);
        return at == MAP_FAILED;
    };
    EXPECT_TRUE(refused(BLKTAP_MAP_WINDOW_RW, bytes, PROT_READ, MAP_SHARED)) << "a second time";
    // Free both, or "a second time" would be the reason for all that follows.
    seat->unmap_window(true);
    seat->unmap_window(false);
    EXPECT_TRUE(refused(BLKTAP_MAP_WINDOW_RO, bytes, PROT_READ | PROT_WRITE, MAP_SHARED));
    EXPECT_TRUE(refused(BLKTAP_MAP_WINDOW_RW, bytes, PROT_READ, MAP_PRIVATE));
    EXPECT_TRUE(refused(BLKTAP_MAP_WINDOW_RW, bytes - 4096, PROT_READ, MAP_SHARED));
    EXPECT_TRUE(refused(BLKTAP_MAP_WINDOW_RW, bytes + 4096, PROT_READ, MAP_SHARED));
    EXPECT_TRUE(refused(BLKTAP_MAP_WINDOW_RW + 4096, bytes - 4096, PROT_READ, MAP_SHARED));
    EXPECT_TRUE(refused(BLKTAP_MAP_WINDOW_RW, bytes, PROT_READ | PROT_EXEC, MAP_SHARED));
    EXPECT_TRUE(refused(BLKTAP_MAP_DESCRIPTORS, 4096, PROT_READ | PROT_EXEC, MAP_SHARED));
    EXPECT_TRUE(refused(0x400000000, bytes, PROT_READ, MAP_SHARED)) << "an area of nothing";
    EXPECT_EQ(seat->run(), -EPERM) << "it works without its windows";
}

TEST_F(BadTapdisk, SeesNothingOfSlotsThatItDoesNotOwn)
{
    const blktap_req req = ask();
    EXPECT_EQ(signal_of_read(seat->page(req, 0)), 0);
    const std::uint32_t own = seat->segments(req)[0].page;
    for (std::uint32_t other = 0; other < seat->attached().window_pages; other++) {
        std::uint8_t* page = seat->window(true) + other * 4096ull;
        if (other != own) {
            ASSERT_EQ(signal_of_read(page), SIGBUS) << other;
        }
        if (other != own && other % 64 == 0) {
            ASSERT_EQ(signal_of_write(page), SIGBUS) << other;
        }
        ASSERT_EQ(signal_of_read(seat->window(false) + other * 4096ull), SIGBUS)
            << other << " of the other window";
    }

    seat->answer(req);
    ASSERT_TRUE(frontend.wait());
    EXPECT_EQ(signal_of_read(seat->page(req, 0)), SIGBUS) << "after the answer";
    EXPECT_EQ(signal_of_write(seat->page(req, 0)), SIGBUS);
    expect_in_order();
}

TEST_F(BadTapdisk, CannotWriteToWhatTheGuestWrites)
{
    const blktap_req req = ask(BLKIF_OP_WRITE, 0, 2);
    EXPECT_EQ(*seat->page(req, 1), 0x11);
    EXPECT_EQ(signal_of_write(seat->page(req, 0)), SIGSEGV);
    EXPECT_EQ(mprotect(seat->window(false), seat->window_bytes(), PROT_READ | PROT_WRITE), -1);

    // Nor by way of the kernel.
    const int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    errno = 0;
    EXPECT_EQ(read(zero, seat->page(req, 0), 4096), -1);
    EXPECT_EQ(errno, EFAULT);
    close(zero);
    const int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    char byte = 0x22;
    EXPECT_NE(pwrite(memory, &byte, 1, static_cast<off_t>(
                         reinterpret_cast<std::uintptr_t>(seat->page(req, 0)))), 1);
    close(memory);
    seat->answer(req);
    ASSERT_TRUE(frontend.wait());
    EXPECT_EQ(std::ranges::count(pages.page(0), 0x11), 4096);
    expect_in_order();
}

TEST_F(BadTapdisk, CannotTakeAWindowApart)
{
    const blktap_req req = ask();
    std::uint8_t* page = seat->page(req, 0);
    for (const bool writable : {true, false}) {
        std::uint8_t* window = seat->window(writable);
        const std::size_t bytes = seat->window_bytes();
        EXPECT_EQ(munmap(window + 4096, 4096), -1);
        EXPECT_EQ(munmap(window, 4096), -1);
        EXPECT_EQ(munmap(window + bytes - 4096, 4096), -1);
        EXPECT_EQ(mmap(window + 8192, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                       0),
                  MAP_FAILED);
        EXPECT_EQ(remap_file_pages(window, 4096, 0, 1, 0), -1);
        EXPECT_EQ(mprotect(window, bytes, PROT_NONE), -1);
        EXPECT_EQ(mprotect(window, 4096, PROT_NONE), -1);
        EXPECT_EQ(mremap(window, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, page + (1l << 36)),
                  MAP_FAILED);
        EXPECT_EQ(mremap(window, bytes, bytes + 4096, MREMAP_MAYMOVE), MAP_FAILED);
        EXPECT_EQ(mremap(window, bytes, bytes - 4096, 0), MAP_FAILED);
        EXPECT_EQ(mremap(window, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, nullptr),
                  MAP_FAILED);
    }
    *page = 0x23;
    EXPECT_EQ(pages.page(0)[0], 0x23) << "the window is not what it was";
    seat->answer(req);
    ASSERT_TRUE(frontend.wait());
    expect_in_order();
}

TEST_F(BadTapdisk, MayDropItsMappingsAndFaultThemInAgain)
{
    const blktap_req req = ask(BLKIF_OP_READ, 0, 4);
    for (std::uint8_t round = 1; round <= 20; round++) {
        ASSERT_EQ(madvise(seat->window(true), seat->window_bytes(), MADV_DONTNEED), 0);
        for (std::uint32_t i = 0; i < 4; i++)
            *seat->page(req, i) = round;
        for (std::size_t i = 0; i < 4; i++)
            ASSERT_EQ(pages.page(i)[0], round);
    }
    seat->answer(req);
    ASSERT_TRUE(frontend.wait());
    expect_in_order();
}

// Its doorbell waits for its own mappings to come to rest; whoever closes the vbd does not.
TEST_F(BadTapdisk, ChangesItsMappingsWithoutPause)
{
    std::atomic<bool> over{false};
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; i++)
        threads.emplace_back([&] {
            while (!over)
                madvise(seat->window(i % 2), seat->window_bytes(), MADV_DONTNEED);
        });
    threads.emplace_back([&] {
        while (!over) {
            seat->run();
            while (const auto req = seat->announced())
                seat->put(answer_to(*req));
        }
    });
    for (std::size_t i = 0; i < 20; i++) {
        frontend.put(request(BLKIF_OP_READ, 8 * i, pages, i, 1));
        frontend.push();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    EXPECT_TRUE(frontend.close());
    over = true;
    for (std::thread& thread : threads)
        thread.join();
    seat.reset();
    seat.emplace(vbd.node());
    EXPECT_TRUE(frontend.reopen());
    expect_in_order();
}

TEST_F(BadTapdisk, LocksAndDumpsItsMappings)
{
    const blktap_req req = ask();
    mlock(seat->window(true), seat->window_bytes());
    madvise(seat->window(true), seat->window_bytes(), MADV_DODUMP);
    madvise(seat->window(true), seat->window_bytes(), MADV_HUGEPAGE);
    madvise(seat->window(true), seat->window_bytes(), MADV_MERGEABLE);
    madvise(seat->window(true), seat->window_bytes(), MADV_PAGEOUT);
    madvise(seat->window(true), seat->window_bytes(), MADV_FREE);
    *seat->page(req, 0) = 0x31;
    EXPECT_EQ(pages.page(0)[0], 0x31);
    seat->answer(req);
    ASSERT_TRUE(frontend.wait());
    expect_in_order();
}

// --- the window on demand ------------------------------------------------------------------------

TEST(TapdiskOnDemand, SeesPagesAtTheFirstTouchOnly)
{
    Vbd vbd({});
    blktap_attach attach = attach_to(Seat::kSectors);
    attach.features = 0;
    Seat seat(vbd.node(), attach);
    Frontend frontend(vbd);
    ASSERT_TRUE(frontend.connect());
    xen::Pages pages(11, Access::read_write);
    for (int round = 0; round < 5; round++) {
        frontend.put(request(BLKIF_OP_READ, 0, pages, 0, 11));
        frontend.push();
        const auto req = seat.next();
        ASSERT_TRUE(req);
        const Counters before = vbd.counters();
        for (std::uint32_t i = 0; i < 11; i++)
            std::memset(seat.page(*req, i), round + 1, 4096);
        const Counters after = vbd.counters();
        EXPECT_EQ(after.at("window_faults") - before.at("window_faults"), 1u);
        EXPECT_EQ(after.at("user_map_ops") - before.at("user_map_ops"), 11u);
        seat.answer(*req);
        ASSERT_TRUE(frontend.wait());
        EXPECT_EQ(std::ranges::count(pages.all(), round + 1), 11 * 4096);
    }
    // A request that is never looked at is never mapped for user space.
    const Counters before = vbd.counters();
    frontend.put(request(BLKIF_OP_READ, 0, pages, 0, 11));
    frontend.push();
    const auto req = seat.next();
    ASSERT_TRUE(req);
    seat.answer(*req);
    ASSERT_TRUE(frontend.wait());
    EXPECT_EQ(vbd.counters().at("user_map_ops"), before.at("user_map_ops"));
}

} // namespace
