/* SPDX-License-Identifier: MIT */
/*
 * What the host may do to a transfer that is not an error: end it early, after any number of bytes,
 * or interrupt it. And what it may do in the middle of one: fail. The calls are wrapped by the
 * linker, so the code under test is that of real files.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvcore/base/base.h"
#include "kvcore/os/os_env.h"
#include "tests/support/test_suite.h"

#define SIZE (256U * 1024)

ssize_t __real_pread(int fd, void *buf, size_t len, off_t off);
ssize_t __real_pwrite(int fd, const void *buf, size_t len, off_t off);
int __real_fdatasync(int fd);
int __real_fallocate(int fd, int mode, off_t off, off_t len);
ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t off);
ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t off);
int __wrap_fdatasync(int fd);
int __wrap_fallocate(int fd, int mode, off_t off, off_t len);

static struct {
	struct test_rng rng;
	bool mischief;	  /* transfers end early and are interrupted, at random */
	unsigned calls;	  /* since the last reset */
	unsigned fail_at; /* this call fails with @err; 0: none */
	int err;	  /* 0: it transfers nothing and says so */
} host;

static char path[] = "./os_volume_short.XXXXXX";

/* Bytes to transfer of @len; -1: fail with errno; -2: nothing. */
static ssize_t fate(size_t len)
{
	host.calls++;
	if (host.calls == host.fail_at) {
		errno = host.err;
		return host.err ? -1 : -2;
	}
	if (!host.mischief)
		return (ssize_t)len;
	switch (test_rng_below(&host.rng, 4)) {
	case 0:
		errno = EINTR;
		return -1;
	case 1:
		return (ssize_t)(1 + test_rng_below(&host.rng, len));
	default:
		return (ssize_t)(len > 4096 ? 4096 * (1 + test_rng_below(&host.rng, len / 4096))
					    : len);
	}
}

ssize_t __wrap_pread(int fd, void *buf, size_t len, off_t off)
{
	ssize_t n = fate(len);

	return n > 0 ? __real_pread(fd, buf, (size_t)n, off) : n == -2 ? 0 : n;
}

ssize_t __wrap_pwrite(int fd, const void *buf, size_t len, off_t off)
{
	ssize_t n = fate(len);

	return n > 0 ? __real_pwrite(fd, buf, (size_t)n, off) : n == -2 ? 0 : n;
}

int __wrap_fdatasync(int fd)
{
	return fate(1) < 0 ? -1 : __real_fdatasync(fd);
}

int __wrap_fallocate(int fd, int mode, off_t off, off_t len)
{
	return fate(1) < 0 ? -1 : __real_fallocate(fd, mode, off, len);
}

static void plan(unsigned fail_at, int err)
{
	host.mischief = false;
	host.calls = 0;
	host.fail_at = fail_at;
	host.err = err;
}

static struct os_volume *make_volume(void)
{
	struct os_env *env = os_env_host();
	struct os_volume *v = NULL;
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	close(fd);
	ck_assert_int_eq(env->ops->volume_open(env, path, 0, 0, &v, NULL), 0);
	ck_assert_int_eq(v->ops->grow(v, SIZE), 0);
	return v;
}

static void end_volume(struct os_volume *v)
{
	plan(0, 0);
	ck_assert_int_eq(v->ops->close(v), 0);
	ck_assert_int_eq(unlink(path), 0);
	memcpy(path + sizeof(path) - 7, "XXXXXX", 6);
}

/* Any place and length; aligned ones past the host's cache, others not. */
static void random_transfers(struct os_volume *v, uint8_t *model, uint8_t *buf)
{
	for (unsigned i = 0; i < 3000; i++) {
		size_t unit = i % 2 ? OS_IO_ALIGN : 1;
		uint64_t off = test_rng_below(&host.rng, SIZE / unit) * unit;
		size_t len = (1 + test_rng_below(&host.rng, (SIZE - off) / unit)) * unit;
		unsigned flags = i % 2 ? OS_IO_DIRECT : 0;

		len = i % 3 ? min_u64(len, 32768) : len;
		if (test_rng_below(&host.rng, 2)) {
			test_rng_fill(&host.rng, buf, min_u64(len, 64));
			memcpy(model + off, buf, len);
			ck_assert_int_eq(os_volume_write(v, off, buf, len, flags), 0);
		} else {
			ck_assert_int_eq(os_volume_read(v, off, buf, len, flags), 0);
			ck_assert_mem_eq(buf, model + off, len);
		}
		if (i % 50 == 0)
			ck_assert_int_eq(os_volume_sync(v), 0);
	}
}

