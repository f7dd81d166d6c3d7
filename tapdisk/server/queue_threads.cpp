// SPDX-License-Identifier: GPL-2.0-only
#include "server/queue_threads.hpp"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "base/log.hpp"
#include "base/syscall.hpp"
#include "server/mix.hpp"

namespace tapdisk {
namespace {

// Signals are the control thread's; here they would only interrupt system calls.
void block_signals() noexcept {
  sigset_t all;
  sigfillset(&all);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) sigdelset(&all, fault);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace

QueueThread::~QueueThread() {
  if (!thread_.joinable()) return;
  go_.set_value(nullptr);
  thread_.join();
}

Result<unsigned> QueueThread::open() {
  try {
    thread_ = std::thread{[this] { run(); }};
  } catch (const std::system_error& error) {
    return system_error("data thread", error.code().value());
  }
  return made_.get_future().get();
}

void QueueThread::serve(Failed failed) { go_.set_value(std::move(failed)); }

void QueueThread::join() { thread_.join(); }

void QueueThread::run() {
  ::pthread_setname_np(::pthread_self(), fmt::format("tapdisk-q{}", queue_).c_str());
  block_signals();
  made_.set_value(make_parts());
  const Failed failed = go_.get_future().get();
  if (!failed) return;
  if (const Result<void> outcome = server_->run(); !outcome) failed(outcome.error());
}

Result<unsigned> QueueThread::make_parts() {
  auto engine = make_engine(setting_.engine);
  if (!engine) return engine.error();
  engine_ = std::move(*engine);
  auto image = setting_.image.view(*engine_);
  if (!image) return image.error();
  image_ = std::move(*image);
  auto attached = setting_.attach.grants
                      ? attach_by_grants(setting_.attach, image_->info())
                      : attach_to_module(setting_.attach, image_->info(), queue_);
  if (!attached) return attached.error();
  source_ = std::move(attached->source);
  // Until then the next tapdisk is not let in: what this one began must not come after its I/O.
  if (const Result<void> held = engine_->outlast_with(source_->fd()); !held) return held.error();
  engine_->expect_data_in(source_->lasting());
  server_.emplace(*source_, *image_, *engine_, setting_.errors, setting_.full,
                  setting_.mixes);
  return attached->queues;
}

Result<std::unique_ptr<QueueThreads>> QueueThreads::open(const QueueSetting& setting) {
  std::unique_ptr<QueueThreads> made{new QueueThreads{setting}};
  for (unsigned queue = 0, queues = 1; queue < queues; queue++) {
    made->threads_.push_back(std::make_unique<QueueThread>(made->setting_, queue));
    const Result<unsigned> opened = made->threads_.back()->open();
    if (!opened) return opened.error();
    if (queue == 0) queues = *opened;
    // What the kernel refused once is not tried, and said, once for each queue.
    if (made->engine() == "libaio") made->setting_.engine = EngineKind::kAio;
  }
  return made;
}

Result<bool> QueueThreads::serve() {
  for (const auto& thread : threads_)
    thread->serve([this](const Error& error) { failed(error); });
  for (const auto& thread : threads_) thread->join();
  if (!outcome_) return outcome_.error();
  return std::any_of(threads_.begin(), threads_.end(),
                     [](const auto& thread) { return thread->vbd_is_gone(); });
}

void QueueThreads::failed(const Error& error) {
  if (has_failed_.exchange(true)) return;
  outcome_ = error;
  stop();
}

Result<void> QueueThreads::delegate(std::uint64_t from) {
  Source& source = threads_.front()->source();
  Result<void> done;
  const std::vector<Extent> extents = setting_.image.extents();
  for (Extent extent : setting_.mixes ? every_other_piece(extents) : extents) {
    const std::uint64_t skipped = from - std::min(from, extent.sector);
    if (skipped >= extent.sectors) continue;
    extent.sector += skipped;
    extent.sectors -= skipped;
    extent.offset += skipped * kSectorSize;
    done = source.delegate(extent);
    if (!done) break;
  }
  if (!done) static_cast<void>(source.withdraw_all());
  return done;
}

std::optional<unsigned> QueueThreads::hanging() noexcept {
  std::optional<unsigned> found;
  for (unsigned queue = 0; queue < count(); queue++)
    if (!threads_[queue]->goes_on()) found = queue;
  return found;
}

void QueueThreads::stop() noexcept {
  for (const auto& thread : threads_) thread->stop();
}

void QueueThreads::hold() noexcept {
  for (const auto& thread : threads_) thread->hold();
}

void QueueThreads::release() noexcept {
  for (const auto& thread : threads_) thread->release();
}

void QueueThreads::give_up() noexcept {
  for (const auto& thread : threads_) thread->give_up();
}

bool QueueThreads::rest() const noexcept {
  return std::all_of(threads_.begin(), threads_.end(),
                     [](const auto& thread) { return thread->rests(); });
}

std::string QueueThreads::stats() const {
  std::vector<QueueView> views;
  for (const auto& thread : threads_) views.push_back(thread->view());
  return stats_json(setting_.image.info(), views);
}

}  // namespace tapdisk
