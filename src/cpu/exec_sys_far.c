/* Far control transfers: JMP, CALL, RET and IRET between segments, privilege levels, tasks and modes.
 *
 * Every check that can fault comes before the first change of state; a stack frame is written in one go.
 * References: [SDM2] JMP, CALL, RET, IRET; [SDM3] 5.8 (privilege), 20.2-20.3 (virtual-8086), 5.8.3.1 (64-bit
 * call gates). */
#include "cpu/exec_sys.h"

#include <string.h>

#include "cpu/fpu_live.h"
#include "cpu/segment.h"

static void frame_put(u8 *frame, unsigned n, unsigned unit, u64 value)
{
    memcpy(frame + n * unit, &value, unit);
}

static u64 truncate_offset(const struct insn *i, u64 offset)
{
    return i->opsize == 8 ? offset : i->opsize == 4 ? (u32)offset : (u16)offset;
}

/* The far pointer of JMP and CALL, immediate or in memory. */
static bool far_pointer(struct cpu *cpu, const struct insn *i, u64 *offset, u16 *selector)
{
    if (i->operands[0].kind == OPND_FAR) {
        *offset = truncate_offset(i, i->imm);
        *selector = i->imm2;
        return true;
    }
    u64 ea = insn_ea(cpu, i);
    *offset = 0;
    TRY(mem_read_block(cpu, i->seg, ea, offset, i->opsize));
    return mem_read16(cpu, i->seg, sys_ea_add(i, ea, i->opsize), selector);
}

/* Push CS:IP on the current stack, which between 64-bit and compatibility mode is already as wide as that of the code called:
 * code64 says what that is. */
static bool push_return(struct cpu *cpu, unsigned unit, u64 rip, bool code64)
{
    u8 frame[16];
    struct stack s = stack_current(cpu);
    s.flat64 = code64;
    s.mask = code64 ? ~0ull : s.attr & SEG_DB ? 0xffffffffull : 0xffffull;
    frame_put(frame, 0, unit, rip);
    frame_put(frame, 1, unit, cpu->seg[SEG_CS].selector);
    TRY(stack_push(cpu, &s, cpu->regs[R_SP], frame, 2 * unit, unit));
    reg_set(cpu, R_SP, code64 ? 8 : s.mask == 0xffff ? 2 : 4, cpu->regs[R_SP] - 2 * unit);
    return true;
}

/* Continue at selector:offset in real or virtual-8086 mode. */
static bool enter_real(struct cpu *cpu, u16 selector, u64 offset)
{
    switch_segment_real(cpu, SEG_CS, selector);
    cpu->rip = offset;
    return false;
}

/* The rules for a code segment as the target of JMP and CALL at the same privilege (SDM vol 3A 5.8.1). */
static bool check_direct_code(struct cpu *cpu, u16 selector, const struct descriptor *d)
{
    if (!seg_is_code(d->attr)) return raise_sel(cpu, EXC_GP, selector);
    if (cpu_long(cpu) && (d->attr & SEG_L) && (d->attr & SEG_DB)) return raise_sel(cpu, EXC_GP, selector);
    if (seg_is_conforming(d->attr)) {
        if (seg_dpl(d->attr) > cpu->cpl) return raise_sel(cpu, EXC_GP, selector);
    } else if ((selector & 3u) > cpu->cpl || seg_dpl(d->attr) != cpu->cpl) {
        return raise_sel(cpu, EXC_GP, selector);
    }
    if (!(d->attr & SEG_P)) return raise_sel(cpu, EXC_NP, selector);
    return true;
}

