#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Programs at work on a mount: git, a C project and make, SQLite in both journal modes, the usual
# text tools, flock, mmap writers.
. "$(dirname "$0")/lib.sh"

vol=$tmp/v.kvfs
mnt=$tmp/mnt
make_volume "$vol"
mount_volume "$vol" "$mnt"
cd "$mnt"

# git
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t
git init -q repo
for i in $(seq 40); do
	mkdir -p "repo/dir$((i % 5))"
	seq "$i" $((i * 30)) >"repo/dir$((i % 5))/file$i"
	git -C repo add -A
	git -C repo commit -qm "commit $i"
done
git -C repo gc -q
git -C repo fsck --strict 2>&1 | grep -v '^notice' && fail "git fsck"
git clone -q repo clone
git clone -q --no-local repo clone2
[ "$(git -C clone rev-parse HEAD)" = "$(git -C repo rev-parse HEAD)" ] || fail "git clone"
git -C clone checkout -q -b side HEAD~20
echo side >clone/side
git -C clone add side
git -C clone commit -qm side
git -C clone rebase -q master 2>/dev/null || git -C clone rebase -q main || fail "git rebase"
[ -z "$(git -C clone status --porcelain)" ] || fail "git status"

# a C project
mkdir project
for i in $(seq 30); do
	printf '#include <stdio.h>\nint f%d(int x);\nint f%d(int x) { return x + %d; }\n' \
		"$i" "$i" "$i" >"project/f$i.c"
done
{
	seq -f 'int f%g(int x);' 30
	echo '#include <stdio.h>'
	echo 'int main(void) { int s = 0;'
	seq -f 's = f%g(s);' 30
	# shellcheck disable=SC2028 # for the compiler
	echo 'printf("%d\n", s); return 0; }'
} >project/main.c
printf 'OBJS := $(patsubst %%.c,%%.o,$(wildcard *.c))\nprog: $(OBJS)\n\t$(CC) -o $@ $^\n' \
	>project/Makefile
make -s -C project -j4
[ "$(project/prog)" = 465 ] || fail "the compiled program"
make -s -C project | grep -v 'up to date' && fail "make builds again"
touch project/f7.c
make -C project | grep -q f7.o || fail "make does not see a newer file"

# SQLite
for mode in DELETE WAL; do
	db=$mode.db
	sqlite3 "$db" "PRAGMA journal_mode=$mode; CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT);" >/dev/null
	for i in $(seq 50); do
		echo "INSERT INTO t(v) VALUES(hex(randomblob(200)));"
	done | sqlite3 "$db"
	{
		echo "BEGIN;"
		seq -f "INSERT INTO t(v) VALUES('%g');" 20000
		echo "COMMIT; CREATE INDEX i ON t(v); DELETE FROM t WHERE k % 3 = 0; VACUUM;"
	} | sqlite3 "$db"
	[ "$(sqlite3 "$db" 'PRAGMA integrity_check')" = ok ] || fail "sqlite $mode"
	for w in 1 2 3 4; do
		seq -f ".timeout 30000
INSERT INTO t(v) VALUES('w$w-%g');" 25 | sqlite3 "$db" &
	done
	wait
	[ "$(sqlite3 "$db" "SELECT count(*) FROM t WHERE v LIKE 'w%'")" = 100 ] || fail "sqlite $mode writers"
	[ "$(sqlite3 "$db" 'PRAGMA integrity_check')" = ok ] || fail "sqlite $mode after writers"
done

# text tools
seq 100000 | sort -R >numbers
sort -n -T "$mnt" -S 1M numbers | cmp - <(seq 100000) || fail sort
sed -i 's/^5$/five/' numbers
grep -qx five numbers || fail "sed -i"
[ "$(grep -r -l 'return x' project | wc -l)" = 30 ] || fail "grep -r"
[ "$(find . -name '*.o' | wc -l)" = 31 ] || fail find

# flock: 8 processes, 50 increments each, nothing lost
echo 0 >counter
for w in $(seq 8); do
	for i in $(seq 50); do
		flock lock sh -c 'n=$(cat counter); echo $((n + 1)) >counter'
	done &
done
wait
[ "$(cat counter)" = 400 ] || fail "flock: $(cat counter)"

# appends of several processes: nothing lost, nothing torn
for w in $(seq 8); do
	(for i in $(seq 200); do printf 'writer %02d line %04d\n' "$w" "$i" >>appended; done) &
done
wait
[ "$(sort appended | uniq | wc -l)" = 1600 ] || fail "appends"
grep -vqE '^writer [0-9]{2} line [0-9]{4}$' appended && fail "torn append"

# mmap: several processes write their own pages of one file
truncate -s 4M mapped
cat >"$tmp/mapper.py" <<-'EOF'
	import mmap, os, sys
	n = int(sys.argv[2])
	fd = os.open(sys.argv[1], os.O_RDWR)
	m = mmap.mmap(fd, 0)
	for page in range(n, 1024, 4):
	    m[page * 4096:(page + 1) * 4096] = bytes([n + 1]) * 4096
	m.flush()
EOF
for w in 0 1 2 3; do python3 "$tmp/mapper.py" mapped "$w" & done
wait
cat >"$tmp/mapcheck.py" <<-'EOF'
	import sys
	data = open(sys.argv[1], "rb").read()
	assert len(data) == 4 << 20
	for page in range(1024):
	    assert data[page * 4096:(page + 1) * 4096] == bytes([page % 4 + 1]) * 4096, page
EOF
python3 "$tmp/mapcheck.py" mapped || fail "mmap"

cd /
umount_volume "$mnt" "$vol"
fsck.kvfs -f -n "$vol" || fail "fsck: $?"
mount_volume "$vol" "$mnt"
python3 "$tmp/mapcheck.py" "$mnt/mapped" || fail "mmap after a remount"
git -C "$mnt/clone2" fsck --strict 2>&1 | grep -v '^notice' && fail "git fsck after a remount"
[ "$(sqlite3 "$mnt/WAL.db" 'PRAGMA integrity_check')" = ok ] || fail "sqlite after a remount"
umount_volume "$mnt" "$vol"
