/* SPDX-License-Identifier: MIT */
/*
 * Random file operations against a tree in memory. Every result is compared at
 * once, the whole tree, the order of keys and the checker's opinion now and
 * then, with the volume reopened in between. Few names and deep trees make
 * collisions, displaced directories and prefixes that are too long common.
 */
#include <linux/falloc.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/support/model_fixture.h"

#define NAMES	  9
#define XATTRS	  4
#define SIZE_MAX_ 300000U
#define HELD_MAX  4096

static const char long_name[] = "a-long-name-that-fills-a-prefix-quickly-0123456789-0123456789-"
				"0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-"
				"0123456789-0123456789-0123456789-0123456789-0123456789-0123456789";
static const char *const names[NAMES] = {"a",	 "a\x01", "aa",	     "b", "c",
					 "\xff", "d.e",	  long_name, "~"};
static const char *const xattr_names[XATTRS] = {"user.a", "user.b", "user.long", "trusted.x"};

struct file {
	uint32_t type;
	unsigned nlink, refs; /* names; handles */
	uint64_t ino;
	struct file *parent; /* of a directory */
	struct file *entries[NAMES];
	uint8_t *data; /* contents, or a symlink's target */
	size_t size;
	struct kv_buf xattrs[XATTRS];
	bool xattr_set[XATTRS];
	struct kvfs_node *held;
	bool removed; /* a directory */
	unsigned depth;
	struct file *twin; /* its copy, of the last tree that was copied */
	unsigned twin_no;  /* which one that was */
};

struct world {
	struct model_fixture m;
	struct test_rng rng;
	struct file *root;
	struct file *held[HELD_MAX];
	unsigned held_count;
	unsigned copies;   /* of trees */
	struct file *then; /* the tree at the snapshot "then"; NULL: there is none */
};

static uint64_t below(struct world *w, uint64_t n)
{
	return test_rng_below(&w->rng, n);
}

static struct file *file_new(uint32_t type, struct file *parent)
{
	struct file *f = calloc(1, sizeof(*f));

	ck_assert_ptr_nonnull(f);
	f->type = type;
	f->nlink = type == S_IFDIR ? 2 : 1;
	f->parent = parent;
	f->depth = parent ? parent->depth + 1 : 0;
	return f;
}

static void file_free(struct file *f)
{
	for (unsigned i = 0; i < XATTRS; i++)
		kv_buf_free(&f->xattrs[i]);
	free(f->data);
	free(f);
}

/* No name and no handle: it is gone. */
static void file_maybe_free(struct file *f)
{
	if (!f->held && (f->type == S_IFDIR ? f->removed : !f->nlink))
		file_free(f);
}

static void hold(struct world *w, struct file *f, struct kvfs_node *node)
{
	if (f->held || w->held_count == HELD_MAX) {
		model_forget(&w->m, node);
		return;
	}
	f->held = node;
	w->held[w->held_count++] = f;
}

static void release(struct world *w, unsigned i)
{
	struct file *f = w->held[i];

	w->held[i] = w->held[--w->held_count];
	model_forget(&w->m, f->held);
	f->held = NULL;
	file_maybe_free(f);
}

/* ---- finding ---- */

static struct file *random_dir_of(struct world *w, struct file *d)
{
	struct file *next;

	for (unsigned i = 0; i < 10; i++) {
		if (!below(w, 4))
			break;
		next = d->entries[below(w, NAMES)];
		if (next && next->type == S_IFDIR)
			d = next;
	}
	return d;
}

static struct file *random_dir(struct world *w)
{
	return random_dir_of(w, w->root);
}

/* The file at a path of names; a reference is added. */
static struct kvfs_node *node_of(struct world *w, struct file *dir)
{
	struct file *chain[64];
	struct kvfs_node *node = w->m.root, *next;
	unsigned n = 0;

	if (dir->held) {
		node_ref(w->m.fs, dir->held);
		return dir->held;
	}
	for (struct file *d = dir; d != w->root; d = d->parent)
		chain[n++] = d;
	while (n) {
		struct file *d = chain[--n], *p = d->parent;
		unsigned i = 0;

		while (p->entries[i] != d)
			i++;
		next = model_lookup(&w->m, node, names[i]);
		ck_assert_uint_eq(kvfs_node_ino(next), d->ino);
		model_forget(&w->m, node);
		node = next;
	}
	return node;
}

