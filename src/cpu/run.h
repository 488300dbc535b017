/* The pieces of a run loop that the engines share. */
#ifndef CPU_RUN_H
#define CPU_RUN_H

#include "cpu/block.h"

enum outcome { GO_ON, LEAVE_KICK, LEAVE_HALT, LEAVE_TRIPLE };

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

#endif
