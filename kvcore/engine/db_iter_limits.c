/* SPDX-License-Identifier: MIT */
/*
 * What the bounds of an iterator are as ikeys: a keyspace, a prefix, a lower and an upper
 * bound meet in one interval. It is made in the caller's memory, since most of them are a
 * few bytes long and an iterator keeps a copy.
 */
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/txn.h"

/* First ikey behind all that begin with @prefix: its last byte that can be raised is. */
static struct kv_slice prefix_end(struct kv_slice prefix, uint8_t *out)
{
	size_t n = prefix.len;

	while (n && prefix.data[n - 1] == 0xff)
		n--;
	KV_ASSERT(n); /* the keyspace's bytes are never both 0xff */
	memcpy(out, prefix.data, n);
	out[n - 1]++;
	return kv_slice_of(out, n);
}

int db_iter_limits(struct db_iter_limits *b, unsigned keyspace, const struct kv_range *range)
{
	static const struct kv_range whole;

	uint8_t buf[IKEY_MAX];
	struct kv_slice bound;

	if (!range)
		range = &whole;
	if (range->lower.len > KV_KEY_MAX || range->upper.len > KV_KEY_MAX ||
	    range->prefix.len > KV_KEY_MAX)
		return -KV_E_INVALID;
	b->lower = ikey_make(b->lower_buf, keyspace, range->prefix);
	b->upper = prefix_end(b->lower, b->upper_buf);
	if (range->lower.len) {
		bound = ikey_make(buf, keyspace, range->lower);
		if (slice_compare(bound, b->lower) > 0)
			b->lower = ikey_make(b->lower_buf, keyspace, range->lower);
	}
	if (range->upper.len) {
		bound = ikey_make(buf, keyspace, range->upper);
		if (slice_compare(bound, b->upper) < 0)
			b->upper = ikey_make(b->upper_buf, keyspace, range->upper);
	}
	return 0;
}

int db_iter_bounds(unsigned keyspace, const struct kv_range *range, struct kv_buf *lower,
		   struct kv_buf *upper)
{
	struct db_iter_limits b;
	int err = db_iter_limits(&b, keyspace, range);

	if (!err)
		err = buf_assign(lower, b.lower);
	return err ? err : buf_assign(upper, b.upper);
}
