/* build/tests/test_i8259 */
#include "fixture.h"

#include "devices/i8259.h"

struct setup {
    struct bus *ports;
    struct i8259 *pic;
    struct probe intr;
};

/* Vectors 0x08 and 0x70, everything unmasked; icw4 for both. */
static void program(struct setup *s, u8 icw4)
{
    out8(s->ports, 0x20, 0x11);
    out8(s->ports, 0x21, 0x08);
    out8(s->ports, 0x21, 0x04);
    out8(s->ports, 0x21, icw4);
    out8(s->ports, 0xa0, 0x11);
    out8(s->ports, 0xa1, 0x70);
    out8(s->ports, 0xa1, 0x02);
    out8(s->ports, 0xa1, icw4);
}

static struct setup *start(u8 icw4)
{
    struct setup *s = calloc(1, sizeof(*s));
    s->ports = bus_create("ports", 0x10000);
    s->pic = i8259_create(s->ports, probe_line(&s->intr));
    program(s, icw4);
    return s;
}

static void finish(struct setup *s)
{
    i8259_device(s->pic)->cls->destroy(i8259_device(s->pic));
    bus_destroy(s->ports);
    free(s);
}

static void set(struct setup *s, int irq, int level)
{
    struct irq_line line = i8259_input(s->pic, irq);
    irq_set(&line, level);
}

static void pulse(struct setup *s, int irq)
{
    set(s, irq, 1);
    set(s, irq, 0);
}

static u8 isr(struct setup *s, u16 port)
{
    out8(s->ports, port, 0x0b);
    return in8(s->ports, port);
}

static u8 irr(struct setup *s, u16 port)
{
    out8(s->ports, port, 0x0a);
    return in8(s->ports, port);
}

Test(i8259, delivers_an_edge_once)
{
    struct setup *s = start(1);
    cr_assert_eq(s->intr.level, 0);
    set(s, 4, 1);
    cr_assert_eq(s->intr.level, 1);
    cr_assert_eq(irr(s, 0x20), 0x10);
    cr_assert_eq(i8259_ack(s->pic), 0x0c);
    cr_assert_eq(s->intr.level, 0);
    cr_assert_eq(isr(s, 0x20), 0x10);
    cr_assert_eq(irr(s, 0x20), 0);
    out8(s->ports, 0x20, 0x20);
    cr_assert_eq(isr(s, 0x20), 0);
    cr_assert_eq(s->intr.level, 0, "the input is still high, but that is no edge");
    set(s, 4, 0);
    set(s, 4, 1);
    cr_assert_eq(s->intr.level, 1);
    finish(s);
}

Test(i8259, a_level_input_asks_until_it_falls)
{
    struct setup *s = start(1);
    out8(s->ports, 0x4d0, 0xff);
    out8(s->ports, 0x4d1, 0xff);
    cr_assert_eq(in8(s->ports, 0x4d0), 0xf8);
    cr_assert_eq(in8(s->ports, 0x4d1), 0xde);
    set(s, 11, 1);
    cr_assert_eq(i8259_ack(s->pic), 0x73);
    out8(s->ports, 0xa0, 0x20);
    out8(s->ports, 0x20, 0x20);
    cr_assert_eq(s->intr.level, 1);
    cr_assert_eq(i8259_ack(s->pic), 0x73);
    set(s, 11, 0);
    out8(s->ports, 0xa0, 0x20);
    out8(s->ports, 0x20, 0x20);
    cr_assert_eq(s->intr.level, 0);
    cr_assert_eq(irr(s, 0xa0), 0);
    finish(s);
}

