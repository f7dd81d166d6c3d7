// SPDX-License-Identifier: GPL-2.0-only
//
// All memory is touched by way of system calls, which fail where an access of its own would end the
// process. Only the first thread uses the seat's rings.
#include "tests/frontend/rogue_tapdisk.hpp"

#include "tests/frontend/seat.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kScratchBytes = 1 << 20;
constexpr unsigned kDeeds = 400; // of the first thread
constexpr auto kAttachTime = 30s;
constexpr int kCannotAttach = 3;
constexpr int kIsLetDoIt = 4;

// The files that it has: its own, and those in which it puts what it should not.
struct Files {
    explicit Files(const std::string& scratch_path)
        : scratch(open(scratch_path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC)),
          random(open("/dev/urandom", O_RDONLY | O_CLOEXEC))
    {
        if (scratch < 0 || random < 0 || pipe2(pipe, O_CLOEXEC | O_NONBLOCK) < 0)
            _exit(2);
    }
    int scratch;
    int random;
    int pipe[2] = {-1, -1};
};

// What both threads can do.
class Hand {
public:
    Hand(const Seat& seat, const Files& files, std::uint64_t seed)
        : seat_(seat), files_(files), random_(seed), fd_(seat.fd()) {}

protected:
    bool one_in(unsigned n) { return random_() % n == 0; }
    template <class Value, std::size_t N>
    Value any_of(const Value (&values)[N]) { return values[random_() % N]; }

    int some_file()
    {
        return any_of({files_.scratch, files_.scratch, files_.random, files_.pipe[0],
                       files_.pipe[1], fd_, -1, 777});
    }
    std::uint64_t some_sector()
    {
        return one_in(8) ? random_() : random_() % (Seat::kSectors + 64);
    }
    std::uint64_t some_number() { return one_in(3) ? random_() : random_() % 64; }

    const Seat& seat_;
    const Files& files_;
    std::mt19937_64 random_;
    int fd_;
};

// Rings, ioctls, and now and then an honest answer.
class Teller : public Hand {
public:
    Teller(Seat& seat, const Files& files, std::uint64_t seed)
        : Hand(seat, files, seed), own_(seat) {}

    void do_one_deed()
    {
        switch (random_() % 16) {
        default: return serve();
        case 6: return answer_wrongly();
        case 7: return submit();
        case 8: return one_in(8) ? own_.claim(static_cast<std::uint32_t>(random_())) : serve();
        case 9: return scribble();
        case 10: return delegate();
        case 11: return withdraw();
        case 12: return resize();
        case 13: return attach_again();
        case 14: return any_ioctl();
        case 15: std::this_thread::sleep_for(std::chrono::microseconds{random_() % 3000});
        }
    }

private:
    void look()
    {
        own_.run(any_of({BLKTAP_RUN_ARM, 0u, BLKTAP_RUN_HOLD, BLKTAP_RUN_ARM}));
        while (owned_.size() < BLKTAP_DEPTH_MAX)
            if (const auto request = own_.announced())
                owned_.push_back(*request);
            else
                break;
    }
    std::optional<blktap_req> one_of_its_own()
    {
        look();
        if (owned_.empty())
            return std::nullopt;
        std::swap(owned_[random_() % owned_.size()], owned_.back());
        const blktap_req request = owned_.back();
        if (!one_in(8)) // or it will answer it again
            owned_.pop_back();
        return request;
    }
    void serve()
    {
        for (auto left = 1 + random_() % 8; left; left--)
            if (const auto request = one_of_its_own())
                own_.put(answer_to(*request, one_in(8) ? -EIO : 0));
        own_.run(BLKTAP_RUN_ARM);
    }
    void answer_wrongly()
    {
        blktap_cmd command = answer_to(one_of_its_own().value_or(blktap_req{}));
        switch (random_() % 7) {
        case 0: command.verb = static_cast<std::uint8_t>(random_()); break;
        case 1: command.flags = 1; break;
        case 2: command.slot = static_cast<std::uint16_t>(some_number()); break;
        case 3: command.generation += 1 + static_cast<std::uint32_t>(some_number()); break;
        case 4: command.result = static_cast<std::int32_t>(random_()); break;
        case 5: command.fd = some_file(); break;
        case 6: command.reserved = 1; break;
        }
        own_.put(command);
    }
    void submit()
    {
        blktap_cmd command = answer_to(one_of_its_own().value_or(blktap_req{}));
        command.verb = BLKTAP_CMD_SUBMIT;
        command.fd = some_file();
        command.offset = one_in(4) ? random_() : random_() % kScratchBytes / 512 * 512;
        own_.put(command);
    }
    void scribble()
    {
        const std::size_t at = random_() % seat_.attached().commands_bytes;
        const std::size_t bytes = 1 + random_() % 64;
        if (at + bytes <= seat_.attached().commands_bytes)
            [[maybe_unused]] const auto ignored = read(files_.random, seat_.commands() + at, bytes);
    }
    void delegate()
    {
        blktap_extent extent{};
        extent.sector = some_sector();
        extent.sectors = one_in(8) ? random_() : 1 + random_() % 512;
        extent.offset = random_() % kScratchBytes / 512 * 512;
        extent.fd = some_file();
        extent.flags = static_cast<std::uint32_t>(random_() % 5);
        extent.reserved[0] = one_in(16);
        ioctl(fd_, BLKTAP_IOC_DELEGATE, &extent);
    }
    void withdraw()
    {
        blktap_range range{some_sector(), one_in(4) ? ~0ull : random_() % 1024};
        ioctl(fd_, BLKTAP_IOC_WITHDRAW, &range);
    }
    // Never larger: an honest tapdisk shall follow.
    void resize()
    {
        const __u64 sectors = random_() % (Seat::kSectors + 1);
        if (ioctl(fd_, BLKTAP_IOC_RESIZE, &sectors) == 0 && sectors != Seat::kSectors)
            _exit(kIsLetDoIt);
    }
    void attach_again()
    {
        blktap_attach attach = attach_to(random_() % 65536);
        attach.queue = static_cast<std::uint32_t>(some_number());
        const int other = open(seat_node().c_str(), O_RDWR | O_CLOEXEC);
        if (ioctl(fd_, BLKTAP_IOC_ATTACH, &attach) == 0 ||
            ioctl(other, BLKTAP_IOC_ATTACH, &attach) == 0)
            _exit(kIsLetDoIt);
        close(other);
    }
    std::string seat_node() const
    {
        std::array<char, 128> path{};
        const ssize_t bytes = readlink(("/proc/self/fd/" + std::to_string(fd_)).c_str(),
                                       path.data(), path.size());
        return std::string(path.data(), bytes > 0 ? static_cast<std::size_t>(bytes) : 0);
    }
    void any_ioctl()
    {
        // Nothing that sleeps, and no argument that would be taken for a larger disk.
        if (const unsigned long request = _IO('b', random_() % 256); request != BLKTAP_IOC_RUN)
            ioctl(fd_, request, random_());
        ioctl(fd_, random_(), 0);
        own_.run(static_cast<unsigned>(random_()) & ~BLKTAP_RUN_WAIT);
    }

