/* SPDX-License-Identifier: MIT */
/*
 * A tree of files as a sorted list of lines, one a name, with all that a reader can see of it:
 * attributes, extended attributes, contents. What cannot be read is marked, so that a damaged
 * volume can be compared with a sound one: a mark excuses the difference, a wrong byte is never
 * excused. Needs layer_model. Not thread-safe. Every failure but damage aborts the test.
 */
#ifndef TESTS_SUPPORT_TREE_PICTURE_H
#define TESTS_SUPPORT_TREE_PICTURE_H

#include <stdbool.h>

#include "fusefs/model/kvfs.h"

struct tree_item {
	char *path; /* from "/"; of a snapshot from "@NAME/" */
	char *line;
	uint64_t ino;
	bool lost; /* it, or what is in the directory, could not be read */
};

struct tree_picture {
	struct tree_item *items; /* by path */
	size_t count, cap;
};

/*
 * The tree as it is now, and those of the snapshots in @names, a list that ends with NULL; one that
 * cannot be opened is marked, one that is not there has no line.
 */
void tree_picture_take(struct kvfs *fs, const char *const *names, struct tree_picture *out);
void tree_picture_free(struct tree_picture *p);

enum tree_match { TREE_EQUAL, TREE_MARKED, TREE_OTHER };
/*
 * EQUAL, MARKED (but for what is marked as lost), or OTHER.
 * @excused (may be NULL): differences of this item, of @want or, if it is not there, of @have, do
 * not count but make it MARKED
 * @first: receives the path of the first difference that counts; may be NULL
 */
enum tree_match tree_picture_compare(const struct tree_picture *have,
				     const struct tree_picture *want,
				     bool (*excused)(void *ctx, const struct tree_item *item),
				     void *ctx, const char **first);
/* The item of this path, or NULL. */
const struct tree_item *tree_picture_find(const struct tree_picture *p, const char *path);

#endif
