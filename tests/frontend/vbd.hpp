// SPDX-License-Identifier: GPL-2.0-only
//
// The toolstack's part: makes a vbd whose frontend is this program, and takes
// it away again. The frontend's directory is a private one, so that dom0's own
// blkfront does not see it; but QEMU knows only the usual one, and blkfront must
// not be loaded then.
#ifndef TESTS_FRONTEND_VBD_HPP
#define TESTS_FRONTEND_VBD_HPP

#include "tests/frontend/xen.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <string>

// xenbus states, as in Xen's public/io/xenbus.h.
enum State { kUnknown, kInitialising, kInitWait, kInitialised, kConnected, kClosing, kClosed };

// Who serves the vbd: our module with tapdisk, tapdisk alone, the kernel's xen-blkback, or the QEMU
// that runs for dom0.
enum class Backend { blktap, grants, blkback, qdisk };
const char* name(Backend backend);
const char* script(Backend backend); // its hotplug script

using Counters = std::map<std::string, std::uint64_t>;

// Looks every few milliseconds. False: it did not come true in time.
bool eventually(std::chrono::milliseconds limit, const std::function<bool()>& condition);

class Vbd {
public:
    struct Options {
        std::string image = "/nowhere"; // for the hotplug script
        bool writable = true;
        Backend backend = Backend::blktap;
        bool discard = true; // may be offered
        std::string physical_device = ""; // "MAJOR:MINOR" in hexadecimal, for xen-blkback
    };

    // Waits until the driver is ready for a frontend (and the module for a tapdisk).
    explicit Vbd(const Options& options);
    // Closes it in an orderly way, or by force when that does not help. Leaves nothing.
    ~Vbd();
    Vbd(const Vbd&) = delete;
    Vbd& operator=(const Vbd&) = delete;

    const xen::Store& store() const { return store_; }
    std::string name() const { return "vbd-0-" + std::to_string(devid_); }
    std::string node() const { return "/dev/blktap/" + name(); }
    // As hotplug scripts get it.
    const std::string& xenbus_path() const { return xenbus_path_; }

    std::string backend_key(const std::string& key) const { return backend_ + "/" + key; }
    std::string frontend_key(const std::string& key) const { return frontend_ + "/" + key; }
    std::string backend_value(const std::string& key) const;
    // A number that the back end offers; 0 when it says nothing.
    unsigned offer(const std::string& key) const;
    std::string error() const; // what the driver wrote under error/, or empty
    void forget_error() const;
    void forget_frontend_keys() const; // all that a frontend writes, but not its state

    State state() const;
    bool wait_for(State state, std::chrono::milliseconds limit = std::chrono::seconds(10)) const;
    void set_frontend_state(State state) const;

    // Detaches as the toolstack does, with a frontend that follows at once. False: it hangs.
    bool close() const;
    // Takes the directories away, as for a domain that is destroyed.
    void destroy() const;
    // As when the guest's directory alone is removed.
    void destroy_frontend() const { store_.remove(frontend_); }
    bool gone() const;

    std::string attribute(const std::string& name) const; // of /sys/class/blktap/vbd-D-V
    Counters counters() const;

private:
    std::string sysfs() const { return "/sys/class/blktap/" + name(); }

    xen::Store store_;
    unsigned devid_;
    std::string xenbus_path_;
    std::string backend_;
    std::string frontend_home_;
    std::string frontend_; // below it: xen-blkback wants a number as last name
};

#endif
