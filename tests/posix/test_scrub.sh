#!/bin/bash
# SPDX-License-Identifier: MIT
# kvfs scrub: a sound mount, a damaged one, its rate, Ctrl-C and going on; what reads of damage say.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume
dir=$tmp/m

stat_of() { sed -n "s/^$1 //p" "$dir/.kvfs/stats"; }

mkdir -p "$tmp/tree/sub"
for ((i = 0; i < 200; i++)); do
	echo "file $i holds this" >"$tmp/tree/sub/f$i"
done
head -c 6000000 /dev/urandom >"$tmp/tree/sub/large"
make_volume -d "$tmp/tree" "$vol"

# Sound: nothing is printed, and all of it was read.
kvfs scrub "$vol" >"$tmp/out" || fail "scrub of a sound volume"
[ ! -s "$tmp/out" ] || fail "of a sound volume: $(cat "$tmp/out")"
mount_volume "$vol" "$dir"
echo "not in a table yet" >"$dir/fresh"
kvfs scrub -v "$dir" >"$tmp/out" || fail "scrub of a sound mount: $(cat "$tmp/out")"
grep -q '^tables [1-9].*large values [1-9]' "$tmp/out" || fail "-v: $(cat "$tmp/out")"
[ "$(stat_of scrub_bytes)" -gt 6000000 ] || fail "read $(stat_of scrub_bytes) bytes"
[ "$(stat_of scrub_problems)" = 0 ] || fail "problems of a sound mount"

# At a rate; interrupted, and resumed.
began=$(date +%s%N)
kvfs scrub --rate 3M "$dir" || fail "scrub at a rate"
[ $((($(date +%s%N) - began) / 1000000)) -ge 900 ] || fail "6 MB at 3 MiB/s came too fast"
timeout -s INT -k 60 1 kvfs scrub --rate 1M "$dir" >"$tmp/out" 2>&1 && fail "it was not interrupted"
grep -q 'interrupted; kvfs scrub --after [0-9]' "$tmp/out" || fail "interrupted: $(cat "$tmp/out")"
after=$(sed -n 's/.*--after \([0-9]*\).*/\1/p' "$tmp/out")
kvfs scrub --after "$after" "$dir" || fail "going on after $after"
# Who is killed leaves nothing that keeps the mount.
timeout -s KILL 1 kvfs scrub --rate 1M "$dir" 2>/dev/null || true
wait_for umount "$dir" 2>/dev/null
wait_closed "$vol"

# Damage in the large file: in its own words, by its path, in the statistics.
off=$(python3 - "$vol" "$tmp/tree/sub/large" <<'END'
import sys
print(open(sys.argv[1], 'rb').read().index(open(sys.argv[2], 'rb').read(4096)))
END
)
printf '\252\125\252\125' | dd of="$vol" bs=1 seek=$((off + 1000)) conv=notrunc status=none
mount.kvfs -f "$vol" "$dir" 2>"$tmp/log" &
wait_for mountpoint -q "$dir"
refused "Input/output error" cat "$dir/sub/large"
grep -q 'sub/large' "$tmp/log" || fail "the damaged file is not in the log: $(cat "$tmp/log")"
[ "$(stat_of damage_found)" -ge 1 ] || fail "damage that was read is not counted"
kvfs scrub "$dir" >"$tmp/out" 2>"$tmp/err" && fail "damage is not found"
grep -q '^151 .*file /sub/large$' "$tmp/out" || fail "the file is not named: $(cat "$tmp/out")"
[ "$(wc -l <"$tmp/out")" = 1 ] || fail "more than one: $(cat "$tmp/out")"
grep -q '1 problems; ' "$tmp/err" || fail "no advice: $(cat "$tmp/err")"
[ "$(stat_of scrub_problems)" = 1 ] || fail "problems: $(stat_of scrub_problems)"
umount_volume "$dir" "$vol"
kvfs scrub "$vol" >"$tmp/out" 2>&1 && fail "damage is not found, not mounted"
grep -q '^151 .*file /sub/large$' "$tmp/out" || fail "the file is not named: $(cat "$tmp/out")"

# Contents that several files share: all of them are named, whoever had them first.
mount_volume "$vol" "$dir"
kvfs clone "$dir" sub copy
ln "$dir/copy/large" "$dir/link"
rm "$dir/sub/large"
umount_volume "$dir" "$vol"
kvfs scrub "$vol" >"$tmp/out" 2>&1 && fail "damage of a clone is not found"
for f in /copy/large /link; do
	grep -q "^151 .*; file $f\(;\|\$\)" "$tmp/out" || fail "scrub does not name $f: $(cat "$tmp/out")"
done
! grep -q "sub/large" "$tmp/out" || fail "scrub names a file that is not there"
fsck.kvfs -fn "$vol" >"$tmp/out" 2>&1 && fail "fsck does not find damage of a clone"
for f in /copy/large /link; do
	grep -q "^file $f: " "$tmp/out" || fail "fsck does not name $f: $(cat "$tmp/out")"
done

# Wrong usage.
for bad in "--rate x" "--rate -1" "--rate 99999999999G" "--after 1.5" ""; do
	status=0
	# shellcheck disable=SC2086
	kvfs scrub $bad ${bad:+"$vol"} >"$tmp/out" 2>&1 || status=$?
	[ $status = 2 ] || fail "kvfs scrub $bad: status $status"
done
echo "scrub: ok"
