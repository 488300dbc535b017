/* Guest time and the timers that hang on it. Times are nanoseconds since the machine was created.
 * Devices never ask the host for the time: they are handed a clock, and tests hand them a fake one. */
#ifndef CORE_CLOCK_H
#define CORE_CLOCK_H

#include "core/types.h"

struct clock;
struct timer;

#define NS_PER_SECOND 1000000000ull

/* A clock that follows CLOCK_MONOTONIC from now on. */
struct clock *clock_create(void);
/* A clock that only moves by clock_advance(): for tests. */
struct clock *clock_create_manual(void);
void clock_destroy(struct clock *c);

/* Now, ns. May be called from any thread, without the machine lock. */
u64 clock_now(const struct clock *c);
/* clock_now() for those who compute it themselves: while `seq` is even and stays what it was, ns + ((count - tsc) * mult >> 32), count
 * being the host's time-stamp counter, unless it is below tsc. */
struct clock_scale {
    u32 seq;           /* odd: ask clock_now() */
    u64 tsc, ns, mult; /* mult: 32.32 */
};
const struct clock_scale *clock_scale(const struct clock *c);
/* Wall-clock time for the RTC: seconds since 1970-01-01 UTC plus ns in *ns (may be NULL). */
s64 clock_wall(const struct clock *c, u32 *ns);
/* ns that wall-clock time is ahead of guest time: it changes where the one stands or is stepped and the other is not. */
s64 clock_wall_lead(const struct clock *c);
/* Set wall-clock time (-rtc base=..., and fake clocks). */
void clock_set_wall(struct clock *c, s64 seconds);
/* What moves wall-clock time: the host's wall clock, steps included, unless something else is said. It does not stop
 * with clock_stop(). Manual clocks know guest time only. */
enum clock_wall_source {
    CLOCK_WALL_HOST,      /* the host's wall clock */
    CLOCK_WALL_MONOTONIC, /* the host's time, without steps */
    CLOCK_WALL_GUEST,     /* guest time: it stops, too */
};
void clock_set_wall_source(struct clock *c, enum clock_wall_source source);
/* Time stands still, and timers with it, until clock_start(). With the machine lock, and no vCPU running. */
void clock_stop(struct clock *c);
void clock_start(struct clock *c);
/* Manual clock: go forward by ns, running the timers that come due, each at its own time. */
void clock_advance(struct clock *c, u64 ns);

/* Timers. All calls need the machine lock, except in single-threaded tests. A timer fires once per
 * arming, with clock_now() >= deadline; its callback may arm it again. */
struct timer *timer_create_on(struct clock *c, void (*fire)(void *opaque), void *opaque);
void timer_arm(struct timer *t, u64 deadline);
void timer_cancel(struct timer *t);
bool timer_armed(const struct timer *t);
void timer_destroy(struct timer *t);

/* The event loop's side: the earliest deadline (UINT64_MAX when none), and running what is due. */
u64 clock_next_deadline(const struct clock *c);
void clock_run_due(struct clock *c);
/* Called (with the machine lock) whenever the earliest deadline becomes earlier, to wake the loop. */
void clock_on_earlier(struct clock *c, void (*wake)(void *opaque), void *opaque);

/* value * mul / div without overflow of the intermediate product (rounds down). */
static inline u64 muldiv64(u64 value, u64 mul, u64 div)
{
    return (u64)((unsigned __int128)value * mul / div);
}

#endif
