/* Light functions. See light.h. */
#include "translate/light.h"

#include "cpu/exec.h"
#include "cpu/fpu_live.h"
#include "translate/translate.h"

u64 light_fill(struct cpu *cpu, u64 addr, u64 a)
{
    const u8 live = cpu->fpu_live;
    return mmu_fill(cpu, addr, (unsigned)a) && cpu->fpu_live == live;
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
