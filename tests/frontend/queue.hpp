// SPDX-License-Identifier: GPL-2.0-only
//
// One ring with its event channel, the guest's half. It behaves well by itself;
// the ring is public for the tests that do not.
#ifndef TESTS_FRONTEND_QUEUE_HPP
#define TESTS_FRONTEND_QUEUE_HPP

#include "tests/frontend/xen.hpp"
#include "tests/support/guest_entry.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using Keys = std::vector<std::pair<std::string, std::string>>; // of xenstore: name and value

class Queue {
public:
    // A ring of 2^order pages.
    Queue(guest::Abi abi, unsigned order);

    // Before connecting: lets the ring's indices begin elsewhere than at zero.
    void start_at(std::uint32_t index);
    // Where ring and channel are found. Names begin with `prefix`.
    Keys keys(const std::string& prefix) const;

    // Puts a guest::Request, Discard or Indirect into the ring; a guest's id is whatever it likes.
    template <class Any>
    void put(const Any& request)
    {
        if (outstanding() == entries_)
            throw std::logic_error("the ring is full");
        guest::put_request(entry(produced_++), abi_, request);
    }
    // Publishes what was put; sends an event if the backend wants one.
    void push();
    std::optional<guest::Response> take();
    // Asks for an event at the next response. False: there is one already.
    bool arm() const;
    // Sleeps on the event channel as a guest does. Nothing: no response in time.
    std::optional<guest::Response> wait(std::chrono::milliseconds limit = std::chrono::seconds(20));
    // One request alone, with an id of our own. The response is returned without that id.
    template <class Any>
    std::optional<std::int16_t> run(Any request)
    {
        request.id = next_id_++;
        put(request);
        push();
        return only_answer(request.id, guest::answered_as(request));
    }
    // Several, as many at a time as there is room for: each wake-up costs more than a request does.
    // Whether all were answered with BLKIF_RSP_OKAY.
    template <class Any>
    bool run_all(const std::vector<Any>& requests)
    {
        bool good = true;
        for (std::size_t next = 0; next < requests.size();) {
            const std::size_t first = next;
            for (; next < requests.size() && outstanding() < entries_; next++)
                put(requests[next]);
            push();
            const auto responses = wait_all();
            good &= responses.size() == next - first;
            for (const guest::Response& response : responses)
                good &= response.status == BLKIF_RSP_OKAY;
            if (outstanding())
                return false;
        }
        return good;
    }
    // Everything outstanding. Nothing at all: not all of it came in time.
    std::vector<guest::Response> wait_all();

    std::uint32_t entries() const { return entries_; }
    std::uint32_t outstanding() const { return produced_ - consumed_; }
    std::uint32_t produced() const { return produced_; }

    blkif_sring* ring() const { return reinterpret_cast<blkif_sring*>(pages_->all().data()); }
    void* entry(std::uint32_t index) const
    {
        return guest::entry_at(pages_->all().data(), abi_, index % entries_);
    }
    const xen::Channel& channel() const { return channel_; }
    void drop_pages() { pages_.reset(); } // the guest takes its grants back while they are in use

private:
    std::optional<std::int16_t> only_answer(std::uint64_t id, std::uint8_t operation);

    guest::Abi abi_;
    std::uint32_t entries_;
    std::optional<xen::Pages> pages_;
    xen::Channel channel_;
    std::uint32_t produced_ = 0; // put into the ring
    std::uint32_t pushed_ = 0;   // and published
    std::uint32_t consumed_ = 0;
    std::uint64_t next_id_ = 0x5eed000000000000;
};

#endif
