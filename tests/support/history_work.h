/* SPDX-License-Identifier: MIT */
/*
 * Random transactions on lists and sets, and their history for history.h: appends, inserts, reads
 * and scans, with locks or optimistically, some rolled back in part, some in two phases. Lists are
 * values, sets are keys of one prefix; all are in keyspace 1, under a number of the work's own.
 *
 * Thread safety: history_work_txn() from any thread, each index once.
 */
#ifndef TESTS_SUPPORT_HISTORY_WORK_H
#define TESTS_SUPPORT_HISTORY_WORK_H

#include "kvcore/kvcore.h"
#include "tests/support/history.h"
#include "tests/support/test_suite.h"

struct history_work {
	struct kv_db *db;
	enum kv_isolation isolation;
	bool broken;		  /* reads see whatever is newest, locks or not */
	unsigned lock_timeout_ms; /* a missed deadlock, if nothing crashes */
	unsigned base;		  /* of the keys' names */
	unsigned txn_count;
	struct history_txn *txns;
};

/* Aborts the test when memory is short. */
void history_work_init(struct history_work *w, unsigned txn_count);
void history_work_fini(struct history_work *w);
/* One transaction, with its fate in w->txns[@index]. */
int history_work_txn(struct history_work *w, unsigned index, struct test_rng *rng);
/* Is it an error that a transaction may meet at any time? */
bool history_work_refused(int err);
/*
 * After a crash, with w->db opened again: decide what was prepared. @killed: it was a process that
 * died, which takes nothing back.
 */
void history_work_resolve(struct history_work *w, bool killed, struct test_rng *rng);
/* What history_check() says of all transactions and what is there now. */
unsigned history_work_check(struct history_work *w, bool crashed, bool quiet);

#endif
