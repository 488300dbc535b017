/* A timerfd on the event loop. */
#include "host/refresh.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define PERIOD_NS 20000000

struct refresh {
    int fd;                       /* timerfd */
    struct event_source *source;  /* watches it */
    void (*tick)(void *opaque);   /* what to do */
    void *opaque;                 /* its argument */
    bool running;                 /* the timerfd is set */
};

static void expired(void *opaque, short revents)
{
    struct refresh *r = opaque;
    u64 count;
    (void)revents;
    if (read(r->fd, &count, sizeof(count)) == sizeof(count)) r->tick(r->opaque);
}

struct refresh *refresh_create(struct event_loop *loop, void (*tick)(void *opaque), void *opaque)
{
    struct refresh *r = calloc(1, sizeof(*r));
    if (!r) goto no_memory;
    *r = (struct refresh){.tick = tick, .opaque = opaque};
    r->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (r->fd < 0) goto no_timer;
    r->source = event_loop_add(loop, r->fd, POLLIN, expired, r);
    if (r->source) return r;
    errno = ENOMEM;
    close(r->fd);
no_timer:
    free(r);
no_memory:
    fprintf(stderr, "calque: cannot create a display's timer: %s\n", strerror(errno));
    return NULL;
}

void refresh_run(struct refresh *r, bool run)
{
    if (run == r->running) return;
    r->running = run;
    struct timespec period = {.tv_nsec = run ? PERIOD_NS : 0};
    struct itimerspec spec = {.it_interval = period, .it_value = period};
    timerfd_settime(r->fd, 0, &spec, NULL);
}

void refresh_destroy(struct refresh *r)
{
    if (!r) return;
    event_source_remove(r->source);
    close(r->fd);
    free(r);
}
