/* SPDX-License-Identifier: MIT */
/*
 * This machine's volumes: what may be opened, the lock between openers, I/O
 * through both descriptors, size changes, and space that comes back.
 */
#include "kvcore/os/os_env.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

#define MIB (1024U * 1024)

static char dir[64];
static char path[96];

static void setup(void)
{
	snprintf(dir, sizeof(dir), "./os_env_host.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/volume", dir);
}

static void teardown(void)
{
	unlink(path);
	ck_assert_int_eq(rmdir(dir), 0);
}

static int open_volume(unsigned flags, unsigned wait_ms, struct os_volume **out)
{
	struct os_env *env = os_env_host();

	return env->ops->volume_open(env, path, flags, wait_ms, out, NULL);
}

static struct os_volume *create_volume(void)
{
	struct os_volume *v = NULL;

	ck_assert_int_eq(open_volume(OS_OPEN_CREATE, 0, &v), 0);
	return v;
}

static void close_volume(struct os_volume *v)
{
	ck_assert_int_eq(v->ops->close(v), 0);
}

START_TEST(test_create_makes_a_file_once)
{
	struct os_env *env = os_env_host();
	struct os_volume *v;
	bool created = false;

	ck_assert_int_eq(open_volume(0, 0, &v), -ENOENT);
	ck_assert_int_eq(open_volume(OS_OPEN_CREATE | OS_OPEN_RDONLY, 0, &v), -ENOENT);
	ck_assert_int_eq(env->ops->volume_open(env, path, OS_OPEN_CREATE, 0, &v, &created), 0);
	ck_assert(created);
	ck_assert(!v->ops->is_device(v));
	close_volume(v);
	ck_assert_int_eq(env->ops->volume_open(env, path, OS_OPEN_CREATE, 0, &v, &created), 0);
	ck_assert(!created);
	close_volume(v);
	ck_assert_int_eq(env->ops->volume_remove(env, path), 0);
	ck_assert_int_eq(env->ops->volume_remove(env, path), -ENOENT);
}
END_TEST

