/* The pieces of a run loop that the engines share. */
#ifndef CPU_RUN_H
#define CPU_RUN_H

#include "cpu/block.h"

enum outcome { GO_ON = -1, LEAVE_KICK = EXIT_KICK, LEAVE_HALT = EXIT_HALT, LEAVE_TRIPLE = EXIT_TRIPLE };

/* Deliver the recorded exception; cpu->rip is the faulting instruction's. False: triple fault. */
bool run_exception(struct cpu *cpu);
/* Everything asynchronous. */
enum outcome run_events(struct cpu *cpu, struct block_cache *in);
/* Exactly one instruction, with everything that single steps, breakpoints, interrupt shadows and segment limits ask for. */
enum outcome run_step(struct cpu *cpu, struct block_cache *in);
/* Interpret one block. False: triple fault. */
bool run_block(struct cpu *cpu, struct block *b);

/* Before code runs: the events that it must be left for. RF ends with its first instruction; without code breakpoints nothing in
 * there can tell, and a repeated string instruction need not go one element at a time. */
static inline u32 run_event_mask(struct cpu *cpu)
{
    if (!cpu->step) cpu->eflags &= ~EFLAGS_RF;
    return EVENT_KICK | EVENT_RESET | EVENT_INIT | EVENT_SMI | EVENT_TLB_FLUSH | EVENT_INVALIDATE | EVENT_STEP |
           (cpu->nmi_blocked ? 0 : EVENT_NMI) | (cpu->eflags & EFLAGS_IF ? EVENT_INTR : 0);
}

/* What comes before each block: events, single steps, and finding it. GO_ON with *next: run it; without: there is nothing to
 * run yet, come again. */
static inline __attribute__((always_inline)) enum outcome run_next(struct cpu *cpu, struct block_cache *in, struct block **next)
{
    *next = NULL;
    if (__builtin_expect(in->grave_bytes > GRAVEYARD_LIMIT, 0)) block_bury(cpu, in);
    if (__atomic_load_n(&cpu->events, __ATOMIC_RELAXED) || cpu->halted || cpu->wait_sipi || cpu->shutdown) {
        enum outcome o = run_events(cpu, in);
        if (o != GO_ON || cpu->halted || cpu->wait_sipi || cpu->shutdown) return o;
    }
    cpu->event_mask = run_event_mask(cpu);
    if (__builtin_expect(cpu->step, 0)) return run_step(cpu, in);
    struct block *b = find_block(cpu, in);
    if (__builtin_expect(!b, 0)) return run_exception(cpu) ? GO_ON : LEAVE_TRIPLE;
    if (__builtin_expect(cpu->rip + b->bytes - 1 > cpu->code_limit && cpu->code_limit != ~0ull, 0)) return run_step(cpu, in);
    *next = b;
    return GO_ON;
}

#endif
