/* A PS/2 keyboard: scan code sets 1, 2 and 3, all commands, a queue of 16 bytes for keys.
 *
 * Leaves out: auto-repeat (the host's is used, the typematic rate is accepted), the time a byte takes on the
 * wire, and the fake shifts that keyboards put around grey keys while shift or num lock is on.
 *
 * [PS2KBD] IBM PS/2 Hardware Interface Technical Reference, "Keyboards (101- and 102-Key)" */
#include "devices/ps2_keyboard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

#define KEY_QUEUE 16 /* bytes [PS2KBD] "Keyboard Buffer" */

enum {
    CMD_LEDS = 0xed,
    CMD_ECHO = 0xee,
    CMD_SET = 0xf0,
    CMD_ID = 0xf2,
    CMD_RATE = 0xf3,
    CMD_ENABLE = 0xf4,
    CMD_DEFAULT_DISABLE = 0xf5,
    CMD_DEFAULT = 0xf6,
    CMD_ALL_TYPEMATIC = 0xf7,
    CMD_ALL_MAKE_BREAK = 0xf8,
    CMD_ALL_MAKE = 0xf9,
    CMD_ALL_BOTH = 0xfa,
    CMD_KEY_TYPEMATIC = 0xfb,
    CMD_KEY_MAKE_BREAK = 0xfc,
    CMD_KEY_MAKE = 0xfd,
    CMD_RESEND = 0xfe,
    CMD_RESET = 0xff,
    REPLY_BAT = 0xaa,
    REPLY_ACK = 0xfa,
    REPLY_RESEND = 0xfe,
};

struct ps2_keyboard {
    struct ps2_device port;              /* towards the controller */
    struct input *input;                 /* where keys come from, NULL: only ps2_keyboard_key() */
    struct input_device source;          /* what that knows of us */
    void (*leds)(void *opaque, u8 leds); /* tells the host; may be NULL */
    void *opaque;                        /* for leds() */
    bool scanning;                       /* keys are reported */
    u8 set;                              /* scan code set, 1 to 3 */
    u8 awaiting;                         /* command whose parameter comes next, or 0 */
    u8 modifiers;                        /* MOD_* keys that are down */
    bool overrun;                        /* the last key did not fit, which was reported */
    u8 no_break[32];                     /* set 3: a bit per scan code that has no break code */
};

#define MOD_SHIFT 0x03 /* left, right */
#define MOD_CTRL  0x0c
#define MOD_ALT   0x30

/* Set 2 by set 1 make code. For keys with the E0 prefix the same table gives the code after the prefix.
 * [PS2KBD] "Scan Code Tables" */
static const u8 set2_codes[0x80] = {
    0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d, /* 00 */
    0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14, 0x1c, 0x1b, /* 10 */
    0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a, 0x22, 0x21, 0x2a, /* 20 */
    0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c, 0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0c, 0x03, /* 30 */
    0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c, 0x75, 0x7d, 0x7b, 0x6b, 0x73, 0x74, 0x79, 0x69, /* 40 */
    0x72, 0x7a, 0x70, 0x71, 0x84, 0x60, 0x61, 0x78, 0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f, /* 50 */
    0x47, 0x4f, 0x56, 0x5e, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x50, 0x57, 0x6f, /* 60 */
    0x13, 0x19, 0x39, 0x51, 0x53, 0x5c, 0x5f, 0x62, 0x63, 0x64, 0x65, 0x67, 0x68, 0x6a, 0x6d, 0x6e, /* 70 */
};

/* Set 3 by set 1 make code, 0: no such key. */
static const u8 set3_codes[0x80] = {
    0x00, 0x08, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d, /* 00 */
    0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x11, 0x1c, 0x1b, /* 10 */
    0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5c, 0x1a, 0x22, 0x21, 0x2a, /* 20 */
    0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7e, 0x19, 0x29, 0x14, 0x07, 0x0f, 0x17, 0x1f, 0x27, /* 30 */
    0x2f, 0x37, 0x3f, 0x47, 0x4f, 0x76, 0x5f, 0x6c, 0x75, 0x7d, 0x84, 0x6b, 0x73, 0x74, 0x7c, 0x69, /* 40 */
    0x72, 0x7a, 0x70, 0x71, 0x57, 0x00, 0x13, 0x56, 0x5e, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* 50 */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* 60 */
    0x87, 0x00, 0x00, 0x51, 0x00, 0x00, 0x00, 0x00, 0x00, 0x86, 0x00, 0x85, 0x00, 0x5d, 0x00, 0x00, /* 70 */
};

