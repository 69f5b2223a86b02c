/* SPDX-License-Identifier: MIT */
/*
 * Small models, fully explored: all states that can be reached from the first one are visited,
 * breadth first, so that what is found wrong is told with a shortest way to it. A model is a
 * few bytes of state and a function that makes every step that is possible in it; each step names
 * the function of the engine that it stands for.
 *
 * A model has broken variants, each with one step done wrongly. The explorer must find them, or
 * the model could not have found anything. Thread safety: one thread.
 */
#ifndef TESTS_MODELS_EXPLORE_H
#define TESTS_MODELS_EXPLORE_H

#include <stdbool.h>
#include <stdint.h>

#define EXPLORE_BYTES 32U

/* A model's own struct is copied to and from it; unused bytes are zero. */
struct explore_state {
	uint8_t byte[EXPLORE_BYTES];
};

struct explorer;

/* Called by a model's step function, once for each step: what comes after, and the step's name. */
void explore_to(struct explorer *e, const void *state, unsigned bytes, const char *step,
		unsigned thread);

struct explore_model {
	const char *name;
	unsigned variants; /* 0 is right; the others are broken */
	const char *const *variant_name;
	/* Make all steps from @state. */
	void (*steps)(struct explorer *e, const struct explore_state *state, unsigned variant);
	/* What is wrong with @state; NULL: nothing. */
	const char *(*wrong)(const struct explore_state *state);
	/* May it end here? Asked of states without a step. */
	bool (*ended)(const struct explore_state *state);
	struct explore_state first;
};

/* Explore all variants. Returns how many did not end as they should; says what it found. */
int explore(const struct explore_model *m);

extern const struct explore_model model_commit, model_switch, model_pins, model_upgrade;

#endif
