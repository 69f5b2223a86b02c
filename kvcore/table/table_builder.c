/* SPDX-License-Identifier: MIT */
/*
 * Building a table: entries gather until they fill a leaf, leaves go out one
 * behind the other, then the inner levels, the filter and the range deletes.
 * A leaf is full when its encoded form, with the prefix that its keys share
 * taken out, reaches the page size; one entry always fits. The separator of
 * two leaves is the shortest key that divides them or, if versions of one key
 * go on from one to the next, that key and the first seq of the second.
 */
#include "kvcore/table/table.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/hash.h"
#include "kvcore/table/filter.h"
#include "kvcore/table/range_page.h"
#include "kvcore/table/table_index.h"
#include "kvcore/table/table_read.h"

/* The page size is a wish; within this a page cannot outgrow PAGE_RAW_MAX. */
#define PAGE_SIZE_MIN 1024U
#define PAGE_SIZE_MAX (128U * 1024)
/* Inner pages are larger than small leaves: fewer levels, each a step of every lookup. */
#define INNER_SIZE 16384U

/* An entry of the leaf in the making; its key and value lie behind each other in bytes. */
struct pending {
	size_t off;
	uint32_t key_len;
	uint32_t value_len;
	kv_seq seq;
	uint8_t kind;
};

struct table_builder {
	struct table_writer writer;
	uint32_t page_size;
	int err; /* sticky */

	/* The leaf in the making. */
	struct pending *pending;
	struct page_item *items; /* the same for page_encode() */
	size_t pending_count;
	size_t pending_cap;
	struct kv_buf bytes;
	size_t prefix_len; /* common to all keys */
	struct kv_buf raw;
	struct kv_buf sep_key; /* divides the leaf from the one before */
	uint8_t sep_tag;
	kv_seq sep_seq;

	struct table_index index;
	struct kv_buf last_key; /* of the last leaf written */
	kv_seq last_seq;
	uint64_t *hashes; /* of distinct keys and prefixes */
	size_t hash_count;
	size_t hash_cap;
	struct table_meta meta; /* what is counted as entries come */
};

static void builder_free(struct table_builder *b)
{
	table_writer_fini(&b->writer);
	table_index_fini(&b->index);
	table_meta_fini(&b->meta);
	free(b->pending);
	free(b->items);
	free(b->hashes);
	kv_buf_free(&b->bytes);
	kv_buf_free(&b->raw);
	kv_buf_free(&b->sep_key);
	kv_buf_free(&b->last_key);
	free(b);
}

int table_builder_new(const struct table_env *env, uint64_t id, enum space_class class, bool warm,
		      struct table_builder **out)
{
	struct table_builder *b = calloc(1, sizeof(*b));
	int err;

	if (!b)
		return -ENOMEM;
	b->writer.env = env;
	b->writer.id = id;
	b->writer.class = class;
	b->writer.warm = warm;
	b->page_size = (uint32_t)max_u64(PAGE_SIZE_MIN, min_u64(env->page_size, PAGE_SIZE_MAX));
	b->meta.id = id;
	b->meta.seq_min = KV_SEQ_MAX;
	err = table_writer_init(&b->writer);
	if (err) {
		free(b);
		return err;
	}
	*out = b;
	return 0;
}

void table_builder_abandon(struct table_builder *b)
{
	if (!b)
		return;
	table_writer_discard(&b->writer);
	builder_free(b);
}

/* ---- leaves ---------------------------------------------------------------- */

static struct kv_slice pending_key(const struct table_builder *b, const struct pending *p)
{
	return kv_slice_of(b->bytes.data + p->off, p->key_len);
}

/* The last key added. */
static struct kv_slice last_key(const struct table_builder *b)
{
	if (b->pending_count > 0)
		return pending_key(b, &b->pending[b->pending_count - 1]);
	return kv_buf_slice(&b->last_key);
}

static size_t leaf_len(size_t count, size_t bytes_len, size_t prefix_len)
{
	return sizeof(struct page_header_disk) + bytes_len + count * PAGE_ITEM_OVERHEAD -
	       (count - 1) * prefix_len;
}

static int flush_leaf(struct table_builder *b)
{
	struct table_separator sep = {kv_buf_slice(&b->sep_key), b->sep_tag, b->sep_seq};
	struct page_ref ref;
	int err;

	for (size_t i = 0; i < b->pending_count; i++) {
		const struct pending *p = &b->pending[i];
		const uint8_t *value = b->bytes.data + p->off + p->key_len;

		b->items[i] = (struct page_item){pending_key(b, p), p->kind, p->seq,
						 kv_slice_of(value, p->value_len)};
	}
	err = page_encode(PAGE_LEAF, b->items, b->pending_count, &b->raw);
	if (err)
		return err;
	err = table_writer_put(&b->writer, kv_buf_slice(&b->raw), 1, true, &ref);
	if (err)
		return err;
	err = table_index_add(&b->index, &sep, &ref);
	if (err)
		return err;
	err = buf_assign(&b->last_key, last_key(b));
	if (err)
		return err;
	b->pending_count = 0;
	buf_clear(&b->bytes);
	return 0;
}

