/* SPDX-License-Identifier: MIT */
/* A conversation with the daemon of a mount: fusefs/model/channel_format.h. One thread. */
#ifndef CLI_CHANNEL_H
#define CLI_CHANNEL_H

#include "fusefs/cli/target.h"
#include "fusefs/model/channel_format.h"

struct channel {
	int fd;
	struct kvfs_channel piece;
};

/* Return: 0, -errno: -EXDEV as control_open(), -EPERM, -EACCES. */
int channel_open(const struct target *t, struct channel *out) KV_MUST_CHECK;
void channel_close(struct channel *c);
/* Put words, up to a NULL, and run them. Return: 0, a code of libkvfs, -errno. */
int channel_ask(struct channel *c, const char *const *words) KV_MUST_CHECK;
/* Bytes put after the request was run, for what takes them. */
int channel_put(struct channel *c, struct kv_slice data) KV_MUST_CHECK;
/* The next piece of the answer, borrowed until the next call; empty at its end. */
int channel_get(struct channel *c, struct kv_slice *out) KV_MUST_CHECK;

#endif
