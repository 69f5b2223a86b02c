/* SPDX-License-Identifier: MIT */
/*
 * The scheduler. Threads are ucontexts on stacks of their own with a guard page; a switch is a call
 * of swapcontext, so tens of thousands of schedules a minute are possible on one processor,
 * whatever else it does. All choices are drawn from one generator in the order in which they are
 * needed.
 *
 * Who is at an event (a point chosen by the seed) is mostly put behind the others; some events
 * instead let time pass or wake a condition for nothing. pct_countdown counts down to the next one,
 * so that a point without an event costs a decrement.
 */
#include "tests/support/pct/pct.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "kvcore/base/base.h"
#include "tests/support/pct/pct_internal.h"
#include "tests/support/test_suite.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define THREADS_MAX 256U
#define STACK_BYTES (512U << 10)
#define GUARD_BYTES 4096U
#define RANKS_MAX   32U
#define EVENTS_MAX  24U
#define STEPS_MAX   200000000ULL
#define LOOK_STEPS  (1U << 20)
#define TIME_MAX_NS (7200ULL * 1000000000ULL)
#define JUMPS_MAX   32U /* of the clock, by events; each at most two seconds */
#define HIGH	    (1LL << 40)
#define FRAMES_MAX  10U

struct pct_thread {
	ucontext_t context;
	uint8_t *stack;
	void (*run)(void *arg);
	void *arg;
	const void *of;
	const struct pct_thread *owner;
	uint64_t until_ns;
	int64_t priority; /* from HIGH: as it began; below: put behind by an event or, below 0,
			     itself */
	uint64_t *frame;
	unsigned number;
	enum pct_wait wait;
	int wait_rank;
	bool timed_out;
	int ranks[RANKS_MAX];
	unsigned rank_count;
	char name[16];
#ifdef __SANITIZE_ADDRESS__
	void *fake_stack;
#endif
};

static struct {
	struct pct_thread *threads[THREADS_MAX];
	unsigned count;
	struct pct_thread *current;
	struct test_rng rng;
	uint64_t now_ns;
	uint64_t steps; /* up to the next event */
	uint64_t switches;
	uint64_t trace;
	uint64_t events[EVENTS_MAX]; /* steps, falling; the last comes next */
	unsigned event_count;
	bool planned;  /* the countdown leads to an event, not only to the next look */
	uint64_t walk; /* mean gap between events without end; 0: none */
	bool coarse;   /* events at points of synchronization only, atomics aside */
	uint64_t coarse_now, coarse_next;
	unsigned jumps;
	int64_t lowest;
	uint8_t *stacks[THREADS_MAX]; /* of ended threads, for the next ones */
	unsigned stack_count;
	ucontext_t outside;
	const void *outside_stack; /* for AddressSanitizer */
	size_t outside_bytes;
} pct;

uint64_t pct_countdown = UINT64_MAX;

static uint64_t steps_now(void)
{
	return pct.steps - pct_countdown;
}

static void mix(uint64_t a, uint64_t b)
{
	struct test_rng r = {pct.trace ^ (a << 8 | b)};

	pct.trace = test_rng_next(&r);
}

struct pct_thread *pct_self(void)
{
	return pct.current;
}

unsigned pct_thread_number(const struct pct_thread *t)
{
	return t->number;
}

bool pct_thread_ended(const struct pct_thread *t)
{
	return t->wait == PCT_WAIT_ENDED;
}

/* ---- the end of a run that has none --------------------------------------------------- */

static void print_stack(const struct pct_thread *t)
{
	const uintptr_t low = (uintptr_t)t->stack, high = low + STACK_BYTES;
	uint64_t *frame = t->frame;

	printf("    stack:");
	for (unsigned n = 0; n < FRAMES_MAX; n++) {
		if ((uintptr_t)frame < low || (uintptr_t)frame > high - 16)
			break;
		printf(" %#llx", (unsigned long long)frame[1]);
		frame = (uint64_t *)frame[0]; /* NOLINT(performance-no-int-to-ptr) */
	}
	printf("\n");
}

