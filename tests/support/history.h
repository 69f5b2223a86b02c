/* SPDX-License-Identifier: MIT */
/*
 * A checker of transaction histories after Kingsbury and Alvaro, Elle: Inferring Isolation
 * Anomalies from Experimental Observations (VLDB 2020). Transactions append unique numbers
 * to lists and insert them into sets; from what reads of lists and scans of sets
 * returned follows who depended on whom, and a cycle of dependencies is an anomaly of Adya's.
 *
 * Lists give a total order of their writes (ww), the last number read says whom the read
 * depends on (wr), the next one who overwrote it (rw). Sets stand for predicates: a scan
 * depends on whom it saw (wr), and came before whom it did not see (rw).
 */
#ifndef TESTS_SUPPORT_HISTORY_H
#define TESTS_SUPPORT_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_OPS                                                                                \
	8U /* of one transaction; a number is its index times this plus the operation's */

enum history_kind { HISTORY_APPEND, HISTORY_READ, HISTORY_INSERT, HISTORY_SCAN };

struct history_op {
	enum history_kind kind;
	unsigned object;
	uint32_t *seen; /* heap: what a read or scan returned, own writes with it */
	size_t count;
};

enum history_fate {
	HISTORY_ABORTED,
	HISTORY_COMMITTED,
	HISTORY_UNKNOWN, /* the commit failed in a crash */
};

struct history_txn {
	enum history_fate fate;
	bool durable; /* its sync was acknowledged */
	uint64_t seq; /* of its commit; 0: not known, or it wrote nothing */
	struct history_op op[HISTORY_OPS];
	unsigned op_count;
};

/* What was there in the end. */
struct history_object {
	bool set;
	uint32_t *ids; /* heap */
	size_t count;
};

struct history {
	struct history_txn *txns;
	size_t txn_count;
	struct history_object *objects;
	size_t object_count;
	bool crashed; /* commits that were not durable may be missing, from some number on */
	bool quiet;
};

/* What was found; several at once. */
enum history_anomaly {
	HISTORY_LOST = 1U << 0,	 /* an acknowledged write is not there, or one before it is not */
	HISTORY_TORN = 1U << 1,	 /* a transaction is there in part */
	HISTORY_ORDER = 1U << 2, /* a read is no prefix of the list, or lacks its own writes */
	HISTORY_G1A = 1U << 3,	 /* aborted read */
	HISTORY_G1B = 1U << 4,	 /* intermediate read */
	HISTORY_G0 = 1U << 5,	 /* a cycle of ww */
	HISTORY_G1C = 1U << 6,	 /* of ww and wr */
	HISTORY_G_SINGLE = 1U << 7, /* with one rw */
	HISTORY_G2 = 1U << 8,	    /* with several */
	HISTORY_COMMITS =
		1U << 9, /* an rw against the order of commits: not for snapshot isolation */
	HISTORY_DEPENDS = 1U << 10, /* a ww or wr against it */
};

/* Returns a set of anomalies; says the first of each on stdout. */
unsigned history_check(const struct history *h);

#endif
