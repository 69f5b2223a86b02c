#!/bin/bash
# SPDX-License-Identifier: MIT
# .kvfs/history: the versions of a file as files, the names of what was in a directory, and who may see them.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

v=$tmp/v.kvfs d=$tmp/d
make_volume "$v"
mount_volume "$v" "$d"
h=$d/.kvfs/history

# The contents of the versions of "$1", oldest first, on one line.
versions() {
	(cd "$h/$1" && find . -mindepth 1 -maxdepth 1 -not -type d | sort | xargs cat) | tr '\n' ' '
}

echo "- versions in snapshots"
mkdir "$d/a"
echo one >"$d/a/f"
mkdir "$d/.kvfs/snapshots/s1"
mkdir "$d/.kvfs/snapshots/s2"
echo two >"$d/a/f"
mkdir "$d/.kvfs/snapshots/s3"
echo three-now >"$d/a/f"
[ "$(versions a/f)" = "one two three-now " ] || fail "versions: $(versions a/f)"
for f in "$h"/a/f/*; do
	[[ ${f##*/} =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z$ ]] || fail "a name: $f"
	[ "$(date -u -d "$(stat -c %z "$f")" +%Y-%m-%dT%H:%M:%S.%NZ)" = "${f##*/}" ] || fail "not its time: $f"
