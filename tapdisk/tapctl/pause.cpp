// SPDX-License-Identifier: GPL-2.0-only
#include "tapctl/pause.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <thread>

#include "tapctl/dialogue.hpp"

namespace tapdisk {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLookPeriod{5};
// There may be much to sync.
constexpr std::chrono::minutes kBeginTime{10};

}  // namespace

Result<milliseconds> pause_disk(const Places& places, const std::string& vbd,
                                std::chrono::seconds limit) {
  // For the names of those that there are.
  if (const Result<VbdView> view = find_vbd(places, vbd); !view) return view.error();
  const auto asked = std::chrono::steady_clock::now();
  const auto begun =
      ask(places, vbd, fmt::format(R"({{"cmd":"pause","seconds":{}}})", limit.count()));
  if (!begun) return begun.error();
  for (;; std::this_thread::sleep_for(kLookPeriod)) {
    if (std::chrono::steady_clock::now() - asked > kBeginTime) {
      static_cast<void>(ask(places, vbd, R"({"cmd":"resume"})"));
      return plain_error(vbd, fmt::format("not paused: the storage has not synced the image in {} "
                                          "minutes", kBeginTime.count()), ETIMEDOUT);
    }
    const auto state = ask(places, vbd, R"({"cmd":"paused"})");
    if (!state) return state.error();
    if (state->value("paused", false))
      return std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - asked);
  }
}

Result<milliseconds> resume_disk(const Places& places, const std::string& vbd) {
  if (const Result<VbdView> view = find_vbd(places, vbd); !view) return view.error();
  const auto ended = ask(places, vbd, R"({"cmd":"resume"})");
  if (!ended) return ended.error();
  const auto ms = ended->find("ms");
  if (ms == ended->end() || !ms->is_number_unsigned())
    return plain_error(vbd, "tapdisk's answer is not understood", EPROTO);
  return milliseconds{ms->get<std::int64_t>()};
}

}  // namespace tapdisk
