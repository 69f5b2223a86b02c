#!/bin/bash
# SPDX-License-Identifier: MIT
# kvfs snapshot restore: a path of a mount, and all of a volume that is not mounted.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume
dir=$tmp/m
make_volume "$vol"
mount_volume "$vol" "$dir"

mkdir -p "$dir/d/e"
echo one >"$dir/d/f"
ln "$dir/d/f" "$dir/d/e/g"
head -c 500000 /dev/urandom >"$dir/d/large"
setfattr -n user.k -v v "$dir/d/large"
echo root >"$dir/r"
touch -d '2001-02-03 04:05:06.789' "$dir/d/f" "$dir/d/e"
picture "$dir" + >"$tmp/all"
picture "$dir/d" >"$tmp/d"
kvfs snapshot create "$dir" s

# ---- a path of a mount ----
echo two >"$dir/d/f"
rm -r "$dir/d/e"
echo x >"$dir/d/new"
exec 5<"$dir/d/new"
kvfs snapshot restore "$dir" s d || fail "restore of a directory"
picture "$dir/d" >"$tmp/now"
diff "$tmp/d" "$tmp/now" || fail "a restored directory"
[ "$(cat <&5)" = x ] || fail "an open file of what was replaced"
exec 5<&-
rm "$dir/d/large"
kvfs snapshot restore "$dir/d" s large || fail "restore of a file that is gone, from a subdirectory"
cmp "$dir/d/large" "$dir/.kvfs/snapshots/s/d/large" || fail "a restored file"
[ "$(getfattr --only-values -n user.k "$dir/d/large")" = v ] || fail "its attribute"
[ "$(cat "$dir/r")" = root ] || fail "the rest"
[ -z "$(find "$dir" -name '.kvfs-restore*')" ] || fail "a temporary name is left"
refused "not in the snapshot" kvfs snapshot restore "$dir" s none
refused "not in the snapshot" kvfs snapshot restore "$dir" none d
refused "give a path" kvfs snapshot restore "$dir" s
refused "" kvfs snapshot restore "$dir" s ../x
rm -r "$dir/d"
refused "is gone" kvfs snapshot restore "$dir" s d/f
kvfs snapshot restore "$dir" s d || fail "restore of a directory that is gone"
umount_volume "$dir" "$vol"

# ---- all of a volume ----
refused "mount the volume" kvfs snapshot restore "$vol" s d
refused "no such snapshot" kvfs snapshot restore "$vol" none
kvfs snapshot restore "$vol" s || fail "restore of a volume"
mount_volume "$vol" "$dir"
picture "$dir" + >"$tmp/now"
diff "$tmp/all" "$tmp/now" || fail "a restored volume"
echo more >"$dir/more"
umount_volume "$dir" "$vol"
fsck.kvfs -f "$vol" >"$tmp/out" || fail "fsck: $(cat "$tmp/out")"
