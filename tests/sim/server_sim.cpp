// SPDX-License-Identifier: GPL-2.0-only
// One queue of tapdisk but for the system calls: shared areas, crank and queue, with a guest, an
// image, an engine and a module of our own. The engine moves real bytes of a small file, finishes
// in any order, and fails at times; the guest checks every byte that it reads; the vbd is removed
// or tapdisk told to stop at any moment.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <vector>

#include "base/syscall.hpp"
#include "server/server.hpp"
#include "tests/sim/seeds.hpp"
#include "tests/support/fake_module.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk {
namespace {

using testing::Dice;
using testing::FakeGuest;
using testing::FakeModule;
using testing::FakeSource;
using testing::TempDirectory;

constexpr unsigned kPages = 600;  // of the disk

class SimEngine final : public Engine {
 public:
  // Of a hundred I/Os so many fail, and of a hundred writes so many find no room.
  SimEngine(Dice& dice, unsigned faults, unsigned full)
      : dice_(dice), faults_(faults), full_(full) {}

  std::string_view name() const noexcept override { return "simulated"; }
  const EngineCounters& counters() const noexcept override { return counters_; }
  void expect_data_in(std::span<std::byte>) noexcept override {}
  void start(Io& io) noexcept override {
    EXPECT_LT(started_.size(), kEngineDepth);
    started_.push_back(&io);
  }

  bool turn(int) noexcept override {
    std::vector<Io*> finished;
    std::vector<Io*> waiting;
    for (Io* io : started_) (is_finished(*io) ? finished : waiting).push_back(io);
    started_ = waiting;
    const bool any = !finished.empty();
    while (!finished.empty()) {
      const unsigned choice = dice_.below(static_cast<unsigned>(finished.size()));
      Io* io = finished[choice];
      finished.erase(finished.begin() + choice);
      finish_io(*io, io->result);
      io->client->io_finished(*io);
    }
    return any;
  }

 private:
  bool is_finished(Io& io) {
    if (io.verb == IoVerb::kWatch) {
      pollfd waiting{io.fd, POLLIN, 0};
      if (::poll(&waiting, 1, 0) == 0) return false;
      io.result = waiting.revents;
      return true;
    }
    if (dice_.percent(60)) return false;
    io.result = dice_.percent(faults_) ? -EIO : 0;
    if (io.result) return true;
    if (io.verb == IoVerb::kWrite && dice_.percent(full_)) {
      io.data.drop_front(dice_.below(2) * 512);
      io.result = -ENOSPC;
      return true;
    }
    ssize_t moved = io.left;
    if (io.verb == IoVerb::kRead)
      moved = ::preadv(io.fd, io.data.data(), static_cast<int>(io.data.size()),
                       static_cast<off_t>(io.offset));
    if (io.verb == IoVerb::kWrite)
      moved = ::pwritev(io.fd, io.data.data(), static_cast<int>(io.data.size()),
                        static_cast<off_t>(io.offset));
    EXPECT_EQ(moved, static_cast<ssize_t>(io.left));
    return true;
  }

  Dice& dice_;
  unsigned faults_;
  unsigned full_;
  EngineCounters counters_;
  std::vector<Io*> started_;
};

// Like the raw image, but that a discard is the engine's too, so that a seed decides when it is
// done: it writes zeros.
class SimImage final : public Image, private IoClient {
 public:
  SimImage(int fd, Engine& engine) : fd_(fd), engine_(engine) {
    info_.sectors = kPages * 8;
    info_.sector_size = 512;
    info_.discard.offered = true;
  }

  const ImageInfo& info() const noexcept override { return info_; }
  std::optional<Place> place(ImageVerb, std::uint64_t, std::uint64_t) const noexcept override {
    return {};
  }

 private:
  void do_start(ImageOp& op) noexcept override {
    ImageIo& io = op.ios[0];
    io.verb = op.verb == ImageVerb::kRead   ? IoVerb::kRead
              : op.verb == ImageVerb::kSync ? IoVerb::kSync
                                            : IoVerb::kWrite;
    io.fd = fd_;
    io.offset = op.sector * kSectorSize;
    io.data = op.data;
    io.left = static_cast<std::uint32_t>(op.bytes);
    if (op.verb == ImageVerb::kDiscard) {
      std::array<iovec, 1>& range = zero_ranges_[&op];
      range[0] = {zeros_.data(), op.bytes};
      io.data = range;
    }
    io.client = this;
    io.op = &op;
    engine_.start(io);
  }

  void io_finished(Io& io) noexcept override {
    finish(*static_cast<ImageIo&>(io).op, io.result);
  }

  int fd_;
  Engine& engine_;
  ImageInfo info_;
  std::vector<std::byte> zeros_ = std::vector<std::byte>(std::size_t{kPages} * 4096);
  std::map<const ImageOp*, std::array<iovec, 1>> zero_ranges_;
};

// Owns pages of the disk while a request on them is in flight, so that it knows what they hold.
class SimGuest final : public FakeGuest {
 public:
  SimGuest(Dice& dice, FakeModule& module, unsigned requests)
      : dice_(dice), module_(module), left_(requests) {}

  void rung() override {
    for (unsigned tries = dice_.below(300); tries > 0 && left_ > 0; tries--) {
      const Slot slot = static_cast<Slot>(dice_.below(module_.attach().depth));
      if (module_.is_free(slot)) ask(slot);
    }
    // Ready for more at once, or woken later.
    if (left_ > 0 || in_flight > 0) source->wake();
  }