/* Held, or at a random place; *node has a reference. */
static struct file *random_file(struct world *w, struct kvfs_node **node)
{
	struct kvfs_node *dir;
	struct file *d, *f;
	unsigned i;

	if (w->held_count && below(w, 2)) {
		f = w->held[below(w, w->held_count)];
		*node = f->held;
		node_ref(w->m.fs, *node);
		return f;
	}
	for (unsigned tries = 0; tries < 20; tries++) {
		d = random_dir(w);
		i = (unsigned)below(w, NAMES);
		f = d->entries[i];
		if (!f)
			continue;
		dir = node_of(w, d);
		*node = model_lookup(&w->m, dir, names[i]);
		model_forget(&w->m, dir);
		ck_assert_uint_eq(kvfs_node_ino(*node), f->ino);
		return f;
	}
	return NULL;
}

/* ---- operations ---- */

static void op_create(struct world *w)
{
	static const uint32_t types[] = {S_IFREG, S_IFREG, S_IFREG, S_IFDIR,
					 S_IFDIR, S_IFLNK, S_IFIFO};
	struct file *d = random_dir(w), *f;
	unsigned i = (unsigned)below(w, NAMES);
	uint32_t type = types[below(w, 7)];
	struct kvfs_node *dir, *node = NULL;
	struct kvfs_attr attr;
	int err;

	if (type == S_IFDIR && d->depth > 12)
		return;
	dir = node_of(w, d);
	if (type == S_IFDIR)
		err = kvfs_mkdir(w->m.fs, dir, names[i], 0755, &model_owner, &node, &attr);
	else if (type == S_IFLNK)
		err = kvfs_symlink(w->m.fs, dir, names[i], "target", &model_owner, &node, &attr);
	else
		err = kvfs_mknod(w->m.fs, dir, names[i], type | 0644, 0, &model_owner, &node,
				 &attr);
	ck_assert_int_eq(err, d->entries[i] ? -EEXIST : 0);
	model_forget(&w->m, dir);
	if (err)
		return;
	f = file_new(type, d);
	f->ino = attr.ino;
	ck_assert_uint_eq(attr.nlink, f->nlink);
	if (type == S_IFLNK) {
		f->size = 6;
		f->data = (uint8_t *)strdup("target");
	}
	d->entries[i] = f;
	d->nlink += type == S_IFDIR;
	if (below(w, 3))
		model_forget(&w->m, node);
	else
		hold(w, f, node);
}

static bool dir_empty(const struct file *d)
{
	for (unsigned i = 0; i < NAMES; i++)
		if (d->entries[i])
			return false;
	return true;
}

static void entry_gone(struct file *d, struct file *f)
{
	if (f->type == S_IFDIR) {
		d->nlink--;
		f->removed = true;
		f->nlink = 0;
	} else {
		f->nlink--;
	}
	file_maybe_free(f);
}

static void op_remove(struct world *w)
{
	struct file *d = random_dir(w), *f;
	unsigned i = (unsigned)below(w, NAMES);
	bool as_dir = below(w, 2);
	struct kvfs_node *dir = node_of(w, d);
	int err, want = 0;

	f = d->entries[i];
	if (!f)
		want = -ENOENT;
	else if (as_dir && f->type != S_IFDIR)
		want = -ENOTDIR;
	else if (!as_dir && f->type == S_IFDIR)
		want = -EISDIR;
	else if (as_dir && !dir_empty(f))
		want = -ENOTEMPTY;
	err = as_dir ? kvfs_rmdir(w->m.fs, dir, names[i]) : kvfs_unlink(w->m.fs, dir, names[i]);
	ck_assert_int_eq(err, want);
	model_forget(&w->m, dir);
	if (err)
		return;
	d->entries[i] = NULL;
	entry_gone(d, f);
}

static bool is_below(const struct file *d, const struct file *top)
{
	for (; d; d = d->parent)
		if (d == top)
			return true;
	return false;
}

