/* SPDX-License-Identifier: MIT */
/*
 * Damage done to a small volume in every way that a disk can: bits that flip, sectors that are
 * lost, that stand in another's place, that are as they were earlier, whole volumes mixed of two
 * ages. Promises 5 and 9: it is noticed or harmless, and never wrong data; then repair mends it,
 * says what is lost, and is done.
 *
 *   crash_damage            a sample of all of it (the test)
 *   crash_damage -full      every bit of what the volume refers to, with a repair for each byte,
 * and one bit of every other sector -shard=I/N              each Nth case from the Ith on, to run
 * several at once
 */
#include <malloc.h>
#include <string.h>
#include <sys/mman.h>

#include "kvcore/base/base.h"
#include "tests/support/damage_rig.h"
#include "tests/support/test_suite.h"

#define STRIDE	   1601U /* bits between those of the sample; prime, so that all bit numbers come */
#define MIXES	   60U
#define MIXES_FULL 2000U

static struct damage_rig rig;
static bool full;
static unsigned long shard, shards = 1;
static unsigned long case_no; /* within the test */

/* Is the next case one of ours? */
static bool mine(unsigned long stride)
{
	unsigned long n = case_no++;

	if (!full && n % stride)
		return false;
	return full ? n % shards == shard : n / stride % shards == shard;
}

static uint64_t sectors(void)
{
	return rig.size / SIM_SECTOR;
}

static void step(const char *what, uint64_t a, uint64_t b)
{
	snprintf(rig.step, 256, "%s %llu %llu", what, (unsigned long long)a, (unsigned long long)b);
}

/* Judge a copy of the present volume in which one sector was replaced. */
static void judge_sector(uint64_t sector, const uint8_t *content)
{
	struct sim_env *e = sim_env_clone(rig.now, 1);

	sim_env_poke(e, DAMAGE_VOLUME, sector * SIM_SECTOR, content, SIM_SECTOR);
	if (damage_rig_look(&rig, e, rig.count - 2))
		damage_rig_repair(&rig, e);
	sim_env_free(e);
}

static void report(const char *what)
{
	printf("%s: %lu looked at, %lu detected, %lu repaired, %lu with the last frame gone, "
	       "%lu findings\n",
	       what, rig.looks, rig.detected, rig.repairs, rig.last_frame, rig.findings);
	fflush(stdout);
	ck_assert_msg(rig.findings == 0, "see above");
}

START_TEST(test_the_sound_volume_is_found_sound)
{
	step("sound", 0, 0);
	ck_assert(!damage_rig_look(&rig, rig.now, rig.count - 1));
	step("sound and old", 0, 0);
	ck_assert(!damage_rig_look(&rig, rig.old, 0));
	report("sound");
}
END_TEST

START_TEST(test_a_flipped_bit_is_noticed_or_harmless_and_repaired)
{
	for (uint64_t bit = 0; bit < rig.size * 8; bit++) {
		uint64_t off = bit / 8;
		struct sim_env *e;

		if (!rig.used[off / SIM_SECTOR]) {
			bit += SIM_SECTOR * 8 - 1; /* the next test's */
			continue;
		}
		if (!mine(STRIDE))
			continue;
		step("flip", off, bit % 8);
		e = rig.now;
		sim_env_flip(e, DAMAGE_VOLUME, off, (unsigned)(bit % 8));
		if (damage_rig_look(&rig, e, rig.count - 2) && (!full || bit % 8 == off % 8)) {
			e = sim_env_clone(rig.now, 1);
			damage_rig_repair(&rig, e);
			sim_env_free(e);
		}
		sim_env_flip(rig.now, DAMAGE_VOLUME, off, (unsigned)(bit % 8));
	}
	report("bits");
}
END_TEST

START_TEST(test_a_flipped_bit_where_nothing_is_stored_changes_nothing)
{
	struct test_rng rng = {7};

	for (uint64_t s = 0; s < sectors(); s++) {
		unsigned bit = (unsigned)test_rng_below(&rng, SIM_SECTOR * 8);

		if (rig.used[s] || !mine(97))
			continue;
		step("flip in free space", s, bit);
		sim_env_flip(rig.now, DAMAGE_VOLUME, s * SIM_SECTOR + bit / 8, bit % 8);
		ck_assert_msg(!damage_rig_look(&rig, rig.now, rig.count - 1), "%s", rig.step);
		sim_env_flip(rig.now, DAMAGE_VOLUME, s * SIM_SECTOR + bit / 8, bit % 8);
	}
	report("free space");
}
END_TEST

START_TEST(test_a_sector_of_zeros_is_noticed_or_harmless_and_repaired)
{
	const uint8_t zeros[SIM_SECTOR] = {0};

	for (uint64_t s = 0; s < sectors(); s++) {
		if (!rig.used[s] || !mine(3))
			continue;
		step("zeros in sector", s, 0);
		judge_sector(s, zeros);
	}
	report("zeros");
}
END_TEST

