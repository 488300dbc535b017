/* Memory for translated code. See code_memory.h. */
#define _GNU_SOURCE
#include "translate/code_memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/large.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* [madvise(2)], Linux 6.1; also for shared memory, whatever the administrator has said of large pages */
#endif

int code_memory_create(struct code_memory *m, size_t size)
{
    memset(m, 0, sizeof *m);
    m->size = (size + LARGE_PAGE - 1) & ~(LARGE_PAGE - 1);
    m->rw = large_map(m->size, PROT_NONE, false);
    m->rx = large_map(m->size, PROT_NONE, false);
    if (!m->rw || !m->rx) goto fail;
    /* Shared anonymous memory, and the same pages once more [mremap(2): old_size 0]; perf(1) looks into its map (perfmap.h) for
     * code in such memory, not for code in a named file. */
    if (mmap(m->rw, m->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
        mremap(m->rw, 0, m->size, MREMAP_MAYMOVE | MREMAP_FIXED, m->rx) == MAP_FAILED ||
        mprotect(m->rx, m->size, PROT_READ | PROT_EXEC) < 0)
        goto fail;
    m->begun = calloc(m->size / CODE_CHUNK, sizeof *m->begun);
    if (!m->begun) goto fail;
    const size_t each = m->size / CODE_REGIONS & ~(size_t)GUEST_PAGE_MASK;
    for (unsigned n = 0; n < CODE_REGIONS; n++) {
        struct code_region *r = &m->regions[n];
        r->start = m->rw + n * each;
        r->end = m->rw + (n + 1) * each;
        code_memory_recycle(m, n);
        r->large_code = r->code;
        r->large_cold = r->cold;
    }
    m->current = 0;
    return 0;
fail:;
    const int err = errno;
    fprintf(stderr, "calque: no memory for translated code: %s\n", strerror(err));
    code_memory_destroy(m);
    return -err;
}

static void *collapse(void *at)
{
    madvise(at, LARGE_PAGE, MADV_COLLAPSE); /* a host that cannot is as good, only slower */
    return NULL;
}

/* Have a large page where code begins to be, in a thread of its own: it takes the host a while. */
static void have_large(const struct code_memory *m, u8 **next, const u8 *at)
{
    enum { BEGUN = 64 << 10 }; /* the host makes none out of nothing */
    u8 *page = (u8 *)(((uintptr_t)*next + LARGE_PAGE - 1) & ~(uintptr_t)(LARGE_PAGE - 1));
    pthread_t thread;
    if (at < page + BEGUN || page + LARGE_PAGE > m->rx) return;
    *next = page + LARGE_PAGE;
    if (!pthread_create(&thread, NULL, collapse, code_memory_rx(m, page))) pthread_detach(thread);
}

void code_memory_filled(struct code_memory *m)
{
    struct code_region *r = code_memory_current(m);
    have_large(m, &r->large_code, r->code);
    have_large(m, &r->large_cold, r->cold);
}

void code_memory_recycle(struct code_memory *m, unsigned region)
{
    struct code_region *r = &m->regions[region];
    r->code = r->start;
    r->middle = r->cold = m->rw + ((size_t)(r->start - m->rw + (r->end - r->start) / 3) & ~(size_t)(CODE_CHUNK - 1));
    r->data = r->end;
    m->current = region;
    for (size_t n = (size_t)(r->start - m->rw) / CODE_CHUNK; n < (size_t)(r->end - m->rw) / CODE_CHUNK; n++) m->begun[n] = NULL;
}

void *code_memory_find(const struct code_memory *m, const u8 *rx)
{
    size_t n = (size_t)(rx - m->rx) / CODE_CHUNK;
    while (!m->begun[n]) n--;
    return m->begun[n];
}

void code_memory_destroy(struct code_memory *m)
{
    if (m->rw) munmap(m->rw, m->size);
    if (m->rx) munmap(m->rx, m->size);
    free(m->begun);
    m->begun = NULL;
    m->rw = m->rx = NULL;
}
