// SPDX-License-Identifier: GPL-2.0-only
//
// Every shared byte is loaded at most once per request, and what is decided on
// is what was loaded: the guest may do what it likes with its memory.

#include <cstddef>

// Sees every load of shared memory that ring/ makes, just before it is made.
void trace_load(const void* address, std::size_t bytes);
#define RING_TRACE_LOAD(address, bytes) trace_load((address), (bytes))

#include "ring/blkif_decode.h"
#include "ring/ring.h"
#include "tests/support/guest_entry.h"
#include "tests/support/slots.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <random>
#include <thread>

namespace {

// A page of shared memory that counts how often each of its bytes is loaded.
class SharedPage {
public:
    SharedPage()
    {
        void* at = mmap(nullptr, RING_PAGE_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED)
            throw std::bad_alloc();
        bytes = static_cast<unsigned char*>(at);
        current = this;
    }
    ~SharedPage()
    {
        current = nullptr;
        munmap(bytes, RING_PAGE_SIZE);
    }
    SharedPage(const SharedPage&) = delete;
    SharedPage& operator=(const SharedPage&) = delete;

    void forbid(bool yes) const
    {
        ASSERT_EQ(mprotect(bytes, RING_PAGE_SIZE, yes ? PROT_NONE : PROT_READ | PROT_WRITE), 0);
    }

    void seen(const void* address, std::size_t count)
    {
        const auto at = static_cast<std::size_t>(static_cast<const unsigned char*>(address) -
                                                 bytes);
        if (at >= RING_PAGE_SIZE)
            return;
        if (before_load)
            before_load();
        for (std::size_t i = 0; i < count; i++)
            loads[at + i]++;
    }

    blkif_sring* ring() const { return reinterpret_cast<blkif_sring*>(bytes); }

