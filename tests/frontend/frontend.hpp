// SPDX-License-Identifier: GPL-2.0-only
//
// The guest's part: blkfront in user space. It behaves well by itself; the
// ring and the keys are public for the tests that do not.
#ifndef TESTS_FRONTEND_FRONTEND_HPP
#define TESTS_FRONTEND_FRONTEND_HPP

#include "tests/frontend/vbd.hpp"
#include "tests/support/guest_entry.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

class Frontend {
public:
    static constexpr std::uint32_t kEntries = 32;

    // `native` is how a frontend without a `protocol` key is understood.
    explicit Frontend(const Vbd& vbd, guest::Abi abi = guest::Abi::native);

    // Before connect(): lets the ring's indices begin elsewhere than at zero.
    void start_at(std::uint32_t index);

    // What this frontend says in xenstore when all is well.
    std::vector<std::pair<std::string, std::string>> keys() const;
    // Writes the keys and goes to Initialised.
    void announce(const std::vector<std::pair<std::string, std::string>>& keys) const;
    // Announces, waits for the backend, goes to Connected. False: the backend did not follow.
    bool connect();
    // The orderly way out: Closing, Closed. False: the backend did not follow.
    bool close();
    // Closed, and back to the start with an empty ring: as a driver that is loaded again.
    bool reopen();

    std::uint64_t sectors() const { return std::stoull(vbd_.backend_value("sectors")); }
    guest::Abi abi() const { return abi_; }

    // Puts a request into the ring; a guest's id is whatever it likes.
    void put(const guest::Request& request);
    // Publishes what was put; sends an event if the backend wants one.
    void push();
    std::optional<guest::Response> take();
    // Sleeps on the event channel as a guest does. Nothing: no response in time.
    std::optional<guest::Response> wait(std::chrono::milliseconds limit = std::chrono::seconds(20));
    // One request alone, with an id of our own. The response is returned without that id.
    std::optional<std::int16_t> run(guest::Request request);
    // Everything outstanding. Nothing at all: not all of it came in time.
    std::vector<guest::Response> wait_all();

    std::uint32_t outstanding() const { return produced_ - consumed_; }
    std::uint32_t produced() const { return produced_; }

    blkif_sring* ring() const { return reinterpret_cast<blkif_sring*>(page_->all().data()); }
    void* entry(std::uint32_t index) const
    {
        return guest::entry_at(page_->all().data(), abi_, index % kEntries);
    }
    const xen::Channel& channel() const { return *channel_; }
    void drop_ring_page() { page_.reset(); } // the guest takes its grant back while it is in use

private:
    void start();

    const Vbd& vbd_;
    guest::Abi abi_;
    std::optional<xen::Pages> page_;
    std::optional<xen::Channel> channel_;
    std::uint32_t produced_ = 0; // put into the ring
    std::uint32_t pushed_ = 0;   // and published
    std::uint32_t consumed_ = 0;
    std::uint64_t next_id_ = 0x5eed000000000000;
};

// A read, write, ... of whole pages: pages first..first+count-1 of `pages`.
guest::Request request(std::uint8_t operation, std::uint64_t sector, const xen::Pages& pages,
                       std::size_t first, std::size_t count);
// A request without data.
guest::Request request(std::uint8_t operation);

#endif
