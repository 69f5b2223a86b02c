#!/bin/bash
# SPDX-License-Identifier: MIT
# kvfs clone through a mount: the copy is the tree, is seen at once by who looked for it in vain,
# shares space until changed, gives it back; snapshots; interruptions; who may; send and receive.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume
dir=$tmp/m
make_volume "$vol"
mount_volume "$vol" "$dir" allow_other

# A picture without the times of change; of hard links by which names are one file.
same_tree() {
	for t in "$1" "$2"; do
		i=$((i + 1))
		(
			cd "$t" || exit
			find . -printf '%P %y %m %U %G %s %b %T@ %l\n' | sort
			find . -type f -exec md5sum {} + | sort -k2
			find . -links +1 ! -type d -printf '%i %p\n' | sort -k2 | awk '{ if (!($1 in n)) n[$1] = ++c; $1 = n[$1]; print }' | sort
			getfattr -R -h -d -m - . | sort
			getfacl -R -n -p . 2>/dev/null
		) >"$tmp/picture.$i"
	done
	diff "$tmp/picture.$((i - 1))" "$tmp/picture.$i" >&2 || fail "$1 is not $2"
}
used() { sync -f "$dir"; df --output=used -B1 "$dir" | tail -1; }
i=0

mkdir -p "$dir/src/a/b" "$dir/other"
odd=$'odd \n\xff'
echo hello >"$dir/src/hello"
echo odd >"$dir/src/a/$odd"
head -c 3000000 /dev/urandom >"$dir/src/a/large"
ln "$dir/src/a/large" "$dir/src/a/b/large2"
truncate -s 5M "$dir/src/sparse"
echo x | dd of="$dir/src/sparse" bs=1 seek=3000000 conv=notrunc status=none
ln -s "target $odd" "$dir/src/symlink"
mkfifo "$dir/src/fifo"
setfattr -n user.big -v "$(head -c 5000 /dev/zero | tr '\0' b)" "$dir/src/a"
setfacl -m u:1234:rw "$dir/src/hello" || skip "needs setfacl"
touch -d '1965-03-04 05:06:07.89' "$dir/src/a/b"
for n in $(seq 300); do echo "$n" >"$dir/src/a/b/$n"; done

# ---- the copy, and the kernel's memory of what was not there
! stat "$dir/new" 2>/dev/null || fail "new is there"
ls "$dir" >/dev/null
kvfs clone "$dir" src new || fail "clone"
stat "$dir/new" >/dev/null || fail "the new directory is not seen"
[ "$(ls "$dir")" = "$(printf 'new\nother\nsrc')" ] || fail "listed: $(ls "$dir")"
same_tree "$dir/src" "$dir/new"
# Names are relative to the target, and / is all of it.
kvfs clone "$dir/src" a a2 || fail "below a directory"
same_tree "$dir/src/a" "$dir/src/a2"
rm -r "$dir/src/a2"
kvfs clone "$dir/other" / /all || fail "all of the target"
[ -d "$dir/other/all" ] || fail "all is not there"

# ---- space and changes
before=$(used)
for n in 1 2 3; do kvfs clone "$dir" src "copy$n" || fail "clone $n"; done
[ $(($(used) - before)) -lt 1500000 ] || fail "three clones of 3 MB take $(($(used) - before)) bytes"
sum=$(md5sum <"$dir/src/a/large")
echo changed | dd of="$dir/copy1/a/large" bs=1 seek=100 conv=notrunc status=none
truncate -s 1000000 "$dir/copy2/a/large"
[ "$(md5sum <"$dir/src/a/large")" = "$sum" ] || fail "the source was changed"
[ "$(md5sum <"$dir/copy3/a/b/large2")" = "$sum" ] || fail "another copy was changed"
cmp -s "$dir/copy1/a/large" "$dir/copy1/a/b/large2" || fail "names in the copy are not one file"
[ "$(head -c 1000000 "$dir/src/a/large" | md5sum)" = "$(md5sum <"$dir/copy2/a/large")" ] || fail "truncate"
echo more >>"$dir/src/a/large"
[ "$(md5sum <"$dir/new/a/large")" = "$sum" ] || fail "a change of the source is seen in the copy"
rm -r "$dir/src"
[ "$(md5sum <"$dir/new/a/large")" = "$sum" ] || fail "the source took contents away"

