// SPDX-License-Identifier: GPL-2.0-only
#include "image/lock.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iterator>
#include <optional>
#include <random>
#include <system_error>
#include <thread>
#include <utility>

#include "base/log.hpp"
#include "base/syscall.hpp"
#include "image/lock_space.hpp"

namespace tapdisk {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Two that race may each see the other; they give way for unequal times.
constexpr int kAttempts = 5;
constexpr unsigned kAttemptPauseMs = 40;
// Between two looks whether the I/O of a vbd that is gone has ended.
constexpr milliseconds kLookPause{200};

// Why the image cannot be had now.
struct Refusal {
  // A constructor, so that a Result can tell it from an Error.
  Refusal(Error error_, bool passes_) : error(std::move(error_)), passes(passes_) {}

  Error error;
  bool passes;  // by itself, when the storage answers
};

Error cannot_lock(const std::string& path, int code) {
  return plain_error(path, "cannot be locked: " + std::generic_category().message(code), code);
}

bool has_no_locks(int code) { return code == ENOLCK || code == EOPNOTSUPP || code == ENOSYS; }

Error no_locks(const std::string& path, int code) {
  Error error = cannot_lock(path, code);
  if (has_no_locks(code)) error.what += "; --lock auto does without where there are none";
  return error;
}

// A lock that another's stands against is looked at like any: then the error says whose it is.
Result<void> take_locks(int fd, const Holder& self) {
  for (const ByteRange range : lock_ranges(self)) {
    Result<void> taken = take_shared_lock(fd, range);
    if (!taken && taken.error().code != EAGAIN && taken.error().code != EACCES) return taken;
  }
  return {};
}

Result<std::vector<FileLock>> look(int fd, const Holder& self) {
  Result<std::vector<FileLock>> others = locks_of_others(fd, ranges_to_look_at(self));
  if (others && std::any_of(others->begin(), others->end(), may_hide_others)) {
    std::vector<FileLock> listed = listed_locks(fd);
    std::move(listed.begin(), listed.end(), std::back_inserter(*others));
  }
  return others;
}

const char* wish_text(Wish wish) {
  switch (wish) {
    case Wish::kWrite: return "which may write to it";
    case Wish::kNoWriter: return "which lets nobody write";
    case Wish::kNoReader: return "which has it for itself";
    case Wish::kNothing: break;
  }
  return "which has locked it";
}

class Judge {
 public:
  Judge(int fd, const std::string& path, const LockRequest& request, const Holder& self)
      : fd_(fd), path_(path), request_(request), self_(self) {}

  // Nothing: no other stands against us.
  std::optional<Refusal> judge(const std::vector<FileLock>& others) const {
    const std::optional<Clash> clash = find_clash(self_, others);
    if (clash && clash->program) return program(*clash);
    std::string gone;
    bool elsewhere = false;
    for (const VbdByte& vbd : clashing_vbds(self_, others)) {
      if (vbd.host != self_.host) {
        elsewhere = true;
        continue;
      }
      const Result<Neighbour> neighbour = ask(vbd.vbd);
      if (!neighbour) return refusal(vbd.vbd + " (" + neighbour.error().what + ")");
      if (!neighbour->lives) {
        gone = vbd.vbd;
      } else if (clash && (neighbour->vm.empty() || neighbour->vm != request_.vm)) {
        return refusal(named(vbd.vbd, *neighbour) + sharing(*clash));
      }
    }
    if (!gone.empty()) return in_flight(gone);
    if (!clash) return {};
    return refusal((elsewhere ? "a guest of another host" : "another guest") + sharing(*clash));
  }

 private:
  Result<Neighbour> ask(const std::string& vbd) const {
    if (!request_.neighbours) return Neighbour{true, {}, {}};
    return request_.neighbours->ask(vbd, request_.vbd);
  }

  Refusal refusal(const std::string& user) const {
    return {plain_error(path_, "in use by " + user, EBUSY), false};
  }

  Refusal program(const Clash& clash) const {
    const std::string owner = lock_owner(fd_, *clash.program);
    return refusal((owner.empty() ? "another program" : owner) + ", " + wish_text(clash.wish));
  }

