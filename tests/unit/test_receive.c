/* SPDX-License-Identifier: MIT */
/*
 * Streams between two simulated hosts: random changes, each sent as a difference and compared by
 * a root hash that is computed from nothing; power cuts while receiving.
 */
#include <linux/falloc.h>

#include "fusefs/model/roothash.h"
#include "fusefs/model/state.h"
#include "kvcore/base/base.h"
#include "tests/support/model_fixture.h"

static struct model_fixture m, other;

static void setup(void)
{
	model_make(&m);
	model_make(&other);
}

static void teardown(void)
{
	model_free(&m);
	model_free(&other);
}

static void make_stream(const char *from, const char *name, struct kv_buf *out)
{
	struct kvfs_send *s;
	int err;

	buf_clear(out);
	ok(kvfs_send_open(m.fs, from, name, NULL, &s));
	do {
		struct kv_buf piece = {0};

		err = kvfs_send_read(s, &piece);
		if (!err)
			ok(buf_append_slice(out, kv_buf_slice(&piece)));
		kv_buf_free(&piece);
	} while (!err);
	fails(err, -KV_E_NOTFOUND);
	kvfs_send_close(s);
}

/* In pieces of @piece bytes. */
static int receive(const struct kv_buf *stream, size_t piece, struct kvfs_received *done)
{
	struct kvfs_receive *r;
	int err = kvfs_receive_open(other.fs, test_str(""), &r);

	if (err)
		return err;
	for (size_t off = 0; !err && off < stream->len; off += piece)
		err = kvfs_receive_put(
			r, kv_slice_of(stream->data + off,
				       stream->len - off < piece ? stream->len - off : piece));
	if (!err)
		err = kvfs_receive_finish(r, done);
	kvfs_receive_close(r);
	return err;
}

/* The root hash of what is there now, from all of it. */
static void hash_now(struct kvfs *fs, uint8_t out[KVFS_HASH_LEN])
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

/* ---- random changes ---- */

#define NAMES 5U

static char name_buf[2][16];

static const char *name_of(unsigned slot, unsigned i)
{
	(void)snprintf(name_buf[slot], sizeof(name_buf[slot]), "n%u", i);
	return name_buf[slot];
}

/* A directory found by a random walk down. */
static struct kvfs_node *some_dir(struct test_rng *rng)
{
	struct kvfs_node *dir = m.root, *next;
	struct kvfs_attr attr;

	for (unsigned depth = (unsigned)test_rng_below(rng, 4); depth; depth--) {
		if (kvfs_lookup(m.fs, dir, name_of(0, (unsigned)test_rng_below(rng, NAMES)), &next,
				&attr))
			continue;
		if ((attr.mode & S_IFMT) != S_IFDIR) {
			model_forget(&m, next);
			continue;
		}
		if (dir != m.root)
			model_forget(&m, dir);
		dir = next;
	}
	return dir;
}

static void change_file(struct test_rng *rng, struct kvfs_node *dir, const char *name)
{
	struct kvfs_node *node;
	struct kvfs_attr attr;
	uint8_t data[5000];

	if (kvfs_lookup(m.fs, dir, name, &node, &attr))
		return;
	test_rng_fill(rng, data, sizeof(data));
	if ((attr.mode & S_IFMT) == S_IFREG) {
		switch (test_rng_below(rng, 4)) {
		case 0:
			attr.size = test_rng_below(rng, 400000);
			ok(kvfs_setattr(m.fs, node, KVFS_SET_SIZE, &attr, NULL));
			break;
		case 1:
			ok(kvfs_fallocate(m.fs, node, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					  test_rng_below(rng, 100000),
					  1 + test_rng_below(rng, 200000)));
			break;
		default:
			ok(kvfs_write(m.fs, node, test_rng_below(rng, 300000),
				      kv_slice_of(data, 1 + test_rng_below(rng, sizeof(data))),
				      false));
		}
	} else {
		ok(kvfs_setxattr(m.fs, node, "user.x", kv_slice_of(data, test_rng_below(rng, 3000)),
				 0));
	}
	model_forget(&m, node);
}

static void step(struct test_rng *rng)
{
	struct kvfs_node *a = some_dir(rng), *b = some_dir(rng), *node;
	const char *x = name_of(0, (unsigned)test_rng_below(rng, NAMES));
	const char *y = name_of(1, (unsigned)test_rng_below(rng, NAMES));

	switch (test_rng_below(rng, 12)) {
	case 0:
	case 1:
		(void)!kvfs_mkdir(m.fs, a, x, 0755, &model_owner, NULL, NULL);
		break;
	case 2:
	case 3:
		(void)!kvfs_mknod(m.fs, a, x, S_IFREG | 0644, 0, &model_owner, NULL, NULL);
		break;
	case 4:
		(void)!kvfs_symlink(m.fs, a, x, y, &model_owner, NULL, NULL);
		break;
	case 5:
		if (kvfs_unlink(m.fs, a, x))
			(void)!kvfs_rmdir(m.fs, a, x);
		break;
	case 6:
		if (!kvfs_lookup(m.fs, a, x, &node, NULL)) {
			(void)!kvfs_link(m.fs, node, b, y, NULL, NULL);
			model_forget(&m, node);
		}
		break;
	case 7:
	case 8:
		(void)!kvfs_rename(m.fs, a, x, b, y,
				   test_rng_below(rng, 3) ? 0 : KVFS_RENAME_EXCHANGE);
		break;
	default:
		change_file(rng, a, x);
	}
	if (a != m.root)
		model_forget(&m, a);
	if (b != m.root)
		model_forget(&m, b);
}

