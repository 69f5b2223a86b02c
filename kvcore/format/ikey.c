/* SPDX-License-Identifier: MIT */
/*
 * Internal keys, declared in entry.h. The keyspace stands first and big-endian,
 * so that plain byte order keeps each keyspace's keys together and in order. A
 * keyspace's end is the next one's number with an empty key, hence 65535 and
 * empty keys are allowed here though no user can store under them.
 */
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/format/entry.h"

struct kv_slice ikey_make(uint8_t *out, unsigned keyspace, struct kv_slice key)
{
	KV_ASSERT(keyspace <= UINT16_MAX && key.len <= KV_KEY_MAX);
	be16_put(out, (uint16_t)keyspace);
	if (key.len)
		memcpy(out + IKEY_PREFIX_LEN, key.data, key.len);
	return kv_slice_of(out, IKEY_PREFIX_LEN + key.len);
}
