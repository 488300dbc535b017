/* build/tests/test_ps2_keyboard */
#include "fixture.h"

#include "devices/ps2_keyboard.h"

static u8 leds_seen = 0xff;

static void leds(void *opaque, u8 value) { *(u8 *)opaque = value; }

static struct ps2_keyboard *start(void) { return ps2_keyboard_create(leds, &leds_seen); }

static void finish(struct ps2_keyboard *k) { ps2_keyboard_device(k)->cls->destroy(ps2_keyboard_device(k)); }

static void send(struct ps2_keyboard *k, u8 byte)
{
    ps2_keyboard_port(k)->receive(ps2_keyboard_port(k), byte);
}

static void expect_n(struct ps2_keyboard *k, const u8 *bytes, size_t n, int line)
{
    struct ps2_device *d = ps2_keyboard_port(k);
    for (size_t i = 0; i < n; i++) {
        cr_assert(ps2_has_data(d), "line %d: byte %zu is missing", line, i);
        u8 got = ps2_take(d);
        cr_assert_eq(got, bytes[i], "line %d: byte %zu is %#x, not %#x", line, i, got, bytes[i]);
    }
    cr_assert_not(ps2_has_data(d), "line %d: more than expected", line);
}

#define expect(k, ...)    expect_n(k, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}), __LINE__)
#define expect_nothing(k) cr_assert_not(ps2_has_data(ps2_keyboard_port(k)))

Test(ps2_keyboard, commands)
{
    struct ps2_keyboard *k = start();
    expect_nothing(k);
    send(k, 0xff);
    expect(k, 0xfa, 0xaa);
    send(k, 0xee);
    expect(k, 0xee);
    send(k, 0xf2);
    expect(k, 0xfa, 0xab, 0x83);
    send(k, 0xed);
    expect(k, 0xfa);
    send(k, 0x05);
    expect(k, 0xfa);
    cr_assert_eq(leds_seen, 5);
    send(k, 0xf3);
    send(k, 0x20);
    expect(k, 0xfa, 0xfa);
    send(k, 0x10);
    expect(k, 0xfe);
    send(k, 0xed);
    send(k, 0xf4);
    expect(k, 0xfa, 0xfa);
    send(k, 0x02);
    expect(k, 0xfe);
    send(k, 0xf2);
    expect(k, 0xfa, 0xab, 0x83);
    send(k, 0xfe);
    expect(k, 0x83);
    finish(k);
}

Test(ps2_keyboard, scanning_can_be_off)
{
    struct ps2_keyboard *k = start();
    ps2_keyboard_key(k, 0x1e, true);
    send(k, 0xf5);
    expect(k, 0xfa);
    ps2_keyboard_key(k, 0x1e, true);
    expect_nothing(k);
    send(k, 0xf4);
    expect(k, 0xfa);
    ps2_keyboard_key(k, 0x1e, false);
    expect(k, 0xf0, 0x1c);
    finish(k);
}

Test(ps2_keyboard, answers_go_first)
{
    struct ps2_keyboard *k = start();
    ps2_keyboard_key(k, 0x1e, true);
    send(k, 0xee);
    expect(k, 0xee, 0x1c);
    finish(k);
}

Test(ps2_keyboard, scan_code_sets)
{
    struct ps2_keyboard *k = start();
    ps2_keyboard_key(k, 0x41, true); /* F7 */
    ps2_keyboard_key(k, 0xe04b, true);
    ps2_keyboard_key(k, 0xe04b, false);
    expect(k, 0x83, 0xe0, 0x6b, 0xe0, 0xf0, 0x6b);
    send(k, 0xf0);
    send(k, 0x00);
    expect(k, 0xfa, 0xfa, 0x02);
    send(k, 0xf0);
    send(k, 0x01);
    expect(k, 0xfa, 0xfa);
    ps2_keyboard_key(k, 0x1e, true);
    ps2_keyboard_key(k, 0xe04b, false);
    expect(k, 0x1e, 0xe0, 0xcb);
    send(k, 0xf0);
    send(k, 0x03);
    send(k, 0xf0);
    send(k, 0x00);
    expect(k, 0xfa, 0xfa, 0xfa, 0xfa, 0x03);
    ps2_keyboard_key(k, 0x3b, true);
    ps2_keyboard_key(k, 0x3b, false);
    ps2_keyboard_key(k, 0x2a, true);
    ps2_keyboard_key(k, 0x2a, false);
    ps2_keyboard_key(k, 0xe04b, true);
    expect(k, 0x07, 0x12, 0xf0, 0x12, 0x61);
    send(k, 0xfc);
    send(k, 0x07);
    send(k, 0x61);
    send(k, 0xf4);
    expect(k, 0xfa, 0xfa, 0xfa, 0xfa);
    ps2_keyboard_key(k, 0x3b, false);
    ps2_keyboard_key(k, 0x1e, false);
    expect(k, 0xf0, 0x07);
    send(k, 0xf8);
    ps2_keyboard_key(k, 0x1e, false);
    expect(k, 0xfa, 0xf0, 0x1c);
    send(k, 0xf0);
    send(k, 0x07);
    expect(k, 0xfa, 0xfe);
    send(k, 0x02);
    expect(k, 0xfa);
    finish(k);
}

Test(ps2_keyboard, print_and_pause)
{
    struct ps2_keyboard *k = start();
    ps2_keyboard_key(k, PS2_KEY_PRINT, true);
    ps2_keyboard_key(k, PS2_KEY_PRINT, false);
    expect(k, 0xe0, 0x12, 0xe0, 0x7c, 0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12);
    ps2_keyboard_key(k, PS2_KEY_PAUSE, true);
    ps2_keyboard_key(k, PS2_KEY_PAUSE, false);
    expect(k, 0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77);
    ps2_keyboard_key(k, 0x38, true);
    ps2_keyboard_key(k, PS2_KEY_PRINT, true);
    ps2_keyboard_key(k, 0x38, false);
    expect(k, 0x11, 0x84, 0xf0, 0x11);
    ps2_keyboard_key(k, 0x1d, true);
    ps2_keyboard_key(k, PS2_KEY_PRINT, true);
    ps2_keyboard_key(k, PS2_KEY_PAUSE, true);
    expect(k, 0x14, 0xe0, 0x7c, 0xe0, 0x7e, 0xe0, 0xf0, 0x7e);
    finish(k);
}

Test(ps2_keyboard, overrun)
{
    struct ps2_keyboard *k = start();
    for (int i = 0; i < 40; i++)
        ps2_keyboard_key(k, 0x1e, true);
    expect(k, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c, 0x1c,
           0x00);
    ps2_keyboard_key(k, 0x1e, true);
    expect(k, 0x1c);
    for (int i = 0; i < 1000; i++)
        send(k, 0xf2);
    cr_assert(ps2_has_data(ps2_keyboard_port(k)));
    send(k, 0xff);
    expect(k, 0xfa, 0xaa);
    finish(k);
}
