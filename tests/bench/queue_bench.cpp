// SPDX-License-Identifier: GPL-2.0-only
// What deciding costs.
#include <benchmark/benchmark.h>

#include "vbd/queue.hpp"

namespace tapdisk {
namespace {

Request request(RequestVerb verb, Slot slot) {
  Request request;
  request.verb = verb;
  request.slot = slot;
  request.bytes = verb == RequestVerb::kFlush ? 0 : 4096;
  return request;
}

void queue_read(benchmark::State& state) {
  Queue queue;
  for (auto _ : state) {
    benchmark::DoNotOptimize(queue.step(Arrived{Pending{request(RequestVerb::kRead, 0)}}));
    benchmark::DoNotOptimize(queue.step(DataDone{0, 0}));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(queue_read);

void queue_flush(benchmark::State& state) {
  Queue queue;
  for (auto _ : state) {
    benchmark::DoNotOptimize(queue.step(Arrived{Pending{request(RequestVerb::kFlush, 0)}}));
    benchmark::DoNotOptimize(queue.step(SyncDone{0}));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(queue_flush);

}  // namespace
}  // namespace tapdisk
