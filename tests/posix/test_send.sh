#!/bin/bash
# SPDX-License-Identifier: MIT
# kvfs send and receive: whole trees and differences arrive as they were, at one instant or not at
# all; streams that are cut, damaged, reordered or of something else; resuming; root hashes.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume
dir=$tmp/m
copy=$tmp/copy
there=$tmp/there
make_volume "$vol"
make_volume "$copy"
mount_volume "$vol" "$dir" allow_other

# send_to VOLUME ARGUMENTS OF SEND...: both sides print the same root hash.
send_to() {
	local to=$1
	shift
	kvfs send "$@" 2>"$tmp/said" >"$tmp/stream" || fail "kvfs send $*: $(cat "$tmp/said")"
	kvfs receive "$to" <"$tmp/stream" >"$tmp/got" || fail "kvfs receive of kvfs send $*"
	[ "$(sed -n 's/^kvfs: root hash //p' "$tmp/said")" = "$(cat "$tmp/got")" ] ||
		fail "root hashes: $(cat "$tmp/said" "$tmp/got")"
}

# same SNAPSHOT: what it holds is in both volumes, all that stat(1) shows and more, and the copy is
# sound.
same() {
	fsck.kvfs -n "$copy" >/dev/null || fail "fsck of the copy"
	mount_volume "$copy" "$there" ro,allow_other
	full_picture "$dir/.kvfs/snapshots/$1" >"$tmp/p1"
	full_picture "$there/.kvfs/snapshots/$1" >"$tmp/p2"
	diff "$tmp/p1" "$tmp/p2" >&2 || fail "the snapshots $1 are not the same"
	full_picture "$there" >"$tmp/p2"
	diff "$tmp/p1" "$tmp/p2" >&2 || fail "the tree is not the snapshot $1"
	[ "$(kvfs snapshot hash "$there" "$1")" = "$(kvfs snapshot hash "$dir" "$1")" ] ||
		fail "kvfs snapshot hash"
	umount_volume "$there" "$copy"
}

# A picture with times of change, devices, sparseness, flags, and which names are one file.
full_picture() {
	picture "$1"
	(
		cd "$1" || exit
		find . -printf '%p %C@ %b\n' | sort
		find . -links +1 ! -type d -printf '%i %p\n' | sort -k2 | awk '{ if (!($1 in n)) n[$1] = ++c; $1 = n[$1]; print }' | sort
		find . \( -type b -o -type c \) -exec stat -c '%n %t %T' {} + | sort
		lsattr -R . 2>/dev/null | awk '{print $1, $2}' | sort
	)
}

# ---- a whole tree, of everything there is
mkdir -p "$dir/d/e/f" "$dir/move/deep/er" "$dir/gone/below" "$dir/attr"
odd=$'odd \n\xff'
echo hello >"$dir/d/hello"
echo odd >"$dir/d/$odd"
: >"$dir/d/empty"
head -c 2048 /dev/urandom >"$dir/d/inline"
head -c 300000 /dev/urandom >"$dir/d/large"
head -c 200000 /dev/urandom >"$dir/move/deep/large"
truncate -s 50M "$dir/d/sparse"
echo x | dd of="$dir/d/sparse" bs=1 seek=30000000 conv=notrunc status=none
ln -s "target of $odd" "$dir/d/symlink"
mkfifo "$dir/d/fifo"
mknod "$dir/d/device" c 12 345678
ln "$dir/d/hello" "$dir/d/e/hello2"
ln "$dir/d/large" "$dir/d/e/large2"
ln "$dir/d/large" "$dir/gone/large3"
for i in $(seq 200); do echo "$i" >"$dir/move/deep/er/$i"; done
echo g >"$dir/gone/below/g"
setfattr -n user.small -v s "$dir/attr"
setfattr -n user.big -v "$(head -c 5000 /dev/zero | tr '\0' b)" "$dir/attr"
setfattr -n user.a -v 1 "$dir/d/hello"
setfacl -m u:1234:rw "$dir/d/inline" || skip "needs setfacl"
chown 12:34 "$dir/d/large"
chmod 4711 "$dir/d/inline"
chattr +i "$dir/d/empty"
chattr +a "$dir/gone/below/g"
touch -d '1965-03-04 05:06:07.89' "$dir/d/e"
kvfs snapshot create "$dir" a
send_to "$copy" "$dir" a
same a

