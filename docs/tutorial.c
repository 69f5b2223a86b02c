/* SPDX-License-Identifier: MIT */
/*
 * A small bank on kvcore; docs/tutorial.md walks through it. Accounts are keys of keyspace 1,
 * "account/NAME", their balance in decimal the value. Compiled and run by
 * tests/cli/test_tutorial.sh.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kvcore/kvcore.h>
#include <kvcore/kvcore_check.h>

#define ACCOUNTS 1U /* keyspace */

static struct kv_slice text(const char *s)
{
	return kv_slice_of(s, strlen(s));
}

/* [errors] */
static int say(const char *what, int err)
{
	if (err)
		fprintf(stderr, "%s: %s\n", what, kv_strerror(err));
	return err;
}

/* [open] */
static int open_bank(const char *path, struct kv_db **db)
{
	const struct kv_create_options create = {.log_size_bytes = 4U << 20};
	const struct kv_options options = {.cache_bytes = 32U << 20};
	int err = kv_create(path, &create);

	return err ? err : kv_open(path, &options, db);
}

/* [batch] */
static int open_accounts(struct kv_db *db)
{
	static const char *const names[] = {"account/ann", "account/bob", "account/carl"};
	struct kv_batch *batch;
	int err = kv_batch_new(db, &batch);

	if (err)
		return err;
	for (size_t i = 0; !err && i < sizeof(names) / sizeof(names[0]); i++)
		err = kv_batch_put(batch, ACCOUNTS, text(names[i]), text("100"));
	if (!err)
		err = kv_batch_write(batch, KV_COMMIT_SYNC, NULL);
	kv_batch_free(batch);
	return err;
}

/* [change] */
static int change(struct kv_txn *txn, const char *account, long amount)
{
	struct kv_buf value = {0};
	char number[24] = "";
	int err = kv_txn_get_for_update(txn, ACCOUNTS, text(account), &value);

	if (!err && value.len < sizeof(number)) {
		memcpy(number, value.data, value.len);
		snprintf(number, sizeof(number), "%ld", strtol(number, NULL, 10) + amount);
		err = kv_txn_put(txn, ACCOUNTS, text(account), text(number));
	}
	kv_buf_free(&value);
	return err;
}

/* [transfer] */
static int transfer(struct kv_db *db, const char *from, const char *to, long amount)
{
	int err;

	do {
		struct kv_txn *txn;

		err = kv_txn_begin(db, NULL, &txn);
		if (err)
			return err;
		err = change(txn, from, -amount);
		if (!err)
			err = change(txn, to, amount);
		if (err)
			kv_txn_abort(txn);
		else
			err = kv_txn_commit(txn, KV_COMMIT_SYNC, NULL);
	} while (err == -KV_E_CONFLICT || err == -KV_E_DEADLOCK);
	return err;
}

/* [scan] */
static int print_accounts(struct kv_db *db, const struct kv_snapshot *snapshot)
{
	const struct kv_txn_options options = {.flags = KV_TXN_RDONLY, .snapshot = snapshot};
	const struct kv_range range = {.prefix = text("account/")};
	struct kv_iter *it = NULL;
	struct kv_slice key;
	struct kv_slice value;
	struct kv_txn *txn;
	int err = kv_txn_begin(db, &options, &txn);

	if (err)
		return err;
	err = kv_iter_open(txn, ACCOUNTS, &range, &it);
	if (!err)
		err = kv_iter_first(it);
	while (!err) {
		key = kv_iter_key(it);
		err = kv_iter_value(it, &value);
		if (!err)
			printf("%.*s %.*s\n", (int)key.len, (const char *)key.data, (int)value.len,
			       (const char *)value.data);
		if (!err)
			err = kv_iter_next(it);
	}
	kv_iter_close(it);
	kv_txn_abort(txn);
	return err == -KV_E_NOTFOUND ? 0 : err; /* the end of the range */
}

/* [snapshot] */
static int then_and_now(struct kv_db *db)
{
	struct kv_snapshot *before;
	int err = kv_snapshot_create(db, "monday");

	if (!err)
		err = transfer(db, "account/ann", "account/carl", 30);
	if (!err)
		err = kv_snapshot_open(db, "monday", &before);
	if (err)
		return err;
	puts("monday:");
	err = print_accounts(db, before);
	kv_snapshot_release(before);
	puts("now:");
	return err ? err : print_accounts(db, NULL);
}

/* [stats] */
static void print_stats(struct kv_db *db)
{
	struct kv_histogram h;
	struct kv_stats stats;

	kv_get_stats(db, &stats);
	kv_get_histogram(db, KV_HISTOGRAM_COMMIT_SYNCED, &h);
	printf("%" PRIu64 " commits, %" PRIu64 " timed, p99 %s\n", stats.commits, h.samples,
	       kv_histogram_percentile(&h, 99) ? "known" : "unknown");
}

/* [main] */
int main(int argc, char **argv)
{
	struct kv_db *db;
	int err;

	if (argc != 2) {
		fprintf(stderr, "usage: %s NEW-VOLUME\n", argv[0]);
		return 2;
	}
	if (say("open", open_bank(argv[1], &db)))
		return 1;
	err = say("accounts", open_accounts(db));
	if (!err)
		err = say("transfer", transfer(db, "account/ann", "account/bob", 20));
	if (!err)
		err = say("snapshot", then_and_now(db));
	if (!err)
		print_stats(db);
	if (say("close", kv_close(db)))
		err = 1;
	return err ? 1 : 0;
}
