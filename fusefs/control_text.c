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

#include "fusefs/channel.h"
#include "fusefs/op.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

struct control_text {
	uint64_t id;
	struct kv_buf text;
	uint64_t refs;
	struct control_text *next;
};

/* ---- what the files say ---- */

static int print_list(struct kvfsd *d, uid_t uid, struct kv_buf *out)
{
	struct kv_snapshot_info *list = NULL;
	size_t count = 0;
	int err;

	(void)uid;
	err = kv_snapshot_list(kvfs_db(d->fs), &list, &count);
	for (size_t i = 0; !err && i < count; i++) {
		err = buf_printf(out, "%lld\t%llu\t", (long long)list[i].created_ns,
				 (unsigned long long)list[i].seq);
		if (!err)
			err = buf_append_escaped(out,
						 kv_slice_of(list[i].name, strlen(list[i].name)));
		if (!err)
			err = buf_printf(out, "\t%llu\n", (unsigned long long)list[i].held_bytes);
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

const struct control_entry control_entries[] = {
	{"channel", CONTROL_CHANNEL, S_IFREG | 0666, print_nothing, NULL},
	{"commit", CONTROL_COMMIT, S_IFDIR | 0777, NULL, NULL},
	{"conflicts", CONTROL_CONFLICTS, S_IFREG | 0444, txn_print_conflicts, NULL},
	{"keep", CONTROL_KEEP, S_IFREG | 0644, print_keep, store_keep},
	{"metrics", CONTROL_METRICS, S_IFREG | 0444, control_print_metrics, NULL},
	{"snapshots", CONTROL_SNAPSHOTS, S_IFDIR | 0755, NULL, NULL},
	{"snapshots.tsv", CONTROL_LIST, S_IFREG | 0444, print_list, NULL},
	{"stats", CONTROL_STATS, S_IFREG | 0444, control_print_stats, NULL},
	{"txn", CONTROL_TXN, S_IFDIR | 0777, NULL, NULL},
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
	*c = (struct control){0};
	clock_gettime(CLOCK_REALTIME, &c->changed);
	return -pthread_mutex_init(&c->mu, NULL);
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
	for (t = c->texts; t; t = next) {
		next = t->next;
		free_text(t);
	}
	(void)pthread_mutex_destroy(&c->mu);
}

/* Serials have the bits between the kind and the tree's slot; they come round after 2^39. */
static uint64_t next_id_locked(struct control *c, enum control_kind kind)
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
	err = entry->print(d, uid, &t->text);
	if (err) {
		free_text(t);
		return err;
	}
	pthread_mutex_lock(&c->mu);
	t->id = next_id_locked(c, entry->kind);
	t->next = c->texts;
	c->texts = t;
	*id = t->id;
	*size = t->text.len;
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
	if (t) {
		off = min_u64(off, t->text.len);
		len = (size_t)min_u64(len, t->text.len - off);
		err = buf_assign(out, kv_slice_of(len ? t->text.data + off : NULL, len));
	}
	pthread_mutex_unlock(&c->mu);
	return err;
}

int control_text_size(struct control *c, uint64_t id, uint64_t *size)
{
	struct control_text *t;

	pthread_mutex_lock(&c->mu);
	t = *find_locked(c, id);
	if (t)
		*size = t->text.len;
	pthread_mutex_unlock(&c->mu);
	return t ? 0 : -ESTALE;
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
		free_text(gone);
	}
}
