// SPDX-License-Identifier: GPL-2.0-only
#include "tapctl/successor.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "base/syscall.hpp"
#include "tapctl/dialogue.hpp"

namespace tapdisk {
namespace {

using Clock = std::chrono::steady_clock;

// A tapdisk drains for 10 s at most, and settles its image.
constexpr std::chrono::seconds kLeaveTime{30};
constexpr std::chrono::milliseconds kLookPeriod{2};
constexpr std::chrono::milliseconds kDoubt{100};

// What the module says of a vbd's tapdisk.
struct Service {
  bool attached = false;
  pid_t pid = 0;
  unsigned long keep_left_ms = 0;  // until requests fail; 0: one serves, or nobody waits
  unsigned long kept = 0;
};

Result<Service> look(const Places& places, const std::string& vbd) {
  const Result<VbdView> view = find_vbd(places, vbd);
  if (!view) return view.error();
  return Service{number_of(*view, "attached") != 0,
                 static_cast<pid_t>(number_of(*view, "tapdisk_pid")),
                 number_of(*view, "keep_left_ms"), number_of(*view, "kept")};
}

Result<GivenUp> give_up_for_room(const Places& places, const std::string& vbd) {
  const auto answer = ask(places, vbd, R"({"cmd":"give-up"})");
  if (!answer && (answer.error().code == ENOENT || answer.error().code == ECONNREFUSED))
    return plain_error(vbd, "nothing waits, for it has no tapdisk", ESRCH);
  if (!answer) return answer.error();
  const auto writes = answer->find("writes");
  if (writes == answer->end() || !writes->is_number_unsigned())
    return plain_error(vbd, "tapdisk's answer is not understood", EPROTO);
  return GivenUp{writes->get<unsigned long>(), true};
}

}  // namespace

Result<Succession> replace_tapdisk(const Places& places, const std::string& vbd) {
  const Result<Service> before = look(places, vbd);
  if (!before) return before.error();
  if (!before->attached) return plain_error(vbd, "it has no tapdisk", ESRCH);
  if (const auto leaves = ask(places, vbd, R"({"cmd":"leave"})"); !leaves) return leaves.error();

  Clock::time_point gone{};
  Clock::time_point gap{};  // since when nobody has been seen to serve or to be waited for
  bool in_gap = false;
  pid_t seen = 0;           // to serve, by an earlier look
  for (const auto asked = Clock::now();; std::this_thread::sleep_for(kLookPeriod)) {
    const Result<Service> now = look(places, vbd);
    if (!now) return now.error();
    const bool first = now->attached && now->pid == before->pid;
    if (!first && gone == Clock::time_point{}) gone = Clock::now();
    if (first && Clock::now() - asked > kLeaveTime)
      return plain_error(vbd, fmt::format("its tapdisk {} does not leave", before->pid), ETIMEDOUT);
    // What one look sees was read one after the other, and may never have been so.
    const pid_t serves = !first && now->attached && !now->keep_left_ms ? now->pid : 0;
    if (serves && std::exchange(seen, serves) == serves)
      return Succession{before->pid, serves,
                        std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - gone)};
    const bool was_in_gap = std::exchange(in_gap, !now->attached && !now->keep_left_ms);
    if (!was_in_gap) gap = Clock::now();
    if (!in_gap || Clock::now() - gap < kDoubt) continue;
    return plain_error(vbd, fmt::format("no other tapdisk has come; journalctl -u "
                                        "blktap-tapdisk@{} says why", vbd), ETIMEDOUT);
  }
}

Result<GivenUp> give_up(const Places& places, const std::string& vbd) {
  const Result<Service> now = look(places, vbd);
  if (!now) return now.error();
  if (!now->keep_left_ms) return give_up_for_room(places, vbd);
  const std::string file = places.class_directory + "/" + vbd + "/give_up";
  const Result<Fd> fd = open_file(file, O_WRONLY);
  if (!fd) return fd.error();
  if (::write(fd->get(), "1", 1) != 1) return system_error(file, errno);
  return GivenUp{now->kept, false};
}

}  // namespace tapdisk