/* Set 3 of the keys with the E0 prefix. */
static u8 set3_extended(u8 code)
{
    switch (code) {
    case 0x1c: return 0x79; /* keypad enter */
    case 0x1d: return 0x58; /* right ctrl */
    case 0x35: return 0x77; /* keypad / */
    case 0x37: return 0x57; /* print screen */
    case 0x38: return 0x39; /* right alt */
    case 0x46: return 0x62; /* ctrl + pause */
    case 0x47: return 0x6e; /* home */
    case 0x48: return 0x63; /* up */
    case 0x49: return 0x6f; /* page up */
    case 0x4b: return 0x61; /* left */
    case 0x4d: return 0x6a; /* right */
    case 0x4f: return 0x65; /* end */
    case 0x50: return 0x60; /* down */
    case 0x51: return 0x6d; /* page down */
    case 0x52: return 0x67; /* insert */
    case 0x53: return 0x64; /* delete */
    case 0x5b: return 0x8b; /* left GUI */
    case 0x5c: return 0x8c; /* right GUI */
    case 0x5d: return 0x8d; /* menu */
    default: return 0;
    }
}

/* ---- keys to bytes ---- */

/* All the bytes of a key or none of them: half a sequence would confuse more than a lost key. */
static void queue_key(struct ps2_keyboard *k, const u8 *bytes, unsigned n)
{
    struct ps2_queue *q = &k->port.events;
    if (q->used + n > KEY_QUEUE) {
        /* [PS2KBD] "Overrun": 00 in sets 2 and 3, FF in set 1, in the place after the last. */
        if (!k->overrun) ps2_queue_put(q, k->set == 1 ? 0xff : 0x00);
        k->overrun = true;
        log_printf(LOG_GUEST_ERROR, "ps2_keyboard: key buffer overrun\n");
        return;
    }
    k->overrun = false;
    for (unsigned i = 0; i < n; i++)
        ps2_queue_put(q, bytes[i]);
}

static void send_set1(struct ps2_keyboard *k, bool extended, u8 code, bool down)
{
    u8 b[2] = {0xe0, code | (down ? 0 : 0x80)};
    queue_key(k, extended ? b : b + 1, extended ? 2 : 1);
}

static void send_set2(struct ps2_keyboard *k, bool extended, u8 code, bool down)
{
    u8 b[3];
    unsigned n = 0;
    if (extended) b[n++] = 0xe0;
    if (!down) b[n++] = 0xf0;
    b[n++] = set2_codes[code];
    queue_key(k, b, n);
}

static void send_set3(struct ps2_keyboard *k, u8 code, bool down)
{
    if (!code) return;
    if (down) {
        queue_key(k, &code, 1);
    } else if (!(k->no_break[code >> 3] & (1 << (code & 7)))) {
        u8 b[2] = {0xf0, code};
        queue_key(k, b, 2);
    }
}

/* Print screen stands for four keys in one [PS2KBD] "Scan Code Tables", key 124. */
static void send_print(struct ps2_keyboard *k, bool down)
{
    if (k->modifiers & MOD_ALT) { /* SysRq */
        k->set == 1 ? send_set1(k, false, 0x54, down) : send_set2(k, false, 0x54, down);
    } else if (k->modifiers & (MOD_SHIFT | MOD_CTRL)) {
        k->set == 1 ? send_set1(k, true, 0x37, down) : send_set2(k, true, 0x37, down);
    } else if (k->set == 1) {
        queue_key(k, down ? (const u8[]){0xe0, 0x2a, 0xe0, 0x37} : (const u8[]){0xe0, 0xb7, 0xe0, 0xaa}, 4);
    } else if (down) {
        queue_key(k, (const u8[]){0xe0, 0x12, 0xe0, 0x7c}, 4);
    } else {
        queue_key(k, (const u8[]){0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12}, 6);
    }
}

