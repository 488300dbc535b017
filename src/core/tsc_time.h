/* The host's monotonic clock, read by the processor's time-stamp counter: a third of the cost of asking the host. */
#ifndef CORE_TSC_TIME_H
#define CORE_TSC_TIME_H

#include "core/types.h"

struct tsc_time {
    u32 seq;       /* odd while the next three are written */
    bool usable;   /* they are valid; else the host is asked */
    u64 tsc, ns;   /* at this count it is ns */
    u64 mult;      /* ns for a tick, 32.32 */
    u64 first_tsc, first_ns; /* the rate is measured from here */
    u64 last_ns;   /* host time at the last tsc_time_sync() that did something */
    s64 lead;      /* what this clock is ahead of the host's since the host slept */
    bool reliable; /* the host's counter runs at one rate, and the host trusts it */
};

void tsc_time_init(struct tsc_time *t);
/* ns; any thread; never goes back. */
u64 tsc_time_now(const struct tsc_time *t);
/* Follow the host's clock; to be called now and then, by one thread at a time. */
void tsc_time_sync(struct tsc_time *t);

#endif
