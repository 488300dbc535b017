/* build/tests/test_mc146818 */
#include "fixture.h"

#include "devices/mc146818.h"

struct setup {
    struct bus *ports;
    struct clock *clock;
    struct mc146818 *rtc;
    struct probe irq;
};

#define MS 1000000ull

/* 2023-12-31 23:59:58 UTC, a Sunday. */
static struct setup *start_with(bool slew)
{
    struct setup *s = calloc(1, sizeof(*s));
    s->ports = bus_create("ports", 0x10000);
    s->clock = clock_create_manual();
    s->irq.clock = s->clock;
    clock_set_wall(s->clock, 1704067198);
    s->rtc = mc146818_create(s->ports, probe_line(&s->irq), s->clock, slew);
    return s;
}

static struct setup *start(void) { return start_with(false); }

static void finish(struct setup *s)
{
    mc146818_device(s->rtc)->cls->destroy(mc146818_device(s->rtc));
    bus_destroy(s->ports);
    clock_destroy(s->clock);
    free(s);
}

static u8 get(struct setup *s, u8 index)
{
    out8(s->ports, 0x70, index);
    return in8(s->ports, 0x71);
}

static void put(struct setup *s, u8 index, u8 value)
{
    out8(s->ports, 0x70, index);
    out8(s->ports, 0x71, value);
}

/* hh:mm:ss in the three low bytes. */
static u32 time_of_day(struct setup *s) { return get(s, 4) << 16 | get(s, 2) << 8 | get(s, 0); }

static u32 date(struct setup *s)
{
    return (u32)get(s, 0x32) << 24 | get(s, 9) << 16 | get(s, 8) << 8 | get(s, 7);
}

Test(mc146818, tells_the_time_and_carries)
{
    struct setup *s = start();
    cr_assert_eq(time_of_day(s), 0x235958);
    cr_assert_eq(date(s), 0x20231231);
    cr_assert_eq(get(s, 6), 1);
    clock_advance(s->clock, NS_PER_SECOND - 1);
    cr_assert_eq(time_of_day(s), 0x235958);
    clock_advance(s->clock, 1);
    cr_assert_eq(time_of_day(s), 0x235959);
    clock_advance(s->clock, NS_PER_SECOND);
    cr_assert_eq(time_of_day(s), 0x000000);
    cr_assert_eq(date(s), 0x20240101);
    cr_assert_eq(get(s, 6), 2);
    clock_advance(s->clock, 59 * 86400 * NS_PER_SECOND);
    cr_assert_eq(date(s), 0x20240229, "a leap year");
    cr_assert_eq(get(s, 6), 5);
    finish(s);
}

Test(mc146818, formats)
{
    struct setup *s = start();
    put(s, 0x0b, 0x06);
    cr_assert_eq(time_of_day(s), (23 << 16 | 59 << 8 | 58));
    cr_assert_eq(date(s), (20u << 24 | 23 << 16 | 12 << 8 | 31));
    put(s, 0x0b, 0x00);
    cr_assert_eq(time_of_day(s), 0x915958);
    clock_advance(s->clock, 2 * NS_PER_SECOND);
    cr_assert_eq(time_of_day(s), 0x120000);
    clock_advance(s->clock, 12 * 3600 * NS_PER_SECOND);
    cr_assert_eq(time_of_day(s), 0x920000);
    clock_advance(s->clock, 3600 * NS_PER_SECOND);
    cr_assert_eq(time_of_day(s), 0x810000);
    finish(s);
}

Test(mc146818, set_stops_and_the_new_time_counts_on)
{
    struct setup *s = start();
    put(s, 0x0b, 0x82);
    clock_advance(s->clock, 10 * NS_PER_SECOND);
    cr_assert_eq(time_of_day(s), 0x235958);
    put(s, 0, 0x59);
    put(s, 2, 0x59);
    put(s, 4, 0x23);
    put(s, 7, 0x28);
    put(s, 8, 0x02);
    put(s, 9, 0x99);
    put(s, 0x32, 0x19);
    put(s, 6, 7);
    put(s, 0x0b, 0x02);
    cr_assert_eq(time_of_day(s), 0x235959);
    clock_advance(s->clock, NS_PER_SECOND);
    cr_assert_eq(time_of_day(s), 0x000000);
    cr_assert_eq(date(s), 0x19990301);
    cr_assert_eq(get(s, 6), 1);
    finish(s);
}

