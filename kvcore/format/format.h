/* SPDX-License-Identifier: MIT */
/*
 * Every structure that kvcore puts on a volume. docs/format.md is the normative
 * text; this file follows it. Members are byte arrays, so alignment is 1 and
 * there is no padding. Every structure is covered by a checksum held by whoever
 * points to it, up to the superblock, which holds its own.
 *
 *   0          superblock copy 0          4 KiB, then copies of the manifests of even generations
 *   64 KiB     superblock copy 1          4 KiB, then the same of odd ones
 *   128 KiB    log ring                   log_size
 *   then       data: manifest, tables and value segments, in extents of 4 KiB blocks
 */
#ifndef KVCORE_FORMAT_FORMAT_H
#define KVCORE_FORMAT_FORMAT_H

#include <assert.h>
#include <stddef.h>

#include "kvcore/base/bytes.h"
#include "kvcore/format/checksum.h"
#include "kvcore/kvcore.h"

#define FORMAT_VERSION 1U
#define FORMAT_BLOCK   4096U /* unit of allocation and of log sealing, bytes */

/* ---- superblock -------------------------------------------------------- */

#define SUPERBLOCK_COPIES 2U
#define SUPERBLOCK_STRIDE 65536U /* copy n is at n * this */
#define SUPERBLOCK_MAGIC  "\x89KVFS\r\n\x1a"
#define FORMAT_LOG_OFF	  131072U

/* Feature bits this build knows. */
#define FORMAT_COMPAT_COPIES   1ULL /* each manifest has copies, section 5.1 of docs/format.md */
#define FORMAT_COMPAT_KNOWN    FORMAT_COMPAT_COPIES
#define FORMAT_RO_COMPAT_KNOWN 0ULL
#define FORMAT_INCOMPAT_KNOWN  0ULL

#define MANIFEST_EXTENTS_MAX 64U

/* The copy of generation n: a superblock at this + n % 2 * SUPERBLOCK_STRIDE, and a manifest of at
 * most so many bytes behind it. */
#define MANIFEST_COPY_OFF FORMAT_BLOCK
#define MANIFEST_COPY_MAX (SUPERBLOCK_STRIDE - 2 * FORMAT_BLOCK)

struct extent_disk {
	struct le64 off; /* bytes from the volume's start, a multiple of FORMAT_BLOCK */
	struct le64 len; /* bytes, a multiple of FORMAT_BLOCK, not 0 */
};

struct superblock_disk {
	uint8_t magic[8];
	struct le32 version;	/* FORMAT_VERSION */
	struct le32 block_size; /* FORMAT_BLOCK */
	struct le64 compat;
	struct le64 ro_compat;
	struct le64 incompat;
	uint8_t uuid[16];
	uint8_t label[64]; /* NUL-padded, not necessarily terminated */
	struct le64 created_ns;
	struct le64 generation; /* of this state of the volume; from 1 */
	struct le64 size_max;	/* bytes; 0: the file grows on demand */
	struct le64 log_off;	/* FORMAT_LOG_OFF */
	struct le64 log_size;	/* bytes, a multiple of FORMAT_BLOCK */
	struct le16 checksum_algo;
	struct le16 compress_algo;
	struct le32 page_size;	  /* target of a table page before compression, bytes */
	struct le64 manifest_len; /* bytes of the manifest within its extents */
	uint8_t manifest_sum[CHECKSUM_LEN];
	struct le32 manifest_extent_count; /* 1 to MANIFEST_EXTENTS_MAX */
	uint8_t zero0[4];
	struct extent_disk manifest_extents[MANIFEST_EXTENTS_MAX];
	uint8_t zero1[2856];
	uint8_t sum[CHECKSUM_LEN]; /* always SHA-256/128, over all bytes before it */
};
static_assert(sizeof(struct superblock_disk) == FORMAT_BLOCK, "on-disk size");
static_assert(offsetof(struct superblock_disk, sum) == FORMAT_BLOCK - CHECKSUM_LEN, "sum is last");

/* ---- log --------------------------------------------------------------- */

#define LOG_FRAME_MAGIC 0x4d52464cU /* "LFRM" */
#define LOG_FRAME_ALIGN 8U

/*
 * A frame begins where the one before ended (rounded up to LOG_FRAME_ALIGN), or
 * at the next multiple of FORMAT_BLOCK if a sync came between: a block that a
 * sync has covered is never written again. The LSN of a frame is the byte
 * position at which it begins, counted from the log's first use and never
 * wrapping; its place in the ring is lsn % log_size. Frames wrap at the ring's end.
 */
struct log_frame_header {
	struct le32 magic;
	struct le32 payload_len; /* bytes that follow this header */
	struct le64 lsn;
	struct le64 epoch;		/* grows with each opening for writing */
	struct le64 durable_lsn;	/* all frames that end at or before it were synced */
	uint8_t uuid[16];		/* of the volume */
	uint8_t prev_sum[CHECKSUM_LEN]; /* sum of the frame before */
	uint8_t sum[CHECKSUM_LEN];	/* of the header before it, and the payload */
};
static_assert(sizeof(struct log_frame_header) == 80, "on-disk size");

/* ---- entries: shared by log records and table pages --------------------- */

enum entry_kind { /* never renumbered */
		  ENTRY_DELETE = 0,
		  ENTRY_PUT = 1,	  /* value bytes follow */
		  ENTRY_PUT_REF = 2,	  /* an encoded struct value_ref follows */
		  ENTRY_RANGE_DELETE = 3, /* in log records: the range's end follows */
};

/* ---- tables ------------------------------------------------------------- */

enum page_type { /* first byte of a page; never renumbered */
		 PAGE_LEAF = 1,
		 PAGE_INNER = 2,
		 PAGE_FILTER = 3,
		 PAGE_RANGES = 4,
};

#define PAGE_RAW_MAX	 (256U * 1024) /* bytes of a page before compression */
#define VALUE_INLINE_MAX (64U * 1024)  /* longer values are always stored outside the tree */

/* ---- large values --------------------------------------------------------- */

#define VALUE_BLOCK (64U * 1024) /* a longer value is stored in blocks of this, with an index */

struct value_block {		/* of the index behind the blocks */
	struct le32 stored_len; /* bytes, 1 to those of the block; equal: not compressed */
	uint8_t sum[CHECKSUM_LEN];
};
static_assert(sizeof(struct value_block) == 20, "part of the format");

#endif
