/* SPDX-License-Identifier: MIT */
/* The log's reader on damaged, stale and hostile rings. */
#include <errno.h>

#include "tests/unit/wal_rig.h"

/* Groups of three frames with a sync after each. */
static struct rig *small_log(unsigned groups)
{
	struct rig *r = rig_new(20, 8);

	for (unsigned g = 0; g < groups; g++) {
		for (unsigned i = 0; i < 3; i++)
			ck_assert_int_eq(rig_append(r, (g * 71 + i * 37) % 150), 0);
		rig_sync(r);
	}
	return r;
}

/* Is there a frame after number @n that was appended when the end of @n was durable? */
static bool proven(const struct rig *r, size_t n)
{
	for (size_t i = n + 1; i < r->count; i++)
		if (r->frames[i].durable >= r->frames[n].after.lsn)
			return true;
	return false;
}

static uint64_t start_of(const struct rig *r, size_t n)
{
	return r->frames[n].after.lsn - wal_frame_len(r->frames[n].len);
}

START_TEST(test_any_bit_flip_in_a_frame_ends_the_log_or_is_a_hole)
{
	struct rig *r = small_log(5);
	int err;

	for (size_t n = 0; n < r->count; n++) {
		uint64_t from = start_of(r, n);
		uint64_t len = WAL_HEADER_LEN + r->frames[n].len;

		for (uint64_t bit = 0; bit < 8 * len; bit++) {
			uint64_t off = RIG_LOG_OFF + from + bit / 8;

			sim_env_flip(r->sim, RIG_VOLUME, off, (unsigned)(bit % 8));
			ck_assert_uint_eq(rig_read(r, false, &err, NULL), n);
			ck_assert_int_eq(err, proven(r, n) ? -KV_E_CORRUPT : -KV_E_NOTFOUND);
			sim_env_flip(r->sim, RIG_VOLUME, off, (unsigned)(bit % 8));
		}
	}
	ck_assert(proven(r, 0));
	ck_assert(!proven(r, r->count - 1));
	rig_free(r);
}
END_TEST

START_TEST(test_a_clean_log_is_not_searched_for_holes)
{
	struct rig *r = small_log(3);
	int err;

	sim_env_flip(r->sim, RIG_VOLUME, RIG_LOG_OFF + 3, 0);
	ck_assert_uint_eq(rig_read(r, true, &err, NULL), 0);
	ck_assert_int_eq(err, -KV_E_NOTFOUND);
	rig_free(r);
}
END_TEST

START_TEST(test_a_hole_is_found_across_the_end_of_the_ring)
{
	struct rig *r = rig_new(21, 8);
	int err;

	while (wal_end_lsn(r->wal) < r->options.log_size - FORMAT_BLOCK) {
		ck_assert_int_eq(rig_append(r, 2000), 0);
		rig_sync(r);
	}
	rig_checkpoint(r, r->count - 1);
	for (int i = 0; i < 3; i++) { /* these lie in the next lap */
		ck_assert_int_eq(rig_append(r, 3000), 0);
		rig_sync(r);
	}
	ck_assert_uint_eq(rig_read(r, false, &err, NULL), 4);
	ck_assert_int_eq(err, -KV_E_NOTFOUND);
	sim_env_flip(r->sim, RIG_VOLUME, RIG_LOG_OFF + (start_of(r, 0) + 100) % r->options.log_size,
		     0);
	ck_assert_uint_eq(rig_read(r, false, &err, NULL), 0);
	ck_assert_int_eq(err, -KV_E_CORRUPT);
	rig_free(r);
}
END_TEST

START_TEST(test_frames_of_a_lower_epoch_or_another_volume_are_not_accepted)
{
	struct rig *r = small_log(2);
	int err;

	r->base_epoch = r->epoch;
	ck_assert_uint_eq(rig_read(r, true, &err, NULL), r->count);
	r->options.uuid[3] ^= 1;
	ck_assert_uint_eq(rig_read(r, false, &err, NULL), 0);
	ck_assert_int_eq(err, -KV_E_NOTFOUND);
	r->options.uuid[3] ^= 1;
	r->epoch = r->base_epoch = 2;
	ck_assert_uint_eq(rig_read(r, true, &err, NULL), 0);
	ck_assert_int_eq(err, -KV_E_NOTFOUND);
	rig_free(r);
}
END_TEST

/*
 * A recovery keeps the first of two frames in a block, for the second lacks a value; the next
 * opening goes on at the following block; the one after that moves the fence behind all of it.
 */
