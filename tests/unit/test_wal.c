/* SPDX-License-Identifier: MIT */
/*
 * The log's writer: errors, room, sealing, group sync. What a crash leaves is
 * in test_wal_crash.c.
 */
#include <errno.h>
#include <stdatomic.h>

#include "kvcore/os/os_thread.h"
#include "tests/unit/wal_rig.h"

START_TEST(test_frames_come_back_in_order_through_many_laps)
{
	struct rig *r = rig_new(1, 16);
	int err;

	while (wal_end_lsn(r->wal) < 50 * r->options.log_size) {
		size_t len =
			(size_t)rig_random(r, rig_random(r, 8) ? 300 : wal_payload_max(r->wal));

		err = rig_append(r, len);
		if (err) {
			ck_assert_int_eq(err, -KV_E_NOSPACE);
			ck_assert_uint_eq(rig_read(r, false, &err, NULL), r->count);
			ck_assert_int_eq(err, -KV_E_NOTFOUND);
			rig_sync(r);
			rig_checkpoint(r, 1 + (size_t)rig_random(r, r->count));
		}
		if (rig_random(r, 10) == 0)
			rig_sync(r);
	}
	rig_free(r);
}
END_TEST

START_TEST(test_a_full_ring_refuses_and_takes_the_frame_after_the_tail_moved)
{
	struct rig *r = rig_new(2, 8);
	struct wal_position before;
	struct wal_position after;
	uint64_t room;
	int err;

	ck_assert_uint_eq(wal_room(r->wal), r->options.log_size);
	ck_assert_uint_eq(wal_used(r->wal), 0);
	while ((err = rig_append(r, 1000)) == 0)
		;
	ck_assert_int_eq(err, -KV_E_NOSPACE);
	room = wal_room(r->wal);
	ck_assert_uint_lt(room, 1080);
	ck_assert_uint_eq(wal_used(r->wal), wal_end_lsn(r->wal));
	wal_get_position(r->wal, &before);
	ck_assert_int_eq(rig_append(r, 1000), -KV_E_NOSPACE);
	wal_get_position(r->wal, &after);
	ck_assert_mem_eq(&before, &after, sizeof(before));
	if (room >= WAL_HEADER_LEN)
		ck_assert_int_eq(rig_append(r, (size_t)(room - WAL_HEADER_LEN)), 0);
	ck_assert_int_eq(wal_poisoned(r->wal), 0);
	rig_sync(r);
	ck_assert_uint_eq(rig_read(r, false, &err, NULL), r->count);
	rig_checkpoint(r, 5); /* one block and a bit */
	ck_assert_int_eq(rig_append(r, 1000), 0);
	ck_assert_uint_eq(rig_read(r, false, &err, NULL), r->count);
	ck_assert_int_eq(err, -KV_E_NOTFOUND);
	rig_free(r);
}
END_TEST

START_TEST(test_the_largest_payload_fits_and_a_larger_one_is_refused)
{
	struct rig *r = rig_new(3, 16);
	size_t max = (size_t)wal_payload_max(r->wal);
	int err;

	ck_assert_uint_eq(max, r->options.log_size / 4);
	ck_assert_int_eq(rig_append(r, max + 1), -KV_E_TOO_BIG);
	ck_assert_int_eq(rig_append(r, 0), 0);
	ck_assert_int_eq(rig_append(r, max), 0);
	ck_assert_uint_eq(rig_read(r, false, &err, NULL), 2);
	rig_free(r);
}
END_TEST

START_TEST(test_a_synced_block_is_never_written_again)
{
	struct rig *r = rig_new(4, 16);
	uint8_t before[16 * FORMAT_BLOCK];
	uint8_t after[sizeof(before)];

	for (int round = 0; round < 40; round++) {
		uint64_t end;
		size_t covered;

		rig_append(r, (size_t)rig_random(r, 700));
		rig_sync(r);
		end = wal_end_lsn(r->wal);
		covered = (size_t)align_up_u64(end, FORMAT_BLOCK);
		if (covered + 2 * FORMAT_BLOCK > sizeof(before))
			break;
		sim_env_peek(r->sim, RIG_VOLUME, RIG_LOG_OFF, before, sizeof(before));
		ck_assert_int_eq(rig_append(r, (size_t)rig_random(r, 700)), 0);
		sim_env_peek(r->sim, RIG_VOLUME, RIG_LOG_OFF, after, sizeof(after));
		ck_assert_mem_eq(before, after, covered);
		ck_assert_uint_eq(wal_end_lsn(r->wal) - wal_frame_len(r->frames[r->count - 1].len),
				  covered);
	}
	rig_free(r);
}
END_TEST