static bool far_to_code(struct cpu *cpu, const struct insn *i, u16 selector, struct descriptor *d, u64 offset,
                        bool call)
{
    const u64 sp = cpu->regs[R_SP];
    TRY(check_direct_code(cpu, selector, d));
    if (!cpu_long(cpu) || !(d->attr & SEG_L)) offset = (u32)offset;
    /* Pushed before the offset is looked at: a bad one leaves the address below the unchanged stack pointer. */
    if (call) TRY(push_return(cpu, i->opsize, next_rip(cpu, i), cpu_long(cpu) && (d->attr & SEG_L)));
    if (!code_offset_check(cpu, d, offset) || !descriptor_set_accessed(cpu, d)) {
        cpu->regs[R_SP] = sp;
        return false;
    }
    segment_set_cs(cpu, selector, d, cpu->cpl);
    cpu_update_mode(cpu);
    cpu->rip = offset;
    return false;
}

/* A call gate, unpacked. */
struct gate {
    u16 selector;
    u64 offset;
    unsigned count; /* parameters to copy */
    unsigned unit;  /* 2, 4, 8: size of what is pushed */
};

static bool read_call_gate(struct cpu *cpu, u16 selector, const struct descriptor *d, struct gate *g)
{
    u64 raw = d->raw;
    g->selector = (u16)(raw >> 16);
    g->offset = raw & 0xffff;
    g->count = raw >> 32 & 0x1f;
    g->unit = 2;
    if (sys_type(d->attr) == SYS_CALL16) return true;
    g->unit = 4;
    g->offset |= raw >> 32 & 0xffff0000;
    if (!cpu_long(cpu)) return true;
    u64 high;
    u32 limit = selector & 4 ? cpu->ldtr.limit : cpu->gdtr.limit;
    if ((selector | 7u) + 8 > limit) return raise_sel(cpu, EXC_GP, selector);
    TRY(lin_read(cpu, d->addr + 8, &high, 8, ACC_IMPLICIT));
    if (high >> 40 & 0x1f) return raise_sel(cpu, EXC_GP, selector);
    g->unit = 8;
    g->count = 0;
    g->offset |= high << 32;
    return true;
}

/* Through a gate to an inner level: new stack from the TSS, parameters copied. */
static bool call_inner(struct cpu *cpu, const struct insn *i, const struct gate *g, struct descriptor *code)
{
    unsigned dpl = seg_dpl(code->attr), n = 0;
    u8 frame[(31 + 4) * 4];
    struct stack s;
    struct descriptor ssd = {0};
    u16 ss;
    u64 rsp;

    if (g->unit == 8) {
        TRY(tss_stack64(cpu, dpl, &rsp));
        s = stack_flat64();
        ss = (u16)dpl; /* null */
        TRY(code_offset_check(cpu, code, g->offset));
    } else {
        u32 sp;
        TRY(tss_inner_stack(cpu, dpl, &ss, &sp));
        TRY(inner_ss_check(cpu, ss, dpl, &ssd));
        s = stack_of(&ssd, ss);
        rsp = sp;
        TRY(code_offset_check(cpu, code, g->offset));
        TRY(descriptor_set_accessed(cpu, &ssd));
    }
    TRY(descriptor_set_accessed(cpu, code));
    frame_put(frame, n++, g->unit, next_rip(cpu, i));
    frame_put(frame, n++, g->unit, cpu->seg[SEG_CS].selector);
    for (unsigned k = 0; k < g->count; k++) {
        u64 parameter;
        TRY(stack_peek(cpu, g->unit, k, &parameter));
        frame_put(frame, n++, g->unit, parameter);
    }
    frame_put(frame, n++, g->unit, cpu->regs[R_SP]);
    frame_put(frame, n++, g->unit, cpu->seg[SEG_SS].selector);
    TRY(stack_push(cpu, &s, rsp, frame, n * g->unit, g->unit));

    segment_set_cs(cpu, g->selector, code, dpl);
    if (g->unit == 8) {
        segment_set_null(&cpu->seg[SEG_SS], ss);
        cpu->seg[SEG_SS].attr = (u16)(dpl << 5);
    } else {
        segment_set(&cpu->seg[SEG_SS], ss, &ssd);
    }
    cpu_update_mode(cpu);
    stack_set(cpu, (rsp - n * g->unit) & s.mask);
    cpu->rip = g->offset;
    return false;
}

