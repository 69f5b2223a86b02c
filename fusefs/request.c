/* SPDX-License-Identifier: MIT */
/*
 * Whether a request is as long as it says, before libfuse, which does not ask, reads it.
 *
 * A request is a header, a structure of fixed size, names that end in NUL, and bytes whose
 * number the structure tells. So a table says it all. Sizes are those of the protocol that
 * libfuse 3.14 agrees on with the kernel: a setxattr has the short form.
 */
#include "fusefs/request.h"

#include <linux/fuse.h>
#include <stdint.h>
#include <string.h>

#define STATX_IN_SIZE 24U
#define INIT_IN_SIZE  16U /* what every version sends */

struct shape {
	uint8_t fixed; /* bytes of the structure */
	uint8_t names;
	uint8_t count_at; /* where in the structure a 32-bit count of what follows is */
	uint8_t unit;	  /* bytes each; 0: nothing follows */
};

/* clang-format off */
static const struct shape shapes[] = {
	[FUSE_LOOKUP] = {.names = 1},
	[FUSE_FORGET] = {sizeof(struct fuse_forget_in), 0, 0, 0},
	[FUSE_GETATTR] = {sizeof(struct fuse_getattr_in), 0, 0, 0},
	[FUSE_SETATTR] = {sizeof(struct fuse_setattr_in), 0, 0, 0},
	[FUSE_SYMLINK] = {.names = 2},
	[FUSE_MKNOD] = {sizeof(struct fuse_mknod_in), 1, 0, 0},
	[FUSE_MKDIR] = {sizeof(struct fuse_mkdir_in), 1, 0, 0},
	[FUSE_UNLINK] = {.names = 1},
	[FUSE_RMDIR] = {.names = 1},
	[FUSE_RENAME] = {sizeof(struct fuse_rename_in), 2, 0, 0},
	[FUSE_LINK] = {sizeof(struct fuse_link_in), 1, 0, 0},
	[FUSE_OPEN] = {sizeof(struct fuse_open_in), 0, 0, 0},
	[FUSE_READ] = {sizeof(struct fuse_read_in), 0, 0, 0},
	[FUSE_WRITE] = {sizeof(struct fuse_write_in), 0, offsetof(struct fuse_write_in, size), 1},
	[FUSE_RELEASE] = {sizeof(struct fuse_release_in), 0, 0, 0},
	[FUSE_FSYNC] = {sizeof(struct fuse_fsync_in), 0, 0, 0},
	[FUSE_SETXATTR] = {FUSE_COMPAT_SETXATTR_IN_SIZE, 1, offsetof(struct fuse_setxattr_in, size), 1},
	[FUSE_GETXATTR] = {sizeof(struct fuse_getxattr_in), 1, 0, 0},
	[FUSE_LISTXATTR] = {sizeof(struct fuse_getxattr_in), 0, 0, 0},
	[FUSE_REMOVEXATTR] = {.names = 1},
	[FUSE_FLUSH] = {sizeof(struct fuse_flush_in), 0, 0, 0},
	[FUSE_INIT] = {INIT_IN_SIZE, 0, 0, 0},
	[FUSE_OPENDIR] = {sizeof(struct fuse_open_in), 0, 0, 0},
	[FUSE_READDIR] = {sizeof(struct fuse_read_in), 0, 0, 0},
	[FUSE_RELEASEDIR] = {sizeof(struct fuse_release_in), 0, 0, 0},
	[FUSE_FSYNCDIR] = {sizeof(struct fuse_fsync_in), 0, 0, 0},
	[FUSE_GETLK] = {sizeof(struct fuse_lk_in), 0, 0, 0},
	[FUSE_SETLK] = {sizeof(struct fuse_lk_in), 0, 0, 0},
	[FUSE_SETLKW] = {sizeof(struct fuse_lk_in), 0, 0, 0},
	[FUSE_ACCESS] = {sizeof(struct fuse_access_in), 0, 0, 0},
	[FUSE_CREATE] = {sizeof(struct fuse_create_in), 1, 0, 0},
	[FUSE_INTERRUPT] = {sizeof(struct fuse_interrupt_in), 0, 0, 0},
	[FUSE_BMAP] = {sizeof(struct fuse_bmap_in), 0, 0, 0},
	[FUSE_IOCTL] = {sizeof(struct fuse_ioctl_in), 0, offsetof(struct fuse_ioctl_in, in_size), 1},
	[FUSE_POLL] = {sizeof(struct fuse_poll_in), 0, 0, 0},
	[FUSE_NOTIFY_REPLY] = {sizeof(struct fuse_notify_retrieve_in), 0,
			       offsetof(struct fuse_notify_retrieve_in, size), 1},
	[FUSE_BATCH_FORGET] = {sizeof(struct fuse_batch_forget_in), 0,
			       offsetof(struct fuse_batch_forget_in, count),
			       sizeof(struct fuse_forget_one)},
	[FUSE_FALLOCATE] = {sizeof(struct fuse_fallocate_in), 0, 0, 0},
	[FUSE_READDIRPLUS] = {sizeof(struct fuse_read_in), 0, 0, 0},
	[FUSE_RENAME2] = {sizeof(struct fuse_rename2_in), 2, 0, 0},
	[FUSE_LSEEK] = {sizeof(struct fuse_lseek_in), 0, 0, 0},
	[FUSE_COPY_FILE_RANGE] = {sizeof(struct fuse_copy_file_range_in), 0, 0, 0},
	[REQUEST_TMPFILE] = {sizeof(struct fuse_create_in), 1, 0, 0},
	[REQUEST_STATX] = {STATX_IN_SIZE, 0, 0, 0},
};
/* clang-format on */

bool request_is_whole(const void *request, size_t len)
{
	const struct shape *shape;
	struct fuse_in_header head;
	const char *at, *end;
	uint32_t count = 0;

	memcpy(&head, request, sizeof(head));
	if (head.len != len)
		return false;
	if (head.opcode >= KV_ARRAY_COUNT(shapes))
		return true;
	shape = &shapes[head.opcode];
	at = (const char *)request + sizeof(head);
	if (len - sizeof(head) < shape->fixed)
		return false;
	if (shape->unit)
		memcpy(&count, at + shape->count_at, sizeof(count));
	at += shape->fixed;
	for (unsigned i = 0; i < shape->names; i++) {
		end = memchr(at, 0, len - (size_t)(at - (const char *)request));
		if (!end)
			return false;
		at = end + 1;
	}
	return (uint64_t)count * shape->unit <= len - (size_t)(at - (const char *)request);
}
