/* SPDX-License-Identifier: MIT */
/*
 * kv_dump(): on-disk structures as lines of text, one fact a line in the form
 * "name key=value ...", so that grep and diff are useful on it. It looks
 * without a lock and goes on past damage, which it shows as "damaged: ...".
 */
#include "kvcore/engine/verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/manifest_store.h"
#include "kvcore/os/os_env.h"
#include "kvcore/wal/wal_reader.h"

struct dump {
	struct verify v; /* for opening; nothing is verified */
	int (*line)(void *ctx, const char *text);
	void *ctx;
	struct kv_buf text;
};

/* Append to the line being made. */
static int dump_add(struct dump *d, const char *fmt, ...) KV_PRINTF(2, 3);
static int dump_add(struct dump *d, const char *fmt, ...)
{
	char text[512];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (n < 0)
		return -EINVAL;
	return buf_append(&d->text, text, min_u64((uint64_t)n, sizeof(text) - 1));
}

static int dump_end(struct dump *d)
{
	int err = buf_append_byte(&d->text, 0);

	if (!err && d->line(d->ctx, (const char *)d->text.data))
		err = -KV_E_INTERRUPTED;
	buf_clear(&d->text);
	return err;
}

static int dump_hex(struct dump *d, const char *name, const uint8_t *bytes, size_t len)
{
	int err = dump_add(d, " %s=", name);

	for (size_t i = 0; !err && i < len; i++)
		err = dump_add(d, "%02x", bytes[i]);
	return err;
}

/* An ikey as keyspace:key. */
static int dump_key(struct dump *d, const char *name, struct kv_slice ikey)
{
	struct kv_slice key;
	unsigned keyspace = verify_key(ikey, &key);
	int err = dump_add(d, " %s=%u:", name, keyspace);

	return err ? err : buf_append_escaped(&d->text, key);
}

/* ---- superblock ------------------------------------------------------------- */

static int dump_superblock_copy(struct dump *d, unsigned i)
{
	const struct superblock *sb = &d->v.copy[i];
	int err;

	if (d->v.copy_err[i]) {
		err = dump_add(d, "superblock copy=%u damaged: %s", i,
			       verify_why(d->v.copy_err[i]));
		return err ? err : dump_end(d);
	}
	err = dump_add(d, "superblock copy=%u generation=%" PRIu64, i, sb->generation);
	if (!err)
		err = dump_hex(d, "uuid", sb->uuid, KV_UUID_LEN);
	if (!err)
		err = dump_add(d, " label=");
	if (!err)
		err = buf_append_escaped(&d->text, kv_slice_of(sb->label, strlen(sb->label)));
	if (!err)
		err = dump_end(d);
	if (!err)
		err = dump_add(d,
			       "superblock copy=%u compat=0x%" PRIx64 " ro_compat=0x%" PRIx64
			       " incompat=0x%" PRIx64 " created_ns=%" PRId64 " size_max=%" PRIu64
			       " log_size=%" PRIu64 " checksum=%s compress=%s page_size=%" PRIu32,
			       i, sb->compat, sb->ro_compat, sb->incompat, sb->created_ns,
			       sb->size_max, sb->log_size, checksum_algo_name(sb->checksum_algo),
			       compress_algo_name(sb->compress_algo), sb->page_size);
	if (!err)
		err = dump_end(d);
	if (!err)
		err = dump_add(d, "superblock copy=%u manifest_len=%" PRIu64, i, sb->manifest_len);
	if (!err)
		err = dump_hex(d, "manifest_sum", sb->manifest_sum, CHECKSUM_LEN);
	for (uint32_t e = 0; !err && e < sb->manifest_extent_count; e++)
		err = dump_add(d, " extent=%" PRIu64 "+%" PRIu64, sb->manifest_extents[e].off,
			       sb->manifest_extents[e].len);
	return err ? err : dump_end(d);
}

static int dump_superblocks(struct dump *d)
{
	for (unsigned i = 0; i < SUPERBLOCK_COPIES; i++) {
		int err = dump_superblock_copy(d, i);

		if (err)
			return err;
	}
	return 0;
}

/* ---- manifest ---------------------------------------------------------------- */

static int dump_page_ref(struct dump *d, const char *name, const struct page_ref *ref)
{
	int err;

	if (!ref->stored_len)
		return 0;
	err = dump_add(d, " %s=%" PRIu64 "+%" PRIu32 "/%" PRIu32, name, ref->off, ref->stored_len,
		       ref->raw_len);
	return err ? err : dump_hex(d, "sum", ref->sum, CHECKSUM_LEN);
}

