/* The input router: which device gets an event, and the queue of keys in front of the keyboard. */
#include "core/input.h"

#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE   512
#define QUEUE_KEEP   64      /* places that only releases may take: a key must not stay down */
#define RETRY_NS     5000000 /* until the keyboard is asked again for room */
#define MAX_TOGETHER 16      /* keys of one input_send_keys() */

/* ---- the table ---- */

static const struct {
    const char *name;      /* QKeyCode */
    u16 set1;              /* PS/2 set 1, 0: none */
    u8 hid;                /* usage, 0: none */
    u32 keysym, shifted;   /* without and with shift, 0: none */
} keys[INPUT_KEY_COUNT] = {
    {"unmapped", 0, 0, 0, 0},
#define INPUT_KEY(name, set1, hid, keysym, shifted) {#name, set1, hid, keysym, shifted},
#include "core/input_keys.def"
#undef INPUT_KEY
};

const char *input_key_name(enum input_key key) { return keys[(unsigned)key < INPUT_KEY_COUNT ? key : 0].name; }
u16 input_key_set1(enum input_key key) { return keys[key].set1; }
u8 input_key_hid(enum input_key key) { return keys[key].hid; }

enum input_key input_key_by_name(const char *name)
{
    for (enum input_key k = 1; k < INPUT_KEY_COUNT; k++)
        if (!strcmp(keys[k].name, name)) return k;
    return INPUT_KEY_unmapped;
}

enum input_key input_key_by_set1(u16 code)
{
    if (code > 0x80 && code < 0x100) code = (u16)(0xe000 | (code & 0x7f));
    for (enum input_key k = 1; code && k < INPUT_KEY_COUNT; k++)
        if (keys[k].set1 == code) return k;
    return INPUT_KEY_unmapped;
}

enum input_key input_key_by_hid(u8 usage)
{
    if (usage == 0x46) return INPUT_KEY_print; /* not sysrq, which shares the usage */
    for (enum input_key k = 1; usage && k < INPUT_KEY_COUNT; k++)
        if (keys[k].hid == usage) return k;
    return INPUT_KEY_unmapped;
}

enum input_key input_key_by_keysym(u32 keysym, bool *shifted)
{
    if (shifted) *shifted = false;
    for (enum input_key k = 1; keysym && k < INPUT_KEY_COUNT; k++) {
        if (keys[k].keysym == keysym) return k;
        if (keys[k].shifted != keysym) continue;
        /* The other columns of keypad and modifiers come from num lock and the client's layout. */
        if (shifted) *shifted = keysym < 0x100;
        return k;
    }
    return INPUT_KEY_unmapped;
}

enum input_button input_button_by_name(const char *name)
{
    static const char *const names[INPUT_BUTTON_COUNT] = {"left",       "middle",     "right",      "side", "extra",
                                                          "wheel-up", "wheel-down", "wheel-left", "wheel-right"};
    enum input_button b = 0;
    while (b < INPUT_BUTTON_COUNT && strcmp(names[b], name)) b++;
    return b;
}

/* ---- the router ---- */

struct queued {
    enum input_key key; /* or INPUT_KEY_unmapped: a pause */
    bool down;          /* pressed */
    u64 delay_ns;       /* of a pause */
};

struct input {
    struct clock *clock;              /* for pauses and retries */
    struct timer *timer;              /* when the queue goes on */
    struct input_device *devices;     /* who gets events, first one first */
    struct queued queue[QUEUE_SIZE];  /* ring of keys */
    unsigned head, used;              /* its first entry and number of entries */
    bool pausing;                     /* the timer ends a pause of the queue's */
    bool down[INPUT_KEY_COUNT];       /* keys down, as of the end of the queue */
    struct input_pointer pointer;     /* collected since the last report */
    bool moved;                       /* there is something to report */
    u8 leds;                          /* input_set_leds() */
};

static struct input_device *find(const struct input *in, unsigned takes)
{
    struct input_device *d = in->devices;
    while (d && !(d->takes & takes)) d = d->next;
    return d;
}

const struct input_device *input_current(const struct input *in, unsigned takes) { return find(in, takes); }
const struct input_device *input_devices(const struct input *in) { return in->devices; }

static bool room(const struct input *in)
{
    const struct input_device *d = find(in, INPUT_TAKES_KEYS);
    return !d || !d->room || d->room(d->opaque);
}

/* Hand on what there is room for. */
static void run_queue(void *opaque)
{
    struct input *in = opaque;
    in->pausing = false;
    while (in->used && room(in)) {
        struct queued q = in->queue[in->head];
        in->head = (in->head + 1) % QUEUE_SIZE;
        in->used--;
        if (q.key == INPUT_KEY_unmapped) {
            in->pausing = true;
            timer_arm(in->timer, clock_now(in->clock) + q.delay_ns);
            return;
        }
        struct input_device *d = find(in, INPUT_TAKES_KEYS);
        if (d) d->key(d->opaque, q.key, q.down);
    }
    if (in->used) timer_arm(in->timer, clock_now(in->clock) + RETRY_NS);
}

static void enqueue(struct input *in, struct queued q)
{
    if (in->used >= QUEUE_SIZE - (q.down ? QUEUE_KEEP : 0)) return;
    if (q.key != INPUT_KEY_unmapped) in->down[q.key] = q.down;
    in->queue[(in->head + in->used++) % QUEUE_SIZE] = q;
}

