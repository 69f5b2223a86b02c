/* SPDX-License-Identifier: MIT */
/*
 * libkvfs: what keys mean as files. The same volume is seen in two ways: as a
 * tree of nodes (what the daemon serves) and as an ordered map from paths to
 * file contents (the key API). Both work on the same records, each call in one
 * transaction of kvcore. No FUSE, no printing.
 *
 * Results are 0 or negative: a POSIX condition is -errno (-ENOENT, -EEXIST,
 * -ENOTDIR, -EISDIR, -ENOTEMPTY, -ENAMETOOLONG, -EINVAL, -EFBIG, -EMLINK, -ENODATA, ...),
 * a condition of the engine its -KV_E_* (kv_error_to_errno() maps both). Lost
 * races are retried inside. Outputs are untouched on error.
 *
 * Any function may return -ENOMEM, -KV_E_CORRUPT, -KV_E_CHECKSUM; any that
 * changes something also -KV_E_NOSPACE, -KV_E_POISONED, -KV_E_READONLY.
 *
 * Thread safety: all functions from any thread, unless stated.
 */
#ifndef KVFS_KVFS_H
#define KVFS_KVFS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kvcore/kvcore.h"
#include "kvcore/kvcore_check.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KVFS_NAME_MAX	     255U		 /* bytes of one path component */
#define KVFS_SYMLINK_MAX     4095U		 /* bytes of a target */
#define KVFS_FILE_MAX	     (UINT64_C(1) << 62) /* bytes of a file */
#define KVFS_LINK_MAX	     65000U		 /* names of a file */
#define KVFS_XATTR_NAME_MAX  255U
#define KVFS_XATTR_VALUE_MAX 65536U
#define KVFS_XATTR_LIST_MAX  65536U /* bytes of listxattr's answer */
#define KVFS_ROOT_INO	     1U

struct kvfs;
struct kvfs_node; /* a file, directory, symlink... that somebody looks at */
struct kvfs_dir;  /* an open directory */
struct kvfs_txn;  /* a transaction of the key API */

/* ---- volumes ------------------------------------------------------------ */

enum kvfs_flags {
	KVFS_RDONLY = 1U << 0,
	KVFS_SYNC = 1U << 1,	 /* every change is durable when its call returns */
	KVFS_LAZYTIME = 1U << 2, /* changes of times alone are written when something else is, at
				  * fsync, when the node is forgotten, and at close */
};

enum kvfs_atime { KVFS_RELATIME, KVFS_STRICTATIME, KVFS_NOATIME };

struct kvfs_options {
	unsigned flags; /* KVFS_* */
	enum kvfs_atime atime;
	bool nodiratime;      /* listing a directory leaves no access time */
	struct kv_options kv; /* KV_OPEN_RDONLY follows from KVFS_RDONLY */
};

struct kvfs_owner {
	uint32_t uid, gid;
	uint32_t umask; /* taken from the modes of what is created, unless the directory has a
			   default list */
};

/*
 * Make a volume with an empty root directory. A failure leaves no volume.
 * @root: owner of the root directory; its mode is 0755 & ~umask
 * Return: as kv_create().
 */
KV_API int kvfs_mkfs(const char *path, const struct kv_create_options *options,
		     const struct kvfs_owner *root) KV_MUST_CHECK;

/*
 * Open a volume; files that were unlinked while open at the last close or crash are
 * swept first. Return: as kv_open(); -KV_E_NOT_A_VOLUME also for a kvcore volume
 * without a root directory.
 */
KV_API int kvfs_open(const char *path, const struct kvfs_options *options, struct kvfs **out)
	KV_MUST_CHECK;
/*
 * The tree as of a named snapshot (kv_snapshot_create(); NULL: as of now): a read-only handle with
 * nodes of its own, whose ids are those of @fs. Closed with kvfs_close() before @fs is.
 * Return: 0, -KV_E_NOTFOUND, -KV_E_NOT_A_VOLUME (it is from before kvfs_mkfs()).
 */
KV_API int kvfs_open_snapshot(struct kvfs *fs, const char *name, struct kvfs **out) KV_MUST_CHECK;
/*
 * Snapshots whose names can be file names: of 1 to 255 bytes without a slash, not "." or "..".
 * Listed by kv_snapshot_list(). Creating one takes as long whatever the volume's size, and is
 * durable on return; views of one that is dropped go on. -EINVAL, -ENAMETOOLONG, -KV_E_EXISTS;
 * -KV_E_NOTFOUND.
 */
