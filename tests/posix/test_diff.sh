#!/bin/bash
# SPDX-License-Identifier: MIT
# kvfs diff: every kind of change between two snapshots, and between a snapshot and now.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume
dir=$tmp/m
make_volume "$vol"
mount_volume "$vol" "$dir"

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

refused_with 1 "no such snapshot" kvfs diff "$dir" none
refused_with 1 "no such snapshot" kvfs diff "$dir" a none
refused_with 1 "no such snapshot" kvfs diff "$dir/new" a
refused_with 2 "give a directory and a snapshot" kvfs diff "$dir"
refused_with 2 "too many" kvfs diff "$dir" a b c
umount_volume "$dir" "$vol"
refused_with 1 "not mounted" kvfs diff "$vol" a
