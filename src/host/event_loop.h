/* The main thread's loop: file descriptors with callbacks, and the clock's timers.
 *
 * Callbacks run on the loop's thread with the machine lock held; the lock is dropped while the loop sleeps.
 * Everything but event_loop_wake(), _quit() and _quitting() needs the machine lock. */
#ifndef HOST_EVENT_LOOP_H
#define HOST_EVENT_LOOP_H

#include "core/clock.h"
#include "core/types.h"

struct event_loop;
struct event_source;

/* NULL with a message on stderr. The loop takes over the clock's clock_on_earlier(). */
struct event_loop *event_loop_create(struct clock *clock);
void event_loop_destroy(struct event_loop *l);
/* How the loop drops and takes the machine lock around its sleep (try: false, when somebody has it); without it, it does
 * neither. */
void event_loop_set_lock(struct event_loop *l, void (*lock)(void *opaque), bool (*try)(void *opaque),
                         void (*unlock)(void *opaque), void *opaque);
/* For other threads: take the machine lock, if nobody has it, to do a piece of the loop's work. */
bool event_loop_try_enter(struct event_loop *l);
void event_loop_leave(struct event_loop *l);

struct clock *event_loop_clock(const struct event_loop *l);
/* The host's time, which goes on while guest time stands still: for what the user sees (displays, time-outs). */
struct clock *event_loop_host_clock(const struct event_loop *l);

/* Watch fd for events (POLLIN, POLLOUT; 0: for nothing but errors and hang-ups, which are always reported).
 * An fd may have several sources. NULL when memory is short. */
struct event_source *event_loop_add(struct event_loop *l, int fd, short events,
                                    void (*ready)(void *opaque, short revents), void *opaque);
void event_source_set_events(struct event_source *s, short events);
/* Off: not even errors are reported. */
void event_source_set_enabled(struct event_source *s, bool enabled);
/* May be called from its own callback. Does not close the fd. */
void event_source_remove(struct event_source *s);

/* A library that has its own idea of what to wait for. Before each sleep fill() adds descriptors by
 * event_loop_poll_add() and may lower *timeout_ms (-1: none); after it, done() asks for each with
 * event_loop_poll_result(). Both with the lock. NULL when memory is short. */
struct event_poller;
struct event_poller *event_loop_add_poller(struct event_loop *l, void (*fill)(void *opaque, int *timeout_ms),
                                           void (*done)(void *opaque, bool failed), void *opaque);
/* Not from its own callbacks. */
void event_poller_remove(struct event_poller *p);
/* The index to ask for later, -1 when memory is short. */
int event_loop_poll_add(struct event_loop *l, int fd, short events);
short event_loop_poll_result(const struct event_loop *l, int index);

/* Sleep until something is to be done and do it: called and returns with the lock held. */
void event_loop_run_once(struct event_loop *l);

/* Any thread, and signal handlers: make a sleeping event_loop_run_once() return. */
void event_loop_wake(struct event_loop *l);
/* Any thread, and signal handlers: the process is to end; back ends stop waiting for their peers. */
void event_loop_quit(struct event_loop *l);
bool event_loop_quitting(const struct event_loop *l);
/* A back end cannot go on (it has said why on stderr): the machine is to end with exit code 1. */
void event_loop_fail(struct event_loop *l);
bool event_loop_failed(const struct event_loop *l);

#endif
