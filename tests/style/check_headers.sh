#!/bin/sh
# SPDX-License-Identifier: MIT
# Every header compiles on its own, as C11; the public ones as C++ too.
# usage: check_headers.sh SOURCE_DIR [BUILD_DIR]
set -eu
cd "$1"
fail=0
flags="-D_GNU_SOURCE -Wall -Wextra -Werror -I. -Ikvcore/include $(pkg-config --cflags fuse3)"
# No name of ours holds a space, and the flags are words.
# shellcheck disable=SC2044,SC2086
for header in $(find kvcore fusefs mkfs fsck -name '*.h'); do
	printf '#include "%s"\n' "${header#kvcore/include/}" |
		cc -std=c11 -Wpedantic $flags -x c -fsyntax-only - || { echo "$header"; fail=1; }
done
# shellcheck disable=SC2086
for header in kvcore/kvcore.h kvcore/kvcore_check.h fusefs/model/kvfs.h fusefs/model/kvfs_stage.h fusefs/model/kvfs_history.h; do
	printf '#include "%s"\n' "$header" |
		c++ -std=c++11 $flags -x c++ -fsyntax-only - || { echo "$header (C++)"; fail=1; }
done
[ $fail = 0 ] && echo "every header stands alone"
exit $fail
