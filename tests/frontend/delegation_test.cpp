// SPDX-License-Identifier: GPL-2.0-only
//
// Delegated extents: what the module serves by itself, what it must leave to tapdisk, and what it
// refuses.

#include "tests/frontend/delegation.hpp"
#include "tests/frontend/loop.hpp"

#include <cerrno>
#include <fstream>

using Access = xen::Pages::Access;

namespace {

class Delegation : public Served {
protected:
    void SetUp() override
    {
        std::ofstream(path, std::ios::binary) << std::string(Seat::kSectors * 512, '\0');
        connect(path, O_RDWR | O_DIRECT);
        // What the page cache holds makes direct I/O wait.
        fsync(file->fd());
        posix_fadvise(file->fd(), 0, 0, POSIX_FADV_DONTNEED);
    }
    ~Delegation() override { unlink(path.c_str()); }
};

TEST_F(Delegation, IsServedWhileTapdiskSleeps)
{
    ASSERT_EQ(delegate_all(), 0);
    EXPECT_EQ(vbd.attribute("extents"), "1");
    const Counters before = vbd.counters();
    fill(pages.all(), 1);
    for (std::size_t i = 0; i < 22; i++)
        put(BLKIF_OP_WRITE, 80 + i * 8, i);
    frontend->push();
    for (std::size_t i = 0; i < 22; i++)
        ASSERT_EQ(answer(), BLKIF_RSP_OKAY);
    std::ranges::fill(pages.all(), 0);
    put(BLKIF_OP_READ, 80, 0, 11);
    put(BLKIF_OP_READ, 80 + 88, 11, 11);
    frontend->push();
    ASSERT_EQ(answer(), BLKIF_RSP_OKAY);
    ASSERT_EQ(answer(), BLKIF_RSP_OKAY);

    EXPECT_TRUE(std::ranges::equal(pages.all().first(22 * 4096), pattern(1, 22 * 4096)));
    EXPECT_TRUE(stored(80, 22 * 4096) == pattern(1, 22 * 4096));
    EXPECT_TRUE(stored(0, 80 * 512) == std::vector<std::uint8_t>(80 * 512));
    const Counters after = vbd.counters();
    EXPECT_EQ(after.at("requests_delegated") - before.at("requests_delegated"), 24u);
    EXPECT_EQ(after.at("requests_bounced"), before.at("requests_bounced"));
    for (const char* name : {"user_map_ops", "tapdisk_wakeups", "runs"})
        EXPECT_EQ(after.at(name), before.at(name)) << name;
    EXPECT_EQ(after.at("bytes_zero_copy") - before.at("bytes_zero_copy"), 44u * 4096);
    EXPECT_FALSE(tapdisk_was_asked());
    EXPECT_EQ(vbd.attribute("in_flight"), "0");
}

// To a block device, for a file system may have to wait for a piece of a block.
TEST_F(Delegation, MovesEveryShapeToWhereTheExtentSays)
{
    const Loop loop(path, true);
    file = std::make_unique<File>(loop.path(), O_RDWR | O_DIRECT);
    // Not where it would lie if the extent were the whole disk.
    ASSERT_EQ(delegate(seat->fd(), extent(file->fd(), 1024, 512, 7 * 512)), 0);
    const xen::Pages back(3, Access::read_write);
    for (std::uint8_t first = 0; first < 8; first++)
        for (std::uint8_t last = first; last < 8; last++) {
            fill(pages.all().first(3 * 4096), first * 8u + last);
            guest::Request write = request(BLKIF_OP_WRITE, 1024 + first, pages, 0, 3);
            write.seg[1] = {pages.ref(1), first, last, 0};
            frontend->put(write);
            frontend->push();
            ASSERT_EQ(answer(), BLKIF_RSP_OKAY);
            std::vector<std::uint8_t> expected(pages.page(0).begin(), pages.page(0).end());
            std::ranges::copy(inside(pages.page(1), write.seg[1]), std::back_inserter(expected));
            std::ranges::copy(pages.page(2), std::back_inserter(expected));
            ASSERT_TRUE(stored(7 + first, expected.size()) == expected)
                << +first << ".." << +last;
            frontend->put(request(BLKIF_OP_READ, 1024 + first, back, 0, 3));
            frontend->push();
            ASSERT_EQ(answer(), BLKIF_RSP_OKAY);
            ASSERT_TRUE(std::ranges::equal(std::span(expected), back.all().first(expected.size())));
        }
    EXPECT_EQ(vbd.counters().at("requests_bounced"), 0u);
    EXPECT_EQ(withdraw(seat->fd(), 0, ~0ull), 0);
    file.reset();
}

TEST_F(Delegation, WhatIsOutsideOrCrossesAnEdgeIsTapdisks)
{
    ASSERT_EQ(delegate(seat->fd(), extent(file->fd(), 64, 64, 64 * 512)), 0);
    ASSERT_EQ(delegate(seat->fd(), extent(file->fd(), 128, 64, 128 * 512)), 0);
    for (const std::uint64_t sector : {48u, 57u, 120u + 1u, 185u, 192u, 4000u}) {
        put(BLKIF_OP_READ, sector);
        frontend->push();
        EXPECT_EQ(tapdisk_answers(sector, 0), BLKIF_RSP_OKAY) << sector;
    }
    EXPECT_EQ(vbd.counters().at("requests_delegated"), 0u);
    put(BLKIF_OP_READ, 64);
    put(BLKIF_OP_READ, 120);
    put(BLKIF_OP_READ, 184);
    frontend->push();
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
    EXPECT_EQ(vbd.counters().at("requests_delegated"), 3u);
}

TEST_F(Delegation, FlushesAndWritesToWhatMayOnlyBeReadAreTapdisks)
{
    blktap_extent readable = extent(file->fd(), 0, Seat::kSectors);
    readable.flags = BLKTAP_EXTENT_READ;
    ASSERT_EQ(delegate(seat->fd(), readable), 0);
    put(BLKIF_OP_WRITE, 8);
    frontend->push();
    EXPECT_EQ(tapdisk_answers(8, -EIO), BLKIF_RSP_ERROR);
    frontend->put(request(BLKIF_OP_FLUSH_DISKCACHE));
    frontend->push();
    EXPECT_EQ(tapdisk_answers(0, 0), BLKIF_RSP_OKAY);
    put(BLKIF_OP_READ, 8);
    frontend->push();
    EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
    EXPECT_EQ(vbd.counters().at("requests_delegated"), 1u);
}

// The file has become shorter than the extent says.
TEST_F(Delegation, WhatDoesNotSucceedIsTapdisksAfterAll)
{
    ASSERT_EQ(delegate_all(), 0);
    ASSERT_EQ(ftruncate(file->fd(), 100 * 512), 0);
    for (const std::uint64_t sector : {96u, 4000u}) { // a part of it, nothing of it
        put(BLKIF_OP_READ, sector);
        frontend->push();
        EXPECT_EQ(tapdisk_answers(sector, -EIO), BLKIF_RSP_ERROR);
        put(BLKIF_OP_READ, sector);
        frontend->push();
        EXPECT_EQ(tapdisk_answers(sector, 0), BLKIF_RSP_OKAY);
    }
    EXPECT_EQ(vbd.counters().at("requests_bounced"), 4u);
    EXPECT_EQ(vbd.counters().at("responses_error"), 2u);
}

TEST_F(Delegation, EndsWithItsTapdisk)
{
    ASSERT_EQ(delegate_all(), 0);
    seat.reset();
    seat.emplace(vbd.node());
    EXPECT_EQ(vbd.attribute("extents"), "0");
    put(BLKIF_OP_READ, 8);
    frontend->push();
    EXPECT_EQ(tapdisk_answers(8, 0), BLKIF_RSP_OKAY);
    EXPECT_EQ(vbd.counters().at("requests_delegated"), 0u);
}

TEST_F(Delegation, OutlivesTheFileDescriptor)
{
    ASSERT_EQ(delegate_all(), 0);
    file = std::make_unique<File>("/dev/null", O_RDWR); // and the number means something else
    fill(pages.page(0), 5);
    put(BLKIF_OP_WRITE, 16);
    frontend->push();
    EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
    EXPECT_TRUE(stored(16, 4096) == pattern(5, 4096));
}

TEST_F(Delegation, IsWithdrawnAsAWhole)
{
    for (const std::uint64_t sector : {0u, 1000u, 2000u})
        ASSERT_EQ(delegate(seat->fd(), extent(file->fd(), sector, 800)), 0);
    EXPECT_EQ(withdraw(seat->fd(), 900, 50), 0); // none is there
    EXPECT_EQ(withdraw(seat->fd(), 900, 0), 0);
    EXPECT_EQ(vbd.attribute("extents"), "3");
    EXPECT_EQ(withdraw(seat->fd(), 1799, 2), 0);
    EXPECT_EQ(vbd.attribute("extents"), "2");
    put(BLKIF_OP_READ, 1008);
    frontend->push();
    EXPECT_EQ(tapdisk_answers(1008, 0), BLKIF_RSP_OKAY);
    ASSERT_EQ(delegate(seat->fd(), extent(file->fd(), 900, 1100)), 0);
    EXPECT_EQ(withdraw(seat->fd(), 0, ~0ull), 0);
    EXPECT_EQ(vbd.attribute("extents"), "0");
}

TEST_F(Delegation, RefusesWhatMakesNoSense)
{
    const int fd = file->fd();
    blktap_extent bad = extent(fd, 0, Seat::kSectors);
    bad.flags = 0;
    EXPECT_EQ(delegate(seat->fd(), bad), -EINVAL);
    bad.flags = 4;
    EXPECT_EQ(delegate(seat->fd(), bad), -EINVAL);
    bad = extent(fd, 0, Seat::kSectors);
    bad.reserved[1] = 1;
    EXPECT_EQ(delegate(seat->fd(), bad), -EINVAL);
    for (const auto& [sector, sectors] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{
             {0, 0}, {0, Seat::kSectors + 1}, {Seat::kSectors, 1}, {1, Seat::kSectors},
             {~0ull, 1}, {1, ~0ull}, {~0ull, ~0ull}})
        EXPECT_EQ(delegate(seat->fd(), extent(fd, sector, sectors)), -EINVAL)
            << sector << " " << sectors;
    for (const std::uint64_t offset : {1ull, 511ull, ~0ull, ~0ull << 9, (1ull << 63) - 512})
        EXPECT_EQ(delegate(seat->fd(), extent(fd, 0, 8, offset)), -EINVAL) << offset;
    EXPECT_EQ(vbd.attribute("extents"), "0");
}

TEST_F(Delegation, RefusesFilesThatItMustNotUse)
{
    const File buffered(path, O_RDWR);
    const File append(path, O_RDWR | O_DIRECT | O_APPEND);
    const File reader(path, O_RDONLY | O_DIRECT);
    const File writer(path, O_WRONLY | O_DIRECT);
    const File directory(settings.directory, O_RDONLY | O_DIRECTORY);
    const File device("/dev/null", O_RDWR);
    const auto result = [&](int fd) { return delegate(seat->fd(), extent(fd, 0, 8)); };
    EXPECT_EQ(result(-1), -EBADF);
    EXPECT_EQ(result(9999), -EBADF);
    EXPECT_EQ(result(buffered.fd()), -EINVAL);
    EXPECT_EQ(result(append.fd()), -EINVAL);
    EXPECT_EQ(result(reader.fd()), -EBADF);
    EXPECT_EQ(result(writer.fd()), -EBADF);
    EXPECT_EQ(result(directory.fd()), -EBADF);
    EXPECT_EQ(result(device.fd()), -EINVAL);
    EXPECT_EQ(result(seat->fd()), -EINVAL);
    EXPECT_EQ(vbd.attribute("extents"), "0");
}

TEST_F(Delegation, RefusesASecondForTheSameSectors)
{
    ASSERT_EQ(delegate(seat->fd(), extent(file->fd(), 800, 800)), 0);
    for (const std::uint64_t sector : {1u, 800u, 1000u, 1599u})
        EXPECT_EQ(delegate(seat->fd(), extent(file->fd(), sector, 800)), -EEXIST) << sector;
    EXPECT_EQ(delegate(seat->fd(), extent(file->fd(), 0, 800)), 0);
    EXPECT_EQ(delegate(seat->fd(), extent(file->fd(), 1600, 1)), 0);
}

TEST_F(Delegation, IsBounded)
{
    for (std::uint64_t i = 0; i < BLKTAP_EXTENTS_MAX; i++)
        ASSERT_EQ(delegate(seat->fd(), extent(file->fd(), i, 1, i * 512)), 0) << i;
    EXPECT_EQ(delegate(seat->fd(), extent(file->fd(), BLKTAP_EXTENTS_MAX, 1)), -ENOSPC);
    EXPECT_EQ(withdraw(seat->fd(), 17, 1), 0);
    EXPECT_EQ(delegate(seat->fd(), extent(file->fd(), BLKTAP_EXTENTS_MAX, 1)), 0);
}

TEST_F(Delegation, IsForWhoeverAttachedTheFirstQueue)
{
    const File stranger(vbd.node(), O_RDWR);
    EXPECT_EQ(delegate(stranger.fd(), extent(file->fd(), 0, 8)), -ENXIO);
    EXPECT_EQ(withdraw(stranger.fd(), 0, 8), -ENXIO);
}

TEST(ReadOnlyDelegation, NeverWrites)
{
    Vbd vbd({.writable = false});
    Seat seat(vbd.node());
    const File file(settings.directory, O_RDWR | O_DIRECT | O_TMPFILE);
    EXPECT_EQ(delegate(seat.fd(), extent(file.fd(), 0, 8)), -EROFS);
    blktap_extent readable = extent(file.fd(), 0, 8);
    readable.flags = BLKTAP_EXTENT_READ;
    EXPECT_EQ(delegate(seat.fd(), readable), 0);
}

} // namespace
