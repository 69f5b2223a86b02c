#!/bin/bash
# SPDX-License-Identifier: MIT
# What is changed, as kvfs watch and .kvfs/feed tell it: every commit in order, strange names, who
# may, going on after a break and a remount, tail -f, and writers that wait for nobody.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

v=$tmp/v.kvfs d=$tmp/d
make_volume "$v"
mount_volume "$v" "$d"

told() { cut -f2- "$1"; }
stop() { kill "$@" 2>/dev/null || true; }
# Lines of a file, without the numbers, are these.
expect() {
	diff -u "$2" <(told "$1") || fail "not what was expected in $1"
}

echo "- follows what is done, in order"
kvfs watch "$d" >"$tmp/all" &
pid=$!
at_exit stop "$pid"
kvfs watch -b "$d" sub/x >"$tmp/below" &
below=$!
at_exit stop "$below"
wait_for watching "$pid"
wait_for watching "$below"
mkdir "$d/sub"
printf 'one' >"$d/sub/f"
printf 'more' >>"$d/sub/f"
ln "$d/sub/f" "$d/g"
chmod 600 "$d/g"
setfattr -n user.a -v b "$d/g"
truncate -s 2 "$d/g"
mv "$d/sub" "$d/moved"
rm "$d/g"
printf 'x' >"$d/"$'tab\there\nand\xff'
mkdir "$d/sub" "$d/sub/x" "$d/sub/xy"
: >"$d/sub/x/"$'\xc3\xa4'
: >"$d/sub/xy/no"
mv "$d/sub/x" "$d/sub/y"
ln -s f "$d/moved/l"
rm "$d/moved/f"
rm "$d/moved/l"
rmdir "$d/moved"
touch "$d/last"
wait_for grep -q "created.last" "$tmp/all"
cat >"$tmp/want" <<'END'
created	sub
created	sub/f
written	sub/f
written	sub/f
linked	g
attributes	g
attributes	sub/f
xattr	g
xattr	sub/f
truncated	g
truncated	sub/f
renamed	moved	sub
unlinked	g
END
head -n "$(wc -l <"$tmp/want")" "$tmp/all" >"$tmp/head"
expect "$tmp/head" "$tmp/want"
grep -qP 'created\tmoved/l$' "$tmp/all" || fail "no symlink"
grep -qP 'unlinked\tmoved/f$' "$tmp/all" || fail "no removal of a file"
grep -qP 'unlinked\tmoved$' "$tmp/all" || fail "no removal of a directory"
cut -f1 "$tmp/all" | grep -v '^and' | sort -nc || fail "numbers do not rise"
wait_for grep -q "renamed" "$tmp/below"
cat >"$tmp/want" <<'END'
created	sub/x
created	sub/x/\xc3\xa4
renamed	sub/y	sub/x
END
expect "$tmp/below" "$tmp/want"

echo "- a transaction is one commit, and one that is dropped is none"
at=$(tail -n 1 "$tmp/all" | cut -f1)
kvfs txn "$d" -- sh -c 'mkdir t && echo 1 >t/a && echo 2 >t/b && rm last'
kvfs txn "$d" -- sh -c 'touch never && false' 2>/dev/null && fail "it was committed"
echo x >"$d/after"
kvfs watch -n --from $((at + 1)) "$d" >"$tmp/txn"
cat >"$tmp/want" <<'END'
unlinked	last
created	t
created	t/a
created	t/b
created	after
written	after
END
expect "$tmp/txn" "$tmp/want"
[ "$(head -n 4 "$tmp/txn" | cut -f1 | sort -u | wc -l)" = 1 ] || fail "more than one commit"

echo "- goes on after a break: from its last number on, nothing is missing"
kill "$pid"
wait "$pid" 2>/dev/null || true
last=$(tail -n 1 "$tmp/all" | cut -f1)
for i in 1 2 3; do echo "$i" >"$d/n$i"; done
kvfs watch -n --from "$last" "$d" >"$tmp/rest"
[ "$(grep -c "created.n" "$tmp/rest")" = 3 ] || fail "something is missing"
kvfs watch -n --from oldest "$d" >"$tmp/oldest"
tail -n "$(wc -l <"$tmp/rest")" "$tmp/oldest" | cmp - "$tmp/rest" || fail "two watches differ"

