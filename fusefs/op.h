/* SPDX-License-Identifier: MIT */
/*
 * The operations that libfuse calls, and what they share. Each handler replies
 * exactly once. They run on any thread, several at once.
 *
 * The kernel's node id is the file id, with the tree that it is looked at in
 * (tree.h); a request for a node that is gone can only find nothing. Which table
 * answers a request is decided in dispatch.c alone.
 */
#ifndef FUSEFS_OP_H
#define FUSEFS_OP_H

#define FUSE_USE_VERSION 312

#include <fuse_lowlevel.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "fusefs/control_dir.h"
#include "fusefs/direct.h"
#include "fusefs/handle.h"
#include "fusefs/keeper.h"
#include "fusefs/listing.h"
#include "fusefs/log.h"
#include "fusefs/model/kvfs.h"
#include "fusefs/options.h"
#include "fusefs/staged.h"
#include "fusefs/steward.h"
#include "fusefs/tree.h"
#include "fusefs/txn.h"

/* Requests that are counted, by libfuse's names. */
/* clang-format off */
#define OP_REQUESTS(X) \
	X(access) \
	X(copy_file_range) \
	X(create) \
	X(fallocate) \
	X(forget) \
	X(fsync) \
	X(getattr) \
	X(getxattr) \
	X(link) \
	X(listxattr) \
	X(lookup) \
	X(lseek) \
	X(mkdir) \
	X(mknod) \
	X(opendir) \
	X(read) \
	X(readdir) \
	X(readdirplus) \
	X(readlink) \
	X(releasedir) \
	X(removexattr) \
	X(rename) \
	X(rmdir) \
	X(setattr) \
	X(setxattr) \
	X(symlink) \
	X(unlink) \
	X(write)
/* clang-format on */

enum op_request {
#define OP_REQUEST_ENUM(name) OP_REQUEST_##name,
	OP_REQUESTS(OP_REQUEST_ENUM)
#undef OP_REQUEST_ENUM
		OP_REQUEST_COUNT
};

/* Of one listing: what the kernel can ask for. */
#define LIST_BYTES_MAX (1U << 20)

struct kvfsd {
	const struct mount_options *opt; /* [const] */
	struct log *log;		 /* [const] */
	struct kvfs *fs;		 /* [const] once the session runs */
	struct handles handles;		 /* open directories */
	struct listings listings;
	struct trees trees;
	struct control control;
	struct keeper keeper;
	struct direct direct;
	struct txns txns;
	struct staged_files staged;
	struct steward *steward;   /* [const] for the mount; NULL: none, as looker */
	struct steward *looker;	   /* [const] for the option txn */
	struct fuse_session *fuse; /* [const] */
	_Atomic dev_t device;	   /* [atomic] of the mount, 0 until it answers */
	atomic_uint_fast64_t requests[OP_REQUEST_COUNT]; /* [atomic] so far */
	atomic_uint_fast64_t request_errors; /* [atomic] see device.c; a name not found is none */
	atomic_bool down; /* [atomic] shut down: everything is refused, see raw.c */
	bool no_open;	  /* [const] after INIT: opens need not be told */
	bool acl;	  /* [const] after INIT: the kernel obeys access lists */
	bool labels;	  /* [const] after INIT: it runs SELinux */
	/* See device.h. */
	atomic_uint_fast64_t init_unique; /* [atomic] id of the INIT request, 0: none yet */
	atomic_uint init_flags;		  /* [atomic] what the kernel offered in it */
	atomic_bool kills_privileges;	  /* [atomic] set-id bits are ours to clear */
};

extern const struct fuse_lowlevel_ops op_table;	     /* dispatch.c: chooses one of the two */
extern const struct fuse_lowlevel_ops op_files;	     /* op_init.c: files of any tree */
extern const struct fuse_lowlevel_ops control_table; /* control_op.c: the control directory */

/* control_op.c: attributes of a node of the control directory. Return: 0 or -errno. */
int control_stat(struct kvfsd *d, fuse_ino_t ino, struct stat *out) KV_MUST_CHECK;
/* control_op.c: a snapshot was taken or dropped, a transaction begun or ended. */
void control_note_change(struct kvfsd *d);
/* control_op.c: the kernel gives back references. */
void control_forget_node(struct kvfsd *d, fuse_ino_t ino, uint64_t nlookup);
/* control_history.c: a name in a directory of .kvfs/history. */
void control_history_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
/* What is in it, as the sender of @req may know it, names each once. @emit: nonzero stops and is
 * returned. */
int control_history_list(fuse_req_t req, fuse_ino_t ino,
			 int (*emit)(void *ctx, const char *name, bool version), void *ctx)
	KV_MUST_CHECK;
/* control_list.c */
void control_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void control_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi);
void control_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			 struct fuse_file_info *fi);
void control_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
/* Both at the end of the session: directories that the kernel has left open. */
void control_close_directories(struct kvfsd *d);
void op_close_directories(struct kvfsd *d);

/* The node of an id, or NULL after replying ESTALE. */
struct kvfs_node *op_node(fuse_req_t req, fuse_ino_t ino);
/* The same, of two in one request: or NULL after replying EXDEV if it is in another tree. */
struct kvfs_node *op_node_beside(fuse_req_t req, fuse_ino_t beside, fuse_ino_t ino);
struct kvfsd *op_daemon(fuse_req_t req);
/* The tree that an id belongs to; NULL if its tree is gone. */
static inline struct kvfs *op_fs(fuse_req_t req, fuse_ino_t ino)
{
	struct kvfsd *d = fuse_req_userdata(req);

	return tree_is_live(ino) ? d->fs : tree_fs(&d->trees, ino);
}
/* The kernel gives back references, or never got them. */
void op_forget_node(struct kvfsd *d, fuse_ino_t ino, uint64_t nlookup);
/* Whether the caller is in the group. */
bool op_in_group(fuse_req_t req, gid_t gid);

/* op_init.c */
void op_init(void *userdata, struct fuse_conn_info *conn);
/* op_attr.c */
void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		struct fuse_file_info *fi);
void op_access(fuse_req_t req, fuse_ino_t ino, int mask);
void op_statfs(fuse_req_t req, fuse_ino_t ino);
/* op_ioctl.c */
void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
	      unsigned flags, const void *in_buf, size_t in_bufsz, size_t out_bufsz);
/* op_name.c */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
	       const char *newname, unsigned flags);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi);
/* op_file.c */
void op_readlink(fuse_req_t req, fuse_ino_t ino);
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
/* The stage of an open file, referenced; NULL if its changes are not one transaction. */
struct kvfs_stage *op_stage(fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi);
/* Whether an open of @node (or, below @node, a creation) with these flags begins a transaction. */
bool op_is_transaction(struct kvfsd *d, fuse_ino_t ino, struct kvfs_node *node, int flags);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
		  struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
/* The parameters are libfuse's. */
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			struct fuse_file_info *fi_out, size_t len, int flags);
/* op_dir.c */
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
/* op_xattr.c */
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
		 int flags);
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

#endif
