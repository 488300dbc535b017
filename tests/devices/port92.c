/* build/tests/test_port92 */
#include "fixture.h"

#include "devices/port92.h"

Test(port92, a20_and_reset)
{
    struct bus *ports = bus_create("ports", 0x10000);
    struct probe a20 = {.level = 1}, reset = {0};
    struct port92 *p = port92_create(ports, probe_line(&a20), probe_line(&reset));
    cr_assert_eq(in8(ports, 0x92), 0x02);
    out8(ports, 0x92, 0x00);
    cr_assert_eq(a20.level, 0);
    cr_assert_eq(in8(ports, 0x92), 0x00);
    out8(ports, 0x92, 0x02);
    cr_assert_eq(a20.level, 1);
    cr_assert_eq(reset.rises, 0);
    out8(ports, 0x92, 0x03);
    cr_assert_eq(reset.rises, 1);
    cr_assert_eq(reset.level, 0);
    out8(ports, 0x92, 0x03);
    cr_assert_eq(reset.rises, 1, "only the edge resets");
    out8(ports, 0x92, 0x02);
    out8(ports, 0x92, 0x03);
    cr_assert_eq(reset.rises, 2);
    port92_device(p)->cls->reset(port92_device(p));
    cr_assert_eq(in8(ports, 0x92), 0x02);
    port92_note_a20(p, false);
    cr_assert_eq(in8(ports, 0x92), 0x00);
    port92_device(p)->cls->destroy(port92_device(p));
    cr_assert_eq(in8(ports, 0x92), 0xff);
    bus_destroy(ports);
}
