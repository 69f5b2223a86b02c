/* SPDX-License-Identifier: MIT */
/*
 * kvfs diff: libkvfs, here or in the daemon, says which paths differ; they are printed
 * as they come.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/cli/channel.h"
#include "fusefs/cli/cmd.h"
#include "fusefs/cli/control.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/text.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/bytes.h"

#define CHANGE_HEAD 9U /* kind and two lengths */

const char cmd_diff_help[] =
	"usage: kvfs diff [-b | -0] TARGET A [B]\n"
	"       kvfs diff [-b | -0] --txn DIR NAME\n"
	"\n"
	"What is different in the snapshot B, or now, from what was there in the snapshot A,\n"
	"of a volume, or below a directory of a mounted one: a line each, of a letter, a tab\n"
	"and the path. It costs by what was changed, not by the size of the volume.\n"
	"With --txn: what the transaction NAME of the volume mounted at DIR has changed so far\n"
	"below DIR.\n"
	"\n"
	"  +  only in B          M  contents changed\n"
	"  -  only in A          A  attributes changed, not the contents\n"
	"  T  of another type    R  renamed: the path in B, a tab, and the path in A\n"
	"\n"
	"What is below a directory that was renamed is told only if it changed, too.\n"
	"\n"
	"  -t, --txn     of a transaction that is open, which began with A\n"
	"  -b, --escape  write names with everything but printable ASCII as \\xNN\n"
	"  -0, --null    write names as they are, with a NUL after each path\n"
	"\n"
	"Exit status 0 whether or not there are differences. Of a mounted volume only root\n"
	"and the user who mounted may ask, of a transaction who began it, too.\n";

static int tell(void *ctx, const struct kvfs_change *change)
{
	const struct text_names *names = ctx;

	putchar((int)change->kind);
	putchar('\t');
	text_write(stdout, change->path, names->style);
	if (change->kind == KVFS_RENAMED) {
		putchar(names->end == '\0' ? '\0' : '\t');
		text_write(stdout, change->from, names->style);
	}
	putchar(names->end);
	return ferror(stdout) ? -EIO : 0;
}

/* The whole changes at the beginning of @buf are told and taken away. */
static int tell_pieces(const struct text_names *names, struct kv_buf *buf)
{
	size_t off = 0;
	int err = 0;

	while (!err && buf->len - off >= CHANGE_HEAD) {
		const uint8_t *p = buf->data + off;
		struct kvfs_change change = {.kind = (enum kvfs_change_kind)p[0]};
		struct le32 lens[2];

		memcpy(lens, p + 1, sizeof(lens));
		change.path = kv_slice_of(p + CHANGE_HEAD, le32_get(lens[0]));
		change.from = kv_slice_of(p + CHANGE_HEAD + change.path.len, le32_get(lens[1]));
		if (buf->len - off - CHANGE_HEAD < change.path.len + change.from.len)
			break;
		off += CHANGE_HEAD + change.path.len + change.from.len;
		err = tell((void *)(uintptr_t)names, &change);
	}
	if (off) {
		memmove(buf->data, buf->data + off, buf->len - off);
		buf->len -= off;
	}
	return err;
}

/* @words: the request, with a place at its end for the directory. */
static int diff_mounted(const struct target *t, const char **words, size_t count,
			const struct text_names *names)
{
	char *below = control_below(t);
	struct kv_buf buf = {0};
	struct kv_slice piece;
	struct channel c;
	int err;

	if (!below)
		return -EXDEV;
	err = channel_open(t, &c);
	if (err)
		goto out;
	words[count] = below[0] ? below + 1 : "";
	err = channel_ask(&c, words);
	while (!err) {
		err = channel_get(&c, &piece);
		if (err || !piece.len)
			break;
		err = buf_append_slice(&buf, piece);
		if (!err)
			err = tell_pieces(names, &buf);
	}
	channel_close(&c);
	if (!err && buf.len)
		err = -EBADMSG;
out:
	free(below);
	kv_buf_free(&buf);
	return err;
}

static const char *explain(int err, bool txn)
{
	if (txn && err == -ENOENT)
		return "there is no such transaction, or not this directory in it and before it";
	if (txn && err == -ESTALE)
		return "the transaction has ended";
	switch (err) {
	case -KV_E_NOT_A_VOLUME:
		return "the snapshot is from before the volume had files";
	case -ENOENT:
	case -ENOTDIR:
		return "the directory is not there in both states";
	case -EACCES:
	case -EPERM:
		return txn ? "only root and who began a transaction may look at it"
			   : "only root and the user who mounted may ask for differences";
	default:
		return control_message(err);
	}
}

static int diff_states(const struct target *t, const char *old, const char *new,
		       const struct text_names *names)
{
	const char *words[] = {"diff", old, new ? new : "", NULL, NULL};
	int err = kvfs_snapshot_check_name(old);

	if (!err && new)
		err = kvfs_snapshot_check_name(new);
	if (err)
		return err;
	return t->mounted ? diff_mounted(t, words, 3, names)
			  : kvfs_diff(t->fs, old, new, kv_slice_of(NULL, 0), tell,
				      (void *)(uintptr_t)names);
}

static int diff_txn(const struct target *t, const char *name, const struct text_names *names)
{
	const char *words[] = {"txn", name, NULL, NULL};
	int err = kvfs_snapshot_check_name(name);

	return err ? err : t->mounted ? diff_mounted(t, words, 2, names) : -ENOENT;
}

static int diff(const struct target *t, char **states, size_t count, bool txn,
		const struct text_names *names)
{
	int err = txn ? diff_txn(t, states[0], names)
		      : diff_states(t, states[0], count > 1 ? states[1] : NULL, names);

	if (err)
		message(t->name, "%s", explain(err, txn));
	return err ? CMD_FAILED : CMD_OK;
}

int cmd_diff(int argc, char **argv)
{
	static const struct option longs[] = {
		{"txn", no_argument, NULL, 't'},
		{"escape", no_argument, NULL, 'b'},
		{"null", no_argument, NULL, '0'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct text_names names;
	bool txn = false;
	struct target t;
	int opt, status;

	text_names_default(&names);
	while ((opt = cmd_next(argc, argv, ":tb0h", longs)) != CMD_OPT_END) {
		switch (opt) {
		case 't':
			txn = true;
			break;
		case 'b':
		case '0':
			text_names_option(&names, opt);
			break;
		case CMD_OPT_HELP:
			fputs(cmd_diff_help, stdout);
			return CMD_OK;
		default:
			return CMD_USAGE;
		}
	}
	if (argc - optind < 2 || argc - optind > (txn ? 2 : 3)) {
		message(NULL, "diff: %s; see kvfs diff --help",
			argc - optind >= 2 ? "too many arguments"
			: txn		   ? "give a directory, and the name of a transaction"
					   : "give a volume or directory, and a snapshot");
		return CMD_USAGE;
	}
	if (target_open(argv[optind], TARGET_READ, &t))
		return CMD_FAILED;
	status = diff(&t, argv + optind + 1, (size_t)(argc - optind - 1), txn, &names);
	return target_close(&t) && status == CMD_OK ? CMD_FAILED : status;
}
