/* SPDX-License-Identifier: MIT */
/*
 * kvcore: a transactional key-value engine in one file or block device.
 *
 * Ordered byte keys and values in numbered keyspaces; MVCC transactions with
 * snapshot or serializable isolation over a write-ahead-logged LSM tree of B+-trees.
 *
 * Every function that can fail returns 0 or a negative code (kv_types.h).
 * Outputs are untouched on error. Slices are borrowed for the call; buffers
 * returned are owned by the caller.
 *
 * Errors that any reading function may return, not repeated below:
 * -KV_E_CORRUPT, -KV_E_CHECKSUM (damage on disk), -ENOMEM, the -errno of a
 * failed read. Any writing function may also return -KV_E_READONLY,
 * -KV_E_POISONED (a write of the log or manifest failed earlier, nothing was done),
 * -KV_E_UNKNOWN_OUTCOME (it failed just now, see kv_txn_commit()),
 * -KV_E_NOSPACE, and, when memory for unflushed commits is used up and tables cannot be
 * written, the -errno of that: nothing happened, and it works again as soon as they can.
 */
#ifndef KVCORE_KVCORE_H
#define KVCORE_KVCORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvcore/kv_rebase.h"
#include "kvcore/kv_stats.h"
#include "kvcore/kv_types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KVCORE_VERSION_MAJOR 0
#define KVCORE_VERSION_MINOR 1
#define KVCORE_VERSION_PATCH 0
#define KVCORE_VERSION	     "0.1.0"

/* Limits, in bytes unless the name says otherwise. */
#define KV_KEY_MAX	     2048U		 /* a key has 1 to this many bytes */
#define KV_VALUE_MAX	     (64U * 1024 * 1024) /* a value has 0 to this many bytes */
#define KV_KEYSPACE_MAX	     65534U		 /* keyspaces are 1 to this; 0 is the engine's */
#define KV_SNAPSHOT_NAME_MAX 255U		 /* bytes of a snapshot's name */
#define KV_GID_MAX	     128U		 /* bytes of a prepared transaction's name */
#define KV_LABEL_MAX	     64U		 /* bytes of a volume's label */
#define KV_UUID_LEN	     16U

struct kv_db;
struct kv_txn;
struct kv_iter;
struct kv_batch;
struct kv_snapshot;
struct os_env; /* the host: NULL means this one; tests pass a simulated one */

/* ---- opening ---------------------------------------------------------- */

enum kv_open_flags {
	KV_OPEN_RDONLY = 1U << 0, /* write nothing at all, not even a replayed log */
};

/**
 * struct kv_options - how to open a volume; all zero is the default
 */
/*
 * Prefixes of keys that filters know besides whole keys: a scan within one of them passes over
 * tables that hold nothing that begins with it, as a get passes over those without its key. A rule
 * is about one keyspace. It may change from one opening to the next: tables keep those with which
 * they were written, and are passed over only by the same set. Each costs 10 bits of filter per
 * table and distinct prefix.
 */
enum kv_prefix_kind {
	KV_PREFIX_LENGTH = 1,	 /* the first @arg bytes, 1 to 255 */
	KV_PREFIX_SEPARATOR = 2, /* every one that ends with the byte @arg, as paths with '/' */
};
struct kv_prefix_rule {
	uint16_t keyspace;
	uint8_t kind;
	uint8_t arg;
};
#define KV_PREFIX_RULES_MAX 14

