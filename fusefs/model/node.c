/* SPDX-License-Identifier: MIT */
/*
 * The node table. Buckets are split over shards with a mutex each. A child
 * refers to its parent, so a node's key can always be built; forgetting a leaf
 * may therefore free a chain of parents, which is done in a loop, outside the
 * locks, because the last reference to an unlinked file deletes its contents.
 */
#include "fusefs/model/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/place.h"
#include "fusefs/model/remove.h"
#include "fusefs/model/times.h"
#include "kvcore/base/hash.h"

#define NODE_BUCKETS_MIN 16U

int node_table_init(struct kvfs *fs)
{
	unsigned i;
	int err = 0;

	for (i = 0; i < MODEL_SHARDS; i++) {
		struct node_shard *s = &fs->shards[i];

		/* There may be thousands of views, of most of which only the root is seen. */
		s->bucket_count = fs->view ? 1U : NODE_BUCKETS_MIN;
		s->buckets = calloc(s->bucket_count, sizeof(struct kvfs_node *));
		if (!s->buckets) {
			err = -ENOMEM;
			break;
		}
		err = os_mutex_init(&s->mu, OS_RANK_MODEL_TABLE);
		if (err) {
			free(s->buckets);
			break;
		}
	}
	if (err)
		while (i--) {
			os_mutex_fini(&fs->shards[i].mu);
			free(fs->shards[i].buckets);
		}
	return err;
}

static void node_free(struct kvfs_node *node)
{
	free(node->name);
	free(node->prefix);
	free(node->orphan);
	free(node);
}

void node_table_fini(struct kvfs *fs)
{
	for (unsigned i = 0; i < MODEL_SHARDS; i++) {
		struct node_shard *s = &fs->shards[i];

		for (size_t b = 0; b < s->bucket_count; b++) {
			struct kvfs_node *node = s->buckets[b], *next;

			for (; node; node = next) {
				next = node->hash_next;
				node_free(node);
			}
		}
		free(s->buckets);
		os_mutex_fini(&s->mu);
	}
}

/* The shard is locked. */
static struct kvfs_node **node_slot(struct node_shard *s, uint64_t ino)
{
	struct kvfs_node **slot = &s->buckets[hash_u64(ino) & (s->bucket_count - 1)];

	while (*slot && (*slot)->ino != ino)
		slot = &(*slot)->hash_next;
	return slot;
}

/* Twice the buckets; without memory the chains just stay longer. */
static void node_grow(struct node_shard *s)
{
	size_t count = s->bucket_count * 2;
	struct kvfs_node **buckets = calloc(count, sizeof(struct kvfs_node *));

	if (!buckets)
		return;
	for (size_t b = 0; b < s->bucket_count; b++) {
		struct kvfs_node *node = s->buckets[b], *next;

		for (; node; node = next) {
			size_t to = hash_u64(node->ino) & (count - 1);

			next = node->hash_next;
			node->hash_next = buckets[to];
			buckets[to] = node;
		}
	}
	free(s->buckets);
	s->buckets = buckets;
	s->bucket_count = count;
}

int node_table_each(struct kvfs *fs, int (*visit)(struct kvfs *fs, struct kvfs_node *node))
{
	int err = 0;

	for (unsigned i = 0; i < MODEL_SHARDS && !err; i++) {
		struct node_shard *s = &fs->shards[i];
		struct kvfs_node **all;
		size_t count = 0;

		os_mutex_lock(&s->mu);
		all = calloc(s->count + 1, sizeof(struct kvfs_node *));
		for (size_t b = 0; all && b < s->bucket_count; b++)
			for (struct kvfs_node *n = s->buckets[b]; n; n = n->hash_next) {
				n->refs++;
				all[count++] = n;
			}
		os_mutex_unlock(&s->mu);
		if (!all)
			return -ENOMEM;
		for (size_t n = 0; n < count; n++) {
			if (!err)
				err = visit(fs, all[n]);
			node_unref(fs, all[n], 1);
		}
		free(all);
	}
	return err;
}