static int rename_expected(struct file *sd, struct file *s, struct file *dd, struct file *d,
			   unsigned flags)
{
	if (!s)
		return -ENOENT;
	if (s->type == S_IFDIR && is_below(dd, s))
		return -EINVAL;
	if (!d)
		return flags & KVFS_RENAME_EXCHANGE ? -ENOENT : 0;
	if (flags & KVFS_RENAME_NOREPLACE)
		return -EEXIST;
	if (s == d)
		return 0;
	if (flags & KVFS_RENAME_EXCHANGE)
		return d->type == S_IFDIR && is_below(sd, d) ? -EINVAL : 0;
	if (s->type == S_IFDIR && d->type != S_IFDIR)
		return -ENOTDIR;
	if (s->type != S_IFDIR && d->type == S_IFDIR)
		return -EISDIR;
	return d->type == S_IFDIR && !dir_empty(d) ? -ENOTEMPTY : 0;
}

static void set_depth(struct file *d, struct file *parent)
{
	if (d->type != S_IFDIR)
		return;
	d->parent = parent;
	d->depth = parent->depth + 1;
	for (unsigned i = 0; i < NAMES; i++)
		if (d->entries[i])
			set_depth(d->entries[i], d);
}

static void op_rename(struct world *w)
{
	static const unsigned all_flags[] = {0, 0, 0, KVFS_RENAME_NOREPLACE, KVFS_RENAME_EXCHANGE};
	struct file *sd = random_dir(w), *dd = below(w, 3) ? random_dir(w) : sd, *s, *d;
	unsigned si = (unsigned)below(w, NAMES), di = (unsigned)below(w, NAMES);
	unsigned flags = all_flags[below(w, 5)];
	struct kvfs_node *from = node_of(w, sd), *to = node_of(w, dd);
	int want, err;

	s = sd->entries[si];
	d = dd->entries[di];
	want = rename_expected(sd, s, dd, d, flags);
	err = kvfs_rename(w->m.fs, from, names[si], to, names[di], flags);
	ck_assert_int_eq(err, want);
	model_forget(&w->m, from);
	model_forget(&w->m, to);
	if (err || s == d)
		return;
	sd->entries[si] = NULL;
	sd->nlink -= s->type == S_IFDIR;
	if (d && (flags & KVFS_RENAME_EXCHANGE)) {
		dd->nlink -= d->type == S_IFDIR;
		sd->nlink += d->type == S_IFDIR;
		sd->entries[si] = d;
		set_depth(d, sd);
	} else if (d) {
		entry_gone(dd, d);
	}
	dd->entries[di] = s;
	dd->nlink += s->type == S_IFDIR;
	set_depth(s, dd);
}

static void op_link(struct world *w)
{
	struct file *d = random_dir(w), *f;
	unsigned i = (unsigned)below(w, NAMES);
	struct kvfs_node *node, *dir, *out;
	struct kvfs_attr attr;
	int err, want = 0;

	f = random_file(w, &node);
	if (!f)
		return;
	dir = node_of(w, d);
	if (f->type == S_IFDIR)
		want = -EPERM;
	else if (d->entries[i])
		want = -EEXIST;
	err = kvfs_link(w->m.fs, node, dir, names[i], &out, &attr);
	ck_assert_int_eq(err, want);
	if (!err) {
		ck_assert_ptr_eq(out, node);
		model_forget(&w->m, out);
		d->entries[i] = f;
		f->nlink++;
		ck_assert_uint_eq(attr.nlink, f->nlink);
	}
	model_forget(&w->m, dir);
	model_forget(&w->m, node);
}

static void set_size(struct file *f, size_t size)
{
	if (size > f->size) {
		f->data = realloc(f->data, size);
		ck_assert_ptr_nonnull(f->data);
		memset(f->data + f->size, 0, size - f->size);
	}
	f->size = size;
}

static size_t random_len(struct world *w)
{
	static const size_t most[] = {10, 200, 3000, 20000, 70000, 200000};

	return (size_t)below(w, most[below(w, 6)]) + 1;
}

