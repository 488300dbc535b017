/* The interface between a disk controller model and what holds the disk's contents.
 *
 * Requests are asynchronous: the back end works off the vCPU threads and calls done() under the machine lock,
 * in any order for reads, but a request sees all writes submitted before it. done() may be called inside
 * submit().
 *
 * Data may be in guest memory itself, piece by piece. Before that memory may become somebody else's (a reset),
 * block_drain() waits for the back end to let go of it. */
#ifndef CORE_BLOCK_H
#define CORE_BLOCK_H

#include <sys/uio.h>

#include "core/types.h"

#define BLOCK_SECTOR 512u /* requests are multiples of it, in offset and size */

struct block;

enum block_op {
    BLOCK_READ,    /* [offset, offset + size) into buf */
    BLOCK_WRITE,   /* from buf */
    BLOCK_FLUSH,   /* what was written so far survives a power failure of the host */
    BLOCK_DISCARD, /* the contents of [offset, offset + size) are not needed; they read as zero or as before
                    */
};

/* Belongs to the submitter, and must stay in place with its buffer until done() is called. */
struct block_request {
    enum block_op op;                      /* what to do */
    u64 offset;                            /* bytes from the start of the disk */
    size_t size;                           /* bytes */
    u8 *buf;                               /* data, for READ and WRITE; NULL: in pieces */
    const struct iovec *pieces;            /* where they are then, size bytes in all; stay, too */
    unsigned piece_count;                  /* at most IOV_MAX */
    int error;                             /* in done(): 0 or -errno */
    size_t good;                           /* in done(): bytes before the first bad sector */
    void (*done)(struct block_request *r); /* it is over; may free r */
    struct block_request *next;            /* the back end's list */
};

struct block_ops {
    void (*submit)(struct block *b, struct block_request *r);
    /* Return when no request's data are used any more; done() may still come later. NULL: they never are after submit(). */
    void (*drain)(struct block *b);
};

/* First member of each back end's private struct. */
struct block {
    const struct block_ops *ops; /* the back end */
    u64 size;                    /* bytes, a multiple of BLOCK_SECTOR */
    bool readonly;               /* writes fail */
    bool discards;               /* DISCARD does something */
};

static inline void block_submit(struct block *b, struct block_request *r)
{
    r->error = 0;
    r->good = 0;
    r->next = NULL;
    b->ops->submit(b, r);
}

static inline void block_drain(struct block *b)
{
    if (b->ops->drain) b->ops->drain(b);
}

/* For back ends: copy between buf and the request's data from byte `at` on. from NULL: zeros. */
void block_put(const struct block_request *r, size_t at, const u8 *from, size_t size);
void block_get(const struct block_request *r, size_t at, u8 *to, size_t size);

#endif
