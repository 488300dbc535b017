/* Run alone: build/tests/test_ioapic
 *
 * The I/O APIC's registers and trigger modes, in front of real local APICs. */
#include <criterion/criterion.h>

#include "core/clock.h"
#include "devices/ioapic.h"
#include "devices/lapic.h"

static struct clock *machine_clock;
static struct apic_bus *apics;
static struct bus *memory;
static struct ioapic *io;
static struct lapic *lapics[4];
static bool intr[4];
static int nmis;

static void cpu_intr(void *o, bool level) { *(bool *)o = level; }
static void cpu_nmi(void *o)
{
    (void)o;
    nmis++;
}

static void setup(int count)
{
    machine_clock = clock_create_manual();
    apics = apic_bus_create();
    memory = bus_create("memory", 1ull << 52);
    io = ioapic_create(memory, IOAPIC_DEFAULT_BASE, apics);
    for (int i = 0; i < count; i++) {
        struct lapic_config config = {.id = (u32)i, .bsp = i == 0, .x2apic = true, .phys_bits = 40};
        struct lapic_cpu cpu = {.opaque = &intr[i], .set_intr = cpu_intr, .nmi = cpu_nmi};
        intr[i] = false;
        lapics[i] = lapic_create(apics, machine_clock, &config, &cpu);
        lapic_mmio_write(lapics[i], 0xfee000f0, 0x1ff, 4);
    }
    nmis = 0;
}

static u32 rd(unsigned reg)
{
    bus_write(memory, 0xfec00000, reg, 4);
    return (u32)bus_read(memory, 0xfec00010, 4);
}

static void wr(unsigned reg, u32 value)
{
    bus_write(memory, 0xfec00000, reg, 4);
    bus_write(memory, 0xfec00010, value, 4);
}

static void redirect(int pin, u64 entry)
{
    wr(0x10 + 2 * (unsigned)pin, (u32)entry);
    wr(0x11 + 2 * (unsigned)pin, (u32)(entry >> 32));
}

static void line(int pin, int level)
{
    struct irq_line l = ioapic_input(io, pin);
    irq_set(&l, level);
}

static int ack(int cpu) { return lapic_ack(lapics[cpu]); }
static void eoi(int cpu) { lapic_mmio_write(lapics[cpu], 0xfee000b0, 0, 4); }

#define LEVEL  0x8000u
#define MASKED 0x10000u

Test(ioapic, registers)
{
    setup(1);
    cr_assert_eq(rd(1), 0x00170020);
    wr(1, 0);
    cr_assert_eq(rd(1), 0x00170020);
    cr_assert_eq(rd(0), 0);
    wr(0, 0xffffffff);
    cr_assert_eq(rd(0), 0x0f000000);
    cr_assert_eq(rd(2), 0x0f000000, "arbitration ID follows");
    wr(2, 0);
    cr_assert_eq(rd(2), 0x0f000000);
    for (unsigned i = 0; i < 24; i++) {
        cr_assert_eq(rd(0x10 + 2 * i), 0x10000);
        cr_assert_eq(rd(0x11 + 2 * i), 0);
    }
    wr(0x3e, 0xfffffff0);
    wr(0x3f, 0xffffffff);
    cr_assert_eq(rd(0x3e), 0x1aff0, "delivery status and remote IRR are read-only");
    cr_assert_eq(rd(0x3f), 0xff000000);
    cr_assert_eq(rd(0x40), 0);
    cr_assert_eq(bus_read(memory, 0xfec00000, 4), 0x40);
}

Test(ioapic, edge)
{
    setup(1);
    redirect(14, 0x76);
    line(14, 1);
    line(14, 0);
    cr_assert(intr[0]);
    cr_assert_eq(ack(0), 0x76);
    eoi(0);
    line(14, 1);
    cr_assert_eq(ack(0), 0x76);
    eoi(0);
    line(14, 1);
    cr_assert_not(intr[0], "still high: no edge");
    line(14, 0);
    redirect(14, 0x81 | MASKED);
    line(14, 1);
    line(14, 0);
    redirect(14, 0x81);
    cr_assert_not(intr[0], "a masked edge is lost");
    line(14, 1);
    cr_assert_eq(ack(0), 0x81);
}

