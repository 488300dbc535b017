/* The PC's pair of 8259A interrupt controllers, with the edge/level control registers of PCI chipsets.
 *
 * Models ICW1-4, OCW1-3, fully nested, special fully nested and special mask mode, rotation, automatic EOI,
 * polling, spurious interrupts and ELCR.
 * Leaves out the MCS-80/85 call mode (ICW4 bit 0 clear is taken as 8086 mode) and buffered mode, which only
 * moves pins. ICW3 is accepted and ignored: the cascade is wired, as in the PIIX3.
 *
 * DEVIATION: an edge stays latched when the input falls before the acknowledge cycle, where the 8259A would
 * answer with the spurious vector. Devices may therefore pulse their line in no time.
 *
 * [8259A] Intel 8259A Programmable Interrupt Controller, 231468-003
 * [PIIX3] Intel 82371SB, 290550-002, section 2.5.6 (ELCR) */
#include "devices/i8259.h"

#include <stdio.h>
#include <stdlib.h>

#define CASCADE 2 /* the master's input that the slave drives */

enum { MASTER, SLAVE };

enum init_state { INIT_DONE, INIT_ICW2, INIT_ICW3, INIT_ICW4 };

struct chip {
    u8 lines;             /* levels at the inputs now */
    u8 irr;               /* interrupt request register */
    u8 isr;               /* in-service register */
    u8 imr;               /* interrupt mask register (OCW1) */
    u8 elcr;              /* 1: that input is level triggered */
    u8 elcr_writable;     /* the ELCR bits that exist */
    u8 vector_base;       /* ICW2, bits 7-3 */
    u8 lowest;            /* the input that has the lowest priority, 7 unless rotated */
    enum init_state init; /* which ICW comes next */
    bool want_icw4;       /* ICW1.IC4 of the running initialization */
    bool single;          /* ICW1.SNGL of the running initialization: there will be no ICW3 */
    bool auto_eoi;        /* ICW4.AEOI */
    bool nested_special;  /* ICW4.SFNM */
    bool rotate_auto;     /* rotate in automatic EOI mode (OCW2) */
    bool special_mask;    /* OCW3.SMM */
    bool read_isr;        /* OCW3: reads with A0 = 0 give ISR, else IRR */
    bool poll;            /* OCW3.P: the next read is the acknowledge cycle */
};

struct i8259 {
    struct device dev;         /* what the machine sees */
    struct chip chip[2];       /* MASTER, SLAVE */
    struct irq_line intr_out;  /* INT of the master */
    bool intr;                 /* its level now */
    struct region *regions[3]; /* master, slave, ELCR */
};

/* ---- one chip ---- */

/* The highest-priority input in set, counted from the rotated order: 0 highest, 8 when set is empty. */
static int rank(const struct chip *c, u8 set)
{
    for (int i = 0; i < 8; i++)
        if (set & (1 << ((c->lowest + 1 + i) & 7))) return i;
    return 8;
}

static int rank_to_input(const struct chip *c, int r) { return (c->lowest + 1 + r) & 7; }

/* The input that the chip wants to have served, or -1 [8259A] "Fully Nested Mode". */
static int pending(const struct i8259 *p, const struct chip *c)
{
    if (c->init != INIT_DONE) return -1;
    int r = rank(c, c->irr & ~c->imr);
    if (r == 8) return -1;
    int input = rank_to_input(c, r);
    u8 blocking = c->isr;
    /* Special mask mode: an input in service whose mask bit is set holds nobody back. */
    if (c->special_mask) blocking &= ~c->imr;
    int in_service = rank(c, blocking);
    if (r < in_service) return input;
    /* Special fully nested mode: a slave in service does not lock out its own higher requests. */
    if (r == in_service && c->nested_special && c == &p->chip[MASTER] && input == CASCADE) return input;
    return -1;
}

static void set_line(struct chip *c, int input, int level)
{
    u8 bit = 1 << input;
    if (level) {
        if ((c->elcr & bit) || !(c->lines & bit)) c->irr |= bit;
        c->lines |= bit;
    } else {
        if (c->elcr & bit) c->irr &= ~bit;
        c->lines &= ~bit;
    }
}

static void set_intr(struct i8259 *p, bool level)
{
    if (level == p->intr) return;
    p->intr = level;
    irq_set(&p->intr_out, level);
}

