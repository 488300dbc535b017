/* A PS/2 mouse with wheel and five buttons (IntelliMouse Explorer protocol). */
#ifndef DEVICES_PS2_MOUSE_H
#define DEVICES_PS2_MOUSE_H

#include "core/input.h"
#include "devices/ps2.h"

struct ps2_mouse;

#define PS2_MOUSE_LEFT   0x01
#define PS2_MOUSE_RIGHT  0x02
#define PS2_MOUSE_MIDDLE 0x04
#define PS2_MOUSE_SIDE   0x08
#define PS2_MOUSE_EXTRA  0x10

/* NULL when memory is short. */
struct ps2_mouse *ps2_mouse_create(void);
struct ps2_device *ps2_mouse_port(struct ps2_mouse *m); /* for i8042_create() */
struct device *ps2_mouse_device(struct ps2_mouse *m);

/* Take movements from there. */
void ps2_mouse_connect(struct ps2_mouse *m, struct input *input);

/* The mouse moves: counts to the right, counts down (screen sense), wheel clicks towards the user, and which
 * PS2_MOUSE_* buttons are down now. */
void ps2_mouse_event(struct ps2_mouse *m, int dx, int dy, int dz, u8 buttons);

#endif
