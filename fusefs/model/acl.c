/* SPDX-License-Identifier: MIT */
/*
 * Access control lists. The kernel decides who may do what; libkvfs keeps the lists
 * as attributes and in step with the mode, which holds the rights of the owner, of
 * the mask (or, without one, of the group) and of others a second time. A list that
 * says no more than a mode is not stored. The rules are those of POSIX 1003.1e
 * draft 17, sections 23.1.5 and 23.1.6, the form is Linux's
 * (include/uapi/linux/posix_acl_xattr.h).
 */
#include "fusefs/model/acl.h"

#include <errno.h>
#include <string.h>

#include "fusefs/model/xattr.h"
#include "kvcore/base/buf.h"

#define ACL_VERSION 2U
#define ACL_HEAD    4U

enum acl_tag {
	ACL_USER_OBJ = 0x01,
	ACL_USER = 0x02,
	ACL_GROUP_OBJ = 0x04,
	ACL_GROUP = 0x08,
	ACL_MASK = 0x10,
	ACL_OTHER = 0x20,
};

struct acl_entry {
	struct le16 tag;
	struct le16 perm;
	struct le32 id;
};
static_assert(sizeof(struct acl_entry) == 8, "the kernel's layout");

bool acl_is_access(struct kv_slice name)
{
	return slice_equal(name, kv_slice_of(ACL_ACCESS, sizeof(ACL_ACCESS) - 1));
}

bool acl_is_default(struct kv_slice name)
{
	return slice_equal(name, kv_slice_of(ACL_DEFAULT, sizeof(ACL_DEFAULT) - 1));
}

static size_t acl_count(struct kv_slice acl)
{
	return acl.len < ACL_HEAD ? 0 : (acl.len - ACL_HEAD) / sizeof(struct acl_entry);
}

static struct acl_entry acl_entry(struct kv_slice acl, size_t i)
{
	struct acl_entry e;

	memcpy(&e, acl.data + ACL_HEAD + i * sizeof(e), sizeof(e));
	return e;
}

bool acl_is_empty(struct kv_slice acl)
{
	return acl_count(acl) == 0;
}

int acl_check(struct kv_slice acl)
{
	unsigned seen = 0, named = 0;
	unsigned last = 0, tag;
	struct le32 version;
	struct acl_entry e;

	if (!acl.len)
		return 0;
	if (acl.len < ACL_HEAD || (acl.len - ACL_HEAD) % sizeof(e))
		return -EINVAL;
	memcpy(&version, acl.data, sizeof(version));
	if (le32_get(version) != ACL_VERSION)
		return -EOPNOTSUPP;
	for (size_t i = 0; i < acl_count(acl); i++) {
		e = acl_entry(acl, i);
		tag = le16_get(e.tag);
		if (le16_get(e.perm) > 7 || tag < last || !tag || (tag & (tag - 1)) ||
		    tag > ACL_OTHER)
			return -EINVAL;
		if (tag == ACL_USER || tag == ACL_GROUP)
			named++;
		else if (seen & tag)
			return -EINVAL;
		seen |= tag;
		last = tag;
	}
	if (!seen)
		return 0;
	if ((seen & (ACL_USER_OBJ | ACL_GROUP_OBJ | ACL_OTHER)) !=
	    (ACL_USER_OBJ | ACL_GROUP_OBJ | ACL_OTHER))
		return -EINVAL;
	return named && !(seen & ACL_MASK) ? -EINVAL : 0;
}

/* By how much the rights of a tag are shifted in a mode; -1: they are not in it. */
static int acl_shift(unsigned tag, bool has_mask)
{
	switch (tag) {
	case ACL_USER_OBJ:
		return 6;
	case ACL_GROUP_OBJ:
		return has_mask ? -1 : 3;
	case ACL_MASK:
		return 3;
	case ACL_OTHER:
		return 0;
	default:
		return -1;
	}
}

static bool acl_has_mask(struct kv_slice acl)
{
	for (size_t i = 0; i < acl_count(acl); i++)
		if (le16_get(acl_entry(acl, i).tag) == ACL_MASK)
			return true;
	return false;
}

bool acl_to_mode(struct kv_slice acl, uint32_t *mode)
{
	bool has_mask = acl_has_mask(acl), all = true;
	uint32_t bits = 0;

	for (size_t i = 0; i < acl_count(acl); i++) {
		struct acl_entry e = acl_entry(acl, i);
		int shift = acl_shift(le16_get(e.tag), has_mask);

		if (shift >= 0)
			bits |= (le16_get(e.perm) & 7U) << shift;
		if (shift < 0 || has_mask)
			all = false;
	}
	*mode = (*mode & ~0777U) | bits;
	return all;
}

/*
 * What of @acl is also in a mode is changed. @limit: both keep what both grant;
 * else the mode is copied.
 */
