/* Interrupts and exceptions: delivery through the IVT and the IDT in every mode, and the double fault rules.
 *
 * Runs while the guest's vector state is live (fpu_live.h). Delivery checks everything, writes the stack frame in one go, and only
 * then changes registers; a fault on the way leaves the state as it was. References: [SDM3] chapter 6, table 6-5 (double faults), 6.12-6.14
 * (stacks, flags, 64-bit mode), 17.2-17.3 (debug exceptions); [SDM2] INT n. */
#include "cpu/exception.h"

#include <string.h>

#include "core/log.h"
#include "cpu/fpu_live.h"
#include "cpu/segment.h"
#include "cpu/task.h"

/* One delivery in progress. */
struct delivery {
    unsigned vector;
    enum interrupt_kind kind;
    bool has_error;
    u32 error_code;
    u64 rip;   /* pushed */
    u32 flags; /* pushed, RF decided */
};

/* Error code that names an IDT entry. EXT is added at the end of all deliveries. */
static u32 idt_error(const struct delivery *v) { return v->vector * 8 + 2; }

static bool is_software(const struct delivery *v) { return v->kind == INT_SOFT || v->kind == INT_SOFT3; }

static void put(u8 *frame, unsigned *n, unsigned unit, u64 value)
{
    u8 *at = frame + *n * unit;
    if (unit == 8) memcpy(at, &value, 8);
    else if (unit == 4) memcpy(at, &value, 4);
    else memcpy(at, &value, 2);
    ++*n;
}

/* IVT: an offset and a segment for each vector; a frame of three words. */
static bool deliver_ivt(struct cpu *cpu, const struct delivery *v, gla table, unsigned acc, u32 clear)
{
    u16 target[2];
    u8 frame[6];
    unsigned n = 0;
    struct stack s = stack_current(cpu);
    TRY(lin_read(cpu, table + v->vector * 4, target, 4, acc));
    put(frame, &n, 2, v->rip);
    put(frame, &n, 2, cpu->seg[SEG_CS].selector);
    put(frame, &n, 2, v->flags);
    TRY(stack_push(cpu, &s, cpu->regs[R_SP], frame, 6, 2));
    stack_set(cpu, cpu->regs[R_SP] - 6);
    cpu->eflags &= ~clear;
    switch_segment_real(cpu, SEG_CS, target[1]);
    cpu->rip = target[0];
    return true;
}

static bool deliver_real(struct cpu *cpu, const struct delivery *v)
{
    if (v->vector * 4 + 3 > cpu->idtr.limit) return raise_err(cpu, EXC_GP, idt_error(v));
    return deliver_ivt(cpu, v, cpu->idtr.base, ACC_IMPLICIT, EFLAGS_IF | EFLAGS_TF | EFLAGS_RF | EFLAGS_AC);
}

/* The code segment that a gate names (SDM vol 3A 6.12.1.1). */
static bool gate_code_segment(struct cpu *cpu, u16 selector, struct descriptor *code)
{
    if (selector_null(selector)) return raise_gp0(cpu);
    TRY(descriptor_read(cpu, selector, EXC_GP, code));
    if (!seg_is_code(code->attr) || seg_dpl(code->attr) > cpu->cpl) return raise_sel(cpu, EXC_GP, selector);
    if (cpu_long(cpu) && (code->attr & (SEG_L | SEG_DB)) != SEG_L) return raise_sel(cpu, EXC_GP, selector);
    if (!(code->attr & SEG_P)) return raise_sel(cpu, EXC_NP, selector);
    return true;
}