struct kv_options {
	unsigned flags;		     /* KV_OPEN_* */
	size_t cache_bytes;	     /* one budget for pages, filters, indexes and memtables;
				      * 0: 128 MiB, at least 8 MiB */
	size_t memtable_bytes;	     /* a memtable is flushed at this size; 0: cache_bytes / 8,
				      * at most 64 MiB */
	unsigned commit_interval_ms; /* an unsynced commit is durable after this; 0: 1000 */
	unsigned lock_timeout_ms;    /* longest wait for a lock; 0: 10000 */
	unsigned wait_ms;	     /* how long to wait for another process to close the volume */
	unsigned compaction_threads; /* at most 16; a large step is divided among idle ones; 0: 1 */
	size_t large_value_bytes;    /* values of at least this are stored outside the tree;
				      * 0: 4096 */
	const struct kv_prefix_rule *prefixes; /* copied; at most KV_PREFIX_RULES_MAX */
	unsigned prefix_count;
	const struct kv_log_sink *log;
	const struct kv_trace *trace; /* called around I/O, commit, flush, compaction; copied; NULL:
				       * none */
	struct os_env *env;
	/* Called by kv_open() when the volume is open and locked, before a byte of it is read and
	 * before a thread is made: here a program gives up rights. Negative: kv_open() fails with
	 * it. NULL: none. */
	int (*opened)(void *ctx);
	void *opened_ctx;
};

/**
 * kv_open() - open a volume, replaying its log
 * @path:    regular file or block device made by kv_create()
 * @options: NULL for the defaults; copied
 * @out:     the handle, closed with kv_close()
 *
 * One process at a time may have a volume open for writing.
 *
 * Return: 0, -KV_E_IN_USE, -KV_E_NOT_A_VOLUME, -KV_E_VERSION, -KV_E_FEATURE,
 * -KV_E_INVALID (an option outside its range), or the -errno of open(2).
 */
KV_API int kv_open(const char *path, const struct kv_options *options, struct kv_db **out)
	KV_MUST_CHECK;

/**
 * kv_close() - make everything durable and release the handle
 * @db: NULL is allowed; no transaction, iterator, batch or snapshot handle of it may be left
 *
 * The handle is released whatever the result.
 *
 * Return: 0 or the error that kept the last writes from being durable.
 */
KV_API int kv_close(struct kv_db *db) KV_MUST_CHECK;

/**
 * kv_sync() - return when every commit acknowledged before the call is durable
 *
 * Thread safety: any thread.
 * Return: 0, -KV_E_POISONED.
 */
KV_API int kv_sync(struct kv_db *db) KV_MUST_CHECK;

/* ---- transactions ----------------------------------------------------- */

enum kv_txn_flags {
	KV_TXN_RDONLY = 1U << 0, /* reads one snapshot, takes no lock; writes are refused */
	/* No lock before the commit, which checks that what was read or written has not changed. */
	KV_TXN_OPTIMISTIC = 1U << 1,
	/* The same, but the commit validates nothing: kv_rebase.h. */
	KV_TXN_REBASE = 1U << 2,
};

enum kv_isolation {
	KV_ISOLATION_SNAPSHOT,	   /* first updater wins; write skew is possible */
	KV_ISOLATION_SERIALIZABLE, /* as if one after the other, in the order of commit */
};

/**
 * struct kv_txn_options - all zero is a read-write transaction at snapshot level with locks
 */
struct kv_txn_options {
	unsigned flags;			    /* KV_TXN_* */
	enum kv_isolation isolation;	    /* the same for KV_TXN_RDONLY, which is serializable */
	const struct kv_snapshot *snapshot; /* read as of this; implies KV_TXN_RDONLY */
	unsigned lock_timeout_ms;	    /* for each lock; 0: the database's */
	size_t memory_bytes;		    /* its writes beyond this wait on the volume; 0:
					       kv_options.memtable_bytes */
};

