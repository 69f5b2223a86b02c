/* SPDX-License-Identifier: MIT */
/*
 * The requests of the kvfs command that come by ioctl on .kvfs/channel: clone, diff, hash, receive,
 * restore, scrub, send, snapshot, txn, watch.
 *
 * A conversation is made by its first piece. It has a lock of its own, because an
 * answer may take long to find; whoever looks for a conversation holds a count of it
 * meanwhile.
 */
#include "fusefs/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fusefs/clone.h"
#include "fusefs/model/channel_format.h"
#include "fusefs/reply.h"
#include "fusefs/restore.h"
#include "fusefs/scrub.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/bytes.h"

#define CHANNEL_REQUEST_MAX (64U * 1024) /* bytes of the words */
#define CHANNEL_WORDS	    8U

struct channel {
	fuse_ino_t ino;	      /* [const] */
	struct channel *next; /* [control.mu] */
	unsigned users;	      /* [control.mu] and one while it is in the list */
	uid_t uid;	      /* [mu] who asks now */
	pthread_mutex_t mu;   /* held while it works */
	struct kv_buf in;     /* [mu] the request */
	struct kv_buf out;    /* [mu] the answer, */
	size_t got;	      /* [mu] of which so much was got */
	bool running;	      /* [mu] the request was run */
	/* [mu] One of these makes the answer piece by piece; else it is complete. */
	struct kvfs_send *send;
	struct kvfs_receive *receive; /* [mu] takes what is put */
	struct kvfs_watch *watch;
	struct scrub *scrub;
};

/* ---- life ---- */

/* Nobody else uses the conversation. */
static void end_receive(struct control *c, struct channel *ch)
{
	if (!ch->receive)
		return;
	kvfs_receive_close(ch->receive);
	ch->receive = NULL;
	pthread_mutex_lock(&c->mu);
	c->receiving = false;
	pthread_mutex_unlock(&c->mu);
}

static void release(struct control *c, struct channel *ch)
{
	bool last;

	pthread_mutex_lock(&c->mu);
	last = !--ch->users;
	pthread_mutex_unlock(&c->mu);
	if (!last)
		return;
	kvfs_send_close(ch->send);
	end_receive(c, ch);
	feed_unwatch(&c->feeds, ch->watch);
	scrub_stop(ch->scrub);
	kv_buf_free(&ch->in);
	kv_buf_free(&ch->out);
	(void)pthread_mutex_destroy(&ch->mu);
	free(ch);
}

static struct channel *find_locked(struct control *c, fuse_ino_t ino)
{
	struct channel *ch = c->channels;

	while (ch && ch->ino != ino)
		ch = ch->next;
	return ch;
}

/* The conversation of a node, made if there is none, with a count for the caller. */
static struct channel *use(struct control *c, fuse_ino_t ino)
{
	struct channel *fresh = calloc(1, sizeof(*fresh)), *ch;

	if (!fresh)
		return NULL;
	if (pthread_mutex_init(&fresh->mu, NULL)) {
		free(fresh);
		return NULL;
	}
	fresh->ino = ino;
	fresh->users = 1;
	pthread_mutex_lock(&c->mu);
	ch = find_locked(c, ino);
	if (!ch) {
		ch = fresh;
		ch->next = c->channels;
		c->channels = ch;
		fresh = NULL;
	}
	ch->users++;
	pthread_mutex_unlock(&c->mu);
	if (fresh)
		release(c, fresh);
	return ch;
}

void channel_end(struct control *c, fuse_ino_t ino)
{
	struct channel **at = &c->channels, *ch;

	pthread_mutex_lock(&c->mu);
	while (*at && (*at)->ino != ino)
		at = &(*at)->next;
	ch = *at;
	if (ch)
		*at = ch->next;
	pthread_mutex_unlock(&c->mu);
	if (ch)
		release(c, ch);
}

void channel_end_all(struct control *c)
{
	while (c->channels)
		channel_end(c, c->channels->ino);
}

/* ---- diff ---- */

static int put_change(void *ctx, const struct kvfs_change *change)
{
	struct le32 lens[2] = {le32_of((uint32_t)change->path.len),
			       le32_of((uint32_t)change->from.len)};
	struct kv_buf *out = ctx;
	int err = buf_append_byte(out, (uint8_t)change->kind);

	if (!err)
		err = buf_append(out, lens, sizeof(lens));
	if (!err)
		err = buf_append_slice(out, change->path);
	return err ? err : buf_append_slice(out, change->from);
}

