// SPDX-License-Identifier: GPL-2.0-only
#include "io/engine.hpp"

#include <cerrno>
#include <ctime>

#include "base/check.hpp"
#include "base/limits.hpp"
#include "base/log.hpp"

namespace tapdisk {

void finish_io(Io& io, int result) noexcept {
  io.result = result;
  io.starved = 0;
  io.data.finish();
}

namespace {

IoProgress finish(Io& io, int result) noexcept {
  finish_io(io, result);
  return IoProgress::kFinished;
}

}  // namespace

IoProgress advance_io(Io& io, long result) noexcept {
  if (result == -EINTR) return IoProgress::kAgain;
  // ECANCELED: nobody here cancels; io_uring found no memory for a thread to do it.
  if (result == -EAGAIN || result == -ECANCELED) return IoProgress::kLater;
  // Nor does Xen have room for ever so many of the guest's pages in the window. But a sync that has
  // failed must not be tried until it looks well.
  if (result == -ENOMEM && io.verb != IoVerb::kSync && io.starved++ < kStarvedMax)
    return IoProgress::kLater;
  if (result < 0) return finish(io, static_cast<int>(result));
  if (io.verb == IoVerb::kWatch) return finish(io, static_cast<int>(result));
  if (io.verb == IoVerb::kSync) return finish(io, 0);

  check(result <= static_cast<long>(io.left));
  if (result == static_cast<long>(io.left)) return finish(io, 0);
  // Direct I/O goes on only from a sector's start, so a part of a sector is moved again.
  const auto whole = static_cast<std::uint32_t>(result) & ~(kSectorSize - 1);
  // Nothing moved: the file ends here, so it has been cut short since it was opened.
  if (whole == 0) return finish(io, io.verb == IoVerb::kRead ? -ENODATA : -EIO);
  io.offset += whole;
  io.left -= whole;
  io.data.drop_front(whole);
  return IoProgress::kAgain;
}

void pause_before_retry() noexcept {
  const timespec pause{0, kRetryPauseMs * 1'000'000L};
  ::nanosleep(&pause, nullptr);
}

Result<std::unique_ptr<Engine>> make_engine(EngineKind kind) {
  if (kind == EngineKind::kAio) return make_aio_engine();
  auto uring = make_uring_engine();
  if (uring || kind == EngineKind::kUring) return uring;
  log::info("{}; using libaio", uring.error().what);
  return make_aio_engine();
}

}  // namespace tapdisk
