/* SPDX-License-Identifier: MIT */
/*
 * Bounded reading of untrusted bytes. Being bad is sticky: the position moves
 * to the end, so that no later read can succeed and loops that run while bytes
 * are left come to an end.
 */
#include "kvcore/base/cursor.h"

#include <string.h>

#include "kvcore/base/bytes.h"
#include "kvcore/base/varint.h"

static bool cursor_take(struct cursor *c, void *out, size_t len)
{
	if (c->bad || cursor_left(c) < len) {
		c->bad = true;
		c->pos = c->end;
		return false;
	}
	memcpy(out, c->pos, len);
	c->pos += len;
	return true;
}

uint8_t cursor_u8(struct cursor *c)
{
	uint8_t v = 0;

	cursor_take(c, &v, sizeof(v));
	return v;
}

uint16_t cursor_le16(struct cursor *c)
{
	struct le16 v = {{0}};

	cursor_take(c, &v, sizeof(v));
	return le16_get(v);
}

uint32_t cursor_le32(struct cursor *c)
{
	struct le32 v = {{0}};

	cursor_take(c, &v, sizeof(v));
	return le32_get(v);
}

uint64_t cursor_le64(struct cursor *c)
{
	struct le64 v = {{0}};

	cursor_take(c, &v, sizeof(v));
	return le64_get(v);
}

uint64_t cursor_varint(struct cursor *c)
{
	uint64_t v = 0;
	const uint8_t *next = c->bad ? NULL : varint_get(c->pos, c->end, &v);

	if (!next) {
		c->bad = true;
		c->pos = c->end;
		return 0;
	}
	c->pos = next;
	return v;
}

struct kv_slice cursor_bytes(struct cursor *c, uint64_t len)
{
	struct kv_slice s;

	if (c->bad || cursor_left(c) < len) {
		c->bad = true;
		c->pos = c->end;
		return kv_slice_of(NULL, 0);
	}
	s = kv_slice_of(c->pos, (size_t)len);
	if (len)
		c->pos += len;
	return s;
}

struct kv_slice cursor_lenslice(struct cursor *c)
{
	uint64_t len = cursor_varint(c);

	return cursor_bytes(c, len);
}

int cursor_finish(const struct cursor *c)
{
	return c->bad || c->pos != c->end ? -KV_E_CORRUPT : 0;
}
