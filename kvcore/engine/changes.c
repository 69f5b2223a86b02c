/* SPDX-License-Identifier: MIT */
/*
 * One iterator over every version that may count, and all range deletes beside it. The
 * tables stay open with the view. Nobody drops versions that are wanted here: those who
 * look hold a snapshot at the lower end, or look whether history was trimmed meanwhile.
 */
#include "kvcore/engine/changes.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/level_iter.h"
#include "kvcore/engine/merge_iter.h"

static bool is_newer(const struct changes *c, struct table *t)
{
	const struct table_meta *m = table_get_meta(t);

	return m->seq_max > c->low && m->seq_min <= c->high &&
	       slice_compare(kv_buf_slice(&m->smallest), kv_buf_slice(&c->upper)) < 0 &&
	       slice_compare(kv_buf_slice(&m->largest), kv_buf_slice(&c->lower)) >= 0;
}

static int add_memtable(struct memtable *m, struct range_set *ranges, struct iter **list,
			size_t *count)
{
	const struct kv_slice unbounded = {NULL, 0};
	int err = 0;

	if (memtable_has_ranges(m))
		err = memtable_ranges(m, unbounded, unbounded, ranges);
	if (!err)
		err = memtable_iter_new(m, &list[*count]);
	if (!err)
		(*count)++;
	return err;
}

static int add_table_ranges(struct table *t, struct range_set *ranges)
{
	const struct range_set *set = NULL;
	int err = 0;

	if (table_get_meta(t)->range_count)
		err = table_ranges(t, &set);
	return err || !set
		       ? err
		       : range_set_add_set(ranges, set, kv_slice_of(NULL, 0), kv_slice_of(NULL, 0));
}

/* Level 0: a source for each table. Others: one for those of the level that are looked at. */
static int add_level(struct changes *c, unsigned n, struct range_set *ranges, struct iter **list,
		     size_t *count)
{
	const struct version_level *l = &c->view->version->level[n];
	size_t first = c->table_count;
	int err = 0;

	for (size_t i = 0; !err && i < l->count; i++) {
		if (!is_newer(c, l->tables[i]))
			continue;
		c->tables[c->table_count++] = l->tables[i];
		err = add_table_ranges(l->tables[i], ranges);
		if (!err && !n) {
			err = table_iter_new(l->tables[i], TABLE_ITER_READAHEAD, &list[*count]);
			*count += !err;
		}
	}
	if (!err && n && c->table_count > first) {
		err = level_iter_new(c->tables + first, c->table_count - first,
				     TABLE_ITER_READAHEAD, &list[*count]);
		*count += !err;
	}
	return err;
}

static int add_all(struct changes *c, struct range_set *ranges, struct iter **list, size_t *count)
{
	struct view *v = c->view;
	int err = add_memtable(v->active, ranges, list, count);

	for (unsigned i = 0; !err && i < v->frozen_count; i++)
		err = add_memtable(v->frozen[i], ranges, list, count);
	for (unsigned n = 0; !err && n < KV_LEVELS; n++)
		err = add_level(c, n, ranges, list, count);
	return err;
}

static int open_sources(struct changes *c)
{
	size_t tables = 0, count = 0;
	struct range_set *ranges = NULL;
	struct iter **list;
	int err;

	for (unsigned n = 0; n < KV_LEVELS; n++)
		tables += c->view->version->level[n].count;
	c->tables = calloc(tables + 1, sizeof(*c->tables));
	list = calloc(1 + VIEW_FROZEN_MAX + tables + KV_LEVELS, sizeof(*list));
	err = c->tables && list ? range_set_new(&ranges) : -ENOMEM;
	if (!err)
		err = range_set_new(&c->ranges);
	if (!err)
		err = add_all(c, ranges, list, &count);
	/* Those of memtables are of all keyspaces. */
	if (!err && range_set_count(ranges))
		err = range_set_add_set(c->ranges, ranges, kv_buf_slice(&c->lower),
					kv_buf_slice(&c->upper));
	if (!err)
		err = merge_iter_new(list, count, &c->points);
	else
		for (size_t i = 0; i < count; i++)
			iter_close(list[i]);
	free(list);
	range_set_free(ranges);
	return err;
}

int changes_open(struct changes *c, struct kv_db *db)
{
	c->view = view_get(db);
	return open_sources(c);
}

void changes_close(struct changes *c)
{
	iter_close(c->points);
	range_set_free(c->ranges);
	if (c->view)
		view_unref(c->view);
	free(c->tables);
	kv_buf_free(&c->lower);
	kv_buf_free(&c->upper);
	*c = (struct changes){0};
}
