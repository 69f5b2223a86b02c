#!/bin/bash
# SPDX-License-Identifier: MIT
# Transactions as directories: any tool in them, commit, abort, conflicts, who may, kill -9.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume
dir=$tmp/m
make_volume "$vol"
mount_volume "$vol" "$dir" allow_other
txn=$dir/.kvfs/txn
commit=$dir/.kvfs/commit

# ---- seen inside alone, then by all at once, whatever their caches hold ----
mkdir -p "$dir/d/sub"
echo old >"$dir/d/file"
echo gone >"$dir/d/gone"
ln "$dir/d/file" "$dir/d/link"
mkdir "$txn/t"
[ "$(ls "$txn")" = t ] || fail "the list of transactions: $(ls "$txn")"
[ -z "$(kvfs diff --txn "$dir" t)" ] || fail "a difference of nothing: $(kvfs diff --txn "$dir" t)"
kvfs snapshot create "$dir" before
ls "$dir/d" "$dir/d/sub" >/dev/null && stat "$dir/d/new" 2>/dev/null && fail "there is a new file"
cat "$dir/d/file" "$dir/d/gone" >/dev/null
exec 5<"$dir/d/gone"
(
	cd "$txn/t/d" || exit
	sed -i s/old/new/ file
	echo new >new
	rm gone
	mv sub moved
	mkdir deep && echo x >deep/x
	ln new second
	setfattr -n user.k -v v new
	head -c 300000 /dev/urandom >large
)
[ "$(cat "$txn/t/d/file" "$txn/t/d/link")" = "new
old" ] || fail "sed -i in a transaction"
[ "$(cat "$dir/d/file")" = old ] || fail "seen outside"
[ -e "$dir/d/new" ] && fail "a new file is seen outside"
picture "$txn/t" >"$tmp/inside"
kvfs diff --txn "$dir" t >"$tmp/changes"
printf '%s\n' '+	d/deep' '+	d/deep/x' 'M	d/file' '-	d/gone' '+	d/large' 'A	d/link' \
	'R	d/moved	d/sub' '+	d/new' '+	d/second' >"$tmp/want"
diff "$tmp/want" "$tmp/changes" || fail "kvfs diff --txn"
kvfs diff --txn "$dir/d" t | sed 's#\t#\td/#g' | diff "$tmp/want" - || fail "kvfs diff --txn below a directory"
mv "$txn/t" "$commit/" || fail "commit by mv"
[ "$(cat "$dir/d/file")" = new ] || fail "the old contents are seen after a commit"
[ "$(ls "$dir/d")" = "deep
file
large
link
moved
new
second" ] || fail "listing after a commit: $(ls "$dir/d")"
[ "$(cat "$dir/d/new")" = new ] || fail "a name that was cached as missing"
[ "$(stat -c %h "$dir/d/new")" = 2 ] || fail "links of a new file"
[ "$(cat <&5)" = gone ] || fail "a removed file that was open"
exec 5<&-
picture "$dir" >"$tmp/outside"
kvfs diff "$dir" before | diff "$tmp/changes" - || fail "what was told before the commit is not what changed"
kvfs snapshot drop "$dir" before
diff "$tmp/inside" "$tmp/outside" || fail "the transaction's tree is not what was committed"
[ -z "$(ls "$txn")$(ls "$commit")" ] || fail "a committed transaction is listed"
[ -e "$commit/t" ] && fail "a committed transaction is found"
refused "No such file" mv "$txn/t" "$commit/"

# ---- abort ----
kvfs begin "$dir" a >"$tmp/path"
[ "$(cat "$tmp/path")" = "$txn/a" ] || fail "kvfs begin prints $(cat "$tmp/path")"
rm -r "$txn/a/d"
rmdir "$txn/a"
kvfs begin "$dir" b >/dev/null
echo x >"$txn/b/x"
exec 5<"$txn/b/x" 6>"$txn/b/y"
kvfs abort "$dir" b
! echo more >&6 2>/dev/null || fail "a write into an aborted transaction"
exec 5<&- 6>&-
[ "$(ls "$dir")" = d ] || fail "an aborted transaction left something: $(ls "$dir")"
refused_with 1 "no such transaction" kvfs abort "$dir" b
refused_with 1 "no such transaction" kvfs commit "$dir" b
refused_with 1 "no such transaction" kvfs diff --txn "$dir" b
refused_with 2 "give a directory" kvfs diff --txn "$dir"

# ---- conflicts: nothing is changed, and the paths are told ----
mkdir "$txn/one" "$txn/two"
echo one >"$txn/one/d/file"
echo one >"$txn/one/only-one"
echo two >"$txn/two/d/file"
echo two >"$txn/two/only-two"
kvfs commit "$dir" one
! kvfs commit "$dir" two 2>"$tmp/out" || fail "a conflict was not found"
grep -q "others have changed the same" "$tmp/out" || fail "said: $(cat "$tmp/out")"
grep -q "^  /d/file$" "$tmp/out" || fail "no path of a conflict: $(cat "$tmp/out")"
[ "$(cat "$dir/.kvfs/conflicts")" = "two	/d/file" ] || fail "conflicts: $(cat "$dir/.kvfs/conflicts")"
refused "temporarily unavailable" mv "$txn/two" "$commit/"
[ "$(cat "$dir/d/file")" = one ] || fail "contents after a conflict"
[ -e "$dir/only-two" ] && fail "a part of a transaction with a conflict"
[ "$(cat "$txn/two/only-two")" = two ] || fail "a transaction is gone after a conflict"
rmdir "$txn/two"
[ -z "$(cat "$dir/.kvfs/conflicts")" ] || fail "conflicts of a transaction that is gone"

# ---- kvfs txn ----
kvfs txn "$dir" -- sh -c 'echo run >run && test "$PWD" = "$KVFS_TXN"' || fail "kvfs txn"
[ "$(cat "$dir/run")" = run ] || fail "a committed command"
kvfs txn "$dir/d" -- sh -c 'rm file; exit 7' && fail "the status of a command"
[ $? -le 7 ] && [ -e "$dir/d/file" ] || fail "a failed command left something"
kvfs txn --retry 3 "$dir" -- sh -c "cat run >>log; echo x >>log
	[ -e $tmp/tried ] || { touch $tmp/tried; echo other >>$dir/log; }" || fail "a retry"
[ "$(cat "$dir/log")" = "other
run
x" ] || fail "after a retry: $(cat "$dir/log")"
refused_with 127 "No such file" kvfs txn "$dir" -- /no/such/command
[ -z "$(ls "$txn")" ] || fail "kvfs txn left $(ls "$txn")"
kvfs begin -s "$dir" s >/dev/null
cat "$txn/s/run" >/dev/null && echo x >"$txn/s/other"
echo changed >"$dir/run"
refused "others have changed" kvfs commit "$dir" s
kvfs abort "$dir" s
# Looking at what was changed is not reading.
kvfs begin -s "$dir" s >/dev/null
echo x >"$txn/s/d/other" && mv "$txn/s/d" "$txn/s/e"
kvfs diff --txn "$dir" s >/dev/null
echo changed again >"$dir/run"
kvfs commit "$dir" s || fail "kvfs diff --txn counts as reading"
mv "$dir/e" "$dir/d"

# ---- any tool ----
mkdir "$txn/tools"
(cd "$KVFS_SRC/kvcore" && tar cf - base format) | tar xf - -C "$txn/tools"
diff -r "$KVFS_SRC/kvcore/base" "$txn/tools/base" || fail "tar"
if command -v rsync >/dev/null; then
	rsync -a "$KVFS_SRC/kvcore/os/" "$txn/tools/os/" || fail "rsync"
fi
if command -v git >/dev/null; then
	(cd "$txn/tools" && git init -q . && git add base && git -c user.name=n -c user.email=e \
		commit -q -m m && git fsck --no-progress) >"$tmp/out" 2>&1 || fail "git: $(cat "$tmp/out")"
fi
if command -v cc >/dev/null; then
	echo 'int main(void) { return 0; }' >"$txn/tools/main.c"
	cc -o "$txn/tools/main" "$txn/tools/main.c" && "$txn/tools/main" || fail "a compiler"
fi
kvfs commit "$dir" tools
diff -r "$KVFS_SRC/kvcore/format" "$dir/format" || fail "after the commit"
[ ! -e "$dir/main" ] || "$dir/main" || fail "a program after the commit"

# ---- names, and who may ----
mkdir "$txn/"$'\xff \n' && rmdir "$txn/"$'\xff \n' || fail "a name with strange bytes"
refused "File exists" sh -c "mkdir '$txn/x' '$txn/x'"
refused "not permitted" touch "$txn/file"
refused "not permitted" mv "$txn/x" "$dir/.kvfs/snapshots/"
refused "not permitted" mv "$dir/run" "$commit/"
rmdir "$txn/x"
chmod 755 "$dir" "$tmp"
cp "$KVFS_BIN/kvfs" "$tmp/kvfs" # where everybody can reach it
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
mkdir "$txn/root"
refused "not permitted" as_nobody rmdir "$txn/root"
refused "only root" as_nobody "$tmp/kvfs" commit "$dir" root
refused "only root" as_nobody "$tmp/kvfs" diff --txn "$dir" root
rmdir "$txn/root"
mkdir -m 777 "$dir/all"
as_nobody mkdir "$txn/nobody"
as_nobody sh -c "echo n >'$txn/nobody/all/n'"
refused "denied" as_nobody sh -c "echo n >'$txn/nobody/n'"
[ "$(as_nobody "$tmp/kvfs" diff --txn "$dir" nobody)" = "+	all/n" ] || fail "its owner cannot look at it"
mkdir "$txn/root"
refused "only root" as_nobody "$tmp/kvfs" diff --txn "$dir" root
refused "only root" as_nobody "$tmp/kvfs" diff "$dir" before
rmdir "$txn/root"
as_nobody "$tmp/kvfs" commit "$dir" nobody || fail "its owner cannot commit"
[ "$(stat -c %u "$dir/all/n")" = 65534 ] || fail "the owner of what was committed"
for i in $(seq 32); do mkdir "$txn/n$i"; done
refused "Too many open files" mkdir "$txn/n33"
for i in $(seq 32); do rmdir "$txn/n$i"; done

# ---- gone after a remount, and by the clock ----
mkdir "$txn/left"
echo x >"$txn/left/x"
umount_volume "$dir" "$vol"
fsck.kvfs -fn "$vol" >"$tmp/out" || fail "fsck: $(cat "$tmp/out")"
mount_volume "$vol" "$dir" txn_expire=1
[ -z "$(ls "$txn")" ] || fail "a transaction outlived its mount"
mkdir "$txn/old"
wait_for sh -c "[ ! -e '$txn/old' ]"
umount_volume "$dir" "$vol"
mount_volume "$vol" "$dir" ro
refused "Read-only" mkdir "$txn/ro"
umount_volume "$dir" "$vol"

# ---- a full volume ----
small=$tmp/small
make_volume --size 24M "$small"
mount_volume "$small" "$dir"
mkdir "$txn/full"
! dd if=/dev/urandom of="$txn/full/f" bs=1M count=40 2>"$tmp/out" || fail "more than there is room for"
grep -q "No space left" "$tmp/out" || fail "said: $(cat "$tmp/out")"
rmdir "$txn/full"
echo fits >"$dir/fits" || fail "an aborted transaction holds the room"
umount_volume "$dir" "$small"

# ---- killed during a commit: all or nothing ----
for round in 1 2 3; do
	mount_volume "$vol" "$dir"
	rm -rf "$dir/k"
	kvfs sync "$dir"
	mkdir "$txn/k"
	python3 - "$txn/k/k" <<-'PY'
	import os, sys
	for d in range(20):
	    os.makedirs(f"{sys.argv[1]}/{d}")
	    for f in range(100):
	        with open(f"{sys.argv[1]}/{d}/{f}", "w") as out:
	            out.write("x" * 500)
	PY
	kvfs commit "$dir" k >/dev/null 2>&1 &
	sleep "0.0$((round * 2))"
	# shellcheck disable=SC2046
	kill -9 $(daemons "$vol")
	wait
	umount -l "$dir"
	wait_closed "$vol"
	mount_volume "$vol" "$dir"
	if [ -e "$dir/k" ]; then
		[ "$(find "$dir/k" -type f -size 1 | wc -l)" = 2000 ] || fail "a part of a commit"
	fi
	umount_volume "$dir" "$vol"
	fsck.kvfs -fn "$vol" >"$tmp/out" || fail "fsck after a kill: $(cat "$tmp/out")"
done
echo passed
