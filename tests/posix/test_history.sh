#!/bin/bash
# SPDX-License-Identifier: MIT
# Versions of a file and trees of a time: kvfs log, kvfs at, .kvfs/at; from snapshots, and from history.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

v=$tmp/v.kvfs d=$tmp/d
make_volume "$v"
mount_volume "$v" "$d"

# The contents of the versions of "$1" in "$d", newest first, on one line.
versions() {
	kvfs log -0 "$d" "$1" | while IFS= read -r -d '' path; do cat "$path"; done | tr '\n' ' '
}

echo "- versions in snapshots, those that are equal once"
mkdir "$d/a"
echo one >"$d/a/f"
kvfs snapshot create "$d" s1
between=$(date +%s.%N)
kvfs snapshot create "$d" s2
echo two >"$d/a/f"
kvfs snapshot create "$d" $'s\xff3'
echo three >"$d/a/f"
[ "$(versions a/f)" = "three two one " ] || fail "versions: $(versions a/f)"
[ "$(kvfs log "$d/a" f | wc -l)" = 3 ] || fail "not three lines below a directory"
echo strange >"$d/a/"$'s\xff'
kvfs log -b "$d" $'a/s\xff' | grep -qF '.kvfs/history/a/s\xff/2' || fail "a strange name"
rm "$d/a/"$'s\xff'
rm "$d/a/f"
# Looking back has kept what was there since then, for a while.
[[ "$(versions a/f)" = *"two one " ]] || fail "versions of a file that is gone: $(versions a/f)"
old=$(kvfs log -0 "$d" a/f | tail -z -n 1 | tr -d '\0')
cp "$old" "$d/a/f"
[ "$(cat "$d/a/f")" = one ] || fail "a version cannot be copied back"
diff "$old" "$d/a/f" || fail "a version cannot be compared"
refused_with 1 "no version of it" kvfs log "$d" a/never
refused_with 2 "" kvfs log "$d" ../etc

echo "- the tree as of a time, from snapshots"
tree=$(kvfs at "$d" "@$between")
[ "$(cat "$tree/a/f")" = one ] || fail "not the newest snapshot before"
[ "$(kvfs at "$d/a" "@$between" -- sh -c 'cat f; pwd >&2' 2>"$tmp/out")" = one ] ||
	fail "a command in it"
grep -q '/.kvfs/at/.*/a$' "$tmp/out" || fail "not below the directory: $(cat "$tmp/out")"
kvfs at "$d" "$(date -u +%Y-%m-%dT%H:%M:%SZ -d '+1 day')" >/dev/null || fail "UTC"
kvfs at "$d" "$(date '+%Y-%m-%d %H:%M' -d '+1 day')" >/dev/null || fail "local time"
echo now >"$d/a/now"
kvfs snapshot create "$d" now
[ "$(kvfs at "$d" 0s -- cat a/now)" = now ] || fail "how long ago: what was within this second is left out"
rm "$d/a/now"
refused_with 1 "no state of that time" kvfs at "$d" 2001-01-01
refused_with 2 "not a time" kvfs at "$d" yesterday
refused_with 1 "not kept" kvfs at "$d" c1
! touch "$tree/x" 2>/dev/null || fail "the past can be written"
for n in x 1x @1 c cc -1 1.2.3 2026-13-01T00:00:00Z 99999999999999999999; do
	! stat "$d/.kvfs/at/$n" >/dev/null 2>&1 || fail "found: $n"
done
[ "$(ls "$d/.kvfs/at")" = "" ] || fail "names are listed"
umount_volume "$d" "$v"

echo "- every version, and any time, with history"
mount_volume "$v" "$d" history=1h
for i in 1 2 3; do echo "v$i" >"$d/a/f"; done
[ "$(versions a/f | cut -d' ' -f1-3)" = "v3 v2 v1" ] || fail "versions: $(versions a/f)"
versions a/f | grep -q "v1 .*two one" || fail "those of snapshots are gone: $(versions a/f)"
commit=$(kvfs watch -n --from oldest "$d" a/f | grep -P '\twritten\t' | head -n 1 | cut -f1)
[ "$(cat "$(kvfs at "$d" "c$commit")/a/f")" = v1 ] || fail "right after a commit"
mkdir "$d/tree"
seq 100 | while read -r i; do echo "$i" >"$d/tree/$i"; done
noted() { # history notes times to the second
	then=$(date +%s.%N)
	[ -e "$(kvfs at "$d" "@$then")/tree/100" ]
}
wait_for noted
sleep 1.2
rm -r "$d/tree"
echo v4 >"$d/a/f"
tree=$(kvfs at "$d" "@$then")
[ "$(find "$tree/tree" -type f | wc -l)" = 100 ] || fail "what was removed is not there"
[ "$(cat "$tree/tree/77")" = 77 ] || fail "contents of what was removed"
[ "$(cat "$tree/a/f")" = v3 ] || fail "not as of the time"
kvfs at "$d" "@$then" -- cp -r tree "$d/back"
[ "$(find "$d/back" -type f | wc -l)" = 100 ] || fail "it did not come back"
refused_with 1 "no commit of that number" kvfs at "$d" c99999999
[ "$(cat "$(kvfs at "$d" "@$between")/a/f")" = one ] || fail "before history: the snapshot"
umount_volume "$d" "$v"

echo "- and after a remount, as long as it is kept"
mount_volume "$v" "$d" history=1h
[ "$(cat "$(kvfs at "$d" "@$then")/tree/77")" = 77 ] || fail "gone after a remount"
exec 7<"$(kvfs at "$d" "@$then")/tree/78"
umount "$d" 2>/dev/null && fail "unmounted while a file of the past is open"
exec 7<&-
umount_volume "$d" "$v"
mount_volume "$v" "$d"
refused_with 1 "not kept" kvfs at "$d" "c$commit"
[ "$(cat "$(kvfs at "$d" "@$then")/a/f")" != v4 ] || fail "it was let go, so a snapshot counts"
umount_volume "$d" "$v"
fsck.kvfs -n "$v" >"$tmp/fsck" || fail "fsck: $(cat "$tmp/fsck")"
echo "the past is there"
