/* build/tests/test_uart16550 */
#include "fixture.h"

#include <string.h>

#include "devices/uart16550.h"

#define BASE 0x3f8

/* A back end that keeps what the guest writes, and feeds a string as far as the guest takes it. */
struct pipe_end {
    struct chardev chr;  /* first, as the interface asks */
    char out[64];        /* from the guest */
    size_t out_len;      /* bytes of it */
    const char *pending; /* for the guest */
};

static void pipe_write(struct chardev *c, const u8 *buf, size_t len)
{
    struct pipe_end *p = container_of(c, struct pipe_end, chr);
    cr_assert_leq(p->out_len + len, sizeof(p->out));
    memcpy(p->out + p->out_len, buf, len);
    p->out_len += len;
}

static void pipe_feed(struct chardev *c)
{
    struct pipe_end *p = container_of(c, struct pipe_end, chr);
    while (p->pending && *p->pending) {
        size_t n = MIN(c->front->can_receive(c->front_opaque), strlen(p->pending));
        if (!n) break;
        const char *from = p->pending;
        p->pending += n;
        c->front->receive(c->front_opaque, (const u8 *)from, n);
    }
}

static const struct chardev_ops pipe_ops = {pipe_write, pipe_feed, NULL};

struct setup {
    struct bus *ports;
    struct clock *clock;
    struct device *uart;
    struct pipe_end pipe;
    struct probe irq;
};

static struct setup *start(void)
{
    struct setup *s = calloc(1, sizeof(*s));
    s->ports = bus_create("ports", 0x10000);
    s->clock = clock_create_manual();
    s->pipe.chr.ops = &pipe_ops;
    s->irq.clock = s->clock;
    s->uart = uart16550_create(s->ports, BASE, probe_line(&s->irq), s->clock, &s->pipe.chr);
    return s;
}

static void finish(struct setup *s)
{
    s->uart->cls->destroy(s->uart);
    bus_destroy(s->ports);
    clock_destroy(s->clock);
    free(s);
}

static u8 get(struct setup *s, int reg) { return in8(s->ports, BASE + reg); }
static void put(struct setup *s, int reg, u8 value) { out8(s->ports, BASE + reg, value); }

static void feed(struct setup *s, const char *text)
{
    s->pipe.pending = text;
    pipe_feed(&s->pipe.chr);
}

Test(uart16550, reset_values)
{
    struct setup *s = start();
    cr_assert_eq(get(s, 1), 0x00);
    cr_assert_eq(get(s, 2), 0x01);
    cr_assert_eq(get(s, 3), 0x00);
    cr_assert_eq(get(s, 4), 0x00);
    cr_assert_eq(get(s, 5), 0x60);
    cr_assert_eq(get(s, 6), 0xb0);
    cr_assert_eq(s->irq.level, 0);
    put(s, 7, 0x5a);
    cr_assert_eq(get(s, 7), 0x5a);
    put(s, 1, 0xff);
    cr_assert_eq(get(s, 1), 0x0f);
    put(s, 4, 0xff & ~0x10);
    cr_assert_eq(get(s, 4), 0x0f);
    s->uart->cls->reset(s->uart);
    cr_assert_eq(get(s, 1), 0);
    cr_assert_eq(get(s, 7), 0);
    finish(s);
}

Test(uart16550, divisor_latch)
{
    struct setup *s = start();
    put(s, 3, 0x83);
    put(s, 0, 0x34);
    put(s, 1, 0x12);
    cr_assert_eq(get(s, 0), 0x34);
    cr_assert_eq(get(s, 1), 0x12);
    put(s, 3, 0x03);
    cr_assert_eq(get(s, 1), 0x00);
    cr_assert_eq(s->pipe.out_len, 0);
    finish(s);
}

Test(uart16550, transmits_at_once)
{
    struct setup *s = start();
    for (const char *c = "hello"; *c; c++) {
        cr_assert_eq(get(s, 5) & 0x60, 0x60);
        put(s, 0, *c);
    }
    cr_assert_eq(s->pipe.out_len, 5);
    cr_assert_arr_eq(s->pipe.out, "hello", 5);
    finish(s);
}

