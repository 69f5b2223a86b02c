/* SPDX-License-Identifier: MIT */
/*
 * A set of disjoint extents, none adjacent to another, searchable by place and
 * by size in logarithmic time (two AVL trees through the same nodes; Adelson-Velsky
 * and Landis 1962). Thread safety: one thread at a time.
 */
#ifndef KVCORE_SPACE_SPACE_MAP_H
#define KVCORE_SPACE_SPACE_MAP_H

#include <stdbool.h>

#include "kvcore/format/entry.h"

struct space_node;

enum space_order { SPACE_BY_OFF, SPACE_BY_LEN, SPACE_ORDERS };

/* All zero is the empty set. */
struct space_map {
	struct space_node *root[SPACE_ORDERS];
	uint64_t bytes;
	uint64_t count;
};

void space_map_fini(struct space_map *m);
/* Add an extent that overlaps none (asserted); neighbours are joined. Return: 0, -ENOMEM. */
int space_map_add(struct space_map *m, struct extent e) KV_MUST_CHECK;
/* Take out an extent. Return: 0, -KV_E_NOTFOUND (not wholly in the set), -ENOMEM. */
int space_map_remove(struct space_map *m, struct extent e) KV_MUST_CHECK;
/* The smallest extent of at least @len bytes, of those the first by place. */
bool space_map_fit(const struct space_map *m, uint64_t len, struct extent *out);
/* The largest extent. */
bool space_map_largest(const struct space_map *m, struct extent *out);
/* The last extent by place. */
bool space_map_last(const struct space_map *m, struct extent *out);
/* Check every invariant; for tests. */
bool space_map_check(const struct space_map *m);

#endif
