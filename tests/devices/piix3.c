// build/tests/test_piix3
#include <criterion/criterion.h>
#include <string.h>

#include "core/bus.h"
#include "devices/pci.h"
#include "devices/piix3.h"

struct board {
    struct bus *memory, *ports;
    struct pci_bus *pci;
    struct piix3 *piix;
    struct pci_device card;
    int isa[16], apic[4];
    int resets, hard;
};

static void isa(void *opaque, int n, int level) { ((struct board *)opaque)->isa[n] = level; }
static void apic(void *opaque, int n, int level) { ((struct board *)opaque)->apic[n] = level; }
static void on_reset(void *opaque, bool hard)
{
    struct board *b = opaque;
    b->resets++;
    b->hard = hard;
}

static const struct device_class card_class = {.name = "card"};
static const struct pci_info card_info = {.vendor = 1, .device = 2, .interrupt_pin = 1};

static void setup(struct board *b)
{
    memset(b, 0, sizeof *b);
    b->memory = bus_create("memory", 1ull << 52);
    b->ports = bus_create("ports", 0x10000);
    b->pci = pci_bus_create(b->memory, b->ports);
    struct piix3_wiring w = {.reset = on_reset, .opaque = b};
    for (int i = 0; i < 16; i++)
        w.isa_irq[i] = (struct irq_line){isa, b, i};
    for (int i = 0; i < 4; i++)
        w.pirq_apic[i] = (struct irq_line){apic, b, i};
    b->piix = piix3_create(b->pci, &w);
    cr_assert_eq(pci_device_init(&b->card, b->pci, PCI_DEVFN(4, 0), &card_info, &card_class), 0); /* PIRQD# */
}

static void teardown(struct board *b)
{
    pci_device_destroy(&b->card);
    piix3_device(b->piix)->cls->destroy(piix3_device(b->piix));
    pci_bus_destroy(b->pci);
    bus_destroy(b->memory);
    bus_destroy(b->ports);
}

static void set(struct board *b, unsigned reg, u32 v)
{
    pci_bus_config_write(b->pci, PCI_DEVFN(1, 0), reg, v, 1);
}
static u32 get(struct board *b, unsigned reg, unsigned size)
{
    return pci_bus_config_read(b->pci, PCI_DEVFN(1, 0), reg, size);
}

Test(piix3, identity)
{
    struct board b;
    setup(&b);
    cr_expect_eq(get(&b, 0, 4), 0x70008086);
    cr_expect_eq(get(&b, 8, 4), 0x06010000);
    cr_expect_eq(get(&b, 0x0e, 1), 0x80, "more functions follow");
    cr_expect_eq(get(&b, 4, 4), 0x02000007);
    cr_expect_eq(get(&b, 0x60, 4), 0x80808080);
    cr_expect_eq(get(&b, 0x4c, 1), 0x4d);
    teardown(&b);
}

Test(piix3, routes_interrupts)
{
    struct board b;
    setup(&b);
    pci_set_irq(&b.card, 1);
    cr_expect_eq(b.apic[3], 1);
    for (int i = 0; i < 16; i++)
        cr_expect_eq(b.isa[i], 0, "disabled after reset");
    set(&b, 0x63, 0x0b);
    cr_expect_eq(b.isa[11], 1);
    set(&b, 0x63, 0x7a); /* reserved bits do not stick */
    cr_expect_eq(get(&b, 0x63, 1), 0x0a);
    cr_expect_eq(b.isa[11], 0);
    cr_expect_eq(b.isa[10], 1);
    set(&b, 0x62, 0x0b); /* another wire */
    cr_expect_eq(b.isa[11], 0);
    set(&b, 0x63, 0x8a);
    cr_expect_eq(b.isa[10], 0);
    set(&b, 0x63, 0x08); /* reserved inputs are not connected */
    cr_expect_eq(b.isa[8], 0);
    set(&b, 0x63, 0x0a);
    pci_set_irq(&b.card, 0);
    cr_expect_eq(b.isa[10], 0);
    cr_expect_eq(b.apic[3], 0);
    teardown(&b);
}

Test(piix3, shares_isa_inputs)
{
    struct board b;
    setup(&b);
    struct irq_line sci = piix3_isa_input(b.piix, 9);
    set(&b, 0x63, 9);
    irq_set(&sci, 1);
    cr_expect_eq(b.isa[9], 1);
    pci_set_irq(&b.card, 1);
    irq_set(&sci, 0);
    cr_expect_eq(b.isa[9], 1);
    pci_set_irq(&b.card, 0);
    cr_expect_eq(b.isa[9], 0);
    teardown(&b);
}

Test(piix3, reset_disconnects)
{
    struct board b;
    setup(&b);
    set(&b, 0x63, 5);
    pci_set_irq(&b.card, 1);
    cr_expect_eq(b.isa[5], 1);
    piix3_device(b.piix)->cls->reset(piix3_device(b.piix));
    cr_expect_eq(b.isa[5], 0);
    cr_expect_eq(get(&b, 0x63, 1), 0x80);
    teardown(&b);
}

Test(piix3, reset_control_register)
{
    struct board b;
    setup(&b);
    bus_write(b.ports, 0xcf9, 0x02, 1);
    cr_expect_eq(b.resets, 0);
    cr_expect_eq(bus_read(b.ports, 0xcf9, 1), 2);
    bus_write(b.ports, 0xcf9, 0x06, 1);
    cr_expect_eq(b.resets, 1);
    cr_expect_eq(b.hard, 1);
    bus_write(b.ports, 0xcf9, 0x04, 1);
    cr_expect_eq(b.resets, 2);
    cr_expect_eq(b.hard, 0);
    cr_expect_eq(bus_read(b.ports, 0xcf9, 1), 0);
    teardown(&b);
}
