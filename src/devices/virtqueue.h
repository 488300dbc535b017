/* A split virtqueue: the three rings in guest memory through which a driver hands buffers to a virtio device.
 *
 * Everything that a driver can get wrong ends in failed(), after which the queue does nothing until it is reset. */
#ifndef DEVICES_VIRTQUEUE_H
#define DEVICES_VIRTQUEUE_H

#include "core/bus.h"
#include "core/types.h"

#define VIRTQUEUE_SEGMENTS 1024u  /* pieces of host memory that a chain may consist of */
#define VIRTQUEUE_SIZE_MAX 1024u  /* entries of a ring */

/* A piece of a buffer, in RAM. */
struct virtqueue_segment {
    u8 *host;       /* where it is */
    u32 size;       /* bytes */
    u64 ram_offset; /* its place in ram */
    struct ram *ram;
};

/* A chain of descriptors that the driver made available: first what the device reads, then what it writes. */
struct virtqueue_chain {
    u16 head;                /* its first descriptor, which names it in the used ring */
    unsigned out, in;        /* segments to read, segments to write */
    u64 out_size, in_size;   /* their bytes */
    struct virtqueue_segment segments[VIRTQUEUE_SEGMENTS];
};

struct virtqueue {
    struct bus *memory;         /* where the rings and buffers are */
    void (*failed)(struct virtqueue *q, const char *why); /* the driver broke the rules */
    unsigned index;             /* which of the device's queues */
    u16 max;                    /* entries at most, a power of two */
    bool event_index;           /* VIRTIO_F_EVENT_IDX was negotiated */

    u16 size;                   /* entries, a power of two */
    bool ready;                 /* the driver has enabled it */
    bool dead;                  /* failed() was called */
    u16 vector;                 /* MSI-X vector, 0xffff: none */
    u64 desc, avail, used;      /* addresses of the descriptor table and the rings */
    u16 next_avail;             /* entry of the available ring that is taken next */
    u16 next_used;              /* entry of the used ring that is filled next */
    u16 signalled;              /* next_used when the driver was interrupted last */
    bool has_signalled;         /* there was a last time */
    struct bus_span span;       /* RAM that was used last; valid during a call from outside */
};

/* To the state after a reset of the device; what its maker set stays. */
void virtqueue_reset(struct virtqueue *q);
/* How many chains are waiting. */
unsigned virtqueue_waiting(struct virtqueue *q);
/* Take the next one. False: there is none, or the queue has failed. */
bool virtqueue_pop(struct virtqueue *q, struct virtqueue_chain *c);
/* The last n chains were not taken after all. */
void virtqueue_unpop(struct virtqueue *q, unsigned n);
/* Ask the driver to tell, or not to tell, when it makes chains available. After asking, look once more. */
void virtqueue_want_notify(struct virtqueue *q, bool wanted);
/* Hand chain number i (0, 1 ...) of a batch back, with that many bytes written to it; then show the batch of n chains to
 * the driver. */
void virtqueue_fill(struct virtqueue *q, unsigned i, u16 head, u32 written);
void virtqueue_flush(struct virtqueue *q, unsigned n);
/* Does the driver want an interrupt for what was handed back since the last call that said so? */
bool virtqueue_wants_interrupt(struct virtqueue *q);

/* Copy up to size bytes from position at of the readable part, or to the writable part: how many were there. Written
 * RAM is noted. */
size_t virtqueue_read(const struct virtqueue_chain *c, u64 at, void *to, size_t size);
size_t virtqueue_write(const struct virtqueue_chain *c, u64 at, const void *from, size_t size);
/* The same for a list of segments. */
size_t virtqueue_copy(const struct virtqueue_segment *s, unsigned count, u64 at, void *buf, size_t size, bool to_guest);

#endif