    unsigned char* bytes;
    std::array<int, RING_PAGE_SIZE> loads{};
    std::function<void()> before_load;
    static inline SharedPage* current;
};

guest::Request sample(std::mt19937_64& random)
{
    guest::Request request;
    request.operation = static_cast<std::uint8_t>(random() % 7);
    request.nr_segments = static_cast<std::uint8_t>(random() % 13);
    request.id = random();
    request.sector = random() % 1200;
    for (blkif_wire_segment& seg : request.seg) {
        seg.gref = static_cast<std::uint32_t>(random());
        seg.first_sect = static_cast<std::uint8_t>(random() % 4);
        seg.last_sect = static_cast<std::uint8_t>(random() % 16 ? 4 + random() % 4 : random());
    }
    return request;
}

struct Outcome {
    blkif_verdict verdict;
    blkif_request request;
    std::array<blkif_segment, BLKTAP_SEGS_MAX> seg;
};

blkif_disk offer_everything()
{
    blkif_disk disk{};
    disk.sectors = 1024;
    disk.sector_size = 512;
    disk.max_indirect = BLKTAP_SEGS_MAX;
    disk.discard = true;
    disk.secure_discard = true;
    return disk;
}

// `descriptors` is the caller's copy of the page that an indirect request names.
Outcome decode(const blkif_abi& abi, const blkif_entry& entry,
               const blkif_wire_segment* descriptors = nullptr)
{
    const blkif_disk disk = offer_everything();
    Outcome outcome{};
    outcome.verdict = blkif_decode(&outcome.request, &abi, &entry, &disk);
    if (outcome.verdict != BLKIF_VALID || (outcome.request.indirect && !descriptors))
        return outcome;
    outcome.verdict = blkif_decode_segments(
        &outcome.request, outcome.seg.data(),
        outcome.request.indirect ? descriptors : blkif_direct_segments(&abi, &entry), &disk);
    return outcome;
}

bool same(const Outcome& a, const Outcome& b)
{
    if (a.verdict != b.verdict || a.request.id != b.request.id || a.request.op != b.request.op)
        return false;
    return a.verdict != BLKIF_VALID || std::memcmp(&a, &b, sizeof a) == 0;
}

class FetchOnce : public testing::TestWithParam<guest::Abi> {
protected:
    const blkif_abi& abi = guest::table(GetParam());
    std::mt19937_64 random{42};
};

INSTANTIATE_TEST_SUITE_P(Abi, FetchOnce, testing::ValuesIn(guest::kAbis),
                         [](const auto& info) { return guest::name(info.param); });

TEST_P(FetchOnce, EachByteOfWhatTheRequestHasIsLoadedExactlyOnceAndNoneBesides)
{
    for (std::uint32_t position = 0; position < 32; position++) {
        SharedPage page;
        page.ring()->req_prod = position + 1;
        unsigned char* at = guest::entry_at(page.bytes, GetParam(), position);
        guest::put_request(at, GetParam(), sample(random));

        const ring_consumer consumer{position, 32};
        ASSERT_EQ(ring_available(&consumer, &page.ring()->req_prod), 1);
        // With room for one segment at least: other operations have their fields there.
        const std::size_t segments = std::clamp<std::size_t>(at[BLKIF_AT_NR_SEGMENTS], 1,
                                                             BLKIF_SEGS_PER_REQUEST);
        const std::size_t bytes = abi.segments + segments * sizeof(blkif_wire_segment);
        blkif_entry entry;
        blkif_fetch(&entry, &abi, page.ring(), ring_position(&consumer));
        page.forbid(true); // from here a look at the shared page is a crash
        decode(abi, entry);
        page.forbid(false);

        const auto begin = static_cast<std::size_t>(at - page.bytes);
        for (std::size_t i = 0; i < RING_PAGE_SIZE; i++) {
            const bool index = i < 4;
            const bool own = i >= begin && i < begin + bytes;
            ASSERT_EQ(page.loads[i], index || own ? 1 : 0) << "byte " << i;
        }
    }
}

// The worst guest: it changes every byte as soon as it has been loaded.
TEST_P(FetchOnce, ChangingBytesBehindTheReaderChangesNothing)
{
    for (int round = 0; round < 500; round++) {
        SharedPage page;
        const guest::Request request = sample(random);
        unsigned char* at = guest::entry_at(page.bytes, GetParam(), 5);
        guest::put_request(at, GetParam(), request);
        blkif_entry snapshot;
        std::memcpy(snapshot.bytes, at, abi.entry_bytes);

        page.before_load = [&] {
            for (std::size_t i = 0; i < RING_PAGE_SIZE; i++)
                if (page.loads[i])
                    page.bytes[i] = static_cast<unsigned char>(random());
        };
        blkif_entry entry;
        blkif_fetch(&entry, &abi, page.ring(), 5);
        std::memset(page.bytes, 0xff, RING_PAGE_SIZE);
        ASSERT_TRUE(same(decode(abi, entry), decode(abi, snapshot))) << "round " << round;
    }
}

// A guest that writes all the time from another CPU: whatever mixture the copy
// holds, what is let through is valid.
TEST_P(FetchOnce, AWriterOnAnotherCpuNeverGetsAnInvalidRequestThrough)
{
    SharedPage page;
    std::atomic<bool> stop = false;
    std::thread writer([&] {
        std::mt19937_64 noise(7);
        auto* words = reinterpret_cast<std::uint32_t*>(guest::entry_at(page.bytes, GetParam(), 0));
        while (!stop) {
            alignas(4) unsigned char entry[BLKIF_ENTRY_BYTES_MAX];
            guest::put_request(entry, GetParam(), sample(noise));
            std::uint32_t word;
            for (std::size_t i = 0; i < guest::request_bytes(GetParam()) / 4; i++) {
                std::memcpy(&word, entry + 4 * i, 4);
                __atomic_store_n(&words[i], word, __ATOMIC_RELAXED);
            }
        }
    });
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    int valid = 0;
    while (valid < 20000 && std::chrono::steady_clock::now() < deadline) {
        blkif_entry entry;
        blkif_fetch(&entry, &abi, page.ring(), 0);
        const Outcome outcome = decode(abi, entry);
        if (outcome.verdict != BLKIF_VALID || !outcome.request.bytes)
            continue;
        valid++;
        const blkif_request& r = outcome.request;
        std::uint32_t bytes = 0;
        for (std::size_t i = 0; i < r.nr_segs; i++) {
            EXPECT_LE(outcome.seg[i].offset + outcome.seg[i].length, 4096);
            EXPECT_GE(outcome.seg[i].length, 512);
            bytes += outcome.seg[i].length;
        }
        EXPECT_EQ(bytes, r.bytes);
        EXPECT_LE(r.sector + bytes / 512, 1024u);
    }
    stop = true;
    writer.join();
    EXPECT_GT(valid, 0);
}

// The page of segments of an indirect request is the guest's too.
TEST_P(FetchOnce, ADescriptorPageIsLoadedOnceAndOnlyItsCopyIsJudged)
{
    for (int round = 0; round < 200; round++) {
        guest::Indirect request;
        request.indirect_op = static_cast<std::uint8_t>(random() % 2);
        request.nr_segments = static_cast<std::uint16_t>(1 + random() % BLKTAP_SEGS_MAX);
        blkif_entry entry{};
        guest::put_request(entry.bytes, GetParam(), request);

        SharedPage page;
        std::array<blkif_wire_segment, guest::Indirect::kSegmentsPerPage> snapshot;
        for (blkif_wire_segment& seg : snapshot)
            seg = {static_cast<std::uint32_t>(random()), 0,
                   static_cast<std::uint8_t>(random() % 1000 ? 0 : 9), 0};
        std::memcpy(page.bytes, snapshot.data(), sizeof snapshot);
        page.before_load = [&] {
            for (std::size_t i = 0; i < RING_PAGE_SIZE; i++)
                if (page.loads[i])
                    page.bytes[i] = static_cast<unsigned char>(random());
        };
        std::array<blkif_wire_segment, BLKTAP_SEGS_MAX> copy{};
        const std::size_t bytes = request.nr_segments * sizeof copy[0];
        ring_copy_in(copy.data(), page.bytes, bytes);
        page.forbid(true);
        const Outcome outcome = decode(abi, entry, copy.data());
        page.forbid(false);
        ASSERT_TRUE(same(outcome, decode(abi, entry, snapshot.data()))) << "round " << round;
        for (std::size_t i = 0; i < RING_PAGE_SIZE; i++)
            ASSERT_EQ(page.loads[i], i < bytes ? 1 : 0) << "byte " << i;
    }
}

TEST_P(FetchOnce, DiscardsAreLoadedOnceToo)
{
    SharedPage page;
    guest::Discard request;
    request.sector = 8;
    request.sectors = 64;
    guest::put_request(guest::entry_at(page.bytes, GetParam(), 0), GetParam(), request);
    page.before_load = [&] {
        for (std::size_t i = 0; i < RING_PAGE_SIZE; i++)
            if (page.loads[i])
                page.bytes[i] = 0xff;
    };
    blkif_entry entry;
    blkif_fetch(&entry, &abi, page.ring(), 0);
    page.forbid(true);
    const Outcome outcome = decode(abi, entry);
    page.forbid(false);
    EXPECT_EQ(outcome.verdict, BLKIF_VALID);
    EXPECT_EQ(outcome.request.sector, 8u);
    EXPECT_EQ(outcome.request.discard_sectors, 64u);
    EXPECT_FALSE(outcome.request.secure);
}

TEST(FetchOnceCommand, EachByteOfACommandIsLoadedExactlyOnce)
{
    SharedPage page;
    auto* head = reinterpret_cast<blktap_user_head*>(page.bytes);
    auto* commands = reinterpret_cast<blktap_cmd*>(head + 1);
    head->cmd_prod = 1;
    commands[0] = {BLKTAP_CMD_COMPLETE, 0, 1, 1, 0, 0, 0, 0};
    tapdisk::testing::Slots<4> slots;
    slots.offer(1);

    const ring_consumer consumer{0, 32};
    ASSERT_EQ(ring_available(&consumer, &head->cmd_prod), 1);
    blktap_cmd copy;
    ring_copy_in(&copy, &commands[0], sizeof copy);
    page.forbid(true);
    EXPECT_EQ(slots.judge(copy), CMD_VALID);
    page.forbid(false);
    for (std::size_t i = 0; i < RING_PAGE_SIZE; i++)
        ASSERT_EQ(page.loads[i], i < 4 || (i >= 64 && i < 96) ? 1 : 0) << "byte " << i;
}

} // namespace

void trace_load(const void* address, std::size_t bytes)
{
    if (SharedPage::current)
        SharedPage::current->seen(address, bytes);
}
