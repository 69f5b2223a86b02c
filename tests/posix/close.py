# SPDX-License-Identifier: MIT
"""Open files as transactions, call by call: sys.argv[1] is a mount with txn=close."""

import errno
import mmap
import os
import sys
import threading

os.chdir(sys.argv[1])
TRUNC = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def write(name, data):
    with open(name, "wb", buffering=0) as f:
        f.write(data)


def read(name):
    with open(name, "rb") as f:
        return f.read()


def expect(got, want, what):
    if got != want:
        sys.exit("FAILED: %s: %.60r, not %.60r" % (what, got, want))


def fails(want, what, call):
    try:
        call()
    except OSError as e:
        expect(errno.errorcode[e.errno], want, what)
    else:
        sys.exit("FAILED: %s works" % what)


# The writer sees its own; others the old, also through a descriptor that was open before.
write("f", b"old")
reader = os.open("f", os.O_RDONLY)
fd = os.open("f", os.O_RDWR | os.O_TRUNC)
expect(os.fstat(fd).st_size, 0, "the writer's size")
os.write(fd, b"new contents")
expect(os.fstat(fd).st_size, 12, "the writer's size")
expect(os.pread(fd, 100, 0), b"new contents", "the writer's bytes")
expect(os.lseek(fd, 0, os.SEEK_END), 12, "the writer's end")
expect(os.pread(reader, 100, 0), b"old", "an old descriptor")
expect(os.lseek(reader, 0, os.SEEK_END), 3, "a reader's end")
pid = os.fork()
if pid == 0:
    ok = os.stat("f").st_size == 3 and read("f") == b"old"
    os._exit(0 if ok else 1)  # which closes the writer's descriptor in this process
expect(os.waitpid(pid, 0)[1], 0, "another process sees the old")
expect(os.pread(reader, 100, 0), b"old", "the end of a child is not the end")
os.close(fd)
expect(os.pread(reader, 100, 0), b"new contents", "an old descriptor, afterwards")
expect(os.stat("f").st_size, 12, "the size, afterwards")
os.close(reader)

# dup and an inherited descriptor: the last close counts.
fd = os.open("f", TRUNC)
other = os.dup(fd)
os.write(fd, b"one")
os.close(fd)
expect(read("f"), b"new contents", "the first close of two")
os.write(other, b"two")
os.close(other)
expect(read("f"), b"onetwo", "the last close")

# fsync commits what is there; what follows is the next transaction.
fd = os.open("f", TRUNC)
os.write(fd, b"synced")
os.fsync(fd)
expect(read("f"), b"synced", "after fsync")
os.write(fd, b" more")
expect(read("f"), b"synced", "after fsync and a write")
os.close(fd)
expect(read("f"), b"synced more", "after fsync and close")

# Sizes.
fd = os.open("f", os.O_RDWR)
os.ftruncate(fd, 6)
os.ftruncate(fd, 10)
expect(os.pread(fd, 20, 0), b"synced\0\0\0\0", "cut and grown")
expect(read("f"), b"synced more", "cut and grown, for others")
os.posix_fallocate(fd, 0, 20)
os.close(fd)
expect(read("f"), b"synced" + bytes(14), "cut and grown, afterwards")
os.truncate("f", 3)
expect(read("f"), b"syn", "truncate(2) is a transaction of its own")

# O_SYNC writes are not held back.
fd = os.open("f", os.O_WRONLY | os.O_SYNC)
os.write(fd, b"S")
expect(read("f"), b"Syn", "O_SYNC")
os.close(fd)

# Two writers.
write("f", b"0")
a, b = os.open("f", TRUNC), os.open("f", TRUNC)
os.write(a, b"a long value")
os.write(b, b"b")
os.close(a)
expect(read("f"), b"a long value", "the first of two")
os.close(b)
expect(read("f"), b"b", "the second of two")
a, b = (os.open("f", os.O_WRONLY | os.O_APPEND) for _ in "ab")
os.write(a, b"a")
os.write(b, b"B")
os.write(a, b"a")
os.close(b)
os.close(a)
expect(read("f"), b"bBaa", "two that append")

# Names: renamed, unlinked, linked while open. A new file is there for its makers.
fd = os.open("new", TRUNC | os.O_EXCL)
os.write(fd, b"whole")
expect("new" in os.listdir("."), False, "a new file in a listing")
expect(os.stat("new").st_size, 5, "a new file for its maker")
os.rename("new", "f")
expect(read("f"), b"whole", "renamed before the close")
os.write(fd, b"!")
os.unlink("f")
os.close(fd)
fails("ENOENT", "an unlinked file", lambda: os.stat("f"))
fd = os.open("new", TRUNC)
os.unlink("new")
os.write(fd, b"x")
os.close(fd)
fails("ENOENT", "a new file that was unlinked", lambda: os.stat("new"))
os.mkdir("d")
fd = os.open("d/f", TRUNC)
fails("ENOTEMPTY", "removing the directory of a new file", lambda: os.rmdir("d"))
os.close(fd)
expect(os.listdir("d"), ["f"], "the directory of a new file")
before = os.stat("d").st_mtime_ns
os.close(os.open("d/g", TRUNC))
expect(os.stat("d").st_mtime_ns > before, True, "the time of a directory")
expect(sorted(os.listdir("d")), ["f", "g"], "two new files")

# Attributes and times that were set meanwhile stay.
fd = os.open("f", TRUNC, 0o600)
os.write(fd, b"x")
os.utime(fd, ns=(5 * 10**9, 7 * 10**9))
os.fchmod(fd, 0o640)
os.setxattr("f", "user.k", b"v")
os.close(fd)
st = os.stat("f")
expect((st.st_mtime_ns, st.st_mode & 0o777), (7 * 10**9, 0o640), "times and mode")
expect(os.getxattr("f", "user.k"), b"v", "an attribute")

# Mappings: private ones show what all see, shared ones are refused.
write("f", b"mapped")
fd = os.open("f", os.O_RDWR)
fails("ENODEV", "a shared mapping", lambda: mmap.mmap(fd, 6, mmap.MAP_SHARED))
private = mmap.mmap(fd, 6, mmap.MAP_PRIVATE)
os.pwrite(fd, b"MAP", 0)
expect(private[:], b"mapped", "a private mapping")
private.close()  # which has a descriptor of its own
os.close(fd)
expect(read("f"), b"MAPped", "after a mapping")

# Readers and writers at once: never anything but a whole value.
values = [bytes([65 + i]) * (1 + 3000 * i) for i in range(8)]
write("f", values[0])
stop = False


def writer():
    for i in range(60):
        fd = os.open("f", TRUNC)
        data = values[i % 8]
        for off in range(0, len(data), 4000):
            os.write(fd, data[off : off + 4000])
        os.close(fd)


def check():
    while not stop:
        fd = os.open("f", os.O_RDONLY)
        data = os.read(fd, 1 << 20)
        os.close(fd)
        if data not in values:
            bad.append(data)


bad = []
readers = [threading.Thread(target=check) for _ in range(2)]
writers = [threading.Thread(target=writer) for _ in range(2)]
for t in readers + writers:
    t.start()
for t in writers:
    t.join()
stop = True
for t in readers:
    t.join()
expect(len(bad), 0, "a value that was never written")
