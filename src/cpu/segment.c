/* Segmentation: descriptor tables, segment register loads in every mode, LDTR and TR, stacks from the TSS.
 *
 * References: [SDM3] chapters 3 (segments), 5 (protection), 7.2 (TSS); the pseudo code of MOV, LLDT, LTR in
 * [SDM2]. */
#include "cpu/segment.h"

#include "cpu/fpu_live.h"

void descriptor_unpack(struct descriptor *d, u64 raw)
{
    d->raw = raw;
    d->base = (raw >> 16 & 0xffffff) | (raw >> 32 & 0xff000000);
    d->attr = (u16)(raw >> 40 & 0xf0ff);
    d->limit = (u32)((raw & 0xffff) | (raw >> 32 & 0xf0000));
    if (d->attr & SEG_G) d->limit = d->limit << 12 | 0xfff;
}

bool descriptor_lookup(struct cpu *cpu, u16 selector, struct descriptor *d, bool *valid)
{
    u64 raw, base = cpu->gdtr.base;
    u32 limit = cpu->gdtr.limit;
    if (selector & 4) {
        base = cpu->ldtr.base;
        limit = cpu->ldtr.limit;
    }
    *valid = (selector | 7u) <= limit && !((selector & 4) && !(cpu->ldtr.attr & SEG_P));
    if (!*valid) return true;
    d->addr = base + (selector & 0xfff8u);
    TRY(lin_read(cpu, d->addr, &raw, 8, ACC_IMPLICIT));
    descriptor_unpack(d, raw);
    return true;
}

bool descriptor_read(struct cpu *cpu, u16 selector, int vector, struct descriptor *d)
{
    bool valid;
    TRY(descriptor_lookup(cpu, selector, d, &valid));
    return valid || raise_sel(cpu, vector, selector);
}

bool descriptor_read_high(struct cpu *cpu, u16 selector, int vector, struct descriptor *d)
{
    u64 high;
    u32 limit = selector & 4 ? cpu->ldtr.limit : cpu->gdtr.limit;
    if (!cpu_long(cpu)) return true;
    if ((selector | 7u) + 8 > limit) return raise_sel(cpu, vector, selector);
    TRY(lin_read(cpu, d->addr + 8, &high, 8, ACC_IMPLICIT));
    /* The type field of the upper half must be clear, so that it cannot be taken for a descriptor (SDM vol
     * 3A 3.5.2). */
    if (high >> 40 & 0x1f) return raise_sel(cpu, vector, selector);
    d->base |= high << 32;
    return canonical(d->base) || raise_sel(cpu, vector, selector);
}

/* Descriptor bits change under a bus lock: other processors may load the same descriptor. */
bool lin_modify8(struct cpu *cpu, gla addr, u8 clear, u8 set)
{
    gpa phys;
    bool page_ok;
    u8 v;
    fpu_save(cpu);
    if (!cpu_long(cpu)) addr = (u32)addr;
    TRY(lin_probe_write(cpu, addr, 1, ACC_IMPLICIT));
    TRY(mmu_translate(cpu, addr, ACC_WRITE | ACC_IMPLICIT, &phys));
    struct bus_target t = bus_lookup(cpu->mem, phys, true, &page_ok);
    if (t.host) {
        v = __atomic_load_n(t.host, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(t.host, &v, (u8)((v & ~clear) | set), false, __ATOMIC_SEQ_CST,
                                            __ATOMIC_RELAXED)) {
        }
        ram_note_write(t.ram, t.ram_offset, 1);
        return true;
    }
    TRY(lin_read(cpu, addr, &v, 1, ACC_IMPLICIT));
    v = (u8)((v & ~clear) | set);
    return lin_write(cpu, addr, &v, 1, ACC_IMPLICIT);
}

bool descriptor_set_accessed(struct cpu *cpu, struct descriptor *d)
{
    if (d->attr & 1) return true;
    TRY(lin_modify8(cpu, d->addr + 5, 0, 1));
    d->attr |= 1;
    return true;
}

/* ---- segment registers ---- */

void load_segment_real(struct cpu *cpu, unsigned seg, u16 selector)
{
    struct segment *s = &cpu->seg[seg];
    s->selector = selector;
    s->base = (u64)selector << 4;
    if (cpu_v86(cpu)) {
        s->limit = 0xffff;
        s->attr = SEG_P | SEG_DPL | SEG_S | 3;
    } else {
        /* Processors keep limit and size from before in real mode: "unreal mode". A null segment has none to
         * keep. */
        if (!(s->attr & SEG_P)) s->limit = 0xffff;
        s->attr = (s->attr & 0xff00) | SEG_P | SEG_S | 3;
    }
}

void switch_segment_real(struct cpu *cpu, unsigned seg, u16 selector)
{
    load_segment_real(cpu, seg, selector);
    cpu->win[seg].base = cpu->seg[seg].base;
    if (!cpu->plain_real) cpu_update_mode(cpu);
    else if (seg == SEG_CS) cpu_code_segment(cpu);
}

