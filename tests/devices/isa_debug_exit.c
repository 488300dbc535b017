/* build/tests/test_isa_debug_exit */
#include "fixture.h"

#include "devices/isa_debug_exit.h"

static void note(void *opaque, int status) { *(int *)opaque = status; }

Test(isa_debug_exit, status_is_twice_the_value_plus_one)
{
    struct bus *ports = bus_create("ports", 0x10000);
    int status = -1;
    struct device *d = isa_debug_exit_create(ports, 0xf4, 4, note, &status);
    cr_assert_eq(bus_read(ports, 0xf4, 4), 0);
    cr_assert_eq(status, -1);
    out8(ports, 0xf4, 0);
    cr_assert_eq(status, 1);
    out8(ports, 0xf7, 0x20);
    cr_assert_eq(status, 0x41);
    bus_write(ports, 0xf4, 0x12345, 4);
    cr_assert_eq(status, 0x2468b);
    d->cls->reset(d);
    d->cls->destroy(d);
    status = -1;
    out8(ports, 0xf4, 0);
    cr_assert_eq(status, -1);
    bus_destroy(ports);
}
