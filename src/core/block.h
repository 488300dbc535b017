/* The interface between a disk controller model and what holds the disk's contents.
 *
 * Requests are asynchronous: the back end works off the vCPU threads and calls done() under the machine lock,
 * in any order for reads, but a request sees all writes submitted before it. done() may be called inside
 * submit(). */
#ifndef CORE_BLOCK_H
#define CORE_BLOCK_H

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
    u8 *buf;                               /* data, for READ and WRITE */
    int error;                             /* in done(): 0 or -errno */
    size_t good;                           /* in done(): bytes before the first bad sector */
    void (*done)(struct block_request *r); /* it is over; may free r */
    struct block_request *next;            /* the back end's list */
};

struct block_ops {
    void (*submit)(struct block *b, struct block_request *r);
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

#endif
