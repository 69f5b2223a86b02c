/* SPDX-License-Identifier: MIT */
/*
 * What the past of a path is to somebody: of each state as much as the directories of that state
 * would have let him see.
 */
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/acl.h"
#include "fusefs/model/place.h"
#include "fusefs/model/versions.h"
#include "kvcore/base/buf.h"

#define VERSIONS_READ	4U
#define VERSIONS_SEARCH 1U

/* ---- rights ---------------------------------------------------------------------------------- */

/* Whether @who may pass all directories, and has the rights @last in the last one. */
static bool versions_may(const struct kvfs_versions *v, const struct versions_seen *s,
			 const struct kvfs_caller *who, unsigned last)
{
	size_t at = s->gate, end = s->gate + s->gate_len;
	struct acl_rights gate;
	struct kv_slice acl;

	while (!who->all && at < end) {
		memcpy(&gate, v->gates.data + at, sizeof(gate));
		at += sizeof(gate);
		acl = kv_slice_of(v->gates.data + at, gate.acl_len);
		at += gate.acl_len;
		if (!acl_permits(who, &gate, acl, at < end ? VERSIONS_SEARCH : last))
			return false;
	}
	return true;
}

/* May he look up what was there? Of a directory the last gate is its own. */
static bool versions_may_find(const struct kvfs_versions *v, const struct versions_seen *s,
			      const struct kvfs_caller *who)
{
	return versions_may(v, s, who, s->kind == VERSIONS_DIR ? 0 : VERSIONS_SEARCH);
}

/* ---- versions -------------------------------------------------------------------------------- */

/* Asking who is in a group is dear, and the directories seldom change. */
struct versions_memo {
	bool known, may;
	size_t gate;
};

/* The first state of a version in which he may look it up: directories may have been opened, or
 * shut, while it was there. NULL: none. */
static const struct versions_seen *versions_choose(const struct kvfs_versions *v,
						   const struct versions_seen *f,
						   const struct kvfs_caller *who,
						   struct versions_memo *memo)
{
	for (size_t i = f->first; i <= f->last; i++) {
		const struct versions_seen *s = versions_at(&v->seen, i);

		if (s->kind != VERSIONS_FILE)
			continue; /* it came back */
		if (!memo->known || memo->gate != s->gate)
			*memo = (struct versions_memo){true, versions_may_find(v, s, who), s->gate};
		if (memo->may)
			return s;
	}
	return NULL;
}

static void versions_fill(const struct kvfs_versions *v, const struct versions_seen *f,
			  const struct versions_seen *s, struct kvfs_version *out)
{
	const struct versions_snapshot *named = versions_snapshot(v, s->state);

	*out = (struct kvfs_version){
		.name = (const char *)v->text.data + f->name,
		.snapshot = named ? named->name : NULL,
		.commit = s->state,
		.skip = named ? named->skip : 0,
		.attr = s->attr,
	};
}

int kvfs_versions_each(const struct kvfs_versions *v, const struct kvfs_caller *who,
		       int (*emit)(void *ctx, const struct kvfs_version *version), void *ctx)
{
	struct versions_memo memo = {.known = false};
	const struct versions_seen *s;
	struct kvfs_version version;
	int err = 0;

	for (size_t i = 0; !err && i < versions_count(&v->files); i++) {
		s = versions_choose(v, versions_at(&v->files, i), who, &memo);
		if (!s)
			continue;
		versions_fill(v, versions_at(&v->files, i), s, &version);
		err = emit(ctx, &version);
	}
	return err < 0 ? err : 0;
}