/* IA-32e mode: 16-byte gates, aligned stack, SS:RSP always pushed, IST (SDM vol 3A 6.14). */
static bool deliver_long(struct cpu *cpu, const struct delivery *v)
{
    u64 gate[2], rsp;
    struct descriptor code;
    u8 frame[48];
    unsigned n = 0;

    if (v->vector * 16 + 15 > cpu->idtr.limit) return raise_err(cpu, EXC_GP, idt_error(v));
    TRY(lin_read(cpu, cpu->idtr.base + v->vector * 16, gate, 16, ACC_IMPLICIT));
    u16 attr = (u16)(gate[0] >> 40);
    unsigned type = attr & (SEG_S | SEG_TYPE);
    if ((type != SYS_INT && type != SYS_TRAP) || (is_software(v) && seg_dpl(attr) < cpu->cpl))
        return raise_err(cpu, EXC_GP, idt_error(v));
    if (!(attr & SEG_P)) return raise_err(cpu, EXC_NP, idt_error(v));
    u16 selector = (u16)(gate[0] >> 16);
    u64 target = (gate[0] & 0xffff) | (gate[0] >> 32 & 0xffff0000) | gate[1] << 32;
    TRY(gate_code_segment(cpu, selector, &code));

    const unsigned ist = gate[0] >> 32 & 7, dpl = seg_dpl(code.attr);
    const bool inner = !seg_is_conforming(code.attr) && dpl < cpu->cpl;
    const unsigned cpl = inner ? dpl : cpu->cpl;
    if (ist)
        TRY(tss_stack64(cpu, ist + 3, &rsp));
    else if (inner)
        TRY(tss_stack64(cpu, dpl, &rsp));
    else
        rsp = cpu->regs[R_SP];
    rsp &= ~15ull;
    if (!canonical(target)) return raise_gp0(cpu);
    TRY(descriptor_set_accessed(cpu, &code));

    struct stack s = stack_flat64();
    if (cpl == 3) s.acc = ACC_AS_USER;
    if (v->has_error) put(frame, &n, 8, v->error_code);
    put(frame, &n, 8, v->rip);
    put(frame, &n, 8, cpu->seg[SEG_CS].selector);
    put(frame, &n, 8, v->flags);
    put(frame, &n, 8, cpu->regs[R_SP]);
    put(frame, &n, 8, cpu->seg[SEG_SS].selector);
    TRY(stack_push(cpu, &s, rsp, frame, n * 8, 8));

    segment_set_cs(cpu, selector, &code, cpl);
    if (inner) {
        segment_set_null(&cpu->seg[SEG_SS], (u16)cpl);
        cpu->seg[SEG_SS].attr = (u16)(cpl << 5);
    }
    cpu->regs[R_SP] = rsp - n * 8;
    cpu->eflags &= ~(EFLAGS_TF | EFLAGS_VM | EFLAGS_RF | EFLAGS_NT | (type == SYS_INT ? EFLAGS_IF : 0));
    cpu->rip = target;
    return true;
}

/* 16- and 32-bit interrupt and trap gates. */
static bool deliver_gate(struct cpu *cpu, const struct delivery *v, u64 gate, unsigned type)
{
    static const u8 v86_order[4] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    const unsigned unit = type & 8 ? 4 : 2;
    const u16 selector = (u16)(gate >> 16);
    const u64 target = (gate & 0xffff) | (unit == 4 ? gate >> 32 & 0xffff0000 : 0);
    struct descriptor code, ssd = {0};
    u8 frame[40];
    unsigned n = 0;
    u16 ss = 0;
    u64 sp;

    TRY(gate_code_segment(cpu, selector, &code));
    const unsigned dpl = seg_dpl(code.attr);
    const bool v86 = cpu_v86(cpu), inner = !seg_is_conforming(code.attr) && dpl < cpu->cpl;
    if (v86 && (!inner || dpl != 0)) return raise_sel(cpu, EXC_GP, selector);

    struct stack s;
    if (inner) {
        u32 sp32;
        TRY(tss_inner_stack(cpu, dpl, &ss, &sp32));
        TRY(inner_ss_check(cpu, ss, dpl, &ssd));
        s = stack_of(&ssd, ss);
        sp = sp32;
        TRY(code_offset_check(cpu, &code, target));
        TRY(descriptor_set_accessed(cpu, &ssd));
    } else {
        s = stack_current(cpu);
        if (cpu->cpl == 3) s.acc = ACC_AS_USER; /* no alignment check on this push */
        sp = cpu->regs[R_SP];
        TRY(code_offset_check(cpu, &code, target));
    }
    TRY(descriptor_set_accessed(cpu, &code));

    if (v->has_error) put(frame, &n, unit, v->error_code);
    put(frame, &n, unit, v->rip);
    put(frame, &n, unit, cpu->seg[SEG_CS].selector);
    put(frame, &n, unit, v->flags);
    if (inner) {
        put(frame, &n, unit, cpu->regs[R_SP]);
        put(frame, &n, unit, cpu->seg[SEG_SS].selector);
        if (v86)
            for (unsigned k = 0; k < 4; k++)
                put(frame, &n, unit, cpu->seg[v86_order[k]].selector);
    }
    TRY(stack_push(cpu, &s, sp, frame, n * unit, unit));

    sp -= n * unit;
    cpu->eflags &= ~(EFLAGS_TF | EFLAGS_VM | EFLAGS_RF | EFLAGS_NT | (type & 1 ? 0 : EFLAGS_IF));
    if (inner) {
        if (v86)
            for (unsigned k = 0; k < 4; k++)
                segment_set_null(&cpu->seg[v86_order[k]], 0);
        segment_set(&cpu->seg[SEG_SS], ss, &ssd);
        segment_set_cs(cpu, selector, &code, dpl);
    } else {
        segment_set_cs(cpu, selector, &code, cpu->cpl);
    }
    /* The pointer's width follows the stack that is in use now. */
    reg_set(cpu, R_SP, cpu->seg[SEG_SS].attr & SEG_DB ? 4 : 2, sp);
    cpu->rip = target;
    return true;
}

