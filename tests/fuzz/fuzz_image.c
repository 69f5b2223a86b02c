/* SPDX-License-Identifier: MIT */
/*
 * A volume with something of everything, changed anywhere, with right checksums: opened, read
 * to its end both ways, written, compacted, checked and repaired, by the engine and by the file
 * layer. Any answer is right, but it must be one: no crash, no hang; and what a repair calls
 * sound is sound when it is looked at again.
 *
 * Input: byte 0 chooses the volume, byte 1 what is done with it; then edits: a byte for the kind
 * (set, copy, zero, older), four for the place among the bytes that are not zero, one for the
 * length, and of a set the bytes.
 */
#include <string.h>
#include <sys/stat.h>

#include "fusefs/model/kvfs.h"
#include "kvcore/base/bytes.h"
#include "kvcore/base/buf.h"
#include "kvcore/kvcore_check.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/sim_env.h"

#define NAME	    "volume"
#define BASES	    4U
#define STEPS_MAX   3000U /* entries that are looked at in one direction */
#define ok(expr)    FUZZ_CHECK((expr) == 0)
#define CACHE_BYTES (8U << 20)

struct base {
	struct sim_env *env;
	uint64_t size;
	uint64_t *places; /* of bytes in blocks that are not all zero */
	size_t place_count;
};

static struct base bases[BASES];
static const struct kvfs_owner owner = {0, 0, 022};

/* ---- the volumes ------------------------------------------------------------ */

static void file_make(struct kvfs *fs, struct kvfs_node *dir, unsigned n)
{
	struct kvfs_node *f;
	char name[32];
	uint8_t *bytes = malloc(200000);
	size_t len = n % 7 == 0 ? 70000 + n : n % 3 * 900 + n;

	FUZZ_CHECK(bytes);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(i * n >> (i % 5));
	snprintf(name, sizeof(name), "file%u", n);
	ok(kvfs_mknod(fs, dir, name, S_IFREG | 0644, 0, &owner, &f, NULL));
	ok(kvfs_write(fs, f, 0, kv_slice_of(bytes, len), false));
	if (n % 5 == 0)
		ok(kvfs_write(fs, f, len / 2, kv_slice_of("patch", 5), false));
	if (n % 4 == 0)
		ok(kvfs_setxattr(fs, f, "user.note", kv_slice_of(bytes, 30), 0));
	kvfs_node_forget(fs, f, 1);
	free(bytes);
}

static void tree_make(struct kvfs *fs, unsigned from, unsigned to)
{
	struct kvfs_node *dir, *f, *again;
	char name[32];

	snprintf(name, sizeof(name), "dir%u", from);
	ok(kvfs_mkdir(fs, kvfs_root(fs), name, 0755, &owner, &dir, NULL));
	for (unsigned n = from; n < to; n++)
		file_make(fs, n % 2 ? dir : kvfs_root(fs), n);
	snprintf(name, sizeof(name), "file%u", from | 1U);
	ok(kvfs_lookup(fs, dir, name, &f, NULL));
	snprintf(name, sizeof(name), "link%u", from);
	ok(kvfs_link(fs, f, kvfs_root(fs), name, &again, NULL));
	kvfs_node_forget(fs, f, 2);
	kvfs_node_forget(fs, dir, 1);
}

static void base_places(struct base *b)
{
	uint8_t block[SIM_SECTOR];
	size_t cap = 0;

	b->size = sim_env_size(b->env, NAME);
	for (uint64_t off = 0; off + SIM_SECTOR <= b->size; off += SIM_SECTOR) {
		sim_env_peek(b->env, NAME, off, block, sizeof(block));
		for (unsigned i = 0; i < SIM_SECTOR; i++) {
			if (!block[i])
				continue;
			if (b->place_count == cap) {
				cap = cap ? cap * 2 : 4096;
				b->places = realloc(b->places, cap * sizeof(*b->places));
				FUZZ_CHECK(b->places);
			}
			b->places[b->place_count++] = off + i;
		}
	}
}

