/* Memory for translated code: mapped twice, writable here and executable there, never both at one address. */
#ifndef TRANSLATE_CODE_MEMORY_H
#define TRANSLATE_CODE_MEMORY_H

#include <stddef.h>

#include "core/types.h"

#define CODE_REGIONS 16u
#define CODE_ROOM    (64u << 10) /* more than any block needs */
#define CODE_MIN     (CODE_REGIONS * 6 * CODE_ROOM)

/* Code memory is filled region by region, in a circle. What runs all the time lies at a region's start, dense for the processor's
 * caches; behind it what rarely runs; and from the end down what belongs to the code. */
struct code_region {
    u8 *start, *end;   /* all in the writable view */
    u8 *code, *middle; /* what is free for code that runs all the time lies between */
    u8 *cold, *data;   /* what is free for the rest */
    u8 *large_code, *large_cold; /* from here on there are no large pages yet */
};

struct code_memory {
    u8 *rw;      /* the view that is written */
    u8 *rx;      /* the view that runs */
    size_t size; /* bytes of each */
    struct code_region regions[CODE_REGIONS];
    unsigned current; /* the one being filled */
    void **begun;     /* by chunk of the code: the last thing whose code begins in it, or NULL */
};

/* 0 or -errno with a message. size: at least CODE_MIN. */
int code_memory_create(struct code_memory *m, size_t size);
void code_memory_destroy(struct code_memory *m);

static inline struct code_region *code_memory_current(struct code_memory *m) { return &m->regions[m->current]; }
static inline bool code_memory_full(const struct code_memory *m)
{
    const struct code_region *r = &m->regions[m->current];
    return r->middle - r->code < (ptrdiff_t)CODE_ROOM || r->data - r->cold < (ptrdiff_t)CODE_ROOM;
}
/* Start over with the oldest region. The caller has given up what is in it. */
void code_memory_recycle(struct code_memory *m, unsigned region);
/* More code is there. */
void code_memory_filled(struct code_memory *m);
/* Bytes at the end of the region being filled, aligned for any object. There is always room (code_memory_full()). */
static inline void *code_memory_data(struct code_memory *m, size_t bytes)
{
    return m->regions[m->current].data -= (bytes + 15) & ~(size_t)15;
}

#define CODE_CHUNK 4096u
/* `thing`'s code begins there, in the writable view, behind all that has code there. */
static inline void code_memory_begins(struct code_memory *m, const u8 *code, void *thing) { m->begun[(code - m->rw) / CODE_CHUNK] = thing; }
/* The last thing to begin before a byte of code or in its chunk; there is one. */
void *code_memory_find(const struct code_memory *m, const u8 *rx);

/* The executable address of a byte of the writable view, and back. */
static inline u8 *code_memory_rx(const struct code_memory *m, const void *rw) { return m->rx + ((const u8 *)rw - m->rw); }
static inline u8 *code_memory_rw(const struct code_memory *m, const void *rx) { return m->rw + ((const u8 *)rx - m->rx); }

#endif
