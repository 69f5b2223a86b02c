#!/bin/bash
# SPDX-License-Identifier: MIT
# The kvfs command on a volume that is not mounted: each subcommand, each kind of mistake, exit
# statuses, and what is said.
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

nl='
'
vol=$tmp/v.kvfs
mkfs.kvfs -q --log-size 16M -L 'a "label"' "$vol" || fail "mkfs.kvfs"

# ---- put, get, rm ----
is "" kvfs put "$vol" a/b/c hello
is hello kvfs get "$vol" a/b/c
is hello kvfs get "$vol" /a/b/c
is "" kvfs put "$vol" a/b/c 'other'
is other kvfs get "$vol" a/b/c
is "" kvfs put "$vol" empty ''
is "" kvfs get "$vol" empty
is "" kvfs put "$vol" dash -v
is -v kvfs get "$vol" dash
is "" kvfs put -- "$vol" -key -
is "" kvfs get "$vol" -- -key
head -c 300000 /dev/urandom >"$tmp/data"
kvfs put "$vol" bin/data <"$tmp/data" || fail "put from standard input"
kvfs get "$vol" bin/data | cmp - "$tmp/data" || fail "get of what came from standard input"
kvfs put "$vol" bin/data - <"$tmp/data" || fail "put -"
kvfs get "$vol" bin/data | cmp - "$tmp/data" || fail "get of what came from -"
head -c 3000000 /dev/urandom >"$tmp/big"
kvfs put "$vol" bin/big <"$tmp/big" || fail "put of 3 MB"
kvfs get "$vol" bin/big | cmp - "$tmp/big" || fail "get of 3 MB"
head -c 67108865 /dev/zero >"$tmp/huge"
kvfs put "$vol" huge <"$tmp/huge" 2>"$tmp/err" && fail "a value of more than 64 MiB"
grep -q "64 MiB" "$tmp/err" || fail "$(cat "$tmp/err")"
rm "$tmp/huge"
is "" kvfs rm "$vol" dash bin/big
refused 1 "dash: no such key" kvfs get "$vol" dash
refused 1 "dash: no such key" kvfs rm "$vol" dash
is "" kvfs rm -f "$vol" dash
is "" kvfs rm "$vol" -f dash -- -key
# One that is missing does not keep the others.
is "" kvfs put "$vol" one 1
refused 1 "missing: no such key" kvfs rm "$vol" missing one
refused 1 "one: no such key" kvfs get "$vol" one
is "a${nl}bin${nl}empty${nl}" kvfs ls "$vol"

# ---- what is no key ----
for verb in get rm put; do
	value=()
	[ $verb = put ] && value=(v)
	refused 1 "a/b: it is a directory" kvfs $verb "$vol" a/b "${value[@]}"
	refused 1 "is a file, not a directory" kvfs $verb "$vol" a/b/c/d "${value[@]}"
	refused 1 'is "." or ".."' kvfs $verb "$vol" a/../x "${value[@]}"
	refused 1 'is "." or ".."' kvfs $verb "$vol" . "${value[@]}"
	refused 1 "is empty" kvfs $verb "$vol" a//x "${value[@]}"
	refused 1 "is empty" kvfs $verb "$vol" a/ "${value[@]}"
	refused 1 "is empty" kvfs $verb "$vol" '' "${value[@]}"
	refused 1 "more than 255 bytes" kvfs $verb "$vol" "a/$(printf 'n%.0s' {1..256})" "${value[@]}"
done
is other kvfs get "$vol" a/b/c
longest=$(printf 'n%.0s' {1..255})
is "" kvfs put "$vol" "a/$longest" x
is x kvfs get "$vol" "a/$longest"
is "" kvfs rm "$vol" "a/$longest"

# ---- ls ----
is "b$nl" kvfs ls "$vol" a
is "b$nl" kvfs ls "$vol" /a/
is "a/b/c$nl" kvfs ls "$vol" a/b/c
refused 1 "zz: no such file or directory" kvfs ls "$vol" zz
refused 1 "is a file, not a directory" kvfs ls "$vol" a/b/c/d
kvfs ls -l "$vol" a/b >"$tmp/out" || fail "ls -l"
grep -Eq '^-rw-r--r-- +1 [^ ]+ +[^ ]+ +5 20[0-9-]+ [0-9:]+ c$' "$tmp/out" ||
	fail "ls -l: $(cat "$tmp/out")"
