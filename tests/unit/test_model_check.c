/* SPDX-License-Identifier: MIT */
/*
 * The checker: every kind of damage is planted through the engine, found under
 * its number, mended, and then gone. Random damage must end in a volume without
 * a problem too, and never in a crash of whoever reads it.
 */
#include "fusefs/model/chunk.h"
#include "tests/support/model_fixture.h"

static struct model_fixture m;
static uint8_t big[200000];
static uint64_t id_file, id_big, id_linked, id_dir;

struct findings {
	unsigned count[300];
	unsigned total;
	bool print;
};

static void found(void *ctx, const struct kvfs_problem *p)
{
	struct findings *f = ctx;

	ck_assert_uint_lt((unsigned)p->id, 300);
	ck_assert_uint_gt(strlen(p->text), 0);
	f->count[p->id]++;
	f->total++;
	if (f->print)
		model_print_problem(NULL, p);
}

static uint64_t ino_and_forget(struct kvfs_node *n)
{
	uint64_t ino = kvfs_node_ino(n);

	model_forget(&m, n);
	return ino;
}

/* A tree with something of everything. */
static void setup(void)
{
	struct kvfs_node *d, *e, *f, *l;

	model_make(&m);
	memset(big, 'b', sizeof(big));
	d = model_mkdir(&m, m.root, "dir");
	e = model_mkdir(&m, d, "sub");
	id_file = ino_and_forget(model_mkfile(&m, e, "file", test_str("content")));
	f = model_mkfile(&m, d, "big", kv_slice_of(big, sizeof(big)));
	ok(kvfs_write(m.fs, f, 100, test_str("patch"), false));
	ok(kvfs_setxattr(m.fs, f, "user.far", kv_slice_of(big, 3000), 0));
	id_big = ino_and_forget(f);
	f = model_mkfile(&m, d, "one", test_str("linked"));
	ok(kvfs_link(m.fs, f, m.root, "two", &l, NULL));
	model_forget(&m, l);
	id_linked = ino_and_forget(f);
	ok(kvfs_symlink(m.fs, d, "sym", "target", &model_owner, NULL, NULL));
	model_forget(&m, e);
	e = model_mkdir(&m, m.root, "wandered");
	model_forget(&m, model_mkfile(&m, e, "inside", test_str("x")));
	ok(kvfs_rename(m.fs, m.root, "wandered", d, "here", 0));
	id_dir = ino_and_forget(e);
	model_forget(&m, d);
}

static void teardown(void)
{
	model_free(&m);
}

static struct kv_db *db(void)
{
	return kvfs_db(m.fs);
}

static void check(bool repair, struct findings *f, struct kvfs_check_result *r)
{
	struct kvfs_check_options o = {.repair = repair, .found = found, .ctx = f};

	o.env = sim_env_os(m.env);
	ok(kvfs_check(MODEL_VOLUME, &o, r));
}

/* The damage planted is found as @id, mended, and not found again. */
static void expect(enum kvfs_problem_id id)
{
	struct findings f = {0}, g = {.print = true}, h = {.print = true};
	struct kvfs_check_result r;

	model_close(&m);
	check(false, &f, &r);
	ck_assert_uint_ge(f.count[id], 1);
	ck_assert_uint_ge(r.problems, 1);
	ck_assert_uint_eq(r.repaired, 0);
	check(true, &g, &r);
	ck_assert_uint_eq(r.problems, f.total);
	ck_assert_uint_eq(r.repaired, r.problems);
	check(false, &h, &r);
	ck_assert_uint_eq(r.problems, 0);
	model_open(&m);
}

static void expect_none(void)
{
	struct findings f = {.print = true};
	struct kvfs_check_result r;

	model_close(&m);
	check(false, &f, &r);
	ck_assert_uint_eq(r.problems, 0);
	model_open(&m);
}

static void name_key(const char *path, size_t len, struct model_key *key)
{
	key->keyspace = MODEL_NAMES;
	key->len = len;
	memcpy(key->b, path, len);
}

static void load(const struct model_key *key, struct inode_buf *b)
{
	ok(kv_get(db(), key->keyspace, model_key_slice(key), &b->raw));
	ok(inode_decode(kv_buf_slice(&b->raw), &b->r));
}