/**
 * kv_txn_begin() - start a transaction
 * @db:      open database
 * @options: NULL for the defaults; copied
 * @out:     ended by kv_txn_commit(), kv_txn_abort() or kv_txn_prepare()
 *
 * Snapshot isolation: reads see one snapshot and lock nothing. That of a read-only
 * transaction is taken here; that of a read-write one at its first read. Keys locked
 * before the first read are therefore read at their newest version and cannot
 * conflict. Of two that write the same key, the second gets -KV_E_CONFLICT (Berenson et
 * al., A Critique of ANSI SQL Isolation Levels, 1995).
 *
 * Serializable: strict two-phase locking. A read locks its key, shared; an iterator
 * locks its whole range when it is opened, whatever it then returns; reads see
 * the newest committed version. Nothing conflicts, but waiting may be a deadlock: then
 * the request that would have closed the cycle fails with -KV_E_DEADLOCK, and its
 * transaction should be aborted and done again. Writers of any level respect these locks, so
 * nothing that was read changes before the end.
 *
 * KV_TXN_OPTIMISTIC, with either: reads see one snapshot, nothing is locked and
 * nobody waits, until the commit locks all at once in order and compares. It fails with
 * -KV_E_CONFLICT if after the snapshot was taken somebody changed, at snapshot
 * level, a key that is written or was read for update or share; serializable, any key or range
 * that was read. Up to 4 MiB are spent on remembering reads; beyond that
 * neighbouring ones are remembered as one range, which may find conflicts that are none.
 *
 * Thread safety: one thread at a time per transaction; any number of
 * transactions.
 * Return: 0, -KV_E_INVALID (unknown flags or level).
 */
KV_API int kv_txn_begin(struct kv_db *db, const struct kv_txn_options *options, struct kv_txn **out)
	KV_MUST_CHECK;

/**
 * kv_txn_get() - read one key, as the transaction's isolation says
 * @txn:      open transaction; its own uncommitted writes are visible
 * @keyspace: 1 to KV_KEYSPACE_MAX
 * @key:      1 to KV_KEY_MAX bytes, may contain NUL; borrowed for the call
 * @value:    receives a copy (its former content is lost, also on error; its memory is reused);
 *            freed by the caller with kv_buf_free(); NULL only asks whether the key is there
 *
 * Return: 0, -KV_E_NOTFOUND, -KV_E_INVALID; serializable with locks also -KV_E_DEADLOCK,
 * -KV_E_LOCK_TIMEOUT, after which the transaction may go on or be aborted.
 */
KV_API int kv_txn_get(struct kv_txn *txn, unsigned keyspace, struct kv_slice key,
		      struct kv_buf *value) KV_MUST_CHECK;

/**
 * kv_txn_lock() - lock one key exclusively until the transaction ends
 *
 * Reads nothing and takes no snapshot. If the transaction already has a
 * snapshot and the key changed after it, -KV_E_CONFLICT. An optimistic transaction
 * locks nothing: it takes its snapshot, and its commit validates the key.
 *
 * Return: 0, -KV_E_CONFLICT, -KV_E_DEADLOCK, -KV_E_LOCK_TIMEOUT,
 * -KV_E_READONLY, -KV_E_INVALID. After an error the transaction may go on or be aborted.
 */
KV_API int kv_txn_lock(struct kv_txn *txn, unsigned keyspace, struct kv_slice key) KV_MUST_CHECK;

/**
 * kv_txn_get_for_update() - kv_txn_lock() and then kv_txn_get()
 *
 * The lock is held whether or not the key exists.
 *
 * Return: as both.
 */
KV_API int kv_txn_get_for_update(struct kv_txn *txn, unsigned keyspace, struct kv_slice key,
				 struct kv_buf *value) KV_MUST_CHECK;

/**
 * kv_txn_get_for_share() - as kv_txn_get_for_update() with a shared lock
 *
 * Others may read the key for share too, nobody may change it before the end. At snapshot
 * level this is how a read that a write depends on is kept from write skew.
 * Two that share a key and both go on to write it are a deadlock.
 *
 * Return: as kv_txn_get_for_update().
 */
KV_API int kv_txn_get_for_share(struct kv_txn *txn, unsigned keyspace, struct kv_slice key,
				struct kv_buf *value) KV_MUST_CHECK;

/**
 * kv_txn_put() - set a key; takes its lock
 * @value: 0 to KV_VALUE_MAX bytes; copied
 *
 * Return: 0, -KV_E_TOO_BIG, or as kv_txn_lock().
 */
KV_API int kv_txn_put(struct kv_txn *txn, unsigned keyspace, struct kv_slice key,
		      struct kv_slice value) KV_MUST_CHECK;

