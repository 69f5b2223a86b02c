/* SPDX-License-Identifier: MIT */
/*
 * The walk keeps a stack of directories and one iterator. Entering a directory
 * whose prefix is the natural one needs no seek, because its keys follow its
 * record; one that was moved is a seek there and one back. Keys that belong to
 * directories moved away are jumped over.
 */
#include "fusefs/model/walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/place.h"
#include "kvcore/base/buf.h"

/* A volume cannot be made with deeper trees by paths; deeper means a cycle. */
#define WALK_DEPTH_MAX 16384U

struct walk_frame {
	size_t prefix_off, prefix_len; /* in walk_state.prefixes */
	size_t path_len;	       /* with its separator */
	bool moved;		       /* the iterator left the parent's range */
};

struct walk_state {
	const struct walk *w;
	struct kv_txn *txn;
	struct kv_iter *it;
	struct kv_slice lower;	/* of bound and prefix the greater */
	struct kv_buf path;	/* of the present entry */
	struct kv_buf prefixes; /* of all frames */
	struct kv_buf frames;	/* struct walk_frame */
	size_t depth;
	bool done;
};

static struct walk_frame *walk_top(struct walk_state *s)
{
	return (struct walk_frame *)(void *)s->frames.data + (s->depth - 1);
}

static struct kv_slice walk_prefix(struct walk_state *s)
{
	struct walk_frame *f = walk_top(s);

	return kv_slice_of(s->prefixes.data + f->prefix_off, f->prefix_len);
}

/* The iterator on the first key at or behind the name (@after: behind all that is below it). */
static int walk_seek_name(struct walk_state *s, struct kv_slice name, bool after)
{
	struct model_key key;
	int err;

	place_name(walk_prefix(s), kv_slice_of(name.data, min_u64(name.len, KVFS_NAME_MAX)), &key);
	if (after)
		key.b[key.len++] = 1;
	if (key.len)
		err = kv_iter_seek(s->it, model_key_slice(&key));
	else
		err = kv_iter_first(s->it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* Into the directory at s->path (with its separator); the iterator goes to its first key wanted. */
static int walk_push(struct walk_state *s, struct kv_slice prefix, bool natural)
{
	struct walk_frame f = {.prefix_off = s->prefixes.len,
			       .prefix_len = prefix.len,
			       .path_len = s->path.len,
			       .moved = !natural};
	struct kv_slice rest = {0};
	const uint8_t *zero;
	int err;

	if (s->depth == WALK_DEPTH_MAX)
		return -KV_E_CORRUPT;
	err = buf_append_slice(&s->prefixes, prefix);
	if (!err)
		err = buf_append(&s->frames, &f, sizeof(f));
	if (err)
		return err;
	s->depth++;
	if (s->lower.len > s->path.len && slice_has_prefix(s->lower, kv_buf_slice(&s->path)))
		rest = kv_slice_of(s->lower.data + s->path.len, s->lower.len - s->path.len);
	zero = rest.len ? memchr(rest.data, 0, rest.len) : NULL;
	if (zero)
		rest.len = (size_t)(zero - rest.data);
	if (natural && !rest.len && s->depth > 1) {
		err = kv_iter_next(s->it);
		return err == -KV_E_NOTFOUND ? 0 : err;
	}
	return walk_seek_name(s, rest, false);
}

/* Back to the parent, behind the directory just left. */
static int walk_pop(struct walk_state *s)
{
	struct walk_frame f = *walk_top(s);
	struct kv_slice name;
	size_t parent_len;
	int err = 0;

	s->depth--;
	s->frames.len -= sizeof(f);
	s->prefixes.len = f.prefix_off;
	if (!s->depth) {
		s->done = true;
		return 0;
	}
	parent_len = walk_top(s)->path_len;
	name = kv_slice_of(s->path.data + parent_len, f.path_len - 1 - parent_len);
	if (f.moved)
		err = walk_seek_name(s, name, true);
	s->path.len = parent_len;
	return err;
}

/* Whether anything below the directory at s->path is wanted. */
static bool walk_wanted_below(struct walk_state *s)
{
	/* s->path ends with its separator here */
	return slice_compare(kv_buf_slice(&s->path), s->lower) >= 0 ||
	       slice_has_prefix(s->lower, kv_buf_slice(&s->path));
}

static int walk_enter(struct walk_state *s, const struct inode *r, struct kv_slice name)
{
	struct model_key prefix;
	int err;

	place_prefix(r, walk_prefix(s), name, &prefix);
	if (prefix.len > MODEL_PREFIX_MAX)
		return -KV_E_CORRUPT;
	err = buf_append_byte(&s->path, 0);
	if (err)
		return err;
	if (walk_wanted_below(s))
		return walk_push(s, model_key_slice(&prefix), !r->prefix.len);
	s->path.len = walk_top(s)->path_len;
	return walk_seek_name(s, name, true);
}

/* The entry under the iterator, a direct child of the top frame. */
static int walk_entry(struct walk_state *s, struct kv_slice name)
{
	const struct walk *w = s->w;
	struct model_key copy;
	struct kv_slice value, path;
	struct inode r;
	int err;

	/* The iterator's key moves with it. */
	place_name(kv_slice_of(NULL, 0), name, &copy);
	name = model_key_slice(&copy);
	err = buf_append_slice(&s->path, name);
	if (!err)
		err = kv_iter_value(s->it, &value);
	if (!err)
		err = inode_decode(value, &r);
	if (err)
		return err;
	path = kv_buf_slice(&s->path);
	if ((w->upper.len && slice_compare(path, w->upper) >= 0) ||
	    (slice_compare(path, w->prefix) > 0 && !slice_has_prefix(path, w->prefix))) {
		s->done = true;
		return 0;
	}
	if (slice_compare(path, s->lower) >= 0) {
		if (w->key)
			place_name(walk_prefix(s), name, w->key);
		err = w->visit(w->ctx, s->txn, path, &r);
		if (err)
			return err;
	}
	if (inode_is_dir(&r))
		return walk_enter(s, &r, name);
	s->path.len = walk_top(s)->path_len;
	err = kv_iter_next(s->it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

int walk_run(struct kv_txn *txn, const struct walk *w)
{
	struct walk_state s = {.w = w, .txn = txn, .lower = w->lower};
	struct kv_slice name;
	int err;

	if (slice_compare(w->prefix, s.lower) > 0)
		s.lower = w->prefix;
	err = kv_iter_open(txn, MODEL_NAMES, NULL, &s.it);
	if (err)
		return err;
	err = walk_push(&s, kv_slice_of(NULL, 0), true);
	while (!err && !s.done) {
		err = place_next_child(s.it, walk_prefix(&s), &name);
		if (!err)
			err = walk_entry(&s, name);
		else if (err == -KV_E_NOTFOUND)
			err = walk_pop(&s);
	}
	kv_iter_close(s.it);
	kv_buf_free(&s.path);
	kv_buf_free(&s.prefixes);
	kv_buf_free(&s.frames);
	return err;
}
