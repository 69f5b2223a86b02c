#!/bin/sh
# SPDX-License-Identifier: MIT
# fsck.kvfs: exit codes, that -n writes nothing, and that what -y repairs stays repaired.
# A volume is locked through the file that is given to the tool.
# shellcheck disable=SC2094
set -u

mkfs="$KVFS_BIN/mkfs.kvfs"
fsck="$KVFS_BIN/fsck.kvfs"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failed=0
log_size=1048576
data=$((131072 + log_size)) # where tables and values begin

fail() {
	echo "FAIL: $*"
	failed=1
}

# gives CODE ARGS...: the exit code; output goes to out and err.
gives() {
	want=$1
	shift
	"$fsck" "$@" >out 2>err </dev/null
	code=$?
	[ $code -eq "$want" ] || fail "fsck.kvfs $*: exit code $code, not $want: $(cat out err)"
	! grep -q 'runtime error\|Sanitizer' err || fail "fsck.kvfs $*: $(cat err)"
}

# complains WORDS ARGS...: code 8, one line on stderr.
complains() {
	words=$1
	shift
	gives 8 "$@"
	[ "$(wc -l <err)" -eq 1 ] || fail "fsck.kvfs $*: not one line: $(cat err)"
	grep -q -- "$words" err || fail "fsck.kvfs $*: '$words' is not in: $(cat err)"
}

# spoil FILE OFFSET: change some bytes.
spoil() {
	printf '\252\125\252\125' | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}

# --- usage ---------------------------------------------------------------------------
gives 16
gives 16 -x volume
gives 16 -n -y volume
gives 16 a b
gives 0 --help
gives 0 --version

# --- what cannot be checked --------------------------------------------------------------
complains 'no such file' -n absent
echo text >text
complains 'not a kvfs volume' -n text
: >empty
complains 'not a kvfs volume' -n empty
truncate -s 1M blank
complains 'not a kvfs volume' -y blank
mkdir place
complains 'is a directory' -n place

# --- a sound volume --------------------------------------------------------------------------
mkdir -p tree/sub
i=0
while [ $i -lt 800 ]; do
	echo "file $i holds this and that" >"tree/sub/f$i"
	i=$((i + 1))
done
head -c 700000 /dev/urandom >tree/big
ln tree/big tree/sub/again
"$mkfs" -q --log-size $log_size -d tree volume || fail "mkfs.kvfs"
before=$(sha256sum <volume)
gives 0 -n volume
grep -q '^volume: sound, files 801, directories 2$' out || fail "sound: $(cat out)"
[ -s err ] && fail "sound: printed on stderr"
gives 0 -nv volume
grep -q '^tables ' out || fail "-v: $(cat out)"
gives 0 volume
gives 0 -p volume
grep -q clean out || fail "-p: $(cat out)"
gives 0 -pf volume
grep -q sound out || fail "-pf: $(cat out)"
gives 0 -a -C0 -f volume
grep -q '%' err || fail "-C shows no progress"
[ "$(sha256sum <volume)" = "$before" ] || fail "a check of a sound volume wrote to it"

# --- in use ---------------------------------------------------------------------------------
if command -v flock >/dev/null; then
	(
		flock 9
		complains 'in use' -n volume
		exit $failed
	) 9<volume || failed=1
fi

# --- a superblock copy: -p repairs it, either one ------------------------------------------------
for offset in 300 65836; do
	cp volume v
	spoil v $offset
	sum=$(sha256sum <v)
	gives 4 -n v
	grep -q '^101: ' out || fail "superblock: $(cat out)"
	[ "$(sha256sum <v)" = "$sum" ] || fail "-n wrote"
	gives 4 v # no terminal to ask on
	[ "$(sha256sum <v)" = "$sum" ] || fail "it wrote without having been told to"
	gives 1 -p v
	grep -q '^101: .*; repaired$' out || fail "superblock: $(cat out)"
	gives 0 -n v
	cmp -s v volume || fail "the repaired volume differs from the whole one"
