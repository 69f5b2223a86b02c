# SPDX-License-Identifier: MIT
"""What the conformance suites taught, written from the man pages: calls.py DIRECTORY"""
import ctypes
import errno as E
import fcntl
import os
import random
import resource
import stat
import struct
import sys
import threading

from helpers import (KEEP_SIZE, PUNCH_HOLE, check, equal, fails, fallocate, getdents, libc, read_file,
                     write_file)

O_TMPFILE = os.O_TMPFILE
F_OFD_SETLK, F_OFD_GETLK = 37, 36
UNLINKED = int(os.environ.get("KVFS_UNLINKED", "5000"))


def link_descriptor(fd, path):
    follow = 0x400
    if libc.linkat(-100, b"/proc/self/fd/%d" % fd, -100, os.fsencode(path), follow):
        raise OSError(ctypes.get_errno(), path)


def test_a_file_without_a_name():
    os.mkdir("t")
    os.umask(0o027)
    fd = os.open("t", O_TMPFILE | os.O_RDWR, 0o666)
    os.umask(0o022)
    st = os.fstat(fd)
    equal((st.st_mode, st.st_nlink, st.st_size), (stat.S_IFREG | 0o640, 0, 0))
    os.write(fd, b"x" * 100_000)
    os.pwrite(fd, b"y", 50_000)
    os.fsync(fd)
    equal(os.listdir("t"), [])
    link_descriptor(fd, "t/named")
    equal(os.fstat(fd).st_nlink, 1)
    equal(read_file("t/named"), b"x" * 50_000 + b"y" + b"x" * 49_999)
    os.close(fd)
    fd = os.open("t", O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)  # never to be linked
    with fails(E.ENOENT):
        link_descriptor(fd, "t/again")
    os.close(fd)
    with fails(E.EINVAL):
        os.open("t", O_TMPFILE | os.O_RDONLY)
    # Names come and go while others are made and dropped.
    for _ in range(200):
        os.close(os.open("t", O_TMPFILE | os.O_RDWR))
    equal(os.listdir("t"), ["named"])


def test_time_of_birth():
    class Statx(ctypes.Structure):
        _fields_ = [("mask", ctypes.c_uint32), ("pad", ctypes.c_uint8 * 76),
                    ("sec", ctypes.c_int64), ("nsec", ctypes.c_uint32), ("rest", ctypes.c_uint8 * 200)]

    def birth(path):
        st = Statx()
        if libc.statx(-100, os.fsencode(path), 0x100, 0xfff, ctypes.byref(st)):
            raise OSError(ctypes.get_errno(), path)
        check(st.mask & 0x800, "no time of birth")
        return st.sec, st.nsec

    before = os.stat(".").st_ctime_ns
    write_file("born", b"1")
    first = birth("born")
    check(first[0] * 10**9 + first[1] >= before - 10**9, "born too early")
    os.utime("born", ns=(0, 0))
    os.rename("born", "reborn")
    os.link("reborn", "other")
    equal(birth("other"), first)
    os.symlink("x", "lb")
    for path in (".", "lb"):
        birth(path)


def test_times_of_all_centuries():
    write_file("times", b"")
    for sec in (-2**31, -1, 0, 2**31 - 1, 2**31, 2**32, 2**34 - 2**31 - 1):
        os.utime("times", ns=(sec * 10**9 + 123456789, sec * 10**9 + 987654321))
        st = os.stat("times")
        equal((st.st_atime_ns, st.st_mtime_ns), (sec * 10**9 + 123456789, sec * 10**9 + 987654321))


def test_many_attributes():
    write_file("attrs", b"")
    names = {f"user.{i:04}" for i in range(1000)}
    for i, name in enumerate(sorted(names)):
        os.setxattr("attrs", name, name.encode() * (i % 40))
    equal(set(os.listxattr("attrs")), names)
    for i, name in enumerate(sorted(names)):
        equal(os.getxattr("attrs", name), name.encode() * (i % 40))
    os.link("attrs", "attrs2")
    for name in sorted(names)[::2]:
        os.removexattr("attrs2", name)
    equal(set(os.listxattr("attrs")), set(sorted(names)[1::2]))
    # A list that nobody could read is refused.
    write_file("full", b"")
    count = 0
    try:
        while True:
            os.setxattr("full", f"user.{count:0245}", b"")
            count += 1
    except OSError as e:
        equal(e.errno, E.ENOSPC)
    equal(len(os.listxattr("full")), count)
    check(count >= 255, f"only {count} names of 250 bytes")


def test_far_offsets():
    fd = os.open("far", os.O_RDWR | os.O_CREAT)
    limit = 2**62
    try:
        os.pwrite(fd, b"end", 2**61)
        equal(os.pread(fd, 10, 2**61 - 2), b"\0\0end")
        equal(os.lseek(fd, 0, os.SEEK_DATA) >= 2**61 - 65536, True)
        os.ftruncate(fd, limit)
        equal(os.fstat(fd).st_size, limit)
        check(os.fstat(fd).st_blocks < 1000, "a hole takes space")
    except OSError as e:  # the kernel may allow less
        check(e.errno in (E.EFBIG, E.EINVAL), str(e))
    for off in (2**63 - 2, 2**63 - 1):
        for call in (lambda: os.pwrite(fd, b"xx", off), lambda: os.ftruncate(fd, off),
                     lambda: os.posix_fallocate(fd, off, 2)):
            try:
                call()
                check(False, f"no error at {off}")
            except OSError as e:
                check(e.errno in (E.EFBIG, E.EINVAL), str(e))
    equal(os.pread(fd, 1, 2**63 - 2), b"")
    os.close(fd)
    os.unlink("far")


