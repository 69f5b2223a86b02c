#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare a mounted kvfs with other file systems: wall time, processor time and space.

All contestants are mounted at the same time, on loop images of one disk, and take turns within
each workload, so that what else the machine does hits all of them alike. A figure is the median
of the rounds; "cold" means mounted afresh with empty caches. Contestants that cannot run are
named, with the reason.

Lines for programs: fsbench<TAB>workload<TAB>contestant<TAB>ops<TAB>wall_ns<TAB>client_ns<TAB>daemon_ns
(medians; space: bytes in the place of wall_ns, and zeros). Needs root. docs/performance.md tells more.
"""
import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

EXAMPLE = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c"
LOAD = "fsload"


class Failed(Exception):
    pass


def run(*argv, **kw):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=kw.pop("timeout", 600), **kw)
    if done.returncode:
        raise Failed("%s: %s" % (" ".join(argv), (done.stderr or done.stdout).strip()[-300:]))
    return done.stdout


class Contestant:
    """A file system on a loop device; the FUSE ones leave a daemon, whose time counts."""

    def __init__(self, bench, name, needs):
        self.bench, self.name = bench, name
        self.needs = needs
        self.home = os.path.join(bench.work, name)
        self.dir = os.path.join(self.home, "m")
        self.daemon = 0
        self.mounts = []

    def missing(self):
        for need in self.needs:
            if not shutil.which(need) and not os.path.exists(need):
                return "%s is not there" % need
        return None

    def make_image(self):
        os.makedirs(self.dir)
        image = os.path.join(self.home, "image")
        with open(image, "wb") as f:
            f.truncate(self.bench.opt.image_mib << 20)
        self.loop = run("losetup", "--find", "--show", "--direct-io=on", image).strip()

    def setup(self):
        self.make_image()
        self.mkfs()
        self.mount()

    def mount(self):
        self.attach(self.dir)
        self.mounts = [self.dir]

    def attach(self, where):
        run("mount", "-t", self.name, self.loop, where)

    def remount(self):
        """Nothing is cached afterwards."""
        self.unmount()
        subprocess.run(["sync"], check=True)
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
            f.write("3")
        self.mount()

    def unmount(self):
        for where in reversed(self.mounts):
            run("umount", where)
        self.mounts = []
        for _ in range(1200):
            if not self.daemon or not os.path.exists("/proc/%d" % self.daemon):
                break
            time.sleep(0.05)
        self.daemon = 0

    def end(self):
        try:
            self.unmount()
        except Failed as e:
            print("fsbench: %s" % e, file=sys.stderr)
        if hasattr(self, "loop"):
            subprocess.run(["losetup", "--detach", self.loop], check=False)

    def find_daemon(self, program, argument):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as f:
                    words = f.read().decode(errors="replace").split("\0")
            except OSError:
                continue
            if os.path.basename(words[0]) == program and argument in words:
                self.daemon = int(pid)

    def used(self):
        subprocess.run(["sync"], check=True)
        s = os.statvfs(self.dir)
        return (s.f_blocks - s.f_bfree) * s.f_frsize


class Kernel(Contestant):
    def __init__(self, bench, name, mkfs):
        super().__init__(bench, name, mkfs[:1])
        self.command = mkfs

    def mkfs(self):
        run(*self.command, self.loop)


class Btrfs(Kernel):
    def attach(self, where):
        run("mount", "-t", "btrfs", "-o", "compress=zstd", self.loop, where)


class Fuse2fs(Kernel):
    def attach(self, where):
        run("fuse2fs", self.loop, where, "-o", "fakeroot")
        self.find_daemon("fuse2fs", self.loop)


class Ntfs(Kernel):
    def attach(self, where):
        run("ntfs-3g", "-o", "big_writes", self.loop, where)
        self.find_daemon("ntfs-3g", self.loop)


class Kvfs(Contestant):
    def __init__(self, bench, name):
        super().__init__(bench, name, [])

    def program(self, name):
        return os.path.join(self.bench.opt.bin, name)

    def mkfs(self):
        run(self.program("mkfs.kvfs"), "-q", self.loop)

    def attach(self, where):
        options = ["-o", self.bench.opt.kvfs_options] if self.bench.opt.kvfs_options else []
        run(self.program("mount.kvfs"), self.loop, where, *options)
        self.find_daemon("mount.kvfs", self.loop)


class Foreground(Contestant):
    """A daemon that is started here and told to end by umount."""

    def start(self, *argv):
        where = self.mounts[-1]
        log = open(os.path.join(self.home, "log"), "ab")
        self.process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        for _ in range(200):
            if os.path.ismount(where):
                self.daemon = self.process.pid
                return
            time.sleep(0.05)
        raise Failed("%s does not mount" % argv[0])

    def unmount(self):
        """The daemon may hold on to what lies below until it has gone."""
        if self.daemon:
            run("umount", self.mounts.pop())
            self.process.wait(60)
            self.daemon = 0
        super().unmount()


class Passthrough(Foreground):
    """libfuse's own example, over an ext4 of its own."""

    def __init__(self, bench, name):
        super().__init__(bench, name, [EXAMPLE, "mkfs.ext4", "cc"])

    def mkfs(self):
        run("mkfs.ext4", "-q", self.loop)
        self.program = os.path.join(self.home, "passthrough_ll")
        flags = run("pkg-config", "--cflags", "--libs", "fuse3").split()
        run("cc", "-O2", "-D_GNU_SOURCE", "-o", self.program, EXAMPLE, *flags)

    def mount(self):
        below = os.path.join(self.home, "below")
        os.makedirs(below, exist_ok=True)
        run("mount", "-t", "ext4", self.loop, below)
        self.mounts = [below, self.dir]
        self.start("sh", "-c", 'ulimit -n 1048576; exec "$0" "$@"', self.program, "-f", "-o",
                   "source=%s,cache=always,timeout=86400" % below, self.dir)