static void update(struct i8259 *p)
{
    set_line(&p->chip[MASTER], CASCADE, pending(p, &p->chip[SLAVE]) >= 0);
    set_intr(p, pending(p, &p->chip[MASTER]) >= 0);
}

/* The acknowledge cycle has chosen this input. */
static void acknowledge(struct i8259 *p, struct chip *c, int input)
{
    u8 bit = 1 << input;
    if (!(c->elcr & bit)) c->irr &= ~bit;
    if (!c->auto_eoi)
        c->isr |= bit;
    else if (c->rotate_auto)
        c->lowest = input;
    /* INT falls during the cycle, so that a further request of the slave makes a new edge at the master. */
    if (c == &p->chip[SLAVE])
        set_line(&p->chip[MASTER], CASCADE, 0);
    else
        set_intr(p, false);
}

int i8259_ack(struct i8259 *p)
{
    struct chip *m = &p->chip[MASTER], *s = &p->chip[SLAVE];
    int vector;
    int input = pending(p, m);
    if (input < 0) {
        /* [8259A] "Edge and Level Triggered Modes": the default is input 7, and ISR is not set. */
        vector = m->vector_base | 7;
    } else {
        acknowledge(p, m, input);
        vector = m->vector_base | input;
        if (input == CASCADE) {
            int from_slave = pending(p, s);
            if (from_slave >= 0) acknowledge(p, s, from_slave);
            /* A spurious interrupt of the slave leaves the cascade input in service at the master. */
            vector = s->vector_base | (from_slave >= 0 ? from_slave : 7);
        }
    }
    update(p);
    return vector;
}

/* ---- registers ---- */

static void write_icw1(struct chip *c, u8 value)
{
    /* [8259A] "Initialization Command Words": a to h. An input that is high must fall and rise again to be
     * seen as an edge. LTIM (bit 3) has no effect where ELCR exists [PIIX3]. */
    c->irr = c->lines & c->elcr;
    c->isr = 0;
    c->imr = 0;
    c->lowest = 7;
    c->special_mask = false;
    c->read_isr = false;
    c->poll = false;
    c->rotate_auto = false;
    c->auto_eoi = false;
    c->nested_special = false;
    c->want_icw4 = value & 1;
    c->single = value & 2;
    c->init = INIT_ICW2;
}

static void write_ocw2(struct chip *c, u8 value)
{
    bool rotate = value & 0x80, specific = value & 0x40, eoi = value & 0x20;
    int level = value & 7;
    if (!eoi) {
        if (!specific)
            c->rotate_auto = rotate; /* 000, 100: rotate in automatic EOI mode */
        else if (rotate)
            c->lowest = level; /* 110: set priority; 010 is no operation */
        return;
    }
    if (!specific) {
        /* [8259A] "End of Interrupt": non-specific EOI passes over masked inputs in special mask mode. */
        int r = rank(c, c->special_mask ? c->isr & ~c->imr : c->isr);
        if (r == 8) return;
        level = rank_to_input(c, r);
    }
    c->isr &= ~(1 << level);
    if (rotate) c->lowest = level;
}

static void write_ocw3(struct chip *c, u8 value)
{
    if (value & 0x04) c->poll = true;
    if (value & 0x02) c->read_isr = value & 0x01;
    if (value & 0x40) c->special_mask = value & 0x20;
}

static void write_data(struct chip *c, u8 value)
{
    switch (c->init) {
    case INIT_DONE: c->imr = value; break;
    case INIT_ICW2:
        c->vector_base = value & 0xf8;
        c->init = !c->single ? INIT_ICW3 : c->want_icw4 ? INIT_ICW4 : INIT_DONE;
        break;
    case INIT_ICW3: c->init = c->want_icw4 ? INIT_ICW4 : INIT_DONE; break;
    case INIT_ICW4:
        c->auto_eoi = value & 0x02;
        c->nested_special = value & 0x10;
        c->init = INIT_DONE;
        break;
    }
}

static void chip_write(struct i8259 *p, struct chip *c, u64 offset, u8 value)
{
    if (offset & 1)
        write_data(c, value);
    else if (value & 0x10)
        write_icw1(c, value);
    else if (value & 0x08)
        write_ocw3(c, value);
    else
        write_ocw2(c, value);
    update(p);
}

static u8 chip_read(struct i8259 *p, struct chip *c, u64 offset)
{
    if (c->poll) {
        /* [8259A] "Poll Command": the read is the acknowledge cycle, for this chip alone. */
        c->poll = false;
        int input = pending(p, c);
        if (input < 0) return 0;
        acknowledge(p, c, input);
        update(p);
        return 0x80 | input;
    }
    if (offset & 1) return c->imr;
    return c->read_isr ? c->isr : c->irr;
}

