/* SPDX-License-Identifier: MIT */
/*
 * Iterators of the API: all layers of a view merged, reduced to the one version
 * of each key that the snapshot sees, within bounds.
 *
 * Forward, the merge stands on the entry that is shown. Backward, it stands
 * before the oldest version of the key that is shown, whose newest visible
 * version was copied while passing: versions of a key come newest first, so
 * going back they come oldest first. A change of direction re-seeks by key.
 *
 * Range deletes of all layers are combined into one set when the iterator is
 * opened; those of the transaction itself are asked separately, because they
 * hide everything but the transaction's own later writes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/level_iter.h"
#include "kvcore/engine/merge_iter.h"
#include "kvcore/engine/prefix_probe.h"
#include "kvcore/engine/skip_iter.h"
#include "kvcore/engine/txn.h"

enum direction { AT_NONE, FORWARD, BACKWARD };

struct kv_iter {
	struct kv_txn *txn;
	struct view *view;
	struct iter *merged;
	struct range_set *ranges; /* of the layers, visible or not; NULL: there are none */
	kv_seq snapshot;
	bool has_snapshot;     /* @snapshot is registered for the iterator */
	struct kv_slice lower; /* ikey, first allowed; in room */
	struct kv_slice upper; /* ikey, first not allowed; in room */
	uint64_t upper_head;   /* key_head() of it */
	enum direction direction;
	struct kv_buf key; /* ikey shown */
	enum entry_kind kind;
	struct kv_slice value; /* forward: borrowed from the merge; backward: from copy */
	struct kv_buf copy;    /* backward */
	struct kv_buf large;   /* a large value that was read */
	bool large_loaded;
	bool own; /* shown is a write of the transaction itself */
	uint8_t room[];
};

/* Sources of a usual view: more are gathered on the heap. */
#define SOURCES_FEW 24U

/* ---- opening ------------------------------------------------------------------ */

/* The first bytes of a key as a number: of two keys with different ones it has their order. */
static uint64_t key_head(struct kv_slice key)
{
	uint8_t b[sizeof(uint64_t)] = {0};

	if (key.len >= sizeof(b))
		return be64_at(key.data);
	for (size_t i = 0; i < key.len; i++)
		b[i] = key.data[i];
	return be64_at(b);
}

static bool before_upper(const struct kv_iter *it, struct kv_slice key)
{
	uint64_t head = key_head(key);

	return head != it->upper_head ? head < it->upper_head : slice_compare(key, it->upper) < 0;
}

/* Is it the key that was shown last? Neighbours mostly differ in their last bytes. */
static bool is_shown(const struct kv_iter *it, struct kv_slice key)
{
	size_t len = it->key.len;

	if (len != key.len || !len)
		return false;
	return key.data[len - 1] == it->key.data[len - 1] &&
	       memcmp(key.data, it->key.data, len) == 0;
}

static bool any_ranges(const struct kv_iter *it)
{
	return it->ranges && range_set_count(it->ranges);
}

/* The set, made when there is something to put into it. */
static int need_ranges(struct kv_iter *it)
{
	return it->ranges ? 0 : range_set_new(&it->ranges);
}

static int gather_memtable_ranges(struct kv_iter *it, struct memtable *m)
{
	int err;

	if (!memtable_has_ranges(m))
		return 0;
	err = need_ranges(it);
	return err ? err : memtable_ranges(m, it->lower, it->upper, it->ranges);
}

static int gather_table_ranges(struct kv_iter *it, struct table *t)
{
	const struct range_set *set = NULL;
	int err;

	if (!table_get_meta(t)->range_count)
		return 0;
	err = table_ranges(t, &set);
	if (err || !set)
		return err;
	err = need_ranges(it);
	return err ? err : range_set_add_set(it->ranges, set, it->lower, it->upper);
}

static int gather_ranges(struct kv_iter *it)
{
	struct view *v = it->view;
	int err;

	if (slice_compare(it->lower, it->upper) >= 0)
		return 0; /* nothing lies between the bounds */
	err = gather_memtable_ranges(it, v->active);
	for (unsigned i = 0; !err && i < v->frozen_count; i++)
		err = gather_memtable_ranges(it, v->frozen[i]);
	for (unsigned n = 0; !err && n < KV_LEVELS; n++) {
		const struct version_level *l = &v->version->level[n];

		for (size_t i = 0; !err && i < l->count; i++)
			err = gather_table_ranges(it, l->tables[i]);
	}
	return err;
}

struct sources {
	struct iter **list;
	size_t count;
	struct prefix_probe probe;
};

