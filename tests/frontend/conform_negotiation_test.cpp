// SPDX-License-Identifier: GPL-2.0-only
//
// Frontends that ask for what is not offered, or do not say what they must: each is refused with an
// error node, and may come back with better keys. And what may be said although it need not.

#include "tests/frontend/conform.hpp"

#include <algorithm>
#include <functional>

using namespace std::chrono_literals;

namespace {

constexpr const char* kNeverGranted = "2147483632";

void set(Keys& keys, const std::string& key, const std::string& value)
{
    std::erase_if(keys, [&](const auto& pair) { return pair.first == key; });
    keys.emplace_back(key, value);
}

// It must have been there: otherwise the case would prove nothing.
void drop(Keys& keys, const std::string& key)
{
    EXPECT_EQ(std::erase_if(keys, [&](const auto& pair) { return pair.first == key; }), 1u) << key;
}

std::string last_page(const Offers& offers)
{
    return "ring-ref" + std::to_string((1u << offers.ring_order) - 1);
}

std::string last_queue(const Offers& offers)
{
    return "queue-" + std::to_string(offers.queues - 1) + "/";
}

// What a case is made of: the keys of a good frontend with one of these, spoilt.
enum class From { plain, large_ring, all_queues };

struct BadOffer {
    const char* name;
    From from;
    std::function<void(Keys&, const Offers&)> spoil;
    // xen-blkback refuses it with a kernel warning (its count of free requests is off), which the
    // host must not have.
    bool warns_on_blkback = false;
};

const BadOffer kBad[] = {
    {"NoQueues", From::plain,
     [](Keys& keys, auto&) { set(keys, "multi-queue-num-queues", "0"); }},
    {"OneQueueTooMany", From::all_queues,
     [](Keys& keys, const Offers& offers) {
         set(keys, "multi-queue-num-queues", std::to_string(offers.queues + 1));
     }},
    {"MoreQueuesThanCanBe", From::plain,
     [](Keys& keys, auto&) { set(keys, "multi-queue-num-queues", "4294967295"); }},
    {"RingOneOrderTooLarge", From::large_ring,
     [](Keys& keys, const Offers& offers) {
         set(keys, "ring-page-order", std::to_string(offers.ring_order + 1));
     }},
    {"RingOrder32", From::plain, [](Keys& keys, auto&) { set(keys, "ring-page-order", "32"); }},
    {"RingOrderTheLargest", From::plain,
     [](Keys& keys, auto&) { set(keys, "ring-page-order", "4294967295"); }},
    {"UnknownProtocol", From::plain,
     [](Keys& keys, auto&) { set(keys, "protocol", "sparc-abi"); }},
    {"NoRing", From::plain, [](Keys& keys, auto&) { drop(keys, "ring-ref"); }, true},
    {"NoChannel", From::plain, [](Keys& keys, auto&) { drop(keys, "event-channel"); }, true},
    {"RingNeverGranted", From::plain,
     [](Keys& keys, auto&) { set(keys, "ring-ref", kNeverGranted); }, true},
    {"ChannelOfNobody", From::plain,
     [](Keys& keys, auto&) { set(keys, "event-channel", "4000"); }, true},
    {"RingNotANumber", From::plain, [](Keys& keys, auto&) { set(keys, "ring-ref", "page"); }, true},
    {"NoLastPage", From::large_ring,
     [](Keys& keys, const Offers& offers) { drop(keys, last_page(offers)); }, true},
    {"LastPageNeverGranted", From::large_ring,
     [](Keys& keys, const Offers& offers) { set(keys, last_page(offers), kNeverGranted); }, true},
    {"NoRingOfTheLastQueue", From::all_queues,
     [](Keys& keys, const Offers& offers) { drop(keys, last_queue(offers) + "ring-ref"); }, true},
    {"NoChannelOfTheLastQueue", From::all_queues,
     [](Keys& keys, const Offers& offers) { drop(keys, last_queue(offers) + "event-channel"); },
     true},
    {"RingOfTheLastQueueNeverGranted", From::all_queues,
     [](Keys& keys, const Offers& offers) {
         set(keys, last_queue(offers) + "ring-ref", kNeverGranted);
     },
     true},
    {"NothingAtAll", From::plain, [](Keys& keys, auto&) { keys.clear(); }, true},
};

void PrintTo(const BadOffer& bad, std::ostream* out)
{
    *out << bad.name;
}

class ConformBadKeys : public Conform, public testing::WithParamInterface<BadOffer> {};

INSTANTIATE_TEST_SUITE_P(Each, ConformBadKeys, testing::ValuesIn(kBad),
                         [](const auto& info) { return info.param.name; });

TEST_P(ConformBadKeys, AreRefusedAndMayBeMended)
{
    const BadOffer& bad = GetParam();
    NEEDS(bad.from != From::large_ring || offers().ring_order, "a ring of more than one page");
    NEEDS(bad.from != From::all_queues || offers().queues > 1, "more than one queue");
    if (bad.warns_on_blkback)
        NOT_RUN_ON(Backend::blkback, "it refuses, but with a warning in the kernel log");
    const auto deviation =
        known_deviation(Backend::qdisk, "it does not refuse: it waits, and says nothing");
    const Shape shape{.order = bad.from == From::large_ring ? offers().ring_order : 0,
                      .queues = bad.from == From::all_queues ? offers().queues : 1};
    Frontend& frontend = prepare(shape);
    Keys keys = frontend.keys();
    bad.spoil(keys, offers());
    frontend.announce(keys);
    EXPECT_TRUE(vbd().wait_for(kClosing)) << "state " << vbd().state();
    EXPECT_TRUE(eventually(5s, [&] { return !vbd().error().empty(); }));
    vbd().forget_error();

    ASSERT_TRUE(frontend.reopen()) << "state " << vbd().state() << " " << vbd().error();
    expect_alive(frontend);
}

class ConformKeys : public Conform {};

TEST_F(ConformKeys, OneQueueMayBeSaid)
{
    Frontend& frontend = prepare();
    Keys keys = frontend.keys();
    keys.emplace_back("multi-queue-num-queues", "1");
    frontend.announce(keys);
    ASSERT_TRUE(vbd().wait_for(kConnected)) << vbd().error();
    vbd().set_frontend_state(kConnected);
    expect_alive(frontend);
}

// blkif.h, note 6: a ring of one page is found under `ring-ref`.
TEST_F(ConformKeys, ARingOfOnePageMayBeSaid)
{
    NOT_RUN_ON(Backend::blkback, "it looks for ring-ref0, and fails with a kernel warning");
    const auto deviation = known_deviation(Backend::qdisk, "it looks for ring-ref0");
    Frontend& frontend = prepare();
    Keys keys = frontend.keys();
    keys.emplace_back("ring-page-order", "0");
    frontend.announce(keys);
    ASSERT_TRUE(vbd().wait_for(kConnected)) << vbd().error();
    vbd().set_frontend_state(kConnected);
    expect_alive(frontend);
}

TEST_F(ConformKeys, UnknownOnesAreIgnored)
{
    Frontend& frontend = prepare();
    Keys keys = frontend.keys();
    keys.emplace_back("feature-of-tomorrow", "1");
    keys.emplace_back("feature-large-sector-size", "1");
    keys.emplace_back("trusted", "1");
    frontend.announce(keys);
    ASSERT_TRUE(vbd().wait_for(kConnected)) << vbd().error();
    vbd().set_frontend_state(kConnected);
    expect_alive(frontend);
}

// A frontend that goes to Connected at once, its keys written before.
TEST_F(ConformKeys, InitialisedMayBeSkipped)
{
    Frontend& frontend = prepare();
    Keys values;
    for (const auto& [key, value] : frontend.keys())
        values.emplace_back(vbd().frontend_key(key), value);
    vbd().store().write(values);
    vbd().set_frontend_state(kConnected);
    ASSERT_TRUE(vbd().wait_for(kConnected)) << vbd().error();
    expect_alive(frontend);
}

} // namespace
