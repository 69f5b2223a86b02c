/* SPDX-License-Identifier: MIT */
/*
 * Files: ids, link counts and attributes. A finding about
 * a file at its name is marked in the table, and a last scan over the names
 * mends the marked ones, so the table needs no keys.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/check_state.h"
#include "fusefs/model/chunk.h"

int check_file_add(struct check *c, const struct inode *r, enum check_where where)
{
	if (c->file_count == c->file_cap) {
		size_t cap = c->file_cap ? c->file_cap * 2 : 1024;
		struct check_file *files = realloc(c->files, cap * sizeof(*files));

		if (!files)
			return -ENOMEM;
		c->files = files;
		c->file_cap = cap;
	}
	c->files[c->file_count++] = (struct check_file){
		.id = r->id,
		.size = r->size,
		.chunks = r->chunks,
		.content = inode_content(r),
		.sharing = r->sharing,
		.nlink = r->nlink,
		.where = (uint8_t)where,
		.flags = r->flags,
		.dir = inode_is_dir(r),
	};
	return 0;
}

static struct check_file *check_file_search(struct check *c, uint64_t id, size_t count)
{
	size_t lo = 0, hi = count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (c->files[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < count && c->files[lo].id == id ? &c->files[lo] : NULL;
}

struct check_file *check_file_linked(struct check *c, uint64_t id)
{
	return check_file_search(c, id, c->inode_count);
}

/* A record under its id, in MODEL_INODES or MODEL_ORPHANS. */
static int check_by_id(struct check *c, unsigned keyspace, struct kv_slice key,
		       struct kv_slice value, struct inode *r)
{
	int err = inode_decode(value, r);

	if (!err && (r->kind != MODEL_RECORD_FULL || key.len != 8 || be64_at(key.data) != r->id ||
		     (keyspace == MODEL_INODES && inode_is_dir(r))))
		err = -KV_E_CORRUPT;
	if (!err)
		return 0;
	err = check_report(c, KVFS_PROBLEM_RECORD, true, "%s id %" PRIu64,
			   keyspace == MODEL_INODES ? "linked file" : "orphan",
			   key.len == 8 ? be64_at(key.data) : 0);
	if (!err)
		err = check_fix_delete(c, keyspace, key);
	return err ? err : -KV_E_CORRUPT;
}

static int check_inode(struct check *c, struct kv_slice key, struct kv_slice value)
{
	struct inode r;
	uint64_t problems = c->result->problems;
	int err = check_by_id(c, MODEL_INODES, key, value, &r);

	if (err)
		return c->result->problems > problems && err == -KV_E_CORRUPT ? 0 : err;
	if ((r.mode & S_IFMT) == S_IFREG) {
		c->result->files++;
		c->result->bytes += r.size;
	} else if ((r.mode & S_IFMT) == S_IFLNK) {
		c->result->symlinks++;
	} else {
		c->result->others++;
	}
	return check_file_add(c, &r, CHECK_LINKED);
}

int check_inodes(struct check *c)
{
	int err = check_scan(c, MODEL_INODES, check_inode);

	c->inode_count = c->file_count;
	return err;
}

static int check_orphan(struct check *c, struct kv_slice key, struct kv_slice value)
{
	struct inode r;
	uint64_t problems = c->result->problems;
	int err = check_by_id(c, MODEL_ORPHANS, key, value, &r);

	if (err)
		return c->result->problems > problems && err == -KV_E_CORRUPT ? 0 : err;
	err = check_report(c, KVFS_PROBLEM_ORPHAN, true, "id %" PRIu64 ", %" PRIu64 " bytes", r.id,
			   r.size);
	if (!err)
		err = check_fix_delete(c, MODEL_ORPHANS, key);
	return err ? err : check_file_add(c, &r, CHECK_ORPHANED);
}

int check_orphans(struct check *c)
{
	return check_scan(c, MODEL_ORPHANS, check_orphan);
}

/* Of several files with one id, the one that what is stored under the id is taken to belong to. */
static int check_claim(const struct check_file *f)
{
	if (f->where == CHECK_ORPHANED)
		return 4;
	if (f->where == CHECK_LINKED)
		return 0;
	if (f->flags & MODEL_FLAG_CHUNKS)
		return 1;
	return f->flags & MODEL_FLAG_XATTRS ? 2 : 3;
}

