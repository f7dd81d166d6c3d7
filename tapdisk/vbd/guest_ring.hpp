// SPDX-License-Identifier: GPL-2.0-only
//
// One ring of a guest, mapped by its grants (Xen's public/io/blkif.h), and its event channel.
// Everything here touches memory that the guest writes: it is read once, and judged elsewhere.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.hpp"
#include "ring/blkif_decode.h"
#include "ring/ring.h"

struct xengntdev_handle;
struct xenevtchn_handle;

namespace tapdisk {

struct CloseGrants {
  void operator()(xengntdev_handle* handle) const noexcept;
};
struct CloseEvents {
  void operator()(xenevtchn_handle* handle) const noexcept;
};
// Xen's two drivers, as a process opens them.
using Grants = std::unique_ptr<xengntdev_handle, CloseGrants>;
using Events = std::unique_ptr<xenevtchn_handle, CloseEvents>;

Result<Grants> open_grants();
Result<Events> open_events();

// What the guest says about one of its rings.
struct RingKeys {
  std::vector<std::uint32_t> refs;  // grants of its pages, a power of two
  std::uint32_t port = 0;           // its end of the event channel
};

class GuestRing {
 public:
  // Errors name what the guest has got wrong. The handles outlive the ring.
  static Result<GuestRing> connect(xengntdev_handle* grants, xenevtchn_handle* events,
                                   std::uint32_t domain, const RingKeys& keys,
                                   const blkif_abi& abi);
  GuestRing(GuestRing&& other) noexcept;
  GuestRing& operator=(GuestRing&&) = delete;
  ~GuestRing();

  std::uint32_t port() const noexcept { return port_; }  // our end

  // Requests that wait; -EPROTO if the guest's index cannot be.
  int waiting() const noexcept;
  // A private copy of the first of them, which stays there until skip().
  void peek(blkif_entry& entry) const noexcept;
  void skip() noexcept { requests_.seen++; }

  void answer(std::uint64_t id, std::uint8_t op, std::int16_t status) noexcept;
  // Shows the guest all answers so far, with one event at most.
  void publish() noexcept;

  // Asks for an event with the next request. True: there is one already.
  bool arm() noexcept;

  const blkif_abi& abi() const noexcept { return *abi_; }

 private:
  GuestRing(xengntdev_handle* grants, xenevtchn_handle* events, void* pages, std::uint32_t count,
            const blkif_abi& abi) noexcept;
  blkif_sring* shared() const noexcept { return static_cast<blkif_sring*>(pages_); }

  xengntdev_handle* grants_;
  xenevtchn_handle* events_;
  void* pages_;  // null: moved from
  std::uint32_t page_count_;
  const blkif_abi* abi_;
  ring_consumer requests_;
  std::uint32_t answers_;
  std::uint32_t published_;
  std::uint32_t port_ = 0;
  bool bound_ = false;
};

}  // namespace tapdisk
