// SPDX-License-Identifier: GPL-2.0-only
// All of tapdisk on a file, with a guest that always has as many 4 KiB reads as it may. Beside the
// time: doorbells and the engine's system calls per request.
#include <benchmark/benchmark.h>

#include "base/syscall.hpp"
#include "server/server.hpp"
#include "tests/support/fake_module.hpp"
#include "tests/support/open_image.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk {
namespace {

constexpr unsigned kPages = 256;
constexpr std::array kOnePage{blktap_seg{0, 0, 4096}};

class ReadingGuest final : public testing::FakeGuest {
 public:
  ReadingGuest(testing::FakeModule& module, Slot depth, std::uint64_t total)
      : module_(module), depth_(depth), left_(total), owed_(total) {}

  void answered(Slot, int) override { owed_--; }
  void rung() override {
    for (Slot slot = 0; slot < depth_ && left_ > 0; slot++) {
      if (!module_.is_free(slot)) continue;
      module_.announce(slot, BLKTAP_OP_READ, left_ % kPages * 8, kOnePage);
      left_--;
    }
    if (owed_ == 0) source->remove();
  }

  testing::FakeSource* source = nullptr;

 private:
  testing::FakeModule& module_;
  Slot depth_;
  std::uint64_t left_;
  std::uint64_t owed_;
};

void serve_reads(benchmark::State& state, EngineKind kind, const char* parent) {
  const testing::TempDirectory directory{parent};
  ImageOptions options;
  options.path = directory.text("a.img", std::string(kPages * 4096, 'x'));
  constexpr std::uint64_t kRequests = 2000;
  double requests = 0;
  double doorbells = 0;
  double calls = 0;
  for (auto _ : state) {
    state.PauseTiming();
    {
      auto engine = make_engine(kind);
      auto image = testing::open_raw(options, **engine);
      testing::FakeModule module{kPages * 8};
      ReadingGuest guest{module, static_cast<Slot>(state.range(0)), kRequests};
      testing::FakeSource source{module, guest};
      guest.source = &source;
      ErrorLog errors{options.path, [](const std::string&) {}};
      FullStore full{options.path, WhenFull::kReport, [](const std::string&) {}};
      Server server{source, **image, **engine, errors, full};
      state.ResumeTiming();
      if (!server.run()) state.SkipWithError("the server failed");
      state.PauseTiming();
      requests += static_cast<double>(kRequests);
      doorbells += static_cast<double>(source.counters().rings.get());
      calls += static_cast<double>((*engine)->counters().calls.get());
    }
    state.ResumeTiming();
  }
  state.counters["requests/s"] = benchmark::Counter(requests, benchmark::Counter::kIsRate);
  state.counters["doorbells/req"] = doorbells / requests;
  state.counters["calls/req"] = calls / requests;
}

BENCHMARK_CAPTURE(serve_reads, uring_disk, EngineKind::kUring, ".")->Arg(1)->Arg(32)->Arg(256);
BENCHMARK_CAPTURE(serve_reads, libaio_disk, EngineKind::kAio, ".")->Arg(1)->Arg(32)->Arg(256);
BENCHMARK_CAPTURE(serve_reads, uring_tmpfs, EngineKind::kUring, "/dev/shm")->Arg(1)->Arg(32);
BENCHMARK_CAPTURE(serve_reads, libaio_tmpfs, EngineKind::kAio, "/dev/shm")->Arg(1)->Arg(32);

}  // namespace
}  // namespace tapdisk