/* Bit 0: killed, so that the log is full. Bit 1: not compressed. */
static void base_make(struct base *b, unsigned kind)
{
	struct sim_env *e = sim_env_new(kind);
	struct kv_create_options create = {.log_size_bytes = 1U << 20,
					   .compress = kind & 2 ? "none" : "snappy",
					   .env = sim_env_os(e)};
	struct kvfs_options options = {.kv = {.cache_bytes = CACHE_BYTES, .env = sim_env_os(e)}};
	struct kvfs *fs;

	ok(kvfs_mkfs(NAME, &create, &owner));
	ok(kvfs_open(NAME, &options, &fs));
	tree_make(fs, 0, 30);
	ok(kv_flush(kvfs_db(fs)));
	ok(kv_snapshot_create(kvfs_db(fs), "before"));
	tree_make(fs, 30, 45);
	ok(kvfs_unlink(fs, kvfs_root(fs), "file28"));
	ok(kvfs_unlink(fs, kvfs_root(fs), "file4"));
	ok(kv_flush(kvfs_db(fs)));
	tree_make(fs, 50, 60);
	ok(kvfs_sync(fs));
	if (kind & 1)
		b->env = sim_env_clone(e, kind);
	ok(kvfs_close(fs));
	if (b->env)
		sim_env_free(e);
	else
		b->env = e;
	base_places(b);
}

/* ---- what is done ----------------------------------------------------------- */

static void scan(struct kv_txn *txn, unsigned keyspace)
{
	struct kv_slice value;
	struct kv_iter *it;
	unsigned steps = 0;
	int err;

	ok(kv_iter_open(txn, keyspace, NULL, &it));
	for (err = kv_iter_first(it); !err && ++steps < STEPS_MAX; err = kv_iter_next(it))
		(void)!kv_iter_value(it, &value);
	steps = 0;
	for (err = kv_iter_last(it); !err && ++steps < STEPS_MAX; err = kv_iter_prev(it))
		;
	kv_iter_close(it);
}

static void use_engine(struct os_env *env)
{
	struct kv_options o = {.cache_bytes = CACHE_BYTES, .env = env};
	struct kv_txn *txn;
	struct kv_db *db;
	struct kv_buf value = {0};

	if (kv_open(NAME, &o, &db) != 0)
		return;
	if (kv_txn_begin(db, NULL, &txn) == 0) {
		for (unsigned k = 1; k < 9; k++)
			scan(txn, k);
		kv_txn_abort(txn);
	}
	(void)!kv_get(db, 1, kv_slice_of("file8", 5), &value);
	(void)!kv_put(db, 1, kv_slice_of("file8", 5), kv_slice_of("x", 1), KV_COMMIT_SYNC);
	(void)!kv_flush(db);
	(void)!kv_compact(db, NULL);
	(void)!kv_close(db);
	kv_buf_free(&value);
}

static void use_files(struct os_env *env)
{
	struct kvfs_options o = {.kv = {.cache_bytes = CACHE_BYTES, .env = env}};
	struct kvfs_node *n;
	struct kvfs *fs;
	char name[32];
	struct kv_buf bytes = {0};

	if (kvfs_open(NAME, &o, &fs) != 0)
		return;
	for (unsigned i = 0; i < 40; i += 3) {
		snprintf(name, sizeof(name), "file%u", i);
		if (kvfs_lookup(fs, kvfs_root(fs), name, &n, NULL) != 0)
			continue;
		(void)!kvfs_read(fs, n, 0, 100000, &bytes);
		(void)!kvfs_write(fs, n, 100, kv_slice_of("new", 3), false);
		kvfs_node_forget(fs, n, 1);
		if (i % 2)
			(void)!kvfs_unlink(fs, kvfs_root(fs), name);
	}
	(void)!kvfs_close(fs);
	kv_buf_free(&bytes);
}

static void ignore(void *ctx, const struct kv_problem *p)
{
	bool *hopeless = ctx;

	FUZZ_CHECK(p->text && p->text[0]);
	if (!p->repaired)
		*hopeless = true;
}

static void ignore_file(void *ctx, const struct kvfs_problem *p)
{
	(void)ctx;
	FUZZ_CHECK(p->text && p->text[0]);
}

