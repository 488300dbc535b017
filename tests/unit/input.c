/* Run alone: build/tests/test_input
 *
 * The table of keys, and the router's choices and queue. */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "core/input.h"

static struct clock *guest_clock;
static struct input *in;
static char trace[4096]; /* what devices got */
static bool has_room = true;

static bool room(void *opaque)
{
    (void)opaque;
    return has_room;
}

static void on_key(void *opaque, enum input_key key, bool down)
{
    size_t n = strlen(trace);
    snprintf(trace + n, sizeof(trace) - n, "%s%c%s ", (const char *)opaque, down ? '+' : '-', input_key_name(key));
}

static void on_pointer(void *opaque, const struct input_pointer *p)
{
    size_t n = strlen(trace);
    snprintf(trace + n, sizeof(trace) - n, "%s:%d,%d@%d,%d w%d b%x ", (const char *)opaque, p->dx, p->dy, p->x, p->y,
             p->wheel, p->buttons);
}

static struct input_device keyboard = {.name = "keyboard", .takes = INPUT_TAKES_KEYS, .room = room, .key = on_key,
                                       .opaque = "k"};
static struct input_device other = {.name = "other", .takes = INPUT_TAKES_KEYS, .key = on_key, .opaque = "o"};
static struct input_device mouse = {.name = "mouse", .takes = INPUT_TAKES_RELATIVE, .pointer = on_pointer,
                                    .opaque = "m"};
static struct input_device tablet = {.name = "tablet", .takes = INPUT_TAKES_ABSOLUTE, .pointer = on_pointer,
                                     .opaque = "t"};

static void setup(void)
{
    guest_clock = clock_create_manual();
    in = input_create(guest_clock);
    input_add(in, &keyboard);
    input_add(in, &mouse);
}

static void expect(const char *what)
{
    cr_assert_str_eq(trace, what);
    trace[0] = 0;
}

Test(input, table_is_a_table)
{
    for (enum input_key k = 1; k < INPUT_KEY_COUNT; k++) {
        const char *name = input_key_name(k);
        cr_assert_eq(input_key_by_name(name), k, "%s", name);
        u16 code = input_key_set1(k);
        /* Asterisk is another name of a key of the keypad. */
        if (code && k != INPUT_KEY_asterisk) cr_assert_eq(input_key_by_set1(code), k, "%s", name);
        for (enum input_key other_key = 1; other_key < k; other_key++) {
            if (k == INPUT_KEY_asterisk || (k == INPUT_KEY_print && other_key == INPUT_KEY_sysrq)) continue;
            if (input_key_hid(k)) cr_assert_neq(input_key_hid(k), input_key_hid(other_key), "%s", name);
        }
    }
}

Test(input, keys_by_name_code_and_keysym)
{
    bool shifted;
    cr_assert_eq(input_key_by_name("kp_add"), INPUT_KEY_kp_add);
    cr_assert_eq(input_key_by_name("1"), INPUT_KEY_1);
    cr_assert_eq(input_key_by_name("nonsense"), INPUT_KEY_unmapped);
    cr_assert_eq(input_key_by_set1(0x1e), INPUT_KEY_a);
    cr_assert_eq(input_key_by_set1(0xe048), INPUT_KEY_up);
    cr_assert_eq(input_key_by_set1(0xc8), INPUT_KEY_up, "QMP's numbers");
    cr_assert_eq(input_key_by_set1(0), INPUT_KEY_unmapped);
    cr_assert_eq(input_key_by_hid(0x04), INPUT_KEY_a);
    cr_assert_eq(input_key_by_hid(0x46), INPUT_KEY_print);
    cr_assert_eq(input_key_by_hid(0), INPUT_KEY_unmapped);
    cr_assert_eq(input_key_by_keysym('a', &shifted), INPUT_KEY_a);
    cr_assert_not(shifted);
    cr_assert_eq(input_key_by_keysym('A', &shifted), INPUT_KEY_a);
    cr_assert(shifted);
    cr_assert_eq(input_key_by_keysym('|', &shifted), INPUT_KEY_backslash);
    cr_assert(shifted);
    cr_assert_eq(input_key_by_keysym(0xffb7, &shifted), INPUT_KEY_kp_7);
    cr_assert_not(shifted, "num lock, not shift");
    cr_assert_eq(input_key_by_keysym(0, &shifted), INPUT_KEY_unmapped);
    /* All that can be typed in ASCII. */
    for (u32 c = ' '; c < 0x7f; c++) cr_assert_neq(input_key_by_keysym(c, NULL), INPUT_KEY_unmapped, "%c", (int)c);
    cr_assert_eq(input_button_by_name("wheel-down"), INPUT_BUTTON_wheel_down);
    cr_assert_eq(input_button_by_name("no"), INPUT_BUTTON_COUNT);
}

