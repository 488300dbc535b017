/* build/tests/test_i8254 */
#include "fixture.h"

#include "devices/i8254.h"

struct setup {
    struct bus *ports;
    struct clock *clock;
    struct i8254 *pit;
    struct probe irq;
};

static struct setup *start(void)
{
    struct setup *s = calloc(1, sizeof(*s));
    s->ports = bus_create("ports", 0x10000);
    s->clock = clock_create_manual();
    s->irq.clock = s->clock;
    s->pit = i8254_create(s->ports, probe_line(&s->irq), s->clock);
    return s;
}

static void finish(struct setup *s)
{
    i8254_device(s->pit)->cls->destroy(i8254_device(s->pit));
    bus_destroy(s->ports);
    clock_destroy(s->clock);
    free(s);
}

static u64 ticks(struct setup *s) { return muldiv64(clock_now(s->clock), I8254_HZ, NS_PER_SECOND); }

static u64 tick_ns(u64 tick) { return ((unsigned __int128)tick * NS_PER_SECOND + I8254_HZ - 1) / I8254_HZ; }

/* Go forward by exactly n timer clocks. */
static void run(struct setup *s, u64 n)
{
    clock_advance(s->clock, tick_ns(ticks(s) + n) - clock_now(s->clock));
}

static void program(struct setup *s, int channel, u8 control, u16 count)
{
    out8(s->ports, 0x43, channel << 6 | 0x30 | control);
    out8(s->ports, 0x40 + channel, count & 0xff);
    out8(s->ports, 0x40 + channel, count >> 8);
}

static u16 count(struct setup *s, int channel)
{
    out8(s->ports, 0x43, channel << 6);
    u8 low = in8(s->ports, 0x40 + channel);
    return low | in8(s->ports, 0x40 + channel) << 8;
}

static u8 status(struct setup *s, int channel)
{
    out8(s->ports, 0x43, 0xe0 | 2 << channel);
    return in8(s->ports, 0x40 + channel);
}

static bool out(struct setup *s, int channel) { return status(s, channel) & 0x80; }

Test(i8254, mode_0_counts_down_and_stays_high)
{
    struct setup *s = start();
    program(s, 0, 0x00, 1000);
    cr_assert_eq(status(s, 0), 0x70, "null count until the next clock");
    run(s, 1);
    cr_assert_eq(status(s, 0), 0x30);
    cr_assert_eq(count(s, 0), 1000);
    run(s, 999);
    cr_assert_eq(count(s, 0), 1);
    cr_assert_eq(s->irq.rises, 0);
    run(s, 1);
    cr_assert_eq(count(s, 0), 0);
    cr_assert_eq(s->irq.rises, 1);
    cr_assert_eq(status(s, 0), 0xb0);
    run(s, 3);
    cr_assert_eq(count(s, 0), 0xfffd);
    run(s, 70000);
    cr_assert_eq(s->irq.rises, 1);
    cr_assert_eq(s->irq.falls, 0);
    out8(s->ports, 0x40, 5);
    cr_assert_eq(s->irq.level, 0, "the first byte lowers OUT");
    u16 stopped = count(s, 0);
    run(s, 10);
    cr_assert_eq(count(s, 0), stopped);
    out8(s->ports, 0x40, 0);
    run(s, 6);
    cr_assert_eq(s->irq.level, 1);
    finish(s);
}

Test(i8254, irq0_rises_at_the_exact_tick)
{
    struct setup *s = start();
    clock_advance(s->clock, 12345);
    u64 t = ticks(s);
    program(s, 0, 0x00, 1193);
    clock_advance(s->clock, 10 * NS_PER_SECOND);
    cr_assert_eq(s->irq.rises, 1);
    cr_assert_eq(s->irq.rose, tick_ns(t + 1 + 1193));
    finish(s);
}

Test(i8254, mode_2_divides)
{
    struct setup *s = start();
    program(s, 0, 0x04, 100);
    cr_assert_eq(s->irq.level, 1);
    run(s, 1);
    cr_assert_eq(count(s, 0), 100);
    run(s, 98);
    cr_assert_eq(count(s, 0), 2);
    cr_assert(out(s, 0));
    run(s, 1);
    cr_assert_eq(count(s, 0), 1);
    cr_assert_not(out(s, 0));
    cr_assert_eq(s->irq.level, 0);
    run(s, 1);
    cr_assert_eq(count(s, 0), 100);
    cr_assert_eq(s->irq.level, 1);
    int before = s->irq.rises;
    run(s, 100 * 50);
    cr_assert_eq(s->irq.rises - before, 50);
    cr_assert_eq(s->irq.falls, 51);
    cr_assert_eq(s->irq.rose - s->irq.fell, tick_ns(ticks(s)) - tick_ns(ticks(s) - 1));
    finish(s);
}