Test(ioapic, level)
{
    setup(1);
    redirect(14, 0x77 | LEVEL);
    line(14, 1);
    cr_assert_eq(rd(0x2c), 0x77 | LEVEL | 0x4000, "remote IRR");
    cr_assert_eq(ack(0), 0x77);
    cr_assert_not(intr[0]);
    line(14, 0);
    line(14, 1);
    line(14, 0);
    eoi(0);
    cr_assert_not(intr[0], "coalesced");
    cr_assert_eq(rd(0x2c), 0x77 | LEVEL);
    line(14, 1);
    cr_assert_eq(ack(0), 0x77);
    eoi(0);
    cr_assert(intr[0], "asserted at EOI: again");
    cr_assert_eq(ack(0), 0x77);
    line(14, 0);
    eoi(0);
    cr_assert_not(intr[0]);
}

Test(ioapic, level_mask)
{
    setup(1);
    redirect(14, 0x82 | LEVEL | MASKED);
    line(14, 1);
    cr_assert_not(intr[0]);
    redirect(14, 0x82 | LEVEL);
    cr_assert_eq(ack(0), 0x82, "unmasking finds the level");
    redirect(14, 0x82 | LEVEL | MASKED);
    eoi(0);
    cr_assert_not(intr[0]);
    cr_assert_eq(rd(0x2c) & 0x4000, 0, "EOI clears remote IRR of a masked pin");
    redirect(14, 0x82 | LEVEL);
    cr_assert_eq(ack(0), 0x82);
}

Test(ioapic, remote_irr_is_cleared_by_edge_mode)
{
    setup(1);
    redirect(14, 0x82 | LEVEL);
    line(14, 1);
    cr_assert_eq(rd(0x2c) & 0x4000, 0x4000);
    line(14, 0);
    redirect(14, 0x82 | MASKED);
    cr_assert_eq(rd(0x2c), 0x82 | MASKED);
    redirect(14, 0x82 | LEVEL | MASKED);
    cr_assert_eq(rd(0x2c), 0x82 | LEVEL | MASKED);
}

Test(ioapic, eoi_register)
{
    setup(1);
    redirect(14, 0x82 | LEVEL);
    redirect(15, 0x83 | LEVEL);
    line(14, 1);
    line(15, 1);
    line(14, 0);
    line(15, 0);
    bus_write(memory, 0xfec00040, 0x82, 4);
    cr_assert_eq(rd(0x2c) & 0x4000, 0);
    cr_assert_eq(rd(0x2e) & 0x4000, 0x4000, "another vector");
}

Test(ioapic, reconfigured_in_service)
{
    setup(2);
    redirect(14, 0x84 | LEVEL);
    line(14, 1);
    cr_assert_eq(ack(0), 0x84);
    line(14, 0);
    wr(0x2d, 0x01000000);
    eoi(0);
    cr_assert_eq(rd(0x2c) & 0x4000, 0);
    line(14, 1);
    cr_assert_not(intr[0]);
    cr_assert_eq(ack(1), 0x84);
}

Test(ioapic, destinations)
{
    setup(4);
    redirect(14, 1ull << 56 | 0x85 | LEVEL);
    line(14, 1);
    cr_assert_not(intr[0]);
    cr_assert_eq(ack(1), 0x85);
    line(14, 0);
    eoi(1);
    for (int i = 0; i < 4; i++) {
        u64 base;
        cr_assert(lapic_msr_read(lapics[i], 0x1b, &base));
        cr_assert(lapic_msr_write(lapics[i], 0x1b, base | 0x400));
    }
    redirect(14, 0xdull << 56 | 0x86 | LEVEL | 0x800);
    line(14, 1);
    cr_assert_eq(ack(0), 0x86);
    cr_assert_not(intr[1]);
    cr_assert_eq(ack(2), 0x86);
    cr_assert_eq(ack(3), 0x86);
}

Test(ioapic, not_accepted)
{
    setup(1);
    redirect(14, 9ull << 56 | 0x87 | LEVEL);
    line(14, 1);
    cr_assert_eq(rd(0x2c) & 0x4000, 0, "nobody took it");
    wr(0x2d, 0);
    cr_assert_eq(ack(0), 0x87, "tried again");
}

Test(ioapic, nmi)
{
    setup(1);
    redirect(23, 0x400 | LEVEL);
    line(23, 1);
    line(23, 1);
    cr_assert_eq(nmis, 1, "always an edge");
    line(23, 0);
    line(23, 1);
    cr_assert_eq(nmis, 2);
    cr_assert_eq(rd(0x3e) & 0x4000, 0);
}

Test(ioapic, reset)
{
    setup(1);
    redirect(14, 0x77);
    wr(0, 0x05000000);
    ioapic_device(io)->cls->reset(ioapic_device(io));
    cr_assert_eq(rd(0x2c), 0x10000);
    cr_assert_eq(rd(0), 0);
}
