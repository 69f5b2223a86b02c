/* SPDX-License-Identifier: MIT */
/*
 * Two-phase commit, the participant's side (Gray, Notes on Data Base Operating
 * Systems, 1978). Preparing is one durable commit of a record in the engine's own
 * keyspace, "p" + gid, cut into parts, that holds the locks and the writes; the locks stay
 * held. Committing is one commit of the writes and of the record's removal, aborting one of
 * the removal alone. So a crash finds the transaction prepared or resolved, never between,
 * and neither the log nor the tables know of more than ordinary commits.
 *
 * A gid is in the list from before its record is written until after it is removed, with
 * @busy while somebody works on it, so two never resolve the same one.
 */
#include "kvcore/engine/prepared.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/prepared_stream.h"
#include "kvcore/engine/txn.h"

#define GID_TAG 'p'

struct prepared_header {
	struct le32 parts; /* numbered from 1 */
	struct le32 reserved;
	struct le64 bytes; /* of all of them */
	struct le64 prepared_ns;
};
static_assert(sizeof(struct prepared_header) == 24, "on-disk size");

struct prepared_txn {
	struct prepared_txn *next;
	struct kv_prepared_info info;
	uint32_t parts;
	uint64_t bytes;
	bool pending;		  /* [mu] its record is being written */
	bool busy;		  /* [mu] somebody works on it; who does owns all below */
	struct writeset *writes;  /* NULL: found at open, on the volume only */
	struct lock_owner *locks; /* NULL if read-only */
};

struct prepared {
	struct os_mutex mu;	   /* OS_RANK_LEAF */
	struct prepared_txn *list; /* [mu] newest first */
	size_t count;		   /* [mu] */
};

/* ---- the list ------------------------------------------------------------------------- */

static struct kv_slice gid_of(const struct prepared_txn *p)
{
	return kv_slice_of(p->info.gid, p->info.gid_len);
}

static void entry_free(struct prepared_txn *p)
{
	if (!p)
		return;
	writeset_free(p->writes);
	lock_owner_free(p->locks);
	free(p);
}

static struct prepared_txn *entry_new(struct kv_slice gid)
{
	struct prepared_txn *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	memcpy(p->info.gid, gid.data, gid.len);
	p->info.gid_len = gid.len;
	return p;
}

static struct prepared_txn *find_locked(struct prepared *s, struct kv_slice gid) KV_REQUIRES(s->mu)
{
	struct prepared_txn *p = s->list;

	while (p && !slice_equal(gid_of(p), gid))
		p = p->next;
	return p;
}

static int list_add(struct prepared *s, struct prepared_txn *p)
{
	int err = 0;

	os_mutex_lock(&s->mu);
	if (find_locked(s, gid_of(p))) {
		err = -KV_E_EXISTS;
	} else {
		p->next = s->list;
		s->list = p;
		s->count++;
	}
	os_mutex_unlock(&s->mu);
	return err;
}

static void list_remove(struct prepared *s, struct prepared_txn *p)
{
	struct prepared_txn **link = &s->list;

	os_mutex_lock(&s->mu);
	while (*link != p)
		link = &(*link)->next;
	*link = p->next;
	s->count--;
	os_mutex_unlock(&s->mu);
}

/* Find and mark as busy. Return: 0, -KV_E_NOTFOUND, -KV_E_BUSY. */
static int claim(struct prepared *s, struct kv_slice gid, struct prepared_txn **out)
{
	struct prepared_txn *p;
	int err = 0;

	os_mutex_lock(&s->mu);
	p = find_locked(s, gid);
	if (!p)
		err = -KV_E_NOTFOUND;
	else if (p->busy)
		err = -KV_E_BUSY;
	else
		p->busy = true;
	os_mutex_unlock(&s->mu);
	if (!err)
		*out = p;
	return err;
}

static void unclaim(struct prepared *s, struct prepared_txn *p)
{
	os_mutex_lock(&s->mu);
	p->pending = false;
	p->busy = false;
	os_mutex_unlock(&s->mu);
}

/* ---- the record ------------------------------------------------------------------------- */

/* Room for IKEY_MAX. Part 0 is the header. */
static struct kv_slice part_key(uint8_t *buf, const struct prepared_txn *p, uint32_t part)
{
	uint8_t key[2 + KV_GID_MAX + 4];

	key[0] = GID_TAG;
	key[1] = (uint8_t)p->info.gid_len;
	memcpy(key + 2, p->info.gid, p->info.gid_len);
	be32_put(key + 2 + p->info.gid_len, part);
	return ikey_make(buf, KEYSPACE_SYSTEM, kv_slice_of(key, 2 + p->info.gid_len + 4));
}

