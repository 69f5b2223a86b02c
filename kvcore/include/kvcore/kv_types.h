/* SPDX-License-Identifier: MIT */
/*
 * Types that every layer and every caller of kvcore shares: slices, buffers,
 * sequence numbers, result codes and the log sink.
 */
#ifndef KVCORE_KV_TYPES_H
#define KVCORE_KV_TYPES_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Exported from the shared libraries; everything else is hidden. */
#define KV_API __attribute__((visibility("default")))
/* The result is an error code and must be looked at. */
#define KV_MUST_CHECK	     __attribute__((warn_unused_result))
#define KV_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/**
 * typedef kv_seq - commit sequence number
 *
 * One number a committed transaction, rising in commit order, starting at 1; some are
 * left out. All writes of a transaction carry the same one.
 */
typedef uint64_t kv_seq;
#define KV_SEQ_MAX UINT64_MAX

/* Borrowed bytes: never owns what it points to. */
struct kv_slice {
	const uint8_t *data;
	size_t len;
};

/* Owned bytes on the heap; zero-initialised is empty. Free with kv_buf_free(). */
struct kv_buf {
	uint8_t *data;
	size_t len;
	size_t cap;
};

/**
 * kv_buf_free() - release a buffer's memory and leave it empty
 * @buf: may be empty
 *
 * Thread safety: one thread per @buf.
 */
KV_API void kv_buf_free(struct kv_buf *buf);

static inline struct kv_slice kv_slice_of(const void *data, size_t len)
{
	struct kv_slice s = {(const uint8_t *)data, len};

	return s;
}

static inline struct kv_slice kv_buf_slice(const struct kv_buf *buf)
{
	return kv_slice_of(buf->data, buf->len);
}

/*
 * Results are 0 or negative. A failure of the host is -errno. Conditions of
 * the engine have codes of their own, from 1001, so that ENOENT of a lost file
 * is never mistaken for an absent key. The numbers are stable.
 */
#define KV_ERROR_BASE 1001
#define KV_ERRORS(X)  /* name, errno seen through the mount, text */                               \
	X(NOTFOUND, ENOENT, "no such key")                                                         \
	X(EXISTS, EEXIST, "already exists")                                                        \
	X(CONFLICT, EAGAIN, "lost a race with another transaction; try again")                     \
	X(DEADLOCK, EDEADLK, "chosen as the victim of a deadlock; try again")                      \
	X(LOCK_TIMEOUT, EAGAIN, "waited too long for a lock; try again")                           \
	X(CORRUPT, EIO, "on-disk structure failed validation; run fsck.kvfs")                      \
	X(CHECKSUM, EIO, "on-disk checksum mismatch; run fsck.kvfs")                               \
	X(FEATURE, EOPNOTSUPP, "on-disk feature unknown to this build; use a newer kvfs")          \
	X(VERSION, EOPNOTSUPP, "on-disk format is newer than this build; use a newer kvfs")        \
	X(NOT_A_VOLUME, EINVAL, "not a kvfs volume; make one with mkfs.kvfs")                      \
	X(IN_USE, EBUSY, "the volume is in use by another process")                                \
	X(POISONED, EROFS, "a write failed earlier; read-only until the volume is reopened")       \
	X(READONLY, EROFS, "opened read-only")                                                     \
	X(NOSPACE, ENOSPC, "no space left on the volume")                                          \
	X(TOO_BIG, EFBIG, "key, value or transaction exceeds its documented limit")                \
	X(INVALID, EINVAL, "argument outside its documented range")                                \
	X(BUSY, EBUSY, "still in use by an open handle")                                           \
	X(UNKNOWN_OUTCOME, EIO,                                                                    \
	  "the outcome of the commit is unknown until the volume is reopened")                     \
	X(INTERRUPTED, EINTR, "interrupted by the caller")                                         \
	X(TOO_SMALL, ENOSPC, "the volume is too small to hold its own structures")                 \
	X(GONE, ESTALE, "that part of the history is not kept any more")

enum kv_error {
	KV_E_BEFORE_FIRST = KV_ERROR_BASE - 1,
#define KV_ERROR_ENUM(name, host, text) KV_E_##name,
	KV_ERRORS(KV_ERROR_ENUM)
#undef KV_ERROR_ENUM
		KV_E_END
};

/**
 * kv_strerror() - one sentence for a result code
 * @err: 0, a negative -KV_E_* or a negative -errno
 *
 * Return: a static string, never NULL. Thread safety: any thread.
 */
KV_API const char *kv_strerror(int err);

/**
 * kv_error_to_errno() - the errno a POSIX caller should see
 * @err: 0, a negative -KV_E_* or a negative -errno
 *
 * Return: 0 or a positive errno. Thread safety: any thread.
 */
KV_API int kv_error_to_errno(int err);

enum kv_log_level { KV_LOG_ERROR, KV_LOG_WARN, KV_LOG_INFO, KV_LOG_DEBUG };

/**
 * struct kv_log_sink - where the libraries' messages go
 * @write: called with one line, no newline, not empty; may be called from any
 *         thread, several at once; must not call back into the library
 * @ctx:   first argument of @write
 * @level: messages above this level are not formatted
 *
 * The libraries print nothing themselves. Without a sink messages are dropped.
 */
struct kv_log_sink {
	void (*write)(void *ctx, enum kv_log_level level, const char *line);
	void *ctx;
	enum kv_log_level level;
};

#ifdef __cplusplus
}
#endif
#endif