class NoStore(Foreground):
    """What the transport costs; it forgets everything when unmounted, so it is never cold."""

    def __init__(self, bench, name):
        super().__init__(bench, name, [os.path.join(bench.opt.bin, "nostore")])

    def make_image(self):
        os.makedirs(self.dir)

    def mkfs(self):
        pass

    def mount(self):
        self.mounts = [self.dir]
        self.start(self.needs[0], self.dir)

    def remount(self):
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
            f.write("3")


def contestants(bench):
    return [
        Kvfs(bench, "kvfs"),
        Kernel(bench, "ext4", ["mkfs.ext4", "-q"]),
        Kernel(bench, "xfs", ["mkfs.xfs", "-q"]),
        Btrfs(bench, "btrfs", ["mkfs.btrfs", "-q"]),
        Passthrough(bench, "passthrough"),
        NoStore(bench, "nostore"),
        Fuse2fs(bench, "fuse2fs", ["mkfs.ext4", "-q"]),
        Ntfs(bench, "ntfs-3g", ["mkntfs", "-Q", "-q"]),
    ]


# ---- workloads: (prepare steps, cold, the timed step); a step is (name, count, size, threads) or
# ---- a shell command, in which {tree}, {tar} and {repo} are the real source tree outside.

def files(what, size=1024, threads=1, prepare=False, cold=False, part=1):
    def make(opt):
        n = max(opt.files // part, threads)
        before = [("make_files", n, size, threads)] if prepare else []
        return before, cold, (what, n, size, threads)
    return make


def flat(what, cold=False):
    def make(opt):
        step = (what, opt.files * 5, 0, 1)
        return [("make_flat",) + step[1:]], cold, step
    return make


def big(what, size=0, part=0, cold=False, prepare=True):
    def make(opt):
        n = max(opt.files // part, 1) if part else opt.big_mib
        before = [("make_big", opt.big_mib, 0, 1)] if prepare else []
        return before, cold, (what, n, size, 1)
    return make


def append(what, part=1, threads=1):
    return lambda opt: ([], False, (what, max(opt.files // part, threads), 100, threads))


def tree(command, prepare=(), cold=False):
    return lambda opt: (list(prepare), cold, command)


COPY = "tar -xf {tar}"
FLAT = "mkdir d && cd d && seq -f f%06.0f {many} | xargs touch"
SQL = ("printf 'pragma journal_mode=%s;create table t(a,b);' | cat - {sql} | sqlite3 base >/dev/null")

WORKLOADS = {
    "create 100 B": files("create", 100),
    "create 1 KiB": files("create", 1024),
    "create 4 KiB": files("create", 4096),
    "create 1 KiB, 4 threads": files("create", 1024, 4),
    "create+fsync": files("create_fsync", 1024, part=10),
    "create+fsync, 4 threads": files("create_fsync", 1024, 4, part=10),
    "create+fsync, 16 threads": files("create_fsync", 1024, 16, part=10),
    "replace 1 KiB": files("replace", prepare=True),
    "overwrite 1 KiB": files("overwrite", prepare=True),
    "rename": files("rename", prepare=True),
    "unlink": files("unlink", prepare=True),
    "stat warm": files("stat_warm", prepare=True),
    "stat cold": files("stat", prepare=True, cold=True),
    "open-read-close warm": files("read_warm", prepare=True),
    "open-read-close cold": files("read", prepare=True, cold=True),
    "random reads cold": files("read_random", prepare=True, cold=True),
    "readdir warm": flat("readdir_warm"),
    "readdir cold": flat("readdir", cold=True),
    "append 100 B": append("append"),
    "append 100 B+fsync": append("append_fsync", 10),
    "append 100 B+fsync, 16 threads": append("append_fsync", 10, 16),
    "4 KiB overwrite+fsync": big("write_random_fsync", 4096, 10),
    "random 100 B writes": big("write_random", 100, 1),
    "random 4 KiB writes": big("write_random", 4096, 1),
    "sequential write": big("write_big", prepare=False),
    "sequential read cold": big("read_big", cold=True),
    "untar": tree(COPY),
    "find cold": tree("find . >/dev/null", [COPY], True),
    "find warm": tree("find . >/dev/null", [COPY, "find . >/dev/null"]),
    "ls -lR cold": tree("ls -lR >/dev/null", [COPY], True),
    "ls -lR warm": tree("ls -lR >/dev/null", [COPY, "ls -lR >/dev/null"]),
    "du warm": tree("du -s . >/dev/null", [COPY, "du -s . >/dev/null"]),
    "grep -r cold": tree("grep -r zzyzx_not_there . || true", [COPY], True),
    "grep -r warm": tree("grep -r zzyzx_not_there . || true",
                         [COPY, "grep -r zzyzx_not_there . || true"]),
    "tar out cold": tree("tar -cf - . | cat >/dev/null", [COPY], True),
    "rsync in": tree("rsync -a {tree}/ r"),
    "rsync again": tree("rsync -a {tree}/ r", ["rsync -a {tree}/ r"]),
    "cp -a": tree("cp -a {tree} c"),
    "git clone": tree("git clone -q {repo} g"),
    "git status": tree("git -C g status >/dev/null", ["git clone -q {repo} g"]),
    "rm -rf": tree("rm -rf d", ["mkdir d && tar -xf {tar} -C d"]),
    "rename of a large directory": tree("mv d e", [FLAT]),
    "SQLite inserts, DELETE": tree(SQL.replace("%s", "delete")),
    "SQLite inserts, WAL": tree(SQL.replace("%s", "wal")),
}
SPACE = {
    "space of 1 KiB files": [("make_files", 0, 1024, 1)],
    "space of a source tree": [COPY],
}


class Bench:
    def __init__(self, opt):
        self.opt = opt
        self.work = tempfile.mkdtemp(prefix="fsbench.", dir=opt.work)
        self.turn = 0

    def sources(self):
        """What the real programs work on, outside of all contestants."""
        self.names = {k: os.path.join(self.work, k) for k in ("tree", "tar", "repo", "sql")}
        self.names["many"] = self.opt.files * 5
        run("cp", "-a", self.opt.tree, self.names["tree"])
        run("tar", "-cf", self.names["tar"], "-C", self.names["tree"], ".")
        run("git", "init", "-q", self.names["repo"])
        run("cp", "-a", self.names["tree"] + "/.", self.names["repo"])
        run("git", "-C", self.names["repo"], "add", ".")
        run("git", "-C", self.names["repo"], "-c", "user.name=b", "-c", "user.email=b@b", "commit",
            "-q", "-m", "all")
        with open(self.names["sql"], "w", encoding="ascii") as f:
            for n in range(max(self.opt.files // 20, 1)):
                f.write("insert into t values(%d,'%s');\n" % (n, "x" * 80))

    def step(self, c, where, step):
        if isinstance(step, str):
            argv = ["run", "1", "0", "1", step.format(**self.names)]
        else:
            argv = [str(x) for x in step]
        out = run(os.path.join(self.opt.bin, LOAD), where, str(c.daemon), *argv)
        return [int(x) for x in out.split()]

    def measure(self, c, spec):
        """Each time in a directory of its own, which is removed afterwards."""
        prepare, cold, timed = spec
        self.turn += 1
        where = os.path.join(c.dir, "w%d" % self.turn)
        os.mkdir(where)
        for step in prepare:
            self.step(c, where, step)
        if cold:
            c.remount()
        figures = self.step(c, where, timed)
        run("rm", "-rf", where)
        return figures

    def space(self, c, steps):
        where = os.path.join(c.dir, "space")
        os.mkdir(where)
        c.remount()
        before = c.used()
        for step in steps:
            if not isinstance(step, str):
                step = (step[0], self.opt.files) + step[2:]
            self.step(c, where, step)
        c.remount()
        used = c.used() - before
        run("rm", "-rf", where)
        return [1, used, 0, 0]


def table(results, order, base):
    """Wall and processor microseconds an operation, and how many times as fast as the base."""
    for name, row in results.items():
        print("\n%s" % name)
        for c in order:
            if c not in row:
                continue
            ops, wall, client, daemon = row[c]
            if name in SPACE:
                print("  %-12s %10.1f MiB" % (c, wall / 2**20), end="")
            else:
                ops = max(ops, 1)
                print("  %-12s %10.1f us, processor %9.1f us (daemon %8.1f)" %
                      (c, wall / ops / 1e3, (client + daemon) / ops / 1e3, daemon / ops / 1e3),
                      end="")
            for b in base:
                if b in row and b != c and wall > 0:
                    print("  %6.2f x %s" % (row[b][1] / wall, b), end="")
            print()


def parse():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = os.path.dirname(os.path.abspath(__file__))
    p.add_argument("--bin", default=os.path.join(here, "../../build/bin"), help="of the build")
    p.add_argument("--work", default="/tmp", help="the disk of the images")
    p.add_argument("--tree", default="/usr/include", help="the real source tree")
    p.add_argument("--files", type=int, default=20000, help="of a workload on small files")
    p.add_argument("--big-mib", type=int, default=1024, help="size of the large file")
    p.add_argument("--image-mib", type=int, default=16384, help="size of an image (sparse)")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--only", default="", help="workloads whose names contain one of these, by |")
    p.add_argument("--contestants", default="", help="by comma; all are the default")
    p.add_argument("--kvfs-options", default="", help="for mount.kvfs -o")
    p.add_argument("--list", action="store_true", help="say the names of the workloads")
    return p.parse_args()


def start_all(bench, wanted, running):
    for c in contestants(bench):
        if wanted and c.name not in wanted:
            continue
        reason = c.missing()
        if not reason:
            try:
                c.setup()
            except (Failed, OSError, subprocess.TimeoutExpired) as e:
                c.end()
                reason = str(e)
        if reason:
            print("fsbench: missing: %s: %s" % (c.name, reason), flush=True)
        else:
            running.append(c)


def run_all(bench, running):
    opt = bench.opt
    results = {}
    wanted = opt.only.split("|")
    for name, what in list(WORKLOADS.items()) + list(SPACE.items()):
        if not any(w in name for w in wanted):
            continue
        seen = {}
        for r in range(1 if name in SPACE else opt.rounds):
            for c in running[r % len(running):] + running[:r % len(running)]:
                if c.name == "nostore" and ("cold" in name or name in SPACE):
                    continue  # it has no disk to read from
                try:
                    figures = (bench.space(c, what) if name in SPACE
                               else bench.measure(c, what(opt)))
                    seen.setdefault(c.name, []).append(figures)
                except (Failed, OSError, subprocess.TimeoutExpired) as e:
                    print("fsbench: %s on %s: %s" % (name, c.name, e), file=sys.stderr)
        results[name] = {}
        for c, rounds in seen.items():
            row = [statistics.median(column) for column in zip(*rounds)]
            results[name][c] = row
            print("\t".join(["fsbench", name, c] + ["%d" % x for x in row]), flush=True)
    return results


def main():
    opt = parse()
    if opt.list:
        print("\n".join(list(WORKLOADS) + list(SPACE)))
        return 0
    opt.bin = os.path.abspath(opt.bin)
    if not os.path.exists(os.path.join(opt.bin, LOAD)):
        sys.exit("fsbench: %s has no %s: say --bin" % (opt.bin, LOAD))
    bench = Bench(opt)
    running = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("fsbench: told to end"))
    try:
        bench.sources()
        start_all(bench, [c for c in opt.contestants.split(",") if c], running)
        results = run_all(bench, running) if running else {}
        table(results, [c.name for c in running], ["ext4", "passthrough", "nostore"])
    finally:
        for c in running:
            c.end()
        shutil.rmtree(bench.work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