static bool far_through_gate(struct cpu *cpu, const struct insn *i, u16 selector, const struct descriptor *d,
                             bool call)
{
    struct gate g;
    struct descriptor code;
    if (seg_dpl(d->attr) < cpu->cpl || (selector & 3u) > seg_dpl(d->attr))
        return raise_sel(cpu, EXC_GP, selector);
    if (!(d->attr & SEG_P)) return raise_sel(cpu, EXC_NP, selector);
    TRY(read_call_gate(cpu, selector, d, &g));
    if (selector_null(g.selector)) return raise_gp0(cpu);
    TRY(descriptor_read(cpu, g.selector, EXC_GP, &code));
    if (!seg_is_code(code.attr) || seg_dpl(code.attr) > cpu->cpl) return raise_sel(cpu, EXC_GP, g.selector);
    if (cpu_long(cpu) && (code.attr & (SEG_L | SEG_DB)) != SEG_L) return raise_sel(cpu, EXC_GP, g.selector);
    bool same = seg_is_conforming(code.attr) || seg_dpl(code.attr) == cpu->cpl;
    if (!call && !same) return raise_sel(cpu, EXC_GP, g.selector);
    if (!(code.attr & SEG_P)) return raise_sel(cpu, EXC_NP, g.selector);
    if (!same) return call_inner(cpu, i, &g, &code);

    TRY(code_offset_check(cpu, &code, g.offset));
    TRY(descriptor_set_accessed(cpu, &code));
    if (call) TRY(push_return(cpu, g.unit, next_rip(cpu, i), cpu_long(cpu)));
    segment_set_cs(cpu, g.selector, &code, cpu->cpl);
    cpu_update_mode(cpu);
    cpu->rip = g.offset;
    return false;
}

static bool far_protected(struct cpu *cpu, const struct insn *i, u16 selector, u64 offset, bool call)
{
    struct descriptor d;
    u16 tss = selector;
    if (selector_null(selector)) return raise_gp0(cpu);
    TRY(descriptor_read(cpu, selector, EXC_GP, &d));
    if (d.attr & SEG_S) return far_to_code(cpu, i, selector, &d, offset, call);

    unsigned type = sys_type(d.attr);
    if (type == SYS_CALL || (type == SYS_CALL16 && !cpu_long(cpu)))
        return far_through_gate(cpu, i, selector, &d, call);
    if (cpu_long(cpu)) return raise_sel(cpu, EXC_GP, selector);
    switch (type) {
    case SYS_TASK_GATE:
        if (seg_dpl(d.attr) < cpu->cpl || (selector & 3u) > seg_dpl(d.attr))
            return raise_sel(cpu, EXC_GP, selector);
        if (!(d.attr & SEG_P)) return raise_sel(cpu, EXC_NP, selector);
        tss = (u16)(d.raw >> 16);
        break;
    case SYS_TSS16_AVAIL:
    case SYS_TSS_AVAIL:
        if (seg_dpl(d.attr) < cpu->cpl || (selector & 3u) > seg_dpl(d.attr))
            return raise_sel(cpu, EXC_GP, selector);
        break;
    default: return raise_sel(cpu, EXC_GP, selector);
    }
    task_switch(cpu, tss, call ? TASK_CALL : TASK_JMP, false, 0, next_rip(cpu, i));
    return false;
}

bool sys_jmpf(struct cpu *cpu, const struct insn *i)
{
    u64 offset;
    u16 selector;
    TRY(far_pointer(cpu, i, &offset, &selector));
    if (sys_protected(cpu)) return far_protected(cpu, i, selector, offset, false);
    if (offset > cpu->seg[SEG_CS].limit) return raise_gp0(cpu);
    return enter_real(cpu, selector, offset);
}