KV_API int kvfs_snapshot_check_name(const char *name) KV_MUST_CHECK;
KV_API int kvfs_snapshot_create(struct kvfs *fs, const char *name) KV_MUST_CHECK;
/*
 * A snapshot that shows only a directory with what is below it: the root of its tree. It
 * holds what one of the volume does. The key API in it, and kvfs_diff(), kvfs_send_open(),
 * kvfs_snapshot_hash() and kvfs_snapshot_restore() of it are -EOPNOTSUPP.
 * @of: the directory's path without slashes at its ends; empty: the whole volume
 * Return: as kvfs_snapshot_create(), -ENOENT, -ENOTDIR.
 */
KV_API int kvfs_snapshot_create_of(struct kvfs *fs, const char *name, struct kv_slice of)
	KV_MUST_CHECK;
/* The path of the directory that a snapshot is of, empty of the whole volume. -KV_E_NOTFOUND. */
KV_API int kvfs_snapshot_of(struct kvfs *fs, const char *name, struct kv_buf *out) KV_MUST_CHECK;
KV_API int kvfs_snapshot_drop(struct kvfs *fs, const char *name) KV_MUST_CHECK;
struct kvfs_draft_hooks;
/*
 * The whole volume becomes what it was at a snapshot, at one instant and durably, file ids
 * included, at the cost of the difference. What others changed up to that instant is undone. A file
 * that is open and had a name then is as it was; one that had none goes on, at the cost of a copy.
 * @progress: records written back; may be NULL. @hooks: stale alone is called; may be NULL
 * Return: 0, -KV_E_NOTFOUND, -KV_E_NOT_A_VOLUME, -EOPNOTSUPP (of a subtree), -EINVAL (@fs is a
 * snapshot's tree or a draft), -KV_E_INTERRUPTED, of kvfs_draft_commit().
 */
KV_API int kvfs_snapshot_restore(struct kvfs *fs, const char *name,
				 const struct kv_progress *progress,
				 const struct kvfs_draft_hooks *hooks) KV_MUST_CHECK;

/*
 * Retention: snapshots that are taken and dropped by the clock (UTC), one in each period in which
 * somebody calls kvfs_keep_run(). Their names are "hourly-2026-01-31T23Z", "daily-2026-01-31",
 * "weekly-2026-W05", "monthly-2026-01", "yearly-2026"; others are never touched.
 */
enum kvfs_period { KVFS_HOURLY, KVFS_DAILY, KVFS_WEEKLY, KVFS_MONTHLY, KVFS_YEARLY, KVFS_PERIODS };
#define KVFS_KEEP_MAX 65535U
struct kvfs_keep {
	unsigned count[KVFS_PERIODS]; /* the newest so many are kept; 0: none is taken or dropped */
};
/* "hourly=24 daily=7", separated by spaces, commas or newlines; "none". -EINVAL. */
KV_API int kvfs_keep_parse(const char *text, struct kvfs_keep *out) KV_MUST_CHECK;
/* Appends the same. */
KV_API int kvfs_keep_format(const struct kvfs_keep *keep, struct kv_buf *out) KV_MUST_CHECK;
/* What the volume says; nothing by default. Setting is durable on return. -EINVAL. */
KV_API int kvfs_keep_get(struct kvfs *fs, struct kvfs_keep *out) KV_MUST_CHECK;
KV_API int kvfs_keep_set(struct kvfs *fs, const struct kvfs_keep *keep) KV_MUST_CHECK;
/*
 * Take the snapshots of this hour, day, ... that are not there yet, and drop the oldest.
 * @now_s: since 1970; @dropped: called for each that was dropped; may be NULL
 * @next_s: when to call again, set whatever the result
 */
KV_API int kvfs_keep_run(struct kvfs *fs, const struct kvfs_keep *keep, int64_t now_s,
			 void (*dropped)(void *ctx, const char *name), void *ctx, int64_t *next_s)
	KV_MUST_CHECK;

/*
 * Make a writable copy of a directory, with all below it, of a snapshot (NULL: of now), at one
 * instant and durably. Large contents are shared until one of those that have them
 * changes them, which then gets a copy; so it costs by the number of files, not of bytes. But what
 * a snapshot alone still holds is copied. Copies have ids of their own; attributes stay, but ctime
 * and btime are now and KVFS_IMMUTABLE and KVFS_APPEND are gone; names of one file in the
 * source are names of one in the copy.
 * @from:     the directory's path without slashes at its ends; empty: the root directory
 * @to:       where nothing is yet, in a directory that is there
 * @progress: files copied; may be NULL
 * @dir:      receives the id of the directory that has a new entry; may be NULL
 * Return: 0, -EEXIST, -ENOENT, -ENOTDIR, -KV_E_NOTFOUND (no such snapshot), -EINVAL (a snapshot's
 * tree or a draft; the name), -ENAMETOOLONG, -EMLINK, -KV_E_INTERRUPTED; of kv_txn_commit().
 */
KV_API int kvfs_clone(struct kvfs *fs, const char *snapshot, struct kv_slice from,
		      struct kv_slice to, const struct kv_progress *progress, uint64_t *dir)
	KV_MUST_CHECK;

