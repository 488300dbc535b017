// build/tests/test_parallel
#include <criterion/criterion.h>
#include <string.h>

#include "devices/parallel.h"

static struct bus *ports;
static struct device *port;
static char printed[64];
static size_t length;
static int irqs;

static void print(struct chardev *c, const u8 *buf, size_t len)
{
    (void)c;
    memcpy(printed + length, buf, len);
    length += len;
}

static const struct chardev_ops printer_ops = {.write = print};
static struct chardev printer = {.ops = &printer_ops};

static void irq(void *opaque, int n, int level)
{
    (void)opaque;
    (void)n;
    irqs += level;
}

static void setup(void)
{
    ports = bus_create("ports", 0x10000);
    port = parallel_create(ports, 0x378, (struct irq_line){irq, NULL, 7}, &printer);
    length = 0;
    irqs = 0;
}

static void teardown(void)
{
    port->cls->destroy(port);
    bus_destroy(ports);
}

TestSuite(parallel, .init = setup, .fini = teardown);

static void send(u8 byte, u8 control)
{
    bus_write(ports, 0x378, byte, 1);
    bus_write(ports, 0x37a, control | 1, 1);
    bus_write(ports, 0x37a, control, 1);
}

Test(parallel, prints_at_the_strobe)
{
    send('a', 0x0c);
    bus_write(ports, 0x37a, 0x0d, 1);
    bus_write(ports, 0x37a, 0x0d, 1); /* no second edge */
    cr_assert_eq(length, 2u);
    cr_assert_eq(memcmp(printed, "aa", 2), 0);
    cr_assert_eq(irqs, 0);
    bus_write(ports, 0x37a, 0x0c, 1);
    send('b', 0x1c);
    cr_assert_eq(irqs, 1);
    send('c', 0x18); /* the printer is held in reset */
    cr_assert_eq(length, 3u);
}

Test(parallel, status)
{
    cr_assert_eq(bus_read(ports, 0x379, 1), 0xdfu);
    send('a', 0x0c);
    cr_assert_eq(bus_read(ports, 0x379, 1), 0x9fu, "the acknowledge pulse");
    cr_assert_eq(bus_read(ports, 0x379, 1), 0xdfu);
}

Test(parallel, registers_read_back)
{
    cr_assert_eq(bus_read(ports, 0x37a, 1), 0xccu);
    bus_write(ports, 0x378, 0x5a, 1);
    cr_assert_eq(bus_read(ports, 0x378, 1), 0x5au);
    bus_write(ports, 0x37a, 0x2c, 1);
    cr_assert_eq(bus_read(ports, 0x378, 1), 0xffu, "inputs");
    port->cls->reset(port);
    cr_assert_eq(bus_read(ports, 0x378, 1), 0u);
}