kvfs ls -l "$vol" | grep -Eq '^drwxr-xr-x .* a$' || fail "ls -l of a directory"
strange=$'x\ty\\z\n\x80'
is "" kvfs put "$vol" "s/$strange" "$strange"
is "$strange$nl" kvfs ls "$vol" s
is "x\\x09y\\x5cz\\x0a\\x80$nl" kvfs ls -b "$vol" s
kvfs ls -0 "$vol" s | cmp - <(printf '%s\0' "$strange") || fail "ls -0"
is "$strange" kvfs get "$vol" "s/$strange"

# ---- scan ----
scan=$tmp/s.kvfs
mkfs.kvfs -q --log-size 1M "$scan"
for key in b a.b a/c a/b/z a a0; do
	[ $key = a ] || is "" kvfs put "$scan" $key "$key!"
done
is "a/b/z${nl}a/c${nl}a.b${nl}a0${nl}b${nl}" kvfs scan "$scan"
is "a/b/z${nl}a/c${nl}" kvfs scan --prefix a/ "$scan"
is "a/b/z${nl}a/c${nl}a.b${nl}a0${nl}" kvfs scan "$scan" --prefix a
is "a/b/z${nl}a/c${nl}" kvfs scan --prefix /a/ "$scan"
is "a.b${nl}a0${nl}" kvfs scan --from a.b --to b "$scan"
is "a/c${nl}a.b${nl}" kvfs scan --from a/c -n 2 "$scan"
is "a/b/z${nl}" kvfs scan --limit=1 "$scan"
is "" kvfs scan -n 0 "$scan"
is "" kvfs scan --prefix zz "$scan"
is "" kvfs scan --prefix ../ "$scan"
is "a.b	a.b!${nl}a0	a0!${nl}" kvfs scan --from a.b --to b --values "$scan"
kvfs scan -0 "$scan" | cmp - <(printf '%s\0' a/b/z a/c a.b a0 b) || fail "scan -0"
is "s/x\\x09y\\x5cz\\x0a\\x80	x\\x09y\\x5cz\\x0a\\x80$nl" kvfs scan --prefix s/ --values "$vol"
refused 2 "cannot be had with -0" kvfs scan --values -0 "$scan"
refused 2 "not a number" kvfs scan -n 1x "$scan"
refused 2 "not a number" kvfs scan -n -1 "$scan"

# ---- info ----
kvfs info "$vol" >"$tmp/out" || fail "info"
grep -qxF 'label       a "label"' "$tmp/out" || fail "info: $(cat "$tmp/out")"
kvfs info --json "$vol" | python3 -c '
import json, sys
i = json.load(sys.stdin)
assert i["label"] == "a \"label\"" and i["volume"] == sys.argv[1], i
assert i["as_of"] == "now" and i["grows"] and i["checksum"] == "sha256", i
assert len(i["levels"]) == 7 and i["used_bytes"] <= i["size_bytes"], i
assert i["transaction_max_bytes"] > 0 and i["log_used_bytes"] <= i["log_bytes"], i
' "$vol" || fail "info --json: $(kvfs info --json "$vol")"
mkfs.kvfs -q --log-size 1M -L $'\xc3\xbc\xff\t' "$tmp/l.kvfs"
kvfs info --json "$tmp/l.kvfs" | python3 -c '
import json, sys
assert json.loads(sys.stdin.buffer.read().decode())["label"] == "\u00fc\u00ff\t"
' || fail "a label that is no text in JSON"

# ---- sync, compact, dump ----
is "" kvfs sync "$vol"
kvfs compact -v "$vol" | grep -q 'in use' || fail "compact -v"
is "" kvfs compact "$vol"
kvfs get "$vol" bin/data | cmp - "$tmp/data" || fail "get after compact"
before=$(sha256sum <"$vol")
kvfs dump "$vol" | grep -q '^superblock copy=0' || fail "dump"
kvfs dump "$vol" | grep -q '^manifest ' || fail "dump of the manifest"
kvfs dump --manifest "$vol" | grep -q '^superblock' && fail "dump of more than asked for"
kvfs dump --tables "$vol" | grep -q 'put=1:' || fail "dump --tables"
kvfs dump --log "$vol" >/dev/null || fail "dump --log"
kvfs info "$vol" >/dev/null
kvfs scan "$vol" >/dev/null
kvfs ls "$vol" >/dev/null
[ "$(sha256sum <"$vol")" = "$before" ] || fail "a command that reads has written"
fsck.kvfs -f -n "$vol" >"$tmp/out" || fail "fsck.kvfs: $(cat "$tmp/out")"

