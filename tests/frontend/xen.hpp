// SPDX-License-Identifier: GPL-2.0-only
//
// What a domain's user space gets from Xen: xenstore, pages that it grants,
// event channels. Owners in the C++ sense; failures are exceptions.
#ifndef TESTS_FRONTEND_XEN_HPP
#define TESTS_FRONTEND_XEN_HPP

extern "C" {
#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenstore.h>
}

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace xen {

inline constexpr std::uint32_t kPageBytes = 4096;

struct Deleter {
    void operator()(xs_handle* handle) const { xs_close(handle); }
    void operator()(xengntshr_handle* handle) const { xengntshr_close(handle); }
    void operator()(xenevtchn_handle* handle) const { xenevtchn_close(handle); }
};

// xenstore. All paths are absolute.
class Store {
public:
    Store();

    std::optional<std::string> read(const std::string& path) const;
    // All pairs of path and value at once, or none of them.
    void write(const std::vector<std::pair<std::string, std::string>>& values) const;
    void remove(const std::string& path) const;
    bool exists(const std::string& path) const;
    std::vector<std::string> list(const std::string& path) const; // names of what is below

private:
    std::unique_ptr<xs_handle, Deleter> handle_;
};

// Pages of this process that another domain may map, each under its own reference.
class Pages {
public:
    enum class Access { read_only, read_write };

    // Granted to domain `peer`. The process itself may always write to them.
    Pages(std::size_t count, Access access, std::uint32_t peer = 0);
    ~Pages();
    Pages(const Pages&) = delete;
    Pages& operator=(const Pages&) = delete;

    std::size_t count() const { return refs_.size(); }
    std::uint32_t ref(std::size_t page) const { return refs_.at(page); }
    std::span<std::uint8_t, kPageBytes> page(std::size_t page) const
    {
        return std::span<std::uint8_t, kPageBytes>(memory_ + page * kPageBytes, kPageBytes);
    }
    std::span<std::uint8_t> all() const { return {memory_, refs_.size() * kPageBytes}; }

private:
    std::unique_ptr<xengntshr_handle, Deleter> handle_;
    std::vector<std::uint32_t> refs_;
    std::uint8_t* memory_ = nullptr;
};

// An event channel that waits for another domain to bind to it.
class Channel {
public:
    explicit Channel(std::uint32_t peer = 0);

    std::uint32_t port() const { return port_; }
    void notify() const;
    // False: nothing came in time.
    bool wait(std::chrono::milliseconds timeout) const;
    // The same, for an event on any of them.
    static bool wait(std::span<const Channel* const> channels, std::chrono::milliseconds timeout);

private:
    std::unique_ptr<xenevtchn_handle, Deleter> handle_;
    std::uint32_t port_;
};

} // namespace xen

#endif
