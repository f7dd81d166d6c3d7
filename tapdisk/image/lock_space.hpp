// SPDX-License-Identifier: GPL-2.0-only
//
// What the bytes of an image's lock space mean, and who may not be together. Pure.
//
//     100..163   QEMU's, one for each permission: it uses what it has locked
//     200..263   QEMU's: nobody else may use what it has locked
//     from 1024  ours: a byte for each guest, which is to say its UUID, in a region for each kind
//                of holder
//     from 2^62  ours: a byte for each vbd, in a region each for those that write and that read
//
// All locks of QEMU and of ours are shared. They keep nobody from locking; a conflict is found, by
// looking what others have. Locks of ours on QEMU's bytes reach beyond these, by which they are
// told from QEMU's own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "image/file_locks.hpp"

namespace tapdisk {

// Numbers the regions of guests.
enum class HolderKind : std::uint8_t {
  kWriter,
  kReader,
  kSharingWriter,  // beside others that share, on purpose
  kSharingReader,
};
inline constexpr unsigned kHolderKinds = 4;

struct Holder {
  HolderKind kind = HolderKind::kReader;
  std::uint64_t guest = 0;  // see guest_number()
  std::string vbd;          // vbd-D-V, a vbd of this host
  std::uint64_t host = 0;   // see host_number()

  bool writes() const noexcept {
    return kind == HolderKind::kWriter || kind == HolderKind::kSharingWriter;
  }
};

// From a guest's UUID; from nothing, one that no other has.
std::uint64_t guest_number(const std::string& vm);
// Of this host, which has domain numbers of its own.
std::uint64_t host_number();

// What a holder locks.
std::vector<ByteRange> lock_ranges(const Holder& holder);
// Where locks may be that a holder cannot be together with.
std::vector<ByteRange> ranges_to_look_at(const Holder& holder);

// Where all holders have locks of ours.
std::vector<ByteRange> ranges_of_all_holders();
// What who only looks may lock, without being taken for anything.
inline constexpr ByteRange kLooking{99, 100};

// What a program that is not tapdisk wants with its lock.
enum class Wish : std::uint8_t { kNothing, kWrite, kNoWriter, kNoReader };

struct GuestByte {
  HolderKind kind = HolderKind::kReader;
  std::uint64_t guest = 0;
};
struct VbdByte {
  bool writes = false;
  std::uint64_t host = 0;
  std::string vbd;
};

// A lock of somebody else as what it is.
struct Meaning {
  std::optional<GuestByte> guest;
  std::optional<VbdByte> vbd;
  bool on_qemus = false;  // ours, on QEMU's bytes
  Wish wish = Wish::kNothing;
};
Meaning meaning_of(const FileLock& lock);

// Whether there may be locks below it that F_OFD_GETLK does not tell.
bool may_hide_others(const FileLock& lock);

// Why `self` may not hold the image as well.
struct Clash {
  const FileLock* program = nullptr;  // one that is not tapdisk,
  Wish wish = Wish::kNothing;         // and what it wants
  bool guest = false;                 // another guest,
  bool shares = false;                // which would share the image
};
std::optional<Clash> find_clash(const Holder& self, const std::vector<FileLock>& others);

// The vbds among the others that `self` cannot be together with unless they agree.
std::vector<VbdByte> clashing_vbds(const Holder& self, const std::vector<FileLock>& others);

}  // namespace tapdisk