static int run_diff(struct kvfsd *d, struct channel *ch, const char *const *words)
{
	return kvfs_diff(d->fs, words[1], words[2][0] ? words[2] : NULL,
			 kv_slice_of(words[3], strlen(words[3])), put_change, &ch->out);
}

static int run_txn(struct kvfsd *d, struct channel *ch, const char *const *words)
{
	struct tree *tree;
	int err = txn_use(d, words[1], ch->uid, &tree);

	if (err)
		return err;
	err = kvfs_draft_diff(tree->fs, kv_slice_of(words[2], strlen(words[2])), put_change,
			      &ch->out);
	tree_unref(&d->trees, tree->id, 1);
	return err;
}

/* ---- send ---- */

static int run_send(struct kvfsd *d, struct channel *ch, const char *const *words)
{
	return kvfs_send_open(d->fs, words[1][0] ? words[1] : NULL, words[2],
			      words[3][0] ? words[3] : NULL, &ch->send);
}

static int run_snapshot(struct kvfsd *d, struct channel *ch, const char *const *words)
{
	int err = kvfs_snapshot_create_of(d->fs, words[1], kv_slice_of(words[2], strlen(words[2])));

	(void)ch;
	if (!err)
		control_note_change(d);
	return err;
}

static int run_hash(struct kvfsd *d, struct channel *ch, const char *const *words)
{
	uint8_t hash[KVFS_HASH_LEN];
	int err = kvfs_snapshot_hash(d->fs, words[1], hash);

	return err ? err : buf_append(&ch->out, hash, sizeof(hash));
}

/* ---- receive ---- */

/* One at a time: there is one place where a stream is staged. */
static int take_stage(struct control *c, bool keep)
{
	bool taken;

	pthread_mutex_lock(&c->mu);
	taken = c->receiving;
	c->receiving = taken || keep;
	pthread_mutex_unlock(&c->mu);
	return taken ? -KV_E_BUSY : 0;
}

static int run_receive(struct kvfsd *d, struct channel *ch, const char *const *words)
{
	int err = take_stage(&d->control, true);

	if (err)
		return err;
	err = kvfs_receive_open(d->fs, kv_slice_of(words[1], strlen(words[1])), &ch->receive);
	if (err) {
		pthread_mutex_lock(&d->control.mu);
		d->control.receiving = false;
		pthread_mutex_unlock(&d->control.mu);
	}
	return err;
}

static int run_token(struct kvfsd *d, struct channel *ch, const char *const *words)
{
	(void)words;
	return kvfs_receive_token(d->fs, &ch->out);
}

static int run_discard(struct kvfsd *d, struct channel *ch, const char *const *words)
{
	int err = take_stage(&d->control, false);

	(void)ch;
	(void)words;
	return err ? err : kvfs_receive_discard(d->fs);
}

/* By the thread that commits, because the kernel is told of what it has to forget. */
struct finish_job {
	fuse_req_t req;
	struct channel *ch; /* a count of it */
};

static void finish(struct kvfsd *d, void *ctx, bool stopped)
{
	struct finish_job *job = ctx;
	struct channel *ch = job->ch;
	const struct kv_progress progress = {reply_interrupted, job->req};
	const struct kvfs_draft_hooks hooks = {.stale = txn_tell_stale, .ctx = d};
	struct kvfs_received done;
	int err = -EIO;

	pthread_mutex_lock(&ch->mu);
	if (!stopped && ch->receive)
		err = kvfs_receive_finish(ch->receive, &progress, &hooks, &done);
	if (!err)
		err = buf_append(&ch->out, done.hash, sizeof(done.hash));
	if (!err)
		err = buf_append_byte(&ch->out, done.already);
	if (!err)
		err = buf_append(&ch->out, done.name, strlen(done.name));
	end_receive(&d->control, ch);
	pthread_mutex_unlock(&ch->mu);
	control_note_change(d);
	channel_reply(job->req, err);
	release(&d->control, ch);
	free(job);
}

