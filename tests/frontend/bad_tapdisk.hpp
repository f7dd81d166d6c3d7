// SPDX-License-Identifier: GPL-2.0-only
//
// A tapdisk that was taken over by an attacker can damage its own disk, and
// nothing else. Here: a seat at a connected vbd, for tests to misbehave on.
#ifndef TESTS_FRONTEND_BAD_TAPDISK_HPP
#define TESTS_FRONTEND_BAD_TAPDISK_HPP

#include "tests/frontend/disk.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>
#include <stdexcept>
#include <vector>

// The signal that an access is stopped by, or 0.
int signal_of(const std::function<void()>& access);
int signal_of_read(const volatile std::uint8_t* at);
int signal_of_write(volatile std::uint8_t* at);

// Exit status of `work` in a child process; a signal is 128 and its number, as in a shell.
int in_child(const std::function<int()>& work);
// The same in one that has this process's number, in a namespace of its own.
int in_namesake(const std::function<int()>& work);

// A pipe that holds on to pages: the same as I/O that does not end, until it is drained.
class Holder {
public:
    Holder();
    ~Holder() { release(); }
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;

    // Bytes held, or a negative errno.
    long hold(void* at, std::size_t bytes) const;
    // What the pages hold now, a page at most; they are let go of.
    std::vector<std::uint8_t> contents() const;
    void release();

private:
    int fds_[2];
};

class BadTapdisk : public testing::Test {
protected:
    void SetUp() override
    {
        std::ranges::fill(pages.all(), 0x11);
        ASSERT_TRUE(frontend.connect());
    }

    // The guest asks, tapdisk gets it.
    blktap_req ask(std::uint8_t operation = BLKIF_OP_READ, std::size_t first = 0,
                   std::size_t count = 1)
    {
        frontend.put(request(operation, 8, pages, first, count));
        frontend.push();
        const auto req = seat->next();
        if (!req)
            throw std::runtime_error("the request did not come");
        return *req;
    }

    std::uint32_t rejected() const { return seat->head().rejected; }

    // The vbd still works, with this tapdisk or the next.
    void expect_in_order()
    {
        const blktap_req req = ask();
        std::memset(seat->page(req, 0), 0x42, 4096);
        EXPECT_GE(seat->answer(req), 0);
        const auto response = frontend.wait();
        ASSERT_TRUE(response);
        EXPECT_EQ(response->status, BLKIF_RSP_OKAY);
        EXPECT_EQ(std::ranges::count(pages.page(0), 0x42), 4096);
    }

    Vbd vbd{{}};
    std::optional<Seat> seat{std::in_place, vbd.node()};
    Frontend frontend{vbd};
    xen::Pages pages{32, xen::Pages::Access::read_write};
};

#endif
