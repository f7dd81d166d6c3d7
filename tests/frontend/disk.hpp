// SPDX-License-Identifier: GPL-2.0-only
//
// A vbd with its server, ready for a frontend: what most cases start from.
#ifndef TESTS_FRONTEND_DISK_HPP
#define TESTS_FRONTEND_DISK_HPP

#include "tests/frontend/frontend.hpp"
#include "tests/frontend/loop.hpp"
#include "tests/frontend/seat.hpp"
#include "tests/frontend/vbd.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// From the command line.
struct Settings {
    Backend backend = Backend::blktap;
    // Which tapdisk serves the well-behaved and the rogue guests.
    enum class Tapdisk { installed, memory } tapdisk = Tapdisk::installed;
    std::string directory = "/srv"; // for image files
    std::string slow_device = "";           // each of whose requests takes about a second
    std::string failing_device = "";        // the same, and then fails
    std::uint64_t seed = 1;         // of the rogue guest,
    std::uint64_t requests = 20000; // and how many it puts
    bool harmful = false; // runs what is known to harm the host of this back end, too
};
extern Settings settings;

class Disk {
public:
    struct Options {
        bool writable = true;
        std::uint64_t sectors = 32768;
        bool discard = true; // may be offered
        std::string device = ""; // instead of a file of its own; holds what it holds
    };

    Disk();
    explicit Disk(const Options& options);
    ~Disk();
    Disk(const Disk&) = delete;
    Disk& operator=(const Disk&) = delete;

    Vbd& vbd() { return *vbd_; }
    // What a guest finds in sector `sector` before it has written there.
    static std::vector<std::uint8_t> original(std::uint64_t sector, std::size_t bytes);
    // What is on the medium now.
    std::vector<std::uint8_t> stored(std::uint64_t sector, std::size_t bytes) const;
    const std::string& image() const { return image_; } // the file; none for a disk in memory

private:
    void add();

    std::string image_;
    bool served_ = false; // by what the hotplug script starts
    std::unique_ptr<Loop> loop_;
    std::unique_ptr<Vbd> vbd_;
    std::unique_ptr<MemoryDisk> memory_;
};

// The counters of misbehaviour: exactly those in `expected` have moved, by that much.
void expect_trouble(const Counters& before, const Counters& after, const Counters& expected);

// A write and a read of the same data through a frontend: the vbd is alive.
void expect_alive(Frontend& frontend, std::uint64_t sector = 64);

// Lines of the kernel log that hold `text`.
int kernel_log_lines(const std::string& text);

#endif
