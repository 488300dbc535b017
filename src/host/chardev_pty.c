/* A pseudo terminal as a character back end.
 *
 * While nobody has the terminal open, output is dropped, like on a serial cable that ends in the air. The master
 * side then reports a hang-up all the time, so it is taken out of the event loop and looked at by a timer. */
#define _GNU_SOURCE
#include "host/chardev_open.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "core/clock.h"
#include "host/chardev_stream.h"

#define LOOK_NS (NS_PER_SECOND / 10)

struct chardev_pty {
    struct chardev_stream stream; /* must stay first; attached while somebody is at the other end */
    int master;                   /* our side; always open */
    struct timer *timer;          /* looks for somebody opening it */
    char *path;                   /* of the other side */
};

static bool somebody_there(const struct chardev_pty *p)
{
    struct pollfd poll_fd = {.fd = p->master, .events = POLLOUT};
    return poll(&poll_fd, 1, 0) >= 0 && !(poll_fd.revents & POLLHUP);
}

/* Attach to or detach from the loop, as the other side comes and goes. */
static void look(void *opaque)
{
    struct chardev_pty *p = opaque;
    struct clock *clock = event_loop_host_clock(p->stream.loop);
    if (p->stream.in_fd < 0 && somebody_there(p)) {
        int fd = fcntl(p->master, F_DUPFD_CLOEXEC, 3); /* detaching closes it */
        if (fd >= 0) chardev_stream_attach(&p->stream, fd, fd);
        chardev_stream_deliver(&p->stream);
    }
    if (p->stream.in_fd < 0) timer_arm(p->timer, clock_now(clock) + LOOK_NS);
}

static void hangup(struct chardev_stream *s, int err)
{
    struct chardev_pty *p = (struct chardev_pty *)s;
    (void)err;
    chardev_stream_detach(s);
    timer_arm(p->timer, clock_now(event_loop_host_clock(s->loop)) + LOOK_NS);
}

static void pty_write(struct chardev *c, const u8 *buf, size_t len)
{
    struct chardev_pty *p = (struct chardev_pty *)c;
    if (p->stream.in_fd < 0) look(p);
    chardev_stream_write(&p->stream, buf, len);
}

static void closed(struct chardev_stream *s)
{
    struct chardev_pty *p = (struct chardev_pty *)s;
    if (p->timer) timer_destroy(p->timer);
    if (p->master >= 0) close(p->master);
    free(p->path);
}

static const struct chardev_ops pty_ops = {
    .write = pty_write,
    .accept_input = chardev_stream_accept_input,
    .destroy = chardev_stream_destroy,
};

/* Create the pair with the other side raw: 0 or -errno. */
static int open_pair(struct chardev_pty *p)
{
    char path[128];
    p->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (p->master < 0) return -errno;
    if (grantpt(p->master) < 0 || unlockpt(p->master) < 0) return -errno;
    int err = ptsname_r(p->master, path, sizeof(path));
    if (err) return -err;
    if (!(p->path = strdup(path))) return -ENOMEM;

    int slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0) return -errno;
    struct termios t;
    if (tcgetattr(slave, &t) == 0) {
        cfmakeraw(&t);
        tcsetattr(slave, TCSANOW, &t);
    }
    close(slave);
    return 0;
}

const char *chardev_pty_path(const struct chardev *c)
{
    return c->ops == &pty_ops ? ((const struct chardev_pty *)c)->path : NULL;
}

struct chardev *chardev_pty_open(struct event_loop *loop, const struct chardev_config *config)
{
    struct chardev_pty *p = calloc(1, sizeof(*p));
    if (!p) {
        fprintf(stderr, "calque: out of memory\n");
        return NULL;
    }
    struct chardev_stream *s = &p->stream;
    p->master = -1;
    s->loop = loop;
    s->hangup = hangup;
    s->closed = closed;
    s->chr.ops = &pty_ops;
    chardev_stream_init(s);

    int err = open_pair(p);
    if (!err && !(p->timer = timer_create_on(event_loop_host_clock(loop), look, p))) err = -ENOMEM;
    if (err) {
        fprintf(stderr, "calque: %s: cannot create a pseudo terminal: %s\n", config->label, strerror(-err));
        chardev_stream_destroy(&s->chr);
        return NULL;
    }
    s->name = p->path;
    printf("char device redirected to %s (label %s)\n", p->path, config->label);
    fflush(stdout);
    look(p);
    return &s->chr;
}
