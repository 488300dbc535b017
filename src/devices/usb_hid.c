/* USB human interface devices: a keyboard and a wheel mouse, both also in the boot protocol, and a tablet, whose pointer
 * is where the host's is.
 *
 * What the user does waits in a queue until the guest reads it, one event with each report, so that no click gets lost
 * between two of them; movements in a row are added up. Left out: remote wake-up.
 *
 * References: [HID] Device Class Definition for Human Interface Devices 1.11. [HUT] HID Usage Tables. */
#include "devices/usb_hid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE        64
#define KEYS_AT_ONCE 6 /* of a boot keyboard's report, [HID] B.1 */
#define REPORT_MAX   8
#define IDLE_UNIT_NS 4000000ull /* [HID] 7.2.4 */
#define ROLL_OVER    1          /* usage: too many keys */

/* [HID] 7.1, 7.2 */
enum { DESCRIPTOR_HID = 0x21, DESCRIPTOR_REPORT = 0x22 };
enum { GET_REPORT = 1, GET_IDLE = 2, GET_PROTOCOL = 3, SET_REPORT = 9, SET_IDLE = 10, SET_PROTOCOL = 11 };

struct hid_event {
    u8 usage;                 /* keyboard: key, */
    bool down;                /* pressed */
    struct input_pointer at;  /* else: where the pointer is and how far it went */
};

struct usb_hid {
    struct usb_device usb;          /* must stay first */
    enum usb_hid_kind kind;         /* which */
    struct clock *clock;            /* for the idle rate */
    struct input *input;            /* where events come from */
    struct input_device source;     /* what that knows of us */
    struct hid_event queue[QUEUE];  /* ring: what the guest has not read */
    unsigned head, used;            /* its first entry and number of entries */
    u8 modifiers;                   /* keyboard: those down, a bit each from usage 0xe0 on */
    u8 keys[16];                    /* keyboard: other keys down */
    unsigned key_count;             /* used entries */
    u8 leds;                        /* keyboard: as set */
    struct input_pointer at;        /* pointers: the last report's */
    bool boot;                      /* the boot protocol is in use */
    u8 idle;                        /* repeat the report after that many units, 0: never */
    u64 reported;                   /* when the last one was given */
};

/* ---- descriptors ---- */

static const u8 keyboard_report[] = {
    0x05, 0x01, 0x09, 0x06, 0xa1, 0x01,                                     /* generic desktop, keyboard: application */
    0x05, 0x07, 0x19, 0xe0, 0x29, 0xe7, 0x15, 0x00, 0x25, 0x01,             /* modifiers: 8 bits */
    0x75, 0x01, 0x95, 0x08, 0x81, 0x02, 0x95, 0x01, 0x75, 0x08, 0x81, 0x01, /* a byte unused */
    0x05, 0x08, 0x19, 0x01, 0x29, 0x05, 0x95, 0x05, 0x75, 0x01, 0x91, 0x02, /* out: 5 lamps */
    0x95, 0x01, 0x75, 0x03, 0x91, 0x01,                                     /* out: 3 bits unused */
    0x05, 0x07, 0x19, 0x00, 0x2a, 0xff, 0x00, 0x15, 0x00, 0x26, 0xff, 0x00, /* 6 keys, a byte each */
    0x95, 0x06, 0x75, 0x08, 0x81, 0x00, 0xc0};

static const u8 mouse_report[] = {
    0x05, 0x01, 0x09, 0x02, 0xa1, 0x01, 0x09, 0x01, 0xa1, 0x00,             /* mouse: application, pointer: physical */
    0x05, 0x09, 0x19, 0x01, 0x29, 0x05, 0x15, 0x00, 0x25, 0x01,             /* 5 buttons */
    0x95, 0x05, 0x75, 0x01, 0x81, 0x02, 0x95, 0x01, 0x75, 0x03, 0x81, 0x01, /* 3 bits unused */
    0x05, 0x01, 0x09, 0x30, 0x09, 0x31, 0x09, 0x38, 0x15, 0x81, 0x25, 0x7f, /* x, y, wheel: -127 to 127, relative */
    0x75, 0x08, 0x95, 0x03, 0x81, 0x06, 0xc0, 0xc0};

