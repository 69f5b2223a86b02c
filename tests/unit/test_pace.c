/* SPDX-License-Identifier: MIT */
/*
 * Pacing in simulated time: a writer that always has something to write against a
 * flush, and against a compaction, of known speed. It must never meet a full memtable
 * or a full level 0, wait long, or be slowed down when nobody is behind.
 */
#include "kvcore/engine/pace.h"

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

#define MIB	 (1024ULL * 1024)
#define MS	 1000000ULL
#define MEMTABLE (16U * MIB)
#define COMMIT	 1000U /* bytes */
#define WRITE_NS 5000U /* that a commit takes by itself: 200 MB/s */

struct sim {
	struct pace p;
	uint64_t now, written;
	uint64_t active, frozen; /* bytes in memtables */
	uint64_t flush_until;	 /* 0: none runs */
	uint64_t flush_bps;
	uint64_t waited_ns, longest_ns, walls;
};

static void sim_init(struct sim *s, uint64_t flush_bps)
{
	*s = (struct sim){.now = 1000 * MS, .written = 1, .flush_bps = flush_bps};
	ck_assert_int_eq(pace_init(&s->p), 0);
}

static void end_flush(struct sim *s)
{
	pace_flush_ended(&s->p, s->now, s->frozen);
	s->frozen = 0;
	s->flush_until = 0;
}

static void commit(struct sim *s, unsigned debt)
{
	const struct pace_state st = {s->now, s->written, MEMTABLE - s->active, s->frozen, debt};
	uint64_t ns = pace_us(&s->p, &st) * 1000ULL;

	s->waited_ns += ns;
	s->longest_ns = max_u64(s->longest_ns, ns);
	s->now += ns + WRITE_NS;
	s->written += COMMIT;
	s->active += COMMIT;
	if (s->flush_until && s->now >= s->flush_until)
		end_flush(s);
	if (s->active < MEMTABLE - COMMIT)
		return;
	if (s->flush_until) { /* the wall */
		s->walls++;
		s->longest_ns = max_u64(s->longest_ns, s->flush_until - s->now);
		s->now = s->flush_until;
		end_flush(s);
	}
	s->frozen = s->active;
	s->active = 0;
	pace_flush_began(&s->p, s->now);
	s->flush_until = s->now + s->frozen * 1000 / (s->flush_bps / 1000000);
}

START_TEST(test_a_fast_writer_gets_the_speed_of_the_flush_without_a_stop)
{
	struct sim s;
	uint64_t from;
	uint64_t bytes;

	sim_init(&s, 50000000);
	while (!s.p.flush_bps) /* the first one teaches, and may stop the writer */
		commit(&s, 0);
	s.walls = 0;
	s.longest_ns = 0;
	from = s.now;
	bytes = s.written;
	for (unsigned i = 0; i < 200000; i++)
		commit(&s, 0);
	bytes = (s.written - bytes) * 1000 / ((s.now - from) / MS);
	ck_assert_uint_le(s.walls, 1);
	ck_assert_uint_le(s.longest_ns, PACE_PAUSE_MAX_US * 1000ULL);
	ck_assert_uint_gt(bytes, 45000000); /* a second */
	ck_assert_uint_lt(bytes, 55000000);
	pace_fini(&s.p);
}
END_TEST

START_TEST(test_a_flush_that_is_suddenly_slow_is_no_stop_either)
{
	struct sim s;

	sim_init(&s, 100000000);
	for (unsigned i = 0; i < 100000; i++)
		commit(&s, 0);
	s.walls = 0;
	s.longest_ns = 0;
	s.flush_bps = 50000000;
	for (unsigned i = 0; i < 100000; i++)
		commit(&s, 0);
	ck_assert_uint_le(s.longest_ns, PACE_PAUSE_MAX_US * 1000ULL);
	ck_assert_uint_eq(s.walls, 0);
	pace_fini(&s.p);
}
END_TEST

START_TEST(test_who_is_slower_than_the_flush_never_waits)
{
	struct sim s;

	sim_init(&s, 400000000);
	for (unsigned i = 0; i < 100000; i++)
		commit(&s, PACE_DEBT_FROM);
	ck_assert_uint_eq(s.waited_ns, 0);
	pace_fini(&s.p);
}
END_TEST

START_TEST(test_the_debt_settles_where_writers_have_the_speed_of_compaction)
{
	const uint64_t drain_bps = 20000000;
	struct sim s;
	double owed = 0; /* bytes in level 0; 1000 of debt are 20 memtables */
	uint64_t last;
	uint64_t drained = 0;
	double highest = 0;

	sim_init(&s, 400000000);
	pace_drain_busy(&s.p, s.now);
	for (unsigned i = 0; i < 1000000; i++) {
		uint64_t work;

		last = s.now;
		commit(&s, (unsigned)min_u64((uint64_t)(owed * 1000 / (20.0 * MEMTABLE)), 1000));
		work = (s.now - last) * (drain_bps / 1000000) / 1000;
		owed += COMMIT;
		owed -= owed < (double)work ? owed : (double)work;
		drained += work;
		if (drained > 4 * MEMTABLE) {
			pace_drained(&s.p, s.now, drained);
			drained = 0;
		}
		if (i > 500000 && owed > highest)
			highest = owed;
	}
	ck_assert_double_lt(highest, 20.0 * MEMTABLE * 0.8);
	ck_assert_double_gt(highest, 20.0 * MEMTABLE * 0.5);
	ck_assert_uint_le(s.longest_ns, PACE_PAUSE_MAX_US * 1000ULL);
	pace_fini(&s.p);
}
END_TEST

START_TEST(test_idle_time_is_no_credit_for_a_burst)
{
	struct pace p;
	struct pace_state st = {1000 * MS, 1, 16 * MIB, 16 * MIB, 0};
	unsigned us;

	ck_assert_int_eq(pace_init(&p), 0);
	pace_flush_began(&p, 0);
	pace_flush_ended(&p, 1000 * MS, 16 * MIB); /* 16 MiB/s */
	ck_assert_uint_eq(pace_us(&p, &st), 0);
	st.now_ns += 3600 * 1000 * MS;
	st.written += MIB;
	ck_assert_uint_eq(pace_us(&p, &st), 0); /* nobody was paced meanwhile */
	st.now_ns += MS;
	st.written += MIB / 2;
	us = pace_us(&p, &st);
	ck_assert_uint_eq(us, PACE_PAUSE_MAX_US);
	st.now_ns += 1000 * MS; /* and a long pause settles all */
	ck_assert_uint_eq(pace_us(&p, &st), 0);
	pace_fini(&p);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_fast_writer_gets_the_speed_of_the_flush_without_a_stop,
		test_a_flush_that_is_suddenly_slow_is_no_stop_either,
		test_who_is_slower_than_the_flush_never_waits,
		test_the_debt_settles_where_writers_have_the_speed_of_compaction,
		test_idle_time_is_no_credit_for_a_burst,
	};

	return test_suite_run("pace", tests, KV_ARRAY_COUNT(tests), 60);
}