Test(uart16550, transmitter_interrupt)
{
    struct setup *s = start();
    put(s, 1, 0x02);
    cr_assert_eq(s->irq.level, 1, "empty when it is enabled");
    cr_assert_eq(get(s, 2), 0x02);
    cr_assert_eq(s->irq.level, 0);
    cr_assert_eq(get(s, 2), 0x01);
    put(s, 0, 'x');
    cr_assert_eq(s->irq.level, 1);
    put(s, 1, 0x00);
    cr_assert_eq(s->irq.level, 0);
    put(s, 1, 0x02);
    cr_assert_eq(get(s, 2), 0x02);
    put(s, 1, 0x02);
    cr_assert_eq(s->irq.level, 0, "still enabled is no edge");
    finish(s);
}

Test(uart16550, receives_one_byte_without_fifo)
{
    struct setup *s = start();
    put(s, 1, 0x01);
    feed(s, "abc");
    cr_assert_eq(get(s, 2), 0x04);
    cr_assert_eq(s->irq.level, 1);
    cr_assert_eq(get(s, 5), 0x61);
    cr_assert_eq(get(s, 0), 'a');
    cr_assert_eq(get(s, 0), 'b');
    cr_assert_eq(get(s, 5), 0x61);
    cr_assert_eq(get(s, 0), 'c');
    cr_assert_eq(get(s, 5), 0x60);
    cr_assert_eq(s->irq.level, 0);
    finish(s);
}

Test(uart16550, fifo_trigger_and_timeout)
{
    struct setup *s = start();
    put(s, 3, 0x83);
    put(s, 0, 1);
    put(s, 1, 0);
    put(s, 3, 0x03);
    put(s, 2, 0x87); /* trigger at 8 */
    put(s, 1, 0x01);
    cr_assert_eq(get(s, 2), 0xc1);
    feed(s, "1234567");
    cr_assert_eq(s->irq.level, 0);
    clock_advance(s->clock, 347221); /* four characters of ten bits at 115200 baud: 347,222 ns */
    cr_assert_eq(s->irq.level, 0);
    clock_advance(s->clock, 2);
    cr_assert_eq(s->irq.level, 1);
    cr_assert_eq(get(s, 2), 0xcc);
    cr_assert_eq(get(s, 0), '1');
    cr_assert_eq(s->irq.level, 0, "reading clears the timeout");
    feed(s, "89");
    cr_assert_eq(get(s, 2), 0xc4);
    cr_assert_eq(get(s, 0), '2');
    cr_assert_eq(get(s, 2), 0xc1);
    clock_advance(s->clock, 400000);
    cr_assert_eq(get(s, 2), 0xcc);
    for (char c = '3'; c <= '9'; c++)
        cr_assert_eq(get(s, 0), c);
    clock_advance(s->clock, 400000);
    cr_assert_eq(s->irq.level, 0);
    finish(s);
}

Test(uart16550, input_flows_as_the_fifo_empties)
{
    struct setup *s = start();
    static const char text[] = "the quick brown fox jumps over the lazy dog";
    put(s, 2, 0x01);
    feed(s, text);
    cr_assert_eq(strlen(s->pipe.pending), strlen(text) - 16);
    for (const char *c = text; *c; c++) {
        cr_assert_eq(get(s, 5) & 0x03, 0x01);
        cr_assert_eq(get(s, 0), *c);
    }
    cr_assert_eq(get(s, 5), 0x60);
    feed(s, "xyz");
    put(s, 2, 0x03);
    cr_assert_eq(get(s, 5), 0x60, "cleared");
    feed(s, "xyz");
    put(s, 2, 0x00);
    cr_assert_eq(get(s, 5), 0x60, "a change of mode clears");
    cr_assert_eq(get(s, 2) & 0xc0, 0x00);
    finish(s);
}

Test(uart16550, overrun)
{
    struct setup *s = start();
    const struct chardev_front *f = s->pipe.chr.front;
    put(s, 2, 0x01);
    put(s, 1, 0x05);
    f->receive(s->pipe.chr.front_opaque, (const u8 *)"0123456789abcdefXY", 18);
    cr_assert_eq(get(s, 2), 0xc6, "line status comes first");
    cr_assert_eq(get(s, 5), 0x63);
    cr_assert_eq(get(s, 5), 0x61);
    cr_assert_eq(get(s, 2), 0xc4);
    for (const char *c = "0123456789abcdef"; *c; c++)
        cr_assert_eq(get(s, 0), *c);
    put(s, 2, 0x00);
    f->receive(s->pipe.chr.front_opaque, (const u8 *)"PQ", 2);
    cr_assert_eq(get(s, 5), 0x63);
    cr_assert_eq(get(s, 0), 'Q', "RBR is overwritten");
    cr_assert_eq(get(s, 5), 0x60);
    finish(s);
}

