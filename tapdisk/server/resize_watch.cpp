// SPDX-License-Identifier: GPL-2.0-only
#include "server/resize_watch.hpp"

#include <fmt/format.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/syscall.hpp"

namespace tapdisk {
namespace {

constexpr unsigned kKernelEvents = 1;  // the group of the kernel; udev's own is 2

bool holds(std::string_view message, std::string_view field) noexcept {
  while (!message.empty()) {
    const std::string_view here = message.substr(0, message.find('\0'));
    if (here == field) return true;
    message.remove_prefix(std::min(message.size(), here.size() + 1));
  }
  return false;
}

}  // namespace

bool is_change_of(std::string_view message, unsigned major, unsigned minor) noexcept {
  return holds(message, "ACTION=change") && holds(message, "SUBSYSTEM=block") &&
         holds(message, fmt::format("MAJOR={}", major)) &&
         holds(message, fmt::format("MINOR={}", minor));
}

Result<Fd> ResizeWatch::open() {
  Fd socket{::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                     NETLINK_KOBJECT_UEVENT)};
  if (!socket) return system_error("socket for uevents", errno);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = kKernelEvents;
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)))
    return system_error("socket for uevents", errno);
  return socket;
}

ResizeWatch::ResizeWatch(boost::asio::io_context& loop, Fd socket, unsigned major, unsigned minor,
                         std::function<void()> changed)
    : socket_(loop, socket.release()), major_(major), minor_(minor),
      changed_(std::move(changed)) {
  wait();
}

void ResizeWatch::wait() {
  socket_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                     [this](boost::system::error_code error) {
                       if (error) return;
                       hear();
                       wait();
                     });
}

void ResizeWatch::hear() {
  sockaddr_nl sender{};
  socklen_t bytes = sizeof(sender);
  const auto got = retry_eintr([&] {
    bytes = sizeof(sender);
    return ::recvfrom(socket_.native_handle(), message_.data(), message_.size(), 0,
                      reinterpret_cast<sockaddr*>(&sender), &bytes);
  });
  // Messages were lost: one of them may have been ours.
  if (got == -ENOBUFS) return changed_();
  // Only the kernel has the number 0.
  if (got <= 0 || sender.nl_pid != 0) return;
  if (is_change_of({message_.data(), static_cast<std::size_t>(got)}, major_, minor_)) changed_();
}

}  // namespace tapdisk
