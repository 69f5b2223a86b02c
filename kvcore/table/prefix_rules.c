/* SPDX-License-Identifier: MIT */
/*
 * Rules about prefixes: as they stand in a filter, what prefixes a key has, and which of them all
 * keys of a range share.
 */
#include "kvcore/table/prefix_rules.h"

#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/format/entry.h"

struct rule_disk {
	struct le16 keyspace;
	uint8_t kind; /* 0: no further rule */
	uint8_t arg;
};
static_assert(KV_PREFIX_RULES_MAX * sizeof(struct rule_disk) == PREFIX_RULES_DISK, "they fit");

static bool valid(const struct kv_prefix_rule *rule)
{
	return (rule->kind == KV_PREFIX_LENGTH && rule->arg) || rule->kind == KV_PREFIX_SEPARATOR;
}

int prefix_rules_init(struct prefix_rules *r, const struct kv_prefix_rule *rule, unsigned count)
{
	*r = (struct prefix_rules){.count = count};
	if (count > KV_PREFIX_RULES_MAX)
		return -KV_E_INVALID;
	for (unsigned i = 0; i < count; i++) {
		const struct rule_disk d = {le16_of(rule[i].keyspace), rule[i].kind, rule[i].arg};

		if (!valid(&rule[i]))
			return -KV_E_INVALID;
		r->rule[i] = rule[i];
		memcpy(r->disk + i * sizeof(d), &d, sizeof(d));
	}
	return 0;
}

int prefix_rules_decode(const uint8_t *disk, struct prefix_rules *r)
{
	struct kv_prefix_rule rule[KV_PREFIX_RULES_MAX];
	unsigned count = 0;

	for (; count < KV_PREFIX_RULES_MAX; count++) {
		struct rule_disk d;

		memcpy(&d, disk + count * sizeof(d), sizeof(d));
		if (!d.kind)
			break;
		rule[count] = (struct kv_prefix_rule){le16_get(d.keyspace), d.kind, d.arg};
	}
	/* What is behind the last rule must be zeros, which encoding it again tells. */
	if (prefix_rules_init(r, rule, count) || memcmp(r->disk, disk, PREFIX_RULES_DISK) != 0)
		return -KV_E_CORRUPT;
	return 0;
}

static unsigned keyspace_of(struct kv_slice ikey)
{
	return (unsigned)ikey.data[0] << 8 | ikey.data[1];
}

/* Length of the first prefix by the rule that is longer than @at; 0: none. */
static size_t next_length(const struct kv_prefix_rule *rule, struct kv_slice ikey, size_t at)
{
	size_t fixed = IKEY_PREFIX_LEN + rule->arg;
	const uint8_t *found;

	if (rule->kind == KV_PREFIX_LENGTH)
		return at < fixed && fixed <= ikey.len ? fixed : 0;
	at = max_u64(at, IKEY_PREFIX_LEN);
	if (at >= ikey.len)
		return 0;
	found = memchr(ikey.data + at, rule->arg, ikey.len - at);
	return found ? (size_t)(found - ikey.data) + 1 : 0;
}

bool prefix_rules_next(const struct prefix_rules *r, struct kv_slice ikey, size_t known,
		       struct prefix_state *state, struct kv_slice *out)
{
	for (; state->rule < r->count; state->rule++, state->at = 0) {
		const struct kv_prefix_rule *rule = &r->rule[state->rule];

		if (rule->keyspace != keyspace_of(ikey))
			continue;
		state->at = next_length(rule, ikey, max_u64(state->at, known));
		if (state->at) {
			*out = kv_slice_of(ikey.data, state->at);
			return true;
		}
	}
	return false;
}

/* What all keys of [lower, upper) begin with. */
static struct kv_slice common_to(struct kv_slice lower, struct kv_slice upper)
{
	size_t n = slice_common_prefix(lower, upper);

	/* Behind "ab" and before "ac" is only what begins with "ab". */
	if (n < lower.len && upper.len == n + 1 && upper.data[n] == lower.data[n] + 1)
		n++;
	return kv_slice_of(lower.data, n);
}

bool prefix_rules_of_range(const struct prefix_rules *r, struct kv_slice lower,
			   struct kv_slice upper, struct kv_slice *out)
{
	struct kv_slice common = common_to(lower, upper);
	struct prefix_state state = {0};
	struct kv_slice prefix;
	bool any = false;

	if (!r->count || common.len <= IKEY_PREFIX_LEN)
		return false;
	while (prefix_rules_next(r, common, 0, &state, &prefix)) {
		if (!any || prefix.len > out->len)
			*out = prefix;
		any = true;
	}
	return any;
}
