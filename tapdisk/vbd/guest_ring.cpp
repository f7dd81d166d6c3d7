// SPDX-License-Identifier: GPL-2.0-only
#include "vbd/guest_ring.hpp"

#include <sys/mman.h>

extern "C" {
#include <xenevtchn.h>
#include <xengnttab.h>
}

#include <cerrno>
#include <utility>

#include "base/check.hpp"

namespace tapdisk {

void CloseGrants::operator()(xengntdev_handle* handle) const noexcept { ::xengnttab_close(handle); }
void CloseEvents::operator()(xenevtchn_handle* handle) const noexcept { ::xenevtchn_close(handle); }

Result<Grants> open_grants() {
  Grants grants{::xengnttab_open(nullptr, 0)};
  if (!grants) return system_error("/dev/xen/gntdev (modprobe xen-gntdev)", errno);
  return grants;
}

Result<Events> open_events() {
  Events events{::xenevtchn_open(nullptr, 0)};
  if (!events) return system_error("/dev/xen/evtchn (modprobe xen-evtchn)", errno);
  return events;
}

// A guest may be taking up rings that were in use before: indices start where the page says.
GuestRing::GuestRing(xengntdev_handle* grants, xenevtchn_handle* events, void* pages,
                     std::uint32_t count, const blkif_abi& abi) noexcept
    : grants_(grants), events_(events), pages_(pages), page_count_(count), abi_(&abi),
      requests_{0, blkif_ring_entries(&abi, count * RING_PAGE_SIZE)},
      answers_(ring_load_u32(&shared()->rsp_prod)), published_(answers_) {
  requests_.seen = answers_;
}

GuestRing::GuestRing(GuestRing&& other) noexcept
    : grants_(other.grants_), events_(other.events_), pages_(std::exchange(other.pages_, nullptr)),
      page_count_(other.page_count_), abi_(other.abi_), requests_(other.requests_),
      answers_(other.answers_), published_(other.published_), port_(other.port_),
      bound_(std::exchange(other.bound_, false)) {}

GuestRing::~GuestRing() {
  if (bound_) ::xenevtchn_unbind(events_, port_);
  if (pages_) ::xengnttab_unmap(grants_, pages_, page_count_);
}

Result<GuestRing> GuestRing::connect(xengntdev_handle* grants, xenevtchn_handle* events,
                                     std::uint32_t domain, const RingKeys& keys,
                                     const blkif_abi& abi) {
  const auto count = static_cast<std::uint32_t>(keys.refs.size());
  std::vector<std::uint32_t> refs = keys.refs;  // libxengnttab wants to be able to write
  void* const pages = ::xengnttab_map_domain_grant_refs(grants, count, domain, refs.data(),
                                                        PROT_READ | PROT_WRITE);
  if (!pages) return system_error("mapping ring-ref", errno);
  GuestRing ring{grants, events, pages, count, abi};
  if (ring.waiting() < 0)
    return plain_error("ring", "holds indices that cannot be", EPROTO);
  const auto port = ::xenevtchn_bind_interdomain(events, domain, keys.port);
  if (port < 0) return system_error("binding event-channel", errno);
  ring.port_ = static_cast<std::uint32_t>(port);
  ring.bound_ = true;
  return ring;
}

int GuestRing::waiting() const noexcept {
  const int count = ring_available(&requests_, &shared()->req_prod);
  // Nor may it overwrite requests that have no answer yet.
  return count < 0 || static_cast<std::uint32_t>(count) + (requests_.seen - answers_) >
                          requests_.size ? -EPROTO : count;
}

void GuestRing::peek(blkif_entry& entry) const noexcept {
  blkif_fetch(&entry, abi_, shared(), ring_position(&requests_));
}

void GuestRing::answer(std::uint64_t id, std::uint8_t op, std::int16_t status) noexcept {
  check(answers_ != requests_.seen);
  blkif_put_response(abi_, shared(), answers_++ & (requests_.size - 1), id, op, status);
}

void GuestRing::publish() noexcept {
  const std::uint32_t before = std::exchange(published_, answers_);
  if (before == answers_) return;
  ring_store_release_u32(&shared()->rsp_prod, answers_);
  // The guest sees the answers before we look whether it wants an event for them.
  ring_fence();
  if (ring_needs_notify(before, answers_, ring_load_u32(&shared()->rsp_event)))
    ::xenevtchn_notify(events_, port_);
}

bool GuestRing::arm() noexcept {
  return ring_arm_event(&requests_, &shared()->req_event, &shared()->req_prod);
}

}  // namespace tapdisk