Test(mc146818, update_in_progress)
{
    struct setup *s = start();
    cr_assert_eq(get(s, 0x0a), 0x26);
    clock_advance(s->clock, NS_PER_SECOND - 2228000 - 1);
    cr_assert_eq(get(s, 0x0a), 0x26);
    clock_advance(s->clock, 1);
    cr_assert_eq(get(s, 0x0a), 0xa6);
    clock_advance(s->clock, 2228000 - 1);
    cr_assert_eq(get(s, 0x0a), 0xa6);
    clock_advance(s->clock, 1);
    cr_assert_eq(get(s, 0x0a), 0x26);
    put(s, 0x0b, 0x82);
    clock_advance(s->clock, NS_PER_SECOND - 1000);
    cr_assert_eq(get(s, 0x0a), 0x26, "no updates with SET");
    finish(s);
}

Test(mc146818, divider_reset)
{
    struct setup *s = start();
    clock_advance(s->clock, 300 * MS);
    put(s, 0x0a, 0x76);
    clock_advance(s->clock, 5 * NS_PER_SECOND);
    cr_assert_eq(time_of_day(s), 0x235958);
    put(s, 0x0a, 0x26);
    clock_advance(s->clock, 500 * MS - 1);
    cr_assert_eq(time_of_day(s), 0x235958);
    clock_advance(s->clock, 1);
    cr_assert_eq(time_of_day(s), 0x235959, "half a second after the release");
    finish(s);
}

Test(mc146818, periodic_interrupt_at_all_rates)
{
    struct setup *s = start();
    for (unsigned rs = 1; rs < 16; rs++) {
        double hz = rs == 1 ? 256 : rs == 2 ? 128 : 32768 >> (rs - 1);
        put(s, 0x0b, 0x02);
        put(s, 0x0a, 0x20 | rs);
        get(s, 0x0c);
        put(s, 0x0b, 0x42);
        int before = s->irq.rises, n = hz > 100 ? 100 : hz;
        u64 begin = 0;
        for (int i = 0; i <= n; i++) {
            u64 limit = clock_now(s->clock) + 2 * NS_PER_SECOND;
            while (s->irq.rises == before + i && clock_now(s->clock) < limit)
                clock_advance(s->clock, 10000);
            cr_assert_eq(s->irq.rises, before + i + 1);
            if (i == 0) begin = s->irq.rose;
            cr_assert_eq(get(s, 0x0c) & 0xc0, 0xc0);
            cr_assert_eq(s->irq.level, 0);
        }
        double period = (double)(s->irq.rose - begin) / n;
        cr_assert_float_eq(period, 1e9 / hz, 20, "rate %u: %f ns", rs, period);
    }
    put(s, 0x0a, 0x20);
    get(s, 0x0c);
    int before = s->irq.rises;
    clock_advance(s->clock, 3 * NS_PER_SECOND);
    cr_assert_eq(s->irq.rises, before, "rate 0 is off");
    finish(s);
}

Test(mc146818, update_ended_interrupt)
{
    struct setup *s = start();
    put(s, 0x0b, 0x12);
    clock_advance(s->clock, NS_PER_SECOND);
    cr_assert_eq(s->irq.rises, 1);
    cr_assert_eq(s->irq.rose, NS_PER_SECOND);
    clock_advance(s->clock, 3 * NS_PER_SECOND);
    cr_assert_eq(s->irq.rises, 1, "until C is read");
    cr_assert_eq(get(s, 0x0c) & 0x90, 0x90);
    cr_assert_eq(get(s, 0x0c), 0);
    cr_assert_eq(s->irq.level, 0);
    clock_advance(s->clock, NS_PER_SECOND);
    cr_assert_eq(s->irq.rises, 2);
    put(s, 0x0b, 0x92);
    cr_assert_eq(get(s, 0x0b), 0x82, "SET clears UIE");
    cr_assert_eq(s->irq.level, 0);
    finish(s);
}

