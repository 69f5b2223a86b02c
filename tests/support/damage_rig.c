/* SPDX-License-Identifier: MIT */
/*
 * The volume: directories, one of them renamed, small and large files with holes and patches,
 * further names, attributes beside and within records, two snapshots, tables on two levels and
 * overlapping ones, and a log of operations that were each synced.
 *
 * A damaged last frame cannot be told from one that a power loss tore, so the state before the last
 * one may come without notice (docs/format.md, section 4.1).
 */
#include "tests/support/damage_rig.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fusefs/model/kvfs_damage.h"
#include "fusefs/model/model_format.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/manifest_store.h"
#include "kvcore/wal/wal_reader.h"

#define ok(expr)    ck_assert_int_eq((expr), 0)
#define CACHE_BYTES (8U << 20)
#define NOTES_MAX   256U
#define PRINTED_MAX 40U

static const char *const snapshots[] = {"one", "two", NULL};
static const struct kvfs_owner owner = {1000, 100, 022};

/* ---- the volume ---------------------------------------------------------- */

struct making {
	struct damage_rig *r;
	struct kvfs *fs;
};

/* One operation is done. */
static void done(struct making *m)
{
	ck_assert_uint_lt(m->r->count, DAMAGE_STATES);
	tree_picture_take(m->fs, snapshots, &m->r->states[m->r->count++]);
}

static struct kvfs_node *node(struct making *m, const char *path)
{
	struct kvfs_node *n = kvfs_root(m->fs);
	char copy[256];

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *save, *name = strtok_r(copy, "/", &save); name;
	     name = strtok_r(NULL, "/", &save)) {
		struct kvfs_node *up = n;

		ok(kvfs_lookup(m->fs, up, name, &n, NULL));
		if (up != kvfs_root(m->fs))
			kvfs_node_forget(m->fs, up, 1);
	}
	return n;
}

static void forget(struct making *m, struct kvfs_node *n)
{
	if (n != kvfs_root(m->fs))
		kvfs_node_forget(m->fs, n, 1);
}

static struct kvfs_node *make(struct making *m, const char *dir, const char *name, mode_t mode)
{
	struct kvfs_node *d = node(m, dir);
	struct kvfs_node *n;

	if (S_ISDIR(mode))
		ok(kvfs_mkdir(m->fs, d, name, mode & 07777, &owner, &n, NULL));
	else if (S_ISLNK(mode))
		ok(kvfs_symlink(m->fs, d, name, "where/it/points", &owner, &n, NULL));
	else
		ok(kvfs_mknod(m->fs, d, name, mode, 0, &owner, &n, NULL));
	forget(m, d);
	return n;
}

/* @dense: of 256, how many bytes are random. */
static void write_at(struct making *m, struct kvfs_node *n, uint64_t off, size_t len, unsigned seed,
		     unsigned dense)
{
	uint8_t *data = malloc(len + 1);
	uint64_t x = seed * 2654435761U + 1;

	ck_assert_ptr_nonnull(data);
	for (size_t i = 0; i < len; i++) {
		x = x * 6364136223846793005U + 1442695040888963407U;
		data[i] = (uint8_t)(x >> 32 & 255) < dense ? (uint8_t)(x >> 56) : (uint8_t)seed;
	}
	ok(kvfs_write(m->fs, n, off, kv_slice_of(data, len), false));
	free(data);
}

static void file(struct making *m, const char *dir, const char *name, size_t len, unsigned seed,
		 unsigned dense)
{
	struct kvfs_node *n = make(m, dir, name, S_IFREG | 0640);

	write_at(m, n, 0, len, seed, dense);
	forget(m, n);
}

static void names(struct making *m, const char *dir, unsigned from, unsigned to)
{
	char name[32];

	for (unsigned i = from; i < to; i++) {
		snprintf(name, sizeof(name), "small%02u", i);
		file(m, dir, name, 10 + i * 3, i, 200);
	}
}