Test(i8259, fully_nested_priorities)
{
    struct setup *s = start(1);
    set(s, 5, 1);
    cr_assert_eq(i8259_ack(s->pic), 0x0d);
    pulse(s, 6);
    cr_assert_eq(s->intr.level, 0, "6 is below 5");
    pulse(s, 9);
    cr_assert_eq(s->intr.level, 1, "9 comes in at 2");
    cr_assert_eq(i8259_ack(s->pic), 0x71);
    pulse(s, 8);
    cr_assert_eq(s->intr.level, 0, "the slave is in service at the master");
    pulse(s, 0);
    cr_assert_eq(i8259_ack(s->pic), 0x08);
    cr_assert_eq(isr(s, 0x20), 0x25);
    cr_assert_eq(isr(s, 0xa0), 0x02);
    out8(s->ports, 0x20, 0x20);
    cr_assert_eq(isr(s, 0x20), 0x24, "the highest goes first");
    out8(s->ports, 0xa0, 0x20);
    out8(s->ports, 0x20, 0x20);
    cr_assert_eq(i8259_ack(s->pic), 0x70);
    finish(s);
}

Test(i8259, special_fully_nested_mode_lets_the_slave_ask_again)
{
    struct setup *s = start(1 | 0x10);
    pulse(s, 9);
    cr_assert_eq(i8259_ack(s->pic), 0x71);
    pulse(s, 10);
    cr_assert_eq(s->intr.level, 0, "10 is below 9 at the slave");
    pulse(s, 8);
    cr_assert_eq(s->intr.level, 1);
    cr_assert_eq(i8259_ack(s->pic), 0x70);
    pulse(s, 3);
    cr_assert_eq(s->intr.level, 0, "3 is below the cascade");
    finish(s);
}

Test(i8259, masks)
{
    struct setup *s = start(1);
    out8(s->ports, 0x21, 0x10);
    cr_assert_eq(in8(s->ports, 0x21), 0x10);
    set(s, 4, 1);
    cr_assert_eq(s->intr.level, 0);
    out8(s->ports, 0x21, 0x00);
    cr_assert_eq(s->intr.level, 1, "the edge was kept");
    out8(s->ports, 0x21, 0x04);
    cr_assert_eq(i8259_ack(s->pic), 0x0c);
    pulse(s, 12);
    out8(s->ports, 0x20, 0x20);
    cr_assert_eq(s->intr.level, 0, "the cascade is masked");
    finish(s);
}

Test(i8259, special_mask_mode)
{
    struct setup *s = start(1);
    pulse(s, 3);
    cr_assert_eq(i8259_ack(s->pic), 0x0b);
    pulse(s, 5);
    cr_assert_eq(s->intr.level, 0);
    out8(s->ports, 0x21, 0x08);
    out8(s->ports, 0x20, 0x68);
    cr_assert_eq(s->intr.level, 1, "3 is masked, so it holds nobody back");
    cr_assert_eq(i8259_ack(s->pic), 0x0d);
    out8(s->ports, 0x20, 0x20);
    cr_assert_eq(isr(s, 0x20), 0x08, "non-specific EOI passes over the masked 3");
    out8(s->ports, 0x20, 0x63);
    cr_assert_eq(isr(s, 0x20), 0x00);
    finish(s);
}

Test(i8259, rotation)
{
    struct setup *s = start(1);
    pulse(s, 4);
    cr_assert_eq(i8259_ack(s->pic), 0x0c);
    out8(s->ports, 0x20, 0xa0); /* rotate on non-specific EOI: 4 is lowest now */
    pulse(s, 1);
    pulse(s, 4);
    pulse(s, 6);
    cr_assert_eq(i8259_ack(s->pic), 0x0e);
    out8(s->ports, 0x20, 0xe0 | 6); /* rotate on specific EOI: 6 lowest */
    cr_assert_eq(i8259_ack(s->pic), 0x09);
    out8(s->ports, 0x20, 0x61);
    out8(s->ports, 0x20, 0xc0 | 3); /* set priority: 3 lowest, 4 highest */
    pulse(s, 1);
    cr_assert_eq(i8259_ack(s->pic), 0x0c);
    finish(s);
}

