/* SPDX-License-Identifier: MIT */
/*
 * Memtable switch against commit, and checkpoint against reuse of the log (engine/commit.c,
 * commit_room.c, flush.c; wal/wal.c): one thread commits six records of a log with room for three,
 * one switches memtables, one flushes. At any moment the power may go: what was published is in the
 * tables of the manifest on the disk, or in the log from where this manifest says; and a reader
 * finds it in a memtable or a table. Every write to the log counts as synced.
 */
#include <string.h>

#include "tests/models/explore.h"

#define RECORDS 6U
#define ROOM	3U

enum { LOG, APPLY, PUBLISH };
enum { IDLE, LEADS };
enum { WAIT, WRITE, MANIFEST, INSTALL, RELEASE };
enum { RIGHT, NO_LEAD, LATE_POSITION, EARLY_REUSE, FORGOTTEN_FIRST };

struct change {
	uint8_t committer, switcher, flusher;
	uint8_t leading;
	uint8_t end;	  /* records in the log */
	uint8_t reusable; /* log before this may be written over */
	uint8_t published, active, frozen;
	uint8_t log_after;	  /* of the frozen memtable */
	uint8_t written, tables;  /* being made; seen by readers */
	uint8_t disk, disk_start; /* the manifest on the disk: its tables, where its log begins */
	uint8_t new_start;
};

static void committer_step(struct explorer *e, struct change s)
{
	switch (s.committer) {
	case LOG: /* with the lead */
		if (s.leading || s.end == RECORDS || s.end - s.reusable == (int)ROOM)
			return;
		s.leading = 1;
		s.end++;
		s.committer = APPLY;
		explore_to(e, &s, sizeof(s), "write_group: wal_append", 0);
		return;
	case APPLY:
		s.active |= (uint8_t)(1U << (s.end - 1));
		s.committer = PUBLISH;
		explore_to(e, &s, sizeof(s), "apply_group", 0);
		return;
	default:
		s.published = s.end;
		s.leading = 0;
		s.committer = LOG;
		explore_to(e, &s, sizeof(s), "snapshots_publish, hand_over", 0);
	}
}

/* commit_rotate(): take_lead(), commit_room_rotate(), give_lead(); one memtable is frozen at most.
 */
static void switcher_step(struct explorer *e, struct change s, unsigned variant)
{
	if (s.switcher == IDLE) {
		if (!s.active || s.frozen || (s.leading && variant != NO_LEAD))
			return;
		if (variant != NO_LEAD)
			s.leading = 1;
		s.switcher = LEADS;
		explore_to(e, &s, sizeof(s), "take_lead", 1);
		return;
	}
	s.frozen = s.active;
	s.active = 0;
	s.log_after = s.end;
	s.switcher = IDLE;
	if (variant != NO_LEAD)
		s.leading = 0;
	explore_to(e, &s, sizeof(s), "commit_room_rotate, give_lead", 1);
}

static void flusher_step(struct explorer *e, struct change s, unsigned variant)
{
	switch (s.flusher) {
	case WAIT:
		if (!s.frozen)
			return;
		s.flusher = WRITE;
		if (variant == FORGOTTEN_FIRST)
			s.written = s.frozen, s.frozen = 0;
		explore_to(e, &s, sizeof(s), "next_frozen", 2);
		return;
	case WRITE:
		if (variant != FORGOTTEN_FIRST)
			s.written = s.frozen;
		s.new_start = variant == LATE_POSITION ? s.end : s.log_after;
		if (variant == EARLY_REUSE)
			s.reusable = s.new_start;
		s.flusher = MANIFEST;
		explore_to(e, &s, sizeof(s), "write_tables", 2);
		return;
	case MANIFEST:
		s.disk |= s.written;
		s.disk_start = s.new_start;
		s.flusher = INSTALL;
		explore_to(e, &s, sizeof(s), "versions_apply: the manifest is on the disk", 2);
		return;
	case INSTALL: /* view_install(): at one instant */
		s.tables |= s.written;
		s.frozen = 0;
		s.flusher = RELEASE;
		explore_to(e, &s, sizeof(s), "view_install", 2);
		return;
	default:
		s.reusable = s.disk_start;
		s.flusher = WAIT;
		explore_to(e, &s, sizeof(s), "the log is free up to the checkpoint", 2);
	}
}

static void steps(struct explorer *e, const struct explore_state *state, unsigned variant)
{
	struct change s;

	memcpy(&s, state, sizeof(s));
	committer_step(e, s);
	switcher_step(e, s, variant);
	flusher_step(e, s, variant);
}

static const char *wrong(const struct explore_state *state)
{
	struct change s;

	memcpy(&s, state, sizeof(s));
	for (unsigned r = 0; r < s.published; r++) {
		bool in_log = r >= s.disk_start && r + ROOM >= s.end;

		if (!((s.active | s.frozen | s.tables) & 1U << r))
			return "a reader does not find what is published";
		if (!(s.disk & 1U << r) && !in_log)
			return "a power loss would take what is published";
	}
	return NULL;
}

static bool ended(const struct explore_state *state)
{
	struct change s;

	memcpy(&s, state, sizeof(s));
	return s.end == RECORDS && !s.active && !s.frozen && s.flusher == WAIT;
}

static const char *const names[] = {"as it is", "memtables are switched without the lead",
				    "the checkpoint is where the log ends at the flush",
				    "the log is reused before the manifest is written",
				    "the memtable is forgotten before its tables are seen"};

const struct explore_model model_switch = {
	.name = "memtable switch, checkpoint and log",
	.variants = 5,
	.variant_name = names,
	.steps = steps,
	.wrong = wrong,
	.ended = ended,
};
