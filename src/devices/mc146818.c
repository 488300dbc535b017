/* The MC146818 real-time clock of the PC with 128 bytes of CMOS memory.
 *
 * Models the time and calendar registers in both formats, SET, the divider chain, update cycles with UIP, the
 * alarm, periodic and update-ended interrupts, and the century byte at 0x32. The registers are the counters,
 * as in the chip: they are carried forward lazily, by the update cycles that have passed at each access. The
 * divider chain is a 32,768 Hz count from a base time; updates and periodic events are multiples on it. A battery keeps
 * the chip going: when the wall clock is stepped, or has gone on while guest time stood still, the chain and the registers
 * are moved by as much. Memory, and the time, survive a reset; there is no file for them. The square wave pin leads nowhere.
 *
 * DEVIATION: when DM or 24/12 change, the registers are converted to the new format, where the chip asks the
 * program to write them anew; a program that follows the data sheet sees no difference.
 * DEVIATION: the divider settings for 4 MHz and 1 MHz crystals run at the right speed.
 *
 * [MC146818] Motorola MC146818A data sheet
 * [PIIX3] Intel 82371SB, 290550-002, section 2.5.7 (port 0x70) */
#include "devices/mc146818.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

enum {
    REG_SECONDS,
    REG_SECONDS_ALARM,
    REG_MINUTES,
    REG_MINUTES_ALARM,
    REG_HOURS,
    REG_HOURS_ALARM,
    REG_WEEKDAY,
    REG_DAY,
    REG_MONTH,
    REG_YEAR,
    REG_A, /* UIP DV2-0 RS3-0 */
    REG_B, /* SET PIE AIE UIE SQWE DM 24/12 DSE */
    REG_C, /* IRQF PF AF UF 0000 */
    REG_D, /* VRT 0000000 */
    REG_CENTURY = 0x32,
};

#define A_UIP     0x80
#define B_SET     0x80
#define B_PIE     0x40
#define B_AIE     0x20
#define B_UIE     0x10
#define B_SQWE    0x08
#define B_DM      0x04
#define B_24      0x02
#define B_DSE     0x01
#define C_IRQF    0x80
#define C_PF      0x40
#define C_AF      0x20
#define C_UF      0x10
#define D_VRT     0x80
#define ALARM_ANY 0xc0 /* alarm bytes from 0xc0 up match everything */

#define CRYSTAL_HZ 32768
#define UPDATE_NS                                                                                            \
    2228000 /* UIP is set 244 us before an update cycle, which takes 1984 us [MC146818] "Update Cycle" */

#define STEP_NS 50000000 /* differences of clocks below this are not followed */

struct mc146818 {
    struct device dev;          /* what the machine sees */
    struct clock *clock;        /* time source */
    struct timer *update_timer; /* the next update, while it can interrupt */
    struct timer *period_timer; /* the next periodic event, while it can interrupt */
    struct irq_line irq;        /* IRQ8 */
    void (*set)(void *, s64);   /* mc146818_on_set(); NULL: nobody asks */
    void *set_opaque;           /* its first argument */
    struct region *region;      /* ports 0x70, 0x71 */
    u8 index;                   /* last write to port 0x70, bit 7: NMI masked */
    u8 reg[128];                /* registers A to D and memory; the time as of update number `updates` */
    u64 divider_base;           /* time at which the divider chain stood at 0, ns; may lie ahead (wraps) */
    u64 updates;                /* update cycles of the divider chain accounted for */
    u64 periods;                /* periodic events of the divider chain accounted for */
    s64 wall_lead;              /* clock_wall_lead() that the registers have followed */
    bool slew;                  /* make up for lost periodic events */
    u64 lost;                   /* slew: events to make up for */
    bool fell_back;             /* daylight saving: this night's hour was repeated */
};

/* ---- formats ---- */

static u8 encode(const struct mc146818 *r, unsigned v)
{
    return r->reg[REG_B] & B_DM ? v : (v / 10 << 4 | v % 10);
}

static unsigned decode(const struct mc146818 *r, u8 v)
{
    return r->reg[REG_B] & B_DM ? v : (v >> 4) * 10u + (v & 15);
}

static u8 encode_hour(const struct mc146818 *r, unsigned hour)
{
    if (r->reg[REG_B] & B_24) return encode(r, hour);
    return encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? 0x80 : 0);
}

