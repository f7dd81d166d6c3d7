// SPDX-License-Identifier: GPL-2.0-only
#include "tests/frontend/frontend.hpp"

Frontend::Frontend(const Vbd& vbd, const Shape& shape) : vbd_(vbd), shape_(shape)
{
    start();
}

void Frontend::start()
{
    queues_.clear();
    for (unsigned i = 0; i < shape_.queues; i++)
        queues_.emplace_back(shape_.abi, shape_.order);
}

Keys Frontend::keys() const
{
    Keys keys;
    for (std::size_t i = 0; i < queues_.size(); i++) {
        const std::string prefix = queues_.size() == 1 ? "" : "queue-" + std::to_string(i) + "/";
        for (const auto& key : queues_[i].keys(prefix))
            keys.push_back(key);
    }
    if (queues_.size() > 1)
        keys.emplace_back("multi-queue-num-queues", std::to_string(queues_.size()));
    if (shape_.order)
        keys.emplace_back("ring-page-order", std::to_string(shape_.order));
    if (shape_.persistent)
        keys.emplace_back("feature-persistent", "1");
    if (shape_.abi != guest::Abi::native)
        keys.emplace_back("protocol", std::string(guest::name(shape_.abi)) + "-abi");
    return keys;
}

void Frontend::announce(const Keys& keys) const
{
    Keys values;
    for (const auto& [key, value] : keys)
        values.emplace_back(vbd_.frontend_key(key), value);
    vbd_.store().write(values);
    vbd_.set_frontend_state(kInitialised);
}

bool Frontend::connect()
{
    vbd_.forget_frontend_keys();
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

bool Frontend::reopen(const Shape& shape)
{
    if (!close())
        return false;
    shape_ = shape;
    start();
    vbd_.set_frontend_state(kInitialising);
    return vbd_.wait_for(kInitWait) && connect();
}

bool Frontend::come_back(const std::vector<State>& states)
{
    start();
    vbd_.forget_frontend_keys();
    Keys values;
    for (const auto& [key, value] : keys())
        values.emplace_back(vbd_.frontend_key(key), value);
    for (const State state : states)
        values.emplace_back(vbd_.frontend_key("state"), std::to_string(state));
    vbd_.store().write(values);
    if (!vbd_.wait_for(kConnected))
        return false;
    vbd_.set_frontend_state(kConnected);
    return true;
}

std::optional<std::pair<std::size_t, guest::Response>>
Frontend::wait_any(std::chrono::milliseconds limit)
{
    std::vector<const xen::Channel*> channels;
    for (const Queue& queue : queues_)
        channels.push_back(&queue.channel());
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (true) {
        bool may_sleep = true;
        for (std::size_t i = 0; i < queues_.size(); i++) {
            turn_ = (turn_ + 1) % queues_.size();
            if (const auto response = queues_[turn_].take())
                return std::pair{turn_, *response};
            may_sleep &= queues_[turn_].arm();
        }
        if (!may_sleep)
            continue;
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        if (left.count() <= 0)
            return std::nullopt;
        xen::Channel::wait(channels, left);
    }
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