/* The first entry of a leaf decides what divides it from the one before. */
static int begin_leaf(struct table_builder *b, const struct entry *e)
{
	struct kv_slice sep = e->key;
	bool first = b->index.count == 0;
	bool same = !first && slice_equal(last_key(b), e->key);

	if (!first && !same)
		sep.len = slice_common_prefix(last_key(b), e->key) + 1;
	b->sep_tag = same ? PAGE_SEP_HAS_SEQ : 0;
	b->sep_seq = same ? e->seq : 0;
	b->prefix_len = e->key.len;
	return buf_assign(&b->sep_key, sep);
}

/* Room for one more entry. */
static int reserve_pending(struct table_builder *b)
{
	size_t cap = b->pending_cap > 0 ? 2 * b->pending_cap : 64;
	struct pending *pending;
	struct page_item *items;

	if (b->pending_count < b->pending_cap)
		return 0;
	pending = realloc(b->pending, cap * sizeof(*pending));
	if (!pending)
		return -ENOMEM;
	b->pending = pending;
	items = realloc(b->items, cap * sizeof(*items));
	if (!items)
		return -ENOMEM;
	b->items = items;
	b->pending_cap = cap;
	return 0;
}

static int add_pending(struct table_builder *b, const struct entry *e)
{
	struct pending p = {b->bytes.len, (uint32_t)e->key.len, (uint32_t)e->value.len, e->seq,
			    (uint8_t)e->kind};
	int err;

	err = reserve_pending(b);
	if (err)
		return err;
	err = buf_append_slice(&b->bytes, e->key);
	if (err)
		return err;
	err = buf_append_slice(&b->bytes, e->value);
	if (err)
		return err;
	b->pending[b->pending_count++] = p;
	return 0;
}

static int add_to_leaf(struct table_builder *b, const struct entry *e)
{
	size_t count = b->pending_count + 1;
	size_t bytes_len = b->bytes.len + e->key.len + e->value.len;
	size_t prefix_len;
	int err;

	if (b->pending_count > 0) {
		prefix_len = min_u64(b->prefix_len, slice_common_prefix(last_key(b), e->key));
		if (leaf_len(count, bytes_len, prefix_len) <= b->page_size) {
			b->prefix_len = prefix_len;
			return add_pending(b, e);
		}
		err = flush_leaf(b);
		if (err)
			return err;
	}
	err = begin_leaf(b, e);
	if (err)
		return err;
	return add_pending(b, e);
}

/* ---- entries --------------------------------------------------------------- */

static int add_hash(struct table_builder *b, struct kv_slice key)
{
	if (b->hash_count == b->hash_cap) {
		size_t cap = b->hash_cap > 0 ? 2 * b->hash_cap : 1024;
		uint64_t *hashes = realloc(b->hashes, cap * sizeof(*hashes));

		if (!hashes)
			return -ENOMEM;
		b->hashes = hashes;
		b->hash_cap = cap;
	}
	b->hashes[b->hash_count++] = hash_bytes(key, 0);
	return 0;
}

/* The key, and those of its prefixes that the key before does not have. */
static int add_hashes(struct table_builder *b, struct kv_slice key)
{
	const struct prefix_rules *rules = b->writer.env->prefixes;
	struct prefix_state state = {0};
	struct kv_slice prefix;
	size_t known = 0;
	int err = add_hash(b, key);

	if (!rules || !rules->count)
		return err;
	if (b->meta.entry_count > 0)
		known = slice_common_prefix(last_key(b), key);
	while (!err && prefix_rules_next(rules, key, known, &state, &prefix))
		err = add_hash(b, prefix);
	return err;
}

/* @old: a newer version of the key is in the table */
static int count_entry(struct table_meta *m, const struct entry *e, bool old)
{
	uint64_t bytes = e->key.len + e->value.len;
	struct value_ref ref;
	int err;

	if (e->kind == ENTRY_PUT_REF) {
		err = value_ref_decode(e->value, &ref);
		if (err)
			return err;
		m->ref_bytes += ref.stored_len;
		m->old_bytes += old ? ref.stored_len : 0;
	}
	m->entry_count++;
	m->delete_count += e->kind == ENTRY_DELETE;
	m->raw_bytes += bytes;
	m->old_bytes += old ? bytes : 0;
	m->seq_min = min_u64(m->seq_min, e->seq);
	m->seq_max = max_u64(m->seq_max, e->seq);
	return 0;
}

static int add_entry(struct table_builder *b, const struct entry *e)
{
	int order = -1, err = 0;

	KV_ASSERT(e->key.len >= IKEY_PREFIX_LEN && e->key.len <= IKEY_MAX);
	KV_ASSERT(e->value.len <= VALUE_INLINE_MAX && e->kind <= ENTRY_PUT_REF);
	if (b->meta.entry_count > 0)
		order = slice_compare(last_key(b), e->key);
	else
		err = buf_assign(&b->meta.smallest, e->key);
	if (err)
		return err;
	if (order > 0 || (order == 0 && b->last_seq <= e->seq))
		return -KV_E_CORRUPT; /* what is merged came from a forged or faulty table */
	if (order < 0 && b->writer.env->bloom_bits_per_key > 0) {
		err = add_hashes(b, e->key);
		if (err)
			return err;
	}
	err = add_to_leaf(b, e);
	if (err)
		return err;
	b->last_seq = e->seq;
	return count_entry(&b->meta, e, order == 0);
}

