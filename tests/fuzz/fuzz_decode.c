/* SPDX-License-Identifier: MIT */
/*
 * Every decoder of bytes from the disk, one at a time: the first byte chooses. What is accepted is
 * read to its end, so that a decoder that promises too much is found by what relies on it.
 */
#include <string.h>

#include "fusefs/model/chunk.h"
#include "fusefs/model/inode.h"
#include "fusefs/model/model_format.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/bytes.h"
#include "kvcore/format/compress.h"
#include "kvcore/format/entry.h"
#include "kvcore/format/superblock.h"
#include "kvcore/format/table_meta.h"
#include "kvcore/table/filter.h"
#include "kvcore/table/page.h"
#include "kvcore/table/range_page.h"
#include "tests/fuzz/fuzz.h"

static void superblock(struct kv_slice in)
{
	struct superblock_disk disk;
	struct superblock_disk again;
	struct superblock sb;
	struct checksum *sha256;

	memset(&disk, 0, sizeof(disk));
	memcpy(&disk, in.data, in.len < sizeof(disk) ? in.len : sizeof(disk));
	FUZZ_CHECK(checksum_new(CHECKSUM_SHA256, &sha256) == 0);
	if (superblock_decode(&disk, sha256, &sb) == 0)
		FUZZ_CHECK(superblock_encode(&sb, sha256, &again) == 0);
	checksum_free(sha256);
}

static void manifest(struct kv_slice in)
{
	struct kv_buf again = {0};
	struct manifest m;

	if (manifest_decode(in, &m) != 0)
		return;
	FUZZ_CHECK(manifest_encode(&m, &again) == 0);
	kv_buf_free(&again);
	manifest_fini(&m);
}

static void table_meta(struct kv_slice in)
{
	struct cursor c = cursor_of(in);
	struct kv_buf again = {0};
	struct table_meta m;

	if (table_meta_decode(&c, &m) != 0)
		return;
	FUZZ_CHECK(table_meta_encode(&m, &again) == 0);
	kv_buf_free(&again);
	table_meta_fini(&m);
}

static void record(struct kv_slice in)
{
	struct record_reader r;
	struct record_op op;
	struct value_ref ref;
	kv_seq seq;

	record_reader_init(&r, in);
	while (record_reader_next(&r, &seq) == 0) {
		while (record_reader_op(&r, &op) == 0) {
			FUZZ_CHECK(op.key.len >= IKEY_PREFIX_LEN && op.key.len <= IKEY_MAX);
			if (op.kind == ENTRY_PUT_REF)
				FUZZ_CHECK(value_ref_decode(op.value, &ref) == 0);
		}
	}
}

static void page_walk(const struct page *p, enum page_type type)
{
	static uint8_t key[PAGE_KEY_ROOM];
	struct page_cell cell;
	struct page_ref ref;
	size_t len;

	for (uint32_t i = 0; i < p->count; i++) {
		page_get_cell(p, i, &cell);
		len = page_get_key(p, i, &cell, key);
		FUZZ_CHECK(page_key_equals(p, i, &cell, kv_slice_of(key, len)));
		FUZZ_CHECK(page_lower_bound(p, kv_slice_of(key, len), cell.seq) <= i);
		if (type == PAGE_INNER) {
			page_get_child(p, i, &ref);
			(void)page_find_child(p, kv_slice_of(key, len), cell.seq);
		}
	}
}

static void page(struct kv_slice in, enum page_type type)
{
	struct page_limits limits = {.type = type, .children_end = 1U << 20};
	struct page p;

	if (page_validate(in.data, in.len, &limits) != 0)
		return;
	p = page_view(in.data, in.len);
	page_walk(&p, type);
}

static void filter(struct kv_slice in)
{
	/* Blocks of a filter stand at addresses that are multiples of their size. */
	size_t room = (in.len + FILTER_BLOCK) / FILTER_BLOCK * FILTER_BLOCK;
	uint8_t *copy = aligned_alloc(FILTER_BLOCK, room);

	FUZZ_CHECK(copy);
	memcpy(copy, in.data, in.len);
	if (filter_validate(copy, in.len) == 0) {
		for (uint64_t h = 0; h < 64; h++)
			(void)filter_admits(copy, h * 0x9e3779b97f4a7c15U);
	}
	free(copy);
}

static void ranges(struct kv_slice in)
{
	struct range_set *set;
	struct kv_buf again = {0};

	if (range_page_decode(in, &set) != 0)
		return;
	for (size_t i = 0; i < range_set_count(set); i++) {
		struct range_fragment f = range_set_at(set, i);

		FUZZ_CHECK(range_set_covering(set, f.from, KV_SEQ_MAX) == f.seqs[0]);
	}
	FUZZ_CHECK(range_page_encode(set, &again) == 0);
	kv_buf_free(&again);
	range_set_free(set);
}

