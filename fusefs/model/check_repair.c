/* SPDX-License-Identifier: MIT */
/*
 * What a repair will write. Several findings may concern one record, so changes
 * are kept by key and later ones start from earlier ones. Keys without a
 * directory are reconnected by making one in /lost+found that has their prefix:
 * one record, whatever the number of keys.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/check_state.h"
#include "fusefs/model/open.h"
#include "kvcore/base/buf.h"

#define CHECK_LOST_NAMES 1000U

struct check_fix {
	struct kv_buf key; /* keyspace (be16), key */
	struct kv_buf value;
	bool removed;
};

static void check_fix_release(struct check_fix *f)
{
	kv_buf_free(&f->key);
	kv_buf_free(&f->value);
	free(f);
}

void check_fix_free(struct check *c)
{
	struct btree_pos p;

	for (p = btree_first(&c->fixes); btree_valid(p); p = btree_next(p))
		check_fix_release(btree_value(p));
	btree_fini(&c->fixes);
}

static int check_fix_key(unsigned keyspace, struct kv_slice key, struct kv_buf *out)
{
	uint8_t head[2];
	int err;

	be16_put(head, (uint16_t)keyspace);
	err = buf_append(out, head, sizeof(head));
	return err ? err : buf_append_slice(out, key);
}

/* @value NULL: remove. */
static int check_fix_set(struct check *c, unsigned keyspace, struct kv_slice key,
			 const struct kv_slice *value)
{
	struct check_fix *f, *fresh;
	bool inserted;
	void **slot;
	int err;

	fresh = calloc(1, sizeof(*fresh));
	if (!fresh)
		return -ENOMEM;
	err = check_fix_key(keyspace, key, &fresh->key);
	if (!err)
		err = btree_insert(&c->fixes, kv_buf_slice(&fresh->key), &slot, &inserted);
	if (err) {
		check_fix_release(fresh);
		return err;
	}
	if (inserted)
		*slot = fresh;
	else
		check_fix_release(fresh);
	f = *slot;
	f->removed = !value;
	return value ? buf_assign(&f->value, *value) : 0;
}

int check_fix_put(struct check *c, const struct model_key *key, const struct inode *r)
{
	uint8_t raw[MODEL_RECORD_MAX];
	struct kv_slice value = kv_slice_of(raw, inode_encode(r, raw));

	return check_fix_set(c, key->keyspace, model_key_slice(key), &value);
}

int check_fix_put_id(struct check *c, struct kv_slice prefix, uint64_t id)
{
	struct kv_slice value;
	uint8_t raw[8];

	be64_put(raw, id);
	value = kv_slice_of(raw, sizeof(raw));
	return check_fix_set(c, MODEL_PREFIXES, prefix, &value);
}

int check_fix_value(struct check *c, unsigned keyspace, struct kv_slice key, struct kv_slice value)
{
	return check_fix_set(c, keyspace, key, &value);
}

int check_fix_delete(struct check *c, unsigned keyspace, struct kv_slice key)
{
	return check_fix_set(c, keyspace, key, NULL);
}

int check_fix_delete_id(struct check *c, unsigned keyspace, uint64_t id)
{
	struct check_range range = {keyspace, id};

	return buf_append(&c->ranges, &range, sizeof(range));
}

static struct check_fix *check_fix_find(struct check *c, unsigned keyspace, struct kv_slice key)
{
	uint8_t raw[2 + KV_KEY_MAX];
	void **slot;

	if (!c->fixes.count || key.len > KV_KEY_MAX)
		return NULL;
	be16_put(raw, (uint16_t)keyspace);
	memcpy(raw + 2, key.data, key.len);
	slot = btree_find(&c->fixes, kv_slice_of(raw, key.len + 2));
	return slot ? *slot : NULL;
}

bool check_fix_deleted(struct check *c, unsigned keyspace, struct kv_slice key)
{
	struct check_fix *f = check_fix_find(c, keyspace, key);

	return f && f->removed;
}

int check_fix_record(struct check *c, const struct model_key *key, struct inode_buf *out)
{
	struct check_fix *f = check_fix_find(c, key->keyspace, model_key_slice(key));
	int err;

	if (!f)
		return inode_get(&c->fs, c->txn, key, false, out);
	if (f->removed)
		return -KV_E_NOTFOUND;
	err = buf_assign(&out->raw, kv_buf_slice(&f->value));
	return err ? err : inode_decode(kv_buf_slice(&out->raw), &out->r);
}

uint64_t check_new_id(struct check *c)
{
	c->max_id = max_u64(c->max_id, MODEL_ID_FIRST - 1);
	c->max_id = max_u64(c->max_id, c->next_id ? c->next_id - 1 : 0);
	return ++c->max_id;
}

/* A name in the root directory for lost+found: the directory, or a free name like it. */
static int check_lost_name(struct check *c, struct model_key *key, struct inode_buf *rec)
{
	char name[32];
	int err;

	for (unsigned i = 0; i < CHECK_LOST_NAMES; i++) {
		snprintf(name, sizeof(name), i ? "lost+found.%u" : "lost+found", i);
		place_name(kv_slice_of(NULL, 0), kv_slice_of(name, strlen(name)), key);
		err = check_fix_record(c, key, rec);
		if (err == -KV_E_NOTFOUND || err == -KV_E_CORRUPT ||
		    (!err && inode_is_dir(&rec->r)))
			return err == -KV_E_CORRUPT ? -KV_E_NOTFOUND : err;
		if (err)
			return err;
	}
	return -KV_E_CORRUPT;
}

