/* build/tests/test_i8042 */
#include "fixture.h"

#include "devices/i8042.h"
#include "devices/ps2_keyboard.h"
#include "devices/ps2_mouse.h"

struct setup {
    struct bus *ports;
    struct i8042 *kbc;
    struct ps2_keyboard *kbd;
    struct ps2_mouse *mouse;
    struct probe irq1, irq12, a20, reset;
};

static struct setup *start_with(bool mouse)
{
    struct setup *s = calloc(1, sizeof(*s));
    s->ports = bus_create("ports", 0x10000);
    s->kbd = ps2_keyboard_create(NULL, NULL);
    if (mouse) s->mouse = ps2_mouse_create();
    s->kbc = i8042_create(s->ports, probe_line(&s->irq1), probe_line(&s->irq12), probe_line(&s->a20),
                          probe_line(&s->reset), ps2_keyboard_port(s->kbd),
                          mouse ? ps2_mouse_port(s->mouse) : NULL);
    return s;
}

static struct setup *start(void) { return start_with(true); }

static void finish(struct setup *s)
{
    i8042_device(s->kbc)->cls->destroy(i8042_device(s->kbc));
    ps2_keyboard_device(s->kbd)->cls->destroy(ps2_keyboard_device(s->kbd));
    if (s->mouse) ps2_mouse_device(s->mouse)->cls->destroy(ps2_mouse_device(s->mouse));
    bus_destroy(s->ports);
    free(s);
}

static void command(struct setup *s, u8 c) { out8(s->ports, 0x64, c); }
static void data(struct setup *s, u8 b) { out8(s->ports, 0x60, b); }
static u8 status(struct setup *s) { return in8(s->ports, 0x64); }

static u8 get(struct setup *s)
{
    cr_assert(status(s) & 1, "no data");
    return in8(s->ports, 0x60);
}

static void set_mode(struct setup *s, u8 mode)
{
    command(s, 0x60);
    data(s, mode);
}

Test(i8042, tests_and_memory)
{
    struct setup *s = start();
    cr_assert_eq(status(s) & 0x01, 0);
    command(s, 0xaa);
    cr_assert_eq(status(s), 0x1d);
    cr_assert_eq(get(s), 0x55);
    command(s, 0xab);
    cr_assert_eq(get(s), 0);
    command(s, 0xa9);
    cr_assert_eq(get(s), 0);
    command(s, 0x20);
    cr_assert_eq(get(s), 0x07);
    set_mode(s, 0x65);
    cr_assert_eq(status(s) & 0x0d, 0x04, "last write was data");
    command(s, 0x20);
    cr_assert_eq(get(s), 0x65);
    set_mode(s, 0x61);
    cr_assert_eq(status(s) & 0x04, 0);
    command(s, 0x71);
    data(s, 0xa5);
    command(s, 0x31);
    cr_assert_eq(get(s), 0xa5);
    command(s, 0xa4);
    cr_assert_eq(get(s), 0xf1);
    command(s, 0xc0);
    cr_assert_eq(get(s) & 0x80, 0x80);
    cr_assert_eq(in8(s->ports, 0x60) & 0x80, 0x80, "the last byte stays");
    finish(s);
}

Test(i8042, keyboard_interrupts_byte_by_byte)
{
    struct setup *s = start();
    set_mode(s, 0x01);
    ps2_keyboard_key(s->kbd, 0xe048, true);
    ps2_keyboard_key(s->kbd, 0xe048, false);
    cr_assert_eq(s->irq1.rises, 1);
    static const u8 expect[] = {0xe0, 0x75, 0xe0, 0xf0, 0x75};
    for (size_t i = 0; i < sizeof(expect); i++) {
        cr_assert_eq(s->irq1.rises, i + 1);
        cr_assert_eq(s->irq1.level, 1);
        cr_assert_eq(status(s) & 0x21, 0x01);
        cr_assert_eq(get(s), expect[i]);
    }
    cr_assert_eq(s->irq1.level, 0);
    cr_assert_eq(status(s) & 1, 0);
    set_mode(s, 0x00);
    ps2_keyboard_key(s->kbd, 0x1e, true);
    cr_assert_eq(s->irq1.level, 0);
    cr_assert_eq(status(s) & 1, 1);
    set_mode(s, 0x01);
    cr_assert_eq(s->irq1.level, 1);
    finish(s);
}

