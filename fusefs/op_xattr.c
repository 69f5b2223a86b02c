/* SPDX-License-Identifier: MIT */
/*
 * Extended attributes. The namespaces user, trusted and security are stored as
 * they come, the kernel having checked the rights. Of "system" there are the POSIX
 * access lists, unless the kernel does not enforce them here: to store one that
 * nobody obeys would be a promise that is not kept. Others are refused as on other
 * file systems.
 *
 * With noxattr everything is answered ENOSYS, after which the kernel no longer
 * asks for security.capability before it writes to a file.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fusefs/reply.h"
#include "kvcore/base/buf.h"

static bool has_prefix(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_acl(const char *name)
{
	return strcmp(name, "system.posix_acl_access") == 0 ||
	       strcmp(name, "system.posix_acl_default") == 0;
}

/* 0 if there can be one of that name. FUSE hands every name to the daemon. */
static int check_name(const struct kvfsd *d, const char *name)
{
	static const char *const stored[] = {"user.", "trusted.", "security."};

	if (is_acl(name))
		return d->acl ? 0 : -EOPNOTSUPP;
	for (size_t i = 0; i < KV_ARRAY_COUNT(stored); i++)
		if (has_prefix(name, stored[i]))
			return name[strlen(stored[i])] ? 0 : -EINVAL;
	return -EOPNOTSUPP;
}

/* The node if attributes of @name (NULL: any) exist here, or NULL after a reply. */
static struct kvfs_node *xattr_node(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	const struct kvfsd *d = op_daemon(req);
	int err = 0;

	if (d->opt->noxattr == OPTIONS_ON)
		err = -ENOSYS;
	else if (name)
		err = check_name(d, name);
	if (!err)
		return op_node(req, ino);
	fuse_reply_err(req, -err);
	return NULL;
}

/* A misspelt wish would not be obeyed. */
static int check_txn(struct kvfs *fs, struct kvfs_node *node, struct kv_slice value)
{
	struct kvfs_attr attr;
	int err = kvfs_getattr(fs, node, &attr);

	if (err)
		return err;
	return S_ISDIR(attr.mode) && (slice_equal(value, kv_slice_of("close", 5)) ||
				      slice_equal(value, kv_slice_of("write", 5)))
		       ? 0
		       : -EINVAL;
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
		 int flags)
{
	struct kvfs_node *node = xattr_node(req, ino, name);
	struct kvfs_attr attr;
	struct kvfs *fs;
	int err = 0;

	if (!node)
		return;
	fs = op_fs(req, ino);
	if (op_daemon(req)->opt->txn == OPTIONS_TXN_DIRECTORY && !strcmp(name, KVFS_STAGE_XATTR))
		err = check_txn(fs, node, kv_slice_of(value, size));
	/* As chmod(2) does. */
	if (!err && strcmp(name, "system.posix_acl_access") == 0 && fuse_req_ctx(req)->uid != 0) {
		err = kvfs_getattr(fs, node, &attr);
		if (!err && !op_in_group(req, attr.gid))
			flags |= KVFS_XATTR_KILL_SGID;
	}
	if (!err)
		err = kvfs_setxattr(fs, node, name, kv_slice_of(value, size), flags);
	reply_result(req, node, err);
}

/*
 * "ls -l" and its like ask for the SELinux label of each file, every time, unless they hear that
 * the file system has no such thing; a kernel without SELinux keeps no answer for them. So where
 * nobody obeys labels, a file without one says that. Labels that were stored are kept and read as
 * ever.
 */
static int no_label(const struct kvfsd *d, const char *name, int err)
{
	return err == -ENODATA && !d->labels && !strcmp(name, "security.selinux") ? -EOPNOTSUPP
										  : err;
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct kvfs_node *node = xattr_node(req, ino, name);
	struct kv_buf value = {0};
	int err;

	if (!node)
		return;
	err = kvfs_getxattr(op_fs(req, ino), node, name, &value);
	if (err)
		reply_result(req, node, no_label(op_daemon(req), name, err));
	else
		reply_xattr(req, &value, size);
	kv_buf_free(&value);
}

/* Only root sees "trusted", as on other file systems. */
static void hide_trusted(struct kv_buf *names)
{
	size_t from = 0, to = 0;

	while (from < names->len) {
		char *name = (char *)names->data + from;
		size_t len = strlen(name) + 1;

		if (!has_prefix(name, "trusted.")) {
			memmove(names->data + to, name, len);
			to += len;
		}
		from += len;
	}
	names->len = to;
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct kvfs_node *node = xattr_node(req, ino, NULL);
	struct kv_buf names = {0};
	int err;

	if (!node)
		return;
	err = kvfs_listxattr(op_fs(req, ino), node, &names);
	if (err) {
		reply_result(req, node, err);
		goto out;
	}
	if (fuse_req_ctx(req)->uid != 0)
		hide_trusted(&names);
	reply_xattr(req, &names, size);
out:
	kv_buf_free(&names);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct kvfs_node *node = xattr_node(req, ino, name);

	if (node)
		reply_result(req, node, kvfs_removexattr(op_fs(req, ino), node, name));
}
