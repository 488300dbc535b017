/* Standard input and output as a character back end: the terminal in raw mode. Keys for the user are chardev_mux.c's. */
#include "host/chardev_open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/chardev_stream.h"
#include "host/terminal.h"

static void closed(struct chardev_stream *s)
{
    (void)s;
    terminal_restore();
}

/* A descriptor for standard output on which a write never waits, without changing the open file that we share
 * with our parent: pipes and terminals can be opened anew through /proc. *poll_first: it could not be had. */
static int output_fd(bool *poll_first)
{
    struct stat st;
    *poll_first = false;
    if (fstat(STDOUT_FILENO, &st) < 0) return -1;
    if (S_ISREG(st.st_mode)) return STDOUT_FILENO;
    if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
        int fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd >= 0) return fd;
    }
    *poll_first = true;
    return STDOUT_FILENO;
}

struct chardev *chardev_stdio_open(struct event_loop *loop, const struct chardev_config *config)
{
    struct chardev_stream *s = calloc(1, sizeof(*s));
    if (!s) {
        fprintf(stderr, "calque: out of memory\n");
        return NULL;
    }
    s->loop = loop;
    s->name = "standard output";
    s->closed = closed;
    s->drop_input = isatty(STDIN_FILENO);
    chardev_stream_init(s);

    bool poll_first;
    int out = output_fd(&poll_first);
    s->poll_first = poll_first;
    int in = fcntl(STDIN_FILENO, F_GETFD) < 0 ? -1 : STDIN_FILENO;
    int err = chardev_stream_attach(s, in, out);
    if (!err) err = terminal_raw(STDIN_FILENO, config->signals);
    if (err) {
        fprintf(stderr, "calque: cannot set up standard input and output: %s\n", strerror(-err));
        chardev_stream_destroy(&s->chr);
        return NULL;
    }
    return &s->chr;
}
