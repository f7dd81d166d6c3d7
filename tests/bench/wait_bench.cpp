// SPDX-License-Identifier: GPL-2.0-only
// Where the data thread sleeps. One 4 KiB direct read at a time, each announced through an eventfd
// as the module announces requests: woken in the engine (one system call submits and waits), and
// woken by an Asio loop that watches the eventfds of the guest and of the same ring.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <liburing.h>
#include <sys/eventfd.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "base/syscall.hpp"
#include "io/engine.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk {
namespace {

alignas(4096) std::array<std::byte, 4096> page;

struct Reader final : IoClient {
  void io_finished(Io& io) noexcept override {
    if (io.verb == IoVerb::kWatch) {
      eventfd_t ignored = 0;
      ::eventfd_read(io.fd, &ignored);
      woken = true;
    } else {
      done = true;
    }
  }
  bool woken = false;
  bool done = false;
};

void wait_in_engine(benchmark::State& state) {
  const testing::TempDirectory directory;
  auto file = open_file(directory.text("a.img", std::string(1 << 20, 'x')), O_RDONLY | O_DIRECT);
  auto engine = make_uring_engine();
  const Fd guest{::eventfd(0, EFD_NONBLOCK)};
  Reader reader;
  Io watch;
  watch.verb = IoVerb::kWatch;
  watch.fd = guest.get();
  watch.client = &reader;
  Io read;
  read.fd = file->get();
  read.client = &reader;
  (*engine)->start(watch);
  (*engine)->turn(0);
  for (auto _ : state) {
    ::eventfd_write(guest.get(), 1);
    for (reader.woken = false; !reader.woken;) (*engine)->turn(-1);
    std::array range{iovec{page.data(), page.size()}};
    read.data = range;
    read.left = page.size();
    (*engine)->start(read);
    (*engine)->start(watch);
    for (reader.done = false; !reader.done;) (*engine)->turn(-1);
  }
}
BENCHMARK(wait_in_engine);

void wait_in_asio(benchmark::State& state) {
  namespace asio = boost::asio;
  const testing::TempDirectory directory;
  auto file = open_file(directory.text("a.img", std::string(1 << 20, 'x')), O_RDONLY | O_DIRECT);
  asio::io_context loop{1};
  asio::posix::stream_descriptor guest{loop, ::eventfd(0, EFD_NONBLOCK)};
  asio::posix::stream_descriptor completion{loop, ::eventfd(0, EFD_NONBLOCK)};
  io_uring ring;
  if (io_uring_queue_init(64, &ring, IORING_SETUP_COOP_TASKRUN)) return;
  io_uring_register_eventfd(&ring, completion.native_handle());
  bool done = false;
  for (auto _ : state) {
    ::eventfd_write(guest.native_handle(), 1);
    guest.async_wait(asio::posix::stream_descriptor::wait_read, [&](auto) {
      eventfd_t ignored = 0;
      ::eventfd_read(guest.native_handle(), &ignored);
      io_uring_prep_read(io_uring_get_sqe(&ring), file->get(), page.data(), page.size(), 0);
      io_uring_submit(&ring);
    });
    completion.async_wait(asio::posix::stream_descriptor::wait_read, [&](auto) {
      eventfd_t ignored = 0;
      ::eventfd_read(completion.native_handle(), &ignored);
      io_uring_cq_advance(&ring, io_uring_cq_ready(&ring));
      done = true;
    });
    for (done = false; !done;) loop.run_one();
    loop.restart();
  }
  io_uring_queue_exit(&ring);
}
BENCHMARK(wait_in_asio);

}  // namespace
}  // namespace tapdisk
