/* SPDX-License-Identifier: MIT */
/*
 * Bounded reading of untrusted bytes. A failed read marks the cursor bad and
 * every later read fails too, so a decoder may read several fields and ask
 * once. Nothing is ever read outside the slice.
 */
#ifndef KVCORE_BASE_CURSOR_H
#define KVCORE_BASE_CURSOR_H

#include <stdbool.h>

#include "kvcore/kv_types.h"

struct cursor {
	const uint8_t *pos;
	const uint8_t *end;
	bool bad;
};

static inline struct cursor cursor_of(struct kv_slice s)
{
	/* Not even 0 may be added to a null pointer. */
	return (struct cursor){s.data, s.len ? s.data + s.len : s.data, false};
}

static inline size_t cursor_left(const struct cursor *c)
{
	return (size_t)(c->end - c->pos);
}

/* Each returns 0 / an empty slice when the cursor is or becomes bad. */
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_le16(struct cursor *c);
uint32_t cursor_le32(struct cursor *c);
uint64_t cursor_le64(struct cursor *c);
uint64_t cursor_varint(struct cursor *c);
struct kv_slice cursor_bytes(struct cursor *c, uint64_t len);
/* varint length, then the bytes. */
struct kv_slice cursor_lenslice(struct cursor *c);
/* 0 if everything was read and no read failed, else -KV_E_CORRUPT. */
int cursor_finish(const struct cursor *c) KV_MUST_CHECK;

#endif
