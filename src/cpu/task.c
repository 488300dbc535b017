/* The task state segment: task switches, and the I/O permission bitmap.
 *
 * A switch first touches everything it will write, so that a page fault there happens in the old task with
 * nothing changed. After that comes the point of no return: bad selectors in the new TSS are faults of the
 * new task. References: [SDM3] 7.3 (switching, checks and their order in table 7-1), 7.2 (TSS formats),
 * [SDM1] 19.5.2 (I/O bitmap). */
#include "cpu/task.h"

#include <string.h>

#include "core/log.h"
#include "cpu/segment.h"

/* Offsets in the two TSS formats, [SDM3] figures 7-2 and 7-10. */
#define TSS32_CR3   0x1c
#define TSS32_EIP   0x20 /* EIP, EFLAGS, EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI */
#define TSS32_SEGS  0x48 /* ES, CS, SS, DS, FS, GS, one doubleword each */
#define TSS32_LDT   0x60
#define TSS32_TRAP  0x64
#define TSS32_IOMAP 0x66
#define TSS32_MIN   0x67
#define TSS16_IP    0x0e /* IP, FLAGS, AX, CX, DX, BX, SP, BP, SI, DI */
#define TSS16_SEGS  0x22 /* ES, CS, SS, DS */
#define TSS16_LDT   0x2a
#define TSS16_MIN   0x2b

/* A task's state as its TSS holds it. */
struct task_state {
    u32 eip, eflags;
    u32 regs[8];
    u16 segs[6]; /* ES CS SS DS FS GS */
    u16 ldt;
    u32 cr3;
    bool trap; /* T: #DB on the switch to this task */
};

static bool tss_read(struct cpu *cpu, const struct descriptor *d, bool wide, struct task_state *t)
{
    u8 raw[0x68];
    memset(t, 0, sizeof *t);
    if (wide) {
        TRY(lin_read(cpu, d->base, raw, 0x68, ACC_IMPLICIT));
        memcpy(&t->cr3, raw + TSS32_CR3, 4);
        memcpy(&t->eip, raw + TSS32_EIP, 4);
        memcpy(&t->eflags, raw + TSS32_EIP + 4, 4);
        memcpy(t->regs, raw + TSS32_EIP + 8, 32);
        for (unsigned n = 0; n < 6; n++)
            memcpy(&t->segs[n], raw + TSS32_SEGS + 4 * n, 2);
        memcpy(&t->ldt, raw + TSS32_LDT, 2);
        t->trap = raw[TSS32_TRAP] & 1;
        return true;
    }
    TRY(lin_read(cpu, d->base, raw, 0x2c, ACC_IMPLICIT));
    memcpy(&t->eip, raw + TSS16_IP, 2);
    memcpy(&t->eflags, raw + TSS16_IP + 2, 2);
    for (unsigned n = 0; n < 8; n++) {
        memcpy(&t->regs[n], raw + TSS16_IP + 4 + 2 * n, 2);
        t->regs[n] |= 0xffff0000u; /* what processors leave in the upper halves */
    }
    for (unsigned n = 0; n < 4; n++)
        memcpy(&t->segs[n], raw + TSS16_SEGS + 2 * n, 2);
    memcpy(&t->ldt, raw + TSS16_LDT, 2);
    return true;
}

/* Where the current task is saved: checked for writing by probe_old(), written by save_old(). */
static bool probe_old(struct cpu *cpu, bool wide)
{
    if (cpu->tr.limit < (wide ? TSS32_SEGS + 0x17u : TSS16_SEGS + 7u))
        return raise_sel(cpu, EXC_TS, cpu->tr.selector);
    if (wide)
        return lin_probe_write(cpu, (u32)(cpu->tr.base + TSS32_EIP), TSS32_LDT - TSS32_EIP, ACC_IMPLICIT);
    return lin_probe_write(cpu, (u32)(cpu->tr.base + TSS16_IP), TSS16_LDT - TSS16_IP, ACC_IMPLICIT);
}

static bool save_old(struct cpu *cpu, bool wide, u64 rip, u32 eflags)
{
    u8 raw[40];
    unsigned unit = wide ? 4 : 2;
    gla regs = cpu->tr.base + (wide ? TSS32_EIP : TSS16_IP),
        segs = cpu->tr.base + (wide ? TSS32_SEGS : TSS16_SEGS);
    memcpy(raw, &rip, unit);
    memcpy(raw + unit, &eflags, unit);
    for (unsigned n = 0; n < 8; n++)
        memcpy(raw + unit * (2 + n), &cpu->regs[n], unit);
    TRY(lin_write(cpu, regs, raw, 10 * unit, ACC_IMPLICIT));
    for (unsigned n = 0; n < (wide ? 6u : 4u); n++)
        TRY(lin_write(cpu, segs + unit * n, &cpu->seg[n].selector, 2, ACC_IMPLICIT));
    return true;
}

