/* SPDX-License-Identifier: MIT */
/*
 * Views that are replaced while somebody reads from them: they stay until the
 * last reader lets go, go then, and readers beyond the number of slots wait for nothing.
 */
#include <sched.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/db.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

static struct sim_env *sim;
static struct kv_db *db;

static void setup(void)
{
	struct kv_create_options c = {.log_size_bytes = 4U << 20};
	struct kv_options o = {.cache_bytes = 8U << 20};

	sim = sim_env_new(1);
	c.env = sim_env_os(sim);
	o.env = c.env;
	ck_assert_int_eq(kv_create("vol", &c), 0);
	ck_assert_int_eq(kv_open("vol", &o, &db), 0);
}

static void teardown(void)
{
	ck_assert_int_eq(kv_close(db), 0);
	sim_env_free(sim);
}

/* Replaces the view twice: a memtable is frozen, then flushed. */
static void replace(void)
{
	ck_assert_int_eq(kv_put(db, 1, test_str("k"), test_str("v"), 0), 0);
	ck_assert_int_eq(kv_flush(db), 0);
}

static bool any_retired(void)
{
	bool any;

	os_mutex_lock(&db->mu);
	any = db->retired != NULL;
	os_mutex_unlock(&db->mu);
	return any;
}

START_TEST(test_a_pinned_view_outlives_its_replacement)
{
	struct view_pin pin, second;

	replace();
	pin = view_pin(db);
	second = view_pin(db);
	ck_assert_ptr_eq(pin.view, second.view);
	replace();
	ck_assert_ptr_ne(atomic_load(&db->view), pin.view);
	ck_assert(any_retired());
	ck_assert_uint_ge(atomic_load(&pin.view->refs), 1);
	ck_assert(!view_unpin(db, &pin));
	ck_assert(any_retired());
	ck_assert(!view_unpin(db, &second));
	ck_assert(!any_retired());
	pin = view_pin(db);
	ck_assert(view_unpin(db, &pin));
}
END_TEST

START_TEST(test_more_readers_than_slots_hold_references)
{
	static struct view_pin pin[2 * VIEW_SLOTS];
	unsigned without = 0;

	for (unsigned i = 0; i < KV_ARRAY_COUNT(pin); i++) {
		pin[i] = view_pin(db);
		without += !pin[i].slot;
	}
	ck_assert_uint_eq(without, VIEW_SLOTS);
	replace();
	for (unsigned i = 0; i < KV_ARRAY_COUNT(pin); i++)
		ck_assert(!view_unpin(db, &pin[i]));
	ck_assert(!any_retired());
}
END_TEST

/* ---- readers beside replacements ------------------------------------------ */

#define READERS 3U

static _Atomic bool done;

static void run_reader(void *arg)
{
	(void)arg;
	while (!atomic_load(&done)) {
		struct view_pin pin = view_pin(db);
		struct entry e;
		int err;

		/* Without the pin the view and its memtables would be freed about now. */
		ck_assert_uint_ge(atomic_load(&pin.view->refs), 1);
		ck_assert_uint_le(pin.view->frozen_count, VIEW_FROZEN_MAX);
		err = memtable_get(pin.view->active, test_str("k"), KV_SEQ_MAX, &e);
		ck_assert(!err || err == -KV_E_NOTFOUND);
		sched_yield();
		ck_assert_uint_ge(atomic_load(&pin.view->refs), 1);
		(void)view_unpin(db, &pin);
	}
}

START_TEST(test_readers_beside_replacements_never_see_a_dropped_view)
{
	struct os_thread reader[READERS];

	for (unsigned i = 0; i < READERS; i++)
		ck_assert_int_eq(os_thread_start(&reader[i], "reader", run_reader, NULL), 0);
	for (unsigned i = 0; i < 300; i++)
		replace();
	atomic_store(&done, true);
	for (unsigned i = 0; i < READERS; i++)
		os_thread_join(&reader[i]);
	ck_assert(!any_retired());
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_pinned_view_outlives_its_replacement,
		test_more_readers_than_slots_hold_references,
		test_readers_beside_replacements_never_see_a_dropped_view,
	};

	return test_suite_run_with("view_pin", tests, KV_ARRAY_COUNT(tests), 120, setup, teardown);
}
