/* SPDX-License-Identifier: MIT */
/* Chunks: bases, patches, folding, holes, truncation, and damaged parts. */
#include "fusefs/model/chunk.h"

#include "tests/support/model_fixture.h"

static struct model_fixture m;
static struct inode file;

static void setup(void)
{
	model_make(&m);
	file = (struct inode){.kind = MODEL_RECORD_FULL,
			      .flags = MODEL_FLAG_CHUNKS,
			      .mode = S_IFREG | 0644,
			      .nlink = 1,
			      .id = 1000};
}

static void teardown(void)
{
	model_free(&m);
}

static struct kv_txn *begin(void)
{
	struct kv_txn *txn;

	ok(kv_txn_begin(kvfs_db(m.fs), NULL, &txn));
	return txn;
}

static void commit(struct kv_txn *txn)
{
	ok(kv_txn_commit(txn, 0, NULL));
}

static void put(uint64_t off, char byte, size_t len)
{
	struct kv_txn *txn = begin();
	uint8_t *data = malloc(len);

	ck_assert_ptr_nonnull(data);
	memset(data, byte, len);
	ok(chunk_write(txn, &file, off, kv_slice_of(data, len)));
	if (off + len > file.size)
		file.size = off + len;
	free(data);
	commit(txn);
}

static uint8_t byte_at(uint64_t off)
{
	struct kv_txn *txn = begin();
	uint8_t b = 0;

	ok(chunk_read(txn, file.id, off, 1, &b));
	kv_txn_abort(txn);
	return b;
}

/* The whole search; @steps: how many it took. */
static uint64_t seek(uint64_t off, bool data, bool contents, unsigned *steps)
{
	struct chunk_seek s = {.off = off, .data = data, .contents = contents};
	struct kv_txn *txn = begin();
	unsigned n = 0;

	while (!s.found) {
		ok(chunk_seek(txn, &file, &s));
		n++;
	}
	kv_txn_abort(txn);
	if (steps)
		*steps = n;
	return s.off;
}

START_TEST(test_a_small_write_becomes_a_patch_and_many_are_folded)
{
	put(0, 'a', 1000);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 1);
	put(10, 'b', 5);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 2);
	for (unsigned i = 0; i < MODEL_PATCHES_MAX; i++)
		put(100 + i, (char)('A' + i % 26), 1);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 1);
	ck_assert_uint_eq(byte_at(9), 'a');
	ck_assert_uint_eq(byte_at(10), 'b');
	ck_assert_uint_eq(byte_at(100 + 27), 'B');
	ck_assert_uint_eq(file.chunks, 1);
}
END_TEST

START_TEST(test_patches_of_many_bytes_are_folded)
{
	put(0, 'a', MODEL_CHUNK);
	put(0, 'b', 16000);
	put(20000, 'c', 16000);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 3);
	put(40000, 'd', 16000);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 1);
	ck_assert_uint_eq(byte_at(0), 'b');
	ck_assert_uint_eq(byte_at(16000), 'a');
	ck_assert_uint_eq(byte_at(20000), 'c');
	ck_assert_uint_eq(byte_at(55999), 'd');
	ck_assert_uint_eq(byte_at(56000), 'a');
}
END_TEST

START_TEST(test_a_later_patch_wins)
{
	put(0, 'a', 100);
	put(10, 'b', 20);
	put(15, 'c', 3);
	ck_assert_uint_eq(byte_at(14), 'b');
	ck_assert_uint_eq(byte_at(15), 'c');
	ck_assert_uint_eq(byte_at(18), 'b');
}
END_TEST

START_TEST(test_a_whole_chunk_replaces_base_and_patches)
{
	put(0, 'a', MODEL_CHUNK);
	put(5, 'b', 5);
	put(0, 'c', MODEL_CHUNK);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 1);
	ck_assert_uint_eq(byte_at(5), 'c');
	ck_assert_uint_eq(file.chunks, 1);
}
END_TEST

START_TEST(test_a_write_far_into_an_absent_chunk_stores_no_zeros)
{
	put(MODEL_CHUNK + 60000, 'x', 10);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 1);
	ck_assert_uint_eq(file.chunks, 1);
	ck_assert_uint_eq(byte_at(MODEL_CHUNK), 0);
	ck_assert_uint_eq(byte_at(MODEL_CHUNK + 60009), 'x');
}
END_TEST

START_TEST(test_truncation_leaves_nothing_to_show_again)
{
	struct kv_txn *txn;

	put(0, 'a', 3 * MODEL_CHUNK);
	put(MODEL_CHUNK + 500, 'b', 10);
	txn = begin();
	ok(chunk_truncate(txn, &file, MODEL_CHUNK + 100));
	file.size = MODEL_CHUNK + 100;
	commit(txn);
	ck_assert_uint_eq(file.chunks, 2);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 2);
	file.size = 3 * MODEL_CHUNK;
	ck_assert_uint_eq(byte_at(MODEL_CHUNK + 99), 'a');
	ck_assert_uint_eq(byte_at(MODEL_CHUNK + 100), 0);
	ck_assert_uint_eq(byte_at(MODEL_CHUNK + 505), 0);
}
END_TEST

