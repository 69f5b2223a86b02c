/* SPDX-License-Identifier: MIT */
/*
 * Array iterators. To catch borrowed entries that are used after a movement, each
 * entry handed out is a copy on the heap that the next movement overwrites and frees.
 */
#include "tests/support/array_iter.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"

struct array_iter {
	struct iter base;
	const struct entry *entries;
	size_t count;
	size_t at; /* >= count: not positioned */
	struct array_iter_control *control;
	uint8_t *lent;
	size_t lent_len;
};

static struct array_iter *array_of(struct iter *it)
{
	return KV_CONTAINER_OF(it, struct array_iter, base);
}

static void take_back(struct array_iter *ai)
{
	if (ai->lent)
		memset(ai->lent, 0xdd, ai->lent_len);
	free(ai->lent);
	ai->lent = NULL;
}

static int move_to(struct array_iter *ai, size_t at)
{
	struct array_iter_control *c = ai->control;

	take_back(ai);
	ai->at = ai->count;
	if (c && c->fail_in && --c->fail_in == 0)
		return c->err;
	if (at >= ai->count)
		return -KV_E_NOTFOUND;
	ai->at = at;
	return 0;
}

size_t array_lower_bound(const struct entry *entries, size_t count, struct kv_slice ikey)
{
	size_t i = 0;

	while (i < count && slice_compare(entries[i].key, ikey) < 0)
		i++;
	return i;
}

static int op_first(struct iter *it)
{
	return move_to(array_of(it), 0);
}

static int op_last(struct iter *it)
{
	struct array_iter *ai = array_of(it);

	return move_to(ai, ai->count - 1); /* SIZE_MAX if empty */
}

static int op_seek(struct iter *it, struct kv_slice ikey)
{
	struct array_iter *ai = array_of(it);

	return move_to(ai, array_lower_bound(ai->entries, ai->count, ikey));
}

static int op_seek_before(struct iter *it, struct kv_slice ikey)
{
	struct array_iter *ai = array_of(it);

	return move_to(ai, array_lower_bound(ai->entries, ai->count, ikey) - 1);
}

static int op_next(struct iter *it)
{
	struct array_iter *ai = array_of(it);

	if (ai->at >= ai->count)
		ck_abort_msg("moved without a position");
	return move_to(ai, ai->at + 1);
}

static int op_prev(struct iter *it)
{
	struct array_iter *ai = array_of(it);

	if (ai->at >= ai->count)
		ck_abort_msg("moved without a position");
	return move_to(ai, ai->at - 1);
}

static void op_entry(struct iter *it, struct entry *out)
{
	struct array_iter *ai = array_of(it);
	const struct entry *e = &ai->entries[ai->at];

	if (ai->at >= ai->count)
		ck_abort_msg("asked for an entry without a position");
	if (!ai->lent) {
		ai->lent_len = e->key.len + e->value.len;
		ai->lent = malloc(ai->lent_len + 1);
		if (!ai->lent)
			ck_abort_msg("out of memory");
		memcpy(ai->lent, e->key.data, e->key.len);
		if (e->value.len)
			memcpy(ai->lent + e->key.len, e->value.data, e->value.len);
	}
	*out = *e;
	out->key.data = ai->lent;
	out->value.data = ai->lent + e->key.len;
}

static void op_close(struct iter *it)
{
	struct array_iter *ai = array_of(it);

	take_back(ai);
	if (ai->control)
		ai->control->open--;
	free(ai);
}

static const struct iter_ops array_iter_ops = {
	.first = op_first,
	.last = op_last,
	.seek = op_seek,
	.seek_before = op_seek_before,
	.next = op_next,
	.prev = op_prev,
	.entry = op_entry,
	.close = op_close,
};

struct iter *array_iter_new(const struct entry *entries, size_t count,
			    struct array_iter_control *control)
{
	struct array_iter *ai = calloc(1, sizeof(*ai));

	ck_assert_ptr_nonnull(ai);
	ai->base.ops = &array_iter_ops;
	ai->entries = entries;
	ai->count = count;
	ai->at = count;
	ai->control = control;
	if (control) {
		control->open++;
		control->opened++;
	}
	return &ai->base;
}

bool array_entry_equal(const struct entry *a, const struct entry *b)
{
	return slice_equal(a->key, b->key) && a->seq == b->seq && a->kind == b->kind &&
	       slice_equal(a->value, b->value);
}

/* One movement of @it and of the index @at; SIZE_MAX and above @count: not positioned. */
static int random_move(struct iter *it, const struct entry *entries, size_t count,
		       struct kv_slice probe, uint64_t choice, size_t *at)
{
	bool positioned = *at < count;

	if (positioned && choice < 50) {
		++*at;
		return iter_next(it);
	}
	if (positioned && choice < 90) {
		--*at;
		return iter_prev(it);
	}
	switch (choice % 4) {
	case 0:
		*at = 0;
		return iter_first(it);
	case 1:
		*at = count - 1;
		return iter_last(it);
	case 2:
		*at = array_lower_bound(entries, count, probe);
		return iter_seek(it, probe);
	default:
		*at = array_lower_bound(entries, count, probe) - 1;
		return iter_seek_before(it, probe);
	}
}

void array_iter_walk(struct iter *it, const struct entry *entries, size_t count,
		     const struct kv_slice *probes, size_t probe_count, unsigned steps,
		     struct test_rng *rng)
{
	size_t at = count;
	uint64_t choice = 99;

	for (unsigned step = 0; step < steps; step++) {
		struct kv_slice probe = probes[test_rng_below(rng, probe_count)];
		struct entry e;
		int err;

		/* Half of the time go on in the same direction, so that long runs occur too. */
		if (test_rng_below(rng, 2))
			choice = test_rng_below(rng, 100);
		err = random_move(it, entries, count, probe, choice, &at);
		/* An assertion of libcheck's costs a system call even if it holds. */
		if (err != (at < count ? 0 : -KV_E_NOTFOUND))
			ck_abort_msg("step=%u at=%zu count=%zu err=%d", step, at, count, err);
		if (err)
			continue;
		iter_entry(it, &e);
		if (!array_entry_equal(&e, &entries[at]))
			ck_abort_msg("step=%u at=%zu: another entry", step, at);
	}
}
