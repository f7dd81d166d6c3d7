// SPDX-License-Identifier: GPL-2.0-only
//
// A guest that abuses all that it can reach, at random, again and again, while tapdisks die under
// it. Its vbd may give up, but comes back for a frontend that starts afresh; nothing is left of it;
// and a neighbour sees no error and no wrong byte. What was done is said by a seed.

#include "tests/frontend/neighbour.hpp"

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <map>
#include <random>
#include <type_traits>
#include <utility>

using namespace std::chrono_literals;
using Access = xen::Pages::Access;

namespace {

constexpr std::size_t kPages = 32;
constexpr std::size_t kSegments = 256;
constexpr std::uint64_t kSectors = 32768;

class Rogue {
public:
    Rogue(Disk& disk, std::uint64_t seed) : vbd_(disk.vbd()), random_(seed) { describe_all(); }

    // Lives until it has put so many requests.
    void run(std::uint64_t requests)
    {
        while (requests_ < requests && !testing::Test::HasFailure())
            live();
    }

    std::uint64_t requests() const { return requests_; }
    const std::map<std::string, unsigned>& deeds() const { return deeds_; }

private:
    bool one_in(unsigned n) { return random_() % n == 0; }
    template <class Container>
    auto& any_of(Container& container) { return container[random_() % std::size(container)]; }

    // From the first key to the last lie. Ends with a vbd that waits for a frontend.
    void live()
    {
        const Shape shape{.abi = any_of(guest::kAbis),
                          .order = static_cast<unsigned>(random_() % 5),
                          .queues = static_cast<unsigned>(1 + random_() % 4),
                          .persistent = one_in(2)};
        Frontend frontend(vbd_, shape);
        frontend_ = &frontend;
        connected_ = connect();
        for (int deed = 0; connected_ && deed < 40 && !testing::Test::HasFailure(); deed++)
            do_one_deed();
        close_somehow();
        frontend_ = nullptr;
        start_afresh();
    }

    // Whether it may hope for answers.
    bool connect()
    {
        Keys keys = frontend_->keys();
        if (one_in(8)) {
            deeds_["connects with a wrong key"]++;
            any_of(keys).second = any_of(kValues);
        } else if (frontend_->queues() > 1 && one_in(8)) {
            deeds_["gives two queues one ring"]++;
            for (auto& [key, value] : keys)
                if (key.starts_with("queue-1/ring-ref"))
                    value = std::to_string(ref_of(keys, "queue-0" + key.substr(7)));
            frontend_->announce(keys);
            if (vbd_.wait_for(kConnected, 5s))
                for (int i = 0; i < 20; i++)
                    frontend_->queue(random_() % frontend_->queues()).channel().notify();
            return false;
        } else {
            vbd_.forget_frontend_keys();
            if (frontend_->connect())
                return true;
            ADD_FAILURE() << "an honest frontend is not connected: " << vbd_.error();
            return false;
        }
        vbd_.forget_frontend_keys();
        frontend_->announce(keys);
        return false;
    }

    static std::uint64_t ref_of(const Keys& keys, const std::string& name)
    {
        const auto found = std::ranges::find(keys, name, &Keys::value_type::first);
        return found == keys.end() ? 0 : std::stoull(found->second);
    }

    void do_one_deed()
    {
        switch (random_() % 16) {
        default: return send(false);
        case 8: case 9: return send(true);
        case 10:
            deeds_["storms of events"]++;
            for (int i = 0; i < 300; i++)
                frontend_->queue(random_() % frontend_->queues()).channel().notify();
            return;
        case 11: return take_grants_back();
        case 12: return write_junk();
        case 13: return one_in(4) ? kill_tapdisk() : send(false);
        case 14: return one_in(4) ? move_index() : send(true);
        case 15: return one_in(4) ? read_into_its_ring() : send(true);
        }
    }

