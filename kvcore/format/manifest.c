/* SPDX-License-Identifier: MIT */
/*
 * The manifest as bytes: a magic and a format number, then varints in the order
 * of the structures. It is small next to the data it names, and read once, so
 * plain order beats random access. Encoding runs the checks that decoding does:
 * an engine's mistake must show while the old manifest is still the valid one.
 */
#include "kvcore/format/manifest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/format/table_meta.h"

#define MANIFEST_MAGIC	    0x464e4d4bU /* "KMNF" */
#define MANIFEST_VERSION    1U
#define MANIFEST_CLEAN	    1U /* flag */
#define SEGMENT_ENCODED_MIN 5U

void manifest_fini(struct manifest *m)
{
	for (size_t i = 0; i < m->table_count; i++)
		table_meta_fini(&m->tables[i]);
	free(m->tables);
	free(m->segments);
	m->tables = NULL;
	m->segments = NULL;
	m->table_count = 0;
	m->segment_count = 0;
}

/* Whether @a ends before @b begins. */
static bool tables_disjoint(const struct table_meta *a, const struct table_meta *b)
{
	int order = slice_compare(kv_buf_slice(&a->largest), kv_buf_slice(&b->smallest));

	return a->largest_exclusive ? order <= 0 : order < 0;
}

static int compare_ids(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int check_unique_ids(const struct manifest *m)
{
	uint64_t *ids;
	int err = 0;

	if (m->table_count < 2)
		return 0;
	ids = calloc(m->table_count, sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	for (size_t i = 0; i < m->table_count; i++)
		ids[i] = m->tables[i].id;
	qsort(ids, m->table_count, sizeof(*ids), compare_ids);
	for (size_t i = 1; !err && i < m->table_count; i++) {
		if (ids[i - 1] == ids[i])
			err = -KV_E_CORRUPT;
	}
	free(ids);
	return err;
}

static bool tables_valid(const struct manifest *m)
{
	for (size_t i = 0; i < m->table_count; i++) {
		const struct table_meta *t = &m->tables[i];
		const struct table_meta *before = i ? t - 1 : NULL;

		if (!table_meta_valid(t) || t->id >= m->next_table_id || t->seq_max > m->last_seq)
			return false;
		if (before && before->level > t->level)
			return false;
		if (before && t->level && before->level == t->level && !tables_disjoint(before, t))
			return false;
	}
	return true;
}

static bool segments_valid(const struct manifest *m)
{
	for (size_t i = 0; i < m->segment_count; i++) {
		const struct segment_meta *s = &m->segments[i];
		struct extent e = s->extent;

		if (!s->id || s->id >= m->next_segment_id || (i && s[-1].id >= s->id))
			return false;
		if (e.off % FORMAT_BLOCK || e.len % FORMAT_BLOCK || !e.len || e.len > INT64_MAX ||
		    e.off > INT64_MAX - e.len)
			return false;
		if (s->used_bytes > e.len || s->live_bytes > s->used_bytes)
			return false;
	}
	return true;
}

/* 0, -KV_E_CORRUPT, -ENOMEM. */
static int manifest_check(const struct manifest *m)
{
	if (!m->generation || !tables_valid(m) || !segments_valid(m))
		return -KV_E_CORRUPT;
	return check_unique_ids(m);
}

static int manifest_append_head(const struct manifest *m, struct kv_buf *out)
{
	const struct le32 magic = le32_of(MANIFEST_MAGIC);
	const struct le32 version = le32_of(MANIFEST_VERSION);
	const uint64_t numbers[] = {m->generation,     m->log_lsn,  m->log_epoch,
				    m->log_fence,      m->last_seq, m->next_table_id,
				    m->next_segment_id};
	int err;

	err = buf_append(out, &magic, sizeof(magic));
	if (!err)
		err = buf_append(out, &version, sizeof(version));
	if (!err)
		err = buf_append(out, m->uuid, sizeof(m->uuid));
	if (!err)
		err = buf_append(out, m->log_prev_sum, CHECKSUM_LEN);
	if (!err)
		err = buf_append_byte(out, m->clean ? MANIFEST_CLEAN : 0);
	for (size_t i = 0; !err && i < KV_ARRAY_COUNT(numbers); i++)
		err = buf_append_varint(out, numbers[i]);
	return err;
}

static int segment_append(const struct segment_meta *s, struct kv_buf *out)
{
	int err = buf_append_varint(out, s->id);

	if (!err)
		err = table_meta_extent_append(out, s->extent);
	if (!err)
		err = buf_append_varint(out, s->used_bytes);
	if (!err)
		err = buf_append_varint(out, s->live_bytes);
	return err;
}

int manifest_encode(const struct manifest *m, struct kv_buf *out)
{
	struct kv_buf buf = {0};
	int err = manifest_check(m);

	if (err)
		return err == -KV_E_CORRUPT ? -KV_E_INVALID : err;
	err = manifest_append_head(m, &buf);
	if (!err)
		err = buf_append_varint(&buf, m->table_count);
	for (size_t i = 0; !err && i < m->table_count; i++)
		err = table_meta_encode(&m->tables[i], &buf);
	if (!err)
		err = buf_append_varint(&buf, m->segment_count);
	for (size_t i = 0; !err && i < m->segment_count; i++)
		err = segment_append(&m->segments[i], &buf);
	if (err) {
		kv_buf_free(&buf);
		return err;
	}
	kv_buf_free(out);
	*out = buf;
	return 0;
}

static int manifest_read_head(struct cursor *c, struct manifest *m)
{
	uint32_t magic = cursor_le32(c);
	uint32_t version = cursor_le32(c);
	struct kv_slice uuid = cursor_bytes(c, sizeof(m->uuid));
	struct kv_slice prev_sum = cursor_bytes(c, CHECKSUM_LEN);
	uint8_t flags = cursor_u8(c);

	if (c->bad || magic != MANIFEST_MAGIC)
		return -KV_E_CORRUPT;
	if (version > MANIFEST_VERSION)
		return -KV_E_VERSION;
	if (version != MANIFEST_VERSION || flags & ~MANIFEST_CLEAN)
		return -KV_E_CORRUPT;
	memcpy(m->uuid, uuid.data, sizeof(m->uuid));
	memcpy(m->log_prev_sum, prev_sum.data, CHECKSUM_LEN);
	m->clean = flags & MANIFEST_CLEAN;
	m->generation = cursor_varint(c);
	m->log_lsn = cursor_varint(c);
	m->log_epoch = cursor_varint(c);
	m->log_fence = cursor_varint(c);
	m->last_seq = cursor_varint(c);
	m->next_table_id = cursor_varint(c);
	m->next_segment_id = cursor_varint(c);
	return c->bad ? -KV_E_CORRUPT : 0;
}

static int manifest_read_tables(struct cursor *c, struct manifest *m)
{
	uint64_t count = cursor_varint(c);

	if (c->bad || count > cursor_left(c) / TABLE_META_ENCODED_MIN)
		return -KV_E_CORRUPT;
	if (!count)
		return 0;
	m->tables = calloc((size_t)count, sizeof(*m->tables));
	if (!m->tables)
		return -ENOMEM;
	/* Counted one by one: manifest_fini() releases what was decoded so far. */
	while (m->table_count < count) {
		int err = table_meta_decode(c, &m->tables[m->table_count]);

		if (err)
			return err;
		m->table_count++;
	}
	return 0;
}

static int manifest_read_segments(struct cursor *c, struct manifest *m)
{
	uint64_t count = cursor_varint(c);

	if (c->bad || count > cursor_left(c) / SEGMENT_ENCODED_MIN)
		return -KV_E_CORRUPT;
	if (!count)
		return 0;
	m->segments = calloc((size_t)count, sizeof(*m->segments));
	if (!m->segments)
		return -ENOMEM;
	m->segment_count = (size_t)count;
	for (size_t i = 0; i < m->segment_count; i++) {
		struct segment_meta *s = &m->segments[i];

		s->id = cursor_varint(c);
		s->extent = table_meta_extent_read(c);
		s->used_bytes = cursor_varint(c);
		s->live_bytes = cursor_varint(c);
		if (c->bad)
			return -KV_E_CORRUPT;
	}
	return 0;
}

int manifest_decode(struct kv_slice in, struct manifest *out)
{
	struct cursor c = cursor_of(in);
	struct manifest m;
	int err;

	memset(&m, 0, sizeof(m));
	err = manifest_read_head(&c, &m);
	if (err)
		goto out;
	err = manifest_read_tables(&c, &m);
	if (err)
		goto out;
	err = manifest_read_segments(&c, &m);
	if (err)
		goto out;
	err = cursor_finish(&c);
	if (err)
		goto out;
	err = manifest_check(&m);
	if (err)
		goto out;
	*out = m;
	return 0;
out:
	manifest_fini(&m);
	return err;
}
