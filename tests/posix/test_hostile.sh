#!/bin/bash
# SPDX-License-Identifier: MIT
# A volume made by somebody who means harm: no name in it leads out of the mount or gives a terminal
# orders, and nothing of it is followed by the daemon or the tools.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume dir=$tmp/m
esc=$'\e'

# clean COMMAND...: it ends, and what it says holds no control character but tabs and newlines.
clean() {
	timeout 60 "$@" >"$tmp/out" 2>&1 </dev/null || true
	! LC_ALL=C grep -q $'[\x01-\x08\x0b-\x1f\x7f-\xff]' "$tmp/out" ||
		fail "not escaped by $*: $(cat -v "$tmp/out")"
}

# on_terminal COMMAND...: the same on a terminal, where names are shown.
on_terminal() {
	timeout 60 script -qec "$(printf '%q ' "$@")" /dev/null >"$tmp/out" 2>&1 </dev/null || true
	tr -d '\r' <"$tmp/out" >"$tmp/out2"
	! LC_ALL=C grep -q $'[\x01-\x08\x0b-\x1f\x7f-\xff]' "$tmp/out2" ||
		fail "not escaped on a terminal by $*: $(cat -v "$tmp/out2")"
}

# ---- names that a program may make, but a terminal must not obey ----
mkfs.kvfs -q -L "label${esc}[31m" "$vol"
mount_volume "$vol" "$dir" allow_other,txn_expire=1
evil="evil${esc}]0;title"$'\a'$'\n'"next"$'\x9b'"31m"$'\xff\xfe'
echo x >"$dir/$evil"
mkdir "$dir/d$evil"
echo x >"$dir/d$evil/$evil"
ln -s "$evil" "$dir/link"
mkdir "$dir/.kvfs/snapshots/s${esc}[31m"
echo changed >"$dir/$evil"
for c in "ls -l $dir" "snapshot list $dir" "info $dir"; do
	# shellcheck disable=SC2086
	on_terminal kvfs $c
done
on_terminal kvfs diff "$dir" "s${esc}[31m"
on_terminal kvfs log "$dir" "$evil"
on_terminal kvfs scan "$dir"
clean kvfs get "$dir" "no$evil"
clean kvfs snapshot drop "$dir" "no${esc}[31m"
clean kvfs clone "$dir" "no$evil" to
clean cat "$dir/.kvfs/snapshots.tsv" "$dir/.kvfs/stats" "$dir/.kvfs/metrics"
clean cat "$dir/.kvfs/conflicts" "$dir/.kvfs/feed"
umount_volume "$dir" "$vol"
# The daemon's messages: a name is a part of a line, never a line.
mount.kvfs -f -v "$vol" "$dir" -o allow_other,txn_expire=1 2>"$tmp/err" &
pid=$!
wait_for mountpoint -q "$dir"
mkdir "$dir/.kvfs/txn/t"$'\n'"mount.kvfs: forged${esc}[31m"
expired() { [ -z "$(ls "$dir/.kvfs/txn")" ]; }
wait_for expired
umount "$dir"
wait "$pid"
grep -q 'has expired' "$tmp/err" || fail "no message of a transaction that expired"
! grep -q '^mount.kvfs: forged' "$tmp/err" || fail "a name forged a message: $(cat -v "$tmp/err")"
clean cat "$tmp/err"
clean kvfs dump "$vol"
clean fsck.kvfs -fvn "$vol"
clean mkfs.kvfs "$vol"
grep -q 'labelled "label.x1b\[31m"' "$tmp/out" || fail "mkfs on a labelled volume: $(cat "$tmp/out")"
on_terminal kvfs info "$vol"
on_terminal kvfs ls -l "$vol"

