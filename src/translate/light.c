/* Light functions. See light.h. */
#include "translate/light.h"

#include "cpu/fpu_live.h"
#include "cpu/mmu.h"

u64 light_fill(struct cpu *cpu, u64 addr, u64 a)
{
    const u8 live = cpu->fpu_live;
    return mmu_fill(cpu, addr, (unsigned)a) && cpu->fpu_live == live;
}