static int remove_record(const struct prepared_txn *p, struct writeset *w)
{
	uint8_t buf[IKEY_MAX];
	int err = 0;

	for (uint64_t part = 0; part <= p->parts && !err; part++)
		err = writeset_put(w, part_key(buf, p, (uint32_t)part), ENTRY_DELETE,
				   kv_slice_of(NULL, 0));
	return err;
}

struct preparation {
	struct kv_db *db;
	struct kv_txn *txn;
	struct prepared_txn *entry;
	struct writeset *record;
	struct prepared_writer writer;
};

static int add_part(void *ctx, struct kv_slice bytes)
{
	struct preparation *n = ctx;
	uint8_t buf[IKEY_MAX];

	n->entry->parts++;
	return txn_write_put(n->db, n->record, part_key(buf, n->entry, n->entry->parts), bytes);
}

static int add_lock(void *ctx, enum lock_mode mode, struct kv_slice from, struct kv_slice to)
{
	struct preparation *n = ctx;
	struct prepared_item item = {.key = from, .value = to};
	enum entry_kind kind;
	struct kv_slice value;

	if (to.len)
		item.tag = mode == LOCK_SHARED ? PREPARED_RANGE_SHARED : PREPARED_RANGE_EXCLUSIVE;
	else
		item.tag = mode == LOCK_SHARED ? PREPARED_LOCK_SHARED : PREPARED_LOCK_EXCLUSIVE;
	if (item.tag == PREPARED_LOCK_EXCLUSIVE &&
	    !writeset_get(n->txn->writes, from, &kind, &value))
		return 0; /* the write says it */
	return prepared_writer_add(&n->writer, &item);
}

static int add_write(void *ctx, enum entry_kind kind, struct kv_slice key, struct kv_slice value)
{
	struct preparation *n = ctx;
	struct prepared_item item = {.key = key, .value = value};
	struct kv_buf large = {0};
	struct value_ref ref;
	struct view *v;
	int err = 0;

	item.tag = kind == ENTRY_DELETE		? PREPARED_DELETE
		   : kind == ENTRY_RANGE_DELETE ? PREPARED_RANGE_DELETE
						: PREPARED_PUT;
	if (kind == ENTRY_PUT_REF) {
		err = value_ref_decode(value, &ref);
		v = view_get(n->db);
		if (!err)
			err = values_get(n->db->values, v->version, &ref, &large);
		view_unref(v);
		item.value = kv_buf_slice(&large);
	}
	if (!err)
		err = prepared_writer_add(&n->writer, &item);
	kv_buf_free(&large);
	return err;
}

static int write_record(struct preparation *n)
{
	uint8_t buf[IKEY_MAX];
	struct prepared_header h = {.reserved = le32_of(0)};
	int err = lock_each(n->txn->locks, add_lock, n);

	if (!err)
		err = writeset_each(n->txn->writes, add_write, n);
	if (!err)
		err = prepared_writer_finish(&n->writer);
	if (err)
		return err;
	n->entry->bytes = n->writer.bytes;
	n->entry->info.prepared_ns = os_realtime_ns(n->db->env);
	h.parts = le32_of(n->entry->parts);
	h.bytes = le64_of(n->entry->bytes);
	h.prepared_ns = le64_of((uint64_t)n->entry->info.prepared_ns);
	err = writeset_put(n->record, part_key(buf, n->entry, 0), ENTRY_PUT,
			   kv_slice_of(&h, sizeof(h)));
	return err ? err : txn_write_commit(n->db, n->record, KV_COMMIT_SYNC, NULL, NULL);
}

static int prepare(struct kv_txn *txn, struct prepared_txn *p)
{
	struct preparation n = {.db = txn->db, .txn = txn, .entry = p};
	int err;

	n.writer = (struct prepared_writer){.part = add_part, .ctx = &n};
	err = txn->optimistic ? validate_txn(txn) : 0;
	if (!err)
		err = txn_writeset_new(txn->db, &n.record);
	if (!err)
		err = write_record(&n);
	prepared_writer_fini(&n.writer);
	writeset_free(n.record);
	return err;
}

