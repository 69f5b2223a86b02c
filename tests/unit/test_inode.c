/* SPDX-License-Identifier: MIT */
/* Records: what is encoded decodes to the same, and nothing else is accepted. */
#include "fusefs/model/inode.h"

#include <string.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

static const uint8_t xattrs[] = "\x06\x02\x00user.avv\x06\x00\x00user.b";
#define XATTRS_LEN (sizeof(xattrs) - 1)

static struct inode sample(uint32_t type)
{
	struct inode r = {
		.kind = MODEL_RECORD_FULL,
		.mode = type | 0640,
		.uid = 1,
		.gid = 2,
		.nlink = 3,
		.id = 77,
		.atime = inode_time((struct kvfs_time){-5, 6}),
		.mtime = inode_time((struct kvfs_time){7, 999999999}),
		.ctime = inode_time((struct kvfs_time){8, 0}),
		.btime = inode_time((struct kvfs_time){9, 1}),
		.xattrs = kv_slice_of(xattrs, XATTRS_LEN),
	};

	if (type == S_IFREG || type == S_IFLNK) {
		r.contents = kv_slice_of("contents", 8);
		r.size = 8;
	}
	if (type == S_IFDIR) {
		r.prefix = kv_slice_of("some\0prefix\0", 12);
		r.flags = MODEL_FLAG_PREFIX;
	}
	return r;
}

START_TEST(test_what_is_encoded_decodes_to_the_same)
{
	static const uint32_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR,
					 S_IFBLK, S_IFIFO, S_IFSOCK};
	uint8_t raw[MODEL_RECORD_MAX];

	for (size_t i = 0; i < KV_ARRAY_COUNT(types); i++) {
		struct inode r = sample(types[i]), d;
		size_t len = inode_encode(&r, raw);

		ck_assert_int_eq(inode_decode(kv_slice_of(raw, len), &d), 0);
		ck_assert_uint_eq(d.mode, r.mode);
		ck_assert_uint_eq(d.nlink, 3);
		ck_assert_uint_eq(d.id, 77);
		ck_assert_uint_eq(d.atime, r.atime);
		ck_assert_uint_eq(d.btime, r.btime);
		ck_assert(slice_equal(d.prefix, r.prefix));
		ck_assert(slice_equal(d.xattrs, r.xattrs));
		ck_assert(slice_equal(d.contents, r.contents));
	}
}
END_TEST

START_TEST(test_contents_may_be_under_another_id)
{
	uint8_t raw[MODEL_RECORD_MAX];
	struct inode r = sample(S_IFREG), d;
	struct model_content other = {.id = le64_of(99)};
	size_t len;

	r.contents.len = 0;
	r.flags = MODEL_FLAG_CHUNKS;
	r.size = 70000;
	r.chunks = 2;
	for (unsigned i = 0; i < 4; i++) {
		inode_set_content(&r, i & 1 ? 99 : r.id, i & 2 ? MODEL_CONTENT_SHARED : 0);
		len = inode_encode(&r, raw);
		ck_assert_int_eq(inode_decode(kv_slice_of(raw, len), &d), 0);
		ck_assert_uint_eq(d.flags, MODEL_FLAG_CHUNKS);
		ck_assert_uint_eq(inode_content(&d), i & 1 ? 99 : 77);
		ck_assert_uint_eq(d.sharing, r.sharing);
		ck_assert(slice_equal(d.xattrs, r.xattrs));
	}
	inode_set_content(&r, 99, 0);
	len = inode_encode(&r, raw);
	other.id = le64_of(77); /* its own, and nothing to say about it */
	memcpy(raw + sizeof(struct model_record), &other, sizeof(other));
	ck_assert_int_eq(inode_decode(kv_slice_of(raw, len), &d), -KV_E_CORRUPT);
	other.id = le64_of(MODEL_ID_FIRST - 1);
	memcpy(raw + sizeof(struct model_record), &other, sizeof(other));
	ck_assert_int_eq(inode_decode(kv_slice_of(raw, len), &d), -KV_E_CORRUPT);
	other.id = le64_of(99);
	other.flags = le32_of(MODEL_CONTENT_FLAGS_KNOWN + 1);
	memcpy(raw + sizeof(struct model_record), &other, sizeof(other));
	ck_assert_int_eq(inode_decode(kv_slice_of(raw, len), &d), -KV_E_CORRUPT);
}
END_TEST

START_TEST(test_times_reach_from_1901_to_2446)
{
	static const struct kvfs_time exact[] = {
		{MODEL_TIME_SEC_MIN, 0}, {-1, 999999999}, {0, 0}, {MODEL_TIME_SEC_MAX, 999999999}};

	for (size_t i = 0; i < KV_ARRAY_COUNT(exact); i++) {
		struct kvfs_time t = inode_time_get(inode_time(exact[i]));

		ck_assert_int_eq(t.sec, exact[i].sec);
		ck_assert_uint_eq(t.nsec, exact[i].nsec);
	}
	ck_assert_int_eq(inode_time_get(inode_time((struct kvfs_time){INT64_MIN, 0})).sec,
			 MODEL_TIME_SEC_MIN);
	ck_assert_int_eq(inode_time_get(inode_time((struct kvfs_time){INT64_MAX, 0})).sec,
			 MODEL_TIME_SEC_MAX);
}
END_TEST

