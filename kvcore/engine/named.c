/* SPDX-License-Identifier: MIT */
/*
 * Named snapshots. A name is a record in the engine's own keyspace, "s" + name ->
 * {seq, time}, written by an ordinary synced commit; the list in memory holds
 * each one's seq so that nothing it can see is dropped.
 *
 * The seq is taken and held before the record is committed, so there is no
 * moment at which the name exists and its versions may be dropped.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/txn.h"

#define NAME_TAG 's'

struct snapshot_record {
	struct le64 seq;
	struct le64 created_ns;
};
static_assert(sizeof(struct snapshot_record) == 16, "on-disk size");

struct named {
	struct os_mutex mu;	       /* OS_RANK_NAMED, held across commits */
	struct kv_snapshot_info *list; /* [mu] by seq */
	size_t count;
	size_t cap;
};

/* ---- the list ------------------------------------------------------------------- */

static int list_reserve(struct named *n)
{
	size_t cap = n->cap ? 2 * n->cap : 16;
	void *p;

	if (n->count < n->cap)
		return 0;
	p = realloc(n->list, cap * sizeof(*n->list));
	if (!p)
		return -ENOMEM;
	n->list = p;
	n->cap = cap;
	return 0;
}

/* Room was reserved. */
static void list_add(struct named *n, const struct kv_snapshot_info *info)
{
	size_t i = n->count;

	while (i && n->list[i - 1].seq > info->seq)
		i--;
	memmove(&n->list[i + 1], &n->list[i], (n->count - i) * sizeof(*n->list));
	n->list[i] = *info;
	n->count++;
}

static void list_remove(struct named *n, size_t i)
{
	n->count--;
	memmove(&n->list[i], &n->list[i + 1], (n->count - i) * sizeof(*n->list));
}

static bool list_find(const struct named *n, const char *name, size_t *at)
{
	for (size_t i = 0; i < n->count; i++) {
		if (strcmp(n->list[i].name, name) == 0) {
			*at = i;
			return true;
		}
	}
	return false;
}

/* ---- loading ----------------------------------------------------------------------- */

static int load_one(struct kv_db *db, struct kv_slice key, struct kv_slice value)
{
	struct kv_snapshot_info info = {0};
	struct snapshot_record rec;
	int err;

	if (value.len != sizeof(rec) || key.len < 2 || key.len > 1 + KV_SNAPSHOT_NAME_MAX)
		return -KV_E_CORRUPT;
	memcpy(&rec, value.data, sizeof(rec));
	memcpy(info.name, key.data + 1, key.len - 1);
	info.seq = le64_get(rec.seq);
	info.created_ns = (int64_t)le64_get(rec.created_ns);
	if (info.seq > snapshots_visible(db->snapshots) || strlen(info.name) != key.len - 1)
		return -KV_E_CORRUPT;
	err = list_reserve(db->named);
	if (!err)
		err = snapshots_hold(db->snapshots, info.seq);
	if (!err)
		list_add(db->named, &info);
	return err;
}

static int load_all(struct kv_db *db)
{
	struct kv_iter *it = NULL;
	struct kv_txn *txn = NULL;
	struct kv_slice value;
	const struct kv_txn_options ro = {.flags = KV_TXN_RDONLY};
	int err = kv_txn_begin(db, &ro, &txn);

	if (!err)
		err = db_iter_open_system(txn, NAME_TAG, &it);
	if (err)
		goto out;
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it)) {
		err = kv_iter_value(it, &value);
		if (!err)
			err = load_one(db, kv_iter_key(it), value);
		if (err)
			break;
	}
	if (err == -KV_E_NOTFOUND)
		err = 0;
out:
	kv_iter_close(it);
	kv_txn_abort(txn);
	return err;
}

int named_load(struct kv_db *db)
{
	struct named *n = calloc(1, sizeof(*n));
	int err;

	if (!n)
		return -ENOMEM;
	err = os_mutex_init(&n->mu, OS_RANK_NAMED);
	if (err) {
		free(n);
		return err;
	}
	db->named = n;
	return load_all(db);
}

void named_free(struct kv_db *db)
{
	struct named *n = db->named;

	if (!n)
		return;
	for (size_t i = 0; i < n->count; i++)
		snapshots_release(db->snapshots, n->list[i].seq);
	os_mutex_fini(&n->mu);
	free(n->list);
	free(n);
	db->named = NULL;
}

size_t named_count(struct kv_db *db)
{
	size_t n;

	os_mutex_lock(&db->named->mu);
	n = db->named->count;
	os_mutex_unlock(&db->named->mu);
	return n;
}

bool named_has(struct kv_db *db, kv_seq seq)
{
	const struct named *n = db->named;
	bool found = false;

	os_mutex_lock(&db->named->mu);
	for (size_t i = 0; !found && i < n->count; i++)
		found = n->list[i].seq == seq;
	os_mutex_unlock(&db->named->mu);
	return found;
}

/* Bytes of old versions in tables that hold anything up to @seq. */
static uint64_t held_bytes(const struct version *v, kv_seq seq)
{
	uint64_t bytes = 0;

	for (unsigned n = 0; n < KV_LEVELS; n++) {
		for (size_t i = 0; i < v->level[n].count; i++) {
			const struct table_meta *m = table_get_meta(v->level[n].tables[i]);

			bytes += m->seq_min <= seq ? m->old_bytes : 0;
		}
	}
	return bytes;
}

