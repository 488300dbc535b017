/* An AT/PS2 keyboard with 101 to 105 keys. */
#ifndef DEVICES_PS2_KEYBOARD_H
#define DEVICES_PS2_KEYBOARD_H

#include "core/input.h"
#include "devices/ps2.h"

struct ps2_keyboard;

/* NULL when memory is short. leds may be NULL: called when the guest sets them (1 scroll, 2 num, 4 caps
 * lock). */
struct ps2_keyboard *ps2_keyboard_create(void (*leds)(void *opaque, u8 leds), void *opaque);
struct ps2_device *ps2_keyboard_port(struct ps2_keyboard *k); /* for i8042_create() */
struct device *ps2_keyboard_device(struct ps2_keyboard *k);

/* Take keys from there, and tell it of the lamps. */
void ps2_keyboard_connect(struct ps2_keyboard *k, struct input *input);

/* A key moves. The code is the key's make code in scan code set 1, plus 0xe000 for those with the E0 prefix.
 * Pause is PS2_KEY_PAUSE. The host's auto-repeat is passed on as further down events. */
void ps2_keyboard_key(struct ps2_keyboard *k, u16 code, bool down);

#define PS2_KEY_PRINT 0xe037
#define PS2_KEY_PAUSE 0xe11d

#endif