static enum task_result deliver_protected(struct cpu *cpu, const struct delivery *v)
{
    u64 gate;
    if (v->vector * 8 + 7 > cpu->idtr.limit) {
        raise_err(cpu, EXC_GP, idt_error(v));
        return TASK_FAULT_OLD;
    }
    if (!lin_read(cpu, cpu->idtr.base + v->vector * 8, &gate, 8, ACC_IMPLICIT)) return TASK_FAULT_OLD;
    u16 attr = (u16)(gate >> 40);
    unsigned type = attr & (SEG_S | SEG_TYPE);
    bool known = type == SYS_TASK_GATE || type == SYS_INT16 || type == SYS_TRAP16 || type == SYS_INT ||
                 type == SYS_TRAP;
    if (!known || (is_software(v) && seg_dpl(attr) < cpu->cpl)) {
        raise_err(cpu, EXC_GP, idt_error(v));
        return TASK_FAULT_OLD;
    }
    if (!(attr & SEG_P)) {
        raise_err(cpu, EXC_NP, idt_error(v));
        return TASK_FAULT_OLD;
    }
    if (type == SYS_TASK_GATE) {
        fpu_save(cpu);
        return task_switch_raw(cpu, (u16)(gate >> 16), TASK_INT, v->has_error, v->error_code, v->rip,
                               v->flags);
    }
    return deliver_gate(cpu, v, gate, type) ? TASK_DONE : TASK_FAULT_OLD;
}

static enum task_result deliver(struct cpu *cpu, const struct delivery *v)
{
    enum task_result r;
    if (log_enabled(LOG_INT)) fpu_save(cpu);
    log_printf(LOG_INT, "%s %02x error=%04x at %04x:%016llx cpl=%u sp=%016llx cr2=%016llx ax=%016llx\n",
               v->kind == INT_EXCEPTION  ? "exception"
               : v->kind == INT_EXTERNAL ? "interrupt"
               : v->kind == INT_NMI      ? "nmi"
                                         : "int",
               v->vector, v->error_code, cpu->seg[SEG_CS].selector, (unsigned long long)v->rip, cpu->cpl,
               (unsigned long long)cpu->regs[R_SP], (unsigned long long)cpu->cr2,
               (unsigned long long)cpu->regs[R_AX]);
    if (v->kind == INT_NMI) cpu->nmi_blocked = true;
    cpu->halted = false;
    cpu->in_exception_delivery = true;
    if (!cpu_protected(cpu))
        r = deliver_real(cpu, v) ? TASK_DONE : TASK_FAULT_OLD;
    else if (cpu_long(cpu))
        r = deliver_long(cpu, v) ? TASK_DONE : TASK_FAULT_OLD;
    else
        r = deliver_protected(cpu, v);
    cpu->in_exception_delivery = false;
    if (r == TASK_DONE) {
        cpu->shadow = 0;
        /* In real mode there is no more to it than CS, if there is no single-stepping and EFLAGS.AC stays. */
        if (cpu_protected(cpu) || cpu->step || (v->flags & EFLAGS_AC)) cpu_update_mode(cpu);
    } else if (!is_software(v) && cpu->exc.vector >= EXC_TS && cpu->exc.vector <= EXC_GP) {
        cpu->exc.error_code |= 1; /* EXT: not the running program's doing */
    }
    return r;
}

bool interrupt(struct cpu *cpu, unsigned vector, enum interrupt_kind kind, bool has_error, u32 error_code,
               u64 return_rip)
{
    struct delivery v = {.vector = vector,
                         .kind = kind,
                         .has_error = has_error,
                         .error_code = error_code,
                         .rip = return_rip,
                         .flags = cpu_get_eflags(cpu)};
    if (kind != INT_EXTERNAL && kind != INT_NMI) v.flags &= ~EFLAGS_RF;
    switch (deliver(cpu, &v)) {
    case TASK_FAULT_OLD: return false;
    case TASK_FAULT_NEW: deliver_exception(cpu); break;
    case TASK_DONE: break;
    }
    return true;
}

