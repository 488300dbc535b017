/* Memory of the host in its large pages. See large.h. */
#define _GNU_SOURCE
#include "core/large.h"

#include <stdint.h>
#include <sys/mman.h>

#ifndef MAP_32BIT
#define MAP_32BIT 0 /* only x86-64 has it */
#endif

void *large_map(size_t size, int prot, bool low)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *p = MAP_FAILED;
    if (low) p = mmap(NULL, size + LARGE_PAGE, prot, flags | MAP_32BIT, -1, 0);
    if (p == MAP_FAILED) p = mmap(NULL, size + LARGE_PAGE, prot, flags, -1, 0);
    if (p == MAP_FAILED) return NULL;
    const size_t before = -(uintptr_t)p & (LARGE_PAGE - 1);
    if (before) munmap(p, before);
    munmap(p + before + size, LARGE_PAGE - before);
    madvise(p + before, size, MADV_HUGEPAGE); /* a host without them is as good, only slower */
    return p + before;
}
