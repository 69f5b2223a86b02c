/* SPDX-License-Identifier: MIT */
/*
 * The names of a directory one after the other, in the order in which they were
 * first listed, and a hash table to find them; a position is the number of a name.
 * A name that was removed keeps its number, and still tells where to go on.
 *
 * A listing outlives its handles, because the kernel's cache does. When it is
 * dropped for its size, the next handle tells the kernel to drop its cache too.
 * When most of its names are gone it starts afresh, with numbers that were never
 * used: the kernel may hold the beginning of an old listing, to which it adds what
 * comes behind the position where it ends.
 */
#include "fusefs/listing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/hash.h"

#define BUCKETS_MIN 64
#define SLOTS_MIN   32	/* fewer names are looked through */
#define STALE_MIN   256 /* names, below which a listing is not stale */
#define STALE_RATIO 4

struct listing {
	uint64_t ino;
	struct listing *next_in_bucket; /* [listings.mu] */
	struct listing *newer, *older;	/* [listings.mu] if closed */
	unsigned handles;		/* [listings.mu] */
	pthread_mutex_t mu;		/* a leaf */
	struct kv_buf names;		/* [mu] a length byte and the name, each */
	struct kv_buf offs;		/* [mu] size_t: where each begins */
	struct kv_buf slots; /* [mu] uint32_t: number + 1 of the name with that hash, 0: none */
	uint64_t base;	     /* [mu] position of the first */
	size_t listed;	     /* [mu] names since the last start */
};

static size_t bytes_of(const struct listing *l)
{
	return sizeof(*l) + l->names.cap + l->offs.cap + l->slots.cap;
}

static size_t count_of(const struct listing *l)
{
	return l->offs.len / sizeof(size_t);
}

static struct kv_slice name_at(const struct listing *l, size_t n)
{
	size_t off;

	memcpy(&off, l->offs.data + n * sizeof(off), sizeof(off));
	return kv_slice_of(l->names.data + off + 1, l->names.data[off]);
}

/* ---- all listings, with all->mu held ---- */

static struct listing **slot_of(struct listings *all, uint64_t ino)
{
	return &all->buckets[hash_u64(ino) & (all->bucket_count - 1)];
}

static struct listing *find_locked(struct listings *all, uint64_t ino)
{
	struct listing *l = *slot_of(all, ino);

	while (l && l->ino != ino)
		l = l->next_in_bucket;
	return l;
}

static void unlink_closed_locked(struct listings *all, struct listing *l)
{
	*(l->newer ? &l->newer->older : &all->newest) = l->older;
	*(l->older ? &l->older->newer : &all->oldest) = l->newer;
	l->newer = NULL;
	l->older = NULL;
	all->closed_bytes -= bytes_of(l);
}

static void free_listing(struct listing *l)
{
	(void)pthread_mutex_destroy(&l->mu);
	kv_buf_free(&l->names);
	kv_buf_free(&l->offs);
	kv_buf_free(&l->slots);
	free(l);
}

/* @l is closed. */
static void drop_locked(struct listings *all, struct listing *l)
{
	struct listing **at = slot_of(all, l->ino);

	unlink_closed_locked(all, l);
	while (*at != l)
		at = &(*at)->next_in_bucket;
	*at = l->next_in_bucket;
	all->count--;
	free_listing(l);
}

/* Without memory for more buckets, chains grow longer. */
static void grow_locked(struct listings *all)
{
	struct listings more = {.bucket_count = all->bucket_count * 2};
	struct listing *l, *next;

	more.buckets = calloc(more.bucket_count, sizeof(struct listing *));
	if (!more.buckets)
		return;
	for (size_t i = 0; i < all->bucket_count; i++) {
		for (l = all->buckets[i]; l; l = next) {
			struct listing **slot = slot_of(&more, l->ino);

			next = l->next_in_bucket;
			l->next_in_bucket = *slot;
			*slot = l;
		}
	}
	free(all->buckets);
	all->buckets = more.buckets;
	all->bucket_count = more.bucket_count;
}

static int add_locked(struct listings *all, uint64_t ino, struct listing **out)
{
	struct listing *l = calloc(1, sizeof(*l));
	struct listing **slot;

	if (!l)
		return -ENOMEM;
	if (pthread_mutex_init(&l->mu, NULL)) {
		free(l);
		return -ENOMEM;
	}
	l->ino = ino;
	l->base = LISTING_FIRST;
	if (all->count >= all->bucket_count)
		grow_locked(all);
	slot = slot_of(all, ino);
	l->next_in_bucket = *slot;
	*slot = l;
	all->count++;
	*out = l;
	return 0;
}

/* ---- interface ---- */

int listing_init(struct listings *all)
{
	int err;

	*all = (struct listings){.bucket_count = BUCKETS_MIN};
	all->buckets = calloc(all->bucket_count, sizeof(struct listing *));
	if (!all->buckets)
		return -ENOMEM;
	err = pthread_mutex_init(&all->mu, NULL);
	if (err)
		free(all->buckets);
	return -err;
}

void listing_fini(struct listings *all)
{
	struct listing *l, *next;

	for (size_t i = 0; i < all->bucket_count; i++) {
		for (l = all->buckets[i]; l; l = next) {
			next = l->next_in_bucket;
			free_listing(l);
		}
	}
	free(all->buckets);
	(void)pthread_mutex_destroy(&all->mu);
}

