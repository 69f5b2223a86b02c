/* SPDX-License-Identifier: MIT */
/*
 * The past of one path: what was there in the states that are kept, those of snapshots and those
 * of history. It is found from the versions of the keys on the way to it, so it costs by what
 * was done to the path, and to the directories on it, and not by the number of states or commits.
 */
#ifndef KVFS_KVFS_VERSIONS_H
#define KVFS_KVFS_VERSIONS_H

#include "fusefs/model/kvfs_history.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Who asks: the rights of directories count as they were in each state. */
struct kvfs_caller {
	bool all; /* nothing is refused */
	bool acl; /* access lists count, not only modes */
	uint32_t uid;
	bool (*in_group)(void *ctx, uint32_t gid);
	void *ctx;
};

struct kvfs_versions;

/*
 * @path: from the root of the volume, without slashes at its ends; empty: the root itself
 * Return: 0 (it may be that nothing was ever there), -EINVAL, -ENAMETOOLONG (a name in it),
 * -KV_E_GONE (states went as fast as they were looked for), errors of reading.
 * Thread safety: one thread per structure.
 */
KV_API int kvfs_versions_open(struct kvfs *fs, struct kv_slice path, struct kvfs_versions **out)
	KV_MUST_CHECK;
KV_API void kvfs_versions_close(struct kvfs_versions *v); /* NULL is allowed */

#define KVFS_VERSION_TIME_LEN 30U /* of a name, without what tells those of one time apart */
/*
 * What is no directory, a version for each difference: two that follow each other differ in
 * contents, size, mode or a time of change.
 */
struct kvfs_version {
	/* The time of change, UTC: 2026-01-31T12:30:15.123456789Z; of one that has the same time as
	 * an earlier one, with .2, .3 and so on behind it. */
	const char *name;
	const char *snapshot; /* the state that it is read from: of a snapshot, or else NULL and */
	kv_seq commit;	      /* right after a commit, see kvfs_open_at() */
	size_t skip;	      /* bytes of the path that lead to the root of this state's tree */
	struct kvfs_attr attr;
};

/* Oldest first, those that @who may look up. @emit: nonzero stops and is returned if negative. */
KV_API int kvfs_versions_each(const struct kvfs_versions *v, const struct kvfs_caller *who,
			      int (*emit)(void *ctx, const struct kvfs_version *version), void *ctx)
	KV_MUST_CHECK;
/* @out borrows. Return: 0, -ENOENT, -EACCES. */
KV_API int kvfs_versions_find(const struct kvfs_versions *v, const struct kvfs_caller *who,
			      const char *name, struct kvfs_version *out) KV_MUST_CHECK;

/*
 * Where a directory was at the path: the names of what was in it, each once for each time that it
 * was another directory, in no order, if @who might list it then.
 */
KV_API int kvfs_versions_names(const struct kvfs_versions *v, const struct kvfs_caller *who,
			       int (*emit)(void *ctx, const char *name), void *ctx) KV_MUST_CHECK;
/*
 * Whether anything was at the path in a state that can be read even now. Return: 0, -ENOENT,
 * -EACCES (@who might not have seen it), errors of reading.
 */
KV_API int kvfs_versions_look(const struct kvfs_versions *v, const struct kvfs_caller *who)
	KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
