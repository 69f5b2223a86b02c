/* SPDX-License-Identifier: MIT */
/*
 * Log lines: the level filters before formatting, long lines are cut, control
 * characters cannot forge a line, and no sink is no crash.
 */
#include "kvcore/base/logmsg.h"

#include <string.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

struct capture {
	unsigned lines;
	enum kv_log_level level;
	char last[2048];
};

static void capture_write(void *ctx, enum kv_log_level level, const char *line)
{
	struct capture *c = ctx;

	c->lines++;
	c->level = level;
	snprintf(c->last, sizeof(c->last), "%s", line);
}

START_TEST(test_a_line_reaches_the_sink_whole)
{
	struct capture c = {0};
	struct kv_log_sink sink = {capture_write, &c, KV_LOG_INFO};

	logmsg(&sink, KV_LOG_WARN, "wal: bad checksum lsn=%d", 81920);
	ck_assert_uint_eq(c.lines, 1);
	ck_assert_int_eq(c.level, KV_LOG_WARN);
	ck_assert_str_eq(c.last, "wal: bad checksum lsn=81920");
}
END_TEST

START_TEST(test_levels_above_the_sink_and_missing_sinks_are_silent)
{
	struct capture c = {0};
	struct kv_log_sink sink = {capture_write, &c, KV_LOG_WARN};
	struct kv_log_sink none = {NULL, NULL, KV_LOG_DEBUG};

	logmsg(&sink, KV_LOG_INFO, "not seen");
	logmsg(&sink, KV_LOG_ERROR, "%s", "");
	logmsg(NULL, KV_LOG_ERROR, "not seen");
	logmsg(&none, KV_LOG_ERROR, "not seen");
	ck_assert_uint_eq(c.lines, 0);
	logmsg(&sink, KV_LOG_ERROR, "seen");
	ck_assert_uint_eq(c.lines, 1);
}
END_TEST

START_TEST(test_long_lines_are_cut_and_control_characters_replaced)
{
	struct capture c = {0};
	struct kv_log_sink sink = {capture_write, &c, KV_LOG_DEBUG};
	char longer[3000];

	memset(longer, 'a', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	logmsg(&sink, KV_LOG_DEBUG, "%s", longer);
	ck_assert_uint_eq(strlen(c.last), 1023);
	logmsg(&sink, KV_LOG_DEBUG, "name=%s", "a\nforged: line\x1b[0m\x7f");
	ck_assert_str_eq(c.last, "name=a?forged: line?[0m?");
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_a_line_reaches_the_sink_whole,
		test_levels_above_the_sink_and_missing_sinks_are_silent,
		test_long_lines_are_cut_and_control_characters_replaced,
	};

	return test_suite_run("logmsg", tests, KV_ARRAY_COUNT(tests), 10);
}
