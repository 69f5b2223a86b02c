#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Much of one kind: 200,000 files in one directory, a 5 GiB sparse file, a 1 GiB file read back
# with its checksum.
. "$(dirname "$0")/lib.sh"

vol=$tmp/v.kvfs
mnt=$tmp/mnt
make_volume "$vol"
mount_volume "$vol" "$mnt"

mkdir "$mnt/many"
cat >"$tmp/many.py" <<-'EOF'
	import os, sys
	os.chdir(sys.argv[1])
	for i in range(200000):
	    fd = os.open("f%06d" % i, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
	    if i % 1000 == 0:
	        os.write(fd, b"%d" % i)
	    os.close(fd)
EOF
python3 "$tmp/many.py" "$mnt/many"
[ "$(find "$mnt/many" -type f | wc -l)" = 200000 ] || fail "200,000 files: find"
# shellcheck disable=SC2012
[ "$(ls -f "$mnt/many" | wc -l)" = 200002 ] || fail "200,000 files: ls -f"
[ "$(cat "$mnt/many/f123000")" = 123000 ] || fail "one of 200,000"

truncate -s 5G "$mnt/sparse"
for gib in 0 1 2 3 4; do
	printf 'mark %d' $gib | dd of="$mnt/sparse" bs=1 seek=$((gib * 1073741824 + 4093)) conv=notrunc status=none
done
[ "$(stat -c %s "$mnt/sparse")" = 5368709120 ] || fail "sparse size"
[ "$(du -k "$mnt/sparse" | cut -f1)" -lt 2048 ] || fail "a sparse file takes $(du -k "$mnt/sparse")"
for gib in 0 1 2 3 4; do
	got=$(dd if="$mnt/sparse" bs=1 skip=$((gib * 1073741824 + 4093)) count=6 status=none)
	[ "$got" = "mark $gib" ] || fail "sparse content at $gib GiB: $got"
done

# Pseudo-random bytes that do not compress, the same each time they are asked for.
stream() {
	openssl enc -aes-128-ctr -nosalt -K 00112233445566778899aabbccddeeff \
		-iv 00000000000000000000000000000000 </dev/zero 2>/dev/null | head -c 1073741824
}
want=$(stream | sha256sum)
stream | dd of="$mnt/big" bs=1M conv=fsync iflag=fullblock status=none
[ "$(sha256sum <"$mnt/big")" = "$want" ] || fail "1 GiB, warm"
umount_volume "$mnt" "$vol"
fsck.kvfs -f -n "$vol" || fail "fsck: $?"

mount_volume "$vol" "$mnt"
[ "$(sha256sum <"$mnt/big")" = "$want" ] || fail "1 GiB after a remount"
[ "$(find "$mnt/many" -type f | wc -l)" = 200000 ] || fail "200,000 files after a remount"
cp --sparse=always "$mnt/sparse" "$tmp/sparse"
cmp "$mnt/sparse" "$tmp/sparse" || fail "sparse copy"
rm -r "$mnt/many"
rm "$mnt/big" "$mnt/sparse"
[ -z "$(ls -A "$mnt")" ] || fail "something is left"
umount_volume "$mnt" "$vol"
fsck.kvfs -f -n "$vol" || fail "fsck at the end: $?"
