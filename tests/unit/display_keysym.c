/* Run alone: build/tests/test_display_keysym
 *
 * What VNC clients type, as keys of a US keyboard. */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "core/input.h"
#include "host/display_keysym.h"

static struct input *in;
static char trace[256]; /* what the keyboard got */

static void on_key(void *opaque, enum input_key key, bool down)
{
    size_t n = strlen(trace);
    (void)opaque;
    snprintf(trace + n, sizeof(trace) - n, "%c%s ", down ? '+' : '-', input_key_name(key));
}

static struct input_device keyboard = {.name = "keyboard", .takes = INPUT_TAKES_KEYS, .key = on_key};

static void expect(const char *what)
{
    cr_assert_str_eq(trace, what);
    trace[0] = 0;
}

static void setup(void)
{
    in = input_create(clock_create_manual());
    input_add(in, &keyboard);
}

TestSuite(display_keysym, .init = setup);

Test(display_keysym, characters_alone)
{
    display_keysym(in, 'a', true);
    display_keysym(in, 'a', false);
    expect("+a -a ");
    display_keysym(in, '?', true);
    display_keysym(in, '?', false);
    expect("+shift +slash -shift -slash ");
    display_keysym(in, 'Q', true);
    expect("+shift +q -shift ");
    display_keysym(in, ' ', true);
    display_keysym(in, 0xff0d, true);
    expect("+spc +ret ");
    display_keysym(in, 0xe9, true); /* nothing on a US keyboard types this */
    expect("");
}

Test(display_keysym, shift_as_on_a_keyboard)
{
    display_keysym(in, 0xffe1, true);
    display_keysym(in, 'A', true);
    display_keysym(in, 'A', false);
    display_keysym(in, '!', true);
    display_keysym(in, '1', false);
    display_keysym(in, 0xff52, true);
    expect("+shift +a -a +1 -1 +up ");
    /* Another layout: what needs no shift here is typed with it there. */
    display_keysym(in, '1', true);
    expect("-shift +1 +shift ");
    display_keysym(in, 0xffe2, true);
    display_keysym(in, '/', true);
    expect("+shift_r -shift -shift_r +slash +shift +shift_r ");
}

Test(display_keysym, caps_lock)
{
    input_set_leds(in, 4);
    display_keysym(in, 'A', true);
    display_keysym(in, '!', true);
    expect("+a +shift +1 -shift ");
    display_keysym(in, 'a', true);
    expect("+shift +a -shift ");
}

Test(display_keysym, with_ctrl_and_alt_the_key_counts)
{
    display_keysym(in, 0xffe3, true);
    display_keysym(in, 'C', true);
    expect("+ctrl +c ");
    display_keysym(in, 0xffe3, false);
    display_keysym(in, 0xffe9, true);
    display_keysym(in, '_', true);
    expect("-ctrl +alt +minus ");
    /* X has other names for keys that are held together with others. */
    display_keysym(in, 0xff6b, true);
    display_keysym(in, 0xfe20, true);
    display_keysym(in, 0xffe7, false);
    expect("+pause +tab -alt ");
}
