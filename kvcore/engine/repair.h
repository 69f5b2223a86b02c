/* SPDX-License-Identifier: MIT */
/*
 * A repair in progress: what it builds and the machinery it builds it with.
 * Private to repair*.c. Thread safety: one thread per object.
 */
#ifndef KVCORE_ENGINE_REPAIR_H
#define KVCORE_ENGINE_REPAIR_H

#include "kvcore/engine/verify.h"
#include "kvcore/engine/version.h"

#define REPAIR_BLOOM_BITS 10U /* bits a key of new filters, as in an open database */

struct repair {
	struct verify *v;
	struct space *space;
	struct table_env tables;
	struct versions *versions;
	struct version *version;
	struct table_meta *add; /* new tables; at most one for each old one */
	size_t add_count;
	uint64_t *remove; /* ids of the tables they replace */
	size_t remove_count;
	size_t lost_next; /* index in v->lost */
};

/*
 * Write what is whole of a table into a new one and note both in @r. What its
 * entries refer to is added to v->live. Return: 0, -KV_E_NOSPACE, -KV_E_INTERRUPTED, ...
 */
int repair_table(struct repair *r, size_t index) KV_MUST_CHECK;

#endif
