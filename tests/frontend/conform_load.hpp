// SPDX-License-Identifier: GPL-2.0-only
//
// Random requests over all queues of a frontend, as many outstanding as fit, checked against a
// model: every read as it is answered, and the whole medium in the end.
#ifndef TESTS_FRONTEND_CONFORM_LOAD_HPP
#define TESTS_FRONTEND_CONFORM_LOAD_HPP

#include "tests/frontend/conform.hpp"

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

class Load {
public:
    struct Options {
        std::uint64_t seed = 1;
        std::size_t segments = 3;  // of a request at most; beyond 11 the request is indirect
        std::size_t depth = ~0u;   // outstanding requests; as many as the rings hold at most
        bool mixed = false;        // small requests are indirect too, now and then
    };

    // The model begins as what is stored now.
    Load(const Disk& disk, Frontend& frontend, const Options& options);

    // Puts as many requests as there is room for, and publishes them.
    void start();
    // Starts and checks until `requests` more were answered; false when one gets lost.
    bool run(std::size_t requests);
    // Waits for all that are outstanding; false when one gets lost.
    bool finish();
    // The whole medium against the model. Nothing may be outstanding.
    void check_medium() const;

    std::size_t outstanding() const { return places_.size() - free_.size(); }

private:
    // What one request uses: pages of its own, and a part of the disk of its own.
    struct Place {
        std::uint64_t unit;
        bool write;
        std::vector<blkif_wire_segment> segments;
        std::unique_ptr<Descriptors> descriptors;
    };

    void put(Queue& queue);
    void check(const guest::Response& response);
    bool answered();
    std::span<std::uint8_t> memory(std::size_t place, std::size_t segment) const;
    void choose_segments(Place& place, std::size_t number);
    void write_pattern(std::size_t place);

    const Disk& disk_;
    Frontend& frontend_;
    Options options_;
    std::mt19937_64 random_;
    xen::Pages pages_;
    std::vector<Place> places_;
    std::vector<std::size_t> free_;         // places
    std::vector<std::uint64_t> free_units_; // parts of the disk, each as large as a request may be
    std::vector<std::uint8_t> model_;
    std::uint64_t started_ = 0;
};

#endif
