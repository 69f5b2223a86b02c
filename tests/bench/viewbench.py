#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What snapshots, transactions and differences cost on a mount: docs/performance.md has figures.

A tree of small files is made; then each line is measured once, as wall time and as processor time
of the daemon. Needs root. Interrupted, it unmounts and removes what it made.
"""
import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

PER_DIR = 100
SIZE = 1024


class Bench:
    def __init__(self, opt):
        self.opt = opt
        self.work = tempfile.mkdtemp(prefix="viewbench.", dir=opt.work)
        self.volume = os.path.join(self.work, "volume")
        self.dir = os.path.join(self.work, "m")
        self.daemon = 0
        os.mkdir(self.dir)

    def tool(self, name):
        return os.path.join(self.opt.bin, name)

    def run(self, *argv, **kw):
        return subprocess.run(argv, check=True, stdout=subprocess.PIPE, **kw).stdout

    def mount(self):
        self.run(self.tool("mount.kvfs"), self.volume, self.dir)
        for pid in self.run("pgrep", "-x", "mount.kvfs", text=True).split():
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as f:
                    if self.volume.encode() in f.read():
                        self.daemon = int(pid)
            except FileNotFoundError:  # another mount's, which has ended
                pass

    def unmount(self):
        if os.path.ismount(self.dir):
            self.run("umount", self.dir)
        while self.daemon and os.path.exists("/proc/%d" % self.daemon):
            time.sleep(0.02)
        self.daemon = 0

    def cpu(self):
        with open("/proc/%d/stat" % self.daemon) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self):
        with open("/proc/%d/status" % self.daemon) as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1024

    def measure(self, what, call):
        cpu, begin = self.cpu(), time.monotonic()
        call()
        wall = time.monotonic() - begin
        print("| %s | %.3f s | %.2f s | %.0f MiB |" % (what, wall, self.cpu() - cpu, self.peak_mib()), flush=True)

    def close(self):
        try:
            self.unmount()
        finally:
            shutil.rmtree(self.work, ignore_errors=True)


def path_of(base, i):
    return "%s/%04d/%02d" % (base, i // PER_DIR, i % PER_DIR)


def make_files(base, count):
    data = os.urandom(SIZE // 2).hex().encode()
    for i in range(count):
        if i % PER_DIR == 0:
            os.makedirs(os.path.dirname(path_of(base, i)), exist_ok=True)
        with open(path_of(base, i), "wb", buffering=0) as f:
            f.write(data)


def append_to_some(base, count, step):
    for i in range(0, count, step):
        with open(path_of(base, i), "ab", buffering=0) as f:
            f.write(b"a line\n")


class Load:
    """Somebody who writes all the time."""

    def __init__(self, base, count):
        self.stop = False
        self.ops = 0
        self.slowest = 0.0
        self.thread = threading.Thread(target=self.work, args=(base, count))

    def work(self, base, count):
        data = b"x" * SIZE
        while not self.stop:
            begin = time.monotonic()
            with open(path_of(base, self.ops * 7919 % count), "r+b", buffering=0) as f:
                f.write(data)
            self.slowest = max(self.slowest, time.monotonic() - begin)
            self.ops += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.stop = True
        self.thread.join()


def all_lines(b):
    opt, kvfs = b.opt, b.tool("kvfs")
    tree = os.path.join(b.work, "tree")
    make_files(tree, opt.files)
    b.run(b.tool("mkfs.kvfs"), "-q", "-d", tree, b.volume)
    shutil.rmtree(tree)
    b.mount()
    snapshots = os.path.join(b.dir, ".kvfs/snapshots")
    print("%d files of %d bytes in %d directories\n" % (opt.files, SIZE, opt.files // PER_DIR))
    print("| what | wall | processor of the daemon | its peak |\n| --- | --- | --- | --- |")
    b.measure("snapshot of an idle volume", lambda: os.mkdir(snapshots + "/a"))
    with Load(b.dir, opt.files) as load:
        time.sleep(1)
        load.slowest = 0
        b.measure("100 snapshots while one writes",
                  lambda: [os.mkdir("%s/s%02d" % (snapshots, i)) for i in range(100)])
        slowest = load.slowest
    for i in range(100):
        os.rmdir("%s/s%02d" % (snapshots, i))
    print("| the slowest of the writes meanwhile | %.3f s | | |" % slowest)
    os.mkdir(snapshots + "/b")
    append_to_some(b.dir, opt.files, 100)
    os.mkdir(snapshots + "/c")
    null = subprocess.DEVNULL
    b.measure("difference of two snapshots, 1 %% of the files changed".replace("%%", "%"),
              lambda: subprocess.run([kvfs, "diff", b.dir, "b", "c"], check=True, stdout=null))
    b.measure("the same as a stream",
              lambda: subprocess.run([kvfs, "send", "--from", "b", b.dir, "c"], check=True, stdout=null, stderr=null))
    for name, where in (("the live tree", b.dir), ("a snapshot", snapshots + "/c")):
        b.unmount()
        b.mount()
        b.measure("tar of %s, cold" % name,
                  lambda: subprocess.run(["sh", "-c", "tar -cf - . | cat >/dev/null"], check=True, cwd=where))
    txn = os.path.join(b.dir, ".kvfs/txn/t")
    b.measure("begin a transaction", lambda: os.mkdir(txn))
    b.measure("make as many files again in it", lambda: make_files(txn + "/again", opt.files))
    b.measure("tell what it changed",
              lambda: subprocess.run([kvfs, "diff", "--txn", b.dir, "t"], check=True, stdout=null))
    b.measure("commit it", lambda: b.run(kvfs, "commit", b.dir, "t"))
    if len(os.listdir(b.dir + "/again")) != -(-opt.files // PER_DIR):
        sys.exit("viewbench: the commit did not make what was written")
    b.measure("clone the whole tree", lambda: b.run(kvfs, "clone", b.dir, "again", "copy"))


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--bin", default=os.path.join(here, "../../build/release/bin"), help="of the build")
    p.add_argument("--work", default="/tmp", help="where the volume is")
    p.add_argument("--files", type=int, default=100000)
    opt = p.parse_args()
    if os.geteuid() != 0:
        sys.exit("viewbench: needs root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    b = Bench(opt)
    try:
        all_lines(b)
    except KeyboardInterrupt:
        sys.exit("viewbench: interrupted")
    finally:
        b.close()


if __name__ == "__main__":
    main()
