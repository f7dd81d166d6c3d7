// SPDX-License-Identifier: GPL-2.0-only
#include "tests/frontend/vbd.hpp"

#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>
#include <stdexcept>
#include <thread>

using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

// Extended device numbers, far beyond what anybody gives a disk by hand.
unsigned next_devid()
{
    static unsigned number = 4000;
    return 1u << 28 | number++ << 8;
}

// As toolstacks call the disk: xvda, …, xvdz, xvdaa, …. QEMU takes its number from there.
std::string device_name(unsigned devid)
{
    std::string letters;
    for (unsigned left = (devid >> 8 & 0xfffff) + 1; left; left = (left - 1) / 26)
        letters.insert(letters.begin(), static_cast<char>('a' + (left - 1) % 26));
    return "xvd" + letters;
}

} // namespace

bool eventually(std::chrono::milliseconds limit, const std::function<bool()>& condition)
{
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline)
            return condition();
        std::this_thread::sleep_for(5ms);
    }
    return true;
}

const char* name(Backend backend)
{
    switch (backend) {
    case Backend::blktap: return "blktap";
    case Backend::grants: return "tapdisk alone";
    case Backend::qdisk: return "QEMU's qdisk";
    case Backend::blkback: break;
    }
    return "xen-blkback";
}

const char* script(Backend backend)
{
    switch (backend) {
    case Backend::blktap: return "/etc/xen/scripts/block-tapzc";
    case Backend::grants: return "/etc/xen/scripts/block-tapgnt";
    case Backend::qdisk: return "";
    case Backend::blkback: break;
    }
    return "/etc/xen/scripts/block";
}

Vbd::Vbd(const Options& options)
    : devid_(next_devid()),
      xenbus_path_((options.backend == Backend::qdisk ? "backend/qdisk/0/" : "backend/vbd/0/") +
                   std::to_string(devid_)),
      backend_("/local/domain/0/" + xenbus_path_),
      frontend_home_(options.backend == Backend::qdisk
                         ? "/local/domain/0/device/vbd/" + std::to_string(devid_)
                         : "/local/domain/0/blktap-frontend-test-" + std::to_string(devid_)),
      frontend_(options.backend == Backend::qdisk ? frontend_home_
                                                  : frontend_home_ + "/" + std::to_string(devid_))
{
    const std::string mode = options.writable ? "w" : "r";
    store_.write({
        {frontend_key("backend"), backend_},
        {frontend_key("backend-id"), "0"},
        {frontend_key("virtual-device"), std::to_string(devid_)},
        {frontend_key("device-type"), "disk"},
        {frontend_key("state"), "1"},
        {backend_key("frontend"), frontend_},
        {backend_key("frontend-id"), "0"},
        {backend_key("online"), "1"},
        {backend_key("removable"), "0"},
        {backend_key("bootable"), "1"},
        {backend_key("dev"), device_name(devid_)},
        {backend_key("type"), options.backend == Backend::qdisk ? "qdisk" : "phy"},
        {backend_key("mode"), mode},
        {backend_key("device-type"), "disk"},
        {backend_key("discard-enable"), options.discard ? "1" : "0"},
        {backend_key("specification"), "xen"},
        {backend_key("params"), options.image},
        {backend_key("script"), script(options.backend)},
        {backend_key("state"), "1"},
    });
    if (!wait_for(kInitWait)) {
        const std::string why = error();
        destroy();
        throw std::runtime_error(name() + ": no driver took it" + (why.empty() ? "" : ": " + why));
    }
    if (!options.physical_device.empty())
        store_.write({{backend_key("physical-device"), options.physical_device}});
}

Vbd::~Vbd()
{
    if (!close())
        std::cerr << name() << ": does not close (state " << state() << ", " << attribute("state")
                  << "), taking it away\n";
    destroy();
    if (!eventually(10s, [this] { return gone(); }))
        std::cerr << name() << ": is still there\n";
}

std::string Vbd::backend_value(const std::string& key) const
{
    return store_.read(backend_key(key)).value_or("");
}

unsigned Vbd::offer(const std::string& key) const
{
    const std::string value = backend_value(key);
    return value.empty() ? 0 : static_cast<unsigned>(std::stoul(value));
}

std::string Vbd::error() const
{
    return store_.read("/local/domain/0/error/" + xenbus_path() + "/error").value_or("");
}

void Vbd::forget_error() const
{
    store_.remove("/local/domain/0/error/" + xenbus_path());
}

void Vbd::forget_frontend_keys() const
{
    static const std::set<std::string> toolstacks{"backend",        "backend-id",  "state",
                                                  "virtual-device", "device-type"};
    for (const std::string& key : store_.list(frontend_))
        if (!toolstacks.contains(key))
            store_.remove(frontend_key(key));
}

State Vbd::state() const
{
    const std::string value = backend_value("state");
    return value.empty() ? kUnknown : static_cast<State>(std::stoi(value));
}

bool Vbd::wait_for(State wanted, std::chrono::milliseconds limit) const
{
    return eventually(limit, [&] { return state() == wanted; });
}

void Vbd::set_frontend_state(State state) const
{
    store_.write({{frontend_key("state"), std::to_string(state)}});
}

bool Vbd::close() const
{
    const State now = state();
    if (now == kUnknown)
        return true; // destroyed
    store_.write({{backend_key("online"), "0"}});
    if (now != kClosed)
        store_.write({{backend_key("state"), "5"}});
    set_frontend_state(kClosed);
    // QEMU takes the directory away by itself.
    return eventually(10s, [this] { return state() == kClosed || state() == kUnknown; });
}

void Vbd::destroy() const
{
    store_.remove(backend_);
    store_.remove(frontend_home_);
    forget_error();
}

bool Vbd::gone() const
{
    return !fs::exists(sysfs()) && !fs::exists(node()) &&
           !fs::exists("/sys/bus/xen-backend/devices/" + name()) &&
           state() == kUnknown; // nobody has brought the directory back
}

std::string Vbd::attribute(const std::string& name) const
{
    std::ifstream file(sysfs() + "/" + name);
    std::string value;
    std::getline(file, value);
    return value;
}

Counters Vbd::counters() const
{
    Counters counters;
    for (const auto& entry : fs::directory_iterator(sysfs() + "/statistics")) {
        std::ifstream file(entry.path());
        file >> counters[entry.path().filename()];
    }
    return counters;
}
