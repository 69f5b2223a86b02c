/* SPDX-License-Identifier: MIT */
/*
 * The list of a level is kept in memory until the level below it is written, so
 * that leaves lie in one run on the disk and a scan reads nothing else between
 * them. A level's pages are made in place: page n takes the list's slot n,
 * which its own children have left long before.
 */
#include "kvcore/table/table_index.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

/* However long the keys: four to the sixteenth leaves are more than a volume holds. */
#define FANOUT_MIN 4U

struct table_child {
	size_t key_off; /* in keys */
	uint32_t key_len;
	uint8_t tag;
	kv_seq seq;
	struct page_ref ref;
};

void table_index_fini(struct table_index *x)
{
	free(x->children);
	free(x->items);
	kv_buf_free(&x->keys);
	kv_buf_free(&x->refs);
	kv_buf_free(&x->raw);
	*x = (struct table_index){0};
}

int table_index_add(struct table_index *x, const struct table_separator *sep,
		    const struct page_ref *ref)
{
	struct table_child child = {x->keys.len, (uint32_t)sep->key.len, sep->tag, sep->seq, *ref};
	int err;

	if (x->count == x->cap) {
		size_t cap = x->cap > 0 ? 2 * x->cap : 64;
		struct table_child *children = realloc(x->children, cap * sizeof(*children));

		if (!children)
			return -ENOMEM;
		x->children = children;
		x->cap = cap;
	}
	err = buf_append_slice(&x->keys, sep->key);
	if (err)
		return err;
	x->children[x->count++] = child;
	return 0;
}

uint64_t table_index_size(const struct table_index *x)
{
	return x->keys.len + x->count * (PAGE_ITEM_OVERHEAD + PAGE_REF_DISK_MAX);
}

static struct kv_slice key_of(const struct table_index *x, const struct table_child *c)
{
	return kv_slice_of(x->keys.data + c->key_off, c->key_len);
}

/* How many children from @first go into one page. */
static size_t page_fill(const struct table_index *x, size_t first, uint32_t page_size)
{
	struct kv_slice first_key = key_of(x, &x->children[first]);
	size_t keys_len = 0, n = 0;

	while (first + n < x->count) {
		struct kv_slice key = key_of(x, &x->children[first + n]);
		size_t prefix_len = slice_common_prefix(first_key, key);
		size_t len;

		keys_len += key.len;
		n++;
		len = sizeof(struct page_header_disk) + keys_len - (n - 1) * prefix_len +
		      n * (PAGE_ITEM_OVERHEAD + PAGE_REF_DISK_MAX);
		if (len > page_size && n > FANOUT_MIN)
			return n - 1;
	}
	return n;
}

static int reserve_items(struct table_index *x, size_t n)
{
	struct page_item *items;

	if (n > x->item_cap) {
		items = realloc(x->items, n * sizeof(*items));
		if (!items)
			return -ENOMEM;
		x->items = items;
		x->item_cap = n;
	}
	/* What the items point to must not move while they are filled in. */
	buf_clear(&x->refs);
	return buf_reserve(&x->refs, n * PAGE_REF_DISK_MAX);
}

static int put_page(struct table_index *x, struct table_writer *w, uint32_t height, size_t first,
		    size_t n, struct page_ref *ref)
{
	int err;

	err = reserve_items(x, n);
	if (err)
		return err;
	for (size_t i = 0; i < n; i++) {
		const struct table_child *c = &x->children[first + i];
		uint8_t *out = x->refs.data + i * PAGE_REF_DISK_MAX;
		struct kv_slice payload = kv_slice_of(out, page_ref_encode(&c->ref, out));

		x->items[i] = (struct page_item){key_of(x, c), c->tag, c->seq, payload};
	}
	err = page_encode(PAGE_INNER, x->items, n, &x->raw);
	if (err)
		return err;
	return table_writer_put(w, kv_buf_slice(&x->raw), height, true, ref);
}

static int build_level(struct table_index *x, struct table_writer *w, uint32_t height,
		       uint32_t page_size)
{
	size_t pages = 0, n;
	int err;

	for (size_t first = 0; first < x->count; first += n) {
		struct table_child page = x->children[first]; /* the same separator */

		n = page_fill(x, first, page_size);
		err = put_page(x, w, height, first, n, &page.ref);
		if (err)
			return err;
		x->children[pages++] = page;
	}
	x->count = pages;
	return 0;
}

int table_index_build(struct table_index *x, struct table_writer *w, uint32_t page_size,
		      struct page_ref *root, uint32_t *height)
{
	uint32_t h = 1;
	int err;

	KV_ASSERT(x->count > 0);
	while (x->count > 1) {
		if (++h > TABLE_HEIGHT_MAX)
			return -KV_E_TOO_BIG;
		err = build_level(x, w, h, page_size);
		if (err)
			return err;
	}
	*root = x->children[0].ref;
	*height = h;
	return 0;
}
