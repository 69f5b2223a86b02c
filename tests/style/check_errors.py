#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""docs/errors.md has every result code with its errno, and every finding of fsck.kvfs with its number,
and nothing that is not there; fsck.kvfs(8) lists the same findings.

usage: check_errors.py SOURCE_DIR [BUILD_DIR]
"""
import os
import re
import sys

CODE = re.compile(r"^\s*X\((\w+),\s*(E\w+),", re.M)
FINDING = re.compile(r"^\s*X\((\d+),\s*(\w+),\s*(?:(true|false),\s*)?\"([^\"]*)\"\)", re.M)
CODE_ROW = re.compile(r"^\| KV_E_(\w+) \| (\w+) \| [^|]+ \| [^|]+ \|$", re.M)
FINDING_ROW = re.compile(r"^\| (\d+) \| (\w+) \| (free|yes|no) \| [^|]+ \|$", re.M)
MAN_LINE = re.compile(r"^(\d{3})([* ]) (.+)$", re.M)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as source:
        return source.read()


def compare(what, wanted, found):
    for key in sorted(wanted.keys() | found.keys()):
        if key not in found:
            yield f"{what}: {key} is missing"
        elif key not in wanted:
            yield f"{what}: {key} is not in the headers"
        elif wanted[key] != found[key]:
            yield f"{what}: {key} is {found[key]}, the header says {wanted[key]}"


def main():
    root = sys.argv[1]
    doc = read(root, "docs/errors.md")
    codes = dict(CODE.findall(read(root, "kvcore/include/kvcore/kv_types.h")))
    engine = FINDING.findall(read(root, "kvcore/include/kvcore/kvcore_check.h"))
    files = FINDING.findall(read(root, "fusefs/model/kvfs.h"))
    found = []
    if len(codes) < 10 or len(engine) < 10 or len(files) < 10:
        found.append("the lists in the headers were not understood")
    found += compare("docs/errors.md", codes, dict(CODE_ROW.findall(doc)))
    rows = FINDING_ROW.findall(doc)
    findings = {number: name for number, name, _, _ in engine + files}
    found += compare("docs/errors.md", findings, {number: name for number, name, _ in rows})
    repairs = {number: how for number, _, how in rows}
    for number, _, repairable, _ in engine:
        if number in repairs and (repairs[number] != "no") != (repairable == "true"):
            found.append(f"docs/errors.md: {number}: whether it can be repaired")
    manual = MAN_LINE.findall(read(root, "docs/man/fsck.kvfs.8"))
    texts = {number: text for number, _, _, text in engine + files}
    found += compare("fsck.kvfs(8)", texts, {number: text for number, _, text in manual})
    for number, star, _ in manual:
        if number in repairs and (repairs[number] == "free") != (star == "*"):
            found.append(f"docs/errors.md and fsck.kvfs(8) differ: what -p does about {number}")
    print("\n".join(found) if found else f"{len(codes)} codes and {len(findings)} findings are documented")
    return 1 if found else 0


sys.exit(main())
