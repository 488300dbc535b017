/* The high precision event timer block: a 100 MHz 64-bit counter and three timers.
 *
 * All timers are 64 bits wide and can be periodic; interrupts go to I/O APIC inputs, to IRQ0/IRQ8 by legacy
 * replacement, or out as MSIs (FSB delivery).
 *
 * DEVIATION: a one-shot comparator written to a value that the counter passed less than a millisecond ago
 * fires at once. On hardware it would wait for the counter to wrap; here the guest may lose the CPU between
 * reading the counter and writing the comparator.
 *
 * References: [HPET] IA-PC HPET Specification 1.0a. */
#include "devices/hpet.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"

#define HPET_NS_PER_TICK 10u
#define HPET_PERIOD_FS   (HPET_NS_PER_TICK * 1000000ull)
#define HPET_LATE_TICKS  100000u /* see DEVIATION */

/* Registers, [HPET] 2.3. */
#define REG_CAPABILITY 0x000u
#define REG_CONFIG     0x010u
#define REG_STATUS     0x020u
#define REG_COUNTER    0x0f0u
#define REG_TIMERS     0x100u /* 0x20 bytes each: configuration, comparator, FSB route */

#define CONFIG_ENABLE 1u
#define CONFIG_LEGACY 2u

/* Timer configuration, [HPET] 2.3.8. */
#define TIMER_LEVEL      0x0002u
#define TIMER_INTERRUPT  0x0004u
#define TIMER_PERIODIC   0x0008u
#define TIMER_PERIODICAL 0x0010u /* capable of it */
#define TIMER_WIDE       0x0020u /* 64-bit capable */
#define TIMER_SET_VALUE  0x0040u
#define TIMER_32         0x0100u
#define TIMER_ROUTE      0x3e00u
#define TIMER_FSB        0x4000u
#define TIMER_FSB_CAP    0x8000u
#define TIMER_WRITABLE   0x7f4eu

#define NEVER UINT64_MAX

struct hpet_timer {
    struct hpet *hpet;   /* the block it is in */
    struct timer *timer; /* armed for the next match */
    u32 config;          /* writable and capability bits of the low half */
    u64 comparator;      /* next match; in periodic mode the accumulator */
    u64 period;          /* last value written in periodic mode */
    u64 fsb;             /* FSB route register: address << 32 | data */
    u64 match;           /* counter value of the next match, not wrapped; NEVER when none */
};

struct hpet {
    struct device dev;         /* class part, first */
    struct clock *clock;       /* time base */
    struct region *region;     /* the registers */
    struct hpet_wiring wiring; /* outputs */
    u32 config;                /* general configuration */
    u32 status;                /* active level interrupts, one bit per timer */
    u64 counter;               /* main counter at counter_time, or while halted */
    u64 counter_time;          /* when it had that value, ns */
    u32 gsi_levels;            /* what drives gsi[] now */
    bool pit_level, rtc_level; /* inputs that pass through */
    bool irq_levels[2];        /* what irq0 and irq8 were last set to */
    struct hpet_timer timers[HPET_TIMERS];
};

static u64 hpet_counter(const struct hpet *h)
{
    if (!(h->config & CONFIG_ENABLE)) return h->counter;
    return h->counter + (clock_now(h->clock) - h->counter_time) / HPET_NS_PER_TICK;
}

static unsigned hpet_index(const struct hpet_timer *t) { return (unsigned)(t - t->hpet->timers); }
static u64 hpet_mask(const struct hpet_timer *t) { return t->config & TIMER_32 ? 0xffffffff : UINT64_MAX; }
static bool hpet_periodic(const struct hpet_timer *t) { return t->config & TIMER_PERIODIC && t->period; }
static bool hpet_legacy(const struct hpet *h) { return (h->config & CONFIG_LEGACY) != 0; }

/* ---- interrupts ---- */

/* Does the timer hold its line? */
static bool hpet_asserts(const struct hpet_timer *t)
{
    const struct hpet *h = t->hpet;
    return h->config & CONFIG_ENABLE && t->config & TIMER_INTERRUPT && t->config & TIMER_LEVEL &&
           !(t->config & TIMER_FSB) && h->status >> hpet_index(t) & 1;
}

