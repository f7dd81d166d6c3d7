// SPDX-License-Identifier: GPL-2.0-only
#include "vbd/grant_source.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

extern "C" {
#include <xenevtchn.h>
#include <xengnttab.h>
}

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <mutex>

#include "base/limits.hpp"
#include "base/log.hpp"
#include "base/syscall.hpp"
#include "ring/vbd_state.h"
#include "vbd/blkif_keys.hpp"
#include "vbd/grant_pool.hpp"
#include "vbd/grant_queue.hpp"
#include "vbd/guest_ring.hpp"
#include "vbd/store.hpp"

namespace tapdisk {
namespace {

struct Parts {
  Store store;
  Grants grants;
  Events events;
  PagePool pool;
  Fd again;  // eventfd: there is more on a ring
  Fd all;    // epoll: any of them has something
};

Result<Fd> watch_all(const Parts& parts) {
  Fd all{::epoll_create1(EPOLL_CLOEXEC)};
  if (!all) return system_error("epoll", errno);
  // To look whether there is an event must not wait for one.
  const int events = ::xenevtchn_fd(parts.events.get());
  if (::fcntl(events, F_SETFL, O_NONBLOCK)) return system_error("/dev/xen/evtchn", errno);
  for (const int fd : {events, parts.store.fd(), parts.again.get()}) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (::epoll_ctl(all.get(), EPOLL_CTL_ADD, fd, &event)) return system_error("epoll", errno);
  }
  return all;
}

Result<Parts> open_parts() {
  auto store = Store::open();
  if (!store) return store.error();
  auto grants = open_grants();
  if (!grants) return grants.error();
  auto events = open_events();
  if (!events) return events.error();
  auto pool = PagePool::make();
  if (!pool) return pool.error();
  auto again = make_eventfd();
  if (!again) return again.error();
  Parts parts{std::move(*store), std::move(*grants), std::move(*events), std::move(*pool),
              std::move(*again), Fd{}};
  auto all = watch_all(parts);
  if (!all) return all.error();
  parts.all = std::move(*all);
  return parts;
}

class GrantSource final : public Source {
 public:
  GrantSource(Parts parts, const AttachOptions& options, const ImageInfo& image)
      : parts_(std::move(parts)), options_(options), image_(image),
        backend_("backend/vbd/" + dashes_to_slashes(options.vbd.substr(4))),
        queue_(parts_.grants.get(), std::move(parts_.pool), disk_, counters_) {}

  // The frontend may have read the offers of the driver that was here before: they stand.
  Result<void> take_over() {
    const auto frontend = parts_.store.read(backend_ + "/frontend");
    const auto domain = parts_.store.read_number(backend_ + "/frontend-id");
    if (!frontend || !domain) return plain_error("xenstore", "no such vbd", ENOENT);
    // A frontend may close once before it starts, and shake off whoever was there.
    const std::uint32_t said =
        parts_.store.read_number(backend_ + "/state").value_or(VBD_SAYS_NOTHING);
    const bool returns = parts_.store.read_number(backend_ + "/online").value_or(1) != 0 &&
                         (said == VBD_SAYS_CLOSING || said == VBD_SAYS_CLOSED);
    if (said != VBD_SAYS_INITWAIT && !returns)
      return plain_error("xenstore", "the vbd does not wait for a disk", EBUSY);
    if (returns) facts_.state = BLKTAP_CLOSED;
    facts_.said = said;
    if (Result<void> possible = check_domain(*domain); !possible) return possible;
    frontend_ = *frontend;
    domain_ = *domain;
    offer_.queues = parts_.store.read_number(backend_ + "/multi-queue-max-queues").value_or(1);
    offer_.ring_order = std::min<unsigned>(
        parts_.store.read_number(backend_ + "/max-ring-page-order").value_or(0),
        BLKIF_RING_ORDER_MAX);
    disk_.sectors = image_.sectors;
    disk_.sector_size = image_.sector_size;
    disk_.max_indirect = kSegsMax;
    disk_.read_only = image_.read_only;
    disk_.discard = image_.discard.offered &&
                    parts_.store.read_number(backend_ + "/discard-enable").value_or(1) != 0;
    disk_.secure_discard = disk_.discard && image_.discard.secure;
    for (const std::string& key : {frontend_ + "/state", backend_ + "/online"})
      if (Result<void> watched = parts_.store.watch(key); !watched) return watched;
    return write({{backend_ + "/feature-max-indirect-segments",
                   fmt::format("{}", disk_.max_indirect)}});
  }

