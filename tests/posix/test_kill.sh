#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# kill -9 of the daemon at random moments under four writers that record, outside the volume, what was
# acknowledged. After each new mount everything acknowledged is there, in order, and fsck is
# clean. KVFS_KILLS sets the number of kills (50), KVFS_TEST_SEED the seed.
. "$(dirname "$0")/lib.sh"

kills=${KVFS_KILLS:-50}
seed=${KVFS_TEST_SEED:-$(date +%s)}
echo "KVFS_TEST_SEED=$seed"
RANDOM=$((seed % 32768))
vol=$tmp/v.kvfs
mnt=$tmp/mnt
mkdir -p "$tmp/ledger"
make_volume "$vol"

acknowledged() {
	cat "$tmp"/ledger/* | grep -c ^ack || true
}
enough_acknowledged() {
	[ "$(acknowledged)" -ge 40 ]
}

total=0
for ((kill = 1; kill <= kills; kill++)); do
	mount_volume "$vol" "$mnt" "cache=16M"
	if [ "$kill" -gt 1 ]; then
		python3 -B "$KVFS_SRC/tests/posix/kill_check.py" "$mnt" "$tmp"/ledger/* ||
			fail "kill $kill: the volume does not hold what was acknowledged"
	fi
	# Each life starts afresh, so that the ledgers stay short; the old files stay as ballast.
	rm -f "$tmp"/ledger/*
	for w in 1 2 3 4; do
		: >"$tmp/ledger/life$kill.$w"
		python3 -B "$KVFS_SRC/tests/posix/kill_writer.py" "$mnt" "$tmp/ledger/life$kill.$w" \
			"life$kill.$w" $((seed + kill * 10 + w)) &
	done
	# At a random moment, but not before there is something to lose.
	wait_for enough_acknowledged
	sleep "0.$((RANDOM % 9))$((RANDOM % 10))"
	# shellcheck disable=SC2046
	kill -9 $(daemons "$vol")
	wait
	total=$((total + $(acknowledged)))
	umount "$mnt" || fail "umount after kill $kill"
	wait_closed "$vol"
	if ((kill % 5 == 0)); then
		fsck.kvfs -f -n "$vol" >"$tmp/fsck" || { cat "$tmp/fsck"; fail "fsck after kill $kill"; }
	fi
done
mount_volume "$vol" "$mnt"
python3 -B "$KVFS_SRC/tests/posix/kill_check.py" "$mnt" "$tmp"/ledger/* || fail "last check"
umount_volume "$mnt" "$vol"
fsck.kvfs -f -n "$vol" || fail "fsck at the end: $?"
echo "$kills kills survived, with $total acknowledged operations"