/* Pause sends everything when it goes down, and nothing when it comes up; key 126. */
static void send_pause(struct ps2_keyboard *k)
{
    if (k->modifiers & MOD_CTRL) {
        if (k->set == 1)
            queue_key(k, (const u8[]){0xe0, 0x46, 0xe0, 0xc6}, 4);
        else
            queue_key(k, (const u8[]){0xe0, 0x7e, 0xe0, 0xf0, 0x7e}, 5);
    } else if (k->set == 1) {
        queue_key(k, (const u8[]){0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5}, 6);
    } else {
        queue_key(k, (const u8[]){0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77}, 8);
    }
}

static void track_modifier(struct ps2_keyboard *k, u16 code, bool down)
{
    u8 bit = code == 0x2a     ? 0x01
             : code == 0x36   ? 0x02
             : code == 0x1d   ? 0x04
             : code == 0xe01d ? 0x08
             : code == 0x38   ? 0x10
             : code == 0xe038 ? 0x20
                              : 0;
    k->modifiers = down ? k->modifiers | bit : k->modifiers & ~bit;
}

void ps2_keyboard_key(struct ps2_keyboard *k, u16 code, bool down)
{
    bool extended = (code & 0xff00) == 0xe000;
    u8 low = code & 0x7f;
    track_modifier(k, code, down);
    if (!k->scanning || !low) return;
    if (k->set == 3)
        send_set3(k, code == PS2_KEY_PAUSE ? 0x62 : extended ? set3_extended(low) : set3_codes[low], down);
    else if (code == PS2_KEY_PRINT)
        send_print(k, down);
    else if (code == PS2_KEY_PAUSE)
        down ? send_pause(k) : (void)0;
    else if (k->set == 1)
        send_set1(k, extended, low, down);
    else
        send_set2(k, extended, low, down);
    ps2_notify(&k->port);
}

/* ---- commands ---- */

static void set_leds(struct ps2_keyboard *k, u8 leds)
{
    if (k->leds) k->leds(k->opaque, leds);
    if (k->input) input_set_leds(k->input, leds);
}

static void set_all_no_break(struct ps2_keyboard *k, bool no_break)
{
    memset(k->no_break, no_break ? 0xff : 0, sizeof(k->no_break));
}

static void set_no_break(struct ps2_keyboard *k, u8 code, bool no_break)
{
    if (no_break)
        k->no_break[code >> 3] |= 1 << (code & 7);
    else
        k->no_break[code >> 3] &= ~(1 << (code & 7));
}

static void defaults(struct ps2_keyboard *k)
{
    ps2_queue_clear(&k->port.events);
    k->set = 2;
    k->awaiting = 0;
    /* [PS2KBD] "Scan Code Set 3": only shift, left ctrl, left alt and caps lock have break codes. */
    set_all_no_break(k, true);
    static const u8 make_break[] = {0x12, 0x59, 0x11, 0x14, 0x19};
    for (size_t i = 0; i < ARRAY_LEN(make_break); i++)
        set_no_break(k, make_break[i], false);
}

static void power_on(struct ps2_keyboard *k)
{
    defaults(k);
    k->scanning = true;
    set_leds(k, 0);
}

static void parameter(struct ps2_keyboard *k, u8 command, u8 byte)
{
    switch (command) {
    case CMD_LEDS:
        set_leds(k, byte & 7);
        ps2_reply(&k->port, REPLY_ACK);
        break;
    case CMD_SET:
        if (byte > 3) {
            ps2_reply(&k->port, REPLY_RESEND);
            k->awaiting = CMD_SET;
            break;
        }
        ps2_reply(&k->port, REPLY_ACK);
        if (byte == 0) {
            ps2_reply(&k->port, k->set);
        } else {
            ps2_queue_clear(&k->port.events);
            k->set = byte;
        }
        break;
    case CMD_RATE: ps2_reply(&k->port, REPLY_ACK); break;
    default: /* CMD_KEY_*: a list of codes, which the next command ends */
        set_no_break(k, byte, command != CMD_KEY_MAKE_BREAK);
        ps2_reply(&k->port, REPLY_ACK);
        k->awaiting = command;
        break;
    }
}

