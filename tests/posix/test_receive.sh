#!/bin/bash
# SPDX-License-Identifier: MIT
# kvfs receive into a mounted volume: at one instant under open files and full caches, nothing
# where somebody changed something, breaks and kills, readers that never see a mixture.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume
dir=$tmp/m
copy=$tmp/copy
there=$tmp/there
make_volume "$vol"
make_volume "$copy"
mount_volume "$vol" "$dir"
mount_volume "$copy" "$there" allow_other

# arrived NAME DIR: DIR is the snapshot NAME.
arrived() {
	picture "$dir/.kvfs/snapshots/$1" >"$tmp/p1"
	picture "$2" >"$tmp/p2"
	diff "$tmp/p1" "$tmp/p2" >&2 || fail "$2 is not the snapshot $1"
}

mkdir -p "$dir/d/e" "$dir/move"
seq 1000 >"$dir/d/changed"
echo gone >"$dir/d/gone"
echo moved >"$dir/move/file"
head -c 3000000 /dev/urandom >"$dir/large"
ln "$dir/d/gone" "$dir/link"
setfattr -n user.k -v v "$dir/d"
kvfs snapshot create "$dir" a
kvfs send "$dir" a 2>"$tmp/said" >"$tmp/full"
kvfs receive "$there" <"$tmp/full" >"$tmp/got" || fail "a whole tree"
grep -qF "$(cut -d' ' -f1 "$tmp/got")" "$tmp/said" || fail "root hashes: $(cat "$tmp/said" "$tmp/got")"
arrived a "$there"
[ "$(kvfs snapshot hash "$there" a)" = "$(kvfs snapshot hash "$dir" a)" ] || fail "hash of the snapshot"

# ---- a difference, under those who look
echo more >>"$dir/d/changed"
rm "$dir/d/gone" "$dir/link"
mv "$dir/move" "$dir/d/e/moved"
mkdir "$dir/new"
seq 3000 >"$dir/new/file"
echo x | dd of="$dir/large" bs=1 seek=2000000 conv=notrunc status=none
kvfs snapshot create "$dir" b
kvfs send --from a "$dir" b 2>/dev/null >"$tmp/a-b"
exec 5<"$there/d/changed" 6<"$there/d/gone"
ls -lR "$there" >/dev/null
cat "$there/d/changed" "$there/large" >/dev/null
[ ! -e "$there/new/file" ] || fail "it is there already"
kvfs receive "$there" <"$tmp/a-b" >/dev/null || fail "a difference"
arrived b "$there"
[ "$(tail -1 <&5)" = more ] || fail "an open file"
[ "$(cat <&6)" = gone ] || fail "an open file that is gone"
exec 5<&- 6<&-
kvfs receive "$there" <"$tmp/a-b" >"$tmp/got" 2>"$tmp/err" || fail "receiving twice"
grep -q "received before" "$tmp/err" || fail "receiving twice: $(cat "$tmp/err")"

# ---- what is refused, and changes nothing
refuses() { # STREAM TEXT [DIR]
	! kvfs receive "$there" ${3:+"$3"} <"$1" >"$tmp/out" 2>&1 || fail "received: $1"
	grep -qF -- "$2" "$tmp/out" || fail "no '$2' from $1: $(cat "$tmp/out")"
}
refuses "$tmp/full" "not empty"
refuses /dev/null "no stream"
refuses "$tmp/full" "no such directory" none
echo x >"$dir/c"
kvfs snapshot create "$dir" c
kvfs send --from b "$dir" c 2>/dev/null >"$tmp/b-c"
echo local >"$there/local"
refuses "$tmp/b-c" "was changed since"
[ "$(cat "$there/local")" = local ] && [ ! -e "$there/c" ] || fail "a local change"
rm "$there/local"
kvfs snapshot restore "$there" b # so that the times of the root are as they were
chmod 755 "$tmp"
! setpriv --reuid 1234 --clear-groups "$KVFS_BIN/kvfs" receive "$there" <"$tmp/b-c" >"$tmp/out" 2>&1 ||
	fail "received by a stranger"