static void store(const struct model_key *key, const struct inode *r)
{
	uint8_t raw[MODEL_RECORD_MAX];

	ok(kv_put(db(), key->keyspace, model_key_slice(key), kv_slice_of(raw, inode_encode(r, raw)),
		  0));
}

static void drop(const struct model_key *key)
{
	ok(kv_delete(db(), key->keyspace, model_key_slice(key), 0));
}

static const char path_file[] = "dir\0sub\0file";
static const char path_big[] = "dir\0big";
static const char path_here[] = "dir\0here";
#define KEY(path, key) name_key(path, sizeof(path) - 1, key)

START_TEST(test_a_sound_volume_has_no_problem_and_is_counted)
{
	struct findings f = {.print = true};
	struct kvfs_check_result r;

	model_close(&m);
	check(false, &f, &r);
	ck_assert_uint_eq(f.total, 0);
	ck_assert_uint_eq(r.directories, 4);
	ck_assert_uint_eq(r.files, 4);
	ck_assert_uint_eq(r.symlinks, 1);
	ck_assert_uint_eq(r.links, 2);
	ck_assert_uint_eq(r.chunks, 4);
	ck_assert_uint_eq(r.bytes, 7 + 200000 + 6 + 1);
}
END_TEST

START_TEST(test_records_that_cannot_be_decoded)
{
	struct model_key key;

	KEY(path_file, &key);
	ok(kv_put(db(), MODEL_NAMES, model_key_slice(&key), test_str("garbage"), 0));
	ok(kv_put(db(), MODEL_INODES, test_str("odd"), test_str("garbage"), 0));
	expect(KVFS_PROBLEM_RECORD);
}
END_TEST

START_TEST(test_keys_without_a_directory_are_reconnected)
{
	struct model_key key;
	struct kvfs_node *lost, *d;
	char *list;

	name_key("dir\0sub", 7, &key);
	drop(&key);
	expect(KVFS_PROBLEM_NO_PARENT);
	lost = model_lookup(&m, m.root, "lost+found");
	list = model_list(&m, lost);
	*strrchr(list, ' ') = 0;
	d = model_lookup(&m, lost, strrchr(list, ' ') + 1);
	model_expect_list(&m, d, ". .. file ");
	free(list);
	model_forget(&m, d);
	model_forget(&m, lost);
}
END_TEST

START_TEST(test_a_lost_tree_is_reconnected_whole)
{
	struct model_key key;

	name_key("dir", 3, &key);
	drop(&key);
	expect(KVFS_PROBLEM_NO_PARENT);
}
END_TEST

START_TEST(test_directories_in_a_circle_are_cut_loose)
{
	struct inode_buf rec = {0};
	struct model_key key, to;

	/* dir moves below its own subdirectory, and keeps its prefix */
	name_key("dir", 3, &key);
	load(&key, &rec);
	rec.r.prefix = kv_slice_of("dir\0", 4);
	rec.r.flags |= MODEL_FLAG_PREFIX;
	name_key("dir\0sub\0dir", 11, &to);
	store(&to, &rec.r);
	drop(&key);
	inode_buf_free(&rec);
	expect(KVFS_PROBLEM_NO_PARENT);
}
END_TEST

START_TEST(test_link_counts)
{
	struct inode_buf rec = {0};
	struct model_key key;

	KEY(path_file, &key);
	load(&key, &rec);
	rec.r.nlink = 2;
	store(&key, &rec.r);
	place_id(MODEL_INODES, id_linked, &key);
	load(&key, &rec);
	rec.r.nlink = 3;
	store(&key, &rec.r);
	name_key("dir", 3, &key);
	load(&key, &rec);
	rec.r.nlink = 17;
	store(&key, &rec.r);
	place_meta("root", &key);
	load(&key, &rec);
	rec.r.nlink = 2;
	store(&key, &rec.r);
	inode_buf_free(&rec);
	expect(KVFS_PROBLEM_LINK_COUNT);
	ck_assert_uint_eq(model_attr(&m, m.root).nlink, 3);
}
END_TEST

START_TEST(test_names_of_no_file)
{
	struct model_key key;

	place_id(MODEL_INODES, id_linked, &key);
	drop(&key);
	expect(KVFS_PROBLEM_DANGLING_LINK);
	ck_assert(!model_exists(&m, m.root, "two"));
}
END_TEST

