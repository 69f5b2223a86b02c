# SPDX-License-Identifier: MIT
"""Every operation on a mounted volume, with what it must refuse. Run by test_basic.sh as root."""
import errno as E
import mmap
import os
import socket
import stat
import sys
import time

from helpers import (KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, RENAME_EXCHANGE, RENAME_NOREPLACE,
                     RENAME_WHITEOUT, ZERO_RANGE, check, equal, fails, fallocate, getdents,
                     read_file, renameat2, write_file)


def as_user(uid, gid, work):
    """Run work() in a child of another user; its SystemExit is ours."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            work()
            status = 0
        except SystemExit as e:
            print(e, file=sys.stderr)
        finally:
            os._exit(status)
    check(os.waitpid(pid, 0)[1] == 0, f"as user {uid}")


def test_lookup_and_getattr():
    with fails(E.ENOENT):
        os.stat("absent")
    with fails(E.ENOENT):
        os.stat("absent")  # the miss is remembered by the kernel now
    write_file("absent", b"x")
    equal(os.stat("absent").st_size, 1)
    with fails(E.ENOTDIR):
        os.stat("absent/below")
    with fails(E.ENAMETOOLONG):
        os.stat("n" * 256)
    os.unlink("absent")
    with fails(E.ENOENT):
        os.stat("absent")
    root = os.stat(".")
    equal(root.st_ino, 1)
    check(stat.S_ISDIR(root.st_mode), "root is a directory")


def test_create_open_modes():
    fd = os.open("f", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
    os.write(fd, b"hello")
    os.close(fd)
    st = os.stat("f")
    equal((st.st_mode & 0o7777, st.st_size, st.st_nlink, st.st_uid), (0o640, 5, 1, os.getuid()))
    with fails(E.EEXIST):
        os.open("f", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    with fails(E.EISDIR):
        os.open(".", os.O_RDWR)
    with fails(E.ENOTDIR):
        os.open("f", os.O_RDONLY | os.O_DIRECTORY)
    with fails(E.ENOENT):
        os.open("nodir/f", os.O_RDWR | os.O_CREAT)
    with fails(E.ENOTDIR):
        os.open("f/g", os.O_RDWR | os.O_CREAT)
    with fails(E.ENAMETOOLONG):
        os.open("n" * 256, os.O_RDWR | os.O_CREAT)
    fd = os.open("f", os.O_WRONLY | os.O_TRUNC)
    equal(os.fstat(fd).st_size, 0)
    os.close(fd)
    fd = os.open("ro", os.O_CREAT | os.O_RDWR, 0o400)  # the mode is for later opens
    equal(os.write(fd, b"abc"), 3)
    os.close(fd)
    equal(read_file("ro"), b"abc")


def test_read_write():
    fd = os.open("data", os.O_RDWR | os.O_CREAT)
    equal(os.pread(fd, 10, 0), b"")
    equal(os.pwrite(fd, b"tail", 100_000), 4)
    equal(os.fstat(fd).st_size, 100_004)
    equal(os.pread(fd, 10, 99_998), b"\0\0tail")
    equal(os.pread(fd, 10, 100_004), b"")
    equal(os.pread(fd, 10, 1 << 40), b"")
    os.close(fd)
    fd = os.open("data", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"+more")
    os.close(fd)
    equal(read_file("data")[-9:], b"tail+more")
    block = os.urandom(3 << 20)
    write_file("big", block)
    equal(read_file("big"), block)
    fd = os.open("big", os.O_RDWR)
    os.pwrite(fd, b"X" * 5000, 1_000_001)
    os.close(fd)
    block = block[:1_000_001] + b"X" * 5000 + block[1_005_001:]
    equal(read_file("big"), block)
    fd = os.open("big", os.O_RDONLY)
    with fails(E.EBADF):
        os.write(fd, b"x")
    os.close(fd)
    with fails(E.EISDIR):
        os.read(os.open(".", os.O_RDONLY), 10)
    with fails(E.EFBIG):
        os.truncate("data", (1 << 63) - 1)
    fd = os.open("data", os.O_WRONLY)
    with fails(E.EFBIG):
        os.pwrite(fd, b"x", (1 << 63) - 2)
    os.close(fd)


def test_direct_and_sync_and_mmap():
    fd = os.open("sync", os.O_RDWR | os.O_CREAT | os.O_SYNC)
    os.write(fd, b"durable")
    os.close(fd)
    fd = os.open("dsync", os.O_RDWR | os.O_CREAT | os.O_DSYNC)
    os.write(fd, b"durable")
    os.fdatasync(fd)
    os.fsync(fd)
    os.close(fd)
    fd = os.open("direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    page = mmap.mmap(-1, 4096)
    page[:] = b"d" * 4096
    equal(os.write(fd, page), 4096)
    os.close(fd)
    equal(read_file("direct"), b"d" * 4096)
    write_file("mapped", b"\0" * 10_000)
    fd = os.open("mapped", os.O_RDWR)
    with mmap.mmap(fd, 10_000) as m:
        m[5000:5005] = b"hello"
        m.flush()
    os.close(fd)
    equal(read_file("mapped")[4998:5007], b"\0\0hello\0\0")
    fd = os.open(".", os.O_RDONLY)
    os.fsync(fd)  # fsyncdir
    os.close(fd)


def test_unlinked_file_lives_while_open():
    fd = os.open("gone", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"a" * 200_000)
    os.unlink("gone")
    with fails(E.ENOENT):
        os.stat("gone")
    equal(os.fstat(fd).st_nlink, 0)
    os.pwrite(fd, b"b", 199_999)
    equal(os.pread(fd, 3, 199_998), b"ab")
    os.ftruncate(fd, 10)
    equal(os.fstat(fd).st_size, 10)
    write_file("gone", b"another")  # the name is free
    equal(os.pread(fd, 20, 0), b"a" * 10)
    os.close(fd)
    equal(read_file("gone"), b"another")


def test_setattr():
    write_file("attr", b"0123456789")
    os.chmod("attr", 0o4755)
    equal(os.stat("attr").st_mode & 0o7777, 0o4755)
    os.chown("attr", 1000, 2000)
    st = os.stat("attr")
    equal((st.st_uid, st.st_gid, st.st_mode & 0o7777), (1000, 2000, 0o755), "chown and set-id:")
    os.utime("attr", ns=(1_000_000_000_123_456_789, 2_000_000_000_987_654_321))
    st = os.stat("attr")
    equal((st.st_atime_ns, st.st_mtime_ns), (1_000_000_000_123_456_789, 2_000_000_000_987_654_321))
    os.utime("attr", ns=(-86_400_000_000_000, -1_000_000_000))  # before 1970
    equal(os.stat("attr").st_mtime_ns, -1_000_000_000)
    before = time.time_ns() - 50_000_000
    os.utime("attr")
    check(before <= os.stat("attr").st_mtime_ns <= time.time_ns() + 50_000_000, "utime(now)")
    before = os.stat("attr").st_ctime_ns
    time.sleep(0.02)
    os.chmod("attr", 0o600)
    check(os.stat("attr").st_ctime_ns > before, "chmod moves ctime")
    os.truncate("attr", 4)
    equal(read_file("attr"), b"0123")
    os.truncate("attr", 8)
    equal(read_file("attr"), b"0123\0\0\0\0")
    with fails(E.EISDIR):
        os.truncate(".", 0)


def test_set_id_bits_go_when_another_user_writes():
    write_file("setid", b"x" * 10)
    os.chown("setid", 0, 0)
    for mode in (0o6777, 0o2767):
        os.chmod("setid", mode)

        def write_some():
            fd = os.open("setid", os.O_WRONLY)
            os.write(fd, b"y")
            os.close(fd)
        # A member of the group keeps its bit if the group may not execute; a stranger never.
        for gid in (65534, 0):
            want = mode & 0o777 | (0o2000 if gid == 0 and not mode & 0o010 else 0)
            os.chmod("setid", mode)
            as_user(65534, gid, write_some)
            equal(os.stat("setid").st_mode & 0o7777, want, "after a write by nobody, group %d:" % gid)
            os.chmod("setid", mode)
            as_user(65534, gid, lambda: os.truncate("setid", 5))
            equal(os.stat("setid").st_mode & 0o7777, want, "after a truncation by nobody, group %d:" % gid)
    os.chmod("setid", 0o6777)
    fd = os.open("setid", os.O_WRONLY)
    os.write(fd, b"z")  # root keeps them
    os.close(fd)
    equal(os.stat("setid").st_mode & 0o7777, 0o6777, "after a write by root:")


def test_permissions():
    write_file("private", b"secret", 0o600)
    os.mkdir("closed", 0o700)
    os.mkdir("sticky")
    os.chmod("sticky", 0o1777)
    write_file("sticky/roots", b"x")

    def try_it():
        with fails(E.EACCES):
            os.open("private", os.O_RDONLY)
        with fails(E.EACCES):
            os.listdir("closed")
        with fails(E.EACCES):
            os.open("new", os.O_CREAT | os.O_WRONLY)
        with fails(E.EACCES):
            os.rename("private", "elsewhere")
        with fails(E.EPERM):
            os.chmod("private", 0o666)
        with fails(E.EPERM):
            os.chown("private", 65534, 65534)
        with fails(E.EPERM):
            os.unlink("sticky/roots")
        check(not os.access("private", os.R_OK), "access(2) tells the truth")
        write_file("sticky/mine", b"mine")
        st = os.stat("sticky/mine")
        equal((st.st_uid, st.st_gid), (65534, 65534))
    as_user(65534, 65534, try_it)
    check(os.access("private", os.R_OK | os.W_OK), "access(2) for root")


def test_mkdir_rmdir():
    os.mkdir("d", 0o750)
    st = os.stat("d")
    equal((st.st_mode, st.st_nlink), (stat.S_IFDIR | 0o750, 2))
    links = os.stat(".").st_nlink
    os.mkdir("d/e")
    equal(os.stat("d").st_nlink, 3)
    equal(os.stat(".").st_nlink, links)
    with fails(E.EEXIST):
        os.mkdir("d")
    with fails(E.ENOTEMPTY):
        os.rmdir("d")
    with fails(E.EISDIR):
        os.unlink("d")
    write_file("d/f", b"")
    with fails(E.ENOTDIR):
        os.rmdir("d/f")
    with fails(E.ENOENT):
        os.rmdir("d/absent")
    with fails(E.EINVAL):
        os.rmdir("d/.")
    with fails(E.ENOTEMPTY):
        os.rmdir("d/e/..")
    with fails(E.ENAMETOOLONG):
        os.mkdir("n" * 256)
    os.mkdir("left")
    here = os.open("left", os.O_RDONLY)
    os.rmdir("left")
    with fails(E.ENOENT):
        os.open("in", os.O_CREAT | os.O_WRONLY, dir_fd=here)
    equal(os.listdir(here), [])
    os.close(here)
    os.mkdir("group")
    os.chown("group", 0, 4242)
    os.chmod("group", 0o2755)
    write_file("group/f", b"")
    os.mkdir("group/d")
    equal((os.stat("group/f").st_gid, os.stat("group/d").st_gid), (4242, 4242))
    check(os.stat("group/d").st_mode & stat.S_ISGID, "set-group-id is inherited by directories")


def test_special_files():
    os.mkfifo("fifo", 0o600)
    check(stat.S_ISFIFO(os.stat("fifo").st_mode), "fifo")
    os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    st = os.stat("null")
    equal((os.major(st.st_rdev), os.minor(st.st_rdev)), (1, 3))
    with open("null", "rb") as f:  # dev is allowed by default for root
        equal(f.read(1), b"")
    os.mknod("block", stat.S_IFBLK | 0o600, os.makedev(259, 1_000_000))
    st = os.stat("block")
    equal((os.major(st.st_rdev), os.minor(st.st_rdev)), (259, 1_000_000))
    os.mknod("regular", stat.S_IFREG | 0o600)
    equal(os.stat("regular").st_size, 0)
    s = socket.socket(socket.AF_UNIX)
    s.bind("socket")
    s.close()
    check(stat.S_ISSOCK(os.stat("socket").st_mode), "socket")
    with fails(E.EEXIST):
        os.mkfifo("fifo")


def test_symlinks():
    write_file("target", b"found")
    os.symlink("target", "link")
    equal(os.readlink("link"), "target")
    equal(read_file("link"), b"found")
    st = os.lstat("link")
    equal((stat.S_ISLNK(st.st_mode), st.st_size), (True, 6))
    os.symlink("nowhere", "dangling")
    with fails(E.ENOENT):
        os.stat("dangling")
    os.symlink("loop", "loop")
    with fails(E.ELOOP):
        os.stat("loop")
    with fails(E.EEXIST):
        os.symlink("x", "link")
    with fails(E.EINVAL):
        os.readlink("target")
    long = "l/" * 2047 + "x"
    os.symlink(long, "long")
    equal(os.readlink("long"), long)
    with fails(E.ENAMETOOLONG):
        os.symlink("x" * 4096, "too-long")
    os.chown("link", 7, 8, follow_symlinks=False)
    equal((os.lstat("link").st_uid, os.stat("target").st_uid), (7, 0))
    os.symlink(b"\xff\x01bytes", b"raw")
    equal(os.readlink(b"raw"), b"\xff\x01bytes")


def test_hard_links():
    write_file("one", b"shared")
    os.link("one", "two")
    os.mkdir("links")
    os.link("two", "links/three")
    equal({os.stat(p).st_ino for p in ("one", "two", "links/three")}, {os.stat("one").st_ino})
    equal(os.stat("two").st_nlink, 3)
    write_file("two", b"changed")
    equal(read_file("links/three"), b"changed")
    os.unlink("one")
    equal((os.stat("two").st_nlink, read_file("two")), (2, b"changed"))
    with fails(E.EPERM):
        os.link("links", "dirlink")
    with fails(E.EEXIST):
        os.link("two", "links/three")
    with fails(E.ENOENT):
        os.link("one", "four")
    os.symlink("two", "sym")
    os.link("sym", "sym2", follow_symlinks=False)
    equal((os.readlink("sym2"), os.lstat("sym").st_nlink), ("two", 2))
    os.rename("two", "links/three")  # both are the same file: nothing happens
    equal((os.stat("two").st_nlink, os.stat("links/three").st_nlink), (2, 2))


def test_rename():
    write_file("a", b"A")
    write_file("b", b"B")
    renames = os.stat("a").st_ino
    os.rename("a", "b")
    equal((read_file("b"), os.stat("b").st_ino), (b"A", renames))
    with fails(E.ENOENT):
        os.rename("a", "c")
    os.mkdir("dir")
    os.mkdir("dir/sub")
    write_file("dir/sub/file", b"deep")
    os.rename("dir", "moved")
    equal(read_file("moved/sub/file"), b"deep")
    os.mkdir("dir")  # the old name again
    equal(os.listdir("dir"), [])
    with fails(E.EINVAL):
        os.rename("moved", "moved/sub/inside")
    with fails(E.ENOTEMPTY):
        os.rename("dir", "moved")
    os.rename("moved", "dir")  # over an empty directory
    equal(read_file("dir/sub/file"), b"deep")
    with fails(E.EISDIR):
        os.rename("b", "dir")
    with fails(E.ENOTDIR):
        os.rename("dir", "b")
    with fails(E.ENAMETOOLONG):
        os.rename("b", "n" * 256)
    before = os.stat(".").st_nlink
    os.rename("dir/sub", "sub")
    equal(os.stat(".").st_nlink, before + 1)
    equal(os.stat("sub/..").st_ino, 1)
    os.rename("sub", "dir/sub")
    os.rename("b", "b")
    equal(read_file("b"), b"A")


def test_rename_flags():
    write_file("x", b"X")
    write_file("y", b"Y")
    with fails(E.EEXIST):
        renameat2("x", "y", RENAME_NOREPLACE)
    renameat2("x", "z", RENAME_NOREPLACE)
    renameat2("z", "y", RENAME_EXCHANGE)
    equal((read_file("z"), read_file("y")), (b"Y", b"X"))
    os.mkdir("xd")
    write_file("xd/in", b"in")
    renameat2("xd", "y", RENAME_EXCHANGE)  # a directory and a file
    equal((read_file("y/in"), read_file("xd")), (b"in", b"X"))
    with fails(E.ENOENT):
        renameat2("y", "absent", RENAME_EXCHANGE)
    with fails(E.EINVAL):
        renameat2("y", "y/in", RENAME_EXCHANGE)
    renameat2("xd", "w", RENAME_WHITEOUT)
    equal(read_file("w"), b"X")
    st = os.lstat("xd")
    equal((st.st_mode, st.st_rdev, st.st_nlink), (stat.S_IFCHR, 0, 1))
    os.rename("xd", "gone")  # an ordinary entry
    os.unlink("gone")
    with fails(E.EINVAL):
        renameat2("y", "w", RENAME_NOREPLACE | RENAME_EXCHANGE)


def test_readdir():
    os.mkdir("many")
    names = {f"file-{i:05d}" for i in range(3000)}
    for name in names:
        write_file("many/" + name, b"")
    equal(set(os.listdir("many")), names)
    equal(set(os.listdir("many")), names)  # from the kernel's cache
    with os.scandir("many") as entries:
        for entry in entries:
            check(entry.is_file(follow_symlinks=False), entry.name)
    # Removing while listing: what stays comes exactly once.
    seen = []
    with os.scandir("many") as entries:
        for n, entry in enumerate(entries):
            seen.append(entry.name)
            if n % 2:
                os.unlink("many/" + entry.name)
    equal(len(seen), len(set(seen)), "names twice:")
    equal(set(seen), names)
    equal(set(os.listdir("many")), set(seen[0::2]))
    os.mkdir("types")
    os.mkdir("types/dir")
    os.symlink("x", "types/link")
    os.mkfifo("types/fifo")
    with os.scandir("types") as entries:
        kinds = {e.name: (e.is_dir(follow_symlinks=False), e.is_symlink()) for e in entries}
    equal(kinds, {"dir": (True, False), "link": (False, True), "fifo": (False, False)})
    os.rename("types", "types2")
    equal(set(os.listdir("types2")), {"dir", "link", "fifo"})
    equal(os.stat("types2/dir/..").st_ino, os.stat("types2").st_ino)


def test_positions_in_directories():
    """A listing goes on where it was, whoever listed before and whatever was removed."""
    names = [f"entry-{i:04d}" for i in range(600)]
    for name in names:
        write_file(name, b"")

    def listing(fd, size, at_most=1 << 30):
        found = []
        while len(found) < at_most:
            batch = getdents(fd, size)
            if not batch:
                break
            found += batch
        return [(name, off) for name, off in found if name not in (b".", b"..")]

    first, second, third = (os.open(".", os.O_RDONLY) for _ in range(3))
    equal([n.decode() for n, _ in listing(first, 65536)], names)  # the kernel keeps it
    seen = {fd: [n.decode() for n, _ in listing(fd, 2048, 100)] for fd in (second, third)}
    for name in seen[second]:
        os.unlink(name)
    os.lseek(first, 0, os.SEEK_SET)
    getdents(first, 2048)  # the kernel drops what it had, and keeps the beginning of this
    seen[second] += [n.decode() for n, _ in listing(second, 2048)]
    equal(seen[second], names)
    listing(first, 65536)  # now it has all of it, without the name at which the third stands
    seen[third] += [n.decode() for n, _ in listing(third, 2048)]
    equal(seen[third], names)
    os.close(third)
    # Half of it is listed and remembered, then another handle takes over.
    rest = names[len(names) - len(os.listdir(".")):]
    third = os.open(".", os.O_RDONLY)
    write_file("zzz", b"")
    half = listing(third, 2048, 100)
    fourth = os.open(".", os.O_RDONLY)
    os.lseek(first, 0, os.SEEK_SET)
    for fd in (fourth, first):
        equal([n.decode() for n, _ in listing(fd, 3000)], rest + ["zzz"])
    # Back to a position, as seekdir(3) does.
    name, off = half[20]
    os.unlink(name)
    os.lseek(third, off, os.SEEK_SET)
    equal([n.decode() for n, _ in listing(third, 2048)], rest[21:] + ["zzz"])
    for fd in (first, second, third, fourth):
        os.close(fd)


def test_xattrs():
    write_file("x1", b"")
    os.setxattr("x1", "user.a", b"value")
    equal(os.getxattr("x1", "user.a"), b"value")
    os.setxattr("x1", "user.empty", b"")
    equal(os.getxattr("x1", "user.empty"), b"")
    with fails(E.EEXIST):
        os.setxattr("x1", "user.a", b"v", os.XATTR_CREATE)
    with fails(E.ENODATA):
        os.setxattr("x1", "user.b", b"v", os.XATTR_REPLACE)
    os.setxattr("x1", "user.a", b"new", os.XATTR_REPLACE)
    os.setxattr("x1", "trusted.t", b"\0\1\2")
    os.setxattr("x1", "security.s", b"sec")
    equal(set(os.listxattr("x1")), {"user.a", "user.empty", "trusted.t", "security.s"})
    with fails(E.ENODATA):
        os.getxattr("x1", "user.none")
    with fails(E.ENODATA):
        os.removexattr("x1", "user.none")
    with fails(E.EINVAL):
        os.setxattr("x1", "system.posix_acl_access", b"\2\0\0\0no list")
    with fails(E.EOPNOTSUPP):
        os.setxattr("x1", "system.other", b"")
    with fails(E.EOPNOTSUPP):
        os.setxattr("x1", "unknown.x", b"")
    for space in ("user.", "trusted.", "security."):
        with fails(E.EINVAL):
            os.setxattr("x1", space, b"")
        with fails(E.EINVAL):
            os.getxattr("x1", space)
        with fails(E.EINVAL):
            os.removexattr("x1", space)
    big = os.urandom(65536)
    os.setxattr("x1", "user.big", big)
    equal(os.getxattr("x1", "user.big"), big)
    with fails(E.E2BIG):
        os.setxattr("x1", "user.big", big + b"x")
    with fails(E.ERANGE):
        os.setxattr("x1", "user." + "n" * 251, b"")
    os.removexattr("x1", "user.big")
    os.chmod("x1", 0o644)
    as_user(65534, 65534, lambda: equal(
        set(os.listxattr("x1")), {"user.a", "user.empty", "security.s"}))
    os.mkdir("xd1")
    os.setxattr("xd1", "user.d", b"on a directory")
    os.symlink("x", "xl")
    os.setxattr("xl", "trusted.l", b"on a link", follow_symlinks=False)
    equal(os.getxattr("xl", "trusted.l", follow_symlinks=False), b"on a link")
    os.rename("x1", "x2")
    equal(os.getxattr("x2", "user.a"), b"new")
    os.link("x2", "x3")
    os.setxattr("x3", "user.both", b"1")
    equal(os.getxattr("x2", "user.both"), b"1")


def test_fallocate():
    fd = os.open("alloc", os.O_RDWR | os.O_CREAT)
    fallocate(fd, 0, 0, 300_000)
    equal(os.fstat(fd).st_size, 300_000)
    equal(os.pread(fd, 300_000, 0), b"\0" * 300_000)
    os.pwrite(fd, b"x" * 300_000, 0)
    fallocate(fd, KEEP_SIZE, 300_000, 100_000)
    equal(os.fstat(fd).st_size, 300_000)
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 1000, 200_000)
    equal(os.pread(fd, 300_000, 0), b"x" * 1000 + b"\0" * 200_000 + b"x" * 99_000)
    fallocate(fd, ZERO_RANGE, 299_000, 2000)
    equal(os.fstat(fd).st_size, 301_000)
    equal(os.pread(fd, 5000, 298_000), b"x" * 1000 + b"\0" * 2000)
    fallocate(fd, ZERO_RANGE | KEEP_SIZE, 0, 400_000)
    equal(os.pread(fd, 400_000, 0), b"\0" * 301_000)
    with fails(E.EOPNOTSUPP):
        fallocate(fd, COLLAPSE_RANGE, 0, 4096)
    with fails(E.EOPNOTSUPP):
        fallocate(fd, PUNCH_HOLE, 0, 4096)
    with fails(E.EINVAL):
        fallocate(fd, 0, 0, 0)
    os.close(fd)
    fd = os.open("alloc", os.O_RDONLY)
    with fails(E.EBADF):
        fallocate(fd, 0, 0, 10)
    os.close(fd)


def test_lseek():
    fd = os.open("holes", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"a" * 65536, 1 << 20)
    os.ftruncate(fd, 4 << 20)
    data = os.lseek(fd, 0, os.SEEK_DATA)
    check(0 < data <= 1 << 20, f"data at {data}")
    hole = os.lseek(fd, 1 << 20, os.SEEK_HOLE)
    check((1 << 20) + 65536 <= hole <= 2 << 20, f"hole at {hole}")
    equal(os.lseek(fd, 0, os.SEEK_HOLE), 0)
    with fails(E.ENXIO):
        os.lseek(fd, 3 << 20, os.SEEK_DATA)
    with fails(E.ENXIO):
        os.lseek(fd, 4 << 20, os.SEEK_HOLE)
    equal(os.lseek(fd, 3 << 20, os.SEEK_HOLE), 3 << 20)
    equal(os.lseek(fd, 0, os.SEEK_END), 4 << 20)
    os.close(fd)


def test_copy_file_range():
    data = os.urandom(1 << 20)
    write_file("src", data)
    src = os.open("src", os.O_RDONLY)
    dst = os.open("dst", os.O_RDWR | os.O_CREAT)
    done = 0
    while done < len(data):
        n = os.copy_file_range(src, dst, len(data) - done, done, done)
        check(n > 0, "copy_file_range makes progress")
        done += n
    equal(os.copy_file_range(src, dst, 10, len(data), 0), 0)
    equal(os.pread(dst, len(data), 0), data)
    equal(os.copy_file_range(src, dst, 1000, 12_345, 2 << 20), 1000)
    equal(os.pread(dst, 1001, 2 << 20), data[12_345:13_345])
    equal(os.copy_file_range(dst, dst, 5000, 0, 1 << 20), 5000)
    with fails(E.EINVAL):
        os.copy_file_range(dst, dst, 5000, 0, 100)  # they overlap
    os.close(src)
    os.close(dst)
    write_file("src", b"")  # the copy is its own
    equal(read_file("dst")[:1 << 20], data)


def test_times_of_directories():
    os.mkdir("t")
    before = os.stat("t")
    time.sleep(0.02)
    write_file("t/new", b"")
    after = os.stat("t")
    check(after.st_mtime_ns > before.st_mtime_ns, "create moves the directory's mtime")
    time.sleep(0.02)
    os.unlink("t/new")
    check(os.stat("t").st_mtime_ns > after.st_mtime_ns, "unlink moves the directory's mtime")
    write_file("w", b"1")
    before = os.stat("w").st_mtime_ns
    time.sleep(0.02)
    fd = os.open("w", os.O_WRONLY)
    os.write(fd, b"2")
    os.close(fd)
    check(os.stat("w").st_mtime_ns > before, "write moves mtime")


def test_statfs():
    st = os.statvfs(".")
    equal(st.f_namemax, 255)
    check(0 < st.f_bavail <= st.f_bfree <= st.f_blocks, "free space")
    check(st.f_frsize > 0 and st.f_ffree > 0, "block size and files")


def test_locks():
    import fcntl
    write_file("locked", b"")
    a, b = os.open("locked", os.O_RDWR), os.open("locked", os.O_RDWR)
    fcntl.flock(a, fcntl.LOCK_EX)
    with fails(E.EAGAIN):
        fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(a, fcntl.LOCK_UN)
    fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(a)
    os.close(b)


def main():
    os.chdir(sys.argv[1])
    os.umask(0o022)
    top = os.getcwd()
    for name, test in list(globals().items()):
        if not name.startswith("test_") or not callable(test):
            continue
        if len(sys.argv) > 2 and sys.argv[2] not in name:
            continue
        os.chdir(top)
        test_dir = name[len("test_"):]
        print(name, flush=True)
        if name in ROOT_TESTS:
            test()
            continue
        os.mkdir(test_dir)
        os.chdir(test_dir)
        test()
    print("done")


# They look at the root directory itself, and use names of their own.
ROOT_TESTS = {"test_lookup_and_getattr", "test_rename"}

if __name__ == "__main__":
    main()
