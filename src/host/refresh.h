/* The rhythm in which displays look at the guest's screen: host time, which goes on while the guest is stopped. */
#ifndef HOST_REFRESH_H
#define HOST_REFRESH_H

#include "host/event_loop.h"

struct refresh;

/* Calls tick() on the loop's thread about 50 times a second while it runs; stopped at first. NULL with a message. */
struct refresh *refresh_create(struct event_loop *loop, void (*tick)(void *opaque), void *opaque);
void refresh_run(struct refresh *r, bool run);
void refresh_destroy(struct refresh *r);

#endif
