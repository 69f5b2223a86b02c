/* SPDX-License-Identifier: MIT */
/*
 * An update that is lost, a signal that is missed, two locks taken in falling order of their ranks.
 * The latter two end their process, so they run in one of their own, and what it prints is looked
 * at.
 */
#include "tests/crash/schedule_self.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvcore/base/base.h"
#include "kvcore/os/os_thread.h"
#include "tests/support/pct/pct.h"

#define SEEDS 300U

struct toy {
	struct os_mutex a, b; /* b has the lower rank */
	struct os_cond changed;
	_Atomic unsigned count;
	_Atomic bool flag;
	bool locked;
	void (*run[2])(void *toy);
};

static void run_toy(void *arg)
{
	struct toy *t = arg;
	struct os_thread thread[2];

	KV_ASSERT(!os_mutex_init(&t->a, OS_RANK_LEAF));
	KV_ASSERT(!os_mutex_init(&t->b, OS_RANK_CACHE));
	KV_ASSERT(!os_cond_init(&t->changed));
	pct_disturb();
	for (unsigned i = 0; i < 2; i++)
		KV_ASSERT(!os_thread_start(&thread[i], "toy", t->run[i], t));
	for (unsigned i = 0; i < 2; i++)
		os_thread_join(&thread[i]);
	os_cond_fini(&t->changed);
	os_mutex_fini(&t->a);
	os_mutex_fini(&t->b);
}

static void add(void *arg)
{
	struct toy *t = arg;

	if (t->locked)
		os_mutex_lock(&t->a);
	atomic_store(&t->count, atomic_load(&t->count) + 1);
	if (t->locked)
		os_mutex_unlock(&t->a);
}

/* In how many seeds was an update lost? */
static unsigned updates_lost(bool locked)
{
	unsigned lost = 0;

	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct toy t = {.locked = locked, .run = {add, add}};
		struct pct_result r;

		pct_run(seed, run_toy, &t, &r);
		lost += atomic_load(&t.count) != 2;
	}
	return lost;
}

/* It looks before it holds the mutex, so that the signal may come between. */
static void wait_for_flag(void *arg)
{
	struct toy *t = arg;

	if (atomic_load(&t->flag))
		return;
	os_mutex_lock(&t->a);
	os_cond_wait(&t->changed, &t->a);
	os_mutex_unlock(&t->a);
}

static void set_flag(void *arg)
{
	struct toy *t = arg;

	atomic_store(&t->flag, true);
	os_mutex_lock(&t->a);
	os_cond_signal(&t->changed);
	os_mutex_unlock(&t->a);
}

static void lock_falling(void *arg)
{
	struct toy *t = arg;

	os_mutex_lock(&t->a);
	os_mutex_lock(&t->b);
	os_mutex_unlock(&t->b);
	os_mutex_unlock(&t->a);
}

/* Does a process with this seed end by saying @what? */
static bool says(uint64_t seed, struct toy t, const char *what)
{
	char said[4096];
	struct pct_result r;
	size_t len = 0;
	ssize_t n;
	int end[2];
	pid_t pid;

	KV_ASSERT(!pipe(end));
	fflush(stdout);
	pid = fork();
	KV_ASSERT(pid >= 0);
	if (pid == 0) {
		dup2(end[1], STDOUT_FILENO);
		pct_run(seed, run_toy, &t, &r);
		_exit(0);
	}
	close(end[1]);
	while ((n = read(end[0], said + len, sizeof(said) - 1 - len)) > 0)
		len += (size_t)n;
	said[len] = 0;
	close(end[0]);
	KV_ASSERT(waitpid(pid, NULL, 0) == pid);
	return strstr(said, what) != NULL;
}

static unsigned count_saying(struct toy t, const char *what)
{
	unsigned count = 0;

	for (uint64_t seed = 0; seed < SEEDS && !count; seed++)
		count += says(seed, t, what);
	return count;
}

static void expect(bool found, const char *what)
{
	if (found)
		return;
	printf("the scheduler does not find %s\n", what);
	fflush(stdout);
	abort();
}

void schedule_self_check(void)
{
	const struct toy missed = {.run = {wait_for_flag, set_flag}};
	const struct toy falling = {.run = {lock_falling, lock_falling}};

	expect(updates_lost(false) > 0, "a lost update");
	expect(updates_lost(true) == 0, "that a mutex excludes");
	expect(count_saying(missed, "waits for a signal"), "a missed signal");
	expect(count_saying(falling, "locks out of order"), "locks out of order");
}
