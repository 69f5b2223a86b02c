/* SPDX-License-Identifier: MIT */
/*
 * Range deletes of a memtable: a second tree, whose keys are bounds. A bound's
 * versions are the range deletes over all keys from it up to the next bound, newest
 * first. A new bound inside a deleted interval begins with the list of the bound before
 * it (shared, since lists only grow at their front), so it changes no answer; then the new
 * range delete goes to the front of each bound's list in its interval. Readers need no
 * lock: what they can see at their seq is the same before, during and after.
 *
 * One thread at a time adds range deletes, by rising seq: the lists stay in order.
 */
#include <errno.h>
#include <string.h>

#include "kvcore/base/buf.h"
#include "kvcore/engine/memtable_internal.h"

/* The bound at @key; one that is made takes over what covers the key. NULL: out of memory. */
static struct memkey *bound_at(struct memtable *m, struct arena *arena, struct kv_slice key)
{
	struct memtree_pos before = memtree_floor(&m->ranges, key);
	struct memkey *bound;

	if (before.key && slice_equal(memkey_slice(before.key), key))
		return before.key;
	bound = arena_alloc(arena, sizeof(*bound) + key.len);
	if (!bound)
		return NULL;
	bound->len = (uint32_t)key.len;
	memcpy(bound->bytes, key.data, key.len);
	atomic_init(&bound->newest, before.key ? memtable_newest(before.key) : NULL);
	if (memtree_insert(&m->ranges, arena, memtree_find(&m->ranges, key), bound, &bound))
		return NULL;
	return bound;
}

static int add_range(struct memtable *m, struct arena *arena, struct kv_slice from,
		     struct kv_slice to, kv_seq seq)
{
	const struct entry e = {.seq = seq, .kind = ENTRY_RANGE_DELETE};
	struct memtree_pos p;
	struct memversion *newest;
	struct memversion *v;

	if (!bound_at(m, arena, from) || !bound_at(m, arena, to))
		return -ENOMEM;
	for (p = memtree_seek(&m->ranges, from);
	     p.key && slice_compare(memkey_slice(p.key), to) < 0; p = memtree_next(&m->ranges, p)) {
		newest = memtable_newest(p.key);
		if (newest && newest->seq == seq)
			continue;
		KV_ASSERT(!newest || newest->seq < seq);
		v = memtable_version(arena, &e);
		if (!v)
			return -ENOMEM;
		atomic_init(&v->older, newest);
		/* Release: who reaches it sees its content. */
		atomic_store_explicit(&p.key->newest, v, memory_order_release);
	}
	return 0;
}

int memtable_add_range(struct memtable *m, struct kv_slice from, struct kv_slice to, kv_seq seq)
{
	struct memshard *s;
	int err;

	KV_ASSERT(memtable_seq_max(m) == KV_SEQ_MAX);
	atomic_store_explicit(&m->deletes, true, memory_order_relaxed);
	s = memtable_shard_take(m);
	err = add_range(m, &s->arena, from, to, seq);
	memtable_shard_give(m, s);
	atomic_store_explicit(&m->ranged, true, memory_order_release);
	return err;
}

kv_seq memtable_covering(struct memtable *m, struct kv_slice ikey, kv_seq max_seq)
{
	struct memtree_pos p;
	struct memversion *v;

	if (!memtable_has_ranges(m))
		return 0;
	p = memtree_floor(&m->ranges, ikey);
	v = p.key ? memtable_newest(p.key) : NULL;
	while (v && v->seq > max_seq)
		v = memversion_load(&v->older);
	return v ? v->seq : 0;
}

/* The seqs of a list, in @seqs. */
static int collect(const struct memversion *v, struct kv_buf *seqs, size_t *count)
{
	int err = 0;

	buf_clear(seqs);
	*count = 0;
	for (; v && !err; v = memversion_load(&v->older)) {
		err = buf_append(seqs, &v->seq, sizeof(v->seq));
		++*count;
	}
	return err;
}

static int copy_ranges(struct memtable *m, struct kv_slice from, struct kv_slice to,
		       struct range_set *out)
{
	struct memtree_pos p = memtree_floor(&m->ranges, from);
	struct kv_buf seqs = {0};
	size_t count;
	int err = 0;

	if (!p.key)
		p = memtree_seek(&m->ranges, from);
	while (p.key && !err && (!to.len || slice_compare(memkey_slice(p.key), to) < 0)) {
		struct memkey *bound = p.key;

		err = collect(memtable_newest(bound), &seqs, &count);
		p = memtree_next(&m->ranges, p);
		/* A bound that has range deletes has one behind it, where they end. */
		if (!err && count && p.key)
			err = range_set_append(out, memkey_slice(bound), memkey_slice(p.key),
					       (const kv_seq *)(const void *)seqs.data, count);
	}
	kv_buf_free(&seqs);
	return err;
}

int memtable_ranges(struct memtable *m, struct kv_slice from, struct kv_slice to,
		    struct range_set *out)
{
	struct range_set *copy = NULL;
	int err;

	if (!memtable_has_ranges(m))
		return 0;
	err = range_set_new(&copy);
	if (!err)
		err = copy_ranges(m, from, to, copy);
	if (!err)
		err = range_set_add_set(out, copy, from, to);
	range_set_free(copy);
	return err;
}
