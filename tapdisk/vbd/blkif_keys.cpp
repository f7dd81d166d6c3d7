// SPDX-License-Identifier: GPL-2.0-only
#include "vbd/blkif_keys.hpp"

#include <fmt/format.h>

#include <cerrno>

namespace tapdisk {
namespace {

// `info` of blkif.h.
constexpr unsigned kCdrom = 1;
constexpr unsigned kRemovable = 2;
constexpr unsigned kReadOnly = 4;

// Absent means native, as blkif.h has it.
const blkif_abi* find_abi(const std::optional<std::string>& protocol) {
  if (!protocol || *protocol == "arm-abi") return &blkif_abi_native;
  if (*protocol == "x86_64-abi") return &blkif_abi_x86_64;
  if (*protocol == "x86_32-abi") return &blkif_abi_x86_32;
  return nullptr;
}

Error bad_key(const std::string& key, std::string_view reason) {
  return plain_error(key, reason, EINVAL);
}

// `otherwise` for a key that is not there.
Result<unsigned> read_choice(const Store& store, const std::string& key, unsigned otherwise,
                             unsigned least, unsigned most) {
  if (!store.read(key)) return otherwise;
  const std::optional<unsigned> number = store.read_number(key);
  if (!number) return bad_key(key, "not a number");
  if (*number < least || *number > most)
    return bad_key(key, fmt::format("{}, offered were {} to {}", *number, least, most));
  return *number;
}

Result<std::uint32_t> read_needed(const Store& store, const std::string& key) {
  const std::optional<unsigned> number = store.read_number(key);
  if (!number) return bad_key(key, "missing or not a number");
  return *number;
}

// The one page of a ring may go by either name.
Result<RingKeys> read_ring(const Store& store, const std::string& directory, unsigned pages) {
  const bool numbered = pages > 1 || !store.read(directory + "/ring-ref");
  RingKeys ring;
  for (unsigned i = 0; i < pages; i++) {
    const Result<std::uint32_t> ref = read_needed(
        store, directory + (numbered ? fmt::format("/ring-ref{}", i) : std::string{"/ring-ref"}));
    if (!ref) return ref.error();
    ring.refs.push_back(*ref);
  }
  const Result<std::uint32_t> port = read_needed(store, directory + "/event-channel");
  if (!port) return port.error();
  ring.port = *port;
  return ring;
}

}  // namespace

Result<FrontendKeys> read_frontend(const Store& store, const std::string& frontend,
                                   const Offer& offer) {
  FrontendKeys keys;
  const Result<unsigned> queues =
      read_choice(store, frontend + "/multi-queue-num-queues", 1, 1, offer.queues);
  if (!queues) return queues.error();
  const Result<unsigned> order =
      read_choice(store, frontend + "/ring-page-order", 0, 0, offer.ring_order);
  if (!order) return order.error();
  keys.abi = find_abi(store.read(frontend + "/protocol"));
  if (!keys.abi) return bad_key(frontend + "/protocol", "unknown protocol");
  for (unsigned queue = 0; queue < *queues; queue++) {
    // One queue has its keys where all others are.
    Result<RingKeys> ring = read_ring(
        store, *queues == 1 ? frontend : fmt::format("{}/queue-{}", frontend, queue), 1u << *order);
    if (!ring) return ring.error();
    keys.rings.push_back(std::move(*ring));
  }
  return keys;
}

StorePairs describe_size(const std::string& backend, const DiskKeys& keys) {
  const unsigned physical =
      blkif_physical_sector_size(&keys.disk, keys.image.physical_sector_size);
  return {{backend + "/sectors", fmt::format("{}", keys.disk.sectors)},
          {backend + "/physical-sector-size", fmt::format("{}", physical)}};
}

StorePairs describe_disk(const std::string& backend, const DiskKeys& keys) {
  const auto& [image, disk, cdrom, removable] = keys;
  const unsigned info = (cdrom ? kCdrom : 0) | (removable ? kRemovable : 0) |
                        (disk.read_only ? kReadOnly : 0);
  StorePairs pairs = describe_size(backend, keys);
  const auto add = [&](const char* key, std::uint64_t value) {
    pairs.emplace_back(backend + "/" + key, fmt::format("{}", value));
  };
  add("feature-flush-cache", 1);
  add("feature-barrier", 1);
  add("feature-persistent", 0);
  add("feature-discard", disk.discard);
  if (disk.discard) {
    add("discard-granularity", image.discard.granularity);
    add("discard-alignment", image.discard.alignment);
    add("discard-secure", disk.secure_discard);
  }
  add("sector-size", disk.sector_size);
  add("info", info);
  return pairs;
}

}  // namespace tapdisk
