// SPDX-License-Identifier: GPL-2.0-only
#include "tests/frontend/loop.hpp"

#include "tests/frontend/vbd.hpp"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <system_error>

using namespace std::chrono_literals;

namespace {

// A file descriptor of this scope.
class Descriptor {
public:
    Descriptor(const std::string& path, int flags) : fd_(open(path.c_str(), flags | O_CLOEXEC))
    {
        if (fd_ < 0)
            throw std::system_error(errno, std::generic_category(), path);
    }
    ~Descriptor() { close(fd_); }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;

    operator int() const { return fd_; }

private:
    int fd_;
};

} // namespace

Loop::Loop(const std::string& file, bool writable)
{
    const int mode = writable ? O_RDWR : O_RDONLY;
    const Descriptor control("/dev/loop-control", O_RDWR);
    const Descriptor backing(file, mode);
    // Another process may take the free one first.
    for (int attempt = 0; attempt < 10; attempt++) {
        const int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            break;
        const std::string path = "/dev/loop" + std::to_string(number);
        const Descriptor device(path, mode);
        loop_config config{};
        config.fd = static_cast<unsigned>(static_cast<int>(backing));
        config.info.lo_flags = writable ? 0u : unsigned{LO_FLAGS_READ_ONLY};
        if (ioctl(device, LOOP_CONFIGURE, &config) == 0) {
            path_ = path;
            return;
        }
    }
    throw std::system_error(errno, std::generic_category(), "a loop device for " + file);
}

Loop::~Loop()
{
    {
        const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            ioctl(fd, LOOP_CLR_FD, 0);
            close(fd);
        }
    }
    const auto name = std::filesystem::path(path_).filename().string();
    if (!eventually(10s, [&] {
            return !std::filesystem::exists("/sys/block/" + name + "/loop/backing_file");
        }))
        std::cerr << path_ << ": somebody keeps it\n";
}

std::string Loop::number() const
{
    struct stat status {};
    if (stat(path_.c_str(), &status) != 0)
        throw std::system_error(errno, std::generic_category(), path_);
    char text[32];
    std::snprintf(text, sizeof text, "%x:%x", major(status.st_rdev), minor(status.st_rdev));
    return text;
}
