// SPDX-License-Identifier: GPL-2.0-only
//
// A guest may find a way to take its tapdisk over. What it gets then is the disk that it has: once
// everything is open, there is no file, no socket, no other process and no capability, and no
// system call for any of them.
#pragma once

#include "base/result.hpp"

namespace tapdisk {

// All threads are, from now on and for good: in a removed directory (chroot(2)); as files and IPC
// see them a user that nobody else is, with no capability in effect (credentials(7)); and left with
// the system calls that a disk takes (seccomp(2)): any other kills the process. Its real user stays
// root, for systemd-shutdown ends the processes of others, and only the caller's capabilities
// CHROOT, SETUID and SETGID are needed. Nothing of io_uring is seen by the filter: engines limit
// their rings themselves.
Result<void> confine();

}  // namespace tapdisk