START_TEST(test_two_directories_with_one_prefix)
{
	struct inode_buf rec = {0};
	struct model_key key;

	KEY(path_here, &key);
	load(&key, &rec);
	rec.r.prefix = kv_slice_of("dir\0sub\0", 8);
	store(&key, &rec.r);
	inode_buf_free(&rec);
	expect(KVFS_PROBLEM_PREFIX_TWICE);
}
END_TEST

START_TEST(test_prefix_records_that_do_not_match)
{
	uint8_t id[8] = {0};

	ok(kv_delete(db(), MODEL_PREFIXES, kv_slice_of("wandered\0", 9), 0));
	expect(KVFS_PROBLEM_PREFIX_RECORD);
	ok(kv_put(db(), MODEL_PREFIXES, kv_slice_of("nobody\0", 7), kv_slice_of(id, 8), 0));
	expect(KVFS_PROBLEM_PREFIX_RECORD);
	ok(kv_put(db(), MODEL_PREFIXES, kv_slice_of("wandered\0", 9), kv_slice_of(id, 8), 0));
	expect(KVFS_PROBLEM_PREFIX_RECORD);
	ok(kv_put(db(), MODEL_PREFIXES, kv_slice_of("dir\0", 4), kv_slice_of(id, 8), 0));
	expect(KVFS_PROBLEM_PREFIX_RECORD);
}
END_TEST

START_TEST(test_chunks_outside_their_file)
{
	struct kvfs_node *d, *f;
	struct model_key key;

	chunk_key(id_big, 77, 0, &key);
	ok(kv_put(db(), MODEL_DATA, model_key_slice(&key), test_str("beyond"), 0));
	chunk_key(id_big, 3, 0, &key); /* 200000 is within it */
	ok(kv_put(db(), MODEL_DATA, model_key_slice(&key), kv_slice_of(big, 65536), 0));
	chunk_key(id_big, 1, 5, &key);
	ok(kv_put(db(), MODEL_DATA, model_key_slice(&key), test_str("short"), 0));
	ok(kv_put(db(), MODEL_DATA, test_str("malformed"), test_str("x"), 0));
	expect(KVFS_PROBLEM_CHUNK_RANGE);
	memcpy(big + 100, "patch", 5);
	d = model_lookup(&m, m.root, "dir");
	f = model_lookup(&m, d, "big");
	model_expect(&m, f, kv_slice_of(big, sizeof(big)));
	model_forget(&m, f);
	model_forget(&m, d);
}
END_TEST

START_TEST(test_chunks_and_attributes_of_no_file)
{
	struct model_key key;

	chunk_key(3, 0, 0, &key);
	ok(kv_put(db(), MODEL_DATA, model_key_slice(&key), test_str("x"), 0));
	chunk_key(0, 0, 0, &key);
	ok(kv_put(db(), MODEL_DATA, model_key_slice(&key), test_str("x"), 0));
	chunk_key(id_file, 0, 0, &key); /* its contents are in the record */
	ok(kv_put(db(), MODEL_DATA, model_key_slice(&key), test_str("x"), 0));
	expect(KVFS_PROBLEM_CHUNK_NO_FILE);
	ok(kv_put(db(), MODEL_XATTRS, kv_slice_of("\0\0\0\0\0\0\0\1", 8), test_str("x"), 0));
	ok(kv_put(db(), MODEL_XATTRS, kv_slice_of("\0\0\0\0\0\0\1\1user.x", 14), test_str("x"), 0));
	expect(KVFS_PROBLEM_XATTR_NO_FILE);
}
END_TEST

/* A second name for the chunks of /dir/big, which knows of no other user. */
static void share_big(uint8_t sharing)
{
	struct inode_buf rec = {0};
	struct model_key key;

	KEY(path_big, &key);
	load(&key, &rec);
	rec.r.sharing = sharing;
	store(&key, &rec.r);
	inode_set_content(&rec.r, id_big, 0);
	rec.r.id = id_big + 1000; /* reserved, and not given out */
	inode_set_content(&rec.r, id_big, sharing);
	name_key("shares", 6, &key);
	store(&key, &rec.r);
	inode_buf_free(&rec);
}

