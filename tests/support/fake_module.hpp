// SPDX-License-Identifier: GPL-2.0-only
//
// The module's side of the shared areas, in memory, and a Source on top of it. It checks every
// command of tapdisk as the module does, with the same code, and finds none acceptable but a
// valid one.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <span>
#include <stdexcept>
#include <vector>

#include "base/resource.hpp"
#include "ring/ring.h"
#include "tests/support/slots.hpp"
#include "vbd/areas.hpp"
#include "vbd/source.hpp"

namespace tapdisk::testing {

class FakeModule {
 public:
  explicit FakeModule(std::uint64_t sectors, std::uint32_t sector_size = 512,
                      std::uint32_t depth = BLKTAP_DEPTH_MAX)
      : capacity(sectors) {
    attach_.sectors = sectors;
    attach_.sector_size = sector_size;
    attach_.depth = depth;
    attach_.disk_flags = BLKTAP_DISK_FLUSH | BLKTAP_DISK_DISCARD;
    attach_.disk_flags_out = attach_.disk_flags;
    attach_.discard_granularity = sector_size;
    attach_.queues = 1;
    attach_.max_segs = BLKTAP_SEGS_MAX;
    attach_.pages = BLKTAP_PAGES;
    attach_.commands = BLKTAP_COMMANDS;
    attach_.requests_at = RING_PAGE_SIZE;
    attach_.segments_at = attach_.requests_at + BLKTAP_DEPTH_MAX * sizeof(blktap_req);
    attach_.commands_at = 64;
    attach_.descriptors_bytes = attach_.segments_at + BLKTAP_PAGES * sizeof(blktap_seg);
    attach_.commands_bytes = RING_PAGE_SIZE + BLKTAP_COMMANDS * sizeof(blktap_cmd);
    attach_.window_pages = BLKTAP_WINDOW_PAGES;
    attach_.window_bytes = std::uint64_t{BLKTAP_WINDOW_PAGES} * RING_PAGE_SIZE;
    descriptors_ = map(attach_.descriptors_bytes);
    commands_area_ = map(attach_.commands_bytes);
    window_rw_ = map(attach_.window_bytes);
    window_ro_ = map(attach_.window_bytes);
    copies_ = map(std::size_t{attach_.pages} * RING_PAGE_SIZE);
    commands_ = ring_consumer{0, attach_.commands};
    head().state = BLKTAP_STATE_CONNECTED;
  }

  Capacity capacity;  // of the disk, as tapdisk has it
  std::vector<blktap_cmd> submitted;  // by tapdisk; nobody carries them out

  bool submits = false;  // reads and writes are announced as submittable

  const blktap_attach& attach() const { return attach_; }
  AreaPointers pointers() const {
    return {descriptors_.at(0), commands_area_.at(0), window_rw_.at(0), window_ro_.at(0),
            attach_.copy_bytes ? copies_.at(0) : nullptr};
  }
  blktap_kernel_head& head() { return *reinterpret_cast<blktap_kernel_head*>(descriptors_.at(0)); }

  blktap_attach& attach() { return attach_; }

  // Page `i` of the request in a slot, where tapdisk sees the data of a read or of a write.
  std::byte* page(Slot slot, bool read, unsigned i = 0) const {
    return window(read, runs_[slot].first + i);
  }
  std::byte* window(bool read, unsigned page) const {
    return (read ? window_rw_ : window_ro_).at(std::size_t{page} * RING_PAGE_SIZE);
  }

  std::byte* copy(unsigned page) const { return copies_.at(std::size_t{page} * RING_PAGE_SIZE); }

  bool is_free(Slot slot) const { return slots_.is_free(slot); }

  // Puts a request on the ring, as it is.
  void publish(const blktap_req& request) {
    std::memcpy(descriptors_.at(attach_.requests_at +
                                (produced_ & (attach_.depth - 1)) * sizeof(request)),
                &request, sizeof(request));
    ring_store_release_u32(&head().req_prod, ++produced_);
  }

  void set_segments(unsigned first, std::span<const blktap_seg> segments) {
    std::byte* entry = descriptors_.at(attach_.segments_at + first * sizeof(blktap_seg));
    for (const blktap_seg& segment : segments) {
      std::memcpy(entry, &segment, sizeof(segment));
      entry += sizeof(segment);
    }
  }

  // Gives a free slot a run of the table, the first that is free, and the pages of the same
  // numbers. False: there is none now.
  bool reserve(Slot slot, unsigned count) {
    unsigned free = 0;
    for (unsigned at = 0; at < attach_.pages && free < count; at++)
      if (free = taken_[at] ? 0 : free + 1; free == count) runs_[slot] = {at + 1 - count, count};
    if (free < count) return false;
    if (count == 0) runs_[slot] = {};
    std::fill_n(taken_.begin() + runs_[slot].first, count, true);
    return true;
  }

  // Announces a request in a free slot. Each segment goes to a page of its own; `page` of the
  // segments counts from the run's first. False: it has no run, and there is none now.
  bool announce(Slot slot, std::uint8_t op, std::uint64_t sector,
                std::span<const blktap_seg> segments) {
    const auto count = static_cast<unsigned>(segments.size());
    if (runs_[slot].count != count && !reserve(slot, count)) return false;
    blktap_req request{};
    request.op = op;
    request.sector = sector;
    request.nr_segs = static_cast<std::uint16_t>(count);
    request.first_seg = static_cast<std::uint16_t>(runs_[slot].first);
    std::array<blktap_seg, BLKTAP_SEGS_MAX> placed;
    for (unsigned i = 0; i < count; i++) {
      placed[i] = segments[i];
      placed[i].page = runs_[slot].first + i;
      request.bytes += segments[i].length;
    }
    set_segments(runs_[slot].first, std::span{placed.data(), count});
    offer(slot, request);
    return true;
  }

