#!/bin/bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2094 # reading what is being written is the point here
# txn=close: what is written between an open and its close is seen and kept as a whole; the option
# for all, and for directories; what is refused.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume
dir=$tmp/m
make_volume --size 128M "$vol"
mount_volume "$vol" "$dir" txn=close
run_python "$KVFS_SRC/tests/posix/close.py" "$dir"

# ---- a shell's redirections: several descriptors and processes, one transaction ----
cd "$dir"
echo old >key
{
	echo new
	[ "$(cat key)" = old ] || fail "a redirection is seen half-done: $(cat key)"
	sh -c 'echo more'
	[ "$(cat key)" = old ] || fail "the close of a child is taken for the end: $(cat key)"
} >key
[ "$(cat key)" = "new
more" ] || fail "after the redirection: $(cat key)"
echo line >>key
[ "$(tail -n 1 key)" = line ] || fail "an append: $(cat key)"
(
	echo a
	! env test -e fresh || fail "a new file is there for others"
	[ -z "$(find . -name fresh)" ] || fail "a new file is listed"
	refused "No such file" cat fresh
) >fresh
[ "$(cat fresh)" = a ] || fail "a new file"
[ "$(find . -name fresh)" = ./fresh ] || fail "a new file is not listed"
for ((i = 0; i < 200; i++)); do
	echo "$i" >counter
	[ "$(cat counter)" = "$i" ] || fail "round $i shows $(cat counter)"
done
: >key
[ -e key ] && [ ! -s key ] || fail "an emptied file"
: >touched
[ -e touched ] || fail "an empty new file"
seq 1000 | tee copy >/dev/null
sed -i s/^7// copy
[ "$(wc -l <copy)" = 1000 ] || fail "sed -i"
head -c 5000000 /dev/urandom >large
cp -p large large2
cmp large large2 || fail "cp of a large file"
[ "$(stat -c %y large)" = "$(stat -c %y large2)" ] || fail "cp -p keeps times"
dd if=large of=large2 bs=100000 count=1 seek=7 conv=notrunc status=none
cmp -s <(head -c 700000 large) <(head -c 700000 large2) || fail "what was not overwritten"
cmp -s <(head -c 100000 large) <(tail -c +700001 large2 | head -c 100000) || fail "what was"
[ "$(stat -c %s large2)" = 5000000 ] || fail "the size of what was overwritten in part"
cd /

# ---- killed in the middle: the old or the new ----
echo old >"$dir/key"
echo half | dd of="$dir/other" status=none
exec 5>"$dir/key" 6>"$dir/never"
echo half >&5
echo half >&6
# shellcheck disable=SC2046
kill -9 $(daemons "$vol")
exec 5>&- 6>&-
umount -l "$dir"
wait_closed "$vol"
fsck.kvfs "$vol" >"$tmp/out" || fail "fsck after a kill: $(cat "$tmp/out")"
mount_volume "$vol" "$dir" txn=close
[ "$(cat "$dir/key")" = old ] || fail "a crash leaves $(cat "$dir/key")"
[ ! -e "$dir/never" ] || fail "a crash leaves a file that was never closed"
[ "$(cat "$dir/other")" = half ] || fail "what was closed before a crash"

# ---- a full volume: close tells, and the old contents stay ----
if head -c 200M /dev/urandom >"$dir/key" 2>"$tmp/out"; then
	fail "200 MB fit into 128"
fi
[ "$(cat "$dir/key")" = old ] || fail "a full volume leaves half of a file"
fill() { bash -c "echo new >'$dir/key'" 2>/dev/null; } # its space comes back by and by
wait_for fill
[ "$(cat "$dir/key")" = new ] || fail "the volume stays full"
umount_volume "$dir" "$vol"

# ---- per directory ----
mount_volume "$vol" "$dir" txn=directory
mkdir -p "$dir/d/e" "$dir/plain"
setfattr -n user.kvfs.txn -v close "$dir/d"
refused "Invalid" setfattr -n user.kvfs.txn -v Close "$dir/d"
refused "Invalid" setfattr -n user.kvfs.txn -v close "$dir/key"
echo old | tee "$dir/d/e/key" >"$dir/plain/key"
exec 5>"$dir/d/e/key" 6>"$dir/plain/key"
echo new >&5
echo new >&6
[ "$(cat "$dir/d/e/key")" = old ] || fail "a directory that asks for it"
[ "$(cat "$dir/plain/key")" = new ] || fail "a directory that does not"
exec 5>&- 6>&-
[ "$(cat "$dir/d/e/key")" = new ] || fail "the close in a directory that asks for it"
setfattr -n user.kvfs.txn -v write "$dir/d/e"
exec 5>"$dir/d/e/key"
echo newer >&5
[ "$(cat "$dir/d/e/key")" = newer ] || fail "a directory that asks for the contrary"
exec 5>&-
umount_volume "$dir" "$vol"
refused "exclude each other" mount.kvfs "$vol" "$dir" -o txn=close,writeback
refused "unknown mount option" mount.kvfs "$vol" "$dir" -o txn=open
fsck.kvfs "$vol" >"$tmp/out" || fail "fsck: $(cat "$tmp/out")"
echo "an open file is one transaction"
