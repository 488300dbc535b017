/* The local APIC of one vCPU.
 *
 * Models the APIC of Intel processors since the Nehalem generation (version 0x14, six LVT entries): xAPIC
 * and x2APIC register interfaces, mode changes through IA32_APIC_BASE, fixed/lowest-priority/SMI/NMI/INIT/
 * start-up/ExtINT messages, the local pins, error reporting and the timer (lapic_timer.c).
 * Left out: the CMCI entry (the version register says so), remote read, focus processors, interrupt
 * posting. The thermal and performance entries are registers without a source.
 *
 * References: [SDM3] Intel SDM volume 3A, chapter 11 (APIC).
 *
 * An interrupt's life:  message or LVT -> IRR --(class above PPR, CPU acknowledges)--> ISR --EOI--> gone
 *                                                   TMR set: EOI is broadcast to the I/O APICs */
#include "devices/lapic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "devices/lapic_state.h"

/* Registers by number: MMIO offset / 16 and x2APIC MSR - 0x800 ([SDM3] table 11-1, 11-6). */
enum lapic_register {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_APR = 0x09,
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_RRD = 0x0c,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR = 0x30,
    REG_ICR_HIGH = 0x31,
    REG_LVT = 0x32,
    REG_LVT_LAST = 0x37,
    REG_TIMER_INITIAL = 0x38,
    REG_TIMER_CURRENT = 0x39,
    REG_TIMER_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f,
};

#define MSR_APIC_BASE    0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC       0x800u
#define MSR_X2APIC_LAST  0x8ffu

/* IA32_APIC_BASE, [SDM3] figure 11-5. */
#define BASE_BSP    (1ull << 8)
#define BASE_X2APIC (1ull << 10)
#define BASE_ENABLE (1ull << 11)

#define SVR_ENABLE       (1u << 8)
#define SVR_SUPPRESS_EOI (1u << 12)

/* Error status bits, [SDM3] 11.5.3. */
#define ESR_SEND_ILLEGAL    (1u << 5)
#define ESR_RECEIVE_ILLEGAL (1u << 6)
#define ESR_REGISTER        (1u << 7)

/* Interrupt command, [SDM3] figure 11-12. */
#define ICR_LOGICAL   (1u << 11)
#define ICR_ASSERT    (1u << 14)
#define ICR_LEVEL     (1u << 15)
#define ICR_BUSY      (1u << 12)
#define ICR_DEFINED   0x000cdfffu
#define ICR_SHORTHAND (3u << 18)
#define ICR_SELF      (1u << 18)
#define ICR_ALL       (2u << 18)
#define ICR_OTHERS    (3u << 18)

static const struct {
    u32 writable;  /* bits software sets */
    u32 read_only; /* bits that may be written as anything */
} lapic_lvt_bits[LVT_COUNT] = {
    [LVT_TIMER] = {0x700ff, 0x1000},   [LVT_THERMAL] = {0x107ff, 0x1000}, [LVT_PERF] = {0x107ff, 0x1000},
    [LVT_LINT0] = {0x1a7ff, 0x5000},   [LVT_LINT1] = {0x1a7ff, 0x5000},   [LVT_ERROR] = {0x100ff, 0x1000},
};

/* ---- vector sets and priorities ---- */

static bool lapic_test(const u32 *set, u8 vector) { return set[vector >> 5] >> (vector & 31) & 1; }

static void lapic_assign(u32 *set, u8 vector, bool on)
{
    u32 bit = 1u << (vector & 31);
    if (on) set[vector >> 5] |= bit;
    else set[vector >> 5] &= ~bit;
}

static int lapic_highest(const u32 *set)
{
    for (int i = 7; i >= 0; i--)
        if (set[i]) return i * 32 + 31 - __builtin_clz(set[i]);
    return -1;
}

