/* SPDX-License-Identifier: MIT */
/*
 * Counting who has contents, and parting from them. The first change of shared contents copies
 * them, in the transaction that changes them; what it is going to overwrite or cut off as a whole
 * is not copied. A copy is of the parts as they are stored, patches included.
 *
 * Two that let go at the same time lock the number, so one of them is the last.
 */
#include "fusefs/model/share.h"

#include <string.h>

#include "fusefs/model/chunk.h"
#include "fusefs/model/open.h"
#include "fusefs/model/place.h"
#include "kvcore/base/buf.h"

/* How many records have the contents; the key is locked. Without one it is 1. */
static int share_users(struct kv_txn *txn, const struct model_key *key, uint64_t *out)
{
	struct kv_buf value = {0};
	struct le64 users;
	int err = kv_txn_get_for_update(txn, key->keyspace, model_key_slice(key), &value);

	if (err == -KV_E_NOTFOUND) {
		*out = 1;
		err = 0;
	} else if (!err && value.len != sizeof(users)) {
		err = -KV_E_CORRUPT;
	} else if (!err) {
		memcpy(&users, value.data, sizeof(users));
		*out = le64_get(users);
		if (*out < 2)
			err = -KV_E_CORRUPT;
	}
	kv_buf_free(&value);
	return err;
}

static int share_set_users(struct kv_txn *txn, const struct model_key *key, uint64_t users)
{
	struct le64 value = le64_of(users);

	if (users < 2)
		return kv_txn_delete(txn, key->keyspace, model_key_slice(key));
	return kv_txn_put(txn, key->keyspace, model_key_slice(key),
			  kv_slice_of(&value, sizeof(value)));
}

int share_add(struct kv_txn *txn, struct inode *r)
{
	struct model_key key;
	uint64_t users;
	int err;

	place_id(MODEL_SHARED, inode_content(r), &key);
	err = share_users(txn, &key, &users);
	if (!err && users > 1 && !(r->sharing & MODEL_CONTENT_SHARED))
		err = -KV_E_CORRUPT;
	if (!err)
		err = share_set_users(txn, &key, users + 1);
	if (!err)
		err = open_need_format(txn, MODEL_FORMAT_CONTENT);
	if (!err)
		r->sharing |= MODEL_CONTENT_SHARED;
	return err;
}

int share_drop(struct kv_txn *txn, const struct inode *r, bool *last)
{
	struct model_key key;
	uint64_t users;
	int err;

	*last = true;
	if (!(r->sharing & MODEL_CONTENT_SHARED))
		return 0;
	place_id(MODEL_SHARED, inode_content(r), &key);
	err = share_users(txn, &key, &users);
	if (err)
		return err;
	*last = users == 1;
	/* The last one deletes the number, though it has none: a transaction has to conflict with
	 * whoever gets a share until it commits, and only what is written is compared. */
	return share_set_users(txn, &key, users - 1);
}

/* The part under the iterator goes to another content. */
static int share_copy_part(struct kv_iter *it, struct kv_txn *to, uint64_t to_id, uint64_t *chunk)
{
	struct kv_slice value;
	struct model_key key;
	uint32_t stamp;
	uint64_t id;
	int err;

	err = chunk_key_decode(kv_iter_key(it), &id, chunk, &stamp);
	if (!err)
		err = kv_iter_value(it, &value);
	if (err)
		return err;
	chunk_key(to_id, *chunk, stamp, &key);
	return kv_txn_put(to, MODEL_DATA, model_key_slice(&key), value);
}

int share_copy(struct kv_txn *from, uint64_t from_id, struct kv_txn *to, uint64_t to_id,
	       uint64_t span, uint64_t *count)
{
	uint64_t found = 0, last = UINT64_MAX, chunk;
	struct kv_iter *it;
	int err;

	*count = 0;
	if (!span)
		return 0;
	err = chunk_iter_open(from, from_id, 0, span, &it);
	if (err)
		return err;
	err = kv_iter_first(it);
	while (!err) {
		err = share_copy_part(it, to, to_id, &chunk);
		if (err)
			break;
		found += chunk != last;
		last = chunk;
		err = kv_iter_next(it);
	}
	kv_iter_close(it);
	if (err != -KV_E_NOTFOUND)
		return err;
	*count = found;
	return 0;
}

int share_own(struct kvfs *fs, struct kv_txn *txn, struct inode *r, uint64_t keep)
{
	uint64_t content = inode_content(r), fresh;
	bool last;
	int err;

	if (!(r->sharing & MODEL_CONTENT_SHARED))
		return 0;
	err = share_drop(txn, r, &last);
	if (err)
		return err;
	if (last) {
		inode_set_content(r, content, 0);
		return 0;
	}
	err = kvfs_new_id(fs, &fresh);
	if (err)
		return err;
	inode_set_content(r, fresh, 0);
	return share_copy(txn, content, txn, fresh, chunk_span(min_u64(keep, r->size)), &r->chunks);
}
