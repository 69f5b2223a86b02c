/* SPDX-License-Identifier: MIT */
/*
 * kvfs send: the stream of libkvfs, made here or in the daemon, to standard output. The root hash
 * goes to standard error, to be compared with what the receiver says.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fusefs/cli/channel.h"
#include "fusefs/cli/cmd.h"
#include "fusefs/cli/control.h"
#include "fusefs/cli/io.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/text.h"
#include "kvcore/base/buf.h"

const char cmd_send_help[] =
	"usage: kvfs send [--from A] [--resume TOKEN] TARGET B\n"
	"\n"
	"Write the snapshot B of a volume to standard output, as a stream for kvfs receive:\n"
	"all of it, or with --from only what is different from the snapshot A. TARGET is a\n"
	"volume, or a directory on which it is mounted.\n"
	"\n"
	"  -f, --from A        the receiver has the snapshot A\n"
	"  -r, --resume TOKEN  go on where a stream was broken off, kvfs receive --token says it;\n"
	"                      the snapshots are those of the first attempt\n"
	"\n"
	"The root hash of B is told on standard error; kvfs receive says the same.\n";

struct send {
	const char *from, *token, *name;
};

static int send_volume(const struct target *t, const struct send *s)
{
	struct kvfs_send *stream;
	struct kv_buf out = {0};
	int err = kvfs_send_open(t->fs, s->from, s->name, s->token, &stream);

	if (err)
		return err;
	while (!err) {
		buf_clear(&out);
		err = kvfs_send_read(stream, &out);
		if (!err)
			err = io_write_all(STDOUT_FILENO, kv_buf_slice(&out));
	}
	kvfs_send_close(stream);
	kv_buf_free(&out);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int send_mounted(const struct target *t, const struct send *s)
{
	struct kv_slice piece;
	struct channel c;
	int err = channel_open(t, &c);

	if (err)
		return err;
	err = channel_ask(&c, (const char *const[]){"send", s->from ? s->from : "", s->name,
						    s->token ? s->token : "", NULL});
	while (!err) {
		err = channel_get(&c, &piece);
		if (err || !piece.len)
			break;
		err = io_write_all(STDOUT_FILENO, piece);
	}
	channel_close(&c);
	return err;
}

static const char *explain(const struct send *s, int err)
{
	if (err == -EINVAL && s->token)
		return "the token is not of the stream between these snapshots";
	if (err == -EACCES || err == -EPERM)
		return "only root and the user who mounted may send";
	if (err == -KV_E_NOT_A_VOLUME)
		return "the snapshot is from before the volume had files";
	return control_message(err);
}

static int send(const struct target *t, const struct send *s)
{
	uint8_t hash[KVFS_HASH_LEN];
	int err = kvfs_snapshot_check_name(s->name);

	if (!err && s->from)
		err = kvfs_snapshot_check_name(s->from);
	if (!err)
		err = t->mounted ? send_mounted(t, s) : send_volume(t, s);
	if (!err)
		err = control_hash(t, s->name, hash);
	if (err) {
		message(t->name, "%s", explain(s, err));
		return CMD_FAILED;
	}
	fputs("kvfs: root hash ", stderr);
	text_hex(stderr, hash, sizeof(hash));
	fputs("  ", stderr);
	text_write(stderr, kv_slice_of(s->name, strlen(s->name)), TEXT_PRINTABLE);
	fputc('\n', stderr);
	return CMD_OK;
}

int cmd_send(int argc, char **argv)
{
	static const struct option longs[] = {
		{"from", required_argument, NULL, 'f'},
		{"resume", required_argument, NULL, 'r'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct send s = {0};
	struct target t;
	int opt, status;

	while ((opt = cmd_next(argc, argv, ":f:r:h", longs)) != CMD_OPT_END) {
		switch (opt) {
		case 'f':
			s.from = optarg;
			break;
		case 'r':
			s.token = optarg;
			break;
		case CMD_OPT_HELP:
			fputs(cmd_send_help, stdout);
			return CMD_OK;
		default:
			return CMD_USAGE;
		}
	}
	if (argc - optind != 2) {
		message(NULL, "send: %s; see kvfs send --help",
			argc - optind > 2 ? "too many arguments"
					  : "give a volume or directory, and a snapshot");
		return CMD_USAGE;
	}
	if (isatty(STDOUT_FILENO)) {
		message(NULL, "send: a stream is nothing for a terminal; redirect it");
		return CMD_USAGE;
	}
	s.name = argv[optind + 1];
	/* For writing: the root hash is remembered. */
	if (target_open(argv[optind], TARGET_WRITE, &t))
		return CMD_FAILED;
	status = send(&t, &s);
	return target_close(&t) && status == CMD_OK ? CMD_FAILED : status;
}
