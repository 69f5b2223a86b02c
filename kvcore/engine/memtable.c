/* SPDX-License-Identifier: MIT */
/*
 * Memtables. A tree entry's value is the newest version of its key. The versions
 * of a key form a ring: `older` leads from the newest to the oldest and ends in
 * NULL; `newer` leads the other way and closes the ring from the newest to the
 * oldest, so that both ends and both directions are found in one step.
 *
 * `older` never changes once a version is in the tree and is followed without a
 * lock; `newer` and the tree are read under the read lock. The writer is alone,
 * so it searches without a lock and takes it only for the change itself.
 * A frozen memtable does not change and needs no lock at all.
 */
#include "kvcore/engine/memtable.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/arena.h"
#include "kvcore/base/base.h"
#include "kvcore/base/btree.h"
#include "kvcore/os/os_thread.h"

#define CHARGE_STEP (64U * 1024) /* bytes; the budget's mutex is not wanted for each addition */

struct memversion {
	struct memversion *older; /* [const] NULL: oldest */
	struct memversion *newer; /* [lock] of the newest: the oldest */
	kv_seq seq;
	size_t value_len;
	enum entry_kind kind;
	uint8_t value[];
};

struct memtable {
	struct cache *budget; /* [const] may be NULL */
	_Atomic unsigned refs;
	_Atomic bool frozen;	/* set once, after the last addition */
	_Atomic bool ranged;	/* holds range deletes */
	_Atomic bool deletes;	/* holds deletes of either kind */
	_Atomic size_t bytes;	/* of heap */
	_Atomic size_t entries; /* versions */
	size_t charged;		/* [writer] */
	struct arena arena;	/* [writer] */
	struct os_rwlock lock;
	struct btree tree;	  /* [lock] */
	struct range_set *ranges; /* [lock] */
};

int memtable_new(struct cache *budget, struct memtable **out)
{
	struct memtable *m = calloc(1, sizeof(*m));
	int err;

	if (!m)
		return -ENOMEM;
	err = range_set_new(&m->ranges);
	if (err)
		goto out;
	err = os_rwlock_init(&m->lock, OS_RANK_MEMTABLE);
	if (err)
		goto out;
	m->budget = budget;
	atomic_init(&m->refs, 1);
	atomic_init(&m->bytes, sizeof(*m));
	arena_init(&m->arena);
	btree_init(&m->tree);
	*out = m;
	return 0;
out:
	range_set_free(m->ranges);
	free(m);
	return err;
}

struct memtable *memtable_ref(struct memtable *m)
{
	atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
	return m;
}

void memtable_unref(struct memtable *m)
{
	/* Acquire: whoever frees it sees all that others did before they let go. */
	if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (m->budget)
		cache_uncharge(m->budget, m->charged);
	btree_fini(&m->tree);
	range_set_free(m->ranges);
	arena_fini(&m->arena);
	os_rwlock_fini(&m->lock);
	free(m);
}

/* ---- reading under the lock --------------------------------------------- */

/* Returns whether the lock was taken; given back to read_unlock(). */
static bool read_lock(struct memtable *m) KV_NO_THREAD_ANALYSIS
{
	/* Acquire pairs with the release in memtable_freeze(): all additions are seen. */
	if (atomic_load_explicit(&m->frozen, memory_order_acquire))
		return false;
	os_rwlock_rdlock(&m->lock);
	return true;
}

static void read_unlock(struct memtable *m, bool locked) KV_NO_THREAD_ANALYSIS
{
	if (locked)
		os_rwlock_rdunlock(&m->lock);
}

/* ---- writing ------------------------------------------------------------ */

static void account(struct memtable *m)
{
	size_t bytes =
		sizeof(*m) + arena_bytes(&m->arena) + m->tree.bytes + range_set_bytes(m->ranges);
	size_t want = align_up_u64(bytes, CHARGE_STEP);

	atomic_store_explicit(&m->bytes, bytes, memory_order_relaxed);
	if (!m->budget || want <= m->charged)
		return;
	cache_charge(m->budget, want - m->charged);
	m->charged = want;
}

static struct memversion *version_new(struct memtable *m, const struct entry *e)
{
	struct memversion *v = arena_alloc(&m->arena, sizeof(*v) + e->value.len);

	if (!v)
		return NULL;
	v->older = NULL;
	v->newer = v;
	v->seq = e->seq;
	v->kind = e->kind;
	v->value_len = e->value.len;
	if (e->value.len)
		memcpy(v->value, e->value.data, e->value.len);
	return v;
}

