/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing to the end, whatever pieces the kernel gives. Pieces of
 * 1 MiB, because that is the largest request that a mount carries.
 */
#include "fusefs/cli/io.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "fusefs/cli/message.h"
#include "kvcore/base/buf.h"

#define PIECE ((size_t)1024 * 1024)

int io_write_all(int fd, struct kv_slice data)
{
	while (data.len) {
		ssize_t n = write(fd, data.data, data.len < PIECE ? data.len : PIECE);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (message_interrupted())
			return -KV_E_INTERRUPTED;
		if (n > 0)
			data = kv_slice_of(data.data + n, data.len - (size_t)n);
	}
	return 0;
}

long io_read_full(int fd, void *to, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(fd, (char *)to + done, len - done);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (message_interrupted())
			return -KV_E_INTERRUPTED;
		if (!n)
			break;
		if (n > 0)
			done += (size_t)n;
	}
	return (long)done;
}

int io_copy(int from, int to)
{
	uint8_t *piece = malloc(PIECE);
	int err = piece ? 0 : -ENOMEM;
	long n = 1;

	while (!err && n) {
		n = io_read_full(from, piece, PIECE);
		err = n < 0 ? (int)n : io_write_all(to, kv_slice_of(piece, (size_t)n));
	}
	free(piece);
	return err;
}

int io_read_all(int from, size_t max, struct kv_buf *out)
{
	long n = 1;
	int err = 0;

	while (!err && n) {
		err = buf_reserve(out, PIECE);
		if (err)
			break;
		n = io_read_full(from, out->data + out->len, PIECE);
		if (n < 0)
			err = (int)n;
		else if ((size_t)n > max - out->len)
			err = -KV_E_TOO_BIG;
		else
			out->len += (size_t)n;
	}
	if (err)
		kv_buf_free(out);
	return err;
}
