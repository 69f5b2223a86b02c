/* SPDX-License-Identifier: MIT */
/* What a scan selects and how it is printed; shared by its two ways to get at the keys. */
#ifndef CLI_SCAN_H
#define CLI_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "fusefs/cli/target.h"
#include "fusefs/cli/text.h"

struct scan {
	struct target t;
	struct text_names names;
	struct kv_slice prefix, from, to; /* keys as users write them; empty: none */
	bool values;
	uint64_t limit; /* keys still to print */
};

/* Bytes compared in the order of paths, in which '/' is before all others. */
int scan_compare(struct kv_slice a, struct kv_slice b);

/* Print the key; the caller prints the value and ends the line. */
void scan_print_key(struct scan *s, struct kv_slice key);
void scan_end_line(struct scan *s);

/* Walk a mount. Return: 0, or an error about @s->t. */
int scan_mounted(struct scan *s) KV_MUST_CHECK;

#endif
