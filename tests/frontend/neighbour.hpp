// SPDX-License-Identifier: GPL-2.0-only
//
// A guest that does its work beside one that does not.
#ifndef TESTS_FRONTEND_NEIGHBOUR_HPP
#define TESTS_FRONTEND_NEIGHBOUR_HPP

#include "tests/frontend/conform_load.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

// Its thread checks each byte; who destroys it waits for its last request and compares the medium.
class Neighbour {
public:
    Neighbour()
    {
        EXPECT_TRUE(frontend_.connect());
        thread_ = std::thread([this] {
            while (!stop_ && load_.run(20))
                requests_ += 20;
            EXPECT_TRUE(stop_) << "a neighbour's request got lost";
        });
    }
    ~Neighbour()
    {
        stop_ = true;
        thread_.join();
        EXPECT_TRUE(load_.finish());
        load_.check_medium();
        EXPECT_EQ(disk_.vbd().counters().at("responses_error"), 0u);
        expect_trouble(before_, disk_.vbd().counters(), {});
    }
    unsigned requests() const { return requests_; }

private:
    Disk disk_;
    const Counters before_ = disk_.vbd().counters();
    Frontend frontend_{disk_.vbd(), Shape{.order = 1, .queues = 2}};
    Load load_{disk_, frontend_, {.seed = 5, .segments = 11, .depth = 8}};
    std::atomic<bool> stop_ = false;
    std::atomic<unsigned> requests_ = 0;
    std::thread thread_;
};

#endif
