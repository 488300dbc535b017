/* Guest time: nanoseconds since the machine was created, and a binary heap of the timers armed on it.
 *
 * Timers fire in the order of their deadlines, and among equal deadlines in the order they were armed.
 * Guest time follows the host's monotonic clock (or, for tests, only clock_advance()); wall-clock time is a time of
 * the host's, or guest time, plus an offset. */
#include "core/clock.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/tsc_time.h"

struct timer {
    struct clock *clock;        /* what it is armed on */
    void (*fire)(void *opaque); /* what it does */
    void *opaque;               /* argument of fire */
    u64 deadline;               /* when armed: when */
    u64 order;                  /* when armed: place among equal deadlines */
    size_t index;               /* place in the heap; NOT_IN_HEAP when not there */
    struct timer *next;         /* when due: the next one of the round */
    bool due;                   /* taken out of the heap to be fired by the round going on */
};
#define NOT_IN_HEAP SIZE_MAX

struct clock {
    struct tsc_time host;       /* the host's monotonic clock */
    struct clock_scale scale;   /* what other threads may compute it by */
    bool manual;                /* moves by clock_advance() only */
    u64 manual_now;             /* manual: now; read from other threads */
    u64 host_start;             /* else: host time at guest time 0 */
    bool stopped;               /* see clock_stop(); read from other threads */
    u64 stopped_at;             /* stopped: now; read from other threads */
    enum clock_wall_source wall_source; /* what moves wall-clock time */
    s64 wall_offset;            /* wall-clock time less its source's, ns; read from other threads */
    struct timer **heap;        /* armed timers, earliest first */
    size_t armed;               /* used entries of heap */
    size_t capacity;            /* allocated entries, enough for every timer there is */
    size_t timers;              /* timers created on this clock */
    u64 next_order;             /* order of the next arming */
    struct timer *due;          /* timers of the round going on that have not fired yet */
    void (*wake)(void *opaque); /* see clock_on_earlier() */
    void *wake_opaque;          /* argument of wake */
};

/* ---- time ---- */

static struct clock *create(bool manual)
{
    struct clock *c = calloc(1, sizeof *c);
    if (!c) {
        fprintf(stderr, "calque: out of memory for the clock\n");
        return NULL;
    }
    c->manual = manual;
    c->scale.seq = 1;
    if (!manual) {
        tsc_time_init(&c->host);
        c->host_start = tsc_time_now(&c->host);
    }
    c->wall_source = manual ? CLOCK_WALL_GUEST : CLOCK_WALL_HOST;
    return c;
}

struct clock *clock_create(void) { return create(false); }

struct clock *clock_create_manual(void) { return create(true); }

/* Timers belong to the devices, which are destroyed before their clock. */
void clock_destroy(struct clock *c)
{
    if (!c) return;
    free(c->heap);
    free(c);
}

u64 clock_now(const struct clock *c)
{
    if (c->manual) return __atomic_load_n(&c->manual_now, __ATOMIC_RELAXED);
    if (__atomic_load_n(&c->stopped, __ATOMIC_ACQUIRE)) return __atomic_load_n(&c->stopped_at, __ATOMIC_RELAXED);
    return tsc_time_now(&c->host) - __atomic_load_n(&c->host_start, __ATOMIC_RELAXED);
}

const struct clock_scale *clock_scale(const struct clock *c) { return &c->scale; }

static void set_scale(struct clock *c)
{
    struct clock_scale *s = &c->scale;
    __atomic_store_n(&s->seq, s->seq | 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    __atomic_store_n(&s->tsc, c->host.tsc, __ATOMIC_RELAXED);
    __atomic_store_n(&s->ns, c->host.ns - c->host_start, __ATOMIC_RELAXED);
    __atomic_store_n(&s->mult, c->host.mult, __ATOMIC_RELAXED);
    if (!c->stopped && c->host.usable) __atomic_store_n(&s->seq, s->seq + 1, __ATOMIC_RELEASE);
}

void clock_stop(struct clock *c)
{
    if (c->stopped) return;
    __atomic_store_n(&c->stopped_at, clock_now(c), __ATOMIC_RELAXED);
    __atomic_store_n(&c->stopped, true, __ATOMIC_RELEASE);
    set_scale(c);
}

void clock_start(struct clock *c)
{
    if (!c->stopped) return;
    if (!c->manual) __atomic_store_n(&c->host_start, tsc_time_now(&c->host) - c->stopped_at, __ATOMIC_RELAXED);
    __atomic_store_n(&c->stopped, false, __ATOMIC_RELEASE);
    set_scale(c);
    if (c->wake) c->wake(c->wake_opaque);
}

static s64 source_now(const struct clock *c)
{
    if (c->wall_source == CLOCK_WALL_GUEST) return (s64)clock_now(c);
    struct timespec ts;
    clock_gettime(c->wall_source == CLOCK_WALL_HOST ? CLOCK_REALTIME : CLOCK_MONOTONIC, &ts);
    return (s64)ts.tv_sec * (s64)NS_PER_SECOND + ts.tv_nsec;
}

static s64 wall_ns(const struct clock *c) { return source_now(c) + __atomic_load_n(&c->wall_offset, __ATOMIC_RELAXED); }

s64 clock_wall_lead(const struct clock *c)
{
    s64 source = c->wall_source == CLOCK_WALL_GUEST ? 0 : source_now(c) - (s64)clock_now(c);
    return source + __atomic_load_n(&c->wall_offset, __ATOMIC_RELAXED);
}

s64 clock_wall(const struct clock *c, u32 *ns)
{
    s64 wall = wall_ns(c);
    s64 seconds = wall / (s64)NS_PER_SECOND, rest = wall % (s64)NS_PER_SECOND;
    if (rest < 0) { /* before 1970: towards minus infinity, so that ns stays positive */
        rest += (s64)NS_PER_SECOND;
        seconds--;
    }
    if (ns) *ns = (u32)rest;
    return seconds;
}

void clock_set_wall(struct clock *c, s64 seconds)
{
    __atomic_store_n(&c->wall_offset, seconds * (s64)NS_PER_SECOND - source_now(c), __ATOMIC_RELAXED);
}

void clock_set_wall_source(struct clock *c, enum clock_wall_source source)
{
    s64 wall = wall_ns(c);
    c->wall_source = source;
    c->wall_offset = wall - source_now(c);
}

/* ---- the heap ---- */

static bool earlier(const struct timer *a, const struct timer *b)
{
    return a->deadline != b->deadline ? a->deadline < b->deadline : a->order < b->order;
}

static void place(struct clock *c, struct timer *t, size_t index)
{
    c->heap[index] = t;
    t->index = index;
}

static void sift_up(struct clock *c, struct timer *t, size_t index)
{
    while (index && earlier(t, c->heap[(index - 1) / 2])) {
        place(c, c->heap[(index - 1) / 2], index);
        index = (index - 1) / 2;
    }
    place(c, t, index);
}

static void sift_down(struct clock *c, struct timer *t, size_t index)
{
    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= c->armed) break;
        if (child + 1 < c->armed && earlier(c->heap[child + 1], c->heap[child])) child++;
        if (!earlier(c->heap[child], t)) break;
        place(c, c->heap[child], index);
        index = child;
    }
    place(c, t, index);
}

