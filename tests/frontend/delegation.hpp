// SPDX-License-Identifier: GPL-2.0-only
//
// What the Delegation cases share: a tapdisk that lets the module serve a store, and then does only
// what the case makes it do.
#ifndef TESTS_FRONTEND_DELEGATION_HPP
#define TESTS_FRONTEND_DELEGATION_HPP

#include "tests/frontend/conform.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

class File {
public:
    File(const std::string& path, int flags) : fd_(open(path.c_str(), flags | O_CLOEXEC, 0600))
    {
        if (fd_ < 0)
            throw std::system_error(errno, std::generic_category(), path);
    }
    ~File() { close(fd_); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    int fd() const { return fd_; }

private:
    int fd_;
};

inline blktap_extent extent(int fd, std::uint64_t sector, std::uint64_t sectors,
                            std::uint64_t offset = 0)
{
    blktap_extent extent{};
    extent.sector = sector;
    extent.sectors = sectors;
    extent.offset = offset;
    extent.fd = fd;
    extent.flags = BLKTAP_EXTENT_READ | BLKTAP_EXTENT_WRITE;
    return extent;
}

// 0, or a negative errno.
inline int delegate(int vbd, const blktap_extent& extent)
{
    return ioctl(vbd, BLKTAP_IOC_DELEGATE, &extent) ? -errno : 0;
}

inline int withdraw(int vbd, std::uint64_t sector, std::uint64_t sectors)
{
    const blktap_range range{sector, sectors};
    return ioctl(vbd, BLKTAP_IOC_WITHDRAW, &range) ? -errno : 0;
}

// A connected frontend, a tapdisk that does only what the case makes it do, and a store.
class Served : public testing::Test {
protected:
    void connect(const std::string& store, int flags,
                 const blktap_attach& attach = attach_to(Seat::kSectors))
    {
        file = std::make_unique<File>(store, flags);
        seat.emplace(vbd.node(), attach);
        frontend = std::make_unique<Frontend>(vbd);
        ASSERT_TRUE(frontend->connect()) << vbd.error();
        seat->run(); // tapdisk goes to sleep
    }

    int delegate_all() { return delegate(seat->fd(), extent(file->fd(), 0, Seat::kSectors)); }
    bool tapdisk_was_asked()
    {
        seat->run();
        return seat->announced().has_value();
    }
    void put(std::uint8_t operation, std::uint64_t sector, std::size_t first = 0,
             std::size_t count = 1)
    {
        frontend->put(request(operation, sector, pages, first, count));
    }
    std::int16_t answer()
    {
        const auto response = frontend->wait();
        return response ? response->status : std::int16_t{-100};
    }
    // tapdisk gets the request and answers it; gives what the guest is told.
    std::int16_t tapdisk_answers(std::uint64_t sector, int result)
    {
        const auto req = seat->next();
        if (!req || req->sector != sector)
            return -100;
        seat->answer(*req, result);
        return answer();
    }

    // What the file `path` holds.
    std::vector<std::uint8_t> stored(std::uint64_t sector, std::size_t bytes) const
    {
        std::vector<std::uint8_t> data(bytes);
        std::ifstream in(path, std::ios::binary);
        in.seekg(static_cast<std::streamoff>(sector * 512));
        in.read(reinterpret_cast<char*>(data.data()), static_cast<std::streamsize>(bytes));
        return data;
    }

    const std::string path = settings.directory + "/store.img";
    Vbd vbd{{}};
    std::unique_ptr<File> file;
    std::optional<Seat> seat;
    std::unique_ptr<Frontend> frontend;
    xen::Pages pages{32, xen::Pages::Access::read_write};
};

#endif
