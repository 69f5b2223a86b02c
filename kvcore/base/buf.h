/* SPDX-License-Identifier: MIT */
/*
 * Growable owned bytes (struct kv_buf). Thread safety: one thread per buffer.
 * Functions that may allocate return 0 or -ENOMEM and leave the buffer as it was.
 */
#ifndef KVCORE_BASE_BUF_H
#define KVCORE_BASE_BUF_H

#include "kvcore/kv_types.h"

/* Make room for @more bytes after the present ones; capacity at least doubles. */
int buf_reserve(struct kv_buf *buf, size_t more) KV_MUST_CHECK;
int buf_append(struct kv_buf *buf, const void *data, size_t len) KV_MUST_CHECK;
int buf_append_slice(struct kv_buf *buf, struct kv_slice s) KV_MUST_CHECK;
int buf_append_byte(struct kv_buf *buf, uint8_t byte) KV_MUST_CHECK;
int buf_append_zeros(struct kv_buf *buf, size_t len) KV_MUST_CHECK;
/* LEB128, 1 to 10 bytes. */
int buf_append_varint(struct kv_buf *buf, uint64_t v) KV_MUST_CHECK;
/* varint length, then the bytes. */
int buf_append_lenslice(struct kv_buf *buf, struct kv_slice s) KV_MUST_CHECK;
/* Replace the content. */
int buf_assign(struct kv_buf *buf, struct kv_slice s) KV_MUST_CHECK;
/* New length, grown with zeros or cut. */
int buf_resize(struct kv_buf *buf, size_t len) KV_MUST_CHECK;
static inline void buf_clear(struct kv_buf *buf)
{
	buf->len = 0;
}
/* printf at the end; no NUL is counted, but one follows the content. */
int buf_printf(struct kv_buf *buf, const char *fmt, ...) KV_PRINTF(2, 3) KV_MUST_CHECK;
/* Append with everything outside printable ASCII, and the backslash, as \xNN. */
int buf_append_escaped(struct kv_buf *buf, struct kv_slice s) KV_MUST_CHECK;

#endif
