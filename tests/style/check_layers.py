#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every #include goes downwards: a folder is a layer and includes only what stands below it.

usage: check_layers.py SOURCE_DIR [BUILD_DIR]
"""
import os
import re
import sys

# folder: what it may include, as path prefixes from the root (public headers are always allowed)
BASE = ["kvcore/base/"]
FORMAT = BASE + ["kvcore/format/"]
OS = BASE + ["kvcore/os/"]
LOW = FORMAT + OS
TABLE = LOW + ["kvcore/space/", "kvcore/cache/", "kvcore/table/"]
MODEL = BASE + ["kvcore/os/os_thread.h", "fusefs/model/"]
ALLOWED = {
    "kvcore/include": [],
    "kvcore/base": BASE,
    "kvcore/os": OS,
    "kvcore/format": FORMAT,
    "kvcore/space": LOW + ["kvcore/space/"],
    "kvcore/cache": LOW + ["kvcore/cache/"],
    "kvcore/wal": LOW + ["kvcore/wal/"],
    "kvcore/table": TABLE,
    "kvcore/engine": TABLE + ["kvcore/wal/", "kvcore/engine/"],
    "fusefs/model": MODEL,
    "fusefs/cli": BASE + ["fusefs/model/kvfs.h", "fusefs/model/kvfs_damage.h", "fusefs/model/kvfs_history.h",
                          "fusefs/model/channel_format.h", "fusefs/cli/"],
    "fusefs": BASE + ["fusefs/model/kvfs.h", "fusefs/model/kvfs_damage.h", "fusefs/model/kvfs_stage.h",
                      "fusefs/model/kvfs_history.h", "fusefs/"],
    "mkfs": BASE + ["fusefs/model/kvfs.h", "mkfs/"],
    "fsck": BASE + ["fusefs/model/kvfs.h", "fusefs/model/kvfs_damage.h", "fsck/"],
}
# Headers of a library that may appear in one place only.
ONLY = {
    "openssl/": ["kvcore/format/checksum.c"],
    "snappy": ["kvcore/format/compress.c"],
    "fuse": ["fusefs/*.c", "fusefs/*.h", "tests/bench/nostore.c"],
    "check.h": ["tests/"],
    "blkid": ["mkfs/"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
SYSTEM_NAMES = {"check.h", "endian.h", "error.h", "time.h", "string.h", "stdio.h", "errno.h"}


def layer_of(path):
    folder = os.path.dirname(path)
    while folder and folder not in ALLOWED:
        folder = os.path.dirname(folder)
    return folder


def only_allows(places, path):
    for place in places:
        if place.endswith("/") and path.startswith(place):
            return True
        if "*" in place and os.path.dirname(path) == os.path.dirname(place):
            return True
        if path == place:
            return True
    return False


def problems_in(root, path):
    layer = layer_of(path)
    with open(os.path.join(root, path), encoding="utf-8") as source:
        for number, line in enumerate(source, 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            kind, name = match.groups()
            where = f"{path}:{number}"
            if kind == "<":
                for library, places in ONLY.items():
                    if name.startswith(library) and not only_allows(places, path):
                        yield f"{where}: <{name}> belongs in {', '.join(places)}"
                continue
            if not layer or name.startswith("kvcore/kv"):
                continue
            if not os.path.exists(os.path.join(root, name)):
                yield f"{where}: \"{name}\" is not a path from the root"
            elif not any(name.startswith(prefix) for prefix in ALLOWED[layer]):
                yield f"{where}: layer {layer} must not include \"{name}\""


def main():
    root = sys.argv[1]
    found = []
    count = 0
    for top in ("kvcore", "fusefs", "mkfs", "fsck", "tests"):
        for folder, _, files in os.walk(os.path.join(root, top)):
            for name in files:
                if not name.endswith((".c", ".h")):
                    continue
                path = os.path.relpath(os.path.join(folder, name), root)
                count += 1
                if name in SYSTEM_NAMES:
                    found.append(f"{path}: named like a system header")
                found.extend(problems_in(root, path))
    if count == 0:
        found.append("no source files found")
    print("\n".join(found) if found else f"{count} files include downwards only")
    return 1 if found else 0


sys.exit(main())
