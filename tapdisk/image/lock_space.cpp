// SPDX-License-Identifier: GPL-2.0-only
#include "image/lock_space.hpp"

#include <fmt/format.h>

#include <charconv>
#include <fstream>
#include <random>
#include <string_view>

namespace tapdisk {
namespace {

// QEMU, block/file-posix.c and include/block/block-common.h.
constexpr std::uint64_t kQemuUses = 100;
constexpr std::uint64_t kQemuForbids = 200;
constexpr std::uint64_t kQemuPermissions = 64;
enum QemuPermission : std::uint64_t { kConsistentRead = 0, kWrite = 1, kResize = 3 };

// One byte more below, and many more above, than QEMU has. We use what a reader or a writer uses,
// and forbid all but that others read.
constexpr ByteRange kReads = kLooking;
static_assert(kReads.first == kQemuUses - 1 && kReads.last == kQemuUses + kConsistentRead);
constexpr ByteRange kReadsAndWrites{kQemuUses - 1, kQemuUses + kWrite};
constexpr ByteRange kLetsOthersRead{kQemuForbids + kWrite, kQemuForbids + kQemuPermissions + 35};

constexpr std::uint64_t kNumbers = 1ull << 60;
constexpr std::uint64_t kFirstNumber = 1024;
constexpr std::uint64_t kVbds = kHolderKinds * kNumbers;
constexpr std::uint64_t kVbdsEach = 1ull << 61;
static_assert(kVbds + 2 * kVbdsEach - 1 == kLastByte);

// A vbd's byte is its host, its domain and its device, from the top.
constexpr unsigned kHostBits = 17, kDomainBits = 15, kDeviceBits = 29;
static_assert(kHostBits + kDomainBits + kDeviceBits == 61);

// Which kinds of two guests may not be together.
constexpr bool kClashes[kHolderKinds][kHolderKinds] = {
    /* writer         */ {true, true, true, true},
    /* reader         */ {true, false, true, false},
    /* sharing writer */ {true, true, false, false},
    /* sharing reader */ {true, false, false, false},
};

constexpr std::uint64_t mask(unsigned bits) { return (1ull << bits) - 1; }

bool is(const FileLock& lock, ByteRange range) {
  return !lock.exclusive && lock.first == range.first && lock.last == range.last;
}

bool lies_in(const FileLock& lock, std::uint64_t first, std::uint64_t count) {
  return lock.first >= first && lock.last < first + count;
}

bool has(const FileLock& lock, std::uint64_t byte) {
  return lock.first <= byte && byte <= lock.last;
}

// FNV-1a: the number must be the same in every build, which std::hash does not promise.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash ^ (hash >> 60);
}

struct VbdNumbers {
  std::uint64_t domain = 0;
  std::uint64_t device = 0;
};

// Of a vbd's name.
VbdNumbers numbers_of(const std::string& vbd) {
  VbdNumbers numbers;
  if (!vbd.starts_with("vbd-")) return numbers;
  const char* const end = vbd.data() + vbd.size();
  const auto [dash, ignored] = std::from_chars(vbd.data() + 4, end, numbers.domain);
  if (dash != end) std::from_chars(dash + 1, end, numbers.device);
  return numbers;
}

std::uint64_t vbd_byte(const Holder& holder) {
  const VbdNumbers numbers = numbers_of(holder.vbd);
  return kVbds + (holder.writes() ? 0 : kVbdsEach) +
         ((holder.host & mask(kHostBits)) << (kDomainBits + kDeviceBits)) +
         ((numbers.domain & mask(kDomainBits)) << kDeviceBits) +
         (numbers.device & mask(kDeviceBits));
}

VbdByte as_vbd(std::uint64_t byte) {
  const std::uint64_t place = (byte - kVbds) % kVbdsEach;
  return {byte - kVbds < kVbdsEach, place >> (kDomainBits + kDeviceBits),
          fmt::format("vbd-{}-{}", (place >> kDeviceBits) & mask(kDomainBits),
                      place & mask(kDeviceBits))};
}

// QEMU's locks stay within its bytes. Who locks more, or an image's data, has more in mind than one
// permission: nobody writes what is locked for reading.
Wish wish_of(const FileLock& lock) {
  if (lock.exclusive) return Wish::kNoReader;
  if (lies_in(lock, kQemuForbids, kQemuPermissions)) {
    if (has(lock, kQemuForbids + kConsistentRead)) return Wish::kNoReader;
    return has(lock, kQemuForbids + kWrite) ? Wish::kNoWriter : Wish::kNothing;
  }
  if (lies_in(lock, kQemuUses, kQemuPermissions))
    return has(lock, kQemuUses + kWrite) || has(lock, kQemuUses + kResize) ? Wish::kWrite
                                                                          : Wish::kNothing;
  return Wish::kNoWriter;
}

bool stands_against(Wish wish, bool writes) {
  return wish == Wish::kWrite || wish == Wish::kNoReader || (wish == Wish::kNoWriter && writes);
}

}  // namespace

