#!/bin/bash
# SPDX-License-Identifier: MIT
# Many processes at once, in the same directories: nobody loses a file, sees half a change, or waits
# for ever.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

make_volume "$tmp/volume"
mount_volume "$tmp/volume" "$tmp/m"
timeout 120 python3 -B "$KVFS_SRC/tests/posix/parallel.py" "$tmp/m" || fail "parallel.py"
PYTHONPATH="$KVFS_SRC/tests/posix" python3 -B -c \
	'import helpers, sys; helpers.save_state(*sys.argv[1:])' "$tmp/m" "$tmp/state"
umount_volume "$tmp/m" "$tmp/volume"
mount_volume "$tmp/volume" "$tmp/m" threads=1 # one thread must do for everything
PYTHONPATH="$KVFS_SRC/tests/posix" python3 -B -c \
	'import helpers, sys; helpers.compare_state(*sys.argv[1:])' "$tmp/m" "$tmp/state"
timeout 120 python3 -B "$KVFS_SRC/tests/posix/parallel.py" "$tmp/m" || fail "parallel.py, 1 thread"
umount_volume "$tmp/m" "$tmp/volume"
echo "all at once works"
