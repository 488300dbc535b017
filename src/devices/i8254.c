/* The 8254 interval timer of the PC, with system control port B (0x61).
 *
 * Models all three channels in all six modes, binary and BCD, with latches, read-back and gates. A channel is
 * a state machine that is moved forward lazily, to the clock tick of each access and of each edge of OUT on
 * channel 0; every value a program can read is the one the chip would show at that tick.
 * The speaker itself is pcspk.c. Gates 0 and 1 are tied high, as on a PC.
 *
 * DEVIATION: edges on IRQ0 that would come faster than 100 kHz are coalesced. A read-back shows OUT exactly
 * all the same.
 *
 * [8254] Intel 82C54 CHMOS Programmable Interval Timer, 231244-006
 * [PIIX3] Intel 82371SB, 290550-002, section 2.5.5 (NMI status and control, port 0x61) */
#include "devices/i8254.h"

#include <stdio.h>
#include <stdlib.h>

#define MIN_TIMER_TICKS 12    /* no timer is armed closer than this: 10 us */
#define REFRESH_NS      15085 /* channel 1's usual period, 18 ticks: memory refresh requests */

/* Control word: SC1 SC0 RW1 RW0 M2 M1 M0 BCD */
enum { RW_LATCH, RW_LSB, RW_MSB, RW_BOTH };

struct channel {
    u8 control;        /* RW, mode and BCD as programmed (bits 5-0) */
    u8 mode;           /* 0 to 5 */
    u8 rw;             /* RW_LSB, RW_MSB, RW_BOTH */
    bool bcd;          /* counts in decimal */
    bool gate;         /* the GATE input */
    bool out;          /* the OUT pin */
    u64 tick;          /* the clock tick that this state belongs to */
    u32 ce;            /* counting element: 0 .. modulus - 1; what a read gives */
    u32 left;          /* clocks until the element expires: 1 .. modulus (mode 3: of this half) */
    u32 cr;            /* count register: 1 .. modulus */
    bool count_given;  /* a count was written since the control word */
    bool loaded;       /* the element was loaded since the control word */
    bool load_next;    /* the next clock loads the element */
    bool reload_new;   /* modes 2, 3: cr is newer than the running count */
    bool halted;       /* mode 0: the second byte of a count is awaited */
    bool armed;        /* modes 0, 1, 4, 5: reaching zero still has to move OUT */
    bool strobe;       /* modes 4, 5: OUT is low for this clock */
    u32 period;        /* modes 2, 3: the count that is running */
    bool null_count;   /* status bit 6: cr has not reached the element yet */
    bool write_msb;    /* RW_BOTH: the next byte written is the high one */
    u8 write_lsb;      /* the low byte while the high one is awaited */
    bool read_msb;     /* RW_BOTH: the next byte read is the high one */
    u8 latched;        /* bytes of latch still to read (0: not latched) */
    u16 latch;         /* output latch */
    bool status_valid; /* a status byte is latched */
    u8 status;         /* the status byte */
};

struct i8254 {
    struct device dev;         /* what the machine sees */
    struct channel ch[3];      /* the counters */
    struct clock *clock;       /* time source */
    struct timer *timer;       /* the next edge of channel 0's OUT */
    struct irq_line irq0;      /* channel 0's OUT */
    u8 port61;                 /* bits 3-0 of port 0x61 */
    struct region *regions[2]; /* 0x40-0x43, 0x61 */
    void (*changing)(void *);  /* i8254_on_speaker(); NULL: there is none */
    void (*changed)(void *);   /* likewise */
    void *speaker;             /* their argument */
};

static u64 ticks_now(const struct i8254 *p) { return muldiv64(clock_now(p->clock), I8254_HZ, NS_PER_SECOND); }

/* The first ns at which ticks_now() gives tick. */
static u64 tick_to_ns(u64 tick)
{
    return (u64)(((unsigned __int128)tick * NS_PER_SECOND + I8254_HZ - 1) / I8254_HZ);
}

/* ---- the counting element ---- */

static u32 modulus(const struct channel *c) { return c->bcd ? 10000 : 65536; }

static u16 to_format(const struct channel *c, u32 v)
{
    if (!c->bcd) return v;
    return v % 10 | (v / 10 % 10) << 4 | (v / 100 % 10) << 8 | (v / 1000 % 10) << 12;
}

static u32 from_format(const struct channel *c, u16 v)
{
    if (!c->bcd) return v;
    return (v & 15) + (v >> 4 & 15) * 10 + (v >> 8 & 15) * 100 + (v >> 12 & 15) * 1000;
}