/* The stream was put: the answer comes later. */
static int run_finish(struct kvfsd *d, fuse_req_t req, struct channel *ch)
{
	struct finish_job *job = malloc(sizeof(*job));
	int err;

	if (!job)
		return -ENOMEM;
	*job = (struct finish_job){req, ch};
	pthread_mutex_lock(&d->control.mu);
	ch->users++;
	pthread_mutex_unlock(&d->control.mu);
	err = txn_defer(d, finish, job);
	if (err) {
		pthread_mutex_lock(&d->control.mu);
		ch->users--; /* who asks has another */
		pthread_mutex_unlock(&d->control.mu);
		free(job);
	}
	return err;
}

/* ---- watch ---- */

static int put_event(void *ctx, const struct kvfs_event *e)
{
	struct kvfs_channel_event head = {
		.commit = le64_of(e->commit),
		.kind = (uint8_t)e->kind,
		.path_len = le32_of((uint32_t)e->path.len),
		.from_len = le32_of((uint32_t)e->from.len),
	};
	struct kv_buf *out = ctx;
	int err = buf_append(out, &head, sizeof(head));

	if (!err)
		err = buf_append_slice(out, e->path);
	return err ? err : buf_append_slice(out, e->from);
}

static int number(const char *text, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	return errno || end == text || *end || text[0] == '-' ? -EINVAL : 0;
}

static int run_watch(struct kvfsd *d, struct channel *ch, const char *const *words)
{
	uint64_t from;
	int err = number(words[1], &from);

	if (!err)
		err = feed_watch(&d->control.feeds, from, kv_slice_of(words[2], strlen(words[2])),
				 &ch->watch);
	if (!err)
		keeper_wake(&d->keeper);
	return err;
}

