/* Files (output only) and named pipes as character back ends. */
#define _GNU_SOURCE
#include "host/chardev_open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/chardev_stream.h"

static struct chardev *open_file(struct chardev_stream *s, const struct chardev_config *config)
{
    /* Non-blocking for the sake of FIFOs and terminals; regular files do not care. */
    int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (config->append ? O_APPEND : O_TRUNC);
    int fd = open(config->path, flags, 0666);
    /* A FIFO without a reader yet: wait for it, as a plain open does. */
    if (fd < 0 && errno == ENXIO) {
        fd = open(config->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        if (fd >= 0) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    }
    if (fd < 0) {
        fprintf(stderr, "calque: %s: cannot open %s: %s\n", config->label, config->path, strerror(errno));
        return NULL;
    }
    if (chardev_stream_attach(s, -1, fd) < 0) return NULL;
    return &s->chr;
}

static int open_pipe_end(const char *path, const char *suffix)
{
    char *full = NULL;
    if (asprintf(&full, "%s%s", path, suffix) < 0) return -1;
    int fd = open(full, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    int err = errno;
    free(full);
    errno = err;
    return fd;
}

static struct chardev *open_pipe(struct chardev_stream *s, const struct chardev_config *config)
{
    int in = open_pipe_end(config->path, ".in");
    int out = open_pipe_end(config->path, ".out");
    if (in < 0 || out < 0) {
        if (in >= 0) close(in);
        if (out >= 0) close(out);
        in = out = open_pipe_end(config->path, "");
    }
    if (in < 0) {
        fprintf(stderr, "calque: %s: cannot open pipe %s: %s\n", config->label, config->path, strerror(errno));
        return NULL;
    }
    if (chardev_stream_attach(s, in, out) < 0) return NULL;
    return &s->chr;
}

struct chardev *chardev_file_open(struct event_loop *loop, const struct chardev_config *config)
{
    struct chardev_stream *s = calloc(1, sizeof(*s));
    if (!s) {
        fprintf(stderr, "calque: out of memory\n");
        return NULL;
    }
    s->loop = loop;
    s->name = config->path;
    chardev_stream_init(s);
    struct chardev *c = config->kind == CHARDEV_PIPE ? open_pipe(s, config) : open_file(s, config);
    if (!c) chardev_stream_destroy(&s->chr);
    return c;
}