static u64 master_read(void *opaque, u64 offset, unsigned size)
{
    struct i8259 *p = opaque;
    (void)size;
    return chip_read(p, &p->chip[MASTER], offset);
}

static void master_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct i8259 *p = opaque;
    (void)size;
    chip_write(p, &p->chip[MASTER], offset, value);
}

static u64 slave_read(void *opaque, u64 offset, unsigned size)
{
    struct i8259 *p = opaque;
    (void)size;
    return chip_read(p, &p->chip[SLAVE], offset);
}

static void slave_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct i8259 *p = opaque;
    (void)size;
    chip_write(p, &p->chip[SLAVE], offset, value);
}

static u64 elcr_read(void *opaque, u64 offset, unsigned size)
{
    struct i8259 *p = opaque;
    (void)size;
    return p->chip[offset].elcr;
}

static void elcr_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct i8259 *p = opaque;
    struct chip *c = &p->chip[offset];
    (void)size;
    u8 new_elcr = value & c->elcr_writable;
    u8 now_level = new_elcr & ~c->elcr, now_edge = c->elcr & ~new_elcr;
    c->elcr = new_elcr;
    c->irr = (c->irr & ~now_level & ~now_edge) | (c->lines & now_level);
    update(p);
}

static const struct region_ops master_ops = {master_read, master_write, 1, 1};
static const struct region_ops slave_ops = {slave_read, slave_write, 1, 1};
static const struct region_ops elcr_ops = {elcr_read, elcr_write, 1, 1};

/* ---- the device ---- */

static void input_changed(void *opaque, int n, int level)
{
    struct i8259 *p = opaque;
    set_line(&p->chip[n >> 3], n & 7, level);
    update(p);
}

struct irq_line i8259_input(struct i8259 *p, int irq)
{
    if (irq < 0 || irq > 15 || irq == CASCADE) return (struct irq_line){0};
    return (struct irq_line){input_changed, p, irq};
}

static void i8259_reset(struct device *d)
{
    struct i8259 *p = container_of(d, struct i8259, dev);
    for (int i = 0; i < 2; i++) {
        /* The levels at the inputs belong to the devices, which reset on their own. */
        struct chip *c = &p->chip[i];
        *c = (struct chip){.lines = c->lines, .lowest = 7};
        /* [PIIX3] 2.5.6: inputs 0, 1, 2, 8 and 13 are always edge triggered. */
        c->elcr_writable = i == MASTER ? 0xf8 : 0xde;
    }
    p->chip[MASTER].lines &= ~(1 << CASCADE);
    update(p);
}

static void i8259_destroy(struct device *d)
{
    struct i8259 *p = container_of(d, struct i8259, dev);
    for (size_t i = 0; i < ARRAY_LEN(p->regions); i++)
        if (p->regions[i]) region_remove(p->regions[i]);
    free(p);
}

static const struct device_class i8259_class = {"i8259", i8259_reset, i8259_destroy};

struct device *i8259_device(struct i8259 *p) { return &p->dev; }

struct i8259 *i8259_create(struct bus *ports, struct irq_line intr_out)
{
    struct i8259 *p = calloc(1, sizeof(*p));
    if (!p) {
        fprintf(stderr, "calque: i8259: out of memory\n");
        return NULL;
    }
    p->dev.cls = &i8259_class;
    p->intr_out = intr_out;
    p->regions[0] = bus_add(ports, "i8259-master", 0x20, 2, 0, &master_ops, p);
    p->regions[1] = bus_add(ports, "i8259-slave", 0xa0, 2, 0, &slave_ops, p);
    p->regions[2] = bus_add(ports, "i8259-elcr", 0x4d0, 2, 0, &elcr_ops, p);
    i8259_reset(&p->dev);
    return p;
}

void i8259_print(const struct i8259 *p, FILE *out)
{
    for (int i = 0; i < 2; i++) {
        const struct chip *c = &p->chip[i];
        fprintf(out, "pic%d: irr=%02x imr=%02x isr=%02x hprio=%d irq_base=%02x rr_sel=%d elcr=%02x fnm=%d\n", i, c->irr, c->imr,
                c->isr, (c->lowest + 1) & 7, c->vector_base, c->read_isr, c->elcr, c->nested_special);
    }
}
