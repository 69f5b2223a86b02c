#!/bin/bash
# SPDX-License-Identifier: MIT
# The ioctl by which XFS is shut down: what was acknowledged is durable, everything later is EIO.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume dir=$tmp/m
make_volume "$vol"
mount_volume "$vol" "$dir" allow_other,commit=300
chmod 755 "$tmp" "$dir"
cat >"$tmp/shutdown.py" <<'EOF'
import fcntl
import os
import sys

if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, bytes(4))
EOF
refused "Operation not permitted" python3 "$tmp/shutdown.py" "$dir" 1000
head -c 300000 /dev/urandom >"$dir/f"
mkdir "$dir/d"
want=$(sha256sum <"$dir/f")
exec 9>>"$dir/log"
echo before >&9
python3 "$tmp/shutdown.py" "$dir"
# The last thing that the disk hears of it: nothing is written when the daemon ends.
cp "$vol" "$tmp/then"
no="Input/output error"
refused "$no" mkdir "$dir/e"
refused "$no" rmdir "$dir/d"
refused "$no" stat "$dir/never.seen"
refused "$no" bash -c "echo x >&9"
refused "$no" chmod 600 "$dir/f"
refused "$no" python3 "$tmp/shutdown.py" "$dir" # once is enough
exec 9>&-
umount_volume "$dir" "$vol"

for v in "$vol" "$tmp/then"; do
	fsck.kvfs "$v" >"$tmp/report" || fail "fsck: $(cat "$tmp/report")"
	mount_volume "$v" "$dir"
	[ "$(sha256sum <"$dir/f")" = "$want" ] || fail "contents"
	[ "$(cat "$dir/log")" = before ] || fail "the line before is not the only one"
	[ "$(ls "$dir")" = "$(printf 'd\nf\nlog')" ] || fail "names: $(ls "$dir")"
	umount_volume "$dir" "$v"
done
