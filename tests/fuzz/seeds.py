#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Writes the first inputs of a fuzz target into a directory: seeds.py TARGET DIRECTORY."""
import pathlib
import struct
import sys


def decode():
    """abi, position, shape, indirect segments, sectors, then an entry and a page of segments:
    honest requests of each kind, on disks that offer everything."""
    def segments(count):
        return b"".join(struct.pack("<IBBH", 9 + i, 0, 7, 0) for i in range(count))

    for abi, pad in ((0, 4), (1, 0), (2, 4)):
        entry_bytes = 108 if abi == 1 else 112
        entries = [struct.pack(f"<BBH{pad}xQQ", op, count, 0, 0x1234, 8) + segments(count)
                   for op in range(7) for count in (0, 1, 11)]
        entries += [struct.pack(f"<BBH{pad}xQQQ", 5, flag, 0, 0x1234, 8, 64) for flag in (0, 1)]
        entries += [struct.pack(f"<BBH{pad}xQQHxxI", 6, op, count, 0x1234, 8, 0, 77)
                    for op in range(4) for count in (1, 40)]
        for entry in entries:
            for shape in (0, 3, 4, 24, 27):
                head = struct.pack("<BBBHQ", abi, 31, shape, 256, 1 << 20)
                yield head + entry.ljust(entry_bytes, b"\0") + segments(40)


def abi():
    """A start index, then one byte per step: slot in the upper half, what happens in the lower."""
    everyone = range(8)
    life = bytes([*(s << 4 for s in everyone), *(s << 4 | 3 for s in everyone), 15,
                  *(s << 4 | 2 for s in everyone)])
    for start in (0, 0xFFFFFFF0):
        head = struct.pack("<I", start)
        yield head + life * 3
        yield head + life[:8] + bytes([0x03, 0x03, 15, 0x11, 0x13, 15])        # twice; taken back
        yield head + life[:8] + bytes([0x06, 0, 1, 0x16, 4, 1, 0x26, 11, 128, 15])  # nearly honest
        for result in (0, 1, -4095, -4096):
            yield head + life[:8] + b"\x07" + struct.pack("<h", result) + bytes([15])
        yield head + bytes([5]) + struct.pack("<I", (start + 257) % (1 << 32)) + bytes([15])
        yield head + bytes([4]) + struct.pack("<BBHIiIQQ", 1, 0, 3, 1, -5, 0, 0, 0) + bytes([15])


def control():
    """What tap-ctl sends, and what it must never be able to send."""
    yield b'{"cmd":"stats"}\n'
    yield b'{"cmd":"version"}\n{"cmd":"stats"}\n'
    yield b'{"cmd":"st\\u0061ts","more":{"a":[1,2.5e3,{"b":null}]}}\n'
    yield b"[" * 64 + b"\n"
    yield b'\xff\xfe{"cmd":"\xff"}\n'


def options():
    """Argument files of tapdisk, one argument per line."""
    yield b"--vbd\nvbd-1-51712\n--image\n/srv/a b.img\n--read-only"
    yield b"--vbd\nvbd-1-51712\n--image\n/x\n--engine\nlibaio\n--direct\noff\n--window\nfault"
    yield b"--vbd=vbd-1-768\n--image=/=\n--vm\n00000000-0000-0000-0000-000000000000\n--cdrom"
    yield b"--help"
    yield b"--version"


def main():
    target, directory = sys.argv[1], pathlib.Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    makers = {maker.__name__: maker for maker in (decode, abi, control, options)}
    for number, seed in enumerate(makers[target.removesuffix("_fuzz")]()):
        (directory / f"seed-{number:03}").write_bytes(seed)


if __name__ == "__main__":
    main()