START_TEST(test_zeroing_makes_holes_of_whole_chunks)
{
	struct kv_txn *txn;

	put(0, 'a', 5 * MODEL_CHUNK);
	txn = begin();
	ok(chunk_zero(txn, &file, MODEL_CHUNK / 2, 3 * MODEL_CHUNK + 10));
	commit(txn);
	ck_assert_uint_eq(file.chunks, 3);
	ck_assert_uint_eq(byte_at(MODEL_CHUNK / 2 - 1), 'a');
	ck_assert_uint_eq(byte_at(MODEL_CHUNK / 2), 0);
	ck_assert_uint_eq(byte_at(2 * MODEL_CHUNK), 0);
	ck_assert_uint_eq(byte_at(3 * MODEL_CHUNK + 9), 0);
	ck_assert_uint_eq(byte_at(3 * MODEL_CHUNK + 10), 'a');
	ck_assert_uint_eq(seek(0, false, true, NULL), MODEL_CHUNK / 2);
	ck_assert_uint_eq(seek(0, false, false, NULL), MODEL_CHUNK);
	ck_assert_uint_eq(seek(MODEL_CHUNK + 7, true, true, NULL), 3 * MODEL_CHUNK);
	ck_assert_uint_eq(seek(MODEL_CHUNK + 7, false, true, NULL), MODEL_CHUNK + 7);
}
END_TEST

START_TEST(test_holes_are_found_by_blocks_within_a_chunk)
{
	put(8192, 'a', 4096);  /* a patch without a base */
	put(20000, 'b', 1);    /* another one */
	put(28672, 0, 40960);  /* zeros are a hole, whoever wrote them, over the end of the chunk */
	put(200000, 'c', 100); /* two chunks further */
	ck_assert_uint_eq(seek(0, true, true, NULL), 8192);
	ck_assert_uint_eq(seek(9000, true, true, NULL), 9000);
	ck_assert_uint_eq(seek(8192, false, true, NULL), 12288);
	ck_assert_uint_eq(seek(12288, false, true, NULL), 12288);
	ck_assert_uint_eq(seek(12289, true, true, NULL), 16384);
	ck_assert_uint_eq(seek(20001, true, true, NULL), 20001);
	ck_assert_uint_eq(seek(20480, true, true, NULL), 196608);
	ck_assert_uint_eq(seek(196608, false, true, NULL), 200704); /* beyond the end */
	ck_assert_uint_eq(seek(0, true, false, NULL), 0);
	ck_assert_uint_eq(seek(0, false, false, NULL), 2 * MODEL_CHUNK);
}
END_TEST

START_TEST(test_a_long_search_goes_in_steps_and_misses_nothing)
{
	unsigned steps;

	put(0, 'a', 150 * MODEL_CHUNK);
	ck_assert_uint_eq(seek(5, false, true, &steps), file.size); /* as nothing is missing */
	ck_assert_uint_eq(steps, 1);
	put(200 * MODEL_CHUNK, 0, 100 * MODEL_CHUNK);
	put(300 * MODEL_CHUNK + 5000, 'b', 1);
	ck_assert_uint_eq(seek(5, false, true, &steps), 150 * MODEL_CHUNK);
	ck_assert_uint_gt(steps, 2);
	ck_assert_uint_eq(seek(150 * MODEL_CHUNK, true, true, &steps), 300 * MODEL_CHUNK + 4096);
	ck_assert_uint_gt(steps, 1);
	ck_assert_uint_ge(seek(300 * MODEL_CHUNK + 9000, true, true, NULL), file.size);
}
END_TEST

START_TEST(test_what_a_range_lacks_is_counted)
{
	struct kv_txn *txn;
	uint64_t n;

	put(0, 'a', 3 * MODEL_CHUNK);
	put(5 * MODEL_CHUNK, 'a', 1);
	txn = begin();
	ok(chunk_lacking(txn, &file, 0, 3 * MODEL_CHUNK, &n));
	ck_assert_uint_eq(n, 0);
	ok(chunk_lacking(txn, &file, 3 * MODEL_CHUNK - 1, 3 * MODEL_CHUNK + 1, &n));
	ck_assert_uint_eq(n, 1);
	ok(chunk_lacking(txn, &file, 1, 10 * MODEL_CHUNK, &n));
	ck_assert_uint_eq(n, 6);
	ok(chunk_lacking(txn, &file, 20 * MODEL_CHUNK, 21 * MODEL_CHUNK, &n));
	ck_assert_uint_eq(n, 1);
	kv_txn_abort(txn);
	put(3 * MODEL_CHUNK, 'b', 2 * MODEL_CHUNK); /* now it has no holes */
	txn = begin();
	ok(chunk_lacking(txn, &file, MODEL_CHUNK, 7 * MODEL_CHUNK, &n));
	ck_assert_uint_eq(n, 1);
	kv_txn_abort(txn);
}
END_TEST