int kv_txn_prepare(struct kv_txn *txn, struct kv_slice gid)
{
	struct kv_db *db = txn->db;
	struct prepared_txn *p = NULL;
	int err = 0;

	if (txn->readonly)
		err = -KV_E_READONLY;
	else if (gid.len == 0 || gid.len > KV_GID_MAX)
		err = -KV_E_INVALID;
	if (!err) {
		p = entry_new(gid);
		err = p ? 0 : -ENOMEM;
	}
	if (!err) {
		p->pending = p->busy = true;
		err = list_add(db->prepared, p);
	}
	if (err) {
		entry_free(p);
		txn_free(txn);
		return err;
	}
	err = prepare(txn, p);
	if (err && err != -KV_E_UNKNOWN_OUTCOME) {
		list_remove(db->prepared, p);
		entry_free(p);
	} else { /* with an unknown outcome it may be there at the next open */
		p->writes = txn->writes;
		p->locks = txn->locks;
		txn->writes = NULL;
		txn->locks = NULL;
		unclaim(db->prepared, p);
	}
	txn_free(txn);
	return err;
}

/* ---- resolving ---------------------------------------------------------------------------- */

struct rebuild {
	struct kv_db *db;
	struct writeset *w;
};

static int rebuild_item(void *ctx, const struct prepared_item *item)
{
	struct rebuild *r = ctx;

	switch (item->tag) {
	case PREPARED_PUT:
		return txn_write_put(r->db, r->w, item->key, item->value);
	case PREPARED_DELETE:
		return writeset_put(r->w, item->key, ENTRY_DELETE, kv_slice_of(NULL, 0));
	case PREPARED_RANGE_DELETE:
		return writeset_delete_range(r->w, item->key, item->value);
	default:
		return 0; /* a lock */
	}
}

static int feed_part(struct kv_db *db, const struct prepared_txn *p, uint32_t part,
		     struct prepared_reader *reader)
{
	struct kv_buf bytes = {0};
	uint8_t buf[IKEY_MAX];
	struct view *v;
	kv_seq seq;
	int err = snapshots_acquire(db->snapshots, &seq);

	if (err)
		return err;
	v = view_get(db);
	err = view_get_key(db, v, part_key(buf, p, part), seq, &bytes, NULL);
	view_unref(v);
	snapshots_release(db->snapshots, seq);
	if (!err)
		err = prepared_reader_feed(reader, kv_buf_slice(&bytes));
	kv_buf_free(&bytes);
	return err == -KV_E_NOTFOUND ? -KV_E_CORRUPT : err;
}

/* Call @item for all items of the record. */
static int read_record(struct kv_db *db, const struct prepared_txn *p,
		       int (*item)(void *ctx, const struct prepared_item *item), void *ctx)
{
	struct prepared_reader reader = {.item = item, .ctx = ctx};
	int err = 0;

	for (uint32_t part = 1; part <= p->parts && part && !err; part++)
		err = feed_part(db, p, part, &reader);
	if (!err)
		err = prepared_reader_finish(&reader);
	prepared_reader_fini(&reader);
	return err;
}

/* Give the entry its writes back, if it was found at open. */
static int need_writes(struct kv_db *db, struct prepared_txn *p)
{
	struct rebuild r = {.db = db};
	int err;

	if (p->writes)
		return 0;
	err = txn_writeset_new(db, &r.w);
	if (!err)
		err = read_record(db, p, rebuild_item, &r);
	if (err)
		writeset_free(r.w);
	else
		p->writes = r.w;
	return err;
}

/* What was claimed is resolved, or not: @err. */
static int resolved(struct kv_db *db, struct prepared_txn *p, int err)
{
	if (err && err != -KV_E_UNKNOWN_OUTCOME) {
		unclaim(db->prepared, p);
		return err;
	}
	list_remove(db->prepared, p);
	entry_free(p);
	return err;
}

int kv_prepared_commit(struct kv_db *db, struct kv_slice gid, unsigned flags, kv_seq *seq)
{
	struct prepared_txn *p;
	int err;

	if (db->readonly)
		return -KV_E_READONLY;
	err = claim(db->prepared, gid, &p);
	if (err)
		return err;
	err = need_writes(db, p);
	if (!err)
		err = remove_record(p, p->writes);
	if (!err)
		err = txn_write_commit(db, p->writes, flags, NULL, seq);
	return resolved(db, p, err);
}

int kv_prepared_abort(struct kv_db *db, struct kv_slice gid)
{
	struct prepared_txn *p;
	struct writeset *w = NULL;
	int err;

	if (db->readonly)
		return -KV_E_READONLY;
	err = claim(db->prepared, gid, &p);
	if (err)
		return err;
	err = txn_writeset_new(db, &w);
	if (!err)
		err = remove_record(p, w);
	if (!err)
		err = txn_write_commit(db, w, KV_COMMIT_SYNC | KV_COMMIT_RESERVE, NULL, NULL);
	writeset_free(w);
	return resolved(db, p, err);
}

