// SPDX-License-Identifier: GPL-2.0-only
#include "tests/frontend/frontend.hpp"

#include "ring/ring.h"

#include <cstring>
#include <stdexcept>

using namespace std::chrono_literals;

Frontend::Frontend(const Vbd& vbd, guest::Abi abi) : vbd_(vbd), abi_(abi)
{
    start();
}

void Frontend::start()
{
    page_.emplace(1, xen::Pages::Access::read_write);
    channel_.emplace();
    std::memset(page_->all().data(), 0, page_->all().size());
    ring()->req_event = 1;
    ring()->rsp_event = 1;
    produced_ = pushed_ = consumed_ = 0;
}

void Frontend::start_at(std::uint32_t index)
{
    ring()->req_prod = ring()->rsp_prod = index;
    ring()->req_event = ring()->rsp_event = index + 1;
    produced_ = pushed_ = consumed_ = index;
}

std::vector<std::pair<std::string, std::string>> Frontend::keys() const
{
    std::vector<std::pair<std::string, std::string>> keys{
        {"ring-ref", std::to_string(page_->ref(0))},
        {"event-channel", std::to_string(channel_->port())},
    };
    if (abi_ != guest::Abi::native)
        keys.emplace_back("protocol", std::string(guest::name(abi_)) + "-abi");
    return keys;
}

void Frontend::announce(const std::vector<std::pair<std::string, std::string>>& keys) const
{
    std::vector<std::pair<std::string, std::string>> values;
    for (const auto& [key, value] : keys)
        values.emplace_back(vbd_.frontend_key(key), value);
    vbd_.store().write(values);
    vbd_.set_frontend_state(kInitialised);
}

bool Frontend::connect()
{
    announce(keys());
    if (!vbd_.wait_for(kConnected))
        return false;
    vbd_.set_frontend_state(kConnected);
    return true;
}

bool Frontend::close()
{
    vbd_.set_frontend_state(kClosing);
    if (!vbd_.wait_for(kClosing))
        return false;
    vbd_.set_frontend_state(kClosed);
    return vbd_.wait_for(kClosed);
}

bool Frontend::reopen()
{
    if (!close())
        return false;
    start();
    vbd_.set_frontend_state(kInitialising);
    return vbd_.wait_for(kInitWait) && connect();
}

void Frontend::put(const guest::Request& request)
{
    if (outstanding() == kEntries)
        throw std::logic_error("the ring is full");
    guest::put_request(entry(produced_++), abi_, request);
}

void Frontend::push()
{
    const std::uint32_t before = pushed_;
    pushed_ = produced_;
    ring_store_release_u32(&ring()->req_prod, pushed_);
    ring_fence(); // publish before looking whether the backend sleeps
    if (ring_needs_notify(before, pushed_, ring_load_u32(&ring()->req_event)))
        channel_->notify();
}

std::optional<guest::Response> Frontend::take()
{
    const std::uint32_t available = ring_load_acquire_u32(&ring()->rsp_prod) - consumed_;
    if (available > outstanding())
        throw std::runtime_error("the backend produced responses that nobody asked for");
    if (!available)
        return std::nullopt;
    return guest::take_response(entry(consumed_++), abi_);
}

std::optional<guest::Response> Frontend::wait(std::chrono::milliseconds limit)
{
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (true) {
        if (auto response = take())
            return response;
        const ring_consumer responses{consumed_, kEntries};
        if (ring_arm_event(&responses, &ring()->rsp_event, &ring()->rsp_prod))
            continue;
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        if (left <= 0ms)
            return std::nullopt;
        channel_->wait(left);
    }
}

std::optional<std::int16_t> Frontend::run(guest::Request request)
{
    request.id = next_id_++;
    put(request);
    push();
    const auto response = wait();
    if (!response)
        return std::nullopt;
    if (response->id != request.id)
        throw std::runtime_error("a response with a strange id");
    if (response->operation != request.operation)
        throw std::runtime_error("a response with a strange operation");
    return response->status;
}

std::vector<guest::Response> Frontend::wait_all()
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

guest::Request request(std::uint8_t operation, std::uint64_t sector, const xen::Pages& pages,
                       std::size_t first, std::size_t count)
{
    guest::Request request;
    request.operation = operation;
    request.sector = sector;
    request.nr_segments = static_cast<std::uint8_t>(count);
    for (std::size_t i = 0; i < count; i++)
        request.seg[i] = {pages.ref(first + i), 0, 7, 0};
    return request;
}

guest::Request request(std::uint8_t operation)
{
    guest::Request request;
    request.operation = operation;
    return request;
}