struct kvfs_node *node_find(struct kvfs *fs, uint64_t ino)
{
	struct node_shard *s = node_shard(fs, ino);
	struct kvfs_node *node;

	if (ino == fs->root.ino)
		return &fs->root;
	os_mutex_lock(&s->mu);
	node = *node_slot(s, ino);
	if (node)
		node->refs++;
	os_mutex_unlock(&s->mu);
	return node;
}

int node_look(struct kvfs *fs, uint64_t ino, int (*see)(const struct kvfs_node *node, void *ctx),
	      void *ctx)
{
	struct node_shard *s = node_shard(fs, ino);
	struct kvfs_node *node;
	int err;

	if (ino == fs->root.ino)
		return see(&fs->root, ctx);
	os_mutex_lock(&s->mu);
	node = *node_slot(s, ino);
	err = node ? see(node, ctx) : -KV_E_NOTFOUND;
	os_mutex_unlock(&s->mu);
	return err;
}

bool node_is_known(struct kvfs *fs, uint64_t ino)
{
	struct node_shard *s = node_shard(fs, ino);
	bool known;

	os_mutex_lock(&s->mu);
	known = *node_slot(s, ino) != NULL;
	os_mutex_unlock(&s->mu);
	return known || ino == fs->root.ino;
}

static void node_take(struct kvfs *fs, struct kvfs_node *node, uint32_t holds)
{
	struct node_shard *s = node_shard(fs, node->ino);

	if (node == &fs->root)
		return;
	os_mutex_lock(&s->mu);
	KV_ASSERT(node->refs);
	node->refs++;
	node->holds += holds;
	os_mutex_unlock(&s->mu);
}

void node_ref(struct kvfs *fs, struct kvfs_node *node)
{
	node_take(fs, node, 0);
}

void node_hold(struct kvfs *fs, struct kvfs_node *node)
{
	node_take(fs, node, 1);
}

bool node_any(struct kvfs *fs)
{
	bool any = false;

	for (unsigned i = 0; i < MODEL_SHARDS && !any; i++) {
		os_mutex_lock(&fs->shards[i].mu);
		any = fs->shards[i].count != 0;
		os_mutex_unlock(&fs->shards[i].mu);
	}
	return any;
}

/* Returns true if the node is out of the table and the caller's alone. */
static bool node_drop(struct kvfs *fs, struct kvfs_node *node, uint64_t refs, uint32_t holds)
{
	struct node_shard *s = node_shard(fs, node->ino);
	bool flush = false, gone = false;

	os_mutex_lock(&s->mu);
	KV_ASSERT(node->holds >= holds && node->refs >= node->holds);
	node->holds -= holds;
	node->refs -= holds + min_u64(refs, node->refs - holds - node->holds);
	if (!node->refs && node->pending && node->state != NODE_ORPHAN) {
		node->refs = 1; /* for the flush; dropped below */
		flush = true;
	} else if (!node->refs) {
		*node_slot(s, node->ino) = node->hash_next;
		s->count--;
		gone = true;
	}
	os_mutex_unlock(&s->mu);
	if (!flush)
		return gone;
	times_flush_last(fs, node);
	return node_drop(fs, node, 1, 0);
}

static void node_drop_chain(struct kvfs *fs, struct kvfs_node *node, uint64_t refs, uint32_t holds)
{
	struct kvfs_node *parent;

	while (node && node != &fs->root && node_drop(fs, node, refs, holds)) {
		if (node->state == NODE_ORPHAN)
			remove_orphan_node(fs, node);
		parent = node->parent;
		node_free(node);
		node = parent;
		refs = 0;
		holds = 1;
	}
}

/* More than there are is a mistake of who gives them back, and not obeyed. */
void node_unref(struct kvfs *fs, struct kvfs_node *node, uint64_t refs)
{
	node_drop_chain(fs, node, refs, 0);
}

bool node_unref_unless_last(struct kvfs *fs, struct kvfs_node *node)
{
	struct node_shard *s = node_shard(fs, node->ino);
	bool more;

	if (node == &fs->root)
		return true;
	os_mutex_lock(&s->mu);
	more = node->refs > 1;
	if (more)
		node->refs--;
	os_mutex_unlock(&s->mu);
	return more;
}