static void hpet_update_lines(struct hpet *h)
{
    bool legacy[2] = {h->pit_level, h->rtc_level};
    u32 levels = 0;
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        struct hpet_timer *t = &h->timers[i];
        bool on = hpet_asserts(t);
        if (i < 2 && hpet_legacy(h)) legacy[i] = on;
        else if (on) levels |= 1u << ((t->config & TIMER_ROUTE) >> 9);
    }
    u32 changed = levels ^ h->gsi_levels;
    h->gsi_levels = levels;
    for (unsigned n = 0; n < ARRAY_LEN(h->wiring.gsi); n++)
        if (changed >> n & 1) irq_set(&h->wiring.gsi[n], levels >> n & 1);
    for (unsigned i = 0; i < 2; i++) {
        if (legacy[i] == h->irq_levels[i]) continue;
        h->irq_levels[i] = legacy[i];
        irq_set(i ? &h->wiring.irq8 : &h->wiring.irq0, legacy[i]);
    }
}

static void hpet_interrupt(struct hpet_timer *t)
{
    struct hpet *h = t->hpet;
    unsigned i = hpet_index(t);
    /* [HPET] 2.3.6: the status bit is used in level mode only, also while the interrupt is disabled. */
    if (t->config & TIMER_LEVEL) h->status |= 1u << i;
    if (!(t->config & TIMER_INTERRUPT)) return;
    if (t->config & TIMER_FSB) {
        if (h->wiring.msi) h->wiring.msi(h->wiring.msi_opaque, t->fsb >> 32, (u32)t->fsb);
    } else if (t->config & TIMER_LEVEL) {
        hpet_update_lines(h);
    } else if (i < 2 && hpet_legacy(h)) {
        irq_pulse(i ? &h->wiring.irq8 : &h->wiring.irq0);
    } else {
        unsigned route = (t->config & TIMER_ROUTE) >> 9;
        if (route < ARRAY_LEN(h->wiring.gsi)) irq_pulse(&h->wiring.gsi[route]);
    }
}

/* ---- matches ---- */

static void hpet_arm(struct hpet_timer *t)
{
    struct hpet *h = t->hpet;
    u64 delta = t->match - h->counter;
    if (!(h->config & CONFIG_ENABLE) || t->match == NEVER || delta > (1ull << 59)) timer_cancel(t->timer);
    else timer_arm(t->timer, h->counter_time + delta * HPET_NS_PER_TICK);
}

/* The comparator, the mode or the counter changed: find the next match. late: how far behind the counter
 * the comparator may be and still match. */
static void hpet_program(struct hpet_timer *t, u64 late)
{
    u64 now = hpet_counter(t->hpet), mask = hpet_mask(t);
    u64 ahead = (t->comparator - now) & mask, behind = (now - t->comparator) & mask;
    if (behind <= late && behind <= now) t->match = now;
    else if (now > UINT64_MAX - ahead) t->match = NEVER;
    else t->match = now + ahead;
    hpet_arm(t);
}

static void hpet_fire(void *opaque)
{
    struct hpet_timer *t = opaque;
    u64 now = hpet_counter(t->hpet);
    if (now < t->match) {
        hpet_arm(t);
        return;
    }
    if (hpet_periodic(t)) {
        /* Matches that were missed together make one interrupt. */
        u64 steps = (now - t->match) / t->period + 1;
        t->comparator = (t->comparator + steps * t->period) & hpet_mask(t);
        t->match += steps * t->period;
    } else {
        t->match = t->config & TIMER_32 ? t->match + (1ull << 32) : NEVER;
    }
    hpet_arm(t);
    hpet_interrupt(t);
}

/* Let everything happen that is due by now, so that what software reads is consistent. */
static void hpet_sync(struct hpet *h)
{
    if (!(h->config & CONFIG_ENABLE)) return;
    for (int i = 0; i < HPET_TIMERS; i++)
        if (hpet_counter(h) >= h->timers[i].match) hpet_fire(&h->timers[i]);
}

/* ---- registers ---- */

