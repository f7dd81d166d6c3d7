// SPDX-License-Identifier: GPL-2.0-only
#include "server/stats.hpp"

#include <nlohmann/json.hpp>

namespace tapdisk {

std::string stats_json(const Engine& engine, const ImageInfo& disk, const Source& source,
                       const Server& server) {
  const EngineCounters& io = engine.counters();
  const SourceCounters& vbd = source.counters();
  const ServerCounters& served = server.counters();
  return nlohmann::json{
      {"engine", engine.name()},
      {"direct", disk.direct},
      {"read_only", disk.read_only},
      {"sectors", disk.sectors},
      {"sector_size", disk.sector_size},
      {"requests", vbd.requests.get()},
      {"replies", vbd.replies.get()},
      {"reads", served.reads.get()},
      {"writes", served.writes.get()},
      {"syncs", served.syncs.get()},
      {"bytes_read", served.bytes_read.get()},
      {"bytes_written", served.bytes_written.get()},
      {"errors", served.errors.get()},
      {"turns", served.turns.get()},
      {"doorbells", vbd.rings.get()},
      {"engine_calls", io.calls.get()},
      {"engine_sleeps", io.sleeps.get()},
      {"ios_started", io.started.get()},
      {"ios_finished", io.finished.get()},
      {"ios_repeated", io.repeats.get()},
  }.dump();
}

}  // namespace tapdisk
