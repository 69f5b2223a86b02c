/* SPDX-License-Identifier: MIT */
/* Lines of a listing. */
#ifndef CLI_LIST_H
#define CLI_LIST_H

#include <stdbool.h>
#include <sys/stat.h>

#include "fusefs/cli/text.h"

struct list {
	struct text_names names;
	bool is_long;
};

/* @st and the symlink's @target matter for a long listing only. */
void list_print(const struct list *l, const char *name, const struct stat *st,
		struct kv_slice target);

#endif