/* What a repair says it has mended is found whole afterwards, by both layers. */
static void repair(struct os_env *env)
{
	bool hopeless = false;
	struct kv_verify_options o = {.found = ignore, .ctx = &hopeless, .env = env};
	struct kvfs_check_options c = {.repair = true, .found = ignore_file, .env = env};
	struct kv_verify_result r;
	struct kvfs_check_result f;

	if (kv_repair(NAME, &o, &r) != 0 || hopeless)
		return;
	ok(kv_verify(NAME, &o, &r));
	FUZZ_CHECK(r.problems == 0);
	if (kvfs_check(NAME, &c, &f) != 0)
		return;
	c.repair = false;
	ok(kvfs_check(NAME, &c, &f));
	FUZZ_CHECK(f.problems == 0);
}

static void look(struct os_env *env)
{
	bool hopeless;
	struct kv_verify_options o = {.found = ignore, .ctx = &hopeless, .env = env};
	struct kvfs_check_options c = {.found = ignore_file, .env = env};
	struct kv_verify_result r;
	struct kvfs_check_result f;
	struct kv_db_info info;

	(void)!kv_probe(NAME, env, &info);
	(void)!kv_verify(NAME, &o, &r);
	(void)!kvfs_check(NAME, &c, &f);
}

/* ---- the input -------------------------------------------------------------- */

static uint64_t place(const struct base *b, const uint8_t *p)
{
	return b->places[be32_at(p) % b->place_count];
}

static void edit(struct sim_env *e, const struct base *b, const uint8_t *data, size_t len)
{
	uint8_t bytes[SIM_SECTOR];
	size_t at = 0;

	while (len - at >= 6) {
		const uint8_t *p = data + at;
		uint64_t off = place(b, p + 1);
		size_t n = p[5] % 16U + 1;

		at += 6;
		switch (p[0] % 4) {
		case 0: /* set */
			n = n < len - at ? n : len - at;
			n = n < b->size - off ? n : b->size - off;
			sim_env_poke(e, NAME, off, data + at, n);
			at += n;
			break;
		case 1: /* a sector is another's, near or far */
			off = off / SIM_SECTOR * SIM_SECTOR;
			sim_env_peek(e, NAME,
				     b->places[p[5] * 7919U % b->place_count] / SIM_SECTOR *
					     SIM_SECTOR,
				     bytes, sizeof(bytes));
			sim_env_poke(e, NAME, off, bytes, sizeof(bytes));
			break;
		case 2: /* zeros */
			memset(bytes, 0, sizeof(bytes));
			sim_env_poke(e, NAME, off / SIM_SECTOR * SIM_SECTOR, bytes, sizeof(bytes));
			break;
		default: /* a little more or less */
			sim_env_peek(e, NAME, off, bytes, 1);
			bytes[0] = (uint8_t)(bytes[0] + p[5] - 8);
			sim_env_poke(e, NAME, off, bytes, 1);
		}
	}
}

void fuzz_one(const uint8_t *data, size_t len)
{
	struct base *b;
	struct sim_env *e;

	if (len < 2)
		return;
	b = &bases[data[0] % BASES];
	if (!b->env)
		base_make(b, data[0] % BASES);
	e = sim_env_clone(b->env, 1);
	edit(e, b, data + 2, len - 2);
	switch (data[1] % 4) {
	case 0:
		use_engine(sim_env_os(e));
		break;
	case 1:
		use_files(sim_env_os(e));
		break;
	case 2:
		repair(sim_env_os(e));
		break;
	default:
		look(sim_env_os(e));
	}
	sim_env_free(e);
}

size_t fuzz_seed(unsigned n, uint8_t *out, size_t cap)
{
	FUZZ_CHECK(cap >= 32);
	if (n >= BASES * 4 * 4)
		return 0;
	memset(out, 0, 32);
	out[0] = (uint8_t)(n % BASES);
	out[1] = (uint8_t)(n / BASES % 4);
	out[2] = (uint8_t)(n / BASES / 4);
	be32_put(out + 3, n * 2654435761U);
	out[7] = 3;
	return n % 3 ? 14 : 32;
}