    // A random number of random requests; `restless`: it changes them while they are read.
    void send(bool restless)
    {
        deeds_[restless ? "changes requests under way" : "sends requests"]++;
        Queue& queue = frontend_->queue(random_() % frontend_->queues());
        for (auto left = 1 + random_() % queue.entries(); left; left--) {
            if (queue.outstanding() == queue.entries())
                break;
            ask([&](const auto& request) { queue.put(request); });
            requests_++;
        }
        queue.push();
        // By whole requests, for single bytes might name a page of the neighbour, who has the same
        // table of grants.
        for (int i = 0; restless && i < 300; i++) {
            void* entry = queue.entry(static_cast<std::uint32_t>(random_()));
            ask([&](const auto& request) {
                if constexpr (!std::is_same_v<std::decay_t<decltype(request)>, guest::Discard>)
                    guest::put_request(entry, frontend_->abi(), request);
            });
        }
        if (one_in(2))
            collect(queue);
    }

    // All is answered, somehow.
    void collect(Queue& queue)
    {
        const std::uint32_t outstanding = queue.outstanding();
        if (queue.wait_all().size() != outstanding)
            ADD_FAILURE() << queue.outstanding() << " of " << outstanding
                          << " requests are not answered; the vbd is "
                          << vbd_.attribute("state") << ": " << vbd_.error();
    }

    // Makes a random request and hands it to `use`.
    template <class Use>
    void ask(Use&& use)
    {
        const auto id = random_();
        const std::uint64_t sector = one_in(16) ? random_() : random_() % (kSectors + 64);
        if (one_in(12)) {
            guest::Discard discard;
            discard.flag = static_cast<std::uint8_t>(random_());
            discard.id = id;
            discard.sector = sector;
            discard.sectors = one_in(8) ? random_() : random_() % 256;
            return use(discard);
        }
        if (one_in(4)) {
            for (int i = 0; i < 4; i++)
                describe(descriptors_[random_() % kSegments]);
            guest::Indirect indirect = descriptors_.request(
                operation(), sector,
                one_in(16) ? random_() & 0xffff : 1 + random_() % kSegments);
            if (one_in(8))
                any_of(indirect.pages) = reference();
            indirect.id = id;
            return use(indirect);
        }
        guest::Request request;
        request.operation = operation();
        request.nr_segments = static_cast<std::uint8_t>(
            one_in(16) ? random_() : random_() % (BLKIF_SEGS_PER_REQUEST + 1));
        request.id = id;
        request.sector = sector;
        for (auto& segment : request.seg)
            describe(segment);
        use(request);
    }

    std::uint8_t operation()
    {
        if (one_in(32))
            return static_cast<std::uint8_t>(random_());
        if (one_in(8))
            return static_cast<std::uint8_t>(random_() % 8);
        return one_in(2) ? BLKIF_OP_READ : BLKIF_OP_WRITE;
    }

    void describe(blkif_wire_segment& segment)
    {
        segment = {reference(), 0, 7, 0};
        if (one_in(2)) {
            segment.first_sect = static_cast<std::uint8_t>(random_() % 8);
            segment.last_sect = static_cast<std::uint8_t>(
                segment.first_sect + random_() % (8u - segment.first_sect));
        }
        if (one_in(32)) {
            segment.first_sect = static_cast<std::uint8_t>(random_());
            segment.last_sect = static_cast<std::uint8_t>(random_());
        }
    }

    // A number that was given back may be that of a ring before long.
    void describe_all()
    {
        for (std::size_t i = 0; i < kSegments; i++)
            describe(descriptors_[i]);
    }

    // None of these is a page of the neighbour.
    std::uint32_t reference()
    {
        if (one_in(32))
            return static_cast<std::uint32_t>(0x7f000000 | random_());
        if (one_in(32))
            return readable_.ref(random_() % readable_.count());
        return writable_->ref(random_() % kPages);
    }

    void take_grants_back()
    {
        deeds_["takes grants back under way"]++;
        writable_.emplace(kPages, Access::read_write);
        describe_all();
    }

    void write_junk()
    {
        deeds_["writes junk to xenstore"]++;
        const Keys keys = frontend_->keys();
        for (int i = 0; i < 8; i++)
            vbd_.store().write({{vbd_.frontend_key(one_in(2) ? any_of(keys).first
                                                            : std::to_string(random_() % 64)),
                                 any_of(kValues)}});
    }

