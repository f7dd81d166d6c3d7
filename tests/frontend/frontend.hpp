// SPDX-License-Identifier: GPL-2.0-only
//
// The guest's part: blkfront in user space. It behaves well by itself; rings
// and keys are public for the tests that do not.
#ifndef TESTS_FRONTEND_FRONTEND_HPP
#define TESTS_FRONTEND_FRONTEND_HPP

#include "tests/frontend/queue.hpp"
#include "tests/frontend/vbd.hpp"

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

// What a frontend asks for. The default is what every back end has to grant.
struct Shape {
    guest::Abi abi = guest::Abi::x86_64; // native: without a `protocol` key
    unsigned order = 0;                  // a ring has 2^order pages
    unsigned queues = 1;
    bool persistent = false; // grants may stay mapped

    bool operator==(const Shape&) const = default;
};

class Frontend {
public:
    static constexpr std::uint32_t kEntries = 32; // of a ring of one page

    explicit Frontend(const Vbd& vbd, guest::Abi abi = guest::Abi::native)
        : Frontend(vbd, Shape{.abi = abi}) {}
    Frontend(const Vbd& vbd, const Shape& shape);

    // What this frontend says in xenstore when all is well.
    Keys keys() const;
    // Writes the keys and goes to Initialised.
    void announce(const Keys& keys) const;
    // Forgets older keys, announces, waits for the backend, goes to Connected. False: the backend
    // did not follow.
    bool connect();
    // The orderly way out: Closing, Closed. False: the backend did not follow.
    bool close();
    // Closed, and back to the start with empty rings: as a driver that is loaded again.
    bool reopen() { return reopen(shape_); }
    bool reopen(const Shape& shape);
    // After close(): back with empty rings, saying only what `states` has, all of it at once and
    // with the keys. Waits for the connection alone.
    bool come_back(const std::vector<State>& states);

    std::uint64_t sectors() const { return std::stoull(vbd_.backend_value("sectors")); }
    const Shape& shape() const { return shape_; }
    guest::Abi abi() const { return shape_.abi; }

    std::size_t queues() const { return queues_.size(); }
    Queue& queue(std::size_t number) { return queues_.at(number); }
    // The next response on any queue, with its number. Nothing: none in time.
    std::optional<std::pair<std::size_t, guest::Response>>
    wait_any(std::chrono::milliseconds limit = std::chrono::seconds(20));

    // The first queue, for frontends that have no other.
    void start_at(std::uint32_t index) { queues_[0].start_at(index); }
    template <class Any>
    void put(const Any& request) { queues_[0].put(request); }
    void push() { queues_[0].push(); }
    std::optional<guest::Response> take() { return queues_[0].take(); }
    std::optional<guest::Response> wait(std::chrono::milliseconds limit = std::chrono::seconds(20))
    {
        return queues_[0].wait(limit);
    }
    template <class Any>
    std::optional<std::int16_t> run(const Any& request) { return queues_[0].run(request); }
    template <class Any>
    bool run_all(const std::vector<Any>& requests) { return queues_[0].run_all(requests); }
    std::vector<guest::Response> wait_all() { return queues_[0].wait_all(); }
    std::uint32_t outstanding() const { return queues_[0].outstanding(); }
    std::uint32_t produced() const { return queues_[0].produced(); }
    blkif_sring* ring() const { return queues_[0].ring(); }
    void* entry(std::uint32_t index) const { return queues_[0].entry(index); }
    const xen::Channel& channel() const { return queues_[0].channel(); }
    void drop_ring_page() { queues_[0].drop_pages(); }

private:
    void start();

    const Vbd& vbd_;
    Shape shape_;
    std::deque<Queue> queues_;
    std::size_t turn_ = 0; // the queue that wait_any() looked at last
};

// A read, write, ... of whole pages: pages first..first+count-1 of `pages`.
guest::Request request(std::uint8_t operation, std::uint64_t sector, const xen::Pages& pages,
                       std::size_t first, std::size_t count);
// A request without data.
guest::Request request(std::uint8_t operation);

#endif
