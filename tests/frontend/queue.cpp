// SPDX-License-Identifier: GPL-2.0-only
#include "tests/frontend/queue.hpp"

#include "ring/ring.h"

#include <cstring>

Queue::Queue(guest::Abi abi, unsigned order)
    : abi_(abi), entries_(guest::ring_entries(abi, order)),
      pages_(std::in_place, std::size_t{1} << order, xen::Pages::Access::read_write)
{
    std::memset(pages_->all().data(), 0, pages_->all().size());
    ring()->req_event = 1;
    ring()->rsp_event = 1;
}

void Queue::start_at(std::uint32_t index)
{
    ring()->req_prod = ring()->rsp_prod = index;
    ring()->req_event = ring()->rsp_event = index + 1;
    produced_ = pushed_ = consumed_ = index;
}

Keys Queue::keys(const std::string& prefix) const
{
    Keys keys{{prefix + "event-channel", std::to_string(channel_.port())}};
    if (pages_->count() == 1)
        keys.emplace_back(prefix + "ring-ref", std::to_string(pages_->ref(0)));
    else
        for (std::size_t i = 0; i < pages_->count(); i++)
            keys.emplace_back(prefix + "ring-ref" + std::to_string(i),
                              std::to_string(pages_->ref(i)));
    return keys;
}

void Queue::push()
{
    const std::uint32_t before = pushed_;
    pushed_ = produced_;
    ring_store_release_u32(&ring()->req_prod, pushed_);
    ring_fence(); // publish before looking whether the backend sleeps
    if (ring_needs_notify(before, pushed_, ring_load_u32(&ring()->req_event)))
        channel_.notify();
}

std::optional<guest::Response> Queue::take()
{
    const std::uint32_t available = ring_load_acquire_u32(&ring()->rsp_prod) - consumed_;
    if (available > outstanding())
        throw std::runtime_error("the backend produced responses that nobody asked for");
    if (!available)
        return std::nullopt;
    return guest::take_response(entry(consumed_++), abi_);
}

bool Queue::arm() const
{
    const ring_consumer responses{consumed_, entries_};
    return !ring_arm_event(&responses, &ring()->rsp_event, &ring()->rsp_prod);
}

std::optional<guest::Response> Queue::wait(std::chrono::milliseconds limit)
{
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (true) {
        if (auto response = take())
            return response;
        if (!arm())
            continue;
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        if (left.count() <= 0)
            return std::nullopt;
        channel_.wait(left);
    }
}

std::optional<std::int16_t> Queue::only_answer(std::uint64_t id, std::uint8_t operation)
{
    const auto response = wait();
    if (!response)
        return std::nullopt;
    if (response->id != id)
        throw std::runtime_error("a response with a strange id");
    if (response->operation != operation)
        throw std::runtime_error("a response with a strange operation");
    return response->status;
}

std::vector<guest::Response> Queue::wait_all()
{
    std::vector<guest::Response> responses;
    while (outstanding()) {
        const auto response = wait();
        if (!response)
            return {};
        responses.push_back(*response);
    }
    return responses;
}
