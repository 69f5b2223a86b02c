/* SPDX-License-Identifier: MIT */
/*
 * kv_repair(): verify first, mend afterwards, report last, when it is known
 * what could be mended.
 *
 * Order matters. Damaged superblock copies are restored first, by writing the
 * same generation again: the next step writes a new generation over one of
 * the copies and must not find that the other is no good. Then all damaged
 * tables are written anew (repair_table.c) and one version edit, hence one
 * superblock write, replaces them together. Until then nothing that the volume
 * refers to has been touched, so an interruption leaves it as it was.
 *
 * The log is left alone, the next open replays it on top of the mended tables; but for two things.
 * If it has a hole, the edit fences off what is behind the hole. If it refers to a large value that
 * is damaged, there is a second round, before which the volume is opened and closed in order, so
 * that all references are in tables.
 */
#include "kvcore/engine/repair.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/os/os_env.h"

static bool finding_is_superblock(const struct verify_finding *f)
{
	return f->id == KV_PROBLEM_SUPERBLOCK_COPY || f->id == KV_PROBLEM_SUPERBLOCK_STALE ||
	       f->id == KV_PROBLEM_SUPERBLOCK_NONE;
}

/* Mended by a new manifest. */
static bool finding_is_of_tables(const struct verify_finding *f)
{
	return f->table != VERIFY_NO_TABLE || f->id == KV_PROBLEM_SEGMENT_COUNT ||
	       f->id == KV_PROBLEM_MANIFEST_COPY || f->id == KV_PROBLEM_LOG_HOLE;
}

/* A large value that only the log refers to: a table must, for it to be mended. */
static bool finding_is_of_log_value(const struct verify_finding *f)
{
	return f->table == VERIFY_NO_TABLE &&
	       (f->id == KV_PROBLEM_VALUE || f->id == KV_PROBLEM_VALUE_DANGLING);
}

static bool repair_wanted(const struct verify *v, bool (*is)(const struct verify_finding *f))
{
	for (size_t i = 0; i < v->finding_count; i++) {
		if (is(&v->findings[i]))
			return true;
	}
	return false;
}

/*
 * Write the newest generation over the copies that are not of it, among them one
 * that is merely a generation behind, which is no finding. A whole copy is not
 * touched: it may be the only one.
 */
static int repair_superblocks(struct verify *v)
{
	struct superblock_disk raw;
	bool written = false;
	int err;

	if (!v->sb.generation)
		return 0;
	err = superblock_encode(&v->sb, v->sha256, &raw);
	for (unsigned i = 0; !err && i < SUPERBLOCK_COPIES; i++) {
		if (!v->copy_err[i] && v->copy[i].generation == v->sb.generation &&
		    memcmp(v->copy[i].uuid, v->sb.uuid, KV_UUID_LEN) == 0)
			continue;
		written = true;
		err = os_volume_write(v->volume, (uint64_t)i * SUPERBLOCK_STRIDE, &raw, sizeof(raw),
				      0);
	}
	return err || !written ? err : os_volume_sync(v->volume);
}

static void install_version(void *ctx, struct version *version, void *cookie)
{
	struct repair *r = ctx;

	(void)cookie;
	if (r->version)
		version_unref(r->version);
	r->version = version;
}

/* The machinery of an open database, as far as an edit needs it. */
static int repair_open(struct repair *r)
{
	struct verify *v = r->v;
	struct space_options space = {
		.volume = v->volume,
		.size_max = v->sb.size_max,
		.data_off = FORMAT_LOG_OFF + v->sb.log_size,
	};
	struct versions_options options = {
		.volume = v->volume,
		.checksum = v->checksum,
		.sha256 = v->sha256,
		.tables = &r->tables,
		.log = v->options->log,
		.install = install_version,
		.install_ctx = r,
	};
	int err;

	err = space_new(&space, &r->space);
	if (err)
		return err;
	r->tables = v->tables;
	r->tables.space = r->space;
	r->tables.bloom_bits_per_key = REPAIR_BLOOM_BITS;
	options.space = r->space;
	return versions_open(&options, &v->sb, &v->manifest, &r->versions);
}

static void repair_close(struct repair *r)
{
	for (size_t i = 0; i < r->add_count; i++)
		table_meta_fini(&r->add[i]);
	free(r->add);
	free(r->remove);
	if (r->version)
		version_unref(r->version);
	if (r->versions)
		versions_close(r->versions);
	if (r->space)
		space_free(r->space);
}

/* The segments whose live bytes are other than the manifest says. */
static size_t repair_deltas(const struct verify *v, struct segment_delta *out)
{
	size_t count = 0;

	for (size_t s = 0; s < v->manifest.segment_count; s++) {
		const struct segment_meta *seg = &v->manifest.segments[s];

		if (seg->live_bytes == v->live[s])
			continue;
		out[count].id = seg->id;
		out[count++].live_bytes = (int64_t)(v->live[s] - seg->live_bytes);
	}
	return count;
}

