# SPDX-License-Identifier: MIT
"""One writer of the kill test: file operations with a record, outside the volume, of what was
acknowledged. usage: kill_writer.py MOUNT LEDGER NAME SEED

Each step is announced to the ledger before it is made ("try") and confirmed when the system call
returned ("ack"), one line each, so that whoever reads the ledger after a kill knows which state
the files must have: the last acknowledged one, or the one being tried.
"""
import os
import random
import sys


def main():
    mount, ledger_path, name, seed = sys.argv[1:5]
    rng = random.Random(int(seed))
    ledger = os.open(ledger_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    home = os.path.join(mount, name)
    step = 0

    def say(word, text):
        os.write(ledger, f"{word} {step} {text}\n".encode())

    try:
        os.makedirs(home, exist_ok=True)
        log = os.open(os.path.join(home, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        number = os.fstat(log).st_size // 16
        while True:
            step += 1
            kind = rng.choice(["append", "append", "replace", "create", "unlink", "sync"])
            slot = rng.randrange(20)
            if kind == "append":
                say("try", f"append {number}")
                os.write(log, b"%015d\n" % number)
                say("ack", f"append {number}")
                number += 1
            elif kind == "replace":
                size = rng.choice([10, 1000, 5000, 100000])
                value = rng.randrange(1 << 30)
                say("try", f"replace {slot} {value} {size}")
                temporary = os.path.join(home, f"tmp{slot}")
                with open(temporary, "wb", buffering=0) as out:
                    out.write((b"%010d" % value) * (size // 10))
                os.rename(temporary, os.path.join(home, f"file{slot}"))
                say("ack", f"replace {slot} {value} {size}")
            elif kind == "create":
                say("try", f"create {step}")
                os.mkdir(os.path.join(home, f"dir{step}"))
                say("ack", f"create {step}")
            elif kind == "unlink":
                path = os.path.join(home, f"file{slot}")
                if os.path.exists(path):
                    say("try", f"unlink {slot}")
                    os.unlink(path)
                    say("ack", f"unlink {slot}")
            else:
                os.fsync(log)
    except OSError:
        return  # the daemon is gone


main()
