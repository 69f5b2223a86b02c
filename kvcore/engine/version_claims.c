/* SPDX-License-Identifier: MIT */
/*
 * Questions about a version's keys, where new tables may lie, and the claims of running
 * compactions. A
 * claim is a short list beside the versions and not a mark in a table, because
 * tables are shared by versions while a claim is about the current one. The list
 * holds the inputs of what runs now, so it is searched from end to end.
 */
#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/version_internal.h"

static bool ends_before(const struct table_meta *m, struct kv_slice key)
{
	int order = slice_compare(kv_buf_slice(&m->largest), key);

	return order < 0 || (order == 0 && m->largest_exclusive);
}

static bool begins_within(const struct table_meta *m, struct kv_slice last, bool last_exclusive)
{
	int order = slice_compare(kv_buf_slice(&m->smallest), last);

	return order < 0 || (order == 0 && !last_exclusive);
}

static bool level_overlaps(const struct version_level *l, struct kv_slice first,
			   struct kv_slice last, bool last_exclusive)
{
	size_t lo = 0;
	size_t hi = l->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (ends_before(table_get_meta(l->tables[mid]), first))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < l->count && begins_within(table_get_meta(l->tables[lo]), last, last_exclusive);
}

bool version_overlaps(const struct version *v, unsigned from_level, struct kv_slice first,
		      struct kv_slice last, bool last_exclusive)
{
	for (size_t i = 0; from_level == 0 && i < v->level[0].count; i++) {
		const struct table_meta *m = table_get_meta(v->level[0].tables[i]);

		if (!ends_before(m, first) && begins_within(m, last, last_exclusive))
			return true;
	}
	for (unsigned n = from_level ? from_level : 1; n < KV_LEVELS; n++) {
		if (level_overlaps(&v->level[n], first, last, last_exclusive))
			return true;
	}
	return false;
}

static struct versions_claim *find_claim(struct versions *vs, uint64_t id) KV_REQUIRES(vs->mu)
{
	for (size_t i = 0; i < vs->claim_count; i++) {
		if (vs->claims[i].id == id)
			return &vs->claims[i];
	}
	return NULL;
}

static int reserve_claims(struct versions *vs, size_t more) KV_REQUIRES(vs->mu)
{
	size_t cap = vs->claim_cap ? vs->claim_cap : 16;
	struct versions_claim *grown;

	while (cap < vs->claim_count + more)
		cap *= 2;
	if (cap == vs->claim_cap)
		return 0;
	grown = realloc(vs->claims, cap * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	vs->claims = grown;
	vs->claim_cap = cap;
	return 0;
}

int versions_claim(struct versions *vs, const struct version *v, const uint64_t *ids, size_t count)
{
	int err = 0;

	os_mutex_lock(&vs->mu);
	if (&vs->current->pub != v || vs->placing)
		err = -KV_E_BUSY;
	for (size_t i = 0; !err && i < count; i++)
		err = find_claim(vs, ids[i]) ? -KV_E_BUSY : 0;
	if (!err)
		err = reserve_claims(vs, count);
	for (size_t i = 0; !err && i < count; i++)
		vs->claims[vs->claim_count++] = (struct versions_claim){ids[i], false};
	os_mutex_unlock(&vs->mu);
	return err;
}

void versions_unclaim(struct versions *vs, const uint64_t *ids, size_t count, bool damaged)
{
	os_mutex_lock(&vs->mu);
	for (size_t i = 0; i < count; i++) {
		struct versions_claim *c = find_claim(vs, ids[i]);

		KV_ASSERT(c);
		if (damaged)
			c->damaged = true;
		else
			*c = vs->claims[--vs->claim_count];
	}
	os_mutex_unlock(&vs->mu);
}

enum version_claim versions_claim_of(struct versions *vs, uint64_t id)
{
	const struct versions_claim *c;
	enum version_claim r = VERSION_UNCLAIMED;

	os_mutex_lock(&vs->mu);
	c = find_claim(vs, id);
	if (c)
		r = c->damaged ? VERSION_DAMAGED : VERSION_CLAIMED;
	os_mutex_unlock(&vs->mu);
	return r;
}

/* ---- placing ---------------------------------------------------------------------- */

/* What running compactions read, and so may write, as one span from a level down. */
struct busy {
	bool any;
	unsigned level; /* the highest */
	struct kv_slice first, last;
};

static void busy_add(struct busy *b, const struct table_meta *m, unsigned level)
{
	struct kv_slice first = kv_buf_slice(&m->smallest);
	struct kv_slice last = kv_buf_slice(&m->largest);

	if (!b->any || slice_compare(first, b->first) < 0)
		b->first = first;
	if (!b->any || slice_compare(last, b->last) > 0)
		b->last = last;
	b->level = b->any && b->level < level ? b->level : level;
	b->any = true;
}

static void busy_gather(struct versions *vs, struct busy *b) KV_REQUIRES(vs->mu)
{
	const struct version *v = &vs->current->pub;

	*b = (struct busy){0};
	for (unsigned n = 0; vs->claim_count && n < KV_LEVELS; n++) {
		for (size_t i = 0; i < v->level[n].count; i++) {
			const struct table_meta *m = table_get_meta(v->level[n].tables[i]);
			const struct versions_claim *c = find_claim(vs, m->id);

			if (c && !c->damaged)
				busy_add(b, m, n);
		}
	}
}

static unsigned place_of(const struct version *v, const struct busy *busy,
			 const struct table_meta *m)
{
	struct kv_slice first = kv_buf_slice(&m->smallest);
	struct kv_slice last = kv_buf_slice(&m->largest);
	unsigned limit = KV_LEVELS - 1;
	unsigned level = 0;

	if (busy->any && !ends_before(m, busy->first) && slice_compare(first, busy->last) <= 0)
		limit = busy->level ? busy->level - 1 : 0;
	for (size_t i = 0; i < v->level[0].count; i++) {
		const struct table_meta *t = table_get_meta(v->level[0].tables[i]);

		if (!ends_before(t, first) && begins_within(t, last, m->largest_exclusive))
			return 0;
	}
	while (level < limit &&
	       !level_overlaps(&v->level[level + 1], first, last, m->largest_exclusive))
		level++;
	return level;
}

void version_place(struct versions *vs, struct version_edit *edit)
{
	struct busy busy;

	os_mutex_lock(&vs->mu);
	vs->placing = true;
	busy_gather(vs, &busy);
	for (size_t i = 0; i < edit->add_count; i++)
		edit->add[i].level = place_of(&vs->current->pub, &busy, &edit->add[i]);
	os_mutex_unlock(&vs->mu);
}

void version_place_end(struct versions *vs)
{
	os_mutex_lock(&vs->mu);
	vs->placing = false;
	os_mutex_unlock(&vs->mu);
}
