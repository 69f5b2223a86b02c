/* SPDX-License-Identifier: MIT */
/*
 * Eviction against pins (kvcore/cache/): two readers of page A, and a thread that evicts the
 * descriptor when nobody pins it and makes it page B, then A again. Who holds a pin after it has
 * looked at the key again reads A's content.
 */
#include <string.h>

#include "tests/models/explore.h"

enum { FIND, PIN, LOOK, USE, UNPIN, DONE };
enum { EVICT, WRITE_KEY, WRITE_CONTENT, PUBLISH, LET_GO, EVICTED };
enum { RIGHT, NO_LOOK, BLIND_EVICTION };

struct pins {
	uint8_t reader[2];
	uint8_t evictor;
	uint8_t pins, cached; /* the state word */
	uint8_t key, content; /* 0: A, 1: B */
	uint8_t rounds;
};

static void reader_step(struct explorer *e, struct pins s, unsigned n, unsigned variant)
{
	switch (s.reader[n]) {
	case FIND: /* find_and_pin(): by the key, without a pin */
		s.reader[n] = s.key == 0 ? PIN : DONE;
		explore_to(e, &s, sizeof(s), "find_and_pin: looks at the key", n);
		return;
	case PIN: /* pin(): compare-and-swap of a state that is CACHED */
		s.reader[n] = s.cached ? variant == NO_LOOK ? USE : LOOK : DONE;
		s.pins = (uint8_t)(s.pins + s.cached);
		explore_to(e, &s, sizeof(s), "pin", n);
		return;
	case LOOK: /* pin_found(): is it still that page? */
		s.reader[n] = s.key == 0 ? USE : UNPIN;
		explore_to(e, &s, sizeof(s), "pin_found: looks again", n);
		return;
	case USE:
		s.reader[n] = UNPIN;
		explore_to(e, &s, sizeof(s), "reads the page", n);
		return;
	case UNPIN: /* cache_page_unref() */
		s.reader[n] = DONE;
		s.pins--;
		explore_to(e, &s, sizeof(s), "cache_page_unref", n);
		return;
	default:
		return;
	}
}

/* The holder of the shard's mutex: one at a time. */
static void evictor_step(struct explorer *e, struct pins s, unsigned variant)
{
	switch (s.evictor) {
	case EVICT: /* cache_lru.c: compare-and-swap of a state without pins to 0 */
		if (s.pins && variant != BLIND_EVICTION)
			return;
		s.cached = s.pins = 0;
		s.evictor = WRITE_KEY;
		explore_to(e, &s, sizeof(s), "evicts", 2);
		return;
	case WRITE_KEY: /* insert_fresh() */
		s.key = !s.key;
		s.evictor = WRITE_CONTENT;
		explore_to(e, &s, sizeof(s), "insert_fresh: writes the key", 2);
		return;
	case WRITE_CONTENT:
		s.content = s.key;
		s.evictor = PUBLISH;
		explore_to(e, &s, sizeof(s), "insert_fresh: writes the content", 2);
		return;
	case PUBLISH: /* publish(): CACHED and one pin */
		s.cached = s.pins = 1;
		s.evictor = LET_GO;
		explore_to(e, &s, sizeof(s), "publish", 2);
		return;
	case LET_GO:
		s.pins--;
		s.evictor = ++s.rounds == 2 ? EVICTED : EVICT;
		explore_to(e, &s, sizeof(s), "cache_page_unref", 2);
		return;
	default:
		return;
	}
}

static void steps(struct explorer *e, const struct explore_state *state, unsigned variant)
{
	struct pins s;

	memcpy(&s, state, sizeof(s));
	reader_step(e, s, 0, variant);
	reader_step(e, s, 1, variant);
	evictor_step(e, s, variant);
}

static const char *wrong(const struct explore_state *state)
{
	struct pins s;

	memcpy(&s, state, sizeof(s));
	for (unsigned i = 0; i < 2; i++) {
		if (s.reader[i] == USE && (s.content != 0 || !s.cached))
			return "a reader has a page that is not the one it wanted";
	}
	return s.pins > 3 ? "more pins than threads" : NULL;
}

static bool ended(const struct explore_state *state)
{
	struct pins s;

	memcpy(&s, state, sizeof(s));
	return s.reader[0] == DONE && s.reader[1] == DONE && s.evictor == EVICTED && !s.pins;
}

static const char *const names[] = {"as it is", "the key is not looked at again after the pin",
				    "eviction does not look at the pins"};

const struct explore_model model_pins = {
	.name = "eviction against pins",
	.variants = 3,
	.variant_name = names,
	.steps = steps,
	.wrong = wrong,
	.ended = ended,
	.first = {{[4] = 1}}, /* cached */
};