/* By id, and of the same id the owner first. */
static int check_compare(const void *a, const void *b)
{
	const struct check_file *x = a, *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return check_claim(x) - check_claim(y);
}

static int check_no_name(struct check *c, const struct check_file *f)
{
	struct inode_buf rec = {0};
	struct inode link;
	struct model_key key;
	int err;

	err = check_report(c, KVFS_PROBLEM_INODE_NO_NAME, true, "id %" PRIu64, f->id);
	if (err)
		return err;
	place_id(MODEL_INODES, f->id, &key);
	err = check_fix_record(c, &key, &rec);
	if (!err) {
		link = (struct inode){
			.kind = MODEL_RECORD_LINK, .mode = rec.r.mode, .id = rec.r.id};
		rec.r.nlink = 1;
		err = check_fix_put(c, &key, &rec.r);
	}
	if (!err)
		err = check_reconnect(c, &link, NULL);
	inode_buf_free(&rec);
	return err;
}

static int check_linked_count(struct check *c, const struct check_file *f)
{
	struct inode_buf rec = {0};
	struct model_key key;
	int err;

	err = check_report(c, KVFS_PROBLEM_LINK_COUNT, true, "id %" PRIu64 ": %u, found %u", f->id,
			   f->nlink, f->names);
	if (err)
		return err;
	place_id(MODEL_INODES, f->id, &key);
	err = check_fix_record(c, &key, &rec);
	if (!err) {
		rec.r.nlink = f->names;
		err = check_fix_put(c, &key, &rec.r);
	}
	inode_buf_free(&rec);
	return err;
}

/* An orphan whose id is its own takes its attributes along; its contents go in check_contents.c. */
static int check_drop_orphan(struct check *c, const struct check_file *f)
{
	return f->flags & MODEL_FLAG_XATTRS ? check_fix_delete_id(c, MODEL_XATTRS, f->id) : 0;
}

/* Ids that will be given out again. */
static int check_next(struct check *c)
{
	uint64_t max = c->file_count ? c->files[c->file_count - 1].id : 0;

	for (size_t i = 0; i < c->file_count; i++)
		max = max_u64(max, c->files[i].content);
	c->max_id = max_u64(c->max_id, max_u64(max, MODEL_ID_FIRST - 1));
	if (max < max_u64(c->next_id, 1) && c->next_id >= MODEL_ID_FIRST)
		return 0;
	return check_report(c, KVFS_PROBLEM_ID_RESERVED, max < UINT64_MAX,
			    "id %" PRIu64 ", next free %" PRIu64, max, c->next_id);
}

int check_ids(struct check *c)
{
	int err;

	if (c->file_count)
		qsort(c->files, c->file_count, sizeof(*c->files), check_compare);
	err = check_next(c);
	for (size_t i = 0; i < c->file_count && !err; i++) {
		struct check_file *f = &c->files[i];

		if (f->id < MODEL_ID_FIRST || (i && f[-1].id == f->id)) {
			f->twice = true;
			err = check_report(c, KVFS_PROBLEM_ID_TWICE, true, "id %" PRIu64, f->id);
		}
		if (!err && f->where == CHECK_ORPHANED && !f->twice)
			err = check_drop_orphan(c, f);
		if (err || f->where != CHECK_LINKED)
			continue;
		if (!f->names)
			err = check_no_name(c, f);
		else if (f->names != f->nlink)
			err = check_linked_count(c, f);
	}
	return err;
}

/* ---- attributes ---- */

static int check_xattr(struct check *c, struct kv_slice key, struct kv_slice value)
{
	struct check_file *f = NULL;
	int err;

	if (key.len > 8)
		f = check_file_search(c, be64_at(key.data), c->file_count);
	if (key.len > 8 && be64_at(key.data) == MODEL_ID_ROOT)
		return 0;
	if (f && (f->flags & MODEL_FLAG_XATTRS) && value.len <= KVFS_XATTR_VALUE_MAX &&
	    key.len - 8 <= KVFS_XATTR_NAME_MAX && !memchr(key.data + 8, 0, key.len - 8))
		return 0;
	err = check_report(c, KVFS_PROBLEM_XATTR_NO_FILE, true, "id %" PRIu64,
			   key.len >= 8 ? be64_at(key.data) : 0);
	return err ? err : check_fix_delete(c, MODEL_XATTRS, key);
}

