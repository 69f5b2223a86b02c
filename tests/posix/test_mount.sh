#!/bin/bash
# SPDX-License-Identifier: MIT
# Mounting and unmounting in every way, mount options, and what is said when it cannot be done.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume
dir=$tmp/m
mkdir "$dir"

options_of() { awk -v d="$1" '$2 == d {print $4}' /proc/self/mounts; }
has_option() { options_of "$1" | tr , '\n' | grep -qx "$2"; }

# ---- what is refused_with ----
refused_with 32 "No such file or directory; make a volume with mkfs.kvfs" mount.kvfs "$vol" "$dir"
: >"$tmp/empty"
refused_with 32 "mkfs.kvfs" mount.kvfs "$tmp/empty" "$dir"
head -c 3000000 /dev/urandom >"$tmp/noise"
refused_with 32 "not a kvfs volume" mount.kvfs "$tmp/noise" "$dir"
[ "$(stat -c %s "$tmp/empty")" = 0 ] || fail "a mount changed a file that is no volume"
make_volume "$vol"
refused_with 32 "make the directory first" mount.kvfs "$vol" "$tmp/absent"
refused_with 32 "not a directory" mount.kvfs "$vol" "$tmp/noise"
refused_with 32 "neither a regular file nor" mount.kvfs "$tmp" "$dir"
refused_with 32 "neither a regular file nor" mount.kvfs /dev/null "$dir"
refused_with 1 "unknown mount option 'frobnicate'" mount.kvfs "$vol" "$dir" -o ro,frobnicate
refused_with 1 "commit=0x1" mount.kvfs "$vol" "$dir" -o commit=0x1
refused_with 1 "1 to 300 seconds" mount.kvfs "$vol" "$dir" -o commit=301
refused_with 1 "1 to 64 threads" mount.kvfs "$vol" "$dir" -o threads=0
refused_with 1 "at least 8M" mount.kvfs "$vol" "$dir" -o cache=1M
refused_with 1 "at least 8M" mount.kvfs "$vol" "$dir" -o cache=12Q
refused_with 1 "usage" mount.kvfs "$vol"
refused_with 1 "unknown switch" mount.kvfs "$vol" "$dir" -X
refused_with 32 "no kvfs volume is mounted there" mount.kvfs "$vol" "$dir" -o remount,ro
head -c 100000 "$vol" >"$tmp/cut"
refused_with 32 "$tmp/cut: " mount.kvfs "$tmp/cut" "$dir"
mount.kvfs --help | grep -q commit= || fail "--help"
mount.kvfs -V | grep -q '^mount.kvfs ' || fail "-V"

# ---- background ----
mount.kvfs "$vol" "$dir" 2>"$tmp/err" </dev/null | cat >"$tmp/out" # the pipe closes with the caller
mountpoint -q "$dir" || fail "not mounted when mount.kvfs returned"
[ "$(cat "$tmp/out" "$tmp/err")" = "" ] || fail "messages: $(cat "$tmp/out" "$tmp/err")"
findmnt -no SOURCE,FSTYPE "$dir" | grep -q "^$vol  *fuse.kvfs" || fail "source in the table of mounts"
df "$dir" | grep -q "^$vol " || fail "source in df"
has_option "$dir" nosuid && fail "root's mount has nosuid"
has_option "$dir" nodev && fail "root's mount has nodev"
has_option "$dir" default_permissions && fail "the kernel checks what it never refuses"
pid=$(daemons "$vol")
for fd in 0 1 2; do
	[ "$(readlink "/proc/$pid/fd/$fd")" = /dev/null ] || fail "stream $fd of the daemon is open"
done
[ "$(readlink "/proc/$pid/cwd")" = / ] || fail "the daemon holds a directory"
echo data >"$dir/file"
mkdir "$tmp/second"
refused32=$(mount.kvfs "$vol" "$tmp/second" 2>&1) && fail "mounted twice"
echo "$refused32" | grep -qF "is already mounted at $dir" || fail "mounted twice: $refused32"
# In use, and then free: a mount right after an umount waits for the daemon.
umount "$dir"
mount.kvfs "$vol" "$dir" || fail "mount right after umount"
[ "$(cat "$dir/file")" = data ] || fail "content after a remount"
for i in 1 2 3 4 5; do
	echo "$i" >"$dir/file$i"
	umount "$dir"
	mount.kvfs "$vol" "$dir" || fail "quick remount $i"
	[ "$(cat "$dir/file$i")" = "$i" ] || fail "content after quick remount $i"
done

