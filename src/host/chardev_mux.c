/* One back end for several front ends, such as a serial port and a monitor on the user's terminal.
 *
 * All write to it; one of them, chosen by the user, has the input. Ctrl-A starts a command:
 *
 *     Ctrl-A x   end the machine            Ctrl-A c       give the input to the next front end
 *     Ctrl-A b   send a serial break        Ctrl-A Ctrl-A  send Ctrl-A itself
 *     Ctrl-A h   show these keys
 *
 * A front end's connected() says that it has the input. */
#include "host/chardev_open.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/chardev_stream.h"

#define ESCAPE_KEY 0x01 /* Ctrl-A */
#define PORTS      4

struct chardev_mux;

struct mux_port {
    struct chardev chr;      /* must stay first; up: it has the input */
    struct chardev_mux *mux; /* where it belongs */
    u8 rx[1024];             /* input that the front end has not taken yet */
    size_t rx_len;           /* bytes in rx */
};

struct chardev_mux {
    struct chardev chr;          /* must stay first; nobody attaches to it */
    struct event_loop *loop;     /* Ctrl-A x ends its run */
    struct chardev *back;        /* ours */
    struct mux_port ports[PORTS]; /* in order of creation */
    int port_count;              /* used entries */
    int focus;                   /* which has the input */
    bool escaped;                /* ESCAPE_KEY was the last key */
    bool typed;                  /* a person types: commands work though the front end takes nothing, what it does not is lost */
};

static struct mux_port *focused(struct chardev_mux *m) { return m->port_count ? &m->ports[m->focus] : NULL; }

static void say(struct chardev_mux *m, const char *text) { chardev_write(m->back, (const u8 *)text, strlen(text)); }

static void set_focus(struct chardev_mux *m, int focus)
{
    if (focus == m->focus) return;
    chardev_set_up(&focused(m)->chr, false);
    m->focus = focus;
    chardev_set_up(&focused(m)->chr, m->back->up);
}

/* ---- input ---- */

static void drain(struct mux_port *p)
{
    const struct chardev_front *front = p->chr.front;
    while (p->rx_len && front && front->receive) {
        size_t n = front->can_receive ? MIN(front->can_receive(p->chr.front_opaque), p->rx_len) : p->rx_len;
        u8 part[sizeof(p->rx)];
        if (!n) break;
        memcpy(part, p->rx, n);
        p->rx_len -= n;
        memmove(p->rx, p->rx + n, p->rx_len);
        front->receive(p->chr.front_opaque, part, n);
    }
}

/* The key after Ctrl-A; whether it is for the front end after all. */
static bool command(struct chardev_mux *m, u8 key)
{
    struct mux_port *p = focused(m);
    switch (key) {
    case ESCAPE_KEY: return true;
    case 'x':
        say(m, "\r\ncalque: terminated\r\n");
        event_loop_quit(m->loop);
        return false;
    case 'c': set_focus(m, (m->focus + 1) % m->port_count); return false;
    case 'b':
        if (p->chr.front && p->chr.front->break_received) p->chr.front->break_received(p->chr.front_opaque);
        return false;
    case 'h':
    case '?':
        say(m, "\r\nC-a h    print this help\r\n"
               "C-a x    exit\r\n"
               "C-a b    send break\r\n"
               "C-a c    switch between console and monitor\r\n"
               "C-a C-a  send C-a\r\n");
        return false;
    default: return false;
    }
}

static size_t mux_can_receive(void *opaque)
{
    struct chardev_mux *m = opaque;
    struct mux_port *p = focused(m);
    size_t room = p ? sizeof(p->rx) - p->rx_len : 0;
    return p && !room && m->typed ? 1 : room;
}

static void mux_receive(void *opaque, const u8 *buf, size_t len)
{
    struct chardev_mux *m = opaque;
    for (size_t i = 0; i < len; i++) {
        bool keep = buf[i] != ESCAPE_KEY;
        if (m->escaped) {
            m->escaped = false;
            drain(focused(m)); /* what came before the command is seen before it */
            keep = command(m, buf[i]);
        } else if (!keep) {
            m->escaped = true;
        }
        struct mux_port *p = focused(m);
        if (keep && p->rx_len < sizeof(p->rx)) p->rx[p->rx_len++] = buf[i];
    }
    drain(focused(m));
}

static void mux_break(void *opaque)
{
    struct chardev_mux *m = opaque;
    if (focused(m)) command(m, 'b');
}

static void mux_connected(void *opaque, bool up)
{
    struct chardev_mux *m = opaque;
    if (focused(m)) chardev_set_up(&focused(m)->chr, up);
}

static const struct chardev_front mux_front = {mux_can_receive, mux_receive, mux_break, mux_connected};

/* ---- ports ---- */

static void port_write(struct chardev *c, const u8 *buf, size_t len)
{
    chardev_write(((struct mux_port *)c)->mux->back, buf, len);
}

static void port_accept_input(struct chardev *c)
{
    struct mux_port *p = (struct mux_port *)c;
    drain(p);
    if (focused(p->mux) == p) chardev_accept_input(p->mux->back);
}

static void port_destroy(struct chardev *c) { (void)c; }

static const struct chardev_ops port_ops = {port_write, port_accept_input, port_destroy};

/* ---- life ---- */

static void mux_write(struct chardev *c, const u8 *buf, size_t len)
{
    chardev_write(((struct chardev_mux *)c)->back, buf, len);
}

static void mux_destroy(struct chardev *c)
{
    struct chardev_mux *m = (struct chardev_mux *)c;
    chardev_close(m->back);
    free(m);
}

static const struct chardev_ops mux_ops = {.write = mux_write, .destroy = mux_destroy};

struct chardev *chardev_mux_create(struct event_loop *loop, struct chardev *back)
{
    struct chardev_mux *m = calloc(1, sizeof(*m));
    if (!m) {
        fprintf(stderr, "calque: out of memory\n");
        return NULL;
    }
    m->chr.ops = &mux_ops;
    m->loop = loop;
    m->back = back;
    m->typed = isatty(STDIN_FILENO);
    chardev_attach(back, &mux_front, m);
    return &m->chr;
}

struct chardev *chardev_port(struct chardev *c)
{
    if (!c || c->ops != &mux_ops) return c;
    struct chardev_mux *m = (struct chardev_mux *)c;
    if (m->port_count == PORTS) {
        fprintf(stderr, "calque: a character device has at most %d users\n", PORTS);
        return NULL;
    }
    struct mux_port *p = &m->ports[m->port_count++];
    p->chr.ops = &port_ops;
    p->mux = m;
    p->chr.up = focused(m) == p && m->back->up;
    return &p->chr;
}