Test(uart16550, break_shows_when_it_is_first_in_the_fifo)
{
    struct setup *s = start();
    const struct chardev_front *f = s->pipe.chr.front;
    put(s, 2, 0x01);
    put(s, 1, 0x04);
    f->receive(s->pipe.chr.front_opaque, (const u8 *)"a", 1);
    f->break_received(s->pipe.chr.front_opaque);
    cr_assert_eq(get(s, 5), 0xe1, "an error further back");
    cr_assert_eq(s->irq.level, 0);
    cr_assert_eq(get(s, 0), 'a');
    cr_assert_eq(s->irq.level, 1);
    cr_assert_eq(get(s, 2), 0xc6);
    cr_assert_eq(get(s, 5), 0xf1);
    cr_assert_eq(get(s, 5), 0x61);
    cr_assert_eq(get(s, 0), 0);
    cr_assert_eq(get(s, 5), 0x60);
    finish(s);
}

Test(uart16550, loopback)
{
    struct setup *s = start();
    put(s, 3, 0x03);
    get(s, 6);
    put(s, 4, 0x1f);
    cr_assert_eq(get(s, 6), 0xf0, "all outputs on; CTS, DSR and DCD were on before");
    put(s, 4, 0x10);
    cr_assert_eq(get(s, 6), 0x0f, "and off: four deltas");
    put(s, 4, 0x12);
    cr_assert_eq(get(s, 6), 0x11);
    put(s, 4, 0x11);
    cr_assert_eq(get(s, 6), 0x23);
    put(s, 4, 0x14);
    cr_assert_eq(get(s, 6), 0x42, "RI rising is no trailing edge");
    put(s, 4, 0x18);
    cr_assert_eq(get(s, 6), 0x8c);
    put(s, 0, 0xa5);
    cr_assert_eq(s->pipe.out_len, 0);
    feed(s, "q");
    cr_assert_eq(get(s, 5), 0x61);
    cr_assert_eq(get(s, 0), 0xa5);
    cr_assert_eq(get(s, 5), 0x60, "nothing from outside");
    put(s, 3, 0x00);
    put(s, 0, 0xff);
    cr_assert_eq(get(s, 0), 0x1f, "five bits");
    put(s, 3, 0x43);
    cr_assert_eq(get(s, 5), 0x71);
    cr_assert_eq(get(s, 0), 0);
    put(s, 4, 0x08);
    cr_assert_eq(get(s, 0), 'q', "the cable again");
    finish(s);
}

Test(uart16550, modem_status_interrupt)
{
    struct setup *s = start();
    put(s, 4, 0x10);
    get(s, 6);
    put(s, 1, 0x08);
    cr_assert_eq(s->irq.level, 0);
    put(s, 4, 0x12);
    cr_assert_eq(s->irq.level, 1);
    cr_assert_eq(get(s, 2), 0x00);
    cr_assert_eq(get(s, 6), 0x11);
    cr_assert_eq(s->irq.level, 0);
    finish(s);
}

Test(uart16550, works_without_a_back_end)
{
    struct setup *s = start();
    struct device *other = uart16550_create(s->ports, 0x2f8, (struct irq_line){0}, s->clock, NULL);
    out8(s->ports, 0x2f8, 'x');
    cr_assert_eq(in8(s->ports, 0x2f8 + 5), 0x60);
    cr_assert_eq(in8(s->ports, 0x2f8), 0);
    out8(s->ports, 0x2f8 + 7, 0x77);
    cr_assert_eq(in8(s->ports, 0x2f8 + 7), 0x77);
    other->cls->reset(other);
    other->cls->destroy(other);
    cr_assert_eq(in8(s->ports, 0x2f8 + 7), 0xff);
    finish(s);
}
