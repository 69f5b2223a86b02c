#!/bin/bash
# SPDX-License-Identifier: MIT
# What the conformance suites taught: see calls.py. What it leaves is whole and is there after a
# remount.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

make_volume "$tmp/volume"
mount_volume "$tmp/volume" "$tmp/m" allow_other
chmod 755 "$tmp" "$tmp/m"
run_python "$KVFS_SRC/tests/posix/calls.py" "$tmp/m"

# What is open without a name is gone after the daemon was killed, and nothing is wrong.
exec 9<>"$tmp/m/open"
echo orphan >&9
rm "$tmp/m/open"
sync -f "$tmp/m"
kill -9 "$(daemons "$tmp/volume")"
exec 9>&-
umount -l "$tmp/m"
wait_closed "$tmp/volume"
fsck.kvfs "$tmp/volume" >"$tmp/report" || fail "fsck: $(cat "$tmp/report")"

mount_volume "$tmp/volume" "$tmp/m"
[ "$(find "$tmp/m" -name 'stay*' | wc -l)" = 500 ] || fail "files are missing"
umount_volume "$tmp/m" "$tmp/volume"
fsck.kvfs "$tmp/volume" >"$tmp/report" || fail "fsck: $(cat "$tmp/report")"
echo "calls do what the man pages say"