/* [SDM3] 11.8.3.1 */
static u8 lapic_ppr(const struct lapic *l)
{
    int in_service = lapic_highest(l->isr);
    u8 isr_class = in_service < 0 ? 0 : in_service & 0xf0;
    return (l->tpr & 0xf0) >= isr_class ? l->tpr : isr_class;
}

/* [SDM3] 11.6.2.4 */
static u8 lapic_apr(const struct lapic *l)
{
    int requested = lapic_highest(l->irr), in_service = lapic_highest(l->isr);
    u8 irr_class = requested < 0 ? 0 : requested & 0xf0;
    u8 isr_class = in_service < 0 ? 0 : in_service & 0xf0;
    u8 task_class = l->tpr & 0xf0;
    if (task_class >= irr_class && task_class > isr_class) return l->tpr;
    return MAX(MAX(task_class, isr_class), irr_class);
}

bool lapic_enabled(const struct lapic *l) { return (l->base & BASE_ENABLE) != 0; }
bool lapic_is_bsp(const struct lapic *l) { return (l->base & BASE_BSP) != 0; }
u32 lapic_initial_id(const struct lapic *l) { return l->config.id; }
gpa lapic_base(const struct lapic *l) { return l->base & ~GUEST_PAGE_MASK; }

static bool lapic_software_enabled(const struct lapic *l) { return (l->svr & SVR_ENABLE) != 0; }

bool lapic_accepts_fixed(const struct lapic *l) { return lapic_enabled(l) && lapic_software_enabled(l); }
u8 lapic_arbitration_priority(const struct lapic *l) { return lapic_apr(l); }

static u32 lapic_lvt_mode(const struct lapic *l, enum lapic_lvt n)
{
    return l->lvt[n] >> LVT_MODE_SHIFT & 7;
}

/* ---- towards the CPU ---- */

/* Does the i8259 (or an ExtINT message) want an INTA cycle? With the APIC globally disabled LINT0 is the
 * CPU's INTR pin ([SDM3] 11.4.3). */
static bool lapic_extint(const struct lapic *l)
{
    if (!lapic_enabled(l)) return l->lint[0];
    if (l->extint_requested) return true;
    bool open = !(l->lvt[LVT_LINT0] & LVT_MASKED) && lapic_lvt_mode(l, LVT_LINT0) == APIC_MODE_EXTINT;
    return l->lint[0] && open;
}

/* The vector that may interrupt now, or -1. */
static int lapic_deliverable(const struct lapic *l)
{
    int vector = lapic_highest(l->irr);
    return lapic_enabled(l) && vector >= 0 && (vector & 0xf0) > (lapic_ppr(l) & 0xf0) ? vector : -1;
}

bool lapic_has_interrupt(const struct lapic *l) { return lapic_extint(l) || lapic_deliverable(l) >= 0; }

static void lapic_update(struct lapic *l)
{
    bool level = lapic_has_interrupt(l);
    if (level == l->intr_level) return;
    l->intr_level = level;
    l->cpu.set_intr(l->cpu.opaque, level);
}

int lapic_ack(struct lapic *l)
{
    if (lapic_extint(l)) {
        l->extint_requested = false;
        int vector = l->config.extint_ack ? l->config.extint_ack(l->config.extint_opaque) : -1;
        lapic_update(l);
        return vector;
    }
    int vector = lapic_deliverable(l);
    if (vector >= 0) {
        lapic_assign(l->irr, (u8)vector, false);
        lapic_assign(l->isr, (u8)vector, true);
    } else if (lapic_enabled(l) && lapic_highest(l->irr) >= 0) {
        /* The request fell below the priority after INTR was raised: [SDM3] 11.9. ISR stays as it is. */
        vector = (int)(l->svr & 0xff);
    }
    lapic_update(l);
    return vector;
}

static void lapic_error(struct lapic *l, u32 bits)
{
    /* The first error since the last ESR write interrupts ([SDM3] 11.5.3: the write rearms it). The entry's
     * own illegal vector must not come back here. */
    bool armed = l->esr_pending == 0;
    l->esr_pending |= bits;
    if (armed && !(l->lvt[LVT_ERROR] & LVT_MASKED)) lapic_local_interrupt(l, l->lvt[LVT_ERROR] & 0xff, false);
}

