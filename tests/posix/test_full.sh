#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A full volume: ENOSPC to whoever writes, nothing lost, deletes work, space comes back by itself,
# no remount needed, and fsck is clean.
. "$(dirname "$0")/lib.sh"

vol=$tmp/v.kvfs
mnt=$tmp/mnt
make_volume --size 64M "$vol"
mount_volume "$vol" "$mnt"
echo keep >"$mnt/keep"
before=$(df --output=avail -B1 "$mnt" | tail -n 1)
[ "$before" -gt $((30 << 20)) ] || fail "an empty 64 MiB volume offers only $before bytes"

for round in 1 2 3; do
	# One big file that does not compress, until there is no room.
	if dd if=/dev/urandom of="$mnt/big" bs=64k count=4096 2>"$tmp/err"; then
		fail "256 MiB fit into 64"
	fi
	grep -q 'No space left' "$tmp/err" || fail "$(cat "$tmp/err")"
	# Small files, until there is no room for them either.
	i=0
	while head -c 1000 /dev/urandom >"$mnt/small$i" 2>/dev/null; do
		i=$((i + 1))
		[ "$i" -lt 100000 ] || fail "no end of small files"
	done
	[ "$(cat "$mnt/keep")" = keep ] || fail "content lost on a full volume"
	sha256sum "$mnt/keep" "$mnt/big" >"$tmp/sums"
	sha256sum -c --quiet "$tmp/sums" || fail "sums"
	rm "$mnt/big" || fail "cannot delete on a full volume"
	rm -f "$mnt"/small* || fail "cannot delete on a full volume"
	# The space returns without anybody's doing.
	for ((n = 0; n < 300; n++)); do
		after=$(df --output=avail -B1 "$mnt" | tail -n 1)
		[ "$after" -gt $((before * 3 / 4)) ] && break
		sleep 0.1
	done
	[ "$after" -gt $((before * 3 / 4)) ] || fail "round $round: of $before bytes $after came back"
done
head -c 20M /dev/urandom >"$mnt/again" || fail "no room after deleting"
want=$(sha256sum <"$mnt/again")
umount_volume "$mnt" "$vol"
fsck.kvfs -f -n "$vol" || fail "fsck: $?"
mount_volume "$vol" "$mnt"
[ "$(sha256sum <"$mnt/again")" = "$want" ] || fail "content after a remount"
umount_volume "$mnt" "$vol"
