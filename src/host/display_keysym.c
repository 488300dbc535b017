/* Keysyms to keys.
 *
 * A client with a keyboard like the guest's sends modifiers and characters that fit each other. One with another
 * layout, or a program that types text, sends characters alone: then shift is pressed or released around the key. */
#include "host/display_keysym.h"

#define LED_CAPS 4

static bool down_now(const struct input *in, enum input_key left, enum input_key right)
{
    return input_key_is_down(in, left) || input_key_is_down(in, right);
}

/* Does that character depend on shift, and which way? */
static bool wants_shift(const struct input *in, u32 keysym, bool shifted, bool *want)
{
    if (keysym <= ' ' || keysym > 0x7e) return false;
    /* With these it is the key that counts. */
    if (down_now(in, INPUT_KEY_ctrl, INPUT_KEY_ctrl_r) || down_now(in, INPUT_KEY_alt, INPUT_KEY_alt_r) ||
        down_now(in, INPUT_KEY_meta_l, INPUT_KEY_meta_r))
        return false;
    u32 upper = keysym & ~0x20u;
    bool letter = upper >= 'A' && upper <= 'Z';
    *want = letter && input_leds(in) & LED_CAPS ? !shifted : shifted;
    return true;
}

void display_keysym(struct input *in, u32 keysym, bool down)
{
    bool shifted, want;
    enum input_key key = input_key_by_keysym(keysym, &shifted);
    bool left = input_key_is_down(in, INPUT_KEY_shift), right = input_key_is_down(in, INPUT_KEY_shift_r);
    if (!down || !wants_shift(in, keysym, shifted, &want) || want == (left || right)) {
        input_key(in, key, down);
        return;
    }
    if (want) {
        input_key(in, INPUT_KEY_shift, true);
        input_key(in, key, true);
        input_key(in, INPUT_KEY_shift, false);
        return;
    }
    if (left) input_key(in, INPUT_KEY_shift, false);
    if (right) input_key(in, INPUT_KEY_shift_r, false);
    input_key(in, key, true);
    if (left) input_key(in, INPUT_KEY_shift, true);
    if (right) input_key(in, INPUT_KEY_shift_r, true);
}
