/* Random numbers from the host. */
#ifndef HOST_RANDOM_SOURCE_H
#define HOST_RANDOM_SOURCE_H

#include "core/types.h"

struct random_source;

/* From a file such as /dev/urandom; NULL: the kernel's generator. NULL with a message. */
struct random_source *random_source_open(const char *file);
void random_source_close(struct random_source *r);
/* Up to size bytes: how many came; 0: none. */
size_t random_source_fill(void *source, u8 *buf, size_t size);

#endif
