/* The oracle's random numbers: splitmix64, a pure function of the seed. */
#ifndef ORACLE_RANDOM_H
#define ORACLE_RANDOM_H

#include "core/types.h"

struct rng {
    u64 state;
};

static inline u64 rng_next(struct rng *r)
{
    u64 z = r->state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}
/* 0..n-1 */
static inline unsigned rng_below(struct rng *r, unsigned n) { return (unsigned)((rng_next(r) >> 32) * n >> 32); }
/* True in percent of 100. */
static inline bool rng_percent(struct rng *r, unsigned percent) { return rng_below(r, 100) < percent; }
static inline bool rng_permille(struct rng *r, unsigned permille) { return rng_below(r, 1000) < permille; }
static inline struct rng rng_seeded(u64 seed, u64 stream)
{
    struct rng r = {seed * 0xd1342543de82ef95ull + 1};
    rng_next(&r);
    r.state ^= stream * 0x9e6c63d0876a9a47ull;
    rng_next(&r);
    return r;
}

/* Operand values with a taste for boundaries, and the same for floating point (values.c). */
u64 random_integer(struct rng *r);
u64 random_double(struct rng *r);
u32 random_single(struct rng *r);
void random_extended(struct rng *r, u8 out[10]);
/* 8 bytes of any of these. */
u64 random_data(struct rng *r);

#endif
