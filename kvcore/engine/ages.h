/* SPDX-License-Identifier: MIT */
/*
 * When a commit number was the newest one, about: so that the age of what an open reader
 * sees can be told without a clock read at every read. A few (number, time) pairs are kept,
 * close together for the last moments and wider apart for the past, so the
 * error stays a small part of the age.
 *
 * Thread safety: any thread; one leaf mutex.
 */
#ifndef KVCORE_ENGINE_AGES_H
#define KVCORE_ENGINE_AGES_H

#include "kvcore/os/os_thread.h"

#define AGES_MAX 64U

struct ages {
	struct os_mutex mu; /* OS_RANK_LEAF */
	struct {
		kv_seq seq;
		uint64_t ns;
	} note[AGES_MAX]; /* [mu] both rising */
	unsigned count;	  /* [mu] */
};

int ages_init(struct ages *a) KV_MUST_CHECK;
void ages_fini(struct ages *a);

/* @seq is the newest number now. Called now and then. */
void ages_note(struct ages *a, kv_seq seq, uint64_t now_ns);
/* For how long @seq has not been the newest any more, nanoseconds; 0: it may still be. */
uint64_t ages_of(struct ages *a, kv_seq seq, uint64_t now_ns);

#endif
