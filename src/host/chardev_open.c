/* Opens a back end by its kind, and is the one for "null". */
#include "host/chardev_open.h"

#include <stdio.h>
#include <stdlib.h>

#include "host/chardev_stream.h"

static void null_write(struct chardev *c, const u8 *buf, size_t len)
{
    (void)c;
    (void)buf;
    (void)len;
}

static void null_destroy(struct chardev *c) { free(c); }

static const struct chardev_ops null_ops = {.write = null_write, .destroy = null_destroy};

static struct chardev *null_open(void)
{
    struct chardev *c = calloc(1, sizeof(*c));
    if (c)
        c->ops = &null_ops;
    else
        fprintf(stderr, "calque: out of memory\n");
    return c;
}

static struct chardev *open_kind(struct event_loop *loop, const struct chardev_config *config)
{
    switch (config->kind) {
    case CHARDEV_NULL: return null_open();
    case CHARDEV_STDIO: return chardev_stdio_open(loop, config);
    case CHARDEV_FILE:
    case CHARDEV_PIPE: return chardev_file_open(loop, config);
    case CHARDEV_PTY: return chardev_pty_open(loop, config);
    case CHARDEV_UNIX:
    case CHARDEV_TCP: return chardev_socket_open(loop, config);
    }
    return NULL;
}

struct chardev *chardev_open(struct event_loop *loop, const struct chardev_config *config)
{
    struct chardev *c = open_kind(loop, config);
    if (!c || !config->mux) return c;
    struct chardev *mux = chardev_mux_create(loop, c);
    if (!mux) chardev_close(c);
    return mux;
}

void chardev_close(struct chardev *c)
{
    if (c) c->ops->destroy(c);
}

void chardev_describe(const struct chardev_config *c, char *buf, size_t size)
{
    const char *server = c->server ? ",server=on" : "", *host = c->host ? c->host : "";
    switch (c->kind) {
    case CHARDEV_NULL: snprintf(buf, size, "null"); break;
    case CHARDEV_STDIO: snprintf(buf, size, "%sstdio", c->mux ? "mux:" : ""); break;
    case CHARDEV_FILE: snprintf(buf, size, "file:%s", c->path); break;
    case CHARDEV_PIPE: snprintf(buf, size, "pipe:%s", c->path); break;
    case CHARDEV_PTY: snprintf(buf, size, "pty"); break;
    case CHARDEV_UNIX: snprintf(buf, size, "unix:%s%s", c->path, server); break;
    case CHARDEV_TCP: snprintf(buf, size, "%s:%s:%s%s", c->telnet ? "telnet" : "tcp", host, c->port, server); break;
    }
}
