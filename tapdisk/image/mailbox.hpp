// SPDX-License-Identifier: GPL-2.0-only
//
// Brings to a data thread what other threads have for it. Letters go through a pipe, so nothing is
// locked, and the engine wakes the thread as for any other file.
#pragma once

#include <memory>

#include "base/resource.hpp"
#include "base/result.hpp"
#include "io/engine.hpp"

namespace tapdisk {

class MailboxClient {
 public:
  virtual void delivered(void* letter) noexcept = 0;

 protected:
  ~MailboxClient() = default;
};

class Mailbox final : private IoClient {
 public:
  // Called in the engine's thread. The engine turns no more when the mailbox is gone.
  static Result<std::unique_ptr<Mailbox>> open(Engine& engine, MailboxClient& client);

  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  // Any thread. At most kSlotsMax are posted and not delivered, so it never waits. The pipe orders
  // what was written before it.
  void post(void* letter) noexcept;

 private:
  Mailbox(Engine& engine, MailboxClient& client) noexcept : engine_(engine), client_(client) {}
  void io_finished(Io& io) noexcept override;

  Engine& engine_;
  MailboxClient& client_;
  Fd out_;  // of reading
  Fd in_;
  Io watch_;
};

}  // namespace tapdisk
