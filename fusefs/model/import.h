/* SPDX-License-Identifier: MIT */
/* State of a bulk load, shared by import.c (the tree) and import_file.c (one file). */
#ifndef KVFS_IMPORT_H
#define KVFS_IMPORT_H

#include "fusefs/model/edit.h"

#define IMPORT_BATCH_BYTES (1024U * 1024) /* of a batch, at most */

struct import_dir;
struct import_link;

struct import {
	struct kvfs *fs;
	struct kv_batch *batch;
	uint64_t bytes;	    /* in the batch */
	uint64_t bytes_max; /* at which it is written: what a small log can carry */
	uint64_t done;	    /* entries */
	uint64_t partial;   /* file whose chunks were put before its record; 0: none */
	const struct kv_progress *progress;
	struct kv_buf path; /* of the host, for messages */
	struct import_dir **stack;
	size_t depth;
	bool displaced;
	uint32_t root_dirs;   /* made in the root directory */
	struct kv_buf xattrs; /* of the present entry */
	struct kv_buf data;
	struct kv_buf names; /* of the host's attributes */
	/* Files with several names: an open hash by device and inode. */
	struct import_link *links;
	size_t link_cap, link_count;
};

struct import_root {
	struct edit e;
	struct inode attr;
	uint32_t dirs;
};

void import_free(struct import *im);
/* Write what is in the batch, and report. */
int import_flush(struct import *im) KV_MUST_CHECK;
int import_put(struct import *im, const struct model_key *key, struct kv_slice value) KV_MUST_CHECK;
int import_put_record(struct import *im, const struct model_key *key, const struct inode *r)
	KV_MUST_CHECK;
/* Owner, mode and times. */
void import_attr(const struct stat *st, struct inode *out);
/* Attributes of the open file @fd, or of the host path @path; those in the record are left in
 * im->xattrs, which @r borrows. */
int import_xattrs(struct import *im, int fd, const char *path, struct inode *r) KV_MUST_CHECK;
/* Anything but a directory. */
int import_file(struct import *im, int dir_fd, const char *name, const struct stat *st,
		const struct model_key *key) KV_MUST_CHECK;

#endif
