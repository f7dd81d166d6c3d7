// SPDX-License-Identifier: GPL-2.0-only
//
// tapdisk: serves one virtual disk of a Xen guest from an image. Builds every part and hands it
// to the next.
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/first_line.hpp"
#include "base/limits.hpp"
#include "base/log.hpp"
#include "base/paths.hpp"
#include "server/confine.hpp"
#include "server/control.hpp"
#include "server/errands.hpp"
#include "server/full_store.hpp"
#include "server/notify.hpp"
#include "server/options.hpp"
#include "server/pause.hpp"
#include "server/queue_threads.hpp"
#include "vbd/neighbours.hpp"
#include "vbd/store.hpp"

namespace tapdisk {
namespace {

// Seconds between the tries of a disk to be served again.
constexpr unsigned kRetryPause = 1;
constexpr unsigned kIdleRetryPause = 5;

// The unit starts another one after kRunFailed, kLeft and kMissed, and after a signal.
enum ExitCode { kDone = 0, kStartFailed = 1, kUsage = 2, kRunFailed = 3, kLeft = 4, kMissed = 5 };

int failed(ExitCode code, const Error& error, Errands& errands) {
  log::error("{}", error.what);
  errands.say_failed(error);
  return code;
}

std::string describe(const Options& options, const ImageInfo& disk, const QueueThreads& queues,
                     bool delegated) {
  const bool mixes = options.path == DataPath::kMix;
  const std::string copies = options.attach.copy_bytes && !options.attach.grants
      ? fmt::format(", copied up to {} bytes", options.attach.copy_bytes) : "";
  return fmt::format("{} serves {}: {} sectors, blocks of {}, {}, {}, {}, {}{}, {}, {} {}",
                     options.attach.vbd, options.image.path, std::uint64_t{disk.sectors},
                     disk.sector_size, disk.read_only ? "read-only" : "read-write",
                     disk.discard.offered ? "discard" : "no discard",
                     disk.direct ? "direct" : "buffered",
                     options.attach.grants ? "copied" : mixes ? "mixed"
                     : options.attach.submits ? "submitted" : delegated ? "delegated" : "window",
                     copies,
                     queues.engine(), queues.count(),
                     queues.count() == 1 ? "queue" : "queues");
}

// Whether the module serves some of the disk by itself. If not, tapdisk serves all of it.
Result<bool> delegate(const Options& options, const OpenImage& image, QueueThreads& queues,
                      std::uint64_t from) {
  const bool must = options.path == DataPath::kDelegate || options.path == DataPath::kMix;
  if (options.path == DataPath::kWindow || options.path == DataPath::kSubmit ||
      (options.attach.grants && !must))
    return false;
  if (image.extents().empty()) {
    if (!must) return false;
    return plain_error(options.image.path, "cannot be delegated: its I/O is not direct",
                       EOPNOTSUPP);
  }
  const Result<void> done = queues.delegate(from);
  if (done) return true;
  if (must) return plain_error(options.image.path, done.error().what, done.error().code);
  log::info("{}: {}; tapdisk moves all data itself", options.image.path, done.error().what);
  return false;
}

// In this order: what the guest asks for when it has been told must be served. `known`: the size
// that the guest knows.
Result<std::uint64_t> resize(const Options& options, OpenImage& image, QueueThreads& queues,
                             std::uint64_t& known) {
  Result<std::uint64_t> now = image.grow();
  if (!now || *now == known) return now;
  if (const Result<void> told = queues.tell_size(*now); !told) return told.error();
  const std::uint64_t before = std::exchange(known, *now);
  log::info("the disk has grown from {} to {} sectors", before, *now);
  const Result<bool> delegated = delegate(options, image, queues, before);
  if (!delegated) return delegated.error();
  return now;
}

// The guest's disk may be what memory is being freed to: allocations must not wait for writes that
// only this process can finish, whichever of its threads makes them, for they share a lock (mmap).
// Threads inherit it. Needs CAP_SYS_RESOURCE; without it all else works.
void become_io_flusher() {
  if (::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0))
    log::info("not marked as an I/O flusher: {}", std::generic_category().message(errno));
}

// What is locked is there as a whole, be it used or not: threads get no more than they can need.
// Called before there are any.
void keep_threads_small() {
  ::mallopt(M_ARENA_MAX, 1);
  pthread_attr_t attributes;
  if (::pthread_attr_init(&attributes)) return;
  if (!::pthread_attr_setstacksize(&attributes, kThreadStackBytes))
    ::pthread_setattr_default_np(&attributes);
  ::pthread_attr_destroy(&attributes);
}

// A host may swap to the disk, and then must not have swapped out who serves it. The module's areas
// are none of memory management's business; all else is there from now on.
void lock_memory() {
  if (::mlockall(MCL_CURRENT | MCL_FUTURE))
    log::warning("memory not locked: {}; this host should not swap to the disk",
                 std::generic_category().message(errno));
}

// Where administrators look for it. Whatever starts it: the hotplug script is not asked when a
// tapdisk that was killed is started again.
void publish_process(const std::string& backend) {
  const Result<Store> store = Store::open();
  const Result<void> written =
      !store ? store.error()
             : store->write({backend + "/state"},
                            {{backend + "/tapdisk-pid", fmt::format("{}", ::getpid())}});
  if (!written) log::info("{}/tapdisk-pid is not written: {}", backend, written.error().what);
}

// Whether the disk was attached before, as the hotplug program says at its end: then nobody hears
// of an error, and a guest may come or wait, so that another try is better. But without the module
// the ring of one that is gone cannot be taken over.
bool is_missed(const Options& options) {
  if (options.backend.empty() || options.attach.grants) return false;
  const Result<Store> store = Store::open();
  return store && store->read(options.backend + "/hotplug-status") == "connected";
}

void tell_unsynced(QueueThreads& queues) {
  if (const Result<void> told = queues.tell_unsynced(); !told) log::error("{}", told.error().what);
}

// Whether a guest that is there now will be served by another tapdisk if this one leaves.
Result<void> may_leave(const AttachOptions& attach, Errands& errands) {
  if (attach.grants)
    return plain_error(attach.vbd, "nobody keeps requests without the module", EOPNOTSUPP);
  if (!attach.keep_ms)
    return plain_error(attach.vbd, "its guest would get I/O errors, because of --keep 0", EPERM);
  if (!notify::is_supervised())
    return plain_error(attach.vbd, "nobody would start another tapdisk", EPERM);
  if (!errands.guest_is_connected())
    return plain_error(attach.vbd, "its guest is not connected", EAGAIN);
  return {};
}

// What a pause does. The module's own I/O is of no queue here, but in flight there.
PausedDisk paused_disk(const AttachOptions& attach, OpenImage& image, QueueThreads& queues,
                       Errands& errands) {
  return {[&] { queues.hold(); },
          [&] { queues.release(); },
          [&] {
            return queues.rest() && (attach.grants || errands.module_rests());
          },
          [&] { return image.sync(); }, [&] { tell_unsynced(queues); }};
}

Result<std::size_t> give_up(const AttachOptions& attach, QueueThreads& queues,
                            const FullStore& full) {
  const std::size_t waiting = full.waiting();
  if (!waiting) return plain_error(attach.vbd, "nothing waits for room", ESRCH);
  queues.give_up();
  return waiting;
}

// Says that this process is alive, unless one of its queues is not.
void beat(QueueThreads& queues, Errands& errands) {
  const std::optional<unsigned> queue = queues.hanging();
  if (!queue) return errands.say_alive();
  log::error("queue {} hangs; systemd ends this tapdisk if it goes on to, and starts another one",
             *queue);
}

// The unit starts the next try as soon as this one has ended: sooner where a guest waits.
void pause_before_retry(const std::string& vbd) {
  const std::string left = first_line(class_attribute(vbd, "keep_left_ms"));
  ::sleep(left.empty() || left == "0" ? kIdleRetryPause : kRetryPause);
}

// Whether this process gives up its rights. Without the module Xen's devices are needed again, for
// each guest that comes; and who starts it by hand has asked for less than what the unit allows.
bool is_to_be_confined(const Options& options) {
  return options.confined && !options.attach.grants && notify::is_supervised();
}

// To claim a device later takes rights: they stay until then.
bool claim_later(const Options& options, OpenImage& image) {
  if (!image.claim()) return false;
  if (is_to_be_confined(options))
    if (const Result<void> done = confine(); !done) log::error("{}", done.error().what);
  return true;
}

// All that serves a disk, one part built upon the other.
class Service {
 public:
  Service(const Options& options, Errands& errands)
      : options_(options), errands_(errands),
        errors_(options.image.path, [](const std::string& line) { log::error("{}", line); }),
        full_(options.image.path, options.when_full,
              [](const std::string& line) { log::warning("{}", line); }) {}