void lapic_local_interrupt(struct lapic *l, u8 vector, bool level)
{
    if (vector < 16) {
        lapic_error(l, ESR_RECEIVE_ILLEGAL);
        return;
    }
    lapic_assign(l->irr, vector, true);
    lapic_assign(l->tmr, vector, level);
    lapic_update(l);
}

/* ---- local pins ---- */

static void lapic_lint_deliver(struct lapic *l, int pin)
{
    u32 *lvt = &l->lvt[LVT_LINT0 + pin];
    bool level = (*lvt & LVT_LEVEL) != 0;
    switch (lapic_lvt_mode(l, LVT_LINT0 + pin)) {
    case APIC_MODE_FIXED:
        if (level && *lvt & LVT_REMOTE_IRR) return;
        if (level) *lvt |= LVT_REMOTE_IRR;
        lapic_local_interrupt(l, *lvt & 0xff, level);
        break;
    case APIC_MODE_SMI: l->cpu.smi(l->cpu.opaque); break;
    case APIC_MODE_NMI: l->cpu.nmi(l->cpu.opaque); break;
    case APIC_MODE_INIT:
        lapic_init_reset(l);
        l->cpu.init(l->cpu.opaque);
        break;
    default: break; /* ExtINT follows the pin's level, see lapic_extint() */
    }
}

/* A level-triggered entry delivers whenever it is open, asserted and not in service. */
static void lapic_lint_evaluate(struct lapic *l, int pin)
{
    u32 lvt = l->lvt[LVT_LINT0 + pin];
    if (l->lint[pin] && !(lvt & LVT_MASKED) && lvt & LVT_LEVEL &&
        lapic_lvt_mode(l, LVT_LINT0 + pin) == APIC_MODE_FIXED)
        lapic_lint_deliver(l, pin);
}

static void lapic_lint_set(void *opaque, int pin, int level)
{
    struct lapic *l = opaque;
    bool rising = level && !l->lint[pin];
    l->lint[pin] = level != 0;
    if (!lapic_enabled(l)) {
        /* LINT1 is the CPU's NMI pin then. */
        if (pin == 1 && rising) l->cpu.nmi(l->cpu.opaque);
    } else if (rising && !(l->lvt[LVT_LINT0 + pin] & LVT_MASKED)) {
        lapic_lint_deliver(l, pin);
    }
    lapic_update(l);
}

struct irq_line lapic_lint(struct lapic *l, int pin) { return (struct irq_line){lapic_lint_set, l, pin & 1}; }

static void lapic_eoi(struct lapic *l)
{
    int vector = lapic_highest(l->isr);
    if (vector < 0) return;
    lapic_assign(l->isr, (u8)vector, false);
    if (lapic_test(l->tmr, (u8)vector)) {
        for (int pin = 0; pin < 2; pin++) {
            u32 *lvt = &l->lvt[LVT_LINT0 + pin];
            if ((*lvt & 0xff) != (u32)vector || !(*lvt & LVT_REMOTE_IRR)) continue;
            *lvt &= ~LVT_REMOTE_IRR;
            lapic_lint_evaluate(l, pin);
        }
        if (!(l->svr & SVR_SUPPRESS_EOI)) apic_bus_eoi(l->apics, (u8)vector);
    }
    lapic_update(l);
}

/* ---- messages ---- */

static u32 lapic_x2apic_ldr(const struct lapic *l)
{
    /* [SDM3] 11.12.10.2: derived from the ID. */
    return l->config.id >> 4 << 16 | 1u << (l->config.id & 15);
}

static u32 lapic_current_id(const struct lapic *l)
{
    return lapic_is_x2apic(l) ? l->config.id : l->xapic_id;
}

