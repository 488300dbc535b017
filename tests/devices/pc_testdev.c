/* build/tests/test_pc_testdev */
#include "fixture.h"

#include "devices/pc_testdev.h"

static int levels[PC_TESTDEV_LINES];

static void set_level(void *opaque, int n, int level)
{
    (void)opaque;
    levels[n] = level;
}

Test(pc_testdev, registers_lines_and_memory)
{
    struct bus *ports = bus_create("ports", 0x10000), *mem = bus_create("memory", 1ull << 32);
    struct irq_line lines[PC_TESTDEV_LINES];
    for (int i = 0; i < PC_TESTDEV_LINES; i++)
        lines[i] = (struct irq_line){set_level, NULL, i};
    struct device *d = pc_testdev_create(ports, mem, lines);

    bus_write(ports, 0xe0, 0x44332211, 4);
    cr_assert_eq(bus_read(ports, 0xe0, 4), 0x44332211);
    cr_assert_eq(bus_read(ports, 0xe0, 1), 0x11);
    cr_assert_eq(bus_read(ports, 0xe2, 2), 0x4433);
    cr_assert_eq(bus_read(ports, 0xe8, 4), 0x44332211, "the same register");
    bus_write(ports, 0xe1, 0xaabb, 2);
    cr_assert_eq(bus_read(ports, 0xe0, 4), 0x44aabb11);
    out8(ports, 0xeb, 0xcc);
    cr_assert_eq(bus_read(ports, 0xe0, 4), 0xccaabb11);

    bus_write(ports, 0xe4, 0x100000, 4);
    cr_assert_eq(bus_read(ports, 0xe4, 4), 0);

    for (int i = 0; i < PC_TESTDEV_LINES; i++) {
        out8(ports, 0x2000 + i, 2);
        cr_assert_eq(levels[i], 1);
        cr_assert_eq(in8(ports, 0x2000 + i), 0);
        out8(ports, 0x2000 + i, 0);
        cr_assert_eq(levels[i], 0);
    }

    for (unsigned size = 1; size <= 8; size *= 2) {
        u64 value = 0x8877665544332211ull;
        bus_write(mem, 0xff000000 + 0x123 * size, value, size);
        cr_assert_eq(bus_read(mem, 0xff000000 + 0x123 * size, size), value & (~0ull >> (64 - 8 * size)));
    }
    bus_write(mem, 0xff00fffc, 0xdeadbeef, 4);
    cr_assert_eq(bus_read(mem, 0xff00ffff, 1), 0xde);
    d->cls->reset(d);
    cr_assert_eq(bus_read(mem, 0xff00fffc, 4), 0);
    d->cls->destroy(d);
    bus_destroy(ports);
    bus_destroy(mem);
}
