/* SPDX-License-Identifier: MIT */
/* One table within the manifest; for manifest.c. */
#ifndef KVCORE_FORMAT_TABLE_META_H
#define KVCORE_FORMAT_TABLE_META_H

#include "kvcore/format/manifest.h"

/* No table's encoding is shorter, which bounds how many a manifest can hold. */
#define TABLE_META_ENCODED_MIN 42U

/* An extent in units of FORMAT_BLOCK, two varints. */
int table_meta_extent_append(struct kv_buf *out, struct extent e) KV_MUST_CHECK;
/* Marks the cursor bad if the extent is empty or reaches beyond INT64_MAX. */
struct extent table_meta_extent_read(struct cursor *c);

int table_meta_encode(const struct table_meta *m, struct kv_buf *out) KV_MUST_CHECK;
/* Into an uninitialised @out. Return: 0, -KV_E_CORRUPT, -ENOMEM; @out is then untouched. */
int table_meta_decode(struct cursor *c, struct table_meta *out) KV_MUST_CHECK;
/* Whether the fields can be those of a table, looked at alone. */
bool table_meta_valid(const struct table_meta *m);

#endif
