/* SPDX-License-Identifier: MIT */
/*
 * kvfs watch: libkvfs, here or in the daemon, tells what each commit changed. The daemon
 * never waits for us: it answers what there is, and we ask again a little later.
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
#include "fusefs/cli/message.h"
#include "fusefs/cli/text.h"
#include "fusefs/model/kvfs_history.h"
#include "kvcore/base/buf.h"

#define WATCH_NAP_NS 200000000L

const char cmd_watch_help[] =
	"usage: kvfs watch [-n] [-f COMMIT] [-b | -0] TARGET [PREFIX]\n"
	"\n"
	"What is changed in a mounted volume, or below a directory of it, as it becomes durable, "
	"in\n"
	"the order of commits, until it is interrupted: a line each, of the commit's number, what\n"
	"happened, and the path from the root of the volume, with tabs between. With PREFIX only\n"
	"what is at that path below TARGET, or below it.\n"
	"\n"
	"  created  linked  renamed  unlinked   names; of a rename the old path follows\n"
	"  written  truncated                   contents\n"
	"  attributes  xattr                    mode, owner, times; extended attributes\n"
	"\n"
	"What one commit did has one number, and happened at one instant. To go on after a break,\n"
	"begin at the last number that was seen: its lines may come again. What is kept of the\n"
	"past is what the mount option history= says; without it, while somebody watches and for\n"
	"a minute after.\n"
	"\n"
	"  -f, --from COMMIT  begin at this commit, or at the \"oldest\" that is kept\n"
	"  -n, --no-wait      end when everything up to now is told\n"
	"  -b, --escape       write names with everything but printable ASCII as \\xNN\n"
	"  -0, --null         write names as they are, with a NUL after each path\n"
	"\n"
	"Only root and the user who mounted may watch. Of a volume that is not mounted the past\n"
	"is told that it keeps, by default all of it.\n";

struct watch {
	struct text_names names;
	const char *from; /* decimal */
	bool wait;
	char *below;
};

static int tell(void *ctx, const struct kvfs_event *e)
{
	const struct watch *w = ctx;

	printf("%llu\t%s\t", (unsigned long long)e->commit, kvfs_event_word(e->kind));
	text_write(stdout, e->path, w->names.style);
	if (e->kind == KVFS_EVENT_RENAMED) {
		putchar(w->names.end == '\0' ? '\0' : '\t');
		text_write(stdout, e->from, w->names.style);
	}
	putchar(w->names.end);
	return ferror(stdout) ? -EIO : 0;
}

/* The whole events at the beginning of @buf are told and taken away. */
static int tell_pieces(struct watch *w, struct kv_buf *buf)
{
	struct kvfs_channel_event head;
	size_t off = 0;
	int err = 0;

	while (!err && buf->len - off >= sizeof(head)) {
		const uint8_t *p = buf->data + off;
		struct kvfs_event e;

		memcpy(&head, p, sizeof(head));
		p += sizeof(head);
		e.commit = le64_get(head.commit);
		e.kind = (enum kvfs_event_kind)head.kind;
		e.path = kv_slice_of(p, le32_get(head.path_len));
		e.from = kv_slice_of(p + e.path.len, le32_get(head.from_len));
		if (head.kind > KVFS_EVENT_UNLINKED)
			return -EBADMSG;
		if (buf->len - off - sizeof(head) < e.path.len + e.from.len)
			break;
		off += sizeof(head) + e.path.len + e.from.len;
		err = tell(w, &e);
	}
	if (off) {
		memmove(buf->data, buf->data + off, buf->len - off);
		buf->len -= off;
	}
	return err;
}

static int nap(void)
{
	const struct timespec t = {0, WATCH_NAP_NS};

	if (fflush(stdout))
		return -EIO;
	(void)nanosleep(&t, NULL);
	return 0;
}