Test(i8259, automatic_eoi_with_and_without_rotation)
{
    struct setup *s = start(1 | 2);
    pulse(s, 3);
    cr_assert_eq(i8259_ack(s->pic), 0x0b);
    cr_assert_eq(isr(s, 0x20), 0);
    out8(s->ports, 0x20, 0x80);
    pulse(s, 3);
    cr_assert_eq(i8259_ack(s->pic), 0x0b);
    pulse(s, 3);
    pulse(s, 7);
    cr_assert_eq(i8259_ack(s->pic), 0x0f, "3 went to the end");
    out8(s->ports, 0x20, 0x00);
    pulse(s, 15);
    cr_assert_eq(i8259_ack(s->pic), 0x77, "7 is lowest again: 2, 3 is the order");
    cr_assert_eq(i8259_ack(s->pic), 0x0b);
    cr_assert_eq(isr(s, 0xa0), 0);
    finish(s);
}

Test(i8259, spurious)
{
    struct setup *s = start(1);
    out8(s->ports, 0x4d0, 0x20);
    out8(s->ports, 0x4d1, 0x04);
    set(s, 5, 1);
    set(s, 5, 0);
    cr_assert_eq(s->intr.level, 0);
    cr_assert_eq(i8259_ack(s->pic), 0x0f);
    cr_assert_eq(isr(s, 0x20), 0);
    set(s, 10, 1);
    set(s, 10, 0);
    cr_assert_eq(s->intr.level, 1, "the slave's edge stays latched at the master");
    cr_assert_eq(i8259_ack(s->pic), 0x77);
    cr_assert_eq(isr(s, 0xa0), 0);
    cr_assert_eq(isr(s, 0x20), 0x04, "the master wants an EOI");
    finish(s);
}

Test(i8259, poll)
{
    struct setup *s = start(1);
    out8(s->ports, 0x20, 0x0c);
    cr_assert_eq(in8(s->ports, 0x20), 0x00);
    pulse(s, 6);
    out8(s->ports, 0x20, 0x0c);
    cr_assert_eq(in8(s->ports, 0x20), 0x86);
    cr_assert_eq(s->intr.level, 0);
    cr_assert_eq(isr(s, 0x20), 0x40);
    pulse(s, 13);
    out8(s->ports, 0x20, 0x0c);
    cr_assert_eq(in8(s->ports, 0x20), 0x82);
    out8(s->ports, 0xa0, 0x0c);
    cr_assert_eq(in8(s->ports, 0xa0), 0x85);
    cr_assert_eq(isr(s, 0xa0), 0x20);
    finish(s);
}

Test(i8259, initialization_clears)
{
    struct setup *s = start(1);
    set(s, 4, 1);
    pulse(s, 1);
    i8259_ack(s->pic);
    out8(s->ports, 0x21, 0xff);
    program(s, 1);
    cr_assert_eq(in8(s->ports, 0x21), 0);
    cr_assert_eq(irr(s, 0x20), 0, "a high input must rise anew");
    cr_assert_eq(isr(s, 0x20), 0);
    cr_assert_eq(s->intr.level, 0);
    out8(s->ports, 0x20, 0x13); /* single: no ICW3 */
    out8(s->ports, 0x21, 0x40);
    pulse(s, 0);
    cr_assert_eq(s->intr.level, 0, "not initialized yet");
    out8(s->ports, 0x21, 0x01);
    out8(s->ports, 0x21, 0xfe);
    cr_assert_eq(in8(s->ports, 0x21), 0xfe);
    cr_assert_eq(i8259_ack(s->pic), 0x40);
    finish(s);
}

Test(i8259, no_line_for_the_cascade)
{
    struct setup *s = start(1);
    cr_assert_null(i8259_input(s->pic, 2).handler);
    cr_assert_null(i8259_input(s->pic, 16).handler);
    cr_assert_not_null(i8259_input(s->pic, 15).handler);
    finish(s);
}
