/* SPDX-License-Identifier: MIT */
/*
 * The model is a list of states. A value tells its number: its length and all its bytes follow
 * from it.
 */
#include "tests/crash/schedule_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/bytes.h"

#define KEYSPACE  2U
#define VALUE_MAX 4096U

static void wrong(const struct schedule_own *o, const char *what, uint32_t a, uint32_t b)
{
	printf("own keys %u: %s: %u, %u\n", o->number, what, a, b);
	fflush(stdout);
	abort();
}

static struct own_state *last(struct schedule_own *o)
{
	return &o->states[o->made];
}

/* The state that the next commit makes, at first a copy of the last. */
static struct own_state *plan(struct schedule_own *o)
{
	o->states = realloc(o->states, (o->count + 1U) * sizeof(*o->states));
	KV_ASSERT(o->states);
	o->states[o->count] = o->states[o->made];
	return &o->states[o->count++];
}

void schedule_own_init(struct schedule_own *o, struct kv_db *db, unsigned number)
{
	*o = (struct schedule_own){.db = db, .number = number, .next_value = 1};
	o->states = calloc(1, sizeof(*o->states));
	KV_ASSERT(o->states);
	o->count = 1;
}

void schedule_own_fini(struct schedule_own *o)
{
	free(o->states);
	o->states = NULL;
}

static struct kv_slice key_of(const struct schedule_own *o, char kind, unsigned n, char *buf)
{
	snprintf(buf, 16, "%u%c%03u", o->number, kind, n);
	return test_str(buf);
}

/* Half of them are large enough to stand outside the tree. */
static struct kv_slice value_of(uint32_t number, uint8_t *buf)
{
	struct test_rng rng = {number};
	size_t len = test_rng_below(&rng, 2) ? test_rng_below(&rng, 60)
					     : 500 + test_rng_below(&rng, 2500);

	be32_put(buf, number);
	memset(buf + 4, (int)(number * 37), len);
	return kv_slice_of(buf, 4 + len);
}

/* ---- reading --------------------------------------------------------------------------- */

static uint32_t number_of(const struct schedule_own *o, struct kv_slice value)
{
	uint8_t buf[VALUE_MAX];
	uint32_t number = value.len < 4 ? 0 : be32_at(value.data);
	struct kv_slice expected = value_of(number, buf);

	if (value.len != expected.len || memcmp(value.data, expected.data, value.len) != 0)
		wrong(o, "a value that was never written", number, (uint32_t)value.len);
	return number;
}

static void note(const struct schedule_own *o, struct own_state *s, unsigned *batch,
		 struct kv_slice key, uint32_t number)
{
	unsigned n = (unsigned)strtoul((const char *)key.data + key.len - 3, NULL, 10);

	if (key.data[key.len - 4] == 'k') {
		s->value[n] = number;
		return;
	}
	if (*batch && s->batch != number)
		wrong(o, "half a batch", s->batch, number);
	s->batch = number;
	++*batch;
}

static int scan(const struct schedule_own *o, struct kv_txn *txn, struct own_state *s)
{
	struct kv_range range = {.lower = {NULL, 0}};
	struct kv_iter *it = NULL;
	struct kv_slice value, key;
	unsigned batch = 0;
	char prefix[16], name[16];
	int err;

	snprintf(prefix, sizeof(prefix), "%u", o->number);
	range.prefix = test_str(prefix);
	*s = (struct own_state){0};
	err = kv_iter_open(txn, KEYSPACE, &range, &it);
	if (err)
		return err;
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it)) {
		err = kv_iter_value(it, &value);
		if (err)
			break;
		key = kv_iter_key(it);
		KV_ASSERT(key.len < sizeof(name));
		memcpy(name, key.data, key.len);
		name[key.len] = 0;
		note(o, s, &batch, test_str(name), number_of(o, value));
	}
	kv_iter_close(it);
	if (err == -KV_E_NOTFOUND && batch != 0 && batch != OWN_BATCH)
		wrong(o, "a part of a batch", batch, s->batch);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static void compare(const struct schedule_own *o, const struct own_state *is,
		    const struct own_state *expected, const char *what)
{
	for (unsigned i = 0; i < OWN_KEYS; i++) {
		if (is->value[i] != expected->value[i])
			wrong(o, what, is->value[i], expected->value[i]);
	}
	if (is->batch != expected->batch)
		wrong(o, what, is->batch, expected->batch);
}