START_TEST(test_what_is_neither_file_nor_block_device_is_refused)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct os_env *env = os_env_host();
	struct os_volume *v;
	int sock;

	ck_assert_int_eq(env->ops->volume_open(env, dir, 0, 0, &v, NULL), -EISDIR);
	ck_assert_int_eq(env->ops->volume_open(env, "/dev/null", 0, 0, &v, NULL), -ENOTBLK);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(open_volume(OS_OPEN_RDONLY, 0, &v), -ENOTBLK); /* and does not wait */
	ck_assert_int_eq(unlink(path), 0);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	sock = socket(AF_UNIX, SOCK_STREAM, 0);
	ck_assert_int_ge(sock, 0);
	ck_assert_int_eq(bind(sock, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(open_volume(0, 0, &v), -ENOTBLK);
	close(sock);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(symlink("volume", path), 0);
	ck_assert_int_eq(open_volume(0, 0, &v), -ELOOP);
}
END_TEST

START_TEST(test_a_writer_excludes_all_and_readers_only_writers)
{
	struct os_volume *a, *b, *c;

	a = create_volume();
	ck_assert_int_eq(open_volume(0, 0, &b), -KV_E_IN_USE);
	ck_assert_int_eq(open_volume(OS_OPEN_RDONLY, 0, &b), -KV_E_IN_USE);
	ck_assert_int_eq(open_volume(OS_OPEN_RDONLY | OS_OPEN_NOLOCK, 0, &b), 0);
	close_volume(b);
	close_volume(a);
	ck_assert_int_eq(open_volume(OS_OPEN_RDONLY, 0, &a), 0);
	ck_assert_int_eq(open_volume(OS_OPEN_RDONLY, 0, &b), 0);
	ck_assert_int_eq(open_volume(0, 0, &c), -KV_E_IN_USE);
	close_volume(a);
	close_volume(b);
	ck_assert_int_eq(open_volume(0, 0, &c), 0);
	close_volume(c);
}
END_TEST

/* A process that has the volume open until it is killed. */
static pid_t start_holder(void)
{
	int ready[2];
	char byte;
	pid_t child;

	ck_assert_int_eq(pipe(ready), 0);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (!child) {
		struct os_volume *v;

		if (open_volume(OS_OPEN_CREATE, 0, &v) || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	ck_assert_int_eq((int)read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return child;
}

START_TEST(test_the_lock_of_a_killed_process_is_waited_for)
{
	struct os_env *env = os_env_host();
	pid_t holder = start_holder();
	struct os_volume *v;
	uint64_t start;
	int status;

	start = os_monotonic_ns(env);
	ck_assert_int_eq(open_volume(0, 50, &v), -KV_E_IN_USE);
	ck_assert_uint_ge(os_monotonic_ns(env) - start, 50000000U);
	ck_assert_int_eq(kill(holder, SIGKILL), 0);
	ck_assert_int_eq(open_volume(0, 20000, &v), 0);
	close_volume(v);
	ck_assert_int_eq(waitpid(holder, &status, 0), holder);
}
END_TEST

START_TEST(test_what_is_written_reads_back_through_either_descriptor)
{
	struct test_rng rng = test_rng_seeded("os_env_host");
	struct os_volume *v = create_volume();
	uint8_t *in = aligned_alloc(OS_IO_ALIGN, MIB);
	uint8_t *out = aligned_alloc(OS_IO_ALIGN, MIB);

	ck_assert(in && out);
	test_rng_fill(&rng, in, MIB);
	ck_assert_int_eq(v->ops->grow(v, 4 * MIB), 0);
	ck_assert_int_eq(os_volume_write(v, MIB, in, MIB, OS_IO_DIRECT), 0);
	ck_assert_int_eq(os_volume_write(v, 3 * MIB - 77, in, 777, 0), 0);
	ck_assert_int_eq(os_volume_sync(v), 0);
	ck_assert_int_eq(os_volume_read(v, MIB, out, MIB, OS_IO_DIRECT), 0);
	ck_assert_mem_eq(in, out, MIB);
	ck_assert_int_eq(os_volume_read(v, MIB + 5, out, MIB - 5, 0), 0);
	ck_assert_mem_eq(in + 5, out, MIB - 5);
	ck_assert_int_eq(os_volume_read(v, 3 * MIB - 77, out, 777, 0), 0);
	ck_assert_mem_eq(in, out, 777);
	ck_assert_int_eq(os_volume_read(v, 0, out, 0, 0), 0);
	free(in);
	free(out);
	close_volume(v);
}
END_TEST

START_TEST(test_reading_beyond_the_end_is_corruption)
{
	struct os_volume *v = create_volume();
	uint8_t *buf = aligned_alloc(OS_IO_ALIGN, 8192);

	ck_assert_ptr_nonnull(buf);
	memset(buf, 1, 8192);
	ck_assert_int_eq(os_volume_write(v, 0, buf, 5000, 0), 0); /* the end is not aligned */
	ck_assert_int_eq(os_volume_sync(v), 0);
	ck_assert_int_eq(os_volume_read(v, 0, buf, 5000, 0), 0);
	ck_assert_int_eq(os_volume_read(v, 0, buf, 5001, 0), -KV_E_CORRUPT);
	ck_assert_int_eq(os_volume_read(v, 0, buf, 8192, OS_IO_DIRECT), -KV_E_CORRUPT);
	ck_assert_int_eq(os_volume_read(v, 1U << 30, buf, 4096, OS_IO_DIRECT), -KV_E_CORRUPT);
	ck_assert_int_eq(os_volume_read(v, UINT64_MAX - 10, buf, 100, 0), -KV_E_CORRUPT);
	ck_assert_int_eq(os_volume_read(v, INT64_MAX, buf, 100, 0), -KV_E_CORRUPT);
	ck_assert_int_eq(os_volume_write(v, UINT64_MAX - 10, buf, 100, 0), -EFBIG);
	free(buf);
	close_volume(v);
}
END_TEST

static uint64_t allocated_bytes(void)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

START_TEST(test_growing_allocates_and_discarding_gives_back)
{
	struct os_volume *v = create_volume();
	uint64_t size = 1;

	ck_assert_int_eq(v->ops->size(v, &size), 0);
	ck_assert_uint_eq(size, 0);
	ck_assert_int_eq(v->ops->grow(v, 4 * MIB), 0);
	ck_assert_int_eq(v->ops->grow(v, MIB), 0); /* at least: never cuts */
	ck_assert_int_eq(v->ops->size(v, &size), 0);
	ck_assert_uint_eq(size, 4 * MIB);
	ck_assert_uint_ge(allocated_bytes(), 4 * MIB);
	v->ops->discard(v, MIB, 2 * MIB);
	v->ops->discard(v, 0, 0);
	v->ops->discard(v, UINT64_MAX, UINT64_MAX);
	ck_assert_uint_le(allocated_bytes(), 2 * MIB + 65536);
	ck_assert_int_eq(v->ops->size(v, &size), 0);
	ck_assert_uint_eq(size, 4 * MIB);
	ck_assert_int_eq(v->ops->shrink(v, 8 * MIB), 0); /* at most: never grows */
	ck_assert_int_eq(v->ops->shrink(v, MIB), 0);
	ck_assert_int_eq(v->ops->size(v, &size), 0);
	ck_assert_uint_eq(size, MIB);
	close_volume(v);
}
END_TEST

START_TEST(test_growing_beyond_the_disk_fails_and_leaves_the_file)
{
	struct os_volume *v = create_volume();
	uint64_t size = 0;

	ck_assert_int_eq(v->ops->grow(v, MIB), 0);
	ck_assert_int_lt(v->ops->grow(v, 1ULL << 50), 0);
	ck_assert_int_eq(v->ops->grow(v, UINT64_MAX), -EFBIG);
	ck_assert_int_eq(v->ops->size(v, &size), 0);
	ck_assert_uint_eq(size, MIB);
	close_volume(v);
}
END_TEST

static void ignore_signal(int sig)
{
	(void)sig;
}

START_TEST(test_signals_do_not_disturb_transfers)
{
	struct itimerval every = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
	struct sigaction action = {.sa_handler = ignore_signal}; /* no SA_RESTART */
	struct os_volume *v = create_volume();
	uint8_t *buf = aligned_alloc(OS_IO_ALIGN, MIB);

	ck_assert_ptr_nonnull(buf);
	memset(buf, 7, MIB);
	ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &every, NULL), 0);
	for (uint64_t i = 0; i < 20; i++) {
		ck_assert_int_eq(os_volume_write(v, i * MIB, buf, MIB, i % 2 ? OS_IO_DIRECT : 0),
				 0);
		ck_assert_int_eq(os_volume_sync(v), 0);
		ck_assert_int_eq(os_volume_read(v, i * MIB, buf, MIB, i % 2 ? OS_IO_DIRECT : 0), 0);
	}
	ck_assert_int_eq(setitimer(ITIMER_REAL, &never, NULL), 0);
	free(buf);
	close_volume(v);
}
END_TEST

START_TEST(test_a_volume_opened_for_reading_refuses_writes)
{
	struct os_volume *v = create_volume();

	close_volume(v);
	ck_assert_int_eq(open_volume(OS_OPEN_RDONLY, 0, &v), 0);
	ck_assert_int_eq(os_volume_write(v, 0, "x", 1, 0), -EBADF);
	close_volume(v);
}
END_TEST

START_TEST(test_the_clock_moves_on_and_random_bytes_differ)
{
	struct os_env *env = os_env_host();
	uint8_t a[32], b[32];
	uint64_t before = os_monotonic_ns(env);

	ck_assert_uint_ge(os_monotonic_ns(env), before);
	ck_assert_int_gt(os_realtime_ns(env), 1600000000LL * 1000000000);
	ck_assert_int_eq(env->ops->random(env, a, sizeof(a)), 0);
	ck_assert_int_eq(env->ops->random(env, b, sizeof(b)), 0);
	ck_assert_mem_ne(a, b, sizeof(a));
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_create_makes_a_file_once,
		test_what_is_neither_file_nor_block_device_is_refused,
		test_a_writer_excludes_all_and_readers_only_writers,
		test_the_lock_of_a_killed_process_is_waited_for,
		test_what_is_written_reads_back_through_either_descriptor,
		test_reading_beyond_the_end_is_corruption,
		test_growing_allocates_and_discarding_gives_back,
		test_growing_beyond_the_disk_fails_and_leaves_the_file,
		test_signals_do_not_disturb_transfers,
		test_a_volume_opened_for_reading_refuses_writes,
		test_the_clock_moves_on_and_random_bytes_differ,
	};

	return test_suite_run_with("os_env_host", tests, KV_ARRAY_COUNT(tests), 60, setup,
				   teardown);
}
