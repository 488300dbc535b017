/* Memory for translated code. See code_memory.h. */
#define _GNU_SOURCE
#include "translate/code_memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

int code_memory_create(struct code_memory *m, size_t size)
{
    memset(m, 0, sizeof *m);
    int err;
    /* Shared anonymous memory, and the same pages once more [mremap(2): old_size 0]; perf(1) looks into its map (perfmap.h) for
     * code in such memory, not for code in a named file. */
    m->rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (m->rw == MAP_FAILED) goto fail;
    m->rx = mremap(m->rw, 0, size, MREMAP_MAYMOVE);
    if (m->rx == MAP_FAILED) goto fail_rw;
    if (mprotect(m->rx, size, PROT_READ | PROT_EXEC) < 0) goto fail_rx;
    m->size = size;
    const size_t each = size / CODE_REGIONS & ~(size_t)GUEST_PAGE_MASK;
    for (unsigned n = 0; n < CODE_REGIONS; n++) {
        m->regions[n].start = m->rw + n * each;
        m->regions[n].end = m->rw + (n + 1) * each;
        code_memory_recycle(m, n);
    }
    m->current = 0;
    return 0;
fail_rx:
    err = errno;
    munmap(m->rx, size);
    errno = err;
fail_rw:
    err = errno;
    munmap(m->rw, size);
    errno = err;
fail:
    err = errno;
    fprintf(stderr, "calque: no memory for translated code: %s\n", strerror(err));
    m->rw = m->rx = NULL;
    return -err;
}

void code_memory_recycle(struct code_memory *m, unsigned region)
{
    struct code_region *r = &m->regions[region];
    r->code = r->start;
    r->middle = r->cold = r->start + (r->end - r->start) / 3;
    r->data = r->end;
    m->current = region;
}

void code_memory_destroy(struct code_memory *m)
{
    if (!m->rw) return;
    munmap(m->rw, m->size);
    munmap(m->rx, m->size);
    m->rw = m->rx = NULL;
}
