/* The main thread's loop, on poll(), which takes every kind of file descriptor that a user may hand us.
 *
 * Timers: one timerfd follows the earliest deadline of both clocks. When a vCPU thread arms an earlier timer, the
 * timerfd is set right there (one system call, and the sleeping loop is not woken for nothing). */
#include "host/event_loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

struct event_source {
    struct event_loop *loop;                      /* where it is in the list */
    struct event_source *next;                    /* the loop's list */
    int fd;                                       /* watched */
    short events;                                 /* POLLIN | POLLOUT */
    bool enabled;                                 /* false: left out of the poll */
    bool removed;                                 /* to be freed when nobody walks the list */
    int slot;                                     /* index in the poll set, -1: not in this round */
    void (*ready)(void *opaque, short revents);   /* what to call */
    void *opaque;                                 /* its first argument */
};

struct event_poller {
    struct event_loop *loop;                       /* where it is in the list */
    struct event_poller *next;                     /* the loop's list */
    void (*fill)(void *opaque, int *timeout_ms);   /* before the sleep */
    void (*done)(void *opaque, bool failed);       /* after it */
    void *opaque;                                  /* their first argument */
};

struct event_loop {
    struct clock *clock;           /* guest time: whose timers we run */
    struct clock *host_clock;      /* the host's time: likewise; ours */
    struct event_source *sources;  /* in order of creation */
    struct event_poller *pollers;  /* in order of creation */
    struct pollfd *set;            /* scratch for poll() */
    size_t set_size;               /* entries allocated */
    size_t set_used;               /* entries of this round */
    int wake_fd;                   /* eventfd of event_loop_wake() */
    int timer_fd;                  /* timerfd at the earliest deadline */
    u64 armed, host_armed;         /* the deadlines it is set to, UINT64_MAX: none */
    void (*lock)(void *opaque);    /* machine lock, NULL: none */
    bool (*try)(void *opaque);     /* machine lock, NULL: none */
    void (*unlock)(void *opaque);  /* machine lock, NULL: none */
    void *lock_opaque;             /* their argument */
    volatile sig_atomic_t quit;    /* event_loop_quit() */
    bool failed;                   /* event_loop_fail() */
    bool dispatching;              /* sources are being walked: removed ones are kept */
};

/* Nanoseconds until the clock's earliest deadline; zero would disarm. */
static u64 time_left(const struct clock *c, u64 deadline)
{
    if (deadline == UINT64_MAX) return UINT64_MAX;
    u64 now = clock_now(c);
    return deadline > now ? deadline - now : 1;
}

/* Set the timerfd to the clocks' earliest deadline. */
static void arm(struct event_loop *l)
{
    u64 deadline = clock_next_deadline(l->clock), host_deadline = clock_next_deadline(l->host_clock);
    if (deadline == l->armed && host_deadline == l->host_armed) return;

    struct itimerspec spec;
    memset(&spec, 0, sizeof(spec));
    u64 left = MIN(time_left(l->clock, deadline), time_left(l->host_clock, host_deadline));
    if (left != UINT64_MAX) {
        spec.it_value.tv_sec = (time_t)(left / NS_PER_SECOND);
        spec.it_value.tv_nsec = (long)(left % NS_PER_SECOND);
    }
    if (timerfd_settime(l->timer_fd, 0, &spec, NULL) == 0) {
        l->armed = deadline;
        l->host_armed = host_deadline;
    }
}

static void earlier(void *opaque)
{
    struct event_loop *l = opaque;
    /* While dispatching, the loop arms it before it sleeps anyway. */
    if (!l->dispatching) arm(l);
}

struct event_loop *event_loop_create(struct clock *clock)
{
    struct event_loop *l = calloc(1, sizeof(*l));
    if (!l) {
        fprintf(stderr, "calque: out of memory\n");
        return NULL;
    }
    l->clock = clock;
    l->armed = l->host_armed = UINT64_MAX;
    l->wake_fd = l->timer_fd = -1;
    if (!(l->host_clock = clock_create())) {
        free(l);
        return NULL;
    }
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (l->wake_fd < 0 || l->timer_fd < 0) {
        fprintf(stderr, "calque: cannot create the event loop: %s\n", strerror(errno));
        event_loop_destroy(l);
        return NULL;
    }
    clock_on_earlier(clock, earlier, l);
    clock_on_earlier(l->host_clock, earlier, l);
    return l;
}

void event_loop_destroy(struct event_loop *l)
{
    if (!l) return;
    clock_on_earlier(l->clock, NULL, NULL);
    while (l->sources) {
        struct event_source *s = l->sources;
        l->sources = s->next;
        free(s);
    }
    while (l->pollers) event_poller_remove(l->pollers);
    if (l->wake_fd >= 0) close(l->wake_fd);
    if (l->timer_fd >= 0) close(l->timer_fd);
    clock_destroy(l->host_clock);
    free(l->set);
    free(l);
}

void event_loop_set_lock(struct event_loop *l, void (*lock)(void *opaque), bool (*try)(void *opaque),
                         void (*unlock)(void *opaque), void *opaque)
{
    l->lock = lock;
    l->try = try;
    l->unlock = unlock;
    l->lock_opaque = opaque;
}

bool event_loop_try_enter(struct event_loop *l) { return l->try && l->try(l->lock_opaque); }

void event_loop_leave(struct event_loop *l) { l->unlock(l->lock_opaque); }

struct clock *event_loop_clock(const struct event_loop *l) { return l->clock; }

