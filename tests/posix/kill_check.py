# SPDX-License-Identifier: MIT
"""Compare what is on the volume with the ledgers of kill_writer.py. usage: kill_check.py MOUNT LEDGER...

Everything acknowledged is there, in order, and nothing but that and the one step that was being
made when the daemon died.
"""
import os
import sys


def read_ledger(path):
    files = {}
    dirs = set()
    appended = 0
    pending = None
    with open(path, encoding="ascii") as ledger:
        for line in ledger:
            if not line.endswith("\n"):
                break
            word, _, kind, *rest = line.split()
            if word == "try":
                pending = (kind, rest)
                continue
            pending = None
            if kind == "append":
                appended = max(appended, int(rest[0]) + 1)
            elif kind == "replace":
                files[rest[0]] = (rest[1], int(rest[2]))
            elif kind == "create":
                dirs.add("dir" + rest[0])
            elif kind == "unlink":
                files.pop(rest[0], None)
    return files, dirs, appended, pending


def content_of(value, size):
    return (b"%010d" % int(value)) * (size // 10)


def check(mount, path):
    name = os.path.basename(path)
    home = os.path.join(mount, name)
    files, dirs, appended, pending = read_ledger(path)
    kind, rest = pending or ("", [])
    if not os.path.isdir(home):
        assert not files and not dirs and not appended, f"{name}: its directory is gone"
        return
    log_path = os.path.join(home, "log")
    log = open(log_path, "rb").read() if os.path.exists(log_path) else b""
    count = len(log) // 16
    assert len(log) % 16 == 0, f"{name}: a torn append"
    assert log == b"".join(b"%015d\n" % n for n in range(count)), f"{name}: appends out of order"
    allowed = {appended} | ({appended + 1} if kind == "append" else set())
    assert count in allowed, f"{name}: {count} appends, acknowledged {appended}, pending {pending}"

    found_dirs = {n for n in os.listdir(home) if n.startswith("dir")}
    extra = {"dir" + rest[0]} if kind == "create" else set()
    assert dirs <= found_dirs <= dirs | extra, f"{name}: directories {dirs ^ found_dirs}"

    for slot in range(20):
        slot = str(slot)
        wanted = [files.get(slot)]
        if kind == "replace" and rest[0] == slot:
            wanted.append((rest[1], int(rest[2])))
        if kind == "unlink" and rest[0] == slot:
            wanted.append(None)
        target = os.path.join(home, "file" + slot)
        got = open(target, "rb").read() if os.path.exists(target) else None
        assert any(got == (content_of(*w) if w else None) for w in wanted), (
            f"{name}: file{slot} has {None if got is None else got[:10]}, wanted {wanted}")


for ledger_path in sys.argv[2:]:
    check(sys.argv[1], ledger_path)