int check_xattrs(struct check *c)
{
	return check_scan(c, MODEL_XATTRS, check_xattr);
}

/* ---- mending marked files ---- */

/*
 * The record at a name has an id that another file has too. One with chunks
 * becomes a further name of the file that owns them; any other gets a new id.
 */
static int check_mend_twice(struct check *c, const struct model_key *key, struct inode *r)
{
	struct inode_buf inode = {0};
	struct inode link = {.kind = MODEL_RECORD_LINK, .mode = r->mode, .id = r->id};
	struct model_key at;
	int err;

	if (!(r->flags & MODEL_FLAG_CHUNKS) || r->id < MODEL_ID_FIRST) {
		r->id = check_new_id(c);
		r->flags &= (uint8_t)~MODEL_FLAG_XATTRS;
		if (inode_is_dir(r) && r->prefix.len) {
			err = check_fix_put_id(c, r->prefix, r->id);
			if (err)
				return err;
		}
		return check_fix_put(c, key, r);
	}
	place_id(MODEL_INODES, r->id, &at);
	err = check_fix_record(c, &at, &inode);
	if (err == -KV_E_NOTFOUND) {
		inode.r = *r;
		inode.r.nlink = 0;
		err = 0;
	}
	if (!err) {
		inode.r.nlink++;
		err = check_fix_put(c, &at, &inode.r);
	}
	if (!err)
		err = check_fix_put(c, key, &link);
	inode_buf_free(&inode);
	return err;
}

/* Whether any of the files with this id is marked. */
static struct check_file *check_marked(struct check *c, uint64_t id, bool *twice)
{
	struct check_file *f = check_file_search(c, id, c->file_count), *end, *g;

	*twice = false;
	end = c->files + c->file_count;
	for (g = f; g && g < end && g->id == id; g++)
		*twice = *twice || g->twice;
	return f;
}

/* The first record of those that would do keeps the id. */
static bool check_keeps_id(struct check_file *f, const struct inode *r)
{
	if (f->where != CHECK_NAMED || (f->flags & MODEL_FLAG_CHUNKS) || f->kept ||
	    r->flags != f->flags || r->id < MODEL_ID_FIRST)
		return false;
	f->kept = true;
	return true;
}

static int check_mend(struct check *c, unsigned keyspace, struct kv_slice key,
		      struct kv_slice value)
{
	struct model_key at = {.keyspace = keyspace, .len = key.len};
	struct inode_buf rec = {0};
	struct check_file *f;
	struct inode r;
	bool twice;
	int err;

	if (inode_decode(value, &r) || r.kind != MODEL_RECORD_FULL || key.len > sizeof(at.b) ||
	    check_fix_deleted(c, keyspace, key))
		return 0;
	f = check_marked(c, r.id, &twice);
	if (!f || (!twice && !f->fix_chunks))
		return 0;
	memcpy(at.b, key.data, key.len);
	err = check_fix_record(c, &at, &rec);
	if (!err && (twice || f->fix_chunks) && (rec.r.flags & MODEL_FLAG_CHUNKS) &&
	    (f->flags & MODEL_FLAG_CHUNKS)) {
		rec.r.chunks = f->chunks;
		rec.r.size = f->size;
		inode_set_content(&rec.r, f->content, f->sharing);
	}
	if (!err && twice && keyspace == MODEL_NAMES && !check_keeps_id(f, &rec.r))
		err = check_mend_twice(c, &at, &rec.r);
	else if (!err)
		err = check_fix_put(c, &at, &rec.r);
	inode_buf_free(&rec);
	return err;
}

static int check_mend_name(struct check *c, struct kv_slice key, struct kv_slice value)
{
	return check_mend(c, MODEL_NAMES, key, value);
}

static int check_mend_inode(struct check *c, struct kv_slice key, struct kv_slice value)
{
	return check_mend(c, MODEL_INODES, key, value);
}

int check_file_fixes(struct check *c)
{
	bool any = false;
	int err;

	for (size_t i = 0; i < c->file_count && !any; i++)
		any = c->files[i].twice || c->files[i].fix_chunks;
	if (!any)
		return 0;
	err = check_scan(c, MODEL_INODES, check_mend_inode);
	return err ? err : check_scan(c, MODEL_NAMES, check_mend_name);
}
