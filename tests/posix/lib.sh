# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Sourced by the tests of this folder. Each works in a directory of its own, $tmp, with what it
# mounts below it; at exit everything is unmounted, every daemon has gone, and $tmp is removed.
#
#   KVFS_BIN  the build's bin directory        KVFS_SRC  the source tree
#   CI=true   what cannot run here is a failure, not a skip

set -eu
: "${KVFS_BIN:?the bin directory of the build}"
: "${KVFS_SRC:=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}"
export PATH="$KVFS_BIN:$PATH" LC_ALL=C

skip() {
	echo "skipped: $*"
	[ "${CI:-}" = true ] && exit 1
	exit 77
}

fail() {
	echo "FAILED: $* (${BASH_SOURCE[1]##*/}:${BASH_LINENO[0]})" >&2
	exit 1
}

[ -c /dev/fuse ] || skip "needs /dev/fuse"
[ "$(id -u)" = 0 ] || skip "needs root"

tmp=$(mktemp -d "${TMPDIR:-/tmp}/kvfs-posix.XXXXXX")
# A daemon in the background has no standard error: what a sanitizer finds is looked for at the end.
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:log_path=$tmp/sanitizer"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-}:log_path=$tmp/sanitizer"
export TSAN_OPTIONS="${TSAN_OPTIONS:-}:log_path=$tmp/sanitizer"

# Pids of the daemons whose command line names the volume $1, by default any below $tmp.
daemons() {
	local p
	for p in $(pgrep -x mount.kvfs); do
		# It may end meanwhile.
		if { tr '\0' '\n' <"/proc/$p/cmdline" | grep -qF -- "${1:-$tmp/}"; } 2>/dev/null; then
			echo "$p"
		fi
	done
}

# Wait until no daemon of the volume $1 is left, $2 seconds at most (60).
wait_closed() {
	local i
	for ((i = 0; i < ${2:-60} * 20; i++)); do
		[ -z "$(daemons "${1:-}")" ] && return 0
		sleep 0.05
	done
	fail "the daemon of ${1:-$tmp} is still there"
}

# Wait until "$@" succeeds, 60 seconds at most.
wait_for() {
	local i
	for ((i = 0; i < 1200; i++)); do
		"$@" && return 0
		sleep 0.05
	done
	fail "waited in vain for: $*"
}

# Where nobody may see the system calls of others, time has to do.
sees_calls() { cat "/proc/$1/syscall" >/dev/null 2>&1; }

# drained PID FD: the process has taken all that was written to its standard input, a pipe whose
# other end is FD here, and waits for more.
drained() {
	sees_calls "$1" || { sleep 2; return 0; }
	python3 -c 'import array, fcntl, sys, termios
left = array.array("i", [0])
fcntl.ioctl(int(sys.argv[2]), termios.FIONREAD, left)
read = {"x86_64": 0, "aarch64": 63}[__import__("os").uname().machine]
call = open(f"/proc/{sys.argv[1]}/syscall").read()
sys.exit(left[0] or not call.startswith(f"{read} 0x0 "))' "$@"
}

# watching PID: kvfs watch has begun, has told what there was, and sleeps (clock_nanosleep).
watching() {
	sees_calls "$1" || { sleep 2; return 0; }
	# shellcheck disable=SC2010
	ls -l "/proc/$1/fd" | grep -q kvfs/channel && grep -qE '^(230|115) ' "/proc/$1/syscall"
}

# refused TEXT COMMAND...: it fails and says TEXT.
refused() {
	local text=$1
	shift
	! "$@" >"$tmp/out" 2>&1 || fail "it worked: $*"
	grep -qF -- "$text" "$tmp/out" || fail "no '$text' from $*: $(cat "$tmp/out")"
}

# refused_with STATUS TEXT COMMAND...: the same with this status and in one line, without hanging.
refused_with() {
	local want=$1 text=$2 status=0
	shift 2
	timeout 60 "$@" >"$tmp/out" 2>&1 </dev/null || status=$?
	[ "$status" = "$want" ] || fail "status $status, not $want, of $*: $(cat "$tmp/out")"
	grep -qF -- "$text" "$tmp/out" || fail "no '$text' from $*: $(cat "$tmp/out")"
	[ "$(wc -l <"$tmp/out")" = 1 ] || fail "more than a line from $*: $(cat "$tmp/out")"
}

# picture DIR [+]: names, types, modes, owners, links, sizes, times, contents and attributes of a
# tree; with + inode numbers, too.
picture() {
	(
		cd "$1" || exit
		find . -printf "%p %y %m %U %G %n %s %T@ %l ${2:+%i}\n" | sort
		find . -type f -print0 | sort -z | xargs -0 sha256sum
		getfattr -R -d -m- . 2>/dev/null | sort
	)
}

make_volume() {
	mkfs.kvfs -q "$@" || fail "mkfs.kvfs $*"
}

# mount_volume VOLUME DIR [OPTIONS]
mount_volume() {
	mkdir -p "$2"
	mount.kvfs "$1" "$2" ${3:+-o "$3"} || fail "mount.kvfs $*"
	mountpoint -q "$2" || fail "$2 is not mounted after mount.kvfs"
}

# umount_volume DIR VOLUME: returns when the daemon has closed the volume.
umount_volume() {
	umount "$1" || fail "umount $1"
	wait_closed "$2"
}

# run_python SCRIPT [ARGUMENTS]: with tests/posix/helpers.py to import.
run_python() {
	PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$KVFS_SRC/tests/posix" python3 -B "$@"
}

# at_exit COMMAND...: run before the cleaning up, the last one first.
exit_commands=()
at_exit() { exit_commands=("$*" "${exit_commands[@]}"); }

cleanup() {
	local status=$? m
	trap - EXIT
	set +e
	for m in "${exit_commands[@]}"; do $m; done
	while read -r m; do
		umount "$m" 2>/dev/null || umount -l "$m"
	done < <(awk '{print $2}' /proc/self/mounts | grep -F "$tmp/" | sort -r)
	for ((m = 0; m < 150; m++)); do
		[ -z "$(daemons)" ] && break
		sleep 0.2
	done
	m=$(daemons)
	if [ -n "$m" ]; then
		echo "FAILED: daemons left behind: $m" >&2
		# shellcheck disable=SC2086
		kill -9 $m
		status=1
	fi
	if ls "$tmp"/sanitizer* >/dev/null 2>&1; then
		cat "$tmp"/sanitizer* >&2
		status=1
	fi
	rm -rf --one-file-system "$tmp"
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
