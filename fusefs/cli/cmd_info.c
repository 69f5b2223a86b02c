/* SPDX-License-Identifier: MIT */
/*
 * kvfs info. A volume that is not mounted is opened for reading, and the
 * figures are exact. Of a mounted one the daemon alone knows the newest state:
 * free space and files come from the mount, the rest from the last checkpoint
 * on the disk, and the output says so.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/target.h"
#include "fusefs/cli/text.h"

const char cmd_info_help[] =
	"usage: kvfs info [--json] TARGET\n"
	"\n"
	"Tell what a volume is, what it holds, and how full it is.\n"
	"\n"
	"  -j, --json   as a JSON object, with sizes in bytes\n"
	"\n"
	"Of a mounted volume, free space is that of now, other figures are those of the\n"
	"last checkpoint.\n";

struct info {
	struct target t;
	const char *volume;
	struct kv_db_info db;
	bool has_db;
	struct statvfs space; /* if mounted */
};

static int gather_mounted(struct info *i)
{
	int err;

	if (fstatvfs(i->t.dir_fd, &i->space))
		return -errno;
	i->volume = i->t.mount.source;
	err = kv_probe(i->volume, NULL, &i->db);
	i->has_db = !err;
	if (err)
		message(i->volume, "%s; only what the mount tells is shown", message_volume(err));
	return 0;
}

static int gather(struct info *i)
{
	struct kv_db_info disk;
	int err;

	if (i->t.mounted)
		return gather_mounted(i);
	i->volume = i->t.name;
	err = kv_get_info(kvfs_db(i->t.fs), &i->db);
	if (!err)
		err = kv_probe(i->volume, NULL, &disk);
	if (err)
		return err;
	/* Opened for reading the log is replayed into memory, and then no longer counted. */
	i->db.log_used = disk.log_used;
	i->has_db = true;
	return 0;
}

static void uuid_text(const uint8_t uuid[KV_UUID_LEN], char out[37])
{
	char *p = out;

	for (size_t n = 0; n < KV_UUID_LEN; n++) {
		if (n == 4 || n == 6 || n == 8 || n == 10)
			*p++ = '-';
		p += snprintf(p, 3, "%02x", uuid[n]);
	}
}

/* ---- text ----------------------------------------------------------------------- */

static void line(const char *what)
{
	printf("%-12s", what);
}

static void line_size(const char *what, uint64_t bytes, const char *more)
{
	char text[16];

	text_size(text, bytes);
	line(what);
	printf("%s (%" PRIu64 " bytes)%s\n", text, bytes, more);
}

static void print_name(const char *what, const char *s)
{
	line(what);
	text_write(stdout, kv_slice_of(s, strlen(s)), TEXT_PRINTABLE);
	putchar('\n');
}

static void print_levels(const struct kv_db_info *db)
{
	char text[16];

	puts("level   tables      entries        bytes");
	for (unsigned n = 0; n < KV_LEVELS; n++) {
		if (!db->level[n].tables)
			continue;
		text_size(text, db->level[n].bytes);
		printf("%5u %8" PRIu64 " %12" PRIu64 " %12s\n", n, db->level[n].tables,
		       db->level[n].entries, text);
	}
	text_size(text, db->value_live_bytes);
	printf("large values: %" PRIu64 " segments, %s of them in use\n", db->value_segments, text);
}

static void print_identity(const struct kv_db_info *db)
{
	char uuid[37];

	uuid_text(db->uuid, uuid);
	if (db->label[0])
		print_name("label", db->label);
	print_name("uuid", uuid);
	line("format");
	printf("%" PRIu32 ", features compat=0x%" PRIx64 " ro_compat=0x%" PRIx64
	       " incompat=0x%" PRIx64 "\n",
	       db->format_version, db->compat, db->ro_compat, db->incompat);
	line("checksum");
	printf("%s, compression %s\n", db->checksum_name, db->compress_name);
	line("generation");
	printf("%" PRIu64 ", last commit %" PRIu64 "\n", db->generation, db->last_seq);
}

