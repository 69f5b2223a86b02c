/* SPDX-License-Identifier: MIT */
/*
 * The table of trees: an array by slot for requests, chains by name for lookups. A
 * tree is opened and closed without the lock, because both read the disk or
 * free many nodes; of two that were opened at once for a name the second is thrown away.
 */
#include "fusefs/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kvcore/base/base.h"
#include "kvcore/base/hash.h"

#define SLOTS_MIN 16U

int tree_init(struct trees *all)
{
	*all = (struct trees){0};
	return -pthread_rwlock_init(&all->mu, NULL);
}

static void close_tree(struct tree *v)
{
	if (!v)
		return;
	if (v->fs)
		(void)!kvfs_close(v->fs); /* it only reads, or drops what it wrote */
	free(v->name);
	free(v);
}

void tree_close_all(struct trees *all)
{
	for (uint32_t i = 0; i < all->slot_count; i++) {
		close_tree(all->slots[i]);
		all->slots[i] = NULL;
	}
	memset(all->buckets, 0, sizeof(all->buckets));
	all->used = 0;
}

void tree_fini(struct trees *all)
{
	free(all->slots);
	(void)pthread_rwlock_destroy(&all->mu);
}

static struct tree **bucket_of(struct trees *all, const char *name)
{
	return &all->buckets[hash_bytes(kv_slice_of(name, strlen(name)), 0) % TREE_BUCKETS];
}

/* Where a tree of that name hangs, or the end of the chain. */
static struct tree **find_locked(struct trees *all, const char *name)
{
	struct tree **at = bucket_of(all, name);

	while (*at && strcmp((*at)->name, name) != 0)
		at = &(*at)->next;
	return at;
}

static struct tree **slot_locked(struct trees *all, uint64_t id)
{
	uint64_t slot = (id & TREE_SLOT_MASK) >> TREE_INO_BITS;

	return slot && slot <= all->slot_count ? &all->slots[slot - 1] : NULL;
}

struct kvfs *tree_fs(struct trees *all, uint64_t id)
{
	struct kvfs *fs = NULL;
	struct tree **slot;

	pthread_rwlock_rdlock(&all->mu);
	slot = slot_locked(all, id);
	if (slot && *slot) {
		fs = (*slot)->fs;
		if ((*slot)->draft)
			atomic_store_explicit(&(*slot)->used_s, (int64_t)time(NULL),
					      memory_order_relaxed);
	}
	pthread_rwlock_unlock(&all->mu);
	return fs;
}

/* A free slot for @v. */
static int take_slot_locked(struct trees *all, struct tree *v)
{
	uint32_t i = 0;

	if (all->used == all->slot_count) {
		uint32_t count = all->slot_count ? all->slot_count * 2 : SLOTS_MIN;
		struct tree **more;

		if (count > TREE_SLOTS_MAX / 2)
			return -ENFILE;
		more = realloc(all->slots, count * sizeof(struct tree *));
		if (!more)
			return -ENOMEM;
		memset(more + all->slot_count, 0,
		       (count - all->slot_count) * sizeof(struct tree *));
		i = all->slot_count;
		all->slots = more;
		all->slot_count = count;
	}
	while (all->slots[i])
		i++;
	all->slots[i] = v;
	all->used++;
	v->id = TREE_BIT | (uint64_t)(i + 1) << TREE_INO_BITS;
	return 0;
}

static int add_locked(struct trees *all, struct tree *v)
{
	struct tree **bucket = bucket_of(all, v->name);
	int err = take_slot_locked(all, v);

	if (err)
		return err;
	v->next = *bucket;
	*bucket = v;
	v->named = true;
	return 0;
}

static struct tree *take_locked(struct trees *all, const char *name)
{
	struct tree *v = *find_locked(all, name);

	if (v)
		v->refs++;
	return v;
}

static int open_past(struct kvfs *live, const char *name, struct kvfs **out)
{
	if (strncmp(name, TREE_AT, sizeof(TREE_AT) - 1) != 0)
		return kvfs_open_snapshot(live, name, out);
	return kvfs_open_at(live, strtoull(name + sizeof(TREE_AT) - 1, NULL, 10), out);
}

int tree_open(struct trees *all, struct kvfs *live, const char *name, struct tree **out)
{
	struct tree *v, *fresh = NULL;
	int err = 0;

	pthread_rwlock_wrlock(&all->mu);
	v = take_locked(all, name);
	pthread_rwlock_unlock(&all->mu);
	if (v) {
		*out = v;
		return 0;
	}
	fresh = calloc(1, sizeof(*fresh));
	if (!fresh)
		return -ENOMEM;
	fresh->refs = 1;
	fresh->name = strdup(name);
	err = fresh->name ? open_past(live, name, &fresh->fs) : -ENOMEM;
	if (err)
		goto out;
	pthread_rwlock_wrlock(&all->mu);
	v = take_locked(all, name);
	if (!v) {
		err = add_locked(all, fresh);
		if (!err) {
			v = fresh;
			fresh = NULL;
		}
	}
	pthread_rwlock_unlock(&all->mu);
	if (v)
		*out = v;
out:
	close_tree(fresh);
	return err;
}

int tree_add(struct trees *all, struct kvfs *fs, const char *name, struct tree **out)
{
	struct tree *v = calloc(1, sizeof(*v));
	int err = -ENOMEM;

	if (!v)
		return err;
	v->refs = 1;
	v->draft = true;
	atomic_init(&v->used_s, (int64_t)time(NULL));
	v->fs = fs;
	v->name = strdup(name);
	if (v->name) {
		pthread_rwlock_wrlock(&all->mu);
		err = *find_locked(all, name) ? -EEXIST : add_locked(all, v);
		pthread_rwlock_unlock(&all->mu);
	}
	if (err) {
		v->fs = NULL; /* it is still the caller's */
		close_tree(v);
		return err;
	}
	*out = v;
	return 0;
}

struct tree *tree_find(struct trees *all, const char *name)
{
	struct tree *v;

	pthread_rwlock_wrlock(&all->mu);
	v = take_locked(all, name);
	pthread_rwlock_unlock(&all->mu);
	return v;
}

void tree_ref(struct trees *all, uint64_t id)
{
	struct tree **slot;

	if (tree_is_live(id) || tree_is_control(id))
		return;
	pthread_rwlock_wrlock(&all->mu);
	slot = slot_locked(all, id);
	KV_ASSERT(slot && *slot);
	(*slot)->refs++;
	pthread_rwlock_unlock(&all->mu);
}

static void unname_locked(struct tree **at)
{
	struct tree *v = *at;

	*at = v->next;
	v->next = NULL;
	v->named = false;
}

void tree_unref(struct trees *all, uint64_t id, uint64_t refs)
{
	struct tree *v = NULL;
	struct tree **slot;

	if (tree_is_live(id) || tree_is_control(id))
		return;
	pthread_rwlock_wrlock(&all->mu);
	slot = slot_locked(all, id);
	if (slot && *slot) {
		(*slot)->refs -= min_u64(refs, (*slot)->refs);
		if (!(*slot)->refs) {
			v = *slot;
			*slot = NULL;
			all->used--;
			if (v->named)
				unname_locked(find_locked(all, v->name));
		}
	}
	pthread_rwlock_unlock(&all->mu);
	close_tree(v);
}

void tree_drop_name(struct trees *all, const char *name)
{
	struct tree **at;

	pthread_rwlock_wrlock(&all->mu);
	at = find_locked(all, name);
	if (*at)
		unname_locked(at);
	pthread_rwlock_unlock(&all->mu);
}
