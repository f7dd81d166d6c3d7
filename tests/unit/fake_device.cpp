// SPDX-License-Identifier: GPL-2.0-only
// Preloaded into tapdisk, it is the device of one vbd: open, ATTACH, the four areas, RUN. It has
// FAKE_QUEUES queues (1), each with areas of its own and a thread of tapdisk's. Behind each
// sits a guest that writes FAKE_REQUESTS pages, each with its own content, flushes, and reads them
// back; when all have done so, the vbd goes away (FAKE_END=gone) or stays idle. Anything that the
// module would refuse, and any wrong byte, ends the process with a message.
//
// FAKE_ATTACH_ERRNO refuses the attach of queue FAKE_BAD_QUEUE (0), FAKE_REFUSALS times (always);
// FAKE_RUN_ERRNO is what that queue's doorbell says once all queues have rung it. Each
// fdatasync(2), of any file, is told of, and fails with FAKE_FDATASYNC_ERRNO; mlockall(2) fails
// with FAKE_MLOCKALL_ERRNO; locking a file says FAKE_LOCK_ERRNO. With FAKE_STALL io_submit(2) says
// so and never returns.
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "ring/ring.h"
#include "tests/support/slots.hpp"

namespace {

constexpr std::uint64_t kWindowBytes = std::uint64_t{BLKTAP_WINDOW_PAGES} * RING_PAGE_SIZE;
constexpr std::uint32_t kRequestsAt = RING_PAGE_SIZE;
constexpr std::uint32_t kSegmentsAt = kRequestsAt + BLKTAP_DEPTH_MAX * sizeof(blktap_req);
constexpr std::uint32_t kDescriptorsBytes = kSegmentsAt + BLKTAP_PAGES * sizeof(blktap_seg);
constexpr std::uint32_t kCommandsBytes = RING_PAGE_SIZE + BLKTAP_COMMANDS * sizeof(blktap_cmd);
// A request's page of the window is the one of its slot's number from here.
constexpr std::uint32_t kFirstPage = 700;

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

// Of all queues.
unsigned queues_of_vbd() {
  static const unsigned queues = std::getenv("FAKE_QUEUES") ? from_environment("FAKE_QUEUES") : 1;
  return queues;
}
std::atomic<unsigned> attached{0};
std::atomic<unsigned> rung{0};
std::atomic<unsigned> finished{0};

// Of all mappings of the areas. They are made one after the other.
struct Area {
  void* start;
  std::size_t bytes;
  int protection;
};
Area areas[BLKTAP_QUEUES_MAX * 10];
unsigned nr_areas = 0;

struct Device {
  int fd = -1;
  unsigned queue = 0;
  unsigned refused = 0;
  bool has_rung = false;
  bool has_finished = false;
  char* descriptors = nullptr;
  char* commands = nullptr;
  char* window_rw = nullptr;
  char* window_ro = nullptr;
  char* copies = nullptr;
  ring_consumer ring{0, BLKTAP_COMMANDS};
  tapdisk::testing::Slots<BLKTAP_DEPTH_MAX> slots;
  std::uint32_t produced = 0;

  unsigned total = from_environment("FAKE_REQUESTS");
  unsigned asked = 0;    // of 2 * total + 1: the writes, the flush, the reads
  unsigned answered = 0;
  unsigned page_of[BLKTAP_DEPTH_MAX]{};

  char content(unsigned page) const { return static_cast<char>(page * 7 + queue * 31 + 1); }
  char* page(char* window, std::uint16_t slot) const {
    return &window[std::size_t{kFirstPage + slot} * RING_PAGE_SIZE];
  }
  static inline std::atomic<bool> gone{false};
  static void remove_vbd();

  bool is_write(unsigned request) const { return request < total; }
  bool is_flush(unsigned request) const { return request == total; }

  void ask(std::uint16_t slot) {
    const unsigned page = is_write(asked) ? asked : asked - total - 1;
    blktap_req request{};
    request.slot = slot;
    request.generation = slots.offer(slot);
    if (is_flush(asked)) {
      request.op = BLKTAP_OP_FLUSH;
    } else {
      request.op = is_write(asked) ? BLKTAP_OP_WRITE : BLKTAP_OP_READ;
      request.sector = (std::uint64_t{queue} * total + page) * 8;
      request.bytes = RING_PAGE_SIZE;
      request.nr_segs = 1;
      request.first_seg = static_cast<std::uint16_t>(slot);
      const blktap_seg segment{kFirstPage + slot, 0, RING_PAGE_SIZE};
      std::memcpy(descriptors + kSegmentsAt + slot * sizeof(segment), &segment, sizeof(segment));
      if (is_write(asked))
        std::memset(this->page(window_ro, slot), content(page), RING_PAGE_SIZE);
    }
    page_of[slot] = is_write(asked) || is_flush(asked) ? ~0u : page;
    std::memcpy(descriptors + kRequestsAt +
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
      require(slots.judge(command) == CMD_VALID, "a bad command");
      require(command.result == 0, "a request failed");
      slots.finish(command.slot);
      answered++;
      const unsigned page = page_of[command.slot];
      if (page == ~0u) continue;
      for (unsigned i = 0; i < RING_PAGE_SIZE; i++)
        require(this->page(window_rw, command.slot)[i] == content(page), "a wrong byte");
    }
  }

