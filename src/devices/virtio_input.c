/* The virtio input device: events as Linux's evdev has them, one per buffer of the event queue; lamps come back on the
 * status queue. It takes part in the distribution of events while a driver runs it.
 *
 * A report for which there are not enough buffers is lost as a whole; keys wait in the router instead.
 *
 * References: [VIRTIO] Virtual I/O Device (VIRTIO) Version 1.1, section 5.8; [EVDEV] Linux's
 * Documentation/input/event-codes.rst and its input-event-codes.h. */
#include "devices/virtio_input.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

enum { EVENTS, STATUS, QUEUES };

#define QUEUE_SIZE 64u
#define EVENT_SIZE 8u
#define REPORT_MAX 16u

/* Configuration: the driver selects what data show [VIRTIO] 5.8.4. */
enum { CONFIG_SELECT = 0, CONFIG_SUBSEL = 1, CONFIG_LENGTH = 2, CONFIG_DATA = 8, CONFIG_SIZE = 136 };
enum { SELECT_NAME = 1, SELECT_IDS = 3, SELECT_EVENTS = 0x11, SELECT_ABS = 0x12 };

/* [EVDEV] */
enum { EV_SYN = 0, EV_KEY = 1, EV_REL = 2, EV_ABS = 3, EV_LED = 0x11, EV_REP = 0x14 };
enum { REL_X = 0, REL_Y = 1, REL_HWHEEL = 6, REL_WHEEL = 8 };
enum { ABS_X = 0, ABS_Y = 1 };
enum { LED_NUM = 0, LED_CAPS = 1, LED_SCROLL = 2, LEDS };
#define BTN_LEFT    0x110
#define BTN_RIGHT   0x111
#define BTN_MIDDLE  0x112
#define BTN_SIDE    0x113
#define BTN_EXTRA   0x114
#define BUS_VIRTUAL 6

struct event {
    u16 type, code;
    u32 value;
};

struct virtio_input {
    struct virtio v;              /* must stay first */
    enum virtio_input_kind kind;  /* what it is */
    struct input *input;          /* the router */
    struct input_device source;   /* what that knows of us */
    bool added;                   /* it does now */
    u8 down[INPUT_KEY_COUNT];     /* keys that the driver knows to be down */
    u32 buttons;                  /* likewise, bits of enum input_button */
    int x, y;                     /* the place reported last, -1: none */
    bool lamps[LEDS];             /* as the driver has set them */
};

static const u16 buttons[] = {[INPUT_BUTTON_left] = BTN_LEFT, [INPUT_BUTTON_middle] = BTN_MIDDLE,
                              [INPUT_BUTTON_right] = BTN_RIGHT, [INPUT_BUTTON_side] = BTN_SIDE,
                              [INPUT_BUTTON_extra] = BTN_EXTRA};

/* [EVDEV]'s code of a key, 0: none. Up to F12 they are the codes of scan code set 1. */
static u16 key_code(enum input_key key)
{
    static const struct {
        u16 set1, code;
    } others[] = {
        {0x54, 99},    {0x59, 117},   {0x64, 183},   {0x65, 184},   {0x66, 185},   {0x67, 186},   {0x68, 187},
        {0x69, 188},   {0x6a, 189},   {0x6b, 190},   {0x6c, 191},   {0x6d, 192},   {0x6e, 193},   {0x76, 194},
        {0x70, 93},    {0x71, 123},   {0x72, 122},   {0x73, 89},    {0x77, 91},    {0x79, 92},    {0x7b, 94},
        {0x7d, 124},   {0x7e, 121},   {0xe01c, 96},  {0xe01d, 97},  {0xe035, 98},  {0xe037, 99},  {0xe038, 100},
        {0xe047, 102}, {0xe048, 103}, {0xe049, 104}, {0xe04b, 105}, {0xe04d, 106}, {0xe04f, 107}, {0xe050, 108},
        {0xe051, 109}, {0xe052, 110}, {0xe053, 111}, {0xe05b, 125}, {0xe05c, 126}, {0xe05d, 127}, {0xe01e, 139},
        {0xe05e, 116}, {0xe05f, 142}, {0xe063, 143}, {0xe11d, 119}, {0xe019, 163}, {0xe010, 165}, {0xe024, 166},
        {0xe022, 164}, {0xe020, 113}, {0xe030, 115}, {0xe02e, 114}, {0xe06d, 226}, {0xe06c, 155}, {0xe021, 140},
        {0xe06b, 157}, {0xe032, 172}, {0xe06a, 158}, {0xe069, 159}, {0xe067, 173}, {0xe066, 156}, {0xe068, 128},
    };
    u16 set1 = input_key_set1(key);
    if (set1 <= 0x53 || (set1 >= 0x56 && set1 <= 0x58)) return set1;
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (others[i].set1 == set1) return others[i].code;
    return 0;
}

