// build/tests/test_acpi_pm
#include <criterion/criterion.h>
#include <string.h>

#include "core/bus.h"
#include "core/clock.h"
#include "devices/acpi_pm.h"
#include "devices/pci.h"

#define DEVFN PCI_DEVFN(1, 3)

struct board {
    struct bus *memory, *ports;
    struct clock *clock;
    struct pci_bus *pci;
    struct acpi_pm *pm;
    int sci;
    int power_offs;
};

static void sci(void *opaque, int n, int level)
{
    (void)n;
    ((struct board *)opaque)->sci = level;
}
static void power_off(void *opaque) { ((struct board *)opaque)->power_offs++; }

static void setup(struct board *b)
{
    memset(b, 0, sizeof *b);
    b->memory = bus_create("memory", 1ull << 52);
    b->ports = bus_create("ports", 0x10000);
    b->clock = clock_create_manual();
    b->pci = pci_bus_create(b->memory, b->ports);
    b->pm = acpi_pm_create(b->pci, DEVFN, (struct irq_line){sci, b, 9}, b->clock, power_off, b);
    /* As firmware sets it up. */
    pci_bus_config_write(b->pci, DEVFN, 0x40, 0x601, 4);
    pci_bus_config_write(b->pci, DEVFN, 0x80, 1, 1);
    pci_bus_config_write(b->pci, DEVFN, 0x90, 0x701, 4);
    pci_bus_config_write(b->pci, DEVFN, 0xd2, 9, 1);
}

static void teardown(struct board *b)
{
    acpi_pm_device(b->pm)->cls->destroy(acpi_pm_device(b->pm));
    pci_bus_destroy(b->pci);
    clock_destroy(b->clock);
    bus_destroy(b->memory);
    bus_destroy(b->ports);
}

static u32 in(struct board *b, unsigned port, unsigned size) { return (u32)bus_read(b->ports, port, size); }
static void out(struct board *b, unsigned port, u32 v, unsigned size) { bus_write(b->ports, port, v, size); }

Test(acpi_pm, configuration)
{
    struct board b;
    setup(&b);
    cr_expect_eq(pci_bus_config_read(b.pci, DEVFN, 0, 4), 0x71138086);
    cr_expect_eq(pci_bus_config_read(b.pci, DEVFN, 8, 4), 0x06800003);
    cr_expect_eq(pci_bus_config_read(b.pci, DEVFN, 0x58, 4), 1u << 25, "SMM counts as set up");
    cr_expect_eq(pci_bus_config_read(b.pci, DEVFN, 0x40, 4), 0x601);
    pci_bus_config_write(b.pci, DEVFN, 0x40, 0xffffffff, 4);
    cr_expect_eq(pci_bus_config_read(b.pci, DEVFN, 0x40, 4), 0xffc1);
    cr_expect_eq(in(&b, 0x604, 2), 0xffff, "moved away");
    cr_expect_eq(in(&b, 0xffc4, 2), 0);
    pci_bus_config_write(b.pci, DEVFN, 0x80, 0, 1);
    cr_expect_eq(in(&b, 0xffc4, 2), 0xffff, "not decoded");
    teardown(&b);
}

static void note_base(void *opaque, u16 base) { *(unsigned *)opaque = base; }

Test(acpi_pm, a_move_is_reported_when_it_takes_effect)
{
    struct board b;
    unsigned base = 0;
    setup(&b);
    acpi_pm_on_move(b.pm, note_base, &base);
    pci_bus_config_write(b.pci, DEVFN, 0x80, 0, 1);
    pci_bus_config_write(b.pci, DEVFN, 0x40, 0xb001, 4);
    cr_expect_eq(base, 0, "not decoded");
    pci_bus_config_write(b.pci, DEVFN, 0x80, 1, 1);
    cr_expect_eq(base, 0xb000);
    cr_expect_eq(in(&b, 0xb004, 2), 0);
    teardown(&b);
}

Test(acpi_pm, enabling_through_the_smi_command_port)
{
    struct board b;
    setup(&b);
    cr_expect_eq(in(&b, 0x604, 2), 0);
    out(&b, 0xb2, 0xf1, 1);
    cr_expect_eq(in(&b, 0x604, 2), 1);
    cr_expect_eq(in(&b, 0xb2, 1), 0xf1);
    out(&b, 0x604, 0, 2);
    cr_expect_eq(in(&b, 0x604, 2), 1, "SCI_EN is not software's");
    out(&b, 0xb3, 0x55, 1);
    cr_expect_eq(in(&b, 0xb3, 1), 0x55);
    cr_expect_eq(in(&b, 0x604, 2), 1);
    out(&b, 0xb2, 0xf0, 1);
    cr_expect_eq(in(&b, 0x604, 2), 0);
    teardown(&b);
}

Test(acpi_pm, timer_counts_at_3_579545_mhz)
{
    struct board b;
    setup(&b);
    cr_expect_eq(in(&b, 0x608, 4), 0);
    clock_advance(b.clock, NS_PER_SECOND);
    cr_expect_eq(in(&b, 0x608, 4), 3579545);
    cr_expect_eq(in(&b, 0x608, 1), 3579545 & 0xff);
    cr_expect_eq(in(&b, 0x60a, 2), 3579545 >> 16);
    clock_advance(b.clock, 4 * NS_PER_SECOND);
    cr_expect_eq(in(&b, 0x608, 4), 5 * 3579545 & 0xffffff, "24 bits");
    teardown(&b);
}