/**
 * kv_txn_delete() - remove a key, which need not exist; takes its lock
 *
 * Return: 0, or as kv_txn_lock().
 */
KV_API int kv_txn_delete(struct kv_txn *txn, unsigned keyspace, struct kv_slice key) KV_MUST_CHECK;

/**
 * kv_txn_delete_range() - remove every key in [from, to)
 * @from: first key of the range; empty: from the keyspace's first key
 * @to:   first key after it; empty: to the keyspace's end
 *
 * One record, whatever the number of keys. The whole range is locked exclusively (by an
 * optimistic transaction at its commit). It is a blind write: at snapshot level a
 * change in the range that was committed after the snapshot is no conflict but removed.
 *
 * Return: 0, -KV_E_DEADLOCK, -KV_E_LOCK_TIMEOUT, -KV_E_INVALID (from > to).
 */
KV_API int kv_txn_delete_range(struct kv_txn *txn, unsigned keyspace, struct kv_slice from,
			       struct kv_slice to) KV_MUST_CHECK;

/**
 * kv_txn_savepoint() - remember the transaction's writes so far
 * @out: a number for kv_txn_rollback_to(), larger than those of earlier savepoints
 *
 * A large transaction keeps what it cannot hold in memory on the volume, unless it has more
 * than 16 savepoints that were not rolled back over.
 */
KV_API int kv_txn_savepoint(struct kv_txn *txn, unsigned *out) KV_MUST_CHECK;

/**
 * kv_txn_rollback_to() - undo the writes made after a savepoint
 *
 * The savepoint stays; later ones are gone. Locks are kept until the end.
 *
 * Return: 0, -KV_E_INVALID (no such savepoint).
 */
KV_API int kv_txn_rollback_to(struct kv_txn *txn, unsigned savepoint) KV_MUST_CHECK;

/**
 * kv_txn_release() - forget a savepoint and keep what was written after it
 *
 * Later ones are gone with it. For a transaction that lives long and takes many savepoints.
 *
 * Return: 0, -KV_E_INVALID (no such savepoint, or read-only).
 */
KV_API int kv_txn_release(struct kv_txn *txn, unsigned savepoint) KV_MUST_CHECK;

enum kv_commit_flags {
	KV_COMMIT_SYNC = 1U << 0,    /* return only when durable against power loss */
	KV_COMMIT_RESERVE = 1U << 1, /* it frees more than it takes: allowed on a full volume */
	/* Not worth waiting for: on a full volume it fails without a search for dead versions. */
	KV_COMMIT_OPTIONAL = 1U << 2,
};

/**
 * kv_txn_commit() - make the writes visible at one instant and end the transaction
 * @txn:   released whatever the result
 * @flags: KV_COMMIT_*
 * @seq:   receives the commit's number, 0 if nothing was written; may be NULL
 *
 * When it returns 0 the commit survives the death of the process; with
 * KV_COMMIT_SYNC also the loss of power.
 *
 * There is no limit on the number or size of the writes but free space: what does not fit a
 * quarter of the log is written as tables, and is then durable whatever the flags say. It needs
 * room for its keys and small values twice (kv_db_info.txn_max_bytes).
 *
 * Return: 0, -KV_E_INVALID (KV_TXN_REBASE without kv_txn_rebase()),
 * -KV_E_UNKNOWN_OUTCOME (the commit is there or not when the volume is opened again: its sync
 * failed, and until then it is visible; or the write of the log failed, or of one too large for the
 * log that of the manifest, and until then it is not);
 * optimistic ones also -KV_E_CONFLICT, -KV_E_DEADLOCK, -KV_E_LOCK_TIMEOUT. After any error but
 * -KV_E_UNKNOWN_OUTCOME nothing was written, now or after reopening. The same holds for every
 * function that commits: kv_put(), kv_batch_write(), kv_snapshot_create() and so on.
 */
KV_API int kv_txn_commit(struct kv_txn *txn, unsigned flags, kv_seq *seq) KV_MUST_CHECK;

/**
 * kv_txn_abort() - drop the writes and end the transaction
 * @txn: released; NULL is allowed
 */