/* Put @v in front of the newest version, or in its place if it has the same seq. */
static void chain_add(struct memversion **newest, struct memversion *v)
{
	struct memversion *old = *newest;
	struct memversion *oldest = old->newer;

	if (old->seq == v->seq) {
		/* An iterator may stand on the old one: it keeps its way to both sides. */
		v->older = old->older;
		v->newer = v->older ? oldest : v;
		if (v->older)
			v->older->newer = v;
	} else {
		v->older = old;
		v->newer = oldest;
	}
	old->newer = v;
	*newest = v;
}

static int add_key(struct memtable *m, struct kv_slice key, struct memversion *v)
{
	uint8_t *copy = arena_copy(&m->arena, key);
	bool inserted;
	void **slot;
	int err;

	if (!copy)
		return -ENOMEM;
	os_rwlock_wrlock(&m->lock);
	err = btree_insert(&m->tree, kv_slice_of(copy, key.len), &slot, &inserted);
	if (!err)
		*slot = v;
	os_rwlock_wrunlock(&m->lock);
	return err;
}

int memtable_add(struct memtable *m, const struct entry *e)
{
	struct memversion *v;
	void **slot;
	int err = 0;

	KV_ASSERT(!atomic_load_explicit(&m->frozen, memory_order_relaxed));
	v = version_new(m, e);
	if (!v)
		return -ENOMEM;
	if (e->kind == ENTRY_DELETE)
		atomic_store_explicit(&m->deletes, true, memory_order_relaxed);
	slot = btree_find(&m->tree, e->key);
	if (slot) {
		struct memversion *newest = *slot;

		KV_ASSERT(e->seq >= newest->seq);
		if (e->seq != newest->seq)
			atomic_fetch_add_explicit(&m->entries, 1, memory_order_relaxed);
		os_rwlock_wrlock(&m->lock);
		chain_add(&newest, v);
		*slot = newest;
		os_rwlock_wrunlock(&m->lock);
	} else {
		err = add_key(m, e->key, v);
		if (!err)
			atomic_fetch_add_explicit(&m->entries, 1, memory_order_relaxed);
	}
	account(m);
	return err;
}

int memtable_add_range(struct memtable *m, struct kv_slice from, struct kv_slice to, kv_seq seq)
{
	int err;

	KV_ASSERT(!atomic_load_explicit(&m->frozen, memory_order_relaxed));
	os_rwlock_wrlock(&m->lock);
	err = range_set_add(m->ranges, from, to, seq);
	os_rwlock_wrunlock(&m->lock);
	if (!err)
		atomic_store_explicit(&m->ranged, true, memory_order_release);
	atomic_store_explicit(&m->deletes, true, memory_order_relaxed);
	account(m);
	return err;
}

void memtable_freeze(struct memtable *m)
{
	atomic_store_explicit(&m->frozen, true, memory_order_release);
}

/* ---- point reads -------------------------------------------------------- */

static void entry_of(struct kv_slice key, const struct memversion *v, struct entry *out)
{
	out->key = key;
	out->seq = v->seq;
	out->kind = v->kind;
	out->value = kv_slice_of(v->value, v->value_len);
}

int memtable_get(struct memtable *m, struct kv_slice ikey, kv_seq max_seq, struct entry *out)
{
	bool locked = read_lock(m);
	struct btree_pos p = btree_find_pos(&m->tree, ikey);
	struct kv_slice key = {NULL, 0};
	struct memversion *v = NULL;

	if (btree_valid(p)) {
		key = btree_key(p);
		v = btree_value(p);
	}
	read_unlock(m, locked);
	while (v && v->seq > max_seq)
		v = v->older;
	if (!v)
		return -KV_E_NOTFOUND;
	entry_of(key, v, out);
	return 0;
}

kv_seq memtable_covering(struct memtable *m, struct kv_slice ikey, kv_seq max_seq)
{
	kv_seq seq;
	bool locked;

	if (!memtable_has_ranges(m))
		return 0;
	locked = read_lock(m);
	seq = range_set_covering(m->ranges, ikey, max_seq);
	read_unlock(m, locked);
	return seq;
}

bool memtable_has_deletes(const struct memtable *m)
{
	return atomic_load_explicit(&m->deletes, memory_order_relaxed);
}

bool memtable_has_ranges(struct memtable *m)
{
	return atomic_load_explicit(&m->ranged, memory_order_acquire);
}

int memtable_ranges(struct memtable *m, struct range_set *out)
{
	struct kv_slice unbounded = {NULL, 0};
	bool locked;
	int err;

	if (!memtable_has_ranges(m))
		return 0;
	locked = read_lock(m);
	err = range_set_add_set(out, m->ranges, unbounded, unbounded);
	read_unlock(m, locked);
	return err;
}

size_t memtable_bytes(const struct memtable *m)
{
	return atomic_load_explicit(&m->bytes, memory_order_relaxed);
}