static void first_age(struct making *m)
{
	uint8_t bytes[3000];
	struct kvfs_node *n, *d;

	memset(bytes, 'x', sizeof(bytes));
	forget(m, make(m, "", "dir", S_IFDIR | 0755));
	forget(m, make(m, "dir", "deep", S_IFDIR | 0700));
	names(m, "dir", 0, 12);
	names(m, "dir/deep", 12, 16);
	file(m, "", "large", 70000, 3, 3);
	file(m, "", "dense", 5000, 4, 256);
	n = make(m, "dir", "holes", S_IFREG | 0600);
	write_at(m, n, 200000, 300, 5, 100);
	write_at(m, n, 10, 4200, 6, 20);
	write_at(m, n, 100, 50, 7, 100);
	forget(m, n);
	forget(m, make(m, "", "pointer", S_IFLNK | 0777));
	n = node(m, "dir/small03");
	d = node(m, "");
	ok(kvfs_link(m->fs, n, d, "second", NULL, NULL));
	ok(kvfs_setxattr(m->fs, n, "user.short", kv_slice_of("value", 5), 0));
	ok(kvfs_setxattr(m->fs, n, "user.long", kv_slice_of(bytes, sizeof(bytes)), 0));
	forget(m, n);
}

static void rename_in_root(struct making *m, const char *from, const char *to)
{
	ok(kvfs_rename(m->fs, kvfs_root(m->fs), from, kvfs_root(m->fs), to, 0));
}

static void second_age(struct making *m)
{
	struct kvfs_node *n;

	n = node(m, "large");
	write_at(m, n, 66000, 100, 9, 250);
	done(m);
	write_at(m, n, 0, 4000, 10, 250);
	done(m);
	forget(m, n);
	ok(kv_flush(kvfs_db(m->fs)));
	rename_in_root(m, "dir", "moved");
	done(m);
	ok(kvfs_unlink(m->fs, kvfs_root(m->fs), "dense"));
	done(m);
	ok(kvfs_snapshot_create(m->fs, "two"));
	done(m);
	ok(kv_flush(kvfs_db(m->fs)));
	forget(m, make(m, "moved", "fresh", S_IFDIR | 0711));
	done(m);
	n = make(m, "moved/fresh", "file", S_IFREG | 0600);
	done(m);
	write_at(m, n, 0, 4500, 11, 256);
	done(m);
	forget(m, n);
	ok(kv_flush(kvfs_db(m->fs)));
}

/* Each is durable before the next. */
static void log_tail(struct making *m)
{
	struct kvfs_node *n = node(m, "second");

	ok(kvfs_sync(m->fs));
	for (unsigned i = 0; i < 3; i++) {
		write_at(m, n, i * 1500, 900 + i * 2000, 20 + i, 256);
		ok(kvfs_sync(m->fs));
		done(m);
	}
	forget(m, n);
	rename_in_root(m, "pointer", "arrow");
	ok(kvfs_sync(m->fs));
	done(m);
	forget(m, make(m, "", "last", S_IFREG | 0600));
	ok(kvfs_sync(m->fs));
	done(m);
}

static void use(struct damage_rig *r, uint64_t off, uint64_t len)
{
	for (uint64_t s = off / SIM_SECTOR; s < (off + len + SIM_SECTOR - 1) / SIM_SECTOR; s++)
		r->used[s] = true;
}

/* What the log alone refers to lies behind what the manifest says is used. */
static void use_segment(struct damage_rig *r, struct extent e)
{
	static const uint8_t zeros[SIM_SECTOR];
	uint8_t sector[SIM_SECTOR];

	for (uint64_t off = e.off; off < e.off + e.len; off += SIM_SECTOR) {
		sim_env_peek(r->now, DAMAGE_VOLUME, off, sector, sizeof(sector));
		if (memcmp(sector, zeros, sizeof(zeros)) != 0)
			use(r, off, SIM_SECTOR);
	}
}

static void use_log(struct damage_rig *r, struct os_volume *volume, const struct manifest_loaded *l)
{
	struct wal_options o = {.volume = volume,
				.checksum = l->checksum,
				.log_off = FORMAT_LOG_OFF,
				.log_size = l->sb.log_size};
	const struct wal_fence fence = {l->manifest.log_fence, l->manifest.log_epoch};
	struct wal_position start = {.lsn = l->manifest.log_lsn};
	struct wal_reader *reader;
	struct wal_frame f;

	memcpy(o.uuid, l->sb.uuid, KV_UUID_LEN);
	memcpy(start.prev_sum, l->manifest.log_prev_sum, CHECKSUM_LEN);
	ok(wal_reader_open(&o, &start, &fence, false, &reader));
	while (!wal_reader_next(reader, &f))
		use(r, FORMAT_LOG_OFF + f.lsn % o.log_size, f.end - f.lsn);
	wal_reader_close(reader);
}