KV_API void kv_txn_abort(struct kv_txn *txn);

/* ---- two-phase commit: the participant ----------------------------------- */

/**
 * kv_txn_prepare() - make a transaction's outcome the coordinator's to decide
 * @txn: no iterator open; released whatever the result
 * @gid: its name from now on, 1 to KV_GID_MAX bytes, any; unique in the database
 *
 * On return its writes and all its locks, those of reads too, are durable: it
 * survives closing and crashes and is there, its locks held, when the database is open
 * again, until kv_prepared_commit() or kv_prepared_abort(). Its writes are not visible
 * before. An optimistic transaction is validated here.
 *
 * Return: 0, -KV_E_EXISTS (the gid is in use), -KV_E_INVALID, those of an
 * optimistic commit; then it is aborted. -KV_E_UNKNOWN_OUTCOME: the write or sync failed, and it
 * may be prepared or gone when the database is opened again.
 */
KV_API int kv_txn_prepare(struct kv_txn *txn, struct kv_slice gid) KV_MUST_CHECK;

/**
 * kv_prepared_commit() - commit a prepared transaction, at one instant
 * @flags: KV_COMMIT_*; a coordinator that forgets the decision wants KV_COMMIT_SYNC
 * @seq:   receives the commit's number; may be NULL
 *
 * Thread safety: any thread.
 * Return: 0, -KV_E_NOTFOUND, -KV_E_BUSY (another thread is resolving it),
 * -KV_E_UNKNOWN_OUTCOME (its write or sync failed: prepared again or committed at
 * the next open). After any other error it is still prepared.
 */
KV_API int kv_prepared_commit(struct kv_db *db, struct kv_slice gid, unsigned flags, kv_seq *seq)
	KV_MUST_CHECK;

/**
 * kv_prepared_abort() - drop a prepared transaction, durably
 *
 * Works on a full volume. Thread safety: any thread.
 * Return: as kv_prepared_commit().
 */
KV_API int kv_prepared_abort(struct kv_db *db, struct kv_slice gid) KV_MUST_CHECK;

struct kv_prepared_info {
	uint8_t gid[KV_GID_MAX];
	size_t gid_len;
	int64_t prepared_ns; /* since 1970, UTC */
};

/**
 * kv_prepared_list() - all prepared transactions, in no order
 * @out:   an array freed by the caller with free(); NULL if there are none
 * @count: number of elements
 *
 * After opening this is what a coordinator has to be asked about.
 * Thread safety: any thread.
 */
KV_API int kv_prepared_list(struct kv_db *db, struct kv_prepared_info **out, size_t *count)
	KV_MUST_CHECK;

/* ---- single operations and batches ------------------------------------ */

/* As a transaction of one operation. Same errors. */
KV_API int kv_get(struct kv_db *db, unsigned keyspace, struct kv_slice key, struct kv_buf *value)
	KV_MUST_CHECK;
KV_API int kv_put(struct kv_db *db, unsigned keyspace, struct kv_slice key, struct kv_slice value,
		  unsigned flags) KV_MUST_CHECK;
KV_API int kv_delete(struct kv_db *db, unsigned keyspace, struct kv_slice key, unsigned flags)
	KV_MUST_CHECK;

/**
 * kv_batch_new() - an empty list of blind writes that kv_batch_write() applies atomically
 * @out: freed by the caller with kv_batch_free()
 *
 * Later writes win over earlier ones of the same batch.
 * Thread safety: one thread at a time per batch.
 */
KV_API int kv_batch_new(struct kv_db *db, struct kv_batch **out) KV_MUST_CHECK;
KV_API void kv_batch_free(struct kv_batch *batch);
KV_API int kv_batch_put(struct kv_batch *batch, unsigned keyspace, struct kv_slice key,
			struct kv_slice value) KV_MUST_CHECK;
KV_API int kv_batch_delete(struct kv_batch *batch, unsigned keyspace, struct kv_slice key)
	KV_MUST_CHECK;