START_TEST(test_random_differences_arrive)
{
	struct test_rng rng = test_rng_seeded("receive");
	struct kvfs_received done;
	struct kv_buf stream = {0};
	char from[16] = "", name[16];
	uint8_t want[KVFS_HASH_LEN], got[KVFS_HASH_LEN];

	for (unsigned round = 0; round < 40; round++) {
		for (unsigned n = (unsigned)test_rng_below(&rng, 60); n; n--)
			step(&rng);
		(void)snprintf(name, sizeof(name), "s%u", round);
		ok(kvfs_snapshot_create(m.fs, name));
		make_stream(from[0] ? from : NULL, name, &stream);
		ok(receive(&stream, 1 + test_rng_below(&rng, 100000), &done));
		ck_assert(!done.already);
		ck_assert_str_eq(done.name, name);
		hash_now(m.fs, want);
		hash_now(other.fs, got);
		ck_assert_mem_eq(want, got, sizeof(want));
		ck_assert_mem_eq(want, done.hash, sizeof(want));
		ok(kvfs_snapshot_hash(other.fs, name, got));
		ck_assert_mem_eq(want, got, sizeof(want));
		memcpy(from, name, sizeof(from));
		if (round % 8 == 7)
			model_check(&other);
	}
	ok(receive(&stream, 1000, &done));
	ck_assert(done.already);
	kv_buf_free(&stream);
}
END_TEST

/* ---- power cuts ---- */

static void fill(unsigned seed)
{
	struct test_rng rng = {seed};

	for (unsigned n = 0; n < 200; n++)
		step(&rng);
}

START_TEST(test_a_power_cut_leaves_before_or_after)
{
	struct kv_buf first = {0}, second = {0};
	struct kvfs_received done;
	uint8_t a[KVFS_HASH_LEN], b[KVFS_HASH_LEN], now[KVFS_HASH_LEN];
	unsigned before = 0, after = 0;
	int err;

	fill(1);
	ok(kvfs_snapshot_create(m.fs, "a"));
	make_stream(NULL, "a", &first);
	fill(2);
	ok(kvfs_snapshot_create(m.fs, "b"));
	make_stream("a", "b", &second);
	ok(kvfs_snapshot_hash(m.fs, "a", a));
	ok(kvfs_snapshot_hash(m.fs, "b", b));
	for (unsigned n = 1; n <= 24; n++) {
		model_free(&other);
		model_make(&other);
		ok(receive(&first, 100000, &done));
		sim_env_cut(other.env, n);
		err = receive(&second, 100000, &done);
		sim_env_crash(other.env, n % 2 ? SIM_CRASH_MIX : SIM_CRASH_DROP);
		(void)!kvfs_close(other.fs);
		other.fs = NULL;
		sim_env_heal(other.env);
		model_open(&other);
		hash_now(other.fs, now);
		if (memcmp(now, b, sizeof(b)) != 0) {
			ck_assert_msg(err, "what was acknowledged is gone");
			ck_assert_mem_eq(now, a, sizeof(a));
			before++;
		} else {
			after++;
		}
		/* Again, from the beginning: it arrives, or did already and has its snapshot. */
		ok(receive(&second, 100000, &done));
		hash_now(other.fs, now);
		ck_assert_mem_eq(now, b, sizeof(b));
		ok(kvfs_snapshot_hash(other.fs, "b", now));
		ck_assert_mem_eq(now, b, sizeof(b));
		model_check(&other);
	}
	ck_assert_uint_gt(before, 0);
	ck_assert_uint_gt(after, 0);
	kv_buf_free(&first);
	kv_buf_free(&second);
}
END_TEST

START_TEST(test_any_flipped_bit_is_found)
{
	struct kv_buf stream = {0};
	struct kvfs_received done;

	fill(3);
	ok(kvfs_snapshot_create(m.fs, "a"));
	make_stream(NULL, "a", &stream);
	for (size_t at = 0; at < stream.len; at += 1 + stream.len / 150) {
		stream.data[at] ^= (uint8_t)(1U << at % 8);
		ck_assert_int_lt(receive(&stream, 50000, &done), 0);
		stream.data[at] ^= (uint8_t)(1U << at % 8);
	}
	ck_assert_uint_eq(model_count_keys(&other, MODEL_NAMES), 0);
	ok(receive(&stream, 50000, &done));
	kv_buf_free(&stream);
}
END_TEST

START_TEST(test_nodes_in_use_are_not_pulled_away)
{
	struct kvfs_node *d = model_mkdir(&other, other.root, "d");
	struct kvfs_receive *r;

	fails(kvfs_receive_open(other.fs, test_str(""), &r), -KV_E_BUSY);
	model_forget(&other, d);
	fails(kvfs_receive_open(other.fs, test_str("none"), &r), -ENOENT);
	ok(kvfs_set_readonly(other.fs, true));
	fails(kvfs_receive_open(other.fs, test_str("d"), &r), -KV_E_READONLY);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_random_differences_arrive,
		test_a_power_cut_leaves_before_or_after,
		test_any_flipped_bit_is_found,
		test_nodes_in_use_are_not_pulled_away,
	};

	return test_suite_run_with("receive", tests, KV_ARRAY_COUNT(tests), 120, setup, teardown);
}
