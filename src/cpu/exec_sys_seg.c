/* Segment and descriptor-table registers: MOV/PUSH/POP of segment registers, LDS and its kin, LGDT..LTR,
 * LAR..ARPL.
 *
 * References: [SDM2] the instructions by name, [SDM3] 5.10 (pointer validation). */
#include "cpu/exec_sys.h"

#include <string.h>

#include "cpu/segment.h"

bool sys_read16(struct cpu *cpu, const struct insn *i, const struct operand *o, u16 *out)
{
    if (o->kind == OPND_MEM) return mem_read16(cpu, i->seg, insn_ea(cpu, i), out);
    *out = (u16)cpu->regs[o->reg];
    return true;
}

bool sys_store16(struct cpu *cpu, const struct insn *i, const struct operand *o, u64 value)
{
    if (o->kind == OPND_MEM) return mem_write16(cpu, i->seg, insn_ea(cpu, i), (u16)value);
    reg_set(cpu, o->reg, i->opsize, value);
    return true;
}

/* A load of SS holds off interrupts and debug traps for one instruction (SDM vol 3A 6.8.3). */
static bool after_ss(struct cpu *cpu, const struct insn *i)
{
    cpu->shadow = 2;
    cpu_update_mode(cpu);
    return leave_block(cpu, i);
}

bool sys_mov_sreg(struct cpu *cpu, const struct insn *i)
{
    const struct operand *dst = &i->operands[0];
    if (dst->kind != OPND_SEG) return sys_store16(cpu, i, dst, cpu->seg[i->operands[1].reg].selector);
    u16 selector;
    if (dst->reg == SEG_CS || dst->reg >= SEG_COUNT) return raise_ud(cpu);
    TRY(sys_read16(cpu, i, &i->operands[1], &selector));
    TRY(load_segment(cpu, dst->reg, selector));
    return dst->reg == SEG_SS ? after_ss(cpu, i) : true;
}

/* With a 32-bit operand only two bytes are written, as all recent processors do ([SDM2] PUSH). */
bool sys_push_sreg(struct cpu *cpu, const struct insn *i)
{
    u16 selector = cpu->seg[i->operands[0].reg].selector;
    if (i->opsize != 4) return push(cpu, i->opsize, selector);
    u64 sp = (cpu->regs[R_SP] - 4) & stack_mask(cpu);
    TRY(mem_write16(cpu, SEG_SS, sp, selector));
    stack_set(cpu, sp);
    return true;
}

bool sys_pop_sreg(struct cpu *cpu, const struct insn *i)
{
    u64 value, sp = cpu->regs[R_SP];
    unsigned seg = i->operands[0].reg;
    TRY(stack_peek(cpu, 2, 0, &value)); /* two bytes, whatever the operand size */
    stack_set(cpu, sp + i->opsize);
    if (!load_segment(cpu, seg, (u16)value)) {
        cpu->regs[R_SP] = sp;
        return false;
    }
    return seg == SEG_SS ? after_ss(cpu, i) : true;
}

/* LDS LES LFS LGS LSS */
bool sys_load_far(struct cpu *cpu, const struct insn *i)
{
    u64 ea = insn_ea(cpu, i), offset = 0;
    u16 selector;
    unsigned seg;
    switch (i->mnemonic) {
    case I_les: seg = SEG_ES; break;
    case I_lds: seg = SEG_DS; break;
    case I_lss: seg = SEG_SS; break;
    case I_lfs: seg = SEG_FS; break;
    default: seg = SEG_GS; break;
    }
    TRY(mem_read_block(cpu, i->seg, ea, &offset, i->opsize));
    TRY(mem_read16(cpu, i->seg, sys_ea_add(i, ea, i->opsize), &selector));
    TRY(load_segment(cpu, seg, selector));
    reg_set(cpu, i->operands[0].reg, i->opsize, offset);
    return sys_done(cpu, i);
}

/* ---- LDTR, TR, GDTR, IDTR ---- */

bool sys_lldt(struct cpu *cpu, const struct insn *i)
{
    u16 selector;
    if (!sys_protected(cpu)) return raise_ud(cpu);
    if (cpu->cpl) return raise_gp0(cpu);
    TRY(sys_read16(cpu, i, &i->operands[0], &selector));
    TRY(load_ldtr(cpu, selector, EXC_GP));
    return sys_done(cpu, i);
}

bool sys_ltr(struct cpu *cpu, const struct insn *i)
{
    u16 selector;
    if (!sys_protected(cpu)) return raise_ud(cpu);
    if (cpu->cpl) return raise_gp0(cpu);
    TRY(sys_read16(cpu, i, &i->operands[0], &selector));
    TRY(load_tr(cpu, selector));
    return sys_done(cpu, i);
}

/* User-mode instruction prevention (SDM vol 3A 2.5, CR4.UMIP). */
static bool umip(const struct cpu *cpu) { return (cpu->cr4 & CR4_UMIP) && cpu->cpl > 0; }

bool sys_sldt(struct cpu *cpu, const struct insn *i)
{
    if (!sys_protected(cpu)) return raise_ud(cpu);
    if (umip(cpu)) return raise_gp0(cpu);
    return sys_store16(cpu, i, &i->operands[0], cpu->ldtr.selector);
}

bool sys_str(struct cpu *cpu, const struct insn *i)
{
    if (!sys_protected(cpu)) return raise_ud(cpu);
    if (umip(cpu)) return raise_gp0(cpu);
    return sys_store16(cpu, i, &i->operands[0], cpu->tr.selector);
}

