/* SPDX-License-Identifier: MIT */
/*
 * Berkeley DB 5.3: a transactional environment with one B-tree. Reads take no
 * transaction; writes without sync use DB_TXN_WRITE_NOSYNC, which survives the
 * death of the process. It has no Bloom filter and no Snappy.
 */
#include "tests/bench/kvbench/engine.h"

#include <db.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bdb {
	DB_ENV *env;
	DB *db;
};

struct bdb_session {
	struct bdb *b;
	DBT value; /* DB_DBT_REALLOC */
	DBT key;
};

static int failed(const char *what, int err)
{
	fprintf(stderr, "bdb: %s: %s\n", what, db_strerror(err));
	return -1;
}

static DBT dbt(struct bytes b)
{
	DBT d;

	memset(&d, 0, sizeof(d));
	d.data = (void *)(uintptr_t)b.data;
	d.size = (u_int32_t)b.len;
	return d;
}

static void bdb_describe(const struct engine_settings *s, char *out, size_t out_len)
{
	snprintf(out, out_len, "%d.%d.%d; cache=%zu, B-tree, transactions%s", DB_VERSION_MAJOR,
		 DB_VERSION_MINOR, DB_VERSION_PATCH, s->cache_bytes,
		 s->sync ? ", synced commits" : ", DB_TXN_WRITE_NOSYNC");
}

static int bdb_set_up(struct bdb *b, const struct engine_settings *s)
{
	u_int32_t gbytes = (u_int32_t)(s->cache_bytes >> 30);
	u_int32_t rest = (u_int32_t)(s->cache_bytes & ((1U << 30) - 1));
	int err = b->env->set_cachesize(b->env, gbytes, rest, 1);

	if (!err)
		err = b->env->set_lk_detect(b->env, DB_LOCK_DEFAULT);
	if (!err)
		err = b->env->set_lg_bsize(b->env, 8U << 20);
	if (!err)
		err = b->env->set_lk_max_locks(b->env, 100000);
	if (!err)
		err = b->env->set_lk_max_objects(b->env, 100000);
	if (!err && !s->sync)
		err = b->env->set_flags(b->env, DB_TXN_WRITE_NOSYNC, 1);
	if (!err)
		err = b->env->log_set_config(b->env, DB_LOG_AUTO_REMOVE, 1);
	return err;
}

static int bdb_open(const struct engine_settings *s, void **out)
{
	struct bdb *b = calloc(1, sizeof(*b));
	int err;

	if (!b)
		return -1;
	err = db_env_create(&b->env, 0);
	if (!err)
		err = bdb_set_up(b, s);
	if (!err)
		err = b->env->open(b->env, s->dir,
				   DB_CREATE | DB_INIT_TXN | DB_INIT_LOG | DB_INIT_MPOOL |
					   DB_INIT_LOCK | DB_THREAD | DB_RECOVER | DB_PRIVATE,
				   0644);
	if (!err)
		err = db_create(&b->db, b->env, 0);
	if (!err)
		err = b->db->open(b->db, NULL, "kv.db", NULL, DB_BTREE,
				  DB_CREATE | DB_AUTO_COMMIT | DB_THREAD, 0644);
	if (err)
		return failed("open", err);
	*out = b;
	return 0;
}

static int bdb_close(void *handle)
{
	struct bdb *b = handle;
	int err = b->env->txn_checkpoint(b->env, 0, 0, 0);

	if (!err)
		err = b->db->close(b->db, 0);
	if (!err)
		err = b->env->close(b->env, 0);
	free(b);
	return err ? failed("close", err) : 0;
}

static int bdb_settle(void *handle)
{
	struct bdb *b = handle;
	int err = b->env->txn_checkpoint(b->env, 0, 0, 0);

	return err ? failed("checkpoint", err) : 0;
}

static int bdb_session_open(void *handle, void **out)
{
	struct bdb_session *s = calloc(1, sizeof(*s));

	if (!s)
		return -1;
	s->b = handle;
	s->value.flags = DB_DBT_REALLOC;
	s->key.flags = DB_DBT_REALLOC;
	*out = s;
	return 0;
}

