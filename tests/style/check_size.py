#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Sizes and forbidden calls: files, public state, unbounded string functions, raw host I/O.

usage: check_size.py SOURCE_DIR [BUILD_DIR]
"""
import os
import re
import sys

FILE_LINES = 600
TEST_FILE_LINES = 1000  # a test file is read case by case
# Headers that are an interface to users, or one table, may be longer.
LONG_HEADERS = {
    "kvcore/include/kvcore/kvcore.h",
    "kvcore/include/kvcore/kvcore_check.h",
    "fusefs/model/kvfs.h",
}
LONG_HEADER_LINES = 640
INTERNAL_HEADER_LINES = 320
BANNED = re.compile(r"\b(strcpy|strcat|sprintf|vsprintf|gets|atoi|atol|atof|strtok)\s*\(")
HOST_IO = re.compile(
    r"(?<![>.\w])(open|openat|pread|pwrite|preadv|pwritev|fsync|fdatasync|fallocate|ftruncate|"
    r"printf|fprintf|puts|getopt|getopt_long)\s*\("
)
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def strip_comments(text):
    return re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group(0).count("\n"), text, flags=re.S)


def check_file(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as source:
        text = source.read()
    lines = text.count("\n")
    limit = TEST_FILE_LINES if path.startswith("tests/") else FILE_LINES
    if path.endswith(".h"):
        limit = LONG_HEADER_LINES if path in LONG_HEADERS else INTERNAL_HEADER_LINES
    if lines > limit:
        yield f"{path}: {lines} lines, at most {limit}"
    if not text.startswith("/* SPDX-License-Identifier: MIT */"):
        yield f"{path}: does not begin with the SPDX line"
    code = strip_comments(text)
    for number, line in enumerate(code.split("\n"), 1):
        where = f"{path}:{number}"
        if BANNED.search(line) and not path.startswith("tests/"):
            yield f"{where}: unbounded string function: {line.strip()}"
        if path.startswith("kvcore/") and not path.startswith("kvcore/os/"):
            if HOST_IO.search(line) and path != "kvcore/base/base.c":
                yield f"{where}: host I/O outside kvcore/os: {line.strip()}"
    for number, line in enumerate(text.split("\n"), 1):
        if UNFINISHED.search(line):
            yield f"{path}:{number}: unfinished: {line.strip()}"


def main():
    root = sys.argv[1]
    found = []
    count = 0
    for top in ("kvcore", "fusefs", "mkfs", "fsck", "tests"):
        for folder, _, files in os.walk(os.path.join(root, top)):
            for name in sorted(files):
                if name.endswith((".c", ".h")):
                    count += 1
                    path = os.path.relpath(os.path.join(folder, name), root)
                    found.extend(check_file(root, path))
    if count == 0:
        found.append("no source files found")
    print("\n".join(found) if found else f"{count} files are within their limits")
    return 1 if found else 0


sys.exit(main())