START_TEST(test_a_frame_that_a_recovery_left_out_does_not_come_back_behind_a_later_fence)
{
	struct rig *r = rig_new(25, 16);
	struct wal_position kept;
	int err;

	ck_assert_int_eq(rig_append(r, 100), 0);
	wal_get_position(r->wal, &kept);
	ck_assert_int_eq(rig_append(r, 200), 0);
	rig_stop(r);
	r->count--;
	r->epoch++;
	rig_start(r, &kept);
	ck_assert_int_eq(rig_append(r, 300), 0);
	ck_assert_int_eq(rig_append(r, 400), 0);
	ck_assert_uint_eq(rig_read(r, false, &err, NULL), 3);
	ck_assert_int_eq(err, -KV_E_NOTFOUND);
	rig_free(r);
}
END_TEST

START_TEST(test_reading_from_the_middle_needs_the_chain_value)
{
	struct rig *r = small_log(3);
	int err;

	rig_checkpoint(r, 4);
	ck_assert_uint_eq(rig_read(r, false, &err, NULL), r->count);
	r->base.prev_sum[0] ^= 1;
	ck_assert_uint_eq(rig_read(r, true, &err, NULL), 0);
	ck_assert_int_eq(err, -KV_E_NOTFOUND);
	rig_free(r);
}
END_TEST

START_TEST(test_open_refuses_a_ring_that_is_no_ring)
{
	struct rig *r = small_log(1);
	struct wal_options o = r->options;
	struct wal_position at = r->base;
	struct wal_reader *reader;

	o.log_size += 1;
	ck_assert_int_eq(wal_reader_open(&o, &at, &(struct wal_fence){0}, false, &reader),
			 -KV_E_CORRUPT);
	o.log_size = 0;
	ck_assert_int_eq(wal_reader_open(&o, &at, &(struct wal_fence){0}, false, &reader),
			 -KV_E_CORRUPT);
	o.log_size = UINT64_MAX / FORMAT_BLOCK * FORMAT_BLOCK;
	ck_assert_int_eq(wal_reader_open(&o, &at, &(struct wal_fence){0}, false, &reader),
			 -KV_E_CORRUPT);
	o = r->options;
	at.lsn = 4;
	ck_assert_int_eq(wal_reader_open(&o, &at, &(struct wal_fence){0}, false, &reader),
			 -KV_E_CORRUPT);
	at.lsn = UINT64_MAX - 7;
	ck_assert_int_eq(wal_reader_open(&o, &at, &(struct wal_fence){0}, false, &reader),
			 -KV_E_CORRUPT);
	rig_free(r);
}
END_TEST

START_TEST(test_a_failed_read_is_reported_and_not_taken_for_the_end)
{
	struct rig *r = small_log(3);
	struct wal_reader *reader;
	struct wal_frame f;
	size_t n = 0;
	int err;

	ck_assert_int_eq(
		wal_reader_open(&r->options, &r->base, &(struct wal_fence){0}, false, &reader), 0);
	sim_env_fail(r->sim, SIM_OP_READ, 1, false, -EIO);
	ck_assert_int_eq(wal_reader_next(reader, &f), -EIO);
	while ((err = wal_reader_next(reader, &f)) == 0)
		n++;
	ck_assert_int_eq(err, -KV_E_NOTFOUND);
	ck_assert_uint_eq(n, r->count);
	wal_reader_close(reader);
	rig_free(r);
}
END_TEST

START_TEST(test_a_ring_full_of_lying_headers_ends_soon_with_an_error)
{
	struct rig *r = rig_new(22, 1024);
	struct log_frame_header h;
	int err;

	memset(&h, 0, sizeof(h));
	h.magic = le32_of(LOG_FRAME_MAGIC);
	h.payload_len = le32_of((uint32_t)wal_payload_max(r->wal));
	memcpy(h.uuid, r->options.uuid, sizeof(h.uuid));
	for (uint64_t lsn = 0; lsn + sizeof(h) <= r->options.log_size; lsn += sizeof(h)) {
		h.lsn = le64_of(lsn);
		h.durable_lsn = h.lsn;
		sim_env_poke(r->sim, RIG_VOLUME, RIG_LOG_OFF + lsn, &h, sizeof(h));
	}
	ck_assert_uint_eq(rig_read(r, false, &err, NULL), 0);
	ck_assert_int_eq(err, -KV_E_CORRUPT);
	rig_free(r);
}
END_TEST

