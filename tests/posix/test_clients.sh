#!/bin/bash
# SPDX-License-Identifier: MIT
# Programs that ask for more than files: backups by links, mail, loop devices, overlays, watches,
# direct I/O, and PostgreSQL, which is killed and recovers. What is not installed is left out.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

vol=$tmp/volume dir=$tmp/m
make_volume "$vol"
mount_volume "$vol" "$dir" allow_other
chmod 755 "$tmp" "$dir"
has() { command -v "$1" >/dev/null || { echo "left out: no $1"; return 1; }; }

# rsync --link-dest: what did not change is a link.
if has rsync; then
	mkdir -p "$dir/src/sub"
	for i in 1 2 3; do echo $i >"$dir/src/sub/$i"; done
	rsync -a "$dir/src/" "$dir/backup.1/"
	echo changed >"$dir/src/sub/2"
	rsync -a --link-dest=../backup.1 "$dir/src/" "$dir/backup.2/"
	[ "$dir/backup.1/sub/1" -ef "$dir/backup.2/sub/1" ] || fail "rsync made no link"
	[ "$dir/backup.1/sub/2" -ef "$dir/backup.2/sub/2" ] && fail "rsync linked what changed"
	diff -r "$dir/src" "$dir/backup.2" || fail "rsync"
fi

# cp falls back from a clone to a copy within the daemon.
head -c 3000000 /dev/urandom >"$dir/data"
cp --reflink=auto "$dir/data" "$dir/copy"
cmp "$dir/data" "$dir/copy" || fail "cp --reflink=auto"
cp --reflink=always "$dir/data" "$dir/clone" 2>/dev/null && fail "a clone that is none"

# Maildir: delivered by link and unlink, and by rename, while a reader moves new to cur.
mkdir -p "$dir/Maildir"/{tmp,new,cur}
deliver() {
	local i
	for ((i = 0; i < 40; i++)); do
		echo "mail $1 $i" >"$dir/Maildir/tmp/$1.$i"
		if ((i % 2)); then
			ln "$dir/Maildir/tmp/$1.$i" "$dir/Maildir/new/$1.$i"
			rm "$dir/Maildir/tmp/$1.$i"
		else
			mv "$dir/Maildir/tmp/$1.$i" "$dir/Maildir/new/$1.$i"
		fi
	done
}
pids=()
for i in 1 2 3; do
	deliver $i &
	pids+=($!)
done
for ((i = 0; i < 50; i++)); do
	for m in "$dir"/Maildir/new/*; do
		[ -e "$m" ] && mv "$m" "$dir/Maildir/cur/${m##*/}:2,S"
	done
done
wait "${pids[@]}" || fail "a delivery"
for m in "$dir"/Maildir/new/*; do
	[ -e "$m" ] && mv "$m" "$dir/Maildir/cur/${m##*/}:2,S"
done
[ "$(cat "$dir"/Maildir/cur/* | sort -u | wc -l)" = 120 ] || fail "mail is lost"

# Direct and synchronous writing.
dd if=/dev/urandom of="$dir/direct" bs=64k count=20 oflag=direct,sync status=none || fail "dd"
[ "$(stat -c %s "$dir/direct")" = $((20 * 65536)) ] || fail "dd wrote something else"
truncate -s 10M "$dir/direct"
fallocate -p -o 65536 -l 65536 "$dir/direct"
[ "$(dd if="$dir/direct" bs=64k skip=1 count=1 status=none | tr -d '\0' | wc -c)" = 0 ] || fail "a hole"

# Watches on what this host does.
if has inotifywait; then
	inotifywait -q -m -e create,moved_to,close_write,delete --format '%e %f' "$dir" \
		>"$tmp/events" 2>/dev/null &
	watcher=$!
	stop_watching() { kill "$watcher" 2>/dev/null; }
	at_exit stop_watching
	for ((i = 0; i < 100; i++)); do # until the watch is there
		touch "$dir/poke"
		rm "$dir/poke"
		grep -q poke "$tmp/events" && break
		sleep 0.05
	done
	echo 1 >"$dir/seen"
	mv "$dir/seen" "$dir/moved"
	rm "$dir/moved"
	wait_for grep -q 'DELETE moved' "$tmp/events"
	grep -q 'CLOSE_WRITE,CLOSE seen' "$tmp/events" || fail "inotify: $(cat "$tmp/events")"
	kill $watcher
