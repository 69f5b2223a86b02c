/* SPDX-License-Identifier: MIT */
/*
 * Versions: who holds them, and how an edit becomes durable and current.
 *
 *   versions_apply():  build -> allocate -> write manifest -> sync (tables and
 *   values become durable too) -> superblock -> sync -> publish -> install ->
 *   move the log's tail -> give back the old manifest
 *
 * Space has one rule: an extent is free only if neither the durable manifest nor
 * any version that a reader holds refers to it. A version that is not current
 * any more was replaced by one that is durable, so the last reference to a table
 * or segment can give its space back at once.
 */
#include "kvcore/engine/version.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/engine/values.h"
#include "kvcore/engine/version_internal.h"

static struct version_full *full_of(struct version *v)
{
	return KV_CONTAINER_OF(v, struct version_full, pub);
}

/* ---- life of a version ------------------------------------------------------------ */

static void table_unref(struct versions *vs, struct version_table *t, enum version_end how)
{
	const struct table_meta *m = table_get_meta(t->table);

	if (atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (how == VERSION_END_DEAD) {
		for (uint32_t i = 0; i < m->extent_count; i++)
			space_release(vs->options.space, m->extents[i]);
	}
	table_close(t->table, how == VERSION_END_DEAD);
	free(t);
}

static void segment_unref(struct versions *vs, struct segment *seg, enum version_end how)
{
	if (atomic_fetch_sub_explicit(&seg->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (how == VERSION_END_UNDO)
		return;
	if (how == VERSION_END_DEAD)
		space_release(vs->options.space, seg->extent);
	free(seg);
}

void version_free(struct version_full *v, enum version_end how)
{
	for (size_t i = 0; i < v->table_count; i++)
		table_unref(v->pub.set, v->counted[i], how);
	for (size_t i = 0; i < v->pub.segment_count; i++)
		segment_unref(v->pub.set, v->pub.segments[i], how);
	free(v->pub.segments);
	free(v->tables);
	free(v->counted);
	atomic_fetch_sub(&v->pub.set->alive, 1); /* after the space came back */
	free(v);
}

struct version *version_ref(struct version *v)
{
	atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
	return v;
}

void version_unref(struct version *v)
{
	/* Release what this thread read before the last one frees it, acquire what others did. */
	if (atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1)
		return;
	version_free(full_of(v), v->set->closing ? VERSION_END_CLOSE : VERSION_END_DEAD);
}

struct version *versions_current(struct versions *vs)
{
	struct version *v;

	os_mutex_lock(&vs->mu);
	v = version_ref(&vs->current->pub);
	os_mutex_unlock(&vs->mu);
	return v;
}

struct segment *version_segment(const struct version *v, uint64_t id)
{
	size_t lo = 0;
	size_t hi = v->segment_count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (v->segments[mid]->id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < v->segment_count && v->segments[lo]->id == id ? v->segments[lo] : NULL;
}

/* ---- opening ------------------------------------------------------------------------ */

static int claim_space(struct space *space, const struct superblock *sb, const struct manifest *m)
{
	int err = 0;

	for (uint32_t i = 0; !err && i < sb->manifest_extent_count; i++)
		err = space_claim(space, sb->manifest_extents[i]);
	for (size_t i = 0; !err && i < m->table_count; i++) {
		for (uint32_t j = 0; !err && j < m->tables[i].extent_count; j++)
			err = space_claim(space, m->tables[i].extents[j]);
	}
	for (size_t i = 0; !err && i < m->segment_count; i++)
		err = space_claim(space, m->segments[i].extent);
	return err;
}

/* The first version is what an edit makes of nothing. */
static int build_first(struct versions *vs, const struct manifest *m)
{
	struct version_edit edit = {
		.add = m->tables,
		.add_count = m->table_count,
	};
	int err = 0;

	edit.add_segments = calloc(m->segment_count + 1, sizeof(struct segment *));
	if (!edit.add_segments)
		return -ENOMEM;
	while (!err && edit.add_segment_count < m->segment_count) {
		size_t n = edit.add_segment_count;

		err = segment_new(&m->segments[n], false, &edit.add_segments[n]);
		if (!err)
			edit.add_segment_count++;
	}
	if (!err)
		err = version_build(vs, NULL, &edit, &vs->current);
	for (size_t i = 0; err && i < edit.add_segment_count; i++)
		free(edit.add_segments[i]);
	free(edit.add_segments);
	return err;
}

static int versions_alloc(const struct versions_options *options, struct versions **out)
{
	struct versions *vs = calloc(1, sizeof(*vs));
	int err;

	if (!vs)
		return -ENOMEM;
	vs->options = *options;
	err = os_mutex_init(&vs->apply_mu, OS_RANK_DB_MAINTENANCE);
	if (err) {
		free(vs);
		return err;
	}
	err = os_mutex_init(&vs->mu, OS_RANK_LEAF);
	if (err) {
		os_mutex_fini(&vs->apply_mu);
		free(vs);
		return err;
	}
	*out = vs;
	return 0;
}

int versions_open(const struct versions_options *options, const struct superblock *sb,
		  const struct manifest *manifest, struct versions **out)
{
	struct versions *vs;
	int err;

	err = versions_alloc(options, &vs);
	if (err)
		return err;
	vs->sb = *sb;
	vs->log.lsn = manifest->log_lsn;
	memcpy(vs->log.prev_sum, manifest->log_prev_sum, CHECKSUM_LEN);
	vs->log_epoch = manifest->log_epoch;
	vs->log_fence = manifest->log_fence;
	vs->last_seq = manifest->last_seq;
	atomic_init(&vs->next_table_id, manifest->next_table_id);
	atomic_init(&vs->next_segment_id, manifest->next_segment_id);
	err = claim_space(options->space, sb, manifest);
	if (!err)
		err = build_first(vs, manifest);
	if (err) {
		versions_close(vs);
		return err;
	}
	*out = vs;
	return 0;
}

void versions_set_wal(struct versions *vs, struct wal *wal)
{
	vs->options.wal = wal;
}

void versions_close(struct versions *vs)
{
	if (!vs)
		return;
	vs->closing = true;
	if (vs->current)
		version_unref(&vs->current->pub);
	os_mutex_fini(&vs->mu);
	os_mutex_fini(&vs->apply_mu);
	free(vs->later);
	free(vs->claims);
	free(vs);
}

/* ---- applying an edit ------------------------------------------------------------------ */

static bool is_poisoned(const struct versions *vs)
{
	return vs->poisoned || (vs->options.wal && wal_poisoned(vs->options.wal));
}

/* A manifest or superblock may or may not be on the volume: no further write may build on either.
 */
static void poison(struct versions *vs, int err)
{
	vs->poisoned = true;
	if (vs->options.wal)
		wal_poison(vs->options.wal, err);
	logmsg(vs->options.log, KV_LOG_ERROR,
	       "version: cannot write the manifest generation=%" PRIu64 ": %s",
	       vs->sb.generation + 1, kv_strerror(err));
}

/* The new manifest, in fresh space, durable and pointed to. */
static int write_manifest(struct versions *vs, const struct version_full *next,
			  const struct version_edit *edit, struct superblock *sb)
{
	struct kv_buf blob = {0};
	int err;

	*sb = vs->sb;
	sb->generation++;
	err = version_encode(vs, next, edit, sb->generation, &blob);
	if (err)
		goto out;
	err = manifest_store_alloc(vs->options.space, blob.len, sb);
	if (err)
		goto out;
	err = manifest_store_write(vs->options.volume, vs->options.checksum, vs->options.sha256,
				   &blob, sb);
	if (err == -ENOMEM) { /* nothing was written */
		manifest_store_release(vs->options.space, sb);
	} else if (err) {
		poison(vs, err);
		err = -KV_E_POISONED;
	}
out:
	kv_buf_free(&blob);
	return err;
}

/* The edit is durable: make it what this process sees. Cannot fail. */
static struct version_full *publish(struct versions *vs, struct version_full *next,
				    const struct version_edit *edit, const struct superblock *sb)
{
	struct version_full *old;

	for (size_t i = 0; i < next->pub.segment_count; i++) {
		struct segment *seg = next->pub.segments[i];

		/* Pairs with the acquire in segment_dead(): live bytes are there before their
		 * pending count goes. */
		atomic_store_explicit(&seg->live_bytes, version_live_after(vs, edit, seg),
				      memory_order_release);
	}
	if (edit->set_log)
		vs->log = edit->log;
	if (edit->log_epoch) {
		vs->log_epoch = edit->log_epoch;
		vs->log_fence = edit->log_fence;
	}
	vs->last_seq = max_u64(vs->last_seq, edit->last_seq);
	for (size_t i = 0; i < edit->add_count; i++)
		table_meta_fini(&edit->add[i]);
	os_mutex_lock(&vs->mu);
	vs->sb = *sb;
	old = vs->current;
	vs->current = next;
	os_mutex_unlock(&vs->mu);
	atomic_fetch_add_explicit(&vs->manifest_writes, 1, memory_order_relaxed);
	return old;
}

bool versions_poisoned(struct versions *vs)
{
	bool yes;

	os_mutex_lock(&vs->apply_mu);
	yes = is_poisoned(vs);
	os_mutex_unlock(&vs->apply_mu);
	return yes;
}

int versions_apply(struct versions *vs, struct version_edit *edit)
{
	struct version_full *next = NULL;
	struct version_full *old;
	struct superblock before;
	struct superblock sb;
	int err;

	os_mutex_lock(&vs->apply_mu);
	err = is_poisoned(vs) ? -KV_E_POISONED : 0;
	if (!err && vs->options.ready)
		err = vs->options.ready(vs->options.install_ctx);
	if (err)
		goto out;
	if (edit->place)
		version_place(vs, edit);
	err = version_build(vs, vs->current, edit, &next);
	if (err)
		goto out;
	err = write_manifest(vs, next, edit, &sb);
	if (err)
		goto out;
	before = vs->sb;
	old = publish(vs, next, edit, &sb);
	if (vs->options.install)
		vs->options.install(vs->options.install_ctx, version_ref(&next->pub), edit->cookie);
	next = NULL;
	if (edit->set_log && vs->options.wal)
		wal_set_tail(vs->options.wal, edit->log.lsn);
	manifest_store_release(vs->options.space, &before);
	for (size_t i = 0; i < vs->later_count; i++)
		space_release(vs->options.space, vs->later[i]);
	vs->later_count = 0;
	version_unref(&old->pub);
out:
	if (edit->place)
		version_place_end(vs);
	if (next)
		version_free(next, VERSION_END_UNDO);
	os_mutex_unlock(&vs->apply_mu);
	return err;
}

void versions_discard_table(struct versions *vs, struct table_meta *meta, int err)
{
	if (err != -KV_E_POISONED) {
		for (uint32_t i = 0; i < meta->extent_count; i++)
			space_release(vs->options.space, meta->extents[i]);
	}
	cache_drop_owner(vs->options.tables->cache, meta->id);
	table_meta_fini(meta);
}

int versions_cut_segment(struct versions *vs, struct segment *seg, uint64_t len)
{
	struct extent *grown;
	int err = 0;

	KV_ASSERT(len && len % FORMAT_BLOCK == 0 && len < seg->extent.len);
	os_mutex_lock(&vs->apply_mu);
	grown = realloc(vs->later, (vs->later_count + 1) * sizeof(*grown));
	if (!grown) {
		err = -ENOMEM;
		goto out;
	}
	vs->later = grown;
	vs->later[vs->later_count].off = seg->extent.off + len;
	vs->later[vs->later_count].len = seg->extent.len - len;
	vs->later_count++;
	seg->extent.len = len;
out:
	os_mutex_unlock(&vs->apply_mu);
	return err;
}

uint64_t versions_new_table_id(struct versions *vs)
{
	return atomic_fetch_add(&vs->next_table_id, 1);
}

uint64_t versions_next_table_id(struct versions *vs)
{
	return atomic_load(&vs->next_table_id); /* ordered: gc_id of table_meta counts on it */
}

uint64_t versions_new_segment_id(struct versions *vs)
{
	return atomic_fetch_add_explicit(&vs->next_segment_id, 1, memory_order_relaxed);
}

void versions_get_superblock(struct versions *vs, struct superblock *out)
{
	os_mutex_lock(&vs->mu);
	*out = vs->sb;
	os_mutex_unlock(&vs->mu);
}

uint64_t versions_manifest_writes(struct versions *vs)
{
	return atomic_load_explicit(&vs->manifest_writes, memory_order_relaxed);
}

unsigned versions_old(struct versions *vs)
{
	unsigned alive = atomic_load(&vs->alive);

	return alive ? alive - 1 : 0;
}