Test(mc146818, flags_without_interrupts)
{
    struct setup *s = start();
    get(s, 0x0c);
    clock_advance(s->clock, 1500 * MS);
    cr_assert_eq(get(s, 0x0c), 0x50);
    cr_assert_eq(s->irq.rises, 0);
    clock_advance(s->clock, 5 * MS);
    out8(s->ports, 0x70, 0x0b);
    out8(s->ports, 0x71, 0x42);
    cr_assert_eq(s->irq.level, 1, "PF is set already");
    finish(s);
}

Test(mc146818, alarm)
{
    struct setup *s = start();
    put(s, 1, 0x05);
    put(s, 3, 0x00);
    put(s, 5, 0x00);
    get(s, 0x0c);
    put(s, 0x0b, 0x22);
    clock_advance(s->clock, 60 * NS_PER_SECOND);
    cr_assert_eq(s->irq.rises, 1);
    cr_assert_eq(s->irq.rose, 7 * NS_PER_SECOND);
    cr_assert_eq(get(s, 0x0c) & 0xa0, 0xa0);
    put(s, 3, 0xc0);
    put(s, 5, 0xff);
    clock_advance(s->clock, 180 * NS_PER_SECOND);
    cr_assert_eq(s->irq.rises, 2, "every minute, once until read");
    get(s, 0x0c);
    clock_advance(s->clock, 60 * NS_PER_SECOND);
    cr_assert_eq(s->irq.rises, 3);
    put(s, 0x0b, 0x02);
    get(s, 0x0c);
    put(s, 5, 0x12);
    put(s, 3, 0x00);
    clock_advance(s->clock, 86400 * NS_PER_SECOND);
    cr_assert_eq(get(s, 0x0c) & 0x20, 0x20, "noticed after the fact");
    finish(s);
}

Test(mc146818, memory_and_ports)
{
    struct setup *s = start();
    mc146818_set_cmos(s->rtc, 0x15, 0x80);
    cr_assert_eq(get(s, 0x15), 0x80);
    put(s, 0x0f, 0x0a);
    cr_assert_eq(mc146818_get_cmos(s->rtc, 0x0f), 0x0a);
    cr_assert_eq(get(s, 0x0d), 0x80);
    put(s, 0x0d, 0);
    cr_assert_eq(get(s, 0x0d), 0x80);
    cr_assert_eq(in8(s->ports, 0x70), 0xff);
    out8(s->ports, 0x70, 0x8f);
    cr_assert(mc146818_nmi_masked(s->rtc));
    cr_assert_eq(in8(s->ports, 0x71), 0x0a);
    out8(s->ports, 0x70, 0x0f);
    cr_assert_not(mc146818_nmi_masked(s->rtc));
    put(s, 0x0b, 0x72);
    mc146818_device(s->rtc)->cls->reset(mc146818_device(s->rtc));
    cr_assert_eq(get(s, 0x0b), 0x02);
    cr_assert_eq(get(s, 0x0f), 0x0a, "the battery keeps it");
    cr_assert_eq(time_of_day(s), 0x235958);
    finish(s);
}

Test(mc146818, nonsense_in_the_registers_is_survived)
{
    struct setup *s = start();
    for (int value = 0; value < 256; value += 5) {
        for (int i = 0; i < 10; i++)
            put(s, i, value);
        put(s, 0x32, value);
        put(s, 0x0b, value & 0x06);
        clock_advance(s->clock, 100000 * NS_PER_SECOND);
        cr_assert_lt(get(s, 0x0a) & 0x7f, 0x30);
    }
    put(s, 0x0b, 0x82);
    put(s, 0, 0xff);
    cr_assert_eq(get(s, 0), 0xff);
    finish(s);
}

static s64 set_to;

static void clock_set(void *opaque, s64 seconds)
{
    set_to = seconds;
    ++*(int *)opaque;
}

Test(mc146818, tells_when_it_is_set)
{
    struct setup *s = start();
    int calls = 0;
    mc146818_on_set(s->rtc, clock_set, &calls);
    put(s, 0x20, 1); /* memory */
    put(s, 0x01, 0); /* an alarm */
    put(s, 0x0b, 0x82);
    put(s, 0x04, 0x10);
    put(s, 0x09, 0x24);
    cr_assert_eq(calls, 0, "held");
    put(s, 0x0b, 0x02);
    cr_assert_eq(calls, 1);
    cr_assert_eq(set_to, 1735642798, "2024-12-31 10:59:58");
    put(s, 0x00, 0x00);
    cr_assert_eq(calls, 2);
    finish(s);
}