done

# --- both superblocks: a copy of them serves, and a search if that is gone too -----------------------
for wiped in 300 'the head'; do
	cp volume v
	if [ "$wiped" = 300 ]; then
		spoil v 300
		spoil v 65836
		gives 4 -n v
		grep -q '^102: ' out || fail "no superblock: $(cat out)"
	else
		dd if=/dev/zero of=v bs=131072 count=1 conv=notrunc 2>/dev/null
		gives 8 -n v # without a search it is no volume
	fi
	gives 1 -y v
	grep -q '^102: .*; repaired$' out || fail "no superblock: $(cat out)"
	gives 0 -n v
done

# --- the manifest: its copy serves ---------------------------------------------------------------------
cp volume v
off=$("$KVFS_BIN/kvfs" dump --superblock v 2>/dev/null | sed -n 's/.*manifest_extent.* off=\([0-9]*\).*/\1/p' | head -1)
[ -n "$off" ] || off=$(LC_ALL=C grep -abo KMNF v | cut -d: -f1 | while read -r o; do [ "$o" -gt 131072 ] && echo "$o"; done | tail -1)
spoil v $((off + 10))
gives 4 -n v
grep -q '^112: ' out || fail "manifest: $(cat out)"
gives 1 -p -f v
gives 0 -n v

# --- data: a value, and pages of the tables ---------------------------------------------------------
cp volume v
spoil v $((data + 100000))
gives 4 -n v
grep -q '^151: ' out || fail "value: $(cat out)"
grep -q '^file /big: ' out || fail "value: the file is not named: $(cat out)"
grep -q '^file /sub/again: ' out || fail "value: the second name is not named: $(cat out)"
gives 4 -p -f v # it costs data: not at boot
gives 1 -y v
gives 0 -n v
# Pages are compressed, but most of their bytes are literal.
hits=0
last=0
LC_ALL=C grep -abo 'holds this' volume | cut -d: -f1 >offsets
while read -r offset; do
	if [ $hits -ge 4 ] || [ "$offset" -lt $((last + 3000)) ] || [ "$offset" -le $data ]; then
		continue
	fi
	last=$offset
	cp volume v
	spoil v "$offset"
	"$fsck" -n v >out 2>err
	code=$?
	if [ $code -eq 4 ]; then
		hits=$((hits + 1))
		grep -q '^131: ' out || fail "page: $(cat out)"
		gives 1 -y v
		gives 0 -n v
		gives 0 -y v
	elif [ $code -ne 0 ]; then
		fail "damage at $offset: exit code $code: $(cat out err)"
	fi
done <offsets
[ $hits -ge 1 ] || fail "no table was hit"

# --- cut short, and any garbage ------------------------------------------------------------------------
for length in 100 5000 70000 1000000 1200000 2000000; do
	head -c $length volume >v
	"$fsck" -n v >out 2>err
	code=$?
	[ $code -eq 4 ] || [ $code -eq 8 ] || fail "cut to $length: exit code $code"
	"$fsck" -y v >out 2>err
	code=$?
	if [ $code -gt 12 ] || [ $code -eq 0 ]; then
		fail "cut to $length: -y: exit code $code"
	fi
done
head -c 3000000 /dev/urandom >v
complains 'not a kvfs volume' -y v

# --- interrupted ----------------------------------------------------------------------------------------
cp volume v
spoil v $((data + 100000))
timeout -s INT 0.02 "$fsck" -y v >out 2>err
code=$?
[ $code -le 1 ] || [ $code -eq 124 ] || [ $code -eq 32 ] || fail "interrupted: $code"
"$fsck" -y v >out 2>err
[ $? -le 1 ] || fail "after an interruption: $(cat out err)"
gives 0 -n v

[ $failed -eq 0 ] && echo "fsck.kvfs: all as promised"
exit $failed
