/* SPDX-License-Identifier: MIT */
/*
 * The explorer: an array of states in the order in which they were found, which is also the queue,
 * and a hash table of indexes into it.
 */
#include "tests/models/explore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"

struct visit {
	struct explore_state state;
	uint32_t from;
	const char *step;
	unsigned thread;
};

struct explorer {
	struct visit *visits;
	uint32_t count, cap;
	uint32_t *table; /* 0: free; else index + 1 */
	uint32_t table_size;
	uint32_t at; /* whose steps are being made */
	uint64_t steps;
};

static uint64_t hash(const struct explore_state *s)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	for (unsigned i = 0; i < EXPLORE_BYTES; i++)
		h = (h ^ s->byte[i]) * 0x100000001b3ULL;
	return h ^ h >> 29;
}

/* The place of the state in the table, or where it belongs. */
static uint32_t *place_of(struct explorer *e, const struct explore_state *s)
{
	uint64_t i = hash(s);

	for (;; i++) {
		uint32_t *place = &e->table[i % e->table_size];

		if (!*place || memcmp(&e->visits[*place - 1].state, s, sizeof(*s)) == 0)
			return place;
	}
}

static void grow(struct explorer *e)
{
	e->cap = e->cap ? 2 * e->cap : 1024;
	e->visits = realloc(e->visits, e->cap * sizeof(*e->visits));
	free(e->table);
	e->table_size = 4 * e->cap;
	e->table = calloc(e->table_size, sizeof(*e->table));
	KV_ASSERT(e->visits && e->table);
	for (uint32_t i = 0; i < e->count; i++)
		*place_of(e, &e->visits[i].state) = i + 1;
}

static void visit(struct explorer *e, const struct explore_state *s, const char *step,
		  unsigned thread)
{
	uint32_t *place;

	if (e->count == e->cap)
		grow(e);
	place = place_of(e, s);
	if (*place)
		return;
	e->visits[e->count] = (struct visit){*s, e->at, step, thread};
	*place = ++e->count;
}

void explore_to(struct explorer *e, const void *state, unsigned bytes, const char *step,
		unsigned thread)
{
	struct explore_state s = {{0}};

	KV_ASSERT(bytes <= sizeof(s));
	memcpy(&s, state, bytes);
	e->steps++;
	visit(e, &s, step, thread);
}

static void print_way(const struct explorer *e, uint32_t to)
{
	if (to == 0)
		return;
	print_way(e, e->visits[to].from);
	printf("    thread %u: %s\n", e->visits[to].thread, e->visits[to].step);
}

/* What is wrong with some state; NULL: nothing with any. */
static const char *run(struct explorer *e, const struct explore_model *m, unsigned variant)
{
	const char *wrong = NULL;

	visit(e, &m->first, "", 0);
	for (e->at = 0; e->at < e->count && !wrong; e->at++) {
		const struct explore_state s = e->visits[e->at].state;
		uint64_t before = e->steps;

		wrong = m->wrong(&s);
		if (wrong)
			break;
		m->steps(e, &s, variant);
		if (e->steps == before && !m->ended(&s)) {
			wrong = "nobody can go on";
			break;
		}
	}
	return wrong;
}

int explore(const struct explore_model *m)
{
	int failures = 0;

	for (unsigned v = 0; v < m->variants; v++) {
		struct explorer e = {0};
		const char *wrong = run(&e, m, v);

		printf("%s, %s: %u states, %llu steps: %s\n", m->name, m->variant_name[v], e.count,
		       (unsigned long long)e.steps, wrong ? wrong : "nothing wrong");
		if (wrong && v == 0)
			print_way(&e, e.at);
		failures += (wrong != NULL) != (v > 0);
		free(e.visits);
		free(e.table);
	}
	return failures;
}