static void set_out(struct i8254 *p, struct channel *c, bool level)
{
    if (c->out == level) return;
    c->out = level;
    if (c == &p->ch[0]) irq_set(&p->irq0, level);
}

/* Mode 3 counts by two, from the even number at or below the count. An odd count makes the high half one
 * clock longer than the low one [8254] "Mode 3: Square Wave Mode". */
static u32 half_period(const struct channel *c, bool high) { return (c->period + (high ? 1 : 0)) / 2; }

static void start_half(struct channel *c)
{
    c->left = half_period(c, c->out);
    if (!c->left) c->left = 1; /* a count of 1, which is illegal: toggles each clock */
    c->ce = (c->period & ~1u) % modulus(c);
}

/* The clock pulse that moves cr into the element. */
static void load(struct i8254 *p, struct channel *c)
{
    c->load_next = false;
    c->reload_new = false;
    c->null_count = false;
    c->loaded = true;
    c->armed = true;
    c->strobe = false;
    c->period = c->cr;
    c->left = c->cr;
    c->ce = c->cr % modulus(c);
    switch (c->mode) {
    case 0:
    case 1: set_out(p, c, false); break;
    case 3: set_out(p, c, true), start_half(c); break;
    default: set_out(p, c, true); break;
    }
}

/* Does the element count at all? */
static bool counting(const struct channel *c)
{
    if (!c->loaded || c->halted) return false;
    /* [8254] "Gate Pin Operations Summary": in modes 1 and 5 only the gate's edge counts. */
    return c->gate || c->mode == 1 || c->mode == 5;
}

/* Clocks until something happens to the element or OUT (never, without new writes: UINT64_MAX). */
static u64 next_event(const struct channel *c)
{
    if (c->load_next || c->strobe) return 1;
    if (!counting(c)) return UINT64_MAX;
    switch (c->mode) {
    case 2: return c->left > 1 ? c->left - 1 : 1; /* OUT falls at 1, and rises with the reload */
    case 3: return c->left;
    default: return c->armed ? c->left : UINT64_MAX;
    }
}

static void count_down(struct channel *c, u64 n)
{
    u32 mod = modulus(c);
    if (c->mode == 3) {
        c->left -= n;
        /* The value falls by two each clock, except that the high half of an odd count has one clock at 0. */
        c->ce = (c->ce + mod - (u32)(2 * n)) % mod;
        return;
    }
    u32 step = n % mod;
    c->ce = (c->ce + mod - step) % mod;
    c->left = c->ce ? c->ce : mod;
}

/* The single clock at which next_event() ends. */
static void event(struct i8254 *p, struct channel *c)
{
    if (c->load_next) {
        load(p, c);
        return;
    }
    if (c->strobe) {
        c->strobe = false;
        set_out(p, c, true);
        if (counting(c)) count_down(c, 1);
        return;
    }
    switch (c->mode) {
    case 0:
    case 1:
        count_down(c, 1);
        c->armed = false;
        set_out(p, c, true);
        break;
    case 2:
        if (c->left > 1) {
            count_down(c, 1);
        } else {
            load(p, c); /* the end of the low clock reloads, from a new count if there is one */
            if (c->period == 1) set_out(p, c, false);
        }
        if (c->left == 1) set_out(p, c, false);
        break;
    case 3:
        if (c->reload_new) {
            c->reload_new = false;
            c->null_count = false;
            c->period = c->cr;
        }
        set_out(p, c, !c->out);
        start_half(c);
        break;
    default: /* 4, 5 */
        count_down(c, 1);
        c->armed = false;
        c->strobe = true;
        set_out(p, c, false);
        break;
    }
}

/* Move a channel forward to a tick, with all the edges on the way. */
static void sync_to(struct i8254 *p, struct channel *c, u64 tick)
{
    while (c->tick < tick) {
        u64 n = tick - c->tick;
        u64 k = next_event(c);
        if (n < k) {
            if (counting(c)) count_down(c, n);
            c->tick = tick;
            return;
        }
        if (k > 1 && counting(c)) count_down(c, k - 1);
        c->tick += k;
        event(p, c);
        /* Whole periods change nothing; their edges would come one on top of the other. */
        if (!counting(c) || c->load_next) continue;
        u32 whole = c->mode == 3 ? MAX(c->period, 2) : c->period; /* a square wave of 1 takes 2 */
        if (c->out && (c->mode == 3 || (c->mode == 2 && c->left == c->period)))
            c->tick += (tick - c->tick) / whole * whole;
        else if (c->mode == 2 && c->period == 1)
            c->tick = tick;
    }
}

static void sync(struct i8254 *p, struct channel *c) { sync_to(p, c, ticks_now(p)); }

/* ---- the interrupt ---- */

