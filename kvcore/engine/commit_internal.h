/* SPDX-License-Identifier: MIT */
/*
 * The commit queue's inside, shared by commit.c and commit_room.c.
 */
#ifndef KVCORE_ENGINE_COMMIT_INTERNAL_H
#define KVCORE_ENGINE_COMMIT_INTERNAL_H

#include "kvcore/engine/db.h"
#include "kvcore/engine/writeset.h"

/* Memtables waiting for their flush before writers wait for it. */
#define FROZEN_LIMIT	2U
#define GROUP_COUNT_MAX 256U

/* What a thread that waits for its commit is woken for. */
enum turn {
	TURN_NONE,
	TURN_APPLY, /* to put its own writes into the memtable, and wait again */
	TURN_LEAD,
	TURN_DONE,
};

struct request {
	struct request *next;
	struct writeset *writes;    /* NULL: one operation */
	const struct record_op *op; /* NULL: a writeset */
	uint64_t op_count;
	struct kv_buf ops; /* encoded */
	unsigned flags;
	enum turn turn;	       /* [leader] set before the latch is opened */
	struct os_latch woken; /* not of the leader's own request */
	bool shared;	       /* [leader] its own thread applies it */
	int result;
	kv_seq seq;
	uint64_t end;
};

struct commit_queue {
	struct os_mutex mu;    /* OS_RANK_COMMIT */
	struct os_cond done;   /* nobody leads; for those who lead without a commit */
	unsigned takers;       /* [mu] how many of these wait: they come before requests */
	struct request *head;  /* [mu] oldest first */
	struct request **tail; /* [mu] */
	bool leading;	       /* [mu] somebody leads, or was told to */
	unsigned applying;     /* [mu] followers that are yet to apply their own */
	struct os_cond applied;
	kv_seq last_seq; /* [leader] */
	/* [leader] The frame in parts: each record's header and its operations where they are. */
	struct kv_slice parts[2 * GROUP_COUNT_MAX];
	uint8_t headers[GROUP_COUNT_MAX][RECORD_HEADER_MAX];
};

/* commit_room.c; the leader only. */
int commit_room_rotate(struct kv_db *db) KV_MUST_CHECK;
/* Wait until at most @limit memtables are frozen. */
int commit_room_wait(struct kv_db *db, unsigned limit) KV_MUST_CHECK;
/* Before a group is written: freeze the memtable if need be. */
int commit_room_make(struct kv_db *db, const struct request *group) KV_MUST_CHECK;
/* The log has no room for the frame. */
int commit_room_make_log(struct kv_db *db) KV_MUST_CHECK;
uint64_t commit_room_unflushed(struct kv_db *db);
struct memtable *commit_active(struct kv_db *db);

#endif
