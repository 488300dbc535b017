/* Keeping track of when code that is known by its linear address may have moved: struct cpu's code_gen, and what depends on it. */
#include "cpu/mmu.h"

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

static u64 key(const struct cpu *cpu)
{
    return (cpu->mode_key & MODE_RING0 ? cpu->code_gen_kernel : cpu->code_gen) | (u64)cpu->mode_key << 56;
}

void cpu_code_switch(struct cpu *cpu, u64 gen)
{
    cpu->code_gen = gen && gen >= cpu->code_gen_floor ? gen : ++cpu->code_gen_last;
    if (cpu->code_local) {
        cpu->code_gen_kernel = ++cpu->code_gen_last;
        cpu_forget_returns(cpu);
    } else if (cpu->returns_used) {
        cpu_empty_returns(cpu, TLB_USER);
    }
    cpu->code_key = key(cpu);
}

void cpu_code_mode(struct cpu *cpu, unsigned context)
{
    cpu->code_key = key(cpu);
    if (cpu->returns_mode[context] == cpu->mode_key) return;
    if ((cpu->returns_mode[context] & 3) == CODE_64 && !cpu_code64(cpu)) tlb_forget_context(cpu, context);
    cpu_empty_returns(cpu, context);
    cpu->returns_mode[context] = cpu->mode_key;
}

void cpu_code_flush(struct cpu *cpu)
{
    for (unsigned n = 0; n < ARRAY_LEN(cpu->code_seen); n++) cpu->code_seen[n] = 0;
    cpu->code_gen_floor = cpu->code_gen_last + 1;
    const bool local = cpu->code_local;
    cpu->code_local = true; /* everybody's */
    cpu_code_switch(cpu, 0);
    cpu->code_local = local;
}
