/* SPDX-License-Identifier: MIT */
/*
 * kv_verify(): superblocks, manifest and extents here, tables and log in
 * verify_table.c and verify_log.c. Follows the Merkle tree from the superblock
 * down, so whatever is reached has been checked against the sum that its
 * pointer carries, and what remains to be judged are relations between whole
 * structures: order, bounds, counts, references, overlap.
 *
 * A superblock copy one generation behind the other is what a power loss
 * between the two writes leaves and no finding; two behind is a lost write.
 */
#include "kvcore/engine/verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/manifest_copy.h"
#include "kvcore/engine/manifest_store.h"
#include "kvcore/os/os_env.h"

#define VERIFY_KEYSPACES_MAX 16U	    /* findings that one range may be split into */
#define VERIFY_REPORT_STEP   (1024U * 1024) /* bytes between calls of the progress function */

static const struct kv_slice no_key;

bool verify_is_damage(int err)
{
	return err == -KV_E_CORRUPT || err == -KV_E_CHECKSUM || err == -EIO;
}

const char *verify_why(int err)
{
	switch (err) {
	case -KV_E_CHECKSUM:
		return "its checksum does not match";
	case -KV_E_CORRUPT:
		return "its content is malformed";
	case -KV_E_NOT_A_VOLUME:
		return "it is not a superblock";
	case -EIO:
		return "the disk cannot read it";
	default:
		return kv_strerror(err);
	}
}

unsigned verify_key(struct kv_slice ikey, struct kv_slice *key)
{
	if (ikey.len < IKEY_PREFIX_LEN) {
		*key = no_key;
		return 0;
	}
	*key = ikey_user(ikey);
	return ikey_keyspace(ikey);
}

int verify_progress(struct verify *v, uint64_t bytes)
{
	const struct kv_progress *p = v->options->progress;

	v->done += bytes;
	if (!p || v->done < v->reported + VERIFY_REPORT_STEP)
		return 0;
	v->reported = v->done;
	v->total = max_u64(v->total, v->done);
	return p->report(p->ctx, v->done, v->total) ? -KV_E_INTERRUPTED : 0;
}

int verify_no_superblock(const struct verify *v)
{
	for (unsigned i = 0; i < SUPERBLOCK_COPIES; i++)
		if (v->copy_err[i] == -EIO)
			return -EIO;
	return -KV_E_CHECKSUM;
}

static int report_keep(struct verify *v, const struct kv_problem *p, size_t table)
{
	struct verify_finding *f;
	int err;

	if (v->finding_count == v->finding_cap) {
		size_t cap = v->finding_cap ? 2 * v->finding_cap : 16;

		f = realloc(v->findings, cap * sizeof(*f));
		if (!f)
			return -ENOMEM;
		v->findings = f;
		v->finding_cap = cap;
	}
	f = &v->findings[v->finding_count++];
	memset(f, 0, sizeof(*f));
	f->id = p->id;
	f->keyspace = p->keyspace;
	f->table = table;
	err = buf_assign(&f->from, p->from);
	if (!err)
		err = buf_assign(&f->to, p->to);
	/* With its terminating NUL. */
	if (!err)
		err = buf_append(&f->text, p->text, strlen(p->text) + 1);
	return err;
}

static int report_one(struct verify *v, const struct kv_problem *p, size_t table)
{
	v->result->problems++;
	if (v->collect)
		return report_keep(v, p, table);
	if (v->options->found)
		v->options->found(v->options->ctx, p);
	return 0;
}

int verify_report(struct verify *v, enum kv_problem_id id, size_t table, struct kv_slice from,
		  struct kv_slice to, const char *fmt, ...)
{
	struct kv_problem p = {.id = id};
	struct kv_slice last_key;
	unsigned first, last;
	char text[512];
	va_list args;
	int err = 0;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (table != VERIFY_NO_TABLE)
		v->rewrite[table] = true;
	p.text = text;
	first = verify_key(from, &p.from);
	last = verify_key(to, &last_key);
	if (to.len < IKEY_PREFIX_LEN || last < first)
		last = first;
	/* A range over several keyspaces is a finding for each of them that is likely to exist. */
	if (last > first + VERIFY_KEYSPACES_MAX)
		last = first + VERIFY_KEYSPACES_MAX;
	for (unsigned keyspace = first; !err && keyspace <= last; keyspace++) {
		p.keyspace = keyspace;
		if (keyspace != first)
			p.from = no_key;
		p.to = keyspace == last ? last_key : no_key;
		err = report_one(v, &p, table);
	}
	return err;
}

