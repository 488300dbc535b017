/* Run alone: build/tests/test_hpet
 *
 * The HPET's registers, comparators and interrupt routing, on a manual clock. */
#include <criterion/criterion.h>

#include "core/clock.h"
#include "devices/hpet.h"

static struct clock *machine_clock;
static struct bus *memory;
static struct hpet *hpet;
static int level[26], edges[26]; /* gsi 0..23, irq0, irq8 */
static u64 msi_address;
static u32 msi_data;
static int msis;

static void line_set(void *o, int n, int l)
{
    (void)o;
    if (l && !level[n]) edges[n]++;
    level[n] = l;
}

static void msi(void *o, u64 address, u32 data)
{
    (void)o;
    msis++;
    msi_address = address;
    msi_data = data;
}

static void setup(bool fsb)
{
    struct hpet_wiring wiring = {.routes = 0x00f00004, .msi = fsb ? msi : NULL};
    machine_clock = clock_create_manual();
    memory = bus_create("memory", 1ull << 52);
    for (int i = 0; i < 24; i++) wiring.gsi[i] = (struct irq_line){line_set, NULL, i};
    wiring.irq0 = (struct irq_line){line_set, NULL, 24};
    wiring.irq8 = (struct irq_line){line_set, NULL, 25};
    hpet = hpet_create(memory, HPET_DEFAULT_BASE, machine_clock, &wiring);
    for (int i = 0; i < 26; i++) level[i] = edges[i] = 0;
    msis = 0;
}

static u64 rd(unsigned reg) { return bus_read(memory, 0xfed00000 + reg, 8); }
static u32 rd32(unsigned reg) { return (u32)bus_read(memory, 0xfed00000 + reg, 4); }
static void wr(unsigned reg, u64 value) { bus_write(memory, 0xfed00000 + reg, value, 8); }
static void wr32(unsigned reg, u32 value) { bus_write(memory, 0xfed00000 + reg, value, 4); }
static void ticks(u64 n) { clock_advance(machine_clock, n * 10); }

Test(hpet, capabilities)
{
    setup(false);
    cr_assert_eq(rd(0), 0x009896808086a201);
    cr_assert_eq(rd32(0), HPET_BLOCK_ID);
    cr_assert_eq(rd32(4), 10000000);
    cr_assert_eq(rd(0x100), 0x00f0000400000030);
    cr_assert_eq(rd(0x108), UINT64_MAX);
    cr_assert_eq(rd32(0x144), 0x00f00004);
    cr_assert_eq(rd(0x160), 0, "there are three timers");
    wr(0, 0);
    cr_assert_eq(rd32(0), HPET_BLOCK_ID);
}

Test(hpet, counter)
{
    setup(false);
    ticks(100);
    cr_assert_eq(rd(0xf0), 0, "halted");
    wr(0x10, 1);
    ticks(123);
    cr_assert_eq(rd(0xf0), 123);
    wr(0x10, 0);
    ticks(100);
    cr_assert_eq(rd(0xf0), 123);
    wr32(0xf4, 5);
    wr32(0xf0, 0xfffffff0);
    cr_assert_eq(rd(0xf0), 0x5fffffff0);
    wr(0x10, 1);
    ticks(0x20);
    cr_assert_eq(rd(0xf0), 0x600000010);
    cr_assert_eq(rd32(0xf4), 6);
}

Test(hpet, one_shot_edge)
{
    setup(false);
    wr(0x10, 1);
    wr32(0x120, 0x4 | 20 << 9);
    wr(0x128, 500);
    ticks(499);
    cr_assert_eq(edges[20], 0);
    ticks(1);
    cr_assert_eq(edges[20], 1);
    cr_assert_eq(level[20], 0);
    cr_assert_eq(rd(0x20), 0, "no status in edge mode");
    ticks(1000000);
    cr_assert_eq(edges[20], 1);
    wr(0x128, rd(0xf0) - 10);
    ticks(1);
    cr_assert_eq(edges[20], 2, "just missed counts as a match");
    wr(0x128, 10);
    ticks(1000);
    cr_assert_eq(edges[20], 2, "long past does not");
    wr32(0x120, 20 << 9);
    wr(0x128, rd(0xf0) + 10);
    ticks(20);
    cr_assert_eq(edges[20], 2, "interrupt disabled");
}