bool sys_callf(struct cpu *cpu, const struct insn *i)
{
    u64 offset;
    u16 selector;
    TRY(far_pointer(cpu, i, &offset, &selector));
    if (sys_protected(cpu)) return far_protected(cpu, i, selector, offset, true);
    if (offset > cpu->seg[SEG_CS].limit) return raise_gp0(cpu);
    TRY(push_return(cpu, i->opsize, next_rip(cpu, i), false));
    return enter_real(cpu, selector, offset);
}

/* ---- returns ---- */

/* A selector in the n-th slot of the stack: only its two bytes are read. */
static bool stack_peek_selector(struct cpu *cpu, unsigned unit, unsigned n, u64 *value)
{
    u16 v;
    TRY(mem_read16(cpu, SEG_SS, (cpu->regs[R_SP] + n * unit) & stack_mask(cpu), &v));
    *value = v;
    return true;
}

/* CS of RETF and IRET: fetched and checked against the selector's RPL, the level returned to. */
static bool check_return_cs(struct cpu *cpu, u16 cs, struct descriptor *d)
{
    unsigned rpl = cs & 3;
    if (selector_null(cs)) return raise_gp0(cpu);
    TRY(descriptor_read(cpu, cs, EXC_GP, d));
    if (!seg_is_code(d->attr) || rpl < cpu->cpl) return raise_sel(cpu, EXC_GP, cs);
    if (cpu_long(cpu) && (d->attr & SEG_L) && (d->attr & SEG_DB)) return raise_sel(cpu, EXC_GP, cs);
    if (seg_is_conforming(d->attr) ? seg_dpl(d->attr) > rpl : seg_dpl(d->attr) != rpl)
        return raise_sel(cpu, EXC_GP, cs);
    if (!(d->attr & SEG_P)) return raise_sel(cpu, EXC_NP, cs);
    return true;
}

/* SS of a return to level rpl. A null one is fine for 64-bit code below level 3. */
static bool check_return_ss(struct cpu *cpu, u16 ss, unsigned rpl, const struct descriptor *code,
                            struct descriptor *d)
{
    if (selector_null(ss)) {
        if (!cpu_long(cpu) || !(code->attr & SEG_L) || rpl == 3) return raise_gp0(cpu);
        *d = (struct descriptor){.attr = (u16)(rpl << 5)};
        return true;
    }
    TRY(descriptor_read(cpu, ss, EXC_GP, d));
    if ((ss & 3u) != rpl || !seg_is_writable(d->attr) || seg_dpl(d->attr) != rpl)
        return raise_sel(cpu, EXC_GP, ss);
    if (!(d->attr & SEG_P)) return raise_sel(cpu, EXC_SS, ss);
    return descriptor_set_accessed(cpu, d);
}