START_TEST(test_opening_seals_the_block_it_goes_on_from)
{
	struct rig *r = rig_new(5, 16);
	struct wal_position end;
	int err;

	ck_assert_int_eq(rig_append(r, 10), 0);
	rig_sync(r);
	ck_assert_uint_eq(rig_read(r, false, &err, &end), 1);
	rig_stop(r);
	r->epoch++;
	rig_start(r, &end);
	ck_assert_uint_eq(wal_end_lsn(r->wal), end.lsn);
	ck_assert_int_eq(rig_append(r, 10), 0);
	ck_assert_uint_eq(wal_end_lsn(r->wal), FORMAT_BLOCK + wal_frame_len(10));
	ck_assert_uint_eq(rig_read(r, false, &err, NULL), 2);
	rig_free(r);
}
END_TEST

START_TEST(test_a_sync_of_what_is_durable_does_not_touch_the_disk)
{
	struct rig *r = rig_new(6, 16);
	uint64_t syncs;

	ck_assert_int_eq(rig_append(r, 10), 0);
	ck_assert_uint_eq(wal_durable_lsn(r->wal), 0);
	rig_sync(r);
	ck_assert_uint_eq(wal_durable_lsn(r->wal), wal_end_lsn(r->wal));
	syncs = sim_env_calls(r->sim, SIM_OP_SYNC);
	rig_sync(r);
	ck_assert_int_eq(wal_sync(r->wal, 0), 0);
	ck_assert_uint_eq(sim_env_calls(r->sim, SIM_OP_SYNC), syncs);
	rig_free(r);
}
END_TEST

START_TEST(test_a_failed_write_poisons_for_good)
{
	struct rig *r = rig_new(7, 16);
	size_t n;
	int err;

	ck_assert_int_eq(rig_append(r, 10), 0);
	sim_env_fail(r->sim, SIM_OP_WRITE, 1, false, -EIO);
	ck_assert_int_eq(rig_append(r, 10), -KV_E_UNKNOWN_OUTCOME);
	ck_assert_int_eq(wal_poisoned(r->wal), -EIO);
	ck_assert_int_eq(rig_append(r, 10), -KV_E_POISONED);
	ck_assert_int_eq(wal_sync(r->wal, wal_end_lsn(r->wal)), -KV_E_POISONED);
	wal_poison(r->wal, -ENOSPC);
	ck_assert_int_eq(wal_poisoned(r->wal), -EIO);
	/* What was written before is still there; the frame may have arrived all the same. */
	n = rig_read(r, false, &err, NULL);
	ck_assert(n == 1 || n == 2);
	rig_free(r);
}
END_TEST

START_TEST(test_a_failed_sync_poisons_for_good_and_is_not_retried)
{
	struct rig *r = rig_new(8, 16);
	uint64_t syncs;

	ck_assert_int_eq(rig_append(r, 10), 0);
	rig_sync(r);
	ck_assert_int_eq(rig_append(r, 10), 0);
	sim_env_fail(r->sim, SIM_OP_SYNC, 1, false, -ENOSPC);
	ck_assert_int_eq(wal_sync(r->wal, wal_end_lsn(r->wal)), -KV_E_POISONED);
	ck_assert_int_eq(wal_poisoned(r->wal), -ENOSPC);
	syncs = sim_env_calls(r->sim, SIM_OP_SYNC);
	ck_assert_int_eq(wal_sync(r->wal, wal_end_lsn(r->wal)), -KV_E_POISONED);
	ck_assert_uint_eq(sim_env_calls(r->sim, SIM_OP_SYNC), syncs);
	ck_assert_int_eq(rig_append(r, 10), -KV_E_POISONED);
	ck_assert_uint_eq(wal_durable_lsn(r->wal), r->frames[0].after.lsn);
	rig_free(r);
}
END_TEST

/* Another sync of the volume fails while the log's is under way. */
static void fail_meanwhile(void *ctx)
{
	struct rig *r = ctx;

	wal_poison(r->wal, -EIO);
}

START_TEST(test_a_sync_that_succeeds_beside_one_that_failed_acknowledges_nothing)
{
	struct rig *r = rig_new(8, 16);
	struct wal_position start;

	wal_get_position(r->wal, &start);
	wal_free(r->wal);
	r->options.before_sync = fail_meanwhile;
	r->options.before_sync_ctx = r;
	ck_assert_int_eq(wal_open(&r->options, &start, r->base.lsn, r->epoch, &r->wal), 0);
	ck_assert_int_eq(rig_append(r, 10), 0);
	ck_assert_int_eq(wal_sync(r->wal, wal_end_lsn(r->wal)), -KV_E_POISONED);
	ck_assert_uint_lt(wal_durable_lsn(r->wal), wal_end_lsn(r->wal));
	rig_free(r);
}
END_TEST