def test_positions_while_the_directory_changes():
    os.mkdir("pos")
    stay = {f"stay{i:04}" for i in range(500)}
    for name in stay:
        write_file(f"pos/{name}", b"")
    for i in range(500):
        write_file(f"pos/go{i:04}", b"")
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.telldir.restype = ctypes.c_long
    d = ctypes.c_void_p(libc.opendir(b"pos"))
    seen, marks = [], []
    for i in range(10_000):
        marks.append(libc.telldir(d))
        e = libc.readdir(d)
        if not e:
            break
        seen.append(ctypes.string_at(e + 19).decode())
        if i % 3 == 0:
            for name in (f"go{i % 500:04}", f"go{(i * 7) % 500:04}"):
                if os.path.exists(f"pos/{name}"):
                    os.unlink(f"pos/{name}")
            write_file(f"pos/new{i}", b"")
    names = [n for n in seen if n.startswith("stay")]
    equal(sorted(names), sorted(stay))
    # Back to where an entry that is still there was.
    for at in range(2, len(seen), 97):
        if seen[at] not in stay:
            continue
        libc.seekdir(d, ctypes.c_long(marks[at]))
        e = libc.readdir(d)
        equal(ctypes.string_at(e + 19).decode(), seen[at])
    libc.closedir(d)


def test_every_position_leads_back_to_its_entry():
    """Whatever was asked for before: pages that end just there, the start again and again."""
    os.mkdir("seek")
    for i in range(1500):
        write_file("seek/" + "n" * (i * 7 % 60) + str(i), b"")
    fd = os.open("seek", os.O_RDONLY)
    entries, at = [], 0
    while True:  # each page is asked for where the last one ended
        page = getdents(fd, 3000)
        if not page:
            break
        for name, behind in page:
            entries.append((at, name))
            at = behind
    equal(len(entries), 1502)
    rng = random.Random(5)
    spots = [rng.randrange(len(entries)) for _ in range(600)]
    for i, spot in enumerate(spots):
        if i % 5 == 0:
            os.unlink("seek/" + entries[-1][1].decode())  # the kernel drops what it has listed
            write_file("seek/" + entries[-1][1].decode(), b"")
            os.lseek(fd, 0, os.SEEK_SET)
            equal(getdents(fd, 300)[0][0], entries[0][1])
        # Then behind the first entry that had no room in this page, or just where the page ends.
        for step in (i % 2, 0):
            os.lseek(fd, entries[spot][0], os.SEEK_SET)
            page = getdents(fd, 4096)
            equal(page[0][0], entries[spot][1], f"at {entries[spot][0]}:")
            spot += len(page) + step
            if spot >= len(entries):
                break
    os.close(fd)


def test_a_tree_is_removed_while_it_is_listed():
    os.mkdir("rm")
    for i in range(3000):
        write_file(f"rm/{i:05}", b"")
    with os.scandir("rm") as entries:
        for e in entries:
            os.unlink(e.path)
    os.rmdir("rm")


def in_children(count, work):
    pids = []
    for n in range(count):
        pid = os.fork()
        if not pid:
            status = 1
            try:
                work(n)
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    for pid in pids:
        equal(os.waitpid(pid, 0)[1], 0, "a child")


def test_sixteen_append():
    def append(n):
        fd = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for i in range(50):
            os.write(fd, f"{n:02} {i:03} {'z' * (n * 7)}\n".encode())
        os.close(fd)

    in_children(16, append)
    lines = read_file("log").decode().splitlines()
    equal(sorted(lines), sorted(f"{n:02} {i:03} {'z' * (n * 7)}"
                                for n in range(16) for i in range(50)))


def test_renames_race():
    """One name always stands for one of the files."""
    os.mkdir("race")
    for i in range(4):
        write_file(f"race/{i}", str(i).encode() * 100)
    write_file("race/target", b"0" * 100)

    def work(n):
        for i in range(100):
            if n < 4:
                write_file(f"race/tmp{n}", str(n).encode() * 100)
                os.rename(f"race/tmp{n}", "race/target")
            else:
                content = read_file("race/target")
                check(len(content) == 100 and len(set(content)) == 1, "a mixture")

    in_children(6, work)
    equal(sorted(os.listdir("race")), ["0", "1", "2", "3", "target"])


