// SPDX-License-Identifier: GPL-2.0-only
// Several queues read and write any sectors of an image at once, whose storage knows only units of
// eight. Its I/O ends in any order, and some of it in an error. What each read finds, and what is
// there in the end, is what such a disk may have: in each sector the last write, or one of those
// that were under way together.
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "image/aligner.hpp"
#include "tests/sim/seeds.hpp"

namespace tapdisk {
namespace {

using testing::Dice;

constexpr std::uint32_t kUnit = 4096;
constexpr std::uint64_t kSectors = 512;
constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

using Tag = std::uint64_t;  // of a write, which fills its sectors with it; 0: what was there before

struct Storage {
  alignas(kUnit) std::array<std::byte, kSectors * kSectorSize> bytes{};
};

// Ends its I/O in an order of the dice's, one at each turn.
class DiceEngine final : public Engine {
 public:
  DiceEngine(Storage& storage, Dice& dice, unsigned failing_percent)
      : storage_(storage), dice_(dice), failing_percent_(failing_percent) {}

  std::string_view name() const noexcept override { return "dice"; }
  const EngineCounters& counters() const noexcept override { return counters_; }
  void expect_data_in(std::span<std::byte>) noexcept override {}
  void start(Io& io) noexcept override {
    (io.verb == IoVerb::kWatch ? watches_ : under_way_).push_back(&io);
  }

  bool turn(int) noexcept override {
    for (Io* watch : std::exchange(watches_, {})) look(*watch);
    if (under_way_.empty()) return false;
    const auto chosen = under_way_.begin() + dice_.below(static_cast<unsigned>(under_way_.size()));
    Io& io = **chosen;
    under_way_.erase(chosen);
    io.result = dice_.percent(failing_percent_) ? -EIO : 0;
    if (!io.result) carry_out(io);
    io.client->io_finished(io);
    return true;
  }

 private:
  void look(Io& watch) {
    pollfd event{watch.fd, POLLIN, 0};
    if (::poll(&event, 1, 0) != 1) {
      watches_.push_back(&watch);
      return;
    }
    watch.result = POLLIN;
    watch.client->io_finished(watch);
  }

  void carry_out(const Io& io) {
    std::byte* at = &storage_.bytes[io.offset];
    std::uint64_t bits = io.offset;
    std::uint32_t bytes = 0;
    for (const iovec& range : io.data) {
      bits |= reinterpret_cast<std::uintptr_t>(range.iov_base) | range.iov_len;
      bytes += static_cast<std::uint32_t>(range.iov_len);
      if (io.verb == IoVerb::kWrite) std::memcpy(at, range.iov_base, range.iov_len);
      else std::memcpy(range.iov_base, at, range.iov_len);
      at += range.iov_len;
    }
    EXPECT_EQ(bits % kUnit, 0u) << "the storage would refuse it";
    EXPECT_EQ(bytes, io.left);
  }

  Storage& storage_;
  Dice& dice_;
  unsigned failing_percent_;
  std::vector<Io*> watches_;
  std::vector<Io*> under_way_;
  EngineCounters counters_;
};

struct Write {
  Tag tag = 0;
  std::uint64_t begun = 0;
  std::uint64_t ended = 0;
  bool failed = false;  // the sector may have it, and may not
};

// What each sector may hold.
class Model {
 public:
  Model() : writes_(kSectors, std::vector<Write>(1)) {}

  void begin(std::uint64_t sector, std::uint64_t sectors, Tag tag, std::uint64_t now) {
    for (std::uint64_t i = sector; i < sector + sectors; i++)
      writes_[i].push_back(Write{tag, now, kNever, false});
  }
  void end(std::uint64_t sector, std::uint64_t sectors, Tag tag, std::uint64_t now, bool failed) {
    for (std::uint64_t i = sector; i < sector + sectors; i++)
      for (Write& write : writes_[i])
        if (write.tag == tag) write.ended = now, write.failed = failed;
  }
  // To a read that began then and has ended now.
  bool may_be(std::uint64_t sector, Tag tag, std::uint64_t begun) const {
    const auto& all = writes_[sector];
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const Write& write) { return write.tag == tag; });
    return found != all.end() &&
           std::none_of(all.begin(), all.end(), [&](const Write& later) {
             return !later.failed && later.begun > found->ended && later.ended < begun;
           });
  }

 private:
  std::vector<std::vector<Write>> writes_;
};

// An operation of the guest's, with pages of its own, in pieces that begin and end anywhere.
struct Operation : ImageOp {
  alignas(kUnit) std::array<std::byte, (kSectors + 8) * kSectorSize> memory;
  std::vector<iovec> ranges;
  std::vector<std::byte*> sectors;  // where in memory each is
  Tag tag = 0;
  std::uint64_t begun = 0;
  bool busy = false;
};

Tag tag_at(const std::byte* sector) {
  Tag tag = 0;
  std::memcpy(&tag, sector, sizeof(tag));
  for (unsigned i = 0; i < kSectorSize; i += sizeof(tag))
    EXPECT_EQ(std::memcmp(sector + i, &tag, sizeof(tag)), 0) << "of two writes";
  return tag;
}

