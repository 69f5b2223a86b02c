/* SPDX-License-Identifier: MIT */
/*
 * The log through crashes: random appends, syncs and checkpoints, then the
 * process dies or the power fails, then the log is read and written on. What
 * comes back is always a prefix of what was appended, with all that was synced.
 */
#include <errno.h>
#include <stdio.h>

#include "tests/unit/wal_rig.h"

#define SEEDS  250
#define ROUNDS 12

/* One step of a writer's life. Returns an error once the log is poisoned. */
static int step(struct rig *r)
{
	uint64_t dice = rig_random(r, 100);
	int err;

	if (dice < 70) {
		uint64_t most = dice < 5 ? wal_payload_max(r->wal) : 400;

		err = rig_append(r, (size_t)rig_random(r, most + 1));
		if (err == -KV_E_NOSPACE && r->synced != 0)
			rig_checkpoint(r, 1 + (size_t)rig_random(r, r->synced));
		if (err == -KV_E_NOSPACE)
			err = 0;
		if (!err && wal_room(r->wal) > FORMAT_BLOCK)
			return 0;
		if (err)
			return err;
	}
	if (dice < 98) {
		err = wal_sync(r->wal, wal_end_lsn(r->wal));
		if (!err)
			r->synced = r->count;
		return err;
	}
	if (r->synced != 0)
		rig_checkpoint(r, 1 + (size_t)rig_random(r, r->synced));
	return 0;
}

static void live(struct rig *r)
{
	uint64_t steps = 1 + rig_random(r, 60);

	switch (rig_random(r, 6)) {
	case 0:
		sim_env_cut(r->sim, 1 + rig_random(r, 40));
		break;
	case 1:
		sim_env_fail(r->sim, SIM_OP_SYNC, 1 + rig_random(r, 10), false, -EIO);
		break;
	case 2:
		sim_env_fail(r->sim, SIM_OP_WRITE, 1 + rig_random(r, 30), false, -EIO);
		break;
	default:
		break;
	}
	for (uint64_t i = 0; i < steps; i++)
		if (step(r) != 0)
			break;
}

/* Crash, read what is left, and go on from there. */
static void recover(struct rig *r, uint64_t seed)
{
	static const enum sim_crash modes[] = {SIM_CRASH_KILL, SIM_CRASH_DROP, SIM_CRASH_MIX,
					       SIM_CRASH_GARBAGE};
	enum sim_crash mode = modes[rig_random(r, KV_ARRAY_COUNT(modes))];
	bool poisoned = wal_poisoned(r->wal) != 0;
	struct wal_position end;
	size_t n;
	int err;

	sim_env_crash(r->sim, mode);
	rig_stop(r);
	rig_start(r, NULL);
	n = rig_read(r, false, &err, &end);
	if (err != -KV_E_NOTFOUND || n < r->synced ||
	    (mode == SIM_CRASH_KILL && n < r->count && !poisoned))
		ck_abort_msg("seed %llu mode %d: err %d, %zu of %zu frames, %zu synced, lsn %llu",
			     (unsigned long long)seed, (int)mode, err, n, r->count, r->synced,
			     (unsigned long long)end.lsn);
	r->count = n;
	r->torn = false;
	r->epoch++;
	ck_assert_int_eq(wal_open(&r->options, &end, r->base.lsn, r->epoch, &r->wal), 0);
}

START_TEST(test_a_crash_leaves_a_prefix_with_all_that_was_synced)
{
	uint64_t laps = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct rig *r = rig_new(seed, 8 + (unsigned)(seed % 5) * 8);

		for (int round = 0; round < ROUNDS; round++) {
			live(r);
			recover(r, seed);
		}
		laps += wal_end_lsn(r->wal) / r->options.log_size;
		rig_free(r);
	}
	ck_assert_uint_gt(laps, SEEDS); /* the ring did wrap */
}
END_TEST

/* All subsets of up to 12 unsynced sectors. */
struct subset {
	unsigned mask;
	unsigned next;
	enum sim_fate other;
};

static enum sim_fate choose(void *ctx, const char *name, uint64_t sector)
{
	struct subset *s = ctx;

	(void)name;
	(void)sector;
	return s->mask >> (s->next++ % 12) & 1U ? SIM_KEEP : s->other;
}

START_TEST(test_every_subset_of_unsynced_sectors_leaves_a_prefix)
{
	struct rig *r = rig_new(77, 8);
	struct sim_env *whole;
	size_t seen[16] = {0};
	int err;

	/* Stale frames of a former lap lie where the new ones go. */
	while (wal_end_lsn(r->wal) < r->options.log_size + FORMAT_BLOCK) {
		ck_assert_int_eq(rig_append(r, 150), 0);
		rig_sync(r);
		if (r->count == 6)
			rig_checkpoint(r, 3);
	}
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(rig_append(r, 500 + (size_t)i * 100), 0);
	whole = r->sim;
	ck_assert_uint_le(sim_env_unsynced(whole, RIG_VOLUME), 12);
	rig_stop(r);
	for (unsigned i = 0; i < 2U << 12; i++) {
		struct subset s = {.mask = i >> 1, .other = i & 1 ? SIM_DROP : SIM_GARBAGE};
		size_t n;

		r->sim = sim_env_clone(whole, i);
		sim_env_crash_by(r->sim, choose, &s);
		rig_start(r, NULL);
		n = rig_read(r, false, &err, NULL);
		ck_assert_int_eq(err, -KV_E_NOTFOUND);
		ck_assert_uint_ge(n, r->synced);
		seen[n - r->synced]++;
		rig_stop(r);
		sim_env_free(r->sim);
	}
	for (int i = 0; i <= 4; i++)
		ck_assert_uint_gt(seen[i], 0);
	r->sim = whole;
	rig_free(r);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("wal_crash");
	TCase *tc = tcase_create("crash");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 240);
	tcase_add_test(tc, test_a_crash_leaves_a_prefix_with_all_that_was_synced);
	tcase_add_test(tc, test_every_subset_of_unsynced_sectors_leaves_a_prefix);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