  bool take_event() const {
    eventfd_t ignored = 0;
    return ::eventfd_read(fd, &ignored) == 0;
  }

  int run(unsigned flags) {
    require((flags & ~BLKTAP_RUN_KNOWN) == 0, "an unknown flag");
    require(!(flags & BLKTAP_RUN_WAIT) || (flags & (BLKTAP_RUN_ARM | BLKTAP_RUN_HOLD)) ==
                                              BLKTAP_RUN_ARM, "a wait that is not one");
    const bool woken = take_event();
    const std::uint32_t before = produced;
    const int result = look(flags & BLKTAP_RUN_HOLD);
    if (!(flags & BLKTAP_RUN_WAIT) || woken || result || produced != before) return result;
    pollfd event{fd, POLLIN, 0};
    ::poll(&event, 1, -1);
    take_event();
    return look(false);
  }

  int look(bool hold) {
    require(descriptors && commands && window_rw && window_ro, "an area is not mapped");
    require(attached == queues_of_vbd(), "served before all queues were attached");
    if (!std::exchange(has_rung, true)) rung++;
    if (fails("FAKE_RUN_ERRNO")) {
      while (rung < queues_of_vbd()) ::usleep(1000);
      errno = static_cast<int>(from_environment("FAKE_RUN_ERRNO"));
      return -1;
    }
    take_commands();
    const unsigned all = 2 * total + 1;
    for (std::uint16_t slot = 0; !hold && slot < BLKTAP_DEPTH_MAX && asked < all; slot++) {
      // The flush waits for the writes, and the reads for the flush.
      const bool in_order = asked < total || answered >= (is_flush(asked) ? total : total + 1);
      if (in_order && slots.is_free(slot)) ask(slot);
    }
    const char* end = std::getenv("FAKE_END");
    if (answered == all && !std::exchange(has_finished, true) &&
        ++finished == queues_of_vbd() && end && std::string_view{end} == "gone") {
      std::fprintf(stderr, "fake device: all right\n");
      remove_vbd();
    }
    if (gone) {
      errno = ENODEV;
      return -1;
    }
    return 0;
  }

  bool fails(const char* how) const {
    return std::getenv(how) && queue == from_environment("FAKE_BAD_QUEUE");
  }

  int attach(blktap_attach& a) {
    queue = a.queue;
    require(queue == attached && queue < queues_of_vbd(), "attached out of turn");
    if (fails("FAKE_ATTACH_ERRNO") &&
        (!std::getenv("FAKE_REFUSALS") || refused++ < from_environment("FAKE_REFUSALS"))) {
      errno = static_cast<int>(from_environment("FAKE_ATTACH_ERRNO"));
      return -1;
    }
    attached++;
    for (const std::uint32_t reserved : a.reserved_in) require(!reserved, "a bad attach");
    require(a.abi == BLKTAP_ABI_VERSION, "a bad attach");
    require(!(a.disk_flags & BLKTAP_DISK_DISCARD) == !a.discard_granularity &&
                a.discard_granularity % a.sector_size == 0 &&
                (a.discard_alignment == 0 || a.discard_alignment < a.discard_granularity),
            "an impossible discard");
    require((a.disk_flags & ~BLKTAP_DISK_KNOWN) == 0, "an unknown disk flag");
    require((a.features & ~BLKTAP_FEATURES_KNOWN) == 0, "an unknown feature");
    require(a.sectors && a.sector_size >= 512 && a.physical_sector_size >= a.sector_size,
            "an impossible disk");
    a.generation = 1;
    a.depth = BLKTAP_DEPTH_MAX;
    a.max_segs = BLKTAP_SEGS_MAX;
    a.commands = BLKTAP_COMMANDS;
    a.pages = BLKTAP_PAGES;
    a.queues = queues_of_vbd();
    a.requests_at = kRequestsAt;
    a.segments_at = kSegmentsAt;
    a.commands_at = RING_PAGE_SIZE;
    a.descriptors_bytes = kDescriptorsBytes;
    a.commands_bytes = kCommandsBytes;
    a.disk_flags_out = a.disk_flags;
    a.window_bytes = kWindowBytes;
    a.window_pages = BLKTAP_WINDOW_PAGES;
    return 0;
  }

