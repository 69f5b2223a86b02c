#!/bin/bash
# SPDX-License-Identifier: MIT
# The daemon holds no rights while it serves, and does all its work without them, as root and as
# anybody; what an unprivileged mount holds is inert; control files obey their owner.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

user=65534
vol=$tmp/volume dir=$tmp/m
mkdir -p "$dir"
chmod 755 "$tmp" "$dir"

status_of() { sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"; }

# The stewards of the daemon $1.
stewards() { pgrep -x kvfs-steward -P "$1"; }

# expect PID FIELD VALUE: the same in each thread.
expect() {
	local t
	for t in "/proc/$1/task"/*; do
		[ "$(sed -n "s/^$2:[[:space:]]*//p" "$t/status")" = "$3" ] ||
			fail "$2 of ${t##*/} is $(sed -n "s/^$2:[[:space:]]*//p" "$t/status"), not $3"
	done
}

sanitized() { nm -D "$KVFS_BIN/mount.kvfs" | grep -q '__[at]san_init'; }

# confined PID [ROOT]: no thread of the daemon has any right.
confined() {
	local set
	for set in CapInh CapPrm CapEff CapAmb ${2:+CapBnd}; do
		expect "$1" "$set" 0000000000000000
	done
	expect "$1" NoNewPrivs 1
	case $(uname -m) in
	x86_64 | aarch64) sanitized || expect "$1" Seccomp 2 ;;
	esac
}

# Everything that a daemon does which is not only a change in memory.
work_in() {
	local d=$1 i
	echo one >"$d/file"
	head -c 12000000 /dev/urandom >"$d/large" # the volume grows
	sync "$d/large"
	mkdir "$d/.kvfs/snapshots/s"
	for i in $(seq 50); do echo "$i" >"$d/f$i"; done
	[ "$(cat "$d/.kvfs/snapshots/s/file")" = one ] || fail "a snapshot"
	rm "$d/large"
	rmdir "$d/.kvfs/snapshots/s"
	mkdir "$d/dir" && echo one >"$d/dir/file" && kvfs clone "$d" dir copy && rm -r "$d/dir" "$d/copy"
	mkdir "$d/.kvfs/txn/t"
	echo two >"$d/.kvfs/txn/t/file"
	mv "$d/.kvfs/txn/t" "$d/.kvfs/commit" || fail "commit of a transaction"
	kvfs txn "$d" -- sh -c 'echo three >three' || fail "kvfs txn"
	[ "$(cat "$d/file")" = two ] || fail "a transaction"
	kvfs scrub "$d" >/dev/null || fail "kvfs scrub"
	setfattr -n user.a -v b "$d/file"
	python3 -c 'import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
with mmap.mmap(fd, 4) as m: m[0:3] = b"two"' "$d/file"
	[ "$(cat "$d/f50" "$d/file")" = $'50\ntwo' ] || fail "contents"
}