START_TEST(test_frames_recovered_by_an_opening_are_not_durable_until_synced)
{
	struct rig *r = rig_new(9, 16);
	struct wal_position end;
	int err;

	ck_assert_int_eq(rig_append(r, 10), 0);
	sim_env_crash(r->sim, SIM_CRASH_KILL);
	rig_stop(r);
	rig_start(r, NULL);
	ck_assert_uint_eq(rig_read(r, false, &err, &end), 1);
	r->epoch++;
	ck_assert_int_eq(wal_open(&r->options, &end, 0, r->epoch, &r->wal), 0);
	ck_assert_int_eq(wal_sync(r->wal, end.lsn), 0);
	sim_env_crash(r->sim, SIM_CRASH_DROP);
	rig_stop(r);
	rig_start(r, NULL);
	ck_assert_uint_eq(rig_read(r, false, &err, NULL), 1);
	rig_free(r);
}
END_TEST

/* ---- threads ------------------------------------------------------------ */

#define COMMITTERS  4
#define COMMITS	    200
#define COMMIT_BASE 64 /* bytes */
#define SYNC_ROUNDS 40U

struct committers {
	struct rig *rig;
	struct os_mutex queue; /* stands for the commit queue */
	_Atomic unsigned failed;
	_Atomic uint64_t acked; /* highest LSN */
	_Atomic bool done;
};

static void commit_loop(void *arg)
{
	struct committers *c = arg;

	for (unsigned i = 0; i < COMMITS; i++) {
		uint64_t end;
		uint64_t acked;
		int err;

		os_mutex_lock(&c->queue);
		err = rig_append(c->rig, COMMIT_BASE + i % 50);
		end = wal_end_lsn(c->rig->wal);
		os_mutex_unlock(&c->queue);
		if (!err && i % 4 != 3)
			err = wal_sync(c->rig->wal, end);
		if (err) {
			atomic_fetch_add(&c->failed, 1);
			return;
		}
		acked = atomic_load(&c->acked);
		while (i % 4 != 3 && acked < end &&
		       !atomic_compare_exchange_weak(&c->acked, &acked, end))
			;
	}
}

static void run_threads(struct committers *c, void (*run)(void *))
{
	struct os_thread threads[COMMITTERS];

	ck_assert_int_eq(os_mutex_init(&c->queue, OS_RANK_COMMIT), 0);
	for (int i = 0; i < COMMITTERS; i++)
		ck_assert_int_eq(os_thread_start(&threads[i], "commit", run, c), 0);
	for (int i = 0; i < COMMITTERS; i++)
		os_thread_join(&threads[i]);
	os_mutex_fini(&c->queue);
}

START_TEST(test_committers_share_flushes_and_lose_nothing_acknowledged)
{
	struct rig *r = rig_new(10, 1024);
	struct committers c = {.rig = r};
	struct wal_stat stat;
	size_t n;
	int err;

	sim_env_sync_latency(r->sim, 200);
	run_threads(&c, commit_loop);
	ck_assert_uint_eq(atomic_load(&c.failed), 0);
	ck_assert_uint_eq(r->count, COMMITTERS * COMMITS);
	wal_get_stat(r->wal, &stat);
	ck_assert_uint_eq(stat.frames, r->count);
	ck_assert_uint_lt(stat.syncs, COMMITTERS * COMMITS * 3 / 4);
	ck_assert_uint_ge(wal_durable_lsn(r->wal), atomic_load(&c.acked));
	sim_env_crash(r->sim, SIM_CRASH_DROP);
	rig_stop(r);
	rig_start(r, NULL);
	n = rig_read(r, false, &err, NULL);
	ck_assert_uint_ge(n, 1);
	ck_assert_uint_ge(r->frames[n - 1].after.lsn, atomic_load(&c.acked));
	rig_free(r);
}
END_TEST

static void sync_loop(void *arg)
{
	struct committers *c = arg;

	for (unsigned i = 0; i < SYNC_ROUNDS; i++) {
		uint64_t end;
		int err;

		os_mutex_lock(&c->queue);
		err = rig_append(c->rig, COMMIT_BASE);
		end = wal_end_lsn(c->rig->wal);
		os_mutex_unlock(&c->queue);
		if (err || wal_sync(c->rig->wal, end))
			atomic_fetch_add(&c->failed, 1);
	}
}

/*
 * Without waiting for those that the last flush released, one of the threads and the others would
 * take turns, with two flushes a round. On a crowded machine a thread may come back too late.
 */