static int dump_table_meta(struct dump *d, const struct table_meta *m)
{
	int err;

	err = dump_add(d,
		       "table id=%" PRIu64 " level=%" PRIu32 " height=%" PRIu32 " entries=%" PRIu64
		       " deletes=%" PRIu64 " ranges=%" PRIu64 " stored=%" PRIu64 " raw=%" PRIu64
		       " values=%" PRIu64 " seq=%" PRIu64 "-%" PRIu64,
		       m->id, m->level, m->height, m->entry_count, m->delete_count, m->range_count,
		       m->stored_bytes, m->raw_bytes, m->ref_bytes, m->seq_min, m->seq_max);
	if (!err)
		err = dump_key(d, "smallest", kv_buf_slice(&m->smallest));
	if (!err)
		err = dump_key(d, m->largest_exclusive ? "before" : "largest",
			       kv_buf_slice(&m->largest));
	if (!err)
		err = dump_page_ref(d, "root", &m->root);
	if (!err)
		err = dump_page_ref(d, "filter", &m->filter);
	if (!err)
		err = dump_page_ref(d, "range_page", &m->ranges);
	for (uint32_t e = 0; !err && e < m->extent_count; e++)
		err = dump_add(d, " extent=%" PRIu64 "+%" PRIu64, m->extents[e].off,
			       m->extents[e].len);
	return err ? err : dump_end(d);
}

static int dump_manifest(struct dump *d)
{
	const struct manifest *m = &d->v.manifest;
	int err;

	err = dump_add(d,
		       "manifest generation=%" PRIu64 " clean=%d log_lsn=%" PRIu64
		       " log_epoch=%" PRIu64 " log_fence=%" PRIu64 " last_seq=%" PRIu64
		       " next_table=%" PRIu64 " next_segment=%" PRIu64 " tables=%zu segments=%zu",
		       m->generation, m->clean, m->log_lsn, m->log_epoch, m->log_fence, m->last_seq,
		       m->next_table_id, m->next_segment_id, m->table_count, m->segment_count);
	if (!err)
		err = dump_hex(d, "log_prev_sum", m->log_prev_sum, CHECKSUM_LEN);
	if (!err)
		err = dump_end(d);
	for (size_t i = 0; !err && i < m->table_count; i++)
		err = dump_table_meta(d, &m->tables[i]);
	for (size_t i = 0; !err && i < m->segment_count; i++) {
		const struct segment_meta *s = &m->segments[i];

		err = dump_add(d,
			       "segment id=%" PRIu64 " extent=%" PRIu64 "+%" PRIu64 " used=%" PRIu64
			       " live=%" PRIu64,
			       s->id, s->extent.off, s->extent.len, s->used_bytes, s->live_bytes);
		if (!err)
			err = dump_end(d);
	}
	return err;
}

/* ---- log ----------------------------------------------------------------------- */

static int dump_op(struct dump *d, enum entry_kind kind, struct kv_slice key, struct kv_slice value)
{
	struct value_ref ref;
	int err = 0;

	switch (kind) {
	case ENTRY_DELETE:
		err = dump_key(d, "delete", key);
		break;
	case ENTRY_PUT:
		err = dump_key(d, "put", key);
		if (!err)
			err = dump_add(d, " len=%zu", value.len);
		break;
	case ENTRY_PUT_REF:
		err = dump_key(d, "put", key);
		if (!err && value_ref_decode(value, &ref))
			err = dump_add(d, " damaged reference");
		else if (!err)
			err = dump_add(d,
				       " segment=%" PRIu64 " off=%" PRIu64 " stored=%" PRIu64
				       " len=%" PRIu64,
				       ref.segment_id, ref.off, ref.stored_len, ref.raw_len);
		break;
	case ENTRY_RANGE_DELETE:
		err = dump_key(d, "delete_from", key);
		if (!err)
			err = dump_key(d, "to", value);
		break;
	}
	return err ? err : dump_end(d);
}

static int dump_frame(struct dump *d, const struct wal_frame *f)
{
	struct record_reader records;
	struct record_op op;
	kv_seq seq;
	int err;

	err = dump_add(d,
		       "frame lsn=%" PRIu64 " end=%" PRIu64 " epoch=%" PRIu64 " durable=%" PRIu64
		       " payload=%zu",
		       f->lsn, f->end, f->epoch, f->durable_lsn, f->payload.len);
	if (!err)
		err = dump_end(d);
	record_reader_init(&records, f->payload);
	while (!err && (err = record_reader_next(&records, &seq)) == 0) {
		while (!err && (err = record_reader_op(&records, &op)) == 0) {
			err = dump_add(d, "  seq=%" PRIu64, seq);
			if (!err)
				err = dump_op(d, op.kind, op.key, op.value);
		}
		if (err == -KV_E_NOTFOUND)
			err = 0;
	}
	if (!verify_is_damage(err))
		return err == -KV_E_NOTFOUND ? 0 : err;
	err = dump_add(d, "  damaged: %s", verify_why(err));
	return err ? err : dump_end(d);
}