std::uint64_t guest_number(const std::string& vm) {
  std::uint64_t number = hash_of(vm);
  if (vm.empty()) {
    std::random_device random;
    number = (std::uint64_t{random()} << 32) | random();
  }
  number %= kNumbers;
  return number < kFirstNumber ? number + kFirstNumber : number;
}

std::uint64_t host_number() {
  std::string id;
  std::getline(std::ifstream{"/etc/machine-id"}, id);
  return hash_of(id) & mask(kHostBits);
}

std::vector<ByteRange> lock_ranges(const Holder& holder) {
  const std::uint64_t guest =
      static_cast<std::uint64_t>(holder.kind) * kNumbers + holder.guest;
  const std::uint64_t vbd = vbd_byte(holder);
  return {{guest, guest}, {vbd, vbd}, holder.writes() ? kReadsAndWrites : kReads, kLetsOthersRead};
}

std::vector<ByteRange> ranges_to_look_at(const Holder& holder) {
  std::vector<ByteRange> ranges{{0, kFirstNumber - 1}};
  for (unsigned kind = 0; kind < kHolderKinds; kind++) {
    const std::uint64_t first = kind ? kind * kNumbers : kFirstNumber;
    if (kClashes[static_cast<unsigned>(holder.kind)][kind])
      ranges.push_back({first, (kind + 1) * kNumbers - 1});
  }
  ranges.push_back({kVbds, holder.writes() ? kLastByte : kVbds + kVbdsEach - 1});
  return ranges;
}

std::vector<ByteRange> ranges_of_all_holders() { return {{kFirstNumber, kLastByte}}; }

Meaning meaning_of(const FileLock& lock) {
  Meaning meaning;
  const bool may_be_ours = !lock.exclusive && lock.pid <= 0;
  if (may_be_ours && lock.first == lock.last && lock.first >= kVbds) {
    meaning.vbd = as_vbd(lock.first);
  } else if (may_be_ours && lock.first == lock.last && lock.first >= kFirstNumber) {
    meaning.guest = GuestByte{static_cast<HolderKind>(lock.first / kNumbers),
                              lock.first % kNumbers};
  } else if (may_be_ours && (is(lock, kReads) || is(lock, kReadsAndWrites) ||
                             is(lock, kLetsOthersRead))) {
    meaning.on_qemus = true;
  } else {
    meaning.wish = wish_of(lock);
  }
  return meaning;
}

bool may_hide_others(const FileLock& lock) {
  const Meaning meaning = meaning_of(lock);
  return !meaning.guest && !meaning.vbd;
}

std::optional<Clash> find_clash(const Holder& self, const std::vector<FileLock>& others) {
  std::optional<Clash> clash;
  for (const FileLock& lock : others) {
    const Meaning meaning = meaning_of(lock);
    if (stands_against(meaning.wish, self.writes())) return Clash{&lock, meaning.wish};
    if (!meaning.guest || meaning.guest->guest == self.guest) continue;
    const unsigned theirs = static_cast<unsigned>(meaning.guest->kind);
    if (kClashes[static_cast<unsigned>(self.kind)][theirs])
      clash = Clash{nullptr, Wish::kNothing, true,
                    meaning.guest->kind >= HolderKind::kSharingWriter};
  }
  return clash;
}

std::vector<VbdByte> clashing_vbds(const Holder& self, const std::vector<FileLock>& others) {
  std::vector<VbdByte> vbds;
  for (const FileLock& lock : others) {
    std::optional<VbdByte> vbd = meaning_of(lock).vbd;
    if (vbd && (vbd->writes || self.writes())) vbds.push_back(std::move(*vbd));
  }
  return vbds;
}

}  // namespace tapdisk
