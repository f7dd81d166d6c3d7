// SPDX-License-Identifier: GPL-2.0-only
#include "server/control.hpp"

#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "base/limits.hpp"
#include "base/log.hpp"

namespace tapdisk {
namespace {

using boost::asio::local::stream_protocol;
using boost::system::error_code;

std::string refusal(std::string_view reason) {
  // A path in the reason may hold bytes that are not UTF-8.
  return nlohmann::json{{"ok", false}, {"error", reason}}.dump(
      -1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// The answer to what was done; `name`: of the member that says what has come of it.
template <class T>
std::string told(const Result<T>& done, std::string_view name) {
  return done ? nlohmann::json{{"ok", true}, {name, *done}}.dump() : refusal(done.error().what);
}
std::string told(const Result<void>& done) {
  return done ? R"({"ok":true})" : refusal(done.error().what);
}

std::string begin_pause(const nlohmann::json& request, Pause& pause) {
  const auto seconds = request.find("seconds");
  if (seconds == request.end() || !seconds->is_number_unsigned() || *seconds < 1u ||
      *seconds > kPauseSecondsMax)
    return refusal(fmt::format("\"seconds\" is a number from 1 to {}", kPauseSecondsMax));
  return told(pause.begin(std::chrono::seconds{seconds->get<unsigned>()}));
}

std::string view_pause(const Pause& pause) {
  const Pause::State state = pause.state();
  if (state == Pause::State::kNone) return refusal("not paused: " + pause.why());
  return told(Result<bool>{state == Pause::State::kPaused}, "paused");
}

std::string end_pause(Pause& pause) {
  const Result<std::chrono::milliseconds> ended = pause.end();
  return ended ? told(Result<std::int64_t>{ended->count()}, "ms") : refusal(ended.error().what);
}

}  // namespace

std::string answer_line(std::string_view line, const ControlHooks& hooks) {
  const auto request = nlohmann::json::parse(line, nullptr, false);
  if (!request.is_object()) return refusal("not a JSON object");
  const auto command = request.find("cmd");
  if (command == request.end() || !command->is_string()) return refusal("no \"cmd\"");
  if (*command == "stats") return R"({"ok":true,"stats":)" + hooks.stats() + "}";
  if (*command == "resize") return told(hooks.resize(), "sectors");
  if (*command == "leave") return told(hooks.leave());
  if (*command == "give-up" && hooks.give_up) return told(hooks.give_up(), "writes");
  if (hooks.pause) {
    if (*command == "pause") return begin_pause(request, *hooks.pause);
    if (*command == "paused") return view_pause(*hooks.pause);
    if (*command == "resume") return end_pause(*hooks.pause);
  }
  if (*command == "version") return R"({"ok":true,"version":")" TAPDISK_VERSION R"("})";
  return refusal("unknown \"cmd\"");
}

// One client. Kept alive by the operation that it waits for.
class Control::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Control& control, stream_protocol::socket socket)
      : control_(control), socket_(std::move(socket)), idle_(control.loop_) {
    control_.sessions_++;
  }
  ~Session() { control_.sessions_--; }

  void read() {
    limit_time();
    boost::asio::async_read_until(
        socket_, boost::asio::dynamic_buffer(input_, kControlLineMax), '\n',
        [self = shared_from_this()](error_code error, std::size_t bytes) {
          if (!error) self->answer(bytes);
        });
  }

 private:
  void answer(std::size_t bytes) {
    output_ = answer_line(std::string_view{input_}.substr(0, bytes - 1), control_.hooks_) + "\n";
    input_.erase(0, bytes);
    limit_time();
    boost::asio::async_write(socket_, boost::asio::buffer(output_),
                             [self = shared_from_this()](error_code error, std::size_t) {
                               if (!error) self->read();
                             });
  }

  // Whatever is waited for next has to come in time.
  void limit_time() {
    idle_.expires_after(std::chrono::milliseconds{kControlIdleMs});
    idle_.async_wait([weak = weak_from_this()](error_code error) {
      if (const auto self = weak.lock(); self && !error) self->socket_.close();
    });
  }

