// SPDX-License-Identifier: GPL-2.0-only
//
// A tapdisk that says what it must not say: refused, counted once, and the
// guest notices nothing.

#include "tests/frontend/bad_tapdisk.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <system_error>

using namespace std::chrono_literals;

namespace {

TEST_F(BadTapdisk, AnswersASlotTwice)
{
    const blktap_req req = ask();
    const Counters before = vbd.counters();
    seat->put(answer_to(req));
    seat->put(answer_to(req, -EIO));
    EXPECT_EQ(seat->run(), 0);
    ASSERT_TRUE(frontend.wait());
    EXPECT_FALSE(frontend.wait(300ms));
    seat->put(answer_to(req));
    EXPECT_EQ(seat->run(), 0);
    EXPECT_FALSE(frontend.wait(300ms));
    expect_trouble(before, vbd.counters(), {{"bad_commands", 2}});
    EXPECT_EQ(rejected(), 2u);
    expect_in_order();
}

struct BadCommand {
    const char* name;
    std::function<void(blktap_cmd&)> spoil;
    const char* counter = "bad_commands";
};

const BadCommand kBadCommands[] = {
    {"UnknownVerb", [](auto& c) { c.verb = 3; }},
    {"NoVerb", [](auto& c) { c.verb = 0; }},
    {"Flags", [](auto& c) { c.flags = 0x80; }},
    {"ReservedWord", [](auto& c) { c.fd = 1; }},
    {"ReservedTail", [](auto& c) { c.reserved = 1ull << 63; }},
    {"SlotOfNobody", [](auto& c) { c.slot ^= 1; c.generation = 0; }},
    {"SlotBeyondTheTable", [](auto& c) { c.slot = BLKTAP_DEPTH_MAX; }},
    {"LargestSlot", [](auto& c) { c.slot = 0xffff; }},
    {"PositiveResult", [](auto& c) { c.result = 4096; }},
    {"ResultThatIsNoErrno", [](auto& c) { c.result = -4096; }},
    {"EarlierGeneration", [](auto& c) { c.generation--; }, "stale_commands"},
    {"LaterGeneration", [](auto& c) { c.generation++; }, "stale_commands"},
    {"Garbage", [](auto& c) { std::memset(&c, 0xa5, sizeof c); }},
};

void PrintTo(const BadCommand& bad, std::ostream* out)
{
    *out << bad.name;
}

class BadCommands : public BadTapdisk, public testing::WithParamInterface<BadCommand> {};

INSTANTIATE_TEST_SUITE_P(Each, BadCommands, testing::ValuesIn(kBadCommands),
                         [](const auto& info) { return info.param.name; });

TEST_P(BadCommands, AreRefusedAndCountedOnce)
{
    const blktap_req req = ask();
    const Counters before = vbd.counters();
    blktap_cmd cmd = answer_to(req);
    GetParam().spoil(cmd);
    seat->put(cmd);
    EXPECT_EQ(seat->run(), 0);
    expect_trouble(before, vbd.counters(), {{GetParam().counter, 1}});
    EXPECT_FALSE(frontend.wait(300ms)) << "the guest got an answer";
    EXPECT_EQ(std::ranges::count(pages.page(0), 0x11), 4096);
    EXPECT_EQ(rejected(), GetParam().counter == std::string("bad_commands") ? 1u : 0u);

    // The request is as it was and can be answered.
    EXPECT_EQ(seat->answer(req), 0);
    ASSERT_TRUE(frontend.wait());
    expect_in_order();
}

TEST_F(BadTapdisk, ClaimsMoreCommandsThanTheRingHolds)
{
    for (std::uint32_t lie : {BLKTAP_COMMANDS + 1, 0x7fffffffu, 0x80000000u, 0xffffffffu}) {
        ask();
        const Counters before = vbd.counters();
        seat->claim(lie);
        EXPECT_EQ(seat->run(), -EPROTO) << lie;
        expect_trouble(before, vbd.counters(), {{"bad_commands", 1}});
        EXPECT_FALSE(frontend.wait(200ms));
        // It is refused for as long as it lies; leaving is what helps.
        seat.reset();
        const auto response = frontend.wait();
        ASSERT_TRUE(response);
        EXPECT_EQ(response->status, BLKIF_RSP_ERROR);
        seat.emplace(vbd.node());
        expect_in_order();
    }
}

TEST_F(BadTapdisk, FillsTheCommandRingWithGarbage)
{
    ask();
    const Counters before = vbd.counters();
    std::memset(seat->commands() + seat->attached().commands_at, 0xff,
                seat->attached().commands * sizeof(blktap_cmd));
    seat->claim(seat->head().cmd_cons + seat->attached().commands);
    EXPECT_EQ(seat->run(), 0);
    expect_trouble(before, vbd.counters(), {{"bad_commands", seat->attached().commands}});
    EXPECT_FALSE(frontend.wait(200ms));
}

TEST_F(BadTapdisk, RingsTheBellWithUnknownFlags)
{
    EXPECT_EQ(seat->run(BLKTAP_RUN_KNOWN + 1), -EINVAL);
    EXPECT_EQ(seat->run(~0u), -EINVAL);
    errno = 0;
    EXPECT_EQ(ioctl(seat->fd(), _IO('b', 0x7f)), -1);
    EXPECT_EQ(errno, ENOTTY);
    expect_in_order();
}

TEST_F(BadTapdisk, GetsNothingNewWhileItHoldsTheRing)
{
    const blktap_req req = ask();
    frontend.put(request(BLKIF_OP_READ, 8, pages, 1, 1));
    frontend.push();
    seat->put(answer_to(req));
    EXPECT_EQ(seat->run(BLKTAP_RUN_HOLD), 0);
    EXPECT_FALSE(seat->announced());
    ASSERT_TRUE(frontend.wait()) << "what it owns it may answer";
    const auto second = seat->next();
    ASSERT_TRUE(second) << "what stayed on the ring got lost";
    seat->answer(*second);
    ASSERT_TRUE(frontend.wait());
}

// It may have the data in memory of its own, where nobody sees what becomes of it: only its answer
// tells that the request is over, whatever that is.
TEST_F(BadTapdisk, HoldsARequestWhileItsGuestGoes)
{
    for (const std::uint8_t op : {BLKIF_OP_WRITE, BLKIF_OP_READ}) {
        const blktap_req old = ask(op);
        vbd.set_frontend_state(kClosed);
        EXPECT_FALSE(vbd.wait_for(kClosed, 5s)) << "closed while it may yet be carried out";
        EXPECT_EQ(signal_of_read(seat->page(old, 0)), 0) << "taken from a tapdisk that lives";
        const Counters before = vbd.counters();
        seat->put(answer_to(old));
        seat->put(answer_to(old));
        EXPECT_EQ(seat->run(), 0);
        expect_trouble(before, vbd.counters(), {{"bad_commands", 1}});
        EXPECT_TRUE(vbd.wait_for(kClosed));
        EXPECT_EQ(signal_of_read(seat->page(old, 0)), SIGBUS);
        ASSERT_TRUE(frontend.reopen());
        expect_in_order();
    }
}

TEST_F(BadTapdisk, EndsWithARequestThatItsGuestDidNotWaitFor)
{
    ask(BLKIF_OP_WRITE);
    vbd.set_frontend_state(kClosed);
    EXPECT_FALSE(vbd.wait_for(kClosed, 5s));
    seat.reset();
    EXPECT_TRUE(vbd.wait_for(kClosed));
    seat.emplace(vbd.node());
    ASSERT_TRUE(frontend.reopen());
    expect_in_order();
}

TEST_F(BadTapdisk, PassesOnNoErrorThatAGuestTakesForASuccess)
{
    for (const auto& [result, status] : {std::pair{-EIO, BLKIF_RSP_ERROR},
                                         std::pair{-ENOSPC, BLKIF_RSP_ERROR},
                                         std::pair{-4095, BLKIF_RSP_ERROR},
                                         std::pair{-EOPNOTSUPP, BLKIF_RSP_ERROR}}) {
        seat->answer(ask(), result);
        const auto response = frontend.wait();
        ASSERT_TRUE(response);
        EXPECT_EQ(response->status, status) << result;
    }
}

// --- attach --------------------------------------------------------------------------------------

struct BadAttach {
    const char* name;
    std::function<void(blktap_attach&)> spoil;
    int error = EINVAL;
};

const BadAttach kBadAttaches[] = {
    {"OtherVersion", [](auto& a) { a.abi++; }, EPROTONOSUPPORT},
    {"NoVersion", [](auto& a) { a.abi = 0; }, EPROTONOSUPPORT},
    {"UnknownFeature", [](auto& a) { a.features |= 1ull << 63; }},
    {"UnknownDiskFlag", [](auto& a) { a.disk_flags |= 1u << 31; }},
    {"Reserved", [](auto& a) { a.reserved_in[1] = 1; }},
    {"WatchingForTooLong", [](auto& a) { a.poll_us = BLKTAP_POLL_US_MAX + 1; }},
    {"QueueThatIsNotThere", [](auto& a) { a.queue = BLKTAP_QUEUES_MAX; }},
    {"NoDiscardButItsGranularity", [](auto& a) { a.discard_granularity = 4096; }},
    {"SecureButNoDiscard", [](auto& a) { a.disk_flags |= BLKTAP_DISK_SECURE; }},
    {"DiscardWithoutGranularity", [](auto& a) { a.disk_flags |= BLKTAP_DISK_DISCARD; }},
    {"DiscardOfPartsOfABlock",
     [](auto& a) { a.disk_flags |= BLKTAP_DISK_DISCARD, a.discard_granularity = 100; }},
    {"DiscardAlignedBeyondItsGranularity",
     [](auto& a) {
         a.disk_flags |= BLKTAP_DISK_DISCARD;
         a.discard_granularity = a.discard_alignment = 4096;
     }},
    {"NoSectors", [](auto& a) { a.sectors = 0; }},
    {"SmallSectors", [](auto& a) { a.sector_size = 256; }},
    {"LargeSectors", [](auto& a) { a.sector_size = 8192, a.physical_sector_size = 8192; }},
    {"OddSectors", [](auto& a) { a.sector_size = 1000; }},
    {"NoSectorSize", [](auto& a) { a.sector_size = 0; }},
    {"PhysicalSmallerThanLogical", [](auto& a) { a.sector_size = 4096; }},
    {"NotWholeBlocks",
     [](auto& a) { a.sectors = 8191, a.sector_size = 4096, a.physical_sector_size = 4096; }},
};

void PrintTo(const BadAttach& bad, std::ostream* out)
{
    *out << bad.name;
}

class BadAttaches : public testing::TestWithParam<BadAttach> {};

INSTANTIATE_TEST_SUITE_P(Each, BadAttaches, testing::ValuesIn(kBadAttaches),
                         [](const auto& info) { return info.param.name; });

TEST_P(BadAttaches, AreRefusedAndLeaveThePlaceFree)
{
    Vbd vbd({});
    blktap_attach attach = attach_to(Seat::kSectors);
    GetParam().spoil(attach);
    try {
        Seat seat(vbd.node(), attach);
        ADD_FAILURE() << "it was let in";
    } catch (const std::system_error& error) {
        EXPECT_EQ(error.code().value(), GetParam().error) << error.what();
    }
    EXPECT_EQ(vbd.attribute("attached"), "0");
    Seat seat(vbd.node());
    EXPECT_EQ(vbd.attribute("attached"), "1");
}

TEST_F(BadTapdisk, TakesASeatThatIsTaken)
{
    try {
        Seat second(vbd.node());
        ADD_FAILURE() << "it was let in";
    } catch (const std::system_error& error) {
        EXPECT_EQ(error.code().value(), EBUSY);
    }
    expect_in_order();
}

// Queues after the first are for the process that has the first, and for the same disk.
TEST_F(BadTapdisk, TakesAQueueThatIsNotItsOwn)
{
    if (seat->attached().queues < 2)
        GTEST_SKIP() << "one queue: this host has one CPU";
    blktap_attach second = attach_to(Seat::kSectors);
    second.queue = 1;
    const auto error_of = [&](const blktap_attach& attach) {
        try {
            Seat other(vbd.node(), attach);
            return 0;
        } catch (const std::system_error& error) {
            return error.code().value();
        }
    };
    EXPECT_EQ(in_child([&] { return error_of(second); }), EPERM);
    EXPECT_EQ(in_namesake([&] { return error_of(second); }), EPERM);
    blktap_attach other_disk = second;
    other_disk.sectors *= 2;
    EXPECT_EQ(error_of(other_disk), ESTALE);
    EXPECT_EQ(error_of(second), 0);
    seat.reset();
    EXPECT_EQ(error_of(second), EPERM) << "without the first";
    seat.emplace(vbd.node());
    expect_in_order();
}

// The queues that are left are served as the disk that the last one had.
TEST_F(BadTapdisk, LeavesTheFirstQueueAndKeepsAnother)
{
    if (seat->attached().queues < 2)
        GTEST_SKIP() << "one queue: this host has one CPU";
    blktap_attach attach = attach_to(Seat::kSectors);
    attach.queue = 1;
    std::optional<Seat> second(std::in_place, vbd.node(), attach);
    seat.reset();
    const auto error_of_first = [&] {
        try {
            Seat other(vbd.node());
            return 0;
        } catch (const std::system_error& error) {
            return error.code().value();
        }
    };
    EXPECT_EQ(in_child(error_of_first), EBUSY);
    second.reset();
    EXPECT_EQ(in_child(error_of_first), 0);
    seat.emplace(vbd.node());
    expect_in_order();
}

TEST_F(BadTapdisk, WithoutASeatMayDoNothing)
{
    const int fd = open(vbd.node().c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    errno = 0;
    EXPECT_EQ(ioctl(fd, BLKTAP_IOC_RUN, 0), -1);
    EXPECT_EQ(errno, ENXIO);
    for (const std::uint64_t area : {BLKTAP_MAP_DESCRIPTORS, BLKTAP_MAP_COMMANDS,
                                     BLKTAP_MAP_WINDOW_RW, BLKTAP_MAP_WINDOW_RO})
        EXPECT_EQ(mmap(nullptr, seat->window_bytes(), PROT_READ, MAP_SHARED, fd,
                       static_cast<off_t>(area)),
                  MAP_FAILED);
    close(fd);
    expect_in_order();
}

TEST_F(BadTapdisk, BringsAnotherDiskToAConnectedGuest)
{
    seat.reset();
    EXPECT_THROW(Seat(vbd.node(), attach_to(Seat::kSectors / 2)), std::system_error);
    blktap_attach other_blocks = attach_to(Seat::kSectors);
    other_blocks.sector_size = 4096;
    other_blocks.physical_sector_size = 4096;
    EXPECT_THROW(Seat(vbd.node(), other_blocks), std::system_error);
    EXPECT_EQ(vbd.backend_value("sectors"), std::to_string(Seat::kSectors));
    seat.emplace(vbd.node());
    expect_in_order();
}

// What it offers beyond what the guest was told is no reason to refuse it; what is missing is.
TEST_F(BadTapdisk, ThatComesBackMayOfferMoreButNotLess)
{
    seat.reset();
    blktap_attach more = attach_to(Seat::kSectors);
    more.disk_flags |= BLKTAP_DISK_DISCARD | BLKTAP_DISK_SECURE | BLKTAP_DISK_PERSISTENT |
                       BLKTAP_DISK_BUFFERED;
    more.discard_granularity = 4096;
    seat.emplace(vbd.node(), more);
    EXPECT_EQ(seat->attached().disk_flags_out, BLKTAP_DISK_FLUSH | BLKTAP_DISK_BUFFERED);
    expect_in_order();

    seat.reset();
    for (const auto& spoil : {std::function<void(blktap_attach&)>(
                                  [](auto& a) { a.disk_flags &= ~BLKTAP_DISK_FLUSH; }),
                              std::function<void(blktap_attach&)>(
                                  [](auto& a) { a.disk_flags |= BLKTAP_DISK_READ_ONLY; }),
                              std::function<void(blktap_attach&)>(
                                  [](auto& a) { a.disk_flags |= BLKTAP_DISK_CDROM; })}) {
        blktap_attach less = attach_to(Seat::kSectors);
        spoil(less);
        EXPECT_THROW(Seat(vbd.node(), less), std::system_error);
    }
    seat.emplace(vbd.node());
    expect_in_order();
}

// No bad one: the image was grown while no tapdisk was there.
TEST_F(BadTapdisk, ThatComesBackMayBringALargerDisk)
{
    seat.reset();
    seat.emplace(vbd.node(), attach_to(Seat::kSectors * 2));
    EXPECT_EQ(vbd.backend_value("sectors"), std::to_string(Seat::kSectors * 2));
    EXPECT_EQ(vbd.attribute("sectors"), std::to_string(Seat::kSectors * 2));
    expect_in_order();
}

} // namespace
