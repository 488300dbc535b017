/* The state that a case begins in: registers around boundaries, floating-point and vector state, segments, stack and flags. */
#include <string.h>

#include "build.h"

static void random_fpu(struct build *b, struct machine_state *s)
{
    struct rng *r = &b->rng;
    u16 cw = 0x37f, sw = 0;
    u8 tags = 0xff;
    u32 mxcsr = 0x1f80;
    if (rng_percent(r, 60)) cw = (u16)((cw & ~0xf00) | (rng_next(r) & 0xf00));
    if (rng_percent(r, 20)) cw = (u16)((cw & ~0x3f) | (rng_next(r) & 0x3f));
    sw = (u16)(rng_next(r) & 0x7800); /* TOP and C3 */
    if (rng_percent(r, 50)) sw |= (u16)(rng_next(r) & 0x4700);
    if (rng_percent(r, 30)) sw |= (u16)(rng_next(r) & 0x7f & (rng_percent(r, 85) ? cw | 0x40 : 0x7f));
    if (sw & ~cw & 0x3f) sw |= 0x8080;
    if (rng_percent(r, 30)) tags = (u8)rng_next(r);
    else if (rng_percent(r, 20)) tags = 0;
    if (rng_percent(r, 50)) mxcsr = (mxcsr & ~0x6000u) | ((u32)rng_next(r) & 0x6000);
    if (rng_percent(r, 15)) mxcsr |= (u32)rng_next(r) & 0x8040;
    if (rng_percent(r, 15)) mxcsr &= ~((u32)rng_next(r) & 0x1f80);
    if (rng_percent(r, 30)) mxcsr |= (u32)rng_next(r) & 0x3f;
    memset(s->legacy, 0, sizeof s->legacy);
    memcpy(s->legacy + 0, &cw, 2);
    memcpy(s->legacy + 2, &sw, 2);
    s->legacy[4] = tags;
    if (rng_percent(r, 50)) {
        u64 ip = rng_next(r), dp = rng_next(r);
        u16 op = (u16)(rng_next(r) & 0x7ff);
        if (b->mode == CODE_64) {
            ip = (u64)((s64)ip >> 17);
            dp = (u64)((s64)dp >> 17);
        } else {
            ip = (u32)ip, dp = (u32)dp;
        }
        memcpy(s->legacy + 6, &op, 2);
        memcpy(s->legacy + 8, &ip, 8);
        memcpy(s->legacy + 16, &dp, 8);
    }
    memcpy(s->legacy + 24, &mxcsr, 4);
    memset(s->legacy + 28, 0xff, 2);
    bool mmx = rng_percent(r, 25);
    for (unsigned n = 0; n < 8; n++) {
        u8 *st = s->legacy + 32 + 16 * n;
        random_extended(r, st);
        if (mmx) {
            u64 v = random_data(r);
            memcpy(st, &v, 8);
            memset(st + 8, 0xff, 2);
        }
    }
    const u64 *pool = b->g->pools[rng_below(r, 4)];
    const unsigned bytes = b->mode == CODE_64 ? 256 : 128;
    memcpy(s->legacy + 160, pool + rng_below(r, POOL - 32), bytes);
    memcpy(s->ymm_high, pool + rng_below(r, POOL - 32), bytes);
}

static u16 pick_data_segment(struct rng *r, enum code_size mode)
{
    unsigned p = rng_below(r, 100);
    if (mode == CODE_16) return p < 75 ? SEL_LDT(LDT_DATA16) : p < 85 ? SEL_LDT(LDT_SHORT) : p < 90 ? SEL_LDT(LDT_RO)
                              : p < 95 ? SEL_LDT(LDT_DOWN) : p < 98 ? SEL_DATA_FLAT : 0;
    return p < 60 ? SEL_DATA_FLAT : p < 80 ? SEL_LDT(LDT_DATA32) : p < 85 ? SEL_LDT(LDT_SHORT) : p < 90 ? SEL_LDT(LDT_RO)
         : p < 95 ? SEL_LDT(LDT_DOWN) : p < 97 ? SEL_LDT(LDT_CODE32) : p < 98 ? 0 : SEL_LDT(LDT_DATA16);
}

