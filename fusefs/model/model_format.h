/* SPDX-License-Identifier: MIT */
/*
 * On-disk records of the file layer: which keyspaces there are, how their keys
 * are built and what their values hold. docs/format.md, section 9, is the
 * normative text. Values carry no checksums of their own: the engine covers
 * every byte of them.
 */
#ifndef KVFS_MODEL_FORMAT_H
#define KVFS_MODEL_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "kvcore/base/bytes.h"

#define MODEL_FORMAT_FIRST   1U /* what mkfs writes */
#define MODEL_FORMAT_CONTENT 2U /* records may name contents that are not under their own id */
#define MODEL_FORMAT_NEWEST  MODEL_FORMAT_CONTENT

enum model_keyspace {
	MODEL_NAMES = 1,    /* directory's prefix, name -> record or link */
	MODEL_INODES = 2,   /* be64 id -> record of a file that has or had several names */
	MODEL_DATA = 3,	    /* struct model_data_key -> base or patch of a chunk */
	MODEL_XATTRS = 4,   /* be64 id, name -> value too large for the record */
	MODEL_ORPHANS = 5,  /* be64 id -> record of a file without a name */
	MODEL_PREFIXES = 6, /* prefix of a displaced directory -> be64 id */
	MODEL_STAGE = 16,   /* be64 number -> frame of a stream that is being received */
	MODEL_HISTORY = 17, /* be64 ns since 1970 -> le64 number of the newest commit then */
	MODEL_META = 7,	    /* "root", "next_id", "format" */
	MODEL_SHARED = 8,   /* be64 content id -> le64 users, of contents with several */
	MODEL_KEYSPACE_LAST = MODEL_SHARED,
};

/* Limits, in bytes unless the name says otherwise. */
#define MODEL_PREFIX_MAX      1024U  /* of a directory's prefix */
#define MODEL_KEY_MAX	      1280U  /* prefix and name */
#define MODEL_FRESH_LEN	      9U     /* byte 0, be64 id */
#define MODEL_INLINE_MAX      2048U  /* contents kept in the record */
#define MODEL_XATTRS_MAX      2048U  /* all attributes kept in the record */
#define MODEL_XATTR_VALUE_MAX 1024U  /* one value kept in the record */
#define MODEL_CHUNK	      65536U /* of file contents */
#define MODEL_PATCHES_MAX     64U    /* patches of a chunk before they are folded */
#define MODEL_PATCH_SUM_MAX   32768U /* their bytes in all */
#define MODEL_PATCH_MAX	      16384U /* bytes of one patch, exclusive */
#define MODEL_RECORD_MAX      8192U
#define MODEL_ID_ROOT	      1U
#define MODEL_ID_FIRST	      16U    /* 0 is no id, 2 to 15 are reserved */
#define MODEL_ID_BLOCK	      65536U /* ids reserved at a time */
#define MODEL_TIME_SEC_MIN    (-(INT64_C(1) << 31))
#define MODEL_TIME_SEC_MAX    ((INT64_C(1) << 34) - (INT64_C(1) << 31) - 1)

enum model_record_kind { MODEL_RECORD_FULL = 1, MODEL_RECORD_LINK = 2 };

enum model_record_flags {
	MODEL_FLAG_CHUNKS = 1U << 0, /* contents are in MODEL_DATA, not in the record */
	MODEL_FLAG_PREFIX = 1U << 1, /* the directory's prefix is stored, not the natural one */
	MODEL_FLAG_XATTRS = 1U << 2, /* some attributes are in MODEL_XATTRS */
	/* Set by users, on files and directories. */
	MODEL_FLAG_IMMUTABLE = 1U << 3,
	MODEL_FLAG_APPEND = 1U << 4,
	MODEL_FLAG_NODUMP = 1U << 5,
	MODEL_FLAG_NOATIME = 1U << 6,
	MODEL_FLAG_CONTENT = 1U << 7, /* a struct model_content follows the fixed part */
};
#define MODEL_FLAGS_USER                                                                           \
	(MODEL_FLAG_IMMUTABLE | MODEL_FLAG_APPEND | MODEL_FLAG_NODUMP | MODEL_FLAG_NOATIME)
#define MODEL_FLAGS_KNOWN                                                                          \
	(MODEL_FLAG_CHUNKS | MODEL_FLAG_PREFIX | MODEL_FLAG_XATTRS | MODEL_FLAGS_USER |            \
	 MODEL_FLAG_CONTENT)

/*
 * A file's attributes; struct model_content (by its flag), prefix, attributes and contents follow
 * in this order. Times are (sec - MODEL_TIME_SEC_MIN) << 30 | nsec.
 */
struct model_record {
	uint8_t kind;	  /* MODEL_RECORD_FULL */
	uint8_t flags;	  /* MODEL_FLAG_*; an unknown one is damage */
	struct le16 mode; /* type and permissions */
	struct le32 uid;
	struct le32 gid;
	struct le32 nlink;  /* names; of a directory 2 and its subdirectories */
	struct le32 rdev;   /* of a device, else 0 */
	struct le64 id;	    /* never reused */
	struct le64 size;   /* bytes of contents or target */
	struct le64 chunks; /* chunks that exist; 0 without MODEL_FLAG_CHUNKS */
	struct le64 atime;
	struct le64 mtime;
	struct le64 ctime;
	struct le64 btime;
	struct le16 prefix_len;	  /* 0 without MODEL_FLAG_PREFIX, else 1 to MODEL_PREFIX_MAX */
	struct le16 xattrs_len;	  /* 0 to MODEL_XATTRS_MAX */
	struct le16 contents_len; /* size, or 0 with MODEL_FLAG_CHUNKS */
};
static_assert(sizeof(struct model_record) == 82, "on-disk size");
static_assert(offsetof(struct model_record, id) == 20, "on-disk layout");
static_assert(offsetof(struct model_record, prefix_len) == 76, "on-disk layout");

/* Where the chunks of a file are, if not under its own id alone. */
struct model_content {
	struct le64 id;	   /* the first part of their keys; given out like a file id */
	struct le32 flags; /* MODEL_CONTENT_*; an unknown one is damage */
};
static_assert(sizeof(struct model_content) == 12, "on-disk size");

enum model_content_flags {
	MODEL_CONTENT_SHARED = 1U << 0, /* there may be other users: MODEL_SHARED tells */
};
#define MODEL_CONTENT_FLAGS_KNOWN MODEL_CONTENT_SHARED

/* A name of a file whose record is in MODEL_INODES. */
struct model_link {
	uint8_t kind; /* MODEL_RECORD_LINK */
	uint8_t zero;
	struct le16 type; /* mode & S_IFMT, so that a listing needs no second read */
	struct le64 id;
};
static_assert(sizeof(struct model_link) == 12, "on-disk size");

/* One attribute in a record; name and value follow. They are in order of their names. */
struct model_xattr {
	uint8_t name_len;      /* 1 to 255 */
	struct le16 value_len; /* 0 to MODEL_XATTR_VALUE_MAX */
};
static_assert(sizeof(struct model_xattr) == 3, "on-disk size");

/* Key of a part of a chunk: all big-endian. Stamp 0 is the base, others are patches in order. */
#define MODEL_CHUNK_KEY_LEN 16U /* what the keys of a chunk begin with */
#define MODEL_DATA_KEY_LEN  20U /* be64 content id, be64 chunk, be32 stamp */

/* A patch; its bytes follow. */
struct model_patch {
	struct le32 off; /* in the chunk */
	struct le32 sum; /* bytes of this and all earlier patches of the chunk */
};
static_assert(sizeof(struct model_patch) == 8, "on-disk size");

#endif
