// SPDX-License-Identifier: GPL-2.0-only
#include "tests/frontend/xen.hpp"

#include <poll.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>

namespace xen {

namespace {

[[noreturn]] void fail(const std::string& what)
{
    throw std::system_error(errno, std::generic_category(), what);
}

} // namespace

Store::Store() : handle_(xs_open(0))
{
    if (!handle_)
        fail("xenstore");
}

std::optional<std::string> Store::read(const std::string& path) const
{
    unsigned int bytes = 0;
    char* value = static_cast<char*>(xs_read(handle_.get(), XBT_NULL, path.c_str(), &bytes));
    if (!value)
        return std::nullopt;
    std::string copy(value, bytes);
    std::free(value);
    return copy;
}

void Store::write(const std::vector<std::pair<std::string, std::string>>& values) const
{
    while (true) {
        const xs_transaction_t transaction = xs_transaction_start(handle_.get());
        if (transaction == XBT_NULL)
            fail("xenstore transaction");
        for (const auto& [path, value] : values)
            if (!xs_write(handle_.get(), transaction, path.c_str(), value.data(),
                          static_cast<unsigned>(value.size()))) {
                xs_transaction_end(handle_.get(), transaction, true);
                fail(path);
            }
        if (xs_transaction_end(handle_.get(), transaction, false))
            return;
        if (errno != EAGAIN)
            fail("xenstore transaction");
    }
}

void Store::remove(const std::string& path) const
{
    xs_rm(handle_.get(), XBT_NULL, path.c_str());
}

bool Store::exists(const std::string& path) const
{
    return read(path).has_value();
}

std::vector<std::string> Store::list(const std::string& path) const
{
    unsigned int count = 0;
    char** names = xs_directory(handle_.get(), XBT_NULL, path.c_str(), &count);
    if (!names)
        return {};
    std::vector<std::string> copy(names, names + count);
    std::free(names);
    return copy;
}

Pages::Pages(std::size_t count, Access access, std::uint32_t peer)
    : handle_(xengntshr_open(nullptr, 0)), refs_(count)
{
    if (!handle_)
        fail("/dev/xen/gntalloc");
    void* memory = xengntshr_share_pages(handle_.get(), peer, static_cast<int>(count), refs_.data(),
                                         access == Access::read_write);
    if (!memory)
        fail("granting " + std::to_string(count) + " pages");
    memory_ = static_cast<std::uint8_t*>(memory);
}

Pages::~Pages()
{
    xengntshr_unshare(handle_.get(), memory_, static_cast<std::uint32_t>(refs_.size()));
}

Channel::Channel(std::uint32_t peer) : handle_(xenevtchn_open(nullptr, 0))
{
    if (!handle_)
        fail("/dev/xen/evtchn");
    const auto port = xenevtchn_bind_unbound_port(handle_.get(), peer);
    if (port < 0)
        fail("event channel");
    port_ = static_cast<std::uint32_t>(port);
}

void Channel::notify() const
{
    // Fails when the other side has closed its end: what a guest cannot know.
    xenevtchn_notify(handle_.get(), port_);
}

bool Channel::wait(std::chrono::milliseconds timeout) const
{
    const Channel* const one[] = {this};
    return wait(one, timeout);
}

bool Channel::wait(std::span<const Channel* const> channels, std::chrono::milliseconds timeout)
{
    std::vector<pollfd> fds;
    for (const Channel* channel : channels)
        fds.push_back({xenevtchn_fd(channel->handle_.get()), POLLIN, 0});
    if (poll(fds.data(), fds.size(), static_cast<int>(timeout.count())) <= 0)
        return false;
    for (std::size_t i = 0; i < fds.size(); i++) {
        if (!fds[i].revents)
            continue;
        const auto port = xenevtchn_pending(channels[i]->handle_.get());
        if (port < 0)
            fail("event channel");
        xenevtchn_unmask(channels[i]->handle_.get(), static_cast<evtchn_port_t>(port));
    }
    return true;
}

} // namespace xen