START_TEST(test_short_and_interrupted_transfers_are_finished)
{
	struct os_volume *v = make_volume();
	uint8_t *model = aligned_alloc(OS_IO_ALIGN, SIZE);
	uint8_t *buf = aligned_alloc(OS_IO_ALIGN, SIZE);

	ck_assert(model && buf);
	memset(model, 0, SIZE);
	memset(buf, 0, SIZE);
	host.rng = test_rng_seeded("os_volume_short");
	host.mischief = true;
	random_transfers(v, model, buf);
	ck_assert_int_eq(v->ops->grow(v, 2 * SIZE), 0); /* interrupted too */
	free(model);
	free(buf);
	end_volume(v);
}
END_TEST

/* Each of the calls that one transfer takes fails in its turn. */
START_TEST(test_an_error_after_a_part_is_the_result)
{
	static const int errors[] = {EIO, ENOSPC, EDQUOT};
	struct os_volume *v = make_volume();
	static uint8_t buf[20000];

	for (unsigned i = 0; i < KV_ARRAY_COUNT(errors); i++) {
		for (unsigned seed = 0; seed < 50; seed++) {
			plan(3, errors[i]);
			host.mischief = true;
			host.rng.state = seed;
			int err = os_volume_write(v, 0, buf, sizeof(buf), 0);

			ck_assert_int_eq(err, host.calls >= 3 ? -errors[i] : 0);
			plan(3, errors[i]);
			host.mischief = true;
			host.rng.state = seed;
			err = os_volume_read(v, 0, buf, sizeof(buf), 0);
			ck_assert_int_eq(err, host.calls >= 3 ? -errors[i] : 0);
		}
	}
	end_volume(v);
}
END_TEST

START_TEST(test_a_transfer_of_nothing_is_an_error_and_not_tried_for_ever)
{
	struct os_volume *v = make_volume();
	uint8_t byte = 1;

	plan(1, 0);
	ck_assert_int_eq(os_volume_write(v, 0, &byte, 1, 0), -EIO);
	plan(1, 0);
	ck_assert_int_eq(os_volume_read(v, 0, &byte, 1, 0), -KV_E_CORRUPT);
	ck_assert_uint_eq(host.calls, 1);
	end_volume(v);
}
END_TEST

START_TEST(test_a_failed_sync_is_never_tried_again)
{
	struct os_volume *v = make_volume();

	plan(1, EIO);
	ck_assert_int_eq(os_volume_sync(v), -EIO);
	ck_assert_uint_eq(host.calls, 1);
	plan(1, EINTR); /* which says nothing about what was written */
	ck_assert_int_eq(os_volume_sync(v), 0);
	ck_assert_uint_eq(host.calls, 2);
	end_volume(v);
}
END_TEST

START_TEST(test_growing_that_fails_leaves_the_length)
{
	struct os_volume *v = make_volume();
	uint64_t size = 0;

	plan(1, ENOSPC);
	ck_assert_int_eq(v->ops->grow(v, 2 * SIZE), -ENOSPC);
	ck_assert_int_eq(v->ops->size(v, &size), 0);
	ck_assert_uint_eq(size, SIZE);
	plan(1, EOPNOTSUPP); /* then it is only made longer */
	ck_assert_int_eq(v->ops->grow(v, 2 * SIZE), 0);
	ck_assert_int_eq(v->ops->size(v, &size), 0);
	ck_assert_uint_eq(size, 2 * SIZE);
	end_volume(v);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_short_and_interrupted_transfers_are_finished,
		test_an_error_after_a_part_is_the_result,
		test_a_transfer_of_nothing_is_an_error_and_not_tried_for_ever,
		test_a_failed_sync_is_never_tried_again,
		test_growing_that_fails_leaves_the_length,
	};

	return test_suite_run("os_volume_short", tests, KV_ARRAY_COUNT(tests), 60);
}
