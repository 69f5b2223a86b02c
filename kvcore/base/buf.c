/* SPDX-License-Identifier: MIT */
/*
 * Growable owned bytes. Growth at least doubles, so appending n bytes costs
 * O(n) in all. Every function that fails leaves the content as it was, which
 * is why room for all parts is reserved before the first of them is written.
 */
#include "kvcore/base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/prefault.h"
#include "kvcore/base/varint.h"

#define BUF_CAP_MIN 64U

void kv_buf_free(struct kv_buf *buf)
{
	free(buf->data);
	*buf = (struct kv_buf){0};
}

int buf_reserve(struct kv_buf *buf, size_t more)
{
	size_t need, cap;
	uint8_t *data;

	if (more <= buf->cap - buf->len)
		return 0;
	if (more > PTRDIFF_MAX - buf->len)
		return -ENOMEM;
	need = buf->len + more;
	cap = buf->cap > PTRDIFF_MAX / 2 ? PTRDIFF_MAX : buf->cap * 2;
	if (cap < need)
		cap = need;
	if (cap < BUF_CAP_MIN)
		cap = BUF_CAP_MIN;
	data = realloc(buf->data, cap);
	if (!data)
		return -ENOMEM;
	prefault(data + buf->len, cap - buf->len);
	buf->data = data;
	buf->cap = cap;
	return 0;
}

int buf_append(struct kv_buf *buf, const void *data, size_t len)
{
	int err = buf_reserve(buf, len);

	if (err)
		return err;
	if (len)
		memcpy(buf->data + buf->len, data, len);
	buf->len += len;
	return 0;
}

int buf_append_slice(struct kv_buf *buf, struct kv_slice s)
{
	return buf_append(buf, s.data, s.len);
}

int buf_append_byte(struct kv_buf *buf, uint8_t byte)
{
	return buf_append(buf, &byte, 1);
}

int buf_append_zeros(struct kv_buf *buf, size_t len)
{
	int err = buf_reserve(buf, len);

	if (err)
		return err;
	if (len)
		memset(buf->data + buf->len, 0, len);
	buf->len += len;
	return 0;
}

int buf_append_varint(struct kv_buf *buf, uint64_t v)
{
	int err = buf_reserve(buf, VARINT_MAX_BYTES);

	if (err)
		return err;
	buf->len += varint_put(buf->data + buf->len, v);
	return 0;
}

int buf_append_lenslice(struct kv_buf *buf, struct kv_slice s)
{
	int err;

	if (s.len > PTRDIFF_MAX - VARINT_MAX_BYTES)
		return -ENOMEM;
	err = buf_reserve(buf, VARINT_MAX_BYTES + s.len);
	if (err)
		return err;
	buf->len += varint_put(buf->data + buf->len, s.len);
	if (s.len)
		memcpy(buf->data + buf->len, s.data, s.len);
	buf->len += s.len;
	return 0;
}

int buf_assign(struct kv_buf *buf, struct kv_slice s)
{
	int err;

	if (s.len > buf->len) {
		err = buf_reserve(buf, s.len - buf->len);
		if (err)
			return err;
	}
	if (s.len)
		memmove(buf->data, s.data, s.len);
	buf->len = s.len;
	return 0;
}

int buf_resize(struct kv_buf *buf, size_t len)
{
	if (len > buf->len)
		return buf_append_zeros(buf, len - buf->len);
	buf->len = len;
	return 0;
}

int buf_printf(struct kv_buf *buf, const char *fmt, ...)
{
	va_list args;
	int len, err;

	va_start(args, fmt);
	len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (len < 0)
		return -ENOMEM;
	err = buf_reserve(buf, (size_t)len + 1);
	if (err)
		return err;
	va_start(args, fmt);
	vsnprintf((char *)buf->data + buf->len, (size_t)len + 1, fmt, args);
	va_end(args);
	buf->len += (size_t)len;
	return 0;
}

int buf_append_escaped(struct kv_buf *buf, struct kv_slice s)
{
	static const char digits[] = "0123456789abcdef";
	int err;

	if (s.len > PTRDIFF_MAX / 4)
		return -ENOMEM;
	err = buf_reserve(buf, s.len * 4);
	if (err)
		return err;
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = s.data[i];
		uint8_t *out = buf->data + buf->len;

		if (c >= 0x20 && c < 0x7f && c != '\\') {
			out[0] = c;
			buf->len += 1;
			continue;
		}
		out[0] = '\\';
		out[1] = 'x';
		out[2] = (uint8_t)digits[c >> 4];
		out[3] = (uint8_t)digits[c & 15];
		buf->len += 4;
	}
	return 0;
}