/* Add a source that skips what newer range deletes hide, if there are any. */
static int add_skipping(struct kv_iter *it, struct sources *s, struct iter *source, kv_seq seq_max)
{
	int err = 0;

	if (any_ranges(it) && seq_max < it->snapshot)
		err = skip_iter_new(source, it->ranges, seq_max, it->snapshot, &source);
	if (!err)
		s->list[s->count++] = source;
	return err;
}

static int add_memtable(struct kv_iter *it, struct sources *s, struct memtable *m)
{
	struct iter *source;
	int err;

	/* What the snapshot sees was added before it was taken. */
	if (!memtable_entries(m))
		return 0;
	err = memtable_iter_at(m, it->snapshot, &source);
	return err ? err : add_skipping(it, s, source, memtable_seq_max(m));
}

static int add_level(struct kv_iter *it, struct sources *s, const struct version_level *l)
{
	struct iter *source;
	kv_seq seq_max = 0;
	int err;

	if (!l->count || !prefix_probe_level(&s->probe, l))
		return 0;
	for (size_t i = 0; i < l->count; i++)
		seq_max = max_u64(seq_max, table_get_meta(l->tables[i])->seq_max);
	err = level_iter_new(l->tables, l->count, TABLE_ITER_READAHEAD, &source);
	return err ? err : add_skipping(it, s, source, seq_max);
}

static int add_sources(struct kv_iter *it, struct sources *s)
{
	struct view *v = it->view;
	const struct version_level *l0 = &v->version->level[0];
	struct iter *source;
	int err = 0;

	if (it->txn->writes) {
		err = writeset_iter_new(it->txn->writes, false, &s->list[s->count]);
		if (!err)
			s->count++;
	}
	if (!err)
		err = add_memtable(it, s, v->active);
	for (unsigned i = 0; !err && i < v->frozen_count; i++)
		err = add_memtable(it, s, v->frozen[i]);
	for (size_t i = 0; !err && i < l0->count; i++) {
		if (!prefix_probe_table(&s->probe, l0->tables[i]))
			continue;
		err = table_iter_new(l0->tables[i], TABLE_ITER_READAHEAD, &source);
		if (!err)
			err = add_skipping(it, s, source, table_get_meta(l0->tables[i])->seq_max);
	}
	for (unsigned n = 1; !err && n < KV_LEVELS; n++)
		err = add_level(it, s, &v->version->level[n]);
	return err;
}

static int open_sources(struct kv_iter *it)
{
	size_t max = 2 + VIEW_FROZEN_MAX + it->view->version->level[0].count + KV_LEVELS;
	struct iter *few[SOURCES_FEW];
	struct sources s = {.list = few};
	int err;

	if (max > SOURCES_FEW)
		s.list = malloc(max * sizeof(*s.list));
	if (!s.list)
		return -ENOMEM;
	prefix_probe_init(&s.probe, &it->txn->db->prefixes, it->lower, it->upper);
	err = add_sources(it, &s);
	if (err) {
		for (size_t i = 0; i < s.count; i++)
			iter_close(s.list[i]);
	} else {
		err = merge_iter_new(s.list, s.count, &it->merged);
	}
	if (s.list != few)
		free(s.list);
	return err;
}

/* An iterator with its bounds, of the transaction. */
static struct kv_iter *iter_make(struct kv_txn *txn, const struct db_iter_limits *b)
{
	struct kv_iter *it = malloc(sizeof(*it) + b->lower.len + b->upper.len);

	if (!it)
		return NULL;
	*it = (struct kv_iter){.txn = txn};
	memcpy(it->room, b->lower.data, b->lower.len);
	memcpy(it->room + b->lower.len, b->upper.data, b->upper.len);
	it->lower = kv_slice_of(it->room, b->lower.len);
	it->upper = kv_slice_of(it->room + b->lower.len, b->upper.len);
	it->upper_head = key_head(it->upper);
	txn->iterators++;
	return it;
}

static int open_any(struct kv_txn *txn, unsigned keyspace, const struct kv_range *range,
		    struct kv_iter **out)
{
	struct kv_iter *it;
	struct db_iter_limits b;
	int err;

	err = db_iter_limits(&b, keyspace, range);
	if (err)
		return err;
	it = iter_make(txn, &b);
	if (!it)
		return -ENOMEM;
	err = txn_begin_scan(txn, it->lower, it->upper, &it->snapshot);
	if (!err) {
		it->has_snapshot = !txn->has_snapshot;
		it->view = view_get(txn->db);
		err = gather_ranges(it);
	}
	if (!err)
		err = open_sources(it);
	if (err) {
		kv_iter_close(it);
		return err;
	}
	*out = it;
	return 0;
}

int kv_iter_open(struct kv_txn *txn, unsigned keyspace, const struct kv_range *range,
		 struct kv_iter **out)
{
	if (keyspace == KEYSPACE_SYSTEM || keyspace > KV_KEYSPACE_MAX)
		return -KV_E_INVALID;
	return open_any(txn, keyspace, range, out);
}