static void rearm(struct i8254 *p)
{
    struct channel *c = &p->ch[0];
    u64 k = next_event(c);
    if (k == UINT64_MAX) {
        timer_cancel(p->timer);
        return;
    }
    if (c->load_next) {
        /* Loading does not move OUT of a channel whose gate is tied high: look past it. */
        k += c->mode == 2 ? c->cr - 1 : c->mode == 3 ? (c->cr + 1) / 2 : c->cr;
    }
    bool fast = (c->mode == 2 || c->mode == 3) && c->loaded && c->period < MIN_TIMER_TICKS;
    timer_arm(p->timer, tick_to_ns(c->tick + (fast ? MIN_TIMER_TICKS : k)));
}

static void out0_event(void *opaque)
{
    struct i8254 *p = opaque;
    sync(p, &p->ch[0]);
    rearm(p);
}

/* ---- the speaker ---- */

static void speaker_changing(struct i8254 *p)
{
    if (p->changing) p->changing(p->speaker);
}

static void speaker_changed(struct i8254 *p)
{
    if (p->changed) p->changed(p->speaker);
}

void i8254_on_speaker(struct i8254 *p, void (*changing)(void *opaque), void (*changed)(void *opaque), void *opaque)
{
    p->changing = changing;
    p->changed = changed;
    p->speaker = opaque;
}

bool i8254_speaker_on(const struct i8254 *p) { return p->port61 & 2; }

bool i8254_speaker_level(struct i8254 *p, u64 ns)
{
    sync_to(p, &p->ch[2], muldiv64(ns, I8254_HZ, NS_PER_SECOND));
    return p->ch[2].out && (p->port61 & 2);
}

/* ---- registers ---- */

static void set_gate(struct i8254 *p, struct channel *c, bool gate)
{
    bool rising = gate && !c->gate;
    bool falling = !gate && c->gate;
    if (!rising && !falling) return;
    sync(p, c);
    c->gate = gate;
    /* [8254] "Gate Pin Operations Summary" */
    if (falling && (c->mode == 2 || c->mode == 3)) set_out(p, c, true);
    if (rising && c->count_given && c->mode != 0 && c->mode != 4) c->load_next = true;
}

static void latch_count(struct channel *c)
{
    if (c->latched) return; /* [8254] "Counter Latch Command": the first latch stays until it is read */
    c->latch = to_format(c, c->ce);
    c->latched = c->rw == RW_BOTH ? 2 : 1;
    c->read_msb = false;
}

static void latch_status(struct channel *c)
{
    if (c->status_valid) return;
    c->status = (c->out ? 0x80 : 0) | (c->null_count ? 0x40 : 0) | c->control;
    c->status_valid = true;
}

static void write_control(struct i8254 *p, u8 value)
{
    unsigned select = value >> 6;
    if (select == 3) { /* read-back */
        for (unsigned i = 0; i < 3; i++) {
            if (!(value & (2 << i))) continue;
            struct channel *c = &p->ch[i];
            sync(p, c);
            if (!(value & 0x20)) latch_count(c);
            if (!(value & 0x10)) latch_status(c);
        }
        return;
    }
    struct channel *c = &p->ch[select];
    sync(p, c);
    if ((value >> 4 & 3) == RW_LATCH) {
        latch_count(c);
        return;
    }
    c->control = value & 0x3f;
    c->rw = value >> 4 & 3;
    c->mode = value >> 1 & 7;
    if (c->mode > 5) c->mode -= 4; /* M2 does not matter in modes 2 and 3 */
    c->bcd = value & 1;
    c->ce %= modulus(c);
    c->count_given = c->loaded = c->load_next = c->reload_new = c->halted = c->armed = c->strobe = false;
    c->null_count = true;
    c->write_msb = c->read_msb = false;
    c->latched = 0;
    c->status_valid = false;
    set_out(p, c, c->mode != 0);
}

static void write_count(struct i8254 *p, struct channel *c, u16 value)
{
    c->cr = from_format(c, value) % modulus(c);
    if (!c->cr) c->cr = modulus(c);
    c->null_count = true;
    bool first = !c->count_given;
    c->count_given = true;
    switch (c->mode) {
    case 0:
        set_out(p, c, false);
        c->halted = false;
        c->load_next = true;
        break;
    case 4: c->load_next = true; break;
    case 2:
    case 3:
        /* Between a trigger and its clock pulse the new count is what gets loaded. */
        if (first)
            c->load_next = true;
        else if (!c->load_next)
            c->reload_new = true;
        break;
    default: break; /* 1, 5: loaded by the next trigger */
    }
}