static const u8 tablet_report[] = {
    0x05, 0x01, 0x09, 0x02, 0xa1, 0x01, 0x09, 0x01, 0xa1, 0x00,             /* mouse: application, pointer: physical */
    0x05, 0x09, 0x19, 0x01, 0x29, 0x05, 0x15, 0x00, 0x25, 0x01,             /* 5 buttons */
    0x95, 0x05, 0x75, 0x01, 0x81, 0x02, 0x95, 0x01, 0x75, 0x03, 0x81, 0x01, /* 3 bits unused */
    0x05, 0x01, 0x09, 0x30, 0x09, 0x31, 0x15, 0x00, 0x26, 0xff, 0x7f,       /* x, y: 0 to INPUT_ABS_MAX, absolute */
    0x35, 0x00, 0x46, 0xff, 0x7f, 0x75, 0x10, 0x95, 0x02, 0x81, 0x02,
    0x09, 0x38, 0x15, 0x81, 0x25, 0x7f, 0x35, 0x00, 0x45, 0x00,             /* wheel: relative */
    0x75, 0x08, 0x95, 0x01, 0x81, 0x06, 0xc0, 0xc0};

/* Vendor 0x0627 is what guests know virtual HID devices by. */
#define DEVICE_DESCRIPTOR(string) {18, 1, 0x10, 0x01, 0, 0, 0, 8, 0x27, 0x06, 1, 0, 0, 0, 1, string, 0, 1}
/* Configuration, interface, HID, endpoint 1 in: interrupt, 8 bytes, every 10 frames. */
#define CONFIG_DESCRIPTOR(subclass, protocol, report)                                                              \
    {9, 2, 34, 0, 1, 1, 0, 0xa0, 50, 9, 4, 0, 0, 1, 3, subclass, protocol, 0,                                      \
     9, DESCRIPTOR_HID, 0x11, 0x01, 0, 1, DESCRIPTOR_REPORT, sizeof(report), 0, 7, 5, 0x81, 3, REPORT_MAX, 0, 10}

static const struct {
    const char *name;    /* of the device */
    u8 device[18];       /* descriptors */
    u8 config[34];
    const u8 *report;
    u16 report_size;     /* bytes of report */
    unsigned takes;      /* from the router */
} kinds[] = {
    [USB_HID_KEYBOARD] = {"usb-kbd", DEVICE_DESCRIPTOR(2), CONFIG_DESCRIPTOR(1, 1, keyboard_report), keyboard_report,
                          sizeof(keyboard_report), INPUT_TAKES_KEYS},
    [USB_HID_MOUSE] = {"usb-mouse", DEVICE_DESCRIPTOR(3), CONFIG_DESCRIPTOR(1, 2, mouse_report), mouse_report,
                       sizeof(mouse_report), INPUT_TAKES_RELATIVE},
    [USB_HID_TABLET] = {"usb-tablet", DEVICE_DESCRIPTOR(4), CONFIG_DESCRIPTOR(0, 0, tablet_report), tablet_report,
                        sizeof(tablet_report), INPUT_TAKES_ABSOLUTE},
};
static const char *const strings[] = {"Calque", "Calque USB Keyboard", "Calque USB Mouse", "Calque USB Tablet", NULL};

/* ---- events ---- */

static struct hid_event *queue_last(struct usb_hid *h)
{
    return h->used ? &h->queue[(h->head + h->used - 1) % QUEUE] : NULL;
}

static void enqueue(struct usb_hid *h, const struct hid_event *e)
{
    if (h->used < QUEUE) h->queue[(h->head + h->used++) % QUEUE] = *e;
    usb_device_wake(&h->usb);
}

static bool room(void *opaque)
{
    struct usb_hid *h = opaque;
    return h->used < QUEUE;
}

static void key_event(void *opaque, enum input_key key, bool down)
{
    u8 usage = input_key_hid(key);
    if (usage) enqueue(opaque, &(struct hid_event){.usage = usage, .down = down});
}

