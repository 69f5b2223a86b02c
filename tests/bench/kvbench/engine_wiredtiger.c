/* SPDX-License-Identifier: MIT */
/*
 * WiredTiger 3.2: one table of raw keys and values with its log enabled. Its
 * B-tree has no Bloom filter. Snappy is a loadable extension, used where the
 * package has it.
 */
#include "tests/bench/kvbench/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wiredtiger.h>

#define TABLE	  "table:kv"
#define EXTENSION "libwiredtiger_snappy.so"

static const char *const extension_dirs[] = {"/usr/lib/x86_64-linux-gnu/",
					     "/usr/lib/aarch64-linux-gnu/", "/usr/lib/"};

struct wt_db {
	WT_CONNECTION *conn;
};

struct wt_session {
	WT_SESSION *session;
	WT_CURSOR *cursor;
};

static int failed(const char *what, int err)
{
	fprintf(stderr, "wiredtiger: %s: %s\n", what, wiredtiger_strerror(err));
	return -1;
}

static WT_ITEM item(struct bytes b)
{
	WT_ITEM i;

	memset(&i, 0, sizeof(i));
	i.data = b.data;
	i.size = b.len;
	return i;
}

static bool find_snappy(char *out, size_t out_len)
{
	for (size_t i = 0; i < sizeof(extension_dirs) / sizeof(extension_dirs[0]); i++) {
		snprintf(out, out_len, "%s" EXTENSION, extension_dirs[i]);
		if (access(out, R_OK) == 0)
			return true;
	}
	return false;
}

static void wt_describe(const struct engine_settings *s, char *out, size_t out_len)
{
	char path[256];

	snprintf(out, out_len, "%s; cache_size=%zu, log enabled, transaction_sync=%s, %s",
		 wiredtiger_version(NULL, NULL, NULL), s->cache_bytes, s->sync ? "fsync" : "off",
		 find_snappy(path, sizeof(path)) ? "Snappy" : "no compression");
}

static int wt_open(const struct engine_settings *s, void **out)
{
	struct wt_db *db = calloc(1, sizeof(*db));
	char path[256];
	char config[1024];
	bool snappy = find_snappy(path, sizeof(path));
	WT_SESSION *session;
	int err;

	if (!db)
		return -1;
	snprintf(config, sizeof(config),
		 "create,cache_size=%zu,session_max=256,log=(enabled=true),"
		 "transaction_sync=(enabled=%s,method=fsync),checkpoint=(wait=60,log_size=1GB)%s%s%"
		 "s",
		 s->cache_bytes, s->sync ? "true" : "false", snappy ? ",extensions=[" : "",
		 snappy ? path : "", snappy ? "]" : "");
	err = wiredtiger_open(s->dir, NULL, config, &db->conn);
	if (!err)
		err = db->conn->open_session(db->conn, NULL, NULL, &session);
	snprintf(config, sizeof(config), "key_format=u,value_format=u%s",
		 snappy ? ",block_compressor=snappy" : "");
	if (!err)
		err = session->create(session, TABLE, config);
	if (!err)
		err = session->close(session, NULL);
	if (err)
		return failed("open", err);
	*out = db;
	return 0;
}

static int wt_close(void *handle)
{
	struct wt_db *db = handle;
	int err = db->conn->close(db->conn, NULL);

	free(db);
	return err ? failed("close", err) : 0;
}

static int wt_settle(void *handle)
{
	struct wt_db *db = handle;
	WT_SESSION *session;
	int err = db->conn->open_session(db->conn, NULL, NULL, &session);

	if (!err)
		err = session->checkpoint(session, NULL);
	if (!err)
		err = session->close(session, NULL);
	return err ? failed("checkpoint", err) : 0;
}

static int wt_session_open(void *handle, void **out)
{
	struct wt_db *db = handle;
	struct wt_session *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -1;
	err = db->conn->open_session(db->conn, NULL, "isolation=snapshot", &s->session);
	if (!err)
		err = s->session->open_cursor(s->session, TABLE, NULL, "overwrite=true",
					      &s->cursor);
	if (err)
		return failed("session", err);
	*out = s;
	return 0;
}

