// SPDX-License-Identifier: GPL-2.0-only
//
// Copies between this process and pages that a guest has granted, carried out together
// (GNTTABOP_copy of Xen's public/grant_table.h).
#pragma once

extern "C" {
#include <xengnttab.h>
}

#include <array>
#include <cstdint>

#include "base/check.hpp"
#include "base/limits.hpp"
#include "vbd/request.hpp"

struct xengntdev_handle;

namespace tapdisk {

// A place in a page of a guest.
struct GuestData {
  std::uint32_t domain = 0;
  std::uint32_t ref = 0;
  std::uint16_t offset = 0;  // bytes
};

class GrantCopies {
 public:
  // For the request in `slot`; `bytes` do not pass the end of the guest's page.
  void add_in(Slot slot, const GuestData& from, void* to, std::uint16_t bytes) noexcept {
    auto& copy = add(slot, bytes, kSourceIsGrant);
    name(copy.source, from);
    copy.dest.virt = to;
  }
  void add_out(Slot slot, void* from, const GuestData& to, std::uint16_t bytes) noexcept {
    auto& copy = add(slot, bytes, kDestinationIsGrant);
    copy.source.virt = from;
    name(copy.dest, to);
  }

  // Calls `failed` with the slot of each copy that Xen refused. Gives the bytes of the others.
  template <class Failed>
  std::uint64_t carry_out(xengntdev_handle* grants, Failed&& failed) noexcept {
    if (count_ == 0) return 0;
    std::uint64_t bytes = 0;
    const int outcome = ::xengnttab_grant_copy(grants, count_, copies_.data());
    for (unsigned i = 0; i < count_; i++) {
      if (outcome || copies_[i].status != 0) failed(slots_[i]);
      else bytes += copies_[i].len;
    }
    count_ = 0;
    return bytes;
  }

 private:
  // GNTCOPY_source_gref and GNTCOPY_dest_gref.
  static constexpr std::uint16_t kSourceIsGrant = 1;
  static constexpr std::uint16_t kDestinationIsGrant = 2;

  xengnttab_grant_copy_segment& add(Slot slot, std::uint16_t bytes, std::uint16_t flags) noexcept {
    check(count_ < copies_.size());
    slots_[count_] = slot;
    auto& copy = copies_[count_++];
    copy.len = bytes;
    copy.flags = flags;
    copy.status = -1;
    return copy;
  }
  template <class End>
  static void name(End& end, const GuestData& data) noexcept {
    end.foreign.ref = data.ref;
    end.foreign.offset = data.offset;
    end.foreign.domid = static_cast<std::uint16_t>(data.domain);
  }

  unsigned count_ = 0;
  std::array<xengnttab_grant_copy_segment, kPagesMax> copies_;
  std::array<Slot, kPagesMax> slots_;
};

}  // namespace tapdisk