/* c->lost is set. */
static int check_lost(struct check *c)
{
	struct kvfs_owner owner = {0};
	struct inode_buf rec = {0};
	struct model_key key, prefix;
	struct check_dir dir = {.parent = 0, .reach = CHECK_REACHED, .made = true};
	int err;

	if (c->lost != CHECK_NONE)
		return 0;
	err = check_lost_name(c, &key, &rec);
	if (err && err != -KV_E_NOTFOUND)
		goto out;
	if (!err) { /* it is one of c->dirs */
		place_prefix(&rec.r, kv_slice_of(NULL, 0), model_key_slice(&key), &prefix);
		for (size_t i = 0; i < c->dir_count && c->lost == CHECK_NONE; i++)
			if (slice_equal(c->dirs[i].prefix, model_key_slice(&prefix)))
				c->lost = i;
		if (c->lost == CHECK_NONE)
			err = -KV_E_CORRUPT;
		goto out;
	}
	open_root_record(&owner, &rec.r);
	rec.r.mode = S_IFDIR | 0700;
	rec.r.id = check_new_id(c);
	/* Fresh, for the natural one may have been claimed by anything. */
	place_fresh(rec.r.id, &prefix);
	rec.r.prefix = model_key_slice(&prefix);
	rec.r.flags = MODEL_FLAG_PREFIX;
	dir.id = rec.r.id;
	dir.nlink = 2;
	dir.displaced = dir.noted = true;
	dir.prefix = kv_slice_of(arena_copy(&c->arena, rec.r.prefix), rec.r.prefix.len);
	dir.key = kv_slice_of(arena_copy(&c->arena, model_key_slice(&key)), key.len);
	err = dir.prefix.data && dir.key.data ? check_fix_put(c, &key, &rec.r) : -ENOMEM;
	if (!err)
		err = check_fix_put_id(c, rec.r.prefix, rec.r.id);
	if (!err)
		err = check_dir_add(c, &dir, &c->lost);
	if (!err)
		c->dirs[0].added++;
out:
	inode_buf_free(&rec);
	return err;
}

int check_reconnect(struct check *c, const struct inode *r, struct model_key *at)
{
	struct model_key key;
	char name[32];
	int err;

	err = check_lost(c);
	if (err)
		return err;
	snprintf(name, sizeof(name), "#%llu", (unsigned long long)r->id);
	place_name(c->dirs[c->lost].prefix, kv_slice_of(name, strlen(name)), &key);
	if (inode_is_dir(r)) {
		c->dirs[c->lost].added++;
		err = check_fix_put_id(c, r->prefix, r->id);
	}
	if (at)
		*at = key;
	return err ? err : check_fix_put(c, &key, r);
}

static int check_apply_fixes(struct check *c, struct kv_batch *batch)
{
	struct check_fix *f;
	struct btree_pos p;
	struct kv_slice key;
	unsigned keyspace;
	int err = 0;

	for (p = btree_first(&c->fixes); btree_valid(p) && !err; p = btree_next(p)) {
		f = btree_value(p);
		keyspace = be16_at(f->key.data);
		key = kv_slice_of(f->key.data + 2, f->key.len - 2);
		if (f->removed)
			err = kv_batch_delete(batch, keyspace, key);
		else
			err = kv_batch_put(batch, keyspace, key, kv_buf_slice(&f->value));
	}
	return err;
}

static int check_apply_ranges(struct check *c, struct kv_batch *batch)
{
	struct check_range range;
	struct model_key from, to;
	int err = 0;

	for (size_t off = 0; off < c->ranges.len && !err; off += sizeof(range)) {
		memcpy(&range, c->ranges.data + off, sizeof(range));
		place_id(range.keyspace, range.id, &from);
		place_id(range.keyspace, range.id + 1, &to);
		if (range.id == UINT64_MAX)
			to.len = 0; /* to the end */
		err = kv_batch_delete_range(batch, range.keyspace, model_key_slice(&from),
					    model_key_slice(&to));
	}
	return err;
}

int check_apply(struct check *c, struct kv_db *db)
{
	struct le64 next = le64_of(c->max_id + 1);
	struct kv_batch *batch;
	struct model_key key;
	int err;

	if (!c->fixes.count && !c->ranges.len && c->max_id < c->next_id)
		return 0;
	err = kv_batch_new(db, &batch);
	if (err)
		return err;
	err = check_apply_ranges(c, batch);
	if (!err)
		err = check_apply_fixes(c, batch);
	if (!err && c->max_id >= c->next_id) {
		place_meta("next_id", &key);
		err = kv_batch_put(batch, key.keyspace, model_key_slice(&key),
				   kv_slice_of(&next, sizeof(next)));
	}
	if (!err)
		err = kv_batch_write(batch, KV_COMMIT_SYNC, NULL);
	kv_batch_free(batch);
	return err;
}
