# SPDX-License-Identifier: GPL-2.0-only
"""Asks a nested host that says nothing any more where it is, before it is ended.

Xen answers to keys on its console whatever its domains do. If it does not, it is the emulated
machine that has stopped, and no case can tell anything.
"""
import os
import re
import socket
import time

SAMPLES = 5
# CTRL-a three times: what follows is for Xen, or for dom0 again.
SWITCH = b"\x01" * 3
# Registers of dom0 and of all CPUs, run queues, domains, timers.
XEN_KEYS = [b"0", b"d", b"r", b"q", b"a"]
# SysRq (CTRL-o): log all, the tasks that no signal ends, each CPU's stack; all tasks.
DOM0_KEYS = [b"\x0f9", b"\x0fw", b"\x0fl"]
TASKS_KEY = b"\x0ft"
# What dom0's kernel prints begins with its clock, in seconds.
STAMP = re.compile(rb"^\[ *(\d+)\.\d+\] ", re.MULTILINE)
AHEAD_SECONDS = 60
# Of all that is said to these keys, what tells most.
TELLING = re.compile(r"RIP: |^\(XEN\) +\[<|VCPU\d+: CPU|pause_flags=|curr=|task:"
                     r"|^\[ *[\d.]+\]  \w\S+\+0x")
LINES_MAX = 40


def qemu_options():
    """A monitor at QEMU's standard input and output; COM1 as a socket in its working directory."""
    return ["-monitor", "stdio", "-serial", "chardev:console", "-chardev",
            "socket,id=console,path=console,server=on,wait=off,logfile=console.log"]


def clock_ahead(out, elapsed):
    """How many seconds dom0's clock is ahead, if QEMU was started `elapsed` seconds ago; or 0.

    QEMU makes the emulated TSC of this machine's. That jumps when this machine is a virtual one
    and goes on elsewhere; dom0's clock then stands still at the new time, until that has come.
    """
    with open(out / "console.log", "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 65536))
        stamps = STAMP.findall(file.read())
    ahead = int(stamps[-1]) - elapsed if stamps else 0
    return int(ahead) if ahead > AHEAD_SECONDS else 0


def hold(qemu, out):
    """What is wrong with the machine itself, if that is it, and lines that tell where it is.

    `out` is QEMU's working directory; there, qemu.log and console.log hold all that was said. The
    registers come first: the keys interrupt the host, which may be what it waits for.
    """
    lines = []
    try:
        lines += registers(qemu, out / "qemu.log")
        before = (out / "progress").stat().st_size
        said = press_keys(out, [SWITCH, *XEN_KEYS, SWITCH, *DOM0_KEYS])
        lines += [line for line in said.splitlines() if TELLING.search(line)][:LINES_MAX]
        lines += processes(press_keys(out, [TASKS_KEY]))
        if (out / "progress").stat().st_size != before: # had it waited for any interrupt?
            lines.append("it has gone on since its console was used")
        elif "(XEN)" not in said:
            lines.append("Xen does not answer on its console")
            return "the emulated machine itself has stopped", lines
    except OSError as error: # QEMU has ended meanwhile
        lines.append(f"it cannot be asked: {error}")
    return "", lines


def registers(qemu, log):
    """Samples of where each CPU is, at what privilege, and whether it halts; a line for each."""
    before = log.stat().st_size
    for _ in range(SAMPLES):
        qemu.stdin.write(b"info registers -a\n")
        qemu.stdin.flush()
        time.sleep(0.5)
    with open(log, errors="replace") as file:
        file.seek(before)
        said = file.read()
    for cpu in said.split("CPU#")[1:]:
        yield f"CPU {cpu.split()[0]}: " + " ".join(re.findall(r"\b(?:RIP|CPL|HLT)=\w+", cpu))


def processes(said):
    """A line with the processes and their states, of what dom0 prints at TASKS_KEY."""
    found = re.findall(r"task:(\S+) +state:(\w).* ppid:(\d+)", said)
    kthreadd = "2"
    names = [f"{name}({state})" for name, state, parent in found if parent != kthreadd]
    if names:
        yield f"processes: {' '.join(names)}"


def press_keys(out, keys):
    """What the host prints at the keys; nothing if nobody takes them."""
    said = b""
    with connect(out, "console") as console:
        for key in keys:
            console.sendall(key)
            said += until_quiet(console)
    return said.decode(errors="replace")


def connect(out, name):
    """A connection to one of QEMU's sockets."""
    directory = os.open(out, os.O_PATH) # for the path of a socket must be short
    try:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"/proc/self/fd/{directory}/{name}")
        return connection
    finally:
        os.close(directory)


def until_quiet(console):
    said = b""
    end = time.monotonic() + 20
    console.settimeout(2)
    while time.monotonic() < end:
        try:
            more = console.recv(65536)
        except TimeoutError:
            break
        if not more: # QEMU has ended
            break
        said += more
    return said