int listing_open(struct listings *all, uint64_t ino, struct listing **out, bool *known)
{
	struct listing *l;
	int err = 0;

	pthread_mutex_lock(&all->mu);
	l = find_locked(all, ino);
	*known = l != NULL;
	if (!l)
		err = add_locked(all, ino, &l);
	else if (!l->handles)
		unlink_closed_locked(all, l);
	if (!err) {
		l->handles++;
		*out = l;
	}
	pthread_mutex_unlock(&all->mu);
	return err;
}

void listing_close(struct listings *all, struct listing *l)
{
	pthread_mutex_lock(&all->mu);
	if (--l->handles == 0) {
		l->older = all->newest;
		*(l->older ? &l->older->newer : &all->oldest) = l;
		all->newest = l;
		all->closed_bytes += bytes_of(l);
		while (all->closed_bytes > LISTING_BYTES_MAX)
			drop_locked(all, all->oldest);
	}
	pthread_mutex_unlock(&all->mu);
}

void listing_forget(struct listings *all, uint64_t ino)
{
	struct listing *l;

	pthread_mutex_lock(&all->mu);
	l = find_locked(all, ino);
	if (l && !l->handles)
		drop_locked(all, l);
	pthread_mutex_unlock(&all->mu);
}

void listing_restart(struct listings *all, struct listing *l)
{
	pthread_mutex_lock(&all->mu);
	pthread_mutex_lock(&l->mu);
	if (l->handles == 1 && count_of(l) > STALE_MIN && count_of(l) / STALE_RATIO > l->listed) {
		l->base += count_of(l);
		buf_clear(&l->names);
		buf_clear(&l->offs);
		buf_clear(&l->slots);
	}
	l->listed = 0;
	pthread_mutex_unlock(&l->mu);
	pthread_mutex_unlock(&all->mu);
}

/* ---- names, with l->mu held ---- */

static uint32_t *slot_locked(const struct listing *l, struct kv_slice name)
{
	size_t mask = l->slots.len / sizeof(uint32_t) - 1;
	uint32_t *slots = (uint32_t *)(void *)l->slots.data; /* from malloc, so aligned */
	size_t at = hash_bytes(name, l->ino) & mask;

	while (slots[at] && !slice_equal(name_at(l, slots[at] - 1), name))
		at = (at + 1) & mask;
	return &slots[at];
}

/* Its number, or the count if it is not there. */
static size_t find_name_locked(const struct listing *l, struct kv_slice name)
{
	size_t count = count_of(l), n = 0;
	uint32_t *slot;

	if (l->slots.len) {
		slot = slot_locked(l, name);
		return *slot ? *slot - 1 : count;
	}
	while (n < count && !slice_equal(name_at(l, n), name))
		n++;
	return n;
}

/* Room in the hash table for one more name: at most half of it is used. */
static int grow_slots_locked(struct listing *l)
{
	size_t count = count_of(l), slots = l->slots.len / sizeof(uint32_t);
	struct kv_buf old = l->slots;
	int err;

	if (count + 1 <= SLOTS_MIN / 2 || (count + 1) * 2 <= slots)
		return 0;
	if (count >= UINT32_MAX / 4)
		return -ENOMEM;
	slots = SLOTS_MIN;
	while (slots < count * 4)
		slots *= 2;
	l->slots = (struct kv_buf){0};
	err = buf_append_zeros(&l->slots, slots * sizeof(uint32_t));
	if (err) {
		l->slots = old;
		return err;
	}
	for (size_t n = 0; n < count; n++)
		*slot_locked(l, name_at(l, n)) = (uint32_t)n + 1;
	kv_buf_free(&old);
	return 0;
}

static int append_locked(struct listing *l, struct kv_slice name)
{
	size_t off = l->names.len;
	uint32_t *slot;
	int err;

	err = grow_slots_locked(l);
	if (!err)
		err = buf_reserve(&l->offs, sizeof(off));
	if (!err)
		err = buf_reserve(&l->names, 1 + name.len);
	if (err)
		return err;
	slot = l->slots.len ? slot_locked(l, name) : NULL;
	err = buf_append_byte(&l->names, (uint8_t)name.len);
	if (!err)
		err = buf_append_slice(&l->names, name);
	if (!err)
		err = buf_append(&l->offs, &off, sizeof(off));
	if (!err && slot)
		*slot = (uint32_t)count_of(l);
	return err;
}

int listing_position(struct listing *l, const char *text, uint64_t before, uint64_t *out)
{
	struct kv_slice name = kv_slice_of(text, strlen(text));
	size_t n, count;
	int err = 0;

	if (name.len > KVFS_NAME_MAX)
		return -ENAMETOOLONG;
	pthread_mutex_lock(&l->mu);
	count = count_of(l);
	n = before >= l->base ? before - l->base + 1 : 0;
	if (n >= count || !slice_equal(name_at(l, n), name))
		n = find_name_locked(l, name);
	if (n == count)
		err = append_locked(l, name);
	if (!err) {
		*out = n + l->base;
		l->listed++;
	}
	pthread_mutex_unlock(&l->mu);
	return err;
}

bool listing_name(struct listing *l, uint64_t position, char name[KVFS_NAME_MAX + 1])
{
	struct kv_slice s;
	bool found;

	pthread_mutex_lock(&l->mu);
	found = position >= l->base && position - l->base < count_of(l);
	if (found) {
		s = name_at(l, position - l->base);
		memcpy(name, s.data, s.len);
		name[s.len] = '\0';
	}
	pthread_mutex_unlock(&l->mu);
	return found;
}