    void kill_tapdisk()
    {
        const std::string pid = vbd_.attribute("tapdisk_pid");
        if (pid.empty() || pid == "0")
            return;
        deeds_["has its tapdisk killed"]++;
        kill(static_cast<pid_t>(std::stol(pid)), SIGKILL);
    }

    void move_index()
    {
        deeds_["moves its index"]++;
        Queue& queue = frontend_->queue(random_() % frontend_->queues());
        queue.ring()->req_prod += static_cast<std::uint32_t>(
            one_in(2) ? queue.entries() + 1 + random_() % 8 : random_());
        queue.channel().notify();
        connected_ = false;
    }

    void read_into_its_ring()
    {
        deeds_["reads into its own ring"]++;
        Queue& queue = frontend_->queue(0);
        collect(queue);
        const Keys keys = queue.keys("");
        const auto ref = ref_of(keys, frontend_->shape().order ? "ring-ref0" : "ring-ref");
        guest::Request read;
        read.sector = random_() % 1024;
        read.nr_segments = 1;
        read.seg[0] = {static_cast<std::uint32_t>(ref), 0, 7, 0};
        queue.put(read);
        queue.push();
        connected_ = false;
    }

    void close_somehow()
    {
        switch (random_() % 5) {
        case 0:
            deeds_["closes in order"]++;
            for (std::size_t i = 0; connected_ && i < frontend_->queues(); i++)
                collect(frontend_->queue(i));
            vbd_.set_frontend_state(kClosing);
            vbd_.wait_for(kClosing, 5s);
            break;
        case 1:
            deeds_["takes its rings back"]++;
            frontend_->queue(random_() % frontend_->queues()).drop_pages();
            break;
        case 2:
            deeds_["jumps between states"]++;
            for (int i = 0; i < 20; i++)
                vbd_.set_frontend_state(static_cast<State>(random_() % 9));
            break;
        case 3:
            deeds_["vanishes and comes back"]++;
            vbd_.set_frontend_state(kInitialising);
            break;
        case 4:
            deeds_["closes with its rings full"]++;
            break;
        }
    }

    void start_afresh()
    {
        vbd_.set_frontend_state(kClosed);
        EXPECT_TRUE(vbd_.wait_for(kClosed, 60s)) << vbd_.attribute("state") << vbd_.error();
        vbd_.forget_frontend_keys();
        vbd_.set_frontend_state(kInitialising);
        EXPECT_TRUE(vbd_.wait_for(kInitWait, 60s)) << vbd_.attribute("state") << vbd_.error();
        vbd_.forget_error();
    }

    inline static const std::string kValues[] = {"",   "0",  "-1",         "17",  "4294967295",
                                                 "no", "1x", "2147483632", "9999"};

    Vbd& vbd_;
    std::mt19937_64 random_;
    std::optional<xen::Pages> writable_{std::in_place, kPages, Access::read_write};
    xen::Pages readable_{4, Access::read_only};
    Descriptors descriptors_{kSegments};
    Frontend* frontend_ = nullptr;
    bool connected_ = false; // and has not lied: all that it asks for is answered
    std::uint64_t requests_ = 0;
    std::map<std::string, unsigned> deeds_;
};

TEST(RogueGuest, HarmsNobodyButItself)
{
    Neighbour neighbour;
    Disk disk;
    {
        Rogue rogue(disk, settings.seed);
        rogue.run(settings.requests);
        std::printf("                   seed %llu: %llu requests; a neighbour's: %u\n",
                    static_cast<unsigned long long>(settings.seed),
                    static_cast<unsigned long long>(rogue.requests()), neighbour.requests());
        for (const auto& [deed, times] : rogue.deeds())
            std::printf("                   %6u  %s\n", times, deed.c_str());
        EXPECT_GE(rogue.requests(), settings.requests);
    }
    Frontend honest(disk.vbd());
    ASSERT_TRUE(honest.connect()) << disk.vbd().error();
    expect_alive(honest);
    EXPECT_GT(neighbour.requests(), 0u);
}

} // namespace
