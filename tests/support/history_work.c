/* SPDX-License-Identifier: MIT */
/*
 * The transactions of history_work.h. Writes that are rolled back to a savepoint have a number that
 * no other operation has, and go to a set that is never read as well as to a list.
 */
#include "tests/support/history_work.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/bytes.h"

#define LISTS 5U
#define SETS  2U
#define BOGUS (HISTORY_OPS - 1) /* number of a write that is rolled back */

void history_work_init(struct history_work *w, unsigned txn_count)
{
	w->txn_count = txn_count;
	w->txns = calloc(txn_count, sizeof(*w->txns));
	KV_ASSERT(w->txns);
}

void history_work_fini(struct history_work *w)
{
	for (size_t i = 0; i < w->txn_count; i++) {
		for (unsigned n = 0; n < w->txns[i].op_count; n++)
			free(w->txns[i].op[n].seen);
	}
	free(w->txns);
	w->txns = NULL;
}

/* ---- lists and sets as keys ----------------------------------------------------------- */

static struct kv_slice list_key(char *buf, const struct history_work *w, unsigned object)
{
	snprintf(buf, 32, "%06u/l%u", w->base, object);
	return test_str(buf);
}

static struct kv_slice member_key(char *buf, const struct history_work *w, unsigned object,
				  uint32_t id)
{
	snprintf(buf, 32, "%06u/s%u/%08x", w->base, object, id);
	return test_str(buf);
}

static int read_list(struct history_work *w, struct kv_txn *txn, unsigned object, bool update,
		     struct kv_buf *out)
{
	char buf[32];
	struct kv_slice key = list_key(buf, w, object);
	int err;

	if (w->broken)
		err = kv_get(w->db, 1, key, out);
	else if (update)
		err = kv_txn_get_for_update(txn, 1, key, out);
	else
		err = kv_txn_get(txn, 1, key, out);
	if (err == -KV_E_NOTFOUND) {
		out->len = 0;
		return 0;
	}
	return err;
}

static void ids_of(const struct kv_buf *list, uint32_t **ids, size_t *count)
{
	*count = list->len / 4;
	*ids = malloc(list->len + 4);
	KV_ASSERT(*ids);
	for (size_t i = 0; i < *count; i++)
		(*ids)[i] = be32_at(list->data + 4 * i);
}

static int append(struct history_work *w, struct kv_txn *txn, unsigned object, uint32_t id,
		  bool update)
{
	struct kv_buf list = {0};
	uint8_t *longer = NULL;
	char buf[32];
	int err = read_list(w, txn, object, update, &list);

	if (!err) {
		longer = malloc(list.len + 4);
		KV_ASSERT(longer);
		if (list.len)
			memcpy(longer, list.data, list.len);
		be32_put(longer + list.len, id);
		err = kv_txn_put(txn, 1, list_key(buf, w, object),
				 kv_slice_of(longer, list.len + 4));
	}
	free(longer);
	kv_buf_free(&list);
	return err;
}