# ---- a difference
chattr -a "$dir/gone/below/g"
rm -r "$dir/gone"
mv "$dir/move" "$dir/d/moved"
mkdir "$dir/move"
echo new >"$dir/move/new"
echo more >>"$dir/d/moved/deep/er/7"
rm "$dir/d/moved/deep/er/8"
mv "$dir/d/moved/deep/er/9" "$dir/move/nine"
mv "$dir/d/moved/deep" "$dir/deep"
echo z | dd of="$dir/d/large" bs=1 seek=150000 conv=notrunc status=none
echo z | dd of="$dir/deep/large" bs=1 seek=70000 conv=notrunc status=none
truncate -s 100000 "$dir/deep/large"
fallocate -p -o 29949952 -l 131072 "$dir/d/sparse"
echo y | dd of="$dir/d/sparse" bs=1 seek=45000000 conv=notrunc status=none
truncate -s 100M "$dir/d/sparse"
ln "$dir/d/inline" "$dir/d/inline2"
rm "$dir/d/e/hello2"
mv "$dir/d/$odd" "$dir/d/even"
ln -sf other "$dir/d/symlink"
chattr -i "$dir/d/empty"
head -c 5000 /dev/urandom >"$dir/d/empty"
: >"$dir/d/moved/f"
setfattr -x user.small "$dir/attr"
setfattr -n user.big -v "$(head -c 5000 /dev/zero | tr '\0' c)" "$dir/attr"
setfacl -b "$dir/d/inline"
rm "$dir/d/fifo"
mkdir "$dir/d/fifo"
chmod 700 "$dir"
kvfs snapshot create "$dir" b
send_to "$copy" --from a "$dir" b
same b
cp "$tmp/stream" "$tmp/a-b"
[ "$(stat -c %s "$tmp/stream")" -lt 700000 ] || fail "the difference is $(stat -c %s "$tmp/stream") bytes"
# Again: it says so.
kvfs receive "$copy" <"$tmp/stream" >"$tmp/got" 2>"$tmp/err" || fail "receiving twice"
grep -q 'received before; nothing was changed' "$tmp/err" || fail "receiving twice says $(cat "$tmp/err")"
same b

# Moved back, and a chain of differences; through a pipe.
mv "$dir/deep" "$dir/d/moved/deep"
rm -r "$dir/move"
mv "$dir/d/moved" "$dir/move"
kvfs snapshot create "$dir" c
kvfs send --from b "$dir" c 2>/dev/null | kvfs receive "$copy" >/dev/null || fail "through a pipe"
same c
touch "$dir/d/hello"
ln "$dir/d/hello" "$dir/hello3"
kvfs snapshot create "$dir" d
send_to "$copy" --from c "$dir" d
same d
cp "$tmp/stream" "$tmp/c-d"

# ---- what is refused, and changes nothing
receives() { kvfs receive "$copy" <"$1"; }
refuses() { # STREAM TEXT
	! receives "$1" >"$tmp/out" 2>&1 || fail "received: $1"
	grep -qF -- "$2" "$tmp/out" || fail "no '$2' from $1: $(cat "$tmp/out")"
}
refuses "$tmp/a-b" "does not hold the snapshot"
echo 1 >"$dir/e1"
head -c 400000 /dev/urandom >"$dir/e2"
rm "$dir/d/hello"
kvfs snapshot create "$dir" e
kvfs send --from d "$dir" e 2>/dev/null >"$tmp/d-e"
size=$(stat -c %s "$tmp/d-e")
head -c $((size / 2)) "$tmp/d-e" >"$tmp/cut"
refuses "$tmp/cut" "ends before its end"
head -c $((size - 1)) "$tmp/d-e" >"$tmp/cut"
refuses "$tmp/cut" "ends before its end"
head -c 10 "$tmp/d-e" >"$tmp/cut"
refuses "$tmp/cut" "no stream"
for at in 20 300 $((size / 3)) $((size - 10)); do
	cp "$tmp/d-e" "$tmp/bad"
	byte=$(od -An -tu1 -j "$at" -N 1 "$tmp/bad")
	printf '%b' "\\x$(printf %x $((byte ^ 1)))" | dd of="$tmp/bad" bs=1 seek="$at" conv=notrunc status=none
	! receives "$tmp/bad" >"$tmp/out" 2>&1 || fail "a damaged stream was received"
	grep -qE "damaged|missing|no stream" "$tmp/out" || fail "damage at $at: $(cat "$tmp/out")"
done
{ cat "$tmp/d-e"; echo more; } >"$tmp/bad"
refuses "$tmp/bad" "no stream"
run_python - "$tmp/d-e" "$tmp" <<'P' || fail "python"
import struct, sys
data = open(sys.argv[1], "rb").read()
frames, at = [], 16
while at < len(data):
    n = 13 + struct.unpack_from("<I", data, at)[0] + 32
    frames.append(data[at:at + n])
    at += n
assert len(frames) > 5
def write(name, header, parts):
    open(sys.argv[2] + "/" + name, "wb").write(header + b"".join(parts))
