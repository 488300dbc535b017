/* The interface between a network card model and its host back end (user mode stack, tap, socket). A frame is an
 * Ethernet frame from its destination address on, without preamble and FCS. Both sides run under the machine lock.
 *
 * Frames that the card does not take at the moment wait in a bounded queue here. Everything that passes can be
 * watched (packet dumps). */
#ifndef CORE_NETDEV_H
#define CORE_NETDEV_H

#include <string.h>

#include "core/types.h"

#define NETDEV_FRAME_MAX 65550u /* the longest frame that back ends carry: 64 KiB of payload and a header */
#define NETDEV_QUEUE_MAX 1024   /* frames that wait for the card; more are lost */

struct netdev;

struct netdev_ops {
    /* A frame from the guest; the back end takes it or loses it. */
    void (*transmit)(struct netdev *n, const u8 *frame, size_t len);
    /* The queue, not empty before, is empty again. May be NULL. */
    void (*resume)(struct netdev *n);
    void (*destroy)(struct netdev *n);
};

/* Set by the card's model (front end). */
struct netdev_front {
    /* A frame for the guest. False: not now; netdev_flush() will be called when it can be tried again. */
    bool (*receive)(void *opaque, const u8 *frame, size_t len);
    /* The back end's carrier came or went. May be NULL. */
    void (*link_changed)(void *opaque, bool up);
};

/* Sees all frames, in both directions. */
struct netdev_watcher {
    void (*frame)(struct netdev_watcher *w, const u8 *frame, size_t len);
    void (*destroy)(struct netdev_watcher *w);
    struct netdev_watcher *next; /* the netdev's list */
};

struct netdev_frame;

/* First member of each back end's private struct. */
struct netdev {
    const struct netdev_ops *ops;
    const struct netdev_front *front; /* NULL until a card attaches */
    void *front_opaque;               /* its first argument */
    const char *id;                   /* as the user called it; for messages */
    struct netdev_watcher *watchers;  /* owned */
    struct netdev_frame *head, *tail; /* frames that wait for the card */
    unsigned queued;                  /* how many */
    bool flushing;                    /* netdev_flush() is at work */
    bool delivering;                  /* the card is at a frame: what it sends meanwhile is lost */
    bool link_down;                   /* no carrier */
    bool large;                       /* the back end takes TCP packets that are yet to be cut into segments */
};

void netdev_attach(struct netdev *n, const struct netdev_front *front, void *opaque);
/* The card goes away: frames for it are lost from now on. */
void netdev_detach(struct netdev *n);
void netdev_watch(struct netdev *n, struct netdev_watcher *w);
/* Stop all watchers and the back end. n may be NULL. */
void netdev_close(struct netdev *n);

/* For cards (n may be NULL: no cable). */
void netdev_transmit(struct netdev *n, const u8 *frame, size_t len);
/* The card may take frames again. */
void netdev_flush(struct netdev *n);
/* Does the cable have a carrier? */
bool netdev_link(const struct netdev *n);

static inline bool netdev_is_broadcast(const u8 address[6]) { return !memcmp(address, "\xff\xff\xff\xff\xff\xff", 6); }

/* The upper six bits of the CRC of a destination address: which bit of a card's multicast filter it is. */
static inline unsigned netdev_multicast_hash(const u8 address[6])
{
    u32 crc = 0xffffffff;
    for (int i = 0; i < 48; i++) {
        u32 bit = (address[i / 8] >> (i % 8) & 1) ^ crc >> 31;
        crc = crc << 1 ^ (bit ? 0x04c11db7u : 0);
    }
    return crc >> 26;
}

/* For back ends. False: it had to be queued, or was lost; wait for resume() if you can. */
bool netdev_deliver(struct netdev *n, const u8 *frame, size_t len);
void netdev_set_link(struct netdev *n, bool up);

#endif