/* What became of a path between two states; each is its letter in `kvfs diff`. */
enum kvfs_change_kind {
	KVFS_ADDED = '+',
	KVFS_REMOVED = '-',
	KVFS_OTHER_TYPE = 'T', /* another file, of another type, is there */
	KVFS_MODIFIED = 'M',   /* the contents, and maybe attributes */
	KVFS_ATTRIBUTES = 'A', /* not the contents; of a directory not its times and link count */
	KVFS_RENAMED = 'R',    /* with all below it; M or A of the same path may follow */
};
struct kvfs_change {
	enum kvfs_change_kind kind;
	struct kv_slice path; /* relative to what was asked for */
	struct kv_slice from; /* of KVFS_RENAMED: where it was */
};
/*
 * What is different in state @after from state @before, names of snapshots (NULL: now). It costs by
 * what was changed between them, not by the size of the volume, in memory too.
 * @below: a directory's path without slashes at its ends, in both states; empty: all
 * @emit:  in order of paths ('/' before every other byte), slices borrowed for the call; nonzero
 *         stops and is returned if negative, else 0 is
 * Return: 0, -KV_E_NOTFOUND (no such snapshot), -KV_E_NOT_A_VOLUME, -ENOENT, -ENOTDIR (@below).
 */
KV_API int kvfs_diff(struct kvfs *fs, const char *before, const char *after, struct kv_slice below,
		     int (*emit)(void *ctx, const struct kvfs_change *change), void *ctx)
	KV_MUST_CHECK;

/* ---- transactions as trees ---- */

enum kvfs_draft_flags { KVFS_DRAFT_SERIALIZABLE = 1U << 0 };

/*
 * The tree as of now, to be changed without anybody seeing it before kvfs_draft_commit(): a handle
 * with nodes of its own, whose ids are those of @fs, for all functions of files. It is closed with
 * kvfs_close(), before @fs is, which drops what was not committed. Calls on it run one at a time.
 *
 * Snapshot isolation: of two that change the same file or name, who commits first wins; names
 * made or removed in one directory are no conflict. Serializable: what was read must be unchanged
 * too; a directory that was listed stands for everything below it.
 *
 * What it holds on the volume is given back by its end, by a crash too. Return: 0, -EINVAL (a
 * snapshot's tree or a draft).
 */
KV_API int kvfs_draft_begin(struct kvfs *fs, unsigned flags, struct kvfs **out) KV_MUST_CHECK;

struct kvfs_draft_hooks { /* any may be NULL; none calls libkvfs */
	/* Of a commit that fails with -KV_E_CONFLICT: a path, as bytes, that others have changed.
	 */
	void (*conflict)(void *ctx, struct kv_slice path);
	/* After a commit: what caches of the tree hold of @name in the directory @ino, or, @name
	 * NULL, of the attributes and contents of the file @ino, may be wrong. */
	void (*stale)(void *ctx, uint64_t ino, const char *name);
	/* With the result, before what takes time and concerns nobody: contents are deleted. */
	void (*done)(void *ctx, int err);
	void *ctx;
};
/*
 * All that was changed becomes visible at one instant, and is durable on return; or nothing does.
 * Return: 0; -KV_E_CONFLICT: the draft goes on as it was, but can only conflict again; -ESTALE: it
 * has ended. After any other error but -KV_E_READONLY and -ENOMEM it may have ended without effect.
 */
KV_API int kvfs_draft_commit(struct kvfs *draft, const struct kvfs_draft_hooks *hooks)
	KV_MUST_CHECK;
/*
 * What it has changed so far, as kvfs_diff() tells it; calls on it wait meanwhile. Contents of
 * files that it wrote are compared whole. Return: as kvfs_diff(), -ESTALE.
 */
KV_API int kvfs_draft_diff(struct kvfs *draft, struct kv_slice below,
			   int (*emit)(void *ctx, const struct kvfs_change *change), void *ctx)
	KV_MUST_CHECK;
/* The end of it; all its functions return -ESTALE from then on. */
KV_API void kvfs_draft_abort(struct kvfs *draft);

/*
 * The root hash of a snapshot: over paths, attributes but access times, extended attributes and
 * contents, not ids. Equal trees have equal ones, on any volume. Remembered on the volume if it can
 * be; else it costs by the volume. -KV_E_NOTFOUND, -KV_E_NOT_A_VOLUME.
 */
#define KVFS_HASH_LEN 32U
KV_API int kvfs_snapshot_hash(struct kvfs *fs, const char *name, uint8_t out[KVFS_HASH_LEN])
	KV_MUST_CHECK;

