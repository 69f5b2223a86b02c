/* SPDX-License-Identifier: MIT */
/*
 * Handles of open directories: what the kernel is given instead of a pointer, so that a number
 * that it was not given, or gives back twice, finds nothing. Thread safety: all functions from
 * any thread; an object is in the hands of one request at a time.
 */
#ifndef FUSEFS_HANDLE_H
#define FUSEFS_HANDLE_H

#include <pthread.h>
#include <stdint.h>

#include "kvcore/base/base.h"

struct handle_slot {
	const void *kind; /* whose object it is; NULL: free */
	void *object;
	uint32_t generation; /* of the slot's users */
	uint32_t next;	     /* free slot, index + 1 */
	bool busy;
};

struct handles {
	pthread_mutex_t mu;
	struct handle_slot *slots; /* [mu] */
	uint32_t count;		   /* [mu] */
	uint32_t free;		   /* [mu] first free slot, index + 1; 0: none */
};

int handle_init(struct handles *all) KV_MUST_CHECK;
/* What is still open is the caller's to free, see handle_drain(). */
void handle_fini(struct handles *all);

/* @kind: an address that tells sorts of objects apart. Return: 0, -ENOMEM, -ENFILE. */
int handle_add(struct handles *all, const void *kind, void *object, uint64_t *out) KV_MUST_CHECK;
/* The object for one request, until handle_put(); NULL if there is none, or another request has
 * it. */
void *handle_take(struct handles *all, const void *kind, uint64_t handle);
void handle_put(struct handles *all, uint64_t handle);
/* The object for good; NULL as above. */
void *handle_remove(struct handles *all, const void *kind, uint64_t handle);
/* Remove all objects of a kind. No request runs any more. */
void handle_drain(struct handles *all, const void *kind, void (*drop)(void *ctx, void *object),
		  void *ctx);

#endif
