#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A catalogue of damaged volumes, and what fsck.kvfs says to each.

Every case is a small volume made anew and one kind of damage, found through `kvfs dump`, so no
images are kept. For each, expected/NAME holds the exit code and the output of fsck.kvfs -n, of
fsck.kvfs -y, and of a second -n, with each run of digits but the number of a finding written
as N (and a 0 as it is), since places and times differ from volume to volume.

    test_images.py             compare
    test_images.py --update    write the expected output anew; read the difference before it is kept
"""
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ["KVFS_BIN"]
BLOCK = 4096
STRIDE = 65536  # between the copies of the superblock
LOG = 131072
LOG_LEN = 1 << 20


def tool(name, *args):
    return subprocess.run(
        [os.path.join(BIN, name), *args],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120)


class Image:
    """The bytes of a volume, and where things are in it."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = bytearray(f.read())
        self.manifest = [self.extent(line) for line in tool("kvfs", "dump", "--superblock", path)
                         .stdout.splitlines() if "extent=" in line][0]
        lines = tool("kvfs", "dump", "--manifest", path).stdout.splitlines()
        self.tables = [dict(re.findall(r"(\w+)=(\S+)", line), extent=self.extent(line))
                       for line in lines if line.startswith("table ")]
        self.tables.sort(key=lambda t: -int(t["entries"]))
        self.segments = [self.extent(line) for line in lines if line.startswith("segment ")]

    @staticmethod
    def extent(line):
        off, length = re.search(r"extent=(\d+)\+(\d+)", line).groups()
        return int(off), int(length)

    def flip(self, off, length=4):
        for i in range(off, off + length):
            self.data[i] ^= 0x55

    def zero(self, off, length):
        self.data[off:off + length] = bytes(length)

    def page(self, table, name):
        """Where the root page or the filter of a table is."""
        off, length = re.match(r"(\d+)\+(\d+)", self.tables[table][name]).groups()
        return self.tables[table]["extent"][0] + int(off), int(length)


# ---- the catalogue -----------------------------------------------------------------------

def sound(v):
    """Nothing is damaged."""


def free_space(v):
    """Garbage where nothing is stored."""
    v.flip(len(v.data) - BLOCK, BLOCK)