START_TEST(test_many_chunks_go_by_one_range)
{
	struct kv_txn *txn;

	put(0, 'a', 100 * MODEL_CHUNK);
	ck_assert_uint_eq(file.chunks, 100);
	txn = begin();
	ok(chunk_remove_all(txn, &file));
	commit(txn);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 0);
}
END_TEST

/* Put raw bytes under a key of the file. */
static void plant(const struct model_key *key, size_t key_len, const void *value, size_t len)
{
	ok(kv_put(kvfs_db(m.fs), MODEL_DATA, kv_slice_of(key->b, key_len), kv_slice_of(value, len),
		  0));
}

static uint64_t seeks(void)
{
	struct kv_stats stats;

	kv_get_stats(kvfs_db(m.fs), &stats);
	return stats.iter_seeks;
}

START_TEST(test_who_wrote_last_finds_the_end_of_a_chunk_without_a_search)
{
	uint64_t before;

	put(0, 'a', 1000);
	before = seeks();
	for (unsigned i = 0; i < MODEL_PATCHES_MAX; i++)
		put(1000 + i, 'b', 1);
	ck_assert_uint_eq(seeks(), before);
	put(1000 + MODEL_PATCHES_MAX, 'c', 1); /* folds, and reads for that */
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 1);
	before = seeks();
	put(1001 + MODEL_PATCHES_MAX, 'd', 1);
	ck_assert_uint_eq(seeks(), before);
	ck_assert_uint_eq(byte_at(1000 + MODEL_PATCHES_MAX), 'c');
	file.tail = 0;
	put(1002 + MODEL_PATCHES_MAX, 'e', 1);
	ck_assert_uint_gt(seeks(), before);
}
END_TEST

START_TEST(test_a_wrong_idea_of_the_end_does_no_harm)
{
	struct test_rng rng = test_rng_seeded("tail");
	static char want[2 * MODEL_CHUNK];

	for (unsigned i = 0; i < 3000; i++) {
		uint64_t off = test_rng_below(&rng, sizeof(want) - 3000);
		size_t len = 1 + test_rng_below(&rng, test_rng_below(&rng, 4) ? 50 : 3000);
		char byte = (char)('a' + test_rng_below(&rng, 26));

		/* What another handle, or this one before others wrote, may believe. */
		if (test_rng_below(&rng, 2))
			file.tail = 1 + (test_rng_below(&rng, 2) << 8 |
					 test_rng_below(&rng, MODEL_PATCHES_MAX + 2));
		put(off, byte, len);
		memset(want + off, byte, len);
		off = test_rng_below(&rng, file.size);
		ck_assert_int_eq(byte_at(off), want[off]);
	}
	for (uint64_t off = 0; off < file.size; off += 7)
		ck_assert_int_eq(byte_at(off), want[off]);
}
END_TEST

START_TEST(test_damaged_parts_are_errors_and_never_data)
{
	static const uint8_t too_long[MODEL_CHUNK + 1];
	struct model_patch out_of_chunk = {le32_of(MODEL_CHUNK - 1), le32_of(2)};
	uint8_t patch[sizeof(out_of_chunk) + 2], b;
	struct model_key key;
	struct kv_txn *txn;

	put(0, 'a', 3 * MODEL_CHUNK);
	chunk_key(file.id, 0, 0, &key);
	plant(&key, key.len, too_long, sizeof(too_long));
	chunk_key(file.id, 1, 1, &key);
	memset(patch, 0, sizeof(patch));
	memcpy(patch, &out_of_chunk, sizeof(out_of_chunk));
	plant(&key, key.len, patch, sizeof(patch));
	chunk_key(file.id, 2, 1U << 24, &key);
	plant(&key, 17, patch, sizeof(patch));
	txn = begin();
	for (uint64_t chunk = 0; chunk < 3; chunk++)
		fails(chunk_read(txn, file.id, chunk * MODEL_CHUNK, 1, &b), -KV_E_CORRUPT);
	file.tail = 0; /* a handle that was just opened */
	fails(chunk_write(txn, &file, 2 * MODEL_CHUNK + 5, kv_slice_of("x", 1)), -KV_E_CORRUPT);
	kv_txn_abort(txn);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_small_write_becomes_a_patch_and_many_are_folded,
		test_patches_of_many_bytes_are_folded,
		test_a_later_patch_wins,
		test_a_whole_chunk_replaces_base_and_patches,
		test_a_write_far_into_an_absent_chunk_stores_no_zeros,
		test_truncation_leaves_nothing_to_show_again,
		test_zeroing_makes_holes_of_whole_chunks,
		test_holes_are_found_by_blocks_within_a_chunk,
		test_a_long_search_goes_in_steps_and_misses_nothing,
		test_what_a_range_lacks_is_counted,
		test_many_chunks_go_by_one_range,
		test_who_wrote_last_finds_the_end_of_a_chunk_without_a_search,
		test_a_wrong_idea_of_the_end_does_no_harm,
		test_damaged_parts_are_errors_and_never_data,
	};

	return test_suite_run_with("chunk", tests, KV_ARRAY_COUNT(tests), 60, setup, teardown);
}
