/* Keeping track of when code that is known by its linear address may have moved: struct cpu's code_gen, and what depends on it. */
#include "cpu/mmu.h"

struct return_entry *cpu_returns_base(struct cpu *cpu, unsigned context) { return &cpu->returns[context][RETURN_ROOM + RETURN_ENTRIES]; }

void cpu_limit_returns(struct cpu *cpu)
{
    for (unsigned n = 0; n < TLB_CONTEXTS; n++)
        __atomic_store_n(&cpu->return_limit[n], (u64)(uintptr_t)&cpu->returns[n][RETURN_ROOM], __ATOMIC_SEQ_CST);
}

void cpu_init_returns(struct cpu *cpu, void *other)
{
    for (unsigned n = 0; n < TLB_CONTEXTS; n++) {
        struct return_entry *base = cpu_returns_base(cpu, n);
        for (unsigned k = 0; k < RETURN_NONE; k++) base[k] = (struct return_entry){.host = other};
        cpu->returns_saved[n] = base;
    }
    cpu->return_sp = cpu->returns_saved[cpu->returns_context];
    cpu->return_other = other;
    cpu_limit_returns(cpu);
}

void cpu_empty_returns(struct cpu *cpu, unsigned context)
{
    if (!cpu->return_other) return;
    struct return_entry *base = cpu_returns_base(cpu, context);
    cpu->returns_saved[context] = base;
    if (context != cpu->returns_context) return;
    base[-1].rip = cpu->return_sp[-1].rip; /* where the translated code goes on that has called us */
    cpu->return_sp = base;
}

void cpu_forget_returns(struct cpu *cpu)
{
    for (unsigned n = 0; n < TLB_CONTEXTS; n++) cpu_empty_returns(cpu, n);
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
    } else {
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
    if (context != cpu->returns_context) {
        cpu->returns_saved[cpu->returns_context] = cpu->return_sp;
        cpu->return_sp = cpu->returns_saved[context];
        cpu->returns_context = (u8)context;
    }
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