def log_garbage(v):
    """Garbage in the log of a volume that was closed in order, so nothing of it is needed."""
    v.flip(LOG + LOG_LEN // 2, 64)


def superblock_first(v):
    """The first copy of the superblock is damaged."""
    v.flip(300)


def superblock_second(v):
    """The second copy of the superblock is damaged."""
    v.flip(STRIDE + 300)


def superblock_swapped(v):
    """A superblock copy holds what is not one."""
    v.data[STRIDE:STRIDE + BLOCK] = v.data[v.manifest[0]:v.manifest[0] + BLOCK]


def superblock_both(v):
    """Both copies are damaged; there are further ones."""
    v.flip(300)
    v.flip(STRIDE + 300)


def superblock_copies(v):
    """Everything before the log is gone."""
    v.zero(0, LOG)


def no_magic(v):
    """All of the volume is gone."""
    v.zero(0, len(v.data))


def manifest_first(v):
    """The manifest is damaged; its copy is not."""
    v.flip(v.manifest[0] + 100)


def manifest_copy(v):
    """The place between the superblock copies is damaged."""
    v.zero(BLOCK, STRIDE - BLOCK)


def manifest_and_copies(v):
    """The manifest is damaged, and so is everything around the superblock copies."""
    v.flip(v.manifest[0] + 100)
    v.zero(BLOCK, STRIDE - BLOCK)
    v.zero(STRIDE + BLOCK, STRIDE - BLOCK)


def table_filter(v):
    """The filter of a table is damaged: no data are lost."""
    v.flip(v.page(0, "filter")[0])


def table_root(v):
    """The root page of the larger table is damaged."""
    v.flip(v.page(0, "root")[0])


def table_first_page(v):
    """The first page of the larger table is damaged: that of names and of the root directory."""
    v.flip(v.tables[0]["extent"][0] + 50)


def table_lost(v):
    """All of the larger table is zeros."""
    v.zero(*v.tables[0]["extent"])


def table_format(v):
    """The table that says that the volume holds files is damaged."""
    v.flip(v.tables[1]["extent"][0] + 10)


def value(v):
    """A piece of a large file is damaged."""
    v.flip(v.segments[0][0] + 100)


def values_swapped(v):
    """Two sectors of a large file are exchanged."""
    a, b = v.segments[0][0] + 512, v.segments[0][0] + 1024
    v.data[a:a + 512], v.data[b:b + 512] = v.data[b:b + 512], v.data[a:a + 512]


def cut_short(v):
    """The file that holds the volume lost its second half, of which nothing was in use."""
    del v.data[len(v.data) // 2:]


def cut_shorter(v):
    """The file ends in the middle of a large file's contents."""
    del v.data[v.segments[0][0] + BLOCK:]


def only_the_head(v):
    """The file ends behind the superblocks."""
    del v.data[LOG:]


CASES = [sound, free_space, log_garbage, superblock_first, superblock_second, superblock_swapped,
         superblock_both, superblock_copies, no_magic, manifest_first, manifest_copy,
         manifest_and_copies, table_filter, table_root, table_first_page, table_lost,
         table_format, value, values_swapped, cut_short, cut_shorter, only_the_head]


# ---- running -----------------------------------------------------------------------------

def make_volume(path, tmp):
    tree = os.path.join(tmp, "tree")
    os.makedirs(os.path.join(tree, "sub", "below"))
    for i in range(150):
        with open(os.path.join(tree, "sub", f"f{i:03}"), "w", encoding="ascii") as f:
            f.write(f"file {i} holds this and that\n")
    with open(os.path.join(tree, "large"), "wb") as f:
        f.write(random.Random(1).randbytes(120000))
    os.link(os.path.join(tree, "large"), os.path.join(tree, "sub", "again"))
    os.symlink("large", os.path.join(tree, "link"))
    made = tool("mkfs.kvfs", "-q", "--size", "8M", "--log-size", "1M", "-U",
                "01234567-89ab-cdef-0123-456789abcdef", "-d", tree, path)
    if made.returncode:
        sys.exit(f"mkfs.kvfs: {made.stderr}")


def mask(text):
    """Digits to N, but for the number with which a line of a finding begins."""
    lines = []
    for line in text.splitlines():
        head = re.match(r"\d{3}: ", line)
        at = head.end() if head else 0
        lines.append(line[:at] + re.sub(r"[0-9a-f]{32}|[1-9]\d*(\.\d+)?", "N", line[at:]))
    return lines


def look(case, base, tmp):
    """The three runs over one damaged volume, as lines."""
    path = os.path.join(tmp, "volume")
    shutil.copyfile(base, path)
    image = Image(path)
    case(image)
    with open(path, "wb") as f:
        f.write(image.data)
    out = [f"# {case.__doc__}"]
    for option in ("-n", "-y", "-n"):
        with open(path, "rb") as f:
            before = f.read()
        ran = tool("fsck.kvfs", option, path)
        out.append(f"$ fsck.kvfs {option}: {ran.returncode}")
        out += mask((ran.stdout + ran.stderr).replace(path, "volume"))
        with open(path, "rb") as f:
            if option == "-n" and f.read() != before:
                out.append("IT WROTE TO THE VOLUME")
    return out


def main():
    update = "--update" in sys.argv[1:]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="kvfs-images.") as tmp:
        base = os.path.join(tmp, "base")
        make_volume(base, tmp)
        for case in CASES:
            got = "\n".join(look(case, base, tmp)) + "\n"
            name = os.path.join(HERE, "expected", case.__name__)
            if update:
                with open(name, "w", encoding="utf-8") as f:
                    f.write(got)
                continue
            with open(name, encoding="utf-8") as f:
                want = f.read()
            if got != want:
                failed += 1
                print(f"FAILED {case.__name__}: expected\n{want}and got\n{got}")
    print(f"{len(CASES)} images, {failed} not as expected")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
