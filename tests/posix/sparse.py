# SPDX-License-Identifier: MIT
"""Sparse files against a model of what they hold. Run twice by test_sparse.sh."""
import errno
import os
import random
import sys

from helpers import (KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, check, equal, fallocate, read_file,
                     write_file)

G, M, K = 1 << 30, 1 << 20, 1 << 10
SPOTS = (0, 1 * G - 7, 2 * G + 12_345, 4 * G - 1, 4 * G + 1, 5 * G - 10)


def write_five():
    fd = os.open("five", os.O_RDWR | os.O_CREAT)
    for spot in SPOTS:
        os.pwrite(fd, str(spot).encode().ljust(10), spot)
    equal(os.fstat(fd).st_size, 5 * G)
    check(os.fstat(fd).st_blocks * 512 < 2 * M, "a sparse file takes little space")
    os.close(fd)


def check_five():
    fd = os.open("five", os.O_RDONLY)
    # Two spots overlap by design: the later write wins.
    want = {}
    for spot in SPOTS:
        for i, byte in enumerate(str(spot).encode().ljust(10)):
            want[spot + i] = byte
    for at in sorted(want):
        equal(os.pread(fd, 1, at)[0], want[at], f"byte {at}:")
    for spot in SPOTS[1:]:
        equal(os.pread(fd, 4096, spot - 100_000), b"\0" * 4096)
    # Walking by SEEK_DATA and SEEK_HOLE meets every byte that was written, and little else.
    at, covered, seen = 0, 0, []
    while True:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, data, os.SEEK_HOLE)
        check(at > data, "data is followed by a hole")
        covered += at - data
        seen.append((data, at))
    for byte in want:
        check(any(a <= byte < b for a, b in seen), f"byte {byte} in what SEEK_DATA found")
    check(covered < 2 * M, f"SEEK_DATA found {covered} bytes")
    os.close(fd)


def write_random(seed):
    """Writes, holes, zeroed ranges and truncations, against a bytearray."""
    rng = random.Random(seed)
    model = bytearray()
    limit = 2 * M
    fd = os.open("random", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    for step in range(400):
        op = rng.choice(("write", "write", "punch", "zero", "zero-keep", "down", "up", "alloc"))
        off = rng.randrange(limit)
        length = rng.choice((1, 100, 4096, 65536, rng.randrange(1, 300_000)))
        end = off + length
        if op == "write":
            data = rng.randbytes(length)
            os.pwrite(fd, data, off)
            model.extend(b"\0" * max(0, end - len(model)))
            model[off:end] = data
        elif op in ("punch", "zero", "zero-keep"):
            mode = {"punch": PUNCH_HOLE | KEEP_SIZE, "zero": ZERO_RANGE,
                    "zero-keep": ZERO_RANGE | KEEP_SIZE}[op]
            fallocate(fd, mode, off, length)
            if op == "zero":
                model.extend(b"\0" * max(0, end - len(model)))
            stop = min(end, len(model))
            if off < stop:
                model[off:stop] = b"\0" * (stop - off)
        elif op == "alloc":
            fallocate(fd, 0, off, length)
            model.extend(b"\0" * max(0, end - len(model)))
        elif op == "down" and len(model):
            size = rng.randrange(len(model))
            os.ftruncate(fd, size)
            del model[size:]
        elif op == "up":
            size = len(model) + length
            if size < 2 * limit:
                os.ftruncate(fd, size)
                model.extend(b"\0" * length)
        equal(os.fstat(fd).st_size, len(model), f"seed {seed} step {step} {op}: size")
        if step % 20 == 0:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # ask the daemon, not the kernel
            check(os.pread(fd, 5 * limit, 0) == bytes(model), f"seed {seed} step {step} {op}")
    os.close(fd)
    with open(sys.argv[3], "wb") as f:
        f.write(model)


def extents(fd):
    """[(begin, end)] of the data, as cp(1) finds it."""
    at, found = 0, []
    while True:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            equal(e.errno, errno.ENXIO)
            return found
        at = os.lseek(fd, data, os.SEEK_HOLE)
        check(at > data, "data is followed by a hole")
        found.append((data, at))


def check_blocks():
    """Holes are found in steps of a block, however they were made."""
    fd = os.open("blocks", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    fallocate(fd, 0, 0, 4 * M)
    equal(extents(fd), [], "allocated and not written:")
    for page in range(14):  # of the 16 of a chunk
        os.pwrite(fd, b"p" * 4096, page * 4096)
    os.pwrite(fd, b"x" * 4096, 1 * M + 8192)
    os.pwrite(fd, b"y" * 40_960, 2 * M + 12_288)
    equal(extents(fd), [(0, 14 * 4096), (1 * M + 8192, 1 * M + 12_288),
                        (2 * M + 12_288, 2 * M + 53_248)])
    equal(os.lseek(fd, 100, os.SEEK_DATA), 100)
    equal(os.lseek(fd, 60_000, os.SEEK_HOLE), 60_000)
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 4096, 8192)
    equal(extents(fd)[:2], [(0, 4096), (3 * 4096, 14 * 4096)], "punched:")
    os.ftruncate(fd, 2 * M + 20_000)
    equal(extents(fd)[-1], (2 * M + 12_288, 2 * M + 20_000), "cut:")
    os.close(fd)
    # A copy by the daemon has the same holes and, here, no longer takes a search each piece.
    src = os.open("blocks", os.O_RDONLY)
    dst = os.open("copy", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    at = 0
    while (n := os.copy_file_range(src, dst, 8 * M, at, at)):
        at += n
    equal(at, 2 * M + 20_000)
    check(read_file("copy") == read_file("blocks"), "the copy")
    equal(extents(dst), extents(src))
    for fd in (src, dst):
        os.close(fd)


def check_truncation():
    """What is cut off does not come back."""
    write_file("cut", b"secret" * 50_000)
    for size in (299_999, 65_536, 65_535, 4097, 100, 1, 0):
        fd = os.open("cut", os.O_RDWR)
        os.ftruncate(fd, size)
        os.ftruncate(fd, 400_000)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        equal(os.pread(fd, 400_000, 0)[size:].count(0), 400_000 - size, f"after a cut to {size}:")
        os.close(fd)
    os.unlink("cut")


def main():
    os.chdir(sys.argv[1])
    if sys.argv[2] == "write":
        write_five()
        seed = int(os.environ.get("SEED", 0)) or random.SystemRandom().randrange(1, 1 << 31)
        print("seed", seed)
        write_random(seed)
        check_truncation()
        check_blocks()
    else:
        with open(sys.argv[3], "rb") as f:
            check(read_file("random") == f.read(), "the random file after a remount")
    check_five()


main()