static void unpack(struct kv_slice in)
{
	static uint8_t out[70000];
	size_t raw = in.len >= 4 ? be32_at(in.data) % sizeof(out) : 0;

	if (in.len >= 4)
		(void)!decompress_page(COMPRESS_SNAPPY, kv_slice_of(in.data + 4, in.len - 4), out,
				       raw);
}

static void inode(struct kv_slice in)
{
	static uint8_t out[MODEL_RECORD_MAX];
	struct kvfs_attr attr;
	struct inode r;

	if (inode_decode(in, &r) != 0)
		return;
	inode_attr(&r, &attr);
	if (r.kind == MODEL_RECORD_FULL) {
		FUZZ_CHECK(inode_encode(&r, out) == in.len);
		FUZZ_CHECK(memcmp(out, in.data, in.len) == 0);
	}
}

static void chunk(struct kv_slice in)
{
	uint64_t id, n;
	uint32_t stamp, off;
	struct kv_slice bytes;

	(void)!chunk_key_decode(in, &id, &n, &stamp);
	if (chunk_part_decode(in, in.len % 2, &off, &bytes) == 0)
		FUZZ_CHECK(off + bytes.len <= MODEL_CHUNK);
}

enum {
	DECODE_SUPERBLOCK,
	DECODE_MANIFEST,
	DECODE_TABLE_META,
	DECODE_RECORD,
	DECODE_LEAF,
	DECODE_INNER,
	DECODE_FILTER,
	DECODE_RANGES,
	DECODE_SNAPPY,
	DECODE_INODE,
	DECODE_CHUNK,
	DECODE_COUNT
};

void fuzz_one(const uint8_t *data, size_t len)
{
	struct kv_slice in;

	if (len == 0)
		return;
	in = kv_slice_of(data + 1, len - 1);
	switch (data[0] % DECODE_COUNT) {
	case DECODE_SUPERBLOCK:
		superblock(in);
		break;
	case DECODE_MANIFEST:
		manifest(in);
		break;
	case DECODE_TABLE_META:
		table_meta(in);
		break;
	case DECODE_RECORD:
		record(in);
		break;
	case DECODE_LEAF:
		page(in, PAGE_LEAF);
		break;
	case DECODE_INNER:
		page(in, PAGE_INNER);
		break;
	case DECODE_FILTER:
		filter(in);
		break;
	case DECODE_RANGES:
		ranges(in);
		break;
	case DECODE_SNAPPY:
		unpack(in);
		break;
	case DECODE_INODE:
		inode(in);
		break;
	default:
		chunk(in);
	}
}

/* ---- what to begin with --------------------------------------------------- */

static size_t seed_inode(uint8_t *out)
{
	struct inode r = {
		.kind = MODEL_RECORD_FULL,
		.mode = S_IFREG | 0644,
		.nlink = 1,
		.id = 77,
		.size = 8,
		.mtime = 1,
		.xattrs = kv_slice_of("\x06\x02\x00user.avv", 11),
		.contents = kv_slice_of("contents", 8),
	};

	return inode_encode(&r, out);
}

static size_t seed_page(enum page_type type, uint8_t *out)
{
	static const char *const keys[] = {"\0\1alpha", "\0\1alphabet", "\0\1beta"};
	uint8_t refs[3][PAGE_REF_DISK_MAX];
	struct page_item items[3];
	struct kv_buf page = {0};
	size_t len;

	for (uint32_t i = 0; i < 3; i++) {
		struct page_ref ref = {.off = i * 4096, .stored_len = 100, .raw_len = 200};

		items[i] = (struct page_item){.key = kv_slice_of(keys[i], 2 + strlen(keys[i] + 2)),
					      .tag = type == PAGE_LEAF ? ENTRY_PUT : 0,
					      .seq = type == PAGE_LEAF ? i + 5 : 0,
					      .payload = kv_slice_of("value", 5)};
		if (type == PAGE_INNER)
			items[i].payload = kv_slice_of(refs[i], page_ref_encode(&ref, refs[i]));
	}
	FUZZ_CHECK(page_encode(type, items, 3, &page) == 0);
	len = page.len;
	memcpy(out, page.data, len);
	kv_buf_free(&page);
	return len;
}

static size_t seed_ranges(uint8_t *out)
{
	struct kv_buf page = {0};
	struct range_set *set;
	size_t len;

	FUZZ_CHECK(range_set_new(&set) == 0);
	FUZZ_CHECK(range_set_add(set, kv_slice_of("\0\1a", 3), kv_slice_of("\0\1m", 3), 4) == 0);
	FUZZ_CHECK(range_set_add(set, kv_slice_of("\0\1c", 3), kv_slice_of("\0\1z", 3), 9) == 0);
	FUZZ_CHECK(range_page_encode(set, &page) == 0);
	len = page.len;
	memcpy(out, page.data, len);
	kv_buf_free(&page);
	range_set_free(set);
	return len;
}