/*
 * The stream that makes snapshot @from (NULL: nothing) into snapshot @name, docs/format.md, section
 * 10. It costs by the difference, in memory too, once the root hash of @from is remembered.
 * @token: of kvfs_receive_token(): what the other side has is left out; NULL: all of it
 * Return: 0, -KV_E_NOTFOUND, -KV_E_NOT_A_VOLUME, -EINVAL (no token, or one of another stream, which
 * kvfs_send_read() may tell later).
 * Thread safety: one thread per stream.
 */
struct kvfs_send;
KV_API int kvfs_send_open(struct kvfs *fs, const char *from, const char *name, const char *token,
			  struct kvfs_send **out) KV_MUST_CHECK;
/* Append the next bytes. -KV_E_NOTFOUND: there are no more. */
KV_API int kvfs_send_read(struct kvfs_send *send, struct kv_buf *out) KV_MUST_CHECK;
/* The root hash of @name, after the end. -KV_E_INVALID before. */
KV_API int kvfs_send_hash(const struct kvfs_send *send, uint8_t out[KVFS_HASH_LEN]) KV_MUST_CHECK;
KV_API void kvfs_send_close(struct kvfs_send *send); /* NULL is allowed */

/*
 * Receive a stream into a directory, which becomes what was sent at one instant, at the end, or
 * stays as it is. What has come is staged on the volume and outlives a break. Others may look at
 * the tree, and change what is not below the directory.
 * @below: a directory's path without slashes at its ends; empty: the root directory
 * Return: 0, -KV_E_READONLY, -ENOENT, -ENOTDIR.
 * Thread safety: one thread per stream, one stream at a time.
 */
struct kvfs_receive;
KV_API int kvfs_receive_open(struct kvfs *fs, struct kv_slice below, struct kvfs_receive **out)
	KV_MUST_CHECK;
/*
 * The next bytes of the stream, of any number.
 * Return: 0, -EPROTO (not a stream, or what it says makes no sense), -EPROTONOSUPPORT (another
 * version), -EBADMSG (damaged), -EILSEQ (a part is missing or comes twice), -ESRCH (it goes on
 * where nothing was begun), -ESTALE (the directory is not what the stream begins with), -EBUSY (it
 * was, and was changed since), -ENOTEMPTY (a whole tree goes into an empty directory only), -EEXIST
 * (there is a snapshot of the name that is to be made), -KV_E_NOSPACE.
 */
KV_API int kvfs_receive_put(struct kvfs_receive *receive, struct kv_slice data) KV_MUST_CHECK;
struct kvfs_received {
	bool already; /* this stream was received before, and nothing was changed */
	uint8_t hash[KVFS_HASH_LEN];
	char name[KV_SNAPSHOT_NAME_MAX + 1]; /* of the snapshot that was made */
};
/*
 * The stream has ended: make the directory what was sent, and a snapshot of it. Durable on return.
 * @progress: items; may be NULL. @hooks: stale alone is called; may be NULL
 * Return: 0, -ENODATA (it was broken off: it can be resumed), -EUCLEAN (the outcome would not have
 * the root hash of what was sent), -EBUSY (the directory was changed since the stream began),
 * -EEXIST (so was a snapshot of the name made), -KV_E_NOSPACE, -KV_E_INTERRUPTED, of
 * kvfs_draft_commit().
 */
KV_API int kvfs_receive_finish(struct kvfs_receive *receive, const struct kv_progress *progress,
			       const struct kvfs_draft_hooks *hooks, struct kvfs_received *out)
	KV_MUST_CHECK;
KV_API void kvfs_receive_close(struct kvfs_receive *receive); /* NULL is allowed */
/* Where a stream that was broken off goes on, for kvfs_send_open(). -KV_E_NOTFOUND. */
KV_API int kvfs_receive_token(struct kvfs *fs, struct kv_buf *out) KV_MUST_CHECK;
/* Forget what is staged. */
KV_API int kvfs_receive_discard(struct kvfs *fs) KV_MUST_CHECK;

/* No directory or transaction is open. Nodes are forgotten. Return: as kv_close(). */
KV_API int kvfs_close(struct kvfs *fs) KV_MUST_CHECK;
KV_API struct kv_db *kvfs_db(struct kvfs *fs);
/* All acknowledged changes become durable. */
KV_API int kvfs_sync(struct kvfs *fs) KV_MUST_CHECK;
/* Switch between read-only and read-write service (mount -o remount). -KV_E_READONLY if the volume
 * itself was opened read-only. */
KV_API int kvfs_set_readonly(struct kvfs *fs, bool readonly) KV_MUST_CHECK;

struct kvfs_statfs {
	uint64_t block_size; /* bytes */
	uint64_t blocks, blocks_free, blocks_avail;
	uint64_t files, files_free; /* estimated from the tables' entry counts and the free space */
};
KV_API int kvfs_statfs(struct kvfs *fs, struct kvfs_statfs *out) KV_MUST_CHECK;

