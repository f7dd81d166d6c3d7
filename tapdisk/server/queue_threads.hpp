// SPDX-License-Identifier: GPL-2.0-only
//
// The queues of one vbd. Each has an engine, a view of the image, a source and a server, and a data
// thread "tapdisk-qN" that makes them and runs the server; the threads share nothing on the way of
// a request.
//
//     open()    attaches queue 0, which says how many there are, then the others; no queue serves
//               before all are attached
//     serve()   lets them all go, and waits for the last
//
// The first queue that fails stops the others. The rest is for any thread.
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "image/image.hpp"
#include "io/engine.hpp"
#include "server/error_log.hpp"
#include "server/full_store.hpp"
#include "server/server.hpp"
#include "server/stats.hpp"
#include "vbd/grant_source.hpp"
#include "vbd/kmod_source.hpp"

namespace tapdisk {

// What all queues have in common. Outlives them.
struct QueueSetting {
  const AttachOptions& attach;
  EngineKind engine = EngineKind::kAuto;
  const OpenImage& image;
  ErrorLog& errors;
  FullStore& full;
  bool mixes = false;  // see mix.hpp
};

class QueueThread {
 public:
  using Failed = std::function<void(const Error&)>;

  QueueThread(const QueueSetting& setting, unsigned queue) : setting_(setting), queue_(queue) {}
  // Ends the thread; one that was not let go never served.
  ~QueueThread();

  QueueThread(const QueueThread&) = delete;
  QueueThread& operator=(const QueueThread&) = delete;

  // Starts the thread and waits until it has made its parts. Gives the vbd's number of queues.
  Result<unsigned> open();

  // Lets it serve. `failed` is called in the thread if that ends in an error.
  void serve(Failed failed);
  void join();

  Source& source() noexcept { return *source_; }
  void stop() noexcept { server_->stop(); }
  void hold() noexcept { server_->hold(); }
  void release() noexcept { server_->release(); }
  void give_up() noexcept { server_->give_up(); }
  bool rests() const noexcept { return server_->rests(); }
  bool vbd_is_gone() const noexcept { return server_->vbd_is_gone(); }  // after join()
  // Whether it has turned since the last call, or sleeps. Not before open() has returned, and for
  // one thread.
  bool goes_on() noexcept {
    const std::uint64_t turns = server_->counters().turns.get();
    return std::exchange(seen_turns_, turns) != turns || server_->sleeps();
  }
  QueueView view() const noexcept {
    return {engine_.get(), image_.get(), source_.get(), &*server_};
  }

 private:
  void run();
  Result<unsigned> make_parts();

  const QueueSetting& setting_;
  unsigned queue_;
  std::promise<Result<unsigned>> made_;
  std::promise<Failed> go_;  // nothing: leave
  std::uint64_t seen_turns_ = 0;

  // Destroyed from the last to the first, after a failure with I/O in flight. The vbd gets its
  // queue back when that has ended, for then the next tapdisk is let in; the image may be working
  // on the server's operations.
  std::unique_ptr<Source> source_;
  std::optional<Server> server_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Image> image_;
  std::thread thread_;
};

class QueueThreads {
 public:
  // Makes them all. The error is that of the first queue that cannot be made.
  static Result<std::unique_ptr<QueueThreads>> open(const QueueSetting& setting);

  // Until the vbd is gone, or stop() and nothing is in flight. Says whether it is gone. The error
  // is that of the first queue that failed.
  Result<bool> serve();

  // Tells the guest how large the disk is now.
  Result<void> tell_size(std::uint64_t sectors) noexcept {
    return threads_.front()->source().tell_size(sectors);
  }

  // Lets what a connected guest writes fail, for what it takes for written may be lost. While no
  // queue serves, or all are held.
  Result<void> tell_unsynced() noexcept { return threads_.front()->source().tell_unsynced(); }

  // Lets the module serve by itself, on all queues, what the image's extents are now, from sector
  // `from` on: what lies before it has been delegated. After an error it serves nothing by itself.
  Result<void> delegate(std::uint64_t from);

  // The number of a queue that hangs: has neither slept nor turned since the last call. For one
  // thread.
  std::optional<unsigned> hanging() noexcept;

  void stop() noexcept;

  // Between the two no request is taken; what is owned is finished. rest(): it has been.
  void hold() noexcept;
  void release() noexcept;
  bool rest() const noexcept;

  // Writes that wait for room in the store fail.
  void give_up() noexcept;

  unsigned count() const noexcept { return static_cast<unsigned>(threads_.size()); }
  std::string_view engine() const noexcept { return threads_.front()->view().engine->name(); }
  std::string stats() const;

 private:
  explicit QueueThreads(const QueueSetting& setting) : setting_(setting) {}
  void failed(const Error& error);

  QueueSetting setting_;
  std::vector<std::unique_ptr<QueueThread>> threads_;
  std::atomic<bool> has_failed_{false};
  Result<void> outcome_;  // the failure; read when no thread is left
};

}  // namespace tapdisk
