/* SPDX-License-Identifier: MIT */
/*
 * What tools need beyond kvcore.h: make a volume, look at one without opening
 * it, verify, repair, dump. None of it prints; all of it takes any bytes as a
 * volume and answers with an error or correct data.
 */
#ifndef KVCORE_KVCORE_CHECK_H
#define KVCORE_KVCORE_CHECK_H

#include "kvcore/kvcore.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- create ----------------------------------------------------------- */

struct kv_create_options {
	uint64_t size_bytes;	   /* 0: a regular file grows on demand, a device is used whole */
	uint64_t log_size_bytes;   /* 0: chosen from the size; 1 MiB to 1 GiB */
	uint8_t uuid[KV_UUID_LEN]; /* all zero: random */
	const char *label;	   /* NULL: none; at most KV_LABEL_MAX bytes */
	const char *checksum;	   /* "sha256" (NULL), "sha512-256", "blake2b" */
	const char *compress;	   /* "snappy" (NULL), "none" */
	const struct kv_progress *progress; /* bytes of the log zeroed */
	const struct kv_log_sink *log;
	struct os_env *env;
};

#define KV_VOLUME_MIN_BYTES (8U * 1024 * 1024)

/**
 * kv_create() - write an empty volume
 * @path:    a block device, or a regular file, which is created if missing and
 *           whose content is lost; whether that is wanted is for the caller to know
 * @options: NULL for the defaults
 *
 * The superblock is written last, so that an interrupted call leaves no volume.
 * A file that this call created is removed again if the call fails.
 *
 * Return: 0, -KV_E_TOO_SMALL, -KV_E_INVALID, -KV_E_IN_USE, -KV_E_INTERRUPTED or the
 * -errno of the host.
 */
KV_API int kv_create(const char *path, const struct kv_create_options *options) KV_MUST_CHECK;

/**
 * kv_wipe() - erase both superblock copies, durably, so that no volume is left
 *
 * For a maker that failed after kv_create(). The rest of the content stays.
 *
 * Return: 0, -KV_E_IN_USE or the -errno of the host.
 */
KV_API int kv_wipe(const char *path, struct os_env *env) KV_MUST_CHECK;

/* ---- look ------------------------------------------------------------- */

/**
 * kv_probe() - read a volume's superblock and manifest without opening it
 *
 * Takes no lock and replays no log; the figures are those of the last checkpoint.
 *
 * Return: 0, -KV_E_NOT_A_VOLUME, -KV_E_VERSION, -KV_E_CORRUPT, -KV_E_CHECKSUM, -errno.
 */
KV_API int kv_probe(const char *path, struct os_env *env, struct kv_db_info *out) KV_MUST_CHECK;

/* ---- verify and repair ------------------------------------------------- */

/* Findings. Numbers never change; each says what kv_repair() can do about it. */
#define KV_PROBLEMS(X) /* number, name, repairable, text */                                        \
	X(101, SUPERBLOCK_COPY, true, "a superblock copy is damaged")                              \
	X(102, SUPERBLOCK_NONE, true, "no superblock copy is whole")                               \
	X(103, SUPERBLOCK_STALE, true, "a superblock copy is older than the other")                \
	X(111, MANIFEST, false, "both copies of the manifest are damaged")                         \
	X(112, MANIFEST_COPY, true, "a copy of the manifest or the superblock is damaged")         \
	X(121, LOG_HOLE, true, "the log is damaged before its end; later commits are lost")        \
	X(131, TABLE_PAGE, true, "a table page is damaged; its keys are lost")                     \
	X(132, TABLE_ORDER, true, "keys of a table are out of order")                              \
	X(133, TABLE_FILTER, true, "a table's filter denies a key that is there")                  \
	X(134, TABLE_PROPS, true, "a table's counts or bounds do not match its content")           \
	X(135, TABLE_OVERLAP, false, "two tables of one level overlap")                            \
	X(141, EXTENT_OVERLAP, false, "two owners claim the same space")                           \
	X(142, EXTENT_BOUNDS, false, "an extent lies outside the volume")                          \
	X(151, VALUE, true, "a large value is damaged; its key is lost")                           \
	X(152, VALUE_DANGLING, true, "a key refers to a value that is not there")                  \
	X(153, SEGMENT_COUNT, true, "a value segment's live count is wrong")

