/* A PS/2 mouse: standard, IntelliMouse (wheel) and IntelliMouse Explorer (five buttons) protocols.
 *
 * Leaves out sampling by time: a packet is made when something moves and the queue has room, and what moves
 * meanwhile is added up. Resolution is accepted; the counts are the host's.
 *
 * [PS2MOUSE] IBM PS/2 Hardware Interface Technical Reference, "Mouse"
 * [WHEEL] Microsoft, "PS/2 Device Programming Interface for wheel mice" */
#include "devices/ps2_mouse.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"

enum {
    CMD_SCALE_1_1 = 0xe6,
    CMD_SCALE_2_1 = 0xe7,
    CMD_RESOLUTION = 0xe8,
    CMD_STATUS = 0xe9,
    CMD_STREAM = 0xea,
    CMD_READ = 0xeb,
    CMD_WRAP_OFF = 0xec,
    CMD_WRAP = 0xee,
    CMD_REMOTE = 0xf0,
    CMD_ID = 0xf2,
    CMD_RATE = 0xf3,
    CMD_ENABLE = 0xf4,
    CMD_DISABLE = 0xf5,
    CMD_DEFAULT = 0xf6,
    CMD_RESEND = 0xfe,
    CMD_RESET = 0xff,
    REPLY_BAT = 0xaa,
    REPLY_ACK = 0xfa,
    REPLY_RESEND = 0xfe,
};

enum { ID_STANDARD = 0, ID_WHEEL = 3, ID_EXPLORER = 4 };

#define QUEUE_LIMIT 16 /* bytes of packets that wait */

struct ps2_mouse {
    struct ps2_device port; /* towards the controller */
    struct input *input;    /* where movements come from, NULL: only ps2_mouse_event() */
    struct input_device source; /* what that knows of us */
    u8 id;                  /* ID_*: the protocol */
    u8 rate;                /* samples a second, as set */
    u8 old_rates[2];        /* the two rates before, newest first: the knock that changes the protocol */
    u8 resolution;          /* 0 to 3, as set */
    bool scale_2_1;         /* as set */
    bool remote;            /* packets only when asked for */
    bool wrap;              /* echo mode */
    bool enabled;           /* data reporting */
    u8 awaiting;            /* command whose parameter comes next, or 0 */
    int dx, dy, dz;         /* movement not reported yet */
    u8 buttons;             /* buttons now */
    u8 reported;            /* buttons of the last packet */
};

static int clamp(int v, int low, int high) { return v < low ? low : v > high ? high : v; }

/* [PS2MOUSE] "Stream Mode": with scaling 2:1 small movements shrink and large ones double. */
static int scale(int v)
{
    static const u8 curve[] = {0, 1, 1, 3, 6, 9};
    int n = v < 0 ? -v : v;
    n = n < (int)ARRAY_LEN(curve) ? curve[n] : 2 * n;
    return v < 0 ? -n : n;
}

/* yo xo ys xs 1 M R L, x, y[, z or 0 0 B5 B4 z3-z0] */
static void packet(struct ps2_mouse *m, struct ps2_queue *q, bool scaled)
{
    int x = clamp(m->dx, -127, 127), y = clamp(m->dy, -127, 127);
    m->dx -= x;
    m->dy -= y;
    if (scaled && m->scale_2_1) x = clamp(scale(x), -255, 255), y = clamp(scale(y), -255, 255);
    ps2_queue_put(q, 0x08 | (m->buttons & 7) | (x < 0 ? 0x10 : 0) | (y < 0 ? 0x20 : 0));
    ps2_queue_put(q, x);
    ps2_queue_put(q, y);
    if (m->id == ID_WHEEL) {
        int z = clamp(m->dz, -127, 127);
        ps2_queue_put(q, z);
        m->dz -= z;
    } else if (m->id == ID_EXPLORER) {
        int z = clamp(m->dz, -7, 7);
        ps2_queue_put(q, (z & 15) | (m->buttons & 0x18) << 1);
        m->dz -= z;
    } else {
        m->dz = 0;
    }
    m->reported = m->buttons;
}

