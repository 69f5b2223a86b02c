/* SPDX-License-Identifier: MIT */
/* Builds the sample volume in four stages, with a flush after each, so that tables overlap. */
#include "tests/support/sample_volume.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/buf.h"
#include "kvcore/kvcore_check.h"

#define STAGES	 4U
#define ok(expr) ck_assert_int_eq((expr), 0)

size_t sample_key(unsigned i, char *out)
{
	return (size_t)snprintf(out, 16, "key/%06u", i);
}

/* Keys of a range delete of the third stage, and single deletes of the fourth. */
static bool sample_is_deleted(unsigned i)
{
	return (i >= 700 && i < 740) || i % 97 == 5;
}

/* The stage whose write of the key is the last one. */
static unsigned sample_stage(unsigned i)
{
	return i % 5 == 0 || i % 300 == 11 ? 1 : 0;
}

static size_t sample_len(unsigned i, unsigned stage)
{
	/* Large values, in tables and, of the last stage, in the log. */
	if (i % 150 == 11 || (stage == STAGES && i % 500 == 249))
		return 6000 + i;
	return 20 + i % 120;
}

static void fill(unsigned i, unsigned stage, struct kv_buf *out)
{
	uint64_t x = i * 2654435761U + stage * 40503U + 1;

	ok(buf_resize(out, sample_len(i, stage)));
	for (size_t n = 0; n < out->len; n++) {
		x = x * 6364136223846793005U + 1442695040888963407U;
		/* Half of it compresses. */
		out->data[n] = n % 2 ? (uint8_t)(x >> 56) : (uint8_t)'a';
	}
}

bool sample_value(unsigned i, enum sample_end end, struct kv_buf *out)
{
	if (end == SAMPLE_KILLED && i % 50 == 49) {
		fill(i, STAGES, out);
		return true;
	}
	if (sample_is_deleted(i))
		return false;
	fill(i, sample_stage(i), out);
	return true;
}

static void put(struct kv_db *db, unsigned i, unsigned stage)
{
	struct kv_buf value = {0};
	char key[16];
	size_t len = sample_key(i, key);

	fill(i, stage, &value);
	ok(kv_put(db, SAMPLE_KEYSPACE, kv_slice_of(key, len), kv_buf_slice(&value), 0));
	kv_buf_free(&value);
}

static void delete_range(struct kv_db *db, unsigned from, unsigned to)
{
	struct kv_batch *batch;
	char a[16], b[16];
	size_t a_len = sample_key(from, a);
	size_t b_len = sample_key(to, b);

	ok(kv_batch_new(db, &batch));
	ok(kv_batch_delete_range(batch, SAMPLE_KEYSPACE, kv_slice_of(a, a_len),
				 kv_slice_of(b, b_len)));
	ok(kv_batch_write(batch, 0, NULL));
	kv_batch_free(batch);
}

static void stage_run(struct kv_db *db, unsigned stage)
{
	char key[16];

	for (unsigned i = 0; i < SAMPLE_KEYS; i++) {
		if (stage == 0)
			put(db, i, 0);
		else if (stage == 1 && sample_stage(i) == 1)
			put(db, i, 1);
		else if (stage == 3 && i % 97 == 5)
			ok(kv_delete(db, SAMPLE_KEYSPACE, kv_slice_of(key, sample_key(i, key)), 0));
	}
	if (stage == 0)
		ok(kv_compact(db, NULL));
	if (stage == 1)
		ok(kv_snapshot_create(db, "before"));
	if (stage == 2)
		delete_range(db, 700, 740);
	ok(kv_flush(db));
}

static int sample_open(struct sim_env *e, unsigned flags, struct kv_db **out)
{
	struct kv_options options = {
		.flags = flags,
		.cache_bytes = 8U * 1024 * 1024,
		.memtable_bytes = 64U * 1024,
		.env = sim_env_os(e),
	};

	return kv_open(SAMPLE_NAME, &options, out);
}

