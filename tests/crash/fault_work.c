/* SPDX-License-Identifier: MIT */
/*
 * The workloads of crash_faults.c. A step that cannot do its work because an earlier one failed is
 * left out or fails in its turn; the model follows what was acknowledged. The steps take no memory
 * of their own, so that all that fails is the engine's.
 */
#include "tests/crash/fault_work.h"

#include <errno.h>
#include <string.h>

#include "kvcore/kv_diff.h"
#include "kvcore/kv_history.h"
#include "kvcore/kv_parts.h"
#include "kvcore/kvcore_check.h"
#include "kvcore/base/base.h"

#define SIZE	  (8U << 20)
#define LOG_SIZE  (1U << 20)
#define PREP_KEYS 30U /* three of the first prepared transaction, and one of the second */

/* A transaction and the state that it leads to. */
struct work {
	struct kv_txn *txn;
	struct fault_state next;
};

static struct fault_state *newest(struct fault_run *r)
{
	return &r->m.past[r->m.last];
}

static unsigned fresh(struct fault_run *r)
{
	return ++r->m.version;
}

void fault_work_open(struct fault_run *r)
{
	const struct kv_options o = {.cache_bytes = 8U << 20,
				     .memtable_bytes = 256U << 10,
				     .commit_interval_ms = 3600U * 1000,
				     .lock_timeout_ms = 100,
				     .env = sim_env_os(r->sim)};
	int err = kv_open(FAULT_VOLUME, &o, &r->db);

	if (err)
		r->db = NULL;
	(void)fault_model_read(&r->m, err, "kv_open");
	if (err && !r->for_good) {
		err = kv_open(FAULT_VOLUME, &o, &r->db);
		if (err) {
			r->db = NULL;
			fault_model_finding(&r->m, "the second kv_open: %s", kv_strerror(err));
		}
	}
	if (r->db && r->m.poisoned && !r->gave_up)
		fault_model_settle(&r->m, r->db, r->lossy);
}

int fault_work_close(struct fault_run *r)
{
	int err;

	kv_snapshot_release(r->held);
	r->held = NULL;
	if (!r->db)
		return 0;
	err = kv_close(r->db);
	r->db = NULL;
	return err;
}

void fault_work_put(struct fault_run *r, unsigned key, unsigned flags)
{
	struct fault_state next = *newest(r);
	char name[16];
	int err;

	next.version[key] = (uint16_t)fresh(r);
	err = kv_put(r->db, 1, fault_key(key, name), fault_value(&r->m, key, next.version[key]),
		     flags);
	(void)fault_model_commit(&r->m, err, &next, flags & KV_COMMIT_SYNC, "kv_put");
}

static void erase(struct fault_run *r, unsigned key)
{
	struct fault_state next = *newest(r);
	char name[16];
	int err = kv_delete(r->db, 1, fault_key(key, name), KV_COMMIT_RESERVE);

	next.version[key] = 0;
	(void)fault_model_commit(&r->m, err, &next, false, "kv_delete");
}

static void look(struct fault_run *r)
{
	if (!r->gave_up)
		fault_model_compare(&r->m, r->db, NULL, newest(r),
				    r->m.uncertain ? &r->m.maybe : NULL);
}

/* ---- transactions --------------------------------------------------------------- */

static bool begin(struct fault_run *r, const struct kv_txn_options *o, struct work *w)
{
	w->next = *newest(r);
	return fault_model_read(&r->m, kv_txn_begin(r->db, o, &w->txn), "kv_txn_begin");
}

static void put(struct fault_run *r, struct work *w, unsigned key)
{
	unsigned version = fresh(r);
	char name[16];
	int err = kv_txn_put(w->txn, 1, fault_key(key, name), fault_value(&r->m, key, version));

	if (fault_model_read(&r->m, err, "kv_txn_put"))
		w->next.version[key] = (uint16_t)version;
}

/* One without writes is no commit: it succeeds on a poisoned database too. */
static void commit(struct fault_run *r, struct work *w, unsigned flags)
{
	if (!memcmp(&w->next, newest(r), sizeof(w->next)))
		(void)fault_model_read(&r->m, kv_txn_commit(w->txn, flags, NULL), "kv_txn_commit");
	else
		(void)fault_model_commit(&r->m, kv_txn_commit(w->txn, flags, NULL), &w->next,
					 flags & KV_COMMIT_SYNC, "kv_txn_commit");
}

static void erase_range(struct fault_run *r, struct work *w, unsigned from, unsigned to)
{
	char a[16], b[16];
	int err = kv_txn_delete_range(w->txn, 1, fault_key(from, a), fault_key(to, b));

	if (!fault_model_read(&r->m, err, "kv_txn_delete_range"))
		return;
	for (unsigned k = from; k < to && k < FAULT_KEYS; k++)
		w->next.version[k] = 0;
}

