/* SPDX-License-Identifier: MIT */
/*
 * What kv_verify(), kv_repair() and kv_dump() share. Private to verify*.c,
 * repair*.c and dump.c.
 *
 * A verification never needs kv_open(): it reads the structures itself, in the
 * order in which they point to each other, and stops following a pointer when
 * what it points to is damaged. Every finding goes through verify_report().
 *
 * Thread safety: one thread per object.
 */
#ifndef KVCORE_ENGINE_VERIFY_H
#define KVCORE_ENGINE_VERIFY_H

#include "kvcore/format/superblock.h"
#include "kvcore/kvcore_check.h"
#include "kvcore/table/table.h"
#include "kvcore/wal/wal.h"

#define VERIFY_CACHE_BYTES (64U * 1024 * 1024)
#define VERIFY_NO_TABLE	   SIZE_MAX

/* A finding kept until it is known whether it was repaired. */
struct verify_finding {
	enum kv_problem_id id;
	unsigned keyspace;
	size_t table; /* index in the manifest; VERIFY_NO_TABLE: of no table */
	struct kv_buf from, to, text;
};

/* A page of a table that cannot be read. */
struct verify_page {
	size_t table;
	uint64_t off;
};

/* An entry whose large value is gone: the how-manieth of its leaf. */
struct verify_lost {
	struct verify_page leaf;
	uint64_t ordinal;
};

struct verify {
	const struct kv_verify_options *options;
	struct kv_verify_result *result;
	struct os_env *env;
	struct os_volume *volume;
	uint64_t volume_size;
	struct checksum *sha256;
	struct checksum *checksum; /* the volume's algorithm */
	struct cache *cache;
	struct table_env tables; /* without space: nothing is built */

	int copy_err[SUPERBLOCK_COPIES]; /* of reading and decoding each copy */
	struct superblock copy[SUPERBLOCK_COPIES];
	struct superblock sb; /* the newest whole copy; generation 0: there is none */
	uint64_t sb_found;    /* 0, or where it was found, as neither copy is whole */
	bool have_manifest;
	struct manifest manifest;
	bool no_repair; /* overlaps or extents out of bounds: nothing may be allocated */
	bool log_hole;	/* the log can be followed only up to @log_cut, LSN */
	uint64_t log_cut;
	bool live_unknown;    /* a leaf is damaged: live counts cannot be judged */
	uint64_t *live;	      /* by segment index: stored bytes that readable entries refer to */
	uint64_t *table_live; /* the same, of the table at hand */
	bool *rewrite;	      /* by table index: repair must rewrite it */
	bool *counted;	      /* by table index: its values are in @live */
	struct kv_buf value;  /* scratch */

	bool again;   /* repair: another round is possible, or wanted */
	bool collect; /* keep findings instead of reporting them */
	struct verify_finding *findings;
	size_t finding_count, finding_cap;
	struct verify_lost *lost; /* in the order of the walk */
	size_t lost_count, lost_cap;
	struct verify_page *bad; /* the pages reported as damaged, those of filters left out */
	size_t bad_count, bad_cap;
	size_t bad_at; /* where the last search ended: walks come in the same order */

	uint64_t done, total, reported; /* bytes */
};

/* ---- verify.c ---- */

/* Open the volume with os_open_flags. Return: as kv_verify(); nothing is left open on error. */
int verify_open(struct verify *v, const char *path, const struct kv_verify_options *options,
		unsigned flags, struct kv_verify_result *result) KV_MUST_CHECK;
/* Safe on what verify_open() left, also after its failure. Returns the close error. */
int verify_close(struct verify *v);
/* The superblock copies, as read into @v, and the manifest. */
int verify_roots(struct verify *v) KV_MUST_CHECK;
/* Memory for what is counted of the manifest's tables and segments. */
int verify_tables_prepare(struct verify *v) KV_MUST_CHECK;
/* Everything, in order. Return: 0 if all could be looked at, whatever was found. */
int verify_all(struct verify *v) KV_MUST_CHECK;

/*
 * Note a finding. @table: index in the manifest or VERIFY_NO_TABLE; its table must then
 * be rewritten to mend it. @from, @to: ikeys, may be empty. Return: 0, -ENOMEM.
 */
int verify_report(struct verify *v, enum kv_problem_id id, size_t table, struct kv_slice from,
		  struct kv_slice to, const char *fmt, ...) KV_PRINTF(6, 7) KV_MUST_CHECK;
/* Count bytes looked at. Return: 0, -KV_E_INTERRUPTED. */
int verify_progress(struct verify *v, uint64_t bytes) KV_MUST_CHECK;
/* Is it damage to be reported, rather than a reason to give up (memory, interruption)? */
bool verify_is_damage(int err);
/* Why there is no whole copy of the superblock: -EIO if one could not be read, else
 * -KV_E_CHECKSUM. */
int verify_no_superblock(const struct verify *v) KV_MUST_CHECK;
/* A clause for people: why what was read is not accepted. */
const char *verify_why(int err);
/* Split an ikey of any length into keyspace and key. */
unsigned verify_key(struct kv_slice ikey, struct kv_slice *key);

/* ---- verify_table.c ---- */

/* All tables: pages, order, counts, bounds, filters, values; levels; live counts. */
int verify_tables(struct verify *v) KV_MUST_CHECK;
/* Is it among the pages reported as damaged? */
bool verify_page_is_bad(struct verify *v, size_t table, uint64_t off);
/* One of them by itself; nothing that is between tables. */
int verify_table(struct verify *v, size_t index) KV_MUST_CHECK;

/* ---- verify_log.c ---- */

/* The log from the manifest's position: chain, records, references. */
int verify_log(struct verify *v) KV_MUST_CHECK;
void verify_log_options(const struct verify *v, struct wal_options *out);
/* The segment's index in the manifest, -KV_E_NOTFOUND. */
int verify_find_segment(const struct verify *v, uint64_t id, size_t *index) KV_MUST_CHECK;
/*
 * Judge a large value. @limit: bytes of the segment that may be referred to; @content: read it.
 * Return: 0, -KV_E_NOTFOUND (outside its segment), damage, or an error to give up on.
 */
int verify_value(struct verify *v, const struct value_ref *ref, size_t segment, uint64_t limit,
		 bool content) KV_MUST_CHECK;

#endif
