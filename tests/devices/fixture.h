/* What the register-level tests share: a port bus, a manual clock and lines that remember what they saw. */
#ifndef TESTS_DEVICES_FIXTURE_H
#define TESTS_DEVICES_FIXTURE_H

#include <criterion/criterion.h>

#include "core/bus.h"
#include "core/clock.h"
#include "core/irq.h"

/* The receiving end of an interrupt line. */
struct probe {
    int level;           /* now */
    int rises;           /* edges from 0 to 1 */
    int falls;           /* edges from 1 to 0 */
    struct clock *clock; /* when set: edges are timed */
    u64 rose, fell;      /* time of the last edges, ns */
};

static inline void probe_set(void *opaque, int n, int level)
{
    struct probe *p = opaque;
    (void)n;
    if (level && !p->level) {
        p->rises++;
        if (p->clock) p->rose = clock_now(p->clock);
    }
    if (!level && p->level) {
        p->falls++;
        if (p->clock) p->fell = clock_now(p->clock);
    }
    p->level = level;
}

static inline struct irq_line probe_line(struct probe *p) { return (struct irq_line){probe_set, p, 0}; }

static inline u8 in8(struct bus *b, u16 port) { return bus_read(b, port, 1); }
static inline void out8(struct bus *b, u16 port, u8 value) { bus_write(b, port, value, 1); }

#endif
