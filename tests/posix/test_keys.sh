#!/bin/bash
# SPDX-License-Identifier: MIT
# Keys and files are the same thing: what the kvfs command does on the volume while it is not mounted is
# seen through the mount, and the other way round; and through the mount the command does the same.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/v.kvfs
mnt=$tmp/mnt
make_volume --log-size 16M "$vol"
mount_it() { mount_volume "$vol" "$mnt"; }
umount_it() { umount_volume "$mnt" "$vol"; }

# ---- binary keys and values, every way ----
# All bytes a name can hold, in two names.
low=$(printf '%b' "$(printf '\\x%02x' $(seq 1 46) $(seq 48 127))")
high=$(printf '%b' "$(printf '\\x%02x' $(seq 128 255))")
head -c 100000 /dev/urandom >"$tmp/value"
: >"$tmp/nothing"
head -c 70000 /dev/zero >"$tmp/zeros"
for value in value nothing zeros; do
	kvfs put "$vol" "off/$low/$high/$value" <"$tmp/$value" || fail "put $value, not mounted"
done
mount_it
for value in value nothing zeros; do
	cmp "$tmp/$value" "$mnt/off/$low/$high/$value" || fail "$value, put before the mount"
	kvfs put "$mnt" "on/$low/$high/$value" <"$tmp/$value" || fail "put $value, mounted"
	cmp "$tmp/$value" "$mnt/on/$low/$high/$value" || fail "$value, put through the mount"
	kvfs get "$mnt" "off/$low/$high/$value" | cmp - "$tmp/$value" || fail "get $value, mounted"
	mkdir -p "$mnt/file/$high"
	cp "$tmp/$value" "$mnt/file/$high/$value"
done
[ "$(stat -c %a "$mnt/off/$low/$high/value")" = 644 ] || fail "mode of a key"
[ "$(stat -c %a "$mnt/on/$low/$high/value")" = 644 ] || fail "mode of a key put through the mount"
head -c 70000000 /dev/zero | kvfs put "$mnt" large || fail "a value of 70 MB through the mount"
[ "$(stat -c %s "$mnt/large")" = 70000000 ] || fail "size of a large value"
umount_it
for value in value nothing zeros; do
	for key in "off/$low/$high" "on/$low/$high" "file/$high"; do
		kvfs get "$vol" "$key/$value" | cmp - "$tmp/$value" || fail "get $value of $key"
	done
done
[ "$(kvfs get "$vol" large | wc -c)" = 70000000 ] || fail "get of a large value, not mounted"
kvfs rm "$vol" large

# ---- the same answers, mounted or not ----
kvfs put "$vol" d/key text
check_answers() {
	local t=$1 verb value
	for verb in get rm put; do
		value=()
		[ $verb = put ] && value=(v)
		refused_with 1 "is a file, not a directory" kvfs $verb "$t" d/key/below "${value[@]}"
		refused_with 1 "is a file, not a directory" kvfs $verb "$t" d/key/far/below "${value[@]}"
		refused_with 1 "it is a directory" kvfs $verb "$t" d "${value[@]}"
		refused_with 1 "a symbolic link" kvfs $verb "$t" link/key "${value[@]}"
		refused_with 1 "not a regular file" kvfs $verb "$t" link "${value[@]}"
		refused_with 1 "not a regular file" kvfs $verb "$t" fifo "${value[@]}"
		refused_with 1 'is "." or ".."' kvfs $verb "$t" d/../d/key "${value[@]}"
	done
	for verb in get rm; do
		refused_with 1 "no such key" kvfs $verb "$t" d/absent
		refused_with 1 "no such key" kvfs $verb "$t" absent/far/below
	done
	refused_with 1 "no such file or directory" kvfs ls "$t" absent
	[ "$(kvfs get "$t" d/key)" = text ] || fail "get from $t"
	[ "$(kvfs ls "$t" d)" = key ] || fail "ls of $t"
	kvfs ls -l "$t" | grep -q '^lrwxrwxrwx .* link -> d$' || fail "ls -l of a link in $t"
	kvfs put "$t" new/dirs/"$2" v
	[ "$(kvfs get "$t" new/dirs/"$2")" = v ] || fail "missing parents in $t"
	kvfs rm "$t" new/dirs/"$2"
	[ -z "$(kvfs ls "$t" new/dirs)" ] || fail "rm in $t"
	refused_with 1 "no such key" kvfs get "$t" new/dirs/"$2"
	kvfs sync "$t" || fail "sync of $t"
}
mount_it
ln -s d "$mnt/link"
mkfifo "$mnt/fifo"
check_answers "$mnt" 1
[ -d "$mnt/new/dirs" ] || fail "directories of a removed key are gone"
[ "$(kvfs ls "$mnt/d")" = key ] || fail "a directory below the mount as the target"
[ "$(kvfs get "$mnt/d" key)" = text ] || fail "get below the mount"
umount_it
check_answers "$vol" 2

# ---- what is refused_with 1 while it is mounted ----
mount_it
refused_with 1 "it is mounted at $mnt" kvfs get "$vol" d/key
refused_with 1 "it is mounted at $mnt" kvfs put "$vol" d/key v
refused_with 1 "it is mounted at $mnt" kvfs dump "$vol"
ln "$vol" "$tmp/other-name"
refused_with 1 "it is mounted at $mnt" kvfs ls "$tmp/other-name"
rm "$tmp/other-name"
refused_with 1 "unmount it first" kvfs compact "$mnt"
refused_with 1 "unmount it first" kvfs dump "$mnt"
kvfs info "$mnt" | grep -qxF "mounted at  $mnt" || fail "info of a mount: $(kvfs info "$mnt")"
kvfs info --json "$mnt" | python3 -c '
import json, sys
i = json.load(sys.stdin)
assert i["as_of"] == "last checkpoint" and i["mounted_at"] == sys.argv[1], i
assert i["free_bytes"] > 0 and i["uuid"], i
' "$mnt" || fail "info --json of a mount"

