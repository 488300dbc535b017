/* The interpreter's test bench (interp.c, with its tests) on the translator, every block translated when it is first run, and as one
 * that runs in a close loop: what the translator finds out by the host's time would be other each time on a busy host. */
#ifndef TESTS_BT_ENV_H
#define TESTS_BT_ENV_H

#include "cpu/cpu.h"
#include "translate/bt.h"
#include "translate/translate.h"

static struct cpu *at_once(struct cpu *c)
{
    bt_set_threshold(c, 1);
    bt_set_loops(c, true, true);
    return c;
}
#define interp_engine   bt_engine
#define cpu_create(...) at_once(cpu_create(__VA_ARGS__))
#include "interp.c"

/* In long_mode(): the page table entry of a linear page. */
static inline void map(u64 linear, u64 entry) { write64(PAGES + 0x3000 + 8 * (linear >> 12), entry); }

static inline u64 read64(gpa at)
{
    u64 v;
    memcpy(&v, ram->host + at, 8);
    return v;
}

#define LINEAR 0x40000u /* two linear pages that may be mapped apart: */
#define FIRST  0x50000u
#define SECOND 0x58000u

static inline void fill_pages(void)
{
    for (unsigned n = 0; n < 512; n++) {
        write64(FIRST + 8 * n, 0x1111111111111111 * (n & 15));
        write64(SECOND + 8 * n, 0x0123456789abcdef * n);
    }
}

/* A number that depends on all there is in them. */
static inline u64 sum_pages(void)
{
    u64 sum = 0;
    for (unsigned n = 0; n < 512; n++) sum = sum * 3 + read64(FIRST + 8 * n) + 5 * read64(SECOND + 8 * n);
    return sum;
}

#endif