static bool load_ss(struct cpu *cpu, u16 selector)
{
    struct segment *ss = &cpu->seg[SEG_SS];
    struct descriptor d;
    if (selector_null(selector)) {
        if (!cpu_code64(cpu) || cpu->cpl == 3 || (selector & 3) != cpu->cpl) return raise_gp0(cpu);
        segment_set_null(ss, selector);
        ss->attr = (u16)(cpu->cpl << 5);
        return true;
    }
    TRY(descriptor_read(cpu, selector, EXC_GP, &d));
    if ((selector & 3) != cpu->cpl || !seg_is_writable(d.attr) || seg_dpl(d.attr) != cpu->cpl)
        return raise_sel(cpu, EXC_GP, selector);
    if (!(d.attr & SEG_P)) return raise_sel(cpu, EXC_SS, selector);
    TRY(descriptor_set_accessed(cpu, &d));
    segment_set(ss, selector, &d);
    return true;
}

static bool load_data_segment(struct cpu *cpu, unsigned seg, u16 selector)
{
    struct descriptor d;
    if (selector_null(selector)) {
        segment_set_null(&cpu->seg[seg], selector);
        return true;
    }
    TRY(descriptor_read(cpu, selector, EXC_GP, &d));
    if (!seg_is_readable(d.attr)) return raise_sel(cpu, EXC_GP, selector);
    if (!seg_is_conforming(d.attr) && ((selector & 3u) > seg_dpl(d.attr) || cpu->cpl > seg_dpl(d.attr)))
        return raise_sel(cpu, EXC_GP, selector);
    if (!(d.attr & SEG_P)) return raise_sel(cpu, EXC_NP, selector);
    TRY(descriptor_set_accessed(cpu, &d));
    segment_set(&cpu->seg[seg], selector, &d);
    return true;
}

bool load_segment(struct cpu *cpu, unsigned seg, u16 selector)
{
    if (!cpu_protected(cpu) || cpu_v86(cpu)) {
        switch_segment_real(cpu, seg, selector);
        return true;
    }
    if (seg == SEG_SS)
        TRY(load_ss(cpu, selector));
    else
        TRY(load_data_segment(cpu, seg, selector));
    cpu_update_mode(cpu);
    return true;
}

bool code_offset_check(struct cpu *cpu, const struct descriptor *d, u64 rip)
{
    bool ok = cpu_long(cpu) && (d->attr & SEG_L) ? canonical(rip) : rip <= d->limit;
    return ok || raise_gp0(cpu);
}

void segments_drop_privileged(struct cpu *cpu)
{
    static const u8 list[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned n = 0; n < sizeof list; n++) {
        struct segment *s = &cpu->seg[list[n]];
        if (!(s->attr & SEG_P) || seg_is_conforming(s->attr) || seg_dpl(s->attr) >= cpu->cpl) continue;
        s->selector = 0;
        s->attr = 0;
    }
}

/* ---- LDTR and TR ---- */

bool load_ldtr(struct cpu *cpu, u16 selector, int vector)
{
    struct descriptor d;
    if (selector_null(selector)) {
        segment_set_null(&cpu->ldtr, selector);
        return true;
    }
    if (selector & 4) return raise_sel(cpu, vector, selector);
    TRY(descriptor_read(cpu, selector, vector, &d));
    if (sys_type(d.attr) != SYS_LDT) return raise_sel(cpu, vector, selector);
    /* Task switches report an absent LDT as #TS (SDM vol 3A table 7-1). */
    if (!(d.attr & SEG_P)) return raise_sel(cpu, vector == EXC_TS ? EXC_TS : EXC_NP, selector);
    TRY(descriptor_read_high(cpu, selector, vector, &d));
    segment_set(&cpu->ldtr, selector, &d);
    return true;
}

bool load_tr(struct cpu *cpu, u16 selector)
{
    struct descriptor d;
    if (selector_null(selector)) return raise_gp0(cpu);
    if (selector & 4) return raise_sel(cpu, EXC_GP, selector);
    TRY(descriptor_read(cpu, selector, EXC_GP, &d));
    unsigned type = sys_type(d.attr);
    if (type != SYS_TSS_AVAIL && (type != SYS_TSS16_AVAIL || cpu_long(cpu)))
        return raise_sel(cpu, EXC_GP, selector);
    if (!(d.attr & SEG_P)) return raise_sel(cpu, EXC_NP, selector);
    TRY(descriptor_read_high(cpu, selector, EXC_GP, &d));
    TRY(lin_modify8(cpu, d.addr + 5, 0, 2));
    d.attr |= 2;
    segment_set(&cpu->tr, selector, &d);
    return true;
}

/* ---- stacks ---- */

struct stack stack_current(const struct cpu *cpu)
{
    const struct segment *ss = &cpu->seg[SEG_SS];
    return (struct stack){.base = ss->base,
                          .mask = stack_mask(cpu),
                          .limit = ss->limit,
                          .attr = ss->attr,
                          .flat64 = cpu_code64(cpu)};
}