/* ---- superblocks --------------------------------------------------------- */

/*
 * Choose the newest whole copy, or if there is none what can be found elsewhere.
 * @search: wherever it may be
 * Return: 0, or why this is no volume that we can look at.
 */
static int superblocks_judge(struct verify *v, bool search)
{
	bool magic = false;
	int found;

	for (unsigned i = 0; i < SUPERBLOCK_COPIES; i++) {
		int err = v->copy_err[i];

		if (err == -KV_E_VERSION || err == -KV_E_FEATURE)
			return err;
		if (err && !verify_is_damage(err) && err != -KV_E_NOT_A_VOLUME)
			return err;
		magic = magic || err != -KV_E_NOT_A_VOLUME;
		if (!err && v->copy[i].generation > v->sb.generation)
			v->sb = v->copy[i];
	}
	if (v->sb.generation)
		return 0;
	found = manifest_copy_find(v->volume, v->sha256, search, &v->sb, &v->sb_found);
	if (found != -KV_E_NOTFOUND)
		return found;
	return magic ? 0 : -KV_E_NOT_A_VOLUME;
}

static int superblocks_report(struct verify *v)
{
	int err = 0;

	if (!v->sb.generation)
		return verify_report(v, KV_PROBLEM_SUPERBLOCK_NONE, VERIFY_NO_TABLE, no_key, no_key,
				     "superblock: no copy is whole");
	if (v->sb_found)
		return verify_report(v, KV_PROBLEM_SUPERBLOCK_NONE, VERIFY_NO_TABLE, no_key, no_key,
				     "superblock: no copy is whole; one of generation %" PRIu64
				     " was found at %" PRIu64
				     "; what was checkpointed later is lost, if anything was",
				     v->sb.generation, v->sb_found);
	for (unsigned i = 0; !err && i < SUPERBLOCK_COPIES; i++) {
		const struct superblock *sb = &v->copy[i];

		if (v->copy_err[i])
			err = verify_report(v, KV_PROBLEM_SUPERBLOCK_COPY, VERIFY_NO_TABLE, no_key,
					    no_key, "superblock: copy %u is damaged: %s", i,
					    verify_why(v->copy_err[i]));
		else if (memcmp(sb->uuid, v->sb.uuid, KV_UUID_LEN) != 0)
			err = verify_report(v, KV_PROBLEM_SUPERBLOCK_COPY, VERIFY_NO_TABLE, no_key,
					    no_key, "superblock: copy %u is of another volume", i);
		else if (sb->generation + 1 < v->sb.generation)
			err = verify_report(v, KV_PROBLEM_SUPERBLOCK_STALE, VERIFY_NO_TABLE, no_key,
					    no_key,
					    "superblock: copy %u is of generation %" PRIu64
					    ", the other of %" PRIu64,
					    i, sb->generation, v->sb.generation);
	}
	return err;
}

/* ---- manifest and extents ------------------------------------------------- */

static int manifest_report(struct verify *v, enum kv_problem_id id, const char *what, int why)
{
	return verify_report(v, id, VERIFY_NO_TABLE, no_key, no_key,
			     "manifest: %s of generation %" PRIu64 " is damaged: %s", what,
			     v->sb.generation, verify_why(why));
}

/* The manifest, its copy, and those of the superblock. */
static int manifest_read(struct verify *v)
{
	struct manifest second = {0};
	int first_err, second_err, err;

	first_err = manifest_store_read_copy(v->volume, v->checksum, &v->sb, 0, &v->manifest);
	if (first_err && !verify_is_damage(first_err))
		return first_err;
	v->have_manifest = !first_err;
	second_err = manifest_store_read_copy(v->volume, v->checksum, &v->sb, 1, &second);
	if (second_err && second_err != -KV_E_NOTFOUND && !verify_is_damage(second_err)) {
		err = second_err;
		goto out;
	}
	if (first_err && second_err) {
		err = manifest_report(v, KV_PROBLEM_MANIFEST, "what describes the state",
				      first_err);
		goto out;
	}
	v->have_manifest = true;
	if (first_err) {
		v->manifest = second; /* and there is no second one to release */
		return manifest_report(v, KV_PROBLEM_MANIFEST_COPY, "the first copy", first_err);
	}
	err = manifest_copy_check(v->volume, v->sha256, &v->sb);
	if (err && !verify_is_damage(err))
		goto out;
	if (verify_is_damage(second_err))
		err = manifest_report(v, KV_PROBLEM_MANIFEST_COPY, "the second copy", second_err);
	else if (err)
		err = manifest_report(v, KV_PROBLEM_MANIFEST_COPY, "a copy of the superblock", err);
out:
	if (!second_err)
		manifest_fini(&second);
	return err;
}

