#!/bin/bash
# SPDX-License-Identifier: MIT
# Handles of files stay good when the kernel has forgotten the file, and after a remount.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume dir=$tmp/m
make_volume "$vol"
mount_volume "$vol" "$dir"
run_python "$KVFS_SRC/tests/posix/handles.py" save "$dir" "$tmp/handles"
umount_volume "$dir" "$vol"
mount_volume "$vol" "$dir"
run_python "$KVFS_SRC/tests/posix/handles.py" open "$dir" "$tmp/handles"
umount_volume "$dir" "$vol"
fsck.kvfs "$vol" >"$tmp/report" || fail "fsck: $(cat "$tmp/report")"
echo "handles are good"
