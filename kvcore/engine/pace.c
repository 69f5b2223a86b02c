/* SPDX-License-Identifier: MIT */
/*
 * The rate, and the account of what was admitted. A writer pays for its bytes with
 * time: paid_ns moves on by bytes / rate, and who comes while it lies ahead waits. It
 * may lag behind the clock by a short while at most, so idle time is no credit for a
 * burst that the flush could not take.
 */
#include "kvcore/engine/pace.h"

#include "kvcore/base/base.h"

#define NS_PER_S     1000000000ULL
#define RATE_MIN     (256ULL * 1024)	   /* bytes a second */
#define DRAIN_GUESS  (32ULL * 1024 * 1024) /* before it was measured */
#define CREDIT_NS    1000000ULL		   /* paid_ns lags by this at most */
#define DEBIT_NS     100000000ULL	   /* and is ahead by this at most */
#define GAP_NS	     20000000ULL	   /* without a question: pacing begins anew */
#define PAUSE_MIN_NS 200000ULL		   /* shorter pauses are saved up: sleeping is not exact */
#define REST_PART    4U			   /* of a flush is always thought to be left */

int pace_init(struct pace *p)
{
	*p = (struct pace){0};
	return os_mutex_init(&p->mu, OS_RANK_LEAF);
}

void pace_fini(struct pace *p)
{
	os_mutex_fini(&p->mu);
}

/* a * b / c without overflow, UINT64_MAX if it is too large. */
static uint64_t scale(uint64_t a, uint64_t b, uint64_t c)
{
	double v = (double)a * (double)b / (double)max_u64(c, 1);

	return v >= 1e18 ? UINT64_MAX : (uint64_t)v;
}

static uint64_t flush_rate(const struct pace *p, const struct pace_state *s) KV_REQUIRES(p->mu)
{
	uint64_t left = s->frozen;

	if (!s->frozen || !p->flush_bps)
		return UINT64_MAX;
	if (p->flush_began_ns && s->now_ns > p->flush_began_ns)
		left -= min_u64(left, scale(p->flush_bps, s->now_ns - p->flush_began_ns, NS_PER_S));
	return scale(p->flush_bps, s->room, max_u64(left, s->frozen / REST_PART));
}

static uint64_t drain_rate(const struct pace *p, const struct pace_state *s) KV_REQUIRES(p->mu)
{
	uint64_t bps = p->drain_bps ? p->drain_bps : DRAIN_GUESS;

	if (s->debt <= PACE_DEBT_FROM)
		return UINT64_MAX;
	return scale(bps, 2U * (1000U - min_u64(s->debt, 1000)), 1000U - PACE_DEBT_FROM);
}

unsigned pace_us(struct pace *p, const struct pace_state *s)
{
	uint64_t bytes;
	uint64_t rate;
	uint64_t wait;

	os_mutex_lock(&p->mu);
	/* Who was not asked for a while was not paced: nothing is owed for that time. */
	bytes = s->now_ns - min_u64(s->now_ns, p->asked_ns) < GAP_NS
			? s->written - min_u64(s->written, p->written)
			: 0;
	p->written = max_u64(p->written, s->written);
	p->asked_ns = max_u64(p->asked_ns, s->now_ns);
	rate = max_u64(min_u64(flush_rate(p, s), drain_rate(p, s)), RATE_MIN);
	p->paid_ns = max_u64(p->paid_ns, s->now_ns - min_u64(s->now_ns, CREDIT_NS));
	if (rate == UINT64_MAX)
		p->paid_ns = min_u64(p->paid_ns, s->now_ns);
	else
		p->paid_ns += scale(bytes, NS_PER_S, rate);
	p->paid_ns = min_u64(p->paid_ns, s->now_ns + DEBIT_NS);
	wait = p->paid_ns - min_u64(p->paid_ns, s->now_ns);
	os_mutex_unlock(&p->mu);
	return wait < PAUSE_MIN_NS ? 0 : (unsigned)min_u64(wait / 1000, PACE_PAUSE_MAX_US);
}

/* Half of what was known, half of what is seen now. */
static uint64_t learn(uint64_t known, uint64_t bytes, uint64_t ns)
{
	uint64_t seen = max_u64(scale(bytes, NS_PER_S, ns), RATE_MIN);

	return known ? known / 2 + seen / 2 : seen;
}

void pace_flush_began(struct pace *p, uint64_t now_ns)
{
	os_mutex_lock(&p->mu);
	p->flush_began_ns = now_ns;
	os_mutex_unlock(&p->mu);
}

void pace_flush_ended(struct pace *p, uint64_t now_ns, uint64_t bytes)
{
	os_mutex_lock(&p->mu);
	if (bytes && now_ns > p->flush_began_ns)
		p->flush_bps = learn(p->flush_bps, bytes, now_ns - p->flush_began_ns);
	p->flush_began_ns = 0;
	os_mutex_unlock(&p->mu);
}

void pace_drain_busy(struct pace *p, uint64_t now_ns)
{
	os_mutex_lock(&p->mu);
	if (!p->drain_from_ns)
		p->drain_from_ns = now_ns;
	os_mutex_unlock(&p->mu);
}

void pace_drain_idle(struct pace *p)
{
	os_mutex_lock(&p->mu);
	p->drain_from_ns = 0;
	os_mutex_unlock(&p->mu);
}

void pace_drained(struct pace *p, uint64_t now_ns, uint64_t bytes)
{
	os_mutex_lock(&p->mu);
	if (p->drain_from_ns && now_ns > p->drain_from_ns)
		p->drain_bps = learn(p->drain_bps, bytes, now_ns - p->drain_from_ns);
	p->drain_from_ns = now_ns;
	os_mutex_unlock(&p->mu);
}
