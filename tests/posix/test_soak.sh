#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A short soak: everything at random with kills and a full volume, tests/soak/soak.py.
# shellcheck source=tests/posix/lib.sh
. "$(dirname "$0")/lib.sh"

PYTHONDONTWRITEBYTECODE=1 python3 -B "$KVFS_SRC/tests/soak/soak.py" --dir "$tmp/soak" --size $((96 << 20)) \
	--minutes "${KVFS_SOAK_MINUTES:-0.3}" --seed "${KVFS_TEST_SEED:-1}" || fail "the soak"