/* What the volume refers to. */
static void find_used(struct damage_rig *r)
{
	struct os_env *env = sim_env_os(r->now);
	struct manifest_loaded l;
	struct os_volume *volume;
	struct checksum *sha256;

	r->size = sim_env_size(r->now, DAMAGE_VOLUME);
	r->used = calloc(r->size / SIM_SECTOR + 1, sizeof(*r->used));
	ck_assert_ptr_nonnull(r->used);
	ok(checksum_new(CHECKSUM_SHA256, &sha256));
	ok(env->ops->volume_open(env, DAMAGE_VOLUME, OS_OPEN_RDONLY, 0, &volume, NULL));
	ok(manifest_store_load(volume, sha256, &l));
	for (unsigned i = 0; i < SUPERBLOCK_COPIES; i++)
		use(r, (uint64_t)i * SUPERBLOCK_STRIDE, FORMAT_BLOCK);
	use(r, MANIFEST_COPY_OFF + l.sb.generation % 2 * SUPERBLOCK_STRIDE,
	    FORMAT_BLOCK + l.sb.manifest_len);
	for (unsigned i = 0; i < l.sb.manifest_extent_count; i++)
		use(r, l.sb.manifest_extents[i].off, l.sb.manifest_extents[i].len);
	for (size_t t = 0; t < l.manifest.table_count; t++) {
		for (uint32_t i = 0; i < l.manifest.tables[t].extent_count; i++)
			use(r, l.manifest.tables[t].extents[i].off,
			    l.manifest.tables[t].extents[i].len);
	}
	for (size_t s = 0; s < l.manifest.segment_count; s++)
		use_segment(r, l.manifest.segments[s].extent);
	use_log(r, volume, &l);
	manifest_loaded_fini(&l);
	checksum_free(sha256);
	ok(volume->ops->close(volume));
}

void damage_rig_make(struct damage_rig *r)
{
	struct sim_env *e = sim_env_new(1);
	struct kv_create_options create = {.log_size_bytes = 1U << 20,
					   .size_bytes = KV_VOLUME_MIN_BYTES,
					   .label = "damaged",
					   .env = sim_env_os(e)};
	struct kvfs_options options = {.atime = KVFS_NOATIME,
				       .kv = {.cache_bytes = CACHE_BYTES, .env = sim_env_os(e)}};
	struct making m = {.r = r};

	ok(kvfs_mkfs(DAMAGE_VOLUME, &create, &owner));
	ok(kvfs_open(DAMAGE_VOLUME, &options, &m.fs));
	first_age(&m);
	ok(kv_flush(kvfs_db(m.fs)));
	ok(kv_compact(kvfs_db(m.fs), NULL));
	ok(kvfs_snapshot_create(m.fs, "one"));
	done(&m);
	ok(kvfs_close(m.fs));
	r->old = sim_env_clone(e, 2);
	ok(kvfs_open(DAMAGE_VOLUME, &options, &m.fs));
	second_age(&m);
	log_tail(&m);
	r->now = sim_env_clone(e, 3);
	ok(kvfs_close(m.fs));
	sim_env_free(e);
	find_used(r);
}

void damage_rig_free(struct damage_rig *r)
{
	for (unsigned i = 0; i < r->count; i++)
		tree_picture_free(&r->states[i]);
	sim_env_free(r->old);
	sim_env_free(r->now);
	free(r->used);
}

/* ---- what was reported ------------------------------------------------------ */

struct note {
	unsigned keyspace;
	struct kv_buf from, to;
	char *text; /* of a file; NULL: a range of keys */
};

struct notes {
	struct damage_rig *r;
	struct note note[NOTES_MAX];
	size_t count;
	bool any;
	char unrepaired[256]; /* text of a finding that could not be mended */
};

static void KV_PRINTF(2, 3) finding(struct damage_rig *r, const char *fmt, ...)
{
	va_list args;

	if (++r->findings > PRINTED_MAX)
		return;
	printf("FOUND: %s: ", r->step);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
}

static struct note *note_new(struct notes *n)
{
	ck_assert_uint_lt(n->count, NOTES_MAX);
	memset(&n->note[n->count], 0, sizeof(n->note[0]));
	return &n->note[n->count++];
}