Test(input, keys_go_to_the_keyboard_in_use)
{
    setup();
    input_key(in, INPUT_KEY_a, true);
    input_key(in, INPUT_KEY_a, false);
    expect("k+a k-a ");
    input_add(in, &other);
    input_key(in, INPUT_KEY_b, true);
    expect("k+b ");
    input_activate(in, &other);
    input_key(in, INPUT_KEY_b, false);
    expect("o-b ");
    input_deactivate(in, &other);
    input_key(in, INPUT_KEY_unmapped, true);
    input_key(in, INPUT_KEY_c, true);
    expect("k+c ");
    input_remove(in, &keyboard);
    input_remove(in, &other);
    input_key(in, INPUT_KEY_c, false);
    expect("");
}

Test(input, keys_wait_for_room)
{
    setup();
    has_room = false;
    input_key(in, INPUT_KEY_a, true);
    input_key(in, INPUT_KEY_a, false);
    clock_advance(guest_clock, NS_PER_SECOND);
    expect("");
    has_room = true;
    clock_advance(guest_clock, 5000000);
    expect("k+a k-a ");
    /* A guest that never reads: bounded, and no key stays down. */
    has_room = false;
    for (int i = 0; i < 5000; i++) input_key(in, INPUT_KEY_a, true);
    input_key(in, INPUT_KEY_a, false);
    has_room = true;
    clock_advance(guest_clock, NS_PER_SECOND);
    size_t n = strlen(trace);
    cr_assert_lt(n, 512 * 4 + 1);
    cr_assert_str_eq(trace + n - 4, "k-a ");
}

Test(input, chords_take_their_time)
{
    setup();
    static const enum input_key chord[] = {INPUT_KEY_ctrl, INPUT_KEY_alt, INPUT_KEY_delete};
    input_send_keys(in, chord, 3, 100);
    expect("k+ctrl k+alt k+delete ");
    input_key(in, INPUT_KEY_x, true); /* comes after it */
    clock_advance(guest_clock, 99000000);
    expect("");
    clock_advance(guest_clock, 1000000);
    expect("k-delete k-alt k-ctrl ");
    clock_advance(guest_clock, 100000000);
    expect("k+x ");
}

Test(input, focus_is_lost)
{
    setup();
    input_key(in, INPUT_KEY_shift, true);
    input_button(in, INPUT_BUTTON_left, true);
    input_sync(in);
    expect("k+shift m:0,0@0,0 w0 b1 ");
    cr_assert(input_key_is_down(in, INPUT_KEY_shift));
    input_release_all(in);
    cr_assert_not(input_key_is_down(in, INPUT_KEY_shift));
    expect("k-shift m:0,0@0,0 w0 b0 ");
    input_release_all(in);
    expect("");
}

Test(input, pointers)
{
    setup();
    cr_assert_not(input_is_absolute(in));
    input_move_by(in, 3, -4);
    input_move_by(in, 1, 1);
    input_button(in, INPUT_BUTTON_wheel_down, true);
    input_button(in, INPUT_BUTTON_wheel_down, false);
    input_sync(in);
    input_sync(in);
    expect("m:4,-3@0,0 w1 b0 ");
    input_add(in, &tablet);
    cr_assert_not(input_is_absolute(in), "the guest does not use it");
    input_activate(in, &tablet);
    input_activate(in, &mouse);
    cr_assert(input_is_absolute(in), "although the mouse comes first");
    input_move_to(in, 100, 99999);
    input_sync(in);
    expect("t:0,0@100,32767 w0 b0 ");
    input_button(in, INPUT_BUTTON_right, true);
    input_sync(in);
    expect("t:0,0@100,32767 w0 b4 ");
    input_move_by(in, 1, 0);
    input_sync(in);
    expect("m:1,0@100,32767 w0 b4 ");
    input_remove(in, &mouse);
    input_remove(in, &tablet);
    input_move_by(in, 1, 0);
    input_sync(in);
    expect("");
}
