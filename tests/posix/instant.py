# SPDX-License-Identifier: MIT
"""A load with an invariant over several files, and what checks a copy of it.

load DIR STOP    four processes, each with ten files of its own in DIR/N/, write a growing number into
                 the files 0 to 9, one after the other, again and again, until STOP is there.
check DIR        at any instant the numbers of a directory fall by one at most, at one place.
metrics FILE     is it the text format of Prometheus: names, types, histograms that add up?
"""
import os
import re
import sys

WRITERS = 4
FILES = 10


def write(path, number):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.pwrite(fd, b"%020d\n" % number, 0)
    os.close(fd)


def load(top, stop):
    os.mkdir(top)
    children = []
    for writer in range(WRITERS):
        directory = os.path.join(top, str(writer))
        os.mkdir(directory)
        for i in range(FILES):
            write(os.path.join(directory, str(i)), 0)
        pid = os.fork()
        if pid == 0:
            number = 0
            while not os.path.exists(stop):
                number += 1
                for i in range(FILES):
                    write(os.path.join(directory, str(i)), number)
            os._exit(0)
        children.append(pid)
    return max(os.waitpid(pid, 0)[1] for pid in children)


def check(top):
    names = sorted(os.listdir(top))
    if names != [str(i) for i in range(WRITERS)]:
        print("directories", names)
        return 1
    for name in names:
        numbers = []
        for i in range(FILES):
            with open(os.path.join(top, name, str(i)), "rb") as f:
                numbers.append(int(f.read()))
        if numbers != sorted(numbers, reverse=True) or numbers[0] - numbers[-1] > 1:
            print("torn:", numbers)
            return 1
    return 0


def metrics(path):
    types = {}
    last = {}
    with open(path, encoding="ascii") as f:
        text = f.read()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            if name in types:
                print("twice:", name)
                return 1
            types[name] = kind
            continue
        if line.startswith("# HELP "):
            continue
        m = re.fullmatch(r'([a-z_][a-z0-9_]*)(\{([a-z]+)="([^"]*)"\})? ([0-9.e+-]+)', line)
        if not m:
            print("malformed:", line)
            return 1
        base = re.sub(r"_(bucket|sum|count)$", "", m[1]) if m[1] not in types else m[1]
        if base not in types:
            print("no type:", line)
            return 1
        if m[1].endswith("_bucket") and types[base] == "histogram":
            if float(m[5]) < last.get(base, 0):
                print("not cumulative:", line)
                return 1
            last[base] = float(m[5])
        if m[1] == base + "_count" and types[base] == "histogram" and float(m[5]) != last[base]:
            print("count differs:", line)
            return 1
    for name in ("kvfs_commits_total", "kvfs_cache_bytes", "kvfs_compaction_debt", "kvfs_snapshots",
                 "kvfs_volume_free_bytes", "kvfs_level_bytes", "kvfs_commit_seconds"):
        if name not in types:
            print("missing:", name)
            return 1
    return 0


sys.exit({"load": load, "check": check, "metrics": metrics}[sys.argv[1]](*sys.argv[2:]))