static void op_write(struct world *w)
{
	struct kvfs_node *node;
	struct file *f = random_file(w, &node);
	size_t len = random_len(w), off;
	uint8_t *data;
	int err;

	if (!f)
		return;
	off = f->type == S_IFREG && below(w, 2) ? f->size : below(w, SIZE_MAX_ - len);
	if (off + len > SIZE_MAX_)
		off = 0;
	data = malloc(len);
	ck_assert_ptr_nonnull(data);
	memset(data, (int)below(w, 256), len);
	test_rng_fill(&w->rng, data, len < 64 ? len : 64);
	err = kvfs_write(w->m.fs, node, off, kv_slice_of(data, len), !below(w, 50));
	ck_assert_int_eq(err, f->type == S_IFREG ? 0 : f->type == S_IFDIR ? -EISDIR : -EINVAL);
	if (!err) {
		if (off + len > f->size)
			set_size(f, off + len);
		memcpy(f->data + off, data, len);
	}
	free(data);
	model_forget(&w->m, node);
}

static void op_truncate(struct world *w)
{
	struct kvfs_node *node;
	struct file *f = random_file(w, &node);
	struct kvfs_attr v = {0}, attr;
	int err;

	if (!f)
		return;
	v.size = below(w, 4) ? random_len(w) : 0;
	if (f->type == S_IFREG && f->size && below(w, 2))
		v.size = below(w, f->size + 1);
	err = kvfs_setattr(w->m.fs, node, KVFS_SET_SIZE, &v, &attr);
	ck_assert_int_eq(err, f->type == S_IFREG ? 0 : f->type == S_IFDIR ? -EISDIR : -EINVAL);
	if (!err) {
		set_size(f, v.size);
		ck_assert_uint_eq(attr.size, v.size);
		ck_assert_uint_eq(attr.nlink, f->nlink);
	}
	model_forget(&w->m, node);
}

