/* SPDX-License-Identifier: MIT */
/*
 * Group commit and acknowledgement (engine/commit.c, wal/wal.c): three threads make two commits
 * each, all with KV_COMMIT_SYNC. One leads the queue, one at most flushes the log; a sync of the
 * host covers what was written before it began. What is acknowledged is on the disk.
 */
#include <string.h>

#include "tests/models/explore.h"

#define THREADS 3U
#define COMMITS 2U

enum { QUEUE, WAIT, LEAD, WRITE, PUBLISH, HAND, SYNC, SYNC_WAIT, NOTE, HOST, TELL, ACKED };
enum { RIGHT, NOT_HANDED_OVER, TOO_FAR, ALL_WOKEN, TWO_FLUSH };

struct commit {
	uint8_t at[THREADS];
	uint8_t lsn[THREADS];
	uint8_t done[THREADS];
	uint8_t group;
	uint8_t leading, flushing;
	uint8_t end, noted, disk, durable;
};

static void queue_step(struct explorer *e, struct commit s, unsigned n, unsigned variant)
{
	switch (s.at[n]) {
	case QUEUE:
		s.at[n] = s.leading ? WAIT : LEAD;
		s.leading = 1;
		explore_to(e, &s, sizeof(s), "queue_and_wait", n);
		return;
	case LEAD:
		s.group = (uint8_t)(1U << n);
		for (unsigned i = 0; i < THREADS; i++) {
			if (s.at[i] == WAIT)
				s.group |= (uint8_t)(1U << i);
		}
		s.at[n] = WRITE;
		explore_to(e, &s, sizeof(s), "take_group", n);
		return;
	case WRITE:
		for (unsigned i = 0; i < THREADS; i++) {
			if (s.group & 1U << i)
				s.lsn[i] = ++s.end;
		}
		s.at[n] = PUBLISH;
		explore_to(e, &s, sizeof(s), "write_group", n);
		return;
	case PUBLISH: /* run_group(), and lead_group() wakes its members */
		for (unsigned i = 0; i < THREADS; i++) {
			if (s.group & 1U << i)
				s.at[i] = SYNC;
		}
		s.group = 0;
		s.at[n] = HAND;
		explore_to(e, &s, sizeof(s), "snapshots_publish", n);
		return;
	default: /* HAND */
		s.at[n] = SYNC;
		for (unsigned i = 0; i < THREADS; i++) {
			if (s.at[i] != WAIT)
				continue;
			if (variant != NOT_HANDED_OVER)
				s.at[i] = LEAD;
			explore_to(e, &s, sizeof(s), "hand_over", n);
			return;
		}
		s.leading = 0;
		explore_to(e, &s, sizeof(s), "hand_over: nobody waits", n);
	}
}

/* lead() of wal.c when its flush has ended, with take_ready(). */
static void tell(struct explorer *e, struct commit s, unsigned n, unsigned variant)
{
	bool leader = false;

	s.durable = variant == TOO_FAR ? s.end : s.noted > s.durable ? s.noted : s.durable;
	s.flushing = 0;
	s.at[n] = ACKED;
	for (unsigned i = 0; i < THREADS; i++) {
		if (s.at[i] != SYNC_WAIT)
			continue;
		if (s.lsn[i] <= s.durable || variant == ALL_WOKEN) {
			s.at[i] = ACKED;
		} else if (!leader) {
			leader = true;
			s.flushing = 1;
			s.at[i] = NOTE;
		}
	}
	explore_to(e, &s, sizeof(s), "lead, take_ready", n);
}

static void sync_step(struct explorer *e, struct commit s, unsigned n, unsigned variant)
{
	switch (s.at[n]) {
	case SYNC:
		s.at[n] = s.lsn[n] <= s.durable		       ? ACKED
			  : s.flushing && variant != TWO_FLUSH ? SYNC_WAIT
							       : NOTE;
		if (s.at[n] == NOTE)
			s.flushing = 1;
		explore_to(e, &s, sizeof(s), "wal_sync", n);
		return;
	case NOTE:
		s.noted = s.end;
		s.at[n] = HOST;
		explore_to(e, &s, sizeof(s), "flush: notes the end", n);
		return;
	case HOST: /* what is written while it runs is not covered */
		s.disk = s.end;
		s.at[n] = TELL;
		explore_to(e, &s, sizeof(s), "os_volume_sync", n);
		return;
	case TELL:
		tell(e, s, n, variant);
		return;
	case ACKED:
		if (++s.done[n] < COMMITS)
			s.at[n] = QUEUE;
		if (s.done[n] <= COMMITS)
			explore_to(e, &s, sizeof(s), "returns", n);
		return;
	default: /* SYNC_WAIT */
		return;
	}
}

static void steps(struct explorer *e, const struct explore_state *state, unsigned variant)
{
	struct commit s;

	memcpy(&s, state, sizeof(s));
	for (unsigned n = 0; n < THREADS; n++) {
		if (s.at[n] >= SYNC)
			sync_step(e, s, n, variant);
		else if (s.at[n] != WAIT)
			queue_step(e, s, n, variant);
	}
}

static const char *wrong(const struct explore_state *state)
{
	struct commit s;
	unsigned flushes = 0;

	memcpy(&s, state, sizeof(s));
	for (unsigned n = 0; n < THREADS; n++) {
		if (s.at[n] == ACKED && s.lsn[n] > s.disk)
			return "acknowledged and not on the disk";
		flushes += s.at[n] >= NOTE && s.at[n] <= TELL;
	}
	return flushes > 1 ? "two flushes at once" : NULL;
}

static bool ended(const struct explore_state *state)
{
	struct commit s;

	memcpy(&s, state, sizeof(s));
	for (unsigned n = 0; n < THREADS; n++) {
		if (s.at[n] != ACKED || s.done[n] < COMMITS)
			return false;
	}
	return true;
}

static const char *const names[] = {
	"as it is", "the next leader is not told", "durable is what is written when the sync ends",
	"a flush wakes all who wait", "a thread flushes beside another"};

const struct explore_model model_commit = {
	.name = "group commit and acknowledgement",
	.variants = 5,
	.variant_name = names,
	.steps = steps,
	.wrong = wrong,
	.ended = ended,
};