static void pointer_event(void *opaque, const struct input_pointer *p)
{
    struct usb_hid *h = opaque;
    struct hid_event *last = queue_last(h);
    /* The same buttons, or no place for another click: one movement. */
    if (last && (last->at.buttons == p->buttons || h->used == QUEUE)) {
        int dx = last->at.dx, dy = last->at.dy, wheel = last->at.wheel;
        last->at = *p;
        last->at.dx = MIN(MAX(dx + p->dx, -0x8000), 0x7fff);
        last->at.dy = MIN(MAX(dy + p->dy, -0x8000), 0x7fff);
        last->at.wheel = MIN(MAX(wheel + p->wheel, -0x8000), 0x7fff);
        usb_device_wake(&h->usb);
        return;
    }
    enqueue(h, &(struct hid_event){.at = *p});
}

/* ---- reports ---- */

static void note_key(struct usb_hid *h, u8 usage, bool down)
{
    if (usage >= 0xe0) {
        u8 bit = (u8)(1 << (usage - 0xe0));
        h->modifiers = down ? h->modifiers | bit : h->modifiers & (u8)~bit;
        return;
    }
    unsigned i = 0;
    while (i < h->key_count && h->keys[i] != usage) i++;
    if (down && i == h->key_count && i < sizeof(h->keys)) h->keys[h->key_count++] = usage;
    if (!down && i < h->key_count) memmove(&h->keys[i], &h->keys[i + 1], --h->key_count - i);
}

/* Take the next event into the state. What does not fit into a report stays in the queue. */
static void next_event(struct usb_hid *h)
{
    if (!h->used) {
        h->at.dx = h->at.dy = h->at.wheel = 0;
        return;
    }
    struct hid_event *e = &h->queue[h->head];
    if (h->kind == USB_HID_KEYBOARD) {
        note_key(h, e->usage, e->down);
    } else {
        h->at = e->at;
        h->at.dx = MIN(MAX(e->at.dx, -127), 127);
        h->at.dy = MIN(MAX(e->at.dy, -127), 127);
        h->at.wheel = MIN(MAX(e->at.wheel, -127), 127);
        e->at.dx -= h->at.dx;
        e->at.dy -= h->at.dy;
        e->at.wheel -= h->at.wheel;
        if (h->kind == USB_HID_TABLET) e->at.dx = e->at.dy = 0;
        if (e->at.dx || e->at.dy || e->at.wheel) return;
    }
    h->head = (h->head + 1) % QUEUE;
    h->used--;
}

static unsigned build_report(const struct usb_hid *h, u8 *r)
{
    /* Buttons in HID's order: left, right, middle, side, extra. */
    u32 b = h->at.buttons;
    u8 buttons = (u8)((b >> INPUT_BUTTON_left & 1) | (b >> INPUT_BUTTON_right & 1) << 1 |
                      (b >> INPUT_BUTTON_middle & 1) << 2 | (b >> INPUT_BUTTON_side & 1) << 3 |
                      (b >> INPUT_BUTTON_extra & 1) << 4);
    switch (h->kind) {
    case USB_HID_KEYBOARD:
        memset(r, 0, 8);
        r[0] = h->modifiers;
        if (h->key_count > KEYS_AT_ONCE) memset(r + 2, ROLL_OVER, KEYS_AT_ONCE);
        else memcpy(r + 2, h->keys, h->key_count);
        return 8;
    case USB_HID_MOUSE:
        r[0] = buttons;
        r[1] = (u8)h->at.dx;
        r[2] = (u8)h->at.dy;
        r[3] = (u8)-h->at.wheel; /* HID counts away from the user */
        return h->boot ? 3 : 4;
    default:
        r[0] = buttons;
        r[1] = (u8)h->at.x;
        r[2] = (u8)(h->at.x >> 8);
        r[3] = (u8)h->at.y;
        r[4] = (u8)(h->at.y >> 8);
        r[5] = (u8)-h->at.wheel;
        return 6;
    }
}

static int hid_in(struct usb_device *d, u8 endpoint, u8 *data, unsigned size)
{
    struct usb_hid *h = (struct usb_hid *)d;
    u8 report[REPORT_MAX];
    if (endpoint != 1) return USB_STALL;
    if (!h->source.active) input_activate(h->input, &h->source); /* somebody reads it */
    u64 now = clock_now(h->clock);
    if (!h->used && (!h->idle || now - h->reported < h->idle * IDLE_UNIT_NS)) return USB_NAK;
    h->reported = now;
    next_event(h);
    unsigned n = MIN(build_report(h, report), size);
    memcpy(data, report, n);
    return (int)n;
}