Test(mc146818, follows_the_wall_clock)
{
    struct setup *s = start();
    clock_set_wall(s->clock, 1704067198 + 3 * 86400 + 5);
    cr_assert_eq(date(s), 0x20240104, "the machine stood for three days");
    cr_assert_eq(time_of_day(s), 0x000003);
    cr_assert_eq(get(s, 6), 5);
    cr_assert(get(s, 0x0c) & 0x10, "the update that came of it");
    clock_set_wall(s->clock, 1704067198 - 60);
    cr_assert_eq(date(s), 0x20231231);
    cr_assert_eq(time_of_day(s), 0x235858);
    cr_assert_eq(get(s, 6), 1);

    put(s, 4, 0x12); /* what the guest set stays set */
    clock_set_wall(s->clock, 1704067198 - 30);
    cr_assert_eq(time_of_day(s), 0x125928);
    clock_advance(s->clock, NS_PER_SECOND);
    cr_assert_eq(time_of_day(s), 0x125929);
    finish(s);
}

Test(mc146818, interrupts_after_a_step_of_the_wall_clock)
{
    struct setup *s = start();
    put(s, 0x0a, 0x2f); /* every half second */
    put(s, 0x0b, 0x52); /* PIE, UIE */
    get(s, 0x0c);
    clock_set_wall(s->clock, 1704067198 - 86400);
    clock_advance(s->clock, NS_PER_SECOND / 2);
    cr_assert_eq(get(s, 0x0c), 0xc0);
    clock_advance(s->clock, NS_PER_SECOND / 2);
    cr_assert_eq(get(s, 0x0c), 0xd0);
    cr_assert_eq(time_of_day(s), 0x235959);
    cr_assert_eq(date(s), 0x20231230);
    finish(s);
}

Test(mc146818, daylight_saving)
{
    static const struct {
        u8 month, day, hour, minutes; /* where it starts, in 2022 */
        u32 then;                     /* the time ten minutes later */
    } cases[] = {
        {0x04, 0x24, 0x01, 0x55, 0x030500}, {0x04, 0x17, 0x01, 0x55, 0x020500}, {0x05, 0x29, 0x01, 0x55, 0x020500},
        {0x10, 0x30, 0x01, 0x55, 0x010500}, {0x10, 0x23, 0x01, 0x55, 0x020500},
    };
    struct setup *s = start();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        put(s, 0x0b, 0x83); /* SET, 24/12, DSE */
        put(s, 9, 0x22), put(s, 8, cases[i].month), put(s, 7, cases[i].day), put(s, 6, 1);
        put(s, 4, cases[i].hour), put(s, 2, cases[i].minutes), put(s, 0, 0);
        put(s, 0x0b, 0x03);
        clock_advance(s->clock, 600 * NS_PER_SECOND);
        cr_assert_eq(time_of_day(s), cases[i].then, "case %zu: %06x", i, time_of_day(s));
        if (cases[i].then != 0x010500) continue;
        clock_advance(s->clock, 3600 * NS_PER_SECOND);
        cr_assert_eq(time_of_day(s), 0x020500, "once only");
    }
    finish(s);
}

Test(mc146818, lost_interrupts_come_later)
{
    for (int slew = 0; slew < 2; slew++) {
        struct setup *s = start_with(slew);
        put(s, 0x0a, 0x2a); /* 64 Hz */
        put(s, 0x0b, 0x42); /* PIE */
        get(s, 0x0c);
        clock_advance(s->clock, NS_PER_SECOND / 2); /* the guest is away for 32 of them */
        int ticks = 0;
        for (u64 ns = 0; ns < NS_PER_SECOND; ns += MS) {
            if (s->irq.level) ticks += get(s, 0x0c) >> 6 & 1;
            clock_advance(s->clock, MS);
        }
        if (slew)
            cr_assert(ticks >= 95 && ticks <= 97, "all of one and a half seconds: %d", ticks);
        else
            cr_assert(ticks == 64, "of one second: %d", ticks);
        finish(s);
    }
}
