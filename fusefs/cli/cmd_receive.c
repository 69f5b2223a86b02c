/* SPDX-License-Identifier: MIT */
/*
 * kvfs receive: standard input to libkvfs. A volume that is mounted is refused: the kernel and
 * open files know its nodes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/io.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/target.h"
#include "fusefs/cli/text.h"
#include "kvcore/base/buf.h"

#define PIECE ((size_t)256 * 1024)

const char cmd_receive_help[] =
	"usage: kvfs receive VOLUME [DIR]\n"
	"       kvfs receive --token VOLUME\n"
	"       kvfs receive --discard VOLUME\n"
	"\n"
	"Read a stream of kvfs send from standard input. When all of it is there the root\n"
	"directory of VOLUME, or DIR, becomes what was sent, at one instant, and a snapshot\n"
	"of the same name is taken; before, and if anything is wrong, nothing is changed.\n"
	"VOLUME is not mounted. Name and root hash are printed, as kvfs send has them.\n"
	"\n"
	"A whole snapshot goes into an empty directory. A difference goes to what the stream\n"
	"begins with, unchanged. A stream that was received before changes nothing.\n"
	"\n"
	"  -t, --token    print what kvfs send --resume wants to know after a break\n"
	"  -d, --discard  forget what came before a break\n";

enum action { RECEIVE, TOKEN, DISCARD };

static const char *explain(int err)
{
	switch (err) {
	case -EPROTO:
		return "standard input is no stream of kvfs send, or one that makes no sense";
	case -EPROTONOSUPPORT:
		return "the stream is of another version of kvfs send; use a newer kvfs";
	case -EBADMSG:
		return "the stream is damaged; nothing was changed, see kvfs receive --token";
	case -EILSEQ:
		return "a part of the stream is missing, or comes twice; nothing was changed, see "
		       "kvfs receive --token";
	case -ESRCH:
		return "the stream goes on after a break, but nothing was begun here";
	case -ENODATA:
		return "the stream ends before its end; nothing was changed, see kvfs receive "
		       "--token";
	case -ESTALE:
		return "the directory does not hold the snapshot that the stream begins with";
	case -EBUSY:
		return "the directory was changed since it was received; restore its snapshot, or "
		       "receive into another";
	case -ENOTEMPTY:
		return "the directory is not empty; a whole snapshot goes into an empty one";
	case -EEXIST:
	case -KV_E_EXISTS:
		return "there is a snapshot of the name that was sent already";
	case -EUCLEAN:
		return "the outcome would not be what was sent; nothing was changed";
	case -ENOENT:
	case -ENOTDIR:
		return "there is no such directory; make it first";
	case -KV_E_NOSPACE:
		return "no space left on the volume; nothing was changed";
	case -KV_E_NOTFOUND:
		return "no stream was broken off here";
	default:
		return kv_strerror(err);
	}
}

static int receive_all(struct kvfs_receive *r)
{
	uint8_t *piece = malloc(PIECE);
	int err = piece ? 0 : -ENOMEM;
	long n;

	while (!err) {
		n = io_read_full(STDIN_FILENO, piece, PIECE);
		if (n <= 0) {
			err = (int)n;
			break;
		}
		err = kvfs_receive_put(r, kv_slice_of(piece, (size_t)n));
	}
	free(piece);
	return err;
}

static int receive(const struct target *t, const char *dir)
{
	struct kvfs_received done;
	struct kvfs_receive *r;
	int err = kvfs_receive_open(t->fs, kv_slice_of(dir, strlen(dir)), &r);

	if (err)
		return err;
	err = receive_all(r);
	if (!err)
		err = kvfs_receive_finish(r, NULL, NULL, &done);
	kvfs_receive_close(r);
	if (err == -KV_E_NOSPACE && kvfs_receive_discard(t->fs))
		message(t->name, "what was staged could not be removed");
	if (err)
		return err;
	if (done.already)
		message(t->name, "this stream was received before; nothing was changed");
	text_hex(stdout, done.hash, sizeof(done.hash));
	fputs("  ", stdout);
	text_write(stdout, kv_slice_of(done.name, strlen(done.name)), TEXT_PRINTABLE);
	putchar('\n');
	return 0;
}

static int print_token(const struct target *t)
{
	struct kv_buf token = {0};
	int err = kvfs_receive_token(t->fs, &token);

	if (!err)
		printf("%.*s\n", (int)token.len, (const char *)token.data);
	kv_buf_free(&token);
	return err;
}

static int run(const struct target *t, enum action action, const char *dir)
{
	int err;

	if (t->mounted) {
		message(t->name, "it is mounted; unmount it, and name the volume");
		return CMD_FAILED;
	}
	err = action == TOKEN	  ? print_token(t)
	      : action == DISCARD ? kvfs_receive_discard(t->fs)
				  : receive(t, dir);
	if (err)
		message(t->name, "%s", explain(err));
	return err ? CMD_FAILED : CMD_OK;
}

int cmd_receive(int argc, char **argv)
{
	static const struct option longs[] = {
		{"token", no_argument, NULL, 't'},
		{"discard", no_argument, NULL, 'd'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	enum action action = RECEIVE;
	struct target t;
	char *dir;
	int opt, words, status;

	while ((opt = cmd_next(argc, argv, ":tdh", longs)) != CMD_OPT_END) {
		switch (opt) {
		case 't':
			action = TOKEN;
			break;
		case 'd':
			action = DISCARD;
			break;
		case CMD_OPT_HELP:
			fputs(cmd_receive_help, stdout);
			return CMD_OK;
		default:
			return CMD_USAGE;
		}
	}
	words = argc - optind;
	if (words < 1 || words > (action == RECEIVE ? 2 : 1)) {
		message(NULL, "receive: %s; see kvfs receive --help",
			words < 1 ? "no volume given" : "too many arguments");
		return CMD_USAGE;
	}
	dir = text_dir(words == 2 ? argv[optind + 1] : "/");
	if (!dir)
		return CMD_FAILED;
	if (target_open(argv[optind], TARGET_WRITE, &t)) {
		free(dir);
		return CMD_FAILED;
	}
	status = run(&t, action, dir);
	free(dir);
	return target_close(&t) && status == CMD_OK ? CMD_FAILED : status;
}