  Control& control_;
  stream_protocol::socket socket_;
  boost::asio::steady_timer idle_;
  std::string input_;
  std::string output_;
};

Control::Control(std::string path, ControlHooks hooks)
    : path_(std::move(path)), hooks_(std::move(hooks)) {}

Result<std::unique_ptr<Control>> Control::open(const std::string& path, ControlHooks hooks,
                                               dev_t store) {
  if (path.size() >= sizeof(sockaddr_un::sun_path)) return system_error(path, ENAMETOOLONG);
  try {
    return start(std::unique_ptr<Control>{new Control{path, std::move(hooks)}}, store);
  } catch (const std::system_error& error) {  // no thread
    return system_error(path, error.code().value());
  } catch (const boost::system::system_error& error) {  // no descriptors for Asio's loop
    return system_error(path, error.code().value());
  }
}

Result<std::unique_ptr<Control>> Control::start(std::unique_ptr<Control> control, dev_t store) {
  const std::string& path = control->path_;
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) ::unlink(path.c_str());

  error_code error;
  control->acceptor_.open(stream_protocol{}, error);
  const mode_t mask = ::umask(0077);
  if (!error) control->acceptor_.bind(stream_protocol::endpoint{path}, error);
  ::umask(mask);
  control->bound_ = !error;
  if (!error) control->acceptor_.listen(kControlSessionsMax, error);
  if (!error) control->signals_.add(SIGTERM, error);
  if (!error) control->signals_.add(SIGINT, error);
  if (error) return system_error(path, error.value());

  if (store) control->watch_size(store);
  control->accept();
  control->wait_for_signal();
  if (control->hooks_.claim) control->claim_later();
  if (control->hooks_.beat_period.count()) control->beat_later();
  control->run();
  return control;
}

// The signals are for the new thread only: they do not interrupt the data thread's system calls.
void Control::run() {
  sigset_t handled;
  sigemptyset(&handled);
  sigaddset(&handled, SIGTERM);
  sigaddset(&handled, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &handled, nullptr);
  thread_ = std::thread{[this, handled] {
    ::pthread_setname_np(::pthread_self(), "control");
    ::pthread_sigmask(SIG_UNBLOCK, &handled, nullptr);
    loop_.run();
  }};
}

Control::~Control() {
  loop_.stop();
  if (thread_.joinable()) thread_.join();
  if (!bound_) return;
  if (hooks_.remove_socket)
    hooks_.remove_socket();
  else
    ::unlink(path_.c_str());
}

// Without it tap-ctl resize still works, so it is no reason not to serve the disk.
void Control::watch_size(dev_t store) {
  Result<Fd> socket = ResizeWatch::open();
  if (!socket) {
    log::warning("{}: changes of the device's size are not noticed", socket.error().what);
    return;
  }
  resize_watch_.emplace(loop_, std::move(*socket), major(store), minor(store), [this] {
    if (const Result<std::uint64_t> sectors = hooks_.resize(); !sectors)
      log::warning("{}", sectors.error().what);
  });
  // It may have grown before anybody watched.
  boost::asio::post(loop_, [this] { static_cast<void>(hooks_.resize()); });
}

void Control::accept() {
  acceptor_.async_accept([this](error_code error, stream_protocol::socket socket) {
    if (error == boost::asio::error::operation_aborted) return;
    if (!error && sessions_ < kControlSessionsMax)
      std::make_shared<Session>(*this, std::move(socket))->read();
    accept();
  });
}

void Control::wait_for_signal() {
  signals_.async_wait([this](error_code error, int) {
    if (error) return;
    hooks_.stop();
    wait_for_signal();
  });
}

void Control::beat_later() {
  beating_.expires_after(hooks_.beat_period);
  beating_.async_wait([this](error_code error) {
    if (error) return;
    hooks_.beat();
    beat_later();
  });
}

void Control::claim_later() {
  claiming_.expires_after(std::chrono::milliseconds{kClaimPeriodMs});
  claiming_.async_wait([this](error_code error) {
    if (!error && !hooks_.claim()) claim_later();
  });
}

}  // namespace tapdisk