START_TEST(test_contents_with_several_users)
{
	struct le64 users = le64_of(2);
	struct model_key key;

	place_id(MODEL_SHARED, id_big, &key);
	share_big(0);
	expect(KVFS_PROBLEM_CONTENT_USERS);
	share_big(MODEL_CONTENT_SHARED);
	ok(kv_put(db(), key.keyspace, model_key_slice(&key), kv_slice_of(&users, 8), 0));
	expect_none();
	users = le64_of(3);
	ok(kv_put(db(), key.keyspace, model_key_slice(&key), kv_slice_of(&users, 8), 0));
	expect(KVFS_PROBLEM_CONTENT_USERS);
	ok(kv_put(db(), key.keyspace, model_key_slice(&key), test_str("strange"), 0));
	expect(KVFS_PROBLEM_CONTENT_USERS);
	place_id(MODEL_SHARED, 12345678, &key); /* nobody's */
	ok(kv_put(db(), key.keyspace, model_key_slice(&key), kv_slice_of(&users, 8), 0));
	expect(KVFS_PROBLEM_CONTENT_USERS);
	ok(kv_put(db(), key.keyspace, test_str("strange"), test_str("x"), 0));
	expect(KVFS_PROBLEM_CONTENT_USERS);
}
END_TEST

START_TEST(test_two_files_with_one_id)
{
	struct inode_buf rec = {0};
	struct model_key key;
	struct kvfs_node *f;

	KEY(path_file, &key);
	load(&key, &rec);
	name_key("copy", 4, &key);
	store(&key, &rec.r);
	KEY(path_big, &key);
	load(&key, &rec);
	name_key("bigcopy", 7, &key);
	store(&key, &rec.r);
	KEY(path_here, &key);
	load(&key, &rec);
	rec.r.id = id_big;
	store(&key, &rec.r);
	inode_buf_free(&rec);
	expect(KVFS_PROBLEM_ID_TWICE);
	f = model_lookup(&m, m.root, "bigcopy");
	memcpy(big + 100, "patch", 5);
	model_expect(&m, f, kv_slice_of(big, sizeof(big)));
	model_forget(&m, f);
	f = model_lookup(&m, m.root, "copy");
	model_expect(&m, f, test_str("content"));
	model_forget(&m, f);
}
END_TEST

START_TEST(test_orphans_are_reported_but_no_problem)
{
	struct findings f = {0}, g = {0}, h = {0};
	struct kvfs_check_result r;
	struct inode_buf rec = {0};
	struct model_key key;

	KEY(path_big, &key);
	load(&key, &rec);
	drop(&key);
	rec.r.nlink = 0;
	place_id(MODEL_ORPHANS, id_big, &key);
	store(&key, &rec.r);
	inode_buf_free(&rec);
	ok(kvfs_set_readonly(m.fs, true)); /* so that closing does not sweep */
	model_close(&m);
	check(false, &f, &r);
	ck_assert_uint_eq(f.count[KVFS_PROBLEM_ORPHAN], 1);
	ck_assert_uint_eq(r.problems, 0);
	check(true, &g, &r);
	check(false, &h, &r);
	ck_assert_uint_eq(h.total, 0);
	ck_assert_uint_eq(r.chunks, 0);
}
END_TEST

START_TEST(test_linked_files_without_a_name_get_one)
{
	struct model_key key;

	name_key("two", 3, &key);
	drop(&key);
	name_key("dir\0one", 7, &key);
	drop(&key);
	expect(KVFS_PROBLEM_INODE_NO_NAME);
	ck_assert(model_exists(&m, m.root, "lost+found"));
}
END_TEST

START_TEST(test_ids_beyond_the_next_free_one)
{
	struct le64 next = le64_of(20);
	struct model_key key;

	place_meta("next_id", &key);
	ok(kv_put(db(), MODEL_META, model_key_slice(&key), kv_slice_of(&next, 8), 0));
	id_dir = id_dir > 20 ? id_dir : 20;
	/* The ids of this volume begin at 16, so some are beyond. */
	expect(KVFS_PROBLEM_ID_RESERVED);
	model_forget(&m, model_mkfile(&m, m.root, "fresh", test_str("x")));
	drop(&key);
	expect(KVFS_PROBLEM_ID_RESERVED);
}
END_TEST