static unsigned decode_hour(const struct mc146818 *r, u8 v)
{
    if (r->reg[REG_B] & B_24) return decode(r, v);
    return decode(r, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

/* Days since 1970-01-01 of a date in the Gregorian calendar; month 1 to 12. */
static s64 days_from_date(s64 year, unsigned month, unsigned day)
{
    year -= month <= 2;
    s64 era = (year >= 0 ? year : year - 399) / 400;
    unsigned yoe = year - era * 400;
    unsigned doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + (s64)(yoe * 365 + yoe / 4 - yoe / 100 + doy) - 719468;
}

static void date_from_days(s64 days, s64 *year, unsigned *month, unsigned *day)
{
    days += 719468;
    s64 era = (days >= 0 ? days : days - 146096) / 146097;
    unsigned doe = days - era * 146097;
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned mp = (5 * doy + 2) / 153;
    *day = doy - (153 * mp + 2) / 5 + 1;
    *month = mp < 10 ? mp + 3 : mp - 9;
    *year = (s64)yoe + era * 400 + (*month <= 2);
}

static s64 time_of_day(const struct mc146818 *r)
{
    return decode_hour(r, r->reg[REG_HOURS]) * 3600 + decode(r, r->reg[REG_MINUTES]) * 60 +
           decode(r, r->reg[REG_SECONDS]);
}

static void set_time_of_day(struct mc146818 *r, unsigned t)
{
    r->reg[REG_HOURS] = encode_hour(r, t / 3600);
    r->reg[REG_MINUTES] = encode(r, t / 60 % 60);
    r->reg[REG_SECONDS] = encode(r, t % 60);
}

static s64 date(const struct mc146818 *r)
{
    unsigned month = decode(r, r->reg[REG_MONTH]);
    if (month < 1 || month > 12) month = 1; /* nonsense in the register: any date does */
    return days_from_date(decode(r, r->reg[REG_CENTURY]) * 100 + decode(r, r->reg[REG_YEAR]), month,
                          decode(r, r->reg[REG_DAY]));
}

static void set_date(struct mc146818 *r, s64 days)
{
    s64 year;
    unsigned month, day;
    date_from_days(days, &year, &month, &day);
    r->reg[REG_CENTURY] = encode(r, year / 100 % 100);
    r->reg[REG_YEAR] = encode(r, year % 100);
    r->reg[REG_MONTH] = encode(r, month);
    r->reg[REG_DAY] = encode(r, day);
}

/* ---- the divider chain ---- */

/* [MC146818] "Divider Control": 11x holds the divider in reset, the others from 011 are test modes. */
static bool divider_runs(const struct mc146818 *r) { return (r->reg[REG_A] & 0x70) <= 0x20; }

static bool updating(const struct mc146818 *r) { return divider_runs(r) && !(r->reg[REG_B] & B_SET); }

/* Crystal ticks per periodic event; 0 for none [MC146818] table 5. */
static u32 period_ticks(const struct mc146818 *r)
{
    unsigned rs = r->reg[REG_A] & 15;
    if (!rs || !divider_runs(r)) return 0;
    return 1u << ((rs <= 2 ? rs + 7 : rs) - 1);
}

/* ns since the divider chain stood at 0. A chain released from reset has half a second done already, so
 * the base never lies ahead of now by more than rounding. */
static u64 divider_ns(const struct mc146818 *r) { return clock_now(r->clock) - r->divider_base; }

static u64 update_number(const struct mc146818 *r) { return divider_ns(r) / NS_PER_SECOND; }

static u64 period_number(const struct mc146818 *r, u32 ticks)
{
    return muldiv64(divider_ns(r), CRYSTAL_HZ, NS_PER_SECOND) / ticks;
}

static bool alarm_matches(const struct mc146818 *r, u8 alarm, unsigned value, bool hour)
{
    if ((alarm & ALARM_ANY) == ALARM_ANY) return true;
    return (hour ? decode_hour(r, alarm) : decode(r, alarm)) == value;
}

/* Does the alarm go off in one of the n seconds after time of day t? */
static bool alarm_within(const struct mc146818 *r, s64 t, u64 n)
{
    for (u64 i = 0; i < MIN(n, 86400); i++) {
        t = (t + 1) % 86400;
        if (alarm_matches(r, r->reg[REG_SECONDS_ALARM], t % 60, false) &&
            alarm_matches(r, r->reg[REG_MINUTES_ALARM], t / 60 % 60, false) &&
            alarm_matches(r, r->reg[REG_HOURS_ALARM], t / 3600, true))
            return true;
    }
    return false;
}

static void move(struct mc146818 *r, s64 seconds)
{
    s64 total = time_of_day(r) + seconds;
    s64 days = (total >= 0 ? total : total - 86399) / 86400;
    set_time_of_day(r, (unsigned)(total - days * 86400));
    if (!days) return;
    r->reg[REG_WEEKDAY] = encode(r, (unsigned)(((decode(r, r->reg[REG_WEEKDAY]) - 1 + days) % 7 + 7) % 7 + 1));
    set_date(r, date(r) + days);
}

/* It has become two o'clock. [MC146818] "DSE": on the last Sunday in April it is three at once, on the last Sunday in
 * October it is one again, one time. */
static void save_daylight(struct mc146818 *r)
{
    unsigned month = decode(r, r->reg[REG_MONTH]), day = decode(r, r->reg[REG_DAY]);
    bool sunday = decode(r, r->reg[REG_WEEKDAY]) == 1, back = sunday && month == 10 && day > 24 && !r->fell_back;
    if (sunday && month == 4 && day > 23) move(r, 3600);
    if (back) move(r, -3600);
    r->fell_back = back;
}

/* n update cycles. */
static void advance(struct mc146818 *r, u64 n)
{
    r->reg[REG_C] |= C_UF;
    while (n) {
        s64 t = time_of_day(r);
        u64 step = r->reg[REG_B] & B_DSE ? MIN(n, (u64)(t < 7200 ? 7200 - t : 86400 - t)) : n;
        if (!(r->reg[REG_C] & C_AF) && alarm_within(r, t, step)) r->reg[REG_C] |= C_AF;
        move(r, (s64)step);
        if (r->reg[REG_B] & B_DSE && t < 7200 && t + (s64)step == 7200) save_daylight(r);
        n -= step;
    }
}

static void update_irq(struct mc146818 *r)
{
    bool on = r->reg[REG_C] & r->reg[REG_B] & (C_PF | C_AF | C_UF);
    if (on)
        r->reg[REG_C] |= C_IRQF;
    else
        r->reg[REG_C] &= ~C_IRQF;
    irq_set(&r->irq, on);
}

static void rearm(struct mc146818 *r)
{
    u8 b = r->reg[REG_B];
    if (updating(r) && (b & (B_UIE | B_AIE)))
        timer_arm(r->update_timer, r->divider_base + (r->updates + 1) * NS_PER_SECOND);
    else
        timer_cancel(r->update_timer);
    u32 ticks = period_ticks(r);
    /* With PF set nothing can be added to the interrupt; it is seen again after C is read. */
    if (ticks && (b & B_PIE) && !(r->reg[REG_C] & C_PF)) {
        unsigned __int128 at = (unsigned __int128)(r->periods + 1) * ticks * NS_PER_SECOND;
        u64 deadline = r->divider_base + (u64)((at + CRYSTAL_HZ - 1) / CRYSTAL_HZ);
        /* What was lost comes in between, so that the guest catches up at about twice the rate. */
        if (r->lost) deadline = MIN(deadline, clock_now(r->clock) + muldiv64(ticks, NS_PER_SECOND / 2, CRYSTAL_HZ));
        timer_arm(r->period_timer, deadline);
    } else {
        timer_cancel(r->period_timer);
    }
}

static void sync_updates(struct mc146818 *r)
{
    if (!updating(r)) return;
    u64 number = update_number(r);
    if (number > r->updates) advance(r, number - r->updates);
    r->updates = number;
}

/* The wall clock may have been stepped, or gone on without guest time. */
static void follow_wall(struct mc146818 *r)
{
    s64 lead = clock_wall_lead(r->clock), step = lead - r->wall_lead;
    if (step > -STEP_NS && step < STEP_NS) return;
    r->wall_lead = lead;
    if (step < 0) {
        s64 seconds = (step - (s64)NS_PER_SECOND + 1) / (s64)NS_PER_SECOND;
        if (updating(r)) move(r, seconds);
        step -= seconds * (s64)NS_PER_SECOND;
    }
    r->divider_base -= (u64)step;
    u32 ticks = period_ticks(r);
    r->periods = ticks ? period_number(r, ticks) : 0; /* periodic events of that time happened to nobody */
    sync_updates(r);
    rearm(r);
}

/* Account for all that has happened until now. */
static void sync(struct mc146818 *r)
{
    sync_updates(r);
    u32 ticks = period_ticks(r);
    if (ticks) {
        u64 number = period_number(r, ticks);
        if (number > r->periods) {
            if (r->slew && r->reg[REG_B] & B_PIE) r->lost += number - r->periods - !(r->reg[REG_C] & C_PF);
            r->reg[REG_C] |= C_PF;
        }
        r->periods = number;
    }
    follow_wall(r);
}

/* The settings may have changed: count from now on. */
static void restart(struct mc146818 *r)
{
    r->updates = divider_runs(r) ? update_number(r) : 0;
    u32 ticks = period_ticks(r);
    r->periods = ticks ? period_number(r, ticks) : 0;
}

static void update_fired(void *opaque)
{
    struct mc146818 *r = opaque;
    sync(r);
    update_irq(r);
    rearm(r);
}

static void period_fired(void *opaque)
{
    struct mc146818 *r = opaque;
    sync(r);
    if (r->lost && !(r->reg[REG_C] & C_PF)) {
        r->lost--;
        r->reg[REG_C] |= C_PF;
    }
    update_irq(r);
    rearm(r);
}

/* ---- registers ---- */

static u8 read_register(struct mc146818 *r, u8 index)
{
    u8 value;
    sync(r);
    update_irq(r);
    switch (index) {
    case REG_A:
        value = r->reg[REG_A];
        if (updating(r) && NS_PER_SECOND - divider_ns(r) % NS_PER_SECOND <= UPDATE_NS) value |= A_UIP;
        return value;
    case REG_C:
        value = r->reg[REG_C];
        r->reg[REG_C] = 0;
        update_irq(r);
        rearm(r);
        return value;
    case REG_D: return D_VRT;
    default: return r->reg[index];
    }
}

/* B is about to change the format of the time. */
static void convert(struct mc146818 *r, u8 new_b)
{
    static const u8 plain[] = {REG_SECONDS, REG_MINUTES, REG_WEEKDAY, REG_DAY,
                               REG_MONTH,   REG_YEAR,    REG_CENTURY};
    struct mc146818 n = *r;
    n.reg[REG_B] = new_b;
    for (size_t i = 0; i < ARRAY_LEN(plain); i++)
        r->reg[plain[i]] = encode(&n, decode(r, r->reg[plain[i]]));
    r->reg[REG_HOURS] = encode_hour(&n, decode_hour(r, r->reg[REG_HOURS]));
    for (unsigned i = REG_SECONDS_ALARM; i <= REG_MINUTES_ALARM; i += 2)
        if (r->reg[i] < ALARM_ANY) r->reg[i] = encode(&n, decode(r, r->reg[i]));
    if (r->reg[REG_HOURS_ALARM] < ALARM_ANY)
        r->reg[REG_HOURS_ALARM] = encode_hour(&n, decode_hour(r, r->reg[REG_HOURS_ALARM]));
}

static void write_a(struct mc146818 *r, u8 value)
{
    bool ran = divider_runs(r);
    u32 ticks = period_ticks(r);
    u8 changed = (r->reg[REG_A] ^ value) & ~A_UIP;
    r->reg[REG_A] = value & ~A_UIP;
    if (!changed) return;
    if (!ran && divider_runs(r)) {
        /* [MC146818] "Divider Control": the first update comes half a second after the release. */
        r->divider_base = clock_now(r->clock) - NS_PER_SECOND / 2;
    }
    u32 new_ticks = period_ticks(r);
    r->lost = new_ticks ? muldiv64(r->lost, ticks, new_ticks) : 0; /* as much time as before */
    restart(r);
}

static void write_b(struct mc146818 *r, u8 value)
{
    if (value & B_SET) value &= ~B_UIE; /* [MC146818] "UIE": cleared by SET */
    if ((value ^ r->reg[REG_B]) & (B_DM | B_24)) convert(r, value);
    bool released = (r->reg[REG_B] & B_SET) && !(value & B_SET);
    if (!(value & B_PIE)) r->lost = 0;
    r->reg[REG_B] = value;
    if (released) r->updates = update_number(r);
}

/* Is it a register of the time or date? */
static bool of_time(u8 index)
{
    return index == REG_SECONDS || index == REG_MINUTES || index == REG_HOURS || (index >= REG_DAY && index <= REG_YEAR) ||
           index == REG_CENTURY;
}

static void write_register(struct mc146818 *r, u8 index, u8 value)
{
    sync(r);
    bool was_held = r->reg[REG_B] & B_SET;
    switch (index) {
    case REG_A: write_a(r, value); break;
    case REG_B: write_b(r, value); break;
    case REG_C:
    case REG_D: log_printf(LOG_GUEST_ERROR, "mc146818: write to read-only register %#x\n", index); break;
    default: r->reg[index] = value; break;
    }
    update_irq(r);
    rearm(r);
    /* It is set when the guest lets it run again, or at once when it did not hold it. */
    bool held = r->reg[REG_B] & B_SET, now_set = index == REG_B ? was_held && !held : of_time(index) && !held;
    if (now_set && r->set) r->set(r->set_opaque, date(r) * 86400 + time_of_day(r));
}

static u64 port_read(void *opaque, u64 offset, unsigned size)
{
    struct mc146818 *r = opaque;
    (void)size;
    if (offset == 0) return 0xff; /* port 0x70 is write-only [PIIX3] */
    return read_register(r, r->index & 0x7f);
}

static void port_write(void *opaque, u64 offset, u64 value, unsigned size)
{
    struct mc146818 *r = opaque;
    (void)size;
    if (offset == 0)
        r->index = value;
    else
        write_register(r, r->index & 0x7f, value);
}

static const struct region_ops mc146818_ops = {port_read, port_write, 1, 1};

/* ---- the machine's side ---- */

void mc146818_set_cmos(struct mc146818 *r, u8 index, u8 value) { r->reg[index & 0x7f] = value; }

u8 mc146818_get_cmos(const struct mc146818 *r, u8 index) { return r->reg[index & 0x7f]; }

bool mc146818_nmi_masked(const struct mc146818 *r) { return r->index & 0x80; }

static void set_from_wall(struct mc146818 *r)
{
    u32 ns = 0;
    s64 wall = clock_wall(r->clock, &ns);
    s64 days = (wall >= 0 ? wall : wall - 86399) / 86400;
    set_time_of_day(r, wall - days * 86400);
    set_date(r, days);
    r->reg[REG_WEEKDAY] =
        encode(r, ((days + 4) % 7 + 7) % 7 + 1); /* 1970-01-01 was a Thursday; Sunday is 1 */
    r->divider_base = clock_now(r->clock) - ns;
    r->wall_lead = clock_wall_lead(r->clock);
    restart(r);
}

static void mc146818_reset(struct device *d)
{
    struct mc146818 *r = container_of(d, struct mc146818, dev);
    /* [MC146818] "RESET": the time goes on, the interrupts are off. */
    sync(r);
    r->reg[REG_B] &= ~(B_PIE | B_AIE | B_UIE | B_SQWE);
    r->reg[REG_C] = 0;
    r->index = 0;
    r->lost = 0;
    update_irq(r);
    rearm(r);
}

static void mc146818_destroy(struct device *d)
{
    struct mc146818 *r = container_of(d, struct mc146818, dev);
    if (r->region) region_remove(r->region);
    timer_destroy(r->update_timer);
    timer_destroy(r->period_timer);
    free(r);
}

static const struct device_class mc146818_class = {"mc146818", mc146818_reset, mc146818_destroy};

struct device *mc146818_device(struct mc146818 *r) { return &r->dev; }

struct mc146818 *mc146818_create(struct bus *ports, struct irq_line irq8, struct clock *clock, bool slew)
{
    struct mc146818 *r = calloc(1, sizeof(*r));
    if (!r) {
        fprintf(stderr, "calque: mc146818: out of memory\n");
        return NULL;
    }
    r->dev.cls = &mc146818_class;
    r->clock = clock;
    r->irq = irq8;
    r->slew = slew;
    r->update_timer = timer_create_on(clock, update_fired, r);
    r->period_timer = timer_create_on(clock, period_fired, r);
    r->region = bus_add(ports, "mc146818", 0x70, 2, 0, &mc146818_ops, r);
    r->reg[REG_A] = 0x26; /* as every BIOS leaves it: 32,768 Hz crystal, 1024 Hz periodic rate */
    r->reg[REG_B] = B_24;
    set_from_wall(r);
    return r;
}

void mc146818_on_set(struct mc146818 *r, void (*set)(void *opaque, s64 seconds), void *opaque)
{
    r->set = set;
    r->set_opaque = opaque;
}