static void random_segments(struct build *b, struct machine_state *s)
{
    struct rng *r = &b->rng;
    switch (b->mode) {
    case CODE_64:
        s->cs = SEL_CODE64;
        s->ss = SEL_DATA_FLAT;
        s->ds = rng_percent(r, 50) ? 0 : SEL_DATA_FLAT;
        s->es = rng_percent(r, 50) ? 0 : SEL_DATA_FLAT;
        s->fs_base = rng_percent(r, 20) ? 0 : WINDOW + DATA_OFF - rng_below(r, 0x10000);
        s->gs_base = rng_percent(r, 20) ? rng_next(r) >> 17 : WINDOW + DATA_OFF + rng_below(r, DATA_SIZE);
        return;
    case CODE_32:
        s->cs = SEL_CODE32_FLAT;
        s->ss = s->ds = s->es = s->fs = s->gs = SEL_DATA_FLAT;
        if (rng_percent(r, 50)) break;
        s->cs = rng_percent(r, 50) ? SEL_CODE32_FLAT : SEL_LDT(LDT_CODE32);
        s->ss = rng_percent(r, 40) ? SEL_DATA_FLAT : rng_percent(r, 80) ? SEL_LDT(LDT_DATA32) : SEL_LDT(LDT_DATA16);
        break;
    case CODE_16:
        s->cs = SEL_LDT(LDT_CODE16);
        s->ss = s->ds = s->es = s->fs = s->gs = SEL_LDT(LDT_DATA16);
        if (rng_percent(r, 40)) break;
        s->ss = rng_percent(r, 70) ? SEL_LDT(LDT_DATA16) : SEL_LDT(LDT_DATA32);
        break;
    }
    if (s->cs != SEL_CODE32_FLAT || s->ss != SEL_DATA_FLAT || rng_percent(r, 20)) {
        s->ds = pick_data_segment(r, b->mode);
        s->es = pick_data_segment(r, b->mode);
        s->fs = pick_data_segment(r, b->mode);
        s->gs = pick_data_segment(r, b->mode);
    }
    s->fs_base = selector_base(s->fs);
    s->gs_base = selector_base(s->gs);
}

void start_state(struct build *b)
{
    struct machine_state *s = &b->c->in;
    struct rng *r = &b->rng;
    u64 mask = b->mode == CODE_64 ? ~0ull : 0xffffffff;
    for (unsigned n = 0; n < (b->mode == CODE_64 ? 16u : 8u); n++) s->regs[n] = random_integer(r) & mask;
    random_segments(b, s);
    random_fpu(b, s);

    unsigned sp = STACK_OFF + 0x200 + rng_below(r, STACK_SIZE - 0x400);
    if (rng_percent(r, 85)) sp &= b->mode == CODE_64 ? ~7u : ~3u;
    if (rng_permille(r, 20)) sp = STACK_OFF + rng_below(r, 16);
    if (rng_permille(r, 20)) sp = STACK_OFF + STACK_SIZE - rng_below(r, 16);
    s->regs[R_SP] = WINDOW + sp - selector_base(s->ss);
    if (b->mode != CODE_64 && s->ss == SEL_LDT(LDT_DATA16)) s->regs[R_SP] |= rng_next(r) & 0xffff0000;
    if (rng_permille(r, 10)) s->regs[R_SP] = random_integer(r) & mask;
    b->state[R_SP] = REG_UNKNOWN;

    s->rflags = (rng_next(r) & FLAGS_ARITH) | 0x202;
    if (rng_percent(r, 20)) s->rflags |= 1u << 10; /* DF */
    if (rng_percent(r, 10)) s->rflags |= 1u << 18; /* AC */
    if (rng_percent(r, 10)) s->rflags |= 1u << 21; /* ID */
    if (rng_percent(r, 2)) s->rflags |= 1u << 8;   /* TF */
}