bool lapic_matches(const struct lapic *l, const struct apic_message *m)
{
    u32 dest = m->dest;
    if (dest == (m->wide ? 0xffffffff : 0xff)) return true;
    if (!m->logical) return dest == lapic_current_id(l);
    if (lapic_is_x2apic(l)) {
        u32 ldr = lapic_x2apic_ldr(l);
        return dest >> 16 == ldr >> 16 && (dest & ldr & 0xffff) != 0;
    }
    if (dest > 0xff) return false;
    u32 ldr = l->ldr >> 24;
    /* [SDM3] 11.6.2.2: DFR bits 31:28 choose the flat or the cluster model. */
    if (l->dfr >> 28 == 0xf) return (dest & ldr) != 0;
    return dest >> 4 == ldr >> 4 && (dest & ldr & 0xf) != 0;
}

bool lapic_accept(struct lapic *l, const struct apic_message *m)
{
    if (!lapic_enabled(l)) return false;
    switch (m->mode) {
    case APIC_MODE_FIXED:
    case APIC_MODE_LOWEST:
        if (!lapic_software_enabled(l)) return false;
        lapic_local_interrupt(l, m->vector, m->level);
        return true;
    case APIC_MODE_EXTINT:
        if (!lapic_software_enabled(l)) return false;
        l->extint_requested = true;
        lapic_update(l);
        return true;
    /* [SDM3] 11.4.7.2: these work in the software-disabled state too. */
    case APIC_MODE_SMI: l->cpu.smi(l->cpu.opaque); return true;
    case APIC_MODE_NMI: l->cpu.nmi(l->cpu.opaque); return true;
    case APIC_MODE_INIT:
        lapic_init_reset(l);
        l->cpu.init(l->cpu.opaque);
        return true;
    case APIC_MODE_SIPI: l->cpu.sipi(l->cpu.opaque, m->vector); return true;
    default: return false;
    }
}

static void lapic_send_ipi(struct lapic *l)
{
    u32 icr = l->icr_low, shorthand = icr & ICR_SHORTHAND;
    struct apic_message m = {
        .vector = icr & 0xff,
        .mode = icr >> LVT_MODE_SHIFT & 7,
        .logical = (icr & ICR_LOGICAL) != 0,
        .wide = lapic_is_x2apic(l),
        .dest = lapic_is_x2apic(l) ? l->icr_high : l->icr_high >> 24,
    };
    /* The trigger mode matters only for INIT: the de-assert message is a relic that does nothing here
     * ([SDM3] 11.6.1, not supported since the Pentium 4). */
    if (m.mode == APIC_MODE_INIT && icr & ICR_LEVEL && !(icr & ICR_ASSERT)) return;
    if (m.mode == 3 || m.mode == APIC_MODE_EXTINT) {
        log_printf(LOG_GUEST_ERROR, "lapic: IPI with reserved delivery mode, ICR 0x%x\n", icr);
        return;
    }
    if ((m.mode == APIC_MODE_FIXED || m.mode == APIC_MODE_LOWEST) && m.vector < 16) {
        lapic_error(l, ESR_SEND_ILLEGAL);
        return;
    }
    /* [SDM3] table 11-3: to itself a CPU sends fixed interrupts only. */
    if ((shorthand == ICR_SELF || shorthand == ICR_ALL) && m.mode != APIC_MODE_FIXED) {
        log_printf(LOG_GUEST_ERROR, "lapic: shorthand is invalid for this delivery mode, ICR 0x%x\n", icr);
        return;
    }
    switch (shorthand) {
    case ICR_SELF: lapic_accept(l, &m); break;
    case ICR_ALL: apic_bus_broadcast(l->apics, &m, NULL); break;
    case ICR_OTHERS: apic_bus_broadcast(l->apics, &m, l); break;
    default: apic_bus_send(l->apics, &m); break;
    }
}

/* ---- registers ---- */

static u32 lapic_version(const struct lapic *l)
{
    return 0x14 | (LVT_COUNT - 1) << 16 | (l->config.directed_eoi ? 1u << 24 : 0);
}

