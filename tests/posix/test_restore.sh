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

# ---- a snapshot of a directory ----
mkdir -p "$dir/o/p/q"
echo old >"$dir/o/p/q/f"
echo beside >"$dir/o/beside"
kvfs snapshot create --of o/p "$dir" part || fail "create --of"
kvfs snapshot create -o / "$dir/o/p/q" below || fail "create --of below a directory"
[ "$(ls "$dir/.kvfs/snapshots/part")" = q ] || fail "it shows $(ls "$dir/.kvfs/snapshots/part")"
[ "$(cat "$dir/.kvfs/snapshots/part/q/f" "$dir/.kvfs/snapshots/below/f")" = $'old\nold' ] || fail "what it shows"
[ "$(stat -c %i "$dir/.kvfs/snapshots/part")" = "$(stat -c %i "$dir/o/p")" ] || fail "its number"
(cd "$dir/.kvfs/snapshots/part/q/../.." && [ "$(pwd -P)" = "$(realpath "$dir")/.kvfs/snapshots" ]) || fail "above it"
kvfs snapshot list "$dir" | grep -qE '  part  of o/p$' || fail "list: $(kvfs snapshot list "$dir")"
[ "$(tail -1 "$dir/.kvfs/snapshots.tsv" | cut -f3,5)" = $'below\to/p/q' ] || fail "the list"
echo new >"$dir/o/p/q/f"
kvfs snapshot restore "$dir" part o/p/q || fail "restore of a part"
[ "$(cat "$dir/o/p/q/f")" = old ] || fail "what was restored"
refused "of another directory" kvfs snapshot restore "$dir" part o/beside
refused "of another directory" kvfs snapshot restore "$dir" part q
refused "no such directory" kvfs snapshot create --of none "$dir" x
refused "no such directory" kvfs snapshot create --of o/beside "$dir" x
refused "already" kvfs snapshot create --of o "$dir" part
refused "is for create" kvfs snapshot drop --of o "$dir" part
refused "of a directory" kvfs snapshot hash "$dir" part
refused "of a directory" kvfs diff "$dir" part
refused "of a directory" kvfs send "$dir" part
kvfs clone -s part "$dir" q o/q2 && [ "$(cat "$dir/o/q2/f")" = old ] || fail "clone of a part"
umount_volume "$dir" "$vol"
mount_volume "$vol" "$dir" snapshot=part
[ "$(cat "$dir/q/f")" = old ] || fail "mounted: $(ls "$dir")"
umount_volume "$dir" "$vol"
refused "of a directory" kvfs snapshot restore "$vol" part
kvfs snapshot create --of o "$vol" offline || fail "create --of of a volume"
kvfs snapshot list "$vol" | grep -qE '  offline  of o$' || fail "list of a volume"
kvfs snapshot drop "$vol" part below offline

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