enum kv_problem_id {
#define KV_PROBLEM_ENUM(number, name, repairable, text) KV_PROBLEM_##name = (number),
	KV_PROBLEMS(KV_PROBLEM_ENUM)
#undef KV_PROBLEM_ENUM
};

/**
 * struct kv_problem - one finding
 * @id:       what
 * @keyspace: of the keys concerned, 0 if none; a range over several is a finding for each
 * @from:     first key that is or may be lost; empty: the keyspace's first, or none is concerned
 * @to:       last such key; empty: the keyspace's last, or none is concerned
 * @text:     one line for people, borrowed
 * @repaired: kv_repair() has done something about it
 */
struct kv_problem {
	enum kv_problem_id id;
	unsigned keyspace;
	struct kv_slice from;
	struct kv_slice to;
	const char *text;
	bool repaired;
};

struct kv_verify_options {
	void (*found)(void *ctx, const struct kv_problem *problem);
	void *ctx;
	const struct kv_progress *progress; /* bytes */
	const struct kv_log_sink *log;
	struct os_env *env;
	bool metadata_only; /* trust large values' content, check only their place */
};

struct kv_verify_result {
	uint64_t problems;
	uint64_t repaired;
	uint64_t tables, pages, entries, values;
	uint64_t log_frames;
	bool log_dirty; /* the log holds commits after the last checkpoint */
};

/**
 * kv_verify() - read and check every byte the volume refers to; writes nothing
 *
 * Return: 0 if it could look at all (see @result for what it found), else as kv_open().
 */
KV_API int kv_verify(const char *path, const struct kv_verify_options *options,
		     struct kv_verify_result *result) KV_MUST_CHECK;

/**
 * kv_repair() - verify, and mend what can be mended
 *
 * Damaged pages are left out, so that what is whole can be read again; each
 * lost key range is reported. The new state becomes current by one superblock
 * write: interrupted at any point, the volume is as it was. Run again it finds
 * nothing to do.
 *
 * Return: as kv_verify(); also -KV_E_NOSPACE.
 */
KV_API int kv_repair(const char *path, const struct kv_verify_options *options,
		     struct kv_verify_result *result) KV_MUST_CHECK;

/* ---- scrub ------------------------------------------------------------- */

struct kv_scrub_progress {
	uint64_t done, total; /* bytes; the total is an estimate */
	uint64_t after;	      /* kv_scrub_options.after of a scrub that goes on from here */
};
struct kv_scrub_options {
	void (*found)(void *ctx, const struct kv_problem *problem);
	/* Called after each MiB and each table, as often as it takes: it may sleep, to be kind to
	 * others. Nonzero stops. */
	int (*progress)(void *ctx, const struct kv_scrub_progress *progress);
	void *ctx;
	uint64_t after; /* 0, or where an earlier one ended */
};
struct kv_scrub_result {
	uint64_t problems;
	uint64_t tables, pages, entries, values;
	uint64_t log_frames;
	uint64_t after; /* 0: it came to the end */
};

/**
 * kv_scrub() - read and check everything that an open database refers to, beside its work
 * @options: NULL for the defaults
 * @result:  set whatever the result
 *
 * Superblocks, manifest and their copies, the durable part of the log, all tables with their
 * filters, and large values. Reads tables and values from the disk itself. Writes nothing and
 * repairs nothing. Each finding is also logged, and counted among the statistics.
 *
 * Thread safety: any thread, several at a time.
 * Return: 0, -KV_E_INTERRUPTED (by progress), -ENOMEM, the -errno of a read.
 */
KV_API int kv_scrub(struct kv_db *db, const struct kv_scrub_options *options,
		    struct kv_scrub_result *result) KV_MUST_CHECK;

/* ---- dump ------------------------------------------------------------- */

enum kv_dump_what { KV_DUMP_SUPERBLOCK, KV_DUMP_MANIFEST, KV_DUMP_LOG, KV_DUMP_TABLES };

/**
 * kv_dump() - describe on-disk structures in lines of text
 * @line: called with each line, without newline; nonzero return stops with -KV_E_INTERRUPTED
 *
 * Bytes outside printable ASCII are written as \xNN.
 *
 * Return: 0, or as kv_probe().
 */
KV_API int kv_dump(const char *path, enum kv_dump_what what, struct os_env *env,
		   int (*line)(void *ctx, const char *text), void *ctx) KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