struct clock *event_loop_host_clock(const struct event_loop *l) { return l->host_clock; }

struct event_source *event_loop_add(struct event_loop *l, int fd, short events,
                                    void (*ready)(void *opaque, short revents), void *opaque)
{
    struct event_source *s = calloc(1, sizeof(*s));
    if (!s) return NULL;
    s->loop = l;
    s->fd = fd;
    s->events = events;
    s->enabled = true;
    s->slot = -1;
    s->ready = ready;
    s->opaque = opaque;
    struct event_source **end = &l->sources;
    while (*end) end = &(*end)->next;
    *end = s;
    event_loop_wake(l);
    return s;
}

void event_source_set_events(struct event_source *s, short events)
{
    /* The sleeping loop has the old set: it must start over to see more. */
    if (events & ~s->events) event_loop_wake(s->loop);
    s->events = events;
}

void event_source_set_enabled(struct event_source *s, bool enabled)
{
    if (enabled && !s->enabled) event_loop_wake(s->loop);
    s->enabled = enabled;
}

static void sweep(struct event_loop *l)
{
    for (struct event_source **at = &l->sources; *at;) {
        struct event_source *s = *at;
        if (s->removed) {
            *at = s->next;
            free(s);
        } else {
            at = &s->next;
        }
    }
}

void event_source_remove(struct event_source *s)
{
    if (!s) return;
    s->removed = true;
    s->enabled = false;
    s->slot = -1;
    if (!s->loop->dispatching) {
        /* The sleeping loop may hold the fd in its set; it looks at slots only after taking the lock. */
        event_loop_wake(s->loop);
        sweep(s->loop);
    }
}

struct event_poller *event_loop_add_poller(struct event_loop *l, void (*fill)(void *opaque, int *timeout_ms),
                                           void (*done)(void *opaque, bool failed), void *opaque)
{
    struct event_poller *p = calloc(1, sizeof(*p));
    if (!p) return NULL;
    *p = (struct event_poller){.loop = l, .fill = fill, .done = done, .opaque = opaque};
    struct event_poller **end = &l->pollers;
    while (*end) end = &(*end)->next;
    *end = p;
    event_loop_wake(l);
    return p;
}

void event_poller_remove(struct event_poller *p)
{
    if (!p) return;
    struct event_poller **at = &p->loop->pollers;
    while (*at != p) at = &(*at)->next;
    *at = p->next;
    free(p);
}

int event_loop_poll_add(struct event_loop *l, int fd, short events)
{
    if (l->set_used == l->set_size) {
        size_t size = l->set_size ? 2 * l->set_size : 16;
        struct pollfd *set = realloc(l->set, size * sizeof(*set));
        if (!set) return -1;
        l->set = set;
        l->set_size = size;
    }
    l->set[l->set_used] = (struct pollfd){.fd = fd, .events = events};
    return (int)l->set_used++;
}

short event_loop_poll_result(const struct event_loop *l, int index)
{
    return index < 0 ? 0 : l->set[index].revents;
}

/* Fill l->set: [0] the eventfd, [1] the timerfd, then the sources and what the pollers want. False: out of memory. */
static bool build_set(struct event_loop *l, int *timeout_ms)
{
    l->set_used = 0;
    if (event_loop_poll_add(l, l->wake_fd, POLLIN) < 0 || event_loop_poll_add(l, l->timer_fd, POLLIN) < 0)
        return false;
    for (struct event_source *s = l->sources; s; s = s->next) {
        s->slot = s->enabled ? event_loop_poll_add(l, s->fd, s->events) : -1;
        if (s->enabled && s->slot < 0) return false;
    }
    for (struct event_poller *p = l->pollers; p; p = p->next) p->fill(p->opaque, timeout_ms);
    return true;
}

static void drain(int fd)
{
    u64 count;
    while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR) continue;
}

void event_loop_run_once(struct event_loop *l)
{
    int timeout_ms = -1;
    if (!build_set(l, &timeout_ms)) return;
    arm(l);

    if (l->unlock) l->unlock(l->lock_opaque);
    int ready = poll(l->set, l->set_used, timeout_ms);
    if (l->lock) l->lock(l->lock_opaque);

    if (ready > 0) {
        if (l->set[0].revents) drain(l->wake_fd);
        if (l->set[1].revents) {
            drain(l->timer_fd);
            l->armed = l->host_armed = UINT64_MAX;
        }
    }
    l->dispatching = true;
    clock_run_due(l->clock);
    clock_run_due(l->host_clock);
    if (ready > 0) {
        for (struct event_source *s = l->sources; s; s = s->next) {
            if (s->slot < 0 || s->removed) continue;
            short revents = l->set[s->slot].revents;
            if (revents && s->enabled) s->ready(s->opaque, revents);
        }
    }
    for (struct event_poller *p = l->pollers; p; p = p->next) p->done(p->opaque, ready < 0);
    l->dispatching = false;
    sweep(l);
}

void event_loop_wake(struct event_loop *l)
{
    static const u64 one = 1;
    int saved = errno; /* signal handlers call this */
    while (write(l->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR) continue;
    errno = saved;
}

void event_loop_quit(struct event_loop *l)
{
    l->quit = 1;
    event_loop_wake(l);
}

bool event_loop_quitting(const struct event_loop *l) { return l->quit; }

void event_loop_fail(struct event_loop *l)
{
    l->failed = true;
    event_loop_quit(l);
}

bool event_loop_failed(const struct event_loop *l) { return l->failed; }
