// SPDX-License-Identifier: GPL-2.0-only
#include "server/stats.hpp"

#include <nlohmann/json.hpp>

namespace tapdisk {
namespace {

using nlohmann::json;

// In this order: a write that goes on meanwhile must not make it negative.
std::uint64_t waiting_of(const ServerCounters& served) {
  const std::uint64_t went_on = served.writes_went_on.get();
  return served.writes_waited.get() - went_on;
}

json counters_of(const QueueView& queue) {
  const EngineCounters& io = queue.engine->counters();
  const SourceCounters& vbd = queue.source->counters();
  const ServerCounters& served = queue.server->counters();
  return json{
      {"requests", vbd.requests.get()},
      {"replies", vbd.replies.get()},
      {"refused", vbd.refused.get()},
      {"bytes_copied", vbd.bytes_copied.get()},
      {"reads", served.reads.get()},
      {"writes", served.writes.get()},
      {"syncs", served.syncs.get()},
      {"discards", served.discards.get()},
      {"submits", served.submits.get()},
      {"bytes_read", served.bytes_read.get()},
      {"bytes_written", served.bytes_written.get()},
      {"bytes_discarded", served.bytes_discarded.get()},
      {"bytes_realigned", queue.image->bytes_realigned()},
      {"errors", served.errors.get()},
      {"writes_waited", served.writes_waited.get()},
      {"writes_waiting", waiting_of(served)},
      {"turns", served.turns.get()},
      {"doorbells", vbd.rings.get()},
      {"engine_calls", io.calls.get()},
      {"engine_sleeps", io.sleeps.get()},
      {"ios_started", io.started.get()},
      {"ios_finished", io.finished.get()},
      {"ios_repeated", io.repeats.get()},
  };
}

}  // namespace

std::string stats_json(const ImageInfo& disk, std::span<const QueueView> queues) {
  json stats{
      {"engine", queues.front().engine->name()},
      {"direct", disk.direct},
      {"read_only", disk.read_only},
      {"discard", disk.discard.offered},
      {"sectors", std::uint64_t{disk.sectors}},
      {"sector_size", disk.sector_size},
  };
  json each = json::array();
  for (const QueueView& queue : queues) {
    const json& counters = each.emplace_back(counters_of(queue));
    for (const auto& [name, value] : counters.items())
      stats[name] = stats.value(name, std::uint64_t{0}) + value.get<std::uint64_t>();
  }
  stats["queues"] = std::move(each);
  return stats.dump();
}

}  // namespace tapdisk