static void note_engine(void *ctx, const struct kv_problem *p)
{
	struct notes *n = ctx;
	struct note *note;

	n->any = true;
	if (!p->repaired && !n->unrepaired[0])
		snprintf(n->unrepaired, sizeof(n->unrepaired), "%d %s", (int)p->id, p->text);
	if ((p->id != KV_PROBLEM_TABLE_PAGE && p->id != KV_PROBLEM_VALUE &&
	     p->id != KV_PROBLEM_VALUE_DANGLING && p->id != KV_PROBLEM_LOG_HOLE) ||
	    !(p->keyspace + p->from.len + p->to.len))
		return;
	note = note_new(n);
	note->keyspace = p->keyspace;
	ok(buf_assign(&note->from, p->from));
	ok(buf_assign(&note->to, p->to));
}

static void note_file(void *ctx, const struct kvfs_problem *p)
{
	struct notes *n = ctx;

	n->any = true;
	if (!p->repaired && !n->unrepaired[0] && p->id != KVFS_PROBLEM_ORPHAN)
		snprintf(n->unrepaired, sizeof(n->unrepaired), "%d %s", (int)p->id, p->text);
	note_new(n)->text = strdup(p->text);
}

static void notes_fini(struct notes *n)
{
	for (size_t i = 0; i < n->count; i++) {
		kv_buf_free(&n->note[i].from);
		kv_buf_free(&n->note[i].to);
		free(n->note[i].text);
	}
}

static bool in_range(const struct note *n, struct kv_slice key)
{
	return slice_compare(kv_buf_slice(&n->from), key) <= 0 &&
	       (!n->to.len || slice_compare(key, kv_buf_slice(&n->to)) <= 0);
}

/* Is the path, or one above it, within a range of names? @path begins with a slash. */
static bool names_lost(const struct note *n, const char *path)
{
	char key[4096];
	size_t len = (size_t)snprintf(key, sizeof(key), "%s", path + 1);

	/* What is in the directory that moved has keys with its first name. */
	if (!strncmp(key, "moved/", 6))
		len = (size_t)snprintf(key, sizeof(key), "dir/%s", path + 7);
	for (size_t i = 0; i <= len; i++) {
		if (i < len && key[i] != '/')
			continue;
		if (in_range(n, kv_slice_of(key, i)))
			return true;
		key[i] = '\0';
	}
	return false;
}

static bool named(const char *text, const char *path)
{
	const char *at = strstr(text, path);

	return at && !strchr("0123456789/abcdefghijklmnopqrstuvwxyz", at[strlen(path)]);
}

static bool is_noted(void *ctx, const struct tree_item *item)
{
	const struct notes *n = ctx;
	const char *path = item->path[0] == '@' ? strchr(item->path, '/') : item->path;

	if (n->any && (!path || !strncmp(path, "/lost+found", 11)))
		return true;
	for (size_t i = 0; i < n->count; i++) {
		const struct note *note = &n->note[i];
		uint64_t from = 0;
		uint64_t to = UINT64_MAX;

		if (note->text) {
			if (named(note->text, path))
				return true;
			continue;
		}
		if (note->keyspace == MODEL_NAMES && names_lost(note, path))
			return true;
		if (kvfs_damage_id(note->keyspace, kv_buf_slice(&note->from), &from) &&
		    (!note->to.len ||
		     kvfs_damage_id(note->keyspace, kv_buf_slice(&note->to), &to)) &&
		    item->ino >= from && item->ino <= to)
			return true;
	}
	return false;
}

/* ---- judgement ---------------------------------------------------------------- */

static bool open_and_take(struct damage_rig *r, struct sim_env *e, struct tree_picture *out,
			  int *err)
{
	struct kvfs_options o = {.flags = KVFS_RDONLY,
				 .atime = KVFS_NOATIME,
				 .kv = {.cache_bytes = CACHE_BYTES, .env = sim_env_os(e)}};
	struct kvfs *fs;

	(void)r;
	*err = kvfs_open(DAMAGE_VOLUME, &o, &fs);
	if (*err)
		return false;
	tree_picture_take(fs, snapshots, out);
	ok(kvfs_close(fs));
	return true;
}

/* The state that the picture is most like. */
static enum tree_match best(const struct damage_rig *r, const struct tree_picture *have,
			    struct notes *notes, unsigned *state, const char **first)
{
	enum tree_match m = TREE_OTHER;

