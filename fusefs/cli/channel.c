/* SPDX-License-Identifier: MIT */
/*
 * What is more than a file can say is asked by ioctl(2), in pieces, on a descriptor of
 * .kvfs/channel that nobody else has.
 */
#include "fusefs/cli/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "fusefs/cli/control.h"
#include "kvcore/base/base.h"

int channel_open(const struct target *t, struct channel *out)
{
	int fd = control_open(t, "channel", O_RDONLY);

	if (fd < 0)
		return fd == -ENOENT ? -EXDEV : fd;
	out->fd = fd;
	return 0;
}

static int ask(struct channel *c, enum kvfs_channel_op op)
{
	c->piece.op = op;
	c->piece.status = 0;
	while (ioctl(c->fd, KVFS_IOC_CHANNEL, &c->piece) < 0)
		if (errno != EINTR)
			return -errno;
	return c->piece.status;
}

void channel_close(struct channel *c)
{
	c->piece.len = 0;
	(void)ask(c, KVFS_CHANNEL_END);
	(void)close(c->fd);
}

int channel_put(struct channel *c, struct kv_slice data)
{
	int err = 0;

	while (!err && data.len) {
		c->piece.len = (uint32_t)min_u64(data.len, sizeof(c->piece.data));
		memcpy(c->piece.data, data.data, c->piece.len);
		data = kv_slice_of(data.data + c->piece.len, data.len - c->piece.len);
		err = ask(c, KVFS_CHANNEL_PUT);
	}
	return err;
}

int channel_ask(struct channel *c, const char *const *words)
{
	int err = 0;

	for (; !err && *words; words++)
		err = channel_put(c, kv_slice_of(*words, strlen(*words) + 1));
	c->piece.len = 0;
	return err ? err : ask(c, KVFS_CHANNEL_RUN);
}

int channel_get(struct channel *c, struct kv_slice *out)
{
	int err;

	c->piece.len = 0;
	err = ask(c, KVFS_CHANNEL_GET);
	if (err)
		return err;
	if (c->piece.len > sizeof(c->piece.data))
		return -EBADMSG;
	*out = kv_slice_of(c->piece.data, c->piece.len);
	return 0;
}
