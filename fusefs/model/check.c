/* SPDX-License-Identifier: MIT */
/*
 * The checker: passes over one snapshot, each keyspace in order, with a table
 * of directories and one of files in memory. Every finding is reported when it
 * is made; repairs are gathered and written in one synced batch at the end, so
 * that an interrupted repair changes nothing.
 *
 * A file that was open without a name at a crash is as it should be: it is
 * reported (and removed by a repair), but not counted as a problem.
 */
#include "fusefs/model/check_state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/open.h"
#include "fusefs/model/place.h"
#include "fusefs/model/retry.h"
#include "kvcore/base/buf.h"

#define CHECK_STEP 4096U
#define CHECK_LINE 1024U

int check_report(struct check *c, enum kvfs_problem_id id, bool repairable, const char *fmt, ...)
{
	struct kvfs_problem problem = {.id = id, .repaired = repairable && c->options->repair};
	char line[CHECK_LINE];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	problem.text = line;
	if (id != KVFS_PROBLEM_ORPHAN) {
		c->result->problems++;
		c->result->repaired += problem.repaired;
	}
	if (c->options->found)
		c->options->found(c->options->ctx, &problem);
	return 0;
}

const char *check_path(struct check *c, struct kv_slice key)
{
	static const char unknown[] = "?";
	int err;

	buf_clear(&c->text);
	err = buf_append_byte(&c->text, '/');
	for (size_t i = 0; i < key.len && !err; i++) {
		if (!key.data[i])
			err = buf_append_byte(&c->text, '/');
		else
			err = buf_append_escaped(&c->text, kv_slice_of(key.data + i, 1));
	}
	if (!err)
		err = buf_append_byte(&c->text, 0);
	return err ? unknown : (const char *)c->text.data;
}

int check_step(struct check *c)
{
	const struct kv_progress *p = c->options->progress;

	if (++c->entries % CHECK_STEP || !p || !p->report)
		return 0;
	return p->report(p->ctx, c->entries, 0) ? -KV_E_INTERRUPTED : 0;
}

