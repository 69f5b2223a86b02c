/* SPDX-License-Identifier: MIT */
/*
 * When there are too many notes, the one goes whose loss matters least: the gap that it leaves
 * is the smallest part of its age. So gaps grow with age, and 64 notes reach back over
 * weeks.
 */
#include "kvcore/engine/ages.h"

#include <string.h>

#include "kvcore/base/base.h"

int ages_init(struct ages *a)
{
	*a = (struct ages){0};
	return os_mutex_init(&a->mu, OS_RANK_LEAF);
}

void ages_fini(struct ages *a)
{
	os_mutex_fini(&a->mu);
}

static void thin(struct ages *a, uint64_t now_ns) KV_REQUIRES(a->mu)
{
	double least = 2;
	unsigned at = 1;

	for (unsigned i = 1; i + 1 < a->count; i++) {
		double gap = (double)(a->note[i + 1].ns - a->note[i - 1].ns);
		double age = (double)(now_ns - a->note[i - 1].ns) + 1;

		if (gap / age < least) {
			least = gap / age;
			at = i;
		}
	}
	memmove(&a->note[at], &a->note[at + 1], (a->count - at - 1) * sizeof(a->note[0]));
	a->count--;
}

void ages_note(struct ages *a, kv_seq seq, uint64_t now_ns)
{
	os_mutex_lock(&a->mu);
	if (!a->count || (seq > a->note[a->count - 1].seq && now_ns >= a->note[a->count - 1].ns)) {
		if (a->count == AGES_MAX)
			thin(a, now_ns);
		a->note[a->count].seq = seq;
		a->note[a->count].ns = now_ns;
		a->count++;
	}
	os_mutex_unlock(&a->mu);
}

uint64_t ages_of(struct ages *a, kv_seq seq, uint64_t now_ns)
{
	uint64_t age = 0;

	os_mutex_lock(&a->mu);
	for (unsigned i = 0; i < a->count; i++) {
		if (a->note[i].seq > seq) {
			age = now_ns - min_u64(now_ns, a->note[i].ns);
			break;
		}
	}
	os_mutex_unlock(&a->mu);
	return age;
}