class Simulation final : private AlignerClient {
 public:
  explicit Simulation(std::uint64_t seed)
      : dice_(seed), failing_percent_(dice_.percent(30) ? 3 : 0) {
    const unsigned queues = 1 + dice_.below(4);
    for (unsigned i = 0; i < queues; i++) {
      engines_.push_back(std::make_unique<DiceEngine>(storage_, dice_, failing_percent_));
      auto aligner = Aligner::open({0, kUnit, ranges_}, *engines_.back(), *this);
      if (!aligner) throw std::runtime_error{aligner.error().what};
      aligners_.push_back(std::move(*aligner));
    }
    for (unsigned i = 0; i < 24; i++) operations_.push_back(std::make_unique<Operation>());
  }

  void run() {
    for (unsigned step = 0; step < 600; step++) {
      now_++;
      if (dice_.percent(50)) begin();
      else turn();
    }
    for (unsigned turns = 0; under_way_ && turns < 100'000; turns++) turn();
    ASSERT_EQ(under_way_, 0u) << "somebody waits for ever";
    now_++;
    for (std::uint64_t sector = 0; sector < kSectors; sector++)
      expect_possible(sector, &storage_.bytes[sector * kSectorSize], now_);
  }

 private:
  void turn() {
    now_++;
    engines_[dice_.below(static_cast<unsigned>(engines_.size()))]->turn(0);
  }

  void begin() {
    Operation& operation = *operations_[dice_.below(static_cast<unsigned>(operations_.size()))];
    if (operation.busy) return;
    operation.busy = true;
    operation.begun = now_;
    operation.tag = 0;
    operation.verb = dice_.percent(70) ? ImageVerb::kWrite : ImageVerb::kRead;
    choose_range(operation);
    lay_out(operation);
    if (operation.verb == ImageVerb::kWrite) {
      operation.tag = ++last_tag_;
      model_.begin(operation.sector, operation.bytes / kSectorSize, operation.tag, now_);
      for (std::byte* sector : operation.sectors)
        for (unsigned i = 0; i < kSectorSize; i += sizeof(Tag))
          std::memcpy(sector + i, &operation.tag, sizeof(Tag));
    }
    under_way_++;
    starting_ = true;
    aligners_[dice_.below(static_cast<unsigned>(aligners_.size()))]->start(operation);
    starting_ = false;
  }

  void choose_range(Operation& operation) {
    const bool is_large = dice_.percent(5);
    std::uint64_t count = 1 + dice_.below(is_large ? kSectors / 2 : 20);
    std::uint64_t first = dice_.below(static_cast<unsigned>(is_large ? kSectors : 64));
    if (dice_.percent(30)) {
      first &= ~7ull;
      count = (count + 7) & ~7ull;
    }
    operation.sector = std::min(first, kSectors - 8);
    operation.bytes = std::min(count, kSectors - operation.sector) * kSectorSize;
  }

  // Half of the time as one piece at the start of a page.
  void lay_out(Operation& operation) {
    operation.ranges.clear();
    operation.sectors.clear();
    const bool is_plain = dice_.percent(50);
    std::byte* at = operation.memory.data() + (is_plain ? 0 : dice_.below(8) * kSectorSize);
    for (std::uint64_t left = operation.bytes; left;) {
      const std::uint64_t most = std::min<std::uint64_t>(left, 8 * kSectorSize);
      const std::uint64_t bytes =
          is_plain ? left
                   : (1 + dice_.below(static_cast<unsigned>(most / kSectorSize))) * kSectorSize;
      operation.ranges.push_back({at, bytes});
      for (std::uint64_t i = 0; i < bytes; i += kSectorSize) operation.sectors.push_back(at + i);
      at += bytes;
      left -= bytes;
    }
    operation.data = operation.ranges;
  }

  void aligned_finished(ImageOp& op, int result) noexcept override {
    auto& operation = static_cast<Operation&>(op);
    EXPECT_FALSE(starting_) << "ended inside of start()";
    EXPECT_TRUE(operation.busy) << "ended twice";
    EXPECT_TRUE(result == 0 || failing_percent_);
    const std::uint64_t sectors = operation.bytes / kSectorSize;
    if (operation.verb == ImageVerb::kWrite)
      model_.end(operation.sector, sectors, operation.tag, now_, result != 0);
    else if (!result)
      for (std::uint64_t i = 0; i < sectors; i++)
        expect_possible(operation.sector + i, operation.sectors[i], operation.begun);
    operation.busy = false;
    under_way_--;
  }

  void expect_possible(std::uint64_t sector, const std::byte* content, std::uint64_t begun) {
    EXPECT_TRUE(model_.may_be(sector, tag_at(content), begun))
        << "sector " << sector << " has write " << tag_at(content);
  }

  Dice dice_;
  unsigned failing_percent_;
  Storage storage_;
  Model model_;
  RangeLock ranges_;
  std::vector<std::unique_ptr<DiceEngine>> engines_;
  std::vector<std::unique_ptr<Operation>> operations_;
  std::vector<std::unique_ptr<Aligner>> aligners_;
  std::uint64_t now_ = 0;
  Tag last_tag_ = 0;
  unsigned under_way_ = 0;
  bool starting_ = false;
};

TEST(AlignerSim, NoWriteIsLostToItsNeighbours) {
  testing::for_each_seed(60, [](std::uint64_t seed) {
    std::make_unique<Simulation>(seed)->run();
  });
}

}  // namespace
}  // namespace tapdisk