done
now=$(printf '%s\n' "$h"/a/f/* | tail -n 1) first=$(printf '%s\n' "$h"/a/f/* | head -n 1)
[ "$(stat -c '%s %y' "$now")" = "$(stat -c '%s %y' "$d/a/f")" ] || fail "size or time of the newest"
diff "$now" "$d/a/f" || fail "the newest is not what is there"
! diff "$first" "$d/a/f" >/dev/null || fail "all are the same"
[ "$(stat -c %s "$h"/a/f/* | tr '\n' ' ')" = "4 4 10 " ] || fail "sizes: $(stat -c %s "$h"/a/f/*)"
cp "$first" "$d/a/copy"
[ "$(cat "$d/a/copy")" = one ] || fail "a version cannot be copied"
! (echo x >"$first") 2>/dev/null || [ "$(cat "$first")" = one ] || fail "a version was written"
! rm "$first" 2>/dev/null || fail "a version was removed"
! mkdir "$h/x" 2>/dev/null || fail "a directory was made in it"
! touch "$h/a/f/x" 2>/dev/null || fail "a file was made in it"
! stat "$h/a/never" >/dev/null 2>&1 || fail "what never was is there"
! stat "$h/a/f/2001-01-01T00:00:00.000000000Z" >/dev/null 2>&1 || fail "a version that never was"

echo "- nothing that is listed is old"
echo four >"$d/a/f"
versions a/f | grep -q "four $" || fail "the newest is missing: $(versions a/f)"
(
	cd "$h/a/f" || exit 1
	n=$(find . -mindepth 1 | wc -l)
	mkdir "$d/.kvfs/snapshots/s4"
	rm "$d/a/f"
	[ "$(find . -mindepth 1 | wc -l)" -ge 3 ] || exit 1
	[ "$n" -ge 4 ] && [ "$(pwd)" = "$h/a/f" ]
) || fail "whoever is in it is thrown out"
rmdir "$d/.kvfs/snapshots/s4"
[ "$(versions a/f | cut -d' ' -f1-2)" = "one two" ] || fail "versions of what is gone: $(versions a/f)"

echo "- directories show what was in them; what was both shows both"
mkdir -p "$d/x/y"
echo deep >"$d/x/y/f"
echo "" >"$d/x/"$'strange \xff\n\\name'
mkdir "$d/.kvfs/snapshots/t1"
rm -r "$d/x"
echo file >"$d/x"
mkdir "$d/.kvfs/snapshots/t2"
rm "$d/x"
[ "$(find "$h/x" -mindepth 1 -maxdepth 1 -type d -printf . | wc -c)" = 2 ] || fail "names: $(ls -b "$h/x")"
[ "$(versions x)" = "file " ] || fail "what was a file then: $(versions x)"
[ "$(versions x/y/f)" = "deep " ] || fail "below what is gone: $(versions x/y/f)"
[ -d "$h/x/"$'strange \xff\n\\name' ] || fail "a strange name"
[[ " $(echo "$h"/*) " = *" $h/x "* ]] || fail "what is gone is not listed at the top"
[ "$(find "$h" -mindepth 1 -maxdepth 1 -name '*kvfs*')" = "" ] || fail "the control directory is listed"
find "$h" >"$tmp/all" || fail "it cannot be walked"
grep -q "/x/y/f/2.*Z$" "$tmp/all" || fail "walked: $(cat "$tmp/all")"
long=$(printf 'l%.0s' $(seq 200)) at=$d
for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do at=$at/$long; done
mkdir -p "$at"
echo far >"$at/f"
ln -s nowhere "$at/link"
mkdir "$d/.kvfs/snapshots/t3"
rm -r "${d:?}/$long"
[ "$(versions "${at#"$d"/}/f")" = "far " ] || fail "a long path"
[ "$(readlink "$h/${at#"$d"/}/link/"*)" = nowhere ] || fail "a symbolic link"

echo "- kvfs log tells the same"
[ "$(kvfs log -0 "$d" a/f | tr '\0' '\n' | tac | xargs cat | tr '\n' ' ')" = "$(versions a/f)" ] || fail "kvfs log"
refused_with 1 "a directory" kvfs log "$d" x/y
umount_volume "$d" "$v"

echo "- every version, with history"
mount_volume "$v" "$d" history=1h
echo 0 >"$d/many"
for i in $(seq 300); do echo "$i" >"$d/many"; done
# Opening with > cuts the file first, which is a version too.
[ "$(versions many | tr ' ' '\n' | grep -c '[0-9]')" = 301 ] || fail "versions: $(versions many)"
find "$h/many" -type f | sort -c || fail "not in order"
[ "$(find "$h/many" -type f | uniq -d | wc -l)" = 0 ] || fail "a name twice"
head -c 300000 /dev/urandom >"$d/big"
cp "$d/big" "$tmp/big1"
printf x | dd of="$d/big" bs=1 seek=200000 conv=notrunc status=none
cmp -s "$tmp/big1" "$d/big" && fail "the test does nothing"
cmp "$tmp/big1" "$(printf '%s\n' "$h"/big/* | tail -n 2 | head -n 1)" || fail "the one before the last"
cmp "$d/big" "$(printf '%s\n' "$h"/big/* | tail -n 1)" || fail "the last"
before=$(find "$h/many" -type f | wc -l)
mv "$d/many" "$d/other"
mv "$d/a" "$d/b"
echo "in b" >"$d/b/new"
[ "$(find "$h/many" -type f | wc -l)" = "$before" ] || fail "renaming it took versions away"
[ "$(versions b/new)" = "in b " ] || fail "below what was moved"
[ "$(versions b/copy)" = "one " ] || fail "moved with its directory"
! stat "$h/a/new" >/dev/null 2>&1 || fail "it never was there"
umount_volume "$d" "$v"

echo "- nobody sees what the rights of its time do not let him see"
if [ "$(id -u)" = 0 ]; then
	mount_volume "$v" "$d" history=1h,allow_other
	chmod 755 "$tmp"
	as() { setpriv --reuid 4711 --regid 4711 --clear-groups "$@"; }
	install -d -m 755 "$d/open" && install -d -m 700 "$d/shut"
	echo open >"$d/open/f"
	echo shut >"$d/shut/f"
	(umask 077 && echo own >"$d/open/own")
	as cat "$h/open/f/"* | grep -q open || fail "what all may see"
	! as ls "$h/shut/f" >/dev/null 2>&1 || fail "a directory that is shut was passed"
	[ "$(as ls "$h/shut" | wc -l)" = 0 ] || fail "names in a directory that is shut: $(as ls "$h/shut")"
	last=$(printf '%s\n' "$h"/shut/f/* | tail -n 1)
	cat "$last" >/dev/null || fail "root may"
	! as cat "$last" >/dev/null 2>&1 || fail "what root has looked up is open to others"
	! as stat "$last" >/dev/null 2>&1 || fail "it can be asked for"
	! as cat "$h"/open/own/* >/dev/null 2>&1 || fail "the mode of the file does not count"
	chmod 755 "$d/shut"
	echo later >"$d/shut/f"
	[ "$(as sh -c "cat '$h'/shut/f/*" | tr '\n' ' ')" = "shut later " ] ||
		fail "open since then: $(as sh -c "cat '$h'/shut/f/*")"
	! as cat "$last.2" >/dev/null 2>&1 || fail "a name"
	chmod 700 "$d/shut"
	echo again >"$d/shut/f"
	as ls "$h/shut/f" >/dev/null || fail "it was open once"
	! as sh -c "cat '$h'/shut/f/*" | grep -q again || fail "what was shut again is open"
	umount_volume "$d" "$v"
fi
fsck.kvfs -n "$v" >"$tmp/fsck" || fail "fsck: $(cat "$tmp/fsck")"
echo "each version is a file"
