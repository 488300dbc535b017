/* Standard input and output as a character back end: the terminal in raw mode, with an escape key.
 *
 *     Ctrl-A x   end the machine            Ctrl-A b       send a serial break
 *     Ctrl-A h   show these keys            Ctrl-A Ctrl-A  send Ctrl-A itself
 *
 * The escape key works when a person types, and where the user asks for it (-nographic); otherwise input from a
 * file or pipe reaches the guest as it is. */
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

#define ESCAPE_KEY 0x01 /* Ctrl-A */

struct chardev_stdio {
    struct chardev_stream stream; /* must stay first */
    bool escapes;                 /* ESCAPE_KEY is one */
    bool escaped;                 /* it was the last key */
};

static void say(struct chardev_stream *s, const char *text)
{
    chardev_stream_write(s, (const u8 *)text, strlen(text));
}

/* The key after Ctrl-A; whether it is for the guest after all. */
static bool command(struct chardev_stdio *io, u8 key)
{
    struct chardev_stream *s = &io->stream;
    switch (key) {
    case ESCAPE_KEY: return true;
    case 'x':
        say(s, "\r\ncalque: terminated\r\n");
        event_loop_quit(s->loop);
        return false;
    case 'b':
        if (s->chr.front && s->chr.front->break_received) s->chr.front->break_received(s->chr.front_opaque);
        return false;
    case 'h':
    case '?':
        say(s, "\r\nC-a h    print this help\r\n"
               "C-a x    exit\r\n"
               "C-a b    send break\r\n"
               "C-a C-a  send C-a\r\n");
        return false;
    default: return false;
    }
}

static size_t filter(struct chardev_stream *s, u8 *buf, size_t n)
{
    struct chardev_stdio *io = (struct chardev_stdio *)s;
    if (!io->escapes) return n;

    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        u8 key = buf[i];
        if (io->escaped) {
            io->escaped = false;
            if (command(io, key)) buf[kept++] = key;
        } else if (key == ESCAPE_KEY) {
            io->escaped = true;
        } else {
            buf[kept++] = key;
        }
    }
    return kept;
}

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
    struct chardev_stdio *io = calloc(1, sizeof(*io));
    if (!io) {
        fprintf(stderr, "calque: out of memory\n");
        return NULL;
    }
    struct chardev_stream *s = &io->stream;
    bool typed = isatty(STDIN_FILENO);
    io->escapes = typed || config->escapes;
    s->loop = loop;
    s->name = "standard output";
    s->filter = filter;
    s->closed = closed;
    s->drop_input = typed;
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