  void answered(Slot slot, int result) override {
    in_flight--;
    Wish& wish = wishes_[slot];
    for (unsigned i = 0; i < wish.pages; i++) {
      const unsigned page = wish.first + i;
      busy_[page] = false;
      // After a failed write nobody knows what is there.
      if (wish.writes && result) known_[page] = false;
      if (wish.writes && !result) {
        known_[page] = true;
        value_[page] = wish.value;
      }
      if (wish.op == BLKTAP_OP_READ && !result && known_[page]) {
        EXPECT_EQ(module_.page(slot, true, i)[page * 63 % 4096], std::byte{value_[page]});
      }
    }
  }

  bool is_done() const { return left_ == 0 && in_flight == 0; }

  unsigned in_flight = 0;
  unsigned in_flight_max = 0;
  FakeSource* source = nullptr;

 private:
  struct Wish {
    std::uint8_t op = 0;
    bool writes = false;
    unsigned first = 0;
    unsigned pages = 0;
    std::uint8_t value = 0;
  };

  void ask(Slot slot) {
    Wish wish;
    const unsigned dice = dice_.below(100);
    wish.op = dice < 45   ? BLKTAP_OP_READ
              : dice < 80 ? BLKTAP_OP_WRITE
              : dice < 85 ? BLKTAP_OP_DISCARD
              : dice < 95 ? BLKTAP_OP_FLUSH
                          : BLKTAP_OP_BARRIER;
    const bool discards = wish.op == BLKTAP_OP_DISCARD;
    const bool may_be_empty = wish.op == BLKTAP_OP_FLUSH || wish.op == BLKTAP_OP_BARRIER;
    // Many small ones, so that many are in flight; some as large as there may be.
    const unsigned pages_max = dice_.percent(95) ? 4 : BLKTAP_SEGS_MAX;
    wish.pages = dice_.below(pages_max + may_be_empty) + !may_be_empty;
    wish.first = dice_.below(kPages - BLKTAP_SEGS_MAX);
    wish.writes = wish.op != BLKTAP_OP_READ && wish.pages;
    wish.value = discards ? std::uint8_t{0} : static_cast<std::uint8_t>(dice_.below(256));
    for (unsigned i = 0; i < wish.pages; i++)
      if (busy_[wish.first + i]) return;
    if (!module_.reserve(slot, discards ? 0 : wish.pages)) return;

    std::vector<blktap_seg> segments(wish.pages, blktap_seg{0, 0, 4096});
    for (unsigned i = 0; i < wish.pages; i++) {
      busy_[wish.first + i] = true;
      if (wish.writes && !discards) std::memset(module_.page(slot, false, i), wish.value, 4096);
    }
    wishes_[slot] = wish;
    if (discards)
      module_.announce_discard(slot, wish.first * 8, wish.pages * 8);
    else
      module_.announce(slot, wish.op, wish.first * 8, segments);
    in_flight++;
    in_flight_max = std::max(in_flight_max, in_flight);
    left_--;
  }

  Dice& dice_;
  FakeModule& module_;
  unsigned left_;
  std::array<Wish, BLKTAP_DEPTH_MAX> wishes_;
  std::array<bool, kPages> busy_{};
  std::array<bool, kPages> known_{};
  std::array<std::uint8_t, kPages> value_{};
};

// Ends the run at a moment of the dice's choice.
class Ending final : public FakeGuest {
 public:
  enum class Kind { kNatural, kRemoved, kStopped };
  Ending(Dice& dice, SimGuest& guest) : guest_(guest) {
    kind = static_cast<Kind>(dice.below(3));
    rings_ = dice.below(60);
  }

  void answered(Slot slot, int result) override { guest_.answered(slot, result); }
  void rung() override {
    guest_.rung();
    const bool now = kind == Kind::kNatural ? guest_.is_done() : rings_-- == 0;
    if (now && kind == Kind::kStopped) server->stop();
    if (now && kind != Kind::kStopped) source->remove();
  }

  Kind kind;
  FakeSource* source = nullptr;
  Server* server = nullptr;

 private:
  SimGuest& guest_;
  unsigned rings_;
};

// Gives how many requests were in flight at most.
void simulate(std::uint64_t seed, const std::string& path, unsigned& in_flight_max) {
  Dice dice{seed};
  SimEngine engine{dice, dice.percent(30) ? dice.below(10) : 0,
                   dice.percent(30) ? dice.below(60) : 0};
  auto file = open_file(path, O_RDWR);
  ASSERT_TRUE(file) << file.error().what;
  SimImage image{file->get(), engine};
  FakeModule module{kPages * 8, 512, 1u << dice.below(9)};
  SimGuest guest{dice, module, 500};
  Ending ending{dice, guest};
  FakeSource source{module, ending};
  guest.source = ending.source = &source;
  ErrorLog errors{path, [](const std::string&) {}};
  FullStore full{path, WhenFull::kHold, [](const std::string&) {}, std::chrono::milliseconds{0}};
  Server server{source, image, engine, errors, full};
  ending.server = &server;

  const Result<void> outcome = server.run();
  EXPECT_TRUE(outcome) << outcome.error().what;
  // Who is told to stop answers what was asked, but for writes that wait for room; a vbd that is
  // gone is owed nothing.
  if (ending.kind != Ending::Kind::kRemoved && !full.waiting()) {
    EXPECT_EQ(guest.in_flight, 0u);
  }
  in_flight_max = std::max(in_flight_max, guest.in_flight_max);
}

TEST(ServerSim, NoRequestIsLostAndNoByteIsWrong) {
  const TempDirectory directory;
  const std::string path = directory.file("a.img", std::size_t{kPages} * 4096);
  unsigned in_flight_max = 0;
  testing::for_each_seed(300, [&](std::uint64_t seed) { simulate(seed, path, in_flight_max); });
  RecordProperty("in_flight_max", static_cast<int>(in_flight_max));
}

}  // namespace
}  // namespace tapdisk
