/* SPDX-License-Identifier: MIT */
/*
 * References to large values, declared in entry.h: four varints and the checksum
 * of the stored bytes. Limits are checked here once, so that whoever follows a
 * reference can add its fields without overflow.
 */
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/varint.h"
#include "kvcore/format/entry.h"

static bool value_ref_valid(const struct value_ref *ref)
{
	return ref->segment_id && ref->raw_len <= KV_VALUE_MAX &&
	       ref->stored_len > value_index_len(ref->raw_len) &&
	       ref->stored_len <= value_stored_max(ref->raw_len) &&
	       ref->off <= INT64_MAX - ref->stored_len;
}

size_t value_ref_encode(const struct value_ref *ref, uint8_t *out)
{
	size_t n = 0;

	KV_ASSERT(value_ref_valid(ref));
	n += varint_put(out + n, ref->segment_id);
	n += varint_put(out + n, ref->off);
	n += varint_put(out + n, ref->stored_len);
	n += varint_put(out + n, ref->raw_len);
	memcpy(out + n, ref->sum, CHECKSUM_LEN);
	return n + CHECKSUM_LEN;
}

int value_ref_decode(struct kv_slice in, struct value_ref *out)
{
	struct cursor c = cursor_of(in);
	struct value_ref ref;
	struct kv_slice sum;
	int err;

	ref.segment_id = cursor_varint(&c);
	ref.off = cursor_varint(&c);
	ref.stored_len = cursor_varint(&c);
	ref.raw_len = cursor_varint(&c);
	sum = cursor_bytes(&c, CHECKSUM_LEN);
	err = cursor_finish(&c);
	if (err)
		return err;
	memcpy(ref.sum, sum.data, CHECKSUM_LEN);
	if (!value_ref_valid(&ref))
		return -KV_E_CORRUPT;
	*out = ref;
	return 0;
}
