// SPDX-License-Identifier: GPL-2.0-only
//
// One queue of a disk: the crank, with a real engine and file on one side and a guest of our own on
// the other.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/server.hpp"
#include "tests/support/fake_module.hpp"
#include "tests/support/open_image.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk::testing {

struct Wish {
  std::uint8_t op;
  std::uint64_t sector;
  std::vector<blktap_seg> segments;
  std::uint64_t discard_sectors = 0;
};

// Has one wish at a time fulfilled, or as many as `depth`; then lets the vbd be removed.
struct ScriptedGuest final : FakeGuest {
  void answered(Slot slot, int result) override {
    in_flight--;
    results.push_back(result);
    if (check) check(slot, results.size() - 1);
  }
  void rung() override {
    for (Slot slot = 0; slot < depth && !wishes.empty(); slot++) {
      if (!module->is_free(slot)) continue;
      const Wish wish = wishes.front();
      if (!module->reserve(slot, static_cast<unsigned>(wish.segments.size()))) break;
      wishes.pop_front();
      if (prepare) prepare(slot, wish);
      if (wish.op == BLKTAP_OP_DISCARD)
        module->announce_discard(slot, wish.sector, wish.discard_sectors);
      else
        module->announce(slot, wish.op, wish.sector, wish.segments);
      in_flight++;
    }
    if (in_flight == 0 && wishes.empty() && at_end) at_end();
  }

  FakeModule* module = nullptr;
  Slot depth = 1;
  std::deque<Wish> wishes;
  int in_flight = 0;
  std::vector<int> results;
  std::function<void(Slot, const Wish&)> prepare;
  std::function<void(Slot, std::size_t)> check;
  std::function<void()> at_end;
};

inline const std::vector<blktap_seg> kPage{{0, 0, 4096}};

class ServerFixture : public ::testing::TestWithParam<EngineKind> {
 protected:
  void SetUp() override {
    logged.clear();
    engine = make_one();
    ImageOptions options;
    options.path = path;
    image = std::move(*open_raw(options, *engine));
    guest.module = &module;
    guest.at_end = [this] { source.remove(); };
    server.emplace(source, *image, *engine, errors, full);
  }

  virtual std::unique_ptr<Engine> make_one() { return std::move(*make_engine(GetParam())); }

  TempDirectory directory;
  std::string path = directory.file("a.img", 1 << 20);
  FakeModule module{2048};
  ScriptedGuest guest;
  FakeSource source{module, guest};
  std::unique_ptr<Engine> engine;
  ViewedImage image;
  ErrorLog errors{path, [](const std::string& line) { logged.push_back(line); }};
  FullStore full{path, WhenFull::kHold, [](const std::string& line) { logged.push_back(line); },
                 std::chrono::milliseconds{10}};
  std::optional<Server> server;
  static inline std::vector<std::string> logged;
};

inline std::string engine_name(const ::testing::TestParamInfo<EngineKind>& info) {
  return info.param == EngineKind::kUring ? "io_uring" : "libaio";
}
inline const auto kEngines = ::testing::Values(EngineKind::kUring, EngineKind::kAio);

}  // namespace tapdisk::testing
