/* Random operand values: plain random bits hardly ever meet a boundary, so most values come from around one. */
#include "random.h"

#include <string.h>

#include "oracle.h"

u64 random_integer(struct rng *r)
{
    u64 v = rng_next(r);
    switch (rng_below(r, 12)) {
    case 0: return v % 16;
    case 1: return 0 - v % 16;
    case 2: return 1ull << v % 64;
    case 3: return (1ull << v % 64) - 1;
    case 4: return 0 - (1ull << v % 64);
    case 5: return v & 0xff;
    case 6: return v & 0xffff;
    case 7: return v & 0xffffffff;
    case 8: return (v & 0xff) * 0x0101010101010101ull;
    case 9: {
        static const u64 edges[] = {0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
                                    0x7fffffffffffffff, 0x8000000000000000, 0x8000000080008080, 0x99, 0x9a, 0x0f, 0x64};
        return edges[v % ARRAY_LEN(edges)];
    }
    default: return v;
    }
}

u64 random_double(struct rng *r)
{
    static const u64 special[] = {
        0, 1, 0x000fffffffffffff, 0x0010000000000000, 0x3ff0000000000000, 0x3fe0000000000000, 0x4000000000000000,
        0x7fefffffffffffff, 0x7ff0000000000000, 0x7ff0000000000001, 0x7ff8000000000000, 0x7ff8123456789abc,
        0x41dfffffffc00000, 0x41e0000000000000, 0x43e0000000000000, 0x43f0000000000000, 0x4330000000000000,
        0x36a0000000000000, 0x380fffffffffffff, 0x47efffffe0000000, 0x47effffff0000000, 0x3ff8000000000000,
        0x4004000000000000, 0x3fefffffffffffff, 0x4090000000000000,
    };
    u64 v = rng_next(r);
    switch (rng_below(r, 6)) {
    case 0: return special[v % ARRAY_LEN(special)] | (v & 1ull << 63);
    case 1: return v;                                                                          /* any exponent */
    case 2: return (v & 0x800fffffffffffffull) | (0x3f0ull + rng_below(r, 0x20)) << 52;        /* around 1 */
    case 3: return (v & 0x8000000000000000ull) | (0x3ffull + rng_below(r, 66)) << 52 | (v & 0xff) << 44; /* whole */
    case 4: return (v & 0x800fffffffffffffull) | (u64)rng_below(r, 3) << 52;                   /* tiny */
    default: return (v & 0x800fffffffffffffull) | (0x7fcull + rng_below(r, 3)) << 52;          /* huge */
    }
}

u32 random_single(struct rng *r)
{
    static const u32 special[] = {
        0, 1, 0x007fffff, 0x00800000, 0x3f800000, 0x3f000000, 0x40000000, 0x7f7fffff, 0x7f800000, 0x7f800001, 0x7fc00000,
        0x7fc12345, 0x4effffff, 0x4f000000, 0x5f000000, 0x4b000000, 0x3fc00000, 0x40200000, 0x3f7fffff,
    };
    u64 v = rng_next(r);
    switch (rng_below(r, 6)) {
    case 0: return special[(v >> 32) % ARRAY_LEN(special)] | ((u32)v & 1u << 31);
    case 1: return (u32)v;
    case 2: return ((u32)v & 0x807fffff) | (0x70 + rng_below(r, 0x20)) << 23;
    case 3: return ((u32)v & 0x80000000) | (0x7f + rng_below(r, 66)) << 23 | (u32)(v >> 48 & 0xff) << 15;
    case 4: return ((u32)v & 0x807fffff) | rng_below(r, 3) << 23;
    default: return ((u32)v & 0x807fffff) | (0xfc + rng_below(r, 3)) << 23;
    }
}

void random_extended(struct rng *r, u8 out[10])
{
    static const struct {
        u16 se;
        u64 m;
    } special[] = {
        {0, 0}, {0x3fff, 1ull << 63}, {0x7fff, 1ull << 63}, {0x7fff, 3ull << 62}, {0x7fff, 1ull << 63 | 5}, {0, 1},
        {0, 1ull << 63} /* pseudo-denormal */, {0x7fff, 0} /* pseudo-infinity */, {0x3fff, 5} /* unnormal */,
        {0x7ffe, ~0ull}, {1, 1ull << 63}, {0x4000, 0xc90fdaa22168c235ull} /* pi */, {0x403e, 1ull << 63},
        {0x403d, ~0ull}, {0x3ffe, 1ull << 63}, {0x403f, 1ull << 63},
    };
    u64 m = rng_next(r), v = rng_next(r);
    u16 se = (u16)v;
    switch (rng_below(r, 6)) {
    case 0: {
        unsigned n = rng_below(r, ARRAY_LEN(special));
        m = special[n].m;
        se = special[n].se | (se & 0x8000);
        break;
    }
    case 1: break;
    case 2:
        m |= 1ull << 63;
        se = (u16)((se & 0x8000) | (0x3ff0 + rng_below(r, 0x20)));
        break;
    case 3:
        m = (m & 0xffffull << 48) | 1ull << 63;
        se = (u16)((se & 0x8000) | (0x3fff + rng_below(r, 70)));
        break;
    case 4:
        m |= 1ull << 63;
        se = (u16)((se & 0x8000) | (rng_percent(r, 50) ? rng_below(r, 4) : 0x7ffc + rng_below(r, 3)));
        break;
    default: m |= 1ull << 63; break;
    }
    memcpy(out, &m, 8);
    memcpy(out + 8, &se, 2);
}

u64 random_data(struct rng *r)
{
    switch (rng_below(r, 8)) {
    case 0: return random_double(r);
    case 1: return random_single(r) | (u64)random_single(r) << 32;
    case 2: return random_single(r) | (u64)random_single(r) << 32;
    case 3: return random_integer(r);
    case 4: return WINDOW + DATA_OFF + rng_below(r, DATA_SIZE);
    case 5: return random_double(r);
    case 6: return random_integer(r) << 32 | (u32)random_integer(r);
    default: return rng_next(r);
    }
}
