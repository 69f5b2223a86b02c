#!/bin/bash
# SPDX-License-Identifier: MIT
# Holes take no space and read as zeros, wherever they come from.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

make_volume "$tmp/volume"
mount_volume "$tmp/volume" "$tmp/m"
run_python "$KVFS_SRC/tests/posix/sparse.py" "$tmp/m" write "$tmp/model"
umount_volume "$tmp/m" "$tmp/volume"
mount_volume "$tmp/volume" "$tmp/m"
run_python "$KVFS_SRC/tests/posix/sparse.py" "$tmp/m" check "$tmp/model"
# cp(1) finds the holes and makes the same file of them.
mkdir "$tmp/copy"
timeout 60 cp --sparse=always "$tmp/m/five" "$tmp/m/random" "$tmp/copy/" || fail "a sparse copy"
run_python "$KVFS_SRC/tests/posix/sparse.py" "$tmp/copy" check "$tmp/model"
rm -r "$tmp/copy"
umount_volume "$tmp/m" "$tmp/volume"
used=$(stat -c '%b * %B' "$tmp/volume")
[ $((used)) -lt $((512 << 20)) ] || fail "holes took space: $((used)) bytes"
echo "holes are holes"
