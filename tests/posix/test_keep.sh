#!/bin/bash
# SPDX-License-Identifier: MIT
# Snapshots by the clock: the daemon takes and drops them, by mount options or by what the volume says.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume
dir=$tmp/m
snaps=$dir/.kvfs/snapshots
make_volume "$vol"

count() { find "$snaps" -maxdepth 1 -name "$1" | wc -l; }
there() { [ "$(count "$1")" = "$2" ]; }

# ---- by what the volume says ----
[ "$(kvfs snapshot keep "$vol")" = none ] || fail "a new volume keeps some"
mount_volume "$vol" "$dir"
[ "$(cat "$dir/.kvfs/keep")" = none ] || fail "a new mount keeps some"
mkdir "$snaps"/{mine,hourly-2001-01-01T0{0,1,2}Z,daily-2001-01-01}
ls "$snaps/hourly-2001-01-01T00Z"
kvfs snapshot keep "$dir" hourly=3 weekly=1 || fail "keep"
wait_for there 'hourly-20[2-9]*' 1
wait_for there 'hourly-*' 3
wait_for there 'weekly-20*' 1
[ ! -e "$snaps/hourly-2001-01-01T00Z" ] || fail "the oldest is there"
[ -e "$snaps/hourly-2001-01-01T02Z" ] || fail "a newer one is not there"
[ -e "$snaps/daily-2001-01-01" ] && [ -e "$snaps/mine" ] || fail "others were dropped"
[ "$(kvfs snapshot keep "$dir")" = "hourly=3 weekly=1" ] || fail "keep says $(kvfs snapshot keep "$dir")"
echo "daily=1, hourly=2" >"$dir/.kvfs/keep" || fail "a write of the file"
[ "$(cat "$dir/.kvfs/keep")" = "hourly=2 daily=1" ] || fail "keep holds $(cat "$dir/.kvfs/keep")"
wait_for there 'hourly-*' 2
wait_for there 'daily-*' 1
[ ! -e "$snaps/daily-2001-01-01" ] || fail "an old daily one is there"
refused "hourly=" kvfs snapshot keep "$dir" sometimes=3
refused "hourly=" kvfs snapshot keep "$dir" hourly=65536
refused "Invalid argument" bash -c "echo nonsense >'$dir/.kvfs/keep'"
umount_volume "$dir" "$vol"
[ "$(kvfs snapshot keep "$vol")" = "hourly=2 daily=1" ] || fail "the volume says $(kvfs snapshot keep "$vol")"
kvfs snapshot keep "$vol" none || fail "keep none"

# ---- by mount options, which come first ----
mount_volume "$vol" "$dir" keep_monthly=1,keep_hourly=1
wait_for there 'monthly-*' 1
wait_for there 'hourly-*' 1
there 'hourly-2001*' 0 || fail "the older one was kept"
[ "$(cat "$dir/.kvfs/keep")" = "hourly=1 monthly=1" ] || fail "options: $(cat "$dir/.kvfs/keep")"
refused "mount options" kvfs snapshot keep "$dir" daily=1
refused "busy" bash -c "echo daily=1 >'$dir/.kvfs/keep'"
umount_volume "$dir" "$vol"
refused "give 0 to 65535" mount.kvfs "$vol" "$dir" -o keep_daily=x
mount_volume "$vol" "$dir" ro,keep_yearly=1
sleep 0.2
there 'yearly-*' 0 || fail "a read-only mount took one"
umount_volume "$dir" "$vol"
fsck.kvfs -f "$vol" >"$tmp/out" || fail "fsck: $(cat "$tmp/out")"
