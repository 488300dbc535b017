/* Random numbers from the host: the kernel's generator, or a file that the user names. */
#include "host/random_source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

struct random_source {
    int fd; /* the file, -1: getrandom() */
};

struct random_source *random_source_open(const char *file)
{
    struct random_source *r = malloc(sizeof(*r));
    if (!r) {
        fprintf(stderr, "calque: out of memory\n");
        return NULL;
    }
    /* A source that has nothing at the moment must not stop the machine. */
    r->fd = file ? open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (file && r->fd < 0) {
        fprintf(stderr, "calque: -object rng-random: %s: %s\n", file, strerror(errno));
        free(r);
        return NULL;
    }
    return r;
}

void random_source_close(struct random_source *r)
{
    if (!r) return;
    if (r->fd >= 0) close(r->fd);
    free(r);
}

size_t random_source_fill(void *source, u8 *buf, size_t size)
{
    struct random_source *r = source;
    ssize_t n = r->fd < 0 ? getrandom(buf, size, GRND_NONBLOCK) : read(r->fd, buf, size);
    return n > 0 ? (size_t)n : 0;
}
