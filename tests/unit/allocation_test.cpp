// SPDX-License-Identifier: GPL-2.0-only
// The steady state of the data path allocates nothing.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "base/syscall.hpp"
#include "server/server.hpp"
#include "tests/support/fake_module.hpp"
#include "tests/support/open_image.hpp"
#include "tests/support/temp_file.hpp"

namespace {

std::atomic<bool> counting{false};
std::atomic<unsigned long> allocations{0};

void* allocate(std::size_t bytes) {
  if (counting) allocations++;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc{};
}

}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes); }
void* operator new[](std::size_t bytes) { return allocate(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace tapdisk {
namespace {

using testing::FakeGuest;
using testing::FakeModule;
using testing::FakeSource;
using testing::open_raw;
using testing::TempDirectory;

constexpr std::array kSegments{blktap_seg{0, 0, 4096}, blktap_seg{0, 0, 4096},
                               blktap_seg{0, 512, 1024}};

// Keeps all slots busy with every kind of request; counts from the moment that it is warm.
struct BusyGuest final : FakeGuest {
  explicit BusyGuest(FakeModule& m) : module(m) {}
  void answered(Slot, int result) override {
    if (result) errors++;
    answers++;
    counting = answers > kWarm && answers < kEnd;
    if (answers == kEnd) source->remove();
  }
  void rung() override {
    for (Slot slot = 0; slot < BLKTAP_DEPTH_MAX && answers < kEnd; slot++) {
      if (!module.is_free(slot)) continue;
      sent++;
      const std::uint8_t op = sent % 97 == 0   ? BLKTAP_OP_BARRIER
                              : sent % 31 == 0 ? BLKTAP_OP_FLUSH
                                               : static_cast<std::uint8_t>(sent % 2);
      if (sent % 41 == 0)
        module.announce_discard(slot, sent % 200 * 8, 16);
      else
        module.announce(slot, op, sent % 200 * 8, kSegments);
    }
  }

  static constexpr unsigned kWarm = 1000;
  static constexpr unsigned kEnd = 6000;
  FakeModule& module;
  FakeSource* source = nullptr;
  unsigned sent = 0;
  unsigned answers = 0;
  unsigned errors = 0;
};

class AllocationTest : public ::testing::TestWithParam<EngineKind> {};

INSTANTIATE_TEST_SUITE_P(Engines, AllocationTest, ::testing::Values(EngineKind::kUring,
                                                                    EngineKind::kAio),
                         [](const auto& info) {
                           return info.param == EngineKind::kUring ? "io_uring" : "libaio";
                         });

TEST_P(AllocationTest, TheSteadyStateAllocatesNothing) {
  const TempDirectory directory{"/dev/shm"};
  ImageOptions options;
  options.path = directory.file("a.img", 1 << 20);
  auto engine = make_engine(GetParam());
  auto image = open_raw(options, **engine);
  ASSERT_TRUE(image);
  FakeModule module{2048};
  BusyGuest guest{module};
  FakeSource source{module, guest};
  guest.source = &source;
  ErrorLog errors{options.path, [](const std::string&) {}};
  FullStore full{options.path, WhenFull::kReport, [](const std::string&) {}};
  Server server{source, **image, **engine, errors, full};

  allocations = 0;
  EXPECT_TRUE(server.run());
  counting = false;
  EXPECT_GE(guest.answers, BusyGuest::kEnd);
  EXPECT_EQ(guest.errors, 0u);
  EXPECT_EQ(allocations, 0u);
}

TEST(Counting, CountsAtAll) {
  allocations = 0;
  counting = true;
  delete new int{5};
  counting = false;
  EXPECT_GE(allocations, 1u);
}

}  // namespace
}  // namespace tapdisk
