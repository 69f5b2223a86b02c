/* SPDX-License-Identifier: MIT */
/*
 * Prefixes of borrowed bytes, declared in base.h, where the comparisons are that every
 * search needs. An empty slice may have a null pointer, which memcmp() must not see.
 */
#include "kvcore/base/base.h"

#include <string.h>

bool slice_has_prefix(struct kv_slice s, struct kv_slice prefix)
{
	return s.len >= prefix.len && (!prefix.len || !memcmp(s.data, prefix.data, prefix.len));
}

size_t slice_common_prefix(struct kv_slice a, struct kv_slice b)
{
	size_t limit = a.len < b.len ? a.len : b.len;
	size_t n = 0;

	while (limit - n >= sizeof(uint64_t)) {
		if (memcmp(a.data + n, b.data + n, sizeof(uint64_t)))
			break;
		n += sizeof(uint64_t);
	}
	while (n < limit && a.data[n] == b.data[n])
		n++;
	return n;
}
