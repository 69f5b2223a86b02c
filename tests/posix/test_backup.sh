#!/bin/bash
# SPDX-License-Identifier: MIT
# kvfs snapshot and kvfs backup: their words and exit statuses, and that what tar, rsync and cp take out
# of a snapshot under many writers is one instant.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume
dir=$tmp/m
make_volume "$vol"
mount_volume "$vol" "$dir"
snaps=$dir/.kvfs/snapshots

# ---- kvfs snapshot, through a mount and without ----
mkdir "$dir/sub"
kvfs snapshot create "$dir" one || fail "create"
[ -d "$snaps/one/sub" ] || fail "create made nothing"
kvfs snapshot create "$dir/sub" two || fail "create from a subdirectory"
name=$(kvfs snapshot create "$dir") || fail "create without a name"
[ -d "$snaps/$name" ] || fail "the printed name is '$name'"
kvfs snapshot create "$dir" $'odd \xff\n' || fail "create with strange bytes"
[ "$(kvfs snapshot list -0 "$dir" | tr '\0' '|')" = "one|two|$name|"$'odd \xff\n|' ] || fail "list -0"
kvfs snapshot list -b "$dir" | grep -qE '^20..-..-.. ..:..:.. +[0-9]+[smhd]  +[0-9.]+ [KMG]?i?B  one$' || fail "list: $(kvfs snapshot list "$dir")"
kvfs snapshot list -b "$dir" | grep -qF 'odd\x20\xff\x0a' ||
	kvfs snapshot list -b "$dir" | grep -qF 'odd \xff\x0a' || fail "list -b"
refused_with 1 "already" kvfs snapshot create "$dir" one
refused_with 1 "no slash" kvfs snapshot create "$dir" a/b
refused_with 1 "no slash" kvfs snapshot create "$dir" ..
refused_with 1 "at most 255" kvfs snapshot create "$dir" "$(printf 'x%.0s' {1..256})"
refused_with 1 "no such snapshot" kvfs snapshot drop "$dir" none
refused_with 1 "no such snapshot" kvfs snapshot drop "$dir" two none
[ ! -e "$snaps/two" ] || fail "drop of the first of two"
refused_with 2 "create, list, drop" kvfs snapshot
refused_with 2 "create, list, drop" kvfs snapshot frobnicate "$dir"
refused_with 2 "no volume or directory" kvfs snapshot create
refused_with 2 "no name given" kvfs snapshot drop "$dir"
refused_with 2 "too many" kvfs snapshot create "$dir" a b
refused_with 1 "not of a mounted kvfs volume" kvfs snapshot list "$tmp"
refused_with 1 "it is mounted at" kvfs snapshot list "$vol"
umount_volume "$dir" "$vol"
[ "$(kvfs snapshot list -0 "$vol" | tr '\0' '|')" = "one|$name|"$'odd \xff\n|' ] || fail "list of a volume"
kvfs snapshot drop "$vol" $'odd \xff\n' "$name" || fail "drop of a volume"
kvfs snapshot create "$vol" three || fail "create of a volume"
refused_with 1 "already" kvfs snapshot create "$vol" three
refused_with 1 "no such snapshot" kvfs snapshot drop "$vol" none
refused_with 1 "not mounted" kvfs backup "$vol" -- true
mount_volume "$vol" "$dir"
[ -d "$snaps/three/sub" ] || fail "a snapshot that was taken without a mount"
kvfs snapshot drop "$dir" one three

# ---- kvfs backup: the directory, the exit status, nothing left ----
echo before >"$dir/sub/f"
# shellcheck disable=SC2016
[ "$(kvfs backup "$dir" -- sh -c "echo after >'$dir/sub/f'; cat sub/f; cat \"\$KVFS_SNAPSHOT/sub/f\"")" = "before
before" ] || fail "the command does not see the snapshot"
[ "$(kvfs backup "$dir/sub" -- cat f)" = after ] || fail "backup of a subdirectory"
[ "$(kvfs backup "$dir" cat sub/f)" = after ] || fail "backup without --"
for status in 0 1 3 125; do
	got=0
	kvfs backup "$dir" -- sh -c "exit $status" || got=$?
	[ "$got" = "$status" ] || fail "exit status $got, not $status"
