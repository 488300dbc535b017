/* The local APIC as software sees it: the registers in its page and, in x2APIC mode, as MSRs; IA32_APIC_BASE
 * with the changes between the modes; CR8.
 *
 * References: [SDM3] Intel SDM volume 3A, chapter 11 (APIC). */
#include "devices/lapic_state.h"

#include "core/log.h"

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

#define ICR_DEFINED 0x000cdfffu
#define ICR_BUSY    (1u << 12)

static const struct {
    u32 writable;  /* bits software sets */
    u32 read_only; /* bits that may be written as anything */
} lapic_lvt_bits[LVT_COUNT] = {
    [LVT_TIMER] = {0x700ff, 0x1000}, [LVT_THERMAL] = {0x107ff, 0x1000}, [LVT_PERF] = {0x107ff, 0x1000},
    [LVT_LINT0] = {0x1a7ff, 0x5000}, [LVT_LINT1] = {0x1a7ff, 0x5000},   [LVT_ERROR] = {0x100ff, 0x1000},
};

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
        for (int i = 0; i < LVT_COUNT; i++)
            l->lvt[i] |= LVT_MASKED;
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
    case REG_APR: return lapic_arbitration_priority(l);
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

static u64 lapic_page_read(struct lapic *l, u64 offset, unsigned size)
{
    if (!lapic_enabled(l) || lapic_is_x2apic(l)) return ~0ull;
    /* [SDM3] 11.4.1: 32-bit accesses on 16-byte boundaries; anything else is undefined. Parts of a register
     * read as such, the gaps as zero. */
    if ((offset & 15) + size > 4) return 0;
    return lapic_xapic_read(l, (offset & 0xfff) >> 4) >> (offset & 3) * 8;
}

static void lapic_page_write(struct lapic *l, u64 offset, u64 value, unsigned size)
{
    if (!lapic_enabled(l) || lapic_is_x2apic(l)) return;
    if (size != 4 || offset & 15) {
        log_printf(LOG_GUEST_ERROR, "lapic: %u-byte write at offset 0x%x\n", size, (unsigned)offset);
        return;
    }
    lapic_xapic_write(l, (offset & 0xfff) >> 4, (u32)value);
}

bool lapic_mmio_read(struct lapic *l, gpa address, unsigned size, u64 *value)
{
    if ((address & ~GUEST_PAGE_MASK) != lapic_base(l)) return false;
    u64 offset = address & GUEST_PAGE_MASK;
    if (size <= 4) {
        *value = lapic_page_read(l, offset, size);
        *value &= ~0ull >> (64 - size * 8);
    } else {
        u64 low = lapic_page_read(l, offset, 4), high = lapic_page_read(l, offset + 4, 4);
        *value = (low & 0xffffffff) | high << 32;
    }
    return true;
}

bool lapic_mmio_write(struct lapic *l, gpa address, u64 value, unsigned size)
{
    if ((address & ~GUEST_PAGE_MASK) != lapic_base(l)) return false;
    /* Of a 64-bit access the lower half hits the register, the upper half the gap behind it. */
    lapic_page_write(l, address & GUEST_PAGE_MASK, value, MIN(size, 4u));
    return true;
}

/* ---- x2APIC mode ---- */

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
        if (value < 16)
            lapic_error(l, ESR_SEND_ILLEGAL);
        else if (lapic_software_enabled(l))
            lapic_local_interrupt(l, (u8)value, false);
        return true;
    default: return false;
    }
}

/* ---- IA32_APIC_BASE and the other MSRs ---- */

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
