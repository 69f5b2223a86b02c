/* SPDX-License-Identifier: MIT */
/*
 * Receiving a stream, shared by receive.c (frames, staging), receive_check.c (does it fit?) and
 * receive_apply.c, receive_file.c (the switch).
 */
#ifndef KVFS_RECEIVE_H
#define KVFS_RECEIVE_H

#include "fusefs/model/place.h"
#include "fusefs/model/roothash.h"
#include "fusefs/model/state.h"
#include "fusefs/model/stream.h"
#include "fusefs/model/tops.h"

struct kvfs_receive {
	struct kvfs *fs;
	struct kv_buf base; /* path of the directory, byte 0 for '/' */
	uint64_t base_id;
	struct stream_chain chain;
	struct kv_buf in; /* bytes that are no whole frame yet */
	bool header, began, ended, already;
	/* Of the BEGIN item. */
	uint8_t id[KV_DIGEST_LEN], base_hash[KV_DIGEST_LEN];
	bool full;
	struct kv_buf name;	   /* NUL-terminated */
	uint8_t sum[ROOTHASH_SUM]; /* of what the directory holds */
	uint8_t end[KV_DIGEST_LEN];
	struct state checked;	/* what receive_check() looked at */
	struct kv_batch *batch; /* frames to be staged */
	size_t batched;
	/* Behind the last frame that is in the batch or was staged. */
	uint64_t staged;
	uint8_t staged_sum[KV_DIGEST_LEN];
};

/* What was received into a directory: MODEL_META, "received:" and its id. */
struct receive_record {
	uint8_t id[KV_DIGEST_LEN];
	uint8_t sum[ROOTHASH_SUM];
	char name[KV_SNAPSHOT_NAME_MAX + 1];
};
void receive_record_key(uint64_t base_id, struct model_key *out);
int receive_record_get(struct kvfs *fs, uint64_t base_id, struct receive_record *out) KV_MUST_CHECK;
int receive_record_put(struct kv_txn *txn, const struct kvfs_receive *r,
		       const uint8_t sum[ROOTHASH_SUM]) KV_MUST_CHECK;
void receive_stage_key(struct model_key *out);

/* receive_check.c: what BEGIN says fits the directory. Sets @checked, and @sum or @already. */
int receive_check(struct kvfs_receive *r) KV_MUST_CHECK;
/* The directory holds in state @now what was looked at then: 0, -EBUSY. */
int receive_check_still(struct kvfs_receive *r, struct kv_txn *now) KV_MUST_CHECK;
/* There is no snapshot of the name that is to be made: 0, -EEXIST. */
int receive_check_name(struct kvfs_receive *r) KV_MUST_CHECK;

/* receive_apply.c: all staged frames in one transaction. @progress: items; may be NULL */
int receive_apply(struct kvfs_receive *r, const struct kv_progress *progress,
		  const struct kvfs_draft_hooks *hooks) KV_MUST_CHECK;

/* The file that is being written, and all that the transaction needs. */
struct receive_apply {
	struct kvfs *fs;      /* the draft */
	struct kv_slice base; /* path of the directory, byte 0 for '/' */
	bool full;	      /* nothing was there */
	const struct kv_progress *progress;
	uint64_t items;
	struct kv_txn *pre; /* the state before */
	struct kv_txn *txn; /* the draft's */
	struct roothash hash;
	struct tops old, new; /* directories that move, by paths below the base */
	struct kv_buf path;   /* scratch */
	bool open;	      /* a file's record waits for its chunks */
	bool delta;	      /* chunks change the hash, instead of the whole contents */
	bool listed;	      /* it was in place: old chunks go */
	struct inode_buf was; /* of the file before */
	struct inode_buf rec; /* of the file, */
	struct kv_buf xattrs; /* and what it borrows */
	struct model_key key; /* where the record goes */
	uint64_t size;
	struct kv_buf file; /* its path below the base */
};
/* The path below the base as a path of the volume, in a->path. */
int receive_path(struct receive_apply *a, struct kv_slice path, struct kv_slice *out) KV_MUST_CHECK;
int receive_entry(struct receive_apply *a, const struct stream_item *item) KV_MUST_CHECK;
int receive_chunk(struct receive_apply *a, const struct stream_item *item) KV_MUST_CHECK;
int receive_link(struct receive_apply *a, const struct stream_item *item) KV_MUST_CHECK;
/* The record of the open file is stored. */
int receive_close_file(struct receive_apply *a) KV_MUST_CHECK;

#endif