  // An auto-translated domain that maps a page of its own by a grant loses it: Xen moves the frame
  // to the new place (p2m_add_page() of xen/arch/x86/mm/p2m.c).
  Result<void> check_domain(std::uint32_t frontend_domain) const {
    std::string type;
    std::getline(std::ifstream{"/sys/hypervisor/guest_type"}, type);
    if (type == "PV" || parts_.store.read_number("domid") != frontend_domain) return {};
    return plain_error("serving a disk to the domain itself", "works only where that is PV",
                       EOPNOTSUPP);
  }

  int fd() const noexcept override { return parts_.all.get(); }

  Result<SourceState> ring(Ring how) noexcept override {
    queue_.hand_over();
    const bool woken = take_events();
    const SourceState state = look(how);
    if (how != Ring::kWait || woken || state == SourceState::kGone || queue_.has_next())
      return state;
    pollfd all{parts_.all.get(), POLLIN, 0};
    ::poll(&all, 1, -1);
    take_events();
    return look(how);
  }

  // There is more, as far as anybody knows.
  void wake() noexcept override {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(parts_.again.get(), &one, sizeof(one));
  }

  Result<bool> next(Request& request) noexcept override {
    if (!queue_.next(request)) return false;
    counters_.requests.add();
    return true;
  }

  void reply(const Reply& reply) noexcept override {
    queue_.reply(reply);
    counters_.replies.add();
  }
  bool has_replies() const noexcept override { return queue_.has_replies(); }

  Result<void> tell_size(std::uint64_t sectors) noexcept override {
    // The frontend learns it here, or with all else when it connects; and no state that was said
    // meanwhile, here or by the toolstack, is taken back.
    const std::lock_guard locked{life_};
    // A data thread may be judging by it: right by the old size and by the new.
    __atomic_store_n(&disk_.sectors, sectors, __ATOMIC_RELAXED);
    if (facts_.state != BLKTAP_CONNECTED) return {};
    const std::string connected = state_text(VBD_SAYS_CONNECTED);
    // A frontend looks at the size again when the state is written, though it is the same.
    StorePairs pairs = describe_size(backend_, DiskKeys{image_, disk_});
    pairs.emplace_back(backend_ + "/state", connected);
    Result<void> told = parts_.store.write({backend_ + "/state", connected}, pairs);
    if (!told && told.error().code == ENOENT) return {};
    return told;
  }
  Result<void> delegate(const Extent&) noexcept override {
    return plain_error("delegating", "there is no module", EOPNOTSUPP);
  }
  Result<void> withdraw_all() noexcept override { return {}; }

  const SourceCounters& counters() const noexcept override { return counters_; }

 private:
  static std::string dashes_to_slashes(std::string text) {
    std::replace(text.begin(), text.end(), '-', '/');
    return text;
  }
  static std::string state_text(vbd_says state) {
    return fmt::format("{}", static_cast<unsigned>(state));
  }

  SourceState look(Ring how) noexcept {
    counters_.rings.add();
    const std::lock_guard locked{life_};
    const bool drained = facts_.state == BLKTAP_CLOSING && queue_.idle();
    if (parts_.store.take_changes() || drained) reconcile();
    if (how != Ring::kHold && facts_.state == BLKTAP_CONNECTED) {
      const Result<bool> more = queue_.take();
      if (!more) give_up(more.error());
      else if (*more) wake();
    }
    let_events_go();
    return state();
  }

  // --- the vbd's life -------------------------------------------------------------------------

  SourceState state() const noexcept {
    if (gone_) return SourceState::kGone;
    switch (facts_.state) {
      case BLKTAP_CONNECTED: return SourceState::kConnected;
      case BLKTAP_CLOSING: return SourceState::kClosing;
      default: return SourceState::kWaiting;
    }
  }

  // ENOENT: the toolstack has taken the vbd away.
  Result<void> write(const StorePairs& pairs) {
    return parts_.store.write({backend_ + "/frontend"}, pairs);
  }

  void say(vbd_says state, StorePairs pairs = {}) {
    facts_.said = state;
    pairs.emplace_back(backend_ + "/state", state_text(state));
    if (const Result<void> said = write(pairs); !said && said.error().code != ENOENT)
      log::error("{}: {}", options_.vbd, said.error().what);
  }

  // Until there is nothing to do.
  void reconcile() {
    while (!gone_ && step()) {}
    if (facts_.retired) leave();
  }

  void look_around() {
    facts_.idle = queue_.idle();
    facts_.frontend = parts_.store.read_number(frontend_ + "/state").value_or(VBD_SAYS_NOTHING);
    facts_.online = parts_.store.read_number(backend_ + "/online").value_or(1) != 0;
    if (facts_.state == BLKTAP_CONNECTED && facts_.frontend == VBD_SAYS_CONNECTED)
      facts_.met = true;
  }

