/* SPDX-License-Identifier: MIT */
/*
 * Makes a volume hostile, with right checksums: hostile names VOLUME, hostile snapshots VOLUME.
 * What the file layer refuses to store is put there through the engine. For posix/hostile.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/model_format.h"
#include "kvcore/kvcore.h"

static int fail(const char *what, int err)
{
	fprintf(stderr, "hostile: %s: %s\n", what, kv_strerror(err));
	return 1;
}

/* The record of dir/victim appears under names below dir that would lead elsewhere. */
static int names(struct kv_db *db)
{
	static const char victim[] = "dir\0victim";
	static const struct {
		const char *key;
		size_t len;
	} bad[] = {
#define BAD(s) {s, sizeof(s) - 1}
		BAD("dir\0.."), BAD("dir\0."), BAD("dir\0a/b"), BAD("dir\0../../up"), BAD("dir\0"),
#undef BAD
	};
	struct kv_buf value = {0};
	int err = kv_get(db, MODEL_NAMES, kv_slice_of(victim, sizeof(victim) - 1), &value);

	for (size_t i = 0; !err && i < sizeof(bad) / sizeof(bad[0]); i++)
		err = kv_put(db, MODEL_NAMES, kv_slice_of(bad[i].key, bad[i].len),
			     kv_buf_slice(&value), 0);
	kv_buf_free(&value);
	return err;
}

static int snapshots(struct kv_db *db)
{
	static const char *const bad[] = {
		"../../../../../../../../../../etc", "..", ".", "a/b", "/etc", "evil\033[31m\nname",
	};
	int err = 0;

	for (size_t i = 0; !err && i < sizeof(bad) / sizeof(bad[0]); i++)
		err = kv_snapshot_create(db, bad[i]);
	return err;
}

int main(int argc, char **argv)
{
	struct kv_db *db;
	int err;

	if (argc != 3)
		return 2;
	err = kv_open(argv[2], NULL, &db);
	if (err)
		return fail("open", err);
	err = strcmp(argv[1], "names") == 0 ? names(db) : snapshots(db);
	if (err)
		return fail(argv[1], err);
	err = kv_close(db);
	return err ? fail("close", err) : 0;
}
