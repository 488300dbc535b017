/* The I/O APIC.
 *
 * Models the 82093AA's register set with the version 0x20 additions: 24 redirection entries, edge and level
 * inputs, remote IRR, and the EOI register at 0x40. Lines carry assertion, not voltage, so the polarity bit
 * is stored and has no effect. Messages arrive at once, so the delivery status bit always reads idle,
 * except that a level interrupt nobody accepted stays pending and is tried again.
 *
 * References: [IOAPIC] Intel 82093AA datasheet, section 3. [ICH9] Intel ICH9 datasheet, 13.5 (EOI register).
 *
 * Redirection entry:  63..56 destination | 16 masked | 15 level | 14 remote IRR | 13 active low |
 *                     12 delivery status | 11 logical | 10..8 delivery mode | 7..0 vector */
#include "devices/ioapic.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"

#define IOAPIC_VERSION 0x20u

#define ENTRY_LOGICAL    (1ull << 11)
#define ENTRY_STATUS     (1ull << 12)
#define ENTRY_REMOTE_IRR (1ull << 14)
#define ENTRY_LEVEL      (1ull << 15)
#define ENTRY_MASKED     (1ull << 16)
#define ENTRY_WRITABLE   0xff0000000001afffull
#define ENTRY_READ_ONLY  (ENTRY_STATUS | ENTRY_REMOTE_IRR)

/* Memory-mapped registers ([IOAPIC] 3.1). */
#define IOREGSEL 0x00u
#define IOWIN    0x10u
#define IOEOI    0x40u

/* Indirect registers ([IOAPIC] 3.2). */
#define INDEX_ID          0x00u
#define INDEX_VERSION     0x01u
#define INDEX_ARBITRATION 0x02u
#define INDEX_REDIRECTION 0x10u

struct ioapic {
    struct device dev;      /* class part, first */
    struct apic_bus *apics; /* where messages go */
    struct region *region;  /* the register page */
    u8 select;              /* IOREGSEL */
    u8 id;                  /* 4 bits */
    u32 inputs;             /* levels of the pins */
    u64 entries[IOAPIC_PINS];
};

static bool ioapic_deliver(struct ioapic *io, int pin)
{
    u64 e = io->entries[pin];
    struct apic_message m = {
        .dest = (u32)(e >> 56),
        .vector = e & 0xff,
        .mode = (e >> 8) & 7,
        .logical = (e & ENTRY_LOGICAL) != 0,
        .level = (e & ENTRY_LEVEL) != 0,
    };
    switch (m.mode) {
    case APIC_MODE_FIXED:
    case APIC_MODE_LOWEST: break;
    case APIC_MODE_SMI:
    case APIC_MODE_NMI:
    case APIC_MODE_INIT:
    case APIC_MODE_EXTINT: m.level = false; break; /* always edge, [IOAPIC] 3.2.4 */
    default:
        log_printf(LOG_GUEST_ERROR, "ioapic: pin %d has reserved delivery mode %u\n", pin, m.mode);
        return false;
    }
    return apic_bus_send(io->apics, &m);
}

/* Does the entry make level interrupts? Only fixed and lowest-priority ones can. */
static bool ioapic_is_level(u64 entry)
{
    return entry & ENTRY_LEVEL && ((entry >> 8) & 7) <= APIC_MODE_LOWEST;
}

/* Send a level interrupt if its pin is asserted and none is in service. */
static void ioapic_evaluate(struct ioapic *io, int pin)
{
    u64 *e = &io->entries[pin];
    if (!ioapic_is_level(*e) || *e & (ENTRY_MASKED | ENTRY_REMOTE_IRR) || !(io->inputs >> pin & 1)) return;
    /* Set before sending: the message may be handled, and even EOIed, inside the call. */
    *e |= ENTRY_REMOTE_IRR;
    if (!ioapic_deliver(io, pin)) *e &= ~ENTRY_REMOTE_IRR;
}

static void ioapic_input_set(void *opaque, int pin, int level)
{
    struct ioapic *io = opaque;
    u32 bit = 1u << pin;
    bool rising = level && !(io->inputs & bit);
    if (level) io->inputs |= bit;
    else io->inputs &= ~bit;
    u64 e = io->entries[pin];
    if (ioapic_is_level(e)) {
        ioapic_evaluate(io, pin);
    } else if (rising && !(e & ENTRY_MASKED)) {
        /* An edge on a masked pin is lost, not held: [IOAPIC] 3.2.4, interrupt mask. */
        ioapic_deliver(io, pin);
    }
}

struct irq_line ioapic_input(struct ioapic *io, int pin)
{
    return (struct irq_line){ioapic_input_set, io, pin};
}