int check_scan(struct check *c, unsigned keyspace,
	       int (*visit)(struct check *c, struct kv_slice key, struct kv_slice value))
{
	struct kv_slice value;
	struct kv_iter *it;
	int err;

	err = kv_iter_open(c->txn, keyspace, NULL, &it);
	if (err)
		return err;
	err = kv_iter_first(it);
	while (!err) {
		err = kv_iter_value(it, &value);
		if (!err)
			err = visit(c, kv_iter_key(it), value);
		if (!err)
			err = check_step(c);
		if (!err)
			err = kv_iter_next(it);
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* The root directory, without which there is no tree; a new one is made. */
static int check_root(struct check *c)
{
	struct kvfs_owner owner = {0};
	struct check_dir dir = {.id = MODEL_ID_ROOT, .reach = CHECK_REACHED, .parent = CHECK_NONE};
	struct inode_buf rec = {0};
	struct model_key key;
	size_t index;
	int err;

	place_meta("root", &key);
	err = inode_get(&c->fs, c->txn, &key, false, &rec);
	if (!err && (rec.r.kind != MODEL_RECORD_FULL || !inode_is_dir(&rec.r) ||
		     rec.r.id != MODEL_ID_ROOT || rec.r.prefix.len))
		err = -KV_E_CORRUPT;
	if (err == -KV_E_NOTFOUND || err == -KV_E_CORRUPT) {
		open_root_record(&owner, &rec.r);
		err = check_report(c, KVFS_PROBLEM_ROOT, true, "root directory");
		if (!err)
			err = check_fix_put(c, &key, &rec.r);
		rec.r.nlink = 0; /* set once the subdirectories are counted */
		dir.made = true;
	}
	if (!err) {
		dir.nlink = rec.r.nlink;
		dir.prefix = kv_slice_of(NULL, 0);
		err = check_dir_add(c, &dir, &index);
	}
	c->result->directories++;
	inode_buf_free(&rec);
	return err;
}

static int check_next_id(struct check *c)
{
	struct kv_buf value = {0};
	struct model_key key;
	struct le64 next;
	int err;

	place_meta("next_id", &key);
	err = kv_txn_get(c->txn, key.keyspace, model_key_slice(&key), &value);
	if (!err && value.len == sizeof(next)) {
		memcpy(&next, value.data, sizeof(next));
		c->next_id = le64_get(next);
	}
	kv_buf_free(&value);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int check_passes(struct check *c)
{
	int (*const passes[])(struct check *) = {
		check_root,    check_next_id,	 check_inodes,	   check_names,
		check_orphans, check_ids,	 check_dirs,	   check_contents,
		check_xattrs,  check_file_fixes, check_dir_counts,
	};
	int err = 0;

	for (size_t i = 0; i < KV_ARRAY_COUNT(passes) && !err; i++)
		err = passes[i](c);
	return err;
}

/* Is there a record of a file? Then it is not some other program's database. */
static int check_has_record(struct check *c, unsigned keyspace, bool *out)
{
	struct kv_slice value;
	struct kv_iter *it;
	struct inode record;
	int err;

	err = kv_iter_open(c->txn, keyspace, NULL, &it);
	if (err)
		return err;
	err = kv_iter_first(it);
	if (!err)
		err = kv_iter_value(it, &value);
	if (!err)
		*out = *out || !inode_decode(value, &record);
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* The note that these are files may be lost with the page that it was on. */
static int check_format(struct check *c, struct kv_db *db)
{
	struct le32 version = le32_of(MODEL_FORMAT_NEWEST);
	struct model_key key;
	bool files = false;
	int format = open_check_format(db);
	int err;

	if (format != -KV_E_NOT_A_VOLUME)
		return format;
	err = check_has_record(c, MODEL_NAMES, &files);
	if (!err)
		err = check_has_record(c, MODEL_INODES, &files);
	if (err || !files)
		return err ? err : format;
	place_meta("format", &key);
	err = check_report(c, KVFS_PROBLEM_ROOT, true, "root directory: the format is not noted");
	return err ? err
		   : check_fix_value(c, MODEL_META, model_key_slice(&key),
				     kv_slice_of(&version, sizeof(version)));
}

static void check_fini(struct check *c)
{
	check_fix_free(c);
	btree_fini(&c->by_prefix);
	arena_fini(&c->arena);
	free(c->dirs);
	free(c->files);
	kv_buf_free(&c->ranges);
	kv_buf_free(&c->text);
	free(c);
}

static int check_volume(struct check *c, struct kv_db *db)
{
	struct kv_txn_options options = {.flags = KV_TXN_RDONLY};
	int err;

	c->fs.db = db;
	err = kv_txn_begin(db, &options, &c->txn);
	if (err)
		return err;
	err = check_format(c, db);
	if (!err)
		err = check_passes(c);
	kv_txn_abort(c->txn);
	if (!err && c->options->repair)
		err = check_apply(c, db);
	return err;
}

int kvfs_check(const char *path, const struct kvfs_check_options *options,
	       struct kvfs_check_result *result)
{
	static const struct kvfs_check_options none;
	struct kv_options kv = {0};
	struct kvfs_check_result sum = {0};
	struct check *c = calloc(1, sizeof(*c));
	struct kv_db *db;
	int err, closed;

	if (!c)
		return -ENOMEM;
	c->options = options ? options : &none;
	c->result = &sum;
	c->lost = CHECK_NONE;
	btree_init(&c->by_prefix);
	btree_init(&c->fixes);
	arena_init(&c->arena);
	kv.flags = c->options->repair ? 0 : KV_OPEN_RDONLY;
	kv.log = c->options->log;
	kv.env = c->options->env;
	place_set_prefixes(&kv);
	err = kv_open(path, &kv, &db);
	if (!err) {
		err = check_volume(c, db);
		closed = kv_close(db);
		if (!err)
			err = closed;
	}
	check_fini(c);
	if (!err)
		*result = sum;
	return err;
}
