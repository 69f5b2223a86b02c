# SPDX-License-Identifier: MIT
"""What the tests through a mount share: expected errors, and system calls that Python lacks."""
import contextlib
import ctypes
import errno
import os
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE = 1, 2, 8, 16


def check(condition, what):
    if not condition:
        frame = sys._getframe(1)
        raise SystemExit(f"FAILED: {what} (line {frame.f_lineno})")


def equal(got, want, what=""):
    if got != want:
        frame = sys._getframe(1)
        raise SystemExit(f"FAILED: {what} got {got!r}, want {want!r} (line {frame.f_lineno})")


@contextlib.contextmanager
def fails(number, what=""):
    """The block must raise OSError with this errno."""
    try:
        yield
    except OSError as e:
        if e.errno == number:
            return
        raise SystemExit(
            f"FAILED: {what}: {errno.errorcode.get(e.errno, e.errno)} instead of "
            f"{errno.errorcode[number]} (line {sys._getframe(2).f_lineno})") from e
    raise SystemExit(
        f"FAILED: {what}: no error instead of {errno.errorcode[number]} "
        f"(line {sys._getframe(2).f_lineno})")


def _call(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def renameat2(old, new, flags):
    _call(libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new),
                         ctypes.c_uint(flags)))


def fallocate(fd, mode, offset, length):
    _call(libc.fallocate(fd, ctypes.c_int(mode), ctypes.c_long(offset), ctypes.c_long(length)))


def getdents(fd, size):
    """One getdents64(2): [(name, position behind it)]."""
    buf = ctypes.create_string_buffer(size)
    n = _call(libc.syscall(ctypes.c_long(217), ctypes.c_int(fd), buf, ctypes.c_size_t(size)))
    found, at = [], 0
    while at < n:
        _, off, length, _ = struct.unpack_from("=QqHB", buf, at)
        found.append((buf.raw[at + 19:at + length].split(b"\0", 1)[0], off))
        at += length
    return found


def write_file(path, data, mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
    finally:
        os.close(fd)


def read_file(path):
    with open(path, "rb", buffering=0) as f:
        return f.readall()


def tree_state(root):
    """Everything that must survive a remount, path by path."""
    state = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        for name in [b"."] + folders + files:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            entry = [st.st_ino, st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_rdev,
                     st.st_mtime_ns, st.st_ctime_ns, st.st_blocks]
            if not os.path.isdir(path) or os.path.islink(path):
                entry.append(st.st_size)
            if os.path.islink(path):
                entry.append(os.readlink(path))
            elif os.path.isfile(path):
                entry.append(read_file(path))
            entry.append({x: os.getxattr(path, x, follow_symlinks=False)
                          for x in os.listxattr(path, follow_symlinks=False)})
            state[os.path.relpath(path, os.fsencode(root))] = entry
    return state


def save_state(root, path):
    with open(path, "w", encoding="ascii") as f:
        f.write(repr(tree_state(root)))


def compare_state(root, path):
    with open(path, encoding="ascii") as f:
        before = f.read()
    after = tree_state(root)
    if before == repr(after):
        return
    import ast
    before = ast.literal_eval(before)
    for name in sorted(set(before) | set(after)):
        if before.get(name) != after.get(name):
            print(f"{name!r}:\n  before {before.get(name)!r}\n  after  {after.get(name)!r}"[:2000])
    raise SystemExit("FAILED: the tree is not the same after the remount")
