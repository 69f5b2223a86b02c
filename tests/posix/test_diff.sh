#!/bin/bash
# SPDX-License-Identifier: MIT
# kvfs diff: every kind of change between two snapshots, and between a snapshot and now.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume
dir=$tmp/m
make_volume "$vol"
mount_volume "$vol" "$dir" allow_other

# differs WANT ARGUMENTS...: WANT with spaces for tabs.
differs() {
	local want=$1 got
	shift
	got=$(kvfs diff "$@" | tr '\t' ' ') || fail "kvfs diff $*"
	[ "$got" = "$want" ] || fail "kvfs diff $* says: $got"
}

mkdir -p "$dir/same/deep" "$dir/gone/below" "$dir/z"
for f in same/f same/deep/g gone/below/h z/mode z/touched z/inplace z/replaced z/type z/size z/backdated; do
	echo "content of $f" >"$dir/$f"
done
ln -s a "$dir/z/link"
ln -s a "$dir/z/link2"
head -c 300000 /dev/urandom >"$dir/z/large"
kvfs snapshot create "$dir" a
differs "" "$dir" a
differs "" "$dir" a a

chmod 600 "$dir/z/mode"
touch "$dir/z/touched"
echo x | dd of="$dir/z/inplace" bs=1 seek=3 conv=notrunc status=none
# The same size and time, as rsync leaves it: only the contents tell.
touch -r "$dir/z/backdated" "$tmp/time"
echo y | dd of="$dir/z/backdated" bs=1 seek=3 conv=notrunc status=none
touch -r "$tmp/time" "$dir/z/backdated"
echo "content of z/replaced" >"$dir/z/new"
mv "$dir/z/new" "$dir/z/replaced"
rm "$dir/z/type"
mkdir "$dir/z/type"
echo i >"$dir/z/type/inside"
echo more >>"$dir/z/size"
echo z | dd of="$dir/z/large" bs=1 seek=299999 conv=notrunc status=none
ln -sf b "$dir/z/link"
chown -h 1:1 "$dir/z/link2"
rm -r "$dir/gone"
mkdir -p "$dir/new/below"
echo n >"$dir/new/below/file"
chmod 700 "$dir/same/deep"
odd=$'odd \n\xff'
echo o >"$dir/$odd"
want="- gone
- gone/below
- gone/below/h
+ new
+ new/below
+ new/below/file
+ odd \\x0a\\xff
A same/deep
M z/backdated
M z/inplace
M z/large
M z/link
A z/link2
A z/mode
A z/replaced
M z/size
A z/touched
T z/type
+ z/type/inside"
differs "$want" -b "$dir" a
kvfs snapshot create "$dir" b
rm -r "$dir/z"
differs "$want" -b "$dir" a b
differs "" "$dir" b b
differs "A deep" "$dir/same" a b
[ "$(kvfs diff -0 "$dir" a b | tr -d '\n' | tr '\0' '\n' | wc -l)" = 19 ] || fail "diff -0"
# The other way round.
kvfs diff -b "$dir" b a | tr '\t' ' ' | sed 'y/+-/-+/' | diff - <(echo "$want") || fail "the other way round"

# Renames: of a file, with a change, over another file, of a directory with changes below, there
# and back, and in chains; a new directory in the place of one that was moved away.
mkdir -p "$dir/r/tree/sub" "$dir/r/chain" "$dir/r/out" "$dir/r/inner"
for f in file edited over under tree/f tree/sub/g tree/sub/gone chain/h out/x inner/i; do
	echo "content of $f" >"$dir/r/$f"
done
kvfs snapshot create "$dir" c
mv "$dir/r/file" "$dir/r/moved"
mv "$dir/r/edited" "$dir/r/z"
echo more >>"$dir/r/z"
mv "$dir/r/over" "$dir/r/under"
mv "$dir/r/tree" "$dir/r/wood"
mkdir "$dir/r/tree"
echo n >"$dir/r/tree/f"
echo more >>"$dir/r/wood/f"
rm "$dir/r/wood/sub/gone"
echo n >"$dir/r/wood/sub/new"
mv "$dir/r/wood/sub" "$dir/r/chain/sub"
mv "$dir/r/inner" "$dir/r/tree/inner"
mv "$dir/r/out" "$dir/outside"
mv "$dir/r/chain/h" "$dir/r/chain/sub/h"
renamed="R chain/sub tree/sub
R chain/sub/h chain/h
+ chain/sub/new
R moved file
- out
- out/x
+ tree
+ tree/f
R tree/inner inner
- tree/sub/gone
R under over
R wood tree
M wood/f
R z edited
M z"
differs "$renamed" "$dir/r" c
kvfs diff "$dir" c | tr '\t' ' ' | grep -qx 'R outside r/out' || fail "a directory moved out"
kvfs diff "$dir" c | grep -q 'outside/x' && fail "what is below a directory that was moved is told"
kvfs diff -0 "$dir" c | tr '\0' '\n' | grep -qx 'r/out' || fail "diff -0 of a rename"
kvfs snapshot create "$dir" d
differs "$renamed" "$dir/r" c d
# The other way round each rename is one back.
[ "$(kvfs diff "$dir/r" d c | grep -c ^R)" = 7 ] || fail "renames the other way round"
differs "" "$dir" d
# Names of one file: one more, one less, and a change seen by all.
mkdir "$dir/l"
echo a >"$dir/l/a"
ln "$dir/l/a" "$dir/l/b"
ln "$dir/l/a" "$dir/l/c"
kvfs snapshot create "$dir" e
ln "$dir/l/a" "$dir/l/d"
rm "$dir/l/c"
echo more >>"$dir/l/b"
differs "M a
M b
R d c
M d" "$dir/l" e
mv "$dir/l" "$dir/links"
chmod 600 "$dir/links/a"
differs "R links l
M links/a
M links/b
R links/d l/c
M links/d" "$dir" e
mkdir "$dir/attr"
setfattr -n user.long -v "$(head -c 3000 /dev/zero | tr '\0' x)" "$dir/attr"
kvfs snapshot create "$dir" f
setfattr -n user.long -v "$(head -c 3000 /dev/zero | tr '\0' y)" "$dir/attr"
differs "A attr" "$dir" f

refused_with 1 "no such snapshot" kvfs diff "$dir" none
refused_with 1 "no such snapshot" kvfs diff "$dir" a none
refused_with 1 "not there in both" kvfs diff "$dir/new" a
refused_with 2 "give a volume or directory" kvfs diff "$dir"
refused_with 2 "too many" kvfs diff "$dir" a b c
chmod 755 "$tmp" "$dir"
refused_with 1 "only root" setpriv --reuid 65534 --regid 65534 --clear-groups "$KVFS_BIN/kvfs" diff "$dir" a
umount_volume "$dir" "$vol"
# Not mounted it says the same.
[ "$(kvfs diff -b "$vol" a b | tr '\t' ' ')" = "$want" ] || fail "not mounted"