	for (unsigned j = r->count; j-- > 0 && m != TREE_EQUAL;) {
		const char *diff = "";
		enum tree_match one = tree_picture_compare(have, &r->states[j],
							   notes ? is_noted : NULL, notes, &diff);

		if (j == r->count - 1)
			*first = diff;
		if (one < m) {
			m = one;
			*state = j;
		}
	}
	return m;
}

static const char *line_of(const struct tree_picture *p, const char *path)
{
	const struct tree_item *i = tree_picture_find(p, path);

	return i ? i->line : "it is not there";
}

bool damage_rig_look(struct damage_rig *r, struct sim_env *e, unsigned from)
{
	struct kv_verify_options o = {.env = sim_env_os(e)};
	struct kv_verify_result found;
	struct tree_picture have;
	const char *first = "";
	enum tree_match m;
	unsigned state = 0;
	bool detected;
	int err;

	r->looks++;
	err = kv_verify(DAMAGE_VOLUME, &o, &found);
	detected = err || found.problems;
	r->detected += detected;
	if (!open_and_take(r, e, &have, &err)) {
		if (!detected)
			finding(r, "nothing is found, and it cannot be opened: %s",
				kv_strerror(err));
		return detected;
	}
	m = best(r, &have, NULL, &state, &first);
	if (m == TREE_OTHER)
		finding(r, "wrong data%s: %s: %s", detected ? " beside what is found" : "", first,
			line_of(&have, first));
	else if (m == TREE_MARKED && !detected)
		finding(r, "an error in reading, and nothing is found");
	else if (!detected && state < from)
		finding(r, "an older state unnoticed: %u of %u", state, r->count);
	r->last_frame += m == TREE_EQUAL && state + 2 == r->count;
	tree_picture_free(&have);
	return detected;
}

/* After a repair: sound, readable, and different only where something was reported. */
static void judge_repaired(struct damage_rig *r, struct sim_env *e, struct notes *notes)
{
	struct kv_verify_options o = {.env = sim_env_os(e)};
	struct kvfs_check_options c = {.env = sim_env_os(e)};
	struct kv_verify_result v = {0};
	struct kvfs_check_result f = {0};
	struct tree_picture have;
	const char *first = "";
	unsigned state = 0;
	int err;

	err = kv_verify(DAMAGE_VOLUME, &o, &v);
	if (err || v.problems)
		finding(r, "the second run of the engine finds %llu: %s",
			(unsigned long long)v.problems, kv_strerror(err));
	err = kvfs_check(DAMAGE_VOLUME, &c, &f);
	if (err || f.problems)
		finding(r, "the second run of the files finds %llu: %s",
			(unsigned long long)f.problems, kv_strerror(err));
	if (!open_and_take(r, e, &have, &err)) {
		finding(r, "repaired, and it cannot be opened: %s", kv_strerror(err));
		return;
	}
	for (size_t i = 0; i < have.count; i++) {
		if (have.items[i].lost)
			finding(r, "repaired, and it cannot be read: %s", have.items[i].path);
	}
	if (best(r, &have, notes, &state, &first) == TREE_OTHER)
		finding(r, "repaired to wrong data that was not reported: %s: %s", first,
			line_of(&have, first));
	tree_picture_free(&have);
}

void damage_rig_repair(struct damage_rig *r, struct sim_env *e)
{
	struct notes notes = {.r = r};
	struct kv_verify_options o = {.found = note_engine, .ctx = &notes, .env = sim_env_os(e)};
	struct kvfs_check_options c = {
		.repair = true, .found = note_file, .ctx = &notes, .env = sim_env_os(e)};
	struct kv_verify_result v;
	struct kvfs_check_result f;
	int err;

	r->repairs++;
	err = kv_repair(DAMAGE_VOLUME, &o, &v);
	if (err) {
		finding(r, "the engine cannot be repaired: %s", kv_strerror(err));
	} else if (notes.unrepaired[0]) {
		finding(r, "not repaired: %s", notes.unrepaired);
	} else {
		err = kvfs_check(DAMAGE_VOLUME, &c, &f);
		if (err)
			finding(r, "the files cannot be repaired: %s", kv_strerror(err));
		else
			judge_repaired(r, e, &notes);
	}
	notes_fini(&notes);
}