/* ---- create and drop --------------------------------------------------------------- */

static struct kv_slice record_key(uint8_t *buf, const char *name)
{
	uint8_t key[1 + KV_SNAPSHOT_NAME_MAX];
	size_t len = strlen(name);

	key[0] = NAME_TAG;
	memcpy(key + 1, name, len);
	return ikey_make(buf, KEYSPACE_SYSTEM, kv_slice_of(key, 1 + len));
}

/* Commit one record, or its removal (value NULL), durably. */
static int commit_record(struct kv_db *db, const char *name, const struct snapshot_record *rec)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey = record_key(buf, name);
	struct writeset *w = NULL;
	int err = txn_writeset_new(db, &w);

	if (!err && rec)
		err = writeset_put(w, ikey, ENTRY_PUT, kv_slice_of(rec, sizeof(*rec)));
	if (!err && !rec)
		err = writeset_put(w, ikey, ENTRY_DELETE, kv_slice_of(NULL, 0));
	if (!err)
		err = txn_write_commit(db, w, KV_COMMIT_SYNC | KV_COMMIT_RESERVE, NULL, NULL);
	writeset_free(w);
	return err;
}

static int create_locked(struct kv_db *db, const char *name)
{
	struct named *n = db->named;
	struct kv_snapshot_info info = {0};
	struct snapshot_record rec;
	size_t at;
	int err;

	if (list_find(n, name, &at))
		return -KV_E_EXISTS;
	err = list_reserve(n);
	if (!err)
		err = snapshots_acquire(db->snapshots, &info.seq);
	if (err)
		return err;
	memcpy(info.name, name, strlen(name));
	info.created_ns = os_realtime_ns(db->env);
	rec.seq = le64_of(info.seq);
	rec.created_ns = le64_of((uint64_t)info.created_ns);
	err = commit_record(db, name, &rec);
	/* With an unknown outcome the name may be there at the next open: keep its versions. */
	if (err && err != -KV_E_UNKNOWN_OUTCOME)
		snapshots_release(db->snapshots, info.seq);
	else
		list_add(n, &info);
	return err;
}

int kv_snapshot_create(struct kv_db *db, const char *name)
{
	size_t len = name ? strlen(name) : 0;
	int err;

	if (len == 0 || len > KV_SNAPSHOT_NAME_MAX)
		return -KV_E_INVALID;
	if (db->readonly)
		return -KV_E_READONLY;
	os_mutex_lock(&db->named->mu);
	err = create_locked(db, name);
	os_mutex_unlock(&db->named->mu);
	return err;
}

int kv_snapshot_drop(struct kv_db *db, const char *name)
{
	struct named *n = db->named;
	kv_seq seq = 0;
	size_t at;
	int err = 0;

	if (!name)
		return -KV_E_INVALID;
	if (db->readonly)
		return -KV_E_READONLY;
	os_mutex_lock(&n->mu);
	if (!list_find(n, name, &at))
		err = -KV_E_NOTFOUND;
	else
		err = commit_record(db, name, NULL);
	if (!err) {
		seq = n->list[at].seq;
		list_remove(n, at);
	}
	os_mutex_unlock(&n->mu);
	if (!err)
		snapshots_release(db->snapshots, seq);
	return err;
}

int kv_snapshot_list(struct kv_db *db, struct kv_snapshot_info **out, size_t *count)
{
	struct named *n = db->named;
	struct kv_snapshot_info *copy = NULL;
	struct version *v;
	size_t list_count;
	int err = 0;

	os_mutex_lock(&n->mu);
	if (n->count) {
		copy = malloc(n->count * sizeof(*copy));
		if (copy)
			memcpy(copy, n->list, n->count * sizeof(*copy));
		else
			err = -ENOMEM;
	}
	list_count = n->count;
	os_mutex_unlock(&n->mu);
	if (err)
		return err;
	v = versions_current(db->versions);
	for (size_t i = 0; i < list_count; i++)
		copy[i].held_bytes = held_bytes(v, copy[i].seq);
	version_unref(v);
	*out = copy;
	*count = list_count;
	return 0;
}

/* ---- handles ---------------------------------------------------------------------------- */

static int hold_named(struct kv_db *db, const char *name, kv_seq *seq)
{
	struct named *n = db->named;
	size_t at;
	int err = -KV_E_NOTFOUND;

	os_mutex_lock(&n->mu);
	if (list_find(n, name, &at)) {
		*seq = n->list[at].seq;
		err = snapshots_hold(db->snapshots, *seq);
	}
	os_mutex_unlock(&n->mu);
	return err;
}

int kv_snapshot_open(struct kv_db *db, const char *name, struct kv_snapshot **out)
{
	struct kv_snapshot *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	s->db = db;
	err = name ? hold_named(db, name, &s->seq) : snapshots_acquire(db->snapshots, &s->seq);
	if (err) {
		free(s);
		return err;
	}
	atomic_fetch_add(&db->handles, 1);
	*out = s;
	return 0;
}

void kv_snapshot_release(struct kv_snapshot *s)
{
	if (!s)
		return;
	snapshots_release(s->db->snapshots, s->seq);
	atomic_fetch_sub(&s->db->handles, 1);
	free(s);
}