static int dump_log(struct dump *d)
{
	const struct manifest *m = &d->v.manifest;
	const struct wal_fence fence = {m->log_fence, m->log_epoch};
	struct wal_position pos = {.lsn = m->log_lsn};
	struct wal_reader *reader = NULL;
	struct wal_options options;
	struct wal_frame frame;
	int err;

	memcpy(pos.prev_sum, m->log_prev_sum, CHECKSUM_LEN);
	verify_log_options(&d->v, &options);
	err = wal_reader_open(&options, &pos, &fence, m->clean, &reader);
	if (err)
		return err;
	while ((err = wal_reader_next(reader, &frame)) == 0) {
		err = dump_frame(d, &frame);
		if (err)
			goto out;
	}
	wal_reader_position(reader, &pos);
	if (err == -KV_E_NOTFOUND)
		err = dump_add(d, "end lsn=%" PRIu64, pos.lsn);
	else if (verify_is_damage(err))
		err = dump_add(d, "damaged lsn=%" PRIu64 ": %s", pos.lsn, verify_why(err));
	if (!err)
		err = dump_end(d);
out:
	wal_reader_close(reader);
	return err;
}

/* ---- tables ---------------------------------------------------------------------- */

static int dump_page(void *ctx, const struct page_ref *ref, int page_err, struct kv_slice from,
		     struct kv_slice to)
{
	struct dump *d = ctx;
	int err;

	if (page_err && !verify_is_damage(page_err))
		return page_err;
	err = dump_add(d, " page off=%" PRIu64 " stored=%" PRIu32 " raw=%" PRIu32, ref->off,
		       ref->stored_len, ref->raw_len);
	if (!err && from.len)
		err = dump_key(d, "from", from);
	if (!err && to.len)
		err = dump_key(d, "to", to);
	if (!err && page_err)
		err = dump_add(d, " damaged: %s", verify_why(page_err));
	return err ? err : dump_end(d);
}

static int dump_entry(void *ctx, const struct entry *e)
{
	struct dump *d = ctx;
	int err = dump_add(d, "  seq=%" PRIu64, e->seq);

	return err ? err : dump_op(d, e->kind, e->key, e->value);
}

static int dump_range(struct dump *d, const struct range_fragment *f)
{
	int err = dump_add(d, "  range");

	if (!err)
		err = dump_key(d, "from", f->from);
	if (!err)
		err = dump_key(d, "to", f->to);
	for (size_t i = 0; !err && i < f->seq_count; i++)
		err = dump_add(d, " seq=%" PRIu64, f->seqs[i]);
	return err ? err : dump_end(d);
}

static int dump_ranges(struct dump *d, const struct table_meta *m)
{
	const struct range_set *set = NULL;
	struct table *table = NULL;
	int err;

	err = table_open(&d->v.tables, m, &table);
	if (err)
		return err;
	err = table_ranges(table, &set);
	for (size_t i = 0; !err && set && i < range_set_count(set); i++) {
		struct range_fragment f = range_set_at(set, i);

		err = dump_range(d, &f);
	}
	table_close(table, true);
	return verify_is_damage(err) ? 0 : err;
}

static int dump_tables(struct dump *d)
{
	struct table_walk walk = {.page = dump_page, .entry = dump_entry, .ctx = d};
	const struct manifest *m = &d->v.manifest;
	int err = 0;

	for (size_t i = 0; !err && i < m->table_count; i++) {
		err = dump_table_meta(d, &m->tables[i]);
		if (!err)
			err = table_walk(&d->v.tables, &m->tables[i], &walk);
		if (!err)
			err = dump_ranges(d, &m->tables[i]);
	}
	return err;
}

static int dump_what(struct dump *d, enum kv_dump_what what)
{
	struct verify *v = &d->v;
	int err;

	if (what == KV_DUMP_SUPERBLOCK)
		return dump_superblocks(d);
	if (!v->sb.generation)
		return verify_no_superblock(v);
	err = manifest_store_read(v->volume, v->checksum, &v->sb, &v->manifest);
	if (err)
		return err;
	v->have_manifest = true;
	switch (what) {
	case KV_DUMP_MANIFEST:
		return dump_manifest(d);
	case KV_DUMP_LOG:
		return dump_log(d);
	case KV_DUMP_TABLES:
		return dump_tables(d);
	case KV_DUMP_SUPERBLOCK:
		break;
	}
	return -KV_E_INVALID;
}

int kv_dump(const char *path, enum kv_dump_what what, struct os_env *env,
	    int (*line)(void *ctx, const char *text), void *ctx)
{
	struct kv_verify_options options = {.env = env};
	struct dump d = {.line = line, .ctx = ctx};
	struct kv_verify_result ignored;
	int close_err;
	int err;

	err = verify_open(&d.v, path, &options, OS_OPEN_RDONLY | OS_OPEN_NOLOCK, &ignored);
	if (!err)
		err = dump_what(&d, what);
	close_err = verify_close(&d.v);
	kv_buf_free(&d.text);
	return err ? err : close_err;
}