/* Whatever is read within a transaction has the version that it put or that there was. */
static void get(struct fault_run *r, struct work *w, unsigned key, bool update)
{
	struct kv_buf value = {0};
	struct kv_slice want;
	char name[16];
	int err = update ? kv_txn_get_for_update(w->txn, 1, fault_key(key, name), &value)
			 : kv_txn_get_for_share(w->txn, 1, fault_key(key, name), &value);

	if (err == -KV_E_NOTFOUND && (!w->next.version[key] || r->m.uncertain))
		goto out;
	if (fault_model_read(&r->m, err, "kv_txn_get_for_update") && !r->gave_up &&
	    !r->m.uncertain) {
		want = fault_value(&r->m, key, w->next.version[key]);
		if (want.len != value.len || memcmp(want.data, value.data, want.len) != 0)
			fault_model_finding(&r->m, "a transaction read another value of key %u",
					    key);
	}
out:
	kv_buf_free(&value);
}

static void step_savepoints(struct fault_run *r)
{
	struct fault_state before;
	unsigned a, b;
	struct work w;

	if (!begin(r, NULL, &w))
		return;
	get(r, &w, 2, true);
	put(r, &w, 2);
	before = w.next;
	if (fault_model_read(&r->m, kv_txn_savepoint(w.txn, &a), "kv_txn_savepoint")) {
		put(r, &w, 3);
		put(r, &w, 4);
		erase_range(r, &w, 5, 9);
		if (fault_model_read(&r->m, kv_txn_rollback_to(w.txn, a), "kv_txn_rollback_to"))
			w.next = before;
	}
	put(r, &w, 8);
	if (fault_model_read(&r->m, kv_txn_savepoint(w.txn, &b), "kv_txn_savepoint")) {
		erase_range(r, &w, 10, 12);
		put(r, &w, 11);
		(void)fault_model_read(&r->m, kv_txn_release(w.txn, b), "kv_txn_release");
	}
	get(r, &w, 11, false);
	commit(r, &w, 0);
}

static void step_levels(struct fault_run *r)
{
	static const struct kv_txn_options levels[] = {
		{.flags = KV_TXN_OPTIMISTIC},
		{.isolation = KV_ISOLATION_SERIALIZABLE},
		{.flags = KV_TXN_OPTIMISTIC, .isolation = KV_ISOLATION_SERIALIZABLE},
	};
	char a[16], b[16];

	for (unsigned i = 0; i < KV_ARRAY_COUNT(levels); i++) {
		const struct kv_range range = {fault_key(0, a), fault_key(9, b), {0}};
		struct kv_iter *it;
		struct work w;
		int err;

		if (!begin(r, &levels[i], &w))
			continue;
		if (fault_model_read(&r->m, kv_iter_open(w.txn, 1, &range, &it), "kv_iter_open")) {
			for (err = kv_iter_first(it); !err; err = kv_iter_next(it))
				;
			if (err != -KV_E_NOTFOUND)
				(void)fault_model_read(&r->m, err, "kv_iter_next");
			kv_iter_close(it);
		}
		get(r, &w, 12 + i, true);
		put(r, &w, 12 + i);
		put(r, &w, 14 + 5 * i);
		if (i == 1)
			erase_range(r, &w, 20, 23);
		commit(r, &w, i == 2 ? KV_COMMIT_SYNC : 0);
	}
	struct work w;
	if (begin(r, NULL, &w)) {
		put(r, &w, 24);
		put(r, &w, 25);
		kv_txn_abort(w.txn);
	}
}

/* Larger than the memory it may use and than a quarter of the log, so it becomes tables. */
static void step_group(struct fault_run *r)
{
	const struct kv_txn_options o = {.memory_bytes = 64U << 10};
	unsigned version = fresh(r);
	struct work w;
	char name[16];
	int err = 0;

	if (!begin(r, &o, &w))
		return;
	put(r, &w, 1);
	for (unsigned i = 0; !err && i < FAULT_GROUP_LEN; i++)
		err = kv_txn_put(w.txn, 1, fault_key(FAULT_GROUP + i, name),
				 fault_value(&r->m, FAULT_GROUP + i, version));
	if (fault_model_read(&r->m, err, "kv_txn_put of many")) {
		w.next.version[FAULT_GROUP] = (uint16_t)version;
		commit(r, &w, 0);
	} else {
		kv_txn_abort(w.txn);
	}
}