# ---- targets ----
refused 1 "no such file, device or directory" kvfs get "$tmp/absent" k
refused 1 "not of a mounted kvfs volume" kvfs ls "$tmp"
: >"$tmp/empty"
refused 1 "not a kvfs volume" kvfs ls "$tmp/empty"
refused 1 "not a kvfs volume" kvfs put "$tmp/empty" k v
refused 1 "not a kvfs volume" kvfs dump "$tmp/empty"
[ ! -s "$tmp/empty" ] || fail "a file that is no volume was written"
head -c 100000 "$vol" >"$tmp/cut"
refused 1 "$tmp/cut: " kvfs get "$tmp/cut" a/b/c
refused 1 "neither a regular file" kvfs get /dev/null k
# Held by another process: waited for. Readers share it.
(flock 9; sleep 1) 9<"$vol" &
sleep 0.2
is other kvfs get "$vol" a/b/c
wait
(flock -s 9; exec sleep 60) 9<"$vol" &
holder=$!
sleep 0.2
start=$SECONDS
is other kvfs get "$vol" a/b/c
[ $((SECONDS - start)) -lt 50 ] || fail "readers wait for each other"
kill "$holder"
wait || true

# ---- usage ----
for word in info ls get put rm scan sync compact dump; do
	refused 2 "$word: no volume or directory given" kvfs $word
	refused 2 "$word: --frobnicate: unknown option" kvfs $word --frobnicate "$vol" x
	refused 2 "$word: -Z: unknown option" kvfs $word -Z "$vol" x
	kvfs $word --help | grep -q "^usage: kvfs $word " || fail "$word --help"
	kvfs help $word | cmp -s - <(kvfs $word -h) || fail "help $word"
	kvfs --help | grep -q "^  $word  *[a-z]" || fail "$word is not in --help"
	grep -q "^\.B kvfs $word" "$KVFS_SRC/docs/man/kvfs.8" || fail "$word is not in kvfs(8)"
	grep -q "[\" ]${word}[\" ]" "$KVFS_SRC/cmake/kvfs.bash-completion" || fail "$word is not completed"
	# Every option of the help is in the manual and completed.
	for option in $(kvfs $word --help | grep -oE -- '--[a-z]+' | sort -u); do
		grep -qF -- "${option//-/\\-}" "$KVFS_SRC/docs/man/kvfs.8" ||
			fail "$word $option is not in kvfs(8)"
		grep -qF -- "$option" "$KVFS_SRC/cmake/kvfs.bash-completion" ||
			fail "$word $option is not completed"
	done
done
refused 2 "no key given" kvfs get "$vol"
refused 2 "no key given" kvfs rm "$vol"
refused 2 "too many" kvfs get "$vol" a b
refused 2 "too many" kvfs put "$vol" a b c
refused 2 "it needs an argument" kvfs scan --prefix
refused 2 "no such subcommand" kvfs frobnicate "$vol"
refused 2 "no such subcommand" kvfs help frobnicate
refused 2 "the subcommand comes first: kvfs scan" kvfs "$vol" scan
kvfs 2>"$tmp/err" && fail "no arguments"
grep -q '^usage:' "$tmp/err" || fail "no usage"
kvfs --version | grep -q '^kvfs [0-9]' || fail "--version"

# ---- output that cannot be written is not a success ----
for words in "get $vol bin/data" "scan $vol" "info $vol" "dump $vol" "--help"; do
	# shellcheck disable=SC2086 # words
	kvfs $words >/dev/full 2>"$tmp/err" && fail "kvfs $words onto a full disk"
	grep -q "standard output: No space" "$tmp/err" || fail "kvfs $words: $(cat "$tmp/err")"
done

# ---- as mount.fuse3 calls it ----
refused 32 "mount.kvfs: $tmp/absent:" kvfs "$tmp/absent" "$tmp" -o ro,dev,suid
mkdir "$tmp/d"
refused 1 "mount.kvfs: " kvfs "$tmp/absent" "$tmp/d" -o frobnicate
echo "kvfs works on volumes that are not mounted"