# ---- root, in the background ----
make_volume "$vol"
mount_volume "$vol" "$dir" keep_hourly=2,history=1h
pid=$(daemons "$vol")
confined "$pid" root
work_in "$dir"
confined "$pid" root # threads that were made meanwhile, too
[ "$(stewards "$pid" | wc -l)" = 1 ] || fail "stewards: $(stewards "$pid")"
[ "$(pgrep -f "mount.kvfs $vol $dir")" = "$pid" ] || fail "a steward looks like the daemon"
helper=$(stewards "$pid")
expect "$helper" CapPrm 0000000000200004 # CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH
expect "$helper" CapBnd 0000000000000000
expect "$helper" NoNewPrivs 1
for fd in "/proc/$helper/fd"/*; do
	case $(readlink "$fd") in
	/dev/null | socket:*) ;;
	*) fail "the steward holds $(readlink "$fd")" ;;
	esac
done
kill -TERM "$helper" && kill -INT "$helper" && kill -HUP "$helper"
umount_volume "$dir" "$vol"
[ ! -e "/proc/$helper" ] || fail "the steward outlived its daemon"

# ---- signals, with a file open and without ----
for sig in TERM INT HUP; do
	mount_volume "$vol" "$dir"
	[ "$(cat "$dir/file")" = two ] || fail "contents after a remount"
	kill -$sig "$(daemons "$vol")"
	wait_closed "$vol"
	mountpoint -q "$dir" && fail "mounted after SIG$sig"
done
mount_volume "$vol" "$dir" writeback
exec 7>"$dir/held"
echo kept >&7
kill -TERM "$(daemons "$vol")"
wait_closed "$vol"
mountpoint -q "$dir" && fail "mounted after SIGTERM with a file open"
exec 7>&-

# What is mounted below or above ours is none of our business.
mount -t tmpfs below "$dir"
mount_volume "$vol" "$dir"
[ "$(cat "$dir/held")" = kept ] || fail "what was written before SIGTERM"
exec 7>"$dir/held2"
kill -TERM "$(daemons "$vol")"
wait_closed "$vol"
exec 7>&-
findmnt -no SOURCE "$dir" | grep -qx below || fail "the mount below ours was unmounted"
mount_volume "$vol" "$dir"
mount -t tmpfs above "$dir"
kill -TERM "$(daemons "$vol")"
wait_closed "$vol"
findmnt -no SOURCE "$dir" | grep -qx above || fail "the mount above ours was unmounted"
umount "$dir"
umount -l "$dir"
umount "$dir"
mountpoint -q "$dir" && fail "something is still mounted"

# A killed daemon takes its steward along.
mount_volume "$vol" "$dir"
pid=$(daemons "$vol")
helper=$(stewards "$pid")
kill -KILL "$pid"
steward_gone() { [ ! -e "/proc/$helper" ]; }
wait_for steward_gone
umount "$dir"
# Without its steward a daemon still writes everything and ends.
mount_volume "$vol" "$dir"
echo alone >"$dir/alone"
kill -KILL "$(stewards "$(daemons "$vol")")"
kill -TERM "$(daemons "$vol")"
wait_closed "$vol"
umount "$dir"
mount_volume "$vol" "$dir"
[ "$(cat "$dir/alone")" = alone ] || fail "written without a steward"
umount_volume "$dir" "$vol"

# ---- another user's volume and directory, which root may use ----
mkdir -m 700 "$tmp/theirs"
mkfs.kvfs -q "$tmp/theirs/v"
mkdir -m 700 "$tmp/theirs/m"
chown -R $user:$user "$tmp/theirs"
chmod 600 "$tmp/theirs/v"
mount_volume "$tmp/theirs/v" "$tmp/theirs/m"
work_in "$tmp/theirs/m"
kill -TERM "$(daemons "$tmp/theirs/v")"
wait_closed "$tmp/theirs/v"
mountpoint -q "$tmp/theirs/m" && fail "mounted after SIGTERM, below a directory of another user"

# ---- foreground, and the option that needs to look at processes ----
mount.kvfs -f "$vol" "$dir" -o txn=close 2>"$tmp/err" &
pid=$!
wait_for mountpoint -q "$dir"
confined "$pid" root
[ "$(stewards "$pid" | wc -l)" = 2 ] || fail "stewards with txn=close: $(stewards "$pid")"
for p in $(stewards "$pid"); do status_of "$p" CapPrm; done | sort | tr '\n' ' ' >"$tmp/caps"
[ "$(cat "$tmp/caps")" = "0000000000080004 0000000000200004 " ] || fail "stewards hold $(cat "$tmp/caps")"
# A process that another user owns closes one of two descriptors: not yet the end.
chmod 777 "$dir"
(echo a; echo b) >"$dir/closed"
[ "$(cat "$dir/closed")" = $'a\nb' ] || fail "txn=close"
exec 7>"$dir/twice"
(echo part >&7)
grep -qs . "$dir/twice" && fail "committed at the close of a child"
exec 7>&-
[ "$(cat "$dir/twice")" = part ] || fail "not committed at the last close"
kill -INT "$pid"
wait "$pid" || fail "status $? of the foreground daemon: $(cat "$tmp/err")"
[ ! -s "$tmp/err" ] || fail "the daemon said: $(cat "$tmp/err")"

# ---- switched off ----
mount_volume "$vol" "$dir" noconfine
pid=$(daemons "$vol")
expect "$pid" Seccomp 0
expect "$pid" NoNewPrivs 0
[ "$(status_of "$pid" CapEff)" = "$(status_of $$ CapEff)" ] || fail "noconfine has dropped rights"
[ "$(cat "$dir/file")" = two ] || fail "contents with noconfine"
kill -TERM "$pid"
wait_closed "$vol"
mountpoint -q "$dir" && fail "mounted after SIGTERM with noconfine"

# ---- control files are their owner's ----
as_user() { setpriv --reuid=$user --regid=$user --clear-groups -- "$@"; }
mount_volume "$vol" "$dir" allow_other,history=1h
chmod 755 "$dir"
mkdir -m 700 "$dir/private"
echo of-root >"$dir/secret" && chmod 600 "$dir/secret"
mkdir "$dir/.kvfs/snapshots/s"
mkdir "$dir/.kvfs/txn/mine"
echo also-of-root >"$dir/.kvfs/txn/mine/secret"
before=$(ls "$dir/.kvfs/snapshots" "$dir/.kvfs/txn")
denied() { # COMMAND...: refused, and nothing has changed
	! as_user "$@" >"$tmp/out" 2>&1 || fail "another user may: $*"
	[ "$(ls "$dir/.kvfs/snapshots" "$dir/.kvfs/txn")" = "$before" ] || fail "changed by: $*"
	! grep -q 'of-root' "$tmp/out" || fail "told by: $*"
}
denied mkdir "$dir/.kvfs/snapshots/t"
denied rmdir "$dir/.kvfs/snapshots/s"
denied mv "$dir/.kvfs/snapshots/s" "$dir/.kvfs/snapshots/t"
denied cat "$dir/.kvfs/txn/mine/secret"
denied bash -c "echo x >'$dir/.kvfs/txn/mine/new'"
denied mv "$dir/.kvfs/txn/mine" "$dir/.kvfs/commit"
denied rmdir "$dir/.kvfs/txn/mine"
denied cat "$dir/.kvfs/feed"
denied cat "$dir/.kvfs/snapshots/s/secret"
denied kvfs snapshot drop "$dir" s
denied kvfs snapshot create "$dir" t
denied kvfs clone "$dir" private copy
denied kvfs send "$dir" s
denied kvfs diff "$dir" s
denied kvfs get "$dir" secret
[ "$(cat "$dir/secret")" = of-root ] || fail "another user has changed a file"
[ "$(cat "$dir/.kvfs/txn/mine/secret")" = also-of-root ] || fail "the transaction"
umount_volume "$dir" "$vol"

# ---- anybody's mount: in a namespace where anybody may open /dev/fuse ----
mkdir "$tmp/user" "$tmp/bin"
cp "$KVFS_BIN"/{mount,mkfs}.kvfs "$KVFS_BIN/kvfs" "$tmp/bin"
make_volume "$tmp/user/v"
mount_volume "$tmp/user/v" "$dir"
cp /bin/cat "$dir/set-user-id"
chmod 4755 "$dir/set-user-id"
mknod -m 666 "$dir/device" c 1 3
ln -s /etc/shadow "$dir/link"
chmod 777 "$dir"
umount_volume "$dir" "$tmp/user/v"
mkdir "$tmp/user/m"
chown -R $user:$user "$tmp/user"
cat >"$tmp/inside" <<'END'
set -eu
tmp=$1 user=$2
as_user() { setpriv --reuid="$user" --regid="$user" --clear-groups -- "$@"; }
mount -t tmpfs -o dev,mode=755 dev /dev
mknod -m 666 /dev/fuse c 10 229
mknod -m 666 /dev/null c 1 3
mknod -m 666 /dev/urandom c 1 9
echo user_allow_other >"$tmp/fuse.conf"
mount --bind "$tmp/fuse.conf" /etc/fuse.conf
listen() { # FILE
	rm -f /dev/log
	python3 -c 'import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind("/dev/log")
os.chmod("/dev/log", 0o666)
out = open(sys.argv[1], "w")
while True:
    print(s.recv(4096).decode(), file=out, flush=True)' "$1" 9>&- &
	logger=$!
	while [ ! -S /dev/log ]; do sleep 0.05; done
	sleep 0.1
}
listen "$tmp/log1"
trap 'kill $logger' EXIT
export PATH=$tmp/bin:$PATH
cd "$tmp/user"
gone() { for ((i = 0; i < 400; i++)); do pgrep -x mount.kvfs -u "$user" >/dev/null || return 0; sleep 0.05; done; return 1; }
mine() { pgrep -x mount.kvfs -u "$user"; }

as_user mount.kvfs -v v m -o allow_other || { echo "mount failed"; exit 77; }
for line in nosuid nodev; do grep " $tmp/user/m " /proc/self/mounts | grep -q $line || { echo "no $line"; exit 1; }; done
mine >"$tmp/user.pid"
grep -q '^NoNewPrivs:[[:space:]]*1' "/proc/$(mine)/status" || { echo "the daemon may gain rights"; exit 1; }
grep -q '^Seccomp:[[:space:]]*2' "/proc/$(mine)/status" || [ -e "$tmp/sanitized" ] || { echo "no filter"; exit 1; }
# Set-user-ID bits and devices are inert, links lead where they lead for everybody.
[ -u m/set-user-id ] || { echo "the bit is not stored"; exit 1; }
as_user m/set-user-id /proc/self/status | grep -q "^Uid:[[:space:]]*$user[[:space:]]*$user" || { echo "set-user-id works"; exit 1; }
if as_user cat m/device 2>/dev/null; then echo "a device works"; exit 1; fi
if cat m/device 2>/dev/null; then echo "a device works for root"; exit 1; fi
as_user cat m/link >/dev/null 2>&1 && { echo "a link gives rights"; exit 1; }
as_user bash -c 'head -c 20000000 /dev/urandom >m/large && mkdir m/.kvfs/snapshots/s && echo more >m/more && rm m/large && rmdir m/.kvfs/snapshots/s && mkdir m/.kvfs/txn/t && echo 2 >m/.kvfs/txn/t/more && mv m/.kvfs/txn/t m/.kvfs/commit' >/dev/null
[ "$(cat m/more)" = 2 ]
# syslog is started again: the daemon finds it.
kill $logger; wait $logger 2>/dev/null || true
listen "$tmp/log2"
as_user fusermount3 -u m
gone
grep -q "mounted at $tmp/user/m" "$tmp/log1" || { echo "not logged: mounted"; exit 1; }
grep -q "closed" "$tmp/log2" || { echo "not logged after syslog came back: closed"; exit 1; }

# By signal, idle and with a file open, and in the foreground.
as_user mount.kvfs v m
kill -TERM "$(mine)"
gone
if mountpoint -q m; then echo "mounted after SIGTERM"; exit 1; fi
as_user mount.kvfs v m -o allow_other
exec 7>m/held
echo kept >&7
kill -TERM "$(mine)"
gone
exec 7>&-
if mountpoint -q m; then echo "mounted after SIGTERM with a file open"; exit 1; fi
as_user mount.kvfs -f v m -o allow_other &
while ! mountpoint -q m; do sleep 0.05; done
[ "$(cat m/held)" = kept ]
kill -TERM "$(mine)"
wait $!
if mountpoint -q m; then echo "mounted after SIGTERM in the foreground"; exit 1; fi
END
sanitized && : >"$tmp/sanitized"
chmod 755 "$tmp/bin"/*
status=0
timeout 120 unshare -m --propagation private bash "$tmp/inside" "$tmp" $user >"$tmp/out" 2>&1 || status=$?
[ $status != 77 ] || skip "no mount by anybody here: $(cat "$tmp/out")"
[ $status = 0 ] || fail "anybody's mount: $(cat "$tmp/out")"
fsck.kvfs -n "$tmp/user/v" >"$tmp/out" || fail "fsck: $(cat "$tmp/out")"
echo "confined"
