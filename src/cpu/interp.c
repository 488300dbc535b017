/* The reference interpreter: runs one handler per instruction of a decoded block (block.h). */
#include "cpu/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"
#include "cpu/exec_local.h"

bool run_exception(struct cpu *cpu)
{
    if (deliver_exception(cpu)) return true;
    cpu->shutdown = true;
    return false;
}

/* Enter the handler of an interrupt; if that faults, deliver the fault instead. */
static bool take_interrupt(struct cpu *cpu, unsigned vector, enum interrupt_kind kind)
{
    cpu->halted = false;
    if (interrupt(cpu, vector, kind, false, 0, cpu->rip)) return true;
    cpu->in_exception_delivery = false;
    return run_exception(cpu);
}

/* Everything asynchronous, in the order of SDM vol 3A table 6-2. */
enum outcome run_events(struct cpu *cpu, struct block_cache *in)
{
    u32 ev = __atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST);
    /* [SDM3] 17.3.1.1: what interrupts a string instruction between two elements is pushed with RF set. */
    u32 rf = cpu->unfinished ? EFLAGS_RF : 0;
    cpu->unfinished = false;
    if (ev & EVENT_INVALIDATE) {
        cpu_event_clear(cpu, EVENT_INVALIDATE);
        block_take_queue(cpu, in);
    }
    if (ev & EVENT_TLB_FLUSH) {
        cpu_event_clear(cpu, EVENT_TLB_FLUSH);
        mmu_forget_map(cpu);
        tlb_flush_all(cpu);
    }
    if (ev & (EVENT_KICK | EVENT_RESET)) {
        cpu_event_clear(cpu, EVENT_KICK);
        return LEAVE_KICK;
    }
    if (ev & EVENT_INIT) {
        cpu_event_clear(cpu, EVENT_INIT);
        cpu_reset(cpu, true);
        return GO_ON;
    }
    if (cpu->wait_sipi) {
        if (!(ev & EVENT_SIPI)) return LEAVE_HALT;
        cpu_event_clear(cpu, EVENT_SIPI);
        cpu->wait_sipi = false;
        cpu->seg[SEG_CS].selector = (u16)(cpu->sipi_vector << 8);
        cpu->seg[SEG_CS].base = (u64)cpu->sipi_vector << 12;
        cpu->rip = 0;
        cpu_update_mode(cpu);
        return GO_ON;
    }
    if (cpu->shutdown) return LEAVE_TRIPLE;
    cpu_event_clear(cpu, ev & (EVENT_STEP | EVENT_SIPI)); /* a start-up message means nothing to a running processor */
    if (ev & EVENT_SMI) cpu_event_clear(cpu, EVENT_SMI); /* no SMM: docs/LIMITS.md */
    if (cpu->pending_debug && cpu->shadow != 2) {
        cpu->eflags |= rf;
        rf = 0;
        raise_err(cpu, EXC_DB, (u32)(cpu->pending_debug & DEBUG_STEP) << 8);
        if (!run_exception(cpu)) return LEAVE_TRIPLE; /* an NMI comes before the first instruction of the trap's handler */
    }
    if (!cpu->shadow) {
        if ((ev & EVENT_NMI) && !cpu->nmi_blocked) {
            /* The second one may have come after `ev` was read. */
            u32 before = __atomic_fetch_and(&cpu->events, ~(EVENT_NMI | EVENT_NMI2), __ATOMIC_SEQ_CST);
            if (before & EVENT_NMI2) cpu_event_set(cpu, EVENT_NMI);
            cpu->nmi_blocked = true;
            cpu->eflags |= rf;
            return take_interrupt(cpu, EXC_NMI, INT_NMI) ? GO_ON : LEAVE_TRIPLE;
        }
        if ((ev & EVENT_INTR) && (cpu->eflags & EFLAGS_IF)) {
            cpu->hooks->lock(cpu->hooks->opaque);
            int vector = cpu->hooks->ack_interrupt(cpu->hooks->opaque);
            cpu->hooks->unlock(cpu->hooks->opaque);
            if (vector >= 0) {
                cpu->eflags |= rf;
                return take_interrupt(cpu, (unsigned)vector, INT_EXTERNAL) ? GO_ON : LEAVE_TRIPLE;
            }
        }
    }
    if (cpu->halted) return LEAVE_HALT;
    return GO_ON;
}

/* Instruction breakpoints that match the linear address, as DR6 bits. */
static u8 code_breakpoints(const struct cpu *cpu, gla lin)
{
    u8 hit = 0;
    for (unsigned n = 0; n < 4; n++)
        if ((cpu->dr[7] >> 2 * n & 3) && !(cpu->dr[7] >> (16 + 4 * n) & 3) && cpu->dr[n] == lin) hit |= (u8)(1u << n);
    return hit;
}