static int repair_apply(struct repair *r)
{
	struct verify *v = r->v;
	struct version_edit edit = {
		.add = r->add,
		.add_count = r->add_count,
		.remove = r->remove,
		.remove_count = r->remove_count,
		.clean = v->manifest.clean,
	};
	struct segment_delta *deltas;
	int err;

	deltas = calloc(v->manifest.segment_count + 1, sizeof(*deltas));
	if (!deltas)
		return -ENOMEM;
	if (v->log_hole) { /* what stands behind it is left out from now on */
		edit.log_epoch = v->manifest.log_epoch + 1;
		edit.log_fence = v->log_cut;
	}
	edit.deltas = deltas;
	edit.delta_count = repair_deltas(v, deltas);
	err = versions_apply(r->versions, &edit);
	if (!err)
		r->add_count = 0; /* taken over */
	free(deltas);
	return err;
}

/*
 * In level 0 the order of the tables tells which versions are newer, and an edit puts
 * what it adds before what is there: whatever is newer than a rewritten table must be
 * added with it.
 */
static void repair_keep_order(struct verify *v)
{
	bool older = false;

	for (size_t i = v->manifest.table_count; i-- > 0;) {
		if (v->manifest.tables[i].level)
			continue;
		older = older || v->rewrite[i];
		v->rewrite[i] = older;
	}
}

static int repair_tables(struct verify *v)
{
	struct repair r = {.v = v};
	int err;

	repair_keep_order(v);

	r.add = calloc(v->manifest.table_count + 1, sizeof(*r.add));
	r.remove = calloc(v->manifest.table_count + 1, sizeof(*r.remove));
	if (!r.add || !r.remove) {
		err = -ENOMEM;
		goto out;
	}
	err = repair_open(&r);
	if (err)
		goto out;
	for (size_t i = 0; i < v->manifest.table_count; i++) {
		if (!v->rewrite[i])
			continue;
		err = repair_table(&r, i);
		if (err)
			goto out;
	}
	err = repair_apply(&r);
out:
	repair_close(&r);
	return err;
}

static void repair_report(struct verify *v, bool superblocks, bool tables)
{
	for (size_t i = 0; i < v->finding_count; i++) {
		const struct verify_finding *f = &v->findings[i];
		struct kv_problem p = {
			.id = f->id,
			.keyspace = f->keyspace,
			.from = kv_buf_slice(&f->from),
			.to = kv_buf_slice(&f->to),
			.text = (const char *)f->text.data,
		};

		p.repaired = (superblocks && finding_is_superblock(f)) ||
			     (tables && finding_is_of_tables(f));
		if (v->again && !p.repaired) {
			v->result->problems--; /* the next round finds it again */
			continue;
		}
		v->result->repaired += p.repaired;
		if (v->options->found)
			v->options->found(v->options->ctx, &p);
	}
}

/* Mend what is found. @again: all that is left can be mended once the log is in tables. */
static int repair_all(struct verify *v)
{
	bool superblocks = false;
	bool tables = false;
	int err;

	if (v->sb.generation &&
	    (v->sb.compat & ~FORMAT_COMPAT_KNOWN || v->sb.ro_compat & ~FORMAT_RO_COMPAT_KNOWN))
		return -KV_E_FEATURE; /* what is not understood is not mended */
	v->collect = true;
	err = verify_all(v);
	if (err)
		return err;
	err = repair_superblocks(v);
	if (err)
		return err;
	superblocks = v->sb.generation;
	if (!v->no_repair && repair_wanted(v, finding_is_of_tables)) {
		err = repair_tables(v);
		tables = !err;
		if (err == -KV_E_CORRUPT) {
			/* No version can be built from it; what is not repaired is reported so. */
			logmsg(v->options->log, KV_LOG_WARN,
			       "repair: the manifest is inconsistent");
			err = 0;
		}
	}
	v->again = v->again && !err && !v->no_repair && repair_wanted(v, finding_is_of_log_value);
	repair_report(v, superblocks, tables);
	return err;
}

/* One round. @again: whether there may be another one; receives whether it is wanted. */
static int repair_round(const char *path, const struct kv_verify_options *options, bool *again,
			struct kv_verify_result *found)
{
	struct verify v;
	int close_err;
	int err;

	err = verify_open(&v, path, options, 0, found);
	v.again = *again;
	if (!err)
		err = repair_all(&v);
	*again = v.again && !err;
	close_err = verify_close(&v);
	return err ? err : close_err;
}

/* Bring what the log holds into tables. */
static int repair_replay(const char *path, const struct kv_verify_options *options)
{
	const struct kv_options o = {.log = options->log, .env = options->env};
	struct kv_db *db;
	int err, close_err;

	err = kv_open(path, &o, &db);
	if (err)
		return err;
	err = kv_flush(db);
	close_err = kv_close(db);
	return err ? err : close_err;
}

int kv_repair(const char *path, const struct kv_verify_options *options,
	      struct kv_verify_result *result)
{
	static const struct kv_verify_options defaults;
	struct kv_verify_result first = {0};
	struct kv_verify_result found;
	bool again = true;
	int err;

	options = options ? options : &defaults;
	err = repair_round(path, options, &again, &found);
	if (!err && again) {
		first = found;
		err = repair_replay(path, options);
		again = false;
		if (!err)
			err = repair_round(path, options, &again, &found);
		found.problems += first.problems;
		found.repaired += first.repaired;
	}
	if (!err && result)
		*result = found;
	return err;
}