static void lapic_write_lvt(struct lapic *l, enum lapic_lvt n, u32 value)
{
    u32 old = l->lvt[n];
    value = (value & lapic_lvt_bits[n].writable) | (old & LVT_REMOTE_IRR & lapic_lvt_bits[n].read_only);
    if (n == LVT_TIMER && !l->config.tsc_deadline) value &= ~LVT_DEADLINE;
    /* [SDM3] 11.4.7.2: the mask bits stay set while the APIC is software-disabled. An entry that was left
     * open at power-on (see lapic_load_defaults()) may stay as it is. */
    if (!lapic_software_enabled(l) && (value != (old & lapic_lvt_bits[n].writable))) value |= LVT_MASKED;
    if (n == LVT_TIMER) {
        lapic_timer_set_lvt(l, value);
        return;
    }
    l->lvt[n] = value;
    if (n == LVT_LINT0 || n == LVT_LINT1) {
        if (!(value & LVT_LEVEL)) l->lvt[n] &= ~LVT_REMOTE_IRR;
        lapic_lint_evaluate(l, n - LVT_LINT0);
    }
    lapic_update(l);
}

static void lapic_write_svr(struct lapic *l, u32 value)
{
    l->svr = value & (0x3ff | (l->config.directed_eoi ? SVR_SUPPRESS_EOI : 0));
    if (!lapic_software_enabled(l)) {
        lapic_timer_set_lvt(l, l->lvt[LVT_TIMER] | LVT_MASKED);
        for (int i = 0; i < LVT_COUNT; i++) l->lvt[i] |= LVT_MASKED;
    }
    lapic_update(l);
}

static void lapic_write_esr(struct lapic *l)
{
    l->esr = l->esr_pending;
    l->esr_pending = 0;
}

/* The registers that read alike in both modes. false: there is no such register. */
static bool lapic_read_register(struct lapic *l, unsigned reg, u32 *value)
{
    switch (reg) {
    case REG_VERSION: *value = lapic_version(l); return true;
    case REG_TPR: *value = l->tpr; return true;
    case REG_PPR: *value = lapic_ppr(l); return true;
    case REG_SVR: *value = l->svr; return true;
    case REG_ISR ... REG_ISR + 7: *value = l->isr[reg - REG_ISR]; return true;
    case REG_TMR ... REG_TMR + 7: *value = l->tmr[reg - REG_TMR]; return true;
    case REG_IRR ... REG_IRR + 7: *value = l->irr[reg - REG_IRR]; return true;
    case REG_ESR: *value = l->esr; return true;
    case REG_LVT ... REG_LVT_LAST: *value = l->lvt[reg - REG_LVT]; return true;
    case REG_TIMER_INITIAL: *value = l->timer_initial; return true;
    case REG_TIMER_CURRENT: *value = lapic_timer_count(l); return true;
    case REG_TIMER_DIVIDE: *value = l->timer_divide; return true;
    default: return false;
    }
}

static bool lapic_write_register(struct lapic *l, unsigned reg, u32 value)
{
    switch (reg) {
    case REG_TPR:
        l->tpr = value & 0xff;
        lapic_update(l);
        return true;
    case REG_EOI: lapic_eoi(l); return true;
    case REG_SVR: lapic_write_svr(l, value); return true;
    case REG_ESR: lapic_write_esr(l); return true;
    case REG_LVT ... REG_LVT_LAST: lapic_write_lvt(l, reg - REG_LVT, value); return true;
    case REG_TIMER_INITIAL: lapic_timer_set_initial(l, value); return true;
    case REG_TIMER_DIVIDE: lapic_timer_set_divide(l, value); return true;
    default: return false;
    }
}

