#!/bin/bash
# SPDX-License-Identifier: MIT
# Every recipe of docs/cookbook.md, as it stands, prints what it says.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

command -v setfattr >/dev/null || skip "needs setfattr"
mkdir "$tmp/backup" "$tmp/recipes"

# N.title, N.sh and N.want of each recipe, with places of our own.
awk -v dir="$tmp/recipes" '
	/^## [0-9]/ { n++; print substr($0, 4) >(dir "/" n ".title") }
	/^```sh$/ { out = dir "/" n ".sh"; next }
	/^```text$/ { out = dir "/" n ".want"; next }
	/^```$/ { out = ""; next }
	out { print >out }
' "$KVFS_SRC/docs/cookbook.md"
sed -i "s#/srv/kv#$tmp/m#g; s#/var/lib/kv#$tmp/kv#g; s#/backup#$tmp/backup#g" "$tmp"/recipes/*.sh

count=$(find "$tmp/recipes" -name '*.sh' | wc -l)
[ "$count" -ge 10 ] || fail "only $count recipes were found"
for ((i = 1; i <= count; i++)); do
	recipe=$tmp/recipes/$i
	[ -e "$recipe.sh" ] && [ -e "$recipe.want" ] || fail "recipe $i has no commands or no output"
	bash -eu "$recipe.sh" >"$recipe.got" 2>"$recipe.err" || fail "recipe $(cat "$recipe.title"): $(cat "$recipe.err")"
	diff "$recipe.want" "$recipe.got" || fail "recipe $(cat "$recipe.title")"
done
umount_volume "$tmp/m" "$tmp/kv.kvfs"