    Seat& own_;
    std::vector<blktap_req> owned_;
};

// Memory, and whatever of it the kernel can be made to use.
class Toucher : public Hand {
public:
    using Hand::Hand;

    void do_one_deed()
    {
        switch (random_() % 14) {
        case 0: case 1: return look_at_pages();
        case 2: case 3: return change_pages();
        case 4: return hold_pages();
        case 5: return let_go();
        case 6: case 7: return do_direct_io();
        case 8: return change_mappings();
        case 9: return advise();
        case 10: return have_a_child();
        case 11: return ask_for_more_areas();
        case 12:
            ioctl(fd_, BLKTAP_IOC_RUN, one_in(2) ? BLKTAP_RUN_ARM : 0u);
            ioctl(fd_, BLKTAP_IOC_WAKE);
            return;
        case 13: {
            pollfd event{fd_, POLLIN, 0};
            poll(&event, 1, 1);
        }
        }
    }

private:
    struct Range {
        std::uint8_t* at;
        std::size_t bytes;
    };
    // Pages of a window or of the copies, most often of the lowest, which are used first.
    Range some_pages()
    {
        std::uint8_t* const areas[] = {seat_.window(true), seat_.window(false), seat_.copies()};
        std::uint8_t* const area = any_of(areas);
        const std::size_t pages = one_in(4) ? seat_.attached().pages : 40;
        return {area + random_() % pages * kPage, (1 + random_() % 8) * kPage};
    }
    void look_at_pages()
    {
        const Range range = some_pages();
        std::array<char, 8 * kPage> copy;
        const iovec from{range.at, range.bytes};
        const iovec to{copy.data(), range.bytes};
        process_vm_readv(getpid(), &to, 1, &from, 1, 0);
        let_go();
        [[maybe_unused]] const auto ignored = write(files_.pipe[1], range.at, kPage);
    }
    void change_pages()
    {
        const Range range = some_pages();
        [[maybe_unused]] const auto ignored = read(files_.random, range.at, range.bytes);
        std::array<char, kPage> junk{};
        const iovec from{junk.data(), kPage};
        const iovec to{range.at, kPage};
        process_vm_writev(getpid(), &from, 1, &to, 1, 0);
    }
    // As I/O would that does not end.
    void hold_pages()
    {
        const Range range = some_pages();
        const iovec piece{range.at, range.bytes};
        vmsplice(files_.pipe[1], &piece, 1, SPLICE_F_NONBLOCK | (one_in(4) ? SPLICE_F_GIFT : 0));
    }
    void let_go()
    {
        std::array<char, 16 * kPage> sink;
        [[maybe_unused]] const auto ignored = read(files_.pipe[0], sink.data(), sink.size());
    }
    void do_direct_io()
    {
        const Range range = some_pages();
        const auto at = static_cast<off_t>(random_() % (kScratchBytes / kPage) * kPage);
        [[maybe_unused]] ssize_t ignored = 0;
        if (one_in(2))
            ignored = pread(files_.scratch, range.at, range.bytes, at);
        else
            ignored = pwrite(files_.scratch, range.at, range.bytes, at);
    }
    // Of parts, which is to fail; of a whole window now and then, after which nothing works.
    void change_mappings()
    {
        const Range range = some_pages();
        switch (random_() % 7) {
        case 0: munmap(range.at, range.bytes); break;
        case 1: mprotect(range.at, range.bytes, static_cast<int>(random_() % 8)); break;
        case 2: mremap(range.at, range.bytes, 2 * range.bytes, MREMAP_MAYMOVE); break;
        case 3:
            mremap(range.at, range.bytes, range.bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
            break;
        case 4: remap_file_pages(range.at, range.bytes, 0, random_() % 64, 0); break;
        case 5: mlock(range.at, range.bytes); break;
        case 6:
            if (one_in(16))
                mmap(seat_.window(one_in(2)), seat_.window_bytes(), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        }
    }
    void advise()
    {
        const Range range = some_pages();
        madvise(range.at, range.bytes, static_cast<int>(random_() % 26));
        msync(range.at, range.bytes, MS_SYNC);
        if (one_in(4)) {
            const int references = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
            [[maybe_unused]] const auto ignored = write(references, any_of({"1", "3", "4"}), 1);
            close(references);
        }
    }
    void have_a_child()
    {
        const pid_t child = fork();
        if (child == 0) {
            ioctl(fd_, BLKTAP_IOC_RUN, BLKTAP_RUN_ARM);
            for (int i = 0; i < 20; i++) {
                change_pages();
                hold_pages();
            }
            _exit(0);
        }
        if (child > 0)
            waitpid(child, nullptr, one_in(2) ? 0 : WNOHANG);
    }
    void ask_for_more_areas()
    {
        const auto area = static_cast<off_t>(
            (random_() % 6 << 32) + (one_in(2) ? 0 : random_() % 512 * kPage));
        const std::size_t bytes = one_in(2) ? seat_.window_bytes() : (1 + random_() % 64) * kPage;
        void* at = mmap(nullptr, bytes, static_cast<int>(random_() % 8),
                        one_in(4) ? MAP_PRIVATE : MAP_SHARED, fd_, area);
        if (at != MAP_FAILED && one_in(2))
            munmap(at, bytes);
    }
};

// Waits for what an earlier life has left: its children, its I/O.
std::unique_ptr<Seat> take_seat(const std::string& node, std::mt19937_64& random)
{
    blktap_attach attach = attach_to(Seat::kSectors);
    attach.keep_ms = 20'000;
    if (random() % 2)
        attach.features &= ~BLKTAP_FEATURE_PREFAULT;
    if (random() % 4 == 0)
        attach.features = BLKTAP_FEATURE_SUBMIT;
    if (random() % 4 == 0)
        attach.copy_bytes = 8 * kPage;
    const auto deadline = std::chrono::steady_clock::now() + kAttachTime;
    for (;; std::this_thread::sleep_for(10ms)) {
        try {
            return std::make_unique<Seat>(node, attach, true);
        } catch (const std::system_error& error) {
            const int code = error.code().value();
            if ((code != EBUSY && code != EAGAIN) || std::chrono::steady_clock::now() > deadline) {
                std::fprintf(stderr, "rogue tapdisk: %s\n", error.what());
                _exit(kCannotAttach);
            }
        }
    }
}

} // namespace

void live_as_rogue_tapdisk(const std::string& node, const std::string& scratch, std::uint64_t seed)
{
    std::mt19937_64 random(seed);
    const Files files(scratch);
    const auto seat = take_seat(node, random);
    std::thread([&seat, &files, seed] {
        for (Toucher toucher(*seat, files, ~seed);;)
            toucher.do_one_deed();
    }).detach();
    Teller teller(*seat, files, random());
    for (auto left = random() % kDeeds; left; left--)
        teller.do_one_deed();
    switch (random() % 4) {
    case 0: raise(SIGKILL); break;
    case 1: close(seat->fd()); break; // what is mapped keeps it open
    case 2: execl("/bin/true", "true", nullptr); break;
    default: break;
    }
    _exit(0);
}
