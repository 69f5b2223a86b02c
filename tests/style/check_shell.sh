#!/bin/sh
# SPDX-License-Identifier: MIT
# Run shellcheck over every shell script; what is not asked for is in .shellcheckrc, with the reason.
# usage: check_shell.sh SOURCE_DIR [BUILD_DIR]
set -eu
cd "$1"
command -v shellcheck >/dev/null || { echo "shellcheck is missing: apt-get install shellcheck"; exit 1; }
{
	find quickstart run-tests .ci tools tests -type f -exec grep -lE '^#!/(usr/)?bin/(env )?(ba)?sh' {} +
	find tests -name '*.sh'
	echo cmake/kvfs.bash-completion
} | sort -u | tr '\n' '\0' | xargs -0 shellcheck -x
echo "shellcheck has nothing to say"