static void step_batch(struct fault_run *r)
{
	struct fault_state next = *newest(r);
	char a[16], b[16];
	struct kv_batch *batch;
	int err;

	if (!fault_model_read(&r->m, kv_batch_new(r->db, &batch), "kv_batch_new"))
		return;
	err = kv_batch_delete_range(batch, 1, fault_key(14, a), fault_key(18, b));
	for (unsigned k = 14; !err && k < 18; k++)
		next.version[k] = 0;
	for (unsigned k = 16; !err && k < 26; k++) {
		next.version[k] = (uint16_t)fresh(r);
		err = kv_batch_put(batch, 1, fault_key(k, a),
				   fault_value(&r->m, k, next.version[k]));
	}
	if (!err)
		err = kv_batch_delete(batch, 1, fault_key(25, a));
	next.version[25] = 0;
	if (fault_model_read(&r->m, err, "kv_batch_put"))
		(void)fault_model_commit(&r->m, kv_batch_write(batch, KV_COMMIT_SYNC, NULL), &next,
					 true, "kv_batch_write");
	kv_batch_free(batch);
}

static void step_parts(struct fault_run *r)
{
	const struct kv_part part = {100, 3000};
	unsigned version = fresh(r), key = 34;
	struct kv_slice value = fault_value(&r->m, key, version);
	struct kv_value *pieces;
	struct kv_buf got = {0};
	struct work w;
	char name[16];
	int err;

	if (!begin(r, NULL, &w))
		return;
	err = kv_txn_put_begin(w.txn, 1, fault_key(key, name), value.len, &pieces);
	if (!err) {
		err = kv_value_append(pieces, kv_slice_of(value.data, 7000));
		if (!err)
			err = kv_value_append(pieces,
					      kv_slice_of(value.data + 7000, value.len - 7000));
		if (err)
			kv_value_abandon(pieces);
		else
			err = kv_value_finish(pieces);
	}
	if (fault_model_read(&r->m, err, "kv_txn_put_begin and so on"))
		w.next.version[key] = (uint16_t)version;
	if (w.next.version[key]) {
		err = kv_txn_get_part(w.txn, 1, fault_key(key, name), &part, &got, NULL);
		(void)fault_model_read(&r->m, err, "kv_txn_get_part");
	}
	kv_buf_free(&got);
	commit(r, &w, 0);
}

/* ---- names ----------------------------------------------------------------------- */

static void snapshot(struct fault_run *r, unsigned no)
{
	const char name[2] = {(char)('0' + no), 0};
	struct fault_state next = *newest(r);

	if (next.snap[no])
		return;
	next.snap[no] = (uint16_t)(r->m.last + 1);
	(void)fault_model_commit(&r->m, kv_snapshot_create(r->db, name), &next, true,
				 "kv_snapshot_create");
}

static void unsnapshot(struct fault_run *r, unsigned no)
{
	const char name[2] = {(char)('0' + no), 0};
	struct fault_state next = *newest(r);

	if (!next.snap[no])
		return;
	next.snap[no] = 0;
	(void)fault_model_commit(&r->m, kv_snapshot_drop(r->db, name), &next, false,
				 "kv_snapshot_drop");
}

static void look_at_snapshots(struct fault_run *r)
{
	if (r->gave_up)
		return;
	if (r->held)
		fault_model_compare(&r->m, r->db, r->held, &r->m.past[r->held_state], NULL);
	for (unsigned i = 0; i < FAULT_SNAPS && !r->m.uncertain; i++) {
		const char name[2] = {(char)('0' + i), 0};
		unsigned state = newest(r)->snap[i];
		struct kv_snapshot *s;

		if (!state ||
		    !fault_model_read(&r->m, kv_snapshot_open(r->db, name, &s), "kv_snapshot_open"))
			continue;
		fault_model_compare(&r->m, r->db, s, &r->m.past[state - 1], NULL);
		kv_snapshot_release(s);
	}
}

static void hold(struct fault_run *r)
{
	if (r->held || r->m.uncertain)
		return;
	if (!fault_model_read(&r->m, kv_snapshot_open(r->db, NULL, &r->held), "kv_snapshot_open"))
		r->held = NULL;
	r->held_state = r->m.last;
}

static unsigned prep_count(unsigned no)
{
	return no ? 1 : 3;
}

static void prepare(struct fault_run *r, unsigned no)
{
	const char gid[1] = {(char)('0' + no)};
	struct fault_state next = *newest(r);
	struct work w;

	if (next.prepared[no] || !begin(r, NULL, &w))
		return;
	for (unsigned i = 0; i < prep_count(no); i++) {
		put(r, &w, PREP_KEYS + 3 * no + i);
		r->prep_version[no][i] = w.next.version[PREP_KEYS + 3 * no + i];
	}
	next.prepared[no] = true;
	(void)fault_model_commit(&r->m, kv_txn_prepare(w.txn, kv_slice_of(gid, 1)), &next, true,
				 "kv_txn_prepare");
}