  Refusal in_flight(const std::string& vbd) const {
    return {plain_error(path_,
                        fmt::format("I/O of {}, which is gone, is still in flight after {} s; try "
                                    "again when its storage has answered",
                                    vbd, request_.patience_ms / 1000),
                        EBUSY),
            true};
  }

  static std::string named(const std::string& vbd, const Neighbour& neighbour) {
    return neighbour.guest.empty() ? vbd : vbd + " (guest " + neighbour.guest + ")";
  }

  std::string sharing(const Clash& clash) const {
    if (clash.shares && !request_.shares) return ", which shares it with those that do so, too";
    if (request_.shares && !clash.shares) return ", which does not share it";
    return {};
  }

  int fd_;
  const std::string& path_;
  const LockRequest& request_;
  const Holder& self_;
};

Holder holder_of(const LockRequest& request) {
  constexpr HolderKind kKinds[2][2] = {{HolderKind::kReader, HolderKind::kSharingReader},
                                       {HolderKind::kWriter, HolderKind::kSharingWriter}};
  return {kKinds[request.writes][request.shares], guest_number(request.vm), request.vbd,
          host_number()};
}

void give_way(int attempt) {
  std::random_device random;
  const unsigned ms =
      kAttemptPauseMs / 4 + random() % kAttemptPauseMs * static_cast<unsigned>(attempt);
  std::this_thread::sleep_for(milliseconds{ms});
}

// One attempt; without success it leaves no lock.
Result<std::optional<Refusal>> try_to_lock(int fd, const Judge& judge, const Holder& self) {
  const Result<void> taken = take_locks(fd, self);
  if (!taken) return taken.error();
  const Result<std::vector<FileLock>> others = look(fd, self);
  if (!others) return others.error();
  std::optional<Refusal> refusal = judge.judge(*others);
  if (refusal) drop_locks(fd);
  return refusal;
}

}  // namespace

Result<void> lock_image(int fd, const std::string& path, const LockRequest& request) {
  if (request.locking == Locking::kOff) return {};
  const Holder self = holder_of(request);
  const Judge judge{fd, path, request, self};
  const Clock::time_point deadline = Clock::now() + milliseconds{request.patience_ms};
  bool waits = false;
  for (int attempt = 1;;) {
    const Result<std::optional<Refusal>> tried = try_to_lock(fd, judge, self);
    if (!tried && request.locking == Locking::kAuto && has_no_locks(tried.error().code)) {
      log::warning("{}: its file system has no locks: nobody else is kept from using it", path);
      return {};
    }
    if (!tried) {
      drop_locks(fd);
      return no_locks(path, tried.error().code);
    }
    const std::optional<Refusal>& refusal = *tried;
    if (!refusal) return {};
    if (refusal->passes ? Clock::now() >= deadline : attempt >= kAttempts) return refusal->error;
    if (!refusal->passes) {
      give_way(attempt++);
      continue;
    }
    if (!waits) log::info("{}: waiting for I/O of a vbd that is gone", path);
    waits = true;
    std::this_thread::sleep_for(kLookPause);
  }
}

Result<bool> image_is_shared(int fd, const std::string& path) {
  const Result<std::vector<FileLock>> others = locks_of_others(fd, ranges_of_all_holders());
  if (!others) return cannot_lock(path, others.error().code);
  return std::any_of(others->begin(), others->end(),
                     [](const FileLock& lock) { return meaning_of(lock).guest.has_value(); });
}

std::string find_program(const std::string& path, bool writes) {
  const Result<Fd> file = open_file(path, O_RDONLY | O_NONBLOCK);
  // By it the file is found among the kernel's locks. Only who lets nobody read would mind.
  if (!file || !take_shared_lock(file->get(), kLooking)) return {};
  const std::vector<FileLock> others = listed_locks(file->get());
  const std::optional<Clash> clash =
      find_clash(Holder{writes ? HolderKind::kWriter : HolderKind::kReader, 0, {}, 0}, others);
  return clash && clash->program ? lock_owner(file->get(), *clash->program) : std::string{};
}

}  // namespace tapdisk
