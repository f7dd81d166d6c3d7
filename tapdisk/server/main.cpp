// SPDX-License-Identifier: GPL-2.0-only
//
// tapdisk: serves one virtual disk of a Xen guest from an image. Builds every part and hands it
// to the next.
#include <sys/prctl.h>

#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "base/log.hpp"
#include "base/syscall.hpp"
#include "server/control.hpp"
#include "server/notify.hpp"
#include "server/options.hpp"
#include "server/server.hpp"
#include "server/stats.hpp"

namespace tapdisk {
namespace {

enum ExitCode { kDone = 0, kStartFailed = 1, kUsage = 2, kRunFailed = 3 };

int failed(ExitCode code, const Error& error) {
  log::error("{}", error.what);
  notify::failed(error);
  return code;
}

// The guest's disk may be what memory is being freed to: allocations of this thread must not wait
// for writes that only it can finish. Needs CAP_SYS_RESOURCE; without it all else works.
void become_io_flusher() {
  if (::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0))
    log::info("not marked as an I/O flusher: {}", std::generic_category().message(errno));
}

std::string describe(const Options& options, const ImageInfo& disk, const Engine& engine) {
  return fmt::format("{} serves {}: {} sectors, blocks of {}, {}, {}, {}", options.attach.vbd,
                     options.image.path, disk.sectors, disk.sector_size,
                     disk.read_only ? "read-only" : "read-write",
                     disk.direct ? "direct" : "buffered", engine.name());
}

int serve(const Options& options) {
  auto engine = make_engine(options.engine);
  if (!engine) return failed(kStartFailed, engine.error());
  auto image = open_image("raw", options.image, **engine);
  if (!image) return failed(kStartFailed, image.error());
  const ImageInfo& disk = (*image)->info();
  auto source = attach_to_module(options.attach, disk);
  if (!source) return failed(kStartFailed, source.error());
  auto stop = make_eventfd();
  if (!stop) return failed(kStartFailed, stop.error());

  ErrorLog errors{options.image.path, [](const std::string& line) { log::error("{}", line); }};
  Server server{**source, **image, **engine, errors, std::move(*stop)};
  auto control = Control::open(options.control, ControlHooks{
      [&] { return stats_json(**engine, disk, **source, server); },
      [&] {
        notify::stopping("finishing what is in flight");
        server.stop();
      }});
  if (!control) return failed(kStartFailed, control.error());

  become_io_flusher();
  if (!disk.direct && (*engine)->name() == "libaio")
    log::warning("libaio waits for each request by itself when I/O is not direct; use io_uring");
  const std::string description = describe(options, disk, **engine);
  log::info("{}", description);
  notify::ready(description);
  if (const Result<void> outcome = server.run(); !outcome)
    return failed(kRunFailed, outcome.error());
  notify::stopping("done");
  log::info("{} done", options.attach.vbd);
  return kDone;
}

int run(std::vector<std::string> arguments) {
  const auto parsed = parse_options(std::move(arguments));
  if (!parsed) {
    failed(kUsage, parsed.error());
    return kUsage;
  }
  if (const Answer* answer = std::get_if<Answer>(&*parsed)) {
    std::fputs(answer->text.c_str(), stdout);
    return kDone;
  }
  const Options& options = std::get<Options>(*parsed);
  log::set_journal(!options.foreground_log && log::stderr_is_journal());
  std::signal(SIGPIPE, SIG_IGN);
  return serve(options);
}

}  // namespace
}  // namespace tapdisk

int main(int argc, char** argv) {
  return tapdisk::run(std::vector<std::string>(argv + 1, argv + argc));
}
