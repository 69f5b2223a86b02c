/* SPDX-License-Identifier: MIT */
/*
 * kvfs receive: standard input to libkvfs, or to the daemon of a mount, which does the same.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fusefs/cli/channel.h"
#include "fusefs/cli/cmd.h"
#include "fusefs/cli/control.h"
#include "fusefs/cli/io.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/target.h"
#include "fusefs/cli/text.h"
#include "kvcore/base/buf.h"

#define PIECE	   ((size_t)256 * 1024)
#define BUSY_TRIES 30U

const char cmd_receive_help[] =
	"usage: kvfs receive TARGET [DIR]\n"
	"       kvfs receive --token TARGET\n"
	"       kvfs receive --discard TARGET\n"
	"\n"
	"Read a stream of kvfs send from standard input. When all of it is there the root\n"
	"directory of TARGET, a volume or where one is mounted, or DIR, becomes what was\n"
	"sent, at one instant, and a snapshot of the same name is taken; before, and if\n"
	"anything is wrong, nothing is changed. Name and root hash are printed, as kvfs send\n"
	"has them. Into a mounted volume only root and the user who mounted may receive.\n"
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
	case -KV_E_BUSY:
		return "another stream is being received here";
	case -KV_E_INTERRUPTED:
		return "interrupted; nothing was changed";
	case -KV_E_READONLY:
		return "it is mounted read-only";
	case -EACCES:
	case -EPERM:
		return "only root and the user who mounted may receive into a mounted volume";
	case -EXDEV:
		return control_message(err);
	default:
		return kv_strerror(err);
	}
}

static int put_volume(void *to, struct kv_slice data)
{
	return kvfs_receive_put(to, data);
}

static int put_mounted(void *to, struct kv_slice data)
{
	return channel_put(to, data);
}

static int receive_all(int (*put)(void *to, struct kv_slice data), void *to)
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
		err = put(to, kv_slice_of(piece, (size_t)n));
	}
	free(piece);
	return err;
}

static int receive_volume(const struct target *t, const char *dir, struct kvfs_received *done)
{
	struct kvfs_receive *r;
	int err = kvfs_receive_open(t->fs, kv_slice_of(dir, strlen(dir)), &r);

	if (err)
		return err;
	err = receive_all(put_volume, r);
	if (!err)
		err = kvfs_receive_finish(r, NULL, NULL, done);
	kvfs_receive_close(r);
	return err;
}

static int take_answer(struct channel *c, struct kvfs_received *done)
{
	struct kv_slice piece;
	int err = channel_get(c, &piece);

	if (!err && (piece.len <= KVFS_HASH_LEN || piece.len > KVFS_HASH_LEN + sizeof(done->name)))
		err = -EBADMSG;
	if (err)
		return err;
	*done = (struct kvfs_received){.already = piece.data[KVFS_HASH_LEN]};
	memcpy(done->hash, piece.data, KVFS_HASH_LEN);
	memcpy(done->name, piece.data + KVFS_HASH_LEN + 1, piece.len - KVFS_HASH_LEN - 1);
	return 0;
}

/* Whoever was killed while receiving is noticed when the kernel forgets its conversation, which is
 * soon after the next is opened. */
static int begin_mounted(const struct target *t, const char *path, struct channel *c)
{
	const struct timespec pause = {0, 100000000};
	int err = 0;

	for (unsigned i = 0; i < BUSY_TRIES; i++) {
		err = channel_open(t, c);
		if (err)
			return err;
		err = channel_ask(c, (const char *const[]){"receive", path, NULL});
		if (!err)
			return 0;
		channel_close(c);
		if (err != -KV_E_BUSY)
			break;
		nanosleep(&pause, NULL);
	}
	return err;
}

static int receive_mounted(const struct target *t, const char *dir, struct kvfs_received *done)
{
	char *path = control_path(t, dir);
	struct channel c;
	int err = path ? begin_mounted(t, path, &c) : -EXDEV;

	free(path);
	if (err)
		return err;
	err = receive_all(put_mounted, &c);
	if (!err)
		err = channel_ask(&c, (const char *const[]){NULL});
	if (!err)
		err = take_answer(&c, done);
	channel_close(&c);
	return err;
}

/* A request of one word, whose answer is one piece. */
static int ask_mounted(const struct target *t, const char *word, struct kv_buf *answer)
{
	struct kv_slice piece = {0};
	struct channel c;
	int err = channel_open(t, &c);

	if (err)
		return err;
	err = channel_ask(&c, (const char *const[]){word, NULL});
	if (!err)
		err = channel_get(&c, &piece);
	if (!err)
		err = buf_append_slice(answer, piece);
	channel_close(&c);
	return err;
}

static int discard(const struct target *t)
{
	struct kv_buf none = {0};
	int err = t->mounted ? ask_mounted(t, "discard", &none) : kvfs_receive_discard(t->fs);

	kv_buf_free(&none);
	return err;
}

static int receive(const struct target *t, const char *dir)
{
	struct kvfs_received done;
	int err = t->mounted ? receive_mounted(t, dir, &done) : receive_volume(t, dir, &done);

	if (err == -KV_E_NOSPACE && discard(t))
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
	int err = t->mounted ? ask_mounted(t, "token", &token) : kvfs_receive_token(t->fs, &token);

	if (!err)
		printf("%.*s\n", (int)token.len, (const char *)token.data);
	kv_buf_free(&token);
	return err;
}

static int run(const struct target *t, enum action action, const char *dir)
{
	int err;

	err = action == TOKEN ? print_token(t) : action == DISCARD ? discard(t) : receive(t, dir);
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
