/* SPDX-License-Identifier: MIT */
/*
 * The engine of this project, through its public header only. Puts and batches
 * use the calls for them; scans run in a read-only transaction each.
 */
#include "tests/bench/kvbench/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/kvcore.h"
#include "kvcore/kvcore_check.h"

#define KEYSPACE 1U

struct kvcore_db {
	struct kv_db *db;
	unsigned flags;
};

struct kvcore_session {
	struct kvcore_db *db;
	struct kv_batch *batch;
	struct kv_buf value;
};

static int failed(const char *what, int err)
{
	fprintf(stderr, "kvcore: %s: %s\n", what, kv_strerror(err));
	return -1;
}

static struct kv_slice slice(struct bytes b)
{
	return kv_slice_of(b.data, b.len);
}

static void kvcore_describe(const struct engine_settings *s, char *out, size_t out_len)
{
	snprintf(out, out_len,
		 "%s; cache_bytes=%zu (pages, filters and memtables) memtable_bytes=%zu, "
		 "sha256 of every page, Snappy, O_DIRECT, Bloom 10 bits a key%s",
		 KVCORE_VERSION, s->cache_bytes, s->memtable_bytes,
		 s->sync ? ", KV_COMMIT_SYNC" : "");
}

static int kvcore_open(const struct engine_settings *s, void **out)
{
	struct kv_options options = {.cache_bytes = s->cache_bytes,
				     .memtable_bytes = s->memtable_bytes};
	struct kvcore_db *db = calloc(1, sizeof(*db));
	char path[512];
	FILE *probe;
	int err;

	if (!db)
		return -1;
	snprintf(path, sizeof(path), "%s/volume", s->dir);
	probe = fopen(path, "rb");
	if (probe)
		fclose(probe);
	err = probe ? 0 : kv_create(path, NULL);
	if (!err)
		err = kv_open(path, &options, &db->db);
	if (err) {
		free(db);
		return failed("open", err);
	}
	db->flags = s->sync ? KV_COMMIT_SYNC : 0;
	*out = db;
	return 0;
}

static int kvcore_close(void *handle)
{
	struct kvcore_db *db = handle;
	int err = kv_close(db->db);

	free(db);
	return err ? failed("close", err) : 0;
}

static int kvcore_settle(void *handle)
{
	struct kvcore_db *db = handle;
	int err = kv_flush(db->db);

	if (!err)
		err = kv_compact(db->db, NULL);
	return err ? failed("compact", err) : 0;
}

static uint64_t kvcore_fixed_bytes(void *handle)
{
	struct kvcore_db *db = handle;
	struct kv_db_info info;

	return kv_get_info(db->db, &info) ? 0 : info.log_size;
}

static int kvcore_session_open(void *handle, void **out)
{
	struct kvcore_session *session = calloc(1, sizeof(*session));
	int err;

	if (!session)
		return -1;
	session->db = handle;
	err = kv_batch_new(session->db->db, &session->batch);
	if (err) {
		free(session);
		return failed("batch", err);
	}
	*out = session;
	return 0;
}

static void kvcore_session_close(void *handle)
{
	struct kvcore_session *session = handle;

	kv_batch_free(session->batch);
	kv_buf_free(&session->value);
	free(session);
}

static int kvcore_put(void *handle, struct bytes key, struct bytes value)
{
	struct kvcore_session *s = handle;
	int err = kv_put(s->db->db, KEYSPACE, slice(key), slice(value), s->db->flags);

	return err ? failed("put", err) : 0;
}

static int kvcore_batch(void *handle, const struct pair *pairs, size_t count)
{
	struct kvcore_session *s = handle;
	int err = 0;

	for (size_t i = 0; i < count && !err; i++)
		err = kv_batch_put(s->batch, KEYSPACE, slice(pairs[i].key), slice(pairs[i].value));
	if (!err)
		err = kv_batch_write(s->batch, s->db->flags, NULL);
	return err ? failed("batch", err) : 0;
}

static int kvcore_get(void *handle, struct bytes key, struct room *value)
{
	struct kvcore_session *s = handle;
	int err = kv_get(s->db->db, KEYSPACE, slice(key), &s->value);

	if (err == -KV_E_NOTFOUND)
		return ENGINE_ABSENT;
	if (err)
		return failed("get", err);
	/* The copy is already in a buffer of the session: lend it. */
	value->data = s->value.data;
	value->len = s->value.len;
	return 0;
}

static int kvcore_scan(void *handle, struct bytes from, size_t count, uint64_t *seen,
		       uint64_t *bytes)
{
	struct kv_txn_options options = {.flags = KV_TXN_RDONLY};
	struct kvcore_session *s = handle;
	struct kv_iter *iter = NULL;
	struct kv_txn *txn = NULL;
	struct kv_slice value;
	size_t n = 0;
	int err;

	err = kv_txn_begin(s->db->db, &options, &txn);
	if (!err)
		err = kv_iter_open(txn, KEYSPACE, NULL, &iter);
	if (!err)
		err = from.len ? kv_iter_seek(iter, slice(from)) : kv_iter_first(iter);
	for (; !err && n < count; n++) {
		err = kv_iter_value(iter, &value);
		if (err)
			break;
		*bytes += kv_iter_key(iter).len + value.len;
		err = kv_iter_next(iter);
	}
	kv_iter_close(iter);
	kv_txn_abort(txn);
	*seen += n;
	return err && err != -KV_E_NOTFOUND ? failed("scan", err) : 0;
}

static int add_one(struct kvcore_session *s, struct kv_txn *txn, struct kv_slice key)
{
	uint64_t counter;
	int err = kv_txn_get_for_update(txn, KEYSPACE, key, &s->value);

	if (err)
		return err;
	memcpy(&counter, s->value.data, sizeof(counter));
	counter++;
	memcpy(s->value.data, &counter, sizeof(counter));
	return kv_txn_put(txn, KEYSPACE, key, kv_buf_slice(&s->value));
}

static int kvcore_rmw(void *handle, struct bytes key, struct room *value)
{
	struct kvcore_session *s = handle;
	struct kv_txn *txn;
	int err;

	(void)value;
	do {
		txn = NULL;
		err = kv_txn_begin(s->db->db, NULL, &txn);
		if (err)
			break;
		err = add_one(s, txn, slice(key));
		if (err)
			kv_txn_abort(txn);
		else
			err = kv_txn_commit(txn, s->db->flags, NULL);
	} while (err == -KV_E_CONFLICT || err == -KV_E_DEADLOCK);
	return err ? failed("rmw", err) : 0;
}

const struct engine engine_kvcore = {
	.name = "kvcore",
	.describe = kvcore_describe,
	.open = kvcore_open,
	.close = kvcore_close,
	.settle = kvcore_settle,
	.fixed_bytes = kvcore_fixed_bytes,
	.session_open = kvcore_session_open,
	.session_close = kvcore_session_close,
	.put = kvcore_put,
	.batch = kvcore_batch,
	.get = kvcore_get,
	.scan = kvcore_scan,
	.rmw = kvcore_rmw,
};