/* An EOI message: entries of that vector may interrupt again. */
static void ioapic_eoi(void *opaque, u8 vector)
{
    struct ioapic *io = opaque;
    for (int pin = 0; pin < IOAPIC_PINS; pin++) {
        u64 *e = &io->entries[pin];
        if ((*e & 0xff) != vector || !(*e & ENTRY_REMOTE_IRR)) continue;
        *e &= ~ENTRY_REMOTE_IRR;
        ioapic_evaluate(io, pin);
    }
}

static u32 ioapic_read_window(const struct ioapic *io)
{
    unsigned n = io->select - INDEX_REDIRECTION;
    switch (io->select) {
    case INDEX_ID:
    case INDEX_ARBITRATION: return (u32)io->id << 24; /* the arbitration ID is loaded with the ID */
    case INDEX_VERSION: return IOAPIC_VERSION | (IOAPIC_PINS - 1) << 16;
    default: break;
    }
    if (n < 2 * IOAPIC_PINS) return (u32)(io->entries[n / 2] >> (n % 2 * 32));
    log_printf(LOG_GUEST_ERROR, "ioapic: read of register 0x%x\n", io->select);
    return 0;
}

static void ioapic_write_window(struct ioapic *io, u32 value)
{
    unsigned n = io->select - INDEX_REDIRECTION;
    if (io->select == INDEX_ID) {
        io->id = value >> 24 & 15;
    } else if (n < 2 * IOAPIC_PINS) {
        unsigned shift = n % 2 * 32;
        u64 *e = &io->entries[n / 2], part = 0xffffffffull << shift;
        *e = (*e & (~part | ENTRY_READ_ONLY)) | ((u64)value << shift & part & ENTRY_WRITABLE);
        /* An edge entry has no remote IRR; software clears a stuck one by going through edge mode. */
        if (!(*e & ENTRY_LEVEL)) *e &= ~ENTRY_REMOTE_IRR;
        ioapic_evaluate(io, (int)n / 2);
    } else {
        log_printf(LOG_GUEST_ERROR, "ioapic: write of 0x%x to register 0x%x\n", value, io->select);
    }
}

static u64 ioapic_read(void *opaque, u64 offset, unsigned size)
{
    struct ioapic *io = opaque;
    (void)size;
    switch (offset & 0xff) {
    case IOREGSEL: return io->select;
    case IOWIN: return ioapic_read_window(io);
    default: return 0;
    }
}

static void ioapic_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct ioapic *io = opaque;
    (void)size;
    switch (offset & 0xff) {
    case IOREGSEL: io->select = (u8)value; break;
    case IOWIN: ioapic_write_window(io, (u32)value); break;
    case IOEOI: ioapic_eoi(io, (u8)value); break;
    default: break;
    }
}

static const struct region_ops ioapic_ops = {
    .read = ioapic_read, .write = ioapic_write, .min_size = 4, .max_size = 4};

static void ioapic_reset(struct device *d)
{
    struct ioapic *io = container_of(d, struct ioapic, dev);
    io->select = 0;
    io->id = 0;
    /* The input pins belong to their drivers and keep their levels. */
    for (int i = 0; i < IOAPIC_PINS; i++) io->entries[i] = ENTRY_MASKED;
}

static void ioapic_destroy(struct device *d)
{
    struct ioapic *io = container_of(d, struct ioapic, dev);
    region_remove(io->region);
    free(io);
}

static const struct device_class ioapic_class = {
    .name = "ioapic", .reset = ioapic_reset, .destroy = ioapic_destroy};

struct ioapic *ioapic_create(struct bus *memory, gpa base, struct apic_bus *apics)
{
    struct ioapic *io = calloc(1, sizeof(*io));
    if (!io) {
        fprintf(stderr, "calque: no memory for the I/O APIC\n");
        return NULL;
    }
    io->dev.cls = &ioapic_class;
    io->apics = apics;
    io->region = bus_add(memory, "ioapic", base, GUEST_PAGE_SIZE, 0, &ioapic_ops, io);
    apic_bus_on_eoi(apics, ioapic_eoi, io);
    ioapic_reset(&io->dev);
    return io;
}

struct device *ioapic_device(struct ioapic *io) { return &io->dev; }

void ioapic_print(const struct ioapic *io, FILE *out)
{
    fprintf(out, "ioapic: id=%u pins=%06x\n", io->id, io->inputs);
    for (int i = 0; i < IOAPIC_PINS; i++) {
        u64 e = io->entries[i];
        fprintf(out, "  pin %-2d %016llx vec=%u dest=%u %s%s%s\n", i, (unsigned long long)e, (unsigned)(e & 0xff),
                (unsigned)(e >> 56), e & ENTRY_LOGICAL ? "logical " : "physical ", e & ENTRY_LEVEL ? "level" : "edge",
                e & ENTRY_MASKED ? " masked" : "");
    }
}
