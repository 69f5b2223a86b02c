/* SPDX-License-Identifier: MIT */
/*
 * Which prefixes of keys a filter knows besides whole keys, so that a scan of one
 * directory passes over tables that hold nothing of it (prefix Bloom filters, as RocksDB
 * and LevelDB-based file systems have them). The rules stand in each filter: a reader uses those of
 * a filter only if they are its own, and a verifier needs no others.
 *
 * Keys are in order, so those with a common prefix lie together, and a prefix is new exactly if it
 * is longer than what a key has in common with the one before.
 *
 * Thread safety: rules are constant; any thread.
 */
#ifndef KVCORE_TABLE_PREFIX_RULES_H
#define KVCORE_TABLE_PREFIX_RULES_H

#include <stdbool.h>

#include "kvcore/format/format.h"
#include "kvcore/kvcore.h"

#define PREFIX_RULES_DISK 56U /* bytes in a filter's header, 4 a rule */

struct prefix_rules {
	uint8_t disk[PREFIX_RULES_DISK]; /* as they stand in a filter; zeros: none */
	unsigned count;
	struct kv_prefix_rule rule[KV_PREFIX_RULES_MAX];
};

/* Return: 0, -KV_E_INVALID (too many, an unknown kind, no length). */
int prefix_rules_init(struct prefix_rules *r, const struct kv_prefix_rule *rule, unsigned count)
	KV_MUST_CHECK;
/* @disk: PREFIX_RULES_DISK bytes. Return: 0, -KV_E_CORRUPT. */
int prefix_rules_decode(const uint8_t *disk, struct prefix_rules *r) KV_MUST_CHECK;

/*
 * Prefixes of an ikey, from short to long for each rule. @state: zeros at first. Those up to
 * @known bytes are left out. Return: false: there are no more.
 */
struct prefix_state {
	unsigned rule;
	size_t at;
};
bool prefix_rules_next(const struct prefix_rules *r, struct kv_slice ikey, size_t known,
		       struct prefix_state *state, struct kv_slice *out);

/*
 * The longest prefix that all keys of [lower, upper) have and that the rules know.
 * Return: false: there is none.
 */
bool prefix_rules_of_range(const struct prefix_rules *r, struct kv_slice lower,
			   struct kv_slice upper, struct kv_slice *out);

#endif