static void bdb_session_close(void *handle)
{
	struct bdb_session *s = handle;

	free(s->value.data);
	free(s->key.data);
	free(s);
}

static int bdb_batch(void *handle, const struct pair *pairs, size_t count)
{
	struct bdb_session *s = handle;
	DB_TXN *txn;
	int err;

	do {
		err = s->b->env->txn_begin(s->b->env, NULL, &txn, 0);
		if (err)
			return failed("begin", err);
		for (size_t i = 0; i < count && !err; i++) {
			DBT key = dbt(pairs[i].key);
			DBT value = dbt(pairs[i].value);

			err = s->b->db->put(s->b->db, txn, &key, &value, 0);
		}
		if (err)
			(void)txn->abort(txn);
		else
			err = txn->commit(txn, 0);
	} while (err == DB_LOCK_DEADLOCK);
	return err ? failed("put", err) : 0;
}

static int bdb_put(void *handle, struct bytes key, struct bytes value)
{
	struct pair one = {key, value};

	return bdb_batch(handle, &one, 1);
}

static int bdb_get(void *handle, struct bytes key, struct room *value)
{
	struct bdb_session *s = handle;
	DBT k = dbt(key);
	int err;

	do {
		err = s->b->db->get(s->b->db, NULL, &k, &s->value, 0);
	} while (err == DB_LOCK_DEADLOCK);
	if (err == DB_NOTFOUND)
		return ENGINE_ABSENT;
	if (err)
		return failed("get", err);
	return room_set(value, s->value.data, s->value.size) ? 0 : -1;
}

static int bdb_scan(void *handle, struct bytes from, size_t count, uint64_t *seen, uint64_t *bytes)
{
	struct bdb_session *s = handle;
	DBC *cursor;
	size_t n = 0;
	int err = s->b->db->cursor(s->b->db, NULL, &cursor, 0);

	if (err)
		return failed("cursor", err);
	if (from.len) {
		void *memory = realloc(s->key.data, from.len);

		if (!memory)
			return -1;
		s->key.data = memcpy(memory, from.data, from.len);
		s->key.size = (u_int32_t)from.len;
	}
	err = cursor->get(cursor, &s->key, &s->value, from.len ? DB_SET_RANGE : DB_FIRST);
	for (; !err && n < count; n++) {
		*bytes += s->key.size + s->value.size;
		err = cursor->get(cursor, &s->key, &s->value, DB_NEXT);
	}
	(void)cursor->close(cursor);
	*seen += n;
	return err && err != DB_NOTFOUND ? failed("scan", err) : 0;
}

static int add_one(struct bdb_session *s, DB_TXN *txn, struct bytes key)
{
	DBT k = dbt(key);
	DBT v;
	uint64_t counter;
	int err = s->b->db->get(s->b->db, txn, &k, &s->value, DB_RMW);

	if (err)
		return err;
	memcpy(&counter, s->value.data, sizeof(counter));
	counter++;
	memcpy(s->value.data, &counter, sizeof(counter));
	v = dbt((struct bytes){s->value.data, s->value.size});
	return s->b->db->put(s->b->db, txn, &k, &v, 0);
}

static int bdb_rmw(void *handle, struct bytes key, struct room *value)
{
	struct bdb_session *s = handle;
	DB_TXN *txn;
	int err;

	(void)value;
	do {
		err = s->b->env->txn_begin(s->b->env, NULL, &txn, 0);
		if (err)
			break;
		err = add_one(s, txn, key);
		if (err)
			(void)txn->abort(txn);
		else
			err = txn->commit(txn, 0);
	} while (err == DB_LOCK_DEADLOCK);
	return err ? failed("rmw", err) : 0;
}

const struct engine engine_bdb = {
	.name = "bdb",
	.describe = bdb_describe,
	.open = bdb_open,
	.close = bdb_close,
	.settle = bdb_settle,
	.session_open = bdb_session_open,
	.session_close = bdb_session_close,
	.put = bdb_put,
	.batch = bdb_batch,
	.get = bdb_get,
	.scan = bdb_scan,
	.rmw = bdb_rmw,
};
