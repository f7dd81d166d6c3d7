// SPDX-License-Identifier: GPL-2.0-only
#include "server/confine.hpp"

#include <grp.h>
#include <linux/fs.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/paths.hpp"
#include "ring/blktap_abi.h"

namespace tapdisk {
namespace {

// Given to nobody by systemd's plan of user IDs (systemd.io/UIDS-GIDS). With the ID of a process
// added, which is less than 2^22, no two that live are the same.
constexpr uid_t kFirstId = 0x70000000;

// Without a look at their arguments: the kernel keeps the verdict on these in a bitmap, and the
// filter itself does not run for them.
constexpr int kAllowed[] = {
    // The data, and what waits for it.
    SCMP_SYS(io_uring_enter), SCMP_SYS(io_submit), SCMP_SYS(io_getevents),
    SCMP_SYS(io_pgetevents), SCMP_SYS(io_destroy), SCMP_SYS(read), SCMP_SYS(readv),
    SCMP_SYS(pread64), SCMP_SYS(preadv), SCMP_SYS(preadv2), SCMP_SYS(write), SCMP_SYS(writev),
    SCMP_SYS(pwrite64), SCMP_SYS(pwritev), SCMP_SYS(pwritev2), SCMP_SYS(fsync),
    SCMP_SYS(fdatasync), SCMP_SYS(fallocate), SCMP_SYS(fadvise64), SCMP_SYS(lseek),
    SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_ctl), SCMP_SYS(timerfd_settime),
    // tap-ctl, the errands, the store's size.
    SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(sendto),
    SCMP_SYS(sendmsg), SCMP_SYS(shutdown), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt),
    SCMP_SYS(close),
    // What is looked at through a descriptor. A path leads nowhere.
    SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(statx),
    // Memory, time and threads.
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(futex),
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep), SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(getpid),
    SCMP_SYS(gettid), SCMP_SYS(getrandom), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack), SCMP_SYS(restart_syscall), SCMP_SYS(exit),
    SCMP_SYS(exit_group)};

// Others would make signals come to any process of root (FIOSETOWN; fcntl() is left out for that).
constexpr unsigned long kControls[] = {
    BLKTAP_IOC_RUN, BLKTAP_IOC_WAKE, BLKTAP_IOC_DELEGATE, BLKTAP_IOC_WITHDRAW, BLKTAP_IOC_RESIZE,
    BLKDISCARD, BLKGETSIZE64, FIONBIO};

// A library may ask for a file that it can do without, and get none.
constexpr int kRefused[] = {SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(access),
                            SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(readlink),
                            SCMP_SYS(readlinkat)};

struct ReleaseFilter {
  void operator()(void* filter) const noexcept { seccomp_release(filter); }
};
using Filter = std::unique_ptr<void, ReleaseFilter>;

// Of a system call, compared with `value`: as a whole, or with `second` in the bits of `value`.
constexpr scmp_arg_cmp argument(unsigned number, scmp_compare how, scmp_datum_t value,
                                scmp_datum_t second = 0) noexcept {
  return {number, how, value, second};
}

// 0 or -errno.
int add_rules(scmp_filter_ctx filter) {
  int error = 0;
  const auto add = [&](std::uint32_t action, int call, auto... arguments) {
    if (!error) error = seccomp_rule_add(filter, action, call, sizeof...(arguments), arguments...);
  };
  for (const int call : kAllowed) add(SCMP_ACT_ALLOW, call);
  for (const int call : kRefused) add(SCMP_ACT_ERRNO(EACCES), call);
  // The doorbell is among these: first in the filter.
  if (!error) error = seccomp_syscall_priority(filter, SCMP_SYS(ioctl), UINT8_MAX);
  for (const unsigned long control : kControls)
    add(SCMP_ACT_ALLOW, SCMP_SYS(ioctl), argument(1, SCMP_CMP_EQ, control));
  // No code but what is there.
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect)})
    add(SCMP_ACT_ALLOW, call, argument(2, SCMP_CMP_MASKED_EQ, PROT_EXEC));
  // Threads only. clone3() has its flags in memory, where no filter sees them; the C library does
  // without.
  add(SCMP_ACT_ALLOW, SCMP_SYS(clone), argument(0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
  add(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3));
  add(SCMP_ACT_ALLOW, SCMP_SYS(prctl), argument(0, SCMP_CMP_EQ, PR_SET_NAME));
  // Itself: abort(), and the aligner's copies from and to a window.
  const auto self = static_cast<scmp_datum_t>(::getpid());
  for (const int call :
       {SCMP_SYS(tgkill), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev)})
    add(SCMP_ACT_ALLOW, call, argument(0, SCMP_CMP_EQ, self));
  return error;
}

Result<void> filter_system_calls() {
  const Filter filter{seccomp_init(SCMP_ACT_KILL_PROCESS)};
  if (!filter) return system_error("system-call filter", ENOMEM);
  int error = -seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1);
  if (!error)
    error = -seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  if (!error) error = -add_rules(filter.get());
  if (!error) error = -seccomp_load(filter.get());
  if (error) return system_error("system-call filter", error);
  return {};
}

// In a directory that is removed nothing can be made.
Result<void> leave_files() {
  std::string empty = std::string{kRunDirectory} + "/.empty-XXXXXX";
  if (!::mkdtemp(empty.data())) return system_error(empty, errno);
  const bool inside = ::chdir(empty.c_str()) == 0;
  if (::rmdir(empty.c_str()) || !inside || ::chroot(".")) return system_error(empty, errno);
  return {};
}

Result<void> become_nobody() {
  const uid_t id = kFirstId + static_cast<uid_t>(::getpid());
  constexpr auto kAsItIs = static_cast<uid_t>(-1);
  // The library does so for each thread.
  if (::setgroups(0, nullptr) || ::setresgid(id, id, id) || ::setresuid(kAsItIs, id, id))
    return system_error("giving up the rights of root", errno);
  return {};
}

}  // namespace

Result<void> confine() {
  if (Result<void> done = leave_files(); !done) return done;
  if (Result<void> done = become_nobody(); !done) return done;
  return filter_system_calls();
}

}  // namespace tapdisk
