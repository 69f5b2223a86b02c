# SPDX-License-Identifier: MIT
"""One worker of soak.py: random file operations in a directory of its own, and the model of it.

Each operation is announced in a ledger outside the volume before it is made and confirmed
afterwards. Whoever replays the ledger has the state of the directory after a kill: that of all
confirmed operations, and of what the last announced one touches either state. An operation is a
list that says everything about it, so that the model is a function of the ledger.
"""
import contextlib
import errno
import json
import os
import random
import signal
import sys
import traceback

DIRS = 4
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.ESHUTDOWN)


def content(seed, size):
    """Half of it compresses."""
    rng = random.Random(seed)
    some = rng.randbytes(min(size, 65536) // 2)
    piece = some + b"%015d\n" % (seed % 10 ** 15) * (len(some) // 16)
    return (piece * (size // max(len(piece), 1) + 1) + b"x" * size)[:size]


class Model:
    """The files of one directory. @unknown: contents that a failure left uncertain."""

    def __init__(self):
        self.names, self.data, self.xattrs = {}, {}, {}
        self.unknown, self.last = set(), 0

    def node(self, path, fresh=False):
        if fresh or path not in self.names:
            self.last += 1
            self.names[path] = self.last
            self.data[self.last] = b""
            self.xattrs[self.last] = {}
        return self.names[path]

    def change(self, path, data):
        self.data[self.node(path)] = data

    def links(self, paths):
        """All names of the files that have one of @paths."""
        nodes = {self.names[p] for p in paths if p in self.names}
        return set(paths) | {p for p, n in self.names.items() if n in nodes}

    def apply(self, op):
        kind, path, *a = op
        if kind == "put":
            self.change(path, content(a[0], a[1]))
            self.unknown.discard(self.names[path])
        elif kind == "replace":
            self.node(path, fresh=True)
            self.change(path, content(a[0], a[1]))
        elif kind == "append":
            self.change(path, self.data[self.node(path)] + content(a[0], a[1]))
        elif kind == "pwrite":
            old, new = self.data[self.node(path)], content(a[1], a[2])
            if new:
                old = old.ljust(a[0], b"\0")
                self.change(path, old[:a[0]] + new + old[a[0] + len(new):])
        elif kind == "truncate":
            old = self.data[self.node(path)]
            self.change(path, old[:a[0]].ljust(a[0], b"\0"))
        elif kind == "unlink":
            self.names.pop(path)
        elif kind == "rename":
            self.names[a[0]] = self.names.pop(path)
        elif kind == "link":
            self.names[a[0]] = self.names[path]
        elif kind == "setxattr":
            self.xattrs[self.names[path]][a[0]] = content(a[1], a[2])
        elif kind == "txn" and a[0]:
            for inner in a[1]:
                self.apply(inner)

    def doubt(self, op):
        """@op was made in part, or may have been."""
        kind, path = op[:2]
        if kind in ("put", "append", "pwrite", "truncate") and path in self.names:
            self.unknown.add(self.names[path])


def paths_of(op):
    kind, path, *a = op
    if kind == "txn":
        return {p for inner in a[1] for p in paths_of(inner)}
    return {path} | ({a[0]} if kind in ("rename", "link") else set())


def replay(model, ledger):
    """Returns the operation that was not confirmed, or None."""
    pending = None
    with open(ledger, encoding="ascii") as f:
        for line in f:
            if not line.endswith("\n"):
                break
            word, op = json.loads(line)
            if word == "try":
                pending = op
                continue
            pending = None
            (model.apply if word == "ack" else model.doubt)(op)
    return pending


class Worker:
    def __init__(self, mount, name, model, ledger, seed):
        self.mount, self.home = mount, os.path.join(mount, name)
        self.model, self.name = model, name
        self.rng = random.Random(seed)
        self.ledger = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.stopped = False
        self.txns = 0
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def stop(self, _number, _frame):
        self.stopped = True

    def say(self, word, op):
        os.write(self.ledger, (json.dumps([word, op]) + "\n").encode())

    # ---- making it ----

    def write(self, path, flags, offset, data, sync):
        fd = os.open(path, os.O_WRONLY | flags, 0o644)
        try:
            view, at = memoryview(data), offset
            while view:
                n = os.write(fd, view) if flags & os.O_APPEND else os.pwrite(fd, view, at)
                view, at = view[n:], at + n
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)

    def do(self, op, home):
        kind, path, *a = op
        full = os.path.join(home, path)
        if kind == "put":
            self.write(full, os.O_CREAT | os.O_TRUNC, 0, content(a[0], a[1]), a[2])
        elif kind == "replace":
            temporary = full + ".tmp"
            try:
                self.write(temporary, os.O_CREAT | os.O_TRUNC, 0, content(a[0], a[1]), a[2])
                os.rename(temporary, full)
            except OSError as e:
                if e.errno == errno.ENOSPC:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(temporary)
                raise
        elif kind == "append":
            self.write(full, os.O_APPEND, 0, content(a[0], a[1]), a[2])
        elif kind == "pwrite":
            self.write(full, 0, a[0], content(a[1], a[2]), a[3])
        elif kind == "truncate":
            os.truncate(full, a[0])
        elif kind == "sync":
            fd = os.open(full, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        elif kind == "unlink":
            os.unlink(full)
        elif kind == "rename":
            os.rename(full, os.path.join(home, a[0]))
        elif kind == "link":
            os.link(full, os.path.join(home, a[0]))
        elif kind == "setxattr":
            os.setxattr(full, "user." + a[0], content(a[1], a[2]))
        elif kind == "txn":
            self.do_txn(a[0], a[1])

    def do_txn(self, commit, inner):
        self.txns += 1
        name = f"{self.name}.{os.getpid()}.{self.txns}"
        where = os.path.join(self.mount, ".kvfs/txn", name)
        os.mkdir(where)
        try:
            for op in inner:
                self.do(op, os.path.join(where, self.name))
            if commit:
                os.rename(where, os.path.join(self.mount, ".kvfs/commit", name))
                return
        except OSError as e:
            if e.errno not in GONE:
                with contextlib.suppress(FileNotFoundError): # a commit that finds no room ends it
                    os.rmdir(where)
            raise
        os.rmdir(where)

    # ---- choosing ----

    def some(self):
        return self.rng.choice(sorted(self.model.names)) if self.model.names else None

    def fresh(self):
        return f"d{self.rng.randrange(DIRS)}/f{self.rng.randrange(12)}"

    def size(self):
        return self.rng.choice([0, 10, 700, 3000, 5000, 20000, 70000, 200000, 1500000])

    def simple(self, within=None):
        model, rng, path = within or self.model, self.rng, self.fresh()
        kind = rng.choice(["put", "replace"] if path not in model.names else
                          ["put", "replace", "append", "pwrite", "truncate", "unlink", "unlink",
                           "rename", "link", "setxattr", "sync"])
        seed, sync = rng.randrange(1 << 40), rng.random() < 0.3
        known = path in model.names and model.names[path] not in model.unknown
        if kind in ("append", "pwrite", "truncate") and (
                not known or len(model.data[model.names[path]]) > 4000000):
            kind = "put"
        if kind in ("put", "replace", "append"):
            return [kind, path, seed, self.size(), sync]
        if kind == "pwrite":
            return [kind, path, rng.randrange(300000), seed, self.size(), sync]
        if kind == "truncate":
            return [kind, path, rng.randrange(300000)]
        if kind in ("rename", "link"):
            to = self.fresh()
            return ["unlink", path] if to in model.names else [kind, path, to]
        if kind == "setxattr":
            return [kind, path, f"x{rng.randrange(3)}", seed, rng.choice([1, 200, 3000])]
        return [kind, path]

    def txn(self):
        """Only what does not depend on what is there: contents of fresh files."""
        inner = [["replace", self.fresh(), self.rng.randrange(1 << 40), self.size(), False]
                 for _ in range(self.rng.randrange(1, 5))]
        return ["txn", "", self.rng.random() < 0.7, inner]

    def look(self):
        path = self.some()
        if path:
            compare_file(self.model, self.home, path)

    def step(self):
        dice = self.rng.random()
        if dice < 0.2:
            self.look()
            return
        op = self.txn() if dice < 0.3 else self.simple()
        self.say("try", op)
        try:
            self.do(op, self.home)
        except OSError as e:
            if e.errno not in (errno.ENOSPC, errno.EAGAIN):
                raise
            if op[0] in ("put", "replace") and op[1] not in self.model.names:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.home, op[1]))
            self.say("fail", op)
            self.model.doubt(op)
            return
        self.say("ack", op)
        self.model.apply(op)

    def run(self):
        for d in range(DIRS):
            os.makedirs(os.path.join(self.home, f"d{d}"), exist_ok=True)
        while not self.stopped:
            self.step()


class Finding(Exception):
    pass


def read_file(path):
    """With writeback a close tells, of whoever's file it is, what the kernel could not write before."""
    fd = os.open(path, os.O_RDONLY)
    try:
        with open(fd, "rb", buffering=0, closefd=False) as f:
            return f.readall()
    finally:
        try:
            os.close(fd)
        except OSError as e:
            if e.errno != errno.ENOSPC:
                raise


def compare_file(model, home, path):
    n = model.names[path]
    full = os.path.join(home, path)
    got = read_file(full)
    if n not in model.unknown and got != model.data[n]:
        raise Finding(f"{full}: {len(got)} bytes instead of {len(model.data[n])}, or other ones")
    for name, value in model.xattrs[n].items():
        if os.getxattr(full, "user." + name) != value:
            raise Finding(f"{full}: user.{name} has another value")


def difference(model, home, excused):
    """What is wrong in the tree, but for the paths of @excused; None: nothing."""
    found = set()
    for folder, _, files in os.walk(home):
        found |= {os.path.relpath(os.path.join(folder, f), home) for f in files}
    found = {f for f in found if f not in excused and not f.endswith(".tmp")}
    want = set(model.names) - excused
    if found != want:
        return f"{home}: missing {sorted(want - found)}, too many {sorted(found - want)}"
    try:
        for path in sorted(want):
            compare_file(model, home, path)
    except Finding as e:
        return str(e)
    return None


def adopt(model, home, paths):
    """The state of @paths, with all links of their files, becomes what is there."""
    nodes = {}
    for path in sorted(paths):
        full = os.path.join(home, path)
        if os.path.exists(full + ".tmp"):
            os.unlink(full + ".tmp")
        if os.path.exists(full):
            number = os.stat(full).st_ino
            if number in nodes:
                model.names[path] = nodes[number]
                continue
            n = nodes[number] = model.node(path, fresh=True)
            model.data[n] = read_file(full)
            model.xattrs[n] = {x[5:]: os.getxattr(full, x) for x in os.listxattr(full)
                               if x.startswith("user.")}
        else:
            model.names.pop(path, None)


def main(mount, name, model, ledger, seed):
    """In a process of its own. Returns its exit status: 0, 3 if the daemon has gone."""
    try:
        Worker(mount, name, model, ledger, seed).run()
    except OSError as e:
        if e.errno in GONE:
            return 3
        traceback.print_exc()
        print(f"FINDING {name}: {e}", file=sys.stderr, flush=True)
        return 1
    except Finding as e:
        print(f"FINDING {name}: {e}", file=sys.stderr, flush=True)
        return 1
    return 0
