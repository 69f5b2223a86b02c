/* SPDX-License-Identifier: MIT */
/*
 * Whether a stream fits: the directory must hold what the stream begins with. If it was
 * received before, its hash is remembered, and what was changed since is found by the
 * difference from the snapshot that was made then. If not, its hash is computed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/diff.h"
#include "fusefs/model/receive.h"
#include "kvcore/base/buf.h"

void receive_record_key(uint64_t base_id, struct model_key *out)
{
	place_meta("received:", out);
	be64_put(out->b + out->len, base_id);
	out->len += 8;
}

int receive_record_get(struct kvfs *fs, uint64_t base_id, struct receive_record *out)
{
	const size_t fixed = KV_DIGEST_LEN + ROOTHASH_SUM;
	struct kv_buf value = {0};
	struct model_key key;
	int err;

	receive_record_key(base_id, &key);
	err = kv_get(fs->db, MODEL_META, model_key_slice(&key), &value);
	if (!err && (value.len <= fixed || value.len > fixed + KV_SNAPSHOT_NAME_MAX))
		err = -KV_E_CORRUPT;
	if (!err) {
		*out = (struct receive_record){0};
		memcpy(out->id, value.data, KV_DIGEST_LEN);
		memcpy(out->sum, value.data + KV_DIGEST_LEN, ROOTHASH_SUM);
		memcpy(out->name, value.data + fixed, value.len - fixed);
	}
	kv_buf_free(&value);
	return err;
}

int receive_record_put(struct kv_txn *txn, const struct kvfs_receive *r,
		       const uint8_t sum[ROOTHASH_SUM])
{
	struct kv_buf value = {0};
	struct model_key key;
	int err;

	receive_record_key(r->base_id, &key);
	err = buf_append(&value, r->id, sizeof(r->id));
	if (!err)
		err = buf_append(&value, sum, ROOTHASH_SUM);
	if (!err)
		err = buf_append(&value, r->name.data, r->name.len - 1);
	if (!err)
		err = kv_txn_put(txn, MODEL_META, model_key_slice(&key), kv_buf_slice(&value));
	kv_buf_free(&value);
	return err;
}

static bool receive_below(const struct kvfs_receive *r, struct kv_slice path)
{
	return !r->base.len || (path.len > r->base.len && !path.data[r->base.len] &&
				slice_has_prefix(path, kv_buf_slice(&r->base)));
}

/* The terms of what differs, taken away and added: they cancel out if nothing was changed. */
static int receive_terms(const struct kvfs_receive *r, const struct diff *d, struct roothash *h)
{
	struct inode_buf rec = {0};
	int err = 0;

	for (size_t i = 0; !err && i < diff_count(d); i++) {
		const struct diff_entry *e = diff_at(d, i);

		for (int side = 0; !err && side < DIFF_SIDES; side++) {
			struct kv_slice path = diff_path(d, &e->at[side]);

			if (!e->at[side].id || !receive_below(r, path))
				continue;
			err = diff_load(d, (enum diff_side_id)side, e, &rec);
			if (!err)
				err = roothash_file(h, d->side[side].txn, path, &rec.r, true, side);
		}
	}
	for (int side = 0; !err && side < DIFF_SIDES; side++) {
		err = state_find(d->side[side].txn, kv_buf_slice(&r->base), &rec);
		if (!err)
			err = roothash_file(h, d->side[side].txn, kv_slice_of(NULL, 0), &rec.r,
					    false, side);
	}
	inode_buf_free(&rec);
	return err;
}

/* Whether the directory holds in state @now what it did in @then. 0, -EBUSY. */
static int receive_same(struct kvfs_receive *r, struct kv_txn *then, struct kv_txn *now)
{
	static const uint8_t nothing[ROOTHASH_SUM];
	struct inode_buf rec = {0};
	struct diff d = {0};
	struct roothash h;
	int err = roothash_init(&h);

	if (!err)
		err = state_find(now, kv_buf_slice(&r->base), &rec);
	if (!err && rec.r.id != r->base_id)
		err = -EBUSY;
	if (!err)
		err = diff_init(&d, r->fs, then, now);
	if (!err)
		err = receive_terms(r, &d, &h);
	if (err == -ENOENT || err == -ENOTDIR || (!err && memcmp(h.sum, nothing, sizeof(nothing))))
		err = -EBUSY;
	diff_fini(&d);
	inode_buf_free(&rec);
	roothash_fini(&h);
	return err;
}