static int scan(struct history_work *w, struct kv_txn *txn, unsigned object, uint32_t **ids,
		size_t *count)
{
	struct kv_range r = {.lower = {NULL, 0}};
	struct kv_iter *it = NULL;
	char buf[32];
	int err;

	snprintf(buf, sizeof(buf), "%06u/s%u/", w->base, object);
	r.prefix = test_str(buf);
	*count = 0;
	*ids = malloc(w->txn_count * HISTORY_OPS * sizeof(**ids));
	KV_ASSERT(*ids);
	err = kv_iter_open(txn, 1, &r, &it);
	if (err)
		return err;
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it)) {
		struct kv_slice key = kv_iter_key(it);

		memcpy(buf, key.data + key.len - 8, 8);
		buf[8] = 0;
		(*ids)[(*count)++] = (uint32_t)strtoul(buf, NULL, 16);
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* ---- transactions ------------------------------------------------------------------------- */

static int do_op(struct history_work *w, struct kv_txn *txn, struct history_op *op, uint32_t id,
		 struct test_rng *rng)
{
	struct kv_buf list = {0};
	char buf[32];
	int err;

	switch (op->kind) {
	case HISTORY_READ:
		err = read_list(w, txn, op->object, false, &list);
		if (!err)
			ids_of(&list, &op->seen, &op->count);
		kv_buf_free(&list);
		return err;
	case HISTORY_APPEND:
		return append(w, txn, op->object, id, test_rng_below(rng, 2));
	case HISTORY_INSERT:
		return kv_txn_put(txn, 1, member_key(buf, w, op->object, id), test_str("x"));
	default:
		return scan(w, txn, op->object, &op->seen, &op->count);
	}
}

/* Write something that must never be seen. */
static int roll_back(struct history_work *w, struct kv_txn *txn, uint32_t id, struct test_rng *rng)
{
	unsigned savepoint = 0;
	char buf[32];
	int err = kv_txn_savepoint(txn, &savepoint);

	if (!err)
		err = append(w, txn, (unsigned)test_rng_below(rng, LISTS), id, false);
	if (!err)
		err = kv_txn_put(txn, 1, member_key(buf, w, LISTS, id), test_str("x"));
	if (!err)
		err = kv_txn_rollback_to(txn, savepoint);
	return err;
}

static int do_ops(struct history_work *w, struct kv_txn *txn, unsigned index, bool readonly,
		  struct test_rng *rng)
{
	struct history_txn *t = &w->txns[index];
	unsigned ops = 1 + (unsigned)test_rng_below(rng, 4);
	int err = 0;

	while (!err && t->op_count < ops) {
		struct history_op *op = &t->op[t->op_count];
		uint32_t id = index * HISTORY_OPS + t->op_count;
		unsigned how = (unsigned)test_rng_below(rng, 8);

		op->kind = how < 3   ? HISTORY_READ
			   : how < 5 ? HISTORY_SCAN
			   : how < 7 ? HISTORY_APPEND
				     : HISTORY_INSERT;
		if (readonly)
			op->kind = how < 4 ? HISTORY_READ : HISTORY_SCAN;
		op->object = op->kind == HISTORY_READ || op->kind == HISTORY_APPEND
				     ? (unsigned)test_rng_below(rng, LISTS)
				     : LISTS + (unsigned)test_rng_below(rng, SETS);
		err = do_op(w, txn, op, id, rng);
		if (!err)
			t->op_count++;
		else
			free(op->seen);
		if (!err && !readonly && !w->broken && test_rng_below(rng, 16) == 0)
			err = roll_back(w, txn, index * HISTORY_OPS + BOGUS, rng);
	}
	return err;
}

bool history_work_refused(int err)
{
	return err == -KV_E_CONFLICT || err == -KV_E_DEADLOCK || err == -KV_E_LOCK_TIMEOUT;
}

static void settle(struct history_txn *t, int err, kv_seq seq, bool synced)
{
	t->fate = err ? history_work_refused(err) ? HISTORY_ABORTED : HISTORY_UNKNOWN
		      : HISTORY_COMMITTED;
	if (!err)
		t->seq = seq;
	t->durable = !err && synced;
}

static int end_txn(struct history_work *w, struct kv_txn *txn, unsigned index, struct test_rng *rng)
{
	struct history_txn *t = &w->txns[index];
	unsigned flags = test_rng_below(rng, 4) ? 0 : KV_COMMIT_SYNC;
	uint8_t gid[4];
	kv_seq seq = 0;
	int err;

	if (w->broken || test_rng_below(rng, 10)) {
		err = kv_txn_commit(txn, flags, &seq);
		settle(t, err, seq, flags);
		return err;
	}
	be32_put(gid, index);
	err = kv_txn_prepare(txn, kv_slice_of(gid, 4));
	if (err) {
		settle(t, err, 0, false);
		return err;
	}
	t->fate = HISTORY_UNKNOWN;
	if (test_rng_below(rng, 4) == 0) {
		err = kv_prepared_abort(w->db, kv_slice_of(gid, 4));
		if (!err)
			t->fate = HISTORY_ABORTED;
		return err;
	}
	err = kv_prepared_commit(w->db, kv_slice_of(gid, 4), flags, &seq);
	settle(t, err, seq, flags);
	return err;
}

int history_work_txn(struct history_work *w, unsigned index, struct test_rng *rng)
{
	struct kv_txn_options o = {.isolation = w->isolation,
				   .lock_timeout_ms = w->lock_timeout_ms};
	unsigned how = (unsigned)test_rng_below(rng, 6);
	struct kv_txn *txn = NULL;
	int err;

	if (!w->broken)
		o.flags = how == 0 ? KV_TXN_RDONLY : how < 3 ? KV_TXN_OPTIMISTIC : 0;
	err = kv_txn_begin(w->db, &o, &txn);
	if (err)
		return err;
	err = do_ops(w, txn, index, o.flags & KV_TXN_RDONLY, rng);
	if (err || test_rng_below(rng, 20) == 0) {
		kv_txn_abort(txn);
		return err;
	}
	if (o.flags & KV_TXN_RDONLY) {
		err = kv_txn_commit(txn, 0, NULL);
		settle(&w->txns[index], err, 0, false);
		return err;
	}
	return end_txn(w, txn, index, rng);
}

/* ---- the end ------------------------------------------------------------------------------ */

/* The coordinator's answers after a crash. */
void history_work_resolve(struct history_work *w, bool killed, struct test_rng *rng)
{
	struct kv_prepared_info *list = NULL;
	size_t count = 0;
	int err = kv_prepared_list(w->db, &list, &count);

	KV_ASSERT(!err);
	for (size_t i = 0; i < w->txn_count && killed; i++)
		w->txns[i].durable |= w->txns[i].fate == HISTORY_COMMITTED;
	for (size_t i = 0; i < count; i++) {
		const struct kv_slice gid = kv_slice_of(list[i].gid, list[i].gid_len);
		struct history_txn *t = &w->txns[be32_at(list[i].gid)];
		bool commit = test_rng_below(rng, 2);

		err = commit ? kv_prepared_commit(w->db, gid, 0, NULL)
			     : kv_prepared_abort(w->db, gid);
		KV_ASSERT(!err);
		KV_ASSERT(t->fate == HISTORY_UNKNOWN ||
			  (t->fate == HISTORY_COMMITTED && !t->durable));
		t->fate = commit ? HISTORY_COMMITTED : HISTORY_ABORTED;
		t->durable = commit;
		t->seq = 0; /* a new one, and numbers that were lost are given out again */
	}
	free(list);
}

static void finals(struct history_work *w, struct history_object *objects)
{
	struct kv_txn *txn = NULL;
	struct kv_buf list = {0};
	int err = kv_txn_begin(w->db, NULL, &txn);

	for (unsigned i = 0; i < LISTS && !err; i++) {
		err = read_list(w, txn, i, false, &list);
		ids_of(&list, &objects[i].ids, &objects[i].count);
	}
	for (unsigned i = LISTS; i < LISTS + SETS && !err; i++) {
		objects[i].set = true;
		err = scan(w, txn, i, &objects[i].ids, &objects[i].count);
	}
	KV_ASSERT(!err);
	kv_buf_free(&list);
	kv_txn_abort(txn);
}

unsigned history_work_check(struct history_work *w, bool crashed, bool quiet)
{
	struct history_object objects[LISTS + SETS] = {{0}};
	const struct history h = {w->txns, w->txn_count, objects, LISTS + SETS, crashed, quiet};
	unsigned found;

	finals(w, objects);
	found = history_check(&h);
	for (unsigned i = 0; i < LISTS + SETS; i++)
		free(objects[i].ids);
	return found;
}