def test_directories_swap_under_each_other():
    os.makedirs("swap/a/x")
    os.makedirs("swap/b/y")

    def work(n):
        mine, its = (("a/x", "b/x"), ("b/y", "a/y"))[n % 2]
        for _ in range(100):
            for pair in ((mine, its), (its, mine)):
                os.rename(f"swap/{pair[0]}", f"swap/{pair[1]}")

    in_children(2, work)
    equal((os.listdir("swap/a"), os.listdir("swap/b")), (["x"], ["y"]))
    with fails(E.EINVAL):
        os.rename("swap/a", "swap/a/x/a")


def test_many_unlinked_files_stay_open():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(UNLINKED, hard - 100)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 100), hard))
    os.mkdir("gone")
    fds = []
    for i in range(count):
        fd = os.open(f"gone/{i}", os.O_RDWR | os.O_CREAT)
        os.write(fd, str(i).encode())
        fds.append(fd)
    for i in range(count):
        os.unlink(f"gone/{i}")
    os.rmdir("gone")
    for i in range(0, count, 97):
        equal(os.pread(fds[i], 100, 0), str(i).encode())
        equal(os.fstat(fds[i]).st_nlink, 0)
        os.pwrite(fds[i], b"!", 3000)
        equal(os.fstat(fds[i]).st_size, 3001)
    for fd in fds:
        os.close(fd)


def test_locks_of_descriptors_and_processes():
    write_file("lock", b"0" * 100)

    def ofd(fd, kind, start):
        lock = struct.pack("hhlll", kind, os.SEEK_SET, start, 10, 0)
        fcntl.fcntl(fd, F_OFD_SETLK, lock)

    one = os.open("lock", os.O_RDWR)
    two = os.open("lock", os.O_RDWR)
    ofd(one, fcntl.F_WRLCK, 0)
    with fails(E.EAGAIN):
        ofd(two, fcntl.F_WRLCK, 5)
    ofd(two, fcntl.F_WRLCK, 10)

    def other(_):
        fd = os.open("lock", os.O_RDWR)
        for take in (lambda: ofd(fd, fcntl.F_RDLCK, 0),
                     lambda: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 12),
                     lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)):
            try:
                take()
                check(False, "a lock that another holds")
            except OSError as e:
                check(e.errno in (E.EAGAIN, E.EACCES), str(e))

    fcntl.flock(one, fcntl.LOCK_EX)
    in_children(2, other)
    os.close(one)
    ofd(two, fcntl.F_WRLCK, 0)
    os.close(two)


def test_set_id_bits_go():
    """With write, truncate, fallocate and chown, of who may not set them."""
    def bits(act, uid=1000, mode=0o6777, groups=()):
        write_file("setid", b"x")
        os.chmod("setid", mode)

        def child(_):
            os.setgroups(groups)
            os.setgid(1000)
            os.setuid(uid)
            fd = os.open("setid", os.O_RDWR)
            act(fd)

        in_children(1, child)
        return os.stat("setid").st_mode & 0o7777

    equal(bits(lambda fd: os.write(fd, b"y")), 0o777)
    equal(bits(lambda fd: os.ftruncate(fd, 0)), 0o777)
    equal(bits(lambda fd: os.posix_fallocate(fd, 0, 100)), 0o777)
    # The set-group-id bit without group execution: who is in the group leaves it.
    for act in (lambda fd: os.write(fd, b"y"), lambda fd: os.ftruncate(fd, 0),
                lambda fd: os.posix_fallocate(fd, 0, 100),
                lambda fd: fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, 100)):
        equal(bits(act, mode=0o6766), 0o766)
        equal(bits(act, mode=0o2666), 0o666)
        equal(bits(act, mode=0o6766, groups=(os.getgid(),)), 0o2766)
    write_file("setid", b"x")
    os.chmod("setid", 0o6777)
    os.chown("setid", 5, 5)
    equal(os.stat("setid").st_mode & 0o7777, 0o777)


def test_an_open_without_access_time_leaves_it():
    write_file("quiet", b"x" * 5000)
    os.mkdir("quiet.d")
    write_file("quiet.d/f", b"")

    def atime_after(name, flags):
        os.utime(name, ns=(10**9, 2 * 10**9))
        fd = os.open(name, os.O_RDONLY | flags)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            os.listdir(fd)
        else:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.pread(fd, 10, 0)
        os.close(fd)
        return os.stat(name).st_atime_ns

    for name in ("quiet", "quiet.d"):
        equal(atime_after(name, os.O_NOATIME), 10**9, name)
        write_file(f"quiet.d/{name}", b"")  # a directory that changed is listed anew
        check(atime_after(name, 0) > 10**9, f"the access time of {name}")


def test_threads_share_a_descriptor():
    fd = os.open("threads", os.O_RDWR | os.O_CREAT | os.O_APPEND)

    def work(n):
        for i in range(50):
            os.write(fd, f"{n} {i}\n".encode())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(len(read_file("threads").splitlines()), 400)
    os.close(fd)


def main():
    os.chdir(sys.argv[1])
    os.umask(0o022)
    for name, test in sorted(globals().items()):
        if name.startswith("test_"):
            os.mkdir(name)
            os.chmod(name, 0o777)
            os.chdir(name)
            try:
                test()
            except OSError as e:
                raise SystemExit(f"FAILED: {name}: {e}") from e
            os.chdir("..")


main()
