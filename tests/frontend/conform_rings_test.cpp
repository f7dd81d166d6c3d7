// SPDX-License-Identifier: GPL-2.0-only
//
// What can be negotiated, on and off: size and number of rings, the layout of requests, persistent
// grants, indirect requests. Data stays intact under as much load as the rings hold.

#include "tests/frontend/conform_load.hpp"

#include <algorithm>
#include <set>
#include <string>
#include <tuple>

using Access = xen::Pages::Access;

namespace {

// --- every ring order, with one queue and with as many as there are ------------------------------

using OrderAndQueues = std::tuple<unsigned, bool>; // bool: all queues that are offered

class ConformRings : public Conform, public testing::WithParamInterface<OrderAndQueues> {};

INSTANTIATE_TEST_SUITE_P(Each, ConformRings,
                         testing::Combine(testing::Range(0u, 5u), testing::Bool()),
                         [](const auto& info) {
                             return "Order" + std::to_string(std::get<0>(info.param)) +
                                    (std::get<1>(info.param) ? "AllQueues" : "OneQueue");
                         });

TEST_P(ConformRings, KeepDataAtFullDepth)
{
    const auto [order, all_queues] = GetParam();
    NEEDS(order <= offers().ring_order, "a ring of that order");
    NEEDS(!all_queues || offers().queues > 1, "more than one queue");
    connect({.order = order, .queues = all_queues ? offers().queues : 1});
    Load load(disk(), frontend(), {.seed = order * 2 + all_queues});
    load.start();
    EXPECT_EQ(load.outstanding(), frontend().queues() * frontend().queue(0).entries());
    ASSERT_TRUE(load.run(load.outstanding() + 200));
    load.check_medium();
}

TEST_P(ConformRings, MayHaveIndicesThatWrap)
{
    NOT_RUN_ON(Backend::qdisk, "its indices begin at 0, and it serves no disk any more afterwards");
    const auto [order, all_queues] = GetParam();
    NEEDS(order <= offers().ring_order, "a ring of that order");
    NEEDS(!all_queues || offers().queues > 1, "more than one queue");
    prepare({.order = order, .queues = all_queues ? offers().queues : 1});
    for (std::size_t i = 0; i < frontend().queues(); i++)
        frontend().queue(i).start_at(-(frontend().queue(i).entries() / 2));
    ASSERT_TRUE(frontend().connect()) << vbd().error();
    Load load(disk(), frontend(), {.seed = 77 + order});
    ASSERT_TRUE(load.run(frontend().queue(0).entries() * frontend().queues() + 50));
    load.check_medium();
}

// --- the layout of requests ----------------------------------------------------------------------

class ConformAbi : public Conform, public testing::WithParamInterface<guest::Abi> {
protected:
    void SetUp() override
    {
        Conform::SetUp();
        if (GetParam() == guest::Abi::native)
            NOT_RUN_ON(Backend::blkback, "without a protocol it assumes x86_32, and misreads");
    }
};

INSTANTIATE_TEST_SUITE_P(Each, ConformAbi, testing::ValuesIn(guest::kAbis),
                         [](const auto& info) { return guest::name(info.param); });

TEST_P(ConformAbi, KeepsDataOfDirectRequests)
{
    connect({.abi = GetParam()});
    Load load(disk(), frontend(), {.segments = BLKIF_SEGS_PER_REQUEST});
    ASSERT_TRUE(load.run(100));
    load.check_medium();
}

TEST_P(ConformAbi, KeepsDataInTheLargestRing)
{
    NEEDS(offers().ring_order, "a ring of more than one page");
    connect({.abi = GetParam(), .order = offers().ring_order});
    Load load(disk(), frontend(), {.seed = 2, .segments = 2});
    ASSERT_TRUE(load.run(load.outstanding() + 100));
    load.check_medium();
}

TEST_P(ConformAbi, KeepsDataOfIndirectRequests)
{
    NEEDS(offers().indirect, "indirect requests");
    connect({.abi = GetParam()});
    Load load(disk(), frontend(),
              {.seed = 3, .segments = std::min(offers().indirect, 64u), .mixed = true});
    ASSERT_TRUE(load.run(50));
    load.check_medium();
}

TEST_P(ConformAbi, HasItsOwnPlaceForADiscard)
{
    connect({.abi = GetParam()});
    NEEDS(offers().discard, "discard");
    guest::Discard discard;
    discard.sector = 1024;
    discard.sectors = 64;
    EXPECT_EQ(frontend().run(discard), BLKIF_RSP_OKAY);
    // Where another layout has zeroes: a misread one cannot go unnoticed.
    discard.sector = kSectors - 64;
    discard.sectors = 65;
    EXPECT_EQ(frontend().run(discard), BLKIF_RSP_ERROR);
    expect_alive(frontend());
}

// --- indirect requests of all sizes, in all rings ------------------------------------------------

class ConformIndirectLoad : public Conform {};

TEST_F(ConformIndirectLoad, KeepsDataWithTheMostSegments)
{
    NEEDS(offers().indirect, "indirect requests");
    connect({.order = offers().ring_order, .queues = offers().queues});
    Load load(disk(), frontend(), {.segments = most_segments(), .depth = 12, .mixed = true});
    ASSERT_TRUE(load.run(40));
    load.check_medium();
}

// --- persistent grants ---------------------------------------------------------------------------

class ConformPersistent : public Conform, public testing::WithParamInterface<bool> {};

INSTANTIATE_TEST_SUITE_P(Each, ConformPersistent, testing::Bool(), [](const auto& info) {
    return info.param ? "AllQueuesLargestRing" : "OneQueueOnePage";
});

TEST_P(ConformPersistent, KeepsDataInTheSameGrants)
{
    const Shape shape = GetParam() ? Shape{.order = offers().ring_order,
                                           .queues = offers().queues,
                                           .persistent = true}
                                   : Shape{.persistent = true};
    connect(shape);
    NEEDS(offers().persistent, "persistent grants");
    Load load(disk(), frontend(), {.seed = 4, .segments = GetParam() ? 3u : 11u});
    ASSERT_TRUE(load.run(300));
    load.check_medium();
}

TEST_P(ConformPersistent, KeepsDataOfIndirectRequests)
{
    NEEDS(offers().indirect, "indirect requests");
    connect({.queues = GetParam() ? offers().queues : 1, .persistent = true});
    NEEDS(offers().persistent, "persistent grants");
    // More grants than xen-blkback keeps mapped for a ring.
    Load load(disk(), frontend(), {.seed = 5, .segments = most_segments(), .depth = 12,
                                   .mixed = true});
    ASSERT_TRUE(load.run(30));
    load.check_medium();
}

// Persistent or not, the guest may write to a page after the answer, and what it wrote is used.
TEST_P(ConformPersistent, SeesWhatTheGuestWroteLast)
{
    connect({.persistent = GetParam()});
    NEEDS(!GetParam() || offers().persistent, "persistent grants");
    xen::Pages page(1, Access::read_write);
    for (std::uint64_t i = 0; i < 10; i++) {
        fill(page.all(), i);
        ASSERT_EQ(frontend().run(request(BLKIF_OP_WRITE, 8 * i, page, 0, 1)), BLKIF_RSP_OKAY);
        ASSERT_TRUE(disk().stored(8 * i, 4096) == pattern(i, 4096));
        const std::uint64_t back = i / 2;
        ASSERT_EQ(frontend().run(request(BLKIF_OP_READ, 8 * back, page, 0, 1)), BLKIF_RSP_OKAY);
        ASSERT_TRUE(std::ranges::equal(page.all(), pattern(back, 4096)));
    }
}

class ConformGrants : public Conform {};

// A frontend that did not agree to persistent grants may take a grant back at the answer, and give
// another page under the same number.
TEST_F(ConformGrants, LooksUpEachGrantAfreshUnlessPersistent)
{
    connect();
    std::set<std::uint32_t> numbers;
    for (std::uint64_t i = 0; i < 10; i++) {
        xen::Pages page(1, Access::read_only);
        numbers.insert(page.ref(0));
        fill(page.all(), 1000 + i);
        ASSERT_EQ(frontend().run(request(BLKIF_OP_WRITE, 8 * i, page, 0, 1)), BLKIF_RSP_OKAY);
        ASSERT_TRUE(disk().stored(8 * i, 4096) == pattern(1000 + i, 4096));
    }
    EXPECT_LT(numbers.size(), 10u) << "no number came twice: nothing is proved";
}

} // namespace
