/* SPDX-License-Identifier: MIT */
/*
 * LMDB: a memory map, so its cache is the kernel's. Without sync it runs with
 * MDB_NOSYNC, which survives the death of the process but can lose the whole
 * file with the power: weaker than what the others give, and the fastest that
 * it has. A session keeps one read transaction and renews it for each read.
 */
#include "tests/bench/kvbench/engine.h"

#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lmdb_db {
	MDB_env *env;
	MDB_dbi dbi;
};

struct lmdb_session {
	struct lmdb_db *db;
	MDB_txn *read; /* reset between reads */
	MDB_cursor *cursor;
};

static int failed(const char *what, int err)
{
	fprintf(stderr, "lmdb: %s: %s\n", what, mdb_strerror(err));
	return -1;
}

static MDB_val val(struct bytes b)
{
	MDB_val v = {b.len, (void *)(uintptr_t)b.data};

	return v;
}

static void lmdb_describe(const struct engine_settings *s, char *out, size_t out_len)
{
	snprintf(out, out_len, "%d.%d.%d; the kernel's page cache, MDB_NORDAHEAD%s",
		 MDB_VERSION_MAJOR, MDB_VERSION_MINOR, MDB_VERSION_PATCH,
		 s->sync ? "" : ", MDB_NOSYNC");
}

static int lmdb_open(const struct engine_settings *s, void **out)
{
	unsigned flags = MDB_NORDAHEAD | MDB_NOTLS | (s->sync ? 0U : MDB_NOSYNC);
	struct lmdb_db *db = calloc(1, sizeof(*db));
	MDB_txn *txn;
	int err;

	if (!db)
		return -1;
	err = mdb_env_create(&db->env);
	if (!err)
		err = mdb_env_set_mapsize(db->env, (size_t)(s->data_bytes * 6 + (1ULL << 30)));
	if (!err)
		err = mdb_env_open(db->env, s->dir, flags, 0644);
	if (!err)
		err = mdb_txn_begin(db->env, NULL, 0, &txn);
	if (!err)
		err = mdb_dbi_open(txn, NULL, 0, &db->dbi);
	if (!err)
		err = mdb_txn_commit(txn);
	if (err)
		return failed("open", err);
	*out = db;
	return 0;
}

static int lmdb_close(void *handle)
{
	struct lmdb_db *db = handle;
	int err = mdb_env_sync(db->env, 1);

	mdb_env_close(db->env);
	free(db);
	return err ? failed("close", err) : 0;
}

static int lmdb_session_open(void *handle, void **out)
{
	struct lmdb_session *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -1;
	s->db = handle;
	err = mdb_txn_begin(s->db->env, NULL, MDB_RDONLY, &s->read);
	if (!err)
		err = mdb_cursor_open(s->read, s->db->dbi, &s->cursor);
	if (err)
		return failed("session", err);
	mdb_txn_reset(s->read);
	*out = s;
	return 0;
}

static void lmdb_session_close(void *handle)
{
	struct lmdb_session *s = handle;

	mdb_cursor_close(s->cursor);
	mdb_txn_abort(s->read);
	free(s);
}

static int lmdb_batch(void *handle, const struct pair *pairs, size_t count)
{
	struct lmdb_session *s = handle;
	MDB_txn *txn;
	int err = mdb_txn_begin(s->db->env, NULL, 0, &txn);

	if (err)
		return failed("begin", err);
	for (size_t i = 0; i < count && !err; i++) {
		MDB_val key = val(pairs[i].key);
		MDB_val value = val(pairs[i].value);

		err = mdb_put(txn, s->db->dbi, &key, &value, 0);
	}
	if (err)
		mdb_txn_abort(txn);
	else
		err = mdb_txn_commit(txn);
	return err ? failed("put", err) : 0;
}

static int lmdb_put(void *handle, struct bytes key, struct bytes value)
{
	struct pair one = {key, value};

	return lmdb_batch(handle, &one, 1);
}

static int lmdb_get(void *handle, struct bytes key, struct room *out)
{
	struct lmdb_session *s = handle;
	MDB_val k = val(key);
	MDB_val v;
	int err = mdb_txn_renew(s->read);

	if (!err)
		err = mdb_get(s->read, s->db->dbi, &k, &v);
	/* The mapped value lasts only as long as the transaction: a caller gets a copy. */
	if (!err && !room_set(out, v.mv_data, v.mv_size))
		err = MDB_PANIC;
	mdb_txn_reset(s->read);
	if (err == MDB_NOTFOUND)
		return ENGINE_ABSENT;
	return err ? failed("get", err) : 0;
}

static int lmdb_scan(void *handle, struct bytes from, size_t count, uint64_t *seen, uint64_t *bytes)
{
	struct lmdb_session *s = handle;
	MDB_val k = val(from);
	MDB_val v;
	size_t n = 0;
	int err = mdb_txn_renew(s->read);

	if (!err)
		err = mdb_cursor_renew(s->read, s->cursor);
	if (!err)
		err = mdb_cursor_get(s->cursor, &k, &v, from.len ? MDB_SET_RANGE : MDB_FIRST);
	for (; !err && n < count; n++) {
		*bytes += k.mv_size + v.mv_size;
		err = mdb_cursor_get(s->cursor, &k, &v, MDB_NEXT);
	}
	mdb_txn_reset(s->read);
	*seen += n;
	return err && err != MDB_NOTFOUND ? failed("scan", err) : 0;
}

static int lmdb_rmw(void *handle, struct bytes key, struct room *value)
{
	struct lmdb_session *s = handle;
	MDB_val k = val(key);
	MDB_val v;
	MDB_txn *txn;
	uint64_t counter;
	int err = mdb_txn_begin(s->db->env, NULL, 0, &txn);

	if (err)
		return failed("begin", err);
	err = mdb_get(txn, s->db->dbi, &k, &v);
	if (!err && !room_set(value, v.mv_data, v.mv_size))
		err = MDB_PANIC;
	if (!err) {
		memcpy(&counter, value->data, sizeof(counter));
		counter++;
		memcpy(value->data, &counter, sizeof(counter));
		v.mv_data = value->data;
		err = mdb_put(txn, s->db->dbi, &k, &v, 0);
	}
	if (err)
		mdb_txn_abort(txn);
	else
		err = mdb_txn_commit(txn);
	return err ? failed("rmw", err) : 0;
}

const struct engine engine_lmdb = {
	.name = "lmdb",
	.describe = lmdb_describe,
	.open = lmdb_open,
	.close = lmdb_close,
	.session_open = lmdb_session_open,
	.session_close = lmdb_session_close,
	.put = lmdb_put,
	.batch = lmdb_batch,
	.get = lmdb_get,
	.scan = lmdb_scan,
	.rmw = lmdb_rmw,
};
