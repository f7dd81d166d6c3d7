// SPDX-License-Identifier: GPL-2.0-only
//
// A place at /dev/blktap/vbd-D-V, as bare as the ABI: what a tapdisk does there
// is up to the test. MemoryDisk is one that behaves.
#ifndef TESTS_FRONTEND_SEAT_HPP
#define TESTS_FRONTEND_SEAT_HPP

#include "ring/blktap_abi.h"
#include "ring/ring.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

// What a tapdisk says about a disk when all is well.
blktap_attach attach_to(std::uint64_t sectors);

class Seat {
public:
    static constexpr std::uint64_t kSectors = 8192;

    // Opens, attaches and maps; copies, too, if some are allowed or they are to be seen all the
    // same. Throws std::system_error when any of that is refused.
    explicit Seat(const std::string& node, blktap_attach attach = attach_to(kSectors),
                  bool sees_copies = false);
    ~Seat();
    Seat(const Seat&) = delete;
    Seat& operator=(const Seat&) = delete;

    int fd() const { return fd_; }
    const blktap_attach& attached() const { return attach_; }

    // Number of announced requests, or a negative errno.
    int run(unsigned flags = BLKTAP_RUN_ARM) const;
    // Ends the sleep of a run(), this or the next. 0, or a negative errno.
    int wake() const;
    // poll(): its revents; 0 means that nothing came in time.
    int wait(std::chrono::milliseconds limit) const;
    // The next announced request; runs and waits until there is one.
    std::optional<blktap_req> next(std::chrono::milliseconds limit = std::chrono::seconds(10));
    // The same without running: what is on the request ring now.
    std::optional<blktap_req> announced();

    std::span<const blktap_seg> segments(const blktap_req& req) const;
    // The page of piece `page` of the request, in the window of its kind or among the copies.
    std::uint8_t* page(const blktap_req& req, std::uint32_t page) const;
    std::uint8_t* window(bool writable) const { return writable ? window_rw_ : window_ro_; }
    void unmap_window(bool writable);
    std::size_t window_bytes() const { return attach_.window_bytes; }
    std::uint8_t* copies() const { return copies_; }
    std::size_t copies_bytes() const { return attach_.pages * 4096ull; }

    // Writes a command into the ring and moves the index; the module sees it at the next run().
    void put(const blktap_cmd& cmd);
    void claim(std::uint32_t cmd_prod);
    // An honest answer, told to the module at once.
    int answer(const blktap_req& req, int result = 0);

    const blktap_kernel_head& head() const;
    blktap_user_head& user_head() const;
    std::uint8_t* descriptors() const { return descriptors_; }
    std::uint8_t* commands() const { return commands_; }

private:
    std::uint8_t* map(std::uint64_t offset, std::size_t bytes, int protection) const;

    int fd_;
    blktap_attach attach_;
    std::uint8_t* descriptors_ = nullptr;
    std::uint8_t* commands_ = nullptr;
    std::uint8_t* window_rw_ = nullptr;
    std::uint8_t* window_ro_ = nullptr;
    std::uint8_t* copies_ = nullptr;
    ring_consumer requests_{};
    std::uint32_t produced_ = 0;
};

// The command that answers `req`.
blktap_cmd answer_to(const blktap_req& req, int result = 0);

// An honest tapdisk in a thread, whose disk is memory.
class MemoryDisk {
public:
    explicit MemoryDisk(const std::string& node, std::uint64_t sectors = Seat::kSectors);
    ~MemoryDisk();

    std::vector<std::uint8_t>& bytes() { return bytes_; }

private:
    void serve();
    void carry_out(const blktap_req& req);

    Seat seat_;
    std::vector<std::uint8_t> bytes_;
    std::atomic<bool> stop_ = false;
    std::thread thread_;
};

#endif