static int watch_mounted(const struct target *t, struct watch *w)
{
	struct kv_buf buf = {0};
	struct kv_slice piece;
	struct channel c;
	int err = channel_open(t, &c);

	if (err)
		return err;
	/* What was acknowledged before shall be told, so it has to be durable. */
	if (!w->wait && fsync(t->dir_fd))
		err = -errno;
	if (!err)
		err = channel_ask(&c, (const char *const[]){"watch", w->from, w->below, NULL});
	while (!err) {
		err = channel_get(&c, &piece);
		if (!err && !piece.len && !w->wait)
			break;
		if (!err && !piece.len)
			err = nap();
		if (!err)
			err = buf_append_slice(&buf, piece);
		if (!err)
			err = tell_pieces(w, &buf);
	}
	channel_close(&c);
	if (!err && buf.len)
		err = -EBADMSG;
	kv_buf_free(&buf);
	return err;
}

static int watch_volume(const struct target *t, struct watch *w)
{
	struct kvfs_watch *watch;
	int err;

	err = kvfs_watch_open(t->fs, strtoull(w->from, NULL, 10),
			      kv_slice_of(w->below, strlen(w->below)), &watch);
	if (err)
		return err;
	while (!err)
		err = kvfs_watch_next(watch, tell, w);
	kvfs_watch_close(watch);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static const char *explain(int err)
{
	switch (err) {
	case -KV_E_GONE:
		return "that part of the history is not kept, see history= in mount.kvfs(8)";
	case -KV_E_INVALID:
		return "there is no commit of that number yet";
	case -EACCES:
	case -EPERM:
		return "only root and the user who mounted may watch";
	case -ENOTCONN:
	case -ENODEV:
	case -ECONNABORTED:
		return "it is not mounted any more";
	case -EXDEV:
		return control_message(err);
	default:
		return kv_strerror(err);
	}
}

static int watch(const struct target *t, struct watch *w, const char *prefix)
{
	int err;

	if (!w->from)
		w->from = t->mounted ? "0" : KVFS_WATCH_OLDEST_TEXT;
	w->below = control_path(t, prefix);
	if (!w->below) {
		message(t->name, "%s", control_message(-EXDEV));
		return CMD_FAILED;
	}
	err = t->mounted ? watch_mounted(t, w) : watch_volume(t, w);
	free(w->below);
	if (err)
		message(t->name, "%s", explain(err));
	return err ? CMD_FAILED : CMD_OK;
}

/* A commit's number, as text. */
static const char *parse_from(const char *word)
{
	if (!strcmp(word, "oldest"))
		return KVFS_WATCH_OLDEST_TEXT;
	if (strlen(word) > 18 || !word[0] || word[strspn(word, "0123456789")] ||
	    !word[strspn(word, "0")]) {
		message(NULL, "watch: %s: give the number of a commit, or \"oldest\"", word);
		return NULL;
	}
	return word;
}

int cmd_watch(int argc, char **argv)
{
	static const struct option longs[] = {
		{"from", required_argument, NULL, 'f'}, {"no-wait", no_argument, NULL, 'n'},
		{"escape", no_argument, NULL, 'b'},	{"null", no_argument, NULL, '0'},
		{"help", no_argument, NULL, 'h'},	{0},
	};
	struct watch w = {.wait = true};
	struct target t;
	int opt, status;

	text_names_default(&w.names);
	while ((opt = cmd_next(argc, argv, ":f:nb0h", longs)) != CMD_OPT_END) {
		switch (opt) {
		case 'f':
			w.from = parse_from(optarg);
			if (!w.from)
				return CMD_USAGE;
			break;
		case 'n':
			w.wait = false;
			break;
		case 'b':
		case '0':
			text_names_option(&w.names, opt);
			break;
		case CMD_OPT_HELP:
			fputs(cmd_watch_help, stdout);
			return CMD_OK;
		default:
			return CMD_USAGE;
		}
	}
	if (!cmd_check_words(argc, argv, 1, 2))
		return CMD_USAGE;
	if (target_open(argv[optind], TARGET_READ, &t))
		return CMD_FAILED;
	status = watch(&t, &w, argc - optind == 2 ? argv[optind + 1] : "");
	return target_close(&t) && status == CMD_OK ? CMD_FAILED : status;
}
