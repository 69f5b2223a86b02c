/* SPDX-License-Identifier: MIT */
/*
 * The past of a volume: what is kept of it, and its changes in the order of their commits. A
 * commit has a number; numbers rise, and many are left out. What is kept is a window of
 * time, which somebody moves on by calling kvfs_history_tick().
 */
#ifndef KVFS_KVFS_HISTORY_H
#define KVFS_KVFS_HISTORY_H

#include "fusefs/model/kvfs.h"
#include "kvcore/kv_history.h"

#ifdef __cplusplus
extern "C" {
#endif

struct kvfs_history;

#define KVFS_HISTORY_MAX_S (366U * 24 * 3600)

/*
 * Keep what is committed from now on.
 * @window_s: for so long, 1 to KVFS_HISTORY_MAX_S
 * @lasting:  recorded on the volume, with the times of commits, so that it goes on after the next
 *            opening; what an earlier such call kept is still there
 * @now_ns:   since 1970
 * Return: 0, -EINVAL, -KV_E_READONLY (@lasting). Thread safety: any thread.
 */
KV_API int kvfs_history_start(struct kvfs *fs, unsigned window_s, bool lasting, int64_t now_ns,
			      struct kvfs_history **out) KV_MUST_CHECK;
/*
 * Note the time, and let go what is older than the window: call it about every second. If less
 * than a sixteenth of the volume is free, all of the past goes.
 * @dropped: may be NULL; whether that happened
 */
KV_API int kvfs_history_tick(struct kvfs_history *h, int64_t now_ns, bool *dropped) KV_MUST_CHECK;
/*
 * The newest commit at a time, as far as it was noted: to the second, or to a 4096th part of the
 * window. @ns: at or after @now_ns it is the newest of all. Return: 0, -KV_E_GONE.
 */
KV_API int kvfs_history_at(struct kvfs_history *h, int64_t ns, int64_t now_ns, kv_seq *out)
	KV_MUST_CHECK;
/*
 * The tree right after a commit: as kvfs_open_snapshot(). It stays whole, whatever history lets go.
 * Return: 0, -KV_E_GONE, -KV_E_INVALID (there is no such commit yet), -KV_E_NOT_A_VOLUME.
 */
KV_API int kvfs_open_at(struct kvfs *fs, kv_seq commit, struct kvfs **out) KV_MUST_CHECK;
/* No more of it; a lasting one goes on when it is started again. NULL is allowed. */
KV_API void kvfs_history_stop(struct kvfs_history *h);
/* Keep nothing, and forget what was recorded on the volume, if there is any. */
KV_API int kvfs_history_forget(struct kvfs *fs) KV_MUST_CHECK;

/* ---- changes in order ---- */

#define KVFS_EVENTS(X) /* name, word */                                                            \
	X(CREATED, "created")                                                                      \
	X(LINKED, "linked")	    /* a further name */                                           \
	X(WRITTEN, "written")	    /* contents */                                                 \
	X(TRUNCATED, "truncated")   /* it became shorter */                                        \
	X(ATTRIBUTES, "attributes") /* mode, owner, flags; of what is no directory also times */   \
	X(XATTR, "xattr")                                                                          \
	X(RENAMED, "renamed")	/* with all below it */                                            \
	X(UNLINKED, "unlinked") /* a name is gone, or a directory */
enum kvfs_event_kind {
#define KVFS_EVENT_ENUM(NAME, word) KVFS_EVENT_##NAME,
	KVFS_EVENTS(KVFS_EVENT_ENUM)
#undef KVFS_EVENT_ENUM
};
KV_API const char *kvfs_event_word(enum kvfs_event_kind kind);

struct kvfs_event {
	kv_seq commit;
	enum kvfs_event_kind kind;
	struct kv_slice path; /* from the root, as of this commit; "." is the root */
	struct kv_slice from; /* of KVFS_EVENT_RENAMED: as of the commit before */
};

struct kvfs_watch;

#define KVFS_WATCH_OLDEST      KV_SEQ_MAX
#define KVFS_WATCH_OLDEST_TEXT "18446744073709551615"
/*
 * Go over the commits from number @from on (0: those to come; KVFS_WATCH_OLDEST: the first that is
 * kept), which history must have kept.
 * @below: only what is at this path or below it, or was moved from there; without slashes at its
 *         ends; empty: everything
 * Return: 0, -KV_E_GONE (or history is not kept), -KV_E_INVALID (no commit has the number yet).
 * Thread safety: one thread per watch.
 */
KV_API int kvfs_watch_open(struct kvfs *fs, kv_seq from, struct kv_slice below,
			   struct kvfs_watch **out) KV_MUST_CHECK;
KV_API void kvfs_watch_close(struct kvfs_watch *w); /* NULL is allowed */
/*
 * Tell the next durable commit, if it changed anything that is to be told. What it did happened
 * at one instant; the order in which it is told means nothing.
 * @emit: slices are borrowed for the call; nonzero stops and is returned if negative, else 0 is
 * Return: 0, -KV_E_NOTFOUND (there is none yet: ask again later), -KV_E_GONE (it was too slow).
 */
KV_API int kvfs_watch_next(struct kvfs_watch *w,
			   int (*emit)(void *ctx, const struct kvfs_event *event), void *ctx)
	KV_MUST_CHECK;
/* All commits up to this number were told: go on with the next one. */
KV_API kv_seq kvfs_watch_position(const struct kvfs_watch *w);

#ifdef __cplusplus
}
#endif
#endif
