/* SPDX-License-Identifier: MIT */
/* Answers to requests: the only place that turns results into errno and records into struct stat.
 */
#ifndef FUSEFS_REPLY_H
#define FUSEFS_REPLY_H

#include "fusefs/op.h"

#define REPLY_TIMEOUT_S (365U * 24 * 3600) /* how long the kernel believes an answer */

/* How long the kernel may believe these. */
static inline double reply_attr_timeout(const struct kvfs_attr *attr)
{
	return attr->staged ? 0 : (double)REPLY_TIMEOUT_S;
}

/*
 * Reply @err, 0 or negative.
 * @node: whom damage is reported for in the log; may be NULL
 */
void reply_result(fuse_req_t req, struct kvfs_node *node, int err);
/* Reply with the node of a name in @dir; the reference on it goes to the kernel, or is dropped if
 * the reply does not arrive. */
void reply_entry(fuse_req_t req, fuse_ino_t dir, struct kvfs_node *node,
		 const struct kvfs_attr *attr);
/* There is no such name, and the kernel may remember that. */
void reply_no_entry(fuse_req_t req);
/* True: the kernel did not take it. */
bool reply_create(fuse_req_t req, fuse_ino_t dir, struct kvfs_node *node,
		  const struct kvfs_attr *attr, const struct fuse_file_info *fi);
void reply_attr(fuse_req_t req, fuse_ino_t ino, const struct kvfs_attr *attr);
/* For what answers with a list of bytes or, if @size is 0, with its length; -ERANGE if too long. */
void reply_xattr(fuse_req_t req, const struct kv_buf *value, size_t size);
/* What readdirplus says of an entry of @dir. */
void reply_fill_entry(fuse_req_t req, fuse_ino_t dir, struct kvfs_node *node,
		      const struct kvfs_attr *attr, struct fuse_entry_param *out);
/* The inode number that users see of file @ino in the tree of @like. */
uint64_t reply_ino(const struct kvfsd *d, fuse_ino_t like, uint64_t ino);
/* Log damage with the path of @node, NULL if it is not known. Nothing for other errors. */
void reply_damage(struct kvfsd *d, struct kvfs_node *node, int err);
/* @like: any id of the tree that the file is in. */
void reply_stat(const struct kvfsd *d, fuse_ino_t like, const struct kvfs_attr *attr,
		struct stat *out);
/* kv_progress.report while the sender of @req waits: it ends when he is interrupted. */
int reply_interrupted(void *req, uint64_t done, uint64_t total);
/* errno for a result, positive, for what is not a reply. */
int reply_errno(int err);

#endif
