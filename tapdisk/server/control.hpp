// SPDX-License-Identifier: GPL-2.0-only
//
// Everything that is not the guest's data: the control socket, the signals and the store's size,
// on an Asio loop in a thread of its own. The data threads sleep where their I/O is, in the engine,
// and are not made to pay for this one's readiness with every request.
//
// The socket speaks lines, one JSON object each: {"cmd":"stats"}, "resize", "leave" or "version" is
// answered by one line, with "ok" and what was asked for, or with "error". So is a "pause", which
// begins one of "seconds", a "paused", which says whether it has got so far, and a "resume"; and a
// "give-up", which lets fail what waits for room and says how many "writes" that are. A client that
// sends too much, or nothing for too long, is cut off; it costs one of a fixed number of sessions
// until then.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "base/result.hpp"
#include "server/pause.hpp"
#include "server/resize_watch.hpp"

namespace tapdisk {

// What the rest of tapdisk does for the control thread, called in it.
struct ControlHooks {
  std::function<std::string()> stats;  // the JSON object of "stats"
  std::function<Result<std::uint64_t>()> resize;  // takes over the store's size; sectors of 512 B
  std::function<void()> stop;          // SIGTERM or SIGINT came
  std::function<bool()> claim = {};    // unless empty, called now and then until it says true
  std::function<Result<void>()> leave = {};  // makes room for another tapdisk, or says why not
  std::function<Result<std::size_t>()> give_up = {};  // how many writes that waited for room fail
  Pause* pause = nullptr;              // not there: there is none
  std::function<void()> beat = {};     // called every `beat_period`, unless that is 0
  std::chrono::milliseconds beat_period{0};
  std::function<void()> remove_socket = {};  // unless empty, instead of unlink(2), at the end
};

// The answer to one line of a client, without the newline.
std::string answer_line(std::string_view line, const ControlHooks& hooks);

class Control {
 public:
  // Takes the socket's path over from a predecessor that died. `store`, unless 0, is the block
  // device whose changes of size call hooks.resize().
  static Result<std::unique_ptr<Control>> open(const std::string& path, ControlHooks hooks,
                                               dev_t store = 0);
  // Ends the thread, closes all sessions and removes the socket.
  ~Control();

  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

 private:
  class Session;
  friend class Session;

  Control(std::string path, ControlHooks hooks);
  static Result<std::unique_ptr<Control>> start(std::unique_ptr<Control> control, dev_t store);
  void watch_size(dev_t store);
  void accept();
  void wait_for_signal();
  void claim_later();
  void beat_later();
  void run();  // starts the thread

  std::string path_;
  ControlHooks hooks_;
  bool bound_ = false;  // the path is ours
  unsigned sessions_ = 0;
  boost::asio::io_context loop_{1};
  boost::asio::local::stream_protocol::acceptor acceptor_{loop_};
  boost::asio::signal_set signals_{loop_};
  boost::asio::steady_timer claiming_{loop_};
  boost::asio::steady_timer beating_{loop_};
  std::optional<ResizeWatch> resize_watch_;
  std::thread thread_;
};

}  // namespace tapdisk
