// SPDX-License-Identifier: GPL-2.0-only
#include "image/discard.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <limits>
#include <system_error>

#include "base/check.hpp"
#include "base/syscall.hpp"

namespace tapdisk {
namespace {

// What goes through the pipes, in both directions.
struct Message {
  ImageOp* op = nullptr;
};

int punch_hole(int fd, std::uint64_t offset, std::uint64_t bytes) noexcept {
  return retry_eintr([&] {
    return ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       static_cast<off_t>(offset), static_cast<off_t>(bytes));
  });
}

// Tried behind the end of the file, where there is nothing to lose.
DiscardInfo of_file(int fd, const struct stat& status, const ImageInfo& info) noexcept {
  DiscardInfo found;
  const std::uint64_t block = info.physical_sector_size;
  const std::uint64_t end = (static_cast<std::uint64_t>(status.st_size) / block + 1) * block;
  if (punch_hole(fd, end, block) < 0) return found;
  found.offered = true;
  found.granularity = info.physical_sector_size;
  return found;
}

std::uint64_t number_in(const std::string& path) {
  std::uint64_t number = 0;
  std::ifstream{path} >> number;
  return number;
}

// A partition has its own alignment, and all else from the disk that it is on.
DiscardInfo of_device(const struct stat& status, const ImageInfo& info) {
  const std::string device =
      fmt::format("/sys/dev/block/{}:{}", major(status.st_rdev), minor(status.st_rdev));
  struct stat ignored {};
  const bool is_disk = ::stat((device + "/queue").c_str(), &ignored) == 0;
  const std::string queue = device + (is_disk ? "/queue/" : "/../queue/");
  DiscardInfo found;
  if (number_in(queue + "discard_max_bytes") == 0) return found;
  std::uint64_t granularity = number_in(queue + "discard_granularity");
  if (granularity == 0 || granularity % info.sector_size ||
      granularity > std::numeric_limits<std::uint32_t>::max())
    granularity = info.sector_size;
  found.offered = true;
  found.granularity = static_cast<std::uint32_t>(granularity);
  // The kernel says -1 where devices below are not aligned to each other.
  const std::uint64_t alignment = number_in(device + "/discard_alignment") % granularity;
  if (alignment % info.sector_size == 0) found.alignment = static_cast<std::uint32_t>(alignment);
  return found;
}

}  // namespace

DiscardInfo find_discard(int fd, const ImageInfo& info) {
  struct stat status {};
  if (::fstat(fd, &status)) return {};
  return S_ISBLK(status.st_mode) ? of_device(status, info) : of_file(fd, status, info);
}

Discarder::Discarder(int fd, bool is_block, Engine& engine, DiscardClient& client) noexcept
    : fd_(fd), is_block_(is_block), engine_(engine), client_(client) {}

Result<Discarder::Pipe> Discarder::make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC)) return system_error("pipe", errno);
  return Pipe{Fd{ends[0]}, Fd{ends[1]}};
}

Result<std::unique_ptr<Discarder>> Discarder::open(int fd, Engine& engine,
                                                   DiscardClient& client) {
  struct stat status {};
  if (::fstat(fd, &status)) return system_error("discard", errno);
  std::unique_ptr<Discarder> made{new Discarder{fd, S_ISBLK(status.st_mode), engine, client}};
  for (Pipe* pipe : {&made->asked_, &made->done_}) {
    Result<Pipe> ends = make_pipe();
    if (!ends) return ends.error();
    *pipe = std::move(*ends);
  }
  // The engine may say "readable" of what was read just before.
  if (::fcntl(made->done_.out.get(), F_SETFL, O_NONBLOCK)) return system_error("pipe", errno);
  try {
    made->helper_ = std::thread{[discarder = made.get()] { discarder->run(); }};
  } catch (const std::system_error& error) {
    return system_error("thread for discards", error.code().value());
  }
  made->watch_.verb = IoVerb::kWatch;
  made->watch_.fd = made->done_.out.get();
  made->watch_.client = made.get();
  engine.start(made->watch_);
  return made;
}

Discarder::~Discarder() {
  over_ = true;
  asked_.in = Fd{};  // wakes the helper
  if (helper_.joinable()) helper_.join();
}

void Discarder::start(ImageOp& op) noexcept {
  const Message message{&op};
  const auto written = retry_eintr([&] {
    return ::write(asked_.in.get(), &message, sizeof(message));
  });
  check(written == sizeof(message));
}

void Discarder::run() noexcept {
  ::pthread_setname_np(::pthread_self(), "discard");
  Message message;
  while (retry_eintr([&] {
           return ::read(asked_.out.get(), &message, sizeof(message));
         }) == sizeof(message)) {
    if (over_) return;
    message.op->result = discard(*message.op);
    // The pipe orders the result before the data thread's look at it.
    const auto written =
        retry_eintr([&] { return ::write(done_.in.get(), &message, sizeof(message)); });
    check(written == sizeof(message));
  }
}

int Discarder::discard(const ImageOp& op) const noexcept {
  const std::uint64_t offset = op.sector * kSectorSize;
  if (!is_block_) return punch_hole(fd_, offset, op.bytes);
  std::array<std::uint64_t, 2> range{offset, op.bytes};
  return retry_eintr([&] { return ::ioctl(fd_, BLKDISCARD, range.data()); });
}

// Messages are written whole, so they are read whole.
void Discarder::io_finished(Io& io) noexcept {
  check(io.result > 0);
  std::array<Message, kSlotsMax> messages;
  const auto bytes = retry_eintr([&] {
    return ::read(done_.out.get(), messages.data(), sizeof(messages));
  });
  engine_.start(watch_);
  if (bytes == -EAGAIN) return;
  check(bytes > 0 && bytes % static_cast<ssize_t>(sizeof(Message)) == 0);
  for (std::size_t i = 0; i < static_cast<std::size_t>(bytes) / sizeof(Message); i++)
    client_.discard_finished(*messages[i].op, messages[i].op->result);
}

}  // namespace tapdisk