mount.kvfs "$copy" "$there" -o remount,ro
refuses "$tmp/b-c" "read-only"
mount.kvfs "$copy" "$there" -o remount,rw
# While it comes.
mkfifo "$tmp/fifo"
kvfs receive "$there" <"$tmp/fifo" >"$tmp/got" 2>"$tmp/err" &
first=$!
exec 7>"$tmp/fifo"
head -c 300 "$tmp/b-c" >&7
wait_for drained "$first" 7
refuses "$tmp/b-c" "another stream"
echo local >"$there/local"
tail -c +301 "$tmp/b-c" >&7
exec 7>&-
! wait "$first" || fail "received over what was changed while it came"
grep -q "was changed since" "$tmp/err" || fail "changed while it came: $(cat "$tmp/err")"
rm "$there/local"
kvfs snapshot restore "$there" b

# ---- breaks: the rest is enough, after a kill and a remount too
for i in $(seq 200); do seq "$i" 400 >"$dir/new/$i"; done
head -c 4000000 /dev/urandom >"$dir/large"
kvfs snapshot create "$dir" f
kvfs send --from b "$dir" f 2>/dev/null >"$tmp/b-f"
size=$(stat -c %s "$tmp/b-f")
head -c $((size / 2)) "$tmp/b-f" >"$tmp/cut"
refuses "$tmp/cut" "ends before its end"
arrived b "$there"
token=$(kvfs receive --token "$there") || fail "no token"
kvfs send --from b --resume "$token" "$dir" f 2>/dev/null >"$tmp/rest"
[ "$(stat -c %s "$tmp/rest")" -lt "$size" ] || fail "all is sent again"
umount_volume "$there" "$copy"
mount_volume "$copy" "$there" allow_other
kvfs receive "$there" <"$tmp/rest" >/dev/null || fail "the rest"
arrived f "$there"
refused_with 1 "no stream was broken off" kvfs receive --token "$there"
echo y >"$dir/y"
kvfs snapshot create "$dir" g
kvfs send --from f "$dir" g 2>/dev/null >"$tmp/f-g"
kvfs receive "$there" <"$tmp/fifo" >/dev/null 2>&1 &
first=$!
exec 7>"$tmp/fifo"
head -c 300 "$tmp/f-g" >&7
wait_for drained "$first" 7
kill -9 "$first"
exec 7>&-
wait "$first" 2>/dev/null || true
kvfs receive "$there" <"$tmp/f-g" >/dev/null || fail "after one that was killed"
arrived g "$there"
kvfs receive --discard "$there" || fail "discard"

# ---- into a directory, while others read it and write beside it
mkdir "$there/in" "$there/beside"
kvfs snapshot drop "$there" a b
kvfs receive "$there" in <"$tmp/full" >/dev/null || fail "into a directory"
kvfs receive "$there/in" <"$tmp/a-b" >/dev/null || fail "into a directory as the target"
arrived b "$there/in"
for n in 1 2 3 4; do
	for i in $(seq 20); do echo "$n" >"$dir/new/$i"; done
	kvfs snapshot create "$dir" "n$n"
	kvfs send --from "$([ "$n" = 1 ] && echo b || echo "n$((n - 1))")" "$dir" "n$n" 2>/dev/null >"$tmp/n$n"
done
(while [ ! -e "$tmp/stop" ]; do date >"$there/beside/now"; done) &
writer=$!
for n in 1 2 3 4; do
	kvfs receive "$there" in <"$tmp/n$n" >/dev/null || fail "under a writer beside it: $n"
	[ "$(sort -u "$there"/in/new/{1..20})" = "$n" ] || fail "a mixture at $n"
done
touch "$tmp/stop"
wait "$writer"
arrived n4 "$there/in"
umount_volume "$there" "$copy"
fsck.kvfs -f "$copy" >"$tmp/out" || fail "fsck: $(cat "$tmp/out")"

# ---- a full volume
small=$tmp/small
make_volume --size 8M --log-size 1M "$small"
mount_volume "$small" "$there"
head -c 12000000 /dev/urandom >"$dir/big"
kvfs snapshot create "$dir" big
! kvfs send "$dir" big 2>/dev/null | kvfs receive "$there" 2>"$tmp/err" || fail "received more than there is room for"
grep -q "no space left on the volume; nothing was changed" "$tmp/err" || fail "a full volume: $(cat "$tmp/err")"
[ -z "$(ls "$there")" ] || fail "the full volume holds something"
refused_with 1 "no stream was broken off" kvfs receive --token "$there"
umount_volume "$there" "$small"
fsck.kvfs -f "$small" >"$tmp/out" || fail "fsck of the full volume: $(cat "$tmp/out")"
