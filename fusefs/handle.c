/* SPDX-License-Identifier: MIT */
/*
 * Numbers for open directories, checked whenever the kernel brings one back.
 *
 * An array of slots with a list of free ones. A handle is a slot's number with the
 * generation of its user above it, so that an old one does not find the slot's
 * next user.
 */
#include "fusefs/handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_MIN 16U
#define SLOTS_MAX (1U << 30)

int handle_init(struct handles *all)
{
	*all = (struct handles){0};
	return -pthread_mutex_init(&all->mu, NULL);
}

void handle_fini(struct handles *all)
{
	free(all->slots);
	(void)pthread_mutex_destroy(&all->mu);
}

static int grow_locked(struct handles *all)
{
	uint32_t count = all->count ? all->count * 2 : SLOTS_MIN;
	struct handle_slot *slots;

	if (count > SLOTS_MAX)
		return -ENFILE;
	slots = realloc(all->slots, count * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	memset(slots + all->count, 0, (count - all->count) * sizeof(*slots));
	for (uint32_t i = count; i > all->count; i--) {
		slots[i - 1].next = all->free;
		all->free = i;
	}
	all->slots = slots;
	all->count = count;
	return 0;
}

int handle_add(struct handles *all, const void *kind, void *object, uint64_t *out)
{
	struct handle_slot *s;
	int err = 0;

	pthread_mutex_lock(&all->mu);
	if (!all->free)
		err = grow_locked(all);
	if (!err) {
		*out = all->free;
		s = &all->slots[all->free - 1];
		all->free = s->next;
		s->kind = kind;
		s->object = object;
		s->busy = false;
		*out |= (uint64_t)s->generation << 32;
	}
	pthread_mutex_unlock(&all->mu);
	return err;
}

static struct handle_slot *slot_locked(struct handles *all, uint64_t handle)
{
	uint32_t index = (uint32_t)handle;
	struct handle_slot *s;

	if (!index || index > all->count)
		return NULL;
	s = &all->slots[index - 1];
	return s->kind && s->generation == (uint32_t)(handle >> 32) ? s : NULL;
}

void *handle_take(struct handles *all, const void *kind, uint64_t handle)
{
	struct handle_slot *s;
	void *object = NULL;

	pthread_mutex_lock(&all->mu);
	s = slot_locked(all, handle);
	if (s && s->kind == kind && !s->busy) {
		s->busy = true;
		object = s->object;
	}
	pthread_mutex_unlock(&all->mu);
	return object;
}

void handle_put(struct handles *all, uint64_t handle)
{
	struct handle_slot *s;

	pthread_mutex_lock(&all->mu);
	s = slot_locked(all, handle);
	KV_ASSERT(s && s->busy);
	s->busy = false;
	pthread_mutex_unlock(&all->mu);
}

static void *remove_locked(struct handles *all, struct handle_slot *s)
{
	void *object = s->object;

	s->kind = NULL;
	s->object = NULL;
	s->generation++;
	s->next = all->free;
	all->free = (uint32_t)(s - all->slots) + 1;
	return object;
}

void *handle_remove(struct handles *all, const void *kind, uint64_t handle)
{
	struct handle_slot *s;
	void *object = NULL;

	pthread_mutex_lock(&all->mu);
	s = slot_locked(all, handle);
	if (s && s->kind == kind && !s->busy)
		object = remove_locked(all, s);
	pthread_mutex_unlock(&all->mu);
	return object;
}

void handle_drain(struct handles *all, const void *kind, void (*drop)(void *ctx, void *object),
		  void *ctx)
{
	for (uint32_t i = 0; i < all->count; i++)
		if (all->slots[i].kind == kind)
			drop(ctx, remove_locked(all, &all->slots[i]));
}