Test(i8042, translation_gives_every_set_1_code_back)
{
    struct setup *s = start();
    set_mode(s, 0x40);
    for (unsigned code = 1; code < 0x80; code++) {
        ps2_keyboard_key(s->kbd, code, true);
        ps2_keyboard_key(s->kbd, code, false);
        cr_assert_eq(get(s), code);
        cr_assert_eq(get(s), code | 0x80);
        if (code == 0x37 || code == 0x1d || code == 0x38) continue;
        ps2_keyboard_key(s->kbd, 0xe000 | code, true);
        ps2_keyboard_key(s->kbd, 0xe000 | code, false);
        cr_assert_eq(get(s), 0xe0);
        cr_assert_eq(get(s), code);
        cr_assert_eq(get(s), 0xe0);
        cr_assert_eq(get(s), code | 0x80);
        cr_assert_eq(status(s) & 1, 0);
    }
    ps2_keyboard_key(s->kbd, PS2_KEY_PAUSE, true);
    static const u8 pause[] = {0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5};
    for (size_t i = 0; i < sizeof(pause); i++)
        cr_assert_eq(get(s), pause[i]);
    ps2_keyboard_key(s->kbd, PS2_KEY_PRINT, true);
    ps2_keyboard_key(s->kbd, PS2_KEY_PRINT, false);
    static const u8 print[] = {0xe0, 0x2a, 0xe0, 0x37, 0xe0, 0xb7, 0xe0, 0xaa};
    for (size_t i = 0; i < sizeof(print); i++)
        cr_assert_eq(get(s), print[i]);
    data(s, 0xf2);
    cr_assert_eq(get(s), 0xfa);
    cr_assert_eq(get(s), 0xab);
    cr_assert_eq(get(s), 0x41);
    finish(s);
}

Test(i8042, ports_can_be_held)
{
    struct setup *s = start();
    set_mode(s, 0x43);
    command(s, 0xad);
    ps2_keyboard_key(s->kbd, 0x1e, true);
    cr_assert_eq(status(s) & 1, 0);
    command(s, 0x20);
    cr_assert_eq(get(s), 0x53, "answers pass a closed keyboard port");
    command(s, 0xae);
    cr_assert_eq(get(s), 0x1e);
    command(s, 0xad);
    data(s, 0xee);
    cr_assert_eq(get(s), 0xee, "sending opens the port");
    command(s, 0x20);
    cr_assert_eq(get(s), 0x43);
    command(s, 0xa7);
    command(s, 0x20);
    cr_assert_eq(get(s), 0x63);
    command(s, 0xa8);
    command(s, 0x20);
    cr_assert_eq(get(s), 0x43);
    finish(s);
}

Test(i8042, a20_and_reset)
{
    struct setup *s = start();
    cr_assert_eq(s->a20.level, 1);
    command(s, 0xd0);
    cr_assert_eq(get(s) & 0x03, 0x03);
    command(s, 0xd1);
    data(s, 0xdd);
    cr_assert_eq(s->a20.level, 0);
    command(s, 0xd0);
    cr_assert_eq(get(s) & 0x03, 0x01);
    command(s, 0xdf);
    cr_assert_eq(s->a20.level, 1);
    command(s, 0xdd);
    cr_assert_eq(s->a20.level, 0);
    i8042_note_a20(s->kbc, true);
    command(s, 0xd0);
    cr_assert_eq(get(s) & 0x02, 0x02);
    cr_assert_eq(s->reset.rises, 0);
    command(s, 0xff);
    cr_assert_eq(s->reset.rises, 0, "pulses nothing");
    command(s, 0xfe);
    cr_assert_eq(s->reset.rises, 1);
    cr_assert_eq(s->reset.level, 0);
    command(s, 0xd1);
    data(s, 0x02);
    cr_assert_eq(s->reset.rises, 2);
    finish(s);
}

Test(i8042, loopback_commands)
{
    struct setup *s = start();
    set_mode(s, 0x03);
    command(s, 0xd2);
    data(s, 0x42);
    cr_assert_eq(s->irq1.rises, 1);
    cr_assert_eq(status(s) & 0x21, 0x01);
    cr_assert_eq(get(s), 0x42);
    command(s, 0xd3);
    data(s, 0x5a);
    cr_assert_eq(s->irq12.rises, 1);
    cr_assert_eq(s->irq1.rises, 1);
    cr_assert_eq(status(s) & 0x21, 0x21);
    cr_assert_eq(get(s), 0x5a);
    cr_assert_eq(status(s) & 0x21, 0x00);
    finish(s);
}

Test(i8042, mouse_port)
{
    struct setup *s = start();
    set_mode(s, 0x03);
    command(s, 0xd4);
    data(s, 0xff);
    static const u8 expect[] = {0xfa, 0xaa, 0x00};
    for (size_t i = 0; i < sizeof(expect); i++) {
        cr_assert_eq(s->irq12.rises, i + 1);
        cr_assert_eq(status(s) & 0x21, 0x21);
        cr_assert_eq(get(s), expect[i]);
    }
    cr_assert_eq(s->irq1.rises, 0);
    finish(s);
}

Test(i8042, a_missing_mouse_times_out)
{
    struct setup *s = start_with(false);
    set_mode(s, 0x03);
    command(s, 0xd4);
    data(s, 0xf2);
    cr_assert_eq(status(s) & 0x61, 0x61);
    cr_assert_eq(get(s), 0xfe);
    command(s, 0xaa);
    cr_assert_eq(status(s) & 0x41, 0x01);
    finish(s);
}