struct input *input_create(struct clock *clock)
{
    struct input *in = calloc(1, sizeof(*in));
    if (!in || !(in->timer = timer_create_on(clock, run_queue, in))) {
        free(in);
        return NULL;
    }
    in->clock = clock;
    return in;
}

void input_destroy(struct input *in)
{
    if (!in) return;
    timer_destroy(in->timer);
    free(in);
}

void input_remove(struct input *in, struct input_device *d)
{
    struct input_device **at = &in->devices;
    while (*at && *at != d) at = &(*at)->next;
    if (*at) *at = d->next;
}

void input_add(struct input *in, struct input_device *d)
{
    struct input_device **end = &in->devices;
    while (*end) end = &(*end)->next;
    *end = d;
    d->next = NULL;
}

void input_activate(struct input *in, struct input_device *d)
{
    if (d->active && in->devices == d) return;
    d->active = true;
    input_remove(in, d);
    d->next = in->devices;
    in->devices = d;
}

void input_deactivate(struct input *in, struct input_device *d)
{
    d->active = false;
    input_remove(in, d);
    input_add(in, d);
}

void input_set_leds(struct input *in, u8 leds) { in->leds = leds; }
u8 input_leds(const struct input *in) { return in->leds; }

/* ---- keys ---- */

void input_key(struct input *in, enum input_key key, bool down)
{
    if (key == INPUT_KEY_unmapped || (unsigned)key >= INPUT_KEY_COUNT) return;
    enqueue(in, (struct queued){.key = key, .down = down});
    if (!in->pausing) run_queue(in);
}

void input_send_keys(struct input *in, const enum input_key *list, size_t count, u64 hold_ms)
{
    count = MIN(count, (size_t)MAX_TOGETHER);
    if (in->used + 2 * count + 2 > QUEUE_SIZE - QUEUE_KEEP) return;
    struct queued hold = {.delay_ns = MIN(hold_ms, 60000u) * 1000000u};
    for (size_t i = 0; i < count; i++)
        if (list[i] != INPUT_KEY_unmapped) enqueue(in, (struct queued){.key = list[i], .down = true});
    enqueue(in, hold);
    for (size_t i = count; i-- > 0;)
        if (list[i] != INPUT_KEY_unmapped) enqueue(in, (struct queued){.key = list[i], .down = false});
    enqueue(in, hold); /* a key pressed again is another key stroke */
    if (!in->pausing) run_queue(in);
}

bool input_key_is_down(const struct input *in, enum input_key key) { return in->down[key]; }

void input_release_all(struct input *in)
{
    for (enum input_key k = 1; k < INPUT_KEY_COUNT; k++)
        if (in->down[k]) input_key(in, k, false);
    in->moved |= in->pointer.buttons != 0;
    in->pointer.buttons = 0;
    input_sync(in);
}

/* ---- pointers ---- */

/* Active ones come first in the list. */
bool input_is_absolute(const struct input *in)
{
    const struct input_device *d = find(in, INPUT_TAKES_ABSOLUTE);
    return d && (d->active || !find(in, INPUT_TAKES_RELATIVE));
}

void input_move_to(struct input *in, int x, int y)
{
    in->pointer.x = MIN(MAX(x, 0), INPUT_ABS_MAX);
    in->pointer.y = MIN(MAX(y, 0), INPUT_ABS_MAX);
    in->moved = true;
}

void input_position(const struct input *in, int *x, int *y)
{
    *x = in->pointer.x;
    *y = in->pointer.y;
}

void input_move_by(struct input *in, int dx, int dy)
{
    /* More than a screen in one go is as good as a screen. */
    in->pointer.dx += MIN(MAX(dx, -INPUT_ABS_MAX), INPUT_ABS_MAX);
    in->pointer.dy += MIN(MAX(dy, -INPUT_ABS_MAX), INPUT_ABS_MAX);
    in->moved = true;
}

void input_button(struct input *in, enum input_button button, bool down)
{
    struct input_pointer *p = &in->pointer;
    if (button <= INPUT_BUTTON_extra) p->buttons = (p->buttons & ~(1u << button)) | (u32)down << button;
    else if (!down) return;
    else if (button == INPUT_BUTTON_wheel_up) p->wheel--;
    else if (button == INPUT_BUTTON_wheel_down) p->wheel++;
    else if (button == INPUT_BUTTON_wheel_left) p->hwheel--;
    else if (button == INPUT_BUTTON_wheel_right) p->hwheel++;
    in->moved = true;
}

void input_sync(struct input *in)
{
    if (!in->moved) return;
    struct input_pointer *p = &in->pointer;
    /* Movements to a place go to an absolute device; without any, or for movements by an amount, the mouse. */
    bool place = !p->dx && !p->dy && input_is_absolute(in);
    struct input_device *d = find(in, place ? INPUT_TAKES_ABSOLUTE : INPUT_TAKES_RELATIVE);
    if (!d) d = find(in, INPUT_TAKES_ABSOLUTE);
    if (d) d->pointer(d->opaque, p);
    p->dx = p->dy = p->wheel = p->hwheel = 0;
    in->moved = false;
}
