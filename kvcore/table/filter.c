/* SPDX-License-Identifier: MIT */
/*
 * The upper half of a hash chooses the block, by multiplication instead of
 * division (Lemire, Fast Random Integer Generation in an Interval, 2019). The lower half
 * is multiplied by a constant for each probe, of which the top nine bits count.
 */
#include "kvcore/table/filter.h"

#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/hash.h"

#define PROBE_MULTIPLIER 0x9e3779b9U /* 2^32 divided by the golden ratio */
#define BLOCK_BITS	 (FILTER_BLOCK * 8U)

static size_t block_off(uint64_t hash, uint32_t blocks)
{
	return FILTER_BLOCK * (size_t)(1 + ((hash >> 32) * blocks >> 32));
}

/* The optimum is 0.69 of the bits; a blocked filter is as good with less. */
static uint8_t probes_for(unsigned bits_per_key)
{
	unsigned probes = bits_per_key * 6 / 10;

	return (uint8_t)max_u64(1, min_u64(probes, FILTER_PROBES_MAX));
}

uint64_t filter_size(uint64_t count, unsigned bits_per_key)
{
	return FILTER_BLOCK * (1 + (count * bits_per_key + BLOCK_BITS - 1) / BLOCK_BITS);
}

int filter_build(const uint64_t *hashes, size_t count, unsigned bits_per_key,
		 const struct prefix_rules *rules, size_t raw_max, struct kv_buf *out)
{
	uint64_t len =
		min_u64(filter_size(count, bits_per_key), align_down_u64(raw_max, FILTER_BLOCK));
	struct filter_header_disk h = {.type = PAGE_FILTER, .probes = probes_for(bits_per_key)};
	uint32_t blocks = (uint32_t)(len / FILTER_BLOCK - 1);
	int err;

	KV_ASSERT(count > 0 && bits_per_key > 0 && blocks > 0);
	buf_clear(out);
	err = buf_resize(out, (size_t)len);
	if (err)
		return err;
	h.blocks = le32_of(blocks);
	if (rules)
		memcpy(h.prefixes, rules->disk, sizeof(h.prefixes));
	memcpy(out->data, &h, sizeof(h));
	for (size_t i = 0; i < count; i++) {
		uint8_t *block = out->data + block_off(hashes[i], blocks);
		uint32_t probe = (uint32_t)hashes[i];

		for (unsigned k = 0; k < h.probes; k++) {
			uint32_t bit = probe >> 23;

			block[bit / 8] |= (uint8_t)(1U << bit % 8);
			probe *= PROBE_MULTIPLIER;
		}
	}
	return 0;
}

int filter_validate(const uint8_t *data, size_t len)
{
	static const struct filter_header_disk zero;
	struct filter_header_disk h;
	struct prefix_rules rules;

	if (len < 2 * FILTER_BLOCK)
		return -KV_E_CORRUPT;
	memcpy(&h, data, sizeof(h));
	if (h.type != PAGE_FILTER || h.probes < 1 || h.probes > FILTER_PROBES_MAX)
		return -KV_E_CORRUPT;
	if (memcmp(h.zero0, zero.zero0, sizeof(h.zero0)) != 0 ||
	    prefix_rules_decode(h.prefixes, &rules))
		return -KV_E_CORRUPT;
	if (len % FILTER_BLOCK != 0 || le32_get(h.blocks) != len / FILTER_BLOCK - 1)
		return -KV_E_CORRUPT;
	return 0;
}

bool filter_admits(const uint8_t *data, uint64_t hash)
{
	struct filter_header_disk h;
	const uint8_t *block;
	uint32_t probe = (uint32_t)hash;

	memcpy(&h, data, 8); /* what is needed of it */
	block = data + block_off(hash, le32_get(h.blocks));
	for (unsigned k = 0; k < h.probes; k++) {
		uint32_t bit = probe >> 23;

		if (!(block[bit / 8] >> bit % 8 & 1))
			return false;
		probe *= PROBE_MULTIPLIER;
	}
	return true;
}

bool filter_admits_key(const uint8_t *data, struct kv_slice ikey)
{
	bool admits = filter_admits(data, hash_bytes(ikey, 0));
	struct prefix_state state = {0};
	struct prefix_rules rules;
	struct kv_slice prefix;

	if (prefix_rules_decode(data + offsetof(struct filter_header_disk, prefixes), &rules))
		return false; /* not a validated page */
	while (admits && prefix_rules_next(&rules, ikey, 0, &state, &prefix))
		admits = filter_admits(data, hash_bytes(prefix, 0));
	return admits;
}

bool filter_has_rules(const uint8_t *data, const struct prefix_rules *rules)
{
	return memcmp(data + offsetof(struct filter_header_disk, prefixes), rules->disk,
		      sizeof(rules->disk)) == 0;
}
