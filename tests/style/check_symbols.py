#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""External symbols tell their file: each begins with the stem of the file that defines it, with the
stem's first word, or with kv_ (public). The shared libraries export public names only.

usage: check_symbols.py SOURCE_DIR BUILD_DIR
"""
import glob
import os
import re
import subprocess
import sys


# Where the field's word for a thing is not its file's.
EXCEPTIONS = {"decompress_page", "segment_new"}


def defined(path, extra=()):
    out = subprocess.run(
        ["nm", "--defined-only", "--extern-only", *extra, path],
        check=True, capture_output=True, text=True).stdout
    for line in out.splitlines():
        parts = line.split()
        if len(parts) == 3 and not parts[2].startswith("__"):
            yield parts[1], parts[2]


def check_objects(build):
    count = 0
    pattern = os.path.join(build, "CMakeFiles", "layer_*.dir", "**", "*.c.o")
    for path in glob.glob(pattern, recursive=True):
        stem = os.path.basename(path)[: -len(".c.o")]
        first = stem.split("_")[0]
        words = (stem + "_", first + "_", first + "s_", "kv_", "kvfs_")
        for kind, name in defined(path):
            count += 1
            if kind in "BbDdC" and not name.startswith("__"):
                yield f"{path}: mutable global {name}"
            if name != stem and name not in EXCEPTIONS and not name.startswith(words):
                yield f"{path}: {name} does not tell its file"
    if count == 0:
        yield f"no objects found in {build}"


def check_exports(build):
    for library, prefix in (("libkvcore.so", r"kv_"), ("libkvfs.so", r"kv_|kvfs_")):
        path = os.path.join(build, "lib", library)
        if not os.path.exists(path):
            yield f"{path} is missing"
            continue
        for _, name in defined(path, ["--dynamic"]):
            if not re.match(prefix, name):
                yield f"{library} exports {name}"


def main():
    build = sys.argv[2]
    with open(os.path.join(build, "CMakeCache.txt"), encoding="utf-8") as cache:
        if re.search(r"^KVFS_SANITIZE:\w+=.+", cache.read(), re.M):
            print("sanitizers add symbols of their own: checked in the other builds")
            return 0
    found = list(check_objects(build)) + list(check_exports(build))
    print("\n".join(found) if found else "all symbols tell their file")
    return 1 if found else 0


sys.exit(main())
