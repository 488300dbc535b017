/* The file has a line for each piece of code: start and size in hexadecimal, and a name, as perf's documentation has it
 * (tools/perf/Documentation/jit-interface.txt in Linux's source). Code memory that is used again gets new lines: perf takes the
 * last. */
#include "translate/perfmap.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static FILE *map; /* NULL: not asked for */

int perfmap_open(void)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%ld.map", (long)getpid());
    map = fopen(path, "we");
    if (map) return 0;
    int err = errno;
    fprintf(stderr, "calque: cannot open %s for -perfmap: %s\n", path, strerror(err));
    return -err;
}

bool perfmap_enabled(void) { return map; }

void perfmap_add(const void *at, size_t bytes, const char *name, ...)
{
    if (!map) return;
    va_list args;
    va_start(args, name);
    flockfile(map);
    fprintf(map, "%llx %zx ", (unsigned long long)(uintptr_t)at, bytes);
    vfprintf(map, name, args);
    fputc('\n', map);
    fflush(map); /* perf may read it when the process is killed */
    funlockfile(map);
    va_end(args);
}