int db_iter_open_system(struct kv_txn *txn, char tag, struct kv_iter **out)
{
	const struct kv_range range = {.prefix = {(const uint8_t *)&tag, 1}};

	return open_any(txn, KEYSPACE_SYSTEM, &range, out);
}

void kv_iter_close(struct kv_iter *it)
{
	if (!it)
		return;
	iter_close(it->merged);
	range_set_free(it->ranges);
	view_unref(it->view);
	if (it->has_snapshot)
		snapshots_release(it->txn->db->snapshots, it->snapshot);
	kv_buf_free(&it->key);
	kv_buf_free(&it->copy);
	kv_buf_free(&it->large);
	it->txn->iterators--;
	free(it);
}

/* ---- visibility ------------------------------------------------------------------ */

static bool is_visible(const struct kv_iter *it, const struct entry *e)
{
	return e->seq <= it->snapshot || e->seq == KV_SEQ_MAX;
}

/* Is this version, the newest visible one of its key, a value that can be seen? */
static bool is_live(const struct kv_iter *it, const struct entry *e)
{
	const struct writeset *w = it->txn->writes;

	if (e->kind == ENTRY_DELETE)
		return false;
	if (e->seq == KV_SEQ_MAX)
		return true;
	if (w && range_set_count(writeset_ranges(w)) &&
	    range_set_covering(writeset_ranges(w), e->key, KV_SEQ_MAX))
		return false;
	return !any_ranges(it) || range_set_covering(it->ranges, e->key, it->snapshot) <= e->seq;
}

static int lost(struct kv_iter *it, int err)
{
	it->direction = AT_NONE;
	buf_clear(&it->key);
	return err;
}

/*
 * From where the merge stands, go on to the first key's version that can be seen.
 * Versions of it->key (empty: none) are passed over first.
 */
static int find_forward(struct kv_iter *it, int err)
{
	struct entry e;

	it->large_loaded = false;
	for (; !err; err = iter_next(it->merged)) {
		iter_entry(it->merged, &e);
		if (!before_upper(it, e.key))
			return lost(it, -KV_E_NOTFOUND);
		if (is_shown(it, e.key))
			continue;
		if (!is_visible(it, &e))
			continue;
		err = buf_assign(&it->key, e.key); /* its older versions are passed over */
		if (err)
			break;
		if (!is_live(it, &e))
			continue;
		COUNT(it->txn->db, iter_steps, 1);
		it->kind = e.kind;
		it->own = e.seq == KV_SEQ_MAX;
		it->value = e.value;
		it->direction = FORWARD;
		return 0;
	}
	return lost(it, err);
}

/*
 * The merge stands on the oldest version of some key: read all its versions, newest
 * last. Leaves the merge before them. @shown: whether the key can be seen.
 */
static int read_group_backward(struct kv_iter *it, int *moved, bool *shown)
{
	struct entry e;
	int err;

	*shown = false;
	iter_entry(it->merged, &e);
	err = buf_assign(&it->key, e.key);
	*moved = 0;
	while (!err && !*moved) {
		if (is_visible(it, &e)) {
			*shown = is_live(it, &e);
			it->kind = e.kind;
			it->own = e.seq == KV_SEQ_MAX;
			err = buf_assign(&it->copy, e.value);
		}
		if (err)
			break;
		*moved = iter_prev(it->merged);
		if (*moved && *moved != -KV_E_NOTFOUND)
			return *moved;
		if (!*moved) {
			iter_entry(it->merged, &e);
			if (!slice_equal(e.key, kv_buf_slice(&it->key)))
				break;
		}
	}
	return err;
}

static int find_backward(struct kv_iter *it, int err)
{
	struct entry e;
	bool shown;
	int moved;

	it->large_loaded = false;
	while (!err) {
		iter_entry(it->merged, &e);
		if (slice_compare(e.key, it->lower) < 0)
			return lost(it, -KV_E_NOTFOUND);
		err = read_group_backward(it, &moved, &shown);
		if (err)
			break;
		if (shown) {
			COUNT(it->txn->db, iter_steps, 1);
			it->value = kv_buf_slice(&it->copy);
			it->direction = BACKWARD;
			return 0;
		}
		err = moved;
	}
	return lost(it, err);
}

/* ---- movement -------------------------------------------------------------------- */

static int seek_forward(struct kv_iter *it, struct kv_slice ikey)
{
	struct kv_db *db = it->txn->db;
	uint64_t began = stats_begin(db, OS_STAT_iter_seeks, STATS_EVERY_ITER_SEEK);
	int err;

	COUNT(db, iter_seeks, 1);
	buf_clear(&it->key);
	err = find_forward(it, iter_seek(it->merged, ikey));
	stats_end(db, KV_HISTOGRAM_ITER_SEEK, began);
	return err;
}

