/* The interface between a character device model (UART, debug port) and its host back end
 * (stdio, file, pty, socket, null). Both sides run under the machine lock. */
#ifndef CORE_CHARDEV_H
#define CORE_CHARDEV_H

#include "core/types.h"

struct chardev;

struct chardev_ops {
    /* Bytes from the guest. The back end takes all of them (buffering or dropping as it must). */
    void (*write)(struct chardev *c, const u8 *buf, size_t len);
    /* The front end can take input again after can_receive() was 0. May be NULL. */
    void (*accept_input)(struct chardev *c);
    void (*destroy)(struct chardev *c);
};

/* Set by the device model (front end). */
struct chardev_front {
    size_t (*can_receive)(void *opaque); /* how many bytes the device takes now */
    void (*receive)(void *opaque, const u8 *buf, size_t len);
    void (*break_received)(void *opaque); /* serial break; may be NULL */
    void (*connected)(void *opaque, bool up); /* there is a peer now, or no longer; may be NULL */
};

/* First member of each back end's private struct. */
struct chardev {
    const struct chardev_ops *ops;
    const struct chardev_front *front; /* NULL until a device attaches */
    void *front_opaque;
    bool up;    /* there is a peer; those that know nothing of peers always have one */
    bool lossy; /* set by the front end: rather than to wait for a slow peer, whole writes are dropped, and nothing more
                   is received from it until it has read what there is */
};

static inline void chardev_attach(struct chardev *c, const struct chardev_front *front, void *opaque)
{
    if (!c) return;
    c->front = front;
    c->front_opaque = opaque;
    if (c->up && front->connected) front->connected(opaque, true);
    if (c->ops->accept_input) c->ops->accept_input(c);
}

static inline void chardev_write(struct chardev *c, const u8 *buf, size_t len)
{
    if (c) c->ops->write(c, buf, len);
}

/* For back ends. */
static inline void chardev_set_up(struct chardev *c, bool up)
{
    if (c->up == up) return;
    c->up = up;
    if (c->front && c->front->connected) c->front->connected(c->front_opaque, up);
}

static inline void chardev_accept_input(struct chardev *c)
{
    if (c && c->ops->accept_input) c->ops->accept_input(c);
}

#endif