write("swapped", data[:16], frames[:2] + [frames[3], frames[2]] + frames[4:])
write("dropped", data[:16], frames[:2] + frames[3:])
write("version", data[:8] + b"\x02" + data[9:16], frames)
write("head", data[:16], frames[:4])
P
refuses "$tmp/swapped" "missing, or comes twice"
refuses "$tmp/dropped" "missing, or comes twice"
refuses "$tmp/version" "another version"
refuses /dev/null "no stream"
refuses /bin/sh "no stream"
kvfs receive --discard "$copy"
refused_with 1 "no stream was broken off" kvfs receive --token "$copy"
same d

# ---- resuming
refuses "$tmp/head" "ends before its end"
token=$(kvfs receive --token "$copy") || fail "no token"
case $token in 4-*) ;; *) fail "the token is $token" ;; esac
refused_with 1 "token" kvfs send --from c --resume "$token" "$dir" d >/dev/null
kvfs send --from d --resume "$token" "$dir" e 2>/dev/null >"$tmp/rest"
[ "$(stat -c %s "$tmp/rest")" -lt "$size" ] || fail "what was received is sent again"
receives "$tmp/rest" >"$tmp/got" || fail "resuming"
refused_with 1 "no stream was broken off" kvfs receive --token "$copy"
[ "$(cut -d' ' -f1 "$tmp/got")" = "$(kvfs snapshot hash "$dir" e)" ] || fail "hash after resuming"
same e
refuses "$tmp/rest" "nothing was begun"

# ---- into a directory of a volume, and changes made there
other=$tmp/other
make_volume "$other"
kvfs put "$other" beside <<<stays
mount_volume "$other" "$there" allow_other
mkdir "$there/replica"
umount_volume "$there" "$other"
kvfs send "$dir" a 2>/dev/null | kvfs receive "$other" replica >/dev/null || fail "into a directory"
kvfs receive "$other" replica <"$tmp/a-b" >/dev/null || fail "a difference into a directory"
fsck.kvfs -n "$other" >/dev/null || fail "fsck of the other"
mount_volume "$other" "$there" allow_other
full_picture "$dir/.kvfs/snapshots/b" >"$tmp/p1"
full_picture "$there/replica" >"$tmp/p2"
diff "$tmp/p1" "$tmp/p2" >&2 || fail "the directory is not the snapshot"
[ "$(cat "$there/beside")" = stays ] || fail "what was beside is gone"
cat "$there/replica/d/large" >/dev/null
echo x >>"$there/replica/d/even"
umount_volume "$there" "$other"
kvfs send --from b "$dir" c 2>/dev/null >"$tmp/b-c"
! kvfs receive "$other" replica <"$tmp/b-c" 2>"$tmp/err" || fail "received into a changed directory"
grep -q "was changed since" "$tmp/err" || fail "a changed directory: $(cat "$tmp/err")"
! kvfs send "$dir" a 2>/dev/null | kvfs receive "$other" replica 2>"$tmp/err" || fail "received over something"
grep -q "not empty" "$tmp/err" || fail "over something: $(cat "$tmp/err")"
! kvfs receive "$other" none <"$tmp/b-c" 2>"$tmp/err" || fail "received into nothing"
grep -q "no such directory" "$tmp/err" || fail "into nothing: $(cat "$tmp/err")"

# ---- a full volume
small=$tmp/small
make_volume --size 8M --log-size 1M "$small"
head -c 12000000 /dev/urandom >"$dir/big"
kvfs snapshot create "$dir" full
! kvfs send "$dir" full 2>/dev/null | kvfs receive "$small" 2>"$tmp/err" || fail "received more than there is room for"
grep -q "no space left on the volume; nothing was changed" "$tmp/err" || fail "a full volume: $(cat "$tmp/err")"
fsck.kvfs -n "$small" >/dev/null || fail "fsck of the full volume"
[ -z "$(kvfs ls "$small")" ] || fail "the full volume holds something"
refused_with 1 "no stream was broken off" kvfs receive --token "$small"

# ---- words
refused_with 2 "give a volume" kvfs send "$dir"
refused_with 2 "no volume given" kvfs receive
refused_with 1 "no such snapshot" kvfs snapshot hash "$dir" none
kvfs send "$dir" none 2>"$tmp/err" >"$tmp/out" && fail "a snapshot that is not there was sent"
grep -q "no such snapshot" "$tmp/err" || fail "a snapshot that is not there: $(cat "$tmp/err")"
# Not mounted it is the same stream.
umount_volume "$dir" "$vol"
kvfs send --from a "$vol" b 2>/dev/null | cmp - "$tmp/a-b" || fail "another stream when not mounted"