static void stream(struct ps2_mouse *m)
{
    struct ps2_queue *q = &m->port.events;
    if (!m->enabled || m->remote || m->wrap) return;
    while ((m->dx || m->dy || m->dz || m->buttons != m->reported) && q->used + 4 <= QUEUE_LIMIT)
        packet(m, q, true);
}

void ps2_mouse_event(struct ps2_mouse *m, int dx, int dy, int dz, u8 buttons)
{
    m->buttons = buttons;
    if (!m->enabled && !m->remote) {
        m->reported = buttons;
        return;
    }
    m->dx = clamp(m->dx + dx, -4096, 4096);
    m->dy = clamp(m->dy - dy, -4096, 4096); /* the mouse counts upwards */
    m->dz = clamp(m->dz + dz, -64, 64);
    stream(m);
    ps2_notify(&m->port);
}

/* ---- commands ---- */

static void forget_movement(struct ps2_mouse *m)
{
    m->dx = m->dy = m->dz = 0;
    ps2_queue_clear(&m->port.events);
}

static void defaults(struct ps2_mouse *m)
{
    m->rate = 100;
    m->old_rates[0] = m->old_rates[1] = 0;
    m->resolution = 2;
    m->scale_2_1 = m->remote = m->wrap = m->enabled = false;
    m->awaiting = 0;
    forget_movement(m);
}

/* [WHEEL]: rates 200, 100, 80 ask for the wheel, and 200, 200, 80 then for the side buttons. */
static void set_rate(struct ps2_mouse *m, u8 rate)
{
    if (rate == 80 && m->old_rates[0] == 100 && m->old_rates[1] == 200)
        m->id = ID_WHEEL;
    else if (rate == 80 && m->old_rates[0] == 200 && m->old_rates[1] == 200 && m->id == ID_WHEEL)
        m->id = ID_EXPLORER;
    m->old_rates[1] = m->old_rates[0];
    m->old_rates[0] = rate;
    m->rate = rate;
}

static void send_status(struct ps2_mouse *m)
{
    /* 0 remote enabled 2:1 0 L M R */
    u8 b = m->buttons;
    ps2_reply(&m->port, (m->remote ? 0x40 : 0) | (m->enabled ? 0x20 : 0) | (m->scale_2_1 ? 0x10 : 0) |
                            (b & PS2_MOUSE_LEFT ? 4 : 0) | (b & PS2_MOUSE_MIDDLE ? 2 : 0) |
                            (b & PS2_MOUSE_RIGHT ? 1 : 0));
    ps2_reply(&m->port, m->resolution);
    ps2_reply(&m->port, m->rate);
}

static void parameter(struct ps2_mouse *m, u8 command, u8 byte)
{
    if (command == CMD_RATE)
        set_rate(m, byte);
    else
        m->resolution = byte & 3;
    ps2_reply(&m->port, REPLY_ACK);
}

