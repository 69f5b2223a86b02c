/* SPDX-License-Identifier: MIT */
/*
 * The states that a database under faults may be in. Comparing uses one buffer and
 * no memory of its own, since the faults that it runs under concern memory.
 */
#include "tests/support/fault_model.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"

#define GROUP_VALUE 2900U

void fault_model_init(struct fault_model *m)
{
	memset(m, 0, sizeof(*m));
}

void fault_model_finding(struct fault_model *m, const char *format, ...)
{
	va_list ap;

	m->findings++;
	printf("FINDING %s: ", m->what);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

struct kv_slice fault_key(unsigned key, char out[16])
{
	return kv_slice_of(out, (size_t)snprintf(out, 16, "key%04u", key));
}

/* Small ones, some that fill pages, large ones outside the tree. */
size_t fault_value_len(unsigned key)
{
	if (key >= FAULT_GROUP)
		return GROUP_VALUE;
	if (key % 5 == 4)
		return 5000 + (size_t)key * 900;
	return key % 5 == 3 ? 1500 + (size_t)key * 20 : 16 + (size_t)key * 5;
}

struct kv_slice fault_value(struct fault_model *m, unsigned key, unsigned version)
{
	uint64_t x = (uint64_t)key << 32 | version;
	size_t len = fault_value_len(key);

	/* Half of it compresses. */
	for (size_t i = 0; i < len; i += sizeof(x)) {
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		memcpy(m->buf + i, &x, sizeof(x));
		if (i % 64 >= 32)
			memset(m->buf + i, (int)version & 0x7f, sizeof(x));
	}
	m->buf[0] = (uint8_t)version;
	m->buf[1] = (uint8_t)(version >> 8);
	return kv_slice_of(m->buf, len);
}

static bool is_explained(const struct fault_model *m, int err)
{
	if (err == -KV_E_NOSPACE && m->may_be_full)
		return true;
	if (err == -KV_E_POISONED && m->poisoned)
		return true;
	if (err == -KV_E_CHECKSUM && m->may_be_lost && m->struck())
		return true;
	return m->struck() &&
	       (err == m->host || err == -KV_E_POISONED || err == -KV_E_UNKNOWN_OUTCOME);
}

bool fault_model_read(struct fault_model *m, int err, const char *call)
{
	if (!err)
		return true;
	m->failed++;
	if (!is_explained(m, err))
		fault_model_finding(m, "%s: %s (%d)", call, kv_strerror(err), err);
	if ((err == -KV_E_POISONED || err == -KV_E_UNKNOWN_OUTCOME) && !m->poisoned) {
		m->poisoned = true;
		if (m->verbose)
			printf("%s: %s: %s\n", m->what, call, kv_strerror(err));
	}
	return false;
}

bool fault_model_commit(struct fault_model *m, int err, const struct fault_state *next,
			bool durable, const char *call)
{
	if (!err && m->poisoned)
		fault_model_finding(m, "%s succeeded on a poisoned database", call);
	if (err == -KV_E_UNKNOWN_OUTCOME && m->poisoned)
		fault_model_finding(m, "%s: its outcome is unknown on a poisoned database", call);
	if (err == -KV_E_UNKNOWN_OUTCOME && !m->poisoned) {
		m->uncertain = true;
		m->maybe = *next;
	}
	if (!fault_model_read(m, err, call))
		return false;
	if (m->last + 1 == FAULT_STATES)
		abort();
	m->past[++m->last] = *next;
	if (durable)
		m->durable = m->last;
	return true;
}

void fault_model_synced(struct fault_model *m)
{
	m->durable = m->last;
}

/* ---- what is there ------------------------------------------------------------ */

#define WRONG UINT_MAX

/* The version that a value is of; WRONG if it is none of this key. */
static unsigned version_of(struct fault_model *m, unsigned key, struct kv_slice value)
{
	unsigned version;

	if (value.len != fault_value_len(key))
		return WRONG;
	version = value.data[0] | (unsigned)value.data[1] << 8;
	if (!version || memcmp(fault_value(m, key, version).data, value.data, value.len) != 0)
		return WRONG;
	return version;
}

static unsigned key_of(struct kv_slice key)
{
	char name[16] = "";

	if (key.len != 7)
		return WRONG;
	memcpy(name, key.data, key.len);
	return (unsigned)strtoul(name + 3, NULL, 10);
}

#define ALL (FAULT_KEYS - 1 + FAULT_GROUP_LEN)

struct picture {
	unsigned version[ALL]; /* 0: not there */
};

static void picture_add(struct fault_model *m, struct picture *p, struct kv_slice key,
			struct kv_slice value)
{
	unsigned k = key_of(key);

	if (k >= ALL) {
		fault_model_finding(m, "a key that was never written");
		return;
	}
	p->version[k] = version_of(m, k, value);
	if (p->version[k] == WRONG)
		fault_model_finding(m, "key %u has a value that it never had", k);
}

/* All by an iterator, one way or the other. Returns whether nothing failed. */
static bool picture_scan(struct fault_model *m, struct kv_txn *txn, bool back, struct picture *p)
{
	struct kv_slice value;
	struct kv_iter *it;
	int err;

	memset(p, 0, sizeof(*p));
	if (!fault_model_read(m, kv_iter_open(txn, 1, NULL, &it), "kv_iter_open"))
		return false;
	err = back ? kv_iter_last(it) : kv_iter_first(it);
	while (!err) {
		err = kv_iter_value(it, &value);
		if (err)
			break;
		picture_add(m, p, kv_iter_key(it), value);
		err = back ? kv_iter_prev(it) : kv_iter_next(it);
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND || fault_model_read(m, err, "iterator");
}

static bool picture_get(struct fault_model *m, struct kv_txn *txn, struct picture *p)
{
	struct kv_buf value = {0};
	char name[16];
	int err = 0;

	memset(p, 0, sizeof(*p));
	for (unsigned k = 0; k < ALL && (!err || err == -KV_E_NOTFOUND); k++) {
		struct kv_slice key = fault_key(k, name);

		err = kv_txn_get(txn, 1, key, &value);
		if (!err)
			picture_add(m, p, key, kv_buf_slice(&value));
	}
	kv_buf_free(&value);
	return !err || err == -KV_E_NOTFOUND || fault_model_read(m, err, "kv_txn_get");
}

/* The first key that differs; ALL: none. */
static unsigned picture_differs(const struct picture *p, const struct fault_state *s)
{
	for (unsigned k = 0; k < ALL; k++)
		if (p->version[k] != s->version[min_u64(k, FAULT_GROUP)])
			return k;
	return ALL;
}

static void picture_judge(struct fault_model *m, const struct picture *p, const char *how,
			  const struct fault_state *s, const struct fault_state *other)
{
	unsigned k = picture_differs(p, s);

	if (k == ALL || (other && picture_differs(p, other) == ALL))
		return;
	fault_model_finding(m, "%s: key %u has version %u instead of %u", how, k, p->version[k],
			    (unsigned)s->version[min_u64(k, FAULT_GROUP)]);
}

void fault_model_compare(struct fault_model *m, struct kv_db *db, const struct kv_snapshot *snap,
			 const struct fault_state *s, const struct fault_state *other)
{
	const struct kv_txn_options o = {.flags = KV_TXN_RDONLY, .snapshot = snap};
	struct picture p;
	struct kv_txn *txn;

	if (!fault_model_read(m, kv_txn_begin(db, &o, &txn), "kv_txn_begin"))
		return;
	if (picture_scan(m, txn, false, &p))
		picture_judge(m, &p, "forward", s, other);
	if (picture_scan(m, txn, true, &p))
		picture_judge(m, &p, "backward", s, other);
	if (picture_get(m, txn, &p))
		picture_judge(m, &p, "get", s, other);
	kv_txn_abort(txn);
}

/* ---- which state it is ---------------------------------------------------------- */

/* Everything but the keys: named snapshots and prepared transactions. */
static void find_names(struct fault_model *m, struct kv_db *db, struct fault_state *found)
{
	struct kv_snapshot_info *snaps = NULL;
	struct kv_prepared_info *preps = NULL;
	size_t snap_count = 0, prep_count = 0;

	memset(found, 0, sizeof(*found));
	(void)fault_model_read(m, kv_snapshot_list(db, &snaps, &snap_count), "kv_snapshot_list");
	(void)fault_model_read(m, kv_prepared_list(db, &preps, &prep_count), "kv_prepared_list");
	for (size_t i = 0; i < snap_count; i++)
		found->snap[(unsigned)(snaps[i].name[0] - '0') % FAULT_SNAPS] = 1;
	for (size_t i = 0; i < prep_count; i++)
		found->prepared[(unsigned)(preps[i].gid[0] - '0') % FAULT_PREPS] = true;
	free(snaps);
	free(preps);
}

static bool same(const struct picture *p, const struct fault_state *names,
		 const struct fault_state *s)
{
	for (unsigned i = 0; i < FAULT_SNAPS; i++)
		if ((names->snap[i] != 0) != (s->snap[i] != 0))
			return false;
	return picture_differs(p, s) == ALL &&
	       memcmp(names->prepared, s->prepared, sizeof(s->prepared)) == 0;
}

static const struct fault_state *find_state(struct fault_model *m, const struct picture *p,
					    const struct fault_state *names, bool lost)
{
	unsigned first = lost ? m->durable : m->last;

	if (m->uncertain && same(p, names, &m->maybe))
		return &m->maybe;
	for (unsigned i = m->last + 1; i-- > first;)
		if (same(p, names, &m->past[i]))
			return &m->past[i];
	return NULL;
}

static void explain(struct fault_model *m, const struct picture *p, const struct fault_state *names)
{
	const struct fault_state *s = &m->past[m->last];
	unsigned k = picture_differs(p, s);

	fault_model_finding(
		m,
		"no state that it may be in: last %u, durable %u; key %u has version %u, "
		"not %u; snapshots %d%d, not %d%d; prepared %d%d, not %d%d",
		m->last, m->durable, k, k < ALL ? p->version[k] : 0,
		k < ALL ? (unsigned)s->version[min_u64(k, FAULT_GROUP)] : 0, names->snap[0] != 0,
		names->snap[1] != 0, s->snap[0] != 0, s->snap[1] != 0, names->prepared[0],
		names->prepared[1], s->prepared[0], s->prepared[1]);
	for (unsigned i = 0; i < m->last; i++)
		if (same(p, names, &m->past[i]))
			printf("  it is the older state %u\n", i);
}

static void compare_named(struct fault_model *m, struct kv_db *db, const struct fault_state *s)
{
	for (unsigned i = 0; i < FAULT_SNAPS; i++) {
		const char name[2] = {(char)('0' + i), 0};
		struct kv_snapshot *snap;

		if (!s->snap[i] ||
		    !fault_model_read(m, kv_snapshot_open(db, name, &snap), "kv_snapshot_open"))
			continue;
		fault_model_compare(m, db, snap, &m->past[s->snap[i] - 1], NULL);
		kv_snapshot_release(snap);
	}
}

void fault_model_settle(struct fault_model *m, struct kv_db *db, bool lost)
{
	const struct kv_txn_options o = {.flags = KV_TXN_RDONLY};
	const struct fault_state *s;
	struct fault_state names, now;
	struct picture p;
	struct kv_txn *txn;
	bool ok;

	if (!fault_model_read(m, kv_txn_begin(db, &o, &txn), "kv_txn_begin"))
		return;
	ok = picture_scan(m, txn, false, &p);
	kv_txn_abort(txn);
	if (!ok)
		return;
	find_names(m, db, &names);
	s = find_state(m, &p, &names, lost);
	if (!s) {
		explain(m, &p, &names);
		return;
	}
	now = *s;
	fault_model_compare(m, db, NULL, &now, NULL);
	compare_named(m, db, &now);
	m->past[++m->last] = now; /* the older ones stay, for the snapshots */
	m->durable = m->last;
	m->uncertain = m->poisoned = false;
}