/* Commits up to the first that has something to tell; none if there is no such yet. */
static int watch_on(struct channel *ch)
{
	int err = 0;

	while (!err && !ch->out.len)
		err = kvfs_watch_next(ch->watch, put_event, &ch->out);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* ---- scrub ---- */

static int run_scrub(struct kvfsd *d, struct channel *ch, const char *const *words)
{
	uint64_t rate, after;

	if (number(words[1], &rate) || number(words[2], &after))
		return -EINVAL;
	return scrub_start(d, rate, after, &ch->scrub);
}

/* ---- requests ---- */

/* Besides results of libkvfs: somebody else replies. */
#define CHANNEL_LATER 1

static const struct {
	const char *name;
	unsigned words; /* its own among them */
	bool any;	/* it looks itself at who asks; else root or the daemon's user */
	int (*run)(struct kvfsd *d, struct channel *ch, const char *const *words);
} requests[] = {
	{"diff", 4, false, run_diff},	      {"discard", 1, false, run_discard},
	{"hash", 2, false, run_hash},	      {"receive", 2, false, run_receive},
	{"scrub", 3, false, run_scrub},	      {"send", 4, false, run_send},
	{"snapshot", 3, false, run_snapshot}, {"txn", 3, true, run_txn},
	{"token", 1, false, run_token},	      {"watch", 3, false, run_watch},
};

static bool is_trusted(uid_t uid)
{
	return uid == 0 || uid == geteuid();
}

static int run_clone(struct kvfsd *d, fuse_req_t req, struct channel *ch, const char *const *words)
{
	int err = is_trusted(ch->uid) ? clone_begin(d, req, words[1], words[2], words[3]) : -EPERM;

	return err ? err : CHANNEL_LATER;
}

static int run_restore(struct kvfsd *d, fuse_req_t req, struct channel *ch,
		       const char *const *words)
{
	int err = is_trusted(ch->uid) ? restore_begin(d, req, words[1]) : -EPERM;

	return err ? err : CHANNEL_LATER;
}

static int run_words(struct kvfsd *d, struct channel *ch, const char *const *words, unsigned count)
{
	for (size_t i = 0; i < KV_ARRAY_COUNT(requests); i++) {
		if (strcmp(words[0], requests[i].name) != 0)
			continue;
		if (!requests[i].any && !is_trusted(ch->uid))
			return -EPERM;
		return count == requests[i].words ? requests[i].run(d, ch, words) : -EINVAL;
	}
	return -EOPNOTSUPP;
}

static int run(struct kvfsd *d, fuse_req_t req, struct channel *ch)
{
	const char *words[CHANNEL_WORDS] = {""}, *at = (const char *)ch->in.data;
	const char *end = at + ch->in.len;
	unsigned count = 0;

	if (ch->receive) {
		int err = is_trusted(ch->uid) ? run_finish(d, req, ch) : -EPERM;

		return err ? err : CHANNEL_LATER;
	}
	if (ch->running || !ch->in.len || end[-1])
		return -EINVAL;
	ch->running = true;
	for (; at < end; at += strlen(at) + 1) {
		if (count == CHANNEL_WORDS)
			return -EINVAL;
		words[count++] = at;
	}
	if (!strcmp(words[0], "clone"))
		return count == 4 ? run_clone(d, req, ch, words) : -EINVAL;
	if (!strcmp(words[0], "restore"))
		return count == 2 ? run_restore(d, req, ch, words) : -EINVAL;
	return run_words(d, ch, words, count);
}

static int put(struct channel *ch, const struct kvfs_channel *piece)
{
	if (ch->receive)
		return is_trusted(ch->uid)
			       ? kvfs_receive_put(ch->receive, kv_slice_of(piece->data, piece->len))
			       : -EPERM;
	if (ch->running)
		return -EINVAL;
	if (ch->in.len + piece->len > CHANNEL_REQUEST_MAX)
		return -E2BIG;
	return buf_append(&ch->in, piece->data, piece->len);
}

static int get(struct channel *ch, struct kvfs_channel *piece)
{
	size_t len;
	int err;

	if (ch->scrub) {
		piece->len = (uint32_t)scrub_read(ch->scrub, piece->data, sizeof(piece->data));
		return 0;
	}
	if ((ch->send || ch->watch) && ch->got == ch->out.len) {
		buf_clear(&ch->out);
		ch->got = 0;
		err = ch->send ? kvfs_send_read(ch->send, &ch->out) : watch_on(ch);
		if (err && err != -KV_E_NOTFOUND)
			return err;
	}
	len = min_u64(ch->out.len - ch->got, sizeof(piece->data));
	if (len)
		memcpy(piece->data, ch->out.data + ch->got, len);
	ch->got += len;
	piece->len = (uint32_t)len;
	return 0;
}

static int work(struct kvfsd *d, fuse_req_t req, struct channel *ch, struct kvfs_channel *piece)
{
	switch (piece->op) {
	case KVFS_CHANNEL_PUT:
		return put(ch, piece);
	case KVFS_CHANNEL_RUN:
		return run(d, req, ch);
	case KVFS_CHANNEL_GET:
		return get(ch, piece);
	default:
		return -EINVAL;
	}
}

void channel_reply(fuse_req_t req, int status)
{
	struct kvfs_channel piece = {.op = KVFS_CHANNEL_RUN, .status = status};

	fuse_reply_ioctl(req, 0, &piece, offsetof(struct kvfs_channel, data));
}

void channel_request(fuse_req_t req, fuse_ino_t ino, const void *in, size_t len)
{
	struct kvfsd *d = op_daemon(req);
	uid_t uid = fuse_req_ctx(req)->uid;
	struct kvfs_channel piece;
	struct channel *ch;

	if (!tree_is_control(ino) || control_kind(ino) != CONTROL_CHANNEL) {
		fuse_reply_err(req, ENOTTY);
		return;
	}
	if (!is_trusted(uid) && !txn_is_owner(d, uid)) {
		fuse_reply_err(req, EPERM);
		return;
	}
	if (len != sizeof(piece)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	memcpy(&piece, in, sizeof(piece));
	if (piece.len > sizeof(piece.data)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	if (piece.op == KVFS_CHANNEL_END) {
		channel_end(&d->control, ino);
		piece.status = 0;
	} else {
		ch = use(&d->control, ino);
		if (!ch) {
			fuse_reply_err(req, ENOMEM);
			return;
		}
		pthread_mutex_lock(&ch->mu);
		ch->uid = uid;
		piece.status = work(d, req, ch, &piece);
		pthread_mutex_unlock(&ch->mu);
		release(&d->control, ch);
		if (piece.status == CHANNEL_LATER)
			return;
	}
	fuse_reply_ioctl(req, 0, &piece,
			 piece.op == KVFS_CHANNEL_GET
				 ? offsetof(struct kvfs_channel, data) + piece.len
				 : offsetof(struct kvfs_channel, data));
}