done
got=0
kvfs backup "$dir" -- sh -c 'kill -KILL $$' || got=$?
[ "$got" = 137 ] || fail "exit status $got of a killed command"
got=0
kvfs backup "$dir" -- "$tmp/none" 2>/dev/null || got=$?
[ "$got" = 127 ] || fail "exit status $got of a command that is not there"
got=0
kvfs backup "$dir" -- "$tmp" 2>/dev/null || got=$?
[ "$got" = 126 ] || fail "exit status $got of a directory as the command"
refused_with 2 "no directory given" kvfs backup
refused_with 2 "no command given" kvfs backup "$dir"
refused_with 2 "no command given" kvfs backup "$dir" --
[ -z "$(ls "$snaps")" ] || fail "snapshots are left: $(ls "$snaps")"
# A signal goes to the command, and the snapshot with it.
kvfs backup "$dir" -- sleep 100 &
pid=$!
until [ -n "$(ls "$snaps")" ] && pgrep -P "$pid" -x sleep >/dev/null; do sleep 0.05; done
kill -TERM "$pid"
got=0
wait "$pid" || got=$?
[ "$got" = 143 ] || fail "exit status $got after SIGTERM"
[ -z "$(ls "$snaps")" ] || fail "a snapshot is left after SIGTERM"
mount.kvfs "$vol" "$dir" -o remount,ro
refused_with 1 "read-only" kvfs backup "$dir" -- true
mount.kvfs "$vol" "$dir" -o remount,rw

# ---- one instant, whatever copies it ----
run_python "$KVFS_SRC/tests/posix/instant.py" load "$dir/load" "$tmp/stop" &
load=$!
at_exit touch "$tmp/stop"
until [ -e "$dir/load/3/9" ]; do sleep 0.05; done
check() { run_python "$KVFS_SRC/tests/posix/instant.py" check "$1"; }

torn=0
for ((i = 0; i < 20 && torn < 1; i++)); do
	rm -rf "$tmp/copy"
	cp -r "$dir/load" "$tmp/copy"
	check "$tmp/copy" >/dev/null 2>&1 || torn=$((torn + 1))
done
[ "$torn" -gt 0 ] || fail "no copy of the live tree was torn: the load proves nothing"
for ((i = 0; i < 3; i++)); do
	rm -rf "$tmp/copy"
	mkdir "$tmp/copy"
	kvfs backup "$dir" -- cp -r load "$tmp/copy/cp"
	kvfs backup "$dir/load" -- tar cf "$tmp/copy/tar" .
	mkdir "$tmp/copy/tar.d"
	tar xf "$tmp/copy/tar" -C "$tmp/copy/tar.d"
	check "$tmp/copy/cp" || fail "cp of a snapshot is not one instant"
	check "$tmp/copy/tar.d" || fail "tar of a snapshot is not one instant"
	if command -v rsync >/dev/null; then
		kvfs backup "$dir" -- rsync -a load/ "$tmp/copy/rsync"
		check "$tmp/copy/rsync" || fail "rsync of a snapshot is not one instant"
	fi
done
touch "$tmp/stop"
wait "$load" || fail "the load failed"

# ---- statistics ----
grep -q '^commits [1-9]' "$dir/.kvfs/stats" || fail "stats"
grep -q '^snapshots 0$' "$dir/.kvfs/stats" || fail "stats: snapshots"
size=$(stat -c %s "$dir/.kvfs/metrics")
[ "$size" -gt 1000 ] || fail "metrics have $size bytes"
before=$(grep '^kvfs_requests_total{operation="write"}' "$dir/.kvfs/metrics")
echo x >"$dir/sub/f"
after=$(grep '^kvfs_requests_total{operation="write"}' "$dir/.kvfs/metrics")
[ "$before" != "$after" ] || fail "metrics do not move"
run_python "$KVFS_SRC/tests/posix/instant.py" metrics "$dir/.kvfs/metrics" || fail "metrics are malformed"
# Whoever refuses it: a function of the model, the daemon, or libfuse.
errors() { grep '^request_errors ' "$dir/.kvfs/stats" | cut -d' ' -f2; }
refusals=("rmdir $dir/sub" "setfattr -n nosuch.name -v 1 $dir/sub/f" "mkdir $dir/.kvfs/nosuch")
for refusal in "${refusals[@]}"; do
	before=$(errors)
	$refusal 2>/dev/null && fail "$refusal"
	[ "$(errors)" -gt "$before" ] || fail "not counted: $refusal"
done
