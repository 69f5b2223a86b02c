/* SPDX-License-Identifier: MIT */
/*
 * Large values in parts: what is read of one is verified and right whatever the part, and costs
 * the blocks in which it lies; what is written in pieces is the value, in bounded memory, and
 * holds up nobody's sync.
 */
#include <errno.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/txn.h"
#include "kvcore/kv_parts.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/engine_fixture.h"

#define VOLUME	 "vol"
#define VALUE_MB (1024U * 1024)

static struct kv_buf make_value(uint64_t seed, size_t len)
{
	struct test_rng rng = {seed};
	struct kv_buf b = {0};

	ck_assert_int_eq(buf_resize(&b, len), 0);
	test_rng_fill(&rng, b.data, seed % 2 ? len : len / 3); /* some compress */
	if (!(seed % 2))
		memset(b.data + len / 3, 'x', len - len / 3);
	return b;
}

static struct kv_slice slice_part(const struct kv_buf *b, uint64_t off, uint64_t len)
{
	off = min_u64(off, b->len);
	return kv_slice_of(b->data + off, (size_t)min_u64(len, b->len - off));
}

static size_t random_len(struct test_rng *rng)
{
	static const size_t edges[] = {1,
				       VALUE_BLOCK - 1,
				       VALUE_BLOCK,
				       VALUE_BLOCK + 1,
				       3 * VALUE_BLOCK,
				       3 * VALUE_BLOCK + 1};

	if (test_rng_below(rng, 2))
		return edges[test_rng_below(rng, KV_ARRAY_COUNT(edges))];
	return 1 + (size_t)test_rng_below(rng, 10 * VALUE_BLOCK);
}

static int get_part(struct fixture *f, const struct value_ref *ref, uint64_t off, uint64_t len,
		    struct kv_buf *out)
{
	struct version *v = versions_current(f->db.versions);
	int err = values_get_part(f->db.values, v, ref, (struct value_part){off, len}, out);

	version_unref(v);
	return err;
}

static void expect_parts(struct fixture *f, const struct value_ref *ref, const struct kv_buf *want,
			 struct test_rng *rng)
{
	struct kv_buf have = {0};

	ck_assert_int_eq(get_part(f, ref, 0, UINT64_MAX, &have), 0);
	ck_assert(slice_equal(kv_buf_slice(&have), kv_buf_slice(want)));
	for (unsigned i = 0; i < 20; i++) {
		uint64_t off = test_rng_below(rng, want->len + 2);
		uint64_t len = test_rng_below(rng, i % 2 ? 100 : 3 * VALUE_BLOCK);

		ck_assert_int_eq(get_part(f, ref, off, len, &have), 0);
		ck_assert(slice_equal(kv_buf_slice(&have), slice_part(want, off, len)));
	}
	kv_buf_free(&have);
}

