/* SPDX-License-Identifier: MIT */
/*
 * SQLite as a key-value store: one WITHOUT ROWID table, WAL, one connection a
 * session, prepared statements. synchronous=NORMAL does not sync a commit in
 * WAL mode; FULL does.
 */
#include "tests/bench/kvbench/engine.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sqlite_db {
	struct engine_settings settings;
	char path[512];
	sqlite3 *keeper; /* keeps the WAL open between sessions */
};

enum { STMT_BEGIN, STMT_COMMIT, STMT_ROLLBACK, STMT_PUT, STMT_GET, STMT_SCAN, STMT_COUNT };

static const char *const stmt_text[STMT_COUNT] = {
	[STMT_BEGIN] = "BEGIN IMMEDIATE",
	[STMT_COMMIT] = "COMMIT",
	[STMT_ROLLBACK] = "ROLLBACK",
	[STMT_PUT] = "INSERT OR REPLACE INTO kv VALUES(?1, ?2)",
	[STMT_GET] = "SELECT v FROM kv WHERE k = ?1",
	[STMT_SCAN] = "SELECT k, v FROM kv WHERE k >= ?1 ORDER BY k",
};

struct sqlite_session {
	sqlite3 *conn;
	sqlite3_stmt *stmt[STMT_COUNT];
};

static int failed(sqlite3 *conn, const char *what)
{
	fprintf(stderr, "sqlite: %s: %s\n", what, sqlite3_errmsg(conn));
	return -1;
}

static void sqlite_describe(const struct engine_settings *s, char *out, size_t out_len)
{
	snprintf(out, out_len,
		 "%s; WAL, WITHOUT ROWID, cache_size=%zu KiB a connection, mmap_size=0, "
		 "synchronous=%s, page size 4096",
		 sqlite3_libversion(), s->cache_bytes >> 10, s->sync ? "FULL" : "NORMAL");
}

static int connect_db(const struct sqlite_db *db, sqlite3 **out)
{
	char text[512];
	sqlite3 *conn;

	if (sqlite3_open_v2(db->path, &conn,
			    SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL))
		return failed(conn, "open");
	sqlite3_busy_timeout(conn, 60000);
	snprintf(text, sizeof(text),
		 "PRAGMA journal_mode=WAL; PRAGMA synchronous=%s; PRAGMA cache_size=-%zu;"
		 "CREATE TABLE IF NOT EXISTS kv(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID",
		 db->settings.sync ? "FULL" : "NORMAL", db->settings.cache_bytes >> 10);
	if (sqlite3_exec(conn, text, NULL, NULL, NULL))
		return failed(conn, "set up");
	*out = conn;
	return 0;
}

static int sqlite_open(const struct engine_settings *s, void **out)
{
	struct sqlite_db *db = calloc(1, sizeof(*db));

	if (!db)
		return -1;
	db->settings = *s;
	snprintf(db->path, sizeof(db->path), "%s/kv.sqlite", s->dir);
	if (connect_db(db, &db->keeper))
		return -1;
	*out = db;
	return 0;
}

static int sqlite_close(void *handle)
{
	struct sqlite_db *db = handle;
	int err = sqlite3_close(db->keeper);

	free(db);
	return err ? -1 : 0;
}

static int sqlite_settle(void *handle)
{
	struct sqlite_db *db = handle;

	if (sqlite3_exec(db->keeper, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL))
		return failed(db->keeper, "checkpoint");
	return 0;
}

static void sqlite_session_close(void *handle)
{
	struct sqlite_session *s = handle;

	for (size_t i = 0; i < STMT_COUNT; i++)
		sqlite3_finalize(s->stmt[i]);
	sqlite3_close(s->conn);
	free(s);
}

static int sqlite_session_open(void *handle, void **out)
{
	struct sqlite_session *s = calloc(1, sizeof(*s));

	if (!s || connect_db(handle, &s->conn))
		return -1;
	for (size_t i = 0; i < STMT_COUNT; i++) {
		if (sqlite3_prepare_v3(s->conn, stmt_text[i], -1, SQLITE_PREPARE_PERSISTENT,
				       &s->stmt[i], NULL))
			return failed(s->conn, "prepare");
	}
	*out = s;
	return 0;
}

