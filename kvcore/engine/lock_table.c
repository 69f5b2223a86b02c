/* SPDX-License-Identifier: MIT */
/*
 * The locks of one shard: a hash table, some spare locks so that taking one
 * rarely allocates, and a tree by key. The tree is built when a range first asks, and
 * given up when the shard is empty and no range is left, so that who uses no range
 * never pays for it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/lock_graph.h"

#define BUCKETS_MIN 16U
#define SPARE_MAX   16U

int lock_table_init(struct lock_shard *s)
{
	s->buckets = calloc(BUCKETS_MIN, sizeof(struct lock *));
	s->bucket_count = BUCKETS_MIN;
	return s->buckets ? 0 : -ENOMEM;
}

void lock_table_fini(struct lock_shard *s)
{
	KV_ASSERT(s->lock_count == 0);
	while (s->spare) {
		struct lock *l = s->spare;

		s->spare = l->next;
		free(l);
	}
	free(s->buckets);
}

static struct lock **bucket_of(const struct lock_shard *s, uint64_t hash)
{
	return &s->buckets[hash & (s->bucket_count - 1)];
}

struct lock *lock_table_find(const struct lock_shard *s, uint64_t hash, struct kv_slice ikey)
{
	struct lock *l = *bucket_of(s, hash);

	while (l && (l->hash != hash || !slice_equal(l->node.from, ikey)))
		l = l->next;
	return l;
}

/* Without the memory the chains just get longer. */
static void grow(struct lock_shard *s)
{
	struct lock_shard grown = {.bucket_count = s->bucket_count * 2};

	grown.buckets = calloc(grown.bucket_count, sizeof(struct lock *));
	if (!grown.buckets)
		return;
	for (size_t i = 0; i < s->bucket_count; i++) {
		struct lock *l = s->buckets[i];

		while (l) {
			struct lock *next = l->next;
			struct lock **bucket = bucket_of(&grown, l->hash);

			l->next = *bucket;
			*bucket = l;
			l = next;
		}
	}
	free(s->buckets);
	s->buckets = grown.buckets;
	s->bucket_count = grown.bucket_count;
}

static struct lock *take_room(struct lock_shard *s, size_t key_len)
{
	struct lock *l = s->spare;
	size_t room = key_len < LOCK_SPARE_KEY ? LOCK_SPARE_KEY : key_len + 1;

	if (l && room == LOCK_SPARE_KEY) {
		s->spare = l->next;
		s->spare_count--;
		return l;
	}
	l = malloc(sizeof(*l) + room);
	if (l)
		l->room = room;
	return l;
}

static void give_room(struct lock_shard *s, struct lock *l)
{
	if (l->room != LOCK_SPARE_KEY || s->spare_count == SPARE_MAX) {
		free(l);
		return;
	}
	l->next = s->spare;
	s->spare = l;
	s->spare_count++;
}

struct lock *lock_table_insert(struct lock_shard *s, uint64_t hash, struct kv_slice ikey)
{
	struct lock *l = take_room(s, ikey.len);
	struct lock **bucket;

	if (!l)
		return NULL;
	l->hash = hash;
	l->holders = NULL;
	l->queue_first = NULL;
	l->queue_last = NULL;
	if (ikey.len)
		memcpy(l->key, ikey.data, ikey.len);
	l->key[ikey.len] = 0;
	l->node.from = kv_slice_of(l->key, ikey.len);
	l->node.to = kv_slice_of(l->key, ikey.len + 1);
	if (s->lock_count >= s->bucket_count)
		grow(s);
	bucket = bucket_of(s, hash);
	l->next = *bucket;
	*bucket = l;
	s->lock_count++;
	if (s->ordered)
		lock_tree_insert(&s->tree, &l->node);
	return l;
}

void lock_table_reap(struct lock_manager *lm, struct lock_shard *s, struct lock *l)
{
	struct lock **link = bucket_of(s, l->hash);

	if (l->holders || l->queue_first)
		return;
	while (*link != l)
		link = &(*link)->next;
	*link = l->next;
	s->lock_count--;
	if (s->ordered) {
		lock_tree_remove(&s->tree, &l->node);
		s->ordered = s->lock_count || lock_ranges_in_use(lm);
	}
	give_room(s, l);
}

void lock_table_each(struct lock_shard *s, struct kv_slice from, struct kv_slice to,
		     bool (*visit)(void *ctx, struct lock_tree_node *n), void *ctx)
{
	for (size_t i = 0; !s->ordered && s->lock_count && i < s->bucket_count; i++) {
		for (struct lock *l = s->buckets[i]; l; l = l->next)
			lock_tree_insert(&s->tree, &l->node);
	}
	s->ordered = true;
	lock_tree_each(&s->tree, from, to, visit, ctx);
}