static bool load_table(struct cpu *cpu, const struct insn *i, struct descriptor_table *table)
{
    u8 raw[10] = {0};
    u16 limit;
    u64 base;
    if (cpu->cpl) return raise_gp0(cpu);
    TRY(mem_read_block(cpu, i->seg, insn_ea(cpu, i), raw, i->opsize == 8 ? 10 : 6));
    memcpy(&limit, raw, 2);
    memcpy(&base, raw + 2, 8);
    if (i->opsize == 2) base &= 0xffffff;
    if (i->opsize == 8 && !canonical(base)) return raise_gp0(cpu);
    table->limit = limit;
    table->base = base;
    return sys_done(cpu, i);
}

bool sys_lgdt(struct cpu *cpu, const struct insn *i) { return load_table(cpu, i, &cpu->gdtr); }
bool sys_lidt(struct cpu *cpu, const struct insn *i) { return load_table(cpu, i, &cpu->idtr); }

/* All base bits are stored whatever the operand size: so do all processors since the 80386. */
static bool store_table(struct cpu *cpu, const struct insn *i, const struct descriptor_table *table)
{
    u8 raw[10];
    u16 limit = (u16)table->limit;
    if (umip(cpu)) return raise_gp0(cpu);
    memcpy(raw, &limit, 2);
    memcpy(raw + 2, &table->base, 8);
    return mem_write_block(cpu, i->seg, insn_ea(cpu, i), raw, i->opsize == 8 ? 10 : 6);
}

bool sys_sgdt(struct cpu *cpu, const struct insn *i) { return store_table(cpu, i, &cpu->gdtr); }
bool sys_sidt(struct cpu *cpu, const struct insn *i) { return store_table(cpu, i, &cpu->idtr); }

/* ---- pointer validation ---- */

static bool set_zf(struct cpu *cpu, bool zf)
{
    cpu->aflags = (u16)((cpu->aflags & ~AFLAG_ZF) | (zf ? AFLAG_ZF : 0));
    return true;
}

/* Fetch what a selector names if the program may see it: *ok. System types are allowed by mask. */
static bool visible(struct cpu *cpu, u16 selector, u32 types, struct descriptor *d, bool *ok)
{
    *ok = false;
    if (selector_null(selector)) return true;
    TRY(descriptor_lookup(cpu, selector, d, ok));
    if (!*ok) return true;
    if (!(d->attr & SEG_S)) *ok = types >> sys_type(d->attr) & 1;
    if (!seg_is_conforming(d->attr) && (seg_dpl(d->attr) < cpu->cpl || seg_dpl(d->attr) < (selector & 3u)))
        *ok = false;
    return true;
}

#define TYPE(t) (1u << (t))

bool sys_lar(struct cpu *cpu, const struct insn *i)
{
    u32 types = TYPE(SYS_LDT) | TYPE(SYS_TSS_AVAIL) | TYPE(SYS_TSS_BUSY) | TYPE(SYS_CALL);
    struct descriptor d;
    u16 selector;
    bool ok;
    if (!sys_protected(cpu)) return raise_ud(cpu);
    if (!cpu_long(cpu))
        types |= TYPE(SYS_TSS16_AVAIL) | TYPE(SYS_TSS16_BUSY) | TYPE(SYS_CALL16) | TYPE(SYS_TASK_GATE);
    TRY(sys_read16(cpu, i, &i->operands[1], &selector));
    TRY(visible(cpu, selector, types, &d, &ok));
    if (ok) reg_set(cpu, i->operands[0].reg, i->opsize, d.raw >> 32 & 0x00ffff00);
    return set_zf(cpu, ok);
}

bool sys_lsl(struct cpu *cpu, const struct insn *i)
{
    u32 types = TYPE(SYS_LDT) | TYPE(SYS_TSS_AVAIL) | TYPE(SYS_TSS_BUSY);
    struct descriptor d;
    u16 selector;
    bool ok;
    if (!sys_protected(cpu)) return raise_ud(cpu);
    if (!cpu_long(cpu)) types |= TYPE(SYS_TSS16_AVAIL) | TYPE(SYS_TSS16_BUSY);
    TRY(sys_read16(cpu, i, &i->operands[1], &selector));
    TRY(visible(cpu, selector, types, &d, &ok));
    if (ok) reg_set(cpu, i->operands[0].reg, i->opsize, d.limit);
    return set_zf(cpu, ok);
}

bool sys_verr(struct cpu *cpu, const struct insn *i)
{
    struct descriptor d;
    u16 selector;
    bool ok;
    if (!sys_protected(cpu)) return raise_ud(cpu);
    TRY(sys_read16(cpu, i, &i->operands[0], &selector));
    TRY(visible(cpu, selector, 0, &d, &ok));
    return set_zf(cpu, ok && seg_is_readable(d.attr));
}

bool sys_verw(struct cpu *cpu, const struct insn *i)
{
    struct descriptor d;
    u16 selector;
    bool ok;
    if (!sys_protected(cpu)) return raise_ud(cpu);
    TRY(sys_read16(cpu, i, &i->operands[0], &selector));
    TRY(visible(cpu, selector, 0, &d, &ok));
    return set_zf(cpu, ok && seg_is_writable(d.attr));
}

bool sys_arpl(struct cpu *cpu, const struct insn *i)
{
    u16 dst, src = (u16)cpu->regs[i->operands[1].reg];
    if (!sys_protected(cpu)) return raise_ud(cpu);
    TRY(sys_read16(cpu, i, &i->operands[0], &dst));
    if ((dst & 3) >= (src & 3)) return set_zf(cpu, false);
    dst = (u16)((dst & ~3) | (src & 3));
    if (i->operands[0].kind == OPND_MEM)
        TRY(mem_write16(cpu, i->seg, insn_ea(cpu, i), dst));
    else
        reg_set(cpu, i->operands[0].reg, 2, dst);
    return set_zf(cpu, true);
}
