/* SPDX-License-Identifier: MIT */
/*
 * A window of time over the commits. The engine keeps states from a number on; which number was the
 * newest at which time is noted here now and then, at most NOTES times in a window. A lasting
 * history has its notes on the volume. Writing one is a commit too, which
 * makes no further note necessary.
 *
 * The window moves in steps of a part of itself, because each move of a lasting one is a
 * synced commit.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/window.h"
#include "kvcore/base/buf.h"

#define WINDOW_NOTES   4096U /* in a window */
#define WINDOW_STEP    16U   /* part of the window that it moves by */
#define WINDOW_S       INT64_C(1000000000)
#define WINDOW_KEY_LEN 8U

struct kvfs_history {
	struct kvfs *fs;
	int64_t window_ns, spacing_ns;
	bool lasting;
	struct kv_buf notes; /* struct window_note, rising */
	kv_seq own;	     /* commit of the last note, if nothing came after it */
};

static size_t window_count(const struct kvfs_history *h)
{
	return h->notes.len / sizeof(struct window_note);
}

static const struct window_note *window_at(const struct kvfs_history *h, size_t i)
{
	return (const struct window_note *)(const void *)h->notes.data + i;
}

/* ---- notes on the volume -------------------------------------------------------------------- */

int window_read_notes(struct kvfs *fs, struct kv_buf *out)
{
	const struct kv_txn_options options = {.flags = KV_TXN_RDONLY};
	struct kv_slice key, value;
	struct kv_iter *it = NULL;
	struct window_note note;
	struct kv_txn *txn;
	struct le64 seq;
	int err = kv_txn_begin(fs->db, &options, &txn);

	if (err)
		return err;
	err = kv_iter_open(txn, MODEL_HISTORY, NULL, &it);
	for (err = err ? err : kv_iter_first(it); !err; err = kv_iter_next(it)) {
		err = kv_iter_value(it, &value);
		key = kv_iter_key(it);
		if (!err && (key.len != WINDOW_KEY_LEN || value.len != sizeof(seq)))
			err = -KV_E_CORRUPT;
		if (err)
			break;
		memcpy(&seq, value.data, sizeof(seq));
		note = (struct window_note){(int64_t)be64_at(key.data), le64_get(seq)};
		err = buf_append(out, &note, sizeof(note));
		if (err)
			break;
	}
	kv_iter_close(it);
	kv_txn_abort(txn);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int window_write_note(struct kvfs_history *h, const struct window_note *note)
{
	const struct le64 value = le64_of(note->seq);
	uint8_t key[WINDOW_KEY_LEN];
	struct kv_txn *txn;
	int err;

	if (!h->lasting)
		return 0;
	be64_put(key, (uint64_t)note->ns);
	err = kv_txn_begin(h->fs->db, NULL, &txn);
	if (err)
		return err;
	err = kv_txn_put(txn, MODEL_HISTORY, kv_slice_of(key, sizeof(key)),
			 kv_slice_of(&value, sizeof(value)));
	if (!err)
		return kv_txn_commit(txn, 0, &h->own);
	kv_txn_abort(txn);
	return err;
}

/* Remove all before @ns; 0: all. */
static int window_remove_notes(struct kvfs *fs, int64_t ns)
{
	const struct kv_slice none = {NULL, 0};
	uint8_t key[WINDOW_KEY_LEN];
	struct kv_txn *txn;
	int err = kv_txn_begin(fs->db, NULL, &txn);

	if (err)
		return err;
	be64_put(key, (uint64_t)ns);
	err = kv_txn_delete_range(txn, MODEL_HISTORY, none,
				  ns ? kv_slice_of(key, sizeof(key)) : none);
	if (!err)
		return kv_txn_commit(txn, KV_COMMIT_RESERVE, NULL);
	kv_txn_abort(txn);
	return err;
}

/* ---- life -------------------------------------------------------------------------------------
 */

/* Notes of what is not kept any more say nothing. */
static void window_forget_old(struct kvfs_history *h)
{
	struct kv_history_info info;
	size_t n = 0;

	kv_history_get(h->fs->db, &info);
	while (n < window_count(h) && window_at(h, n)->seq < info.from)
		n++;
	h->notes.len -= n * sizeof(struct window_note);
	if (n && h->notes.len)
		memmove(h->notes.data, h->notes.data + n * sizeof(struct window_note),
			h->notes.len);
}

static int window_note_now(struct kvfs_history *h, int64_t now_ns)
{
	struct window_note note = {.ns = now_ns};
	struct kv_history_info info;
	size_t n = window_count(h);
	int err;

	kv_history_get(h->fs->db, &info);
	note.seq = info.newest;
	if (n && (note.seq == window_at(h, n - 1)->seq || note.seq == h->own ||
		  now_ns - window_at(h, n - 1)->ns < h->spacing_ns))
		return 0;
	err = buf_reserve(&h->notes, sizeof(note));
	if (!err)
		err = window_write_note(h, &note);
	return err ? err : buf_append(&h->notes, &note, sizeof(note));
}

int kvfs_history_start(struct kvfs *fs, unsigned window_s, bool lasting, int64_t now_ns,
		       struct kvfs_history **out)
{
	struct kvfs_history *h;
	int err;

	if (!window_s || window_s > KVFS_HISTORY_MAX_S)
		return -EINVAL;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->fs = fs;
	h->lasting = lasting;
	h->window_ns = window_s * WINDOW_S;
	h->spacing_ns = h->window_ns / WINDOW_NOTES;
	err = lasting ? kvfs_writable(fs) : 0;
	if (!err)
		err = kv_history_begin(fs->db, lasting);
	if (!err && lasting)
		err = window_read_notes(fs, &h->notes);
	window_forget_old(h);
	if (!err)
		err = window_note_now(h, now_ns);
	if (err) {
		kv_buf_free(&h->notes);
		free(h);
		return err;
	}
	*out = h;
	return 0;
}

void kvfs_history_stop(struct kvfs_history *h)
{
	if (!h)
		return;
	if (!h->lasting)
		(void)!kv_history_end(h->fs->db); /* cannot fail, as it is not recorded */
	kv_buf_free(&h->notes);
	free(h);
}

int kvfs_history_forget(struct kvfs *fs)
{
	struct kv_history_info info;
	int err;

	kv_history_get(fs->db, &info);
	if (!info.lasting)
		return 0;
	err = kvfs_writable(fs);
	if (!err)
		err = kv_history_end(fs->db);
	return err ? err : window_remove_notes(fs, 0);
}

/* ---- moving on ----------------------------------------------------------------------------------
 */

static int window_trim(struct kvfs_history *h, kv_seq from, int64_t ns)
{
	int err = kv_history_trim(h->fs->db, from);

	if (!err)
		window_forget_old(h);
	return err || !h->lasting ? err : window_remove_notes(h->fs, ns);
}

/* What is older than the window: states before the newest note of that age. */
static int window_expire(struct kvfs_history *h, int64_t now_ns)
{
	int64_t until = now_ns - h->window_ns;
	struct window_note note;
	size_t n = 0;

	if (!window_count(h) || window_at(h, 0)->ns > until - h->window_ns / (int64_t)WINDOW_STEP)
		return 0;
	while (n + 1 < window_count(h) && window_at(h, n + 1)->ns <= until)
		n++;
	if (!n)
		return 0; /* nothing was committed after it */
	note = *window_at(h, n);
	return window_trim(h, note.seq, note.ns);
}

static bool window_is_short_of_room(struct kvfs *fs)
{
	struct kvfs_statfs st;

	return !kvfs_statfs(fs, &st) && st.blocks_free < st.blocks / 16;
}

int kvfs_history_tick(struct kvfs_history *h, int64_t now_ns, bool *dropped)
{
	struct kv_history_info info;
	int err = window_note_now(h, now_ns);

	if (dropped)
		*dropped = false;
	kv_history_get(h->fs->db, &info);
	if (info.newest > info.from + 1 && window_is_short_of_room(h->fs)) {
		err = window_trim(h, info.newest, now_ns);
		if (dropped)
			*dropped = !err;
		return err;
	}
	return err ? err : window_expire(h, now_ns);
}

int kvfs_history_at(struct kvfs_history *h, int64_t ns, int64_t now_ns, kv_seq *out)
{
	struct kv_history_info info;
	size_t n = window_count(h);

	if (ns >= now_ns) {
		kv_history_get(h->fs->db, &info);
		*out = info.newest;
		return 0;
	}
	while (n && window_at(h, n - 1)->ns > ns)
		n--;
	if (!n)
		return -KV_E_GONE;
	*out = window_at(h, n - 1)->seq;
	return 0;
}