static void heap_remove(struct timer *t)
{
    struct clock *c = t->clock;
    size_t index = t->index;
    struct timer *last = c->heap[--c->armed];
    t->index = NOT_IN_HEAP;
    if (last == t) return;
    if (index && earlier(last, c->heap[(index - 1) / 2]))
        sift_up(c, last, index);
    else
        sift_down(c, last, index);
}

/* ---- timers ---- */

struct timer *timer_create_on(struct clock *c, void (*fire)(void *opaque), void *opaque)
{
    struct timer *t = calloc(1, sizeof *t);
    if (!t) goto no_memory;
    /* Room for every timer now, so that arming can not fail. */
    if (c->timers == c->capacity) {
        size_t capacity = c->capacity ? 2 * c->capacity : 16;
        struct timer **heap = realloc(c->heap, capacity * sizeof *heap);
        if (!heap) goto no_memory;
        c->heap = heap;
        c->capacity = capacity;
    }
    c->timers++;
    t->clock = c;
    t->fire = fire;
    t->opaque = opaque;
    t->index = NOT_IN_HEAP;
    return t;

no_memory:
    fprintf(stderr, "calque: out of memory for a timer\n");
    free(t);
    return NULL;
}

void timer_cancel(struct timer *t)
{
    if (t->due) {
        struct timer **at = &t->clock->due;
        while (*at != t)
            at = &(*at)->next;
        *at = t->next;
        t->due = false;
    }
    if (t->index != NOT_IN_HEAP) heap_remove(t);
}

void timer_arm(struct timer *t, u64 deadline)
{
    struct clock *c = t->clock;
    u64 before = clock_next_deadline(c);

    timer_cancel(t);
    t->deadline = deadline;
    t->order = c->next_order++;
    sift_up(c, t, c->armed++);
    if (deadline < before && c->wake) c->wake(c->wake_opaque);
}

bool timer_armed(const struct timer *t) { return t->due || t->index != NOT_IN_HEAP; }

void timer_destroy(struct timer *t)
{
    if (!t) return;
    timer_cancel(t);
    t->clock->timers--;
    free(t);
}

/* ---- running them ---- */

u64 clock_next_deadline(const struct clock *c)
{
    if (c->stopped) return UINT64_MAX;
    u64 deadline = c->armed ? c->heap[0]->deadline : UINT64_MAX;
    return c->due ? MIN(c->due->deadline, deadline) : deadline;
}

void clock_run_due(struct clock *c)
{
    if (!c->manual) tsc_time_sync(&c->host);
    if (c->host.tsc != c->scale.tsc) set_scale(c);
    if (c->stopped) return;
    u64 now = clock_now(c);
    struct timer **tail = &c->due;

    /* A round: take what is due now, then fire it. What callbacks arm waits for the next round, even when it
     * is due already: a guest that programs a timer with a period of nanoseconds must not keep the caller
     * here (and the machine lock taken) for ever. */
    while (*tail)
        tail = &(*tail)->next;
    while (c->armed && c->heap[0]->deadline <= now) {
        struct timer *t = c->heap[0];
        heap_remove(t);
        t->due = true;
        t->next = NULL;
        *tail = t;
        tail = &t->next;
    }
    while (c->due) {
        struct timer *t = c->due;
        c->due = t->next;
        t->due = false;
        t->fire(t->opaque); /* t may be gone after this */
    }
}

void clock_advance(struct clock *c, u64 ns)
{
    assert(c->manual);
    if (c->stopped) return;
    u64 target = c->manual_now + ns;

    while (c->armed && c->heap[0]->deadline <= target) {
        struct timer *t = c->heap[0];
        heap_remove(t);
        if (t->deadline > c->manual_now) __atomic_store_n(&c->manual_now, t->deadline, __ATOMIC_RELAXED);
        t->fire(t->opaque);
    }
    __atomic_store_n(&c->manual_now, target, __ATOMIC_RELAXED);
}

void clock_on_earlier(struct clock *c, void (*wake)(void *opaque), void *opaque)
{
    c->wake = wake;
    c->wake_opaque = opaque;
}
