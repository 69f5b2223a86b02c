/* SPDX-License-Identifier: MIT */
/*
 * Keys, values and random numbers: the same for every engine, from a seed.
 */
#ifndef KVBENCH_DATA_H
#define KVBENCH_DATA_H

#include "tests/bench/kvbench/engine.h"

#define KEY_LEN 16U

/* xorshift128+; one a thread. */
struct rng {
	uint64_t s[2];
};
void rng_seed(struct rng *rng, uint64_t seed);
uint64_t rng_next(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t n); /* n > 0 */

/* Keys are 16 decimal digits. Present keys are even numbers, absent ones odd, so that an absent
 * key lies between present ones. */
struct bytes key_of(uint64_t number, uint8_t buf[KEY_LEN]);
static inline struct bytes key_present(uint64_t index, uint8_t buf[KEY_LEN])
{
	return key_of(2 * index, buf);
}
static inline struct bytes key_absent(uint64_t index, uint8_t buf[KEY_LEN])
{
	return key_of(2 * index + 1, buf);
}

/* The index'th of a fixed random order of 0..count-1 (count > 0). */
uint64_t shuffled(uint64_t index, uint64_t count);

/* Values are pieces of a pool of which Snappy can save about half. */
struct values {
	uint8_t *pool;
	size_t value_len;
};
int values_init(struct values *values, size_t value_len);
void values_fini(struct values *values);
struct bytes value_any(const struct values *values, struct rng *rng);

/* Zipf with exponent 0.99 over 0..count-1, after Gray et al., "Quickly generating billion-record
 * synthetic databases", SIGMOD 1994, as YCSB uses it; the popular items are scattered. */
struct zipf {
	uint64_t count;
	double zeta;
	double alpha;
	double eta;
	double theta;
};
void zipf_init(struct zipf *zipf, uint64_t count);
uint64_t zipf_rank(const struct zipf *zipf, struct rng *rng);	   /* 0 is the most popular */
uint64_t zipf_scattered(const struct zipf *zipf, struct rng *rng); /* its item */

#endif
