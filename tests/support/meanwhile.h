/* SPDX-License-Identifier: MIT */
/*
 * What others do in the middle of a long operation: its progress callback lets another thread do
 * it, once, and waits. In a header, as model_fixture.h.
 */
#ifndef TESTS_SUPPORT_MEANWHILE_H
#define TESTS_SUPPORT_MEANWHILE_H

#include <check.h>

#include "kvcore/kvcore.h"
#include "kvcore/os/os_thread.h"

struct meanwhile {
	int (*act)(void *ctx);
	void *ctx;
	int err; /* of it */
	bool done;
};

static inline void meanwhile_run(void *arg)
{
	struct meanwhile *m = (struct meanwhile *)arg;

	m->err = m->act(m->ctx);
}

/* kv_progress.report, whose ctx is a struct meanwhile. */
static inline int meanwhile_report(void *arg, uint64_t done, uint64_t total)
{
	struct meanwhile *m = (struct meanwhile *)arg;
	struct os_thread thread;

	(void)done;
	(void)total;
	if (m->done)
		return 0;
	m->done = true;
	ck_assert_int_eq(os_thread_start(&thread, "meanwhile", meanwhile_run, m), 0);
	os_thread_join(&thread);
	return 0;
}

#endif