  // The guest is served from here on.
  Result<void> start() {
    ImageOptions image_options = options_.image;
    image_options.lock.neighbours = &neighbours_;
    auto image = open_image("raw", image_options);
    if (!image) return image.error();
    image_ = std::move(*image);
    if (options_.attach.submits && !disk().direct)
      return plain_error(options_.image.path, "cannot be submitted: its I/O is not direct",
                         EOPNOTSUPP);
    auto queues = QueueThreads::open({options_.attach, options_.engine, *image_, errors_, full_,
                                      options_.path == DataPath::kMix});
    if (!queues) return queues.error();
    queues_ = std::move(*queues);
    if (image_->unsynced()) tell_unsynced(*queues_);
    const Result<bool> delegated = delegate(options_, *image_, *queues_, 0);
    if (!delegated) return delegated.error();
    known_ = disk().sectors;
    const bool claimed = image_->claim();
    if (Result<void> opened = open_control(claimed); !opened) return opened;

    if (!disk().direct && queues_->engine() == "libaio")
      log::warning("libaio waits for each request by itself when I/O is not direct; use io_uring");
    const std::string description = describe(options_, disk(), *queues_, *delegated);
    log::info("{}", description);
    lock_memory();
    if (!options_.backend.empty()) publish_process(options_.backend);
    if (claimed && is_to_be_confined(options_))
      if (Result<void> done = confine(); !done) return done;
    errands_.say_ready(description);
    return {};
  }