static void write_counter(struct i8254 *p, struct channel *c, u8 value)
{
    sync(p, c);
    if (c->rw == RW_LSB) {
        write_count(p, c, value);
    } else if (c->rw == RW_MSB) {
        write_count(p, c, value << 8);
    } else if (!c->write_msb) {
        c->write_lsb = value;
        c->write_msb = true;
        if (c->mode == 0) { /* [8254] "Mode 0": the first byte stops the counter, OUT falls at once */
            c->halted = true;
            c->load_next = false;
            set_out(p, c, false);
        }
    } else {
        c->write_msb = false;
        write_count(p, c, value << 8 | c->write_lsb);
    }
}

static u8 read_counter(struct i8254 *p, struct channel *c)
{
    if (c->status_valid) {
        c->status_valid = false;
        return c->status;
    }
    u16 value;
    if (c->latched) {
        c->latched--;
        value = c->latch;
    } else {
        sync(p, c);
        value = to_format(c, c->ce);
    }
    if (c->rw == RW_LSB) return value;
    if (c->rw == RW_MSB) return value >> 8;
    c->read_msb = !c->read_msb;
    return c->read_msb ? value : value >> 8;
}

static u64 counters_read(void *opaque, u64 offset, unsigned size)
{
    struct i8254 *p = opaque;
    (void)size;
    if (offset == 3) return 0xff; /* the control register cannot be read */
    if (offset == 2) speaker_changing(p);
    u8 value = read_counter(p, &p->ch[offset]);
    if (offset == 0) rearm(p);
    return value;
}

static void counters_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct i8254 *p = opaque;
    (void)size;
    if (offset >= 2) speaker_changing(p);
    if (offset == 3)
        write_control(p, value);
    else
        write_counter(p, &p->ch[offset], value);
    if (offset >= 2) speaker_changed(p);
    rearm(p);
}

/* Port 0x61 [PIIX3] 2.5.5: 5 OUT2, 4 refresh toggle, 3 IOCHK# NMI off, 2 SERR# NMI off, 1 speaker, 0 gate 2
 */
static u64 port61_read(void *opaque, u64 offset, unsigned size)
{
    struct i8254 *p = opaque;
    (void)offset, (void)size;
    speaker_changing(p);
    sync(p, &p->ch[2]);
    u8 refresh = (clock_now(p->clock) / REFRESH_NS & 1) << 4;
    return p->port61 | refresh | (p->ch[2].out ? 0x20 : 0);
}

static void port61_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct i8254 *p = opaque;
    (void)offset, (void)size;
    speaker_changing(p);
    p->port61 = value & 0x0f;
    set_gate(p, &p->ch[2], value & 1);
    speaker_changed(p);
}

static const struct region_ops counters_ops = {counters_read, counters_write, 1, 1};
static const struct region_ops port61_ops = {port61_read, port61_write, 1, 1};

/* ---- the device ---- */

static void i8254_reset(struct device *d)
{
    struct i8254 *p = container_of(d, struct i8254, dev);
    u64 now = ticks_now(p);
    speaker_changing(p);
    timer_cancel(p->timer);
    set_out(p, &p->ch[0], false);
    for (int i = 0; i < 3; i++) {
        /* The chip powers up undefined. Firmware finds mode 0 without a count, and OUT low. */
        p->ch[i] = (struct channel){.control = RW_BOTH << 4,
                                    .rw = RW_BOTH,
                                    .gate = i != 2,
                                    .tick = now,
                                    .null_count = true,
                                    .cr = 65536};
    }
    p->port61 = 0;
    speaker_changed(p);
}

static void i8254_destroy(struct device *d)
{
    struct i8254 *p = container_of(d, struct i8254, dev);
    for (size_t i = 0; i < ARRAY_LEN(p->regions); i++)
        if (p->regions[i]) region_remove(p->regions[i]);
    timer_destroy(p->timer);
    free(p);
}

static const struct device_class i8254_class = {"i8254", i8254_reset, i8254_destroy};

struct device *i8254_device(struct i8254 *p) { return &p->dev; }

struct i8254 *i8254_create(struct bus *ports, struct irq_line irq0, struct clock *clock)
{
    struct i8254 *p = calloc(1, sizeof(*p));
    if (!p) {
        fprintf(stderr, "calque: i8254: out of memory\n");
        return NULL;
    }
    p->dev.cls = &i8254_class;
    p->clock = clock;
    p->irq0 = irq0;
    p->timer = timer_create_on(clock, out0_event, p);
    p->regions[0] = bus_add(ports, "i8254", 0x40, 4, 0, &counters_ops, p);
    p->regions[1] = bus_add(ports, "port61", 0x61, 1, 0, &port61_ops, p);
    i8254_reset(&p->dev);
    return p;
}