Test(i8254, mode_2_takes_a_new_count_at_the_end_of_the_period)
{
    struct setup *s = start();
    program(s, 0, 0x04, 100);
    run(s, 1 + 40);
    out8(s->ports, 0x40, 30);
    out8(s->ports, 0x40, 0);
    cr_assert_eq(status(s, 0), 0xf4);
    cr_assert_eq(count(s, 0), 60);
    run(s, 59);
    cr_assert_eq(count(s, 0), 1);
    cr_assert_eq(status(s, 0), 0x74);
    run(s, 1);
    cr_assert_eq(count(s, 0), 30);
    cr_assert_eq(status(s, 0), 0xb4);
    run(s, 30);
    cr_assert_eq(count(s, 0), 30);
    finish(s);
}

Test(i8254, mode_3_square_wave_even_and_odd)
{
    struct setup *s = start();
    program(s, 0, 0x06, 100);
    run(s, 1);
    cr_assert_eq(count(s, 0), 100);
    run(s, 10);
    cr_assert_eq(count(s, 0), 80, "by two");
    run(s, 39);
    cr_assert(out(s, 0));
    cr_assert_eq(count(s, 0), 2);
    run(s, 1);
    cr_assert_not(out(s, 0));
    cr_assert_eq(count(s, 0), 100);
    run(s, 50);
    cr_assert(out(s, 0));
    run(s, 1000 * 100);
    cr_assert_eq(s->irq.rises, 1002);
    cr_assert_eq(s->irq.falls, 1001);

    program(s, 0, 0x06, 25);
    run(s, 1);
    cr_assert_eq(count(s, 0), 24);
    run(s, 12);
    cr_assert_eq(count(s, 0), 0);
    cr_assert(out(s, 0));
    run(s, 1);
    cr_assert_eq(count(s, 0), 24);
    cr_assert_not(out(s, 0), "high for 13");
    run(s, 11);
    cr_assert_eq(count(s, 0), 2);
    run(s, 1);
    cr_assert(out(s, 0), "low for 12");
    cr_assert_eq(count(s, 0), 24);
    finish(s);
}

Test(i8254, mode_4_strobes_once)
{
    struct setup *s = start();
    program(s, 0, 0x08, 20);
    run(s, 20);
    cr_assert_eq(s->irq.level, 1);
    run(s, 1);
    cr_assert_eq(s->irq.level, 0);
    run(s, 1);
    cr_assert_eq(s->irq.level, 1);
    cr_assert_eq(count(s, 0), 0xffff);
    run(s, 200000);
    cr_assert_eq(s->irq.falls, 1);
    finish(s);
}

Test(i8254, mode_1_and_5_start_with_the_gate)
{
    struct setup *s = start();
    program(s, 2, 0x02, 50);
    run(s, 100);
    cr_assert(out(s, 2));
    cr_assert_eq(status(s, 2) & 0x40, 0x40);
    out8(s->ports, 0x61, 1);
    run(s, 1);
    cr_assert_not(out(s, 2));
    cr_assert_eq(count(s, 2), 50);
    run(s, 30);
    out8(s->ports, 0x61, 0);
    run(s, 10);
    cr_assert_eq(count(s, 2), 10, "the level of the gate does not matter");
    out8(s->ports, 0x61, 1);
    run(s, 1 + 49);
    cr_assert_not(out(s, 2), "triggered anew");
    run(s, 1);
    cr_assert(out(s, 2));

    out8(s->ports, 0x61, 0);
    program(s, 2, 0x0a, 50);
    out8(s->ports, 0x61, 1);
    run(s, 50);
    cr_assert(out(s, 2));
    run(s, 1);
    cr_assert_not(out(s, 2));
    run(s, 1);
    cr_assert(out(s, 2));
    finish(s);
}

