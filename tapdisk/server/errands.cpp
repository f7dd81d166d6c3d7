// SPDX-License-Identifier: GPL-2.0-only
#include "server/errands.hpp"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <utility>

#include "base/first_line.hpp"
#include "base/limits.hpp"
#include "base/paths.hpp"
#include "base/syscall.hpp"
#include "server/notify.hpp"

namespace tapdisk {

// As many bytes of the text are sent as there are.
struct Errands::Order {
  What what;
  int code;
  std::array<char, kErrandTextMax> text;
};

Result<void> Errands::hand_over() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()))
    return system_error("errands", errno);
  Fd ours{ends[0]};
  Fd theirs{ends[1]};
  const timeval limit{kErrandSeconds, 0};
  ::setsockopt(ours.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  ::setsockopt(ours.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("errands", errno);
  if (pid == 0) {
    ours = Fd{};
    run_all(theirs);
  }
  socket_ = std::move(ours);
  return {};
}

bool Errands::ask(What what, std::string_view text, int code) {
  const std::lock_guard locked{lock_};
  if (!socket_) return run(what, std::string{text}, code);
  Order order{what, code, {}};
  const std::size_t bytes = text.substr(0, order.text.size()).copy(order.text.data(),
                                                                  order.text.size());
  bool done = false;
  if (retry_eintr([&] {
        return ::send(socket_.get(), &order, offsetof(Order, text) + bytes, MSG_NOSIGNAL);
      }) < 0)
    return false;
  if (retry_eintr([&] { return ::recv(socket_.get(), &done, sizeof(done), 0); }) == sizeof(done))
    return done;
  // It does not answer. An answer that came late would be taken for that of the next.
  ::shutdown(socket_.get(), SHUT_RDWR);
  return false;
}

bool Errands::run(What what, const std::string& text, int code) const {
  switch (what) {
    case What::kSayReady: notify::ready(text); return true;
    case What::kSayAlive: notify::alive(); return true;
    case What::kSayStopping: notify::stopping(text); return true;
    case What::kSayFailed: notify::failed(Error{code, text}); return true;
    case What::kIsWanted:
      return !disk_.record.empty() && ::access(disk_.record.c_str(), F_OK) == 0;
    case What::kIsConnected: return first_line(class_attribute(disk_.vbd, "state")) == "connected";
    case What::kModuleRests: return first_line(class_attribute(disk_.vbd, "in_flight")) == "0";
    case What::kForgetDisk:
      return !disk_.record.empty() && ::unlink(disk_.record.c_str()) == 0;
    case What::kRemoveSocket: return ::unlink(disk_.control.c_str()) == 0;
  }
  return false;  // no errand that there is
}

// The other process: until tapdisk is gone, however that comes.
void Errands::run_all(const Fd& socket) const {
  ::prctl(PR_SET_NAME, "blktap-errands", 0, 0, 0);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) std::signal(signal, SIG_IGN);
  // As tapdisk itself: this host may swap to the disk.
  ::mlockall(MCL_CURRENT);
  Order order{};
  for (;;) {
    const auto received =
        retry_eintr([&] { return ::recv(socket.get(), &order, sizeof(order), 0); });
    if (received <= 0) ::_exit(0);
    const auto bytes = static_cast<std::size_t>(received);
    constexpr std::size_t kHead = offsetof(Order, text);
    const bool done = bytes >= kHead &&
                      run(order.what, std::string(order.text.data(), bytes - kHead), order.code);
    retry_eintr([&] { return ::send(socket.get(), &done, sizeof(done), MSG_NOSIGNAL); });
  }
}

}  // namespace tapdisk