static void print_thread(const struct pct_thread *t)
{
	static const char *const how[] = {
		[PCT_WAIT_NONE] = "can run",
		[PCT_WAIT_MUTEX] = "waits for a mutex",
		[PCT_WAIT_READ] = "waits to read",
		[PCT_WAIT_WRITE] = "waits to write",
		[PCT_WAIT_COND] = "waits for a signal",
		[PCT_WAIT_LATCH] = "waits for a latch",
		[PCT_WAIT_JOIN] = "waits for the end of a thread",
		[PCT_WAIT_SLEEP] = "sleeps",
	};

	if (t->wait == PCT_WAIT_ENDED)
		return;
	printf("  thread %u (%s) %s", t->number, t->name, how[t->wait]);
	if (t->of)
		printf(" %p", t->of);
	if (t->wait_rank)
		printf(" of rank %d", t->wait_rank);
	if (t->owner)
		printf(", of thread %u (%s)", t->owner->number, t->owner->name);
	if (t->until_ns != PCT_NEVER)
		printf(", for %llu us more",
		       (unsigned long long)(t->until_ns - min_u64(pct.now_ns, t->until_ns)) / 1000);
	if (t->rank_count)
		printf("; holds");
	for (unsigned i = 0; i < t->rank_count; i++)
		printf(" %d", t->ranks[i]);
	printf("\n");
	if (t != pct.current || t->wait)
		print_stack(t);
}

static _Noreturn void give_up(const char *what)
{
	extern const char __executable_start; /* the linker's: addr2line takes the differences */

	printf("%s after %llu points, at %llu us:\n", what, (unsigned long long)steps_now(),
	       (unsigned long long)pct.now_ns / 1000);
	for (unsigned i = 0; i < pct.count; i++)
		print_thread(pct.threads[i]);
	printf("  the program begins at %p\n", (const void *)&__executable_start);
	fflush(stdout);
	abort();
}

/* ---- switching ---------------------------------------------------------------------------- */

static void before_switch(struct pct_thread *from, const struct pct_thread *to)
{
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_start_switch_fiber(from && from->wait != PCT_WAIT_ENDED ? &from->fake_stack
									    : NULL,
				       to->stack, STACK_BYTES);
#else
	(void)from;
	(void)to;
#endif
}

static void after_switch(struct pct_thread *to)
{
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(to->fake_stack, NULL, NULL);
#else
	(void)to;
#endif
}

static struct pct_thread *best(void)
{
	struct pct_thread *found = NULL;

	for (unsigned i = 0; i < pct.count; i++) {
		struct pct_thread *t = pct.threads[i];

		if (t->wait == PCT_WAIT_NONE && (!found || t->priority > found->priority))
			found = t;
	}
	return found;
}

static int64_t fresh_priority(void)
{
	return HIGH + (int64_t)(test_rng_next(&pct.rng) >> 24);
}

static void make_ready(struct pct_thread *t)
{
	t->wait = PCT_WAIT_NONE;
	t->of = NULL;
	t->owner = NULL;
	t->wait_rank = 0;
	t->until_ns = PCT_NEVER;
	if (t->priority < 0) /* it had only stood aside */
		t->priority = fresh_priority();
}

/* Wake whose time has come. */
static void expire(void)
{
	for (unsigned i = 0; i < pct.count; i++) {
		struct pct_thread *t = pct.threads[i];

		if (t->wait != PCT_WAIT_NONE && t->until_ns <= pct.now_ns) {
			make_ready(t);
			t->timed_out = true;
		}
	}
}

/* Nobody can run: time goes on to the next who waits for it. */
static void idle(void)
{
	uint64_t next = PCT_NEVER;

	for (unsigned i = 0; i < pct.count; i++) {
		if (pct.threads[i]->wait != PCT_WAIT_ENDED)
			next = min_u64(next, pct.threads[i]->until_ns);
	}
	if (next == PCT_NEVER)
		give_up("deadlock");
	if (next > TIME_MAX_NS)
		give_up("no end in two hours");
	pct.now_ns = max_u64(pct.now_ns, next);
	expire();
}

static void switch_to_best(void)
{
	struct pct_thread *from = pct.current;
	struct pct_thread *to = best();

	while (!to) {
		idle();
		to = best();
	}
	if (to == from)
		return;
	pct.switches++;
	mix(steps_now(), (uint64_t)from->number << 8 | to->number);
	from->frame = __builtin_frame_address(0);
	pct.current = to;
	before_switch(from, to);
	KV_ASSERT(!swapcontext(&from->context, &to->context));
	after_switch(from);
}

/* ---- events --------------------------------------------------------------------------------- */

/* Points from @now to the next event; 0: there is none any more. */
static uint64_t gap(uint64_t now)
{
	uint64_t at;

	if (pct.walk)
		return 1 + test_rng_below(&pct.rng, 2 * pct.walk);
	if (!pct.event_count)
		return 0;
	at = pct.events[--pct.event_count];
	return at > now ? at - now : 1;
}

