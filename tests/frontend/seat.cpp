// SPDX-License-Identifier: GPL-2.0-only
#include "tests/frontend/seat.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

using namespace std::chrono_literals;

blktap_attach attach_to(std::uint64_t sectors)
{
    blktap_attach attach{};
    attach.abi = BLKTAP_ABI_VERSION;
    attach.disk_flags = BLKTAP_DISK_FLUSH;
    attach.features = BLKTAP_FEATURE_PREFAULT;
    attach.sectors = sectors;
    attach.sector_size = 512;
    attach.physical_sector_size = 512;
    return attach;
}

Seat::Seat(const std::string& node, blktap_attach attach, bool sees_copies)
    : fd_(open(node.c_str(), O_RDWR | O_CLOEXEC)), attach_(attach)
{
    if (fd_ < 0)
        throw std::system_error(errno, std::generic_category(), node);
    try {
        if (ioctl(fd_, BLKTAP_IOC_ATTACH, &attach_) < 0)
            throw std::system_error(errno, std::generic_category(), "attach");
        descriptors_ = map(BLKTAP_MAP_DESCRIPTORS, attach_.descriptors_bytes, PROT_READ);
        commands_ = map(BLKTAP_MAP_COMMANDS, attach_.commands_bytes, PROT_READ | PROT_WRITE);
        window_rw_ = map(BLKTAP_MAP_WINDOW_RW, attach_.window_bytes, PROT_READ | PROT_WRITE);
        window_ro_ = map(BLKTAP_MAP_WINDOW_RO, attach_.window_bytes, PROT_READ);
        if (attach_.copy_bytes || sees_copies)
            copies_ = map(BLKTAP_MAP_COPIES, copies_bytes(), PROT_READ | PROT_WRITE);
    } catch (...) {
        close(fd_);
        throw;
    }
    requests_.size = attach_.depth;
}

Seat::~Seat()
{
    unmap_window(false);
    unmap_window(true);
    if (copies_)
        munmap(copies_, copies_bytes());
    munmap(commands_, attach_.commands_bytes);
    munmap(descriptors_, attach_.descriptors_bytes);
    close(fd_);
}

void Seat::unmap_window(bool writable)
{
    std::uint8_t*& window = writable ? window_rw_ : window_ro_;
    if (window)
        munmap(std::exchange(window, nullptr), attach_.window_bytes);
}

std::uint8_t* Seat::map(std::uint64_t offset, std::size_t bytes, int protection) const
{
    void* at = mmap(nullptr, bytes, protection, MAP_SHARED, fd_, static_cast<off_t>(offset));
    if (at == MAP_FAILED)
        throw std::system_error(errno, std::generic_category(), "mmap");
    return static_cast<std::uint8_t*>(at);
}

int Seat::run(unsigned flags) const
{
    const int result = ioctl(fd_, BLKTAP_IOC_RUN, static_cast<unsigned long>(flags));
    return result < 0 ? -errno : result;
}

int Seat::wake() const
{
    return ioctl(fd_, BLKTAP_IOC_WAKE) < 0 ? -errno : 0;
}

int Seat::wait(std::chrono::milliseconds limit) const
{
    pollfd fd{fd_, POLLIN, 0};
    return poll(&fd, 1, static_cast<int>(limit.count())) > 0 ? fd.revents : 0;
}

std::optional<blktap_req> Seat::announced()
{
    if (ring_available(&requests_, &head().req_prod) <= 0)
        return std::nullopt;
    blktap_req req;
    ring_copy_in(&req,
                 descriptors_ + attach_.requests_at + ring_position(&requests_) * sizeof req,
                 sizeof req);
    requests_.seen++;
    return req;
}

std::optional<blktap_req> Seat::next(std::chrono::milliseconds limit)
{
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (true) {
        if (const auto req = announced())
            return req;
        if (run() < 0 || std::chrono::steady_clock::now() > deadline)
            return std::nullopt;
        if (ring_available(&requests_, &head().req_prod) == 0)
            wait(50ms);
    }
}

std::span<const blktap_seg> Seat::segments(const blktap_req& req) const
{
    const auto* table = reinterpret_cast<const blktap_seg*>(descriptors_ + attach_.segments_at);
    return {table + req.first_seg, req.nr_segs};
}

std::uint8_t* Seat::page(const blktap_req& req, std::uint32_t page) const
{
    const std::uint32_t at = segments(req)[page].page;
    if (at >= attach_.window_pages)
        return copies_ + (at - attach_.window_pages) * 4096ull;
    return window(req.op == BLKTAP_OP_READ || at >= attach_.pages) + at * 4096ull;
}

void Seat::put(const blktap_cmd& cmd)
{
    std::memcpy(commands_ + attach_.commands_at +
                    produced_ % attach_.commands * sizeof cmd,
                &cmd, sizeof cmd);
    claim(++produced_);
}

void Seat::claim(std::uint32_t cmd_prod)
{
    ring_store_release_u32(&user_head().cmd_prod, cmd_prod);
}

int Seat::answer(const blktap_req& req, int result)
{
    put(answer_to(req, result));
    return run();
}

const blktap_kernel_head& Seat::head() const
{
    return *reinterpret_cast<const blktap_kernel_head*>(descriptors_);
}

blktap_user_head& Seat::user_head() const
{
    return *reinterpret_cast<blktap_user_head*>(commands_);
}

blktap_cmd answer_to(const blktap_req& req, int result)
{
    blktap_cmd cmd{};
    cmd.verb = BLKTAP_CMD_COMPLETE;
    cmd.slot = req.slot;
    cmd.generation = req.generation;
    cmd.result = result;
    return cmd;
}

MemoryDisk::MemoryDisk(const std::string& node, std::uint64_t sectors)
    : seat_(node, attach_to(sectors)), bytes_(sectors * 512), thread_([this] { serve(); })
{
}

MemoryDisk::~MemoryDisk()
{
    stop_ = true;
    thread_.join();
}

void MemoryDisk::serve()
{
    while (!stop_) {
        const int n = seat_.run();
        if (n < 0)
            return;
        bool answered = false;
        while (const auto req = seat_.announced()) {
            carry_out(*req);
            seat_.put(answer_to(*req));
            answered = true;
        }
        if (!answered && (seat_.wait(50ms) & POLLHUP))
            return;
    }
}

void MemoryDisk::carry_out(const blktap_req& req)
{
    std::uint8_t* at = bytes_.data() + req.sector * 512;
    std::uint32_t page = 0;
    for (const blktap_seg& seg : seat_.segments(req)) {
        std::uint8_t* memory = seat_.page(req, page++) + seg.offset;
        if (req.op == BLKTAP_OP_READ)
            std::memcpy(memory, at, seg.length);
        else
            std::memcpy(at, memory, seg.length);
        at += seg.length;
    }
}
