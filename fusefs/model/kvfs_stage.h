/* SPDX-License-Identifier: MIT */
/*
 * An open file as a transaction.
 *
 * Between opening a stage and committing it, what is written through it is seen through it alone;
 * the commit makes all of it the file's contents at one instant, whatever its size, and a crash
 * before leaves nothing of it. What is committed is the changes, over what the file has become by
 * then: if it was cut to nothing first, they are the whole contents, and of two such stages the
 * last commit wins; a stage that only appended appends, at the end that the file has then. After a
 * commit the stage goes on with the next transaction.
 *
 * A change that fails for want of space or memory spoils the transaction: every later call but
 * kvfs_stage_close() returns its error, until kvfs_stage_set_size(0).
 *
 * A name that is moved or linked takes what is staged for its file along: it is committed before.
 *
 * Thread safety: any thread. Memory: 16 bytes for each range that was written.
 */
#ifndef KVFS_KVFS_STAGE_H
#define KVFS_KVFS_STAGE_H

#include "fusefs/model/kvfs.h"

#ifdef __cplusplus
extern "C" {
#endif

struct kvfs_stage;
/* The stage keeps a reference to the node. -EISDIR, -EINVAL. */
KV_API int kvfs_stage_open(struct kvfs *fs, struct kvfs_node *node, struct kvfs_stage **out)
	KV_MUST_CHECK;
/*
 * A new file, which others do not see before the first commit, although it can be looked up:
 * kvfs_attr.unborn is set until then. @dir has no entry of that name. Errors: of kvfs_mknod().
 */
KV_API int kvfs_stage_create(struct kvfs *fs, struct kvfs_node *dir, const char *name,
			     uint32_t mode, const struct kvfs_owner *owner, struct kvfs_node **out,
			     struct kvfs_attr *attr, struct kvfs_stage **stage) KV_MUST_CHECK;
/* The attributes as the writer sees them. */
KV_API int kvfs_stage_attr(struct kvfs_stage *stage, struct kvfs_attr *out) KV_MUST_CHECK;
/* As kvfs_read(), kvfs_write(), kvfs_fallocate(), kvfs_copy_range(). @append: at the end. */
KV_API int kvfs_stage_read(struct kvfs_stage *stage, uint64_t off, size_t len, struct kv_buf *out)
	KV_MUST_CHECK;
KV_API int kvfs_stage_write(struct kvfs_stage *stage, uint64_t off, struct kv_slice data,
			    bool append) KV_MUST_CHECK;
KV_API int kvfs_stage_set_size(struct kvfs_stage *stage, uint64_t size) KV_MUST_CHECK;
KV_API int kvfs_stage_fallocate(struct kvfs_stage *stage, int mode, uint64_t off, uint64_t len)
	KV_MUST_CHECK;
KV_API int kvfs_stage_copy_range(struct kvfs_stage *stage, struct kvfs_node *from,
				 uint64_t from_off, uint64_t to_off, uint64_t len, uint64_t *copied)
	KV_MUST_CHECK;
/* @sync: durable on return. After an error nothing has changed, and it may be tried again. */
KV_API int kvfs_stage_commit(struct kvfs_stage *stage, bool sync) KV_MUST_CHECK;
/* Drops what was not committed; NULL is allowed. A file that was never committed goes with its last
 * reference. */
KV_API void kvfs_stage_close(struct kvfs_stage *stage);

/* So that it can be used while another thread closes it; calls return -EBADF from then on. */
KV_API void kvfs_stage_ref(struct kvfs_stage *stage);
KV_API void kvfs_stage_unref(struct kvfs_stage *stage); /* NULL is allowed */

/* What directories say about the files in and below them, the nearest one first: "close" or
 * "write". */
#define KVFS_STAGE_XATTR "user.kvfs.txn"
/* Whether they say that opening @node for writing should be kvfs_stage_open(). */
KV_API int kvfs_stage_wanted(struct kvfs *fs, struct kvfs_node *node, bool *out) KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
