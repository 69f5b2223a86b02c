/* SPDX-License-Identifier: MIT */
/*
 * Retention: how many hourly, daily, ... snapshots are kept. The names say what
 * they are ("daily-2026-01-31"), so there is no other record of what was taken
 * when, and nothing that a user has named otherwise is ever dropped. Periods are
 * of UTC, so that none is passed twice or never; each begins at a full hour.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fusefs/model/model.h"
#include "fusefs/model/place.h"
#include "kvcore/base/buf.h"

#define KEEP_HOUR_S 3600

static const struct {
	const char *name;
	const char *pattern; /* of a snapshot's name; # is a digit */
} keep_periods[KVFS_PERIODS] = {
	[KVFS_HOURLY] = {"hourly", "hourly-####-##-##T##Z"},
	[KVFS_DAILY] = {"daily", "daily-####-##-##"},
	[KVFS_WEEKLY] = {"weekly", "weekly-####-W##"},
	[KVFS_MONTHLY] = {"monthly", "monthly-####-##"},
	[KVFS_YEARLY] = {"yearly", "yearly-####"},
};

/* The name that belongs to a time; names of one period sort by time. 0: no room. */
static size_t keep_name(unsigned period, const struct tm *tm, char *out, size_t size)
{
	switch (period) {
	case KVFS_HOURLY:
		return strftime(out, size, "hourly-%Y-%m-%dT%HZ", tm);
	case KVFS_DAILY:
		return strftime(out, size, "daily-%Y-%m-%d", tm);
	case KVFS_WEEKLY:
		return strftime(out, size, "weekly-%G-W%V", tm);
	case KVFS_MONTHLY:
		return strftime(out, size, "monthly-%Y-%m", tm);
	default:
		return strftime(out, size, "yearly-%Y", tm);
	}
}

/* On disk, key "keep" of MODEL_META: how many of each period. */
struct keep_record {
	struct le16 count[KVFS_PERIODS];
};
static_assert(sizeof(struct keep_record) == 10, "on-disk size");

/* ---- as text ---- */

static int keep_parse_word(const char *word, size_t len, struct kvfs_keep *out)
{
	const char *equals = memchr(word, '=', len);
	unsigned count = 0;

	if (!equals || equals + 1 == word + len)
		return -EINVAL;
	for (const char *c = equals + 1; c < word + len; c++) {
		if (*c < '0' || *c > '9')
			return -EINVAL;
		count = count * 10 + (unsigned)(*c - '0');
		if (count > KVFS_KEEP_MAX)
			return -EINVAL;
	}
	for (unsigned i = 0; i < KVFS_PERIODS; i++) {
		if (strlen(keep_periods[i].name) == (size_t)(equals - word) &&
		    !memcmp(keep_periods[i].name, word, (size_t)(equals - word))) {
			out->count[i] = count;
			return 0;
		}
	}
	return -EINVAL;
}

int kvfs_keep_parse(const char *text, struct kvfs_keep *out)
{
	static const char separators[] = " ,\t\n";
	struct kvfs_keep keep = {0};
	unsigned words = 0;
	int err;

	for (text += strspn(text, separators); *text; text += strspn(text, separators)) {
		size_t len = strcspn(text, separators);

		err = len == 4 && !memcmp(text, "none", 4) ? 0 : keep_parse_word(text, len, &keep);
		if (err)
			return err;
		text += len;
		words++;
	}
	if (!words)
		return -EINVAL;
	*out = keep;
	return 0;
}

int kvfs_keep_format(const struct kvfs_keep *keep, struct kv_buf *out)
{
	bool any = false;
	int err = 0;

	for (unsigned i = 0; !err && i < KVFS_PERIODS; i++) {
		if (!keep->count[i])
			continue;
		err = buf_printf(out, "%s%s=%u", any ? " " : "", keep_periods[i].name,
				 keep->count[i]);
		any = true;
	}
	if (!err && !any)
		err = buf_printf(out, "none");
	return err;
}

/* ---- in the volume ---- */

