/* Memory for translated code: one memfd mapped twice, writable here and executable there, never both at one address. */
#ifndef TRANSLATE_CODE_MEMORY_H
#define TRANSLATE_CODE_MEMORY_H

#include "core/types.h"

struct code_memory {
    u8 *rw;      /* the view that is written */
    u8 *rx;      /* the view that runs */
    size_t size; /* bytes of each */
    size_t used; /* from the start */
};

/* 0 or -errno with a message. */
int code_memory_create(struct code_memory *m, size_t size);
void code_memory_destroy(struct code_memory *m);

/* The executable address of a byte of the writable view. */
static inline u8 *code_memory_rx(const struct code_memory *m, const void *rw)
{
    return m->rx + ((const u8 *)rw - m->rw);
}

#endif