fi

# A file system in a file in it.
if has mkfs.ext4 && has losetup && losetup -f >/dev/null 2>&1; then
	truncate -s 16M "$dir/image"
	mkfs.ext4 -q "$dir/image"
	mkdir "$tmp/loop"
	if mount -o loop "$dir/image" "$tmp/loop" 2>/dev/null; then
		cp "$dir/data" "$tmp/loop/"
		umount "$tmp/loop"
		e2fsck -fp "$dir/image" >/dev/null || fail "the file system in a file is damaged"
		mount -o loop,ro "$dir/image" "$tmp/loop"
		cmp "$dir/data" "$tmp/loop/data" || fail "a file on a loop device"
		umount "$tmp/loop"
	else
		echo "left out: no loop devices"
	fi
fi

# The lower layer of an overlay.
mkdir -p "$dir/lower/d" "$tmp/upper"
echo low >"$dir/lower/d/f"
if mount -t tmpfs none "$tmp/upper" 2>/dev/null; then
	mkdir "$tmp/upper"/{up,work} "$tmp/overlay"
	if mount -t overlay -o "lowerdir=$dir/lower,upperdir=$tmp/upper/up,workdir=$tmp/upper/work" \
		none "$tmp/overlay" 2>/dev/null; then
		[ "$(cat "$tmp/overlay/d/f")" = low ] || fail "overlay reads"
		echo high >>"$tmp/overlay/d/f"
		[ "$(cat "$dir/lower/d/f")" = low ] || fail "overlay wrote to the lower layer"
		rm -r "$tmp/overlay/d"
		umount "$tmp/overlay"
	else
		echo "left out: no overlayfs"
	fi
fi

# PostgreSQL: every acknowledged transaction is there after the server was killed.
pg=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort | tail -n 1)
if [ -n "$pg" ] && id postgres >/dev/null 2>&1; then
	as() { setpriv --reuid postgres --regid postgres --init-groups env "PATH=$pg:$PATH" "$@"; }
	install -d -o postgres -g postgres "$dir/pg" "$tmp/run"
	as initdb -D "$dir/pg" -A trust >"$tmp/pg.log" 2>&1 || fail "initdb: $(tail -3 "$tmp/pg.log")"
	start() {
		as pg_ctl -D "$dir/pg" -l "$tmp/run/log" -w -t 60 \
			-o "-c listen_addresses= -c unix_socket_directories=$tmp/run" start \
			>>"$tmp/pg.log" 2>&1 || fail "pg_ctl: $(tail -5 "$tmp/run/log")"
	}
	server() { # its process id, or nothing
		local pid
		read -r pid 2>/dev/null <"$dir/pg/postmaster.pid" && [ "$pid" -gt 1 ] && echo "$pid"
	}
	kill_server() {
		local pid
		pid=$(server) && kill -9 "$pid" 2>/dev/null
	}
	at_exit kill_server
	start
	as psql -qh "$tmp/run" -c 'create table t (n int primary key)' postgres
	for ((i = 0; i < 20; i++)); do
		as psql -qh "$tmp/run" -c "insert into t select generate_series($i * 50, $i * 50 + 49)" \
			postgres || fail "psql"
	done
	pid=$(server) || fail "no server"
	kill -9 "$pid"
	no_server() { ! kill -0 "$pid" 2>/dev/null; }
	wait_for no_server
	start
	[ "$(as psql -Ath "$tmp/run" -c 'select count(*), sum(n) from t' postgres)" = "1000|499500" ] ||
		fail "PostgreSQL lost something"
	as pg_ctl -D "$dir/pg" -w stop -m fast >>"$tmp/pg.log" 2>&1 || fail "pg_ctl stop"
else
	echo "left out: no PostgreSQL"
fi

umount_volume "$dir" "$vol"
fsck.kvfs "$vol" >"$tmp/report" || fail "fsck: $(cat "$tmp/report")"
echo "programs do not notice"