/* ---- attributes ---------------------------------------------------------- */

/* sec is clamped to -2^31 .. 2^34 - 2^31 - 1 (1901 to 2446), as on ext4. */
struct kvfs_time {
	int64_t sec;
	uint32_t nsec;
};

/* Flags that users set, as on other file systems (chattr(1)). */
enum kvfs_attr_flags {
	KVFS_IMMUTABLE = 1U << 0, /* no change but of these flags */
	KVFS_APPEND = 1U << 1,	  /* no change but appending; no removal from a directory */
	KVFS_NODUMP = 1U << 2,	  /* kept for others */
	KVFS_NO_ATIME = 1U << 3,  /* reads leave no trace */
};
#define KVFS_FLAGS_ALL ((unsigned)(KVFS_IMMUTABLE | KVFS_APPEND | KVFS_NODUMP | KVFS_NO_ATIME))

struct kvfs_attr {
	uint64_t ino;
	uint64_t size;	 /* bytes; of a symlink: of its target */
	uint64_t blocks; /* of 512 bytes, allocated */
	uint32_t mode;	 /* with the type */
	uint32_t nlink;
	uint32_t uid, gid;
	uint32_t rdev;	/* as Linux encodes it (major << 8 | minor, extended) */
	uint32_t flags; /* KVFS_IMMUTABLE and so on */
	struct kvfs_time atime, mtime, ctime, btime;
	/* Somebody has it open by kvfs_stage_open(): sizes and times may change at any moment. */
	bool staged;
	bool unborn; /* it is there only for those who make it, see kvfs_stage_create() */
};

/* ---- nodes ---------------------------------------------------------------- */
/*
 * A node is (parent node, name), never a path, so a rename of a directory touches no
 * descendant. Its number is the file id: unique, never reused. Functions that
 * return a node add one reference; kvfs_node_forget() takes them away. A file
 * whose last name is removed lives on until its references are gone.
 */
KV_API struct kvfs_node *kvfs_root(struct kvfs *fs); /* no reference; always valid */
/* A node that has references; NULL if there is none. No reference is added. */
KV_API struct kvfs_node *kvfs_node_by_ino(struct kvfs *fs, uint64_t ino);
/*
 * The file with this number, wherever it is and whether or not somebody looks at it. A file that
 * nobody looks at costs a search through the names of the whole volume.
 * -ESTALE: there is none, or none any more.
 */
KV_API int kvfs_node_find(struct kvfs *fs, uint64_t ino, struct kvfs_node **out,
			  struct kvfs_attr *attr) KV_MUST_CHECK;
KV_API uint64_t kvfs_node_ino(const struct kvfs_node *node);
/* Of the directory that it is found in now; of the root its own. */
KV_API uint64_t kvfs_node_parent_ino(struct kvfs *fs, struct kvfs_node *node);
KV_API void kvfs_node_forget(struct kvfs *fs, struct kvfs_node *node, uint64_t refs);
/* The node's path from the root for messages, "/" first, escaped; freed by the caller. */
KV_API int kvfs_node_path(struct kvfs *fs, struct kvfs_node *node, struct kv_buf *out)
	KV_MUST_CHECK;

/* "." and ".." are understood. -ENOENT, -ENOTDIR, -ENAMETOOLONG. */
KV_API int kvfs_lookup(struct kvfs *fs, struct kvfs_node *dir, const char *name,
		       struct kvfs_node **out, struct kvfs_attr *attr) KV_MUST_CHECK;
KV_API int kvfs_getattr(struct kvfs *fs, struct kvfs_node *node, struct kvfs_attr *out)
	KV_MUST_CHECK;

enum kvfs_setattr_mask {
	KVFS_SET_MODE = 1U << 0,
	KVFS_SET_UID = 1U << 1,
	KVFS_SET_GID = 1U << 2,
	KVFS_SET_SIZE = 1U << 3,
	KVFS_SET_ATIME = 1U << 4,
	KVFS_SET_MTIME = 1U << 5,
	KVFS_SET_ATIME_NOW = 1U << 6,
	KVFS_SET_MTIME_NOW = 1U << 7,
	KVFS_SET_CTIME = 1U << 8, /* else it becomes now */
	KVFS_SET_FLAGS = 1U << 9,
};
/*
 * One transaction. @attr: the new state (may be NULL). The access list follows the mode. -EFBIG,
 * -EISDIR, -EINVAL (size of a device), -EPERM (KVFS_IMMUTABLE or KVFS_APPEND is set),
 * -EOPNOTSUPP (flags of what is neither file nor directory, or unknown ones).
 */
KV_API int kvfs_setattr(struct kvfs *fs, struct kvfs_node *node, unsigned mask,
			const struct kvfs_attr *values, struct kvfs_attr *attr) KV_MUST_CHECK;

