/* SPDX-License-Identifier: MIT */
/*
 * Streams between two simulated hosts: random changes, each sent as a difference and compared by
 * a root hash that is computed from nothing; power cuts while receiving.
 */
#include "tests/support/meanwhile.h"
#include "tests/support/model_random.h"

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

static void make_part(const char *from, const char *name, const char *token, struct kv_buf *out)
{
	struct kvfs_send *s;
	int err;

	buf_clear(out);
	ok(kvfs_send_open(m.fs, from, name, token, &s));
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

static void make_stream(const char *from, const char *name, struct kv_buf *out)
{
	make_part(from, name, NULL, out);
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
		err = kvfs_receive_finish(r, NULL, NULL, done);
	kvfs_receive_close(r);
	return err;
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
			random_step(&m, &rng);
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
		random_step(&m, &rng);
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

/* Whether what is open of a node is what is there at a path. */
static void expect_at(const char *name, struct kvfs_node *node)
{
	struct kvfs_node *now = model_lookup(&other, other.root, name);

	ck_assert_ptr_eq(now, node);
	model_forget(&other, now);
}

static void count_stale(void *ctx, uint64_t ino, const char *name)
{
	unsigned *count = ctx;

	(void)ino;
	(void)name;
	++*count;
}

static int receive_into(struct kvfs_receive *r, const struct kv_buf *stream)
{
	return kvfs_receive_put(r, kv_buf_slice(stream));
}

START_TEST(test_open_files_live_on)
{
	struct kvfs_node *kept, *gone, *moved, *d;
	struct kv_buf first = {0}, second = {0};
	struct kvfs_draft_hooks hooks = {0};
	struct kvfs_received done;
	struct kvfs_receive *r;
	unsigned stale = 0;

	d = model_mkdir(&m, m.root, "d");
	model_forget(&m, model_mkfile(&m, m.root, "kept", test_str("old")));
	model_forget(&m, model_mkfile(&m, m.root, "gone", test_str("gone")));
	model_forget(&m, model_mkfile(&m, m.root, "moved", test_str("moved")));
	ok(kvfs_snapshot_create(m.fs, "a"));
	make_stream(NULL, "a", &first);
	kept = model_lookup(&m, m.root, "kept");
	ok(kvfs_write(m.fs, kept, 0, test_str("new contents"), false));
	model_forget(&m, kept);
	ok(kvfs_unlink(m.fs, m.root, "gone"));
	ok(kvfs_rename(m.fs, m.root, "moved", d, "here", 0));
	model_forget(&m, d);
	ok(kvfs_snapshot_create(m.fs, "b"));
	make_stream("a", "b", &second);

	ok(receive(&first, 1000, &done));
	kept = model_lookup(&other, other.root, "kept");
	gone = model_lookup(&other, other.root, "gone");
	moved = model_lookup(&other, other.root, "moved");
	hooks.stale = count_stale;
	hooks.ctx = &stale;
	ok(kvfs_receive_open(other.fs, test_str(""), &r));
	ok(receive_into(r, &second));
	model_expect(&other, kept, test_str("old"));
	ok(kvfs_receive_finish(r, NULL, &hooks, &done));
	kvfs_receive_close(r);
	ck_assert_uint_ge(stale, 5); /* three files, two names, d and the root */
	expect_at("kept", kept);
	model_expect(&other, kept, test_str("new contents"));
	model_expect(&other, gone, test_str("gone"));
	ck_assert_uint_eq(model_attr(&other, gone).nlink, 0);
	model_expect(&other, moved, test_str("moved"));
	d = model_lookup(&other, other.root, "d");
	ck_assert_uint_eq(kvfs_node_parent_ino(other.fs, moved), kvfs_node_ino(d));
	model_forget(&other, d);
	model_forget(&other, kept);
	model_forget(&other, gone);
	model_forget(&other, moved);
	ck_assert_uint_eq(model_count_keys(&other, MODEL_ORPHANS), 0);
	model_check(&other);
	kv_buf_free(&first);
	kv_buf_free(&second);
}
END_TEST

/* What is changed in the directory after the stream began is not lost, and said. */
START_TEST(test_changes_while_it_comes_are_told)
{
	struct kv_buf first = {0}, second = {0};
	struct kvfs_received done;
	struct kvfs_receive *r;

	fill(4);
	ok(kvfs_snapshot_create(m.fs, "a"));
	make_stream(NULL, "a", &first);
	fill(5);
	ok(kvfs_snapshot_create(m.fs, "b"));
	make_stream("a", "b", &second);
	model_forget(&other, model_mkdir(&other, other.root, "in"));
	ok(kvfs_receive_open(other.fs, test_str("in"), &r));
	ok(receive_into(r, &first));
	ok(kvfs_receive_finish(r, NULL, NULL, &done));
	kvfs_receive_close(r);

	ok(kvfs_receive_open(other.fs, test_str("in"), &r));
	ok(receive_into(r, &second));
	ok(kvfs_key_put(other.fs, test_str("in/local"), test_str("x"), 0));
	fails(kvfs_receive_finish(r, NULL, NULL, &done), -EBUSY);
	kvfs_receive_close(r);
	ck_assert_uint_eq(model_count_keys(&other, MODEL_ORPHANS), 0);
	fails(kvfs_snapshot_hash(other.fs, "b", done.hash), -KV_E_NOTFOUND);
	/* Beside it others may do what they want. */
	ok(kvfs_key_delete(other.fs, test_str("in/local")));
	ok(kvfs_snapshot_drop(other.fs, "a")); /* so that the contents count, not the times */
	ok(kvfs_receive_open(other.fs, test_str("in"), &r));
	fails(receive_into(r, &second), -ESTALE);
	kvfs_receive_close(r);
	model_check(&other);
	kv_buf_free(&first);
	kv_buf_free(&second);
}
END_TEST

static int make_late(void *ctx)
{
	(void)ctx;
	return kvfs_key_put(other.fs, test_str("late"), test_str("x"), 0);
}

static int take_name(void *ctx)
{
	return kvfs_snapshot_create(other.fs, ctx);
}

/* "b" comes to a tree that is as "a" was sent, and @act happens while it is applied. */
static int receive_while(int (*act)(void *ctx), void *ctx)
{
	struct meanwhile w = {.act = act, .ctx = ctx};
	const struct kv_progress progress = {meanwhile_report, &w};
	struct kv_buf stream = {0};
	struct kvfs_received done;
	struct kvfs_receive *r;
	int err;

	fill(6);
	ok(kvfs_snapshot_create(m.fs, "a"));
	make_stream(NULL, "a", &stream);
	ok(receive(&stream, 1000, &done));
	fill(7);
	ok(kvfs_snapshot_create(m.fs, "b"));
	make_stream("a", "b", &stream);
	ok(kvfs_receive_open(other.fs, test_str(""), &r));
	ok(receive_into(r, &stream));
	err = kvfs_receive_finish(r, &progress, NULL, &done);
	kvfs_receive_close(r);
	ck_assert(w.done);
	ok(w.err);
	kv_buf_free(&stream);
	return err;
}

static int interrupt(void *ctx, uint64_t done, uint64_t total)
{
	(void)total;
	return done > *(const uint64_t *)ctx;
}

/* What is missing of a stream, as far as the other side knows. */
static void make_rest(const char *from, const char *name, struct kv_buf *out)
{
	struct kv_buf token = {0};

	ok(kvfs_receive_token(other.fs, &token));
	ok(buf_append_byte(&token, 0));
	make_part(from, name, (const char *)token.data, out);
	kv_buf_free(&token);
}

/* All frames have come, and are applied, when somebody interrupts it: it goes on as after any
 * break, any number of times, and after the next opening. */
START_TEST(test_what_is_interrupted_at_its_end_can_be_resumed)
{
	struct kv_buf stream = {0}, rest = {0};
	struct kvfs_received done;
	struct kvfs_receive *r;
	uint8_t hash[KVFS_HASH_LEN];

	fill(6);
	ok(kvfs_snapshot_create(m.fs, "a"));
	make_stream(NULL, "a", &stream);
	ok(buf_append_slice(&rest, kv_buf_slice(&stream)));
	for (uint64_t after = 0; after < 3; after++) {
		const struct kv_progress progress = {interrupt, &after};

		ok(kvfs_receive_open(other.fs, test_str(""), &r));
		ok(receive_into(r, &rest));
		fails(kvfs_receive_finish(r, &progress, NULL, &done), -KV_E_INTERRUPTED);
		kvfs_receive_close(r);
		fails(kvfs_snapshot_hash(other.fs, "a", hash), -KV_E_NOTFOUND);
		make_rest(NULL, "a", &rest);
		ck_assert_uint_lt(rest.len, stream.len);
		if (after == 1)
			model_reopen(&other);
	}
	ok(receive(&rest, 10, &done));
	ok(kvfs_snapshot_hash(m.fs, "a", hash));
	ck_assert_mem_eq(done.hash, hash, sizeof(hash));
	ok(kvfs_snapshot_hash(other.fs, "a", hash));
	ck_assert_mem_eq(done.hash, hash, sizeof(hash));
	fails(kvfs_receive_token(other.fs, &rest), -KV_E_NOTFOUND);
	model_check(&other);
	kv_buf_free(&stream);
	kv_buf_free(&rest);
}
END_TEST

/* Though it touches nothing that the stream does. */
START_TEST(test_a_change_while_it_is_applied_is_told)
{
	struct kv_buf value = {0};

	fails(receive_while(make_late, NULL), -EBUSY);
	ok(kvfs_key_get(other.fs, test_str("late"), &value));
	ok(kvfs_key_delete(other.fs, test_str("late")));
	kv_buf_free(&value);
	model_check(&other);
}
END_TEST

START_TEST(test_a_snapshot_of_its_name_taken_meanwhile_keeps_it_out)
{
	uint8_t want[KVFS_HASH_LEN], got[KVFS_HASH_LEN];
	char name[] = "b";

	fails(receive_while(take_name, name), -EEXIST);
	ok(kvfs_snapshot_hash(other.fs, "a", want));
	hash_now(other.fs, got);
	ck_assert_mem_eq(want, got, sizeof(want));
	model_check(&other);
}
END_TEST

/* A crash may have come between the switch and the snapshot; but this is not what was received. */
START_TEST(test_what_was_received_and_changed_gets_no_snapshot)
{
	struct kvfs_received done;
	struct kv_buf stream = {0};

	fill(8);
	ok(kvfs_snapshot_create(m.fs, "a"));
	make_stream(NULL, "a", &stream);
	ok(receive(&stream, 1000, &done));
	ok(kvfs_snapshot_drop(other.fs, "a"));
	ok(receive(&stream, 1000, &done));
	ck_assert(done.already);
	ok(kvfs_snapshot_drop(other.fs, "a"));
	ok(make_late(NULL));
	fails(receive(&stream, 1000, &done), -ENOTEMPTY);
	fails(kvfs_snapshot_hash(other.fs, "a", done.hash), -KV_E_NOTFOUND);
	kv_buf_free(&stream);
}
END_TEST

START_TEST(test_what_was_received_and_undone_comes_again)
{
	struct kvfs_received done;
	struct kv_buf stream = {0};
	uint8_t want[KVFS_HASH_LEN], got[KVFS_HASH_LEN];

	fill(9);
	ok(kvfs_snapshot_create(m.fs, "a"));
	make_stream(NULL, "a", &stream);
	ok(receive(&stream, 1000, &done));
	fill(10);
	ok(kvfs_snapshot_create(m.fs, "b"));
	make_stream("a", "b", &stream);
	ok(receive(&stream, 1000, &done));
	ok(kvfs_snapshot_restore(other.fs, "a", NULL, NULL));
	fails(receive(&stream, 1000, &done),
	      -EBUSY); /* its snapshot is there, and says otherwise */
	ok(kvfs_snapshot_drop(other.fs, "b"));
	ok(receive(&stream, 1000, &done));
	ck_assert(!done.already);
	hash_now(m.fs, want);
	hash_now(other.fs, got);
	ck_assert_mem_eq(want, got, sizeof(want));
	kv_buf_free(&stream);
}
END_TEST

START_TEST(test_changes_beside_the_directory_do_no_harm)
{
	struct kv_buf first = {0}, value = {0};
	struct kvfs_received done;
	struct kvfs_receive *r;

	fill(6);
	ok(kvfs_snapshot_create(m.fs, "a"));
	make_stream(NULL, "a", &first);
	model_forget(&other, model_mkdir(&other, other.root, "in"));
	ok(kvfs_receive_open(other.fs, test_str("in"), &r));
	ok(receive_into(r, &first));
	ok(kvfs_key_put(other.fs, test_str("local"), test_str("x"), 0));
	ok(kvfs_receive_finish(r, NULL, NULL, &done));
	kvfs_receive_close(r);
	ok(kvfs_key_get(other.fs, test_str("local"), &value));
	kv_buf_free(&value);
	model_check(&other);
	kv_buf_free(&first);
}
END_TEST

/* Its key is the same in both states, but its directory is another, which is elsewhere. */
START_TEST(test_a_name_follows_a_directory_that_took_the_place_of_another)
{
	struct kv_buf stream = {0};
	struct kvfs_received done;
	struct kvfs_node *d = model_mkdir(&m, m.root, "d"), *e = model_mkdir(&m, d, "e"), *node;
	uint8_t want[KVFS_HASH_LEN], got[KVFS_HASH_LEN];

	model_forget(&m, model_mkfile(&m, d, "f", test_str("f")));
	model_forget(&m, model_mkfile(&m, e, "below", test_str("below")));
	model_forget(&m, e);
	ok(kvfs_snapshot_create(m.fs, "a"));
	make_stream(NULL, "a", &stream);
	ok(receive(&stream, 1000, &done));
	ok(kvfs_rename(m.fs, d, "f", m.root, "f", 0));
	ok(kvfs_rename(m.fs, d, "e", m.root, "e", 0));
	model_forget(&m, d);
	ok(kvfs_rmdir(m.fs, m.root, "d"));
	d = model_mkdir(&m, m.root, "d");
	ok(kvfs_rename(m.fs, m.root, "f", d, "f", 0));
	ok(kvfs_rename(m.fs, m.root, "e", d, "e", 0));
	ok(kvfs_rename(m.fs, m.root, "d", m.root, "elsewhere", 0));
	model_forget(&m, d);
	ok(kvfs_snapshot_create(m.fs, "b"));
	make_stream("a", "b", &stream);
	ok(receive(&stream, 1000, &done));
	d = model_lookup(&other, other.root, "elsewhere");
	node = model_lookup(&other, d, "f");
	model_expect(&other, node, test_str("f"));
	model_forget(&other, node);
	model_forget(&other, d);
	ck_assert_uint_eq(model_count_keys(&other, MODEL_NAMES), 4);
	hash_now(m.fs, want);
	hash_now(other.fs, got);
	ck_assert_mem_eq(want, got, sizeof(want));
	ck_assert_mem_eq(want, done.hash, sizeof(want));
	model_check(&other);
	kv_buf_free(&stream);
}
END_TEST

static void expect_below(struct kvfs_node *node, uint64_t *dir_id)
{
	struct kvfs_node *d = model_lookup(&other, other.root, "d");

	*dir_id = kvfs_node_ino(d);
	ck_assert_uint_eq(kvfs_node_parent_ino(other.fs, node), *dir_id);
	fails(kvfs_rename(other.fs, other.root, "d", node, "d", 0), -EINVAL);
	model_forget(&other, d);
}

/* Its key and record stay as they are, but the directory above it is another one; and back. */
START_TEST(test_what_stays_in_place_follows_its_directory)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d"), *below;
	struct kv_buf stream = {0};
	struct kvfs_received done;
	uint64_t first, second, again;

	model_forget(&m, model_mkdir(&m, d, "below"));
	ok(kvfs_snapshot_create(m.fs, "a"));
	make_stream(NULL, "a", &stream);
	ok(receive(&stream, 1000, &done));
	ok(kvfs_rename(m.fs, d, "below", m.root, "below", 0));
	model_forget(&m, d);
	ok(kvfs_rmdir(m.fs, m.root, "d"));
	d = model_mkdir(&m, m.root, "d");
	ok(kvfs_rename(m.fs, m.root, "below", d, "below", 0));
	model_forget(&m, d);
	ok(kvfs_snapshot_create(m.fs, "b"));
	make_stream("a", "b", &stream);

	d = model_lookup(&other, other.root, "d");
	below = model_lookup(&other, d, "below");
	model_forget(&other, d);
	expect_below(below, &first);
	ok(receive(&stream, 1000, &done));
	expect_below(below, &second);
	ck_assert_uint_ne(first, second);
	ok(kvfs_snapshot_restore(other.fs, "a", NULL, NULL));
	expect_below(below, &again);
	ck_assert_uint_eq(first, again);
	model_forget(&other, below);
	model_check(&other);
	kv_buf_free(&stream);
}
END_TEST

START_TEST(test_where_nothing_can_be_received_is_said)
{
	struct kvfs_receive *r;

	model_forget(&other, model_mkdir(&other, other.root, "d"));
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
		test_open_files_live_on,
		test_changes_while_it_comes_are_told,
		test_what_is_interrupted_at_its_end_can_be_resumed,
		test_a_change_while_it_is_applied_is_told,
		test_a_snapshot_of_its_name_taken_meanwhile_keeps_it_out,
		test_what_was_received_and_changed_gets_no_snapshot,
		test_what_was_received_and_undone_comes_again,
		test_changes_beside_the_directory_do_no_harm,
		test_a_name_follows_a_directory_that_took_the_place_of_another,
		test_what_stays_in_place_follows_its_directory,
		test_where_nothing_can_be_received_is_said,
	};

	return test_suite_run_with("receive", tests, KV_ARRAY_COUNT(tests), 120, setup, teardown);
}
