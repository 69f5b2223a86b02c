#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Everything at random through a real mount, for as long as wanted, with bounds.

usage: soak.py [--minutes N] [--seed N] [--workers N] [--dir DIR] [--size BYTES] [--rss-max MIB]
               [--keep] [--verbose]

Rounds of some seconds. In each the volume is mounted with other options; workers (worker.py) make
file operations and transactions and compare what they read with a model; a `kvfs watch` follows;
meanwhile snapshots are taken, hashed, dropped, restored and sent to a second volume, directories
are cloned, the volume is scrubbed, compacted, and filled until ENOSPC. A round ends with an unmount
or a kill -9 of the daemon. Then everything acknowledged must be there, snapshots must have the
hash that they had, and fsck.kvfs must find nothing. In the end all is removed and the space must
come back. Ctrl-C ends it in the same way. Exit status 0 only if there was no finding; else
the volumes are kept.
"""
import argparse
import collections
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import worker

OPTIONS = ["", "", "writeback", "txn=close", "history=1h", "commit=5", "threads=2", "lazytime",
           "history=20s,writeback", "strictatime", "noatime,txn=close,history=1h"]
CACHE = "cache=32M"
RECOVERY_MAX_S = 120
SPACE_BACK_S = 300
SNAPSHOTS_MAX = 5


class Soak:
    def __init__(self, args):
        self.args = args
        self.rng = random.Random(args.seed)
        self.dir = args.dir or tempfile.mkdtemp(prefix="kvfs-soak.")
        os.makedirs(self.dir, exist_ok=True)
        self.volume, self.mount = self.path("volume"), self.path("m")
        self.copy, self.copy_mount = self.path("copy"), self.path("c")
        self.models = [worker.Model() for _ in range(args.workers)]
        self.snapshots = {}  # name: hash, None if its making was not acknowledged
        self.sent = None     # the newest snapshot that the copy has
        self.own = [{}]      # states that the steward's directory may have
        self.names = self.rounds = self.rss_max = self.watched = self.bytes = 0
        self.recovery_max = 0.0
        self.counts = collections.Counter()
        self.findings = []
        self.stop, self.killed = threading.Event(), threading.Event()
        self.pid = None

    def path(self, name):
        return os.path.join(self.dir, name)

    def finding(self, text):
        self.findings.append(text)
        print("FINDING " + text, flush=True)

    def say(self, text):
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    # ---- programs ----

    def run(self, *command, stdin=None, binary=False):
        """Its output; None if it failed, which is a finding unless the daemon was killed."""
        done = subprocess.run(command, stdin=stdin, capture_output=True, check=False, timeout=600,
                              start_new_session=True)
        if done.returncode:
            self.failed(" ".join(command), done)
            return None
        return done.stdout if binary else done.stdout.decode(errors="surrogateescape")

    def failed(self, what, done):
        """A finding, unless the daemon was killed or the volume is full, as it may be here."""
        said = done.stderr.decode(errors="replace")[:300]
        if "no space left" in said.lower():
            self.counts["no space"] += 1
        elif not self.killed.is_set():
            self.finding(f"{what}: status {done.returncode}: {said}")

    def kvfs(self, *arguments):
        return self.run("kvfs", *arguments)

    def mount_volume(self, volume, where, options):
        began = time.monotonic()
        done = subprocess.run(["mount.kvfs", volume, where, "-o", ",".join(filter(None, options))],
                              capture_output=True, check=False, timeout=600, start_new_session=True)
        if done.returncode:
            self.finding(f"mount.kvfs {volume}: {done.stderr.decode()[:300]}")
        return time.monotonic() - began

    def daemon_of(self, volume):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if os.path.basename(words[0]) == b"mount.kvfs" and os.fsencode(volume) in words:
                return int(pid)
        return None

    def unmount(self, volume, where):
        subprocess.run(["umount", "-l", where], check=False, capture_output=True)
        for _ in range(6000):
            if not self.daemon_of(volume):
                return
            time.sleep(0.05)
        self.finding(f"the daemon of {volume} does not end")

    def sample(self):
        """Memory of the daemon, until the round ends."""
        while not self.sampled.wait(0.3):
            try:
                with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
                    kib = [int(line.split()[1]) for line in f if line.startswith("VmRSS:")]
            except (OSError, ValueError):
                continue
            self.rss_max = max([self.rss_max] + kib)

    # ---- the steward: one thing at a time, beside the workers ----

    def take_snapshot(self):
        if len(self.snapshots) >= SNAPSHOTS_MAX:
            self.drop_snapshot()
        self.names += 1
        name = f"s{self.names}"
        self.snapshots[name] = None
        if self.kvfs("snapshot", "create", self.mount, name) is None:
            return None
        self.snapshots[name] = ""  # it is there; the hash is not known yet
        found = self.kvfs("snapshot", "hash", self.mount, name)
        if found:
            self.snapshots[name] = found
        return name

    def drop_snapshot(self):
        for name in [n for n, h in self.snapshots.items() if h and n != self.sent][:1]:
            self.check_hash(name)
            known, self.snapshots[name] = self.snapshots[name], None
            if self.kvfs("snapshot", "drop", self.mount, name) is not None:
                del self.snapshots[name]
            elif not self.killed.is_set():
                self.snapshots[name] = known

    def check_hash(self, name):
        found = self.kvfs("snapshot", "hash", self.mount, name)
        if found and self.snapshots[name] and found != self.snapshots[name]:
            self.finding(f"snapshot {name} is not what it was")

    def send(self):
        name = self.take_snapshot()
        if not name:
            return
        stream = self.path("stream")
        first = ["--from", self.sent] if self.sent else []
        with open(stream, "wb") as out:
            done = subprocess.run(["kvfs", "send", *first, self.mount, name], stdout=out, check=False,
                                  stderr=subprocess.PIPE, timeout=600, start_new_session=True)
        if done.returncode:
            self.failed("kvfs send", done)
            return
        self.bytes += os.path.getsize(stream)
        with open(stream, "rb") as f:
            done = subprocess.run(["kvfs", "receive", self.copy_mount], stdin=f, check=False,
                                  capture_output=True, timeout=600, start_new_session=True)
        os.unlink(stream)
        if done.returncode:
            self.failed("kvfs receive", done)
            subprocess.run(["kvfs", "receive", "--discard", self.copy_mount], check=False,
                           capture_output=True, start_new_session=True)
            return
        done = subprocess.run(["kvfs", "snapshot", "hash", self.copy_mount, name], check=False,
                              capture_output=True, start_new_session=True)
        if self.snapshots[name] and done.stdout.decode() != self.snapshots[name]:
            self.finding(f"snapshot {name} arrived as something else")
        if self.sent:
            subprocess.run(["kvfs", "snapshot", "drop", self.copy_mount, self.sent], check=False,
                           start_new_session=True)
        self.sent = name

    def clone(self):
        name = self.take_snapshot()
        if not name:
            return
        source = self.rng.choice([f"w{i}" for i in range(len(self.models))])
        to = self.path("m/clone")
        if self.kvfs("clone", "-s", name, self.mount, "/" + source, "/clone") is None:
            return
        self.run("diff", "-r", os.path.join(self.mount, ".kvfs/snapshots", name, source), to)
        for folder, _, files in os.walk(to):
            for f in files[:2]:
                with open(os.path.join(folder, f), "r+b") as out:
                    out.write(b"changed in the clone")
        shutil.rmtree(to)
        self.check_hash(name)

    def read_own(self):
        home, state = self.path("m/own"), {}
        for f in sorted(os.listdir(home)):
            with open(os.path.join(home, f), "rb") as got:
                state[f] = got.read()
        return state

    def restore(self):
        """A directory that only the steward changes goes back to what it was."""
        home = self.path("m/own")
        before = self.read_own()
        if before not in self.own:
            self.finding("own is in no state that it may have, before a restore")
        self.own = [before]  # of those that there may be since a full volume broke one off
        name = self.take_snapshot()
        if not name:
            return
        for i in range(self.rng.randrange(1, 6)):
            f = f"f{self.rng.randrange(12)}"
            data = worker.content(self.rng.randrange(1 << 40), self.rng.choice([5, 4000, 90000]))
            now = dict(self.own[-1])
            now[f] = data
            self.own = [self.own[-1], now]
            temporary = self.path("m/tmp.own")
            with open(temporary, "wb") as out:
                out.write(data)
            os.rename(temporary, os.path.join(home, f))
            self.own = [now]
        self.own = [self.own[0], before]
        if self.kvfs("snapshot", "restore", self.mount, name, "own") is None:
            return
        self.own = [before]
        if self.read_own() != before:
            self.finding(f"own is not what it was in {name} after restoring it")

    def scrub(self):
        self.kvfs("scrub", "--rate", "0", self.mount)

    def at(self):
        """An older state can be walked."""
        if "history" not in self.options:
            return
        done = subprocess.run(["kvfs", "at", self.mount, "2s"], capture_output=True, check=False,
                              timeout=600, start_new_session=True)
        where = done.stdout.decode().strip()
        if not done.returncode and where:
            subprocess.run(["du", "-s", where], capture_output=True, check=False, timeout=600,
                           start_new_session=True)

    def fill(self):
        """ENOSPC, for the workers too, and back."""
        big, full = self.path("m/big"), False
        try:
            with open(big, "wb", buffering=0) as out:
                while not full and not self.killed.is_set():
                    try:
                        self.bytes += out.write(self.rng.randbytes(1 << 20))
                        os.fsync(out.fileno())  # with writeback nothing else is ever told
                    except OSError as e:
                        full = e.errno == 28
                        if not full:
                            raise
            time.sleep(self.rng.random())
        except OSError as e:
            if e.errno == 28:
                full = True  # at close: what was collected
            elif not self.killed.is_set():
                self.finding(f"filling the volume: {e}")
        try:
            os.unlink(big)
        except FileNotFoundError:
            pass
        except OSError as e:
            if not self.killed.is_set():
                self.finding(f"removing from a full volume: {e}")
        self.counts["enospc"] += full

    STEWARD = [take_snapshot, take_snapshot, drop_snapshot, send, clone, restore, restore, scrub,
               at, fill]

    def steward(self, until):
        while time.monotonic() < until and not self.stop.is_set() and not self.killed.is_set():
            what = self.rng.choice(self.STEWARD)
            if self.args.verbose:
                self.say(what.__name__)
            try:
                what(self)
            except OSError as e:
                if e.errno == 28:
                    continue
                if not self.killed.is_set():
                    self.finding(f"{what.__name__}: {e}")
                return
            self.counts[what.__name__] += 1
            if self.findings:
                return
            time.sleep(0.2)

    # ---- a round ----

    def start_workers(self):
        children = []
        for i, model in enumerate(self.models):
            seed = f"{self.args.seed}-{self.rounds}-{i}"
            ledger = self.path(f"ledger{i}")
            if os.path.exists(ledger):
                os.unlink(ledger)
            children.append(multiprocessing.Process(
                target=lambda *a: sys.exit(worker.main(*a)),
                args=(self.mount, f"w{i}", model, ledger, seed)))
            children[-1].start()
        return children

    def end_workers(self, children):
        for c in children:
            if not self.killed.is_set():
                c.terminate()
        for i, c in enumerate(children):
            c.join(300)
            if c.exitcode is None:
                self.finding(f"worker {i} hangs")
                c.kill()
            elif c.exitcode not in ((0, 3) if self.killed.is_set() else (0,)):
                self.finding(f"worker {i} ended with {c.exitcode}")

    def follow(self):
        """kvfs watch: the numbers of commits go up."""
        with subprocess.Popen(["kvfs", "watch", "-b", self.mount], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, start_new_session=True) as p:
            self.watcher, last = p, 0
            for line in p.stdout:
                number = line.split(b"\t", 1)[0]
                if not line.endswith(b"\n") or not number.isdigit():
                    continue
                if int(number) < last:
                    self.finding(f"watch: commit {number} after {last}")
                last = int(number)
                self.watched += 1

    def kill(self):
        self.killed.set()
        os.kill(self.pid, signal.SIGKILL)

    def round(self, seconds):
        self.rounds += 1
        kill = self.rounds % 2 == 1
        self.options = self.rng.choice(OPTIONS)
        self.say(f"round {self.rounds}: {seconds:.0f} s, {self.options or 'no options'}"
                 f"{', then kill -9' if kill else ''}")
        self.killed.clear()
        self.mount_volume(self.volume, self.mount, [CACHE, self.options])
        self.pid = self.daemon_of(self.volume)
        if not self.pid:
            self.finding("no daemon")
            return
        os.makedirs(self.path("m/own"), exist_ok=True)
        self.sampled = threading.Event()
        threads = [threading.Thread(target=self.sample), threading.Thread(target=self.follow)]
        for t in threads:
            t.start()
        children = self.start_workers()
        timer = threading.Timer(seconds * self.rng.uniform(0.5, 1), self.kill)
        if kill:
            timer.start()
        self.steward(time.monotonic() + seconds)
        if kill and not self.stop.is_set() and not self.findings:
            timer.join()
        timer.cancel()
        self.end_workers(children)
        self.counts["kills"] += self.killed.is_set()
        self.sampled.set()
        self.watcher.terminate()
        for t in threads:
            t.join()
        self.unmount(self.volume, self.mount)
        self.check()

    def check(self):
        """The volume after a round, read by another daemon."""
        killed, self.options = self.killed.is_set(), ""
        self.killed.clear()
        dice = self.rng.random()
        if dice < 0.4:
            self.fsck(self.volume)
        elif dice < 0.5:
            self.counts["compact"] += 1
            self.kvfs("compact", self.volume)
        took = self.mount_volume(self.volume, self.mount, [CACHE])
        if killed:
            self.recovery_max = max(self.recovery_max, took)
            if took > RECOVERY_MAX_S:
                self.finding(f"recovery took {took:.0f} s")
        self.check_files(killed)
        self.check_snapshots()
        self.unmount(self.volume, self.mount)

    def check_files(self, killed):
        for i, model in enumerate(self.models):
            home = self.path(f"m/w{i}")
            before = len(self.findings)
            ledger = self.path(f"ledger{i}")
            if not os.path.exists(ledger):
                continue
            self.count(ledger)
            pending = worker.replay(model, ledger)
            excused = model.links(worker.paths_of(pending)) if pending else set()
            wrong = worker.difference(model, home, excused)
            if wrong:
                self.finding(f"{'after a kill: ' if killed else ''}{wrong}")
            if pending and pending[0] == "txn":
                self.check_txn(model, home, pending)
            if len(self.findings) == before:
                worker.adopt(model, home, excused)
        try:
            own = self.read_own()
        except OSError as e:
            self.finding(f"own: {e}")
            return
        if own not in self.own:
            self.finding("own is in no state that it may have")
        self.own = [own]
        for left in ("clone", "big", "tmp.own"):
            path = self.path("m/" + left)
            if os.path.isdir(path):
                shutil.rmtree(path)
            elif os.path.exists(path):
                os.unlink(path)

    def check_txn(self, model, home, op):
        """A transaction that was being made when the daemon died is there whole or not at all."""
        new = {}
        for inner in op[3]:
            new[inner[1]] = worker.content(inner[2], inner[3])
        there = []
        for path, data in new.items():
            full, old = os.path.join(home, path), model.names.get(path)
            got = None
            if os.path.exists(full):
                with open(full, "rb") as f:
                    got = f.read()
            was = None if old is None else model.data[old]
            if got == data and was != data:
                there.append(True)
            elif got != data and (old in model.unknown or got == was):
                there.append(False)
            elif got != data:
                self.finding(f"{full} has what no transaction wrote")
        if len(set(there)) > 1 or (True in there and not op[2]):
            self.finding(f"{home}: half of a transaction is there: {op}")

    def count(self, ledger):
        with open(ledger, encoding="ascii") as f:
            for line in f:
                if line.startswith('["ack", ["'):
                    self.counts["op " + line.split('"')[3]] += 1
                elif line.startswith('["fail'):
                    self.counts["op refused"] += 1

    def check_snapshots(self):
        there = set(os.listdir(self.path("m/.kvfs/snapshots")))
        sure = {n for n, h in self.snapshots.items() if h is not None}
        if not sure <= there or not there <= set(self.snapshots):
            self.finding(f"snapshots {sorted(there)} instead of {sorted(self.snapshots)}")
        self.snapshots = {n: h for n, h in self.snapshots.items() if n in there}
        for name in sorted(self.snapshots):
            if not self.snapshots[name]:
                self.snapshots[name] = self.kvfs("snapshot", "hash", self.mount, name)
            elif self.rng.random() < 0.5:
                self.check_hash(name)

    def fsck(self, volume):
        self.counts["fsck"] += 1
        self.run("fsck.kvfs", "-f", "-n", volume)

    # ---- the whole ----

    def avail(self):
        st = os.statvfs(self.mount)
        return st.f_bavail * st.f_frsize

    def give_back(self):
        """Without files, snapshots and history the space is there again."""
        self.mount_volume(self.volume, self.mount, [CACHE])
        for name in list(self.snapshots):
            self.kvfs("snapshot", "drop", self.mount, name)
        for name in os.listdir(self.mount):
            if name != ".kvfs":
                shutil.rmtree(self.path("m/" + name))
        until = time.monotonic() + SPACE_BACK_S
        while self.avail() < self.empty * 0.95 and time.monotonic() < until:
            time.sleep(0.2)
        if self.avail() < self.empty * 0.95:
            self.finding(f"of {self.empty} bytes only {self.avail()} came back")
        self.left = self.avail()
        self.unmount(self.volume, self.mount)
        self.fsck(self.volume)
        size = os.stat(self.volume).st_size
        if size > self.args.size:
            self.finding(f"the volume has {size} bytes, more than {self.args.size}")

    def start(self):
        for v, m in (self.volume, self.mount), (self.copy, self.copy_mount):
            os.makedirs(m, exist_ok=True)
            if os.path.exists(v):
                os.unlink(v)
            self.run("mkfs.kvfs", "-q", "--size", str(self.args.size), v)
        self.mount_volume(self.volume, self.mount, [CACHE])
        self.empty = self.avail()
        self.unmount(self.volume, self.mount)
        self.mount_volume(self.copy, self.copy_mount, [CACHE])

    def soak(self):
        end = time.monotonic() + self.args.minutes * 60
        self.start()
        while not self.stop.is_set() and not self.findings and time.monotonic() < end:
            self.round(min(self.rng.uniform(4, 15), max(2, end - time.monotonic())))
        if not self.findings:
            self.give_back()
        if self.rss_max > self.args.rss_max * 1024:
            self.finding(f"the daemon had {self.rss_max // 1024} MiB of memory")

    def clean(self):
        for volume, where in (self.volume, self.mount), (self.copy, self.copy_mount):
            if os.path.ismount(where) or self.daemon_of(volume):
                self.unmount(volume, where)
        if not self.findings and os.path.exists(self.copy):
            self.fsck(self.copy)
        if self.findings or self.args.keep:
            print(f"kept: {self.dir}")
        else:
            shutil.rmtree(self.dir)

    def report(self):
        ops = sum(n for k, n in self.counts.items() if k.startswith("op ") and k != "op refused")
        print(f"seed {self.args.seed}: {self.rounds} rounds, {ops} operations acknowledged, "
              f"{self.watched} changes watched, {self.bytes >> 20} MiB filled and sent")
        print("  " + ", ".join(f"{k.replace('op ', '')} {n}" for k, n in sorted(self.counts.items())))
        print(f"  most memory {self.rss_max // 1024} MiB, longest recovery "
              f"{self.recovery_max:.2f} s, {len(self.findings)} findings")


def main():
    p = argparse.ArgumentParser(description="random everything through a real mount")
    p.add_argument("--minutes", type=float, default=15)
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--workers", type=int, default=3)
    p.add_argument("--dir")
    p.add_argument("--size", type=int, default=256 << 20)
    p.add_argument("--rss-max", type=int, default=400)
    p.add_argument("--keep", action="store_true")
    p.add_argument("--verbose", action="store_true")
    s = Soak(p.parse_args())
    print(f"seed {s.args.seed}, in {s.dir}", flush=True)
    signal.signal(signal.SIGINT, lambda *_: s.stop.set())
    signal.signal(signal.SIGTERM, lambda *_: s.stop.set())
    try:
        s.soak()
    finally:
        s.clean()
        s.report()
    return 1 if s.findings else 0


if __name__ == "__main__":
    sys.exit(main())
