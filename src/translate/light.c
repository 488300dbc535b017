/* Light functions. See light.h. */
#include "translate/light.h"

#include "cpu/exec.h"
#include "cpu/fpu_live.h"
#include "translate/translate.h"

/* A store to a page that holds code, but not where it stores: its addend, or 0. */
static u64 beside_code(struct cpu *cpu, u64 lin, u64 size)
{
    const struct bt *bt = cpu->engine;
    const unsigned from = (unsigned)(lin & GUEST_PAGE_MASK);
    u8 *host;
    /* Other vCPUs may have code there. */
    if (!size || cpu->smp || from + size > GUEST_PAGE_SIZE || !(host = mmu_writable(cpu, lin))) return 0;
    const u64 page = (u64)(host - cpu->ram->host) >> GUEST_PAGE_SHIFT;
    const struct code_page *p = bt->cache.pages[page];
    if (!p) return 0;
    u64 any = 0;
    for (unsigned n = 0; n < GRANULE_WORDS; n++) any |= p->map[n];
    if (!any) return 0; /* the slow path will take it for a page of data in the end */
    for (unsigned g = from >> GRANULE_SHIFT; g <= (from + size - 1) >> GRANULE_SHIFT; g++)
        if (p->map[g >> 6] >> (g & 63) & 1) return 0;
    u8 *flags = &cpu->ram->page_flags[page];
    if (!(*flags & RAM_PAGE_DIRTY)) __atomic_fetch_or(flags, RAM_PAGE_DIRTY, __ATOMIC_RELAXED);
    return (u64)(uintptr_t)host - lin;
}

u64 light_fill(struct cpu *cpu, u64 addr, u64 a)
{
    const u8 live = cpu->fpu_live;
    if (mmu_fill(cpu, addr, (unsigned)(a & 0xff))) return cpu->fpu_live == live;
    return cpu->fpu_live == live ? beside_code(cpu, addr, a >> 8) : 0;
}

u64 light_fpu_load(struct cpu *cpu, u64 addr, u64 a)
{
    (void)a;
    return fpu_load(cpu, (unsigned)addr);
}

u64 bt_slow(struct cpu *cpu, const struct insn *i)
{
    struct bt *bt = cpu->engine;
    exec_fn *fn = i->fn;
    const u64 key = cpu->code_key;
    bt->slow_calls[i->mnemonic]++;
    fpu_save(cpu);
    if (!fn(cpu, i)) {
        if (cpu->exc.vector >= 0) cpu->rip = insn_rip(cpu, i);
        return 1;
    }
    if (i->fn != fn || cpu->code_key != key || cpu->step ||
        (__atomic_load_n(&cpu->events, __ATOMIC_RELAXED) & cpu->event_mask)) {
        cpu->rip = next_rip(cpu, i);
        return 1;
    }
    return 0;
}
