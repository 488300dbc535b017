/* Memory of the host in its large pages. */
#ifndef CORE_LARGE_H
#define CORE_LARGE_H

#include <stdbool.h>
#include <stddef.h>

#define LARGE_PAGE ((size_t)2 << 20)

/* Private memory, zero, for munmap(): begins at a large page, and consists of them where the host has any. prot: of mmap().
 * low: below 2 GiB, if the host has room there, so that addresses of 32 bits reach it. NULL: errno says why. */
void *large_map(size_t size, int prot, bool low);

#endif