static void command(struct ps2_mouse *m, u8 byte)
{
    if (byte == CMD_RESEND) {
        ps2_reply(&m->port, m->port.last_sent);
        return;
    }
    if (byte < CMD_SCALE_1_1) {
        log_printf(LOG_GUEST_ERROR, "ps2_mouse: unknown command %#x\n", byte);
        ps2_reply(&m->port, REPLY_RESEND);
        return;
    }
    if (byte == CMD_RESET) ps2_queue_clear(&m->port.replies);
    ps2_reply(&m->port, REPLY_ACK);
    switch (byte) {
    case CMD_SCALE_1_1: m->scale_2_1 = false; break;
    case CMD_SCALE_2_1: m->scale_2_1 = true; break;
    case CMD_RESOLUTION:
    case CMD_RATE: m->awaiting = byte; break;
    case CMD_STATUS: send_status(m); break;
    case CMD_STREAM: m->remote = false; break;
    case CMD_READ: packet(m, &m->port.replies, false); break;
    case CMD_WRAP_OFF: m->wrap = false; break;
    case CMD_WRAP: m->wrap = true; break;
    case CMD_REMOTE:
        forget_movement(m);
        m->remote = true;
        break;
    case CMD_ID: ps2_reply(&m->port, m->id); break;
    case CMD_ENABLE: m->enabled = true; break;
    case CMD_DISABLE:
        m->enabled = false;
        forget_movement(m);
        break;
    case CMD_DEFAULT: defaults(m); break;
    case CMD_RESET:
        m->id = ID_STANDARD;
        defaults(m);
        ps2_reply(&m->port, REPLY_BAT);
        ps2_reply(&m->port, m->id);
        break;
    default: log_printf(LOG_GUEST_ERROR, "ps2_mouse: unknown command %#x\n", byte); break;
    }
}

static void receive(struct ps2_device *d, u8 byte)
{
    struct ps2_mouse *m = container_of(d, struct ps2_mouse, port);
    u8 awaiting = m->awaiting;
    m->awaiting = 0;
    if (m->wrap && byte != CMD_RESET && byte != CMD_WRAP_OFF)
        ps2_reply(&m->port, byte); /* [PS2MOUSE] "Set Wrap Mode" */
    else if (awaiting && byte < CMD_SCALE_1_1)
        parameter(m, awaiting, byte);
    else
        command(m, byte);
    stream(m);
    ps2_notify(d);
}

/* ---- the device ---- */

static void ps2_mouse_reset(struct device *d)
{
    struct ps2_mouse *m = container_of(d, struct ps2_mouse, port.dev);
    ps2_queue_clear(&m->port.replies);
    m->port.last_sent = 0;
    m->id = ID_STANDARD;
    defaults(m);
}

static void ps2_mouse_destroy(struct device *d)
{
    struct ps2_mouse *m = container_of(d, struct ps2_mouse, port.dev);
    if (m->input) input_remove(m->input, &m->source);
    free(m);
}

static const struct device_class ps2_mouse_class = {"ps2_mouse", ps2_mouse_reset, ps2_mouse_destroy};

static void pointer_event(void *opaque, const struct input_pointer *p)
{
    static const u8 bits[] = {[INPUT_BUTTON_left] = PS2_MOUSE_LEFT, [INPUT_BUTTON_middle] = PS2_MOUSE_MIDDLE,
                              [INPUT_BUTTON_right] = PS2_MOUSE_RIGHT, [INPUT_BUTTON_side] = PS2_MOUSE_SIDE,
                              [INPUT_BUTTON_extra] = PS2_MOUSE_EXTRA};
    u8 buttons = 0;
    for (size_t i = 0; i < ARRAY_LEN(bits); i++)
        if (p->buttons >> i & 1) buttons |= bits[i];
    ps2_mouse_event(opaque, p->dx, p->dy, p->wheel, buttons);
}

void ps2_mouse_connect(struct ps2_mouse *m, struct input *input)
{
    m->input = input;
    m->source = (struct input_device){
        .name = "PS/2 mouse", .takes = INPUT_TAKES_RELATIVE, .pointer = pointer_event, .opaque = m};
    input_add(input, &m->source);
}

struct ps2_device *ps2_mouse_port(struct ps2_mouse *m) { return &m->port; }
struct device *ps2_mouse_device(struct ps2_mouse *m) { return &m->port.dev; }

struct ps2_mouse *ps2_mouse_create(void)
{
    struct ps2_mouse *m = calloc(1, sizeof(*m));
    if (!m) {
        fprintf(stderr, "calque: ps2_mouse: out of memory\n");
        return NULL;
    }
    m->port.dev.cls = &ps2_mouse_class;
    m->port.receive = receive;
    ps2_mouse_reset(&m->port.dev);
    return m;
}
