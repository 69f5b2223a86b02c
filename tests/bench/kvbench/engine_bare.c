/* SPDX-License-Identifier: MIT */
/*
 * No engine: a synced put is a 4 KiB overwrite of a preallocated file and an
 * fdatasync, which is what the disk can do at best. Other work it refuses.
 */
#include "tests/bench/kvbench/engine.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK  4096U
#define BLOCKS 4096U

struct bare_db {
	int fd;
	uint64_t next; /* each session writes blocks of its own */
};

struct bare_session {
	struct bare_db *db;
	uint64_t block;
	uint8_t data[BLOCK];
};

static void bare_describe(const struct engine_settings *s, char *out, size_t out_len)
{
	(void)s;
	snprintf(out, out_len, "4 KiB pwrite over a preallocated file of 16 MiB and fdatasync");
}

static int bare_open(const struct engine_settings *s, void **out)
{
	struct bare_db *db = calloc(1, sizeof(*db));
	uint8_t *block = calloc(1, BLOCK);
	char path[512];

	if (!db || !block)
		return -1;
	snprintf(path, sizeof(path), "%s/file", s->dir);
	db->fd = open(path, O_RDWR | O_CREAT, 0644);
	for (unsigned i = 0; db->fd >= 0 && i < BLOCKS; i++) {
		if (pwrite(db->fd, block, BLOCK, (off_t)i * BLOCK) != (ssize_t)BLOCK)
			return -1;
	}
	free(block);
	if (db->fd < 0 || fsync(db->fd))
		return -1;
	*out = db;
	return 0;
}

static int bare_close(void *handle)
{
	struct bare_db *db = handle;
	int err = close(db->fd);

	free(db);
	return err;
}

static int bare_session_open(void *handle, void **out)
{
	struct bare_session *s = calloc(1, sizeof(*s));

	if (!s)
		return -1;
	s->db = handle;
	s->block = s->db->next++ * 61;
	*out = s;
	return 0;
}

static void bare_session_close(void *handle)
{
	free(handle);
}

static int bare_put(void *handle, struct bytes key, struct bytes value)
{
	struct bare_session *s = handle;
	off_t off = (off_t)(s->block++ % BLOCKS) * BLOCK;

	memcpy(s->data, key.data, key.len);
	memcpy(s->data + key.len, value.data,
	       value.len < BLOCK - key.len ? value.len : BLOCK - key.len);
	if (pwrite(s->db->fd, s->data, BLOCK, off) != (ssize_t)BLOCK)
		return -1;
	return fdatasync(s->db->fd);
}

const struct engine engine_bare = {
	.name = "bare",
	.describe = bare_describe,
	.open = bare_open,
	.close = bare_close,
	.session_open = bare_session_open,
	.session_close = bare_session_close,
	.put = bare_put,
};