# ---- SIGTERM, idle and with files open ----
kill -TERM "$(daemons "$vol")"
wait_closed "$vol"
mountpoint -q "$dir" && fail "mounted after SIGTERM"
mount_volume "$vol" "$dir"
exec 7>"$dir/held"
echo kept >&7
kill -TERM "$(daemons "$vol")"
wait_closed "$vol"
mountpoint -q "$dir" && fail "mounted after SIGTERM with a file open"
exec 7>&-
mount_volume "$vol" "$dir"
[ "$(cat "$dir/held")" = kept ] || fail "what was written before SIGTERM"
# A killed daemon loses nothing that a system call returned.
for i in $(seq 200); do echo "$i" >"$dir/k$i"; done
kill -KILL "$(daemons "$vol")"
refused_dead=$(mount.kvfs "$vol" "$dir" 2>&1) && fail "mounted over a dead mount"
echo "$refused_dead" | grep -q "unmount it first\|already mounted" || fail "dead mount: $refused_dead"
umount "$dir"
mount_volume "$vol" "$dir"
for i in $(seq 200); do [ "$(cat "$dir/k$i")" = "$i" ] || fail "file k$i after a kill"; done
umount_volume "$dir" "$vol"

# ---- foreground ----
mount.kvfs "$vol" "$dir" -f 2>"$tmp/err" &
pid=$!
wait_for mountpoint -q "$dir"
kill -INT "$pid"
wait "$pid" || fail "status $? of the foreground daemon on SIGINT: $(cat "$tmp/err")"
mountpoint -q "$dir" && fail "mounted after SIGINT"
mount.kvfs -f "$vol" "$dir" 2>"$tmp/err" &
pid=$!
wait_for mountpoint -q "$dir"
umount "$dir"
wait "$pid" || fail "status $? of the foreground daemon on umount: $(cat "$tmp/err")"
[ ! -s "$tmp/err" ] || fail "the foreground daemon said: $(cat "$tmp/err")"

# ---- another holder: waited for, and named ----
( flock 9; touch "$tmp/holds"; sleep 4 ) 9<"$vol" &
wait_for test -e "$tmp/holds"
start=$(date +%s%N)
mount_volume "$vol" "$dir"
[ $(($(date +%s%N) - start)) -gt 1000000000 ] || fail "the volume's lock was not respected"
umount_volume "$dir" "$vol"
wait

# ---- options ----
mount_volume "$vol" "$dir" ro,noatime,nosuid,nodev,noexec
for o in ro noatime nosuid nodev noexec; do has_option "$dir" $o || fail "option $o"; done
(: >"$dir/new") 2>/dev/null && fail "a read-only mount was written"
[ "$(cat "$dir/file")" = data ] || fail "reading a read-only mount"
umount_volume "$dir" "$vol"
mount_volume "$vol" "$dir" sync,lazytime,strictatime,commit=5,cache=16M,threads=2,rw,defaults,_netdev,x-test.y=1
echo synced >"$dir/synced"
umount_volume "$dir" "$vol"
mount_volume "$vol" "$dir" writeback,allow_other
head -c 3000000 /dev/urandom >"$tmp/data"
cp "$tmp/data" "$dir/data"
echo more >>"$dir/data" && echo more >>"$tmp/data"
cmp "$tmp/data" "$dir/data" || fail "content with writeback"
# What is in the kernel only, because the file was not closed, is written when the daemon unmounts.
mkfifo "$tmp/end"
python3 -c 'import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(fd, b"dirty\n")
open(sys.argv[2], "w").close()
open(sys.argv[3]).read()' "$dir/dirty" "$tmp/written" "$tmp/end" &
wait_for test -e "$tmp/written"
kill -TERM "$(daemons "$vol")"
wait_closed "$vol"
: >"$tmp/end"
wait
mount_volume "$vol" "$dir"
cmp "$tmp/data" "$dir/data" || fail "content written with writeback, after a remount"
[ "$(cat "$dir/dirty")" = dirty ] || fail "the kernel's dirty pages were lost on SIGTERM"
umount_volume "$dir" "$vol"
# ls -l asks once for labels that nobody obeys, and not for each file.
mount_volume "$vol" "$dir"
mkdir "$dir/many"
(cd "$dir/many" && touch {1..200})
asked() { sed -n 's/^requests_getxattr //p' "$dir/.kvfs/stats"; }
before=$(asked)
ls -l "$dir/many" >"$tmp/out"
if [ ! -e /sys/fs/selinux/enforce ]; then
	[ $(($(asked) - before)) -lt 10 ] || fail "ls -l made $(($(asked) - before)) requests for attributes"
fi
setfattr -n security.selinux -v some:label "$dir/many/7"
[ "$(getfattr --absolute-names --only-values -n security.selinux "$dir/many/7")" = some:label ] ||
	fail "a label that was stored is not read"
