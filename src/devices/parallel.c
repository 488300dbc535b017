/* A parallel port with a printer that takes a byte at each strobe.
 *
 * Models the three registers of the standard port, the bidirectional bit of the PS/2's, and the acknowledge interrupt. The
 * printer is always on line and never busy for longer than an access. Leaves out EPP and ECP.
 *
 *     base      data
 *     base + 1  status:   7 !BUSY | 6 !ACK | 5 paper out | 4 selected | 3 !ERROR
 *     base + 2  control:  5 data lines are inputs | 4 interrupt enable | 3 select | 2 !INIT | 1 auto feed | 0 strobe
 *
 * References: [IBM-AT] Technical Reference, 6183355, "Serial/Parallel Adapter"; [PC87332] 3.5. */
#include "devices/parallel.h"

#include <stdio.h>
#include <stdlib.h>

#define STATUS_READY 0xdf /* not busy, no acknowledge, paper, selected, no error; reserved bits are ones */
#define STATUS_ACK   0x40 /* low: acknowledge */

#define CONTROL_STROBE 0x01
#define CONTROL_INIT   0x04 /* low: initialize */
#define CONTROL_SELECT 0x08
#define CONTROL_IRQ    0x10
#define CONTROL_INPUT  0x20
#define CONTROL_MASK   0x3f

struct parallel {
    struct device dev;       /* what the machine sees */
    struct region *region;   /* its ports */
    struct irq_line irq;     /* acknowledge, while it is enabled */
    struct chardev *chardev; /* the printer; NULL: prints to nowhere */
    u8 data, control;        /* the registers */
    bool acknowledge;        /* the printer has taken a byte, and nobody has looked since */
};

static u64 parallel_read(void *opaque, u64 offset, unsigned size)
{
    struct parallel *p = opaque;
    u8 status = STATUS_READY;
    (void)size;
    switch (offset) {
    case 0: return p->control & CONTROL_INPUT ? 0xff : p->data; /* nobody drives the lines */
    case 1:
        if (p->acknowledge) status &= (u8)~STATUS_ACK;
        p->acknowledge = false; /* the pulse is seen once */
        return status;
    default: return 0xc0 | p->control; /* bits 7 and 6 are not there */
    }
}

static void write_control(struct parallel *p, u8 value)
{
    u8 risen = value & ~p->control;
    p->control = value & CONTROL_MASK;
    if (!(risen & CONTROL_STROBE) || !(value & CONTROL_INIT)) return;
    chardev_write(p->chardev, &p->data, 1);
    p->acknowledge = true;
    if (value & CONTROL_IRQ) irq_pulse(&p->irq);
}

static void parallel_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct parallel *p = opaque;
    (void)size;
    if (offset == 0) p->data = (u8)value;
    if (offset == 2) write_control(p, (u8)value);
}

static const struct region_ops ops = {parallel_read, parallel_write, 1, 1};

static void parallel_reset(struct device *d)
{
    struct parallel *p = container_of(d, struct parallel, dev);
    p->data = 0;
    p->control = CONTROL_INIT | CONTROL_SELECT;
    p->acknowledge = false;
}

static void parallel_destroy(struct device *d)
{
    struct parallel *p = container_of(d, struct parallel, dev);
    region_remove(p->region);
    free(p);
}

static const struct device_class class = {"parallel", parallel_reset, parallel_destroy};

struct device *parallel_create(struct bus *ports, u16 base, struct irq_line irq, struct chardev *chardev)
{
    struct parallel *p = calloc(1, sizeof(*p));
    if (!p) {
        fprintf(stderr, "calque: parallel: out of memory\n");
        return NULL;
    }
    *p = (struct parallel){.dev.cls = &class, .irq = irq, .chardev = chardev};
    p->region = bus_add(ports, "parallel", base, 3, 0, &ops, p);
    parallel_reset(&p->dev);
    return &p->dev;
}