Test(hpet, level)
{
    setup(false);
    wr(0x10, 1);
    wr32(0x140, 0x6 | 21 << 9);
    wr(0x148, 100);
    ticks(100);
    cr_assert_eq(level[21], 1);
    cr_assert_eq(rd(0x20), 4);
    wr(0x20, 1);
    cr_assert_eq(level[21], 1, "another timer's bit");
    wr32(0x140, 0x2 | 21 << 9);
    cr_assert_eq(level[21], 0, "interrupt disabled");
    wr32(0x140, 0x6 | 21 << 9);
    cr_assert_eq(level[21], 1);
    wr32(0x140, 0x6 | 22 << 9);
    cr_assert_eq(level[21], 0);
    cr_assert_eq(level[22], 1, "moved with the route");
    wr(0x20, 4);
    cr_assert_eq(level[22], 0);
    cr_assert_eq(rd(0x20), 0);
}

Test(hpet, routes)
{
    setup(false);
    wr32(0x100, 20 << 9);
    cr_assert_eq(rd32(0x100), (20 << 9 | 0x30));
    wr32(0x100, 5 << 9);
    cr_assert_eq(rd32(0x100), (20 << 9 | 0x30), "no such route");
    wr32(0x100, 0xffffffff);
    cr_assert_eq(rd32(0x100) & 0xc000, 0, "no FSB delivery");
}

Test(hpet, periodic)
{
    setup(false);
    wr32(0x100, 0x4 | 0x8 | 0x40 | 2 << 9);
    wr32(0x108, 1000); /* accumulator */
    cr_assert_eq(rd32(0x100) & 0x40, 0, "VAL_SET clears itself");
    wr32(0x108, 250); /* period */
    wr32(0x10c, 0);
    wr(0x10, 1);
    /* The first dword write went to a 64-bit comparator that was all ones above. */
    cr_assert_eq(rd(0x108) >> 32, 0xffffffff);
    wr(0x10, 0);
    wr32(0x100, 0x4 | 0x8 | 0x40 | 2 << 9);
    wr(0x108, 1000);
    wr(0x108, 250);
    wr(0xf0, 0);
    wr(0x10, 1);
    ticks(999);
    cr_assert_eq(edges[2], 0);
    ticks(1);
    cr_assert_eq(edges[2], 1);
    cr_assert_eq(rd(0x108), 1250);
    for (int i = 0; i < 40; i++) ticks(25);
    cr_assert_eq(edges[2], 5);
    cr_assert_eq(rd(0x108), 2250);
    wr32(0x100, 0x4 | 2 << 9);
    ticks(250);
    cr_assert_eq(edges[2], 6, "one-shot now");
    ticks(2500);
    cr_assert_eq(edges[2], 6);
}

Test(hpet, mode_32)
{
    setup(false);
    wr(0xf0, 0xfffffff00);
    wr32(0x100, 0x4 | 0x100 | 2 << 9);
    wr32(0x108, 0x80);
    cr_assert_eq(rd(0x108), 0x80);
    wr(0x10, 1);
    ticks(0x17f);
    cr_assert_eq(edges[2], 0);
    ticks(1);
    cr_assert_eq(edges[2], 1, "matches the low half");
    ticks(0xffffffff);
    cr_assert_eq(edges[2], 1);
    ticks(1);
    cr_assert_eq(edges[2], 2, "and again after it wraps");
}

Test(hpet, legacy_replacement)
{
    setup(false);
    struct irq_line pit = hpet_pit_input(hpet), rtc = hpet_rtc_input(hpet);
    irq_pulse(&pit);
    irq_set(&rtc, 1);
    cr_assert_eq(edges[24], 1);
    cr_assert_eq(level[25], 1);
    wr(0x10, 3);
    cr_assert_eq(level[25], 0, "the RTC is cut off");
    irq_pulse(&pit);
    cr_assert_eq(edges[24], 1);
    wr32(0x100, 0x4 | 20 << 9);
    wr(0x108, rd(0xf0) + 100);
    wr32(0x120, 0x6);
    wr(0x128, rd(0xf0) + 100);
    ticks(100);
    cr_assert_eq(edges[24], 2);
    cr_assert_eq(edges[20], 0, "the route field is ignored");
    cr_assert_eq(level[25], 1);
    wr(0x20, 2);
    cr_assert_eq(level[25], 0);
    wr(0x10, 0);
    cr_assert_eq(level[25], 1, "the RTC is back");
    hpet_device(hpet)->cls->reset(hpet_device(hpet));
    cr_assert_eq(level[25], 1);
    cr_assert_eq(rd(0x128), UINT64_MAX);
}

Test(hpet, fsb)
{
    setup(true);
    cr_assert_eq(rd32(0x100) & 0x8000, 0x8000);
    wr(0x10, 1);
    wr32(0x100, 0x4004);
    wr32(0x110, 0x4051);
    wr32(0x114, 0xfee01000);
    cr_assert_eq(rd(0x110), 0xfee0100000004051);
    wr(0x108, 70);
    ticks(70);
    cr_assert_eq(msis, 1);
    cr_assert_eq(msi_address, 0xfee01000);
    cr_assert_eq(msi_data, 0x4051);
}