static int seek_backward(struct kv_iter *it, struct kv_slice ikey)
{
	struct kv_db *db = it->txn->db;
	uint64_t began = stats_begin(db, OS_STAT_iter_seeks, STATS_EVERY_ITER_SEEK);
	int err;

	COUNT(db, iter_seeks, 1);
	err = find_backward(it, iter_seek_before(it->merged, ikey));
	stats_end(db, KV_HISTOGRAM_ITER_SEEK, began);
	return err;
}

int kv_iter_first(struct kv_iter *it)
{
	return seek_forward(it, it->lower);
}

int kv_iter_last(struct kv_iter *it)
{
	return seek_backward(it, it->upper);
}

/* The ikey of a key to seek, kept within the bounds. */
static struct kv_slice clamp(const struct kv_iter *it, struct kv_slice key, uint8_t *buf)
{
	struct kv_slice lower = it->lower;
	struct kv_slice upper = it->upper;
	struct kv_slice ikey = ikey_make(buf, ikey_keyspace(lower), key);

	if (slice_compare(ikey, lower) < 0)
		return lower;
	return slice_compare(ikey, upper) > 0 ? upper : ikey;
}

int kv_iter_seek(struct kv_iter *it, struct kv_slice key)
{
	uint8_t buf[IKEY_MAX];

	if (key.len > KV_KEY_MAX)
		return -KV_E_INVALID;
	return seek_forward(it, clamp(it, key, buf));
}

int kv_iter_seek_before(struct kv_iter *it, struct kv_slice key)
{
	uint8_t buf[IKEY_MAX];

	if (key.len > KV_KEY_MAX)
		return -KV_E_INVALID;
	return seek_backward(it, clamp(it, key, buf));
}

int kv_iter_next(struct kv_iter *it)
{
	if (it->direction == AT_NONE)
		return -KV_E_INVALID;
	if (it->direction == BACKWARD)
		return find_forward(it, iter_seek(it->merged, kv_buf_slice(&it->key)));
	return find_forward(it, iter_next(it->merged));
}

int kv_iter_prev(struct kv_iter *it)
{
	if (it->direction == AT_NONE)
		return -KV_E_INVALID;
	return find_backward(it, iter_seek_before(it->merged, kv_buf_slice(&it->key)));
}

/* ---- what it stands on --------------------------------------------------------------- */

bool kv_iter_valid(const struct kv_iter *it)
{
	return it->direction != AT_NONE;
}

struct kv_slice kv_iter_key(const struct kv_iter *it)
{
	if (it->direction == AT_NONE)
		return kv_slice_of(NULL, 0);
	return ikey_user(kv_buf_slice(&it->key));
}

/*
 * The transaction's own large values may lie in a segment younger than the
 * iterator's view; committed ones must be read through it, since compaction may
 * have moved them.
 */
static int load_large(struct kv_iter *it, struct value_part part, struct kv_buf *out)
{
	struct kv_db *db = it->txn->db;
	struct value_ref ref;
	struct view *v;
	int err;

	err = value_ref_decode(it->value, &ref);
	if (err || !it->own)
		return err ? err : values_get_part(db->values, it->view->version, &ref, part, out);
	v = view_get(db);
	err = values_get_part(db->values, v->version, &ref, part, out);
	view_unref(v);
	return err;
}

int kv_iter_value_part(struct kv_iter *it, const struct kv_part *part, struct kv_buf *value)
{
	if (it->direction == AT_NONE)
		return -KV_E_INVALID;
	if (it->kind == ENTRY_PUT)
		return txn_copy_part(it->value, part, value);
	return load_large(it, (struct value_part){part->off, part->len}, value);
}

int kv_iter_value(struct kv_iter *it, struct kv_slice *value)
{
	int err;

	if (it->direction == AT_NONE)
		return -KV_E_INVALID;
	if (it->kind == ENTRY_PUT) {
		*value = it->value;
		return 0;
	}
	if (!it->large_loaded) {
		err = load_large(it, (struct value_part){0, UINT64_MAX}, &it->large);
		if (err)
			return err;
		it->large_loaded = true;
	}
	*value = kv_buf_slice(&it->large);
	return 0;
}

size_t kv_iter_value_len(const struct kv_iter *it)
{
	struct value_ref ref;

	if (it->direction == AT_NONE)
		return 0;
	if (it->kind == ENTRY_PUT)
		return it->value.len;
	return value_ref_decode(it->value, &ref) ? 0 : (size_t)ref.raw_len;
}