int table_builder_add(struct table_builder *b, const struct entry *e)
{
	if (!b->err)
		b->err = add_entry(b, e);
	return b->err;
}

uint64_t table_builder_size(const struct table_builder *b)
{
	uint64_t size = b->writer.off + table_index_size(&b->index);

	if (b->pending_count > 0)
		size += leaf_len(b->pending_count, b->bytes.len, b->prefix_len);
	if (b->hash_count > 0)
		size += filter_size(b->hash_count, b->writer.env->bloom_bits_per_key);
	return size;
}

uint64_t table_builder_entries(const struct table_builder *b)
{
	return b->meta.entry_count;
}

/* ---- finishing ------------------------------------------------------------- */

static int put_tree(struct table_builder *b)
{
	uint64_t inner_size = max_u64(b->page_size, min_u64(4ULL * b->page_size, INNER_SIZE));
	int err;

	if (b->meta.entry_count == 0)
		return 0;
	err = flush_leaf(b);
	if (err)
		return err;
	err = table_index_build(&b->index, &b->writer, (uint32_t)inner_size, &b->meta.root,
				&b->meta.height);
	if (err)
		return err;
	return buf_assign(&b->meta.largest, kv_buf_slice(&b->last_key));
}

static int put_filter(struct table_builder *b)
{
	int err;

	if (b->hash_count == 0)
		return 0;
	err = filter_build(b->hashes, b->hash_count, b->writer.env->bloom_bits_per_key,
			   b->writer.env->prefixes, FILTER_RAW_MAX, &b->raw);
	if (err)
		return err;
	/* Its bits are random: compressing them would only cost time. */
	return table_writer_put(&b->writer, kv_buf_slice(&b->raw), TABLE_HEIGHT_FILTER, false,
				&b->meta.filter);
}

/* The table's bounds take in the range deletes. */
static int widen(struct table_meta *m, const struct range_set *ranges)
{
	size_t count = range_set_count(ranges);
	struct kv_slice from = range_set_at(ranges, 0).from;
	struct kv_slice to = range_set_at(ranges, count - 1).to;
	int err;

	if (m->entry_count == 0 || slice_compare(from, kv_buf_slice(&m->smallest)) < 0) {
		err = buf_assign(&m->smallest, from);
		if (err)
			return err;
	}
	if (m->entry_count == 0 || slice_compare(to, kv_buf_slice(&m->largest)) > 0) {
		err = buf_assign(&m->largest, to);
		if (err)
			return err;
		m->largest_exclusive = true;
	}
	for (size_t i = 0; i < count; i++) {
		struct range_fragment f = range_set_at(ranges, i);

		m->seq_max = max_u64(m->seq_max, f.seqs[0]);
		m->seq_min = min_u64(m->seq_min, f.seqs[f.seq_count - 1]);
	}
	m->range_count = count;
	return 0;
}

static int put_ranges(struct table_builder *b, const struct range_set *ranges)
{
	int err;

	if (!ranges || range_set_count(ranges) == 0)
		return 0;
	err = range_page_encode(ranges, &b->raw);
	if (err)
		return err;
	if (b->raw.len > FILTER_RAW_MAX)
		return -KV_E_TOO_BIG;
	err = table_writer_put(&b->writer, kv_buf_slice(&b->raw), TABLE_HEIGHT_RANGES, true,
			       &b->meta.ranges);
	if (err)
		return err;
	return widen(&b->meta, ranges);
}

static int finish(struct table_builder *b, const struct range_set *ranges)
{
	int err;

	if (b->err)
		return b->err;
	err = put_tree(b);
	if (err)
		return err;
	err = put_filter(b);
	if (err)
		return err;
	err = put_ranges(b, ranges);
	if (err)
		return err;
	if (b->writer.off == 0)
		return -KV_E_INVALID; /* nothing was added */
	err = table_writer_finish(&b->writer);
	if (err)
		return err;
	b->meta.extents = malloc(b->writer.extent_count * sizeof(*b->meta.extents));
	if (!b->meta.extents)
		return -ENOMEM;
	for (uint32_t i = 0; i < b->writer.extent_count; i++)
		b->meta.extents[i] = b->writer.extents[i];
	b->meta.extent_count = b->writer.extent_count;
	b->meta.stored_bytes = b->writer.off;
	return 0;
}

int table_builder_finish(struct table_builder *b, const struct range_set *ranges, uint32_t level,
			 struct table_meta *out)
{
	int err;

	err = finish(b, ranges);
	if (err) {
		table_builder_abandon(b);
		return err;
	}
	b->meta.level = level;
	*out = b->meta;
	b->meta = (struct table_meta){0}; /* ownership moved to the caller */
	builder_free(b);
	return 0;
}