struct stack stack_of(const struct descriptor *ss, u16 selector)
{
    return (struct stack){.base = ss->base,
                          .mask = ss->attr & SEG_DB ? 0xffffffffu : 0xffffu,
                          .limit = ss->limit,
                          .attr = ss->attr,
                          .error = selector & 0xfffcu,
                          .acc = ACC_SUPER};
}

struct stack stack_flat64(void) { return (struct stack){.mask = ~0ull, .flat64 = true, .acc = ACC_SUPER}; }

/* Does [offset, offset + size) lie within the stack segment? */
static bool stack_allows(const struct stack *s, u64 offset, unsigned size)
{
    u64 last = offset + size - 1;
    if ((s->attr & (8 | 4)) == 4)
        return offset > s->limit && last <= (s->attr & SEG_DB ? 0xffffffffu : 0xffffu);
    return last <= s->limit;
}

bool stack_push(struct cpu *cpu, const struct stack *s, u64 sp, const void *frame, unsigned size,
                unsigned unit)
{
    const u8 *bytes = frame;
    u64 offset = (sp - size) & s->mask;
    if (s->flat64) {
        if (!canonical(offset) || !canonical(offset + size - 1)) return raise_err(cpu, EXC_SS, s->error);
        if (s->acc == 0 && cpu->cpl == 3 && (cpu->cr0 & CR0_AM) && (cpu->eflags & EFLAGS_AC) && (offset & (unit - 1)))
            return raise_err(cpu, EXC_AC, 0);
        return lin_write(cpu, offset, frame, size, s->acc);
    }
    bool wraps = offset + size - 1 > s->mask;
    for (unsigned n = 0; n < size; n += unit)
        if (!stack_allows(s, (offset + n) & s->mask, unit)) return raise_err(cpu, EXC_SS, s->error);
    if (s->acc == 0 && cpu->cpl == 3 && (cpu->cr0 & CR0_AM) && (cpu->eflags & EFLAGS_AC) &&
        ((s->base + offset) & (unit - 1)))
        return raise_err(cpu, EXC_AC, 0);
    if (!wraps) return lin_write(cpu, (u32)(s->base + offset), frame, size, s->acc);
    for (unsigned n = 0; n < size; n += unit)
        TRY(lin_probe_write(cpu, (u32)(s->base + ((offset + n) & s->mask)), unit, s->acc));
    for (unsigned n = 0; n < size; n += unit)
        TRY(lin_write(cpu, (u32)(s->base + ((offset + n) & s->mask)), bytes + n, unit, s->acc));
    return true;
}

bool stack_peek(struct cpu *cpu, unsigned unit, unsigned n, u64 *value)
{
    u64 offset = (cpu->regs[R_SP] + n * unit) & stack_mask(cpu);
    switch (unit) {
    case 2: {
        u16 v;
        TRY(mem_read16(cpu, SEG_SS, offset, &v));
        *value = v;
        return true;
    }
    case 4: {
        u32 v;
        TRY(mem_read32(cpu, SEG_SS, offset, &v));
        *value = v;
        return true;
    }
    default: return mem_read64(cpu, SEG_SS, offset, value);
    }
}

bool tss_inner_stack(struct cpu *cpu, unsigned dpl, u16 *ss, u32 *sp)
{
    bool wide = cpu->tr.attr & 8;
    u32 offset = wide ? dpl * 8 + 4 : dpl * 4 + 2;
    if (offset + (wide ? 5 : 3) > cpu->tr.limit) return raise_sel(cpu, EXC_TS, cpu->tr.selector);
    u32 v = 0;
    TRY(lin_read(cpu, cpu->tr.base + offset, &v, wide ? 4 : 2, ACC_IMPLICIT));
    *sp = v;
    return lin_read(cpu, cpu->tr.base + offset + (wide ? 4 : 2), ss, 2, ACC_IMPLICIT);
}

bool inner_ss_check(struct cpu *cpu, u16 ss, unsigned dpl, struct descriptor *d)
{
    if (selector_null(ss)) return raise_err(cpu, EXC_TS, 0);
    TRY(descriptor_read(cpu, ss, EXC_TS, d));
    if ((ss & 3u) != dpl || seg_dpl(d->attr) != dpl || !seg_is_writable(d->attr))
        return raise_sel(cpu, EXC_TS, ss);
    if (!(d->attr & SEG_P)) return raise_sel(cpu, EXC_SS, ss);
    return true;
}

bool tss_stack64(struct cpu *cpu, unsigned slot, u64 *rsp)
{
    u32 offset = 4 + slot * 8;
    if (offset + 7 > cpu->tr.limit) return raise_sel(cpu, EXC_TS, cpu->tr.selector);
    return lin_read(cpu, cpu->tr.base + offset, rsp, 8, ACC_IMPLICIT);
}
