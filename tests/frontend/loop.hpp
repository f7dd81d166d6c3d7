// SPDX-License-Identifier: GPL-2.0-only
//
// A loop device over an image file: a disk for xen-blkback, and for whoever wants a block device.
#ifndef TESTS_FRONTEND_LOOP_HPP
#define TESTS_FRONTEND_LOOP_HPP

#include <string>

class Loop {
public:
    // Throws std::system_error when there is none to be had.
    Loop(const std::string& file, bool writable);
    // Waits until the last user has closed it.
    ~Loop();
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

    const std::string& path() const { return path_; }
    // "MAJOR:MINOR" in hexadecimal, as hotplug scripts write it.
    std::string number() const;

private:
    std::string path_;
};

#endif