size_t memtable_entries(const struct memtable *m)
{
	return atomic_load_explicit(&m->entries, memory_order_relaxed);
}

bool memtable_empty(const struct memtable *m)
{
	return memtable_entries(m) == 0 && !atomic_load_explicit(&m->ranged, memory_order_acquire);
}

/* ---- iterator ----------------------------------------------------------- */

struct memtable_iter {
	struct iter base;
	struct memtable *m;
	struct kv_slice key;   /* in the arena */
	struct memversion *at; /* NULL: not positioned */
	struct btree_pos pos;  /* of key, as long as the tree has not changed */
	uint64_t changes;      /* of the tree when pos was found */
};

static struct memtable_iter *iter_of(struct iter *it)
{
	return KV_CONTAINER_OF(it, struct memtable_iter, base);
}

/* Stand on the newest or the oldest version of the key at @p. Called under the lock. */
static int stand(struct memtable_iter *mi, struct btree_pos p, bool oldest)
{
	struct memversion *newest;

	if (!btree_valid(p)) {
		mi->at = NULL;
		return -KV_E_NOTFOUND;
	}
	newest = btree_value(p);
	mi->pos = p;
	mi->changes = mi->m->tree.changes;
	mi->key = btree_key(p);
	mi->at = oldest ? newest->newer : newest;
	return 0;
}

/* The position of the current key. Called under the lock. */
static struct btree_pos position(const struct memtable_iter *mi)
{
	if (mi->changes == mi->m->tree.changes)
		return mi->pos;
	return btree_seek(&mi->m->tree, mi->key); /* keys are never removed */
}

static int op_first(struct iter *it)
{
	struct memtable_iter *mi = iter_of(it);
	bool locked = read_lock(mi->m);
	int err = stand(mi, btree_first(&mi->m->tree), false);

	read_unlock(mi->m, locked);
	return err;
}

static int op_last(struct iter *it)
{
	struct memtable_iter *mi = iter_of(it);
	bool locked = read_lock(mi->m);
	int err = stand(mi, btree_last(&mi->m->tree), true);

	read_unlock(mi->m, locked);
	return err;
}

static int op_seek(struct iter *it, struct kv_slice ikey)
{
	struct memtable_iter *mi = iter_of(it);
	bool locked = read_lock(mi->m);
	int err = stand(mi, btree_seek(&mi->m->tree, ikey), false);

	read_unlock(mi->m, locked);
	return err;
}

static int op_seek_before(struct iter *it, struct kv_slice ikey)
{
	struct memtable_iter *mi = iter_of(it);
	bool locked = read_lock(mi->m);
	int err = stand(mi, btree_seek_before(&mi->m->tree, ikey), true);

	read_unlock(mi->m, locked);
	return err;
}

static int op_next(struct iter *it)
{
	struct memtable_iter *mi = iter_of(it);
	bool locked;
	int err;

	KV_ASSERT(mi->at);
	if (mi->at->older) {
		mi->at = mi->at->older;
		return 0;
	}
	locked = read_lock(mi->m);
	err = stand(mi, btree_next(position(mi)), false);
	read_unlock(mi->m, locked);
	return err;
}

static int op_prev(struct iter *it)
{
	struct memtable_iter *mi = iter_of(it);
	struct memversion *v = mi->at;
	bool locked;
	int err = 0;

	KV_ASSERT(v);
	locked = read_lock(mi->m);
	/* A version that was replaced leads to its replacement, of the same seq. */
	while (v->newer != v && v->newer->seq == v->seq)
		v = v->newer;
	/* The newest version's `newer` is the oldest. */
	if (v->newer->seq > v->seq)
		mi->at = v->newer;
	else
		err = stand(mi, btree_prev(position(mi)), true);
	read_unlock(mi->m, locked);
	return err;
}

static void op_entry(struct iter *it, struct entry *out)
{
	struct memtable_iter *mi = iter_of(it);

	KV_ASSERT(mi->at);
	entry_of(mi->key, mi->at, out);
}

static void op_close(struct iter *it)
{
	struct memtable_iter *mi = iter_of(it);

	memtable_unref(mi->m);
	free(mi);
}

static const struct iter_ops memtable_iter_ops = {
	.first = op_first,
	.last = op_last,
	.seek = op_seek,
	.seek_before = op_seek_before,
	.next = op_next,
	.prev = op_prev,
	.entry = op_entry,
	.close = op_close,
};

int memtable_iter_new(struct memtable *m, struct iter **out)
{
	struct memtable_iter *mi = calloc(1, sizeof(*mi));

	if (!mi)
		return -ENOMEM;
	mi->base.ops = &memtable_iter_ops;
	mi->m = memtable_ref(m);
	*out = &mi->base;
	return 0;
}