echo "- a file that grows, for tail -f"
tail -f "$d/.kvfs/feed" >"$tmp/tail" &
tailing=$!
at_exit stop "$tailing"
wait_for grep -q position "$tmp/tail"
for i in $(seq 1 300); do echo "$i" >"$d/t$i"; done
sleep 1.2
touch "$d/"$'tail\n'
wait_for grep -qF 'tail\x0a' "$tmp/tail"
[ "$(grep -c created "$tmp/tail")" = 301 ] || fail "tail lost something"
! grep -qP '\0' "$tmp/tail" || fail "bytes that were not there yet"
kill "$tailing"
timeout 10 cat "$d/.kvfs/feed" | grep -q "position" || fail "cat of the feed does not end"
# shellcheck disable=SC2010
ls -a "$d" | grep -q kvfs && fail "the control directory is listed"

echo "- refuses: others, unknown numbers, what is gone"
chmod 755 "$tmp"
refused_with 1 "no commit of that number yet" kvfs watch -n --from 99999999 "$d"
refused_with 1 "is not kept" kvfs watch -n --from 1 "$d"
refused_with 2 "number of a commit" kvfs watch --from x "$d"
refused_with 2 "number of a commit" kvfs watch --from 0 "$d"
kill "$below"
wait "$below" 2>/dev/null || true
umount_volume "$d" "$v"
mount_volume "$v" "$d" allow_other
if id nobody >/dev/null 2>&1; then
	refused "only root" setpriv --reuid nobody --clear-groups kvfs watch -n "$d"
	! setpriv --reuid nobody --clear-groups cat "$d/.kvfs/feed" 2>/dev/null ||
		fail "anybody can read the feed"
fi
refused_with 1 "is not kept" kvfs watch -n --from "$last" "$d"

echo "- writers do not wait for a reader that sleeps, which loses nothing"
kvfs watch "$d" >"$tmp/slow" &
slow=$!
wait_for watching "$slow"
kill -STOP "$slow"
for i in $(seq 1 500); do echo "$i" >"$d/s$i"; done
kill -CONT "$slow"
echo x >"$d/s-end"
wait_for grep -q "created.s-end" "$tmp/slow"
[ "$(grep -c "created.s[0-9]" "$tmp/slow")" = 500 ] || fail "the slow reader lost something"
kill "$slow"
wait "$slow" 2>/dev/null || true
umount_volume "$d" "$v"

echo "- history= lasts across mounts, and is read of a volume that is not mounted"
mount_volume "$v" "$d" history=1h
echo 1 >"$d/h1"
umount_volume "$d" "$v"
kvfs watch "$v" >"$tmp/h"
grep -q "created.h1" "$tmp/h" || fail "not told of the volume"
mount_volume "$v" "$d" history=1h
echo 2 >"$d/h2"
kvfs watch -n --from oldest "$d" >"$tmp/h"
grep -q "created.h1" "$tmp/h" || fail "the first is gone"
grep -q "created.h2" "$tmp/h" || fail "the second is not told"
first=$(head -n 1 "$tmp/h" | cut -f1)
pkill_one() { kill -KILL "$(daemons "$v")"; }
sync "$d/h2"
pkill_one
umount -l "$d"
wait_closed "$v"
mount_volume "$v" "$d" history=1h
kvfs watch -n --from "$first" "$d" | grep -q "created.h2" || fail "gone after a crash"
umount_volume "$d" "$v"
fsck.kvfs -n "$v" >"$tmp/fsck" || fail "fsck: $(cat "$tmp/fsck")"
mount_volume "$v" "$d" history=2s
let_go() {
	echo x >"$d/w"
	! kvfs watch -n --from "$first" "$d" >/dev/null 2>&1
}
wait_for let_go
refused_with 1 "is not kept" kvfs watch -n --from "$first" "$d"
umount_volume "$d" "$v"
mount_volume "$v" "$d"
umount_volume "$d" "$v"
refused_with 1 "is not kept" kvfs watch "$v"
refused "give a time such as" mount.kvfs "$v" "$d" -o history=1x
fsck.kvfs -n "$v" >"$tmp/fsck" || fail "fsck: $(cat "$tmp/fsck")"
echo "all told"
