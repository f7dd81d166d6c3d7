// SPDX-License-Identifier: GPL-2.0-only
//
// tap-ctl: what the vbds and their tapdisks are doing, and the little that can be changed.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "base/limits.hpp"
#include "tapctl/pause.hpp"
#include "tapctl/places.hpp"
#include "tapctl/report.hpp"
#include "tapctl/successor.hpp"

namespace tapdisk {
namespace {

enum ExitCode { kDone = 0, kFailed = 1, kUsage = 2 };

int fail(const Error& error) {
  const char* hint = error.code == EACCES || ::geteuid() != 0 ? " (are you root?)" : "";
  std::fprintf(stderr, "tap-ctl: %s%s\n", error.what.c_str(), hint);
  return kFailed;
}

int print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout)) return kFailed;
  return kDone;
}

int list(const Places& places, bool json) {
  const auto vbds = list_vbds(places);
  if (!vbds) return fail(vbds.error());
  if (vbds->empty() && !module_is_loaded(places))
    std::fputs("tap-ctl: no disks; those of tap:zc: need the module blktap, which is not loaded\n",
               stderr);
  return print(json ? list_as_json(*vbds) : list_as_table(*vbds));
}

int stats(const Places& places, const std::string& vbd, bool json) {
  const auto module = read_statistics(places, vbd);
  if (!module) return fail(module.error());
  const auto tapdisk = ask_tapdisk(places, vbd, R"({"cmd":"stats"})");
  return print(json ? stats_as_json(vbd, *module, tapdisk)
                    : stats_as_table(vbd, *module, tapdisk));
}

int resize(const Places& places, const std::string& vbd) {
  const auto module = read_statistics(places, vbd);  // for the names of those that there are
  if (!module) return fail(module.error());
  const auto answer = ask_tapdisk(places, vbd, R"({"cmd":"resize"})");
  const Result<std::string> text = resize_as_text(vbd, answer);
  if (!text) return fail(text.error());
  return print(*text);
}

int upgrade(const Places& places, const std::string& vbd) {
  const Result<Succession> done = replace_tapdisk(places, vbd);
  if (!done) return fail(done.error());
  return print(fmt::format("{}: tapdisk {} instead of {}, after {} ms\n", vbd, done->after,
                           done->before, done->pause.count()));
}

int upgrade_all(const Places& places) {
  const auto vbds = list_vbds(places);
  if (!vbds) return fail(vbds.error());
  int worst = kDone;
  for (const VbdView& view : *vbds) {
    if (number_of(view, "attached"))
      worst = std::max(worst, upgrade(places, view.name));
  }
  return worst;
}

int pause(const Places& places, const std::string& vbd, unsigned seconds) {
  const auto took = pause_disk(places, vbd, std::chrono::seconds{seconds});
  if (!took) return fail(took.error());
  return print(fmt::format("{}: paused after {} ms, for {} s at most\n", vbd, took->count(),
                           seconds));
}

int resume(const Places& places, const std::string& vbd) {
  const auto lasted = resume_disk(places, vbd);
  if (!lasted) return fail(lasted.error());
  return print(fmt::format("{}: goes on, after a pause of {} ms\n", vbd, lasted->count()));
}

int let_fail(const Places& places, const std::string& vbd) {
  const Result<GivenUp> given_up = give_up(places, vbd);
  if (!given_up) return fail(given_up.error());
  if (given_up->for_room)
    return print(fmt::format("{}: {} writes fail that waited for room\n", vbd,
                             given_up->requests));
  return print(fmt::format("{}: {} requests fail, and all others until it has a tapdisk\n", vbd,
                           given_up->requests));
}

// What CLI11 says of an unknown word does not say what there is.
int wrong_usage(const CLI::App& app, const std::string& what) {
  std::string commands;
  for (const CLI::App* command : app.get_subcommands({}))
    commands += (commands.empty() ? "" : ", ") + command->get_name();
  std::fprintf(stderr, "tap-ctl: %s\ntap-ctl: the commands are: %s; see tap-ctl --help\n",
               what.c_str(), commands.c_str());
  return kUsage;
}

int run(int argc, char** argv) {
  Places places;
  bool json = false;
  bool all = false;
  unsigned seconds = 60;
  std::string vbd;
  CLI::App app{"Shows and steers the virtual disks served by tapdisk.", "tap-ctl"};
  app.set_version_flag("--version", "tap-ctl " TAPDISK_VERSION);
  app.allow_extras();  // to say what is wrong with them
  CLI::App& list_command = *app.add_subcommand("list", "list all vbds");
  list_command.add_flag("--json", json, "for a program");
  CLI::App& stats_command = *app.add_subcommand("stats", "counters of one vbd");
  stats_command.add_flag("--json", json, "for a program");
  stats_command.add_option("VBD", vbd, "vbd-DOMAIN-DEVICE, as in the list")->required();
  CLI::App& resize_command =
      *app.add_subcommand("resize", "tell the guest that the image has grown");
  resize_command.add_option("VBD", vbd, "vbd-DOMAIN-DEVICE, as in the list")->required();
  CLI::App& upgrade_command =
      *app.add_subcommand("upgrade", "replace its tapdisk by the version that is installed");
  upgrade_command.add_option("VBD", vbd, "vbd-DOMAIN-DEVICE, as in the list")
      ->excludes(upgrade_command.add_flag("--all", all, "every vbd's, one after the other"));
  CLI::App& pause_command = *app.add_subcommand(
      "pause", "finish and sync what is under way, and let the guest wait, for a snapshot");
  pause_command.add_option("VBD", vbd, "vbd-DOMAIN-DEVICE, as in the list")->required();
  pause_command.add_option("--for", seconds, "seconds after which the disk goes on by itself")
      ->check(CLI::Range(1u, kPauseSecondsMax))
      ->capture_default_str();
  CLI::App& resume_command = *app.add_subcommand("resume", "end the pause");
  resume_command.add_option("VBD", vbd, "vbd-DOMAIN-DEVICE, as in the list")->required();
  CLI::App& give_up_command =
      *app.add_subcommand("give-up", "let fail what waits for a tapdisk, or for room");
  give_up_command.add_option("VBD", vbd, "vbd-DOMAIN-DEVICE, as in the list")->required();

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {
    return app.exit(asked);
  } catch (const CLI::ParseError& wrong) {
    return wrong_usage(app, wrong.what());
  }
  const std::vector<std::string> extra = app.remaining(true);
  if (app.get_subcommands().empty())
    return wrong_usage(app, extra.empty() ? "no command" : "unknown command '" + extra[0] + "'");
  if (!extra.empty()) return wrong_usage(app, "unknown argument '" + extra[0] + "'");
  if (upgrade_command.parsed() && vbd.empty() && !all)
    return wrong_usage(app, "upgrade: name a vbd, or --all");
  if (list_command.parsed()) return list(places, json);
  if (stats_command.parsed()) return stats(places, vbd, json);
  if (resize_command.parsed()) return resize(places, vbd);
  if (pause_command.parsed()) return pause(places, vbd, seconds);
  if (resume_command.parsed()) return resume(places, vbd);
  if (give_up_command.parsed()) return let_fail(places, vbd);
  return all ? upgrade_all(places) : upgrade(places, vbd);
}

}  // namespace
}  // namespace tapdisk

int main(int argc, char** argv) { return tapdisk::run(argc, argv); }
