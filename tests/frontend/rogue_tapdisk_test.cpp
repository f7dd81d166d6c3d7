// SPDX-License-Identifier: GPL-2.0-only
//
// Tapdisks that do anything at random (rogue_tapdisk.hpp), one after the other, killed at any
// moment, while a guest asks. They may answer it whatever they like; but what it has not handed
// them for reading stays as it is, nothing changes once it is answered, the next honest tapdisk
// serves it, and a neighbour sees no error and no wrong byte.

#include "tests/frontend/neighbour.hpp"
#include "tests/frontend/rogue_tapdisk.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <optional>
#include <random>
#include <string>
#include <system_error>
#include <vector>

using namespace std::chrono_literals;
using Access = xen::Pages::Access;

namespace {

// So many of a run's requests stand for one life.
constexpr std::uint64_t kRequestsOfALife = 400;

// Reads to some of its pages, writes from others, and never uses the rest.
class Guest {
public:
    explicit Guest(Frontend& frontend) : frontend_(frontend)
    {
        for (std::size_t page = 0; page < kPages; page++)
            std::ranges::fill(pages_.page(page), static_cast<std::uint8_t>(page + 1));
        for (std::size_t page = 0; page < kPages; page++)
            expected_.emplace_back(pages_.page(page).begin(), pages_.page(page).end());
        for (std::size_t page = 0; page < kFirstSpare; page++)
            idle_.push_back(page);
        thread_ = std::thread([this] {
            while (!stop_)
                work();
        });
    }
    ~Guest() { stop(); }

    // Whether all has been answered. There is somebody who answers.
    bool finish()
    {
        stop();
        while (frontend_.outstanding()) {
            const auto response = frontend_.wait(30s);
            if (!response)
                return false;
            take(*response);
        }
        check();
        return true;
    }
    unsigned answered() const { return answered_; }

private:
    static constexpr std::size_t kPages = 36;
    static constexpr std::size_t kFirstWritten = 16; // those before are read to
    static constexpr std::size_t kFirstSpare = 32;

    void stop()
    {
        stop_ = true;
        if (thread_.joinable())
            thread_.join();
    }
    void work()
    {
        while (!idle_.empty()) {
            std::swap(idle_[random_() % idle_.size()], idle_.back());
            const std::size_t page = idle_.back();
            idle_.pop_back();
            guest::Request asked =
                request(page < kFirstWritten ? BLKIF_OP_READ : BLKIF_OP_WRITE,
                        random_() % (Seat::kSectors - 8), pages_, page, 1);
            asked.id = page;
            if (page < kFirstWritten)
                expected_[page].clear(); // whatever it gets
            frontend_.put(asked);
        }
        frontend_.push();
        if (const auto response = frontend_.wait(20ms))
            take(*response);
        check();
    }
    void take(const guest::Response& response)
    {
        ASSERT_LT(response.id, kFirstSpare);
        const auto page = pages_.page(response.id);
        if (response.id < kFirstWritten)
            expected_[response.id].assign(page.begin(), page.end());
        idle_.push_back(response.id);
        answered_++;
    }
    void check()
    {
        for (std::size_t page = 0; page < kPages; page++)
            if (!expected_[page].empty() && !std::ranges::equal(expected_[page], pages_.page(page)))
            {
                ADD_FAILURE() << "page " << page << " was changed, which is "
                              << (page < kFirstWritten ? "answered"
                                  : page < kFirstSpare ? "written from"
                                                       : "nobody's");
                expected_[page].clear();
            }
    }

    Frontend& frontend_;
    xen::Pages pages_{kPages, Access::read_write};
    std::vector<std::vector<std::uint8_t>> expected_; // of each page; nothing: it may change now
    std::vector<std::size_t> idle_;
    std::mt19937 random_{1};
    std::atomic<unsigned> answered_ = 0;
    std::atomic<bool> stop_ = false;
    std::thread thread_;
};

// Its exit status; a signal is 128 and its number. Killed after `limit`, if there is one.
int live(const std::string& node, const std::string& scratch, std::uint64_t seed,
         std::optional<std::chrono::milliseconds> limit)
{
    std::array<std::string, 4> words{"rogue-tapdisk", node, scratch, std::to_string(seed)};
    std::array<char*, 5> arguments{words[0].data(), words[1].data(), words[2].data(),
                                   words[3].data(), nullptr};
    pid_t child = 0;
    if (posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, arguments.data(), environ) != 0)
        return -1;
    int status = 0;
    const auto ended = [&] { return waitpid(child, &status, WNOHANG) == child; };
    if (!eventually(limit.value_or(120s), ended)) {
        kill(child, SIGKILL);
        if (!limit || !eventually(60s, ended))
            return -2;
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

TEST(RogueTapdisk, HarmsNobodyButItsDisk)
{
    const std::string scratch = settings.directory + "/rogue.scratch";
    std::ofstream(scratch) << std::string(1 << 20, '\x33');
    std::mt19937_64 random(settings.seed);
    Neighbour neighbour;
    Vbd vbd{{}};
    std::optional<MemoryDisk> honest(std::in_place, vbd.node());
    Frontend frontend(vbd);
    ASSERT_TRUE(frontend.connect()) << vbd.error();
    honest.reset();

    Guest guest(frontend);
    unsigned lives = 0;
    unsigned killed = 0;
    for (; lives < settings.requests / kRequestsOfALife && !HasFailure(); lives++) {
        const std::uint64_t seed = random();
        std::optional<std::chrono::milliseconds> limit;
        if (random() % 2)
            limit.emplace(1 + random() % 400);
        const int status = live(vbd.node(), scratch, seed, limit);
        killed += status == 128 + SIGKILL;
        EXPECT_TRUE(status == 0 || status == 128 + SIGKILL)
            << "life " << lives << " of seed " << seed << " ended with " << status;
    }
    const auto serve = [&] {
        try {
            honest.emplace(vbd.node());
            return true;
        } catch (const std::system_error&) {
            return false;
        }
    };
    ASSERT_TRUE(eventually(60s, serve)) << "no honest tapdisk can follow";
    EXPECT_TRUE(guest.finish()) << "a request got lost";
    xen::Pages page(1, Access::read_write);
    EXPECT_EQ(frontend.run(request(BLKIF_OP_READ, 8, page, 0, 1)), BLKIF_RSP_OKAY);
    EXPECT_GT(guest.answered(), lives);
    EXPECT_GT(neighbour.requests(), 0u);
    // Or it has not done what it should have tried. What depends on a race is not asked for.
    const Counters counters = vbd.counters();
    for (const char* name : {"requests_delegated", "requests_submitted", "requests_copied",
                             "requests_kept", "requests_replayed", "bad_commands", "window_faults",
                             "responses_ok", "responses_error"})
        EXPECT_GT(counters.at(name), 0u) << name;
    std::printf("                   seed %llu: %u lives, %u killed; %u requests answered; a "
                "neighbour's: %u\n",
                static_cast<unsigned long long>(settings.seed), lives, killed, guest.answered(),
                neighbour.requests());
    unlink(scratch.c_str());
}

} // namespace
