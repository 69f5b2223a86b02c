#!/bin/bash
# SPDX-License-Identifier: MIT
# The tutorial's program compiles without a warning as C, runs against the built library, prints what
# its page says, and the page explains every part of it.
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

cache=$KVFS_BUILD/CMakeCache.txt
[ -f "$cache" ] || fail "$KVFS_BUILD is not a build directory"
cc=$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' "$cache")
sanitize=$(sed -n 's/^KVFS_SANITIZE:[A-Z]*=//p' "$cache")
lib=$KVFS_BUILD/lib
[ -e "$lib/libkvcore.so" ] || fail "build libkvcore.so first"
docs=$KVFS_SRC/docs

"$cc" -std=c11 -Wall -Wextra -Wpedantic -Werror ${sanitize:+"-fsanitize=$sanitize"} \
	-I"$KVFS_SRC/kvcore/include" "$docs/tutorial.c" -L"$lib" -Wl,-rpath,"$lib" -lkvcore \
	-o "$tmp/tutorial" || fail "it does not compile"
timeout 60 "$tmp/tutorial" "$tmp/bank.kvfs" >"$tmp/printed" || fail "it failed: $?"
sed -n '/^and prints$/,/^followed/p' "$docs/tutorial.md" | sed -n '/^```$/,/^```$/p' | grep -v '^```' >"$tmp/said"
[ "$(wc -l <"$tmp/said")" = 8 ] || fail "the page says nothing"
head -n 8 "$tmp/printed" | cmp - "$tmp/said" || fail "it prints something else than the page says"
[ "$(tail -n +9 "$tmp/printed")" = "4 commits, 4 timed, p99 known" ] || fail "$(tail -n 1 "$tmp/printed")"
[ "$(grep -c '^/\* \[' "$docs/tutorial.c")" -ge 9 ] || fail "the parts have no marks"
grep -o '^/\* \[[a-z]*\]' "$docs/tutorial.c" | tr -d '/* ' | while read -r mark; do
	grep -qF "$mark" "$docs/tutorial.md" || fail "the page does not explain $mark"
done
echo "the tutorial works"
