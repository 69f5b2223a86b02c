#!/bin/bash
# SPDX-License-Identifier: MIT
# Names are bytes, up to 255 of them; paths may be longer than a path may be, and deep trees move.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

make_volume "$tmp/volume"
mount_volume "$tmp/volume" "$tmp/m"
run_python "$KVFS_SRC/tests/posix/names.py" "$tmp/m" write
umount_volume "$tmp/m" "$tmp/volume"
mount_volume "$tmp/volume" "$tmp/m"
run_python "$KVFS_SRC/tests/posix/names.py" "$tmp/m" check
umount_volume "$tmp/m" "$tmp/volume"
echo "names are bytes"