START_TEST(test_a_frame_that_runs_into_the_first_one_is_not_accepted)
{
	struct rig *r = rig_new(23, 8);
	uint64_t size = r->options.log_size;
	struct log_frame_header h;
	uint8_t payload[2 * FORMAT_BLOCK];
	int err;

	while (wal_end_lsn(r->wal) + FORMAT_BLOCK < size)
		ck_assert_int_eq(rig_append(r, 1000), 0);
	/* A well-formed follower whose payload takes in the bytes of the first frame. */
	memset(&h, 0, sizeof(h));
	h.magic = le32_of(LOG_FRAME_MAGIC);
	h.lsn = le64_of(wal_end_lsn(r->wal));
	h.epoch = le64_of(r->epoch);
	h.payload_len = le32_of((uint32_t)(size - wal_end_lsn(r->wal) - sizeof(h) + 2048));
	memcpy(h.uuid, r->options.uuid, sizeof(h.uuid));
	memcpy(h.prev_sum, r->frames[r->count - 1].after.prev_sum, CHECKSUM_LEN);
	sim_env_peek(r->sim, RIG_VOLUME, RIG_LOG_OFF + wal_end_lsn(r->wal) + sizeof(h), payload,
		     le32_get(h.payload_len) - 2048);
	sim_env_peek(r->sim, RIG_VOLUME, RIG_LOG_OFF, payload + le32_get(h.payload_len) - 2048,
		     2048);
	ck_assert_int_eq(wal_frame_sum(r->checksum, &h,
				       kv_slice_of(payload, le32_get(h.payload_len)), h.sum),
			 0);
	sim_env_poke(r->sim, RIG_VOLUME, RIG_LOG_OFF + wal_end_lsn(r->wal), &h, sizeof(h));
	ck_assert_uint_eq(rig_read(r, false, &err, NULL), r->count);
	ck_assert_int_eq(err, -KV_E_NOTFOUND);
	rig_free(r);
}
END_TEST

START_TEST(test_random_damage_never_yields_a_frame_that_was_not_written)
{
	struct rig *r = small_log(5);
	struct sim_env *whole = r->sim;
	uint64_t end = wal_end_lsn(r->wal);
	int err;

	rig_stop(r);
	for (uint64_t seed = 1; seed <= 1000; seed++) {
		r->sim = sim_env_clone(whole, seed);
		rig_start(r, NULL);
		for (uint64_t i = rig_random(r, 6) + 1; i > 0; i--) {
			uint8_t noise[64];
			size_t len = (size_t)rig_random(r, sizeof(noise)) + 1;
			uint64_t to = RIG_LOG_OFF + rig_random(r, end);

			/* Either noise or bytes from elsewhere in the log. */
			sim_env_peek(r->sim, RIG_VOLUME, RIG_LOG_OFF + rig_random(r, end), noise,
				     len);
			for (size_t b = 0; seed % 2 && b < len; b++)
				noise[b] = (uint8_t)rig_random(r, 256);
			sim_env_poke(r->sim, RIG_VOLUME, to, noise, len);
		}
		rig_read(r, false, &err, NULL);
		ck_assert(err == -KV_E_NOTFOUND || err == -KV_E_CORRUPT);
		rig_stop(r);
		sim_env_free(r->sim);
	}
	r->sim = whole;
	rig_free(r);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("wal_reader");
	TCase *tc = tcase_create("reader");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, test_any_bit_flip_in_a_frame_ends_the_log_or_is_a_hole);
	tcase_add_test(tc, test_a_clean_log_is_not_searched_for_holes);
	tcase_add_test(tc, test_a_hole_is_found_across_the_end_of_the_ring);
	tcase_add_test(tc, test_frames_of_a_lower_epoch_or_another_volume_are_not_accepted);
	tcase_add_test(
		tc, test_a_frame_that_a_recovery_left_out_does_not_come_back_behind_a_later_fence);
	tcase_add_test(tc, test_reading_from_the_middle_needs_the_chain_value);
	tcase_add_test(tc, test_open_refuses_a_ring_that_is_no_ring);
	tcase_add_test(tc, test_a_failed_read_is_reported_and_not_taken_for_the_end);
	tcase_add_test(tc, test_a_ring_full_of_lying_headers_ends_soon_with_an_error);
	tcase_add_test(tc, test_a_frame_that_runs_into_the_first_one_is_not_accepted);
	tcase_add_test(tc, test_random_damage_never_yields_a_frame_that_was_not_written);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