/* Segment loads of the new task: violations are #TS with the selector, but for absent segments (table 7-1).
 */
static bool load_task_cs(struct cpu *cpu, u16 cs)
{
    struct descriptor d;
    unsigned rpl = cs & 3;
    if (selector_null(cs)) return raise_sel(cpu, EXC_TS, cs);
    TRY(descriptor_read(cpu, cs, EXC_TS, &d));
    if (!seg_is_code(d.attr)) return raise_sel(cpu, EXC_TS, cs);
    if (seg_is_conforming(d.attr) ? seg_dpl(d.attr) > rpl : seg_dpl(d.attr) != rpl)
        return raise_sel(cpu, EXC_TS, cs);
    if (!(d.attr & SEG_P)) return raise_sel(cpu, EXC_NP, cs);
    TRY(descriptor_set_accessed(cpu, &d));
    segment_set_cs(cpu, cs, &d, rpl);
    return true;
}

static bool load_task_ss(struct cpu *cpu, u16 ss)
{
    struct descriptor d;
    TRY(inner_ss_check(cpu, ss, cpu->cpl, &d));
    TRY(descriptor_set_accessed(cpu, &d));
    segment_set(&cpu->seg[SEG_SS], ss, &d);
    return true;
}

static bool load_task_data(struct cpu *cpu, unsigned seg, u16 selector)
{
    struct descriptor d;
    if (selector_null(selector)) return true;
    TRY(descriptor_read(cpu, selector, EXC_TS, &d));
    if (!seg_is_readable(d.attr)) return raise_sel(cpu, EXC_TS, selector);
    if (!seg_is_conforming(d.attr) && ((selector & 3u) > seg_dpl(d.attr) || cpu->cpl > seg_dpl(d.attr)))
        return raise_sel(cpu, EXC_TS, selector);
    if (!(d.attr & SEG_P)) return raise_sel(cpu, EXC_NP, selector);
    TRY(descriptor_set_accessed(cpu, &d));
    segment_set(&cpu->seg[seg], selector, &d);
    return true;
}

/* Everything after the point of no return. */
static bool enter_new(struct cpu *cpu, const struct task_state *t, bool wide, bool has_error, u32 error_code)
{
    if (wide && (cpu->cr0 & CR0_PG)) {
        if (cpu->cr4 & CR4_PAE) TRY(mmu_load_pdptes(cpu, t->cr3));
        cpu->cr3 = t->cr3;
        tlb_flush_all(cpu);
    }
    /* All selectors are visible at once; what they select is loaded, and checked, one by one. */
    for (unsigned n = 0; n < SEG_COUNT; n++)
        cpu->seg[n] = (struct segment){.selector = t->segs[n]};
    cpu->ldtr = (struct segment){.selector = t->ldt};

    if (cpu_v86(cpu)) {
        cpu->cpl = 3;
        for (unsigned n = 0; n < SEG_COUNT; n++)
            load_segment_real(cpu, n, t->segs[n]);
        TRY(load_ldtr(cpu, t->ldt, EXC_TS));
    } else {
        cpu->cpl = t->segs[SEG_CS] & 3;
        TRY(load_ldtr(cpu, t->ldt, EXC_TS));
        TRY(load_task_cs(cpu, t->segs[SEG_CS]));
        TRY(load_task_ss(cpu, t->segs[SEG_SS]));
        TRY(load_task_data(cpu, SEG_DS, t->segs[SEG_DS]));
        TRY(load_task_data(cpu, SEG_ES, t->segs[SEG_ES]));
        TRY(load_task_data(cpu, SEG_FS, t->segs[SEG_FS]));
        TRY(load_task_data(cpu, SEG_GS, t->segs[SEG_GS]));
    }
    cpu_update_mode(cpu);
    if (has_error) TRY(push(cpu, wide ? 4 : 2, error_code));
    if (t->eip > cpu->seg[SEG_CS].limit) return raise_gp0(cpu);
    if (t->trap) {
        cpu->exc = (struct exception){.vector = EXC_DB, .error_code = 0x8000}; /* DR6.BT */
        return false;
    }
    return true;
}

