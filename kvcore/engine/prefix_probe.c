/* SPDX-License-Identifier: MIT */
/*
 * The question to filters whether a scan needs a table or a level at all.
 */
#include "kvcore/engine/prefix_probe.h"

#include "kvcore/base/base.h"
#include "kvcore/base/hash.h"
#include "kvcore/engine/level_iter.h"

void prefix_probe_init(struct prefix_probe *p, const struct prefix_rules *rules,
		       struct kv_slice lower, struct kv_slice upper)
{
	struct kv_slice prefix;

	*p = (struct prefix_probe){.lower = lower, .upper = upper};
	p->any = prefix_rules_of_range(rules, lower, upper, &prefix);
	if (p->any)
		p->hash = hash_bytes(prefix, 0);
}

bool prefix_probe_table(const struct prefix_probe *p, struct table *t)
{
	return !p->any || table_admits_prefix(t, p->hash);
}

bool prefix_probe_level(const struct prefix_probe *p, const struct version_level *l)
{
	if (!p->any)
		return true;
	for (size_t i = level_find(l->tables, l->count, p->lower); i < l->count; i++) {
		struct kv_slice first = kv_buf_slice(&table_get_meta(l->tables[i])->smallest);

		if (slice_compare(first, p->upper) >= 0)
			return false;
		if (table_admits_prefix(l->tables[i], p->hash))
			return true;
	}
	return false;
}
