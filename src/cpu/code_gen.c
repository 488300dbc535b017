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
    return (cpu->mode_key & MODE_RING0 ? cpu->code_gen_kernel : cpu->code_gen) | cpu->code_tag << 14 | (u64)cpu->mode_key << 56;
}

/* The number of the current code segment among those that segmented code has run in: the same base and limit, the same number. */
static u64 segment_number(struct cpu *cpu)
{
    enum { PROBES = 16 };
    if ((cpu->mode_key & MODE_FLAT) || cpu_code64(cpu)) return 0;
    /* No limit is 80000000h, so that this is never 0. */
    const u64 segment = ((u64)(u32)cpu->code_limit << 32 | (u32)cpu->seg[SEG_CS].base) ^ 1ull << 63;
    const unsigned first = (unsigned)(segment * 0x9e3779b97f4a7c15ull >> 32);
    for (unsigned k = 0; k < PROBES; k++) {
        const unsigned n = (first + k) % CODE_SEGMENTS;
        if (!n) continue;
        if (!cpu->code_segments[n]) cpu->code_segments[n] = segment;
        if (cpu->code_segments[n] == segment) return n;
    }
    for (unsigned n = 0; n < CODE_SEGMENTS; n++) cpu->code_segments[n] = 0;
    cpu_code_flush(cpu);
    return segment_number(cpu);
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

void cpu_code_segment(struct cpu *cpu)
{
    cpu->code_tag = segment_number(cpu) << 32;
    cpu->code_key = key(cpu);
}

void cpu_code_mode(struct cpu *cpu, unsigned context)
{
    cpu_code_segment(cpu);
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
