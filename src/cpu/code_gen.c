/* Keeping track of when code that is known by its linear address may have moved: struct cpu's code_gen, and what depends on it. */
#include "cpu/cpu.h"

void cpu_empty_returns(struct cpu *cpu, unsigned context)
{
    for (unsigned n = 0; n < RETURN_ENTRIES; n++) cpu->returns[context][n] = (struct return_entry){0, cpu->return_other};
}

void cpu_forget_returns(struct cpu *cpu)
{
    if (!cpu->returns_used) return;
    for (unsigned n = 0; n < TLB_CONTEXTS; n++) cpu_empty_returns(cpu, n);
    cpu->returns_used = false;
}

void cpu_code_switch(struct cpu *cpu, u64 gen)
{
    cpu->code_gen = gen && gen >= cpu->code_gen_floor ? gen : ++cpu->code_gen_last;
    cpu->code_key = cpu->code_gen | (u64)cpu->mode_key << 56;
    cpu_forget_returns(cpu);
}

void cpu_code_flush(struct cpu *cpu)
{
    for (unsigned n = 0; n < ARRAY_LEN(cpu->code_seen); n++) cpu->code_seen[n] = 0;
    cpu->code_gen_floor = cpu->code_gen_last + 1;
    cpu_code_switch(cpu, 0);
}