static void next_event(void)
{
	uint64_t ahead = pct.coarse ? 0 : gap(pct.steps);

	if (pct.steps > STEPS_MAX)
		give_up("no end");
	pct.planned = ahead > 0;
	pct_countdown = ahead ? ahead : LOOK_STEPS;
	pct.steps += pct_countdown;
}

static void jump(void)
{
	if (pct.jumps++ < JUMPS_MAX)
		pct.now_ns += test_rng_next(&pct.rng) >> (33 + test_rng_below(&pct.rng, 20));
	expire();
}

static void wake_for_nothing(void)
{
	struct pct_thread *t = pct.threads[test_rng_below(&pct.rng, pct.count)];

	if (t->wait == PCT_WAIT_COND)
		make_ready(t);
}

static void disturb(void)
{
	uint64_t kind = test_rng_below(&pct.rng, 16);

	if (kind == 0)
		jump();
	else if (kind == 1)
		wake_for_nothing();
	else if (pct.walk)
		pct.current->priority = fresh_priority();
	else
		pct.current->priority = (int64_t)(test_rng_next(&pct.rng) >> 24);
	switch_to_best();
}

/* The countdown is 0 here. */
void pct_event(void)
{
	bool planned = pct.planned;

	next_event();
	if (planned)
		disturb();
}

void pct_sync_point(void)
{
	uint64_t ahead;

	pct_point();
	if (!pct.coarse || ++pct.coarse_now != pct.coarse_next)
		return;
	ahead = gap(pct.coarse_now);
	pct.coarse_next = ahead ? pct.coarse_now + ahead : UINT64_MAX;
	disturb();
}

static int compare_falling(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x > *y ? -1 : *x < *y;
}

/*
 * Neither the number of events nor how far they are spread is known to be best, nor at which points
 * they should be, of which most are atomics: the seed says.
 */
void pct_disturb(void)
{
	bool walk = test_rng_below(&pct.rng, 4) == 0;
	unsigned size = (unsigned)test_rng_below(&pct.rng, 11);
	uint64_t now, reach;

	pct.steps = steps_now();
	pct.coarse = test_rng_below(&pct.rng, 2);
	now = pct.coarse ? pct.coarse_now : pct.steps;
	reach = UINT64_C(1) << (size + (pct.coarse ? 4 : 8));
	pct.walk = walk ? UINT64_C(1) << (pct.coarse ? size / 2 : size) : 0;
	pct.event_count = walk ? 0 : (unsigned)test_rng_below(&pct.rng, EVENTS_MAX + 1);
	for (unsigned i = 0; i < pct.event_count; i++)
		pct.events[i] = now + 1 + test_rng_below(&pct.rng, reach);
	qsort(pct.events, pct.event_count, sizeof(pct.events[0]), compare_falling);
	next_event();
	now = pct.coarse ? gap(pct.coarse_now) : 0;
	pct.coarse_next = now ? pct.coarse_now + now : UINT64_MAX;
}

/* ---- waiting and waking ---------------------------------------------------------------------- */

bool pct_block(enum pct_wait how, const void *of, int rank, const struct pct_thread *owner,
	       uint64_t until_ns)
{
	struct pct_thread *t = pct.current;

	t->wait = how;
	t->of = of;
	t->wait_rank = rank;
	t->owner = owner;
	t->until_ns = until_ns;
	t->timed_out = false;
	switch_to_best();
	return !t->timed_out;
}

void pct_wake_all(const void *of)
{
	for (unsigned i = 0; i < pct.count; i++) {
		if (pct.threads[i]->of == of)
			make_ready(pct.threads[i]);
	}
}

void pct_wake_one(const void *of)
{
	struct pct_thread *found = NULL;
	unsigned count = 0;

	for (unsigned i = 0; i < pct.count; i++) {
		if (pct.threads[i]->of == of && test_rng_below(&pct.rng, ++count) == 0)
			found = pct.threads[i];
	}
	if (found)
		make_ready(found);
}

bool pct_awaited(const void *of, enum pct_wait how)
{
	for (unsigned i = 0; i < pct.count; i++) {
		if (pct.threads[i]->of == of && pct.threads[i]->wait == how)
			return true;
	}
	return false;
}

void pct_yield_to_woken(void)
{
	pct_sync_point();
	switch_to_best();
}