START_TEST(test_every_cut_and_every_extra_byte_is_refused)
{
	uint8_t raw[MODEL_RECORD_MAX];
	struct inode r = sample(S_IFREG), d;
	size_t len = inode_encode(&r, raw);

	for (size_t cut = 0; cut < len; cut++)
		ck_assert_int_eq(inode_decode(kv_slice_of(raw, cut), &d), -KV_E_CORRUPT);
	raw[len] = 0;
	ck_assert_int_eq(inode_decode(kv_slice_of(raw, len + 1), &d), -KV_E_CORRUPT);
}
END_TEST

/* A flipped bit is refused, or gives a record that encodes to exactly these bytes. */
START_TEST(test_a_flipped_bit_is_refused_or_read_as_it_stands)
{
	static const uint32_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO};
	uint8_t raw[MODEL_RECORD_MAX], again[MODEL_RECORD_MAX];
	unsigned accepted = 0;

	for (size_t i = 0; i < KV_ARRAY_COUNT(types); i++) {
		struct inode r = sample(types[i]), d;
		size_t len = inode_encode(&r, raw);

		for (size_t bit = 0; bit < len * 8; bit++) {
			raw[bit / 8] ^= (uint8_t)(1U << bit % 8);
			if (!inode_decode(kv_slice_of(raw, len), &d)) {
				ck_assert_uint_eq(inode_encode(&d, again), len);
				ck_assert_mem_eq(raw, again, len);
				accepted++;
			}
			raw[bit / 8] ^= (uint8_t)(1U << bit % 8);
		}
	}
	ck_assert_uint_gt(accepted, 0);
}
END_TEST

START_TEST(test_fields_that_disagree_are_refused)
{
	uint8_t raw[MODEL_RECORD_MAX];
	struct inode r = sample(S_IFREG), d;
	size_t len = inode_encode(&r, raw);
	struct model_record *m = (struct model_record *)raw;

	m->size = le64_of(9); /* not the length of the contents */
	ck_assert_int_eq(inode_decode(kv_slice_of(raw, len), &d), -KV_E_CORRUPT);
	m->size = le64_of(8);
	m->chunks = le64_of(1); /* chunks without the flag */
	ck_assert_int_eq(inode_decode(kv_slice_of(raw, len), &d), -KV_E_CORRUPT);
	m->chunks = le64_of(0);
	m->flags = MODEL_FLAG_CHUNKS; /* contents in two places */
	ck_assert_int_eq(inode_decode(kv_slice_of(raw, len), &d), -KV_E_CORRUPT);
	m->flags = MODEL_FLAG_PREFIX; /* a file with a prefix */
	ck_assert_int_eq(inode_decode(kv_slice_of(raw, len), &d), -KV_E_CORRUPT);
	m->flags = 0x80;
	ck_assert_int_eq(inode_decode(kv_slice_of(raw, len), &d), -KV_E_CORRUPT);
	m->flags = 0;
	m->mode = le16_of(0644); /* no type */
	ck_assert_int_eq(inode_decode(kv_slice_of(raw, len), &d), -KV_E_CORRUPT);
	m->mode = le16_of(S_IFREG | 0644);
	m->mtime = le64_of(1000000000); /* more than a second of nanoseconds */
	ck_assert_int_eq(inode_decode(kv_slice_of(raw, len), &d), -KV_E_CORRUPT);
	m->mtime = le64_of(0);
	ck_assert_int_eq(inode_decode(kv_slice_of(raw, len), &d), 0);
}
END_TEST

START_TEST(test_links_are_twelve_bytes)
{
	struct inode r = {.kind = MODEL_RECORD_LINK, .mode = S_IFREG | 0644, .id = 99}, d;
	uint8_t raw[MODEL_RECORD_MAX];

	ck_assert_uint_eq(inode_encode(&r, raw), 12);
	ck_assert_int_eq(inode_decode(kv_slice_of(raw, 12), &d), 0);
	ck_assert_uint_eq(d.id, 99);
	ck_assert_uint_eq(d.mode, S_IFREG);
	r.mode = S_IFDIR; /* directories have one name */
	ck_assert_int_eq(inode_decode(kv_slice_of(raw, inode_encode(&r, raw)), &d), -KV_E_CORRUPT);
}
END_TEST

START_TEST(test_blocks_follow_what_is_stored)
{
	struct inode r = sample(S_IFREG);
	struct kvfs_attr a;

	inode_attr(&r, &a);
	ck_assert_uint_eq(a.blocks, 1);
	r.flags = MODEL_FLAG_CHUNKS;
	r.contents.len = 0;
	r.size = 1U << 30;
	r.chunks = 2;
	inode_attr(&r, &a);
	ck_assert_uint_eq(a.blocks, 256);
	r.size = 3000;
	inode_attr(&r, &a);
	ck_assert_uint_eq(a.blocks, 6);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_what_is_encoded_decodes_to_the_same,
		test_contents_may_be_under_another_id,
		test_times_reach_from_1901_to_2446,
		test_every_cut_and_every_extra_byte_is_refused,
		test_a_flipped_bit_is_refused_or_read_as_it_stands,
		test_fields_that_disagree_are_refused,
		test_links_are_twelve_bytes,
		test_blocks_follow_what_is_stored,
	};

	return test_suite_run("inode", tests, KV_ARRAY_COUNT(tests), 30);
}