# ---- a put through the mount keeps what a file has ----
echo old >"$mnt/kept"
chmod 640 "$mnt/kept"
chown 1234:5678 "$mnt/kept"
setfattr -n user.note -v here "$mnt/kept"
kvfs put "$mnt" kept new
[ "$(cat "$mnt/kept")" = new ] || fail "put over a file"
[ "$(stat -c %a:%u:%g "$mnt/kept")" = 640:1234:5678 ] || fail "put lost mode or owner"
[ "$(getfattr --absolute-names --only-values -n user.note "$mnt/kept")" = here ] || fail "put lost an attribute"
umount_it
kvfs put "$vol" kept newer
mount_it
[ "$(cat "$mnt/kept")" = newer ] || fail "put over a file, not mounted"
[ "$(stat -c %a:%u:%g "$mnt/kept")" = 640:1234:5678 ] || fail "put, not mounted, lost mode or owner"
[ "$(getfattr --absolute-names --only-values -n user.note "$mnt/kept")" = here ] || fail "an attribute, not mounted"
# A reader sees the old value or the new one, whole; an interrupted put leaves nothing behind.
head -c 200000 /dev/zero | tr '\0' a >"$tmp/as"
head -c 200000 /dev/zero | tr '\0' b >"$tmp/bs"
kvfs put "$mnt" torn <"$tmp/as"
(for i in $(seq 20); do kvfs put "$mnt" torn <"$tmp/bs" && kvfs put "$mnt" torn <"$tmp/as"; done) &
while kill -0 $! 2>/dev/null; do
	kvfs get "$mnt" torn >"$tmp/got"
	cmp -s "$tmp/got" "$tmp/as" || cmp -s "$tmp/got" "$tmp/bs" || fail "a torn value"
done
wait
mkfifo "$tmp/pipe"
kvfs put "$mnt" torn <"$tmp/pipe" 2>"$tmp/err" &
put=$!
exec 8>"$tmp/pipe"
head -c 1500000 /dev/zero >&8
wait_for drained $put 8
kill -TERM $put
wait $put && fail "an interrupted put succeeded"
exec 8>&-
grep -q interrupted "$tmp/err" || fail "an interrupted put said: $(cat "$tmp/err")"
cmp "$mnt/torn" "$tmp/as" || fail "an interrupted put changed the value"
find "$mnt" -name '.kvfs-put*' | grep . && fail "an interrupted put left a file"

# ---- order ----
# Names around '/' in byte order, and directories that have moved, whose keys are stored elsewhere.
for key in a a- a.b a0 b 'a b' Z; do echo "$key" >"$mnt/scan-$key"; done
mkdir -p "$mnt/scan-d/x/y" "$mnt/scan-d.e" "$mnt/moving/deep"
for key in scan-d/x/y/1 scan-d/x/2 scan-d/x.3 scan-d.e/4 moving/5 moving/deep/6; do
	echo "$key" >"$mnt/$key"
done
mv "$mnt/moving" "$mnt/scan-d/moved"
mkdir "$mnt/moving" && echo 7 >"$mnt/moving/7"
ln "$mnt/scan-a" "$mnt/scan-d/linked"
# The order that is promised: '/' before every other byte. Sorted with the byte 1 in its place, which
# only the names with all bytes hold; those are left out.
(cd "$mnt" && find . -type f -print0) | sed -z 's,^\./,,' | tr '/' '\001' | LC_ALL=C sort -z |
	tr '\001' '/' >"$tmp/want.all"
scan_both() {
	kvfs scan -0 "$1" >"$tmp/all"
	grep -zv "^o[nf]f*/" "$tmp/all" >"$tmp/all.plain"
	grep -zv "^o[nf]f*/" "$tmp/want.all" | cmp - "$tmp/all.plain" || fail "order of a scan of $1"
	{
		kvfs scan "$1" --prefix scan-d
		kvfs scan "$1" --prefix scan-d/x/
		kvfs scan "$1" --prefix scan-d/mov
	} >"$tmp/prefix.$2"
	{
		kvfs scan "$1" --from scan-a0 --to scan-d/x.3
		kvfs scan "$1" --from scan-d/x/y --to scan-d/x/y/2
		kvfs scan "$1" --from scan-d/moved/deep/ -n 3
		kvfs scan "$1" --to moving
	} >"$tmp/range.$2"
	kvfs scan "$1" --values --from scan- >"$tmp/values.$2"
}
scan_both "$mnt" mounted
umount_it
scan_both "$vol" unmounted
for what in prefix range values; do
	[ -s "$tmp/$what.mounted" ] || fail "an empty scan: $what"
	diff "$tmp/$what.mounted" "$tmp/$what.unmounted" || fail "scans differ: $what"
done
diff - <(kvfs scan "$vol" --prefix scan-d) <<-'END' || fail "the order"
	scan-d/linked
	scan-d/moved/5
	scan-d/moved/deep/6
	scan-d/x/2
	scan-d/x/y/1
	scan-d/x.3
	scan-d.e/4
END
fsck.kvfs -f -n "$vol" >"$tmp/out" || fail "fsck: $(cat "$tmp/out")"
echo "keys and files are the same thing"