static u64 hpet_read_register(struct hpet *h, unsigned reg)
{
    switch (reg) {
    case REG_CAPABILITY: return HPET_PERIOD_FS << 32 | HPET_BLOCK_ID;
    case REG_CONFIG: return h->config;
    case REG_STATUS: return h->status;
    case REG_COUNTER: return hpet_counter(h);
    default: break;
    }
    unsigned n = (reg - REG_TIMERS) / 0x20;
    if (reg < REG_TIMERS || n >= HPET_TIMERS) return 0;
    const struct hpet_timer *t = &h->timers[n];
    switch (reg & 0x18) {
    case 0x00: return (u64)h->wiring.routes << 32 | t->config;
    case 0x08: return t->comparator & hpet_mask(t);
    case 0x10: return t->fsb;
    default: return 0;
    }
}

static void hpet_write_config(struct hpet *h, u32 value)
{
    u32 old = h->config;
    u64 counter = hpet_counter(h);
    h->config = value & (CONFIG_ENABLE | CONFIG_LEGACY);
    if ((old ^ h->config) & CONFIG_ENABLE) {
        h->counter = counter;
        h->counter_time = clock_now(h->clock);
        for (int i = 0; i < HPET_TIMERS; i++) hpet_program(&h->timers[i], 0);
    }
    hpet_update_lines(h);
}

static void hpet_write_counter(struct hpet *h, u64 value)
{
    if (h->config & CONFIG_ENABLE)
        log_printf(LOG_GUEST_ERROR, "hpet: counter written while it runs\n"); /* [HPET] 2.3.7 */
    h->counter = value;
    h->counter_time = clock_now(h->clock);
    for (int i = 0; i < HPET_TIMERS; i++) hpet_program(&h->timers[i], 0);
}

static void hpet_write_timer_config(struct hpet_timer *t, u32 value)
{
    u32 old = t->config, writable = TIMER_WRITABLE;
    if (!t->hpet->wiring.msi) writable &= ~TIMER_FSB;
    /* A route the timer cannot take does not stick: [HPET] 2.3.8, how software finds out. */
    if (!(t->hpet->wiring.routes >> ((value & TIMER_ROUTE) >> 9) & 1))
        value = (value & ~TIMER_ROUTE) | (old & TIMER_ROUTE);
    t->config = (old & ~writable) | (value & writable);
    if (t->config & TIMER_32 && !(old & TIMER_32)) {
        t->comparator &= 0xffffffff;
        t->period &= 0xffffffff;
    }
    /* Leaving level mode drops the interrupt that is active. */
    if (!(t->config & TIMER_LEVEL)) t->hpet->status &= ~(1u << hpet_index(t));
    if ((old ^ t->config) & (TIMER_32 | TIMER_PERIODIC)) hpet_program(t, 0);
    hpet_update_lines(t->hpet);
}

/* mask: the bits of the register that are written. */
static void hpet_write_comparator(struct hpet_timer *t, u64 value, u64 mask)
{
    bool periodic = (t->config & TIMER_PERIODIC) != 0;
    if (!periodic || t->config & TIMER_SET_VALUE) t->comparator = (t->comparator & ~mask) | (value & mask);
    if (periodic) t->period = (t->period & ~mask) | (value & mask);
    if (t->config & TIMER_32) {
        t->comparator &= 0xffffffff;
        t->period &= 0xffffffff;
    }
    bool program = !periodic || t->config & TIMER_SET_VALUE;
    if (mask & 0xffffffff) t->config &= ~TIMER_SET_VALUE; /* [HPET] 2.3.8: clears itself */
    if (program || t->match == NEVER) hpet_program(t, periodic ? 0 : HPET_LATE_TICKS);
}

