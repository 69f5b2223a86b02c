# SPDX-License-Identifier: MIT
"""Direct and buffered input and output of one file at once: a write that has ended is seen by
all, also if it was asynchronous (io_submit(2))."""
import ctypes
import fcntl
import mmap
import os
import struct
import sys
import time

from helpers import _call, check, equal, libc

IO_SETUP, IO_DESTROY, IO_GETEVENTS, IO_SUBMIT = 206, 207, 208, 209
PWRITE = 1
SIZE, PIECE = 640 << 10, 64 << 10


class Aio:
    """A queue of asynchronous writes."""

    def __init__(self, depth):
        self.context = ctypes.c_ulong(0)
        _call(libc.syscall(IO_SETUP, depth, ctypes.byref(self.context)))

    def write_all(self, fd, buffer, pieces):
        """Submit a write for each piece at once, and wait until all have ended."""
        address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        blocks = [ctypes.create_string_buffer(
            struct.pack("=QIIHhIQQqQII", i, 0, 0, PWRITE, 0, fd, address + off, length, off, 0, 0,
                        0), 64) for i, (off, length) in enumerate(pieces)]
        array = (ctypes.c_void_p * len(blocks))(*[ctypes.addressof(b) for b in blocks])
        equal(_call(libc.syscall(IO_SUBMIT, self.context, len(blocks), array)), len(blocks))
        events = ctypes.create_string_buffer(32 * len(blocks))
        got = 0
        while got < len(blocks):
            n = _call(libc.syscall(IO_GETEVENTS, self.context, 1, len(blocks) - got, events, None))
            for k in range(n):
                _, _, result, _ = struct.unpack_from("=QQqq", events.raw, 32 * k)
                equal(result, PIECE)
            got += n

    def close(self):
        _call(libc.syscall(IO_DESTROY, self.context))


def read_for_ever(name):
    fd = os.open(name, os.O_RDONLY)
    while True:
        os.pread(fd, SIZE, 0)


def toggle():
    """Writes end although another process sets and clears O_DIRECT of their descriptor.

    Each is a part of a page that the kernel has not, which it keeps locked until the answer.
    """
    fd = os.open("toggled", os.O_RDWR | os.O_CREAT)
    flipper = os.fork()
    if not flipper:
        while True:
            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT)
            fcntl.fcntl(fd, fcntl.F_SETFL, 0)
    try:
        for i in range(4000):
            equal(os.pwrite(fd, bytes([1 + i % 255]) * 512, 4096 * i), 512)
    finally:
        os.kill(flipper, 9)
        os.waitpid(flipper, 0)
    os.close(fd)
    with open("toggled", "rb") as f:
        for i in range(4000):
            f.seek(4096 * i)
            equal(f.read(512), bytes([1 + i % 255]) * 512)


def main():
    os.chdir(sys.argv[1])
    toggle()
    fd = os.open("both", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    os.ftruncate(fd, SIZE)
    readers = []
    for _ in range(2):
        pid = os.fork()
        if not pid:
            read_for_ever("both")
        readers.append(pid)
    aio = Aio(16)
    buffer = mmap.mmap(-1, SIZE)
    buffered = os.open("both", os.O_RDONLY)
    end = time.monotonic() + float(sys.argv[2])
    rounds = 0
    try:
        while time.monotonic() < end:
            byte = bytes([1 + rounds % 255])
            buffer[:] = byte * SIZE
            if rounds % 4 == 3:  # the program waits
                equal(os.pwritev(fd, [buffer], 0), SIZE)
            else:
                aio.write_all(fd, buffer, [(off, PIECE) for off in range(0, SIZE, PIECE)])
            got = os.pread(buffered, SIZE, 0)
            check(got == byte * SIZE, f"round {rounds}: {SIZE - got.count(byte)} bytes are old")
            rounds += 1
    finally:
        for pid in readers:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
    aio.close()
    check(rounds > 10, f"only {rounds} rounds")
    print(rounds, "rounds")


main()
