/* SPDX-License-Identifier: MIT */
/*
 * Included before everything else by the compiler's -include: each atomic operation of the code
 * under test becomes a point at which the scheduler (pct.h) may switch, just before it.
 * atomic_init is none, as nobody else can see the object yet. All are sequentially consistent here,
 * which costs nothing to lose: one thread runs at a time. For gcc; with clang it changes nothing.
 */
#ifndef TESTS_SUPPORT_PCT_PCT_ATOMICS_H
#define TESTS_SUPPORT_PCT_PCT_ATOMICS_H

#include <stdatomic.h>
#include <stdint.h>

extern uint64_t pct_countdown;

void pct_event(void);

static inline void pct_point(void)
{
	if (--pct_countdown == 0)
		pct_event();
}

#ifndef __clang__
#undef atomic_load
#undef atomic_load_explicit
#undef atomic_store
#undef atomic_store_explicit
#undef atomic_exchange
#undef atomic_exchange_explicit
#undef atomic_compare_exchange_strong
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak
#undef atomic_compare_exchange_weak_explicit
#undef atomic_fetch_add
#undef atomic_fetch_add_explicit
#undef atomic_fetch_sub
#undef atomic_fetch_sub_explicit
#undef atomic_fetch_and
#undef atomic_fetch_and_explicit
#undef atomic_fetch_or
#undef atomic_fetch_or_explicit

/* Atomics in arguments of atomics. */
#pragma GCC diagnostic ignored "-Wshadow"

#define PCT_SEQ __ATOMIC_SEQ_CST

#define atomic_load(p)                                                                             \
	__extension__({                                                                            \
		__auto_type pct_p_ = (p);                                                          \
		__typeof__((void)0, *pct_p_) pct_v_;                                               \
		pct_point();                                                                       \
		__atomic_load(pct_p_, &pct_v_, PCT_SEQ);                                           \
		pct_v_;                                                                            \
	})
#define atomic_store(p, v)                                                                         \
	__extension__({                                                                            \
		__auto_type pct_p_ = (p);                                                          \
		__typeof__((void)0, *pct_p_) pct_v_ = (v);                                         \
		pct_point();                                                                       \
		__atomic_store(pct_p_, &pct_v_, PCT_SEQ);                                          \
	})
#define atomic_exchange(p, v)                                                                      \
	__extension__({                                                                            \
		__auto_type pct_p_ = (p);                                                          \
		__typeof__((void)0, *pct_p_) pct_v_ = (v);                                         \
		__typeof__((void)0, *pct_p_) pct_old_;                                             \
		pct_point();                                                                       \
		__atomic_exchange(pct_p_, &pct_v_, &pct_old_, PCT_SEQ);                            \
		pct_old_;                                                                          \
	})
#define atomic_compare_exchange_strong(p, expected, v)                                             \
	__extension__({                                                                            \
		__auto_type pct_p_ = (p);                                                          \
		__typeof__((void)0, *pct_p_) pct_v_ = (v);                                         \
		pct_point();                                                                       \
		__atomic_compare_exchange(pct_p_, (expected), &pct_v_, 0, PCT_SEQ, PCT_SEQ);       \
	})
/* __atomic_fetch_* look at their arguments once, so they stand for themselves. */
#define atomic_fetch_add(p, v) (pct_point(), __atomic_fetch_add((p), (v), PCT_SEQ))
#define atomic_fetch_sub(p, v) (pct_point(), __atomic_fetch_sub((p), (v), PCT_SEQ))
#define atomic_fetch_and(p, v) (pct_point(), __atomic_fetch_and((p), (v), PCT_SEQ))
#define atomic_fetch_or(p, v)  (pct_point(), __atomic_fetch_or((p), (v), PCT_SEQ))

#define atomic_load_explicit(p, order)	       atomic_load(p)
#define atomic_store_explicit(p, v, order)     atomic_store(p, v)
#define atomic_exchange_explicit(p, v, order)  atomic_exchange(p, v)
#define atomic_fetch_add_explicit(p, v, order) atomic_fetch_add(p, v)
#define atomic_fetch_sub_explicit(p, v, order) atomic_fetch_sub(p, v)
#define atomic_fetch_and_explicit(p, v, order) atomic_fetch_and(p, v)
#define atomic_fetch_or_explicit(p, v, order)  atomic_fetch_or(p, v)
#define atomic_compare_exchange_weak(p, e, v)  atomic_compare_exchange_strong(p, e, v)
#define atomic_compare_exchange_strong_explicit(p, e, v, order, failed)                            \
	atomic_compare_exchange_strong(p, e, v)
#define atomic_compare_exchange_weak_explicit(p, e, v, order, failed)                              \
	atomic_compare_exchange_strong(p, e, v)
#endif

#endif