KV_API int kvfs_readlink(struct kvfs *fs, struct kvfs_node *node, struct kv_buf *target)
	KV_MUST_CHECK;

/*
 * Create. A set-group-id directory gives its group to what is made in it (and the bit to
 * directories), a default list its rights (see kvfs_setxattr()). -EEXIST, -ENOENT (the directory
 * was removed), -ENAMETOOLONG, -EINVAL ("", ".",
 * "..", a slash), -EMLINK. mknod makes regular files, fifos, sockets and devices.
 */
KV_API int kvfs_mknod(struct kvfs *fs, struct kvfs_node *dir, const char *name, uint32_t mode,
		      uint32_t rdev, const struct kvfs_owner *owner, struct kvfs_node **out,
		      struct kvfs_attr *attr) KV_MUST_CHECK;
/* A regular file without a name, until kvfs_link() gives it one; gone with its last reference. */
KV_API int kvfs_tmpfile(struct kvfs *fs, struct kvfs_node *dir, uint32_t mode,
			const struct kvfs_owner *owner, struct kvfs_node **out,
			struct kvfs_attr *attr) KV_MUST_CHECK;
KV_API int kvfs_mkdir(struct kvfs *fs, struct kvfs_node *dir, const char *name, uint32_t mode,
		      const struct kvfs_owner *owner, struct kvfs_node **out,
		      struct kvfs_attr *attr) KV_MUST_CHECK;
KV_API int kvfs_symlink(struct kvfs *fs, struct kvfs_node *dir, const char *name,
			const char *target, const struct kvfs_owner *owner, struct kvfs_node **out,
			struct kvfs_attr *attr) KV_MUST_CHECK;
/* A further name. A node without any name can get one too. -EPERM (a directory), -EMLINK. */
KV_API int kvfs_link(struct kvfs *fs, struct kvfs_node *node, struct kvfs_node *dir,
		     const char *name, struct kvfs_node **out, struct kvfs_attr *attr)
	KV_MUST_CHECK;
KV_API int kvfs_unlink(struct kvfs *fs, struct kvfs_node *dir, const char *name) KV_MUST_CHECK;
KV_API int kvfs_rmdir(struct kvfs *fs, struct kvfs_node *dir, const char *name) KV_MUST_CHECK;

enum kvfs_rename_flags {
	KVFS_RENAME_NOREPLACE = 1U << 0,
	KVFS_RENAME_EXCHANGE = 1U << 1,
	KVFS_RENAME_WHITEOUT = 1U << 2, /* a device 0:0 takes the old name: overlayfs's "gone" */
};
/*
 * Of a directory: one record moves, at the same cost whatever is in it.
 * -EEXIST, -ENOTEMPTY, -EISDIR, -ENOTDIR, -EINVAL (into itself; unknown flags).
 */
KV_API int kvfs_rename(struct kvfs *fs, struct kvfs_node *from_dir, const char *from,
		       struct kvfs_node *to_dir, const char *to, unsigned flags) KV_MUST_CHECK;

/* ---- contents -------------------------------------------------------------- */

/* Up to @len bytes into @out (replaced), fewer at the end of the file. Updates atime by option. */
KV_API int kvfs_read(struct kvfs *fs, struct kvfs_node *node, uint64_t off, size_t len,
		     struct kv_buf *out) KV_MUST_CHECK;
/* As kvfs_read(), for an open with O_NOATIME: the access time stays. */
KV_API int kvfs_read_noatime(struct kvfs *fs, struct kvfs_node *node, uint64_t off, size_t len,
			     struct kv_buf *out) KV_MUST_CHECK;
/*
 * All of @data in one transaction, up to KVFS_WRITE_MAX bytes. -EFBIG, -EISDIR.
 * @sync: durable on return.
 */
#define KVFS_WRITE_MAX (1024U * 1024)
KV_API int kvfs_write(struct kvfs *fs, struct kvfs_node *node, uint64_t off, struct kv_slice data,
		      bool sync) KV_MUST_CHECK;
/*
 * @mode: FALLOC_FL_* of fallocate(2): 0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE (with or
 * without KEEP_SIZE); others -EOPNOTSUPP. Allocating checks that the volume has the room now.
 */
KV_API int kvfs_fallocate(struct kvfs *fs, struct kvfs_node *node, int mode, uint64_t off,
			  uint64_t len) KV_MUST_CHECK;
/* @whence: SEEK_DATA or SEEK_HOLE. -ENXIO. */
KV_API int kvfs_lseek(struct kvfs *fs, struct kvfs_node *node, uint64_t off, int whence,
		      uint64_t *out) KV_MUST_CHECK;
/* Copies up to @len bytes (fewer at the end of the source, or in large copies); whole chunks by
 * reference where the engine can. */