void node_release(struct kvfs *fs, struct kvfs_node *node)
{
	node_drop_chain(fs, node, 0, 1);
}

int node_new(struct kvfs *fs, const struct inode *r, enum node_state state,
	     struct kvfs_node *parent, struct kv_slice name, struct kvfs_node **out)
{
	struct kvfs_node *node = calloc(1, sizeof(*node));
	struct model_key prefix;

	if (!node)
		return -ENOMEM;
	node->ino = r->id;
	node->refs = 1;
	node->type = (uint16_t)(r->mode & S_IFMT);
	node->state = (uint8_t)state;
	node_set_guard(node, r);
	node->name = malloc(name.len + 1);
	if (!node->name)
		goto nomem;
	memcpy(node->name, name.data, name.len);
	node->name[name.len] = 0;
	if (inode_is_dir(r)) {
		place_prefix(r, place_node_prefix(parent), name, &prefix);
		node->prefix = malloc(prefix.len);
		if (!node->prefix)
			goto nomem;
		memcpy(node->prefix, prefix.b, prefix.len);
		node->prefix_len = (uint16_t)prefix.len;
	}
	node->parent = parent;
	node_hold(fs, parent);
	*out = node;
	return 0;
nomem:
	node_free(node);
	return -ENOMEM;
}

void node_discard(struct kvfs *fs, struct kvfs_node *node)
{
	struct node_shard *s;

	if (!node)
		return;
	if (node->parent != &fs->root) {
		s = node_shard(fs, node->parent->ino);
		os_mutex_lock(&s->mu);
		KV_ASSERT(node->parent->refs > 1 && node->parent->holds);
		node->parent->refs--;
		node->parent->holds--;
		os_mutex_unlock(&s->mu);
	}
	node_free(node);
}

struct kvfs_node *node_publish(struct kvfs *fs, struct kvfs_node *node)
{
	struct node_shard *s = node_shard(fs, node->ino);
	struct kvfs_node **slot, *present;

	os_mutex_lock(&s->mu);
	if (s->count >= s->bucket_count)
		node_grow(s);
	slot = node_slot(s, node->ino);
	present = *slot;
	if (present) {
		present->refs++;
	} else {
		*slot = node;
		s->count++;
	}
	os_mutex_unlock(&s->mu);
	if (!present)
		return node;
	node_discard(fs, node);
	return present;
}

int node_make(struct kvfs *fs, const struct inode *r, enum node_state state,
	      struct kvfs_node *parent, struct kv_slice name, struct kvfs_node **out)
{
	struct kvfs_node *node = node_find(fs, r->id);
	int err;

	if (!node) {
		err = node_new(fs, r, state, parent, name, &node);
		if (err)
			return err;
		node = node_publish(fs, node);
	}
	*out = node;
	return 0;
}

struct kvfs_node *node_move(struct kvfs *fs, struct kvfs_node *node, struct kvfs_node *parent,
			    char *name)
{
	struct kvfs_node *former = node->parent;

	node_hold(fs, parent);
	node->parent = parent;
	free(node->name);
	node->name = name;
	return former;
}

bool node_is_at(const struct kvfs_node *node, const struct kvfs_node *parent, struct kv_slice name)
{
	return node->parent == parent &&
	       slice_equal(kv_slice_of(node->name, strlen(node->name)), name);
}

int node_check_dir(const struct kvfs_node *node, bool removes)
{
	unsigned forbids = MODEL_FLAG_IMMUTABLE | (removes ? MODEL_FLAG_APPEND : 0U);

	if (!node_is_dir(node))
		return -ENOTDIR;
	if (node->state == NODE_ORPHAN)
		return -ENOENT;
	return node->guard & forbids ? -EPERM : 0;
}

void node_attr(const struct kvfs_node *node, const struct inode *r, struct kvfs_attr *out)
{
	inode_attr(r, out);
	out->staged = atomic_load(&node->stages) != 0;
	if (atomic_load(&node->unborn)) {
		out->unborn = true;
		out->nlink = 1; /* as it will be */
	}
}
