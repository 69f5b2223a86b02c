/* SPDX-License-Identifier: MIT */
/*
 * Contents in chunks, which are keyed by content id: usually the file's own id. One
 * merge of MODEL_DATA with a table of contents, both in order of ids, finds chunks
 * of no file and counts the others; several records in the table with one id share
 * it, which MODEL_SHARED and each of the records must say.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/check_state.h"
#include "fusefs/model/chunk.h"

/* Of one content: all its users, next to each other in check_contents.all. */
struct check_group {
	size_t begin, end;
	uint64_t id, size;
	uint64_t users; /* files that stay */
};

struct check_contents {
	struct check *c;
	struct check_file **all; /* with chunks, by content id */
	size_t count;
	size_t next; /* of all, not yet passed */

	bool begun, known, any;
	struct check_group group; /* whose chunks are being read, if known */
	uint64_t id;		  /* of the chunks being read */
	uint64_t chunk;		  /* the last one */
	uint64_t found;
};

static int check_contents_compare(const void *a, const void *b)
{
	const struct check_file *const *x = a, *const *y = b;

	if ((*x)->content != (*y)->content)
		return (*x)->content < (*y)->content ? -1 : 1;
	return (*x)->id < (*y)->id ? -1 : (*x)->id > (*y)->id;
}

static int check_contents_init(struct check *c, struct check_contents *s)
{
	*s = (struct check_contents){.c = c};
	s->all = calloc(c->file_count + 1, sizeof(struct check_file *));
	if (!s->all)
		return -ENOMEM;
	for (size_t i = 0; i < c->file_count; i++) {
		struct check_file *f = &c->files[i];

		/* Of several files with one id the first owns what is under it. */
		if (!f->dir && (f->flags & MODEL_FLAG_CHUNKS) &&
		    (!f->twice || !i || f[-1].id != f->id))
			s->all[s->count++] = f;
	}
	if (s->count)
		qsort(s->all, s->count, sizeof(struct check_file *), check_contents_compare);
	return 0;
}

/* The users of the content at s->next. */
static struct check_group check_contents_group(const struct check_contents *s)
{
	struct check_group g = {.begin = s->next, .end = s->next, .id = s->all[s->next]->content};

	for (; g.end < s->count && s->all[g.end]->content == g.id; g.end++) {
		const struct check_file *f = s->all[g.end];

		g.size = max_u64(g.size, f->size);
		g.users += f->where != CHECK_ORPHANED;
	}
	return g;
}