struct claim {
	struct extent e;
	const char *owner;
	uint64_t id;
};

static int claim_compare(const void *a, const void *b)
{
	const struct claim *x = a;
	const struct claim *y = b;

	return x->e.off < y->e.off ? -1 : x->e.off > y->e.off;
}

static size_t claims_fill(const struct verify *v, struct claim *out)
{
	const struct manifest *m = &v->manifest;
	size_t n = 0;

	for (uint32_t i = 0; i < v->sb.manifest_extent_count; i++)
		out[n++] = (struct claim){v->sb.manifest_extents[i], "manifest", v->sb.generation};
	for (size_t t = 0; t < m->table_count; t++) {
		for (uint32_t i = 0; i < m->tables[t].extent_count; i++)
			out[n++] =
				(struct claim){m->tables[t].extents[i], "table", m->tables[t].id};
	}
	for (size_t s = 0; s < m->segment_count; s++)
		out[n++] =
			(struct claim){m->segments[s].extent, "value segment", m->segments[s].id};
	return n;
}

static int claims_check(struct verify *v, struct claim *c, size_t count)
{
	uint64_t data_off = FORMAT_LOG_OFF + v->sb.log_size;
	const struct claim *last = NULL; /* the one that reaches farthest */
	int err = 0;

	qsort(c, count, sizeof(*c), claim_compare);
	for (size_t i = 0; !err && i < count; i++) {
		const struct extent e = c[i].e;

		if (e.off < data_off || e.off > v->volume_size || e.len > v->volume_size - e.off ||
		    !e.len || e.off % FORMAT_BLOCK || e.len % FORMAT_BLOCK) {
			v->no_repair = true;
			err = verify_report(v, KV_PROBLEM_EXTENT_BOUNDS, VERIFY_NO_TABLE, no_key,
					    no_key,
					    "%s %" PRIu64 ": extent off=%" PRIu64 " len=%" PRIu64
					    " lies outside the volume of %" PRIu64 " bytes",
					    c[i].owner, c[i].id, e.off, e.len, v->volume_size);
			continue;
		}
		if (last && e.off < last->e.off + last->e.len) {
			v->no_repair = true;
			err = verify_report(v, KV_PROBLEM_EXTENT_OVERLAP, VERIFY_NO_TABLE, no_key,
					    no_key,
					    "%s %" PRIu64 " and %s %" PRIu64
					    " both claim the space at %" PRIu64,
					    last->owner, last->id, c[i].owner, c[i].id, e.off);
		}
		if (!last || e.off + e.len > last->e.off + last->e.len)
			last = &c[i];
	}
	return err;
}

/*
 * Which space is free follows from these extents, so none can be lost; they
 * can only overlap or lie outside.
 */
static int extents_check(struct verify *v)
{
	const struct manifest *m = &v->manifest;
	size_t max = v->sb.manifest_extent_count + m->segment_count;
	struct claim *claims;
	int err;

	for (size_t t = 0; t < m->table_count; t++)
		max += m->tables[t].extent_count;
	claims = calloc(max ? max : 1, sizeof(*claims));
	if (!claims)
		return -ENOMEM;
	err = claims_check(v, claims, claims_fill(v, claims));
	free(claims);
	if (!err && v->sb.size_max > v->volume_size) {
		v->no_repair = true;
		err = verify_report(v, KV_PROBLEM_EXTENT_BOUNDS, VERIFY_NO_TABLE, no_key, no_key,
				    "volume: it was made with %" PRIu64
				    " bytes and now has %" PRIu64,
				    v->sb.size_max, v->volume_size);
	}
	return err;
}

/* ---- the whole ------------------------------------------------------------- */