void pct_put_last(void)
{
	pct.current->priority = --pct.lowest;
	pct_yield_to_woken();
}

uint64_t pct_clock_ns(void)
{
	pct.now_ns += 1 + (test_rng_next(&pct.rng) >> (48 + test_rng_below(&pct.rng, 16)));
	expire();
	pct_yield_to_woken();
	return pct.now_ns;
}

void pct_rank_take(int rank)
{
	struct pct_thread *t = pct.current;

	for (unsigned i = 0; i < t->rank_count; i++) {
		if (t->ranks[i] >= rank)
			give_up("locks out of order: the running thread wants one of a rank that "
				"is "
				"not "
				"higher than all it holds");
	}
	KV_ASSERT(t->rank_count < RANKS_MAX);
	t->ranks[t->rank_count++] = rank;
}

void pct_rank_give(int rank)
{
	struct pct_thread *t = pct.current;
	unsigned i = t->rank_count;

	while (i && t->ranks[i - 1] != rank)
		i--;
	KV_ASSERT(i); /* unlocked by a thread that does not hold it */
	t->ranks[i - 1] = t->ranks[--t->rank_count];
}

/* ---- threads --------------------------------------------------------------------------------- */

static uint8_t *stack_new(void)
{
	uint8_t *p;

	if (pct.stack_count)
		return pct.stacks[--pct.stack_count];
	p = mmap(NULL, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	KV_ASSERT(p != MAP_FAILED);
	KV_ASSERT(!mprotect(p, GUARD_BYTES, PROT_NONE));
	return p + GUARD_BYTES;
}

/* The last of the first thread: back to pct_run(). */
static void leave(struct pct_thread *t)
{
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_start_switch_fiber(NULL, pct.outside_stack, pct.outside_bytes);
#endif
	KV_ASSERT(!setcontext(&pct.outside));
	(void)t;
}

static void thread_main(void)
{
	struct pct_thread *t = pct.current;

#ifdef __SANITIZE_ADDRESS__
	if (t->number == 1)
		__sanitizer_finish_switch_fiber(NULL, &pct.outside_stack, &pct.outside_bytes);
	else
		__sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
	t->run(t->arg);
	KV_ASSERT(!t->rank_count);
	if (t->number == 1)
		leave(t);
	t->wait = PCT_WAIT_ENDED;
	pct_wake_all(t);
	switch_to_best();
}

struct pct_thread *pct_thread_new(const char *name, void (*run)(void *arg), void *arg)
{
	struct pct_thread *t = calloc(1, sizeof(*t));

	KV_ASSERT(t && pct.count < THREADS_MAX && strlen(name) < sizeof(t->name));
	t->stack = stack_new();
	t->run = run;
	t->arg = arg;
	t->until_ns = PCT_NEVER;
	t->priority = fresh_priority();
	memcpy(t->name, name, strlen(name));
	KV_ASSERT(!getcontext(&t->context));
	t->context.uc_stack.ss_sp = t->stack;
	t->context.uc_stack.ss_size = STACK_BYTES;
	t->context.uc_link = NULL;
	makecontext(&t->context, thread_main, 0);
	pct.threads[pct.count++] = t;
	t->number = pct.count;
	return t;
}

static void threads_free(void)
{
	for (unsigned i = 0; i < pct.count; i++) {
		KV_ASSERT(i == 0 || pct.threads[i]->wait == PCT_WAIT_ENDED);
		pct.stacks[pct.stack_count++] = pct.threads[i]->stack;
		free(pct.threads[i]);
	}
	pct.count = 0;
}

void pct_run(uint64_t seed, void (*fn)(void *arg), void *arg, struct pct_result *result)
{
	KV_ASSERT(!pct.current);
	pct.rng.state = seed;
	pct.now_ns = 1000000000; /* 0 stands for "no time" in places */
	pct.switches = pct.trace = pct.walk = 0;
	pct.event_count = pct.jumps = 0;
	pct.lowest = 0;
	pct.steps = pct.coarse_now = 0;
	pct.coarse = false;
	next_event();
	pct.current = pct_thread_new("first", fn, arg);
	before_switch(NULL, pct.current);
	KV_ASSERT(!swapcontext(&pct.outside, &pct.current->context));
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
	*result = (struct pct_result){pct.trace, steps_now(), pct.switches, pct.now_ns, pct.count};
	threads_free();
	pct.current = NULL;
	pct_countdown = UINT64_MAX;
}
