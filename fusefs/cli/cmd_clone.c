/* SPDX-License-Identifier: MIT */
/*
 * kvfs clone: kvfs_clone() of a volume, or asked of the daemon of a mount, by channel.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/cli/channel.h"
#include "fusefs/cli/cmd.h"
#include "fusefs/cli/control.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/text.h"
#include "kvcore/base/buf.h"

const char cmd_clone_help[] =
	"usage: kvfs clone [-s SNAPSHOT] TARGET DIR NEWDIR\n"
	"\n"
	"Make NEWDIR a writable copy of DIR and all below it, at one instant. Contents of more\n"
	"than 2 KiB are shared until one of the files that have them is changed, which then\n"
	"gets a copy of its own: so it costs by the number of files, not of their bytes. Both\n"
	"are paths in TARGET; / is all of it.\n"
	"\n"
	"  -s, --snapshot NAME  copy DIR as it is in the snapshot NAME; contents that were\n"
	"                       changed or removed since are copied\n"
	"\n"
	"Exit status 1: NEWDIR is there already, or it failed, and nothing was made.\n";

struct clone {
	const char *snapshot; /* NULL: of now */
	char *from, *to;
};

static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
	(void)ctx;
	(void)done;
	(void)total;
	return message_interrupted();
}

static int clone_volume(const struct target *t, const struct clone *c)
{
	const struct kv_progress progress = {.report = on_progress};

	message_catch_signals();
	return kvfs_clone(t->fs, c->snapshot, kv_slice_of(c->from, strlen(c->from)),
			  kv_slice_of(c->to, strlen(c->to)), &progress, NULL);
}

/* A path below the target as one below the root of its mount. */
static int put_below(struct kv_buf *out, const char *below, const char *path)
{
	const char *dir = below[0] ? below + 1 : "";

	return buf_printf(out, "%s%s%s", dir, dir[0] && path[0] ? "/" : "", path);
}

static int clone_mounted(const struct target *t, const struct clone *c)
{
	char *below = control_below(t);
	struct kv_buf from = {0}, to = {0};
	struct channel ch;
	int err = below ? put_below(&from, below, c->from) : -EXDEV;

	if (!err)
		err = put_below(&to, below, c->to);
	if (!err)
		err = channel_open(t, &ch);
	if (!err) {
		err = channel_ask(&ch,
				  (const char *const[]){"clone", c->snapshot ? c->snapshot : "",
							(const char *)from.data,
							(const char *)to.data, NULL});
		channel_close(&ch);
	}
	free(below);
	kv_buf_free(&from);
	kv_buf_free(&to);
	return err;
}

static const char *explain(int err)
{
	switch (err) {
	case -EEXIST:
		return "the new directory is there already";
	case -ENOENT:
		return "there is no such directory, or none for the new one";
	case -ENOTDIR:
		return "what is to be cloned, or holds the new one, is no directory";
	case -EACCES:
	case -EPERM:
		return "only root and the user who mounted may clone";
	case -EINVAL:
		return "the name of the new directory, or of the snapshot, cannot be one";
	case -KV_E_INTERRUPTED:
		return "interrupted; nothing was made";
	case -KV_E_NOSPACE:
		return "no space left on the volume; nothing was made";
	default:
		return control_message(err);
	}
}

static int clone_target(const struct target *t, const struct clone *c)
{
	int err = c->snapshot ? kvfs_snapshot_check_name(c->snapshot) : 0;

	if (!err)
		err = t->mounted ? clone_mounted(t, c) : clone_volume(t, c);
	if (err)
		message(t->name, "%s", explain(err));
	return err ? CMD_FAILED : CMD_OK;
}

static int run(const char *name, struct clone *c, const char *from, const char *to)
{
	int status = CMD_FAILED;
	struct target t;

	c->from = text_dir(from);
	c->to = c->from ? text_dir(to) : NULL;
	if (c->to && !target_open(name, TARGET_WRITE, &t)) {
		status = clone_target(&t, c);
		if (target_close(&t) && status == CMD_OK)
			status = CMD_FAILED;
	}
	free(c->from);
	free(c->to);
	return status;
}

int cmd_clone(int argc, char **argv)
{
	static const struct option longs[] = {
		{"snapshot", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct clone c = {0};
	int opt;

	while ((opt = cmd_next(argc, argv, ":s:h", longs)) != CMD_OPT_END) {
		switch (opt) {
		case 's':
			c.snapshot = optarg;
			break;
		case CMD_OPT_HELP:
			fputs(cmd_clone_help, stdout);
			return CMD_OK;
		default:
			return CMD_USAGE;
		}
	}
	if (argc - optind != 3) {
		message(NULL, "clone: %s; see kvfs clone --help",
			argc - optind > 3 ? "too many arguments"
					  : "give a volume or directory, what to clone, and a new "
					    "directory");
		return CMD_USAGE;
	}
	return run(argv[optind], &c, argv[optind + 1], argv[optind + 2]);
}
