/* Runs of accesses by one register: instructions one after the other that push and pop, or use places beside the stack pointer, or
 * beside another register that stays as it is; with others between them that use registers only. One probe asks for all their
 * bytes; behind it nothing can fault, so that the flags need not be saved, and pushes and pops move the stack pointer once, at the end.
 *
 * When the probe finds no page for all, the same instructions are done out of line, each with a probe of its own. */
#include "translate/tr.h"

#include "cpu/block.h"

#define SPAN_MAX 256 /* bytes */

/* May it stand in a run? *access: it uses that place. */
static bool fits(const struct tr *t, const struct insn *i, struct effect *x, bool *access, struct place *p)
{
    const bool jumps = i->mnemonic == I_call || i->mnemonic == I_ret;
    if (jumps) *x = (struct effect){.moved = REG_ZERO, .faults = true}; /* the stack pointer is moved behind the run */
    else if (!effect_of(t, i, x) || x->vector || ((x->written & bit(R_SP)) && x->moved != R_SP)) return false;
    *access = x->faults;
    if (!x->faults || stack_place(t, i, p)) return true;
    return !jumps && t->is64 && groupable(t, i, p) && p->index == REG_ZERO && !p->sum.has_extra;
}

static bool probes_group(const struct tr *t, unsigned n)
{
    for (unsigned k = 0; k < t->ngroups; k++)
        if (t->groups[k].probe == n) return true;
    return false;
}

void run_plan(struct tr *t)
{
    const struct block *b = t->b;
    struct run r = {0};
    s64 sp = 0, lo = 0, hi = 0; /* from where the register was before the run */
    unsigned count = 0, base = REG_ZERO; /* accesses in it, by which register */
    t->nruns = 0;
    if (t->segmented || b->changes) return;
    for (unsigned n = 0; n <= b->count && t->nruns < RUN_MAX; n++) {
        bool access = false;
        struct effect x = {0};
        struct place p = {0};
        const bool fit = n < b->count && t->group_of[n] == GROUP_NONE && fits(t, &b->insns[n], &x, &access, &p);
        const s64 move = x.moved == R_SP ? x.by : 0;
        const s64 at = p.disp + (p.base == R_SP ? sp : 0);
        const bool end = !fit || probes_group(t, n) || sp + move != (s32)(sp + move) ||
                         (access && count && (p.base != base || MAX(hi, at + p.size) - MIN(lo, at) > SPAN_MAX));
        if (end && count > 1) {
            r.sum.m.disp = (s32)lo;
            r.span = (u16)(hi - lo);
            t->runs[t->nruns++] = r;
            for (unsigned k = r.first; k < r.end; k++) {
                bool one;
                struct effect y;
                struct place q;
                if (fits(t, &b->insns[k], &y, &one, &q) && one) t->group_of[k] = GROUP_RUN;
            }
        }
        if (end) count = 0;
        if (!fit) continue;
        if (access) {
            if (!count++) {
                r = (struct run){.first = (u8)n, .sum = p.sum};
                sp = 0;
                base = p.base;
                lo = p.disp;
                hi = p.disp + p.size;
            }
            lo = MIN(lo, p.disp + (base == R_SP ? sp : 0));
            hi = MAX(hi, p.disp + (base == R_SP ? sp : 0) + p.size);
            r.end = (u8)(n + 1);
            r.write |= p.write;
        }
        if (base != R_SP && (x.written & bit(base))) base = REG_ZERO;
        sp += move;
    }
}

static void settle_sp(struct tr *t)
{
    const bool held = shared_held(t);
    if (t->moved) emit_move_sp(t, t->moved);
    t->moved = 0;
    if (held) t->shared_until = t->e.p;
}

static bool names_sp(const struct insn *i)
{
    if (i->base == R_SP || i->mnemonic == I_call || i->mnemonic == I_ret) return true;
    for (unsigned k = 0; k < i->noperands; k++)
        if (i->operands[k].kind == OPND_GPR && i->operands[k].reg == R_SP) return true;
    return false;
}

void run_before(struct tr *t, unsigned n)
{
    if (t->run && names_sp(t->i)) settle_sp(t);
    for (unsigned k = 0; k < t->nruns && !t->plain; k++) {
        struct run *r = &t->runs[k];
        if (r->first != n) continue;
        flags_before(t, true, 0, false);
        r->stub = new_stub(t);
        r->stub->span = r->span;
        emit_probe_span(t, r->stub, &r->sum, r->span, r->write);
        emit_store(&t->e, T_A, rm_cpu(offsetof(struct cpu, shared) + 8 * GROUP_RUN));
        r->before = t->flags;
        t->run = r;
        t->moved = 0;
        t->groups[GROUP_RUN].open = true;
        t->shared = &t->groups[GROUP_RUN];
        t->shared_until = t->e.p;
    }
}

void run_end(struct tr *t, unsigned n)
{
    struct run *r = t->run;
    if (!r) return;
    const struct insn *i = t->i;
    settle_sp(t);
    t->i = &t->b->insns[n ? n - 1 : 0];
    r->leave = groups_open(t);
    t->i = i;
    r->end = (u8)n;
    r->after = t->flags;
    r->back = t->e.p;
    t->run = NULL;
    t->groups[GROUP_RUN].open = false;
}

void run_after(struct tr *t, unsigned n)
{
    if (t->run && t->run->end == n + 1) run_end(t, n + 1);
}

void run_move_sp(struct tr *t, s32 n)
{
    if (t->run && t->groups[GROUP_RUN].open) t->moved += n;
    else emit_move_sp(t, n);
}

/* The block ends with it; out of line its handler does it. */
static bool leaves(const struct insn *i) { return i->mnemonic == I_call || i->mnemonic == I_ret; }

void emit_runs_slow(struct tr *t)
{
    for (unsigned k = 0; k < t->nruns && !t->plain; k++) {
        struct run *r = &t->runs[k];
        if (!r->stub) continue; /* the block ended before */
        bool ended;
        t->run = r;
        t->flags = r->before;
        t->shared = NULL;
        r->stub->code = t->e.p;
        for (unsigned n = r->first; n < r->end; n++) {
            t->i = &t->b->insns[n];
            t->fpu_after = t->fpu[n + 1];
            if (leaves(t->i)) emit_handler(t);
            else if (!translate_insn(t, &ended)) by_handler(t);
        }
        t->run = NULL;
        if (r->end > r->first && leaves(t->i)) continue;
        if (r->after.host) flags_to_host(t);
        if (r->after.mem || (r->after.carry_mem && !t->carry_mem)) flags_to_mem(t);
        emit_jump_to(&t->e, CC_ALWAYS, r->back);
    }
}
