/* SPDX-License-Identifier: MIT */
/*
 * Random changes of a tree with few names, so that they meet: files, directories, links, moves,
 * contents, attributes. Only functions in a header, as model_fixture.h.
 */
#ifndef TESTS_SUPPORT_MODEL_RANDOM_H
#define TESTS_SUPPORT_MODEL_RANDOM_H

#include <linux/falloc.h>

#include "fusefs/model/roothash.h"
#include "fusefs/model/state.h"
#include "kvcore/base/base.h"
#include "tests/support/model_fixture.h"

/* The root hash of what is there now, from all of it. */
static inline void hash_now(struct kvfs *fs, uint8_t out[KVFS_HASH_LEN])
{
	struct state now;
	struct roothash h;

	ok(roothash_init(&h));
	ok(state_open(fs, NULL, &now));
	ok(roothash_tree(&h, now.txn, test_str(""), test_str(""), true));
	ok(roothash_final(&h, out));
	state_close(&now);
	roothash_fini(&h);
}

static const char *const random_names[] = {"n0", "n1", "n2", "n3", "n4"};
#define RANDOM_NAMES KV_ARRAY_COUNT(random_names)

static inline const char *random_name(struct test_rng *rng)
{
	return random_names[test_rng_below(rng, RANDOM_NAMES)];
}

/* A directory found by a random walk down. */
static inline struct kvfs_node *random_dir(struct model_fixture *m, struct test_rng *rng)
{
	struct kvfs_node *dir = m->root, *next;
	struct kvfs_attr attr;

	for (unsigned depth = (unsigned)test_rng_below(rng, 4); depth; depth--) {
		if (kvfs_lookup(m->fs, dir, random_name(rng), &next, &attr))
			continue;
		if ((attr.mode & S_IFMT) != S_IFDIR) {
			model_forget(m, next);
			continue;
		}
		if (dir != m->root)
			model_forget(m, dir);
		dir = next;
	}
	return dir;
}

static inline void random_change(struct model_fixture *m, struct test_rng *rng,
				 struct kvfs_node *dir, const char *name)
{
	struct kvfs_node *node;
	struct kvfs_attr attr;
	uint8_t data[5000];

	if (kvfs_lookup(m->fs, dir, name, &node, &attr))
		return;
	test_rng_fill(rng, data, sizeof(data));
	if ((attr.mode & S_IFMT) == S_IFREG) {
		switch (test_rng_below(rng, 4)) {
		case 0:
			attr.size = test_rng_below(rng, 400000);
			ok(kvfs_setattr(m->fs, node, KVFS_SET_SIZE, &attr, NULL));
			break;
		case 1:
			ok(kvfs_fallocate(m->fs, node, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					  test_rng_below(rng, 100000),
					  1 + test_rng_below(rng, 200000)));
			break;
		default:
			ok(kvfs_write(m->fs, node, test_rng_below(rng, 300000),
				      kv_slice_of(data, 1 + test_rng_below(rng, sizeof(data))),
				      false));
		}
	} else {
		ok(kvfs_setxattr(m->fs, node, "user.x",
				 kv_slice_of(data, test_rng_below(rng, 3000)), 0));
	}
	model_forget(m, node);
}

static inline void random_step(struct model_fixture *m, struct test_rng *rng)
{
	struct kvfs_node *a = random_dir(m, rng), *b = random_dir(m, rng), *node;
	const char *x = random_name(rng);
	const char *y = random_name(rng);

	switch (test_rng_below(rng, 12)) {
	case 0:
	case 1:
		(void)!kvfs_mkdir(m->fs, a, x, 0755, &model_owner, NULL, NULL);
		break;
	case 2:
	case 3:
		(void)!kvfs_mknod(m->fs, a, x, S_IFREG | 0644, 0, &model_owner, NULL, NULL);
		break;
	case 4:
		(void)!kvfs_symlink(m->fs, a, x, y, &model_owner, NULL, NULL);
		break;
	case 5:
		if (kvfs_unlink(m->fs, a, x))
			(void)!kvfs_rmdir(m->fs, a, x);
		break;
	case 6:
		if (!kvfs_lookup(m->fs, a, x, &node, NULL)) {
			(void)!kvfs_link(m->fs, node, b, y, NULL, NULL);
			model_forget(m, node);
		}
		break;
	case 7:
	case 8:
		(void)!kvfs_rename(m->fs, a, x, b, y,
				   test_rng_below(rng, 3) ? 0 : KVFS_RENAME_EXCHANGE);
		break;
	default:
		random_change(m, rng, a, x);
	}
	if (a != m->root)
		model_forget(m, a);
	if (b != m->root)
		model_forget(m, b);
}

#endif
