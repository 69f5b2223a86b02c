#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A real tree of at least 50,000 files goes in by rsync and by tar, is compared in three ways,
# survives a remount and fsck, and comes out again equal. Then a directory of it is renamed and
# removed. The tree is the system's own, plus a git repository made here.
. "$(dirname "$0")/lib.sh"
command -v rsync >/dev/null || skip "needs rsync"

src=$tmp/src
vol=$tmp/v.kvfs
mnt=$tmp/mnt
mkdir -p "$src"

# The system's directories, until there are 50,000 files; the rest in copies of what there is.
take() {
	[ -d "$1" ] && mkdir -p "$src/$2" && cp -a "$1/." "$src/$2/"
	return 0
}
take /usr/include include
take /usr/lib/python3 python3-dist
take /usr/lib/python3.11 python3.11
for dir in doc man locale perl zoneinfo i18n gcc icons cmake-3.25 vim mime; do
	[ "$(find "$src" | wc -l)" -ge 50000 ] && break
	take "/usr/share/$dir" "share/$dir"
done
n=0
while [ "$(find "$src" | wc -l)" -lt 50000 ]; do
	n=$((n + 1))
	cp -a "$src/include" "$src/include.copy$n"
done

# What the system's directories may lack.
extra=$src/extra
mkdir -p "$extra"
git init -q "$extra/repo"
for i in $(seq 50); do
	echo "line $i" >>"$extra/repo/file$((i % 7))"
	git -C "$extra/repo" add -A
	git -C "$extra/repo" -c user.name=t -c user.email=t@t commit -qm "commit $i"
done
echo one >"$extra/one"
ln "$extra/one" "$extra/two"
ln "$extra/one" "$src/three"
ln -s ../nowhere "$extra/dangling"
mkfifo "$extra/fifo"
mknod "$extra/null" c 1 3
setfattr -n user.colour -v blue "$extra/one"
setfattr -n user.large -v "$(head -c 3000 /dev/zero | tr '\0' x)" "$extra/repo"
truncate -s 100M "$extra/sparse"
printf end >>"$extra/sparse"
touch -d '1969-01-02 03:04:05.123456789' "$extra/old"
touch -d '2040-05-06 07:08:09.987654321' "$extra/new"
chmod 4711 "$extra/old"
chown 1234:5678 "$extra/new"
files=$(find "$src" | wc -l)
echo "$files files"
[ "$files" -ge 50000 ] || fail "only $files files"

# list DIR: everything that tar would record, in one order.
list() {
	(cd "$1" && tar --sort=name --format=pax --xattrs --numeric-owner \
		--pax-option=delete=atime,delete=ctime,exthdr.name=%d/h/%f -cf - . | sha256sum)
}

# show DIR: the same, for people, when the sums differ.
show() {
	(cd "$1" && tar --sort=name --format=pax --xattrs --numeric-owner -cf - . |
		tar --full-time --numeric-owner --xattrs -tvvf -) 2>&1
}

compare() {
	# diff cannot compare special files; rsync and tar below do.
	diff -r --no-dereference -x fifo -x null "$src" "$1" || fail "diff -r $1"
	rsync -aHAXn --modify-window=-1 --checksum --delete --itemize-changes "$src/" "$1/" >"$tmp/changes"
	[ ! -s "$tmp/changes" ] || { head "$tmp/changes"; fail "rsync finds differences in $1"; }
	[ "$(list "$src")" = "$(list "$1")" ] || {
		diff <(show "$src") <(show "$1") | head -20
		fail "tar finds differences in $1"
	}
}

make_volume "$vol"
mount_volume "$vol" "$mnt"
mkdir "$mnt/rsync" "$mnt/tar"
# rsync alone takes times within one second for equal, and leaves those that the copy got.
rsync -aHAX --modify-window=-1 "$src/" "$mnt/rsync/"
tar -C "$src" --xattrs -cf - . | tar -C "$mnt/tar" --xattrs --xattrs-include='*' -xpf -
compare "$mnt/rsync"
compare "$mnt/tar"
umount_volume "$mnt" "$vol"
fsck.kvfs -f -n "$vol" || fail "fsck after unmount: $?"

mount_volume "$vol" "$mnt"
compare "$mnt/rsync"
[ "$(find "$mnt/tar" | wc -l)" = "$files" ] || fail "find counts differently"
[ "$(stat -c %h "$mnt/tar/three")" = 3 ] || fail "hard links after a remount"
tar -C "$mnt/rsync" --xattrs -cf - . |
	(mkdir "$tmp/out" && tar -C "$tmp/out" --xattrs --xattrs-include='*' -xpf -)
compare "$tmp/out"

# A rename of a directory costs the same whatever is in it, and takes nothing along but itself.
mv "$mnt/tar" "$mnt/moved"
mkdir "$mnt/tar"
echo new >"$mnt/tar/three"
[ "$(find "$mnt/moved" | wc -l)" = "$files" ] || fail "files lost in a rename"
[ "$(find "$mnt/tar" | wc -l)" = 2 ] || fail "files found in a fresh directory"
rm -rf "$mnt/moved"
[ ! -e "$mnt/moved" ] || fail "rm -rf left something"
compare "$mnt/rsync"
umount_volume "$mnt" "$vol"
fsck.kvfs -f -n "$vol" || fail "fsck at the end: $?"