static u32 lapic_xapic_read(struct lapic *l, unsigned reg)
{
    u32 value;
    if (lapic_read_register(l, reg, &value)) return value;
    switch (reg) {
    case REG_ID: return (u32)l->xapic_id << 24;
    case REG_APR: return lapic_apr(l);
    case REG_EOI:
    case REG_RRD: return 0;
    case REG_LDR: return l->ldr;
    case REG_DFR: return l->dfr;
    case REG_ICR: return l->icr_low;
    case REG_ICR_HIGH: return l->icr_high;
    default: lapic_error(l, ESR_REGISTER); return 0;
    }
}

static void lapic_xapic_write(struct lapic *l, unsigned reg, u32 value)
{
    if (lapic_write_register(l, reg, value)) return;
    switch (reg) {
    case REG_ID: l->xapic_id = value >> 24; break;
    case REG_LDR: l->ldr = value & 0xff000000; break;
    case REG_DFR: l->dfr = value | 0x0fffffff; break;
    case REG_ICR:
        l->icr_low = value & ICR_DEFINED & ~ICR_BUSY;
        lapic_send_ipi(l);
        break;
    case REG_ICR_HIGH: l->icr_high = value & 0xff000000; break;
    case REG_VERSION:
    case REG_APR:
    case REG_PPR:
    case REG_RRD:
    case REG_ISR ... REG_IRR + 7:
    case REG_TIMER_CURRENT: break; /* read-only */
    default: lapic_error(l, ESR_REGISTER); break;
    }
}

static u64 lapic_region_read(void *opaque, u64 offset, unsigned size)
{
    struct lapic *l = opaque;
    if (!lapic_enabled(l) || lapic_is_x2apic(l)) return ~0ull;
    /* [SDM3] 11.4.1: 32-bit accesses on 16-byte boundaries; anything else is undefined. Parts of a register
     * read as such, the gaps as zero. */
    if ((offset & 15) + size > 4) return 0;
    return lapic_xapic_read(l, (offset & 0xfff) >> 4) >> (offset & 3) * 8;
}

static void lapic_region_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct lapic *l = opaque;
    if (!lapic_enabled(l) || lapic_is_x2apic(l)) return;
    if (size != 4 || offset & 15) {
        log_printf(LOG_GUEST_ERROR, "lapic: %u-byte write at offset 0x%x\n", size, (unsigned)offset);
        return;
    }
    lapic_xapic_write(l, (offset & 0xfff) >> 4, (u32)value);
}

const struct region_ops lapic_region_ops = {
    .read = lapic_region_read, .write = lapic_region_write, .min_size = 1, .max_size = 4};

bool lapic_mmio_read(struct lapic *l, gpa address, unsigned size, u64 *value)
{
    if ((address & ~GUEST_PAGE_MASK) != lapic_base(l)) return false;
    u64 offset = address & GUEST_PAGE_MASK;
    if (size <= 4) {
        *value = lapic_region_read(l, offset, size);
        *value &= ~0ull >> (64 - size * 8);
    } else {
        u64 low = lapic_region_read(l, offset, 4), high = lapic_region_read(l, offset + 4, 4);
        *value = (low & 0xffffffff) | high << 32;
    }
    return true;
}

bool lapic_mmio_write(struct lapic *l, gpa address, u64 value, unsigned size)
{
    if ((address & ~GUEST_PAGE_MASK) != lapic_base(l)) return false;
    /* Of a 64-bit access the lower half hits the register, the upper half the gap behind it. */
    lapic_region_write(l, address & GUEST_PAGE_MASK, value, MIN(size, 4u));
    return true;
}

/* ---- MSRs ---- */

static bool lapic_x2apic_read(struct lapic *l, unsigned reg, u64 *value)
{
    u32 low;
    if (!lapic_is_x2apic(l)) return false;
    if (lapic_read_register(l, reg, &low)) {
        *value = low;
        return true;
    }
    switch (reg) {
    case REG_ID: *value = l->config.id; return true;
    case REG_LDR: *value = lapic_x2apic_ldr(l); return true;
    case REG_ICR: *value = (u64)l->icr_high << 32 | l->icr_low; return true;
    default: return false;
    }
}

