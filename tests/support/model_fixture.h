/* SPDX-License-Identifier: MIT */
/*
 * A kvfs volume in a simulated host, for tests of libkvfs. Only functions in a
 * header, because it needs layer_model, which not every test links.
 */
#ifndef TESTS_SUPPORT_MODEL_FIXTURE_H
#define TESTS_SUPPORT_MODEL_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "fusefs/model/kvfs.h"
#include "fusefs/model/model.h"
#include "fusefs/model/node.h"
#include "fusefs/model/place.h"
#include "kvcore/base/buf.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define MODEL_VOLUME	 "volume"
#define ok(call)	 ck_assert_int_eq((call), 0)
#define fails(call, err) ck_assert_int_eq((call), (err))

struct model_fixture {
	struct sim_env *env;
	struct kvfs *fs;
	struct kvfs_node *root;
	struct kvfs_options options;
};

static const struct kvfs_owner model_owner = {1000, 1000, 022};

static inline void model_open(struct model_fixture *m)
{
	m->options.kv.env = sim_env_os(m->env);
	ok(kvfs_open(MODEL_VOLUME, &m->options, &m->fs));
	m->root = kvfs_root(m->fs);
}

static inline void model_close(struct model_fixture *m)
{
	ok(kvfs_close(m->fs));
	m->fs = NULL;
}

static inline void model_make_with(struct model_fixture *m, unsigned flags, enum kvfs_atime atime)
{
	struct kv_create_options o = {.log_size_bytes = 4U * 1024 * 1024};

	memset(m, 0, sizeof(*m));
	m->env = sim_env_new(1);
	o.env = sim_env_os(m->env);
	ok(kvfs_mkfs(MODEL_VOLUME, &o, &model_owner));
	m->options.flags = flags;
	m->options.atime = atime;
	m->options.kv.cache_bytes = 16U << 20;
	model_open(m);
}

static inline void model_make(struct model_fixture *m)
{
	model_make_with(m, 0, KVFS_NOATIME);
}

static inline void model_free(struct model_fixture *m)
{
	if (m->fs)
		model_close(m);
	sim_env_free(m->env);
}

static inline void model_reopen(struct model_fixture *m)
{
	model_close(m);
	model_open(m);
}

static inline void model_print_problem(void *ctx, const struct kvfs_problem *p)
{
	(void)ctx;
	fprintf(stderr, "problem %d: %s%s\n", (int)p->id, p->text,
		p->repaired ? " (repaired)" : "");
}

/* The node of an entry, referenced. */
static inline struct kvfs_node *model_lookup(struct model_fixture *m, struct kvfs_node *dir,
					     const char *name)
{
	struct kvfs_node *node;

	ok(kvfs_lookup(m->fs, dir, name, &node, NULL));
	return node;
}

static inline struct kvfs_node *model_mkdir(struct model_fixture *m, struct kvfs_node *dir,
					    const char *name)
{
	struct kvfs_node *node;

	ok(kvfs_mkdir(m->fs, dir, name, 0755, &model_owner, &node, NULL));
	return node;
}

static inline struct kvfs_node *model_mkfile(struct model_fixture *m, struct kvfs_node *dir,
					     const char *name, struct kv_slice content)
{
	struct kvfs_node *node;

	ok(kvfs_mknod(m->fs, dir, name, S_IFREG | 0644, 0, &model_owner, &node, NULL));
	if (content.len)
		ok(kvfs_write(m->fs, node, 0, content, false));
	return node;
}

static inline void model_forget(struct model_fixture *m, struct kvfs_node *node)
{
	kvfs_node_forget(m->fs, node, 1);
}

static inline struct kvfs_attr model_attr(struct model_fixture *m, struct kvfs_node *node)
{
	struct kvfs_attr attr;

	ok(kvfs_getattr(m->fs, node, &attr));
	return attr;
}

static inline void model_expect(struct model_fixture *m, struct kvfs_node *node,
				struct kv_slice content)
{
	struct kv_buf got = {0};

	ok(kvfs_read(m->fs, node, 0, content.len + 100, &got));
	ck_assert_uint_eq(got.len, content.len);
	ck_assert_int_eq(content.len ? memcmp(got.data, content.data, content.len) : 0, 0);
	kv_buf_free(&got);
}

static inline bool model_exists(struct model_fixture *m, struct kvfs_node *dir, const char *name)
{
	struct kvfs_node *node;
	int err = kvfs_lookup(m->fs, dir, name, &node, NULL);

	if (err) {
		ck_assert_int_eq(err, -ENOENT);
		return false;
	}
	model_forget(m, node);
	return true;
}

struct model_listing {
	struct kv_buf text; /* names, each followed by a space */
	unsigned count;
	uint64_t cookie;     /* of the last */
	unsigned stop_after; /* refuse what comes after so many; 0: never */
};

static inline int model_list_emit(void *ctx, const struct kvfs_dirent *e)
{
	struct model_listing *l = (struct model_listing *)ctx;

	if (l->stop_after && l->count == l->stop_after)
		return 1;
	l->count++;
	l->cookie = e->cookie;
	ok(buf_printf(&l->text, "%s ", e->name));
	return 0;
}

/* All names in order, each followed by a space; freed by the caller. */
static inline char *model_list(struct model_fixture *m, struct kvfs_node *node)
{
	struct model_listing l = {0};
	struct kvfs_dir *dir;

	ok(kvfs_dir_open(m->fs, node, &dir));
	ok(kvfs_dir_read(dir, 0, false, model_list_emit, &l));
	kvfs_dir_close(dir);
	return (char *)l.text.data;
}

static inline void model_expect_list(struct model_fixture *m, struct kvfs_node *node,
				     const char *want)
{
	char *got = model_list(m, node);

	ck_assert_str_eq(got, want);
	free(got);
}

/* Entries of a keyspace, read from the engine. */
static inline unsigned model_count_keys(struct model_fixture *m, unsigned keyspace)
{
	struct kv_txn_options o = {.flags = KV_TXN_RDONLY};
	struct kv_txn *txn;
	struct kv_iter *it;
	unsigned count = 0;
	int err;

	ok(kv_txn_begin(kvfs_db(m->fs), &o, &txn));
	ok(kv_iter_open(txn, keyspace, NULL, &it));
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it))
		count++;
	fails(err, -KV_E_NOTFOUND);
	kv_iter_close(it);
	kv_txn_abort(txn);
	return count;
}

/* Close, check, and open again; no problem may be found. */
static inline void model_check(struct model_fixture *m)
{
	struct kvfs_check_options o = {.found = model_print_problem};
	struct kvfs_check_result result;

	model_close(m);
	o.env = sim_env_os(m->env);
	ok(kvfs_check(MODEL_VOLUME, &o, &result));
	ck_assert_uint_eq(result.problems, 0);
	model_open(m);
}

#endif