Test(acpi_pm, timer_overflow_status_and_interrupt)
{
    struct board b;
    /* Bit 23 first changes after 2^23 ticks. */
    u64 change = muldiv64(0x800000, NS_PER_SECOND, 3579545) + 1;
    setup(&b);
    clock_advance(b.clock, change - 2);
    cr_expect_eq(in(&b, 0x600, 2), 0);
    clock_advance(b.clock, 2);
    cr_expect_eq(in(&b, 0x600, 2), 1, "status does not need the enable bit");
    out(&b, 0x600, 1, 2);
    cr_expect_eq(in(&b, 0x600, 2), 0);

    out(&b, 0xb2, 0xf1, 1);
    out(&b, 0x602, 1, 2);
    cr_expect_eq(b.sci, 0);
    clock_advance(b.clock, change - 100);
    cr_expect_eq(b.sci, 0);
    clock_advance(b.clock, 200);
    cr_expect_eq(b.sci, 1);
    out(&b, 0x600, 1, 2);
    cr_expect_eq(b.sci, 0);
    clock_advance(b.clock, change);
    cr_expect_eq(b.sci, 1, "and again");
    out(&b, 0x602, 0, 2);
    cr_expect_eq(b.sci, 0);
    teardown(&b);
}

Test(acpi_pm, power_button)
{
    struct board b;
    setup(&b);
    cr_expect_not(acpi_pm_power_button(b.pm), "nobody listens");
    cr_expect_eq(b.sci, 0);
    out(&b, 0x600, 0x100, 2);
    out(&b, 0x602, 0x100, 2);
    out(&b, 0xb2, 0xf1, 1);
    cr_expect(acpi_pm_power_button(b.pm));
    cr_expect_eq(b.sci, 1);
    cr_expect_eq(in(&b, 0x600, 2), 0x100);
    out(&b, 0x601, 1, 1); /* by a byte */
    cr_expect_eq(b.sci, 0);
    cr_expect_eq(in(&b, 0x600, 4), 0x01000000);
    teardown(&b);
}

Test(acpi_pm, enable_register_keeps_events_only)
{
    struct board b;
    setup(&b);
    out(&b, 0x602, 0xffff, 2);
    cr_expect_eq(in(&b, 0x602, 2), 0x0521);
    out(&b, 0x600, 0x01000000, 4); /* both halves of the block at once */
    cr_expect_eq(in(&b, 0x602, 2), 0x0100);
    teardown(&b);
}

Test(acpi_pm, sleep)
{
    struct board b;
    setup(&b);
    out(&b, 0x604, 1 << 10, 2);
    cr_expect_eq(in(&b, 0x604, 2), 1 << 10);
    out(&b, 0x604, 1 << 13 | 1 << 10, 2); /* S3 is not offered */
    cr_expect_eq(b.power_offs, 0);
    out(&b, 0x604, 0, 2);
    cr_expect_eq(b.power_offs, 0);
    out(&b, 0x604, 1 << 13, 2);
    cr_expect_eq(b.power_offs, 1);
    cr_expect_eq(in(&b, 0x604, 2), 0, "SLP_EN is write-only");
    out(&b, 0x605, 0x20, 1);
    cr_expect_eq(b.power_offs, 2);
    teardown(&b);
}

Test(acpi_pm, general_purpose_events)
{
    struct board b;
    setup(&b);
    out(&b, 0xb2, 0xf1, 1);
    acpi_pm_gpe(b.pm, 9);
    cr_expect_eq(in(&b, 0xafe0, 4), 0x00000200);
    cr_expect_eq(b.sci, 0);
    out(&b, 0xafe3, 2, 1);
    cr_expect_eq(b.sci, 1);
    cr_expect_eq(in(&b, 0xafe2, 2), 0x0200);
    out(&b, 0xafe0, 0x0200, 2);
    cr_expect_eq(b.sci, 0);
    cr_expect_eq(in(&b, 0xafe0, 4), 0x02000000);
    teardown(&b);
}

Test(acpi_pm, smbus_has_no_devices)
{
    struct board b;
    setup(&b);
    cr_expect_eq(in(&b, 0x700, 1), 0);
    out(&b, 0x704, 0xa1, 1);
    cr_expect_eq(in(&b, 0x704, 1), 0xa1);
    out(&b, 0x702, 0x48, 1);
    cr_expect_eq(in(&b, 0x700, 1), 0x04);
    cr_expect_eq(in(&b, 0x702, 1), 0x08, "START reads zero");
    out(&b, 0x700, 0x04, 1);
    cr_expect_eq(in(&b, 0x700, 1), 0);
    teardown(&b);
}

Test(acpi_pm, reset)
{
    struct board b;
    setup(&b);
    out(&b, 0xb2, 0xf1, 1);
    out(&b, 0x602, 0x100, 2);
    acpi_pm_power_button(b.pm);
    cr_expect_eq(b.sci, 1);
    acpi_pm_device(b.pm)->cls->reset(acpi_pm_device(b.pm));
    cr_expect_eq(b.sci, 0);
    cr_expect_eq(in(&b, 0x604, 2), 0xffff, "no longer decoded");
    cr_expect_eq(pci_bus_config_read(b.pci, DEVFN, 0x58, 4), 1u << 25);
    teardown(&b);
}