bool sys_retf(struct cpu *cpu, const struct insn *i)
{
    const unsigned unit = i->opsize, release = i->noperands ? (u16)i->imm : 0;
    u64 rip, cs;
    TRY(stack_peek_selector(cpu, unit, 1, &cs)); /* first, as processors do */
    TRY(stack_peek(cpu, unit, 0, &rip));
    if (!sys_protected(cpu)) {
        if (rip > cpu->seg[SEG_CS].limit) return raise_gp0(cpu);
        stack_set(cpu, cpu->regs[R_SP] + 2 * unit + release);
        return enter_real(cpu, (u16)cs, rip);
    }

    struct descriptor code, ssd;
    const unsigned rpl = cs & 3;
    TRY(check_return_cs(cpu, (u16)cs, &code));
    if (!cpu_long(cpu) || !(code.attr & SEG_L)) rip = (u32)rip;
    if (rpl == cpu->cpl) {
        TRY(code_offset_check(cpu, &code, rip));
        TRY(descriptor_set_accessed(cpu, &code));
        const bool narrow = stack_mask(cpu) == 0xffff;
        segment_set_cs(cpu, (u16)cs, &code, rpl);
        cpu_update_mode(cpu);
        /* As wide as the new mode's, but the sum to add as wide as the old one's. */
        stack_set(cpu, cpu->regs[R_SP] + (narrow ? (u16)(2 * unit + release) : 2 * unit + release));
        cpu->rip = rip;
        return false;
    }

    u64 rsp, ss, top = cpu->regs[R_SP];
    cpu->regs[R_SP] += release; /* peek behind the parameters */
    bool ok = stack_peek(cpu, unit, 2, &rsp) && stack_peek(cpu, unit, 3, &ss);
    cpu->regs[R_SP] = top;
    if (!ok) return false;
    TRY(check_return_ss(cpu, (u16)ss, rpl, &code, &ssd));
    TRY(code_offset_check(cpu, &code, rip));
    TRY(descriptor_set_accessed(cpu, &code));
    segment_set_cs(cpu, (u16)cs, &code, rpl);
    segment_set(&cpu->seg[SEG_SS], (u16)ss, &ssd);
    segments_drop_privileged(cpu);
    cpu_update_mode(cpu);
    stack_set(cpu, rsp + release);
    cpu->rip = rip;
    return false;
}

/* IRET in real mode, and in virtual-8086 mode with IOPL 3. */
static bool iret_real(struct cpu *cpu, unsigned unit)
{
    u64 rip, cs, flags;
    u32 keep = EFLAGS_VM | EFLAGS_VIF | EFLAGS_VIP, old = cpu_get_eflags(cpu);
    TRY(stack_peek(cpu, unit, 0, &rip));
    TRY(stack_peek(cpu, unit, 1, &cs));
    TRY(stack_peek(cpu, unit, 2, &flags));
    if (rip > cpu->seg[SEG_CS].limit) return raise_gp0(cpu);
    if (cpu_v86(cpu)) keep |= EFLAGS_IOPL;
    if (unit == 2) keep |= 0xffff0000u & ~EFLAGS_RF; /* RF ends with any IRET: the 16-bit image has none */
    if (cpu_v86(cpu) && cpu_iopl(cpu) < 3) {
        /* VME: the virtual interrupt flag stands in for IF (SDM vol 3A 20.3). */
        if ((flags & EFLAGS_TF) || ((flags & EFLAGS_IF) && (old & EFLAGS_VIP))) return raise_gp0(cpu);
        keep |= EFLAGS_IF;
        keep &= ~EFLAGS_VIF;
        flags = (flags & ~(u64)EFLAGS_VIF) | (flags & EFLAGS_IF ? EFLAGS_VIF : 0);
    }
    stack_set(cpu, cpu->regs[R_SP] + 3 * unit);
    switch_segment_real(cpu, SEG_CS, (u16)cs);
    cpu_set_eflags(cpu, (old & keep) | ((u32)flags & ~keep));
    cpu->rip = rip;
    return false;
}

/* From CPL 0 back to virtual-8086 mode: nine doublewords. */
static bool iret_to_v86(struct cpu *cpu, u64 rip, u16 cs, u32 flags)
{
    static const u8 order[4] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    u64 sp, ss, sel[4];
    fpu_save(cpu); /* has other rules there */
    TRY(stack_peek(cpu, 4, 3, &sp));
    TRY(stack_peek(cpu, 4, 4, &ss));
    for (unsigned n = 0; n < 4; n++)
        TRY(stack_peek(cpu, 4, 5 + n, &sel[n]));
    if (rip > 0xffff) return raise_gp0(cpu);
    cpu_set_eflags(cpu, flags);
    cpu->cpl = 3;
    load_segment_real(cpu, SEG_CS, cs);
    load_segment_real(cpu, SEG_SS, (u16)ss);
    for (unsigned n = 0; n < 4; n++)
        load_segment_real(cpu, order[n], (u16)sel[n]);
    cpu_update_mode(cpu);
    reg_set(cpu, R_SP, 4, sp);
    cpu->rip = rip;
    return false;
}

