// SPDX-License-Identifier: GPL-2.0-only
#include "image/mailbox.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/check.hpp"
#include "base/limits.hpp"
#include "base/syscall.hpp"

namespace tapdisk {

Result<std::unique_ptr<Mailbox>> Mailbox::open(Engine& engine, MailboxClient& client) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC)) return system_error("pipe", errno);
  std::unique_ptr<Mailbox> made{new Mailbox{engine, client}};
  made->out_ = Fd{ends[0]};
  made->in_ = Fd{ends[1]};
  // The engine may say "readable" of what was read just before.
  if (::fcntl(made->out_.get(), F_SETFL, O_NONBLOCK)) return system_error("pipe", errno);
  made->watch_.verb = IoVerb::kWatch;
  made->watch_.fd = made->out_.get();
  made->watch_.client = made.get();
  engine.start(made->watch_);
  return made;
}

void Mailbox::post(void* letter) noexcept {
  const auto written = retry_eintr([&] { return ::write(in_.get(), &letter, sizeof(letter)); });
  check(written == sizeof(letter));
}

// Letters are written whole, so they are read whole.
void Mailbox::io_finished(Io& io) noexcept {
  check(io.result > 0);
  std::array<void*, kSlotsMax> letters;
  const auto bytes = retry_eintr([&] {
    return ::read(out_.get(), letters.data(), sizeof(letters));
  });
  engine_.start(watch_);
  if (bytes == -EAGAIN) return;
  check(bytes > 0 && bytes % static_cast<ssize_t>(sizeof(void*)) == 0);
  for (std::size_t i = 0; i < static_cast<std::size_t>(bytes) / sizeof(void*); i++)
    client_.delivered(letters[i]);
}

}  // namespace tapdisk
