// SPDX-License-Identifier: GPL-2.0-only
// Preloaded into tapdisk, it is the device of one vbd: open, ATTACH, the four areas, RUN. Behind it
// sits a guest that writes FAKE_REQUESTS pages, each with its own content, flushes, and reads them
// back; then the vbd goes away (FAKE_END=gone) or stays idle. Anything that the module would
// refuse, and any wrong byte, ends the process with a message.
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "ring/ring.h"
#include "ring/slot.h"

namespace {

constexpr std::uint32_t kSlotBytes = 16 * RING_PAGE_SIZE;
constexpr std::uint64_t kWindowBytes = std::uint64_t{BLKTAP_DEPTH_MAX} * kSlotBytes;
constexpr std::uint32_t kAreaBytes = 4 * RING_PAGE_SIZE;

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "fake device: %s\n", what);
  ::_exit(99);
}

void require(bool condition, const char* what) {
  if (!condition) die(what);
}

unsigned from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? static_cast<unsigned>(std::strtoul(value, nullptr, 10)) : 0;
}

struct Device {
  int fd = -1;
  char* descriptors = nullptr;
  char* commands = nullptr;
  char* window_rw = nullptr;
  char* window_ro = nullptr;
  ring_consumer ring{0, BLKTAP_COMMANDS};
  slot_state slots[BLKTAP_DEPTH_MAX]{};
  std::uint32_t produced = 0;

  unsigned total = from_environment("FAKE_REQUESTS");
  unsigned asked = 0;    // of 2 * total + 1: the writes, the flush, the reads
  unsigned answered = 0;
  unsigned page_of[BLKTAP_DEPTH_MAX]{};

  char content(unsigned page) const { return static_cast<char>(page * 7 + 1); }
  bool is_write(unsigned request) const { return request < total; }
  bool is_flush(unsigned request) const { return request == total; }

  void ask(std::uint16_t slot) {
    const unsigned page = is_write(asked) ? asked : asked - total - 1;
    blktap_req request{};
    request.slot = slot;
    request.generation = slot_offer(&slots[slot]);
    if (is_flush(asked)) {
      request.op = BLKTAP_OP_FLUSH;
    } else {
      request.op = is_write(asked) ? BLKTAP_OP_WRITE : BLKTAP_OP_READ;
      request.sector = std::uint64_t{page} * 8;
      request.bytes = RING_PAGE_SIZE;
      request.nr_segs = 1;
      const blktap_seg segment{0, RING_PAGE_SIZE};
      std::memcpy(descriptors + 2 * RING_PAGE_SIZE + slot * BLKTAP_SEGS_MAX * sizeof(segment),
                  &segment, sizeof(segment));
      if (is_write(asked)) std::memset(window_ro + slot * kSlotBytes, content(page),
                                       RING_PAGE_SIZE);
    }
    page_of[slot] = is_write(asked) || is_flush(asked) ? ~0u : page;
    std::memcpy(descriptors + RING_PAGE_SIZE +
                    (produced & (BLKTAP_DEPTH_MAX - 1)) * sizeof(request),
                &request, sizeof(request));
    auto& head = *reinterpret_cast<blktap_kernel_head*>(descriptors);
    ring_store_release_u32(&head.req_prod, ++produced);
    asked++;
  }

  void take_commands() {
    auto& user = *reinterpret_cast<blktap_user_head*>(commands);
    int available = ring_available(&ring, &user.cmd_prod);
    require(available >= 0, "the command index lies");
    for (; available > 0; available--, ring.seen++) {
      blktap_cmd command;
      std::memcpy(&command, commands + RING_PAGE_SIZE + ring_position(&ring) * sizeof(command),
                  sizeof(command));
      require(cmd_judge(&command, slots, BLKTAP_DEPTH_MAX) == CMD_VALID, "a bad command");
      require(command.result == 0, "a request failed");
      slots[command.slot].owner = SLOT_FREE;
      answered++;
      const unsigned page = page_of[command.slot];
      if (page == ~0u) continue;
      for (unsigned i = 0; i < RING_PAGE_SIZE; i++)
        require(window_rw[command.slot * kSlotBytes + i] == content(page), "a wrong byte");
    }
  }

  int run(unsigned flags) {
    require((flags & ~BLKTAP_RUN_KNOWN) == 0, "an unknown flag");
    require(descriptors && commands && window_rw && window_ro, "an area is not mapped");
    eventfd_t ignored = 0;
    ::eventfd_read(fd, &ignored);
    take_commands();
    const unsigned all = 2 * total + 1;
    for (std::uint16_t slot = 0; slot < BLKTAP_DEPTH_MAX && asked < all; slot++) {
      // The flush waits for the writes, and the reads for the flush.
      const bool in_order = asked < total || answered >= (is_flush(asked) ? total : total + 1);
      if (in_order && slots[slot].owner == SLOT_FREE) ask(slot);
    }
    const char* end = std::getenv("FAKE_END");
    if (answered == all && end && std::string_view{end} == "gone") {
      std::fprintf(stderr, "fake device: all right\n");
      errno = ENODEV;
      return -1;
    }
    return 0;
  }