START_TEST(test_a_sector_with_its_older_content_is_noticed_or_harmless_and_repaired)
{
	uint8_t older[SIM_SECTOR];

	for (uint64_t s = 0; s < sectors(); s++) {
		if (!rig.used[s] || !mine(3))
			continue;
		step("older sector", s, 0);
		sim_env_peek(rig.old, DAMAGE_VOLUME, s * SIM_SECTOR, older, sizeof(older));
		judge_sector(s, older);
	}
	report("older sectors");
}
END_TEST

START_TEST(test_a_sector_written_to_another_place_is_noticed_or_harmless_and_repaired)
{
	struct test_rng rng = {11};
	uint8_t a[SIM_SECTOR], b[SIM_SECTOR];

	for (uint64_t s = 0; s < sectors(); s++) {
		for (unsigned n = 0; rig.used[s] && n < 4; n++) {
			uint64_t other = n ? test_rng_below(&rng, sectors()) : (s + 1) % sectors();
			struct sim_env *e;

			if ((n && !rig.used[other]) || !mine(7))
				continue;
			step("swapped sectors", s, other);
			e = sim_env_clone(rig.now, 1);
			sim_env_peek(e, DAMAGE_VOLUME, s * SIM_SECTOR, a, sizeof(a));
			sim_env_peek(e, DAMAGE_VOLUME, other * SIM_SECTOR, b, sizeof(b));
			sim_env_poke(e, DAMAGE_VOLUME, s * SIM_SECTOR, b, sizeof(b));
			sim_env_poke(e, DAMAGE_VOLUME, other * SIM_SECTOR, a, sizeof(a));
			if (damage_rig_look(&rig, e, rig.count - 2))
				damage_rig_repair(&rig, e);
			sim_env_free(e);
		}
	}
	report("swapped sectors");
}
END_TEST

/* Pieces of @piece bytes are of the old age with a chance of one in @chance. */
static void mix(unsigned seed, uint64_t piece, unsigned chance)
{
	struct sim_env *e = sim_env_clone(rig.now, seed);
	struct test_rng rng = {seed};
	uint8_t *bytes = malloc(piece);

	ck_assert_ptr_nonnull(bytes);
	for (uint64_t off = 0; off + piece <= rig.size; off += piece) {
		if (test_rng_below(&rng, chance))
			continue;
		sim_env_peek(rig.old, DAMAGE_VOLUME, off, bytes, piece);
		sim_env_poke(e, DAMAGE_VOLUME, off, bytes, piece);
	}
	free(bytes);
	/* A log whose end is lost cannot be told from a shorter one. */
	damage_rig_look(&rig, e, 0);
	sim_env_free(e);
}

START_TEST(test_a_mix_of_two_ages_is_one_of_their_states_or_an_error)
{
	static const uint64_t pieces[] = {SIM_SECTOR, 4096, 65536, 1U << 20};

	for (unsigned i = 0; i < (full ? MIXES_FULL : MIXES); i++) {
		if (!mine(1))
			continue;
		step("mix", i, 0);
		mix(i + 1, pieces[i % 4], 2 + i / 4 % 7);
	}
	report("mixes of two ages");
}
END_TEST

static bool parse(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-full"))
			full = true;
		else if (sscanf(argv[i], "-shard=%lu/%lu", &shard, &shards) != 2 || !shards ||
			 shard >= shards)
			return false;
	}
	return true;
}

static void setup(void)
{
	damage_rig_make(&rig);
}

static void teardown(void)
{
	damage_rig_free(&rig);
}

int main(int argc, char **argv)
{
	const TTest *const tests[] = {
		test_the_sound_volume_is_found_sound,
		test_a_flipped_bit_is_noticed_or_harmless_and_repaired,
		test_a_flipped_bit_where_nothing_is_stored_changes_nothing,
		test_a_sector_of_zeros_is_noticed_or_harmless_and_repaired,
		test_a_sector_with_its_older_content_is_noticed_or_harmless_and_repaired,
		test_a_sector_written_to_another_place_is_noticed_or_harmless_and_repaired,
		test_a_mix_of_two_ages_is_one_of_their_states_or_an_error,
	};
	int failed;

	if (!parse(argc, argv)) {
		fprintf(stderr, "usage: crash_damage [-full] [-shard=I/N]\n");
		return 2;
	}
	/* Large buffers come and go with each case: do not give their pages back each time. */
	(void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
	(void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
	rig.step = mmap(NULL, 256, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (rig.step == MAP_FAILED)
		return 1;
	failed = test_suite_run_with("damage", tests, KV_ARRAY_COUNT(tests), full ? 7200 : 120,
				     setup, teardown);
	if (failed)
		printf("the last one begun: %s\n", rig.step);
	munmap(rig.step, 256);
	return failed;
}
