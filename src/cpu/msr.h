/* Model-specific registers. */
#ifndef CPU_MSR_H
#define CPU_MSR_H

#include "cpu/cpu.h"

/* RDMSR and WRMSR after their privilege check. False: #GP(0) is recorded. */
bool msr_read(struct cpu *cpu, u32 index, u64 *value);
bool msr_write(struct cpu *cpu, u32 index, u64 value);

/* What RDTSC gives now. */
static inline u64 msr_tsc(const struct cpu *cpu)
{
    return cpu->hooks->tsc(cpu->hooks->opaque) + cpu->tsc_offset;
}

#endif