  // False: until something has changed.
  bool step() {
    // Its directory goes last.
    if (!parts_.store.read(backend_ + "/frontend")) {
      leave();
      return false;
    }
    look_around();
    switch (vbd_decide(&facts_)) {
      case VBD_REST: return false;
      case VBD_INVITE:
        facts_.state = BLKTAP_INITWAIT;
        say(VBD_SAYS_INITWAIT);
        break;
      case VBD_CONNECT: connect(); break;
      case VBD_DRAIN:
        facts_.state = BLKTAP_CLOSING;
        break;
      case VBD_FINISH:
        disconnect();
        facts_.state = BLKTAP_CLOSED;
        break;
      case VBD_RETIRE: facts_.retired = true; break;
      case VBD_CUT_OFF: return false;  // not here: a ring that lied is given up at once
      case VBD_SAY_CLOSING: say(VBD_SAYS_CLOSING); break;
      case VBD_SAY_CLOSED: say(VBD_SAYS_CLOSED); break;
    }
    return true;
  }

  void connect() {
    facts_.met = false;
    Result<FrontendKeys> keys = read_frontend(parts_.store, frontend_, offer_);
    if (!keys) return give_up(keys.error());
    std::vector<GuestRing> rings;
    rings.reserve(keys->rings.size());
    for (const RingKeys& ring : keys->rings) {
      Result<GuestRing> connected = GuestRing::connect(
          parts_.grants.get(), parts_.events.get(), domain_, ring, *keys->abi);
      if (!connected) return give_up(connected.error());
      rings.push_back(std::move(*connected));
    }
    StorePairs pairs = describe_disk(backend_, DiskKeys{image_, disk_, options_.cdrom,
                                                        options_.removable});
    pairs.emplace_back(backend_ + "/state", state_text(VBD_SAYS_CONNECTED));
    if (const Result<void> said = write(pairs); !said) return give_up(said.error());
    queue_.connect(domain_, std::move(rings));
    facts_.said = VBD_SAYS_CONNECTED;
    facts_.state = BLKTAP_CONNECTED;
  }

  // As xenbus_dev_fatal() of Linux: the reason is where toolstacks look for it. A frontend may come
  // back with the next as often as it likes: the log hears of it once a minute.
  void give_up(const Error& reason) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= quiet_until_) {
      log::error("{}: {}", options_.vbd, reason.what);
      quiet_until_ = now + std::chrono::milliseconds{kErrorLogPeriodMs};
    }
    disconnect();
    facts_.state = BLKTAP_ERROR;
    say(VBD_SAYS_CLOSING,
        {{"error/" + backend_ + "/error", fmt::format("{} {}", reason.code, reason.what)}});
  }

  void disconnect() {
    queue_.disconnect();
    served_.clear();  // with their channels
  }

  void leave() {
    disconnect();
    gone_ = true;
  }

  // --- events ---------------------------------------------------------------------------------

  // Their sources stay masked until what came with them is taken: a storm is throttled by that, and
  // each is here once. Of one that was let go an event may be left. Whether there was a wake().
  bool take_events() noexcept {
    std::uint64_t ignored = 0;
    const bool woken = ::read(parts_.again.get(), &ignored, sizeof(ignored)) > 0;
    for (;;) {
      const auto port = ::xenevtchn_pending(parts_.events.get());
      if (port < 0) return woken;
      served_.push_back(static_cast<evtchn_port_t>(port));
    }
  }

  void let_events_go() noexcept {
    for (const evtchn_port_t port : served_) ::xenevtchn_unmask(parts_.events.get(), port);
    served_.clear();
  }

  Parts parts_;
  const AttachOptions& options_;
  const ImageInfo& image_;
  std::string backend_;
  std::string frontend_;
  std::uint32_t domain_ = 0;
  Offer offer_;
  blkif_disk disk_{};
  // The state, and what xenstore says of it; the control thread tells sizes.
  std::mutex life_;
  vbd_facts facts_{.state = BLKTAP_INITWAIT,
                   .said = VBD_SAYS_INITWAIT,
                   .frontend = VBD_SAYS_NOTHING,
                   .met = false,
                   .online = true,
                   .retired = false,
                   .served = true,
                   .idle = true,
                   .lied = false};
  bool gone_ = false;
  std::chrono::steady_clock::time_point quiet_until_{};
  std::vector<evtchn_port_t> served_;
  SourceCounters counters_;
  GrantQueue queue_;
};

}  // namespace

Result<Attached> attach_by_grants(const AttachOptions& options, const ImageInfo& disk) {
  Result<Parts> parts = open_parts();
  if (!parts) return plain_error(options.vbd, parts.error().what, parts.error().code);
  auto source = std::make_unique<GrantSource>(std::move(*parts), options, disk);
  if (const Result<void> taken = source->take_over(); !taken)
    return plain_error(options.vbd, taken.error().what, taken.error().code);
  return Attached{std::move(source), 1};
}

}  // namespace tapdisk