rm -r "$dir/many"
umount_volume "$dir" "$vol"
# Where the kernel runs SELinux (here one that is made up), a file without a label has none: the
# daemon must notice, though it has given up most system calls when it looks.
if [ ! -e /sys/fs/selinux/enforce ]; then
	# shellcheck disable=SC2016
	unshare -m bash -ec 'mount -t tmpfs none /sys/fs
		mkdir /sys/fs/selinux
		touch /sys/fs/selinux/enforce
		mount.kvfs "$1" "$2"
		touch "$2/plain"
		getfattr -n security.selinux "$2/plain" || true
		umount "$2"' - "$vol" "$dir" 2>"$tmp/out" || fail "a mount with SELinux: $(cat "$tmp/out")"
	grep -q 'No such attribute' "$tmp/out" || fail "SELinux was not noticed: $(cat "$tmp/out")"
	wait_closed "$vol"
fi

mount_volume "$vol" "$dir" noxattr
setfattr -n user.a -v 1 "$dir/file" 2>/dev/null && fail "noxattr is not obeyed"
umount_volume "$dir" "$vol"
mount.kvfs "$vol" "$dir" -s -o frobnicate || fail "-s"
umount_volume "$dir" "$vol"

# ---- access times ----
atime() { stat -c %x "$dir/file"; }
mount_volume "$vol" "$dir" noatime
before=$(atime) && cat "$dir/file" >/dev/null
[ "$(atime)" = "$before" ] || fail "noatime"
umount_volume "$dir" "$vol"
mount_volume "$vol" "$dir" nodiratime
before=$(stat -c %x "$dir") && touch "$dir/file.in" && ls "$dir" >/dev/null
[ "$(stat -c %x "$dir")" = "$before" ] || fail "nodiratime"
rm "$dir/file.in"
umount_volume "$dir" "$vol"
mount_volume "$vol" "$dir" strictatime
before=$(atime) && sleep 0.02 && cat "$dir/file" >/dev/null
[ "$(atime)" != "$before" ] || fail "strictatime, first read"
before=$(atime) && sleep 0.02 && cat "$dir/file" >/dev/null
[ "$(atime)" != "$before" ] || fail "strictatime, second read"
umount_volume "$dir" "$vol"
mount_volume "$vol" "$dir" relatime
before=$(atime) && sleep 0.02 && cat "$dir/file" >/dev/null
[ "$(atime)" = "$before" ] || fail "relatime, an access time newer than the change"
echo data >"$dir/file" && sleep 0.02 && cat "$dir/file" >/dev/null
umount_volume "$dir" "$vol"

# ---- remount ----
mount_volume "$vol" "$dir" nosuid
mount.kvfs "$vol" "$dir" -o remount,ro || fail "remount,ro"
for o in ro nosuid; do has_option "$dir" $o || fail "remount,ro: $(options_of "$dir")"; done
(: >"$dir/new") 2>/dev/null && fail "written after remount,ro"
mount.kvfs "$vol" "$dir" -o remount,rw || fail "remount,rw"
echo again >"$dir/new" || fail "not written after remount,rw"
exec 7>"$dir/busy"
busy=$(mount.kvfs "$vol" "$dir" -o remount,ro 2>&1) && fail "remount,ro with a file open for writing"
echo "$busy" | grep -q "open for writing" || fail "busy remount: $busy"
exec 7>&-
umount_volume "$dir" "$vol"
mount_volume "$vol" "$dir" ro
mount.kvfs "$vol" "$dir" -o remount,rw || fail "remount,rw of a mount that began read-only"
echo again >"$dir/new2" || fail "not written after ro and remount,rw"
umount_volume "$dir" "$vol"

# ---- mount(8) and fstab, through helpers installed for the test ----
for name in mount.kvfs mount.fuse.kvfs; do
	[ -e "/sbin/$name" ] && continue
	ln -s "$KVFS_BIN/mount.kvfs" "/sbin/$name"
	at_exit rm -f "/sbin/$name"
done
mount -t kvfs "$vol" "$dir" || fail "mount -t kvfs"
has_option "$dir" rw || fail "mount -t kvfs: $(options_of "$dir")"
mount -o remount,ro "$dir" || fail "mount -o remount,ro"
has_option "$dir" ro || fail "mount -o remount,ro: $(options_of "$dir")"
mount -o remount,rw "$dir" || fail "mount -o remount,rw"
has_option "$dir" rw || fail "mount -o remount,rw: $(options_of "$dir")"
umount_volume "$dir" "$vol"
mount -t fuse.kvfs "$vol" "$dir" -o noatime,commit=2 || fail "mount -t fuse.kvfs"
has_option "$dir" noatime || fail "mount -t fuse.kvfs: $(options_of "$dir")"
umount_volume "$dir" "$vol"
echo "$vol $dir kvfs noauto,nosuid,commit=3,x-systemd.device-timeout=5 0 0" >"$tmp/fstab"
mount -T "$tmp/fstab" "$dir" || fail "mount by fstab"
has_option "$dir" nosuid || fail "mount by fstab: $(options_of "$dir")"
umount_volume "$dir" "$vol"
bad=$(mount -t kvfs "$tmp/noise" "$dir" 2>&1) && fail "mount -t kvfs of no volume"
echo "$bad" | grep -q "not a kvfs volume" || fail "mount -t kvfs of no volume: $bad"

