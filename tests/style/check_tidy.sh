#!/bin/sh
# SPDX-License-Identifier: MIT
# clang-tidy with the checks of .clang-tidy, over all sources but the tests.
# usage: check_tidy.sh SOURCE_DIR BUILD_DIR
set -eu
cd "$1"
command -v clang-tidy-14 >/dev/null || { echo "clang-tidy-14 is missing: apt-get install clang-tidy-14"; exit 1; }
if grep -Eq '^KVFS_SANITIZE:[A-Z]+=.+' "$2/CMakeCache.txt"; then
	echo "checked in the builds without sanitizers"
	exit 0
fi
find kvcore fusefs mkfs fsck -name '*.c' -print0 |
	xargs -0 -n 8 -P "$(nproc)" clang-tidy-14 --quiet --warnings-as-errors='*' -p "$2"
echo "clang-tidy has nothing to say"
