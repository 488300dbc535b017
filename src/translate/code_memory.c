/* Memory for translated code. See code_memory.h. */
#define _GNU_SOURCE
#include "translate/code_memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int code_memory_create(struct code_memory *m, size_t size)
{
    memset(m, 0, sizeof *m);
    int fd = memfd_create("calque-code", MFD_CLOEXEC), err;
    if (fd < 0) goto fail;
    if (ftruncate(fd, (off_t)size) < 0) goto fail_fd;
    m->rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (m->rw == MAP_FAILED) goto fail_fd;
    m->rx = mmap(NULL, size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    if (m->rx == MAP_FAILED) goto fail_rw;
    close(fd);
    m->size = size;
    const size_t each = size / CODE_REGIONS & ~(size_t)GUEST_PAGE_MASK;
    for (unsigned n = 0; n < CODE_REGIONS; n++) {
        m->regions[n].start = m->rw + n * each;
        m->regions[n].end = m->rw + (n + 1) * each;
        code_memory_recycle(m, n);
    }
    m->current = 0;
    return 0;
fail_rw:
    err = errno;
    munmap(m->rw, size);
    errno = err;
fail_fd:
    err = errno;
    close(fd);
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
