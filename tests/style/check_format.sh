#!/bin/sh
# SPDX-License-Identifier: MIT
# All C files are as clang-format 14 leaves them.
# usage: check_format.sh SOURCE_DIR [BUILD_DIR]
set -eu
cd "$1"
command -v clang-format-14 >/dev/null || { echo "clang-format-14 is missing: apt-get install clang-format-14"; exit 1; }
find kvcore fusefs mkfs fsck tests -name '*.[ch]' -print0 |
	xargs -0 clang-format-14 --dry-run --Werror
echo "all files are formatted"