KV_API int kvfs_copy_range(struct kvfs *fs, struct kvfs_node *from, uint64_t from_off,
			   struct kvfs_node *to, uint64_t to_off, uint64_t len, uint64_t *copied)
	KV_MUST_CHECK;
/* Durable with everything before it; flushes lazy times of the node. */
KV_API int kvfs_fsync(struct kvfs *fs, struct kvfs_node *node, bool data_only) KV_MUST_CHECK;

/* ---- extended attributes ----------------------------------------------------- */

#define KVFS_XATTR_KILL_SGID (1 << 16) /* of a file whose access list is set */
/*
 * @flags: XATTR_CREATE, XATTR_REPLACE, KVFS_XATTR_KILL_SGID.
 * The lists system.posix_acl_access and system.posix_acl_default must be well formed; the first
 * sets the mode as well, and is not kept if it says no more than a mode.
 * -EEXIST, -ENODATA, -E2BIG, -ERANGE (name), -ENOSPC, -EPERM; of lists also -EINVAL, -EACCES (a
 * default list of what is no directory), -EOPNOTSUPP (a symlink).
 */
KV_API int kvfs_setxattr(struct kvfs *fs, struct kvfs_node *node, const char *name,
			 struct kv_slice value, int flags) KV_MUST_CHECK;
KV_API int kvfs_getxattr(struct kvfs *fs, struct kvfs_node *node, const char *name,
			 struct kv_buf *value) KV_MUST_CHECK;
/* NUL-terminated names one after the other. */
KV_API int kvfs_listxattr(struct kvfs *fs, struct kvfs_node *node, struct kv_buf *names)
	KV_MUST_CHECK;
KV_API int kvfs_removexattr(struct kvfs *fs, struct kvfs_node *node, const char *name)
	KV_MUST_CHECK;

/* ---- directories --------------------------------------------------------------- */

struct kvfs_dirent {
	const char *name; /* NUL-terminated, borrowed for the call */
	uint64_t ino;
	uint32_t type;		      /* mode & S_IFMT */
	uint64_t cookie;	      /* continue after this entry */
	const struct kvfs_attr *attr; /* only if asked for */
	struct kvfs_node *node;	      /* only if asked for; referenced if the callback takes it */
};

/* Adds a reference to the node until closed. */
KV_API int kvfs_dir_open(struct kvfs *fs, struct kvfs_node *node, struct kvfs_dir **out)
	KV_MUST_CHECK;
/* It was opened with O_NOATIME: listing it leaves the access time. Before it is read. */
KV_API void kvfs_dir_noatime(struct kvfs_dir *dir);
KV_API void kvfs_dir_close(struct kvfs_dir *dir);
/*
 * Call @emit for each entry after @cookie (0: from the start, which reads afresh), "." and ".."
 * first, then by name, until it returns nonzero: an entry it refused comes again. Every entry that
 * was there throughout comes exactly once; a cookie stays valid while the directory is open,
 * whatever is added or removed. @emit calls no function of libkvfs. @plus: with attributes and
 * nodes (not for "." and ".."); the node's reference is the callback's if it returned 0. Thread
 * safety: one thread at a time per @dir.
 */
KV_API int kvfs_dir_read(struct kvfs_dir *dir, uint64_t cookie, bool plus,
			 int (*emit)(void *ctx, const struct kvfs_dirent *entry), void *ctx)
	KV_MUST_CHECK;

/* ---- key API --------------------------------------------------------------------- */
/*
 * A key is a path without a leading slash: components of 1 to 255 bytes, separated
 * by '/', none of them "." or "..", no NUL. -EINVAL otherwise, -ENAMETOOLONG. A key
 * is the content of a regular file; symlinks are not followed (-ELOOP as a component, -EINVAL as a
 * key). A key where a directory is: -EISDIR; below a file: -ENOTDIR.
 */

/* -KV_E_NOTFOUND if there is no such key. */
KV_API int kvfs_key_get(struct kvfs *fs, struct kv_slice key, struct kv_buf *value) KV_MUST_CHECK;
/* Makes missing parents, and the file with mode 0644, owned by @owner (NULL: the process). Replaces
 * the content at one instant; attributes of an existing file other than its times stay. */
KV_API int kvfs_key_put(struct kvfs *fs, struct kv_slice key, struct kv_slice value,
			const struct kvfs_owner *owner) KV_MUST_CHECK;
/* Removes the file; its directories stay. -KV_E_NOTFOUND. */
KV_API int kvfs_key_delete(struct kvfs *fs, struct kv_slice key) KV_MUST_CHECK;

struct kvfs_scan {
	struct kv_slice prefix; /* of the path, not only at a slash; empty: all */
	struct kv_slice from;	/* first key; empty: no bound */
	struct kv_slice to;	/* first key not wanted; empty: no bound */
	bool keys_only;		/* values are not read */
};
/* One snapshot; regular files in path order ('/' sorts before every other byte). @emit: nonzero
 * stops and is returned if negative, else 0 is. */