/* Back to the task of the back link. */
static bool iret_task(struct cpu *cpu, const struct insn *i)
{
    u16 link;
    fpu_save(cpu);
    TRY(lin_read(cpu, cpu->tr.base, &link, 2, ACC_IMPLICIT));
    task_switch(cpu, link, TASK_IRET, false, 0, next_rip(cpu, i));
    return false;
}

bool sys_iret(struct cpu *cpu, const struct insn *i)
{
    const unsigned unit = i->opsize;
    /* An IRET that faults unblocks NMIs as well (SDM vol 3C 26.3). */
    if (!sys_protected(cpu)) {
        if (cpu_v86(cpu) && cpu_iopl(cpu) < 3 && (unit != 2 || !(cpu->cr4 & CR4_VME))) return raise_gp0(cpu);
        cpu->nmi_blocked = false;
        return iret_real(cpu, unit);
    }
    cpu->nmi_blocked = false;
    if (cpu->eflags & EFLAGS_NT) {
        if (cpu_long(cpu)) return raise_gp0(cpu);
        return iret_task(cpu, i);
    }

    u64 rip, cs, flags64;
    TRY(stack_peek(cpu, unit, 0, &rip));
    TRY(stack_peek(cpu, unit, 1, &cs));
    TRY(stack_peek(cpu, unit, 2, &flags64));
    u32 flags = (u32)flags64;
    cs = (u16)cs;
    if (unit == 4 && (flags & EFLAGS_VM) && cpu->cpl == 0 && !cpu_long(cpu))
        return iret_to_v86(cpu, rip, (u16)cs, flags);

    struct descriptor code, ssd;
    const unsigned rpl = cs & 3, old_cpl = cpu->cpl;
    const bool outer = rpl != old_cpl, pops_stack = outer || cpu_code64(cpu);
    u64 rsp = 0, ss = 0;
    TRY(check_return_cs(cpu, (u16)cs, &code));
    if (!cpu_long(cpu) || !(code.attr & SEG_L)) rip = (u32)rip;
    if (pops_stack) {
        TRY(stack_peek(cpu, unit, 3, &rsp));
        TRY(stack_peek(cpu, unit, 4, &ss));
        TRY(check_return_ss(cpu, (u16)ss, rpl, &code, &ssd));
    }
    TRY(code_offset_check(cpu, &code, rip));
    TRY(descriptor_set_accessed(cpu, &code));

    u32 change = EFLAGS_ARITH | EFLAGS_TF | EFLAGS_DF | EFLAGS_NT;
    if (unit != 2) change |= EFLAGS_RF | EFLAGS_AC | EFLAGS_ID;
    if (old_cpl <= cpu_iopl(cpu)) change |= EFLAGS_IF;
    if (old_cpl == 0) change |= EFLAGS_IOPL | (unit != 2 ? EFLAGS_VIF | EFLAGS_VIP : 0);

    if (!pops_stack) stack_set(cpu, cpu->regs[R_SP] + 3 * unit);
    segment_set_cs(cpu, (u16)cs, &code, rpl);
    if (pops_stack) segment_set(&cpu->seg[SEG_SS], (u16)ss, &ssd);
    if (outer) segments_drop_privileged(cpu);

    u32 now = (cpu_get_eflags(cpu) & ~change) | (flags & change);
    cpu->aflags = (u16)((now & 0xd5u) << 8 | (now >> 11 & 1));
    cpu->eflags = (now & ~EFLAGS_ARITH) | 2;
    if (unit == 2) cpu->eflags &= ~EFLAGS_RF;
    cpu_update_mode(cpu);
    if (pops_stack) stack_set(cpu, rsp);
    cpu->rip = rip;
    return false;
}
