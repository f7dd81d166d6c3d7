// SPDX-License-Identifier: GPL-2.0-only
//
// Random requests at full depth against a model in memory: every read is
// compared, and at the end the whole medium.

#include "tests/frontend/disk.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <random>
#include <set>

namespace {

class RandomGuest : public testing::Test {
protected:
    // The disk in units of the largest request; requests in flight never share one.
    static constexpr std::uint64_t kUnitSectors = 88;
    static constexpr std::uint64_t kUnits = 64;
    static constexpr std::size_t kPages = BLKIF_SEGS_PER_REQUEST;

    struct Flight {
        std::size_t place; // which of the page groups
        std::uint64_t unit;
        guest::Request request;
    };

    void SetUp() override
    {
        ASSERT_TRUE(frontend.connect());
        for (std::size_t i = 0; i < Frontend::kEntries; i++)
            places.push_back(i);
    }

    // Puts one more request into the ring, if its unit is free.
    void start()
    {
        Flight flight{places.back(), random() % kUnits, {}};
        if (!busy.insert(flight.unit).second)
            return;
        places.pop_back();
        flight.request = request(random() % 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE,
                                 flight.unit * kUnitSectors, pages, flight.place * kPages,
                                 1 + random() % kPages);
        flight.request.id = started++;
        for (std::size_t i = 0; i < flight.request.nr_segments; i++) {
            blkif_wire_segment& seg = flight.request.seg[i];
            seg.first_sect = static_cast<std::uint8_t>(random() % 8);
            seg.last_sect = static_cast<std::uint8_t>(seg.first_sect +
                                                      random() % (8u - seg.first_sect));
        }
        if (flight.request.operation == BLKIF_OP_WRITE)
            each_segment(flight, [this](auto memory, auto at) {
                std::ranges::fill(memory, static_cast<std::uint8_t>(random()));
                std::ranges::copy(memory, at);
            });
        flights.emplace(flight.request.id, flight);
        frontend.put(flight.request);
    }

    void finish(const guest::Response& response)
    {
        const auto found = flights.find(response.id);
        ASSERT_NE(found, flights.end()) << "nobody asked for " << response.id;
        const Flight flight = found->second;
        ASSERT_EQ(response.status, BLKIF_RSP_OKAY);
        if (flight.request.operation == BLKIF_OP_READ)
            each_segment(flight, [](auto memory, auto at) {
                ASSERT_TRUE(std::equal(memory.begin(), memory.end(), at)) << "wrong data";
            });
        busy.erase(flight.unit);
        places.push_back(flight.place);
        flights.erase(found);
    }

    // Calls `what` with the guest's memory and the place in the model of each segment.
    template <class What>
    void each_segment(const Flight& flight, What&& what)
    {
        auto at = model.begin() + static_cast<std::ptrdiff_t>(flight.request.sector * 512);
        for (std::size_t i = 0; i < flight.request.nr_segments; i++) {
            const blkif_wire_segment& seg = flight.request.seg[i];
            const auto memory = pages.page(flight.place * kPages + i)
                                    .subspan(seg.first_sect * 512u,
                                             (seg.last_sect - seg.first_sect + 1u) * 512u);
            what(memory, at);
            at += static_cast<std::ptrdiff_t>(memory.size());
        }
    }

    Disk disk;
    Frontend frontend{disk.vbd()};
    xen::Pages pages{Frontend::kEntries * kPages, xen::Pages::Access::read_write};
    std::vector<std::uint8_t> model = Disk::original(0, kUnits * kUnitSectors * 512);
    std::mt19937_64 random{2024};
    std::map<std::uint64_t, Flight> flights;
    std::set<std::uint64_t> busy;
    std::vector<std::size_t> places;
    std::uint64_t started = 0;
};

TEST_F(RandomGuest, KeepsItsDataAtFullDepth)
{
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(15);
    while (std::chrono::steady_clock::now() < end && !HasFatalFailure()) {
        while (!places.empty() && random() % 8)
            start();
        frontend.push();
        if (flights.empty())
            continue;
        const auto response = frontend.wait();
        ASSERT_TRUE(response) << "a request got lost";
        finish(*response);
    }
    for (const guest::Response& response : frontend.wait_all())
        finish(response);
    EXPECT_TRUE(flights.empty());
    EXPECT_EQ(disk.stored(0, model.size()), model);
    std::printf("                   %llu requests\n", static_cast<unsigned long long>(started));
}

} // namespace