KV_API int kvfs_key_scan(struct kvfs *fs, const struct kvfs_scan *scan,
			 int (*emit)(void *ctx, struct kv_slice key, struct kv_slice value),
			 void *ctx) KV_MUST_CHECK;

/* Several of the above at one instant. Snapshot isolation; thread safety: one thread per
 * transaction. Lost races surface here: -KV_E_CONFLICT, -KV_E_DEADLOCK: abort and do it again. */
KV_API int kvfs_txn_begin(struct kvfs *fs, const struct kvfs_owner *owner, struct kvfs_txn **out)
	KV_MUST_CHECK;
KV_API int kvfs_txn_get(struct kvfs_txn *txn, struct kv_slice key, struct kv_buf *value)
	KV_MUST_CHECK;
KV_API int kvfs_txn_put(struct kvfs_txn *txn, struct kv_slice key, struct kv_slice value)
	KV_MUST_CHECK;
KV_API int kvfs_txn_delete(struct kvfs_txn *txn, struct kv_slice key) KV_MUST_CHECK;
KV_API int kvfs_txn_scan(struct kvfs_txn *txn, const struct kvfs_scan *scan,
			 int (*emit)(void *ctx, struct kv_slice key, struct kv_slice value),
			 void *ctx) KV_MUST_CHECK;
KV_API int kvfs_txn_commit(struct kvfs_txn *txn, bool sync)
	KV_MUST_CHECK; /* released in any case */
KV_API void kvfs_txn_abort(struct kvfs_txn *txn);

/* ---- bulk load and check -------------------------------------------------------------- */

/*
 * Copy the tree at the host's path @from into the root directory: contents with their holes, hard
 * links, symlinks, special files, xattrs, owners, modes, times. Meant for a fresh volume; not
 * atomic.
 * @failed: receives the host path on which it failed (freed by the caller); may be NULL
 */
KV_API int kvfs_import(struct kvfs *fs, const char *from, const struct kv_progress *progress,
		       struct kv_buf *failed) KV_MUST_CHECK;

/* Findings of the file layer; numbers never change. */
#define KVFS_PROBLEMS(X) /* number, name, text */                                                  \
	X(201, RECORD, "a record cannot be decoded")                                               \
	X(202, NO_PARENT, "a key is not reachable from the root directory")                        \
	X(203, LINK_COUNT, "a link count is wrong")                                                \
	X(204, DANGLING_LINK, "a name refers to a file that is not there")                         \
	X(205, PREFIX_TWICE, "two directories have the same prefix")                               \
	X(206, PREFIX_RECORD, "a prefix record does not match its directory")                      \
	X(207, CHUNK_RANGE, "a chunk lies outside its file")                                       \
	X(208, CHUNK_NO_FILE, "a chunk belongs to no file")                                        \
	X(209, XATTR_NO_FILE, "an extended attribute belongs to no file")                          \
	X(210, ID_TWICE, "two files have the same id")                                             \
	X(211, ORPHAN, "a file without a name was left open")                                      \
	X(212, INODE_NO_NAME, "a linked file has no name")                                         \
	X(213, ID_RESERVED, "a file id is beyond the next free one")                               \
	X(214, BLOCK_COUNT, "a file's allocated size is wrong")                                    \
	X(215, ROOT, "the root directory is missing or damaged")                                   \
	X(216, CONTENT_USERS, "contents are shared by another number of files than is noted")

enum kvfs_problem_id {
#define KVFS_PROBLEM_ENUM(number, name, text) KVFS_PROBLEM_##name = (number),
	KVFS_PROBLEMS(KVFS_PROBLEM_ENUM)
#undef KVFS_PROBLEM_ENUM
};

struct kvfs_problem {
	enum kvfs_problem_id id;
	const char *text; /* one line with the path or id, escaped; borrowed */
	bool repaired;
};

struct kvfs_check_options {
	bool repair; /* mend what can be, in one transaction at the end; the volume is opened for
			writing */
	void (*found)(void *ctx, const struct kvfs_problem *problem);
	void *ctx;
	const struct kv_progress *progress; /* entries */
	const struct kv_log_sink *log;
	struct os_env *env; /* NULL: this host */
};
struct kvfs_check_result {
	uint64_t problems, repaired;
	uint64_t files, directories, symlinks, others, links, chunks, bytes;
};
/*
 * Check the file layer of a volume whose engine layer kv_verify() found whole. A file that was open
 * without a name (ORPHAN) is what a crash leaves: it is reported, and removed by a repair, but not
 * counted among the problems. @result is set if the call returns 0.
 */
KV_API int kvfs_check(const char *path, const struct kvfs_check_options *options,
		      struct kvfs_check_result *result) KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