/* Bits that software must leave zero in x2APIC mode ([SDM3] 11.12.1.3: #GP). */
static u64 lapic_x2apic_reserved(const struct lapic *l, unsigned reg)
{
    switch (reg) {
    case REG_TPR:
    case REG_SELF_IPI: return ~0xffull;
    case REG_EOI:
    case REG_ESR: return ~0ull;
    case REG_SVR: return ~(u64)(0x3ff | (l->config.directed_eoi ? SVR_SUPPRESS_EOI : 0));
    case REG_ICR: return ~(u64)(0xffffffff00000000 | ICR_DEFINED);
    case REG_LVT ... REG_LVT_LAST: {
        enum lapic_lvt n = reg - REG_LVT;
        u64 defined = lapic_lvt_bits[n].writable | lapic_lvt_bits[n].read_only;
        if (n == LVT_TIMER && !l->config.tsc_deadline) defined &= ~(u64)LVT_DEADLINE;
        return ~defined;
    }
    case REG_TIMER_DIVIDE: return ~0xbull;
    default: return ~0xffffffffull;
    }
}

static bool lapic_x2apic_write(struct lapic *l, unsigned reg, u64 value)
{
    if (!lapic_is_x2apic(l) || value & lapic_x2apic_reserved(l, reg)) return false;
    /* Both timer mode bits together are reserved ([SDM3] figure 11-8). */
    if (reg == REG_LVT + LVT_TIMER && (value & LVT_TIMER_MODE) == LVT_TIMER_MODE) return false;
    if (lapic_write_register(l, reg, (u32)value)) return true;
    switch (reg) {
    case REG_ICR:
        l->icr_low = (u32)value & ~ICR_BUSY;
        l->icr_high = value >> 32;
        lapic_send_ipi(l);
        return true;
    case REG_SELF_IPI:
        /* [SDM3] 11.12.11: like the ICR with the self shorthand, fixed and edge; ICR itself is unchanged. */
        if (value < 16) lapic_error(l, ESR_SEND_ILLEGAL);
        else if (lapic_software_enabled(l)) lapic_local_interrupt(l, (u8)value, false);
        return true;
    default: return false;
    }
}

/* ---- resets and mode changes ---- */

/* [SDM3] 11.4.7.1. wire: leave LINT0 open for the i8259. */
static void lapic_load_defaults(struct lapic *l, bool wire)
{
    memset(l->isr, 0, sizeof(l->isr));
    memset(l->irr, 0, sizeof(l->irr));
    memset(l->tmr, 0, sizeof(l->tmr));
    l->tpr = 0;
    l->ldr = 0;
    l->dfr = 0xffffffff;
    l->svr = 0xff;
    l->esr = l->esr_pending = 0;
    l->icr_low = l->icr_high = 0;
    l->extint_requested = false;
    for (int i = 0; i < LVT_COUNT; i++) l->lvt[i] = LVT_MASKED;
    /* DEVIATION: on hardware LINT0 starts masked and the BIOS opens it as virtual wire. Boot images that
     * know nothing of APICs expect PIC interrupts to work, so the boot CPU starts as the BIOS leaves it. */
    if (wire) l->lvt[LVT_LINT0] = APIC_MODE_EXTINT << LVT_MODE_SHIFT;
    lapic_timer_reset(l);
}

void lapic_init_reset(struct lapic *l)
{
    lapic_load_defaults(l, lapic_is_bsp(l));
    lapic_update(l);
}

