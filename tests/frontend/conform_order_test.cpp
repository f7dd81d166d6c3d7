// SPDX-License-Identifier: GPL-2.0-only
//
// What a flush and a barrier promise, and what an answer does.

#include "tests/frontend/conform.hpp"

#include <fcntl.h>
#include <linux/kernel-page-flags.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <system_error>

using Access = xen::Pages::Access;

namespace {

class FileDescriptor {
public:
    explicit FileDescriptor(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC))
    {
        if (fd_ < 0)
            throw std::system_error(errno, std::generic_category(), path);
    }
    ~FileDescriptor() { close(fd_); }
    FileDescriptor(const FileDescriptor&) = delete;
    FileDescriptor& operator=(const FileDescriptor&) = delete;

    int get() const { return fd_; }
    std::uint64_t word(std::uint64_t index) const
    {
        std::uint64_t word = 0;
        if (pread(fd_, &word, sizeof word, static_cast<off_t>(index * sizeof word)) != sizeof word)
            throw std::system_error(errno, std::generic_category(), "page map");
        return word;
    }

private:
    int fd_;
};

// Pages of a file that are in dom0's memory only: dirty, or on their way. Those of O_DIRECT I/O
// never come there.
std::size_t unwritten_pages(const std::string& path, std::size_t bytes)
{
    const FileDescriptor file(path), pagemap("/proc/self/pagemap"), flags("/proc/kpageflags");
    void* memory = mmap(nullptr, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, file.get(), 0);
    if (memory == MAP_FAILED)
        throw std::system_error(errno, std::generic_category(), path);
    std::size_t unwritten = 0;
    for (std::size_t at = 0; at < bytes; at += xen::kPageBytes) {
        const auto* byte = static_cast<const volatile std::uint8_t*>(memory) + at;
        (void)*byte; // now it is mapped
        constexpr std::uint64_t kFrame = (1ull << 55) - 1;
        const std::uint64_t entry =
            pagemap.word(reinterpret_cast<std::uintptr_t>(byte) / xen::kPageBytes);
        unwritten += (flags.word(entry & kFrame) & (1u << KPF_DIRTY | 1u << KPF_WRITEBACK)) != 0;
    }
    munmap(memory, bytes);
    return unwritten;
}

class ConformOrder : public Conform {};

TEST_F(ConformOrder, AFlushPutsAnsweredWritesOnTheMedium)
{
    connect({.order = offers().ring_order, .queues = offers().queues});
    NEEDS(offers().flush, "flush");
    NEEDS(!disk().image().empty(), "a medium (this disk is memory)");
    constexpr std::size_t kWrites = 64;
    xen::Pages pages(kWrites, Access::read_only);
    for (std::uint64_t round = 0; round < 2; round++) {
        for (std::size_t i = 0; i < kWrites; i++) {
            fill(pages.page(i), round * 100 + i);
            Queue& queue = frontend().queue(i % frontend().queues());
            if (queue.outstanding() == queue.entries()) {
                queue.push();
                ASSERT_FALSE(queue.wait_all().empty());
            }
            queue.put(request(BLKIF_OP_WRITE, i * 8, pages, i, 1));
        }
        for (std::size_t i = 0; i < frontend().queues(); i++)
            frontend().queue(i).push();
        for (std::size_t i = 0; i < frontend().queues(); i++)
            frontend().queue(i).wait_all();
        const std::size_t before = unwritten_pages(disk().image(), kWrites * 4096);
        // On one queue, for the writes of all.
        Queue& queue = frontend().queue(round % frontend().queues());
        ASSERT_EQ(queue.run(request(BLKIF_OP_FLUSH_DISKCACHE)), BLKIF_RSP_OKAY);
        ASSERT_EQ(unwritten_pages(disk().image(), kWrites * 4096), 0u)
            << before << " before the flush";
        std::printf("         %zu of %zu pages were in memory only before the flush\n", before,
                    kWrites);
        for (std::size_t i = 0; i < kWrites; i++)
            ASSERT_TRUE(disk().stored(i * 8, 4096) == pattern(round * 100 + i, 4096));
    }
}

TEST_F(ConformOrder, AFlushMayComeWithData)
{
    connect();
    NEEDS(offers().flush, "flush");
    xen::Pages pages(3, Access::read_only);
    fill(pages.all(), 1);
    EXPECT_EQ(frontend().run(request(BLKIF_OP_FLUSH_DISKCACHE)), BLKIF_RSP_OKAY);
    EXPECT_EQ(frontend().run(request(BLKIF_OP_FLUSH_DISKCACHE, 160, pages, 0, 3)), BLKIF_RSP_OKAY);
    EXPECT_TRUE(disk().stored(160, 3 * 4096) == pattern(1, 3 * 4096));
}