START_TEST(test_any_part_of_a_value_is_read_back)
{
	struct test_rng rng = test_rng_seeded("parts");
	struct fixture f;

	fixture_make(&f, rng.state);
	fixture_open(&f);
	for (unsigned i = 0; i < 40; i++) {
		struct kv_buf b = make_value(i + 1, random_len(&rng));
		struct value_ref ref;

		ck_assert_int_eq(values_put(f.db.values, kv_buf_slice(&b), SPACE_VALUE, &ref), 0);
		ck_assert_uint_le(ref.stored_len, value_stored_max(b.len));
		expect_parts(&f, &ref, &b, &rng);
		values_settle(f.db.values, ref.segment_id);
		kv_buf_free(&b);
	}
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_a_value_written_in_pieces_is_the_same)
{
	struct test_rng rng = test_rng_seeded("pieces");
	struct fixture f;

	fixture_make(&f, rng.state);
	fixture_open(&f);
	for (unsigned i = 0; i < 30; i++) {
		struct kv_buf b = make_value(i + 1, random_len(&rng));
		struct values_writer *w;
		struct value_ref ref;
		size_t at = 0;

		ck_assert_int_eq(values_writer_new(f.db.values, b.len, SPACE_VALUE, &w), 0);
		while (at < b.len) {
			size_t n = 1 + (size_t)test_rng_below(&rng, 2 * VALUE_BLOCK);

			n = n < b.len - at ? n : b.len - at;
			ck_assert_int_eq(values_writer_append(w, kv_slice_of(b.data + at, n)), 0);
			at += n;
			values_seal(f.db.values); /* waits for no writer */
		}
		ck_assert_int_eq(values_writer_append(w, kv_slice_of("x", 1)), -KV_E_INVALID);
		ck_assert_int_eq(values_writer_finish(w, &ref), 0);
		expect_parts(&f, &ref, &b, &rng);
		values_settle(f.db.values, ref.segment_id);
		kv_buf_free(&b);
	}
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

/*
 * A seal waits for no writer, so what a writer has begun before it may be written at any time after
 * the sync: a torn write of that must not touch a block of a value that the sync made durable.
 */
START_TEST(test_a_writer_shares_no_block_with_other_values)
{
	struct kv_buf small = make_value(1, 5000), large = make_value(3, 2 * VALUE_BLOCK + 5);
	struct value_ref before, ref, after;
	struct values_writer *w;
	struct fixture f;

	fixture_make(&f, 1);
	fixture_open(&f);
	ck_assert_int_eq(values_put(f.db.values, kv_buf_slice(&small), SPACE_VALUE, &before), 0);
	ck_assert_int_eq(values_writer_new(f.db.values, large.len, SPACE_VALUE, &w), 0);
	ck_assert_int_eq(values_put(f.db.values, kv_buf_slice(&small), SPACE_VALUE, &after), 0);
	ck_assert_int_eq(values_writer_append(w, kv_buf_slice(&large)), 0);
	ck_assert_int_eq(values_writer_finish(w, &ref), 0);
	ck_assert_uint_eq(before.segment_id, ref.segment_id);
	ck_assert_uint_eq(after.segment_id, ref.segment_id);
	ck_assert_uint_le(align_up_u64(before.off + before.stored_len, FORMAT_BLOCK), ref.off);
	ck_assert_uint_eq(ref.off % FORMAT_BLOCK, 0);
	ck_assert_uint_le(align_up_u64(ref.off + ref.stored_len, FORMAT_BLOCK), after.off);
	values_settle_many(f.db.values, ref.segment_id, 3);
	kv_buf_free(&small);
	kv_buf_free(&large);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_what_compression_saves_is_given_back)
{
	struct kv_buf b = {0};
	struct value_ref first, second;
	struct values_writer *w;
	struct fixture f;

	fixture_make(&f, 1);
	fixture_open(&f);
	ck_assert_int_eq(buf_append_zeros(&b, 3 * VALUE_BLOCK), 0);
	ck_assert_int_eq(values_writer_new(f.db.values, b.len, SPACE_VALUE, &w), 0);
	ck_assert_int_eq(values_writer_append(w, kv_buf_slice(&b)), 0);
	ck_assert_int_eq(values_writer_finish(w, &first), 0);
	ck_assert_uint_lt(first.stored_len, b.len / 8);
	ck_assert_int_eq(values_put(f.db.values, kv_buf_slice(&b), SPACE_VALUE, &second), 0);
	ck_assert_uint_le(second.off, first.off + first.stored_len + FORMAT_BLOCK);
	kv_buf_free(&b);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_a_writer_given_up_or_finished_too_early_leaves_nothing)
{
	struct values_writer *w;
	struct value_ref ref;
	struct fixture f;

	fixture_make(&f, 1);
	fixture_open(&f);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(values_writer_new(f.db.values, 20 * VALUE_BLOCK, SPACE_VALUE, &w),
				 0);
		ck_assert_int_eq(values_writer_append(w, test_str("begun")), 0);
		if (i)
			ck_assert_int_eq(values_writer_finish(w, &ref), -KV_E_INVALID);
		else
			values_writer_abandon(w);
		ck_assert_int_eq(values_reap(f.db.values), 0);
	}
	ck_assert_int_eq(values_writer_new(f.db.values, 0, SPACE_VALUE, &w), -KV_E_INVALID);
	ck_assert_int_eq(values_writer_new(f.db.values, KV_VALUE_MAX + 1UL, SPACE_VALUE, &w),
			 -KV_E_INVALID);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

/* Damage at byte @at of what is stored; returns how many parts of a block's length fail. */
static unsigned failing_parts(struct fixture *f, const struct value_ref *ref, uint64_t at)
{
	struct version *v = versions_current(f->db.versions);
	uint64_t place = version_segment(v, ref->segment_id)->extent.off + ref->off + at;
	struct kv_buf have = {0};
	unsigned failed = 0;

	version_unref(v);
	sim_env_flip(f->env, FIXTURE_NAME, place, 3);
	for (uint64_t i = 0; i < value_block_count(ref->raw_len); i++) {
		int err = get_part(f, ref, i * VALUE_BLOCK, VALUE_BLOCK, &have);

		ck_assert(err == 0 || err == -KV_E_CHECKSUM);
		failed += err != 0;
	}
	ck_assert_int_eq(get_part(f, ref, 0, UINT64_MAX, &have), -KV_E_CHECKSUM);
	sim_env_flip(f->env, FIXTURE_NAME, place, 3);
	kv_buf_free(&have);
	return failed;
}

START_TEST(test_damage_is_found_in_the_block_that_has_it)
{
	struct kv_buf b = make_value(1, 5 * VALUE_BLOCK + 77);
	struct value_ref ref;
	struct fixture f;

	fixture_make(&f, 1);
	fixture_open(&f);
	ck_assert_int_eq(values_put(f.db.values, kv_buf_slice(&b), SPACE_VALUE, &ref), 0);
	for (uint64_t at = 0; at < b.len; at += 9973)
		ck_assert_uint_eq(failing_parts(&f, &ref, at), 1);
	for (uint64_t at = b.len; at < ref.stored_len; at++) /* the index */
		ck_assert_uint_eq(failing_parts(&f, &ref, at), 6);
	kv_buf_free(&b);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

/* ---- through the interface -------------------------------------------------------- */

static struct sim_env *sim;
static struct kv_db *db;

static void open_db(void)
{
	const struct kv_options o = {.env = sim_env_os(sim), .cache_bytes = 8U << 20};

	ck_assert_int_eq(kv_open(VOLUME, &o, &db), 0);
}

static void expect_part(struct kv_txn *txn, const char *key, const struct kv_buf *want,
			uint64_t off, uint64_t len)
{
	const struct kv_part part = {off, len};
	struct kv_buf have = {0};
	struct kv_iter *it;
	uint64_t all = 0;

	ck_assert_int_eq(kv_txn_get_part(txn, 1, test_str(key), &part, &have, &all), 0);
	ck_assert_uint_eq(all, want->len);
	ck_assert(slice_equal(kv_buf_slice(&have), slice_part(want, off, len)));
	ck_assert_int_eq(kv_iter_open(txn, 1, NULL, &it), 0);
	ck_assert_int_eq(kv_iter_value_part(it, &part, &have), -KV_E_INVALID);
	ck_assert_int_eq(kv_iter_seek(it, test_str(key)), 0);
	ck_assert_uint_eq(kv_iter_value_len(it), want->len);
	ck_assert_int_eq(kv_iter_value_part(it, &part, &have), 0);
	ck_assert(slice_equal(kv_buf_slice(&have), slice_part(want, off, len)));
	kv_iter_close(it);
	kv_buf_free(&have);
}

static void put_in_pieces(struct kv_txn *txn, const char *key, const struct kv_buf *b)
{
	struct kv_value *v;

	ck_assert_int_eq(kv_txn_put_begin(txn, 1, test_str(key), b->len, &v), 0);
	for (size_t at = 0; at < b->len; at += 10000)
		ck_assert_int_eq(kv_value_append(v, slice_part(b, at, 10000)), 0);
	ck_assert_int_eq(kv_value_append(v, test_str("x")), -KV_E_INVALID);
	ck_assert_int_eq(kv_value_finish(v), 0);
}

START_TEST(test_parts_through_transactions_and_iterators)
{
	const size_t lens[] = {0, 50, 5000, VALUE_BLOCK + 5, 3 * VALUE_MB + 11};
	struct kv_verify_options o;
	struct kv_verify_result r;
	struct kv_create_options c = {.log_size_bytes = 4U << 20};
	struct kv_txn *txn;

	sim = sim_env_new(1);
	c.env = sim_env_os(sim);
	o = (struct kv_verify_options){.env = c.env};
	ck_assert_int_eq(kv_create(VOLUME, &c), 0);
	open_db();
	for (unsigned i = 0; i < KV_ARRAY_COUNT(lens); i++) {
		struct kv_buf b = make_value(i + 1, lens[i]);
		const uint64_t offs[] = {0, 1, lens[i] / 2, lens[i], lens[i] + 5};

		ck_assert_int_eq(kv_txn_begin(db, NULL, &txn), 0);
		put_in_pieces(txn, "key", &b);
		for (unsigned n = 0; n < 2; n++) { /* its own, then the committed one */
			for (unsigned j = 0; j < KV_ARRAY_COUNT(offs); j++)
				expect_part(txn, "key", &b, offs[j], 70000);
			ck_assert_int_eq(kv_txn_commit(txn, KV_COMMIT_SYNC, NULL), 0);
			if (!n) {
				sim_env_crash(sim, SIM_CRASH_DROP);
				(void)!kv_close(db);
				open_db();
			}
			ck_assert_int_eq(kv_txn_begin(db, NULL, &txn), 0);
		}
		kv_txn_abort(txn);
		kv_buf_free(&b);
	}
	ck_assert_int_eq(kv_close(db), 0);
	ck_assert_int_eq(kv_verify(VOLUME, &o, &r), 0);
	ck_assert_uint_eq(r.problems, 0);
	sim_env_free(sim);
}
END_TEST

/* Reading a part is a read like any other, by each mode's rules; so is writing in pieces. */
START_TEST(test_parts_obey_the_isolation_of_their_transaction)
{
	const struct kv_txn_options locking = {.isolation = KV_ISOLATION_SERIALIZABLE,
					       .lock_timeout_ms = 1};
	const struct kv_txn_options optimistic = {.flags = KV_TXN_OPTIMISTIC,
						  .isolation = KV_ISOLATION_SERIALIZABLE};
	const struct kv_txn_options readonly = {.flags = KV_TXN_RDONLY};
	struct kv_create_options c = {.log_size_bytes = 4U << 20};
	struct kv_buf b = make_value(1, 2 * VALUE_MB);
	const struct kv_part part = {VALUE_MB, 10};
	struct kv_buf have = {0};
	struct kv_txn *reader;
	struct kv_txn *writer;
	struct kv_value *v;

	sim = sim_env_new(1);
	c.env = sim_env_os(sim);
	ck_assert_int_eq(kv_create(VOLUME, &c), 0);
	open_db();
	ck_assert_int_eq(kv_txn_begin(db, NULL, &writer), 0);
	put_in_pieces(writer, "key", &b);
	ck_assert_int_eq(kv_txn_commit(writer, 0, NULL), 0);

	ck_assert_int_eq(kv_txn_begin(db, &readonly, &reader), 0);
	ck_assert_int_eq(kv_txn_put_begin(reader, 1, test_str("key"), 9, &v), -KV_E_READONLY);
	kv_txn_abort(reader);

	ck_assert_int_eq(kv_txn_begin(db, &locking, &reader), 0);
	ck_assert_int_eq(kv_txn_get_part(reader, 1, test_str("key"), &part, &have, NULL), 0);
	ck_assert(slice_equal(kv_buf_slice(&have), slice_part(&b, part.off, part.len)));
	ck_assert_int_eq(kv_txn_begin(db, &locking, &writer), 0);
	ck_assert_int_eq(kv_txn_put_begin(writer, 1, test_str("key"), 9, &v), -KV_E_LOCK_TIMEOUT);
	kv_txn_abort(reader);

	ck_assert_int_eq(kv_txn_begin(db, &optimistic, &reader), 0);
	ck_assert_int_eq(kv_txn_get_part(reader, 1, test_str("key"), &part, &have, NULL), 0);
	ck_assert_int_eq(kv_txn_put(reader, 1, test_str("other"), test_str("x")), 0);
	ck_assert_int_eq(kv_txn_put_begin(writer, 1, test_str("key"), 1, &v), 0);
	ck_assert_int_eq(kv_value_append(v, test_str("n")), 0);
	ck_assert_int_eq(kv_value_finish(v), 0);
	ck_assert_int_eq(kv_txn_commit(writer, 0, NULL), 0);
	ck_assert_int_eq(kv_txn_commit(reader, 0, NULL), -KV_E_CONFLICT);
	kv_buf_free(&have);
	kv_buf_free(&b);
	ck_assert_int_eq(kv_close(db), 0);
	sim_env_free(sim);
}
END_TEST

START_TEST(test_a_part_costs_the_blocks_in_which_it_lies)
{
	struct kv_create_options c = {.log_size_bytes = 4U << 20};
	const struct kv_part part = {10 * VALUE_BLOCK + 5, 1000};
	struct kv_buf b = make_value(1, 32 * VALUE_MB);
	struct kv_buf have = {0};
	struct kv_txn *txn;
	struct kv_value *v;
	uint64_t reads;

	sim = sim_env_new(1);
	c.env = sim_env_os(sim);
	ck_assert_int_eq(kv_create(VOLUME, &c), 0);
	open_db();
	ck_assert_int_eq(kv_txn_begin(db, NULL, &txn), 0);
	put_in_pieces(txn, "key", &b);
	/* Begun and given up: the key is as before. */
	ck_assert_int_eq(kv_txn_put_begin(txn, 1, test_str("key"), 5 * VALUE_MB, &v), 0);
	ck_assert_int_eq(kv_value_append(v, test_str("no")), 0);
	kv_value_abandon(v);
	ck_assert_int_eq(kv_txn_put_begin(txn, 1, test_str("key"), KV_VALUE_MAX + 1UL, &v),
			 -KV_E_TOO_BIG);
	reads = sim_env_calls(sim, SIM_OP_READ);
	ck_assert_int_eq(kv_txn_get_part(txn, 1, test_str("key"), &part, &have, NULL), 0);
	ck_assert_uint_le(sim_env_calls(sim, SIM_OP_READ) - reads, 2); /* index and block */
	ck_assert(slice_equal(kv_buf_slice(&have), slice_part(&b, part.off, part.len)));
	ck_assert_int_eq(kv_txn_get_part(txn, 1, test_str("none"), &part, &have, NULL),
			 -KV_E_NOTFOUND);
	kv_txn_abort(txn);
	kv_buf_free(&have);
	kv_buf_free(&b);
	ck_assert_int_eq(kv_close(db), 0);
	sim_env_free(sim);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_any_part_of_a_value_is_read_back,
		test_a_value_written_in_pieces_is_the_same,
		test_a_writer_shares_no_block_with_other_values,
		test_what_compression_saves_is_given_back,
		test_a_writer_given_up_or_finished_too_early_leaves_nothing,
		test_damage_is_found_in_the_block_that_has_it,
		test_parts_through_transactions_and_iterators,
		test_parts_obey_the_isolation_of_their_transaction,
		test_a_part_costs_the_blocks_in_which_it_lies,
	};

	return test_suite_run("value parts", tests, KV_ARRAY_COUNT(tests), 120);
}