static void hpet_write_register(struct hpet *h, unsigned reg, u64 value, u64 mask)
{
    u64 merged = (hpet_read_register(h, reg) & ~mask) | (value & mask);
    switch (reg) {
    case REG_CAPABILITY: return;
    case REG_CONFIG: hpet_write_config(h, (u32)merged); return;
    case REG_STATUS:
        h->status &= ~(u32)(value & mask);
        hpet_update_lines(h);
        return;
    case REG_COUNTER: hpet_write_counter(h, merged); return;
    default: break;
    }
    unsigned n = (reg - REG_TIMERS) / 0x20;
    if (reg < REG_TIMERS || n >= HPET_TIMERS) {
        log_printf(LOG_GUEST_ERROR, "hpet: write to register 0x%x\n", reg);
        return;
    }
    struct hpet_timer *t = &h->timers[n];
    switch (reg & 0x18) {
    case 0x00: hpet_write_timer_config(t, (u32)merged); break;
    case 0x08: hpet_write_comparator(t, value, mask); break;
    case 0x10: t->fsb = merged; break;
    default: break;
    }
}

static u64 hpet_read(void *opaque, u64 offset, unsigned size)
{
    struct hpet *h = opaque;
    hpet_sync(h);
    u64 value = hpet_read_register(h, (unsigned)offset & 0x3f8);
    return size == 4 ? (u32)(value >> (offset & 4) * 8) : value;
}

static void hpet_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct hpet *h = opaque;
    unsigned shift = size == 4 ? (unsigned)(offset & 4) * 8 : 0;
    u64 mask = size == 4 ? 0xffffffffull << shift : UINT64_MAX;
    hpet_sync(h);
    hpet_write_register(h, (unsigned)offset & 0x3f8, value << shift, mask);
}

static const struct region_ops hpet_ops = {
    .read = hpet_read, .write = hpet_write, .min_size = 4, .max_size = 8};

/* ---- legacy inputs ---- */

static void hpet_legacy_input(void *opaque, int n, int level)
{
    struct hpet *h = opaque;
    if (n) h->rtc_level = level != 0;
    else h->pit_level = level != 0;
    hpet_update_lines(h);
}

struct irq_line hpet_pit_input(struct hpet *h) { return (struct irq_line){hpet_legacy_input, h, 0}; }
struct irq_line hpet_rtc_input(struct hpet *h) { return (struct irq_line){hpet_legacy_input, h, 1}; }

/* ---- device ---- */

static void hpet_reset(struct device *d)
{
    struct hpet *h = container_of(d, struct hpet, dev);
    h->config = 0;
    h->status = 0;
    h->counter = 0;
    h->counter_time = clock_now(h->clock);
    for (int i = 0; i < HPET_TIMERS; i++) {
        struct hpet_timer *t = &h->timers[i];
        t->config = TIMER_PERIODICAL | TIMER_WIDE | (h->wiring.msi ? TIMER_FSB_CAP : 0);
        t->comparator = UINT64_MAX; /* [HPET] 2.3.9 */
        t->period = 0;
        t->fsb = 0;
        t->match = NEVER;
        timer_cancel(t->timer);
    }
    hpet_update_lines(h);
}

static void hpet_free(struct hpet *h)
{
    for (int i = 0; i < HPET_TIMERS; i++)
        if (h->timers[i].timer) timer_destroy(h->timers[i].timer);
    if (h->region) region_remove(h->region);
    free(h);
}

static void hpet_destroy(struct device *d) { hpet_free(container_of(d, struct hpet, dev)); }

static const struct device_class hpet_class = {.name = "hpet", .reset = hpet_reset, .destroy = hpet_destroy};

struct hpet *hpet_create(struct bus *memory, gpa base, struct clock *clock, const struct hpet_wiring *wiring)
{
    struct hpet *h = calloc(1, sizeof(*h));
    if (!h) goto fail;
    h->dev.cls = &hpet_class;
    h->clock = clock;
    h->wiring = *wiring;
    for (int i = 0; i < HPET_TIMERS; i++) {
        h->timers[i].hpet = h;
        h->timers[i].timer = timer_create_on(clock, hpet_fire, &h->timers[i]);
        if (!h->timers[i].timer) goto fail;
    }
    h->region = bus_add(memory, "hpet", base, 0x400, 0, &hpet_ops, h);
    hpet_reset(&h->dev);
    return h;

fail:
    fprintf(stderr, "calque: no memory for the HPET\n");
    if (h) hpet_free(h);
    return NULL;
}

struct device *hpet_device(struct hpet *h) { return &h->dev; }