TEST_F(ConformOrder, ABarrierMayComeWithAndWithoutData)
{
    connect();
    NEEDS(offers().barrier, "barriers");
    xen::Pages pages(3, Access::read_only);
    fill(pages.all(), 2);
    EXPECT_EQ(frontend().run(request(BLKIF_OP_WRITE_BARRIER)), BLKIF_RSP_OKAY);
    EXPECT_EQ(frontend().run(request(BLKIF_OP_WRITE_BARRIER, 80, pages, 0, 3)), BLKIF_RSP_OKAY);
    EXPECT_TRUE(disk().stored(80, 3 * 4096) == pattern(2, 3 * 4096));
}

// Writes to the same sectors before a barrier, in it, and after it.
TEST_F(ConformOrder, ABarrierKeepsOverlappingWritesInOrder)
{
    connect({.order = std::min(offers().ring_order, 1u)});
    NEEDS(offers().barrier, "barriers");
    const auto deviation = known_deviation(
        Backend::blkback, "writes after a barrier are begun before the barrier has ended");
    xen::Pages pages(3, Access::read_only);
    const std::uint64_t half = (frontend().queue(0).entries() - 1) / 2;
    for (std::uint64_t round = 0; round < 3; round++) {
        for (std::size_t i = 0; i < 3; i++)
            fill(pages.page(i), round * 3 + i);
        for (std::uint64_t i = 0; i < half; i++)
            frontend().put(request(BLKIF_OP_WRITE, 3000 + 8 * i, pages, 0, 1));
        frontend().put(request(BLKIF_OP_WRITE_BARRIER, 3000 + 8 * (round % half), pages, 1, 1));
        for (std::uint64_t i = 0; i < half; i++)
            frontend().put(request(BLKIF_OP_WRITE, 3000 + 8 * i, pages, 2, 1));
        frontend().push();
        ASSERT_EQ(frontend().wait_all().size(), 2 * half + 1);
        const auto stored = disk().stored(3000, half * 4096);
        for (std::uint64_t i = 0; i < half; i++)
            ASSERT_TRUE(std::ranges::equal(std::span(stored).subspan(i * 4096, 4096),
                                           pages.page(2)))
                << "write " << i << " of round " << round;
    }
}

// The barrier's own data is younger than what came before.
TEST_F(ConformOrder, ABarrierComesAfterWhatWasBeforeIt)
{
    connect({.order = std::min(offers().ring_order, 1u)});
    NEEDS(offers().barrier, "barriers");
    xen::Pages pages(2, Access::read_only);
    for (std::uint64_t round = 0; round < 3; round++) {
        fill(pages.page(0), round * 2);
        fill(pages.page(1), round * 2 + 1);
        while (frontend().outstanding() + 1 < frontend().queue(0).entries())
            frontend().put(request(BLKIF_OP_WRITE, 5000, pages, 0, 1));
        frontend().put(request(BLKIF_OP_WRITE_BARRIER, 5000, pages, 1, 1));
        frontend().push();
        ASSERT_FALSE(frontend().wait_all().empty());
        ASSERT_TRUE(disk().stored(5000, 4096) == pattern(round * 2 + 1, 4096)) << "round " << round;
    }
}

TEST_F(ConformOrder, AnAnsweredWriteIsSeenOnEveryQueue)
{
    connect({.queues = offers().queues});
    NEEDS(offers().queues > 1, "more than one queue");
    xen::Pages out(1, Access::read_only), in(1, Access::read_write);
    for (std::uint64_t i = 0; i < 15; i++) {
        fill(out.all(), i);
        Queue& writer = frontend().queue(i % frontend().queues());
        Queue& reader = frontend().queue((i + 1) % frontend().queues());
        ASSERT_EQ(writer.run(request(BLKIF_OP_WRITE, 6000, out, 0, 1)), BLKIF_RSP_OKAY);
        ASSERT_EQ(reader.run(request(BLKIF_OP_READ, 6000, in, 0, 1)), BLKIF_RSP_OKAY);
        ASSERT_TRUE(std::ranges::equal(in.all(), out.all())) << i;
    }
}

} // namespace