START_TEST(test_counts_of_chunks)
{
	struct inode_buf rec = {0};
	struct model_key key;

	KEY(path_big, &key);
	load(&key, &rec);
	rec.r.chunks = 2;
	store(&key, &rec.r);
	expect(KVFS_PROBLEM_BLOCK_COUNT);
	chunk_key(id_big, 2, 0, &key);
	drop(&key);
	expect(KVFS_PROBLEM_BLOCK_COUNT);
	KEY(path_file, &key);
	load(&key, &rec);
	rec.r.flags |= MODEL_FLAG_CHUNKS;
	rec.r.contents.len = 0;
	rec.r.chunks = 1;
	store(&key, &rec.r);
	inode_buf_free(&rec);
	expect(KVFS_PROBLEM_BLOCK_COUNT);
}
END_TEST

START_TEST(test_a_damaged_root_is_made_anew)
{
	struct model_key key;
	struct findings f = {0};
	struct kvfs_check_result r;

	place_meta("root", &key);
	drop(&key);
	model_close(&m);
	fails(kvfs_open(MODEL_VOLUME, &m.options, &m.fs), -KV_E_NOT_A_VOLUME);
	m.fs = NULL;
	check(true, &f, &r);
	ck_assert_uint_eq(f.count[KVFS_PROBLEM_ROOT], 1);
	check(false, &f, &r);
	ck_assert_uint_eq(r.problems, 0);
	model_open(&m);
	ck_assert(model_exists(&m, m.root, "dir"));
}
END_TEST

static int interrupt(void *ctx, uint64_t done, uint64_t total)
{
	(void)done;
	(void)total;
	++*(unsigned *)ctx;
	return 1;
}

START_TEST(test_a_check_can_be_interrupted)
{
	unsigned calls = 0;
	struct kv_progress p = {interrupt, &calls};
	struct kvfs_check_options o = {.progress = &p};
	struct kvfs_check_result r;
	char key[32];

	for (unsigned i = 0; i < 5000; i++) {
		snprintf(key, sizeof(key), "many/%u", i);
		ok(kvfs_key_put(m.fs, test_str(key), test_str("x"), NULL));
	}
	model_close(&m);
	o.env = sim_env_os(m.env);
	fails(kvfs_check(MODEL_VOLUME, &o, &r), -KV_E_INTERRUPTED);
	ck_assert_uint_eq(calls, 1);
}
END_TEST

/* ---- random damage ---- */

static int ignore_key(void *ctx, struct kv_slice key, struct kv_slice value)
{
	(void)ctx;
	(void)key;
	(void)value;
	return 0;
}

static int descend(void *ctx, const struct kvfs_dirent *e)
{
	struct kv_buf *nodes = ctx;

	if (e->node && !buf_append(nodes, &e->node, sizeof(e->node)))
		return 0;
	return e->node ? 1 : 0;
}

/* Read everything that can be reached, whatever the result. */
static void use(struct kvfs_node *node, unsigned depth)
{
	struct kv_buf nodes = {0}, data = {0};
	struct kvfs_dir *dir;
	struct kvfs_node *child;

	(void)!kvfs_read(m.fs, node, 0, 300000, &data);
	(void)!kvfs_listxattr(m.fs, node, &data);
	(void)!kvfs_readlink(m.fs, node, &data);
	kv_buf_free(&data);
	if (depth < 8 && !kvfs_dir_open(m.fs, node, &dir)) {
		(void)!kvfs_dir_read(dir, 0, true, descend, &nodes);
		kvfs_dir_close(dir);
	}
	for (size_t off = 0; off < nodes.len; off += sizeof(child)) {
		memcpy(&child, nodes.data + off, sizeof(child));
		use(child, depth + 1);
		(void)!kvfs_write(m.fs, child, 150000, test_str("x"), false);
		model_forget(&m, child);
	}
	kv_buf_free(&nodes);
}

static bool random_entry(struct test_rng *rng, unsigned keyspace, struct kv_buf *key,
			 struct kv_buf *value)
{
	struct kv_txn_options o = {.flags = KV_TXN_RDONLY};
	unsigned count = model_count_keys(&m, keyspace), n;
	struct kv_slice v;
	struct kv_iter *it;
	struct kv_txn *txn;

	if (!count)
		return false;
	n = (unsigned)test_rng_below(rng, count);
	ok(kv_txn_begin(db(), &o, &txn));
	ok(kv_iter_open(txn, keyspace, NULL, &it));
	ok(kv_iter_first(it));
	while (n--)
		ok(kv_iter_next(it));
	ok(buf_assign(key, kv_iter_key(it)));
	ok(kv_iter_value(it, &v));
	ok(buf_assign(value, v));
	kv_iter_close(it);
	kv_txn_abort(txn);
	return true;
}

