/* -perfmap: names for translated code, where `perf report` looks for them: /tmp/perf-PID.map. Process wide. */
#ifndef TRANSLATE_PERFMAP_H
#define TRANSLATE_PERFMAP_H

#include "core/types.h"

/* Start the file: 0 or -errno with a message. */
int perfmap_open(void);
bool perfmap_enabled(void);
/* Host code at an executable address; name: as in printf. Does nothing without a file. Any thread. */
void perfmap_add(const void *at, size_t bytes, const char *name, ...) __attribute__((format(printf, 3, 4)));

#endif