# ---- names that no program can make ----
rm "$vol"
make_volume "$vol"
mount_volume "$vol" "$dir"
mkdir "$dir/dir"
echo content >"$dir/dir/victim"
ln -s /etc "$dir/outside"
echo fine >"$dir/fine"
! kvfs log "$dir" outside/passwd >"$tmp/out" 2>&1 || fail "kvfs log has followed a link: $(cat "$tmp/out")"
umount_volume "$dir" "$vol"
hostile snapshots "$vol" || fail "cannot make snapshots"
mount_volume "$vol" "$dir"
[ "$(ls "$dir/.kvfs/snapshots")" = "$(printf 'evil\033[31m\nname')" ] ||
	fail "another list of snapshots"
clean cat "$dir/.kvfs/snapshots.tsv"
! grep -q '\.\.\|/' "$tmp/out" || fail "snapshots.tsv names: $(cat "$tmp/out")"
kvfs log "$dir" passwd >"$tmp/out" 2>&1 || true
! grep -q 'etc\|\.\.' "$tmp/out" || fail "kvfs log has looked outside: $(cat "$tmp/out")"
clean kvfs snapshot list -b "$dir"
! grep -q '/\|\.\.' "$tmp/out" || fail "kvfs snapshot list: $(cat "$tmp/out")"
# Symbolic links of the volume are shown, not followed.
for p in outside/passwd outside/../etc/passwd; do
	for c in "log $dir $p" "get $dir $p" "ls $dir outside" "put $dir outside/kvfs-test x" "rm $dir outside/passwd"; do
		# shellcheck disable=SC2086
		timeout 20 kvfs $c >"$tmp/out" 2>&1 </dev/null || true
		! grep -q 'root:\|^[^k].*passwd' "$tmp/out" || fail "kvfs $c has followed a link: $(cat "$tmp/out")"
	done
done
[ ! -e /etc/kvfs-test ] || fail "written through a link"
umount_volume "$dir" "$vol"
clean fsck.kvfs -fn "$vol"

hostile names "$vol" || fail "cannot make names"
mount_volume "$vol" "$dir"
[ "$(cat "$dir/fine")" = fine ] || fail "a sound file beside"
status=0
ls -a "$dir/dir" >"$tmp/out" 2>"$tmp/err" || status=$?
[ $status != 0 ] || fail "listed: $(cat "$tmp/out")"
grep -qi 'input/output error\|clean' "$tmp/err" || fail "listing said $(cat "$tmp/err")"
! grep -q 'a/b\|up' "$tmp/out" || fail "listed: $(cat "$tmp/out")"
[ "$(cat "$dir/dir/victim")" = content ] || fail "the victim"
timeout 60 tar -C "$dir" -cf "$tmp/tar" . 2>/dev/null || true
! tar -tf "$tmp/tar" | grep -q '\.\./\|a/b' || fail "tar has $(tar -tf "$tmp/tar")"
umount_volume "$dir" "$vol"
for c in "ls $vol dir" "scan $vol"; do
	# shellcheck disable=SC2086
	clean kvfs $c
	! grep -q '^\.\.\|\.\./' "$tmp/out" || fail "kvfs $c: $(cat "$tmp/out")"
done
status=0
fsck.kvfs -fn "$vol" >"$tmp/out" 2>&1 || status=$?
[ $status = 4 ] || fail "fsck -n: status $status: $(cat "$tmp/out")"
fsck.kvfs -y "$vol" >"$tmp/out" 2>&1 || [ $? = 1 ] || fail "fsck -y: $(cat "$tmp/out")"
fsck.kvfs -fn "$vol" >"$tmp/out" 2>&1 || fail "after the repair: $(cat "$tmp/out")"
mount_volume "$vol" "$dir"
ls -aR "$dir/dir" "$dir/lost+found" >"$tmp/out" 2>&1 || true
ls -a "$dir/dir" >/dev/null || fail "not listed after the repair"
[ "$(cat "$dir/dir/victim")" = content ] || fail "the victim after the repair"
umount_volume "$dir" "$vol"
echo "harmless"