static void resolve(struct fault_run *r, unsigned no, bool keep)
{
	const char gid[1] = {(char)('0' + no)};
	const struct kv_slice name = kv_slice_of(gid, 1);
	struct fault_state next = *newest(r);

	if (!next.prepared[no] || r->m.uncertain)
		return;
	next.prepared[no] = false;
	for (unsigned i = 0; keep && i < prep_count(no); i++)
		next.version[PREP_KEYS + 3 * no + i] = r->prep_version[no][i];
	(void)fault_model_commit(&r->m,
				 keep ? kv_prepared_commit(r->db, name, KV_COMMIT_SYNC, NULL)
				      : kv_prepared_abort(r->db, name),
				 &next, true, "kv_prepared_commit or _abort");
}

/* ---- looking at it as a whole ------------------------------------------------------ */

static int drop_line(void *ctx, const char *text)
{
	(void)ctx;
	(void)text;
	return 0;
}

/*
 * A copy of superblock or manifest that is torn or old is what an interrupted change of it leaves
 * until the next opening (rule 4). What a read error hides is reported as damage. Lack of memory is
 * not damage.
 */
static void say_problem(void *ctx, const struct kv_problem *problem)
{
	struct fault_run *r = ctx;
	bool copy = problem->id == KV_PROBLEM_SUPERBLOCK_COPY ||
		    problem->id == KV_PROBLEM_SUPERBLOCK_STALE ||
		    problem->id == KV_PROBLEM_MANIFEST_COPY;

	if (copy && r->torn)
		return;
	if (r->reads_fail && r->m.struck()) {
		r->gave_up |= problem->repaired && !copy;
		return;
	}
	fault_model_finding(&r->m, "damage reported: %s", problem->text);
}

static void step_check(struct fault_run *r)
{
	const struct kv_verify_options o = {
		.found = say_problem, .ctx = r, .env = sim_env_os(r->sim)};
	struct kv_verify_result res = {0};
	struct kv_db_info info;

	(void)fault_model_read(&r->m, kv_probe(FAULT_VOLUME, o.env, &info), "kv_probe");
	(void)fault_model_read(&r->m, kv_verify(FAULT_VOLUME, &o, &res), "kv_verify");
	(void)fault_model_read(&r->m, kv_repair(FAULT_VOLUME, &o, &res), "kv_repair");
	for (int what = KV_DUMP_SUPERBLOCK; what <= KV_DUMP_TABLES; what++)
		(void)fault_model_read(
			&r->m,
			kv_dump(FAULT_VOLUME, (enum kv_dump_what)what, o.env, drop_line, NULL),
			"kv_dump");
}

void fault_work_verify(struct fault_run *r)
{
	const struct kv_verify_options o = {
		.found = say_problem, .ctx = r, .env = sim_env_os(r->sim)};
	struct kv_verify_result res = {0};
	int err = kv_verify(FAULT_VOLUME, &o, &res);

	if (err)
		fault_model_finding(&r->m, "kv_verify afterwards: %s", kv_strerror(err));
}

static void step_scrub(struct fault_run *r)
{
	const struct kv_scrub_options o = {.found = say_problem, .ctx = r};
	struct kv_scrub_result res;
	struct kv_db_info info;

	(void)fault_model_read(&r->m, kv_scrub(r->db, &o, &res), "kv_scrub");
	(void)fault_model_read(&r->m, kv_get_info(r->db, &info), "kv_get_info");
}

static void step_diff(struct fault_run *r)
{
	const struct kv_txn_options o = {.flags = KV_TXN_RDONLY, .snapshot = r->held};
	struct kv_txn *from, *to;
	struct kv_diff *diff;
	int err;

	if (!r->held || !fault_model_read(&r->m, kv_txn_begin(r->db, &o, &from), "kv_txn_begin"))
		return;
	err = kv_txn_begin(r->db, &(struct kv_txn_options){.flags = KV_TXN_RDONLY}, &to);
	if (fault_model_read(&r->m, err, "kv_txn_begin")) {
		err = kv_diff_open(from, to, 1, NULL, &diff);
		if (fault_model_read(&r->m, err, "kv_diff_open")) {
			while (!err)
				err = kv_diff_next(diff);
			if (err != -KV_E_NOTFOUND)
				(void)fault_model_read(&r->m, err, "kv_diff_next");
			kv_diff_close(diff);
		}
		kv_txn_abort(to);
	}
	kv_txn_abort(from);
}

