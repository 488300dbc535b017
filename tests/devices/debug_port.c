/* build/tests/test_debug_port */
#include "fixture.h"

#include <string.h>

#include "devices/debug_port.h"

static char written[64];
static size_t written_len;

static void sink_write(struct chardev *c, const u8 *buf, size_t len)
{
    (void)c;
    memcpy(written + written_len, buf, len);
    written_len += len;
}

static const struct chardev_ops sink_ops = {sink_write, NULL, NULL};

Test(debug_port, prints_and_answers)
{
    struct bus *ports = bus_create("ports", 0x10000);
    struct chardev sink = {.ops = &sink_ops};
    struct device *a = debug_port_create(ports, 0x402, 0xe9, &sink);
    struct device *b = debug_port_create(ports, 0xe9, 0x42, NULL);
    cr_assert_eq(in8(ports, 0x402), 0xe9);
    cr_assert_eq(in8(ports, 0xe9), 0x42);
    for (const char *c = "post\n"; *c; c++)
        out8(ports, 0x402, *c);
    out8(ports, 0xe9, 'x');
    bus_write(ports, 0x402, 'y', 1);
    cr_assert_eq(written_len, 6);
    cr_assert_arr_eq(written, "post\ny", 6);
    a->cls->reset(a);
    a->cls->destroy(a);
    b->cls->destroy(b);
    cr_assert_eq(in8(ports, 0x402), 0xff);
    bus_destroy(ports);
}