/* ---- requests ---- */

static int hid_request(struct usb_device *d, const struct usb_setup *s, u8 *data)
{
    struct usb_hid *h = (struct usb_hid *)d;
    if (!(s->type & USB_TYPE_MASK)) { /* a descriptor of the class, [HID] 7.1.1 */
        if (s->value >> 8 == DESCRIPTOR_REPORT) {
            memcpy(data, kinds[h->kind].report, kinds[h->kind].report_size);
            return kinds[h->kind].report_size;
        }
        if (s->value >> 8 != DESCRIPTOR_HID) return USB_STALL;
        memcpy(data, kinds[h->kind].config + 18, 9);
        return 9;
    }
    if ((s->type & USB_TYPE_MASK) != USB_TYPE_CLASS) return USB_STALL;
    switch (s->request) {
    case GET_REPORT: return s->type & USB_TYPE_IN ? (int)build_report(h, data) : USB_STALL;
    case GET_IDLE: data[0] = h->idle; return 1;
    case GET_PROTOCOL: data[0] = !h->boot; return 1;
    case SET_IDLE: h->idle = (u8)(s->value >> 8); return 0;
    case SET_PROTOCOL: h->boot = !s->value; return 0;
    case SET_REPORT:
        if (h->kind != USB_HID_KEYBOARD || !s->length || s->type & USB_TYPE_IN) return USB_STALL;
        /* [HUT] 11: num, caps, scroll lock from bit 0; PS/2, and the router: scroll, num, caps */
        h->leds = data[0];
        input_set_leds(h->input, (u8)((data[0] & 1) << 1 | (data[0] & 2) << 1 | (data[0] >> 2 & 1)));
        return 0;
    default: return USB_STALL;
    }
}

static void hid_configured(struct usb_device *d, bool configured)
{
    struct usb_hid *h = (struct usb_hid *)d;
    h->head = h->used = h->key_count = 0;
    h->modifiers = h->idle = 0;
    h->boot = false; /* [HID] 7.2.6: the report protocol after reset */
    if (!configured && h->source.active) input_deactivate(h->input, &h->source);
}

static const struct usb_device_ops hid_ops = {.request = hid_request, .in = hid_in, .configured = hid_configured};

/* ---- life ---- */

static void hid_reset(struct device *d) { usb_device_reset((struct usb_device *)d); }

static void hid_destroy(struct device *d)
{
    struct usb_hid *h = (struct usb_hid *)d;
    input_remove(h->input, &h->source);
    free(h);
}

static const struct device_class classes[] = {
    [USB_HID_KEYBOARD] = {.name = "usb-kbd", .reset = hid_reset, .destroy = hid_destroy},
    [USB_HID_MOUSE] = {.name = "usb-mouse", .reset = hid_reset, .destroy = hid_destroy},
    [USB_HID_TABLET] = {.name = "usb-tablet", .reset = hid_reset, .destroy = hid_destroy},
};

struct usb_device *usb_hid_create(enum usb_hid_kind kind, struct clock *clock, struct input *input)
{
    struct usb_hid *h = calloc(1, sizeof(*h));
    if (!h) {
        fprintf(stderr, "calque: no memory for a %s\n", kinds[kind].name);
        return NULL;
    }
    h->usb.dev.cls = &classes[kind];
    h->usb.ops = &hid_ops;
    h->usb.device_descriptor = kinds[kind].device;
    h->usb.config_descriptor = kinds[kind].config;
    h->usb.strings = strings;
    h->kind = kind;
    h->clock = clock;
    h->input = input;
    h->source = (struct input_device){.name = kinds[kind].name, .takes = kinds[kind].takes, .opaque = h};
    if (kind == USB_HID_KEYBOARD) {
        h->source.room = room;
        h->source.key = key_event;
    } else {
        h->source.pointer = pointer_event;
    }
    input_add(input, &h->source);
    usb_device_init(&h->usb);
    return &h->usb;
}
