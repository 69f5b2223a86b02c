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

cat >"$tmp/fill.py" <<-'EOF'
	import errno, os, sys
	os.chdir(sys.argv[1])
	for i in range(100000):
	    try:
	        with open("small.%d" % i, "wb", buffering=0) as f:
	            f.write(os.urandom(1000))
	    except OSError as e:
	        assert e.errno == errno.ENOSPC, e
	        print(i)
	        sys.exit(0)
	sys.exit("no end of small files")
EOF

for round in 1 2 3; do
	# Small files until there is no room, before and after a big one takes the rest.
	if [ "$round" = 2 ]; then
		python3 "$tmp/fill.py" "$mnt" >"$tmp/filled" || fail "filling with small files"
		[ "$(cat "$tmp/filled")" -gt 10000 ] || fail "only $(cat "$tmp/filled") small files fit"
		rm -f "$mnt"/small.??
	fi
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
	[ "$round" != 2 ] || [ "$(find "$mnt" -name 'small.*' | wc -l)" -gt 9000 ] || fail "small files lost"
	find "$mnt" -type f -exec sha256sum {} + >"$tmp/sums"
	sha256sum -c --quiet "$tmp/sums" || fail "sums"
	rm -f "$mnt/big" || fail "cannot delete on a full volume"
	find "$mnt" -name 'small*' -delete || fail "cannot delete on a full volume"
	# The space returns without anybody's doing.
	for ((n = 0; n < 300; n++)); do
		after=$(df --output=avail -B1 "$mnt" | tail -n 1)
		[ "$after" -gt $((before * 3 / 4)) ] && break
		sleep 0.1
	done
	[ "$after" -gt $((before * 3 / 4)) ] || fail "round $round: of $before bytes $after came back"
done
# What is overwritten makes room for what comes: 20 times 20 MiB into 64.
for n in $(seq 20); do
	head -c 20M /dev/urandom >"$mnt/again" || fail "no room for overwrite $n"
done
want=$(sha256sum <"$mnt/again")
umount_volume "$mnt" "$vol"
fsck.kvfs -f -n "$vol" || fail "fsck: $?"
mount_volume "$vol" "$mnt"
[ "$(sha256sum <"$mnt/again")" = "$want" ] || fail "content after a remount"
umount_volume "$mnt" "$vol"
