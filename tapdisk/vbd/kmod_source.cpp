// SPDX-License-Identifier: GPL-2.0-only
#include "vbd/kmod_source.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>
#include <thread>

#include "base/paths.hpp"
#include "base/syscall.hpp"
#include "vbd/areas.hpp"

namespace tapdisk {
namespace {

blktap_attach describe(const AttachOptions& options, const ImageInfo& disk,
                       unsigned queue) noexcept {
  blktap_attach attach{};
  attach.abi = BLKTAP_ABI_VERSION;
  attach.disk_flags = BLKTAP_DISK_FLUSH;
  if (disk.read_only) attach.disk_flags |= BLKTAP_DISK_READ_ONLY;
  if (options.cdrom) attach.disk_flags |= BLKTAP_DISK_CDROM;
  if (options.removable) attach.disk_flags |= BLKTAP_DISK_REMOVABLE;
  if (options.persistent) attach.disk_flags |= BLKTAP_DISK_PERSISTENT;
  if (!disk.direct) attach.disk_flags |= BLKTAP_DISK_BUFFERED;
  if (disk.discard.offered) {
    attach.disk_flags |= BLKTAP_DISK_DISCARD;
    if (disk.discard.secure) attach.disk_flags |= BLKTAP_DISK_SECURE;
    attach.discard_granularity = disk.discard.granularity;
    attach.discard_alignment = disk.discard.alignment;
  }
  // What is submitted is never looked at.
  attach.features = options.submits ? BLKTAP_FEATURE_SUBMIT
                    : options.prefault ? BLKTAP_FEATURE_PREFAULT : 0;
  attach.sectors = disk.sectors;
  attach.sector_size = disk.sector_size;
  attach.physical_sector_size = disk.physical_sector_size;
  attach.queue = queue;
  attach.copy_bytes = options.copy_bytes;
  attach.poll_us = options.poll_us;
  attach.keep_ms = options.keep_ms;
  std::ranges::copy(disk.id, attach.image_id);
  return attach;
}

// Why the module did not let us attach; see blktap_abi.h.
Error refusal(int code) {
  switch (code) {
    case EBUSY: return plain_error("attach", "another tapdisk serves this vbd", code);
    case ESTALE:
      return plain_error("attach", "not the disk that the guest has: its image, its size, its "
                         "sector size, whether it is writable, or what it offers has changed",
                         code);
    case EPROTONOSUPPORT:
      return plain_error("attach", "the loaded module blktap is of another version: with no disk "
                         "in use, modprobe -r blktap && modprobe blktap", code);
    case EAGAIN:
      return plain_error("attach", "I/O of this vbd's last tapdisk does not end: does its storage "
                         "hang?", code);
    default: return system_error("attach", code);
  }
}

constexpr auto kAttachPause = std::chrono::milliseconds{100};

// A tapdisk that died may have a moment to go: its I/O, and what its rings of io_uring have open,
// which the kernel closes after the process is gone.
constexpr int attach_tries(int code) {
  return code == EAGAIN ? 100 : code == EBUSY ? 30 : 1;
}

class KmodSource final : public Source {
 public:
  KmodSource(Fd device, const Capacity& capacity) noexcept
      : device_(std::move(device)), capacity_(capacity) {}

  // Gives the number of queues.
  Result<unsigned> attach(blktap_attach attach) {
    for (int tries = 1; ::ioctl(device_.get(), BLKTAP_IOC_ATTACH, &attach); tries++) {
      if (tries >= attach_tries(errno)) return refusal(errno);
      std::this_thread::sleep_for(kAttachPause);
    }
    if (!layout_is_sound(attach))
      return plain_error("attach", "the module's layout is out of bounds", EPROTO);
    if (const Result<void> mapped = map(attach); !mapped) return mapped.error();
    if (attach.copy_bytes)
      lasting_ = {copies_.at(0), std::size_t{attach.pages} * RING_PAGE_SIZE};
    areas_.emplace(attach, AreaPointers{descriptors_.at(0), commands_.at(0), window_rw_.at(0),
                                        window_ro_.at(0), copies_.at(0)}, capacity_);
    return attach.queues;
  }

  int fd() const noexcept override { return device_.get(); }

  Result<SourceState> ring(Ring how) noexcept override {
    const unsigned flags = how == Ring::kHold   ? BLKTAP_RUN_HOLD
                           : how == Ring::kTake ? BLKTAP_RUN_ARM
                                                : BLKTAP_RUN_ARM | BLKTAP_RUN_WAIT;
    const int result = retry_eintr([&] { return ::ioctl(device_.get(), BLKTAP_IOC_RUN, flags); });
    counters_.rings.add();
    has_replies_ = false;
    if (result == -ENODEV) return SourceState::kGone;
    if (result < 0) return system_error("doorbell", -result);
    return state();
  }

  void wake() noexcept override { ::ioctl(device_.get(), BLKTAP_IOC_WAKE); }

