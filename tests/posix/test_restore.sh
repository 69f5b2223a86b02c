#!/bin/bash
# SPDX-License-Identifier: MIT
# kvfs snapshot restore: a path of a mount, and all of a volume, mounted or not.
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
refused "give a path" kvfs snapshot restore "$dir/d" s
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

# ---- all of a mounted volume ----
mount_volume "$vol" "$dir" allow_other
mkdir -p "$dir/t/sub" "$dir/t/away"
seq 1000 >"$dir/t/changed"
echo gone >"$dir/t/removed"
echo moved >"$dir/t/sub/moved"
ln "$dir/t/removed" "$dir/t/second"
head -c 3000000 /dev/urandom >"$dir/t/large"
picture "$dir" + >"$tmp/before"
kvfs snapshot create "$dir" whole
exec 5<"$dir/t/changed" 6<"$dir/t/removed"
echo more >>"$dir/t/changed"
head -c 100000 /dev/urandom >"$dir/t/large"
rm "$dir/t/removed" "$dir/t/second"
mv "$dir/t/sub" "$dir/moved"
rmdir "$dir/t/away"
mkdir "$dir/new"
seq 5000 >"$dir/new/file"
exec 7<"$dir/new/file"
# All of this is in the kernel's caches, names that are not there too.
cat "$dir/t/changed" "$dir/t/large" "$dir/new/file" >/dev/null
ls -lR "$dir" >/dev/null
[ ! -e "$dir/t/removed" ] && [ ! -e "$dir/t/sub/moved" ] || fail "what was changed"
kvfs snapshot restore "$dir" whole || fail "restore of a mounted volume"
[ ! -e "$dir/new" ] && [ ! -e "$dir/moved" ] || fail "what was made is still seen"
[ "$(tail -1 "$dir/t/changed")" = 1000 ] || fail "the page cache has $(tail -1 "$dir/t/changed")"
picture "$dir" + >"$tmp/now"
diff "$tmp/before" "$tmp/now" || fail "a restored mount"
# Open files: the same ones as they were; one that was not there goes on.
[ "$(tail -1 <&5)" = 1000 ] || fail "an open file"
[ "$(cat <&6)" = gone ] || fail "an open file whose name is back"
[ "$(stat -L -c %h /proc/self/fd/6)" = 2 ] || fail "its links"
[ "$(tail -1 <&7)" = 5000 ] || fail "an open file that was not there then"
[ "$(stat -L -c %h /proc/self/fd/7)" = 0 ] || fail "it has a name"
exec 5<&- 6<&- 7<&-
kvfs snapshot restore "$dir" whole || fail "nothing to restore"
refused "give a path" kvfs snapshot restore "$dir/t" whole
refused "no such snapshot" kvfs snapshot restore "$dir" none
refused "a snapshot's name" kvfs snapshot restore "$dir" a/b
mkdir "$dir/o/x"
kvfs snapshot create --of o "$dir" of-o
refused "of a directory" kvfs snapshot restore "$dir" of-o
kvfs snapshot drop "$dir" of-o
chmod 755 "$tmp" "$tmp"/m
! setpriv --reuid 1234 --clear-groups "$KVFS_BIN/kvfs" snapshot restore "$dir" whole >"$tmp/out" 2>&1 ||
	fail "restored by a stranger"
[ -d "$dir/o/x" ] || fail "what a stranger restored"
kvfs snapshot restore "$dir" whole
# A transaction that began with something else conflicts.
echo mine >>"$dir/t/changed"
mkdir "$dir/.kvfs/txn/t"
echo other >>"$dir/.kvfs/txn/t/t/changed"
kvfs snapshot restore "$dir" whole
refused "t/changed" kvfs commit "$dir" t
rmdir "$dir/.kvfs/txn/t"
[ "$(tail -1 "$dir/t/changed")" = 1000 ] || fail "after a conflict"
# Interrupted: all or nothing.
for i in $(seq 3000); do echo "$i" >"$dir/t/away/$i"; done
timeout -s INT 0.05 kvfs snapshot restore "$dir" whole || true
n=$(find "$dir/t/away" -type f | wc -l)
[ "$n" = 0 ] || [ "$n" = 3000 ] || fail "an interrupted restore left $n of 3000"
kvfs snapshot restore "$dir" whole || fail "restore after an interrupted one"
picture "$dir" + >"$tmp/now"
diff "$tmp/before" "$tmp/now" || fail "restored after an interruption"
mount.kvfs -o remount,ro "$vol" "$dir" 2>/dev/null || mount -o remount,ro "$dir"
refused "read-only" kvfs snapshot restore "$dir" whole
umount_volume "$dir" "$vol"
fsck.kvfs -f "$vol" >"$tmp/out" || fail "fsck: $(cat "$tmp/out")"
mount_volume "$vol" "$dir"
picture "$dir" + >"$tmp/now"
diff "$tmp/before" "$tmp/now" || fail "the restored mount, mounted again"
umount_volume "$dir" "$vol"

# Full: it is restored, or nothing is, and that is said.
small=$tmp/small
make_volume --size 16M --log-size 1M "$small"
mount_volume "$small" "$dir"
head -c 2000000 /dev/urandom >"$dir/was"
kvfs snapshot create "$dir" whole
rm "$dir/was"
! head -c 30000000 /dev/urandom >"$dir/fill" 2>/dev/null || fail "the volume is not full"
size=$(stat -c %s "$dir/fill")
if kvfs snapshot restore "$dir" whole 2>"$tmp/out"; then
	cmp "$dir/was" "$dir/.kvfs/snapshots/whole/was" && [ ! -e "$dir/fill" ] || fail "restored when full"
else
	grep -qi "no space" "$tmp/out" || fail "full: $(cat "$tmp/out")"
	[ "$(stat -c %s "$dir/fill")" = "$size" ] && [ ! -e "$dir/was" ] || fail "half restored when full"
	rm "$dir/fill"
	has_room() { kvfs snapshot restore "$dir" whole 2>"$tmp/out"; }
	wait_for has_room
	cmp "$dir/was" "$dir/.kvfs/snapshots/whole/was" || fail "restored when there was room again"
fi
umount_volume "$dir" "$small"
fsck.kvfs -f "$small" >"$tmp/out" || fail "fsck: $(cat "$tmp/out")"

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
