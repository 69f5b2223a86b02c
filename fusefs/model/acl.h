/* SPDX-License-Identifier: MIT */
/*
 * POSIX access control lists, in the form in which Linux hands them to file systems:
 * the value of an attribute. All functions take any bytes.
 */
#ifndef KVFS_ACL_H
#define KVFS_ACL_H

#include "fusefs/model/inode.h"
#include "fusefs/model/kvfs_versions.h"

#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

bool acl_is_access(struct kv_slice name);
bool acl_is_default(struct kv_slice name);

/*
 * Whether @acl is one: each entry once, those that a list must have, rights within rwx. One
 * without entries stands for none. Return: 0, -EINVAL, -EOPNOTSUPP (another version).
 */
int acl_check(struct kv_slice acl) KV_MUST_CHECK;
bool acl_is_empty(struct kv_slice acl);
/* The permission bits of @mode become those of @acl. True if they say all that it says. */
bool acl_to_mode(struct kv_slice acl, uint32_t *mode);

/* What decides who may do what with a file, beside its access list. */
struct acl_rights {
	uint32_t mode, uid, gid;
	uint32_t acl_len; /* bytes of the list; 0: there is none */
};
/* Whether @who has all rights @want (4: read, 2: write, 1: execute or search). */
bool acl_permits(const struct kvfs_caller *who, const struct acl_rights *r, struct kv_slice acl,
		 unsigned want);

/* chmod: the access list of @r, if there is one, follows r->mode. @buf: see xattr_add(). */
int acl_chmod(struct kv_txn *txn, struct inode *r, struct kv_buf *buf) KV_MUST_CHECK;
/*
 * A file made in @dir: r->mode, as asked for, is limited by the directory's default list, which
 * @r inherits, or by @umask if there is none.
 */
int acl_inherit(struct kv_txn *txn, struct inode *r, const struct inode *dir, uint32_t umask,
		struct kv_buf *buf) KV_MUST_CHECK;

#endif