static int read_all(struct schedule_own *o)
{
	struct kv_txn *txn = NULL;
	struct own_state s;
	int err = kv_txn_begin(o->db, NULL, &txn);

	if (!err)
		err = scan(o, txn, &s);
	if (!err)
		compare(o, &s, last(o), "an own write is not there, but");
	kv_txn_abort(txn);
	return err;
}

static int read_one(struct schedule_own *o, struct test_rng *rng)
{
	unsigned n = (unsigned)test_rng_below(rng, OWN_KEYS);
	struct kv_buf value = {0};
	uint32_t number = 0;
	char key[16];
	int err = kv_get(o->db, KEYSPACE, key_of(o, 'k', n, key), &value);

	if (!err)
		number = number_of(o, kv_slice_of(value.data, value.len));
	if (err == -KV_E_NOTFOUND)
		err = 0;
	if (!err && number != last(o)->value[n])
		wrong(o, "a get returns", number, last(o)->value[n]);
	kv_buf_free(&value);
	return err;
}

/* ---- writing ------------------------------------------------------------------------------ */

static void committed(struct schedule_own *o, bool synced)
{
	o->made = o->count - 1;
	if (synced)
		o->durable = o->made;
}

static int delete_range(struct schedule_own *o, struct kv_txn *txn, struct own_state *s,
			struct test_rng *rng)
{
	unsigned from = (unsigned)test_rng_below(rng, OWN_KEYS);
	unsigned to = from + 1 + (unsigned)test_rng_below(rng, OWN_KEYS - from);
	char a[16], b[16];

	for (unsigned i = from; i < to; i++)
		s->value[i] = 0;
	return kv_txn_delete_range(txn, KEYSPACE, key_of(o, 'k', from, a), key_of(o, 'k', to, b));
}

static int change(struct schedule_own *o, struct kv_txn *txn, struct own_state *s,
		  struct test_rng *rng)
{
	unsigned n = (unsigned)test_rng_below(rng, OWN_KEYS);
	uint8_t buf[VALUE_MAX];
	char key[16];

	switch (test_rng_below(rng, 6)) {
	case 0:
		return delete_range(o, txn, s, rng);
	case 1:
		s->value[n] = 0;
		return kv_txn_delete(txn, KEYSPACE, key_of(o, 'k', n, key));
	default:
		s->value[n] = o->next_value++;
		return kv_txn_put(txn, KEYSPACE, key_of(o, 'k', n, key),
				  value_of(s->value[n], buf));
	}
}

static int write_txn(struct schedule_own *o, struct test_rng *rng)
{
	unsigned changes = 1 + (unsigned)test_rng_below(rng, 3);
	unsigned flags = test_rng_below(rng, 3) ? 0 : KV_COMMIT_SYNC;
	struct own_state *s = plan(o);
	struct kv_txn *txn = NULL;
	int err = kv_txn_begin(o->db, NULL, &txn);

	for (unsigned i = 0; i < changes && !err; i++)
		err = change(o, txn, s, rng);
	if (err) {
		kv_txn_abort(txn);
		return err;
	}
	err = kv_txn_commit(txn, flags, NULL);
	if (!err)
		committed(o, flags);
	return err;
}

static int write_one(struct schedule_own *o, struct test_rng *rng)
{
	unsigned n = (unsigned)test_rng_below(rng, OWN_KEYS);
	unsigned flags = test_rng_below(rng, 3) ? 0 : KV_COMMIT_SYNC;
	struct own_state *s = plan(o);
	uint8_t buf[VALUE_MAX];
	char key[16];
	int err;

	s->value[n] = o->next_value++;
	err = kv_put(o->db, KEYSPACE, key_of(o, 'k', n, key), value_of(s->value[n], buf), flags);
	if (!err)
		committed(o, flags);
	return err;
}