/* The number that MODEL_SHARED has for it; 1 without a key, 0 if it cannot be decoded. */
static int check_shared_get(struct check *c, uint64_t id, uint64_t *out)
{
	struct kv_buf value = {0};
	struct model_key key;
	struct le64 users;
	int err;

	place_id(MODEL_SHARED, id, &key);
	err = kv_txn_get(c->txn, key.keyspace, model_key_slice(&key), &value);
	*out = err == -KV_E_NOTFOUND;
	if (!err && value.len == sizeof(users)) {
		memcpy(&users, value.data, sizeof(users));
		*out = le64_get(users);
	}
	kv_buf_free(&value);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int check_shared_fix(struct check *c, uint64_t id, uint64_t users)
{
	struct le64 value = le64_of(users);
	struct model_key key;

	place_id(MODEL_SHARED, id, &key);
	if (users < 2)
		return check_fix_delete(c, key.keyspace, model_key_slice(&key));
	return check_fix_value(c, key.keyspace, model_key_slice(&key),
			       kv_slice_of(&value, sizeof(value)));
}

/* The records and MODEL_SHARED agree about the number of users. */
static int check_users(struct check_contents *s, const struct check_group *g)
{
	uint64_t users = 1;
	bool wrong = false, noted = g->users > 1;
	int err = 0;

	for (size_t i = g->begin; i < g->end; i++) {
		struct check_file *f = s->all[i];

		noted = noted || (f->sharing & MODEL_CONTENT_SHARED);
		if (g->users < 2 || (f->sharing & MODEL_CONTENT_SHARED))
			continue;
		wrong = true;
		f->sharing |= MODEL_CONTENT_SHARED;
		f->fix_chunks = true;
	}
	if (noted)
		err = check_shared_get(s->c, g->id, &users);
	/* Orphans are users until they are removed. */
	if (err || (!wrong && users == (uint64_t)(g->end - g->begin) &&
		    g->users == (uint64_t)(g->end - g->begin)))
		return err;
	if (wrong || users != (uint64_t)(g->end - g->begin))
		err = check_report(s->c, KVFS_PROBLEM_CONTENT_USERS, true,
				   "contents %" PRIu64 ": %" PRIu64 ", found %zu", g->id, users,
				   g->end - g->begin);
	return err ? err : check_shared_fix(s->c, g->id, g->users);
}

/* All chunks of a content were seen. */
static int check_contents_end(struct check_contents *s, const struct check_group *g, uint64_t found)
{
	int err = check_users(s, g);

	s->c->result->chunks += found;
	for (size_t i = g->begin; i < g->end && !err; i++) {
		struct check_file *f = s->all[i];

		if (f->chunks == found || f->where == CHECK_ORPHANED)
			continue;
		f->chunks = found;
		f->fix_chunks = true;
		err = check_report(s->c, KVFS_PROBLEM_BLOCK_COUNT, true,
				   "id %" PRIu64 ": found %" PRIu64 " chunks", f->id, found);
	}
	if (!err && !g->users)
		err = check_fix_delete_id(s->c, MODEL_DATA, g->id);
	return err;
}

/* Contents between the last chunk's and @id have none. */
static int check_contents_skip(struct check_contents *s, uint64_t id, bool end)
{
	struct check_group g;
	int err = 0;

	while (!err && s->next < s->count && (end || s->all[s->next]->content < id)) {
		g = check_contents_group(s);
		s->next = g.end;
		err = check_contents_end(s, &g, 0);
	}
	return err;
}

static int check_contents_begin(struct check_contents *s, uint64_t id)
{
	int err = 0;

	if (s->known)
		err = check_contents_end(s, &s->group, s->found);
	if (!err)
		err = check_contents_skip(s, id, false);
	if (err)
		return err;
	s->begun = true;
	s->id = id;
	s->found = 0;
	s->any = false;
	s->known = s->next < s->count && s->all[s->next]->content == id;
	if (s->known) {
		s->group = check_contents_group(s);
		s->next = s->group.end;
		return 0;
	}
	err = check_report(s->c, KVFS_PROBLEM_CHUNK_NO_FILE, true, "id %" PRIu64, id);
	return err ? err : check_fix_delete_id(s->c, MODEL_DATA, id);
}

/*
 * How many bytes at the end of a base or patch lie beyond the end of the file; SIZE_MAX: all of
 * it, or it cannot be decoded.
 */
static size_t check_part_excess(uint64_t size, uint64_t chunk, uint32_t stamp,
				struct kv_slice value)
{
	uint64_t begin = chunk * MODEL_CHUNK;
	struct kv_slice bytes;
	uint32_t off;

	if (chunk_part_decode(value, stamp, &off, &bytes) || begin >= size)
		return SIZE_MAX;
	if (off + bytes.len <= size - begin)
		return 0;
	if (off >= size - begin)
		return SIZE_MAX;
	return (size_t)(off + bytes.len - (size - begin));
}

static int check_part(struct check_contents *s, struct kv_slice key, struct kv_slice value)
{
	struct check *c = s->c;
	uint64_t id, chunk;
	uint32_t stamp;
	size_t excess;
	int err = 0;

	if (chunk_key_decode(key, &id, &chunk, &stamp)) {
		err = check_report(c, KVFS_PROBLEM_CHUNK_RANGE, true, "malformed key");
		return err ? err : check_fix_delete(c, MODEL_DATA, key);
	}
	if (!s->begun || id != s->id) {
		err = check_contents_begin(s, id);
		if (err)
			return err;
	}
	if (!s->known)
		return 0;
	excess = check_part_excess(s->group.size, chunk, stamp, value);
	if (excess) {
		err = check_report(c, KVFS_PROBLEM_CHUNK_RANGE, true,
				   "id %" PRIu64 " chunk %" PRIu64 " stamp %u", id, chunk, stamp);
		if (!err && excess < value.len)
			err = check_fix_value(c, MODEL_DATA, key,
					      kv_slice_of(value.data, value.len - excess));
		else if (!err)
			return check_fix_delete(c, MODEL_DATA, key);
	}
	if (!s->any || s->chunk != chunk)
		s->found++;
	s->any = true;
	s->chunk = chunk;
	return err;
}

static int check_data(struct check_contents *s)
{
	struct kv_slice value;
	struct kv_iter *it;
	int err;

	err = kv_iter_open(s->c->txn, MODEL_DATA, NULL, &it);
	if (err)
		return err;
	err = kv_iter_first(it);
	while (!err) {
		err = kv_iter_value(it, &value);
		if (!err)
			err = check_part(s, kv_iter_key(it), value);
		if (!err)
			err = check_step(s->c);
		if (!err)
			err = kv_iter_next(it);
	}
	kv_iter_close(it);
	if (err == -KV_E_NOTFOUND)
		err = s->known ? check_contents_end(s, &s->group, s->found) : 0;
	return err ? err : check_contents_skip(s, 0, true);
}

/* A key of MODEL_SHARED whose content has one user, or none. */
static int check_shared(struct check_contents *s, struct kv_slice key)
{
	uint64_t id = key.len == 8 ? be64_at(key.data) : 0;
	size_t lo = 0, hi = s->count;
	int err;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->all[mid]->content < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	/* The first of several users knows, by check_users(). */
	if (id && lo < s->count && s->all[lo]->content == id &&
	    (s->all[lo]->sharing & MODEL_CONTENT_SHARED))
		return 0;
	err = check_report(s->c, KVFS_PROBLEM_CONTENT_USERS, true,
			   "contents %" PRIu64 " have no users that know of each other", id);
	return err ? err : check_fix_delete(s->c, MODEL_SHARED, key);
}

static int check_all_shared(struct check_contents *s)
{
	struct kv_iter *it;
	int err = kv_iter_open(s->c->txn, MODEL_SHARED, NULL, &it);

	if (err)
		return err;
	err = kv_iter_first(it);
	while (!err) {
		err = check_shared(s, kv_iter_key(it));
		if (!err)
			err = check_step(s->c);
		if (!err)
			err = kv_iter_next(it);
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

int check_contents(struct check *c)
{
	struct check_contents s;
	int err = check_contents_init(c, &s);

	if (!err)
		err = check_data(&s);
	if (!err)
		err = check_all_shared(&s);
	free(s.all);
	return err;
}