enum task_result task_switch_raw(struct cpu *cpu, u16 selector, enum task_switch_kind kind, bool has_error,
                                 u32 error_code, u64 next_rip, u32 saved_eflags)
{
    const int vector = kind == TASK_IRET ? EXC_TS : EXC_GP;
    const bool old_wide = cpu->tr.attr & 8;
    const gla old_descriptor = cpu->gdtr.base + (cpu->tr.selector & 0xfff8u);
    struct descriptor d;
    struct task_state t;

    if (selector & 4) {
        raise_sel(cpu, vector, selector);
        return TASK_FAULT_OLD;
    }
    if (!descriptor_read(cpu, selector, vector, &d)) return TASK_FAULT_OLD;
    unsigned type = sys_type(d.attr);
    if ((type & ~8u) != (kind == TASK_IRET ? SYS_TSS16_BUSY : SYS_TSS16_AVAIL)) {
        raise_sel(cpu, vector, selector);
        return TASK_FAULT_OLD;
    }
    if (!(d.attr & SEG_P)) {
        raise_sel(cpu, EXC_NP, selector);
        return TASK_FAULT_OLD;
    }
    const bool wide = type & 8;
    if (d.limit < (wide ? TSS32_MIN : TSS16_MIN)) {
        raise_sel(cpu, EXC_TS, selector);
        return TASK_FAULT_OLD;
    }
    if (!probe_old(cpu, old_wide) || !tss_read(cpu, &d, wide, &t) ||
        !lin_probe_write(cpu, (u32)(old_descriptor + 5), 1, ACC_IMPLICIT) ||
        !lin_probe_write(cpu, (u32)(d.addr + 5), 1, ACC_IMPLICIT) ||
        ((kind == TASK_CALL || kind == TASK_INT) && !lin_probe_write(cpu, (u32)d.base, 2, ACC_IMPLICIT)))
        return TASK_FAULT_OLD;

    log_printf(LOG_PCALL, "task switch %04x -> %04x, kind %d, eip %08x\n", cpu->tr.selector, selector, kind,
               t.eip);
    u16 old_selector = cpu->tr.selector;
    bool ok = true;
    if (kind == TASK_JMP || kind == TASK_IRET) ok = lin_modify8(cpu, old_descriptor + 5, 2, 0);
    if (kind == TASK_IRET) saved_eflags &= ~EFLAGS_NT;
    ok = ok && save_old(cpu, old_wide, next_rip, saved_eflags);
    if (kind == TASK_CALL || kind == TASK_INT) {
        ok = ok && lin_write(cpu, d.base, &old_selector, 2, ACC_IMPLICIT);
        t.eflags |= EFLAGS_NT;
    }
    if (kind != TASK_IRET) ok = ok && lin_modify8(cpu, d.addr + 5, 0, 2);
    if (!ok) return TASK_FAULT_OLD; /* another vCPU pulled a page away since the probes */

    d.attr |= 2;
    segment_set(&cpu->tr, selector, &d);
    cpu->cr0 |= CR0_TS;
    cpu->dr[7] &= ~0x155ull; /* L0-L3 and LE: [SDM3] 17.2.4 */
    for (unsigned n = 0; n < 8; n++)
        cpu->regs[n] = t.regs[n];
    cpu->rip = t.eip;
    cpu->shadow = 0;
    cpu->aflags = (u16)((t.eflags & 0xd5u) << 8 | (t.eflags >> 11 & 1));
    cpu->eflags = (t.eflags & ~EFLAGS_ARITH & 0x3f7fd7u) | 2;
    if (enter_new(cpu, &t, wide, has_error, error_code)) return TASK_DONE;
    cpu_update_mode(cpu);
    return TASK_FAULT_NEW;
}

bool task_switch(struct cpu *cpu, u16 selector, enum task_switch_kind kind, bool has_error, u32 error_code,
                 u64 next_rip)
{
    switch (task_switch_raw(cpu, selector, kind, has_error, error_code, next_rip, cpu_get_eflags(cpu))) {
    case TASK_FAULT_OLD: return false;
    case TASK_FAULT_NEW: deliver_exception(cpu); break;
    case TASK_DONE: break;
    }
    return true;
}

bool io_permitted(struct cpu *cpu, u16 port, unsigned size)
{
    if (!cpu_protected(cpu) || (!cpu_v86(cpu) && cpu->cpl <= cpu_iopl(cpu))) return true;
    u16 base, bits;
    const struct segment *tr = &cpu->tr;
    if (!(tr->attr & SEG_P) || !(tr->attr & 8) || tr->limit < TSS32_IOMAP + 1) return raise_gp0(cpu);
    TRY(lin_read(cpu, tr->base + TSS32_IOMAP, &base, 2, ACC_IMPLICIT));
    /* Two bytes are always read, so the bitmap must be followed by one more: [SDM1] 19.5.2. */
    u32 offset = base + port / 8u;
    if (offset + 1 > tr->limit) return raise_gp0(cpu);
    TRY(lin_read(cpu, tr->base + offset, &bits, 2, ACC_IMPLICIT));
    return (bits >> (port & 7) & ((1u << size) - 1)) == 0 || raise_gp0(cpu);
}