int kv_prepared_list(struct kv_db *db, struct kv_prepared_info **out, size_t *count)
{
	struct prepared *s = db->prepared;
	struct kv_prepared_info *copy;
	size_t n = 0;

	os_mutex_lock(&s->mu);
	copy = calloc(s->count ? s->count : 1, sizeof(*copy));
	for (const struct prepared_txn *p = copy ? s->list : NULL; p; p = p->next) {
		if (!p->pending)
			copy[n++] = p->info;
	}
	os_mutex_unlock(&s->mu);
	if (!copy)
		return -ENOMEM;
	if (!n) {
		free(copy);
		copy = NULL;
	}
	*out = copy;
	*count = n;
	return 0;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int lock_item(void *ctx, const struct prepared_item *item)
{
	struct lock_owner *o = ctx;
	int err = 0;

	switch (item->tag) {
	case PREPARED_PUT:
	case PREPARED_DELETE:
	case PREPARED_LOCK_EXCLUSIVE:
		err = lock_acquire(o, item->key, LOCK_EXCLUSIVE, 0, NULL);
		break;
	case PREPARED_LOCK_SHARED:
		err = lock_acquire(o, item->key, LOCK_SHARED, 0, NULL);
		break;
	case PREPARED_RANGE_SHARED:
		err = lock_acquire_range(o, item->key, item->value, LOCK_SHARED, 0);
		break;
	case PREPARED_RANGE_DELETE:
	case PREPARED_RANGE_EXCLUSIVE:
		err = lock_acquire_range(o, item->key, item->value, LOCK_EXCLUSIVE, 0);
		break;
	}
	/* Two that were prepared cannot have held what conflicts. */
	return err == -KV_E_LOCK_TIMEOUT ? -KV_E_CORRUPT : err;
}

/* A record in the keyspace: the header of a transaction, or one of its parts. */
static int load_header(struct kv_db *db, struct kv_slice key, struct kv_slice value)
{
	struct prepared_header h;
	struct prepared_txn *p;
	int err;

	if (key.len < 2 + 1 + 4 || key.len != 2U + key.data[1] + 4U || key.data[1] > KV_GID_MAX)
		return -KV_E_CORRUPT;
	if (be32_at(key.data + key.len - 4) != 0)
		return 0;
	if (value.len != sizeof(h))
		return -KV_E_CORRUPT;
	memcpy(&h, value.data, sizeof(h));
	p = entry_new(kv_slice_of(key.data + 2, key.data[1]));
	if (!p)
		return -ENOMEM;
	p->parts = le32_get(h.parts);
	p->bytes = le64_get(h.bytes);
	p->info.prepared_ns = (int64_t)le64_get(h.prepared_ns);
	if (p->parts != (p->bytes + PREPARED_PART_BYTES - 1) / PREPARED_PART_BYTES)
		err = -KV_E_CORRUPT;
	else
		err = list_add(db->prepared, p);
	if (err)
		entry_free(p);
	return err == -KV_E_EXISTS ? -KV_E_CORRUPT : err;
}

static int load_headers(struct kv_db *db)
{
	const struct kv_txn_options ro = {.flags = KV_TXN_RDONLY};
	struct kv_txn *txn = NULL;
	struct kv_iter *it = NULL;
	struct kv_slice value;
	int err = kv_txn_begin(db, &ro, &txn);

	if (!err)
		err = db_iter_open_system(txn, GID_TAG, &it);
	if (err)
		goto out;
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it)) {
		struct kv_slice key = kv_iter_key(it);

		/* Only headers are read whole: parts may be large. */
		value = kv_slice_of(NULL, 0);
		if (kv_iter_value_len(it) == sizeof(struct prepared_header))
			err = kv_iter_value(it, &value);
		if (!err)
			err = load_header(db, key, value);
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

int prepared_load(struct kv_db *db)
{
	int err;

	db->prepared = calloc(1, sizeof(*db->prepared));
	if (!db->prepared)
		return -ENOMEM;
	err = os_mutex_init(&db->prepared->mu, OS_RANK_LEAF);
	if (err) {
		free(db->prepared);
		db->prepared = NULL;
		return err;
	}
	err = load_headers(db);
	for (struct prepared_txn *p = db->prepared->list; p && !err && !db->readonly; p = p->next) {
		err = lock_owner_new(db->locks, &p->locks);
		if (!err)
			err = read_record(db, p, lock_item, p->locks);
	}
	return err;
}

void prepared_free(struct kv_db *db)
{
	struct prepared *s = db->prepared;

	if (!s)
		return;
	while (s->list) {
		struct prepared_txn *p = s->list;

		s->list = p->next;
		entry_free(p);
	}
	os_mutex_fini(&s->mu);
	free(s);
	db->prepared = NULL;
}