int verify_tables_prepare(struct verify *v)
{
	const struct manifest *m = &v->manifest;

	v->live = calloc(m->segment_count + 1, sizeof(*v->live));
	v->table_live = calloc(m->segment_count + 1, sizeof(*v->table_live));
	v->rewrite = calloc(m->table_count + 1, sizeof(*v->rewrite));
	v->counted = calloc(m->table_count + 1, sizeof(*v->counted));
	if (!v->live || !v->table_live || !v->rewrite || !v->counted)
		return -ENOMEM;
	for (size_t t = 0; t < m->table_count; t++)
		v->total += m->tables[t].stored_bytes;
	for (size_t s = 0; s < m->segment_count && !v->options->metadata_only; s++)
		v->total += m->segments[s].live_bytes;
	v->result->tables = m->table_count;
	return 0;
}

int verify_roots(struct verify *v)
{
	int err = superblocks_report(v);

	if (err || !v->sb.generation)
		return err;
	return manifest_read(v);
}

int verify_all(struct verify *v)
{
	const struct kv_progress *p = v->options->progress;
	int err;

	err = verify_roots(v);
	if (err || !v->have_manifest)
		return err;
	err = verify_tables_prepare(v);
	if (err)
		return err;
	err = extents_check(v);
	if (err)
		return err;
	err = verify_tables(v);
	if (err)
		return err;
	err = verify_log(v);
	if (err)
		return err;
	v->total = v->done;
	return p && p->report(p->ctx, v->done, v->total) ? -KV_E_INTERRUPTED : 0;
}

static int open_parts(struct verify *v, bool search)
{
	int err;

	err = v->volume->ops->size(v->volume, &v->volume_size);
	if (err)
		return err;
	err = checksum_new(CHECKSUM_SHA256, &v->sha256);
	if (err)
		return err;
	for (unsigned i = 0; i < SUPERBLOCK_COPIES; i++)
		v->copy_err[i] =
			manifest_store_read_superblock(v->volume, v->sha256, i, &v->copy[i]);
	err = superblocks_judge(v, search);
	if (err || !v->sb.generation)
		return err;
	err = checksum_new(v->sb.checksum_algo, &v->checksum);
	if (err)
		return err;
	err = cache_new(VERIFY_CACHE_BYTES, &v->cache);
	if (err)
		return err;
	v->tables = (struct table_env){
		.volume = v->volume,
		.cache = v->cache,
		.checksum = v->checksum,
		.compress = (enum compress_algo)v->sb.compress_algo,
		.page_size = v->sb.page_size,
		.log = v->options->log,
	};
	return 0;
}

int verify_open(struct verify *v, const char *path, const struct kv_verify_options *options,
		unsigned flags, struct kv_verify_result *result)
{
	int err;

	memset(v, 0, sizeof(*v));
	memset(result, 0, sizeof(*result));
	v->options = options;
	v->result = result;
	v->env = options->env ? options->env : os_env_host();
	err = v->env->ops->volume_open(v->env, path, flags, 0, &v->volume, NULL);
	if (err)
		return err;
	return open_parts(v, !(flags & OS_OPEN_RDONLY));
}

int verify_close(struct verify *v)
{
	int err = 0;

	for (size_t i = 0; i < v->finding_count; i++) {
		kv_buf_free(&v->findings[i].from);
		kv_buf_free(&v->findings[i].to);
		kv_buf_free(&v->findings[i].text);
	}
	free(v->findings);
	free(v->lost);
	free(v->bad);
	free(v->live);
	free(v->table_live);
	free(v->rewrite);
	free(v->counted);
	kv_buf_free(&v->value);
	if (v->have_manifest)
		manifest_fini(&v->manifest);
	if (v->cache)
		cache_free(v->cache);
	checksum_free(v->checksum);
	checksum_free(v->sha256);
	if (v->volume)
		err = v->volume->ops->close(v->volume);
	return err;
}

int kv_verify(const char *path, const struct kv_verify_options *options,
	      struct kv_verify_result *result)
{
	static const struct kv_verify_options defaults;
	struct kv_verify_result found;
	struct verify v;
	int close_err;
	int err;

	err = verify_open(&v, path, options ? options : &defaults, OS_OPEN_RDONLY, &found);
	if (!err)
		err = verify_all(&v);
	close_err = verify_close(&v);
	err = err ? err : close_err;
	if (!err && result)
		*result = found;
	return err;
}