static int write_batch(struct schedule_own *o, struct test_rng *rng)
{
	unsigned flags = test_rng_below(rng, 3) ? 0 : KV_COMMIT_SYNC;
	struct own_state *s = plan(o);
	struct kv_batch *batch = NULL;
	uint8_t buf[VALUE_MAX];
	struct kv_slice value;
	char key[16];
	int err = kv_batch_new(o->db, &batch);

	do /* a small one */
		value = value_of(s->batch = o->next_value++, buf);
	while (value.len > 100);
	for (unsigned i = 0; i < OWN_BATCH && !err; i++)
		err = kv_batch_put(batch, KEYSPACE, key_of(o, 'b', i, key), value);
	if (!err)
		err = kv_batch_write(batch, flags, NULL);
	if (!err)
		committed(o, flags);
	kv_batch_free(batch);
	return err;
}

/* ---- snapshots ------------------------------------------------------------------------------ */

static int write_some(struct schedule_own *o, struct test_rng *rng)
{
	int err = 0;

	for (uint64_t n = test_rng_below(rng, 4); n && !err; n--)
		err = test_rng_below(rng, 4) ? write_txn(o, rng) : kv_flush(o->db);
	return err;
}

/* A reader's view does not change under it. */
static int read_later(struct schedule_own *o, struct test_rng *rng)
{
	const struct kv_txn_options readonly = {.flags = KV_TXN_RDONLY};
	const struct own_state then = *last(o);
	struct kv_txn *txn = NULL;
	struct own_state s;
	int err = kv_txn_begin(o->db, &readonly, &txn);

	if (!err)
		err = write_some(o, rng);
	if (!err)
		err = scan(o, txn, &s);
	if (!err)
		compare(o, &s, &then, "a reader's view has changed");
	kv_txn_abort(txn);
	return err;
}

static int read_named(struct schedule_own *o, struct test_rng *rng)
{
	struct kv_txn_options options = {0};
	const struct own_state then = *last(o);
	struct kv_snapshot *snapshot = NULL;
	struct kv_txn *txn = NULL;
	struct own_state s;
	char name[32];
	int err;

	snprintf(name, sizeof(name), "%u-%u", o->number, o->next_value++);
	err = kv_snapshot_create(o->db, name);
	if (!err)
		o->durable = o->made;
	if (!err)
		err = write_some(o, rng);
	if (!err)
		err = kv_snapshot_open(o->db, name, &snapshot);
	options.snapshot = snapshot;
	if (!err)
		err = kv_txn_begin(o->db, &options, &txn);
	if (!err)
		err = scan(o, txn, &s);
	if (!err)
		compare(o, &s, &then, "a snapshot has changed");
	kv_txn_abort(txn);
	kv_snapshot_release(snapshot);
	return err ? err : kv_snapshot_drop(o->db, name);
}

int schedule_own_step(struct schedule_own *o, struct test_rng *rng)
{
	switch (test_rng_below(rng, 16)) {
	case 0:
	case 1:
		return write_batch(o, rng);
	case 2:
		return kv_flush(o->db);
	case 3:
		return test_rng_below(rng, 2) ? kv_compact(o->db, NULL) : kv_flush(o->db);
	case 4:
		return read_all(o);
	case 5:
	case 6:
		return read_one(o, rng);
	case 7:
		return read_later(o, rng);
	case 8:
		return read_named(o, rng);
	case 9:
	case 10:
		return write_one(o, rng);
	default:
		return write_txn(o, rng);
	}
}

void schedule_own_check(struct schedule_own *o, bool crashed)
{
	struct kv_txn *txn = NULL;
	struct own_state s;
	int err = kv_txn_begin(o->db, NULL, &txn);

	if (!err)
		err = scan(o, txn, &s);
	KV_ASSERT(!err);
	kv_txn_abort(txn);
	if (!crashed) {
		compare(o, &s, last(o), "in the end there is");
		return;
	}
	for (unsigned i = o->durable; i < o->count; i++) {
		if (memcmp(&s, &o->states[i], sizeof(s)) == 0)
			return;
	}
	wrong(o, "after the crash no state since the durable one; that, the last", o->durable,
	      o->count - 1);
}