START_TEST(test_threads_that_commit_in_a_loop_come_together_in_one_flush)
{
	uint64_t syncs = UINT64_MAX;

	for (unsigned i = 0; i < 10 && syncs > SYNC_ROUNDS * 3 / 2; i++) {
		struct rig *r = rig_new(13, 1024);
		struct committers c = {.rig = r};
		struct wal_stat stat;

		sim_env_sync_latency(r->sim, 5000);
		run_threads(&c, sync_loop);
		ck_assert_uint_eq(atomic_load(&c.failed), 0);
		wal_get_stat(r->wal, &stat);
		ck_assert_uint_ge(stat.syncs, SYNC_ROUNDS);
		syncs = min_u64(syncs, stat.syncs);
		rig_free(r);
	}
	ck_assert_uint_le(syncs, SYNC_ROUNDS * 3 / 2);
}
END_TEST

START_TEST(test_a_failed_flush_fails_every_waiter)
{
	struct rig *r = rig_new(11, 1024);
	struct committers c = {.rig = r};
	size_t n;
	int err;

	sim_env_sync_latency(r->sim, 500);
	sim_env_fail(r->sim, SIM_OP_SYNC, 20, false, -EIO);
	run_threads(&c, commit_loop);
	ck_assert_uint_eq(atomic_load(&c.failed), COMMITTERS);
	ck_assert_int_eq(wal_poisoned(r->wal), -EIO);
	sim_env_crash(r->sim, SIM_CRASH_GARBAGE);
	rig_stop(r);
	rig_start(r, NULL);
	n = rig_read(r, false, &err, NULL);
	ck_assert_int_eq(err, -KV_E_NOTFOUND);
	ck_assert_uint_ge(r->frames[n - 1].after.lsn, atomic_load(&c.acked));
	rig_free(r);
}
END_TEST

static void sync_slowly(void *arg)
{
	struct committers *c = arg;

	if (wal_sync(c->rig->wal, atomic_load(&c->acked)) != 0)
		atomic_fetch_add(&c->failed, 1);
	atomic_store(&c->done, true);
}

START_TEST(test_append_does_not_wait_for_a_sync_in_flight)
{
	struct rig *r = rig_new(12, 16);
	struct committers c = {.rig = r};
	struct os_thread thread;
	uint64_t syncs = sim_env_calls(r->sim, SIM_OP_SYNC);

	ck_assert_int_eq(rig_append(r, 10), 0);
	atomic_store(&c.acked, wal_end_lsn(r->wal));
	sim_env_sync_latency(r->sim, 500000);
	ck_assert_int_eq(os_thread_start(&thread, "sync", sync_slowly, &c), 0);
	while (sim_env_calls(r->sim, SIM_OP_SYNC) == syncs)
		;
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(rig_append(r, 10), 0);
	ck_assert(!atomic_load(&c.done));
	os_thread_join(&thread);
	ck_assert_uint_eq(atomic_load(&c.failed), 0);
	ck_assert_uint_eq(wal_durable_lsn(r->wal), atomic_load(&c.acked));
	rig_free(r);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("wal");
	TCase *tc = tcase_create("writer");
	TCase *threads = tcase_create("threads");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_frames_come_back_in_order_through_many_laps);
	tcase_add_test(tc, test_a_full_ring_refuses_and_takes_the_frame_after_the_tail_moved);
	tcase_add_test(tc, test_the_largest_payload_fits_and_a_larger_one_is_refused);
	tcase_add_test(tc, test_a_synced_block_is_never_written_again);
	tcase_add_test(tc, test_opening_seals_the_block_it_goes_on_from);
	tcase_add_test(tc, test_a_sync_of_what_is_durable_does_not_touch_the_disk);
	tcase_add_test(tc, test_a_failed_write_poisons_for_good);
	tcase_add_test(tc, test_a_failed_sync_poisons_for_good_and_is_not_retried);
	tcase_add_test(tc, test_a_sync_that_succeeds_beside_one_that_failed_acknowledges_nothing);
	tcase_add_test(tc, test_frames_recovered_by_an_opening_are_not_durable_until_synced);
	suite_add_tcase(s, tc);
	tcase_set_timeout(threads, 120);
	tcase_add_test(threads, test_committers_share_flushes_and_lose_nothing_acknowledged);
	tcase_add_test(threads, test_threads_that_commit_in_a_loop_come_together_in_one_flush);
	tcase_add_test(threads, test_a_failed_flush_fails_every_waiter);
	tcase_add_test(threads, test_append_does_not_wait_for_a_sync_in_flight);
	suite_add_tcase(s, threads);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