struct sim_env *sample_volume_new(uint64_t seed, enum sample_end end)
{
	struct sim_env *e = sim_env_new(seed);
	struct kv_create_options create = {
		.log_size_bytes = 1024U * 1024,
		.label = "sample",
		.env = sim_env_os(e),
	};
	struct sim_env *killed;
	struct kv_db *db;

	ok(kv_create(SAMPLE_NAME, &create));
	ok(sample_open(e, 0, &db));
	for (unsigned stage = 0; stage < STAGES; stage++)
		stage_run(db, stage);
	if (end == SAMPLE_CLOSED) {
		ok(kv_close(db));
		return e;
	}
	for (unsigned i = 49; i < SAMPLE_KEYS; i += 50) {
		put(db, i, STAGES);
		if (i % 500 == 299)
			ok(kv_sync(db));
	}
	ok(kv_sync(db));
	killed = sim_env_clone(e, seed + 1);
	ok(kv_close(db));
	sim_env_free(e);
	return killed;
}

/* One key's value as it is against what it should be. */
static void compare_key(struct kv_txn *txn, unsigned i, enum sample_end end, struct kv_buf *want,
			struct kv_buf *have, int *err, unsigned *wrong, unsigned *missing)
{
	char key[16];
	bool there = sample_value(i, end, want);
	int got = kv_txn_get(txn, SAMPLE_KEYSPACE, kv_slice_of(key, sample_key(i, key)), have);

	if (got && got != -KV_E_NOTFOUND)
		*err = *err ? *err : got;
	else if (got && there)
		++*missing;
	else if (!got && (!there || have->len != want->len ||
			  memcmp(have->data, want->data, want->len) != 0))
		++*wrong;
}

int sample_compare(struct sim_env *e, enum sample_end end,
		   bool (*excused)(void *ctx, struct kv_slice key), void *ctx, unsigned *wrong,
		   unsigned *missing)
{
	struct kv_buf want = {0};
	struct kv_buf have = {0};
	struct kv_txn *txn;
	struct kv_db *db;
	char key[16];
	int err;

	*wrong = 0;
	*missing = 0;
	err = sample_open(e, KV_OPEN_RDONLY, &db);
	if (err)
		return err;
	ok(kv_txn_begin(db, NULL, &txn));
	for (unsigned i = 0; i < SAMPLE_KEYS; i++) {
		if (!excused || !excused(ctx, kv_slice_of(key, sample_key(i, key))))
			compare_key(txn, i, end, &want, &have, &err, wrong, missing);
	}
	kv_txn_abort(txn);
	ok(kv_close(db));
	kv_buf_free(&want);
	kv_buf_free(&have);
	return err;
}

static struct os_volume *volume_open(struct sim_env *e)
{
	struct os_env *env = sim_env_os(e);
	struct os_volume *volume;

	ok(env->ops->volume_open(env, SAMPLE_NAME, 0, 0, &volume, NULL));
	return volume;
}

void sample_load_manifest(struct sim_env *e, struct manifest_loaded *out)
{
	struct os_volume *volume = volume_open(e);
	struct checksum *sha256;

	ok(checksum_new(CHECKSUM_SHA256, &sha256));
	ok(manifest_store_load(volume, sha256, out));
	checksum_free(sha256);
	ok(volume->ops->close(volume));
}

void sample_edit_manifest(struct sim_env *e,
			  void (*edit)(void *ctx, struct os_volume *volume,
				       struct checksum *checksum, struct manifest *m),
			  void *ctx)
{
	struct os_volume *volume = volume_open(e);
	struct manifest_loaded loaded;
	struct kv_buf blob = {0};
	struct checksum *sha256;

	ok(checksum_new(CHECKSUM_SHA256, &sha256));
	ok(manifest_store_load(volume, sha256, &loaded));
	edit(ctx, volume, loaded.checksum, &loaded.manifest);
	ok(manifest_encode(&loaded.manifest, &blob));
	ok(manifest_store_write(volume, loaded.checksum, sha256, &blob, &loaded.sb));
	ok(os_volume_sync(volume));
	kv_buf_free(&blob);
	manifest_loaded_fini(&loaded);
	checksum_free(sha256);
	ok(volume->ops->close(volume));
}
