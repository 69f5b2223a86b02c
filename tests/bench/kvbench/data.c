/* SPDX-License-Identifier: MIT */
/* Keys, values and random numbers of the benchmark; see data.h. */
#include "tests/bench/kvbench/data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define POOL_LEN (1U << 20)
#define PIECE	 100U /* half of each piece is random, the other half repeats it */

bool room_set(struct room *room, const void *data, size_t len)
{
	if (room->cap < len) {
		uint8_t *memory = realloc(room->cap ? room->data : NULL, len);

		if (!memory)
			return false;
		room->data = memory;
		room->cap = len;
	}
	memcpy(room->data, data, len);
	room->len = len;
	return true;
}

void rng_seed(struct rng *rng, uint64_t seed)
{
	for (size_t i = 0; i < 2; i++) { /* splitmix64 */
		uint64_t z = seed += 0x9e3779b97f4a7c15U;

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
		z = (z ^ z >> 27) * 0x94d049bb133111ebU;
		rng->s[i] = z ^ z >> 31;
	}
}

uint64_t rng_next(struct rng *rng)
{
	uint64_t a = rng->s[0];
	uint64_t b = rng->s[1];

	rng->s[0] = b;
	a ^= a << 23;
	rng->s[1] = a ^ b ^ a >> 17 ^ b >> 26;
	return rng->s[1] + b;
}

uint64_t rng_below(struct rng *rng, uint64_t n)
{
	return rng_next(rng) % n;
}

struct bytes key_of(uint64_t number, uint8_t buf[KEY_LEN])
{
	for (size_t i = KEY_LEN; i-- > 0; number /= 10)
		buf[i] = (uint8_t)('0' + number % 10);
	return (struct bytes){buf, KEY_LEN};
}

uint64_t shuffled(uint64_t index, uint64_t count)
{
	/* A prime greater than any count that is used has no factor in common with it. */
	return index % count * 2654435761U % count;
}

int values_init(struct values *values, size_t value_len)
{
	struct rng rng;
	uint8_t *pool = malloc(POOL_LEN + value_len);

	if (!pool)
		return -1;
	rng_seed(&rng, 301);
	for (size_t i = 0; i < POOL_LEN + value_len; i++) {
		size_t in_piece = i % PIECE;

		pool[i] = in_piece < PIECE / 2 ? (uint8_t)rng_next(&rng) : pool[i - PIECE / 2];
	}
	*values = (struct values){pool, value_len};
	return 0;
}

void values_fini(struct values *values)
{
	free(values->pool);
}

struct bytes value_any(const struct values *values, struct rng *rng)
{
	/* From the beginning of a piece, so that both of its halves are in the value. */
	return (struct bytes){values->pool + rng_below(rng, POOL_LEN / PIECE) * PIECE,
			      values->value_len};
}

void zipf_init(struct zipf *zipf, uint64_t count)
{
	double zeta2 = 1 + pow(0.5, 0.99);

	*zipf = (struct zipf){.count = count, .theta = 0.99};
	for (uint64_t i = 1; i <= count; i++)
		zipf->zeta += 1 / pow((double)i, zipf->theta);
	zipf->alpha = 1 / (1 - zipf->theta);
	zipf->eta = (1 - pow(2 / (double)count, 1 - zipf->theta)) / (1 - zeta2 / zipf->zeta);
}

uint64_t zipf_rank(const struct zipf *zipf, struct rng *rng)
{
	double u = (double)(rng_next(rng) >> 11) * 0x1p-53;
	double uz = u * zipf->zeta;
	uint64_t rank;

	if (uz < 1)
		return 0;
	if (uz < 1 + pow(0.5, zipf->theta))
		return 1;
	rank = (uint64_t)((double)zipf->count * pow(zipf->eta * u - zipf->eta + 1, zipf->alpha));
	return rank < zipf->count ? rank : zipf->count - 1;
}

uint64_t zipf_scattered(const struct zipf *zipf, struct rng *rng)
{
	return shuffled(zipf_rank(zipf, rng), zipf->count);
}
