/* SPDX-License-Identifier: MIT */
/*
 * .kvfs/at: the tree as of a time, or right after a commit. Its names are not listed; each is a
 * question that is answered anew, since history moves on. The newest snapshot before stands for
 * what history does not keep, or noted only later.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/op.h"
#include "fusefs/reply.h"

#define AT_NS INT64_C(1000000000)

/* Digits up to the end, or up to @stop. NULL: there are none, or too many. */
static const char *digits(const char *text, char stop, uint64_t *out)
{
	uint64_t v = 0;
	size_t n = strspn(text, "0123456789");

	if (!n || n > 18 || (text[n] && text[n] != stop))
		return NULL;
	for (size_t i = 0; i < n; i++)
		v = 10 * v + (uint64_t)(text[i] - '0');
	*out = v;
	return text + n;
}

/* ".5" of a second; "" is none. */
static bool parse_fraction(const char *text, int64_t *ns)
{
	int64_t unit = AT_NS / 10;

	*ns = 0;
	if (!*text)
		return true;
	for (text++; *text >= '0' && *text <= '9' && unit; text++, unit /= 10)
		*ns += unit * (*text - '0');
	return !*text;
}

/* Seconds since 1970, with a fraction; or 2026-01-31T12:30:00Z. */
static bool parse_time(const char *name, int64_t *ns)
{
	struct tm tm = {0};
	uint64_t seconds;
	int64_t fraction;
	const char *rest = digits(name, '.', &seconds);

	if (rest) {
		if (seconds > INT64_MAX / AT_NS - 1 || !parse_fraction(rest, &fraction))
			return false;
		*ns = (int64_t)seconds * AT_NS + fraction;
		return true;
	}
	rest = strptime(name, "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (!rest || *rest)
		return false;
	*ns = timegm(&tm) * AT_NS;
	return true;
}

static int open_commit(struct kvfsd *d, uint64_t commit, struct tree **out)
{
	char key[32];

	(void)snprintf(key, sizeof(key), TREE_AT "%llu", (unsigned long long)commit);
	return tree_open(&d->trees, d->fs, key, out);
}

/* The newest snapshot at or before a time: its name, "" if there is none, and its state. */
static int find_snapshot_before(struct kvfsd *d, int64_t ns, struct kv_snapshot_info *out)
{
	struct kv_snapshot_info *list = NULL;
	size_t count = 0;
	int err = kv_snapshot_list(kvfs_db(d->fs), &list, &count);

	*out = (struct kv_snapshot_info){0};
	for (size_t i = 0; !err && i < count; i++)
		if (list[i].created_ns <= ns && !kvfs_snapshot_check_name(list[i].name))
			*out = list[i];
	free(list);
	return err;
}

/* History knows a commit's time to the second, a snapshot its own exactly: the newer state counts.
 */
static int open_time(struct kvfsd *d, int64_t ns, struct tree **out)
{
	struct kv_snapshot_info snapshot;
	kv_seq seq = 0;
	int err = feed_at(&d->control.feeds, ns, &seq);

	if (err && err != -KV_E_GONE)
		return err;
	err = find_snapshot_before(d, ns, &snapshot);
	if (err)
		return err;
	if (snapshot.name[0] && snapshot.seq >= seq)
		return tree_open(&d->trees, d->fs, snapshot.name, out);
	return seq ? open_commit(d, seq, out) : -KV_E_NOTFOUND;
}

int control_at_open(struct kvfsd *d, const char *name, struct tree **out)
{
	uint64_t commit;
	int64_t ns;

	if (name[0] == 'c' && digits(name + 1, '\0', &commit))
		return open_commit(d, commit, out);
	return parse_time(name, &ns) ? open_time(d, ns, out) : -KV_E_NOTFOUND;
}
