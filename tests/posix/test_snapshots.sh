#!/bin/bash
# SPDX-License-Identifier: MIT
# Snapshots as directories: taking, reading, dropping, mounting; what is refused; many of them.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume
dir=$tmp/m
make_volume "$vol"
mount_volume "$vol" "$dir"
snaps=$dir/.kvfs/snapshots

# ---- the control directory is there and not listed ----
[ "$(find "$dir" | wc -l)" = 1 ] || fail "the root lists .kvfs"
[ "$(ls "$dir/.kvfs")" = "at
channel
commit
conflicts
feed
history
keep
metrics
snapshots
snapshots.tsv
stats
txn" ] || fail "the control directory lists $(ls "$dir/.kvfs")"
[ -s "$dir/.kvfs/snapshots.tsv" ] && fail "snapshots of a new volume"

# ---- its directories can be synced, as tools do after a rename ----
sync "$dir/.kvfs" "$snaps" "$dir/.kvfs/txn" "$dir/.kvfs/stats" || fail "fsync in the control directory"

# ---- a snapshot is the tree as it was ----
mkdir -p "$dir/d/e" "$dir/empty"
echo one >"$dir/d/small"
head -c 1000000 /dev/urandom >"$dir/d/large"
truncate -s 5M "$dir/d/sparse"
ln "$dir/d/small" "$dir/d/e/link"
ln -s ../small "$dir/d/e/symlink"
mkfifo "$dir/d/fifo"
setfattr -n user.k -v value "$dir/d/small"
chmod 600 "$dir/d/large"
chown 12:34 "$dir/d/large"
touch -d '2001-02-03 04:05:06.789' "$dir/d/small" "$dir/d/e"
picture "$dir" + >"$tmp/before"
mkdir "$snaps/first"
picture "$snaps/first" + >"$tmp/snapshot"
diff "$tmp/before" "$tmp/snapshot" || fail "a snapshot differs from what it was taken of"

echo changed >"$dir/d/small"
echo x | dd of="$dir/d/large" bs=1 seek=70000 conv=notrunc status=none
rm -r "$dir/d/e" "$dir/empty"
mv "$dir/d" "$dir/moved"
echo new >"$dir/new"
picture "$snaps/first" + >"$tmp/snapshot"
diff "$tmp/before" "$tmp/snapshot" || fail "a snapshot changed with the tree"
mkdir "$snaps/second"
picture "$dir" + >"$tmp/after"
picture "$snaps/second" + >"$tmp/snapshot"
diff "$tmp/after" "$tmp/snapshot" || fail "a second snapshot"
[ "$(cut -f3 "$dir/.kvfs/snapshots.tsv" | tr '\n' ' ')" = "first second " ] || fail "the list"
[ "$(ls "$snaps")" = "first
second" ] || fail "the listing"
cp "$snaps/first/d/large" "$dir/copy"
cmp "$snaps/first/d/large" "$dir/copy" || fail "a copy out of a snapshot"
# The same file as before, as its number says.
refused "are the same file" cp "$snaps/first/d/small" "$dir/moved/small"

# ---- it cannot be changed ----
refused "Read-only" touch "$snaps/first/x"
refused "Read-only" mkdir "$snaps/first/x"
refused "Read-only" rm "$snaps/first/d/small"
refused "Read-only" rmdir "$snaps/first/empty"
refused "Read-only" mv "$snaps/first/d/small" "$snaps/first/d/x"
refused "Read-only" chmod 777 "$snaps/first/d"
refused "Read-only" setfattr -n user.x -v y "$snaps/first/d"
refused "Read-only" bash -c "echo x >'$snaps/first/d/small'"
refused "Read-only" bash -c "echo x >>'$snaps/first/d/small'"
refused "cross-device" ln "$snaps/first/d/small" "$dir/x"
refused "" mv -T "$snaps/first/d" "$snaps/second/d"

# ---- names and rights ----
refused "File exists" mkdir "$snaps/first"
refused "No such file" rmdir "$snaps/none"
refused "No such file" ls "$snaps/none"
refused "File exists" mkdir "$dir/.kvfs"
refused "not permitted" rmdir "$dir/.kvfs"
refused "not permitted" mv "$dir/.kvfs" "$dir/x"
refused "not permitted" mkdir "$dir/.kvfs/x"
refused "not permitted" touch "$dir/.kvfs/x"
refused "not permitted" mv "$dir/new" "$dir/.kvfs/"
refused "not permitted" mv "$snaps/first" "$snaps/third"
refused "File name too long" mkdir "$snaps/$(printf 'x%.0s' {1..256})"
odd=$snaps/$'a \n\xff\t*'
mkdir "$odd"
[ -d "$odd/moved" ] || fail "a name of strange bytes"
[ "$(wc -l <"$dir/.kvfs/snapshots.tsv")" = 3 ] || fail "a strange name in the list"
rmdir "$odd"
longest=$(printf 'x%.0s' {1..255})
mkdir "$snaps/$longest"
rmdir "$snaps/$longest"

# ---- dropped while in use: the name goes, open files and directories go on ----
exec 5<"$snaps/first/d/large"
want=$(sha256sum <"$dir/copy")
(
	cd "$snaps/first/d"
	rmdir "$snaps/first"
	[ ! -e "$snaps/first" ] || fail "a dropped snapshot is there"
	[ "$(cat small)" = one ] || fail "a dropped snapshot as the working directory"
	mkdir "$snaps/first"
	[ "$(cat small)" = one ] || fail "a new snapshot of the same name"
	[ -e "$snaps/first/moved" ] || fail "the new snapshot shows the old one"
)
[ "$(sha256sum <&5)" = "$want" ] || fail "an open file of a dropped snapshot"
exec 5<&-

# ---- they last; a snapshot as a mount ----
umount_volume "$dir" "$vol"
mount_volume "$vol" "$dir"
picture "$snaps/second" + >"$tmp/snapshot"
diff "$tmp/after" "$tmp/snapshot" || fail "a snapshot after a remount"
echo more >"$dir/more"
umount_volume "$dir" "$vol"
mount_volume "$vol" "$dir" snapshot=second
picture "$dir" + >"$tmp/snapshot"
diff "$tmp/after" "$tmp/snapshot" || fail "a snapshot as a mount"
refused "Read-only" touch "$dir/x"
refused "" mount.kvfs "$vol" "$dir" -o remount,rw
refused "No such file" ls "$dir/.kvfs"
umount_volume "$dir" "$vol"
refused "there is none of that name" mount.kvfs "$vol" "$dir" -o snapshot=none
refused "give the name" mount.kvfs "$vol" "$dir" -o snapshot=
wait_closed "$vol"

# ---- read-only mounts; other inode numbers ----
mount_volume "$vol" "$dir" ro
refused "Read-only" mkdir "$snaps/x"
refused "Read-only" rmdir "$snaps/second"
[ -e "$snaps/second/new" ] || fail "a snapshot of a read-only mount"
umount_volume "$dir" "$vol"
mount_volume "$vol" "$dir" snapshot_ino=unique
[ "$(stat -c %i "$snaps/second/new")" != "$(stat -c %i "$dir/new")" ] || fail "snapshot_ino=unique"
echo newer >"$dir/new"
cp "$snaps/second/new" "$dir/new" || fail "cp with snapshot_ino=unique"
[ "$(cat "$dir/new")" = new ] || fail "cp restored '$(cat "$dir/new")'"

# ---- users ----
chmod 755 "$dir" "$tmp"
if command -v setpriv >/dev/null; then
	umount_volume "$dir" "$vol"
	mount_volume "$vol" "$dir" allow_other
	install -m 600 "$dir/new" "$dir/private"
	mkdir "$snaps/mine"
	user() { setpriv --reuid 1234 --regid 1234 --clear-groups "$@"; }
	[ "$(user cat "$snaps/mine/new")" = new ] || fail "a user reads a snapshot"
	refused "Permission denied" user cat "$snaps/mine/private"
	refused "Permission denied" user mkdir "$snaps/theirs"
	refused "Permission denied" user rmdir "$snaps/mine"
	umount_volume "$dir" "$vol"
	mount_volume "$vol" "$dir" allow_other,nodefault_permissions
	refused "not permitted" user mkdir "$snaps/theirs"
	refused "not permitted" user rmdir "$snaps/mine"
fi

# ---- many, under writes; space comes back ----
for ((i = 0; i < 300; i++)); do
	echo "$i" >"$dir/counter"
	mkdir "$snaps/n$i"
done
for ((i = 0; i < 300; i += 37)); do
	[ "$(cat "$snaps/n$i/counter")" = "$i" ] || fail "snapshot n$i: $(cat "$snaps/n$i/counter")"
done
rmdir "$snaps"/*
[ -z "$(ls "$snaps")" ] || fail "snapshots are left"
umount_volume "$dir" "$vol"
fsck.kvfs "$vol" >"$tmp/out" || fail "fsck: $(cat "$tmp/out")"
