# SPDX-License-Identifier: MIT
"""Handles of files: handles.py save|open DIRECTORY FILE"""
import ctypes
import errno as E
import os
import sys

from helpers import check, equal, fails, libc, read_file, write_file


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint32), ("type", ctypes.c_int32), ("data", ctypes.c_uint8 * 128)]


def handle_of(path):
    h = Handle(bytes=128)
    mount_id = ctypes.c_int()
    if libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(h), ctypes.byref(mount_id), 0):
        raise OSError(ctypes.get_errno(), path)
    return h


def open_handle(mount, handle, flags=os.O_RDONLY):
    fd = libc.open_by_handle_at(mount, ctypes.byref(handle), ctypes.c_int(flags))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "open_by_handle_at")
    return fd


def content(mount, handle):
    fd = open_handle(mount, handle)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


NAMES = ["top", "d/deep/f", "d/moves", "d/gone", "linked", "d/deep"]


def save(directory, path):
    os.chdir(directory)
    os.makedirs("d/deep")
    for name in NAMES[:-1]:
        write_file(name, name.encode())
    os.link("linked", "d/other")
    handles = [handle_of(name) for name in NAMES]
    mount = os.open(".", os.O_RDONLY)
    for name, handle in zip(NAMES[:-1], handles):
        equal(content(mount, handle), name.encode())
    # Open without a name.
    fd = os.open("d/gone", os.O_RDONLY)
    os.unlink("d/gone")
    equal(content(mount, handles[3]), b"d/gone")
    os.close(fd)
    with open(path, "wb") as f:
        for handle in handles:
            f.write(bytes(handle))


def reopen(directory, path):
    raw = read_file(path)
    size = ctypes.sizeof(Handle)
    handles = {name: Handle.from_buffer_copy(raw, i * size) for i, name in enumerate(NAMES)}
    os.chdir(directory)
    mount = os.open(".", os.O_RDONLY)
    equal(content(mount, handles["top"]), b"top")
    equal(content(mount, handles["d/deep/f"]), b"d/deep/f")
    with fails(E.ESTALE):
        content(mount, handles["d/gone"])
    os.rename("d/moves", "d/deep/moved")
    os.rename("d/deep", "elsewhere")
    os.unlink("linked")
    equal(content(mount, handles["d/moves"]), b"d/moves")
    equal(content(mount, handles["linked"]), b"linked")
    fd = open_handle(mount, handles["d/deep"], os.O_RDONLY | os.O_DIRECTORY)
    equal(sorted(os.listdir(fd)), ["f", "moved"])
    equal(os.readlink(f"/proc/self/fd/{fd}"), os.path.join(os.path.realpath("."), "elsewhere"))
    os.close(fd)
    fd = open_handle(mount, handles["top"], os.O_WRONLY)
    os.write(fd, b"TOP")
    os.close(fd)
    equal(read_file("top"), b"TOP")
    wrong = Handle.from_buffer_copy(bytes(handles["top"]))
    wrong.data[6] = 1
    with fails(E.ESTALE):
        content(mount, wrong)
    check(not os.path.exists("d/gone"), "it is back")


{"save": save, "open": reopen}[sys.argv[1]](*sys.argv[2:])