/* ---- configuration ---- */

static void set_bit(u8 *bits, unsigned *length, unsigned n)
{
    bits[n / 8] |= (u8)(1u << n % 8);
    *length = MAX(*length, n / 8 + 1);
}

/* The codes of a type of events: bytes of the bitmap. */
static unsigned event_bits(const struct virtio_input *d, unsigned type, u8 *bits)
{
    unsigned length = 0;
    bool keyboard = d->kind == VIRTIO_KEYBOARD;
    switch (type) {
    case EV_KEY:
        for (enum input_key k = 1; keyboard && k < INPUT_KEY_COUNT; k++)
            if (key_code(k)) set_bit(bits, &length, key_code(k));
        for (size_t i = 0; !keyboard && i < ARRAY_LEN(buttons); i++) set_bit(bits, &length, buttons[i]);
        break;
    case EV_REL:
        if (keyboard) break;
        set_bit(bits, &length, REL_WHEEL);
        set_bit(bits, &length, REL_HWHEEL);
        if (d->kind == VIRTIO_TABLET) break;
        set_bit(bits, &length, REL_X);
        set_bit(bits, &length, REL_Y);
        break;
    case EV_ABS:
        if (d->kind != VIRTIO_TABLET) break;
        set_bit(bits, &length, ABS_X);
        set_bit(bits, &length, ABS_Y);
        break;
    case EV_LED:
        for (unsigned i = 0; keyboard && i < LEDS; i++) set_bit(bits, &length, i);
        break;
    case EV_REP: /* repetition is the driver's business */
        if (keyboard) length = 1;
        break;
    default: break;
    }
    return length;
}

static unsigned config_data(const struct virtio_input *d, unsigned select, unsigned subsel, u8 *data)
{
    static const char *const names[] = {"Calque Virtio Keyboard", "Calque Virtio Mouse", "Calque Virtio Tablet"};
    switch (select) {
    case SELECT_NAME:
        if (subsel) return 0;
        memcpy(data, names[d->kind], strlen(names[d->kind]));
        return (unsigned)strlen(names[d->kind]);
    case SELECT_IDS:
        if (subsel) return 0;
        pci_put16(data, BUS_VIRTUAL);
        pci_put16(data + 2, 0x0627);
        pci_put16(data + 4, (u16)(d->kind + 1));
        pci_put16(data + 6, 1);
        return 8;
    case SELECT_EVENTS: return event_bits(d, subsel, data);
    case SELECT_ABS:
        if (d->kind != VIRTIO_TABLET || subsel > ABS_Y) return 0;
        pci_put32(data + 4, INPUT_ABS_MAX); /* minimum, maximum, fuzz, flat, resolution */
        return 20;
    default: return 0;
    }
}

static void config_written(struct virtio *v, unsigned offset, u8 value)
{
    if (offset > CONFIG_SUBSEL) return;
    u8 *c = v->config;
    c[offset] = value;
    memset(c + CONFIG_LENGTH, 0, CONFIG_SIZE - CONFIG_LENGTH);
    c[CONFIG_LENGTH] = (u8)config_data((struct virtio_input *)v, c[CONFIG_SELECT], c[CONFIG_SUBSEL], c + CONFIG_DATA);
}

/* ---- events ---- */

/* Send a report; the end marker is added. False: it is lost. */
static bool report(struct virtio_input *d, struct event *events, unsigned count)
{
    struct virtio *v = &d->v;
    struct virtqueue *q = &v->queues[EVENTS];
    events[count++] = (struct event){.type = EV_SYN};
    if (!virtio_running(v) || virtqueue_waiting(q) < count) return false;
    for (unsigned i = 0; i < count; i++) {
        u8 data[EVENT_SIZE];
        if (!virtqueue_pop(q, &v->chain)) return false;
        pci_put16(data, events[i].type);
        pci_put16(data + 2, events[i].code);
        pci_put32(data + 4, events[i].value);
        virtqueue_fill(q, i, v->chain.head, (u32)virtqueue_write(&v->chain, 0, data, EVENT_SIZE));
    }
    virtqueue_flush(q, count);
    virtio_signal(v, EVENTS);
    return true;
}

static bool has_room(void *opaque)
{
    struct virtio_input *d = opaque;
    return !virtio_running(&d->v) || virtqueue_waiting(&d->v.queues[EVENTS]) >= 2;
}

static void key_event(void *opaque, enum input_key key, bool down)
{
    struct virtio_input *d = opaque;
    struct event e[REPORT_MAX] = {{EV_KEY, key_code(key), down}};
    if (!e[0].code || d->down[key] == down) return;
    if (report(d, e, 1)) d->down[key] = down;
}

