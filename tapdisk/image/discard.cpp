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

// What goes through the pipe: the address of an operation, not the operation.
constexpr ssize_t kPointerBytes = sizeof(void*);

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

Result<std::unique_ptr<Discarder>> Discarder::open(int fd, Engine& engine,
                                                   DiscardClient& client) {
  struct stat status {};
  if (::fstat(fd, &status)) return system_error("discard", errno);
  std::unique_ptr<Discarder> made{new Discarder{fd, client}};
  if (S_ISBLK(status.st_mode)) {
    int block = 0;
    if (::ioctl(fd, BLKSSZGET, &block)) return system_error("discard", errno);
    made->device_block_ = static_cast<std::uint32_t>(block);
  }
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC)) return system_error("pipe", errno);
  made->asked_out_ = Fd{ends[0]};
  made->asked_in_ = Fd{ends[1]};
  auto done = Mailbox::open(engine, *made);
  if (!done) return done.error();
  made->done_ = std::move(*done);
  try {
    made->helper_ = std::thread{[discarder = made.get()] { discarder->run(); }};
  } catch (const std::system_error& error) {
    return system_error("thread for discards", error.code().value());
  }
  return made;
}

Discarder::~Discarder() {
  over_ = true;
  asked_in_ = Fd{};  // wakes the helper
  if (helper_.joinable()) helper_.join();
}

void Discarder::start(ImageOp& op) noexcept {
  const ImageOp* const asked = &op;
  const auto written = retry_eintr([&] {
    return ::write(asked_in_.get(), &asked, kPointerBytes);
  });
  check(written == kPointerBytes);
}

void Discarder::run() noexcept {
  ::pthread_setname_np(::pthread_self(), "discard");
  ImageOp* op = nullptr;
  while (retry_eintr([&] { return ::read(asked_out_.get(), &op, kPointerBytes); }) ==
         kPointerBytes) {
    if (over_) return;
    op->result = discard(*op);
    done_->post(op);
  }
}

int Discarder::discard(const ImageOp& op) const noexcept {
  const std::uint64_t offset = op.sector * kSectorSize;
  if (!device_block_) return punch_hole(fd_, offset, op.bytes);
  // A device refuses what is not whole blocks, and its blocks may be larger than the disk's.
  const std::uint64_t start = (offset + device_block_ - 1) / device_block_ * device_block_;
  const std::uint64_t end = (offset + op.bytes) / device_block_ * device_block_;
  if (start >= end) return 0;
  std::array<std::uint64_t, 2> range{start, end - start};
  return retry_eintr([&] { return ::ioctl(fd_, BLKDISCARD, range.data()); });
}

void Discarder::delivered(void* letter) noexcept {
  ImageOp& op = *static_cast<ImageOp*>(letter);
  client_.discard_finished(op, op.result);
}

}  // namespace tapdisk