int receive_check_still(struct kvfs_receive *r, struct kv_txn *now)
{
	return receive_same(r, r->checked.txn, now);
}

/* Whether nothing was changed since it was received. */
static int receive_unchanged(struct kvfs_receive *r, const struct receive_record *known)
{
	struct state then = {0};
	int err = state_open(r->fs, known->name, &then);

	if (!err)
		err = receive_same(r, then.txn, r->checked.txn);
	state_close(&then);
	return err;
}

/* The hash of all that the directory holds. */
static int receive_compute(struct kvfs_receive *r, struct kv_txn *txn, struct roothash *h)
{
	struct kv_slice base = kv_buf_slice(&r->base);

	return roothash_tree(h, txn, base, base, true);
}

static int receive_check_empty(struct kvfs_receive *r)
{
	struct inode_buf rec = {0};
	struct model_key prefix;
	bool has = false;
	int err = state_find_place(r->checked.txn, kv_buf_slice(&r->base), &rec, NULL, &prefix);

	if (!err)
		err = place_has_child(r->checked.txn, model_key_slice(&prefix), &has);
	inode_buf_free(&rec);
	return err ? err : has ? -ENOTEMPTY : 0;
}

/* There is none of the name of the one that is to be made. */
int receive_check_name(struct kvfs_receive *r)
{
	struct kv_snapshot *s;
	int err = kv_snapshot_open(r->fs->db, (const char *)r->name.data, &s);

	if (err)
		return err == -KV_E_NOTFOUND ? 0 : err;
	kv_snapshot_release(s);
	return -EEXIST;
}

static int receive_check_base(struct kvfs_receive *r, const struct receive_record *known)
{
	uint8_t hash[KV_DIGEST_LEN];
	struct roothash h;
	int err = roothash_init(&h);

	if (!err && known)
		memcpy(h.sum, known->sum, sizeof(h.sum));
	else if (!err)
		err = receive_compute(r, r->checked.txn, &h);
	if (!err)
		err = roothash_final(&h, hash);
	if (!err && memcmp(hash, r->base_hash, sizeof(hash)) != 0)
		err = -ESTALE;
	memcpy(r->sum, h.sum, sizeof(r->sum));
	roothash_fini(&h);
	return err;
}

/*
 * It was received, but of its snapshot there is none: maybe there was a crash in between. It is
 * taken first, and stays if it is what was received.
 */
static int receive_again(struct kvfs_receive *r, const struct receive_record *known)
{
	struct state taken = {0};
	struct roothash h;
	int err = roothash_init(&h), dropped = 0;

	if (!err)
		err = kvfs_snapshot_create(r->fs, known->name);
	if (err) {
		roothash_fini(&h);
		return err;
	}
	err = state_open(r->fs, known->name, &taken);
	if (!err)
		err = receive_compute(r, taken.txn, &h);
	if (!err && memcmp(h.sum, known->sum, sizeof(h.sum)) != 0)
		err = -EBUSY;
	state_close(&taken);
	roothash_fini(&h);
	if (err)
		dropped = kvfs_snapshot_drop(r->fs, known->name);
	return err ? err : dropped;
}

int receive_check(struct kvfs_receive *r)
{
	struct receive_record known;
	bool have, dropped;
	int err;

	state_close(&r->checked);
	err = state_open(r->fs, NULL, &r->checked);
	if (err)
		return err;
	err = receive_record_get(r->fs, r->base_id, &known);
	have = !err;
	if (err && err != -KV_E_NOTFOUND)
		return err;
	err = have ? receive_unchanged(r, &known) : 0;
	dropped = err == -KV_E_NOTFOUND; /* the snapshot of what was received last */
	if (dropped)
		err = memcmp(known.id, r->id, sizeof(r->id)) ? -EBUSY : receive_again(r, &known);
	if (dropped && err == -EBUSY) { /* compute what there is: it may be the base again */
		have = false;
		err = 0;
	}
	if (have && !memcmp(known.id, r->id, sizeof(r->id))) {
		r->already = !err;
		return err;
	}
	if (r->full)
		err = receive_check_empty(r);
	else if (!err)
		err = receive_check_base(r, have ? &known : NULL);
	return err ? err : receive_check_name(r);
}