static size_t seed_filter(uint8_t *out)
{
	static const uint64_t hashes[] = {1, 2, 3};
	struct kv_buf page = {0};
	size_t len;

	FUZZ_CHECK(filter_build(hashes, 3, 10, NULL, 4096, &page) == 0);
	len = page.len;
	memcpy(out, page.data, len);
	kv_buf_free(&page);
	return len;
}

static size_t seed_record(uint8_t *out)
{
	struct record_op put = {ENTRY_PUT, kv_slice_of("\0\1key", 5), kv_slice_of("value", 5)};
	struct record_op drop = {ENTRY_RANGE_DELETE, kv_slice_of("\0\1a", 3),
				 kv_slice_of("\0\1b", 3)};
	struct kv_buf ops = {0};
	struct kv_buf payload = {0};
	size_t len;

	FUZZ_CHECK(record_op_append(&ops, &put) == 0);
	FUZZ_CHECK(record_op_append(&ops, &drop) == 0);
	FUZZ_CHECK(record_append(&payload, 17, 2, kv_buf_slice(&ops)) == 0);
	len = payload.len;
	memcpy(out, payload.data, len);
	kv_buf_free(&ops);
	kv_buf_free(&payload);
	return len;
}

/* A manifest with one table and one segment; @only: the table's description alone. */
static size_t seed_manifest(bool only, uint8_t *out)
{
	struct extent place = {1U << 20, 65536};
	struct segment_meta segment = {.id = 1, .extent = {2U << 20, 65536}, .used_bytes = 4096};
	struct table_meta table = {.id = 1,
				   .level = 1,
				   .height = 1,
				   .root = {.stored_len = 100, .raw_len = 200},
				   .stored_bytes = 4096,
				   .entry_count = 3,
				   .raw_bytes = 60,
				   .seq_min = 1,
				   .seq_max = 3,
				   .extent_count = 1,
				   .extents = &place};
	struct manifest m = {.generation = 1,
			     .last_seq = 3,
			     .next_table_id = 2,
			     .next_segment_id = 2,
			     .table_count = 1,
			     .tables = &table,
			     .segment_count = 1,
			     .segments = &segment};
	struct kv_buf blob = {0};
	size_t len;

	FUZZ_CHECK(buf_append(&table.smallest, "\0\1a", 3) == 0);
	FUZZ_CHECK(buf_append(&table.largest, "\0\1z", 3) == 0);
	if (only)
		FUZZ_CHECK(table_meta_encode(&table, &blob) == 0);
	else
		FUZZ_CHECK(manifest_encode(&m, &blob) == 0);
	len = blob.len;
	memcpy(out, blob.data, len);
	kv_buf_free(&blob);
	kv_buf_free(&table.smallest);
	kv_buf_free(&table.largest);
	return len;
}

static size_t seed_superblock(uint8_t *out)
{
	struct superblock sb = {.label = "label",
				.generation = 3,
				.log_size = 1U << 20,
				.checksum_algo = CHECKSUM_SHA256,
				.compress_algo = COMPRESS_SNAPPY,
				.page_size = 4096,
				.manifest_len = 100,
				.manifest_extent_count = 1,
				.manifest_extents = {{2U << 20, 65536}}};
	struct superblock_disk disk;
	struct checksum *sha256;

	FUZZ_CHECK(checksum_new(CHECKSUM_SHA256, &sha256) == 0);
	if (superblock_encode(&sb, sha256, &disk) != 0)
		memset(&disk, 0, sizeof(disk));
	checksum_free(sha256);
	memcpy(out, &disk, sizeof(disk));
	return sizeof(disk);
}

size_t fuzz_seed(unsigned n, uint8_t *out, size_t cap)
{
	FUZZ_CHECK(cap > 4096);
	out[0] = (uint8_t)n;
	switch (n) {
	case DECODE_SUPERBLOCK:
		return 1 + seed_superblock(out + 1);
	case DECODE_MANIFEST:
		return 1 + seed_manifest(false, out + 1);
	case DECODE_TABLE_META:
		return 1 + seed_manifest(true, out + 1);
	case DECODE_RECORD:
		return 1 + seed_record(out + 1);
	case DECODE_LEAF:
		return 1 + seed_page(PAGE_LEAF, out + 1);
	case DECODE_INNER:
		return 1 + seed_page(PAGE_INNER, out + 1);
	case DECODE_FILTER:
		return 1 + seed_filter(out + 1);
	case DECODE_RANGES:
		return 1 + seed_ranges(out + 1);
	case DECODE_SNAPPY:
		memcpy(out + 1, "\0\0\0\x0b\x0b\x28hello hello", 17);
		return 18;
	case DECODE_INODE:
		return 1 + seed_inode(out + 1);
	case DECODE_CHUNK:
		memset(out + 1, 0, 20);
		return 21;
	default:
		return 0;
	}
}
