# SPDX-License-Identifier: MIT
"""Processes that change the same directories at the same time. Run by test_parallel.sh."""
import os
import random
import shutil
import sys
import time

from helpers import RENAME_EXCHANGE, check, equal, read_file, renameat2, write_file

WORKERS = 6
SECONDS = 6
DIRS = ["shared-a", "shared-b", "shared-a/inner"]


def content(name, version):
    return f"{name} {version} ".encode() * (1 + version % 700)


class Worker:
    """Owns names in the shared directories, and knows what is in them."""

    def __init__(self, number, seed):
        self.number = number
        self.rng = random.Random(seed * 100 + number)
        self.files = {}  # path: content
        self.version = 0

    def path(self):
        return f"{self.rng.choice(DIRS)}/w{self.number}-{self.rng.randrange(40)}"

    def some(self):
        return self.rng.choice(sorted(self.files)) if self.files else None

    def put(self):
        path = self.path()
        self.version += 1
        data = content(path, self.version)
        if self.rng.random() < 0.5:
            write_file(path, data)
        else:
            write_file(path + ".tmp", data)
            os.rename(path + ".tmp", path)
        self.files[path] = data

    def remove(self):
        path = self.some()
        if path:
            os.unlink(path)
            del self.files[path]

    def move(self):
        old, new = self.some(), self.path()
        if old and old != new:
            os.rename(old, new)
            self.files[new] = self.files.pop(old)

    def exchange(self):
        a, b = self.some(), self.some()
        if a and a != b:
            renameat2(a, b, RENAME_EXCHANGE)
            self.files[a], self.files[b] = self.files[b], self.files[a]

    def append(self):
        path = self.some()
        if path:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND)
            os.write(fd, b"+")
            if self.rng.random() < 0.2:
                os.fsync(fd)
            os.close(fd)
            self.files[path] += b"+"

    def read(self):
        path = self.some()
        if path:
            check(read_file(path) == self.files[path], f"content of {path}")

    def listing(self):
        place = self.rng.choice(DIRS)
        mine = f"w{self.number}-"
        listed = sorted(n for n in os.listdir(place) if n.startswith(mine))
        equal(listed, sorted(os.path.basename(p) for p in self.files if os.path.dirname(p) == place),
              f"own names in {place}:")

    def orphan(self):
        path = f"shared-b/w{self.number}.orphan"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        os.write(fd, b"o" * 100_000)
        os.unlink(path)
        equal(os.pread(fd, 200_000, 0), b"o" * 100_000)
        os.close(fd)

    def tree(self):
        top = f"shared-b/tree-{self.number}"
        os.makedirs(top + "/x/y")
        write_file(top + "/x/y/f", b"f")
        os.rename(top, top + ".moved")
        equal(read_file(top + ".moved/x/y/f"), b"f")
        shutil.rmtree(top + ".moved")

    def run(self):
        work = [self.put, self.put, self.remove, self.move, self.exchange, self.append, self.read,
                self.read, self.listing, self.orphan, self.tree]
        end = time.monotonic() + SECONDS
        count = 0
        while time.monotonic() < end:
            self.rng.choice(work)()
            count += 1
        for path, data in self.files.items():
            check(read_file(path) == data, f"content of {path} at the end")
        self.listing()
        print(f"worker {self.number}: {count} steps, {len(self.files)} files")


def shared_counter(number):
    """Appends of one line by all: none is lost, none is torn."""
    for i in range(200):
        fd = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{number:03d} {i:05d}\n".encode())
        os.close(fd)


def in_children(works):
    pids = []
    for work in works:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                work()
                sys.stdout.flush()
                status = 0
            except SystemExit as e:
                print(e, file=sys.stderr)
            except Exception as e:  # the child must not run the parent's code
                import traceback
                traceback.print_exc()
            finally:
                os._exit(status)
        pids.append(pid)
    check(all([os.waitpid(pid, 0)[1] == 0 for pid in pids]), "a worker failed")


def main():
    os.chdir(sys.argv[1])
    for name in os.listdir("."):
        shutil.rmtree(name) if os.path.isdir(name) else os.unlink(name)
    for place in DIRS:
        os.mkdir(place)
    seed = int(os.environ.get("SEED", 0)) or random.SystemRandom().randrange(1, 1 << 31)
    print("seed", seed)
    in_children([Worker(n, seed).run for n in range(WORKERS)])
    in_children([lambda n=n: shared_counter(n) for n in range(WORKERS)])
    lines = read_file("log").splitlines()
    equal(sorted(lines),
          sorted(f"{n:03d} {i:05d}".encode() for n in range(WORKERS) for i in range(200)))


main()
