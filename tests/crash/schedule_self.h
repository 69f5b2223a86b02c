/* SPDX-License-Identifier: MIT */
/*
 * Does the scheduler of tests/support/pct/ find what it is there for? Three small programs with a
 * known bug each, and one without. Aborts the test if not.
 */
#ifndef TESTS_CRASH_SCHEDULE_SELF_H
#define TESTS_CRASH_SCHEDULE_SELF_H

void schedule_self_check(void);

#endif