static bool lapic_write_base(struct lapic *l, u64 value)
{
    u64 defined = BASE_BSP | BASE_ENABLE | (l->config.x2apic ? BASE_X2APIC : 0);
    u64 address = ((1ull << l->config.phys_bits) - 1) & ~GUEST_PAGE_MASK;
    u64 mode = value & (BASE_ENABLE | BASE_X2APIC), old = l->base & (BASE_ENABLE | BASE_X2APIC);
    if (value & ~(defined | address)) return false;
    /* [SDM3] figure 11-27: off -> xAPIC -> x2APIC -> off, xAPIC -> off; EXTD without EN does not exist. */
    if (mode == BASE_X2APIC) return false;
    if (mode == (BASE_ENABLE | BASE_X2APIC) && old == 0) return false;
    if (mode == BASE_ENABLE && old == (BASE_ENABLE | BASE_X2APIC)) return false;
    l->base = value;
    if (old != mode && mode == 0) {
        /* [SDM3] 11.4.3: state may be lost; as on processors where it is. */
        lapic_load_defaults(l, false);
        l->xapic_id = (u8)l->config.id;
    } else if (old != mode && mode & BASE_X2APIC) {
        l->icr_high = 0; /* [SDM3] 11.12.5.1; ID and LDR take their x2APIC values */
    }
    lapic_update(l);
    return true;
}

bool lapic_msr_read(struct lapic *l, u32 msr, u64 *value)
{
    switch (msr) {
    case MSR_APIC_BASE: *value = l->base; return true;
    case MSR_TSC_DEADLINE:
        if (!l->config.tsc_deadline) return false;
        lapic_timer_sync(l);
        *value = l->timer_deadline;
        return true;
    case MSR_X2APIC ... MSR_X2APIC_LAST: return lapic_x2apic_read(l, msr - MSR_X2APIC, value);
    default: return false;
    }
}

bool lapic_msr_write(struct lapic *l, u32 msr, u64 value)
{
    switch (msr) {
    case MSR_APIC_BASE: return lapic_write_base(l, value);
    case MSR_TSC_DEADLINE:
        if (!l->config.tsc_deadline) return false;
        lapic_timer_set_deadline(l, value);
        return true;
    case MSR_X2APIC ... MSR_X2APIC_LAST: return lapic_x2apic_write(l, msr - MSR_X2APIC, value);
    default: return false;
    }
}

/* [SDM3] 11.8.6: CR8 is bits 7:4 of the TPR, also while the APIC is disabled. */
u64 lapic_cr8_read(const struct lapic *l) { return l->tpr >> 4; }

void lapic_cr8_write(struct lapic *l, u64 value)
{
    l->tpr = (u8)(value << 4);
    lapic_update(l);
}

/* ---- device ---- */

static void lapic_reset(struct device *d)
{
    struct lapic *l = container_of(d, struct lapic, dev);
    l->base = LAPIC_DEFAULT_BASE | BASE_ENABLE | (l->config.bsp ? BASE_BSP : 0);
    l->xapic_id = (u8)l->config.id;
    lapic_load_defaults(l, l->config.bsp);
    lapic_update(l);
}

static void lapic_destroy(struct device *d)
{
    struct lapic *l = container_of(d, struct lapic, dev);
    apic_bus_detach(l->apics, l);
    timer_destroy(l->timer);
    free(l);
}

static const struct device_class lapic_class = {
    .name = "lapic", .reset = lapic_reset, .destroy = lapic_destroy};

struct lapic *lapic_create(struct apic_bus *apics, struct clock *clock, const struct lapic_config *config,
                           const struct lapic_cpu *cpu)
{
    struct lapic *l = calloc(1, sizeof(*l));
    if (!l) goto fail;
    l->dev.cls = &lapic_class;
    l->apics = apics;
    l->clock = clock;
    l->config = *config;
    l->cpu = *cpu;
    l->timer = timer_create_on(clock, lapic_timer_fire, l);
    if (!l->timer) goto fail;
    if (!apic_bus_attach(apics, l)) goto fail;
    lapic_reset(&l->dev);
    return l;

fail:
    fprintf(stderr, "calque: cannot create local APIC %u\n", config->id);
    if (l && l->timer) timer_destroy(l->timer);
    free(l);
    return NULL;
}

struct device *lapic_device(struct lapic *l) { return &l->dev; }
