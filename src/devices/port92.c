/* System control port A, 0x92: fast A20 gate and fast reset.
 *
 * Leaves out the fixed disk light and the password lock (bits 7, 6 and 3), which are stored.
 *
 * DEVIATION: chipsets OR this gate with the keyboard controller's. Here there is one gate, moved by whoever
 * writes last, and both ports show it; so a program that knows only one of them works after firmware that
 * used the other.
 *
 * [PS2] IBM PS/2 Hardware Interface Technical Reference, "System Control Port A" */
#include "devices/port92.h"

#include <stdio.h>
#include <stdlib.h>

#define FAST_RESET 0x01
#define FAST_A20   0x02

struct port92 {
    struct device dev;     /* what the machine sees */
    struct irq_line a20;   /* A20 gate */
    struct irq_line reset; /* machine reset */
    struct region *region; /* port 0x92 */
    u8 value;              /* as last written, with bit 1 the state of the gate */
};

static u64 port92_read(void *opaque, u64 offset, unsigned size)
{
    struct port92 *p = opaque;
    (void)offset, (void)size;
    return p->value;
}

static void port92_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct port92 *p = opaque;
    (void)offset, (void)size;
    u8 old = p->value;
    p->value = value;
    irq_set(&p->a20, value & FAST_A20 ? 1 : 0);
    if (value & ~old & FAST_RESET) irq_pulse(&p->reset); /* the edge resets, not the level */
}

static const struct region_ops port92_ops = {port92_read, port92_write, 1, 1};

void port92_note_a20(struct port92 *p, bool on) { p->value = (p->value & ~FAST_A20) | (on ? FAST_A20 : 0); }

static void port92_reset(struct device *d)
{
    struct port92 *p = container_of(d, struct port92, dev);
    p->value = FAST_A20; /* the i8042 opens the gate at reset */
}

static void port92_destroy(struct device *d)
{
    struct port92 *p = container_of(d, struct port92, dev);
    region_remove(p->region);
    free(p);
}

static const struct device_class port92_class = {"port92", port92_reset, port92_destroy};

struct device *port92_device(struct port92 *p) { return &p->dev; }

struct port92 *port92_create(struct bus *ports, struct irq_line a20, struct irq_line reset)
{
    struct port92 *p = calloc(1, sizeof(*p));
    if (!p) {
        fprintf(stderr, "calque: port92: out of memory\n");
        return NULL;
    }
    p->dev.cls = &port92_class;
    p->a20 = a20;
    p->reset = reset;
    p->region = bus_add(ports, "port92", 0x92, 1, 0, &port92_ops, p);
    port92_reset(&p->dev);
    return p;
}
