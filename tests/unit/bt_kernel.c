/* build/tests/test_bt_kernel: what translated kernels have of their own: data at GS, ranges of what they have mapped, the time. */
#include "translate/bt.h"

#include "cpu/mmu.h"

#include "bt_env.h"

#define RUNS 20u /* enough for whatever is learnt on the way */

static int again(void)
{
    cpu->rip = CODE;
    cpu->halted = false;
    cpu->regs[R_SP] = 0x80000;
    return run();
}

Test(interp, data_at_gs)
{
    enum { BASE = 0x20000, OTHER = 0x30000 };
    long_mode();
    /* mov rax, gs:[10h]; mov gs:[1018h], rax; hlt */
    CODE_AT(CODE, 0x65, 0x48, 0x8b, 0x04, 0x25, 0x10, 0, 0, 0, 0x65, 0x48, 0x89, 0x04, 0x25, 0x18, 0x10, 0, 0, 0xf4);
    cpu->seg[SEG_GS].base = BASE;
    cpu_update_mode(cpu);
    for (unsigned n = 0; n < RUNS; n++) {
        write64(BASE + 0x10, n + 7);
        cr_assert_eq(again(), -1);
        cr_expect_eq(*(u64 *)(void *)(ram->host + BASE + 0x1018), n + 7);
    }
    cr_expect_eq(cpu->tlb->gs_pages[0], 3);
    cr_expect_eq(cpu->tlb->gs_pages[1], 2);
    /* the page that is read goes elsewhere, the other one becomes read-only */
    write64(OTHER + 0x10, 1234);
    map(BASE, OTHER | 7);
    tlb_flush_page(cpu, BASE);
    cr_assert_eq(again(), -1);
    cr_expect_eq(*(u64 *)(void *)(ram->host + BASE + 0x1018), 1234);
    map(BASE + 0x1000, (BASE + 0x1000) | 5);
    tlb_flush_page(cpu, BASE + 0x1000);
    cr_expect_eq(again(), EXC_PF);
    cr_expect_eq(cpu->cr2, BASE + 0x1018);
    /* GS elsewhere, and code in the page that is written */
    cpu->seg[SEG_GS].base = OTHER;
    cpu_update_mode(cpu);
    CODE_AT(OTHER + 0x1000, 0xb8, 1, 0, 0, 0, 0xf4); /* mov eax, 1; hlt */
    for (unsigned n = 0; n < RUNS; n++) {
        cpu->rip = OTHER + 0x1000;
        cpu->halted = false;
        cr_assert_eq(run(), -1);
        cr_expect_eq(cpu->regs[R_AX], 1);
        write64(OTHER + 0x10, n);
        cr_assert_eq(again(), -1);
        cr_expect_eq(*(u64 *)(void *)(ram->host + OTHER + 0x1018), n);
    }
}

static u64 maps(void)
{
    u64 limit = 0;
    for (unsigned n = 0; n < TLB_MAPS; n++) limit |= cpu->tlb->recent[TLB_MAP + n].limit;
    return limit;
}

Test(interp, ranges_that_stay)
{
    enum { PLAIN = 0x163, AT = 0x20000, ELSEWHERE = 0x30000 }; /* present, writable, accessed, dirty, global; no user's */
    long_mode();
    for (u64 n = 0; n < 512; n++) map(n << 12, n << 12 | PLAIN);
    cpu->cr4 |= CR4_SMAP | CR4_PGE;
    cpu_update_mode(cpu);
    tlb_flush_all(cpu);
    CODE_AT(CODE, 0x8b, 0x06, 0xf4); /* mov eax, [rsi]; hlt */
    write64(AT, 11);
    write64(ELSEWHERE, 22);
    for (unsigned round = 0; round < 2; round++) {
        cpu->engine_ops->invalidate(cpu, CODE, 3); /* has learnt that it does not find it there */
        /* They are looked for seldom: the later, the longer the host let it wait in between. */
        for (unsigned n = 0; n < 20000000 && (n < RUNS || !maps()); n++) {
            cpu->regs[R_SI] = AT;
            cr_assert_eq(again(), -1);
            cr_assert_eq(cpu->regs[R_AX], 11);
        }
        const u64 limit = maps();
        cr_expect_gt(limit, 0x100000);
        tlb_flush_page(cpu, 0x7f0000000000); /* has nothing to do with it */
        tlb_switch_space(cpu, 0, false);
        cr_expect_eq(maps(), limit);
        map(AT, ELSEWHERE | PLAIN);
        tlb_flush_page(cpu, AT);
        for (unsigned n = 0; n < RUNS; n++) {
            cr_assert_eq(again(), -1);
            cr_expect_eq(cpu->regs[R_AX], 22);
        }
        map(AT, round ? AT : AT | PLAIN | 4); /* not there; a user's, which SMAP forbids */
        tlb_flush_page(cpu, AT);
        for (unsigned n = 0; n < RUNS; n++) cr_assert_eq(again(), EXC_PF);
        map(AT, AT | PLAIN);
        tlb_flush_all(cpu);
    }
    /* none begins where a page was never accessed */
    map(AT, AT | (PLAIN & ~0x20u));
    tlb_flush_all(cpu);
    for (unsigned n = 0; n < RUNS; n++) {
        cpu->regs[R_SI] = AT + 0x1000;
        cr_assert_eq(again(), -1);
    }
    u64 entry;
    memcpy(&entry, ram->host + PAGES + 0x3000 + 8 * (AT >> 12), 8);
    cr_expect_eq(entry, AT | (PLAIN & ~0x20u));
}

Test(interp, the_time)
{
    static const u64 ahead = 1ull << 40;
    struct clock_scale scale = {.seq = 2, .tsc = __builtin_ia32_rdtsc(), .ns = 5000, .mult = 1ull << 31};
    struct cpu_hooks with = hooks;
    with.scale = &scale;
    cpu->hooks = &with;
    long_mode();
    cpu->tsc_zero = 1000;
    cpu->tsc_offset = ahead;
    cpu->tsc_aux = 77;
    CODE_AT(CODE, 0x0f, 0xae, 0xe8, 0x0f, 0x31, 0x89, 0xc6, 0x89, 0xd7, 0x0f, 0x01, 0xf9, 0xf4); /* lfence; rdtsc; mov esi, eax; mov edi, edx; rdtscp; hlt */
    u64 last = 0;
    for (unsigned n = 0; n < RUNS; n++) {
        const u64 from = (__builtin_ia32_rdtsc() - scale.tsc) / 2 + 4000 + ahead;
        cr_assert_eq(again(), -1);
        const u64 to = (__builtin_ia32_rdtsc() - scale.tsc) / 2 + 4001 + ahead;
        const u64 first = cpu->regs[R_SI] | cpu->regs[R_DI] << 32, second = cpu->regs[R_AX] | cpu->regs[R_DX] << 32;
        cr_expect(from <= first && first <= second && second <= to && last <= first);
        cr_expect_eq(cpu->regs[R_CX], 77);
        last = second;
    }
    /* not to be had that way: the hook's, which is 0 */
    scale.seq = 3;
    cr_assert_eq(again(), -1);
    cr_expect_eq(cpu->regs[R_AX] | cpu->regs[R_DX] << 32, ahead);
    scale.seq = 4;
    scale.tsc += 1ull << 50;
    cr_assert_eq(again(), -1);
    cr_expect_eq(cpu->regs[R_AX] | cpu->regs[R_DX] << 32, ahead);
}
