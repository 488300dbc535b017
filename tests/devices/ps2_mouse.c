/* build/tests/test_ps2_mouse */
#include "fixture.h"

#include "devices/ps2_mouse.h"

static void finish(struct ps2_mouse *m) { ps2_mouse_device(m)->cls->destroy(ps2_mouse_device(m)); }

static void send(struct ps2_mouse *m, u8 byte) { ps2_mouse_port(m)->receive(ps2_mouse_port(m), byte); }

static void expect_n(struct ps2_mouse *m, const u8 *bytes, size_t n, int line)
{
    struct ps2_device *d = ps2_mouse_port(m);
    for (size_t i = 0; i < n; i++) {
        cr_assert(ps2_has_data(d), "line %d: byte %zu is missing", line, i);
        u8 got = ps2_take(d);
        cr_assert_eq(got, bytes[i], "line %d: byte %zu is %#x, not %#x", line, i, got, bytes[i]);
    }
    cr_assert_not(ps2_has_data(d), "line %d: more than expected", line);
}

#define expect(m, ...) expect_n(m, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}), __LINE__)

static void set_rate(struct ps2_mouse *m, u8 rate)
{
    send(m, 0xf3);
    send(m, rate);
    expect(m, 0xfa, 0xfa);
}

Test(ps2_mouse, commands)
{
    struct ps2_mouse *m = ps2_mouse_create();
    send(m, 0xff);
    expect(m, 0xfa, 0xaa, 0x00);
    send(m, 0xf2);
    expect(m, 0xfa, 0x00);
    send(m, 0xe9);
    expect(m, 0xfa, 0x00, 0x02, 100);
    send(m, 0xe8);
    send(m, 3);
    send(m, 0xe7);
    send(m, 0xf4);
    expect(m, 0xfa, 0xfa, 0xfa, 0xfa);
    set_rate(m, 40);
    ps2_mouse_event(m, 0, 0, 0, PS2_MOUSE_RIGHT);
    expect(m, 0x0a, 0, 0);
    send(m, 0xe9);
    expect(m, 0xfa, 0x31, 3, 40);
    send(m, 0xf6);
    send(m, 0xe9);
    expect(m, 0xfa, 0xfa, 0x01, 2, 100);
    send(m, 0x42);
    expect(m, 0xfe);
    send(m, 0xee);
    send(m, 0x42);
    send(m, 0xf2);
    send(m, 0xec);
    send(m, 0xf2);
    expect(m, 0xfa, 0x42, 0xf2, 0xfa, 0xfa, 0x00);
    finish(m);
}

Test(ps2_mouse, stream_packets)
{
    struct ps2_mouse *m = ps2_mouse_create();
    ps2_mouse_event(m, 5, 5, 0, 0);
    cr_assert_not(ps2_has_data(ps2_mouse_port(m)), "reporting is off");
    send(m, 0xf4);
    expect(m, 0xfa);
    ps2_mouse_event(m, 3, 2, 0, 0);
    expect(m, 0x28, 3, 0xfe);
    ps2_mouse_event(m, -1, -4, 0, PS2_MOUSE_LEFT | PS2_MOUSE_MIDDLE);
    expect(m, 0x1d, 0xff, 4);
    ps2_mouse_event(m, 300, 0, 0, 0);
    expect(m, 0x08, 127, 0, 0x08, 127, 0, 0x08, 46, 0);
    for (int i = 0; i < 100; i++)
        ps2_mouse_event(m, 1, 0, 0, 0);
    int total = 0;
    while (ps2_has_data(ps2_mouse_port(m))) {
        ps2_take(ps2_mouse_port(m));
        total += ps2_take(ps2_mouse_port(m));
        ps2_take(ps2_mouse_port(m));
        ps2_mouse_event(m, 0, 0, 0, 0);
    }
    cr_assert_eq(total, 100, "what does not fit is added up");
    finish(m);
}

Test(ps2_mouse, remote_mode)
{
    struct ps2_mouse *m = ps2_mouse_create();
    send(m, 0xf0);
    expect(m, 0xfa);
    ps2_mouse_event(m, 7, 0, 0, 0);
    cr_assert_not(ps2_has_data(ps2_mouse_port(m)));
    send(m, 0xeb);
    expect(m, 0xfa, 0x08, 7, 0);
    finish(m);
}

Test(ps2_mouse, wheel_and_side_buttons)
{
    struct ps2_mouse *m = ps2_mouse_create();
    set_rate(m, 200);
    set_rate(m, 200);
    set_rate(m, 80);
    send(m, 0xf2);
    expect(m, 0xfa, 0x00);
    set_rate(m, 200);
    set_rate(m, 100);
    set_rate(m, 80);
    send(m, 0xf2);
    send(m, 0xf4);
    expect(m, 0xfa, 0x03, 0xfa);
    ps2_mouse_event(m, 0, 0, -1, 0);
    expect(m, 0x08, 0, 0, 0xff);
    set_rate(m, 200);
    set_rate(m, 200);
    set_rate(m, 80);
    send(m, 0xf2);
    expect(m, 0xfa, 0x04);
    ps2_mouse_event(m, 0, 0, 1, PS2_MOUSE_EXTRA);
    expect(m, 0x08, 0, 0, 0x21);
    send(m, 0xff);
    expect(m, 0xfa, 0xaa, 0x00);
    finish(m);
}