static void pointer_event(void *opaque, const struct input_pointer *p)
{
    struct virtio_input *d = opaque;
    struct event e[REPORT_MAX];
    unsigned n = 0;
    if (d->kind == VIRTIO_TABLET) {
        if (p->x != d->x) e[n++] = (struct event){EV_ABS, ABS_X, (u32)p->x};
        if (p->y != d->y) e[n++] = (struct event){EV_ABS, ABS_Y, (u32)p->y};
    } else {
        if (p->dx) e[n++] = (struct event){EV_REL, REL_X, (u32)p->dx};
        if (p->dy) e[n++] = (struct event){EV_REL, REL_Y, (u32)p->dy};
    }
    if (p->wheel) e[n++] = (struct event){EV_REL, REL_WHEEL, (u32)-p->wheel}; /* away from the user */
    if (p->hwheel) e[n++] = (struct event){EV_REL, REL_HWHEEL, (u32)p->hwheel};
    for (unsigned i = 0; i < ARRAY_LEN(buttons); i++)
        if ((p->buttons ^ d->buttons) >> i & 1) e[n++] = (struct event){EV_KEY, buttons[i], p->buttons >> i & 1};
    if (!n || !report(d, e, n)) return;
    d->x = p->x;
    d->y = p->y;
    d->buttons = p->buttons;
}

static void notify(struct virtio *v, unsigned queue)
{
    struct virtio_input *d = (struct virtio_input *)v;
    if (queue != STATUS) return;
    while (virtqueue_pop(&v->queues[STATUS], &v->chain)) {
        u8 data[EVENT_SIZE];
        bool whole = virtqueue_read(&v->chain, 0, data, EVENT_SIZE) == EVENT_SIZE;
        u16 code = pci_get16(data + 2);
        if (whole && pci_get16(data) == EV_LED && code < LEDS) d->lamps[code] = pci_get32(data + 4) != 0;
        virtio_push(v, STATUS, v->chain.head, 0);
        virtqueue_want_notify(&v->queues[STATUS], true);
    }
    if (d->added) input_set_leds(d->input, (u8)(d->lamps[LED_SCROLL] | d->lamps[LED_NUM] << 1 | d->lamps[LED_CAPS] << 2));
    virtio_signal(v, STATUS);
}

/* ---- life ---- */

static void started(struct virtio *v)
{
    struct virtio_input *d = (struct virtio_input *)v;
    input_activate(d->input, &d->source);
    d->added = true;
}

static void forget(struct virtio *v)
{
    struct virtio_input *d = (struct virtio_input *)v;
    if (d->added) input_remove(d->input, &d->source);
    d->added = false;
    memset(d->down, 0, sizeof(d->down));
    d->buttons = 0;
    d->x = d->y = -1;
    memset(d->lamps, 0, sizeof(d->lamps));
    memset(v->config, 0, CONFIG_SIZE);
}

static const struct virtio_ops ops = {
    .notify = notify, .config_written = config_written, .started = started, .reset = forget};

static void virtio_input_reset(struct device *d) { virtio_reset((struct virtio *)d); }

static void virtio_input_destroy(struct device *d)
{
    forget((struct virtio *)d);
    virtio_destroy((struct virtio *)d);
    free(d);
}

static const struct device_class classes[] = {
    [VIRTIO_KEYBOARD] = {.name = "virtio-keyboard", .reset = virtio_input_reset, .destroy = virtio_input_destroy},
    [VIRTIO_MOUSE] = {.name = "virtio-mouse", .reset = virtio_input_reset, .destroy = virtio_input_destroy},
    [VIRTIO_TABLET] = {.name = "virtio-tablet", .reset = virtio_input_reset, .destroy = virtio_input_destroy},
};

struct device *virtio_input_create(const struct virtio_slot *slot, enum virtio_input_kind kind, struct input *input)
{
    static const u32 class_codes[] = {0x090000, 0x090200, 0x098000};
    static const unsigned takes[] = {INPUT_TAKES_KEYS, INPUT_TAKES_RELATIVE, INPUT_TAKES_ABSOLUTE};
    struct virtio_input *d = calloc(1, sizeof(*d));
    if (!d) {
        fprintf(stderr, "calque: %s: out of memory\n", classes[kind].name);
        return NULL;
    }
    d->kind = kind;
    d->input = input;
    d->source = (struct input_device){.name = classes[kind].name, .takes = takes[kind], .room = has_room,
                                      .key = key_event, .pointer = pointer_event, .opaque = d};
    if (virtio_init(&d->v, slot, VIRTIO_TYPE_INPUT, class_codes[kind], &classes[kind], &ops, QUEUES, QUEUE_SIZE, 0,
                    CONFIG_SIZE)) {
        free(d);
        return NULL;
    }
    virtio_reset(&d->v);
    return &d->v.pci.dev;
}
