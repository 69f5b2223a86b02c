#!/bin/bash
# SPDX-License-Identifier: MIT
# Every operation of the daemon does what POSIX and Linux say, with the right errno, and what it did
# is there after a remount.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

make_volume "$tmp/volume"
mount_volume "$tmp/volume" "$tmp/m" allow_other
run_python "$KVFS_SRC/tests/posix/basic.py" "$tmp/m"

run_python -c 'import helpers, sys; helpers.save_state(*sys.argv[1:])' "$tmp/m" "$tmp/state"
umount_volume "$tmp/m" "$tmp/volume"
mount_volume "$tmp/volume" "$tmp/m" allow_other
run_python -c 'import helpers, sys; helpers.compare_state(*sys.argv[1:])' "$tmp/m" "$tmp/state"

# A cold look at everything, by name and by listing, and an empty volume in the end.
rm -rf "$tmp/m"/*
[ -z "$(ls -A "$tmp/m")" ] || fail "rm -rf left something: $(ls -A "$tmp/m")"
umount_volume "$tmp/m" "$tmp/volume"
echo "every operation behaves"