int kvfs_keep_get(struct kvfs *fs, struct kvfs_keep *out)
{
	struct kvfs_keep keep = {0};
	struct keep_record rec;
	struct kv_buf value = {0};
	struct model_key key;
	int err;

	place_meta("keep", &key);
	err = kv_get(fs->db, MODEL_META, model_key_slice(&key), &value);
	if (!err && value.len != sizeof(rec))
		err = -KV_E_CORRUPT;
	if (!err) {
		memcpy(&rec, value.data, sizeof(rec));
		for (unsigned i = 0; i < KVFS_PERIODS; i++)
			keep.count[i] = le16_get(rec.count[i]);
	}
	kv_buf_free(&value);
	if (err && err != -KV_E_NOTFOUND)
		return err;
	*out = keep;
	return 0;
}

int kvfs_keep_set(struct kvfs *fs, const struct kvfs_keep *keep)
{
	struct keep_record rec;
	struct model_key key;
	int err = kvfs_writable(fs);

	for (unsigned i = 0; i < KVFS_PERIODS; i++) {
		if (keep->count[i] > KVFS_KEEP_MAX)
			return -EINVAL;
		rec.count[i] = le16_of((uint16_t)keep->count[i]);
	}
	place_meta("keep", &key);
	if (!err)
		err = kv_put(fs->db, MODEL_META, model_key_slice(&key),
			     kv_slice_of(&rec, sizeof(rec)), KV_COMMIT_SYNC);
	return err;
}

/* ---- taking and dropping ---- */

static bool keep_matches(const char *name, const char *pattern)
{
	for (; *pattern; name++, pattern++)
		if (*pattern == '#' ? *name < '0' || *name > '9' : *name != *pattern)
			return false;
	return !*name;
}

static int keep_compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)b, *(const char *const *)a);
}

/* Names of one period, the newest first; freed by the caller, but not what they point to. */
static int keep_collect(const struct kv_snapshot_info *list, size_t count, const char *pattern,
			const char ***out, size_t *found)
{
	const char **names = calloc(count + 1, sizeof(const char *));

	if (!names)
		return -ENOMEM;
	*found = 0;
	for (size_t i = 0; i < count; i++)
		if (keep_matches(list[i].name, pattern))
			names[(*found)++] = list[i].name;
	qsort(names, *found, sizeof(const char *), keep_compare);
	*out = names;
	return 0;
}

struct keep_run {
	struct kvfs *fs;
	const struct tm *tm;
	void (*dropped)(void *ctx, const char *name);
	void *ctx;
};

static int keep_period(const struct keep_run *run, unsigned period, size_t keep,
		       const struct kv_snapshot_info *list, size_t count)
{
	const char **names = NULL;
	char now[64];
	size_t found = 0;
	int err;

	if (!keep_name(period, run->tm, now, sizeof(now)))
		return -EOVERFLOW;
	err = keep_collect(list, count, keep_periods[period].pattern, &names, &found);
	if (err)
		return err;
	/* A clock that was set back takes none until it has passed the newest. */
	if (!found || strcmp(now, names[0]) > 0) {
		err = kvfs_snapshot_create(run->fs, now);
		if (err == -KV_E_EXISTS)
			err = 0;
		keep--;
	}
	for (size_t i = keep; !err && i < found; i++) {
		err = kvfs_snapshot_drop(run->fs, names[i]);
		if (!err && run->dropped)
			run->dropped(run->ctx, names[i]);
		if (err == -KV_E_NOTFOUND)
			err = 0;
	}
	free(names);
	return err;
}

int kvfs_keep_run(struct kvfs *fs, const struct kvfs_keep *keep, int64_t now_s,
		  void (*dropped)(void *ctx, const char *name), void *ctx, int64_t *next_s)
{
	struct kv_snapshot_info *list = NULL;
	time_t now = (time_t)now_s;
	struct tm tm;
	const struct keep_run run = {fs, &tm, dropped, ctx};
	size_t count = 0;
	int err = 0;

	*next_s = (now_s / KEEP_HOUR_S + 1) * KEEP_HOUR_S;
	if (!gmtime_r(&now, &tm))
		return -EOVERFLOW;
	err = kv_snapshot_list(fs->db, &list, &count);
	for (unsigned i = 0; !err && i < KVFS_PERIODS; i++)
		if (keep->count[i])
			err = keep_period(&run, i, keep->count[i], list, count);
	free(list);
	return err;
}
