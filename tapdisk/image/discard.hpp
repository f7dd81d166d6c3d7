// SPDX-License-Identifier: GPL-2.0-only
//
// Discards of a file or block device: whether there are any, and the thread that does them.
//
// They are system calls that may take seconds, and the data thread must not wait for them. A block
// device has nothing asynchronous for it (6.1), io_uring gives a file's fallocate(2) to a thread of
// its own anyway, and libaio has no word for it; so there is one way for all, a helper that makes
// the calls one after the other. Operations go to it through a pipe, and come back by a mailbox.
//
// A regular file gets holes (fallocate PUNCH_HOLE), which read as zeros; what is not a whole block
// of the file system is zeroed. A block device gets BLKDISCARD; a device skips what is not a whole
// granule. fallocate on a block device would not do: it writes zeros, where discarding was asked
// for, and thin volumes refuse it.
#pragma once

#include <atomic>
#include <memory>
#include <thread>

#include "base/resource.hpp"
#include "base/result.hpp"
#include "image/image.hpp"
#include "image/mailbox.hpp"
#include "io/engine.hpp"

namespace tapdisk {

// What the store behind `fd` offers to a disk with the blocks of `info`; changes nothing. Secure
// discards are never offered: a hole in a file promises nothing about the storage below, and there
// is no way to ask a device whether it has them without doing one.
DiscardInfo find_discard(int fd, const ImageInfo& info);

class DiscardClient {
 public:
  virtual void discard_finished(ImageOp& op, int result) noexcept = 0;

 protected:
  ~DiscardClient() = default;
};

class Discarder final : private MailboxClient {
 public:
  // `fd` is the store's and stays open. Called in the engine's thread, as start() is.
  static Result<std::unique_ptr<Discarder>> open(int fd, Engine& engine, DiscardClient& client);
  // Waits for the call in progress; what was not begun is left undone. The engine turns no more.
  ~Discarder();

  Discarder(const Discarder&) = delete;
  Discarder& operator=(const Discarder&) = delete;

  // At most kSlotsMax at a time. discard_finished() follows from a later Engine::turn().
  void start(ImageOp& op) noexcept;

 private:
  Discarder(int fd, DiscardClient& client) noexcept : fd_(fd), client_(client) {}
  void run() noexcept;  // the helper
  int discard(const ImageOp& op) const noexcept;
  void delivered(void* letter) noexcept override;

  int fd_;
  std::uint32_t device_block_ = 0;  // bytes; 0: it is a file
  DiscardClient& client_;
  Fd asked_out_;  // of reading ImageOp*, by the helper
  Fd asked_in_;
  std::unique_ptr<Mailbox> done_;
  std::atomic<bool> over_{false};
  std::thread helper_;
};

}  // namespace tapdisk
