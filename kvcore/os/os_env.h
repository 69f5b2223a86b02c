/* SPDX-License-Identifier: MIT */
/*
 * The host as a table of operations, so that a simulated disk and clock can
 * stand in for it. One env serves any number of volumes.
 *
 * Volume I/O: a call either does all that was asked or returns an error; short
 * transfers and EINTR are handled inside. Reading past the end of the volume is
 * -KV_E_CORRUPT (whoever asks holds a pointer that cannot be right).
 *
 * Order and durability: a write that returned survives the death of this
 * process, and is durable against power loss after the next sync that was
 * started after it returned. Two writes without a sync between them may reach
 * the disk in either order, in part or torn at any sector.
 *
 * Thread safety: all functions, from any thread.
 */
#ifndef KVCORE_OS_OS_ENV_H
#define KVCORE_OS_OS_ENV_H

#include <stdbool.h>
#include <stdint.h>

#include "kvcore/kv_types.h"

#define OS_IO_ALIGN 4096U /* of offset, length and memory of a direct transfer */

enum os_open_flags {
	OS_OPEN_RDONLY = 1U << 0, /* shared lock; else exclusive */
	OS_OPEN_CREATE = 1U << 1, /* make a regular file if there is nothing */
	OS_OPEN_NOLOCK = 1U << 2, /* with RDONLY: look without a lock */
};

enum os_io_flags {
	/* Bypass the host's page cache if the host can; offset, length and memory are
	 * aligned to OS_IO_ALIGN. Bytes are written always this way or never; a direct read
	 * of others tells what the disk holds of them. */
	OS_IO_DIRECT = 1U << 0,
};

struct os_volume {
	const struct os_volume_ops *ops; /* [const] */
};

struct os_volume_ops {
	int (*read)(struct os_volume *v, uint64_t off, void *buf, size_t len, unsigned flags);
	int (*write)(struct os_volume *v, uint64_t off, const void *buf, size_t len,
		     unsigned flags);
	/* fdatasync. After a failure the volume must be considered lost for writing: never retry.
	 */
	int (*sync)(struct os_volume *v);
	int (*size)(struct os_volume *v, uint64_t *bytes);
	/* Make a regular file at least this long, with space allocated where the host can;
	 * -ENOSPC leaves it as it was. -KV_E_NOSPACE on a device that is shorter. */
	int (*grow)(struct os_volume *v, uint64_t bytes);
	/* Cut a regular file; ignored on a device. */
	int (*shrink)(struct os_volume *v, uint64_t bytes);
	/* Tell the host that the bytes are not needed: punch a hole or discard. Their content
	 * is undefined afterwards. Failure is harmless and not reported. */
	void (*discard)(struct os_volume *v, uint64_t off, uint64_t len);
	bool (*is_device)(struct os_volume *v);
	/* Bytes by which a regular file could grow now; 0 for a device. */
	int (*host_free)(struct os_volume *v, uint64_t *bytes);
	int (*close)(struct os_volume *v);
};

struct os_env {
	const struct os_env_ops *ops; /* [const] */
};

struct os_env_ops {
	/*
	 * Locks the volume (flock on a file, O_EXCL on a device), waiting up to wait_ms for
	 * another process. *created (may be NULL) tells whether OS_OPEN_CREATE made the file.
	 * Return: 0, -KV_E_IN_USE, -EISDIR, -ENOTBLK (neither file nor block device), -errno.
	 */
	int (*volume_open)(struct os_env *env, const char *path, unsigned flags, unsigned wait_ms,
			   struct os_volume **out, bool *created);
	int (*volume_remove)(struct os_env *env, const char *path);
	uint64_t (*monotonic_ns)(struct os_env *env);
	int64_t (*realtime_ns)(struct os_env *env);
	/* Cryptographically random bytes, for volume ids. */
	int (*random)(struct os_env *env, void *buf, size_t len);
};

/* This machine. A constant: never freed. */
struct os_env *os_env_host(void);

static inline int os_volume_read(struct os_volume *v, uint64_t off, void *buf, size_t len,
				 unsigned flags)
{
	return v->ops->read(v, off, buf, len, flags);
}

static inline int os_volume_write(struct os_volume *v, uint64_t off, const void *buf, size_t len,
				  unsigned flags)
{
	return v->ops->write(v, off, buf, len, flags);
}

static inline int os_volume_sync(struct os_volume *v)
{
	return v->ops->sync(v);
}

static inline uint64_t os_monotonic_ns(struct os_env *env)
{
	return env->ops->monotonic_ns(env);
}

static inline int64_t os_realtime_ns(struct os_env *env)
{
	return env->ops->realtime_ns(env);
}

#endif