static void acl_meet_mode(struct kv_buf *acl, bool limit, uint32_t *mode)
{
	bool has_mask = acl_has_mask(kv_buf_slice(acl));

	for (size_t i = 0; i < acl_count(kv_buf_slice(acl)); i++) {
		struct acl_entry e = acl_entry(kv_buf_slice(acl), i);
		int shift = acl_shift(le16_get(e.tag), has_mask);
		uint32_t perm;

		if (shift < 0)
			continue;
		perm = *mode >> shift & 7U;
		if (limit)
			perm &= le16_get(e.perm);
		e.perm = le16_of((uint16_t)perm);
		*mode = (*mode & ~(7U << shift)) | perm << shift;
		memcpy(acl->data + ACL_HEAD + i * sizeof(e), &e, sizeof(e));
	}
}

int acl_chmod(struct kv_txn *txn, struct inode *r, struct kv_buf *buf)
{
	struct kv_slice name = kv_slice_of(ACL_ACCESS, sizeof(ACL_ACCESS) - 1);
	struct kv_buf acl = {0};
	uint32_t mode = r->mode;
	bool found;
	int err;

	err = xattr_load(txn, r, name, &acl);
	if (err)
		goto out;
	acl_meet_mode(&acl, false, &mode);
	err = xattr_drop(txn, r, name, buf, &found);
	if (!err)
		err = xattr_add(txn, r, name, kv_buf_slice(&acl), buf);
out:
	kv_buf_free(&acl);
	return err == -ENODATA ? 0 : err;
}

int acl_inherit(struct kv_txn *txn, struct inode *r, const struct inode *dir, uint32_t umask,
		struct kv_buf *buf)
{
	struct kv_slice given = kv_slice_of(ACL_DEFAULT, sizeof(ACL_DEFAULT) - 1);
	struct kv_slice access = kv_slice_of(ACL_ACCESS, sizeof(ACL_ACCESS) - 1);
	struct kv_buf acl = {0};
	int err;

	if ((r->mode & S_IFMT) == S_IFLNK)
		return 0;
	err = xattr_load(txn, dir, given, &acl);
	if (err == -ENODATA) {
		r->mode &= ~(umask & 0777U);
		return 0;
	}
	if (!err && inode_is_dir(r))
		err = xattr_add(txn, r, given, kv_buf_slice(&acl), buf);
	if (err)
		goto out;
	acl_meet_mode(&acl, true, &r->mode);
	if (!acl_to_mode(kv_buf_slice(&acl), &r->mode))
		err = xattr_add(txn, r, access, kv_buf_slice(&acl), buf);
out:
	kv_buf_free(&acl);
	return err;
}

/* ---- who may do what ------------------------------------------------------------------------- */

/* What the mask leaves of a right that a named user, or a group, has. */
static bool acl_mask_permits(struct kv_slice acl, unsigned perm, unsigned want)
{
	for (size_t i = 0; i < acl_count(acl); i++)
		if (le16_get(acl_entry(acl, i).tag) == ACL_MASK)
			perm &= le16_get(acl_entry(acl, i).perm);
	return (want & ~perm) == 0;
}

static bool acl_is_for(const struct kvfs_caller *who, const struct acl_rights *r,
		       const struct acl_entry *e)
{
	switch (le16_get(e->tag)) {
	case ACL_USER:
		return le32_get(e->id) == who->uid;
	case ACL_GROUP_OBJ:
		return who->in_group(who->ctx, r->gid);
	case ACL_GROUP:
		return who->in_group(who->ctx, le32_get(e->id));
	default:
		return false;
	}
}

/* The entries are in the order of their tags: a named user's alone counts, then any group's that
 * has the rights, then, for who is in none, that of others. */
static bool acl_list_permits(const struct kvfs_caller *who, const struct acl_rights *r,
			     struct kv_slice acl, unsigned want)
{
	bool in_group = false;

	for (size_t i = 0; i < acl_count(acl); i++) {
		const struct acl_entry e = acl_entry(acl, i);
		unsigned tag = le16_get(e.tag), perm = le16_get(e.perm);

		if (acl_is_for(who, r, &e)) {
			if (tag == ACL_USER || !(want & ~perm))
				return acl_mask_permits(acl, perm, want);
			in_group = true;
		} else if (tag == ACL_OTHER) {
			return !in_group && !(want & ~perm);
		}
	}
	return false;
}

bool acl_permits(const struct kvfs_caller *who, const struct acl_rights *r, struct kv_slice acl,
		 unsigned want)
{
	unsigned others = r->mode & 7U, group = r->mode >> 3 & 7U;

	if (who->all)
		return true;
	if (who->uid == r->uid)
		return !(want & ~(r->mode >> 6));
	if (who->acl && group && !acl_is_empty(acl))
		return acl_list_permits(who, r, acl, want);
	/* The same for both: nobody needs to be asked who is in the group. */
	if (!(want & (group ^ others)))
		return !(want & ~others);
	return !(want & ~(who->in_group(who->ctx, r->gid) ? group : others));
}