# ---- of a snapshot
kvfs snapshot create "$dir" former
kvfs clone "$dir" new before
rm "$dir/new/a/large"
echo y >"$dir/new/hello"
kvfs clone -s former "$dir" new back || fail "of a snapshot"
same_tree "$dir/before" "$dir/back"
kvfs clone --snapshot former "$dir" / everything || fail "of a whole snapshot"
same_tree "$dir/.kvfs/snapshots/former/new" "$dir/everything/new"
kvfs snapshot drop "$dir" former
[ "$(md5sum <"$dir/back/a/large")" = "$sum" ] || fail "the clone needs its snapshot"

# ---- what is refused, and changes nothing
(cd "$dir" && find . | sort) >"$tmp/names"
refused_with 1 "is there already" kvfs clone "$dir" new back
refused_with 1 "no such directory" kvfs clone "$dir" none x
refused_with 1 "no such directory" kvfs clone "$dir" new none/x
refused_with 1 "is no directory" kvfs clone "$dir" new/hello x
refused_with 1 "no such snapshot" kvfs clone -s former "$dir" new x
refused_with 1 "cannot be one" kvfs clone -s a/b "$dir" new x
refused_with 2 "give a volume" kvfs clone "$dir" new
refused_with 2 "too many" kvfs clone "$dir" new x y
if command -v setpriv >/dev/null; then
	chmod 755 "$tmp"
	chmod 777 "$dir"
	refused "only root" setpriv --reuid 1000 --clear-groups "$(command -v kvfs)" clone "$dir" new x
fi
(cd "$dir" && find . | sort) | cmp - "$tmp/names" || fail "what was refused has changed something"

# ---- what was written by mmap(2) is cloned, too, and interrupted it leaves nothing
run_python - "$dir" <<'P' || fail "python"
import mmap, os, signal, subprocess, sys, time
d = sys.argv[1]
os.mkdir(d + "/mapped")
with open(d + "/mapped/f", "w+b") as f:
    f.truncate(100000)
    with mmap.mmap(f.fileno(), 100000) as m:
        m[50000:50005] = b"dirty"
        subprocess.run(["kvfs", "clone", d, "mapped", "mapped2"], check=True)
        assert open(d + "/mapped2/f", "rb").read()[50000:50005] == b"dirty"
        m[50000:50005] = b"again"
    assert open(d + "/mapped2/f", "rb").read()[50000:50005] == b"dirty"
os.mkdir(d + "/many")
for i in range(2000):
    with open(f"{d}/many/{i}", "w") as f:
        f.write("x" * 3000)
stopped = 0
for i in range(12):
    if stopped:
        break
    p = subprocess.Popen(["kvfs", "clone", d, "many", f"many.{i}"])
    time.sleep(0.01 * i)
    p.send_signal(signal.SIGINT)
    p.wait()
    if os.path.exists(f"{d}/many.{i}"):
        assert len(os.listdir(f"{d}/many.{i}")) == 2000
    else:
        stopped += 1
assert stopped, "no clone was interrupted"
P

# ---- a stream of a tree with shared contents
kvfs snapshot create "$dir" s1
echo z | dd of="$dir/back/a/large" bs=1 seek=2000000 conv=notrunc status=none
kvfs clone "$dir" back back2
kvfs snapshot create "$dir" s2
make_volume "$tmp/replica"
kvfs send "$dir" s1 2>/dev/null | kvfs receive "$tmp/replica" >/dev/null || fail "send"
kvfs send --from s1 "$dir" s2 2>/dev/null >"$tmp/stream"
kvfs receive "$tmp/replica" <"$tmp/stream" >"$tmp/got" || fail "send a difference"
[ "$(cut -d' ' -f1 "$tmp/got")" = "$(kvfs snapshot hash "$dir" s2)" ] || fail "root hash"

# ---- not mounted
umount_volume "$dir" "$vol"
fsck.kvfs -n "$vol" >/dev/null || fail "fsck"
kvfs clone "$vol" back/a /offline || fail "clone of a volume"
kvfs clone -s s1 "$vol" / all || fail "clone of a snapshot of a volume"
refused_with 1 "is there already" kvfs clone "$vol" new back
fsck.kvfs -n "$vol" >/dev/null || fail "fsck after cloning offline"
mount_volume "$vol" "$dir"
same_tree "$dir/back/a" "$dir/offline"
# All of it goes, and so does its space.
rm -r "${dir:?}"/*
kvfs snapshot drop "$dir" s1
kvfs snapshot drop "$dir" s2
umount_volume "$dir" "$vol"
kvfs compact "$vol"
fsck.kvfs -n "$vol" >/dev/null || fail "fsck of the empty volume"
[ "$(kvfs info --json "$vol" | grep -o '"value_bytes": *[0-9]*' | grep -o '[0-9]*$')" -lt 1000000 ] ||
	fail "contents are still there: $(kvfs info "$vol")"
