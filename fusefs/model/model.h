/* SPDX-License-Identifier: MIT */
/*
 * What the files of libkvfs share: the handle, nodes, and keys.
 *
 * Locks. fs->ns guards where existing files live: whoever changes the place of
 * one (rename, unlink, rmdir, link, a commit of the key API) holds it
 * for writing around the transaction and the update of the nodes; everyone
 * else for reading, so that a key computed from a node stays right for the
 * whole transaction. It is never held while waiting for a sync. Shards of the
 * node table come below it, the engine's locks below them.
 */
#ifndef KVFS_MODEL_H
#define KVFS_MODEL_H

#include <stdatomic.h>

#include "fusefs/model/kvfs.h"
#include "fusefs/model/model_format.h"
#include "kvcore/base/base.h"
#include "kvcore/os/os_thread.h"

/* A key of any keyspace; no allocation. */
struct model_key {
	unsigned keyspace;
	size_t len;
	uint8_t b[MODEL_KEY_MAX];
};

static inline struct kv_slice model_key_slice(const struct model_key *key)
{
	return kv_slice_of(key->b, key->len);
}

enum node_state {
	NODE_ROOT,   /* record in MODEL_META, or at fs->top */
	NODE_NAMED,  /* record in MODEL_NAMES at (parent, name) */
	NODE_LINKED, /* record in MODEL_INODES; (parent, name) is one of its names or none */
	NODE_ORPHAN, /* record in MODEL_ORPHANS */
};

enum node_pending_flags {
	NODE_PENDING_ATIME = 1U << 0,
	NODE_PENDING_MTIME = 1U << 1,
	NODE_PENDING_CTIME = 1U << 2,
};

struct kvfs_node {
	uint64_t ino;		     /* [const] */
	struct kvfs_node *hash_next; /* [shard] */
	uint64_t refs;		     /* [shard] */
	uint32_t holds;		     /* [shard] those of refs that are libkvfs's own */
	struct kvfs_node *parent;    /* [ns] referenced; NULL for the root */
	char *name;		     /* [ns] NUL-terminated */
	uint8_t *prefix;	     /* [const] of a directory */
	uint8_t *
		orphan; /* [ns] the record when the last name went, if it is not stored; remove.c */
	uint64_t atime, mtime, ctime; /* [shard] pending, as encoded on disk */
	uint64_t write_seq;	 /* [shard] fs->write_seq of the last write not in the record */
	uint32_t pending_seq;	 /* [shard] grows when a pending time is set */
	uint16_t prefix_len;	 /* [const] */
	uint16_t orphan_len;	 /* [ns] */
	uint16_t type;		 /* [const] mode & S_IFMT */
	uint8_t pending;	 /* [shard] NODE_PENDING_* */
	uint8_t state;		 /* [ns] enum node_state */
	_Atomic uint64_t tail;	 /* [atomic] inode.tail after the last write */
	_Atomic bool chunked;	 /* [atomic] a hint: contents were seen in chunks */
	_Atomic bool unborn;	 /* [atomic] an orphan that gets its name with its first contents */
	_Atomic uint32_t stages; /* [atomic] open ones; goes down with fs->ns held for writing */
	_Atomic uint32_t times_set; /* [atomic] how often somebody set the time of change */
	uint8_t guard;		    /* [ns] MODEL_FLAG_IMMUTABLE, MODEL_FLAG_APPEND of the record */
};

#define MODEL_SHARDS 64U

struct node_shard {
	struct os_mutex mu;
	struct kvfs_node **buckets; /* [mu] */
	size_t bucket_count;	    /* [mu] power of 2 */
	size_t count;		    /* [mu] */
};

struct kvfs {
	struct kv_db *db;	      /* [const] */
	struct kv_snapshot *snapshot; /* [const] reads are as of this, if not NULL; [txn_mu] of a
				       * draft: what it began with */
	bool view;		      /* [const] the database belongs to another handle */
	bool opened_readonly;	      /* [const] */
	bool sync;		      /* [const] */
	bool lazytime;		      /* [const] */
	enum kvfs_atime atime;	      /* [const] */
	bool nodiratime;	      /* [const] */
	struct kv_log_sink log;	      /* [const] */
	/* Of a snapshot of a subtree, else empty: where the record of its top is, what the keys
	 * below it begin with, and its path, byte 0 for '/' and at the end. */
	struct model_key top, top_prefix; /* [const] */
	struct kv_buf top_path;		  /* [const] */
	_Atomic bool readonly;		  /* [atomic] */
	_Atomic bool displaced;		  /* [atomic] MODEL_PREFIXES has or may have entries */
	_Atomic uint64_t write_seq;	  /* [atomic] writes that left only pending times */
	_Atomic size_t orphan_bytes;	  /* [atomic] of all nodes' orphan */
	struct os_rwlock ns;
	struct node_shard shards[MODEL_SHARDS];
	struct kvfs_node root;
	struct os_mutex stage_mu;
	struct kvfs_stage *stages;    /* [stage_mu] */
	_Atomic uint32_t stage_count; /* [atomic] changes with stage_mu held */
	struct os_mutex id_mu;
	uint64_t id_next, id_end; /* [id_mu] reserved ids not yet given out */
	/* Of a draft (draft.h), else NULL: the tree that it is committed to. */
	struct kvfs *live;	  /* [const] */
	uint64_t first_id;	  /* [const] files with smaller ids are there for others, too */
	uint64_t write_seq_begun; /* [const] live->write_seq when it began */
	struct os_mutex txn_mu;
	struct kv_txn *txn; /* [txn_mu] NULL: it has ended, and so has @snapshot */
};

/* Whether names, and so files, may be changed now: 0 or -KV_E_READONLY. */
int kvfs_writable(const struct kvfs *fs) KV_MUST_CHECK;
/* A file id that was never given out. */
int kvfs_new_id(struct kvfs *fs, uint64_t *out) KV_MUST_CHECK;
struct kvfs_time kvfs_now(void);

#endif