bool interrupt_v86(struct cpu *cpu, unsigned vector, u64 return_rip)
{
    struct delivery v = {
        .vector = vector, .kind = INT_SOFT, .rip = return_rip, .flags = cpu_get_eflags(cpu) & ~EFLAGS_RF};
    u32 clear = EFLAGS_TF | EFLAGS_RF | EFLAGS_NT;
    if (cpu_iopl(cpu) == 3) {
        clear |= EFLAGS_IF;
    } else {
        /* The program sees its virtual interrupt flag, and IOPL 3. */
        v.flags = (v.flags & ~EFLAGS_IF) | EFLAGS_IOPL | (v.flags & EFLAGS_VIF ? EFLAGS_IF : 0);
        clear |= EFLAGS_VIF;
    }
    TRY(deliver_ivt(cpu, &v, 0, ACC_READ, clear));
    cpu_update_mode(cpu);
    return true;
}

/* ---- exceptions ---- */

enum exception_class { BENIGN, CONTRIBUTORY, PAGE_FAULT };

static enum exception_class class_of(int vector)
{
    switch (vector) {
    case EXC_DE:
    case EXC_TS:
    case EXC_NP:
    case EXC_SS:
    case EXC_GP:
    case EXC_CP: return CONTRIBUTORY;
    case EXC_PF:
    case EXC_VE: return PAGE_FAULT;
    default: return BENIGN;
    }
}

static bool pushes_error(int vector)
{
    const u32 mask = 1u << EXC_DF | 1u << EXC_TS | 1u << EXC_NP | 1u << EXC_SS | 1u << EXC_GP | 1u << EXC_PF |
                     1u << EXC_AC | 1u << EXC_CP;
    return mask >> vector & 1;
}

/* #DB: what happened goes into DR6, and DR7.GD off so that the handler may look at it. Returns whether it is
 * a fault that is pushed with RF set: general detect is, instruction breakpoints are the exception
 * ([SDM3] 17.3.1.1). */
static bool enter_debug(struct cpu *cpu, u32 bits)
{
    bits &= DR6_BD | DR6_BS | DR6_BT;
    cpu->dr[6] = (cpu->dr[6] & ~0xfull) | (cpu->pending_debug & 15) | bits;
    cpu->dr[7] &= ~0x2000ull;
    return bits & DR6_BD;
}

bool deliver_exception(struct cpu *cpu)
{
    struct exception e = cpu->exc;
    /* The rules end every chain after a few steps; the bound is against surprises. */
    for (unsigned depth = 0; depth < 16; depth++) {
        struct delivery v = {.vector = (unsigned)e.vector,
                             .kind = INT_EXCEPTION,
                             .rip = cpu->rip,
                             .flags = cpu_get_eflags(cpu)};
        v.has_error = pushes_error(e.vector);
        if (v.has_error) v.error_code = e.error_code;
        bool fault = e.vector != EXC_DF && e.vector != EXC_MC && e.vector != EXC_BP && e.vector != EXC_OF;
        if (e.vector == EXC_DB) fault = enter_debug(cpu, e.error_code);
        if (fault) v.flags |= EFLAGS_RF;
        cpu->pending_debug = 0; /* data breakpoints of an instruction that did not complete do not count */
        cpu->exc.vector = -1;
        if (!cpu_protected(cpu)) v.has_error = false;
        if (deliver(cpu, &v) == TASK_DONE) return true;

        struct exception second = cpu->exc;
        enum exception_class c1 = class_of(e.vector), c2 = class_of(second.vector);
        if (e.vector == EXC_DF && c2 != BENIGN) break;
        if ((c1 == CONTRIBUTORY && c2 == CONTRIBUTORY) || (c1 == PAGE_FAULT && c2 != BENIGN))
            e = (struct exception){.vector = EXC_DF, .has_error = 1};
        else
            e = second;
    }
    fpu_save(cpu);
    log_printf(LOG_INT | LOG_CPU_RESET, "triple fault at %04x:%016llx\n", cpu->seg[SEG_CS].selector,
               (unsigned long long)cpu->rip);
    cpu->exc.vector = -1;
    cpu->shutdown = true;
    return false;
}
