/* SPDX-License-Identifier: MIT */
/* State of a stream in the making, shared by send.c (what comes next) and send_file.c (a file). */
#ifndef KVFS_SEND_H
#define KVFS_SEND_H

#include "fusefs/model/diff.h"
#include "fusefs/model/roothash.h"
#include "fusefs/model/state.h"
#include "fusefs/model/stream.h"
#include "fusefs/model/tops.h"

enum send_phase { SEND_HEADER, SEND_BEGIN, SEND_REMOVE, SEND_ENTRY, SEND_END, SEND_DONE };

/* The file whose chunks are being sent. */
struct send_file {
	bool open;
	bool listed; /* the chunks that differ, else all there are */
	bool delta;  /* each chunk changes the hash, instead of the whole contents */
	struct inode_buf old, new;
	struct kv_buf path;
	const struct diff_chunk *chunks; /* in diff->chunks, or */
	struct kv_buf compared;		 /* found by comparing */
	size_t chunk_count, next;
	uint64_t off;
};

struct kvfs_send {
	struct kvfs *fs;
	char *name, *from; /* @from NULL: everything is sent */
	struct state old, new;
	struct diff diff;
	struct roothash hash;
	uint8_t base[KV_DIGEST_LEN], root[KV_DIGEST_LEN];
	struct stream_chain chain;
	uint64_t resume; /* frames that the other side has */
	uint8_t resume_sum[KV_DIGEST_LEN];
	enum send_phase phase;
	struct kv_buf order[DIFF_SIDES]; /* uint32_t: entries with a place there, by path */
	size_t at;
	struct tops moved[DIFF_SIDES];
	struct send_file file;
	struct kv_buf links; /* struct send_link: open hash by id */
	size_t link_count;
	struct kv_buf text;    /* their paths */
	struct kv_buf lower;   /* full: where the walk goes on */
	bool walked;	       /* full: it is at the end */
	struct kv_buf xattrs;  /* of the present entry */
	struct kv_buf piece;   /* of contents */
	struct kv_buf scratch; /* frames that are not asked for */
	struct kv_buf *out;    /* of the call */
};

/* The file is where it was, unless its directory moved. */
static inline bool send_in_place(const struct diff_entry *e)
{
	return diff_same_file(e) && !e->elsewhere;
}

/* A frame is made, and sent unless the other side has it. */
int send_item(struct kvfs_send *s, const struct stream_item *item) KV_MUST_CHECK;
/*
 * send_file.c: a file at a path of the new state, or only a link if it was sent at another.
 * @e: its entry; NULL: everything is sent
 */
int send_entry(struct kvfs_send *s, struct kv_slice path, const struct diff_entry *e,
	       const struct inode_buf *rec, bool linked) KV_MUST_CHECK;
/* The next chunk of s->file; closes it at the end. */
int send_chunk(struct kvfs_send *s) KV_MUST_CHECK;

#endif