static int run(struct sqlite_session *s, int which)
{
	int step = sqlite3_step(s->stmt[which]);

	sqlite3_reset(s->stmt[which]);
	return step == SQLITE_DONE ? 0 : failed(s->conn, stmt_text[which]);
}

static int sqlite_put(void *handle, struct bytes key, struct bytes value)
{
	struct sqlite_session *s = handle;
	sqlite3_stmt *stmt = s->stmt[STMT_PUT];

	sqlite3_bind_blob(stmt, 1, key.data, (int)key.len, SQLITE_STATIC);
	sqlite3_bind_blob(stmt, 2, value.data, (int)value.len, SQLITE_STATIC);
	return run(s, STMT_PUT);
}

static int sqlite_batch(void *handle, const struct pair *pairs, size_t count)
{
	struct sqlite_session *s = handle;
	int err = run(s, STMT_BEGIN);

	for (size_t i = 0; i < count && !err; i++)
		err = sqlite_put(s, pairs[i].key, pairs[i].value);
	return err ? err : run(s, STMT_COMMIT);
}

static int sqlite_get(void *handle, struct bytes key, struct room *value)
{
	struct sqlite_session *s = handle;
	sqlite3_stmt *stmt = s->stmt[STMT_GET];
	int step;
	int err = 0;

	sqlite3_bind_blob(stmt, 1, key.data, (int)key.len, SQLITE_STATIC);
	step = sqlite3_step(stmt);
	if (step == SQLITE_DONE)
		err = ENGINE_ABSENT;
	else if (step != SQLITE_ROW || !room_set(value, sqlite3_column_blob(stmt, 0),
						 (size_t)sqlite3_column_bytes(stmt, 0)))
		err = failed(s->conn, "get");
	sqlite3_reset(stmt);
	return err;
}

static int sqlite_scan(void *handle, struct bytes from, size_t count, uint64_t *seen,
		       uint64_t *bytes)
{
	struct sqlite_session *s = handle;
	sqlite3_stmt *stmt = s->stmt[STMT_SCAN];
	int step = SQLITE_ROW;
	size_t n = 0;

	sqlite3_bind_blob(stmt, 1, from.len ? (const void *)from.data : "", (int)from.len,
			  SQLITE_STATIC);
	while (n < count && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
		(void)sqlite3_column_blob(stmt, 0);
		(void)sqlite3_column_blob(stmt, 1);
		*bytes += (uint64_t)(sqlite3_column_bytes(stmt, 0) + sqlite3_column_bytes(stmt, 1));
		n++;
	}
	sqlite3_reset(stmt);
	*seen += n;
	return step == SQLITE_ROW || step == SQLITE_DONE ? 0 : failed(s->conn, "scan");
}

static int sqlite_rmw(void *handle, struct bytes key, struct room *value)
{
	struct sqlite_session *s = handle;
	struct bytes changed;
	uint64_t counter;
	int err = run(s, STMT_BEGIN);

	if (!err)
		err = sqlite_get(s, key, value);
	if (err)
		return -1;
	memcpy(&counter, value->data, sizeof(counter));
	counter++;
	memcpy(value->data, &counter, sizeof(counter));
	changed = (struct bytes){value->data, value->len};
	err = sqlite_put(s, key, changed);
	return err ? err : run(s, STMT_COMMIT);
}

const struct engine engine_sqlite = {
	.name = "sqlite",
	.describe = sqlite_describe,
	.open = sqlite_open,
	.close = sqlite_close,
	.settle = sqlite_settle,
	.session_open = sqlite_session_open,
	.session_close = sqlite_session_close,
	.put = sqlite_put,
	.batch = sqlite_batch,
	.get = sqlite_get,
	.scan = sqlite_scan,
	.rmw = sqlite_rmw,
};
