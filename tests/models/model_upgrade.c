/* SPDX-License-Identifier: MIT */
/*
 * Lock upgrade and deadlock (engine/lock_manager.c, lock_graph.c): three owners lock two keys, two
 * of them raise a shared lock to an exclusive one. A request that must wait has edges to the
 * holders in its way and to those queued before it; one that closes a cycle is the victim and gives
 * all its locks back. Nobody waits for ever, and no two holders contradict each other.
 */
#include <string.h>

#include "tests/models/explore.h"

#define OWNERS 3U
#define KEYS   2U
#define OPS    3U

enum { NONE, SHARED, EXCLUSIVE };
enum { RIGHT, NO_SEARCH, NO_GRANT, BLIND_UPGRADE };

struct locks {
	uint8_t held[KEYS][OWNERS];
	uint8_t queue[KEYS][OWNERS]; /* owner + 1, the first of the queue first */
	uint8_t next[OWNERS];	     /* operation */
	uint8_t waits[OWNERS];
	uint8_t over[OWNERS]; /* committed or a victim */
};

static const struct {
	uint8_t key, mode;
} program[OWNERS][OPS] = {
	{{0, SHARED}, {0, EXCLUSIVE}, {1, EXCLUSIVE}},
	{{0, SHARED}, {0, EXCLUSIVE}, {0, EXCLUSIVE}},
	{{1, EXCLUSIVE}, {0, SHARED}, {1, EXCLUSIVE}},
};

static bool in_way(const struct locks *s, unsigned o, unsigned other)
{
	unsigned key = program[o][s->next[o]].key, mode = program[o][s->next[o]].mode;

	return other != o && s->held[key][other] &&
	       (mode == EXCLUSIVE || s->held[key][other] == EXCLUSIVE);
}

static bool queued_before(const struct locks *s, unsigned o, unsigned other)
{
	const uint8_t *queue = s->queue[program[o][s->next[o]].key];

	for (unsigned i = 0; i < OWNERS && queue[i] && queue[i] != o + 1; i++) {
		if (queue[i] == other + 1)
			return true;
	}
	return false;
}

/* lock_graph_cycle(): does @from wait for @to, over any number of others? */
static bool reaches(const struct locks *s, unsigned from, unsigned to, unsigned depth)
{
	if (!s->waits[from] || depth > OWNERS)
		return false;
	for (unsigned i = 0; i < OWNERS; i++) {
		if (!in_way(s, from, i) && !queued_before(s, from, i))
			continue;
		if (i == to || reaches(s, i, to, depth + 1))
			return true;
	}
	return false;
}

static bool can_have(const struct locks *s, unsigned o)
{
	for (unsigned i = 0; i < OWNERS; i++) {
		if (in_way(s, o, i))
			return false;
	}
	return true;
}

static void take(struct locks *s, unsigned o)
{
	unsigned key = program[o][s->next[o]].key, mode = program[o][s->next[o]].mode;

	if (s->held[key][o] < mode)
		s->held[key][o] = (uint8_t)mode;
	s->waits[o] = 0;
	s->next[o]++;
}

static void unqueue(uint8_t *queue, unsigned o)
{
	unsigned n = 0;

	for (unsigned i = 0; i < OWNERS; i++) {
		if (queue[i] && queue[i] != o + 1)
			queue[n++] = queue[i];
	}
	while (n < OWNERS)
		queue[n++] = 0;
}

/* grant(): those at the front of each queue who can have it. */
static void grant(struct locks *s)
{
	for (unsigned key = 0; key < KEYS; key++) {
		while (s->queue[key][0] && can_have(s, s->queue[key][0] - 1U)) {
			unsigned o = s->queue[key][0] - 1U;

			unqueue(s->queue[key], o);
			take(s, o);
		}
	}
}

static void give_back(struct locks *s, unsigned o, unsigned variant)
{
	for (unsigned key = 0; key < KEYS; key++) {
		s->held[key][o] = NONE;
		unqueue(s->queue[key], o);
	}
	s->waits[o] = 0;
	s->over[o] = 1;
	if (variant != NO_GRANT)
		grant(s);
}

/* An upgrade goes before strangers, who wait for it. */
static void enqueue(struct locks *s, unsigned o)
{
	unsigned key = program[o][s->next[o]].key;
	uint8_t *queue = s->queue[key];
	unsigned n = 0;

	while (n < OWNERS && queue[n] && !(s->held[key][o] && !s->held[key][queue[n] - 1]))
		n++;
	memmove(queue + n + 1, queue + n, OWNERS - 1 - n);
	queue[n] = (uint8_t)(o + 1);
	s->waits[o] = 1;
}

static void request(struct explorer *e, struct locks s, unsigned o, unsigned variant)
{
	unsigned key = program[o][s.next[o]].key, mode = program[o][s.next[o]].mode;
	bool upgrade = s.held[key][o] != NONE;

	if (s.held[key][o] >= mode || (upgrade && variant == BLIND_UPGRADE) ||
	    (can_have(&s, o) && (upgrade || !s.queue[key][0]))) {
		take(&s, o);
		explore_to(e, &s, sizeof(s), "lock_acquire: has it", o);
		return;
	}
	enqueue(&s, o);
	if (variant != NO_SEARCH && reaches(&s, o, o, 0)) {
		give_back(&s, o, variant);
		explore_to(e, &s, sizeof(s), "lock_acquire: deadlock", o);
		return;
	}
	explore_to(e, &s, sizeof(s), "lock_acquire: waits", o);
}

static void steps(struct explorer *e, const struct explore_state *state, unsigned variant)
{
	struct locks s;

	memcpy(&s, state, sizeof(s));
	for (unsigned o = 0; o < OWNERS; o++) {
		struct locks after = s;

		if (s.over[o] || s.waits[o])
			continue;
		if (s.next[o] < OPS) {
			request(e, s, o, variant);
			continue;
		}
		give_back(&after, o, variant);
		explore_to(e, &after, sizeof(after), "lock_release_all", o);
	}
}

static const char *wrong(const struct explore_state *state)
{
	struct locks s;

	memcpy(&s, state, sizeof(s));
	for (unsigned key = 0; key < KEYS; key++) {
		unsigned holders = 0, exclusive = 0;

		for (unsigned o = 0; o < OWNERS; o++) {
			holders += s.held[key][o] != NONE;
			exclusive += s.held[key][o] == EXCLUSIVE;
		}
		if (exclusive && holders > 1)
			return "an exclusive lock beside another";
	}
	return NULL;
}

static bool ended(const struct explore_state *state)
{
	struct locks s;

	memcpy(&s, state, sizeof(s));
	return s.over[0] && s.over[1] && s.over[2];
}

static const char *const names[] = {"as it is", "no search for a cycle",
				    "who gives a lock back grants it to nobody",
				    "an upgrade does not look at the other holders"};

const struct explore_model model_upgrade = {
	.name = "lock upgrade and deadlock",
	.variants = 4,
	.variant_name = names,
	.steps = steps,
	.wrong = wrong,
	.ended = ended,
};
