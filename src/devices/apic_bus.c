/* Message routing between APICs.
 *
 * Models the destination side of the APIC bus / system bus: physical and logical destinations in the 8-bit
 * xAPIC and 32-bit x2APIC forms, broadcasts, lowest-priority arbitration, MSI decoding, EOI broadcast.
 * Left out: bus transfer timing, arbitration IDs, interrupt remapping and extended destination IDs. A
 * message arrives the moment it is sent, so delivery status bits never read as pending.
 *
 * References: [SDM3] Intel SDM volume 3A, chapter 11 (APIC). */
#include "devices/apic_bus.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"
#include "devices/lapic.h"

#define APIC_BUS_MAX_LAPICS 255
#define APIC_BUS_MAX_SINKS  8

struct apic_bus_sink {
    void (*eoi)(void *opaque, u8 vector); /* the listener */
    void *opaque;                         /* its pointer */
};

struct apic_bus {
    struct lapic *lapics[APIC_BUS_MAX_LAPICS];      /* in order of attachment */
    int lapic_count;                                /* used entries */
    struct apic_bus_sink sinks[APIC_BUS_MAX_SINKS]; /* EOI listeners */
    int sink_count;                                 /* used entries */
    int last_lowest; /* who got the last lowest-priority message: ties rotate */
};

struct apic_bus *apic_bus_create(void)
{
    struct apic_bus *b = calloc(1, sizeof(*b));
    if (!b) fprintf(stderr, "calque: no memory for the APIC bus\n");
    return b;
}

void apic_bus_destroy(struct apic_bus *b) { free(b); }

bool apic_bus_attach(struct apic_bus *b, struct lapic *l)
{
    if (b->lapic_count == APIC_BUS_MAX_LAPICS) return false;
    b->lapics[b->lapic_count++] = l;
    return true;
}

void apic_bus_detach(struct apic_bus *b, struct lapic *l)
{
    int kept = 0;
    for (int i = 0; i < b->lapic_count; i++)
        if (b->lapics[i] != l) b->lapics[kept++] = b->lapics[i];
    b->lapic_count = kept;
}

void apic_bus_on_eoi(struct apic_bus *b, void (*eoi)(void *opaque, u8 vector), void *opaque)
{
    if (b->sink_count == APIC_BUS_MAX_SINKS) return;
    b->sinks[b->sink_count++] = (struct apic_bus_sink){eoi, opaque};
}

void apic_bus_eoi(struct apic_bus *b, u8 vector)
{
    for (int i = 0; i < b->sink_count; i++) b->sinks[i].eoi(b->sinks[i].opaque, vector);
}

/* One of the destinations: the one with the least important work ([SDM3] 11.6.2.4). Among equals the choice
 * goes round, as chipsets do. */
static bool apic_bus_send_lowest(struct apic_bus *b, const struct apic_message *m)
{
    struct apic_message fixed = *m;
    int best = -1;
    u8 best_priority = 0xff;
    for (int step = 1; step <= b->lapic_count; step++) {
        int i = (b->last_lowest + step) % b->lapic_count;
        struct lapic *l = b->lapics[i];
        if (!lapic_matches(l, m) || !lapic_accepts_fixed(l)) continue;
        u8 priority = lapic_arbitration_priority(l);
        if (best >= 0 && priority >= best_priority) continue;
        best = i;
        best_priority = priority;
    }
    if (best < 0) return false;
    b->last_lowest = best;
    fixed.mode = APIC_MODE_FIXED;
    return lapic_accept(b->lapics[best], &fixed);
}

bool apic_bus_send(struct apic_bus *b, const struct apic_message *m)
{
    bool accepted = false;
    if (m->mode == APIC_MODE_LOWEST || (m->redirect && m->mode == APIC_MODE_FIXED))
        return apic_bus_send_lowest(b, m);
    for (int i = 0; i < b->lapic_count; i++)
        if (lapic_matches(b->lapics[i], m)) accepted |= lapic_accept(b->lapics[i], m);
    return accepted;
}

bool apic_bus_broadcast(struct apic_bus *b, const struct apic_message *m, const struct lapic *except)
{
    bool accepted = false;
    for (int i = 0; i < b->lapic_count; i++)
        if (b->lapics[i] != except) accepted |= lapic_accept(b->lapics[i], m);
    return accepted;
}

/* [SDM3] 11.11.1:  address 31..20 = 0xfee, 19..12 destination, 3 redirection hint, 2 logical
 *         11.11.2: data 15 level triggered, 14 assert, 10..8 delivery mode, 7..0 vector */
bool apic_bus_msi(struct apic_bus *b, u64 address, u32 data)
{
    struct apic_message m = {
        .dest = (address >> 12) & 0xff,
        .vector = data & 0xff,
        .mode = (data >> 8) & 7,
        .logical = (address >> 2) & 1,
        .level = (data >> 15) & 1,
        .redirect = (address >> 3) & 1,
    };
    if (m.mode == 3 || m.mode == APIC_MODE_SIPI) {
        log_printf(LOG_GUEST_ERROR, "apic: MSI with reserved delivery mode, data 0x%x\n", data);
        return false;
    }
    /* The de-assert message of a level interrupt carries nothing for a local APIC. */
    if (m.level && !((data >> 14) & 1)) return false;
    return apic_bus_send(b, &m);
}

static u64 apic_bus_msi_read(void *opaque, u64 offset, unsigned size)
{
    (void)opaque, (void)offset, (void)size;
    return ~0ull; /* nothing answers reads in the message window */
}

static void apic_bus_msi_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    /* Messages are aligned doublewords ([SDM3] 11.11); other writes reach nobody. */
    if (size == 4 && !(offset & 3)) apic_bus_msi(opaque, LAPIC_DEFAULT_BASE + offset, (u32)value);
}

static const struct region_ops apic_bus_msi_ops = {
    .read = apic_bus_msi_read, .write = apic_bus_msi_write, .min_size = 1, .max_size = 4};

struct region *apic_bus_map_msi(struct apic_bus *b, struct bus *memory)
{
    return bus_add(memory, "apic-msi", LAPIC_DEFAULT_BASE, 0x100000, 0, &apic_bus_msi_ops, b);
}

static void apic_bus_lint_set(void *opaque, int n, int level)
{
    struct apic_bus *b = opaque;
    for (int i = 0; i < b->lapic_count; i++) {
        struct irq_line pin = lapic_lint(b->lapics[i], n);
        irq_set(&pin, level);
    }
}

struct irq_line apic_bus_lint(struct apic_bus *b, int pin)
{
    return (struct irq_line){apic_bus_lint_set, b, pin};
}
