/* SPDX-License-Identifier: MIT */
/* Snapshots by the clock: the text, what is taken and dropped in a year, odd clocks. */
#include "tests/support/model_fixture.h"

#define HOUR 3600
#define DAY  (24 * HOUR)

static struct model_fixture m;

static void setup(void)
{
	model_make(&m);
}

static void teardown(void)
{
	model_free(&m);
}

static struct kvfs_keep parsed(const char *text)
{
	struct kvfs_keep keep;

	ok(kvfs_keep_parse(text, &keep));
	return keep;
}

static void expect_format(const char *text, const char *want)
{
	struct kvfs_keep keep = parsed(text);
	struct kv_buf out = {0};

	ok(kvfs_keep_format(&keep, &out));
	ck_assert_str_eq((char *)out.data, want);
	kv_buf_free(&out);
}

START_TEST(test_the_text_is_read_and_written)
{
	static const char *const bad[] = {"",	      " ",
					  "hourly",   "hourly=",
					  "hourly=x", "hourly=65536",
					  "=1",	      "hour=1",
					  "daily=-1", "daily=1;",
					  "nonesuch", "daily=1 =",
					  "none1",    "hourly=99999999999999999999"};
	struct kvfs_keep keep;

	for (size_t i = 0; i < KV_ARRAY_COUNT(bad); i++)
		ck_assert_msg(kvfs_keep_parse(bad[i], &keep) == -EINVAL, "'%s'", bad[i]);
	expect_format("none", "none");
	expect_format("daily=7,hourly=24\n", "hourly=24 daily=7");
	expect_format("yearly=65535 weekly=0 monthly=1", "monthly=1 yearly=65535");
}
END_TEST

START_TEST(test_the_volume_remembers_it)
{
	struct kvfs_keep keep = parsed("hourly=24 yearly=65535"), got;

	ok(kvfs_keep_get(m.fs, &got));
	ck_assert_uint_eq(got.count[KVFS_HOURLY], 0);
	ok(kvfs_keep_set(m.fs, &keep));
	model_reopen(&m);
	ok(kvfs_keep_get(m.fs, &got));
	ck_assert_mem_eq(&got, &keep, sizeof(got));
	keep.count[KVFS_DAILY] = KVFS_KEEP_MAX + 1;
	fails(kvfs_keep_set(m.fs, &keep), -EINVAL);
	model_check(&m);
}
END_TEST

/* The names there are, oldest first, with spaces between; freed by the caller. */
static char *names(void)
{
	struct kv_snapshot_info *list = NULL;
	struct kv_buf out = {0};
	size_t count = 0;

	ok(kv_snapshot_list(kvfs_db(m.fs), &list, &count));
	ok(buf_printf(&out, "%s", ""));
	for (size_t i = 0; i < count; i++)
		ok(buf_printf(&out, "%s%s", i ? " " : "", list[i].name));
	free(list);
	return (char *)out.data;
}

static void expect_names(const char *want)
{
	char *got = names();

	ck_assert_str_eq(got, want);
	free(got);
}

static int64_t run_at(const struct kvfs_keep *keep, int64_t now)
{
	int64_t next = 0;

	ok(kvfs_keep_run(m.fs, keep, now, NULL, NULL, &next));
	ck_assert_int_gt(next, now);
	return next;
}

START_TEST(test_a_year_leaves_what_is_to_be_kept)
{
	const struct kvfs_keep keep = parsed("hourly=2 daily=2 weekly=2 monthly=2 yearly=2");
	int64_t now = 1767225600; /* 2026-01-01, a Thursday */
	int64_t end = now + (int64_t)366 * DAY;

	ok(kvfs_snapshot_create(m.fs, "mine"));
	ok(kvfs_snapshot_create(m.fs, "daily-mine"));
	while (now < end) {
		int64_t next = run_at(&keep, now + 17);

		ck_assert_int_eq(next, now + HOUR);
		(void)run_at(&keep, now + 1800); /* nothing more in the same hour */
		now += now % (DAY * 30) ? 7 * HOUR : HOUR;
		now -= now % HOUR;
	}
	now = end + 5 * HOUR;
	(void)run_at(&keep, now - HOUR);
	(void)run_at(&keep, now);
	ok(kvfs_snapshot_drop(m.fs, "mine"));
	ok(kvfs_snapshot_drop(m.fs, "daily-mine"));
	expect_names("yearly-2026 monthly-2026-12 weekly-2026-W52 weekly-2026-W53 "
		     "daily-2027-01-01 monthly-2027-01 yearly-2027 hourly-2027-01-02T04Z "
		     "daily-2027-01-02 hourly-2027-01-02T05Z");
}
END_TEST

START_TEST(test_a_clock_that_is_set_back_takes_none_until_it_has_caught_up)
{
	const struct kvfs_keep keep = parsed("hourly=2");
	int64_t now = 1767225600 + 10 * HOUR;

	(void)run_at(&keep, now);
	(void)run_at(&keep, now + HOUR);
	(void)run_at(&keep, now - 5 * HOUR);
	expect_names("hourly-2026-01-01T10Z hourly-2026-01-01T11Z");
	(void)run_at(&keep, now + 2 * HOUR);
	expect_names("hourly-2026-01-01T11Z hourly-2026-01-01T12Z");
}
END_TEST

START_TEST(test_a_smaller_number_drops_more_and_none_drops_nothing)
{
	struct kvfs_keep keep = parsed("hourly=5");
	const struct kvfs_keep none = parsed("none");
	int64_t now = 1767225600;

	for (unsigned i = 0; i < 8; i++)
		(void)run_at(&keep, now + i * HOUR);
	expect_names("hourly-2026-01-01T03Z hourly-2026-01-01T04Z hourly-2026-01-01T05Z "
		     "hourly-2026-01-01T06Z hourly-2026-01-01T07Z");
	keep = parsed("hourly=1");
	(void)run_at(&keep, now + 7 * HOUR);
	expect_names("hourly-2026-01-01T07Z");
	(void)run_at(&none, now + 100 * HOUR);
	expect_names("hourly-2026-01-01T07Z");
	ok(kvfs_set_readonly(m.fs, true));
	fails(kvfs_keep_run(m.fs, &keep, now + 9 * HOUR, NULL, NULL, &now), -KV_E_READONLY);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_the_text_is_read_and_written,
		test_the_volume_remembers_it,
		test_a_year_leaves_what_is_to_be_kept,
		test_a_clock_that_is_set_back_takes_none_until_it_has_caught_up,
		test_a_smaller_number_drops_more_and_none_drops_nothing,
	};

	return test_suite_run_with("keep", tests, KV_ARRAY_COUNT(tests), 60, setup, teardown);
}