static void step_feed(struct fault_run *r)
{
	struct kv_history_info info;
	struct kv_feed *feed;
	kv_seq seq;
	int err;

	kv_history_get(r->db, &info);
	if (!info.begun || info.from > info.newest ||
	    !fault_model_read(&r->m, kv_feed_open(r->db, info.from, &feed), "kv_feed_open"))
		return;
	do {
		struct kv_feed_op op;

		err = kv_feed_next(feed, &seq);
		while (!err && kv_feed_op(feed, &op))
			;
	} while (!err);
	if (err != -KV_E_NOTFOUND)
		(void)fault_model_read(&r->m, err, "kv_feed_next");
	kv_feed_close(feed);
}

/* ---- the workloads ------------------------------------------------------------------ */

static void make(struct fault_run *r)
{
	const struct kv_create_options o = {
		.size_bytes = SIZE, .log_size_bytes = LOG_SIZE, .env = sim_env_os(r->sim)};
	int err = kv_create(FAULT_VOLUME, &o);

	if (!fault_model_read(&r->m, err, "kv_create") && !r->for_good) {
		err = kv_create(FAULT_VOLUME, &o);
		if (err)
			fault_model_finding(&r->m, "the second kv_create: %s", kv_strerror(err));
	}
	r->made = !err;
}

static void reopen(struct fault_run *r)
{
	int err = fault_work_close(r);

	if (fault_model_read(&r->m, err, "kv_close"))
		fault_model_synced(&r->m);
	step_check(r);
	fault_work_open(r);
}

static void sync_all(struct fault_run *r)
{
	if (fault_model_read(&r->m, kv_sync(r->db), "kv_sync"))
		fault_model_synced(&r->m);
}

static void first_half(struct fault_run *r)
{
	for (unsigned k = 0; k < 30; k++)
		fault_work_put(r, k, k == 19 ? KV_COMMIT_SYNC : 0);
	erase(r, 7);
	step_batch(r);
	hold(r);
	look(r);
	(void)fault_model_read(&r->m, kv_history_begin(r->db, false), "kv_history_begin");
	(void)fault_model_read(&r->m, kv_flush(r->db), "kv_flush");
	step_savepoints(r);
	snapshot(r, 0);
	prepare(r, 0);
	prepare(r, 1);
	step_levels(r);
	step_parts(r);
	step_diff(r);
	step_group(r);
	resolve(r, 0, true);
	look(r);
	step_feed(r);
	(void)fault_model_read(&r->m, kv_history_end(r->db), "kv_history_end");
}

static void second_half(struct fault_run *r)
{
	look(r);
	look_at_snapshots(r);
	hold(r);
	for (unsigned k = 0; k < 30; k += 2)
		fault_work_put(r, k, 0);
	sync_all(r);
	(void)fault_model_read(&r->m, kv_flush(r->db), "kv_flush");
	snapshot(r, 1);
	unsnapshot(r, 0);
	step_group(r);
	fault_work_put(r, 5, 0);
	(void)fault_model_read(&r->m, kv_compact(r->db, NULL), "kv_compact");
	step_scrub(r);
	resolve(r, 1, false);
	look_at_snapshots(r);
	look(r);
}

void fault_work_life(struct fault_run *r)
{
	make(r);
	if (!r->made)
		return;
	fault_work_open(r);
	if (r->db)
		first_half(r);
	reopen(r);
	if (r->db)
		second_half(r);
}

void fault_work_fill(struct fault_run *r)
{
	make(r);
	fault_work_open(r);
	first_half(r);
	step_group(r);
	(void)fault_model_read(&r->m, kv_flush(r->db), "kv_flush");
	(void)fault_work_close(r);
	fault_model_synced(&r->m);
}

/* Overwriting needs room that only what is dead can give; removing always works. */
void fault_work_full(struct fault_run *r)
{
	r->m.may_be_full = true;
	fault_work_open(r);
	if (!r->db)
		return;
	for (unsigned i = 0; i < 12; i++) {
		step_group(r);
		for (unsigned k = 4; k < 30; k += 5)
			fault_work_put(r, k, 0);
		if (i % 4 == 3)
			erase(r, 4 + i);
		if (i == 6)
			snapshot(r, 1);
	}
	look(r);
	sync_all(r);
	unsnapshot(r, 1);
	for (unsigned k = 9; k < 30; k += 5)
		fault_work_put(r, k, KV_COMMIT_SYNC);
	look(r);
	look_at_snapshots(r);
}
