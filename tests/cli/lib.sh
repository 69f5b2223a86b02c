# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Sourced by the tests of this folder: $tmp is an empty directory, removed at exit.
#
#   KVFS_BIN  the build's bin directory        KVFS_SRC  the source tree
#   CI=true   what cannot run here is a failure, not a skip

set -eu
: "${KVFS_BIN:?the bin directory of the build}"
: "${KVFS_SRC:=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}"
export PATH="$KVFS_BIN:$PATH" LC_ALL=C
KVFS_BUILD=$(dirname "$KVFS_BIN")
export KVFS_BUILD

skip() {
	echo "skipped: $*"
	[ "${CI:-}" = true ] && exit 1
	exit 77
}

fail() {
	echo "FAILED: $* (${BASH_SOURCE[1]##*/}:${BASH_LINENO[0]})" >&2
	exit 1
}

tmp=$(mktemp -d "${TMPDIR:-/tmp}/kvfs-cli.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM

# is WANT COMMAND...: it succeeds, says nothing on standard error, and prints exactly WANT.
is() {
	local want=$1 status=0
	shift
	"$@" >"$tmp/out" 2>"$tmp/err" </dev/null || status=$?
	[ "$status" = 0 ] || fail "status $status of $*: $(cat "$tmp/err")"
	[ ! -s "$tmp/err" ] || fail "$* said: $(cat "$tmp/err")"
	printf '%s' "$want" | cmp -s - "$tmp/out" ||
		fail "$* printed '$(cat -v "$tmp/out")', not '$want'"
}

# refused STATUS TEXT COMMAND...: fails with the status and one line on standard error that holds the
# text, and prints nothing.
refused() {
	local want=$1 text=$2 status=0
	shift 2
	timeout 60 "$@" >"$tmp/out" 2>"$tmp/err" </dev/null || status=$?
	[ "$status" = "$want" ] || fail "status $status, not $want, of $*: $(cat "$tmp/err")"
	grep -qF -- "$text" "$tmp/err" || fail "no '$text' from $*: $(cat "$tmp/err")"
	[ "$(wc -l <"$tmp/err")" = 1 ] || fail "more than a line from $*: $(cat "$tmp/err")"
	[ ! -s "$tmp/out" ] || fail "output from $*: $(cat "$tmp/out")"
}
