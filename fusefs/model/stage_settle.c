/* SPDX-License-Identifier: MIT */
/*
 * Stages as others meet them: names that move while files are being written, names
 * that are there only for their makers, and the directories that ask for all this.
 */
#include <errno.h>
#include <stdlib.h>

#include "fusefs/model/stage.h"
#include "kvcore/base/buf.h"

/* ---- who wants it ---- */

/* The directory above, with a reference; NULL above the root. */
static struct kvfs_node *stage_parent(struct kvfs *fs, struct kvfs_node *node)
{
	struct kvfs_node *parent;

	os_rwlock_rdlock(&fs->ns);
	parent = node->parent;
	if (parent)
		node_ref(fs, parent);
	os_rwlock_rdunlock(&fs->ns);
	return parent;
}

int kvfs_stage_wanted(struct kvfs *fs, struct kvfs_node *node, bool *out)
{
	struct kvfs_node *dir = node, *next;
	struct kv_buf value = {0};
	int err = -ENODATA;

	node_ref(fs, node);
	while (dir && err == -ENODATA) {
		if (node_is_dir(dir))
			err = kvfs_getxattr(fs, dir, KVFS_STAGE_XATTR, &value);
		next = err == -ENODATA ? stage_parent(fs, dir) : NULL;
		node_unref(fs, dir, 1);
		dir = next;
	}
	if (!err || err == -ENODATA)
		*out = !err && slice_equal(kv_buf_slice(&value), kv_slice_of("close", 5));
	kv_buf_free(&value);
	return err == -ENODATA ? 0 : err;
}

/* ---- others who change names ---- */

enum stage_which { STAGE_AT, STAGE_UNBORN_AT, STAGE_BELOW, STAGE_NODE, STAGE_ALL };

static bool stage_is_below(const struct kvfs_node *node, const struct kvfs_node *dir,
			   struct kv_slice name)
{
	return node->parent && node->parent->parent && node_is_at(node->parent, dir, name);
}

static bool stage_fits(const struct kvfs_stage *s, enum stage_which which,
		       const struct kvfs_node *dir, struct kv_slice name)
{
	bool unborn = atomic_load(&s->node->unborn);

	switch (which) {
	case STAGE_AT:
		return node_is_at(s->node, dir, name);
	case STAGE_UNBORN_AT:
		return unborn && node_is_at(s->node, dir, name);
	case STAGE_BELOW:
		return unborn && stage_is_below(s->node, dir, name);
	case STAGE_NODE:
		return s->node == dir;
	default:
		return true;
	}
}

/* Those that are concerned, each with a reference; the array is freed by the caller. */
static int stage_gather(struct kvfs *fs, enum stage_which which, const struct kvfs_node *dir,
			struct kv_slice name, struct kvfs_stage ***out, size_t *count)
{
	struct kvfs_stage **all;

	*count = 0;
	os_rwlock_rdlock(&fs->ns);
	os_mutex_lock(&fs->stage_mu);
	all = calloc(atomic_load(&fs->stage_count) + 1, sizeof(struct kvfs_stage *));
	for (struct kvfs_stage *s = fs->stages; all && s; s = s->next)
		if (stage_fits(s, which, dir, name)) {
			s->refs++;
			all[(*count)++] = s;
		}
	os_mutex_unlock(&fs->stage_mu);
	os_rwlock_rdunlock(&fs->ns);
	*out = all;
	return all ? 0 : -ENOMEM;
}

static int stage_settle_all_of(struct kvfs *fs, enum stage_which which, struct kvfs_node *dir,
			       struct kv_slice name)
{
	struct kvfs_stage **all;
	size_t count;
	int err;

	if (!stage_any(fs))
		return 0;
	err = stage_gather(fs, which, dir, name, &all, &count);
	if (err)
		return err;
	for (size_t i = 0; i < count; i++) {
		if (!err)
			err = stage_commit(all[i], true);
		kvfs_stage_unref(all[i]);
	}
	free(all);
	return err;
}

int stage_settle(struct kvfs *fs, struct kvfs_node *dir, struct kv_slice name, bool unborn)
{
	return stage_settle_all_of(fs, unborn ? STAGE_UNBORN_AT : STAGE_AT, dir, name);
}

int stage_settle_below(struct kvfs *fs, struct kvfs_node *dir, struct kv_slice name)
{
	return stage_settle_all_of(fs, STAGE_BELOW, dir, name);
}

int stage_settle_node(struct kvfs *fs, struct kvfs_node *node)
{
	return stage_settle_all_of(fs, STAGE_NODE, node, kv_slice_of(NULL, 0));
}

int stage_settle_all(struct kvfs *fs)
{
	int err = stage_settle_all_of(fs, STAGE_ALL, NULL, kv_slice_of(NULL, 0));

	while (fs->stages)
		kvfs_stage_close(fs->stages);
	return err;
}

struct kvfs_node *stage_find_unborn(struct kvfs *fs, const struct kvfs_node *dir,
				    struct kv_slice name)
{
	struct kvfs_node *node = NULL;
	struct kvfs_stage *s;

	if (!stage_any(fs))
		return NULL;
	os_mutex_lock(&fs->stage_mu);
	for (s = fs->stages; s && !node; s = s->next)
		if (atomic_load(&s->node->unborn) && node_is_at(s->node, dir, name))
			node = s->node;
	if (node)
		node_ref(fs, node);
	os_mutex_unlock(&fs->stage_mu);
	return node;
}