static void print_text(const struct info *i)
{
	const struct kv_db_info *db = &i->db;

	print_name("volume", i->volume);
	if (i->t.mounted)
		print_name("mounted at", i->t.mount.dir);
	if (i->has_db) {
		print_identity(db);
		line_size("size", db->size, db->size_max > db->size ? ", grows on demand" : "");
	}
	if (i->t.mounted) {
		line_size("free", (uint64_t)i->space.f_bavail * i->space.f_frsize, "");
		line("files");
		printf("%" PRIu64 " (estimate)\n", (uint64_t)(i->space.f_files - i->space.f_ffree));
	}
	if (!i->has_db)
		return;
	if (i->t.mounted)
		puts("\nas of the last checkpoint:");
	line_size("in use", db->used, "");
	if (!i->t.mounted)
		line_size("free", db->free, "");
	line_size("log", db->log_size, "");
	line_size("log in use", db->log_used, "");
	line("snapshots");
	printf("%" PRIu64 "\n", db->named_snapshots);
	print_levels(db);
}

/* ---- json ----------------------------------------------------------------------- */

static void json_string(const char *key, const char *s)
{
	printf("  \"%s\": ", key);
	text_json(stdout, s);
	puts(",");
}

static void json_number(const char *key, uint64_t v)
{
	printf("  \"%s\": %" PRIu64 ",\n", key, v);
}

static void json_db(const struct kv_db_info *db)
{
	const char *comma = "";
	char uuid[37];

	uuid_text(db->uuid, uuid);
	json_string("uuid", uuid);
	json_string("label", db->label);
	json_number("format_version", db->format_version);
	json_number("compat", db->compat);
	json_number("ro_compat", db->ro_compat);
	json_number("incompat", db->incompat);
	json_string("checksum", db->checksum_name);
	json_string("compression", db->compress_name);
	json_number("generation", db->generation);
	json_number("last_commit", db->last_seq);
	json_number("size_bytes", db->size);
	printf("  \"grows\": %s,\n", db->size_max > db->size ? "true" : "false");
	json_number("used_bytes", db->used);
	json_number("log_bytes", db->log_size);
	json_number("log_used_bytes", db->log_used);
	json_number("transaction_max_bytes", db->txn_max_bytes);
	json_number("snapshots", db->named_snapshots);
	json_number("value_segments", db->value_segments);
	json_number("value_bytes", db->value_bytes);
	json_number("value_live_bytes", db->value_live_bytes);
	fputs("  \"levels\": [", stdout);
	for (unsigned n = 0; n < KV_LEVELS; n++) {
		printf("%s\n    {\"level\": %u, \"tables\": %" PRIu64 ", \"bytes\": %" PRIu64
		       ", \"entries\": %" PRIu64 "}",
		       comma, n, db->level[n].tables, db->level[n].bytes, db->level[n].entries);
		comma = ",";
	}
	puts("\n  ],");
}

static void print_json(const struct info *i)
{
	puts("{");
	json_string("volume", i->volume);
	if (i->t.mounted) {
		json_string("mounted_at", i->t.mount.dir);
		json_number("files_estimate", i->space.f_files - i->space.f_ffree);
		json_number("free_bytes", (uint64_t)i->space.f_bavail * i->space.f_frsize);
	} else {
		json_number("free_bytes", i->db.free);
	}
	if (i->has_db)
		json_db(&i->db);
	/* Last, so that every line before it ends with a comma. */
	printf("  \"as_of\": \"%s\"\n}\n", i->t.mounted ? "last checkpoint" : "now");
}

/* ---- the command ------------------------------------------------------------------ */

int cmd_info(int argc, char **argv)
{
	static const struct option longs[] = {
		{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
	struct info i = {0};
	bool json = false;
	int opt, err;

	while ((opt = cmd_next(argc, argv, ":jh", longs)) != CMD_OPT_END) {
		if (opt == CMD_OPT_HELP) {
			fputs(cmd_info_help, stdout);
			return CMD_OK;
		}
		if (opt == CMD_OPT_BAD)
			return CMD_USAGE;
		json = true;
	}
	if (!cmd_check_words(argc, argv, 1, 1))
		return CMD_USAGE;
	if (target_open(argv[optind], TARGET_READ, &i.t))
		return CMD_FAILED;
	err = gather(&i);
	if (err)
		message(i.t.name, "%s", message_volume(err));
	else if (json)
		print_json(&i);
	else
		print_text(&i);
	return target_close(&i.t) || err ? CMD_FAILED : CMD_OK;
}
