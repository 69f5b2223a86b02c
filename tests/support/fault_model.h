/* SPDX-License-Identifier: MIT */
/*
 * What a database that meets faults must still hold. The states after each commit are kept,
 * with named snapshots and prepared transactions as parts of them, so that one rule covers
 * all: what is found later is one of the states since the last one that was acknowledged as durable
 * (or as committed, if nothing can have been lost), or the last one with the one commit whose
 * outcome is unknown.
 *
 * A state is a version number for each of a few keys; version and key give the value. The last
 * key stands for a group of many, written by one commit: they are all of one version.
 * Findings are printed and counted; nothing ends the program.
 */
#ifndef TESTS_SUPPORT_FAULT_MODEL_H
#define TESTS_SUPPORT_FAULT_MODEL_H

#include <stdbool.h>

#include "kvcore/kvcore.h"

#define FAULT_KEYS	40U
#define FAULT_GROUP	(FAULT_KEYS - 1)
#define FAULT_GROUP_LEN 90U
#define FAULT_SNAPS	2U
#define FAULT_PREPS	2U
#define FAULT_STATES	256U
#define FAULT_VALUE_MAX (64U << 10)

struct fault_state {
	uint16_t version[FAULT_KEYS]; /* 0: not there */
	uint16_t snap[FAULT_SNAPS];   /* index of the state it shows, plus 1; 0: not there */
	bool prepared[FAULT_PREPS];
};

struct fault_model {
	struct fault_state past[FAULT_STATES];
	unsigned last;	  /* the newest that was acknowledged */
	unsigned durable; /* the newest that was acknowledged as durable */
	bool poisoned;	  /* a write failed for good */
	bool uncertain;	  /* @maybe may be there too */
	bool verbose;	  /* say which call met a poisoned database first */
	bool may_be_full; /* -KV_E_NOSPACE is an answer */
	bool may_be_lost; /* what the sync dropped may be read before the sync says so */
	struct fault_state maybe;
	unsigned version;     /* given last */
	int host;	      /* the error that the faults cause */
	bool (*struck)(void); /* has one yet? */
	char what[160];	      /* the case, for messages */
	unsigned findings;
	unsigned failed; /* calls that returned an error */
	uint8_t buf[FAULT_VALUE_MAX];
};

/* No memory is needed. */
void fault_model_init(struct fault_model *m);
void fault_model_finding(struct fault_model *m, const char *format, ...) KV_PRINTF(2, 3);

struct kv_slice fault_key(unsigned key, char out[16]);
/* Borrowed until the next call. */
struct kv_slice fault_value(struct fault_model *m, unsigned key, unsigned version);
/* Bytes of a key's values. */
size_t fault_value_len(unsigned key);

/*
 * Judge the result of a call that changes nothing, or what a failed one leaves to be judged: is the
 * error one that the fault explains? Returns whether the call succeeded.
 */
bool fault_model_read(struct fault_model *m, int err, const char *call);
/* Judge the result of a commit that would lead to @next. */
bool fault_model_commit(struct fault_model *m, int err, const struct fault_state *next,
			bool durable, const char *call);
/* Everything committed has become durable. */
void fault_model_synced(struct fault_model *m);

/* Read all keys, both ways and each by itself, and compare with @s and, if it is given, @or. */
void fault_model_compare(struct fault_model *m, struct kv_db *db, const struct kv_snapshot *snap,
			 const struct fault_state *s, const struct fault_state *other);
/*
 * Without faults: read the whole state of a database that was opened again and look whether it
 * is allowed. @lost: there was a power loss or a failed sync. The model goes on from what is there.
 */
void fault_model_settle(struct fault_model *m, struct kv_db *db, bool lost);

#endif