int kvfs_versions_find(const struct kvfs_versions *v, const struct kvfs_caller *who,
		       const char *name, struct kvfs_version *out)
{
	size_t low = 0, high = versions_count(&v->files), middle;
	struct versions_memo memo = {.known = false};
	const struct versions_seen *f, *s;
	int c;

	/* Names of one time differ in their ends only, ".10" after ".9". */
	while (low < high) {
		middle = low + (high - low) / 2;
		f = versions_at(&v->files, middle);
		c = strncmp((const char *)v->text.data + f->name, name, KVFS_VERSION_TIME_LEN);
		if (c < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < versions_count(&v->files); low++) {
		f = versions_at(&v->files, low);
		if (strncmp((const char *)v->text.data + f->name, name, KVFS_VERSION_TIME_LEN) != 0)
			break;
		if (strcmp((const char *)v->text.data + f->name, name) != 0)
			continue;
		s = versions_choose(v, f, who, &memo);
		if (!s)
			return -EACCES;
		versions_fill(v, f, s, out);
		return 0;
	}
	return -ENOENT;
}

int kvfs_versions_look(const struct kvfs_versions *v, const struct kvfs_caller *who)
{
	struct kv_history_info info;
	bool there = false;

	kv_history_get(v->fs->db, &info);
	for (size_t i = versions_count(&v->seen); i > 0; i--) {
		const struct versions_seen *s = versions_at(&v->seen, i - 1);
		const struct versions_snapshot *named = versions_snapshot(v, s->state);
		struct kv_snapshot *snapshot;
		int err;

		if (s->kind == VERSIONS_ABSENT)
			continue;
		if (named) {
			err = kv_snapshot_open(v->fs->db, named->name, &snapshot);
			if (err == -KV_E_NOTFOUND)
				continue;
			if (err)
				return err;
			kv_snapshot_release(snapshot);
		} else if (!info.begun || s->state < info.from) {
			continue;
		}
		if (versions_may_find(v, s, who))
			return 0;
		there = true;
	}
	return there ? -EACCES : -ENOENT;
}

/* ---- names in directories -------------------------------------------------------------------- */

struct versions_names {
	const struct kvfs_versions *v;
	const struct versions_seen *dir; /* whose prefix it is; the first of them */
	struct kv_buf spans;		 /* struct versions_span: states that he may list, rising */
	int (*emit)(void *ctx, const char *name);
	void *ctx;
};

struct versions_span {
	kv_seq from, to; /* exclusive */
};

static struct kv_slice versions_prefix(const struct kvfs_versions *v, const struct versions_seen *s)
{
	return kv_slice_of(v->text.data + s->prefix, s->prefix_len);
}

static bool versions_is_dir_of(const struct kvfs_versions *v, const struct versions_seen *s,
			       struct kv_slice prefix)
{
	return s->kind == VERSIONS_DIR && slice_equal(versions_prefix(v, s), prefix);
}

static int versions_list_spans(struct versions_names *n, const struct kvfs_caller *who)
{
	const struct kvfs_versions *v = n->v;
	struct kv_slice prefix = versions_prefix(v, n->dir);
	size_t count = versions_count(&v->seen);
	int err = 0;

	for (size_t i = 0; !err && i < count; i++) {
		const struct versions_seen *s = versions_at(&v->seen, i);
		struct versions_span span = {s->state, i + 1 < count ? s[1].state : KV_SEQ_MAX};

		if (versions_is_dir_of(v, s, prefix) && versions_may(v, s, who, VERSIONS_READ))
			err = buf_append(&n->spans, &span, sizeof(span));
	}
	return err;
}

/* Whether a state that can be read, in which he may list, is in [from, to). */
static bool versions_is_shown(const struct versions_names *n, kv_seq from, kv_seq to)
{
	const struct versions_span *spans = (const void *)n->spans.data;

	for (size_t i = 0; i < n->spans.len / sizeof(*spans); i++)
		if (versions_kept(n->v, max_u64(from, spans[i].from)) < min_u64(to, spans[i].to))
			return true;
	return false;
}

/* The name in a key, or where to go on behind what is further below. */
static int versions_split(const struct versions_names *n, struct kv_slice key, char *name,
			  struct model_key *next)
{
	struct kv_slice rest =
		kv_slice_of(key.data + n->dir->prefix_len, key.len - n->dir->prefix_len);
	const uint8_t *zero = memchr(rest.data, 0, rest.len);
	size_t len = zero ? (size_t)(zero - rest.data) : rest.len;

	next->keyspace = MODEL_NAMES;
	next->len = n->dir->prefix_len + len + 1;
	if (next->len > sizeof(next->b))
		return -KV_E_CORRUPT;
	memcpy(next->b, key.data, next->len - 1);
	next->b[next->len - 1] = 1;
	name[0] = '\0';
	if (zero)
		return 0;
	if (place_check_name(rest))
		return -KV_E_CORRUPT;
	memcpy(name, rest.data, len);
	name[len] = '\0';
	return 0;
}

/* A name, from the newest version of its key on; @past moves on to the next name. */
static int versions_tell_name(struct versions_names *n, struct kv_past *past,
			      struct kv_past_version *one)
{
	char name[KVFS_NAME_MAX + 1];
	kv_seq until = KV_SEQ_MAX;
	struct model_key next;
	size_t len = one->key.len;
	int err = versions_split(n, one->key, name, &next);

	while (!err && name[0] && one->key.len == len &&
	       !memcmp(one->key.data, next.b, next.len - 1)) {
		if (!one->deleted && versions_is_shown(n, one->seq, until)) {
			err = n->emit(n->ctx, name);
			break;
		}
		until = one->seq;
		err = kv_past_next(past, one);
	}
	return err && err != -KV_E_NOTFOUND ? err : kv_past_seek(past, model_key_slice(&next));
}

static int versions_tell_names(struct versions_names *n)
{
	struct kv_range range = {.prefix = versions_prefix(n->v, n->dir)};
	struct kv_past_version one;
	struct kv_past *past;
	int err;

	if (!n->spans.len)
		return 0;
	err = kv_past_open(n->v->fs->db, MODEL_NAMES, &range, &past);
	if (err)
		return err;
	while (!(err = kv_past_next(past, &one))) {
		err = versions_tell_name(n, past, &one);
		if (err)
			break;
	}
	kv_past_close(past);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

int kvfs_versions_names(const struct kvfs_versions *v, const struct kvfs_caller *who,
			int (*emit)(void *ctx, const char *name), void *ctx)
{
	struct versions_names n = {.v = v, .emit = emit, .ctx = ctx};
	int err = 0;

	for (size_t i = 0; !err && i < versions_count(&v->seen); i++) {
		n.dir = versions_at(&v->seen, i);
		if (n.dir->kind != VERSIONS_DIR)
			continue;
		for (size_t j = 0; j < i && n.dir; j++)
			if (versions_is_dir_of(v, versions_at(&v->seen, j),
					       versions_prefix(v, n.dir)))
				n.dir = NULL; /* it was told */
		if (!n.dir)
			continue;
		buf_clear(&n.spans);
		err = versions_list_spans(&n, who);
		if (!err)
			err = versions_tell_names(&n);
	}
	kv_buf_free(&n.spans);
	return err < 0 ? err : 0;
}