  std::span<std::byte> lasting() const noexcept override { return lasting_; }

  Result<bool> next(Request& request) noexcept override {
    Result<bool> taken = areas_->next(request);
    if (taken && *taken) counters_.requests.add();
    return taken;
  }

  void reply(const Reply& reply) noexcept override {
    areas_->reply(reply);
    counters_.replies.add();
    has_replies_ = true;
  }

  Result<void> tell_size(std::uint64_t sectors) noexcept override {
    const __u64 argument = sectors;
    if (::ioctl(device_.get(), BLKTAP_IOC_RESIZE, &argument))
      return system_error("telling the guest", errno);
    return {};
  }

  Result<void> tell_unsynced() noexcept override {
    const unsigned flags = BLKTAP_RUN_HOLD | BLKTAP_RUN_UNSYNCED;
    const int result = retry_eintr([&] { return ::ioctl(device_.get(), BLKTAP_IOC_RUN, flags); });
    return result < 0 && result != -ENODEV ? system_error("doorbell", -result) : Result<void>{};
  }

  Result<void> delegate(const Extent& extent) noexcept override {
    blktap_extent argument{};
    argument.sector = extent.sector;
    argument.sectors = extent.sectors;
    argument.offset = extent.offset;
    argument.fd = extent.fd;
    argument.flags = BLKTAP_EXTENT_READ | (extent.writable ? BLKTAP_EXTENT_WRITE : 0);
    if (::ioctl(device_.get(), BLKTAP_IOC_DELEGATE, &argument))
      return system_error("delegating to the module", errno);
    return {};
  }

  Result<void> withdraw_all() noexcept override {
    const blktap_range argument{0, ~__u64{0}};
    if (::ioctl(device_.get(), BLKTAP_IOC_WITHDRAW, &argument))
      return system_error("withdrawing what was delegated", errno);
    return {};
  }

  bool has_replies() const noexcept override { return has_replies_; }
  const SourceCounters& counters() const noexcept override { return counters_; }

 private:
  Result<void> map_one(Mapping& mapping, std::uint64_t at, std::size_t bytes, int protection) {
    Result<Mapping> mapped = map_shared(device_.get(), at, bytes, protection);
    if (!mapped) return mapped.error();
    mapping = std::move(*mapped);
    return {};
  }

  Result<void> map(const blktap_attach& attach) {
    Result<void> done = map_one(descriptors_, BLKTAP_MAP_DESCRIPTORS, attach.descriptors_bytes,
                                PROT_READ);
    if (done)
      done = map_one(commands_, BLKTAP_MAP_COMMANDS, attach.commands_bytes,
                     PROT_READ | PROT_WRITE);
    if (done)
      done = map_one(window_rw_, BLKTAP_MAP_WINDOW_RW, attach.window_bytes,
                     PROT_READ | PROT_WRITE);
    if (done)
      done = map_one(window_ro_, BLKTAP_MAP_WINDOW_RO, attach.window_bytes, PROT_READ);
    if (!done) return done;
    // Not agreed on, too: what Xen has no room for is copied, by modules that know how.
    done = map_one(copies_, BLKTAP_MAP_COPIES, std::size_t{attach.pages} * RING_PAGE_SIZE,
                   PROT_READ | PROT_WRITE);
    if (!done && done.error().code == ENXIO && !attach.copy_bytes) return {};
    return done;
  }

  SourceState state() const noexcept {
    switch (areas_->state()) {
      case BLKTAP_STATE_WAITING: return SourceState::kWaiting;
      case BLKTAP_STATE_CONNECTED: return SourceState::kConnected;
      case BLKTAP_STATE_CLOSING: return SourceState::kClosing;
      default: return SourceState::kGone;
    }
  }

  Fd device_;
  const Capacity& capacity_;
  Mapping descriptors_;
  Mapping commands_;
  Mapping window_rw_;
  Mapping window_ro_;
  Mapping copies_;
  std::span<std::byte> lasting_;  // the copies, if all their pages are there
  std::optional<Areas> areas_;
  SourceCounters counters_;
  bool has_replies_ = false;
};

}  // namespace

Result<Attached> attach_to_module(const AttachOptions& options, const ImageInfo& disk,
                                  unsigned queue) {
  const std::string name =
      queue == 0 ? options.vbd : fmt::format("{} queue {}", options.vbd, queue);
  Result<Fd> device = open_file(std::string{kDeviceDirectory} + "/" + options.vbd, O_RDWR);
  if (!device) {
    if (device.error().code == ENOENT)
      return plain_error(name, "no such vbd, or the module blktap is not loaded", ENOENT);
    return system_error(name, device.error().code);
  }
  auto source = std::make_unique<KmodSource>(std::move(*device), disk.sectors);
  const Result<unsigned> queues = source->attach(describe(options, disk, queue));
  if (!queues) return plain_error(name, queues.error().what, queues.error().code);
  return Attached{std::move(source), *queues};
}

}  // namespace tapdisk