static void damage(struct test_rng *rng)
{
	static const unsigned keyspaces[] = {MODEL_NAMES,    MODEL_NAMES, MODEL_NAMES,
					     MODEL_INODES,   MODEL_DATA,  MODEL_XATTRS,
					     MODEL_PREFIXES, MODEL_META};
	unsigned keyspace = keyspaces[test_rng_below(rng, 8)];
	struct kv_buf key = {0}, value = {0}, *hit;

	if (!random_entry(rng, keyspace, &key, &value))
		return;
	switch (keyspace == MODEL_META ? 2 : test_rng_below(rng, 4)) {
	case 0:
		ok(kv_delete(db(), keyspace, kv_buf_slice(&key), 0));
		break;
	case 1: /* to another key */
		ok(kv_delete(db(), keyspace, kv_buf_slice(&key), 0));
		__attribute__((fallthrough));
	case 2:
		hit = test_rng_below(rng, 2) && keyspace != MODEL_META ? &key : &value;
		if (hit->len)
			hit->data[test_rng_below(rng, hit->len)] ^=
				(uint8_t)(1U << test_rng_below(rng, 8));
		ok(kv_put(db(), keyspace, kv_buf_slice(&key), kv_buf_slice(&value), 0));
		break;
	default:
		value.len = value.len ? test_rng_below(rng, value.len) : 0;
		ok(kv_put(db(), keyspace, kv_buf_slice(&key), kv_buf_slice(&value), 0));
		break;
	}
	kv_buf_free(&key);
	kv_buf_free(&value);
}

START_TEST(test_random_damage_is_mended_in_one_run)
{
	struct test_rng rng = test_rng_seeded(__func__);
	const char *rounds_env = getenv("KVFS_TEST_ROUNDS");
	unsigned rounds = rounds_env ? (unsigned)atoi(rounds_env) : 60;
	struct kvfs_scan all = {.keys_only = false};

	for (unsigned round = 0; round < rounds; round++) {
		struct findings f = {0}, g = {.print = true};
		struct kvfs_check_options o = {.repair = true, .found = found, .ctx = &f};
		struct kvfs_check_result r;
		int err;

		for (unsigned i = 1 + (unsigned)test_rng_below(&rng, 4); i; i--)
			damage(&rng);
		use(m.root, 0);
		(void)!kvfs_key_scan(m.fs, &all, ignore_key, NULL);
		(void)!kvfs_close(m.fs);
		m.fs = NULL;
		o.env = sim_env_os(m.env);
		err = kvfs_check(MODEL_VOLUME, &o, &r);
		if (err == -KV_E_CORRUPT || err == -KV_E_VERSION) { /* its format key is hit */
			teardown();
			setup();
			continue;
		}
		ok(err);
		check(false, &g, &r);
		ck_assert_uint_eq(r.problems, 0);
		model_open(&m);
		use(m.root, 0);
		err = kvfs_key_scan(m.fs, &all, ignore_key, NULL);
		ck_assert(!err || err == -KV_E_TOO_BIG); /* a size may have grown */
		if (round % 5 == 4) {
			teardown();
			setup();
		}
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_sound_volume_has_no_problem_and_is_counted,
		test_records_that_cannot_be_decoded,
		test_keys_without_a_directory_are_reconnected,
		test_a_lost_tree_is_reconnected_whole,
		test_directories_in_a_circle_are_cut_loose,
		test_link_counts,
		test_names_of_no_file,
		test_two_directories_with_one_prefix,
		test_prefix_records_that_do_not_match,
		test_chunks_outside_their_file,
		test_chunks_and_attributes_of_no_file,
		test_contents_with_several_users,
		test_two_files_with_one_id,
		test_orphans_are_reported_but_no_problem,
		test_linked_files_without_a_name_get_one,
		test_ids_beyond_the_next_free_one,
		test_counts_of_chunks,
		test_a_damaged_root_is_made_anew,
		test_a_check_can_be_interrupted,
		test_random_damage_is_mended_in_one_run,
	};

	return test_suite_run_with("model_check", tests, KV_ARRAY_COUNT(tests), 120, setup,
				   teardown);
}