KV_API int kv_batch_delete_range(struct kv_batch *batch, unsigned keyspace, struct kv_slice from,
				 struct kv_slice to) KV_MUST_CHECK;
/**
 * kv_batch_write() - commit a batch, waiting for locks held by transactions
 * @batch: emptied on success, for reuse
 *
 * As large as kv_txn_commit() allows.
 *
 * Return: 0, -KV_E_LOCK_TIMEOUT, -KV_E_DEADLOCK, -KV_E_UNKNOWN_OUTCOME.
 */
KV_API int kv_batch_write(struct kv_batch *batch, unsigned flags, kv_seq *seq) KV_MUST_CHECK;

/* ---- iterators -------------------------------------------------------- */

/**
 * struct kv_range - bounds of an iteration, in one keyspace
 * @lower:  first key that may appear; empty: no bound
 * @upper:  first key that may not; empty: no bound
 * @prefix: only keys that begin with it; empty: any; combined with the bounds
 */
struct kv_range {
	struct kv_slice lower;
	struct kv_slice upper;
	struct kv_slice prefix;
};

/**
 * kv_iter_open() - iterate over a range as the transaction sees it
 * @txn:   must outlive the iterator; writes of the transaction made after the
 *         iterator was opened may or may not be seen
 * @range: NULL for the whole keyspace; copied
 * @out:   not positioned; closed with kv_iter_close()
 *
 * A serializable transaction locks the range here, or remembers it for its validation, so
 * narrow bounds keep it out of others' way.
 *
 * Thread safety: that of the transaction.
 * Return: 0, -KV_E_INVALID; serializable with locks also -KV_E_DEADLOCK, -KV_E_LOCK_TIMEOUT.
 */
KV_API int kv_iter_open(struct kv_txn *txn, unsigned keyspace, const struct kv_range *range,
			struct kv_iter **out) KV_MUST_CHECK;
KV_API void kv_iter_close(struct kv_iter *iter);

/*
 * Movement. Each returns 0 and leaves the iterator on an entry, or
 * -KV_E_NOTFOUND when there is none in that direction (the iterator is then
 * not positioned), or an error of reading.
 *   first, last    the range's ends
 *   seek           first entry with key >= @key
 *   seek_before    last entry with key < @key
 *   next, prev     from a positioned iterator; -KV_E_INVALID from another
 */
KV_API int kv_iter_first(struct kv_iter *iter) KV_MUST_CHECK;
KV_API int kv_iter_last(struct kv_iter *iter) KV_MUST_CHECK;
KV_API int kv_iter_seek(struct kv_iter *iter, struct kv_slice key) KV_MUST_CHECK;
KV_API int kv_iter_seek_before(struct kv_iter *iter, struct kv_slice key) KV_MUST_CHECK;
KV_API int kv_iter_next(struct kv_iter *iter) KV_MUST_CHECK;
KV_API int kv_iter_prev(struct kv_iter *iter) KV_MUST_CHECK;
KV_API bool kv_iter_valid(const struct kv_iter *iter);

/**
 * kv_iter_key() - the key the iterator stands on
 *
 * Borrowed until the iterator moves or closes. Empty if not positioned.
 */
KV_API struct kv_slice kv_iter_key(const struct kv_iter *iter);

/**
 * kv_iter_value() - the value the iterator stands on
 * @value: borrowed until the iterator moves or closes
 *
 * A large value is read from the disk by the first call.
 */
KV_API int kv_iter_value(struct kv_iter *iter, struct kv_slice *value) KV_MUST_CHECK;

/**
 * kv_iter_value_len() - length of the value in bytes, without reading a large one
 */
KV_API size_t kv_iter_value_len(const struct kv_iter *iter);

/* ---- snapshots -------------------------------------------------------- */

/**
 * kv_snapshot_create() - name the present state, to last until dropped
 * @name: 1 to KV_SNAPSHOT_NAME_MAX bytes, any but NUL
 *
 * Atomic and durable on return, at the same cost whatever the volume's size.
 *
 * Return: 0, -KV_E_EXISTS, -KV_E_INVALID.
 */