  void* map(std::uint64_t at, std::size_t bytes, int protection, int flags) {
    const bool writable =
        at == BLKTAP_MAP_COMMANDS || at == BLKTAP_MAP_WINDOW_RW || at == BLKTAP_MAP_COPIES;
    const bool is_window = at == BLKTAP_MAP_WINDOW_RW || at == BLKTAP_MAP_WINDOW_RO;
    require(flags == MAP_SHARED, "not mapped shared");
    require(protection == (writable ? PROT_READ | PROT_WRITE : PROT_READ), "a bad protection");
    require(bytes == (is_window                       ? kWindowBytes
                      : at == BLKTAP_MAP_COPIES      ? std::uint64_t{BLKTAP_PAGES} * RING_PAGE_SIZE
                      : at == BLKTAP_MAP_DESCRIPTORS ? kDescriptorsBytes
                                                     : kCommandsBytes),
            "a bad size");
    const int memory = ::memfd_create("area", 0);
    require(::ftruncate(memory, static_cast<off_t>(bytes)) == 0, "ftruncate");
    using Mmap = void* (*)(void*, std::size_t, int, int, int, off_t);
    static const Mmap real = next<Mmap>("mmap");
    char* mine = static_cast<char*>(real(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                                         memory, 0));
    void* theirs = real(nullptr, bytes, protection, MAP_SHARED, memory, 0);
    ::close(memory);
    areas[nr_areas++] = Area{mine, bytes, PROT_READ | PROT_WRITE};
    areas[nr_areas++] = Area{theirs, bytes, protection};
    (at == BLKTAP_MAP_DESCRIPTORS ? descriptors
     : at == BLKTAP_MAP_COMMANDS  ? commands
     : at == BLKTAP_MAP_WINDOW_RW ? window_rw
     : at == BLKTAP_MAP_WINDOW_RO ? window_ro
                                  : copies) = mine;
    return theirs;
  }
};

// One for each open, in their order. Opens and attaches come one after the other; afterwards each
// device is used by one thread.
Device devices[BLKTAP_QUEUES_MAX];
std::atomic<unsigned> opens{0};

Device* device_of(int fd) {
  for (unsigned i = 0; fd >= 0 && i < opens; i++)
    if (devices[i].fd == fd) return &devices[i];
  return nullptr;
}

void Device::remove_vbd() {
  gone = true;
  for (unsigned i = 0; i < opens; i++) ::eventfd_write(devices[i].fd, 1);
}

int open_any(const char* name, const char* path, int flags, mode_t mode) {
  if (std::strncmp(path, "/dev/blktap/", 12) == 0) {
    require(opens < BLKTAP_QUEUES_MAX, "opened too often");
    const int fd = ::eventfd(1, EFD_NONBLOCK);
    devices[opens].fd = fd;
    opens++;
    return fd;
  }
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
  Device* const device = device_of(fd);
  if (device && request == BLKTAP_IOC_ATTACH)
    return device->attach(*static_cast<blktap_attach*>(argument));
  if (device && request == BLKTAP_IOC_RUN)
    return device->run(static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(argument)));
  if (device && request == BLKTAP_IOC_WAKE) return ::eventfd_write(device->fd, 1);
  return next<int (*)(int, unsigned long, void*)>("ioctl")(fd, request, argument);
}

extern "C" int fdatasync(int fd) {
  std::fprintf(stderr, "fake device: fdatasync\n");
  if (!std::getenv("FAKE_FDATASYNC_ERRNO")) return next<int (*)(int)>("fdatasync")(fd);
  errno = static_cast<int>(from_environment("FAKE_FDATASYNC_ERRNO"));
  return -1;
}

extern "C" int io_submit(struct io_context* context, long count, struct iocb** ios) {
  if (std::getenv("FAKE_STALL")) std::fprintf(stderr, "fake device: stalls\n");
  while (std::getenv("FAKE_STALL")) ::pause();
  return next<int (*)(struct io_context*, long, struct iocb**)>("io_submit")(context, count, ios);
}

// A device's memory is not made present by it, so neither are the areas.
extern "C" int mlockall(int flags) noexcept {
  if (std::getenv("FAKE_MLOCKALL_ERRNO")) {
    errno = static_cast<int>(from_environment("FAKE_MLOCKALL_ERRNO"));
    return -1;
  }
  for (unsigned i = 0; i < nr_areas; i++) ::mprotect(areas[i].start, areas[i].bytes, PROT_NONE);
  const int result = next<int (*)(int)>("mlockall")(flags);
  for (unsigned i = 0; i < nr_areas; i++)
    ::mprotect(areas[i].start, areas[i].bytes, areas[i].protection);
  return result;
}

extern "C" int fcntl64(int fd, int command, ...) {
  std::va_list arguments;
  va_start(arguments, command);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  const int error = static_cast<int>(from_environment("FAKE_LOCK_ERRNO"));
  if (error && (command == F_OFD_SETLK || command == F_OFD_GETLK)) {
    errno = error;
    return -1;
  }
  return next<int (*)(int, int, void*)>("fcntl64")(fd, command, argument);
}

extern "C" int fcntl(int fd, int command, ...) {
  std::va_list arguments;
  va_start(arguments, command);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  return fcntl64(fd, command, argument);
}

extern "C" void* mmap(void* address, std::size_t bytes, int protection, int flags, int fd,
                      off_t offset) noexcept {
  if (Device* const device = device_of(fd))
    return device->map(static_cast<std::uint64_t>(offset), bytes, protection, flags);
  return next<void* (*)(void*, std::size_t, int, int, int, off_t)>("mmap")(
      address, bytes, protection, flags, fd, offset);
}