  void announce_discard(Slot slot, std::uint64_t sector, std::uint64_t sectors) {
    blktap_req request{};
    request.op = BLKTAP_OP_DISCARD;
    request.sector = sector;
    request.discard_sectors = sectors;
    offer(slot, request);
  }

  std::uint32_t generation(Slot slot) const { return slots_.states()[slot].generation;
  }

  // Takes tapdisk's commands; `answered(slot, result)` is called for each.
  template <class Answered>
  void take_commands(Answered&& answered) {
    const auto& user = *reinterpret_cast<const blktap_user_head*>(commands_area_.at(0));
    int available = ring_available(&commands_, &user.cmd_prod);
    ASSERT_GE(available, 0);
    for (; available > 0; available--, commands_.seen++) {
      blktap_cmd command;
      ring_copy_in(&command, commands_area_.at(attach_.commands_at +
                                               ring_position(&commands_) * sizeof(command)),
                   sizeof(command));
      ASSERT_EQ(slots_.judge(command), CMD_VALID);
      slots_.finish(command.slot);
      if (command.verb == BLKTAP_CMD_SUBMIT) submitted.push_back(command);
      answered(command.slot, command.result);
      Run& run = runs_[command.slot];
      std::fill_n(taken_.begin() + run.first, run.count, false);
      run = {};
    }
  }

 private:
  struct Run {
    unsigned first = 0;
    unsigned count = 0;
  };

  void offer(Slot slot, blktap_req& request) {
    request.slot = slot;
    request.arrival = arrivals_++;
    const bool submittable =
        submits && (request.op == BLKTAP_OP_READ || request.op == BLKTAP_OP_WRITE);
    if (submittable) request.flags |= BLKTAP_REQ_SUBMITTABLE;
    request.generation = slots_.offer(slot, submittable);
    publish(request);
  }

  static Mapping map(std::size_t bytes) {
    void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) throw std::runtime_error{"mmap"};
    return Mapping{base, bytes};
  }

  blktap_attach attach_{};
  Mapping descriptors_;
  Mapping commands_area_;
  Mapping window_rw_;
  Mapping window_ro_;
  Mapping copies_;
  ring_consumer commands_{};
  std::uint32_t produced_ = 0;
  std::uint64_t arrivals_ = 0;
  Slots<BLKTAP_DEPTH_MAX> slots_;
  std::array<Run, BLKTAP_DEPTH_MAX> runs_{};    // of the slots that are not free
  std::array<bool, BLKTAP_PAGES> taken_{};
};

// What sits on the other end of the module.
class FakeGuest {
 public:
  virtual ~FakeGuest() = default;
  virtual void answered(Slot slot, int result) = 0;
  // Called in each doorbell, after the answers; requests announced here come with it.
  virtual void rung() {}
};

class FakeSource final : public Source {
 public:
  FakeSource(FakeModule& module, FakeGuest& guest)
      : module_(module), guest_(guest), areas_(module.attach(), module.pointers(), module.capacity),
        event_(::eventfd(0, EFD_NONBLOCK)) {}

  // As the module does when the guest sends an event, or when the vbd is removed.
  void wake() noexcept override { ::eventfd_write(event_.get(), 1); }
  void remove() {
    gone_ = true;
    wake();
  }
  void break_protocol() { broken_ = true; }

  int fd() const noexcept override { return event_.get(); }

  Result<SourceState> ring(Ring how) noexcept override {
    counters_.rings.add();
    has_replies_ = false;
    const std::uint32_t before = module_.head().req_prod;
    for (;;) {
      const bool woken = take_event();
      // A broken promise of tapdisk's throws, and ends the test.
      // cppcheck-suppress throwInNoexceptFunction
      const Result<SourceState> state = look(how);
      if (how != Ring::kWait || woken || module_.head().req_prod != before || !state) return state;
      pollfd event{event_.get(), POLLIN, 0};
      ::poll(&event, 1, -1);
    }
  }

  Result<bool> next(Request& request) noexcept override {
    if (at_next) at_next();
    Result<bool> taken = areas_.next(request);
    if (taken && *taken) counters_.requests.add();
    return taken;
  }

  void reply(const Reply& reply) noexcept override {
    areas_.reply(reply);
    counters_.replies.add();
    has_replies_ = true;
  }
  Result<void> tell_size(std::uint64_t sectors) noexcept override {
    told_size = sectors;
    return {};
  }
  Result<void> delegate(const Extent&) noexcept override { return {}; }
  Result<void> withdraw_all() noexcept override { return {}; }
  bool has_replies() const noexcept override { return has_replies_; }
  const SourceCounters& counters() const noexcept override { return counters_; }

  bool armed = false;
  std::uint64_t told_size = 0;
  std::function<void()> at_next;  // called before a request is taken

 private:
  bool take_event() noexcept {
    eventfd_t ignored = 0;
    return ::eventfd_read(event_.get(), &ignored) == 0;
  }

  Result<SourceState> look(Ring how) {
    armed = how != Ring::kHold;
    if (gone_) return SourceState::kGone;
    if (broken_) return system_error("doorbell", EPROTO);
    module_.take_commands([&](Slot slot, int result) { guest_.answered(slot, result); });
    if (armed) guest_.rung();
    return SourceState::kConnected;
  }

  FakeModule& module_;
  FakeGuest& guest_;
  Areas areas_;
  Fd event_;
  SourceCounters counters_;
  bool has_replies_ = false;
  bool gone_ = false;
  bool broken_ = false;
};

}  // namespace tapdisk::testing