  // Serves it until it is to be left.
  int finish() {
    const Result<bool> gone = queues_->serve();
    // Before this process ends, for which the toolstack waits: then another host may open the
    // image.
    const Result<void> settled = image_->settle();
    if (!settled && gone && !*gone) tell_unsynced(*queues_);
    if (!gone) {
      if (!settled) log::error("{}", settled.error().what);
      return failed(kRunFailed, gone.error(), errands_);
    }
    if (const std::size_t waiting = full_.waiting(); waiting && !*gone)
      log::warning("{} writes that wait for room are left to the next tapdisk", waiting);
    // What is of no use any more must not be left to the toolstack, which may run no script.
    if (*gone) errands_.forget_disk();
    if (!settled) return failed(kRunFailed, settled.error(), errands_);
    errands_.say_stopping("done");
    log::info("{} done", options_.attach.vbd);
    return !*gone && !options_.attach.grants && errands_.disk_is_wanted() ? kLeft : kDone;
  }

 private:
  const ImageInfo& disk() const { return image_->info(); }

  Result<void> open_control(bool claimed) {
    ControlHooks hooks;
    hooks.stats = [this] { return queues_->stats(); };
    hooks.resize = [this] { return resize(options_, *image_, *queues_, known_); };
    hooks.stop = [this] { stop(); };
    if (!claimed) hooks.claim = [this] { return claim_later(options_, *image_); };
    hooks.leave = [this] {
      Result<void> may = may_leave(options_.attach, errands_);
      if (may) stop();
      return may;
    };
    hooks.give_up = [this] { return give_up(options_.attach, *queues_, full_); };
    hooks.pause = &pause_.emplace(paused_disk(options_.attach, *image_, *queues_, errands_));
    hooks.beat = [this] { beat(*queues_, errands_); };
    hooks.beat_period = notify::alive_period();
    hooks.remove_socket = [this] { errands_.remove_socket(); };
    auto control = Control::open(options_.control, std::move(hooks), image_->device());
    if (!control) return control.error();
    control_ = std::move(*control);
    return {};
  }

  void stop() {
    errands_.say_stopping("finishing what is in flight");
    queues_->stop();
  }

  const Options& options_;
  Errands& errands_;
  const XenNeighbours neighbours_;
  ErrorLog errors_;
  FullStore full_;
  std::unique_ptr<OpenImage> image_;
  std::unique_ptr<QueueThreads> queues_;
  std::uint64_t known_ = 0;  // sectors of the disk, as the guest was told
  std::optional<Pause> pause_;
  std::unique_ptr<Control> control_;
};

int serve(const Options& options) {
  Errands errands{{options.attach.vbd, options.record, options.control}};
  Service service{options, errands};
  Result<void> done = is_to_be_confined(options) ? errands.hand_over() : Result<void>{};
  if (done) done = service.start();
  if (!done) return failed(is_missed(options) ? kMissed : kStartFailed, done.error(), errands);
  return service.finish();
}

int run(std::vector<std::string> arguments) {
  const auto parsed = parse_options(std::move(arguments));
  if (!parsed) {
    log::error("{}", parsed.error().what);
    notify::failed(parsed.error());
    return kUsage;
  }
  if (const Answer* answer = std::get_if<Answer>(&*parsed)) {
    std::fputs(answer->text.c_str(), stdout);
    return kDone;
  }
  const Options& options = std::get<Options>(*parsed);
  log::set_journal(!options.foreground_log && log::stderr_is_journal());
  std::signal(SIGPIPE, SIG_IGN);
  become_io_flusher();
  keep_threads_small();
  const int code = serve(options);
  if (code == kMissed) pause_before_retry(options.attach.vbd);
  return code;
}

}  // namespace
}  // namespace tapdisk

int main(int argc, char** argv) {
  return tapdisk::run(std::vector<std::string>(argv + 1, argv + argc));
}