KV_API int kv_snapshot_create(struct kv_db *db, const char *name) KV_MUST_CHECK;

/**
 * kv_snapshot_drop() - forget a named snapshot; its space returns by compaction
 *
 * Handles of it (kv_snapshot_open()) go on reading; its space returns when they are released.
 *
 * Return: 0, -KV_E_NOTFOUND.
 */
KV_API int kv_snapshot_drop(struct kv_db *db, const char *name) KV_MUST_CHECK;

/**
 * kv_snapshot_open() - a handle for reading as of a snapshot
 * @name: NULL: the present state, unnamed, gone when released
 * @out:  released with kv_snapshot_release(); outlives no database
 *
 * Return: 0, -KV_E_NOTFOUND.
 */
KV_API int kv_snapshot_open(struct kv_db *db, const char *name, struct kv_snapshot **out)
	KV_MUST_CHECK;
KV_API void kv_snapshot_release(struct kv_snapshot *snapshot);

struct kv_snapshot_info {
	char name[KV_SNAPSHOT_NAME_MAX + 1];
	kv_seq seq;
	int64_t created_ns; /* since 1970, UTC */
	/* Bytes of versions that only snapshots read and this one may: what its drop gives back at
	 * most, as far as compaction has brought them together. Shared ones count for each. */
	uint64_t held_bytes;
};

/**
 * kv_snapshot_list() - all named snapshots, oldest first
 * @out:   an array freed by the caller with free(); NULL if there are none
 * @count: number of elements
 */
KV_API int kv_snapshot_list(struct kv_db *db, struct kv_snapshot_info **out, size_t *count)
	KV_MUST_CHECK;

/* ---- maintenance ------------------------------------------------------ */

/**
 * struct kv_progress - how long work reports and is interrupted
 * @report: called now and then with work done and in all (0: not known), in
 *          the unit of the work; nonzero return interrupts with -KV_E_INTERRUPTED
 */
struct kv_progress {
	int (*report)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
};

/* kv_flush() - write the memtables into tables and let the log start afresh. */
KV_API int kv_flush(struct kv_db *db) KV_MUST_CHECK;

/**
 * kv_compact() - rewrite the whole tree into its last level, dropping what is dead
 * @progress: bytes of tables, of those that there were at the beginning; never falls; called by
 *            the calling thread; NULL for none
 *
 * Return: 0, -KV_E_INTERRUPTED (the volume is sound, the work done so far is kept).
 */
KV_API int kv_compact(struct kv_db *db, const struct kv_progress *progress) KV_MUST_CHECK;

#define KV_LEVELS 7U

/* What a volume is; sizes in bytes. */
struct kv_db_info {
	uint8_t uuid[KV_UUID_LEN];
	char label[KV_LABEL_MAX + 1];
	uint32_t format_version;
	uint64_t compat, ro_compat, incompat;
	const char *checksum_name;
	const char *compress_name;
	uint64_t generation; /* of the superblock */
	uint64_t size;	     /* of the volume now */
	uint64_t size_max;   /* to which it may grow; equal to size if fixed */
	uint64_t used;	     /* by log, manifest, tables and values */
	uint64_t free;	     /* within size_max; for a growing file also bounded by the host */
	uint64_t log_size;
	uint64_t log_used;
	uint64_t txn_max_bytes; /* of keys and small values that one transaction may write now */
	kv_seq last_seq;
	struct {
		uint64_t tables;
		uint64_t bytes;
		uint64_t entries;
	} level[KV_LEVELS];
	uint64_t value_segments;
	uint64_t value_bytes;	   /* held by segments */
	uint64_t value_live_bytes; /* of those still referenced by tables */
	uint64_t named_snapshots;
};
KV_API int kv_get_info(struct kv_db *db, struct kv_db_info *out) KV_MUST_CHECK;

/* Statistics and trace: kv_stats.h. What differs between two states: kv_diff.h. */

#ifdef __cplusplus
}
#endif
#endif