static void command(struct ps2_keyboard *k, u8 byte)
{
    switch (byte) {
    case CMD_ECHO: ps2_reply(&k->port, CMD_ECHO); return;
    case CMD_RESEND: ps2_reply(&k->port, k->port.last_sent); return;
    case CMD_LEDS:
    case CMD_SET:
    case CMD_RATE:
    case CMD_KEY_TYPEMATIC:
    case CMD_KEY_MAKE_BREAK:
    case CMD_KEY_MAKE:
        ps2_reply(&k->port, REPLY_ACK);
        k->awaiting = byte;
        return;
    case CMD_ID:
        ps2_reply(&k->port, REPLY_ACK);
        ps2_reply(&k->port, 0xab);
        ps2_reply(&k->port, 0x83);
        return;
    case CMD_ENABLE:
        ps2_queue_clear(&k->port.events);
        k->scanning = true;
        break;
    case CMD_DEFAULT_DISABLE:
        defaults(k);
        k->scanning = false;
        break;
    case CMD_DEFAULT: defaults(k); break;
    case CMD_ALL_TYPEMATIC:
    case CMD_ALL_MAKE: set_all_no_break(k, true); break;
    case CMD_ALL_MAKE_BREAK:
    case CMD_ALL_BOTH: set_all_no_break(k, false); break;
    case CMD_RESET:
        ps2_queue_clear(&k->port.replies);
        power_on(k);
        ps2_reply(&k->port, REPLY_ACK);
        ps2_reply(&k->port, REPLY_BAT);
        return;
    default:
        log_printf(LOG_GUEST_ERROR, "ps2_keyboard: unknown command %#x\n", byte);
        ps2_reply(&k->port, REPLY_RESEND);
        return;
    }
    ps2_reply(&k->port, REPLY_ACK);
}

static void receive(struct ps2_device *d, u8 byte)
{
    struct ps2_keyboard *k = container_of(d, struct ps2_keyboard, port);
    u8 awaiting = k->awaiting;
    k->awaiting = 0;
    /* [PS2KBD]: a command in the place of a parameter ends the earlier command. */
    if (awaiting && byte < CMD_LEDS)
        parameter(k, awaiting, byte);
    else
        command(k, byte);
    ps2_notify(d);
}

/* ---- the device ---- */

static void ps2_keyboard_reset(struct device *d)
{
    struct ps2_keyboard *k = container_of(d, struct ps2_keyboard, port.dev);
    ps2_queue_clear(&k->port.replies);
    k->port.last_sent = 0;
    k->modifiers = 0;
    power_on(k);
}

static void ps2_keyboard_destroy(struct device *d)
{
    struct ps2_keyboard *k = container_of(d, struct ps2_keyboard, port.dev);
    if (k->input) input_remove(k->input, &k->source);
    free(k);
}

static const struct device_class ps2_keyboard_class = {"ps2_keyboard", ps2_keyboard_reset,
                                                       ps2_keyboard_destroy};

/* The longest sequence is that of pause in set 2. */
static bool room(void *opaque)
{
    struct ps2_keyboard *k = opaque;
    return k->port.events.used + 8 <= KEY_QUEUE;
}

static void key_event(void *opaque, enum input_key key, bool down)
{
    u16 code = input_key_set1(key);
    if (code) ps2_keyboard_key(opaque, code, down);
}

void ps2_keyboard_connect(struct ps2_keyboard *k, struct input *input)
{
    k->input = input;
    k->source = (struct input_device){
        .name = "PS/2 keyboard", .takes = INPUT_TAKES_KEYS, .room = room, .key = key_event, .opaque = k};
    input_add(input, &k->source);
}

struct ps2_device *ps2_keyboard_port(struct ps2_keyboard *k) { return &k->port; }
struct device *ps2_keyboard_device(struct ps2_keyboard *k) { return &k->port.dev; }

struct ps2_keyboard *ps2_keyboard_create(void (*leds)(void *opaque, u8 leds), void *opaque)
{
    struct ps2_keyboard *k = calloc(1, sizeof(*k));
    if (!k) {
        fprintf(stderr, "calque: ps2_keyboard: out of memory\n");
        return NULL;
    }
    k->port.dev.cls = &ps2_keyboard_class;
    k->port.receive = receive;
    k->leds = leds;
    k->opaque = opaque;
    ps2_keyboard_reset(&k->port.dev);
    return k;
}
