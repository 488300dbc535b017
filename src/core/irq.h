/* An interrupt line: a wire from a device's output to somebody's input. */
#ifndef CORE_IRQ_H
#define CORE_IRQ_H

#include "core/types.h"

/* Passed and stored by value. A line whose handler is NULL is not connected. */
struct irq_line {
    void (*handler)(void *opaque, int n, int level); /* the receiving end */
    void *opaque;                                    /* receiver's own pointer */
    int n;                                           /* input number at the receiver */
};

/* Drive the line: level 1 asserted, 0 released. Callers hold the machine lock. */
static inline void irq_set(const struct irq_line *line, int level)
{
    if (line->handler) line->handler(line->opaque, line->n, level);
}

/* An edge: asserted, then released. */
static inline void irq_pulse(const struct irq_line *line)
{
    irq_set(line, 1);
    irq_set(line, 0);
}

#endif
