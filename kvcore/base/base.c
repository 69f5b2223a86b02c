/* SPDX-License-Identifier: MIT */
/*
 * The end of a failed assertion. It is the one place of kvcore that prints: a
 * broken invariant cannot be reported through the code that broke it, so the
 * line goes to stderr and the process aborts before wrong data is written.
 */
#include "kvcore/base/base.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void base_assert_failed(const char *cond, const char *file, int line)
{
	fprintf(stderr, "kvcore: assertion failed: %s (%s:%d)\n", cond, file, line);
	abort();
}
