/* The local APIC of one vCPU: interrupts, pins and messages.
 *
 * Models the APIC of Intel processors since the Nehalem generation (version 0x14, six LVT entries): xAPIC
 * and x2APIC register interfaces, mode changes through IA32_APIC_BASE, fixed/lowest-priority/SMI/NMI/INIT/
 * start-up/ExtINT messages, the local pins, error reporting and the timer
 * (lapic_timer.c). How software sees the registers is in lapic_registers.c.
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

/* Interrupt command, [SDM3] figure 11-12. */
#define ICR_LOGICAL   (1u << 11)
#define ICR_ASSERT    (1u << 14)
#define ICR_LEVEL     (1u << 15)
#define ICR_SHORTHAND (3u << 18)
#define ICR_SELF      (1u << 18)
#define ICR_ALL       (2u << 18)
#define ICR_OTHERS    (3u << 18)

/* ---- vector sets and priorities ---- */

static bool lapic_test(const u32 *set, u8 vector) { return set[vector >> 5] >> (vector & 31) & 1; }

static void lapic_assign(u32 *set, u8 vector, bool on)
{
    u32 bit = 1u << (vector & 31);
    if (on)
        set[vector >> 5] |= bit;
    else
        set[vector >> 5] &= ~bit;
}

static int lapic_highest(const u32 *set)
{
    for (int i = 7; i >= 0; i--)
        if (set[i]) return i * 32 + 31 - __builtin_clz(set[i]);
    return -1;
}

/* [SDM3] 11.8.3.1 */
u8 lapic_ppr(const struct lapic *l)
{
    int in_service = lapic_highest(l->isr);
    u8 isr_class = in_service < 0 ? 0 : in_service & 0xf0;
    return (l->tpr & 0xf0) >= isr_class ? l->tpr : isr_class;
}

/* [SDM3] 11.6.2.4 */
u8 lapic_arbitration_priority(const struct lapic *l)
{
    int requested = lapic_highest(l->irr), in_service = lapic_highest(l->isr);
    u8 irr_class = requested < 0 ? 0 : requested & 0xf0;
    u8 isr_class = in_service < 0 ? 0 : in_service & 0xf0;
    u8 task_class = l->tpr & 0xf0;
    if (task_class >= irr_class && task_class > isr_class) return l->tpr;
    return MAX(MAX(task_class, isr_class), irr_class);
}

u32 lapic_initial_id(const struct lapic *l) { return l->config.id; }
gpa lapic_base(const struct lapic *l) { return l->base & ~GUEST_PAGE_MASK; }

bool lapic_accepts_fixed(const struct lapic *l) { return lapic_enabled(l) && lapic_software_enabled(l); }

static u32 lapic_lvt_mode(const struct lapic *l, enum lapic_lvt n) { return l->lvt[n] >> LVT_MODE_SHIFT & 7; }

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

static bool lapic_has_interrupt(const struct lapic *l)
{
    return lapic_extint(l) || lapic_deliverable(l) >= 0;
}

void lapic_update(struct lapic *l)
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

void lapic_error(struct lapic *l, u32 bits)
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

/* ---- resets ---- */

void lapic_load_defaults(struct lapic *l, bool wire)
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
    for (int i = 0; i < LVT_COUNT; i++)
        l->lvt[i] = LVT_MASKED;
    /* DEVIATION: on hardware LINT0 starts masked and the BIOS opens it as virtual wire. Boot images that
     * know nothing of APICs expect PIC interrupts to work, so the boot CPU starts as the BIOS leaves it. */
    if (wire) l->lvt[LVT_LINT0] = APIC_MODE_EXTINT << LVT_MODE_SHIFT;
    lapic_timer_reset(l);
}

static void lapic_init_reset(struct lapic *l)
{
    lapic_load_defaults(l, (l->base & BASE_BSP) != 0);
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
void lapic_lint_evaluate(struct lapic *l, int pin)
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

void lapic_eoi(struct lapic *l)
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

u32 lapic_x2apic_ldr(const struct lapic *l)
{
    /* [SDM3] 11.12.10.2: derived from the ID. */
    return l->config.id >> 4 << 16 | 1u << (l->config.id & 15);
}

static u32 lapic_current_id(const struct lapic *l) { return lapic_is_x2apic(l) ? l->config.id : l->xapic_id; }

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

void lapic_send_ipi(struct lapic *l)
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