# ---- a block device ----
detach() { losetup -d "$1" 2>/dev/null || true; }
if loop=$(losetup -f --show "$vol" 2>/dev/null); then
	at_exit detach "$loop"
	mount_volume "$loop" "$dir"
	[ "$(cat "$dir/file")" = data ] || fail "content through a block device"
	findmnt -no SOURCE "$dir" | grep -qx "$loop" || fail "source of a block device"
	umount_volume "$dir" "$loop"
	detach "$loop"
	loop=$(losetup -r -f --show "$vol")
	at_exit detach "$loop"
	refused_with 32 "cannot be written: Read-only file system; mount it with -o ro" \
		mount.kvfs "$loop" "$dir"
	mount_volume "$loop" "$dir" ro
	[ "$(cat "$dir/file")" = data ] || fail "content of a write-protected device"
	denied=$(mount.kvfs "$loop" "$dir" -o remount,rw 2>&1) && fail "remount,rw of such a device"
	echo "$denied" | grep -q "unmount it and mount it again" || fail "remount,rw: $denied"
	umount_volume "$dir" "$loop"
	detach "$loop"
fi

# ---- an unprivileged user, through fusermount3 ----
user=65534
as_user() { setpriv --reuid=$user --regid=$user --clear-groups env HOME=/ "$@"; }
own=$tmp/own
chmod 711 "$tmp"
mkdir "$own" "$own/m" && chown -R $user:$user "$own"
mode=$(stat -c %a /dev/fuse)
if as_user test -x "$KVFS_BIN/mount.kvfs" && command -v fusermount3 >/dev/null; then
	as_user "$KVFS_BIN/mkfs.kvfs" -q "$own/volume" || fail "mkfs by a user"
	if [ "$mode" = 600 ]; then
		denied=$(as_user mount.kvfs "$own/volume" "$own/m" 2>&1) && fail "mounted without rights"
		echo "$denied" | grep -q "no rights to /dev/fuse" || fail "no rights: $denied"
	fi
	at_exit chmod "$mode" /dev/fuse
	chmod 666 /dev/fuse
	as_user mount.kvfs "$own/volume" "$own/m" || fail "mount by a user"
	for o in nosuid nodev; do has_option "$own/m" $o || fail "a user's mount without $o"; done
	as_user sh -c "echo mine >$own/m/f" || fail "writing in a user's mount"
	as_user fusermount3 -u "$own/m" || fail "fusermount3 -u"
	wait_closed "$own/volume"
	as_user mount.kvfs "$own/volume" "$own/m" || fail "second mount by a user"
	[ "$(as_user cat "$own/m/f")" = mine ] || fail "content of a user's volume"
	as_user kill -TERM "$(daemons "$own/volume")"
	wait_closed "$own/volume"
	mountpoint -q "$own/m" && fail "a user's mount after SIGTERM"
	for o in suid dev; do
		denied=$(as_user mount.kvfs "$own/volume" "$own/m" -o $o 2>&1) && fail "$o by a user"
		echo "$denied" | grep -q "only root may" || fail "$o by a user: $denied"
	done
	denied=$(as_user mount.kvfs "$own/volume" "$dir" 2>&1) && fail "mounted on a directory of root"
	[ "$(echo "$denied" | wc -l)" = 1 ] || fail "on a directory of root: $denied"
	denied=$(as_user mount.kvfs "$vol" "$own/m" 2>&1) && fail "mounted a volume of root"
	echo "$denied" | grep -qi "permission denied" || fail "a volume of root: $denied"
	if ! grep -qs '^ *user_allow_other' /etc/fuse.conf; then
		denied=$(as_user mount.kvfs "$own/volume" "$own/m" -o allow_other 2>&1) && fail allow_other
		echo "$denied" | grep -q user_allow_other || fail "allow_other by a user: $denied"
	fi
	# A volume that may only be read mounts with ro.
	chmod 444 "$own/volume" && chown 0 "$own/volume"
	denied=$(as_user mount.kvfs "$own/volume" "$own/m" 2>&1) && fail "a volume without write access"
	echo "$denied" | grep -q "mount it with -o ro" || fail "no write access: $denied"
	as_user mount.kvfs "$own/volume" "$own/m" -o ro || fail "ro without write access"
	[ "$(as_user cat "$own/m/f")" = mine ] || fail "content of a volume that may only be read"
	umount_volume "$own/m" "$own/volume"
else
	echo "not tested: an unprivileged user (no fusermount3, or no access to $KVFS_BIN)"
fi
echo "mounting works"
