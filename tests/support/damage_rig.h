/* SPDX-License-Identifier: MIT */
/*
 * A small volume with something of everything, the states that its tree went through, and the
 * judgement of a damaged copy of it:
 *
 *   look    it is read to its end: what comes is what one of the states held, or an error, and
 *           where there is an error kv_verify() has found something
 *   repair  kv_repair() and kvfs_check() mend a copy; a second run finds nothing, all can be read,
 *           and what is different lies within what was reported
 *
 * Needs layer_model. Not thread-safe. A judgement is counted and printed, not asserted.
 */
#ifndef TESTS_SUPPORT_DAMAGE_RIG_H
#define TESTS_SUPPORT_DAMAGE_RIG_H

#include "tests/support/sim_env.h"
#include "tests/support/tree_picture.h"

#define DAMAGE_VOLUME "volume"
#define DAMAGE_STATES 64U

struct damage_rig {
	struct sim_env *old;			   /* at states[0], closed */
	struct sim_env *now;			   /* killed at the last state, which is durable */
	struct tree_picture states[DAMAGE_STATES]; /* after each operation */
	unsigned count;
	uint64_t size; /* bytes of the volume now */
	bool *used;    /* by sector of 512 bytes: the volume refers to it */
	char *step; /* [in] what is being judged, for messages; of 256 bytes, shared with children
		     */
	unsigned long looks, detected, repairs, findings;
	unsigned long last_frame; /* the last frame was damaged, which is taken for the log's end */
};

/* All but @step is set. */
void damage_rig_make(struct damage_rig *r);
void damage_rig_free(struct damage_rig *r);
/*
 * @from: the first state that may be found without anything being noticed
 * Return: whether kv_verify() found anything.
 */
bool damage_rig_look(struct damage_rig *r, struct sim_env *e, unsigned from);
/* @e is changed. */
void damage_rig_repair(struct damage_rig *r, struct sim_env *e);

#endif
