#!/bin/sh
# SPDX-License-Identifier: MIT
# mkfs.kvfs: what it makes, what it refuses, and that nothing half-made is ever left.
# A volume is locked through the file that is given to the tool.
# shellcheck disable=SC2094
set -u

mkfs="$KVFS_BIN/mkfs.kvfs"
fsck="$KVFS_BIN/fsck.kvfs"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failed=0

fail() {
	echo "FAIL: $*"
	failed=1
}

# makes ARGS...: it succeeds, and the volume, which is the last argument, is sound.
makes() {
	"$mkfs" "$@" >out 2>err || fail "mkfs.kvfs $*: $(cat err)"
	[ -s err ] && fail "mkfs.kvfs $*: printed on stderr: $(cat err)"
	for last in "$@"; do :; done
	"$fsck" -n "$last" >out.fsck 2>&1 || fail "mkfs.kvfs $*: not sound: $(cat out.fsck)"
}

# refuses WORDS ARGS...: exit code 1 and one line on stderr that contains WORDS.
refuses() {
	words=$1
	shift
	"$mkfs" "$@" >out 2>err
	[ $? -eq 1 ] || fail "mkfs.kvfs $*: exit code"
	[ "$(wc -l <err)" -eq 1 ] || fail "mkfs.kvfs $*: not one line: $(cat err)"
	grep -q -- "$words" err || fail "mkfs.kvfs $*: '$words' is not in: $(cat err)"
}

# --- what it makes ---------------------------------------------------------------
makes new
grep -q '^size *grows on demand' out || fail "summary: $(cat out)"
makes -q -f new
[ -s out ] && fail "-q printed: $(cat out)"
makes -f -L 'a label' -U 7D444840-9dc0-11d1-b245-5ffdce74fad2 --size 64M --log-size 2M new
grep -q '^label *a label$' out || fail "label: $(cat out)"
grep -q '^uuid *7d444840-9dc0-11d1-b245-5ffdce74fad2$' out || fail "uuid: $(cat out)"
grep -q '^size *64 MiB$' out || fail "size: $(cat out)"
grep -q '^log *2 MiB$' out || fail "log size: $(cat out)"
[ "$(stat -c %s new)" -eq 67108864 ] || fail "size of the file"
makes -f --checksum blake2b --compress none --log-size 1M new
grep -q 'blake2b, none' out || fail "algorithms: $(cat out)"
makes -f --checksum sha512-256 --log-size 1M new
: >empty
makes --log-size 1M empty
truncate -s 20M zeros
makes --log-size 1M zeros
"$mkfs" --help | grep -q VOLUME || fail "--help"
"$mkfs" --version | grep -q '^mkfs.kvfs [0-9]' || fail "--version"

# --- what it refuses --------------------------------------------------------------
refuses 'use -f' new
makes -f -q -L 'a label' --log-size 1M new
refuses 'labelled "a label"' new
echo 'my only copy' >text
refuses 'use -f' text
[ "$(cat text)" = 'my only copy' ] || fail "a text file was overwritten"
if command -v /sbin/mke2fs >/dev/null; then
	truncate -s 8M ext
	/sbin/mke2fs -q -F ext
	refuses 'ext[234] file system' ext
	makes -f -q --log-size 1M ext
fi
refuses 'no volume given'
refuses 'more than one' a b
refuses 'unknown option' --frobnicate a
refuses 'unknown option' -qx a
refuses 'needs an argument' a -L
refuses 'a label has' -L "$(printf %065d 0)" a
refuses 'a UUID looks' -U 123 a
refuses 'a UUID looks' -U 00000000-0000-0000-0000-000000000000 a
for size in 0 -1 12Q 1.5G K '' 99999999999999T; do
	refuses 'a size is' --size "$size" a
done
refuses '1M to 1G' --log-size 1000K a
refuses '1M to 1G' --log-size 2G a
refuses 'choose sha256' --checksum crc32 a
refuses 'choose snappy' --compress zip a
refuses 'too small' --size 7M a
refuses 'too small' --size 64M --log-size 63M a
refuses 'does not exist' absent/a
mkdir place
refuses 'is a directory' place
refuses 'neither a regular file' /dev/null
refuses 'cannot be read' -d absent a
refuses 'needs a directory' -d text a
refuses 'lies inside' -d place place/a
refuses 'lies inside' -d . a
[ -e a ] && fail "a refusal left a file"
[ -e place/a ] && fail "a refusal left a file"

# --- in use -------------------------------------------------------------------------
if command -v flock >/dev/null; then
	makes -f -q --log-size 1M new
	before=$(sha256sum <new)
	(
		flock 9
		refuses 'in use' -f new
		exit $failed
	) 9<new || failed=1
	[ "$(sha256sum <new)" = "$before" ] || fail "a volume in use was changed"
fi

# --- no room -------------------------------------------------------------------------
rm -f a
(
	trap '' XFSZ
	ulimit -f 2048
	"$mkfs" --size 64M a >out 2>err
) && fail "a file size limit was not noticed"
[ -e a ] && fail "a failed mkfs left a file"
if [ "$(id -u)" -eq 0 ] && mkdir full && mount -t tmpfs -o size=6m none full 2>/dev/null; then
	refuses 'no space left' --log-size 8M full/a
	[ -e full/a ] && fail "a full disk: a file is left"
	umount full
fi

# --- filling --------------------------------------------------------------------------
mkdir -p tree/one/two tree/empty
echo small >tree/small
ln tree/small tree/one/again
ln -s ../small tree/one/link
mkfifo tree/fifo
head -c 300000 /dev/urandom >tree/one/two/big
truncate -s 3M tree/sparse
i=0
while [ $i -lt 500 ]; do
	echo "file $i" >"tree/one/two/f$i"
	i=$((i + 1))
done
makes -q -d tree filled
"$fsck" -nv filled >out || fail "filled: $(cat out)"
grep -q '^files 503, directories 4, symlinks 1, others 1, further names [12]' out ||
	fail "filled: $(cat out)"
# Many files through the smallest log.
mkdir many
(cd many && seq 6000 | xargs touch)
makes -q --log-size 1M -d many small
grep -q 'files 6000,' out.fsck || fail "many: $(cat out.fsck)"
# Too small for it: no volume is left.
rm -f a
head -c 12000000 /dev/urandom >tree/large
refuses 'do not fit' --size 8M -d tree a
[ -e a ] && fail "files that do not fit: a volume is left"
truncate -s 8M given
refuses 'do not fit' --size 8M -d tree given
"$fsck" -n given >out 2>&1
[ $? -eq 8 ] || fail "files that do not fit: a volume is left in the file given"

# --- interrupted ------------------------------------------------------------------------
for delay in 0.01 0.05 0.2; do
	rm -f a
	timeout -s INT $delay "$mkfs" -q --log-size 512M -d tree a >out 2>err
	code=$?
	if [ $code -eq 0 ]; then
		"$fsck" -n a >out 2>&1 || fail "finished in time but not sound"
	elif [ -e a ]; then
		fail "interrupted after $delay: a file is left (code $code)"
	fi
done

[ $failed -eq 0 ] && echo "mkfs.kvfs: all as promised"
exit $failed
