#!/bin/bash
# SPDX-License-Identifier: MIT
# What was written with O_DIRECT is what others read from the page cache: see direct.py. With one
# thread, too, which must not wait for itself. And large requests cost no page faults.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

make_volume "$tmp/volume"
for options in rw threads=1; do
	mount_volume "$tmp/volume" "$tmp/m" "$options"
	timeout 60 env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$KVFS_SRC/tests/posix" \
		python3 -B "$KVFS_SRC/tests/posix/direct.py" "$tmp/m" 6 || fail "with $options"
	umount_volume "$tmp/m" "$tmp/volume"
done

# Memory that is mapped for a request, touched for the first time and unmapped costs more than all
# the rest of it. So a MiB read or written may cost the daemon few page faults, and not all the 256.
faults() { awk '{print $10}' "/proc/$(daemons "$tmp/volume")/stat"; }
mount_volume "$tmp/volume" "$tmp/m"
dd if=/dev/urandom of="$tmp/m/large" bs=1M count=16 status=none
dd if="$tmp/m/large" of=/dev/null bs=1M iflag=direct status=none
before=$(faults)
dd if=/dev/urandom of="$tmp/m/large" bs=1M count=48 conv=notrunc status=none
written=$(($(faults) - before))
dd if="$tmp/m/large" of=/dev/null bs=1M iflag=direct status=none
read=$(($(faults) - before - written))
echo "page faults of 48 MiB: $written writing, $read reading"
[ $((written / 48)) -lt 100 ] || fail "$written page faults to write 48 MiB"
[ $((read / 48)) -lt 100 ] || fail "$read page faults to read 48 MiB"
umount_volume "$tmp/m" "$tmp/volume"
fsck.kvfs "$tmp/volume" >"$tmp/report" || fail "fsck: $(cat "$tmp/report")"
echo "direct writes are seen"
