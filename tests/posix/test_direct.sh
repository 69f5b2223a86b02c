#!/bin/bash
# SPDX-License-Identifier: MIT
# What was written with O_DIRECT is what others read from the page cache: see direct.py. With one
# thread, too, which must not wait for itself.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

make_volume "$tmp/volume"
for options in rw threads=1; do
	mount_volume "$tmp/volume" "$tmp/m" "$options"
	timeout 60 env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$KVFS_SRC/tests/posix" \
		python3 -B "$KVFS_SRC/tests/posix/direct.py" "$tmp/m" 6 || fail "with $options"
	umount_volume "$tmp/m" "$tmp/volume"
done
fsck.kvfs "$tmp/volume" >"$tmp/report" || fail "fsck: $(cat "$tmp/report")"
echo "direct writes are seen"
