// SPDX-License-Identifier: GPL-2.0-only
#include "tests/frontend/bad_tapdisk.hpp"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace {

sigjmp_buf fault_return;

void on_fault(int number)
{
    siglongjmp(fault_return, number);
}

int exit_status(pid_t child)
{
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

} // namespace

int signal_of(const std::function<void()>& access)
{
    struct sigaction action = {}, bus, segv;
    action.sa_handler = on_fault;
    sigaction(SIGBUS, &action, &bus);
    sigaction(SIGSEGV, &action, &segv);
    const int number = sigsetjmp(fault_return, 1);
    if (number == 0)
        access();
    sigaction(SIGBUS, &bus, nullptr);
    sigaction(SIGSEGV, &segv, nullptr);
    return number;
}

int signal_of_read(const volatile std::uint8_t* at)
{
    return signal_of([at] { (void)*at; });
}

int signal_of_write(volatile std::uint8_t* at)
{
    return signal_of([at] { *at = 1; });
}

int in_child(const std::function<int()>& work)
{
    const pid_t child = fork();
    if (child == 0)
        _exit(work());
    return exit_status(child);
}

int in_namesake(const std::function<int()>& work)
{
    pid_t number = getpid();
    return in_child([&] {
        if (unshare(CLONE_NEWPID) < 0)
            return 126;
        // The first in a namespace has the number 1.
        return in_child([&] {
            clone_args how{};
            how.exit_signal = SIGCHLD;
            how.set_tid = reinterpret_cast<std::uintptr_t>(&number);
            how.set_tid_size = 1;
            const long child = syscall(SYS_clone3, &how, sizeof how);
            if (child == 0)
                _exit(work());
            return child < 0 ? 126 : exit_status(static_cast<pid_t>(child));
        });
    });
}

Holder::Holder()
{
    if (pipe2(fds_, O_CLOEXEC | O_NONBLOCK) < 0)
        throw std::system_error(errno, std::generic_category(), "pipe");
}

long Holder::hold(void* at, std::size_t bytes) const
{
    iovec piece{at, bytes};
    const ssize_t held = vmsplice(fds_[1], &piece, 1, SPLICE_F_NONBLOCK);
    return held < 0 ? -errno : held;
}

std::vector<std::uint8_t> Holder::contents() const
{
    std::vector<std::uint8_t> bytes(4096);
    const ssize_t got = read(fds_[0], bytes.data(), bytes.size());
    bytes.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    return bytes;
}

void Holder::release()
{
    for (int& fd : fds_)
        if (fd >= 0)
            close(std::exchange(fd, -1));
}
