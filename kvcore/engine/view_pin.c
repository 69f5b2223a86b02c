/* SPDX-License-Identifier: MIT */
/*
 * Taking the current view without a lock: hazard slots (Michael, Hazard Pointers,
 * IEEE TPDS 2004). A reader puts the view's address into a slot that is free, and
 * then looks whether it is still the current one; if not, it does so again with the new
 * one. Whoever replaces the view stores the new one first and looks at the slots
 * afterwards; the old one keeps the database's reference as long as a slot has it.
 *
 * Why that is enough: all these accesses are sequentially consistent, so they have one
 * order. Either the reader's store into the slot comes before the replacer's look, which
 * then sees it; or it comes after it, hence after the store of the new view, and
 * the reader's second look, which is later still, sees that the view was replaced: it never
 * follows the old pointer.
 *
 * Retired views are looked at again by the reader that had pinned one: when it lets go
 * and the view is not current any more. Both orders are the same argument: either the
 * replacer sees the empty slot, or the reader sees the new view.
 */
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/db.h"

static struct view_slot *slot_take(struct kv_db *db, struct view *v)
{
	unsigned hint = os_thread_hint();

	for (unsigned i = 0; i < VIEW_SLOTS; i++) {
		struct view_slot *s = &db->view_slots[(hint + i) % VIEW_SLOTS];
		struct view *none = NULL;

		if (!atomic_load_explicit(&s->pinned, memory_order_relaxed) &&
		    atomic_compare_exchange_strong(&s->pinned, &none, v))
			return s;
	}
	return NULL;
}

/* All slots are taken: more readers than slots, each in the middle of a read. */
static struct view_pin pin_by_reference(struct kv_db *db)
{
	struct view_pin pin = {NULL, NULL};

	os_mutex_lock(&db->mu);
	pin.view = atomic_load(&db->view);
	atomic_fetch_add_explicit(&pin.view->refs, 1, memory_order_relaxed);
	os_mutex_unlock(&db->mu);
	return pin;
}

struct view_pin view_pin(struct kv_db *db)
{
	struct view_pin pin = {.view = atomic_load(&db->view)};
	bool again = false;
	struct view *now;

	pin.slot = slot_take(db, pin.view);
	if (!pin.slot)
		return pin_by_reference(db);
	while ((now = atomic_load(&db->view)) != pin.view) {
		pin.view = now;
		atomic_store(&pin.slot->pinned, now);
		again = true;
	}
	if (again) /* the slot may have kept the old one from being dropped */
		view_reclaim(db);
	return pin;
}

bool view_unpin(struct kv_db *db, struct view_pin *pin)
{
	bool current;

	if (!pin->slot) {
		current = atomic_load(&db->view) == pin->view;
		view_unref(pin->view);
		return current;
	}
	atomic_store(&pin->slot->pinned, NULL);
	current = atomic_load(&db->view) == pin->view;
	if (!current)
		view_reclaim(db);
	return current;
}

struct view *view_get(struct kv_db *db)
{
	struct view_pin pin = view_pin(db);
	struct view *v = pin.view;

	atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
	(void)view_unpin(db, &pin);
	return v;
}

void view_unref(struct view *v)
{
	if (!v || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1)
		return;
	memtable_unref(v->active);
	for (unsigned i = 0; i < v->frozen_count; i++)
		memtable_unref(v->frozen[i]);
	if (v->version)
		version_unref(v->version);
	free(v);
}

static bool pinned(const struct kv_db *db, const struct view *v)
{
	for (unsigned i = 0; i < VIEW_SLOTS; i++) {
		if (atomic_load(&db->view_slots[i].pinned) == v)
			return true;
	}
	return false;
}

void view_retire_locked(struct kv_db *db, struct view *v)
{
	if (!pinned(db, v)) {
		view_unref(v);
		return;
	}
	v->next_retired = db->retired;
	db->retired = v;
}

void view_reclaim(struct kv_db *db)
{
	struct view **link = &db->retired;
	struct view *dead = NULL;
	struct view *v;

	os_mutex_lock(&db->mu);
	while ((v = *link)) {
		if (pinned(db, v)) {
			link = &v->next_retired;
			continue;
		}
		*link = v->next_retired;
		v->next_retired = dead;
		dead = v;
	}
	os_mutex_unlock(&db->mu);
	while (dead) { /* outside: the last reference may give space back */
		v = dead;
		dead = v->next_retired;
		view_unref(v);
	}
}
