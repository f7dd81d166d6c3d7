// SPDX-License-Identifier: GPL-2.0-only
// Writes for which the store has no room, of a disk whose guest waits for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/server_fixture.hpp"

namespace tapdisk {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kPage;
using testing::Wish;

// The real one, of a store that is full at times. What it has no room for it writes in part.
class FullEngine final : public Engine {
 public:
  explicit FullEngine(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {}

  std::string_view name() const noexcept override { return engine_->name(); }
  const EngineCounters& counters() const noexcept override { return engine_->counters(); }
  void expect_data_in(std::span<std::byte>) noexcept override {}
  void start(Io& io) noexcept override {
    if (io.verb == IoVerb::kWrite && refuses && refuses(refused))
      refuse(io);
    else
      engine_->start(io);
  }
  bool turn(int timeout_ms) noexcept override {
    if (ends_late) refused_.swap(late_);
    const std::vector<Io*> ended = std::exchange(refused_, {});
    for (Io* io : ended) {
      io->data.drop_front(1024);
      finish_io(*io, -ENOSPC);
      io->client->io_finished(*io);
    }
    const bool sleeps = ended.empty() && late_.empty();
    return engine_->turn(sleeps ? timeout_ms : 0) || !ended.empty();
  }

  // Whether the next write finds no room, when so many have not.
  std::function<bool(unsigned)> refuses;
  unsigned refused = 0;
  bool ends_late = false;  // what is refused, a turn later

 private:
  void refuse(Io& io) {
    refused++;
    refused_.push_back(&io);
  }

  std::unique_ptr<Engine> engine_;
  std::vector<Io*> refused_;
  std::vector<Io*> late_;
};

class FullServer : public testing::ServerFixture {
 protected:
  std::unique_ptr<Engine> make_one() override {
    auto made = std::make_unique<FullEngine>(ServerFixture::make_one());
    store = made.get();
    return made;
  }
  // Four writes, each of a letter of its own.
  void SetUp() override {
    ServerFixture::SetUp();
    guest.depth = 4;
    for (std::uint64_t i = 0; i < 4; i++) guest.wishes.push_back({BLKTAP_OP_WRITE, i * 8, kPage});
    guest.prepare = [this](Slot slot, const Wish& wish) {
      if (wish.op == BLKTAP_OP_WRITE)
        std::memset(module.page(slot, false), letter(wish.sector), 4096);
    };
  }
  static char letter(std::uint64_t sector) { return static_cast<char>('a' + sector / 8); }
  std::string written() const {
    std::string content(std::size_t{4} * 4096, ' ');
    std::ifstream{path}.read(content.data(), static_cast<std::streamsize>(content.size()));
    return content;
  }
  static std::string expected() {
    std::string all;
    for (std::uint64_t i = 0; i < 4; i++) all += std::string(4096, letter(i * 8));
    return all;
  }

  FullEngine* store = nullptr;
};

INSTANTIATE_TEST_SUITE_P(Engines, FullServer, testing::kEngines, testing::engine_name);

TEST_P(FullServer, WritesWaitUntilThereIsRoom) {
  store->refuses = [this](unsigned refused) { return refused < 12; };
  EXPECT_TRUE(server->run());
  EXPECT_THAT(guest.results, ElementsAre(0, 0, 0, 0));
  EXPECT_EQ(written(), expected());
  EXPECT_EQ(server->counters().writes_waited.get(), 4u);
  EXPECT_EQ(server->counters().writes_went_on.get(), 4u);
  EXPECT_EQ(server->counters().errors.get(), 0u);
  EXPECT_EQ(full.waiting(), 0u);
  EXPECT_THAT(logged, ElementsAre(HasSubstr("its storage is full"), HasSubstr("any more")));
  EXPECT_LT(server->counters().turns.get(), 50u) << "it does not sleep while they wait";
}

// Would hang if they did not: it is the read's answer that makes room.
TEST_P(FullServer, ReadsGoOnMeanwhile) {
  guest.wishes.back() = {BLKTAP_OP_READ, 80, kPage};
  bool full_store = true;
  store->refuses = [&](unsigned) { return full_store; };
  guest.check = [&](Slot, std::size_t) { full_store = false; };
  EXPECT_TRUE(server->run());
  EXPECT_THAT(guest.results, ElementsAre(0, 0, 0, 0));
  EXPECT_EQ(server->counters().writes_waited.get(), 3u);
}

TEST_P(FullServer, TheyFailIfTheyAreGivenUpAndLaterOnesDoNot) {
  store->refuses = [this](unsigned refused) {
    if (refused == 8) server->give_up();
    return refused < 12;
  };
  guest.check = [this](Slot, std::size_t n) {
    if (n == 3) guest.wishes = {{BLKTAP_OP_WRITE, 0, kPage}};
  };
  EXPECT_TRUE(server->run());
  EXPECT_THAT(guest.results, ElementsAre(-ENOSPC, -ENOSPC, -ENOSPC, -ENOSPC, 0));
  EXPECT_EQ(server->counters().errors.get(), 4u);
  EXPECT_EQ(full.waiting(), 0u);
}

// Whoever gives them up while they are tried is told that they fail.
TEST_P(FullServer, TheyFailIfTheyAreGivenUpWhileTheyAreTried) {
  store->ends_late = true;
  store->refuses = [this](unsigned refused) {
    if (refused == 7) server->give_up();  // the last of the second try begins
    return refused < 20;
  };
  EXPECT_TRUE(server->run());
  EXPECT_THAT(guest.results, ElementsAre(-ENOSPC, -ENOSPC, -ENOSPC, -ENOSPC));
  EXPECT_EQ(full.waiting(), 0u);
}

TEST_P(FullServer, ToGiveUpWhatDoesNotWaitDoesNothing) {
  server->give_up();
  store->refuses = [](unsigned refused) { return refused < 4; };
  EXPECT_TRUE(server->run());
  EXPECT_THAT(guest.results, ElementsAre(0, 0, 0, 0));
}

// Unanswered, and having said so: HOLD.
TEST_P(FullServer, WhoIsStoppedLeavesThemToTheNextOne) {
  store->refuses = [this](unsigned refused) {
    if (refused == 8) server->stop();
    return true;
  };
  EXPECT_TRUE(server->run());
  EXPECT_FALSE(server->vbd_is_gone());
  EXPECT_EQ(guest.in_flight, 4);
  EXPECT_EQ(full.waiting(), 4u);
  EXPECT_FALSE(source.armed);
}

TEST_P(FullServer, AVbdThatIsGoneWaitsForNothing) {
  store->refuses = [this](unsigned refused) {
    if (refused == 8) source.remove();
    return true;
  };
  EXPECT_TRUE(server->run());
  EXPECT_TRUE(server->vbd_is_gone());
}

TEST_P(FullServer, ADiskThatReportsIsToldAtOnce) {
  FullStore reported{path, WhenFull::kReport, [](const std::string&) {}};
  Server reporting{source, *image, *engine, errors, reported};
  store->refuses = [](unsigned) { return true; };
  EXPECT_TRUE(reporting.run());
  EXPECT_THAT(guest.results, ElementsAre(-ENOSPC, -ENOSPC, -ENOSPC, -ENOSPC));
}

}  // namespace
}  // namespace tapdisk
