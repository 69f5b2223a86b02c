/* SPDX-License-Identifier: MIT */
/*
 * Keys. A directory's range may hold keys of directories that were moved away
 * and kept their prefix, so a listing never takes a key with a further 0 byte
 * for its own: it jumps to the end of that child's range. Thus no list of
 * displaced directories is needed to read one.
 */
#include "fusefs/model/place.h"

#include <errno.h>
#include <string.h>

int place_check_name(struct kv_slice name)
{
	if (name.len > KVFS_NAME_MAX)
		return -ENAMETOOLONG;
	if (!name.len || memchr(name.data, '/', name.len) || memchr(name.data, 0, name.len))
		return -EINVAL;
	if (name.data[0] == '.' && (name.len == 1 || (name.len == 2 && name.data[1] == '.')))
		return -EINVAL;
	return 0;
}

static void place_append(struct model_key *key, struct kv_slice s)
{
	KV_ASSERT(s.len <= sizeof(key->b) - key->len);
	if (s.len)
		memcpy(key->b + key->len, s.data, s.len);
	key->len += s.len;
}

void place_id(unsigned keyspace, uint64_t id, struct model_key *out)
{
	out->keyspace = keyspace;
	out->len = 8;
	be64_put(out->b, id);
}

void place_meta(const char *what, struct model_key *out)
{
	out->keyspace = MODEL_META;
	out->len = 0;
	place_append(out, kv_slice_of(what, strlen(what)));
}

void place_name(struct kv_slice prefix, struct kv_slice name, struct model_key *out)
{
	out->keyspace = MODEL_NAMES;
	out->len = 0;
	place_append(out, prefix);
	place_append(out, name);
}

void place_natural(struct kv_slice prefix, struct kv_slice name, struct model_key *out)
{
	place_name(prefix, name, out);
	out->keyspace = MODEL_PREFIXES;
	place_append(out, kv_slice_of("", 1));
}

void place_fresh(uint64_t id, struct model_key *out)
{
	out->keyspace = MODEL_PREFIXES;
	out->len = MODEL_FRESH_LEN;
	out->b[0] = 0;
	be64_put(out->b + 1, id);
}

void place_prefix(const struct inode *r, struct kv_slice prefix, struct kv_slice name,
		  struct model_key *out)
{
	if (!r->prefix.len) {
		place_natural(prefix, name, out);
		return;
	}
	out->keyspace = MODEL_PREFIXES;
	out->len = 0;
	place_append(out, r->prefix);
}

void place_end(struct kv_slice prefix, struct model_key *out)
{
	out->keyspace = MODEL_NAMES;
	out->len = 0;
	place_append(out, prefix);
	while (out->len && out->b[out->len - 1] == 0xff)
		out->len--;
	if (out->len)
		out->b[out->len - 1]++;
}

int place_split(struct kv_slice key, struct kv_slice *prefix, struct kv_slice *name)
{
	size_t fixed = 0, len;

	if (key.len && key.data[0] == 0) {
		if (key.len <= MODEL_FRESH_LEN)
			return -KV_E_CORRUPT;
		fixed = MODEL_FRESH_LEN;
	}
	len = key.len;
	while (len > fixed && key.data[len - 1])
		len--;
	*prefix = kv_slice_of(key.data, len);
	*name = kv_slice_of(key.data + len, key.len - len);
	if (prefix->len > MODEL_PREFIX_MAX || place_check_name(*name))
		return -KV_E_CORRUPT;
	return 0;
}

int place_next_child(struct kv_iter *it, struct kv_slice prefix, struct kv_slice *name)
{
	struct model_key jump;
	struct kv_slice key, rest;
	const uint8_t *zero;
	int err;

	while (kv_iter_valid(it)) {
		key = kv_iter_key(it);
		if (!slice_has_prefix(key, prefix))
			return -KV_E_NOTFOUND;
		rest = kv_slice_of(key.data + prefix.len, key.len - prefix.len);
		if (!rest.len)
			return -KV_E_CORRUPT;
		zero = memchr(rest.data, 0, rest.len);
		if (!zero) {
			if (place_check_name(rest))
				return -KV_E_CORRUPT;
			*name = rest;
			return 0;
		}
		/* Below a child, or below a directory that was moved away from here. */
		if ((size_t)(zero - key.data) >= sizeof(jump.b))
			return -KV_E_CORRUPT;
		jump.len = 0;
		place_append(&jump, kv_slice_of(key.data, (size_t)(zero - key.data)));
		place_append(&jump, kv_slice_of("\1", 1));
		err = kv_iter_seek(it, model_key_slice(&jump));
		if (err)
			return err;
	}
	return -KV_E_NOTFOUND;
}

int place_has_child(struct kv_txn *txn, struct kv_slice prefix, bool *out)
{
	struct kv_range range = {.prefix = prefix};
	struct kv_iter *it;
	struct kv_slice name;
	int err;

	err = kv_iter_open(txn, MODEL_NAMES, &range, &it);
	if (err)
		return err;
	err = kv_iter_first(it);
	if (!err)
		err = place_next_child(it, prefix, &name);
	kv_iter_close(it);
	if (err && err != -KV_E_NOTFOUND)
		return err;
	*out = !err;
	return 0;
}

/* The root's node is a part of its tree. */
static void place_root(const struct kvfs_node *root, struct model_key *out)
{
	const struct kvfs *fs = (const void *)((const char *)root - offsetof(struct kvfs, root));

	if (fs->top.len)
		*out = fs->top;
	else
		place_meta("root", out);
}

void place_node(const struct kvfs_node *node, struct model_key *out)
{
	switch (node->state) {
	case NODE_ROOT:
		place_root(node, out);
		break;
	case NODE_NAMED:
		place_name(place_node_prefix(node->parent),
			   kv_slice_of(node->name, strlen(node->name)), out);
		break;
	case NODE_LINKED:
		place_id(MODEL_INODES, node->ino, out);
		break;
	default:
		place_id(MODEL_ORPHANS, node->ino, out);
		break;
	}
}

void place_set_prefixes(struct kv_options *options)
{
	static const struct kv_prefix_rule rules[] = {
		{MODEL_NAMES, KV_PREFIX_SEPARATOR, 0}, /* each directory of the path */
		{MODEL_DATA, KV_PREFIX_LENGTH, 8},     /* contents */
		{MODEL_DATA, KV_PREFIX_LENGTH, MODEL_CHUNK_KEY_LEN}, /* chunk */
		{MODEL_XATTRS, KV_PREFIX_LENGTH, 8},		     /* file */
	};

	options->prefixes = rules;
	options->prefix_count = KV_ARRAY_COUNT(rules);
}
