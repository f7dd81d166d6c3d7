// SPDX-License-Identifier: GPL-2.0-only
#include "tests/frontend/disk.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/klog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

Settings settings;

namespace {

constexpr const char* kTrouble[] = {"bad_requests", "bad_grants", "lying_producer", "bad_commands",
                                    "stale_commands"};

// The hotplug script as libxl runs it.
int run_script(const Vbd& vbd, const char* action)
{
    const pid_t child = fork();
    if (child == 0) {
        setenv("XENBUS_PATH", vbd.xenbus_path().c_str(), 1);
        setenv("XENBUS_TYPE", "vbd", 1);
        setenv("XENBUS_BASE_PATH", "backend", 1);
        setenv("script", script(settings.backend), 1);
        execl(script(settings.backend), script(settings.backend), action, nullptr);
        _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
}

// Takes the file out of the page cache. Otherwise direct I/O has to wait for it now and then, and
// the module leaves such requests to tapdisk.
void forget(const std::string& path)
{
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    fsync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

} // namespace

Disk::Disk() : Disk(Options{}) {}

Disk::Disk(const Options& options)
{
    if (!options.device.empty()) {
        vbd_ = std::make_unique<Vbd>(
            Vbd::Options{.image = options.device, .backend = settings.backend});
        add();
        return;
    }
    const std::vector<std::uint8_t> contents = original(0, options.sectors * 512);
    if (settings.backend == Backend::blktap && settings.tapdisk == Settings::Tapdisk::memory) {
        vbd_ = std::make_unique<Vbd>(Vbd::Options{.writable = options.writable});
        memory_ = std::make_unique<MemoryDisk>(vbd_->node(), options.sectors);
        memory_->bytes() = contents;
        return;
    }
    static int number;
    image_ = settings.directory + "/frontend-test-" + std::to_string(number++) + ".img";
    std::ofstream(image_, std::ios::binary)
        .write(reinterpret_cast<const char*>(contents.data()),
               static_cast<std::streamsize>(contents.size()));
    if (settings.backend == Backend::blktap)
        forget(image_);
    if (settings.backend == Backend::blkback) {
        // What /etc/xen/scripts/block does for a file.
        loop_ = std::make_unique<Loop>(image_, options.writable);
        vbd_ = std::make_unique<Vbd>(Vbd::Options{.image = image_,
                                                  .writable = options.writable,
                                                  .backend = settings.backend,
                                                  .discard = options.discard,
                                                  .physical_device = loop_->number()});
        return;
    }
    const bool by_qemu = settings.backend == Backend::qdisk;
    vbd_ = std::make_unique<Vbd>(Vbd::Options{.image = (by_qemu ? "aio:" : "") + image_,
                                              .writable = options.writable,
                                              .backend = settings.backend,
                                              .discard = options.discard});
    if (!by_qemu)
        add();
}

void Disk::add()
{
    served_ = true;
    if (run_script(*vbd_, "add") != 0)
        throw std::runtime_error("hotplug script: " + vbd_->backend_value("hotplug-error"));
}

Disk::~Disk()
{
    // As libxl does it: the vbd closes, then the script takes the tapdisk away.
    vbd_->close();
    if (served_)
        run_script(*vbd_, "remove");
    memory_.reset();
    vbd_.reset();
    loop_.reset();
    std::filesystem::remove(image_.empty() ? "/nowhere" : image_);
}

std::vector<std::uint8_t> Disk::original(std::uint64_t sector, std::size_t bytes)
{
    std::vector<std::uint8_t> data(bytes);
    for (std::size_t at = 0; at < bytes; at += 8) {
        const std::uint64_t word = (sector * 64 + at / 8) * 0x9e3779b97f4a7c15;
        std::memcpy(&data[at], &word, 8);
    }
    return data;
}

std::vector<std::uint8_t> Disk::stored(std::uint64_t sector, std::size_t bytes) const
{
    std::vector<std::uint8_t> data(bytes);
    if (memory_) {
        std::memcpy(data.data(), memory_->bytes().data() + sector * 512, bytes);
        return data;
    }
    const int fd = open(image_.c_str(), O_RDONLY | O_CLOEXEC);
    const ssize_t got = pread(fd, data.data(), bytes, static_cast<off_t>(sector * 512));
    close(fd);
    if (got != static_cast<ssize_t>(bytes))
        throw std::runtime_error(image_ + ": cannot be read");
    if (settings.backend == Backend::blktap)
        forget(image_);
    return data;
}

void expect_trouble(const Counters& before, const Counters& after, const Counters& expected)
{
    for (const char* name : kTrouble) {
        const auto wanted = expected.find(name);
        EXPECT_EQ(after.at(name) - before.at(name), wanted == expected.end() ? 0 : wanted->second)
            << name;
    }
}

void expect_alive(Frontend& frontend, std::uint64_t sector)
{
    static std::uint8_t pattern;
    xen::Pages out(2, xen::Pages::Access::read_only);
    xen::Pages in(2, xen::Pages::Access::read_write);
    std::ranges::fill(out.all(), ++pattern);
    std::ranges::fill(in.all(), 0);
    ASSERT_EQ(frontend.run(request(BLKIF_OP_WRITE, sector, out, 0, 2)), BLKIF_RSP_OKAY);
    ASSERT_EQ(frontend.run(request(BLKIF_OP_READ, sector, in, 0, 2)), BLKIF_RSP_OKAY);
    EXPECT_TRUE(std::ranges::equal(in.all(), out.all()));
}

int kernel_log_lines(const std::string& text)
{
    constexpr int kReadAll = 3;
    std::vector<char> log(1 << 20);
    const int bytes = klogctl(kReadAll, log.data(), static_cast<int>(log.size()));
    int lines = 0;
    std::string_view rest(log.data(), static_cast<std::size_t>(std::max(bytes, 0)));
    while (!rest.empty()) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        lines += line.find(text) != std::string_view::npos;
        rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    }
    return lines;
}
