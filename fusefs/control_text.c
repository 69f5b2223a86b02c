/* SPDX-License-Identifier: MIT */
/*
 * The files of the control directory: what they are called, what they say, and
 * the texts that the kernel knows at the moment. There are as many of these as files
 * are being read, so they hang in one list.
 */
#include "fusefs/control_dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fusefs/channel.h"
#include "fusefs/op.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

#define TEXT_KEEP ((size_t)4 * 1024 * 1024)

struct control_text {
	uint64_t id;
	struct kv_buf text;
	uint64_t base; /* of what grows: bytes before the text that are gone */
	uint64_t size; /* as shown */
	int err;       /* why it is over */
	uint64_t refs;
	struct control_text *next;
};

/* ---- what the files say ---- */

/* The directory that it is of; one that was dropped meanwhile has none. */
static int print_of(struct kvfsd *d, const char *name, struct kv_buf *out)
{
	struct kv_buf of = {0};
	int err = kvfs_snapshot_of(d->fs, name, &of);

	if (!err)
		err = buf_append_escaped(out, kv_buf_slice(&of));
	kv_buf_free(&of);
	return err && err != -KV_E_NOTFOUND ? err : buf_append_byte(out, '\n');
}

static int print_list(struct kvfsd *d, uid_t uid, struct kv_buf *out)
{
	struct kv_snapshot_info *list = NULL;
	size_t count = 0;
	int err;

	(void)uid;
	err = kv_snapshot_list(kvfs_db(d->fs), &list, &count);
	for (size_t i = 0; !err && i < count; i++) {
		if (kvfs_snapshot_check_name(list[i].name)) /* made by no mount: it is no entry */
			continue;
		err = buf_printf(out, "%lld\t%llu\t", (long long)list[i].created_ns,
				 (unsigned long long)list[i].seq);
		if (!err)
			err = buf_append_escaped(out,
						 kv_slice_of(list[i].name, strlen(list[i].name)));
		if (!err)
			err = buf_printf(out, "\t%llu\t", (unsigned long long)list[i].held_bytes);
		if (!err)
			err = print_of(d, list[i].name, out);
	}
	free(list);
	return err;
}

static int print_keep(struct kvfsd *d, uid_t uid, struct kv_buf *out)
{
	struct kvfs_keep keep;
	int err = keeper_policy(d, &keep);

	(void)uid;
	if (!err)
		err = kvfs_keep_format(&keep, out);
	return err ? err : buf_append_byte(out, '\n');
}

static int store_keep(struct kvfsd *d, struct kv_slice text)
{
	struct kvfs_keep keep;
	struct kv_buf copy = {0};
	int err;

	if (d->opt->keep_said)
		return -EBUSY;
	err = buf_append_slice(&copy, text);
	if (!err)
		err = buf_append_byte(&copy, 0);
	if (!err)
		err = kvfs_keep_parse((const char *)copy.data, &keep);
	if (!err)
		err = kvfs_keep_set(d->fs, &keep);
	kv_buf_free(&copy);
	if (!err)
		keeper_wake(&d->keeper);
	return err;
}

/* There is nothing to read: what matters is the node. */
static int print_nothing(struct kvfsd *d, uid_t uid, struct kv_buf *out)
{
	(void)d;
	(void)uid;
	(void)out;
	return 0;
}

/* It names every path. */
static int print_feed(struct kvfsd *d, uid_t uid, struct kv_buf *out)
{
	(void)d;
	(void)out;
	return uid == 0 || uid == geteuid() ? 0 : -EACCES;
}

const struct control_entry control_entries[] = {
	{"at", CONTROL_AT, S_IFDIR | 0755, NULL, NULL, NULL},
	{"channel", CONTROL_CHANNEL, S_IFREG | 0666, print_nothing, NULL, NULL},
	{"commit", CONTROL_COMMIT, S_IFDIR | 0777, NULL, NULL, NULL},
	{"conflicts", CONTROL_CONFLICTS, S_IFREG | 0444, txn_print_conflicts, NULL, NULL},
	{"feed", CONTROL_FEED, S_IFREG | 0400, print_feed, feed_begin, NULL},
	{"history", CONTROL_HISTORY, S_IFDIR | 0755, NULL, NULL, NULL},
	{"keep", CONTROL_KEEP, S_IFREG | 0644, print_keep, NULL, store_keep},
	{"metrics", CONTROL_METRICS, S_IFREG | 0444, control_print_metrics, NULL, NULL},
	{"snapshots", CONTROL_SNAPSHOTS, S_IFDIR | 0755, NULL, NULL, NULL},
	{"snapshots.tsv", CONTROL_LIST, S_IFREG | 0444, print_list, NULL, NULL},
	{"stats", CONTROL_STATS, S_IFREG | 0444, control_print_stats, NULL, NULL},
	{"txn", CONTROL_TXN, S_IFDIR | 0777, NULL, NULL, NULL},
};
const size_t control_entry_count = KV_ARRAY_COUNT(control_entries);

const struct control_entry *control_entry_of(const char *name)
{
	for (size_t i = 0; i < control_entry_count; i++)
		if (!strcmp(control_entries[i].name, name))
			return &control_entries[i];
	return NULL;
}

