# SPDX-License-Identifier: MIT
"""Names of every byte, the longest names, the deepest paths. Run twice by test_names.sh."""
import errno as E
import os
import sys

from helpers import check, equal, fails, read_file, write_file

BYTES = [bytes([b]) for b in range(1, 256) if b not in b"/."]
DEPTH = 300
LONG = b"n" * 255
LEVEL = b"level-" + b"x" * 244  # 250 bytes: 300 levels are 18 times PATH_MAX


def write_names():
    os.mkdir("bytes")
    for name in BYTES:
        write_file(b"bytes/" + name, name)
        os.mkdir(b"bytes/dir-" + name)
        write_file(b"bytes/dir-" + name + b"/" + name * 255, b"x")
    # Names that a program could take for something else.
    for name in (b"...", b"..a", b" ", b"a b", b"-rf", b"\xff\xfe", b"\xc3\x28", b"new\nline", b"%s%n"):
        write_file(b"bytes/" + name, name)
    os.mkdir("sorted")
    for name in (b"a", b"a!", b"a.b", b"a0", b"ab"):  # bytes below and above '/'
        os.mkdir(b"sorted/" + name)
        write_file(b"sorted/" + name + b"/f", name)


def check_names():
    extra = {b"...", b"..a", b" ", b"a b", b"-rf", b"\xff\xfe", b"\xc3\x28", b"new\nline", b"%s%n"}
    want = set(BYTES) | {b"dir-" + name for name in BYTES} | extra
    equal(set(os.listdir(b"bytes")), want)
    for name in BYTES + list(extra):
        equal(read_file(b"bytes/" + name), name)
    for name in BYTES:
        equal(os.listdir(b"bytes/dir-" + name), [name * 255])
    for name in (b"a", b"a!", b"a.b", b"a0", b"ab"):
        equal(os.listdir(b"sorted/" + name), [b"f"])
        equal(read_file(b"sorted/" + name + b"/f"), name)


def write_long():
    os.mkdir("long")
    write_file(b"long/" + LONG, b"longest")
    os.mkdir(b"long/" + b"d" * 255)
    for work in (lambda n: write_file(n, b""), os.mkdir, os.mkfifo, os.stat, os.unlink, os.rmdir,
                 lambda n: os.symlink("x", n), lambda n: os.link(b"long/" + LONG, n),
                 lambda n: os.rename(b"long/" + LONG, n), lambda n: os.rename(n, b"long/x")):
        with fails(E.ENAMETOOLONG):
            work(b"long/" + b"n" * 256)
        with fails(E.ENAMETOOLONG):
            work(b"long/" + b"n" * 1000)


def descend(levels, make):
    for _ in range(levels):
        if make:
            os.mkdir(LEVEL)
        os.chdir(LEVEL)


def write_deep(top):
    os.mkdir("deep")
    os.chdir("deep")
    descend(DEPTH, True)
    write_file("bottom", b"reached")
    os.chdir(top)
    os.mkdir("parent")
    os.rename("deep", "parent/moved")  # one record, whatever is below
    os.mkdir("deep")  # the old name is free, and empty
    equal(os.listdir("deep"), [])
    os.chdir("parent/moved")
    descend(DEPTH // 2, False)
    os.mkdir("side")
    write_file("side/file", b"side")
    os.rename(LEVEL, "renamed")  # in the middle
    os.chdir(top)


def check_deep(top):
    os.chdir("parent/moved")
    descend(DEPTH // 2, False)
    equal(read_file("side/file"), b"side")
    os.chdir("renamed")
    descend(DEPTH - DEPTH // 2 - 1, False)
    equal(read_file("bottom"), b"reached")
    depth = 0
    while os.stat(".").st_ino != os.stat(top).st_ino:
        os.chdir("..")
        depth += 1
    equal(depth, DEPTH + 2)
    os.chdir(top)


def remove_deep(top):
    """As rm -rf does it, without a path."""
    os.chdir("parent/moved")
    trail = [LEVEL] * (DEPTH // 2) + [b"renamed"] + [LEVEL] * (DEPTH - DEPTH // 2 - 1)
    for name in trail:
        os.chdir(name)
    os.unlink("bottom")
    for name in reversed(trail):
        os.chdir("..")
        if name == b"renamed":
            os.unlink("side/file")
            os.rmdir("side")
        os.rmdir(name)
    os.chdir(top)
    os.rmdir("parent/moved")
    os.rmdir("parent")


def main():
    os.chdir(sys.argv[1])
    top = os.getcwd()
    if sys.argv[2] == "write":
        write_names()
        write_long()
        write_deep(top)
    check_names()
    equal(read_file(b"long/" + LONG), b"longest")
    check(os.path.isdir(b"long/" + b"d" * 255), "a directory with the longest name")
    check_deep(top)
    if sys.argv[2] == "check":
        remove_deep(top)


main()