  static int attach(blktap_attach& a) {
    if (const char* refusal = std::getenv("FAKE_ATTACH_ERRNO")) {
      errno = std::atoi(refusal);
      return -1;
    }
    require(a.abi == BLKTAP_ABI_VERSION && !a.queue && !a.reserved_in, "a bad attach");
    require((a.disk_flags & ~BLKTAP_DISK_KNOWN) == 0, "an unknown disk flag");
    require((a.features & ~BLKTAP_FEATURES_KNOWN) == 0, "an unknown feature");
    require(a.sectors && a.sector_size >= 512 && a.physical_sector_size >= a.sector_size,
            "an impossible disk");
    a.generation = 1;
    a.depth = BLKTAP_DEPTH_MAX;
    a.max_segs = BLKTAP_SEGS_MAX;
    a.commands = BLKTAP_COMMANDS;
    a.slot_bytes = kSlotBytes;
    a.requests_at = RING_PAGE_SIZE;
    a.segments_at = 2 * RING_PAGE_SIZE;
    a.commands_at = RING_PAGE_SIZE;
    a.descriptors_bytes = a.commands_bytes = kAreaBytes;
    a.disk_flags_out = a.disk_flags;
    a.window_bytes = kWindowBytes;
    return 0;
  }

  void* map(std::uint64_t at, std::size_t bytes, int protection, int flags) {
    const bool writable = at == BLKTAP_MAP_COMMANDS || at == BLKTAP_MAP_WINDOW_RW;
    const bool is_window = at == BLKTAP_MAP_WINDOW_RW || at == BLKTAP_MAP_WINDOW_RO;
    require(flags == MAP_SHARED, "not mapped shared");
    require(protection == (writable ? PROT_READ | PROT_WRITE : PROT_READ), "a bad protection");
    require(bytes == (is_window ? kWindowBytes : kAreaBytes), "a bad size");
    const int memory = ::memfd_create("area", 0);
    require(::ftruncate(memory, static_cast<off_t>(bytes)) == 0, "ftruncate");
    using Mmap = void* (*)(void*, std::size_t, int, int, int, off_t);
    static const Mmap real = next<Mmap>("mmap");
    char* mine = static_cast<char*>(real(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                                         memory, 0));
    void* theirs = real(nullptr, bytes, protection, MAP_SHARED, memory, 0);
    ::close(memory);
    (at == BLKTAP_MAP_DESCRIPTORS ? descriptors
     : at == BLKTAP_MAP_COMMANDS  ? commands
     : at == BLKTAP_MAP_WINDOW_RW ? window_rw
                                  : window_ro) = mine;
    return theirs;
  }
};

Device device;

int open_any(const char* name, const char* path, int flags, mode_t mode) {
  if (std::strncmp(path, "/dev/blktap/", 12) == 0) return device.fd = ::eventfd(1, EFD_NONBLOCK);
  return next<int (*)(const char*, int, ...)>(name)(path, flags, mode);
}

}  // namespace

extern "C" int open(const char* path, int flags, ...) {
  std::va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = va_arg(arguments, mode_t);
  va_end(arguments);
  return open_any("open", path, flags, mode);
}

extern "C" int open64(const char* path, int flags, ...) {
  std::va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = va_arg(arguments, mode_t);
  va_end(arguments);
  return open_any("open64", path, flags, mode);
}

extern "C" int ioctl(int fd, unsigned long request, ...) noexcept {
  std::va_list arguments;
  va_start(arguments, request);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  if (fd == device.fd && request == BLKTAP_IOC_ATTACH)
    return Device::attach(*static_cast<blktap_attach*>(argument));
  if (fd == device.fd && request == BLKTAP_IOC_RUN)
    return device.run(static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(argument)));
  return next<int (*)(int, unsigned long, void*)>("ioctl")(fd, request, argument);
}

extern "C" void* mmap(void* address, std::size_t bytes, int protection, int flags, int fd,
                      off_t offset) noexcept {
  if (fd >= 0 && fd == device.fd)
    return device.map(static_cast<std::uint64_t>(offset), bytes, protection, flags);
  return next<void* (*)(void*, std::size_t, int, int, int, off_t)>("mmap")(
      address, bytes, protection, flags, fd, offset);
}
