/* SPDX-License-Identifier: MIT */
/* Bytes between descriptors. All stop with -KV_E_INTERRUPTED once a signal was caught. */
#ifndef CLI_IO_H
#define CLI_IO_H

#include "kvcore/kv_types.h"

int io_write_all(int fd, struct kv_slice data) KV_MUST_CHECK;
/* Up to @len bytes, fewer at the end. Return: their number, or -errno. */
long io_read_full(int fd, void *to, size_t len) KV_MUST_CHECK;
/* All that is left in @from. */
int io_copy(int from, int to) KV_MUST_CHECK;
/* All that is left in @from, at most @max bytes. -KV_E_TOO_BIG. @out: freed by the caller. */
int io_read_all(int from, size_t max, struct kv_buf *out) KV_MUST_CHECK;

#endif