/* Exactly one instruction, with everything that single steps, breakpoints, interrupt shadows and segment limits ask for. */
enum outcome run_step(struct cpu *cpu, struct block_cache *in)
{
    const u8 shadow = cpu->shadow;
    const bool tf = cpu->eflags & EFLAGS_TF, rf = cpu->eflags & EFLAGS_RF;
    gla lin = cpu_code64(cpu) ? cpu->rip : (u32)(cpu->seg[SEG_CS].base + cpu->rip);
    u8 hit = rf || shadow == 2 ? 0 : code_breakpoints(cpu, lin);
    if (hit) {
        cpu->pending_debug |= hit;
        raise_exc(cpu, EXC_DB);
        return run_exception(cpu) ? GO_ON : LEAVE_TRIPLE;
    }

    struct block *b = find_block(cpu, in);
    unsigned mnemonic = I_invalid;
    bool unfinished = false;
    cpu->unfinished = false;
    if (b) {
        const struct insn *i = &b->insns[0];
        mnemonic = i->mnemonic;
        if (cpu->rip + i->len - 1 > cpu->code_limit && !cpu_code64(cpu)) {
            raise_gp0(cpu);
        } else {
            u64 start = cpu->rip;
            cpu->block_rip = cpu->regs[REG_RIP] = start;
            if (i->fn(cpu, i))
                cpu->rip = next_rip(cpu, i);
            else if (cpu->exc.vector >= 0)
                cpu->rip = start;
            else
                unfinished = cpu->rip == start && (i->prefixes & (PFX_REP | PFX_REPNE));
            cpu->insn_count++;
        }
    }
    if (cpu->exc.vector >= 0) {
        cpu->pending_debug = 0;
        if (shadow) {
            cpu->shadow = 0;
            cpu_update_mode(cpu);
        }
        return run_exception(cpu) ? GO_ON : LEAVE_TRIPLE;
    }
    if (shadow && cpu->shadow == shadow) cpu->shadow = 0;
    /* Between two elements of a repeated instruction RF stays: its breakpoint must not hit again. */
    if (rf && mnemonic != I_iret && !unfinished) cpu->eflags &= ~EFLAGS_RF;
    /* Software interrupts and SYSCALL that clear TF take no trap; POPF and IRET that clear it do. */
    /* After MOV SS and POP SS there is none: the next instruction's takes its place. */
    if (tf && cpu->shadow != 2 && ((cpu->eflags & EFLAGS_TF) || mnemonic == I_popf || mnemonic == I_iret))
        cpu->pending_debug |= DEBUG_STEP;
    cpu_update_mode(cpu);
    if (cpu->pending_debug) cpu_event_set(cpu, EVENT_STEP);
    return GO_ON;
}

/* Interpret one block. False: triple fault. */
static inline __attribute__((always_inline)) bool block_body(struct cpu *cpu, struct block *b)
{
    const u32 mask = cpu->event_mask;
    if (log_enabled(LOG_EXEC | LOG_CPU)) {
        if (log_enabled(LOG_EXEC)) log_write("exec: %llx\n", (unsigned long long)cpu->rip);
        if (log_enabled(LOG_CPU)) cpu_dump(cpu, log_stream());
    }
    cpu->block_rip = cpu->regs[REG_RIP] = cpu->rip;
    cpu->insn_count += b->count;
    const struct insn *i = b->insns;
    for (;;) {
        if (!i->fn(cpu, i)) {
            if (__builtin_expect(cpu->exc.vector >= 0, 0)) {
                cpu->insn_count -= (u64)(b->insns + b->count - i);
                cpu->rip = insn_rip(cpu, i);
                if (!run_exception(cpu)) return false;
            }
            break;
        }
        i++;
        if (__builtin_expect(__atomic_load_n(&cpu->events, __ATOMIC_RELAXED) & mask, 0)) {
            cpu->insn_count -= (u64)(b->insns + b->count - i);
            cpu->rip = insn_rip(cpu, i);
            break;
        }
    }
    return true;
}

bool run_block(struct cpu *cpu, struct block *b) { return block_body(cpu, b); }

static enum cpu_exit interp_run(struct cpu *cpu)
{
    struct block_cache *in = cpu->engine;
    block_cache_start(in);
    cpu->exc.vector = -1;
    for (;;) {
        struct block *b;
        enum outcome o = run_next(cpu, in, &b);
        if (o != GO_ON) return (enum cpu_exit)o;
        if (b && !block_body(cpu, b)) return EXIT_TRIPLE;
    }
}

static void interp_invalidate(struct cpu *cpu, u64 offset, u64 size) { block_invalidate(cpu, cpu->engine, offset, size); }

static void interp_unchanged(struct cpu *cpu, u64 offset) { block_unchanged(cpu, cpu->engine, offset); }

static int interp_create(struct cpu *cpu)
{
    struct block_cache *in = calloc(1, sizeof *in);
    if (!in) {
        fprintf(stderr, "calque: no memory for the interpreter\n");
        return -ENOMEM;
    }
    int err = block_cache_init(in, cpu);
    if (err) free(in);
    else cpu->engine = in;
    return err;
}

static void interp_destroy(struct cpu *cpu)
{
    block_cache_destroy(cpu->engine, cpu);
    free(cpu->engine);
    cpu->engine = NULL;
}

const struct engine_ops interp_engine = {
    .name = "interp",
    .create = interp_create,
    .destroy = interp_destroy,
    .run = interp_run,
    .invalidate = interp_invalidate,
    .unchanged = interp_unchanged,
};