static void wt_session_close(void *handle)
{
	struct wt_session *s = handle;

	(void)s->session->close(s->session, NULL);
	free(s);
}

static int wt_insert(struct wt_session *s, struct bytes key, struct bytes value)
{
	WT_ITEM k = item(key);
	WT_ITEM v = item(value);

	s->cursor->set_key(s->cursor, &k);
	s->cursor->set_value(s->cursor, &v);
	return s->cursor->insert(s->cursor);
}

static int wt_put(void *handle, struct bytes key, struct bytes value)
{
	int err;

	do
		err = wt_insert(handle, key, value);
	while (err == WT_ROLLBACK);
	return err ? failed("put", err) : 0;
}

static int wt_batch(void *handle, const struct pair *pairs, size_t count)
{
	struct wt_session *s = handle;
	int err;

	do {
		err = s->session->begin_transaction(s->session, NULL);
		for (size_t i = 0; i < count && !err; i++)
			err = wt_insert(s, pairs[i].key, pairs[i].value);
		if (err)
			(void)s->session->rollback_transaction(s->session, NULL);
		else
			err = s->session->commit_transaction(s->session, NULL);
	} while (err == WT_ROLLBACK);
	return err ? failed("batch", err) : 0;
}

static int wt_read(struct wt_session *s, struct bytes key, struct room *value)
{
	WT_ITEM k = item(key);
	WT_ITEM v;
	int err;

	s->cursor->set_key(s->cursor, &k);
	err = s->cursor->search(s->cursor);
	if (!err)
		err = s->cursor->get_value(s->cursor, &v);
	if (!err && !room_set(value, v.data, v.size))
		err = WT_PANIC;
	return err;
}

static int wt_get(void *handle, struct bytes key, struct room *value)
{
	struct wt_session *s = handle;
	int err = wt_read(s, key, value);

	(void)s->cursor->reset(s->cursor);
	if (err == WT_NOTFOUND)
		return ENGINE_ABSENT;
	return err ? failed("get", err) : 0;
}

static int wt_scan(void *handle, struct bytes from, size_t count, uint64_t *seen, uint64_t *bytes)
{
	struct wt_session *s = handle;
	WT_CURSOR *c = s->cursor;
	WT_ITEM k = item(from);
	WT_ITEM v;
	size_t n = 0;
	int exact = 0;
	int err = 0;

	if (from.len) {
		c->set_key(c, &k);
		err = c->search_near(c, &exact);
	}
	if (!err && (!from.len || exact < 0))
		err = c->next(c);
	for (; !err && n < count; n++) {
		if (c->get_key(c, &k) || c->get_value(c, &v))
			break;
		*bytes += k.size + v.size;
		err = c->next(c);
	}
	(void)c->reset(c);
	*seen += n;
	return err && err != WT_NOTFOUND ? failed("scan", err) : 0;
}

static int add_one(struct wt_session *s, struct bytes key, struct room *value)
{
	uint64_t counter;
	int err = wt_read(s, key, value);

	if (err)
		return err;
	memcpy(&counter, value->data, sizeof(counter));
	counter++;
	memcpy(value->data, &counter, sizeof(counter));
	return wt_insert(s, key, (struct bytes){value->data, value->len});
}

static int wt_rmw(void *handle, struct bytes key, struct room *value)
{
	struct wt_session *s = handle;
	int err;

	do {
		err = s->session->begin_transaction(s->session, NULL);
		if (err)
			break;
		err = add_one(s, key, value);
		if (err)
			(void)s->session->rollback_transaction(s->session, NULL);
		else
			err = s->session->commit_transaction(s->session, NULL);
	} while (err == WT_ROLLBACK);
	return err ? failed("rmw", err) : 0;
}

const struct engine engine_wiredtiger = {
	.name = "wiredtiger",
	.describe = wt_describe,
	.open = wt_open,
	.close = wt_close,
	.settle = wt_settle,
	.session_open = wt_session_open,
	.session_close = wt_session_close,
	.put = wt_put,
	.batch = wt_batch,
	.get = wt_get,
	.scan = wt_scan,
	.rmw = wt_rmw,
};
