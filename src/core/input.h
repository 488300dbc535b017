/* Keys and pointers: from windows, VNC clients and the monitor to the guest's keyboards, mice and tablets.
 *
 * A router takes events and passes them to the device that is to have them. Keys wait in a queue while the keyboard
 * has no room, so that typing faster than the guest reads loses nothing. All calls need the machine lock. */
#ifndef CORE_INPUT_H
#define CORE_INPUT_H

#include "core/clock.h"
#include "core/types.h"

/* ---- keys ---- */

enum input_key {
    INPUT_KEY_unmapped, /* no key */
#define INPUT_KEY(name, set1, hid, keysym, shifted) INPUT_KEY_##name,
#include "core/input_keys.def"
#undef INPUT_KEY
    INPUT_KEY_COUNT
};

/* QEMU's QKeyCode name ("ret", "kp_add"); "unmapped" for what is no key. */
const char *input_key_name(enum input_key key);
/* INPUT_KEY_unmapped when unknown, for each of these. */
enum input_key input_key_by_name(const char *name);
enum input_key input_key_by_set1(u16 code); /* with E0 as 0xe000, or, as QMP's numbers have it, as bit 7 */
enum input_key input_key_by_hid(u8 usage);
/* *shifted: what the keysym stands for needs the shift key; may be NULL. */
enum input_key input_key_by_keysym(u32 keysym, bool *shifted);
u16 input_key_set1(enum input_key key); /* 0: none */
u8 input_key_hid(enum input_key key);   /* 0: none */

/* ---- pointers ---- */

enum input_button {
    INPUT_BUTTON_left,
    INPUT_BUTTON_middle,
    INPUT_BUTTON_right,
    INPUT_BUTTON_side,
    INPUT_BUTTON_extra,
    INPUT_BUTTON_wheel_up, /* clicks of the wheel: down events count, up events are ignored */
    INPUT_BUTTON_wheel_down,
    INPUT_BUTTON_wheel_left,
    INPUT_BUTTON_wheel_right,
    INPUT_BUTTON_COUNT
};
/* As in QMP ("left", "wheel-up"); INPUT_BUTTON_COUNT when unknown. */
enum input_button input_button_by_name(const char *name);

#define INPUT_ABS_MAX 0x7fff /* absolute coordinates go from 0 to this in both directions */

/* What happened to a pointer since the last report. */
struct input_pointer {
    int dx, dy;            /* relative: counts to the right and down */
    int x, y;              /* absolute: the place, 0 to INPUT_ABS_MAX */
    int wheel, hwheel;     /* clicks: towards the user, to the right */
    u32 buttons;           /* now down: 1 << INPUT_BUTTON_left to _extra */
};

/* ---- devices ---- */

#define INPUT_TAKES_KEYS     1
#define INPUT_TAKES_RELATIVE 2
#define INPUT_TAKES_ABSOLUTE 4

/* A device, embedded in its struct. Of each kind of event, the device activated last gets it, without one the one
 * registered first; an active absolute device has priority over relative ones. */
struct input_device {
    const char *name;                                               /* "PS/2 keyboard" */
    unsigned takes;                                                 /* INPUT_TAKES_* */
    bool (*room)(void *opaque);                                     /* takes another key now; NULL: always */
    void (*key)(void *opaque, enum input_key key, bool down);       /* with INPUT_TAKES_KEYS */
    void (*pointer)(void *opaque, const struct input_pointer *p);   /* with the others */
    void *opaque;                                                   /* for these */
    bool active;                                                    /* input_activate() */
    struct input_device *next;                                      /* the router's list */
};

struct input;

/* NULL when memory is short. */
struct input *input_create(struct clock *clock);
void input_destroy(struct input *in);
/* Put the device behind the others: it gets what no other takes, until it is activated. */
void input_add(struct input *in, struct input_device *d);
void input_remove(struct input *in, struct input_device *d);
/* The guest uses the device: it comes before the others. */
void input_activate(struct input *in, struct input_device *d);
/* The guest does not any more: it comes after them. */
void input_deactivate(struct input *in, struct input_device *d);
/* The first, and those behind it: for lists. */
const struct input_device *input_devices(const struct input *in);
/* The device that has keys, or moves now. NULL: none. */
const struct input_device *input_current(const struct input *in, unsigned takes);
/* The guest set its keyboard's lamps (1 scroll, 2 num, 4 caps lock). */
void input_set_leds(struct input *in, u8 leds);
u8 input_leds(const struct input *in);

/* ---- where events come from ---- */

/* A key moves; auto-repeat is passed as further down events. */
void input_key(struct input *in, enum input_key key, bool down);
/* Press keys in that order, hold them for that time of the guest's clock, release them in reverse: after all that is
 * queued already. Keys beyond 16 are left out. */
void input_send_keys(struct input *in, const enum input_key *keys, size_t count, u64 hold_ms);
bool input_key_is_down(const struct input *in, enum input_key key);
/* Release all keys and buttons: the window lost the focus, the client is gone. */
void input_release_all(struct input *in);

/* The guest uses an absolute pointer: send input_move_to(), else input_move_by(). */
bool input_is_absolute(const struct input *in);
/* These collect; input_sync() reports. */
void input_move_to(struct input *in, int x, int y);
/* Where input_move_to() went last. */
void input_position(const struct input *in, int *x, int *y);
void input_move_by(struct input *in, int dx, int dy);
void input_button(struct input *in, enum input_button button, bool down);
void input_sync(struct input *in);

#endif