const struct control_entry *control_entry_of_kind(enum control_kind kind)
{
	for (size_t i = 0; i < control_entry_count; i++)
		if (control_entries[i].kind == kind)
			return &control_entries[i];
	return NULL;
}

/* ---- texts ---- */

int control_init(struct control *c)
{
	int err;

	*c = (struct control){0};
	clock_gettime(CLOCK_REALTIME, &c->changed);
	err = feed_init(&c->feeds);
	if (err)
		return err;
	err = -pthread_mutex_init(&c->mu, NULL);
	if (err)
		feed_fini(&c->feeds);
	return err;
}

static void free_text(struct control_text *t)
{
	kv_buf_free(&t->text);
	free(t);
}

void control_fini(struct control *c)
{
	struct control_text *t, *next;

	channel_end_all(c);
	control_history_fini(c);
	for (t = c->texts; t; t = next) {
		next = t->next;
		free_text(t);
	}
	(void)pthread_mutex_destroy(&c->mu);
	feed_fini(&c->feeds);
}

/* Serials have the bits between the kind and the tree's slot; they come round after 2^39. */
uint64_t control_next_id_locked(struct control *c, enum control_kind kind)
{
	c->next_serial = (c->next_serial + 1) & (TREE_INO_MASK >> CONTROL_KIND_BITS);
	if (!c->next_serial)
		c->next_serial = 1;
	return TREE_BIT | c->next_serial << CONTROL_KIND_BITS | (uint64_t)kind;
}

int control_text_make(struct kvfsd *d, const struct control_entry *entry, uid_t uid, uint64_t *id,
		      uint64_t *size)
{
	struct control *c = &d->control;
	struct control_text *t = calloc(1, sizeof(*t));
	int err;

	if (!t)
		return -ENOMEM;
	t->refs = 1;
	pthread_mutex_lock(&c->mu);
	t->id = control_next_id_locked(c, entry->kind);
	pthread_mutex_unlock(&c->mu);
	*id = t->id;
	err = entry->print(d, uid, &t->text);
	if (!err && entry->begin)
		err = entry->begin(d, t->id, &t->text);
	if (err) {
		free_text(t);
		return err;
	}
	*size = t->size = t->text.len;
	pthread_mutex_lock(&c->mu);
	t->next = c->texts;
	c->texts = t;
	pthread_mutex_unlock(&c->mu);
	return 0;
}

static struct control_text **find_locked(struct control *c, uint64_t id)
{
	struct control_text **at = &c->texts;

	while (*at && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

int control_text_read(struct control *c, uint64_t id, uint64_t off, size_t len, struct kv_buf *out)
{
	struct control_text *t;
	int err = -ESTALE;

	pthread_mutex_lock(&c->mu);
	t = *find_locked(c, id);
	if (t && off >= t->base) {
		off = min_u64(off - t->base, t->text.len);
		len = (size_t)min_u64(len, t->text.len - off);
		err = buf_assign(out, kv_slice_of(len ? t->text.data + off : NULL, len));
	}
	pthread_mutex_unlock(&c->mu);
	return err;
}

int control_text_size(struct control *c, uint64_t id, uint64_t *size)
{
	struct control_text *t;
	int err = -ESTALE;

	pthread_mutex_lock(&c->mu);
	t = *find_locked(c, id);
	if (t) {
		*size = t->size;
		err = t->err;
	}
	pthread_mutex_unlock(&c->mu);
	return err;
}

int control_text_append(struct control *c, uint64_t id, struct kv_slice more)
{
	struct control_text *t;
	size_t drop = 0;
	int err = 0;

	pthread_mutex_lock(&c->mu);
	t = *find_locked(c, id);
	if (t && t->text.len > 2 * TEXT_KEEP)
		drop = t->text.len - TEXT_KEEP;
	if (drop) {
		memmove(t->text.data, t->text.data + drop, TEXT_KEEP);
		t->text.len = TEXT_KEEP;
		t->base += drop;
	}
	if (t)
		err = buf_append_slice(&t->text, more);
	pthread_mutex_unlock(&c->mu);
	return err;
}

void control_text_show(struct control *c, uint64_t id, uint64_t size)
{
	struct control_text *t;

	pthread_mutex_lock(&c->mu);
	t = *find_locked(c, id);
	if (t)
		t->size = size;
	pthread_mutex_unlock(&c->mu);
}

void control_text_fail(struct control *c, uint64_t id, int err)
{
	struct control_text *t;

	pthread_mutex_lock(&c->mu);
	t = *find_locked(c, id);
	if (t)
		t->err = err;
	pthread_mutex_unlock(&c->mu);
}

void control_text_unref(struct control *c, uint64_t id, uint64_t refs)
{
	struct control_text **at, *gone = NULL;

	pthread_mutex_lock(&c->mu);
	at = find_locked(c, id);
	if (*at) {
		(*at)->refs -= min_u64(refs, (*at)->refs);
		if (!(*at)->refs) {
			gone = *at;
			*at = gone->next;
		}
	}
	pthread_mutex_unlock(&c->mu);
	if (gone) {
		channel_end(c, id);
		feed_end(&c->feeds, id);
		free_text(gone);
	}
}
