// SPDX-License-Identifier: GPL-2.0-only
//
// The program behind Xen's hotplug scripts block-tapzc and block-tapgnt:
//   hotplug block-tapzc|block-tapgnt add|remove     with XENBUS_PATH=backend/vbd/DOMID/DEVID
//   hotplug left VBD                                from the unit of a tapdisk
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "base/syscall.hpp"
#include "hotplug/hotplug.hpp"

namespace tapdisk {
namespace {

enum ExitCode { kFailed = 1, kUsage = 2 };

int usage() {
  std::fputs("block-tapzc: run by libxl as `block-tapzc add|remove`, with "
             "XENBUS_PATH=backend/vbd/DOMID/DEVID\n", stderr);
  return kUsage;
}

// What it says is of no use to anybody but who looks for it in dmesg.
int run_program(const std::vector<std::string>& command) {
  std::vector<char*> words;
  words.reserve(command.size() + 1);
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO})
    posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_WRONLY, 0);
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, words[0], &actions, nullptr, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (error || retry_eintr([&] { return ::waitpid(child, &status, 0); }) < 0) return 127;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}

bool write_attribute(const std::string& file, const std::string& text) {
  const Result<Fd> fd = open_file(file, O_WRONLY);
  return fd && ::write(fd->get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

// Of those that ask a program to end: they undo what was begun.
Fd take_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, number);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  return Fd{::signalfd(-1, &signals, SFD_CLOEXEC)};
}

int run(const std::vector<std::string>& words) {
  const bool left = words.size() == 2 && words[0] == "left";
  const bool grants = !words.empty() && words[0] == "block-tapgnt";
  const char* const backend = std::getenv("XENBUS_PATH");
  const std::optional<Vbd> vbd = left ? parse_vbd(words[1]) : parse_backend(backend ? backend : "");
  if (words.size() != 2 || !vbd || !(left || grants || words[0] == "block-tapzc") ||
      !(left || words[1] == "add" || words[1] == "remove"))
    return usage();

  ::umask(077);
  const char* const path = std::getenv("PATH");
  ::setenv("PATH", fmt::format("{}:/usr/sbin:/usr/bin:/sbin:/bin", path ? path : "").c_str(), 1);
  ::openlog("block-tapzc", 0, LOG_DAEMON);
  const auto say = [&](log::Level level, const std::string& text) {
    ::syslog(static_cast<int>(level), "%s: %s", vbd->name.c_str(), text.c_str());
  };
  const Result<Store> store = Store::open();
  if (!store) {
    say(log::Level::kError, store.error().what);
    return kFailed;
  }
  const Host host{"", *store, run_program, write_attribute, say};
  const Fd signals = take_signals();
  const auto unit = systemd_unit(vbd->unit, signals.get());
  Hotplug hotplug{host, *vbd, *unit, grants};
  if (left) return hotplug.left();
  return words[1] == "add" ? hotplug.add() : hotplug.remove();
}

}  // namespace
}  // namespace tapdisk

int main(int argc, char** argv) {
  return tapdisk::run(std::vector<std::string>(argv + 1, argv + argc));
}