static void op_fallocate(struct world *w)
{
	static const int modes[] = {0,
				    FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    FALLOC_FL_ZERO_RANGE,
				    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
	struct kvfs_node *node;
	struct file *f = random_file(w, &node);
	size_t len = random_len(w), off, end;
	int mode = modes[below(w, 6)], err;

	if (!f)
		return;
	off = f->size ? below(w, f->size) : 0;
	if (!below(w, 3))
		off = off / MODEL_CHUNK * MODEL_CHUNK;
	if (off + len > SIZE_MAX_)
		len = SIZE_MAX_ - off;
	end = off + len;
	err = kvfs_fallocate(w->m.fs, node, mode, off, len);
	ck_assert_int_eq(err, f->type == S_IFREG ? 0 : f->type == S_IFDIR ? -EISDIR : -ENODEV);
	if (!err) {
		if (mode & ~FALLOC_FL_KEEP_SIZE && off < f->size)
			memset(f->data + off, 0, (end < f->size ? end : f->size) - off);
		if (!(mode & FALLOC_FL_KEEP_SIZE) && end > f->size)
			set_size(f, end);
	}
	model_forget(&w->m, node);
}

static void op_read(struct world *w)
{
	struct kvfs_node *node;
	struct file *f = random_file(w, &node);
	size_t len = random_len(w), off, want;
	struct kv_buf got = {0};
	int err;

	if (!f)
		return;
	off = below(w, f->size + 10);
	err = kvfs_read(w->m.fs, node, off, len, &got);
	ck_assert_int_eq(err, f->type == S_IFREG ? 0 : f->type == S_IFDIR ? -EISDIR : -EINVAL);
	if (!err) {
		want = off < f->size ? (f->size - off < len ? f->size - off : len) : 0;
		ck_assert_uint_eq(got.len, want);
		ck_assert(!want || !memcmp(got.data, f->data + off, want));
	}
	kv_buf_free(&got);
	model_forget(&w->m, node);
}

static void op_copy(struct world *w)
{
	struct kvfs_node *from, *to;
	struct file *f = random_file(w, &from), *t;
	uint64_t copied;
	size_t off, at, len;
	int err;

	if (!f)
		return;
	t = random_file(w, &to);
	if (t && f != t && f->type == S_IFREG && t->type == S_IFREG && f->size) {
		off = below(w, f->size);
		len = random_len(w);
		at = below(w, SIZE_MAX_ / 4);
		if (len > f->size - off)
			len = f->size - off;
		if (len > SIZE_MAX_ - at)
			len = SIZE_MAX_ - at;
		err = kvfs_copy_range(w->m.fs, from, off, to, at, len, &copied);
		ck_assert_int_eq(err, 0);
		ck_assert_uint_eq(copied, len);
		if (at + len > t->size)
			set_size(t, at + len);
		memcpy(t->data + at, f->data + off, len);
	}
	if (t)
		model_forget(&w->m, to);
	model_forget(&w->m, from);
}

static void op_xattr(struct world *w)
{
	static const size_t lens[] = {0, 10, 300, 1024, 1025, 5000};
	static const int all_flags[] = {0, 0, XATTR_CREATE, XATTR_REPLACE};
	struct kvfs_node *node;
	struct file *f = random_file(w, &node);
	unsigned i = (unsigned)below(w, XATTRS);
	int flags = all_flags[below(w, 4)], err, want = 0;
	uint8_t value[5000];
	size_t len = lens[below(w, 6)];

	if (!f)
		return;
	if (!below(w, 3)) {
		err = kvfs_removexattr(w->m.fs, node, xattr_names[i]);
		ck_assert_int_eq(err, f->xattr_set[i] ? 0 : -ENODATA);
		f->xattr_set[i] = false;
		model_forget(&w->m, node);
		return;
	}
	memset(value, (int)below(w, 256), sizeof(value));
	if (f->xattr_set[i] && (flags & XATTR_CREATE))
		want = -EEXIST;
	if (!f->xattr_set[i] && (flags & XATTR_REPLACE))
		want = -ENODATA;
	err = kvfs_setxattr(w->m.fs, node, xattr_names[i], kv_slice_of(value, len), flags);
	ck_assert_int_eq(err, want);
	if (!err) {
		ok(buf_assign(&f->xattrs[i], kv_slice_of(value, len)));
		f->xattr_set[i] = true;
	}
	model_forget(&w->m, node);
}

/* ---- keys ---- */

/* A random path; *leaf and *at are what the tree has there: NULL if nothing. */
static int random_key(struct world *w, char *key, struct file **dir, unsigned *name)
{
	unsigned depth = (unsigned)below(w, 4);
	struct file *d = w->root;
	int want = 0;

	key[0] = 0;
	for (unsigned i = 0; i < depth; i++) {
		unsigned n = (unsigned)below(w, NAMES);

		strcat(key, names[n]);
		strcat(key, "/");
		if (!d)
			continue;
		if (d->entries[n] && d->entries[n]->type != S_IFDIR) {
			want = want ? want : d->entries[n]->type == S_IFLNK ? -ELOOP : -ENOTDIR;
			d = NULL;
		} else {
			d = d->entries[n];
		}
	}
	*name = (unsigned)below(w, NAMES);
	strcat(key, names[*name]);
	*dir = d;
	return want;
}

static struct file *make_parents(struct world *w, char *key)
{
	struct file *d = w->root, *f;
	struct kvfs_node *dir, *node;
	struct kvfs_attr attr;
	char *slash;

	while ((slash = strchr(key, '/'))) {
		unsigned n = 0;

		*slash = 0;
		while (strcmp(names[n], key))
			n++;
		f = d->entries[n];
		if (!f) {
			f = file_new(S_IFDIR, d);
			d->entries[n] = f;
			d->nlink++;
			dir = node_of(w, d);
			ok(kvfs_lookup(w->m.fs, dir, names[n], &node, &attr));
			f->ino = attr.ino;
			model_forget(&w->m, node);
			model_forget(&w->m, dir);
		}
		d = f;
		key = slash + 1;
	}
	return d;
}

static void key_was_put(struct world *w, char *key, unsigned name, const uint8_t *data, size_t len)
{
	struct kvfs_node *dir, *node;
	struct kvfs_attr attr;
	struct file *d = make_parents(w, key), *f = d->entries[name];

	if (!f) {
		f = file_new(S_IFREG, d);
		d->entries[name] = f;
		dir = node_of(w, d);
		ok(kvfs_lookup(w->m.fs, dir, names[name], &node, &attr));
		f->ino = attr.ino;
		model_forget(&w->m, node);
		model_forget(&w->m, dir);
	}
	set_size(f, len);
	memcpy(f->data, data, len);
}

static int key_expected(struct file *d, unsigned name, int above, bool put)
{
	struct file *f = d ? d->entries[name] : NULL;

	if (above)
		return above;
	if (!f)
		return put ? 0 : -KV_E_NOTFOUND;
	if (f->type == S_IFDIR)
		return -EISDIR;
	return f->type == S_IFREG ? 0 : -EINVAL;
}

static void op_key_put(struct world *w)
{
	static const size_t lens[] = {1, 100, 2048, 2049, 70000, 150000};
	char key[1024];
	struct kvfs_txn *txn;
	struct file *d;
	unsigned name;
	size_t len = lens[below(w, 6)];
	uint8_t *data = malloc(len);
	struct kv_slice k, v = kv_slice_of(data, len);
	int above = random_key(w, key, &d, &name), err;

	ck_assert_ptr_nonnull(data);
	memset(data, (int)below(w, 256), len);
	k = test_str(key);
	if (below(w, 2)) {
		err = kvfs_key_put(w->m.fs, k, v, &model_owner);
	} else {
		ok(kvfs_txn_begin(w->m.fs, &model_owner, &txn));
		err = kvfs_txn_put(txn, k, v);
		if (!err)
			err = kvfs_txn_commit(txn, false);
		else
			kvfs_txn_abort(txn);
	}
	ck_assert_int_eq(err, key_expected(d, name, above, true));
	if (!err)
		key_was_put(w, key, name, data, len);
	free(data);
}

static void op_key_get(struct world *w)
{
	struct kv_buf value = {0};
	char key[1024];
	struct file *d;
	unsigned name;
	int above = random_key(w, key, &d, &name), err;

	err = kvfs_key_get(w->m.fs, test_str(key), &value);
	ck_assert_int_eq(err, key_expected(d, name, above, false));
	if (!err) {
		ck_assert_uint_eq(value.len, d->entries[name]->size);
		ck_assert(!value.len || !memcmp(value.data, d->entries[name]->data, value.len));
	}
	kv_buf_free(&value);
}

static void op_key_delete(struct world *w)
{
	char key[1024];
	struct kvfs_txn *txn;
	struct file *d, *f;
	unsigned name;
	int above = random_key(w, key, &d, &name), err;

	if (below(w, 2)) {
		err = kvfs_key_delete(w->m.fs, test_str(key));
	} else {
		ok(kvfs_txn_begin(w->m.fs, &model_owner, &txn));
		err = kvfs_txn_delete(txn, test_str(key));
		if (!err)
			err = kvfs_txn_commit(txn, false);
		else
			kvfs_txn_abort(txn);
	}
	ck_assert_int_eq(err, key_expected(d, name, above, false));
	if (err)
		return;
	f = d->entries[name];
	d->entries[name] = NULL;
	entry_gone(d, f);
}

static struct file *twin_of(struct world *w, struct file *f, struct file *parent)
{
	struct file *t = f->twin;

	if (f->type != S_IFDIR && f->twin_no == w->copies) {
		t->nlink++;
		return t;
	}
	t = file_new(f->type, parent);
	f->twin = t;
	f->twin_no = w->copies;
	t->size = f->size;
	t->data = malloc(f->size + 1);
	memcpy(t->data, f->data ? f->data : (const uint8_t *)"", f->size);
	for (unsigned i = 0; i < XATTRS; i++) {
		t->xattr_set[i] = f->xattr_set[i];
		ok(buf_assign(&t->xattrs[i], kv_buf_slice(&f->xattrs[i])));
	}
	for (unsigned i = 0; i < NAMES; i++)
		if (f->entries[i]) {
			t->entries[i] = twin_of(w, f->entries[i], t);
			t->nlink += f->entries[i]->type == S_IFDIR;
		}
	return t;
}

static void learn_inos(struct world *w, struct file *d, struct kvfs_node *node)
{
	struct kvfs_node *child;

	d->ino = kvfs_node_ino(node);
	for (unsigned i = 0; i < NAMES; i++)
		if (d->entries[i]) {
			child = model_lookup(&w->m, node, names[i]);
			learn_inos(w, d->entries[i], child);
			model_forget(&w->m, child);
		}
}

static unsigned tree_size(const struct file *d, unsigned *height)
{
	unsigned size = 1, most = 0, h;

	for (unsigned i = 0; i < NAMES; i++)
		if (d->entries[i]) {
			size += tree_size(d->entries[i], &h);
			most = h > most ? h : most;
		}
	*height = most + 1;
	return size;
}

static void path_of(const struct file *d, struct kv_buf *out)
{
	unsigned i = 0;

	if (!d->parent)
		return;
	path_of(d->parent, out);
	for (; d->parent->entries[i] != d; i++)
		;
	ok(buf_printf(out, "%s%s", out->len ? "/" : "", names[i]));
}

static void op_clone(struct world *w)
{
	bool then = w->then && below(w, 2);
	struct file *s = random_dir_of(w, then ? w->then : w->root), *d = random_dir(w), *t;
	unsigned i = (unsigned)below(w, NAMES), height;
	struct kv_buf from = {0}, to = {0};
	struct kvfs_node *node, *dir;
	int err;

	if (tree_size(s, &height) > 60 || height + d->depth > 20)
		return;
	path_of(s, &from);
	path_of(d, &to);
	ok(buf_printf(&to, "%s%s", to.len ? "/" : "", names[i]));
	err = kvfs_clone(w->m.fs, then ? "then" : NULL, kv_buf_slice(&from), kv_buf_slice(&to),
			 NULL, NULL);
	ck_assert_int_eq(err, d->entries[i] ? -EEXIST : 0);
	kv_buf_free(&from);
	kv_buf_free(&to);
	if (err)
		return;
	w->copies++;
	t = twin_of(w, s, d); /* before it is in what may be its source */
	d->entries[i] = t;
	d->nlink++;
	set_depth(t, d);
	dir = node_of(w, d);
	node = model_lookup(&w->m, dir, names[i]);
	learn_inos(w, t, node);
	model_forget(&w->m, node);
	model_forget(&w->m, dir);
}

static void tree_free(struct file *d)
{
	for (unsigned i = 0; i < NAMES; i++) {
		struct file *f = d->entries[i];

		if (!f)
			continue;
		if (f->type == S_IFDIR)
			tree_free(f);
		else if (--f->nlink == 0)
			file_free(f);
	}
	file_free(d);
}

static void op_snapshot(struct world *w)
{
	if (w->then) {
		ok(kvfs_snapshot_drop(w->m.fs, "then"));
		tree_free(w->then);
	}
	ok(kvfs_snapshot_create(w->m.fs, "then"));
	w->copies++;
	w->then = twin_of(w, w->root, NULL);
}

static void op_forget(struct world *w)
{
	if (w->held_count)
		release(w, (unsigned)below(w, w->held_count));
}

/* ---- comparing ---- */

static void compare_file(struct world *w, struct file *f, struct kvfs_node *node)
{
	struct kvfs_attr attr = model_attr(&w->m, node);
	struct kv_buf got = {0};
	int err;

	ck_assert_uint_eq(attr.ino, f->ino);
	ck_assert_uint_eq(attr.mode & S_IFMT, f->type);
	ck_assert_uint_eq(attr.nlink, f->nlink);
	ck_assert_uint_eq(attr.size, f->type == S_IFDIR ? 0 : f->size);
	if (f->type == S_IFREG)
		model_expect(&w->m, node, kv_slice_of(f->data, f->size));
	if (f->type == S_IFLNK) {
		ok(kvfs_readlink(w->m.fs, node, &got));
		ck_assert_uint_eq(got.len, f->size);
	}
	for (unsigned i = 0; i < XATTRS; i++) {
		err = kvfs_getxattr(w->m.fs, node, xattr_names[i], &got);
		ck_assert_int_eq(err, f->xattr_set[i] ? 0 : -ENODATA);
		if (!err)
			ck_assert(slice_equal(kv_buf_slice(&got), kv_buf_slice(&f->xattrs[i])));
	}
	kv_buf_free(&got);
}

struct seen {
	struct kv_buf keys;
};

/* Paths in the order of bytes with '/' as 0: names are visited in the order of their bytes. */
static void compare_dir(struct world *w, struct file *d, struct kvfs_node *node, const char *path,
			struct seen *keys)
{
	static const unsigned order[NAMES] = {0, 1, 7, 2, 3, 4, 6, 8, 5};
	struct kv_buf want = {0};
	struct kvfs_node *child;
	char sub[8192];

	ok(buf_printf(&want, ". .. "));
	for (unsigned n = 0; n < NAMES; n++) {
		unsigned i = order[n];
		struct file *f = d->entries[i];

		if (!f)
			continue;
		ok(buf_printf(&want, "%s ", names[i]));
		child = model_lookup(&w->m, node, names[i]);
		compare_file(w, f, child);
		snprintf(sub, sizeof(sub), "%s%s", path, names[i]);
		if (f->type == S_IFREG)
			ok(buf_printf(&keys->keys, "%s\n", sub));
		strcat(sub, "/");
		if (f->type == S_IFDIR)
			compare_dir(w, f, child, sub, keys);
		model_forget(&w->m, child);
	}
	model_expect_list(&w->m, node, (const char *)want.data);
	kv_buf_free(&want);
}

static int scan_emit(void *ctx, struct kv_slice key, struct kv_slice value)
{
	struct seen *s = ctx;

	(void)value;
	ok(buf_append_slice(&s->keys, key));
	ok(buf_append_byte(&s->keys, '\n'));
	return 0;
}

static void compare_all(struct world *w)
{
	struct kvfs_scan scan = {.keys_only = false};
	struct seen want = {0}, got = {0};

	compare_dir(w, w->root, w->m.root, "", &want);
	for (unsigned i = 0; i < w->held_count; i++)
		compare_file(w, w->held[i], w->held[i]->held);
	ok(kvfs_key_scan(w->m.fs, &scan, scan_emit, &got));
	ck_assert(slice_equal(kv_buf_slice(&want.keys), kv_buf_slice(&got.keys)));
	kv_buf_free(&want.keys);
	kv_buf_free(&got.keys);
}

static void step(struct world *w)
{
	static void (*const ops[])(struct world *) = {
		op_create,     op_create,    op_create, op_remove,   op_rename,	 op_rename,
		op_link,       op_write,     op_write,	op_write,    op_read,	 op_read,
		op_truncate,   op_fallocate, op_copy,	op_xattr,    op_key_put, op_key_get,
		op_key_delete, op_forget,    op_clone,	op_snapshot,
	};

	ops[below(w, KV_ARRAY_COUNT(ops))](w);
}

static void run(struct world *w, unsigned flags, unsigned rounds, unsigned steps)
{
	model_make_with(&w->m, flags, KVFS_RELATIME);
	w->root = file_new(S_IFDIR, NULL);
	w->root->ino = KVFS_ROOT_INO;
	for (unsigned r = 0; r < rounds; r++) {
		for (unsigned i = 0; i < steps; i++)
			step(w);
		compare_all(w);
		while (w->held_count)
			release(w, 0);
		model_check(&w->m);
		compare_all(w);
	}
	ck_assert_uint_eq(model_count_keys(&w->m, MODEL_ORPHANS), 0);
	tree_free(w->root);
	if (w->then)
		tree_free(w->then);
	model_free(&w->m);
}

START_TEST(test_random_operations_match_a_tree_in_memory)
{
	static struct world w;

	memset(&w, 0, sizeof(w));
	w.rng = test_rng_seeded(__func__);
	run(&w, 0, 8, 600);
}
END_TEST

START_TEST(test_random_operations_match_with_lazy_times)
{
	static struct world w;

	memset(&w, 0, sizeof(w));
	w.rng = test_rng_seeded(__func__);
	run(&w, KVFS_LAZYTIME, 8, 600);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_random_operations_match_a_tree_in_memory,
		test_random_operations_match_with_lazy_times,
	};

	return test_suite_run("prop_model", tests, KV_ARRAY_COUNT(tests), 700);
}