Test(i8254, gate_2_holds_mode_0_and_restarts_mode_2)
{
    struct setup *s = start();
    program(s, 2, 0x00, 100);
    run(s, 20);
    cr_assert_eq(count(s, 2), 100);
    out8(s->ports, 0x61, 1);
    run(s, 60);
    cr_assert_eq(count(s, 2), 40);
    cr_assert_eq(in8(s->ports, 0x61) & 0x2f, 0x01);
    run(s, 40);
    cr_assert_eq(in8(s->ports, 0x61) & 0x2f, 0x21);

    program(s, 2, 0x04, 100);
    run(s, 100);
    cr_assert_not(out(s, 2));
    out8(s->ports, 0x61, 0);
    cr_assert(out(s, 2), "the gate raises OUT at once");
    run(s, 10);
    cr_assert_eq(count(s, 2), 1);
    out8(s->ports, 0x61, 1);
    run(s, 1);
    cr_assert_eq(count(s, 2), 100);
    finish(s);
}

Test(i8254, bcd)
{
    struct setup *s = start();
    program(s, 0, 0x01, 0x1000);
    run(s, 2);
    cr_assert_eq(count(s, 0), 0x0999);
    program(s, 0, 0x05, 0x0000);
    run(s, 1 + 1);
    cr_assert_eq(count(s, 0), 0x9999);
    run(s, 9999);
    cr_assert_eq(count(s, 0), 0x0000);
    finish(s);
}

Test(i8254, latches_and_access_modes)
{
    struct setup *s = start();
    program(s, 0, 0x04, 0x1234);
    run(s, 1);
    out8(s->ports, 0x43, 0xc2); /* read-back: status and count */
    run(s, 5);
    out8(s->ports, 0x43, 0x00); /* a second latch is ignored */
    cr_assert_eq(in8(s->ports, 0x40), 0xb4);
    cr_assert_eq(in8(s->ports, 0x40), 0x34);
    cr_assert_eq(in8(s->ports, 0x40), 0x12);
    cr_assert_eq(in8(s->ports, 0x40), 0x2f, "live again");
    cr_assert_eq(in8(s->ports, 0x40), 0x12);
    out8(s->ports, 0x43, 0x10 | 0x04);
    out8(s->ports, 0x40, 200);
    run(s, 1);
    cr_assert_eq(in8(s->ports, 0x40), 200);
    cr_assert_eq(in8(s->ports, 0x40), 200, "only the low byte");
    out8(s->ports, 0x43, 0x20 | 0x04);
    out8(s->ports, 0x40, 3);
    run(s, 1);
    cr_assert_eq(in8(s->ports, 0x40), 3);
    run(s, 1);
    cr_assert_eq(in8(s->ports, 0x40), 2);
    cr_assert_eq(in8(s->ports, 0x43), 0xff);
    finish(s);
}

Test(i8254, port_61)
{
    struct setup *s = start();
    out8(s->ports, 0x61, 0xff);
    cr_assert_eq(in8(s->ports, 0x61) & 0xcf, 0x0f);
    int toggles = 0;
    u8 last = in8(s->ports, 0x61) & 0x10;
    for (int i = 0; i < 1000; i++) {
        clock_advance(s->clock, 1000);
        u8 now = in8(s->ports, 0x61) & 0x10;
        toggles += now != last;
        last = now;
    }
    cr_assert_eq(toggles, 66, "1 ms of refresh, one toggle each 15.085 us: %d", toggles);
    finish(s);
}

Test(i8254, tiny_counts_do_not_hang)
{
    struct setup *s = start();
    for (int mode = 2; mode <= 3; mode++) {
        for (int n = 1; n <= 3; n++) {
            program(s, 0, mode << 1, n);
            out8(s->ports, 0x61, 0);
            program(s, 2, mode << 1, n);
            out8(s->ports, 0x61, 1);
            clock_advance(s->clock, NS_PER_SECOND / 10);
            cr_assert_leq(count(s, 0), 3);
            clock_advance(s->clock, 1000);
            cr_assert_leq(count(s, 2), 3);
        }
    }
    cr_assert_gt(s->irq.rises, 1000);
    /* A channel that nobody looks at for an hour. */
    out8(s->ports, 0x43, 0x30);
    clock_advance(s->clock, 3600 * NS_PER_SECOND);
    cr_assert_leq(count(s, 2), 3);
    finish(s);
}
