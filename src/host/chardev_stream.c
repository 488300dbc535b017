/* File descriptors as character back ends.
 *
 * Output is written at once when the descriptor takes it. What it does not take waits in a buffer of 1 MiB and
 * follows when poll() says so. When the buffer is full too, the vCPU that wants to write more waits here: the
 * guest's output is never lost to a slow reader, and the machine simply stands still until it is read (or until
 * the process is told to quit). */
#include "host/chardev_stream.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TX_SIZE       CHARDEV_STREAM_OUTPUT
#define BLOCKING_STEP 256 /* a terminal or pipe that poll() calls writable takes that many bytes */
#define QUIT_POLL_MS  50

static void lost(struct chardev_stream *s, int err)
{
    s->tx_len = 0;
    if (s->hangup) {
        s->hangup(s, err);
        return;
    }
    if (!s->failed) {
        s->failed = true;
        fprintf(stderr, "calque: cannot write to %s: %s\n", s->name, strerror(err));
        event_loop_fail(s->loop);
    }
}

/* Write what goes without waiting: the number of bytes, or -errno. */
static ssize_t write_some(struct chardev_stream *s, const u8 *buf, size_t len)
{
    size_t done = 0;
    while (done < len) {
        size_t step = len - done;
        if (s->poll_first) {
            struct pollfd p = {.fd = s->out_fd, .events = POLLOUT};
            if (poll(&p, 1, 0) <= 0 || !(p.revents & (POLLOUT | POLLERR))) break;
            step = MIN(step, BLOCKING_STEP);
        }
        ssize_t n = write(s->out_fd, buf + done, step);
        if (n < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK) break;
            return done ? (ssize_t)done : -errno;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* Send from the buffer. */
static void flush_some(struct chardev_stream *s)
{
    while (s->tx_len) {
        size_t run = MIN(s->tx_len, TX_SIZE - s->tx_head);
        ssize_t n = write_some(s, s->tx + s->tx_head, run);
        if (n < 0) {
            lost(s, (int)-n);
            return;
        }
        s->tx_head = (s->tx_head + (size_t)n) % TX_SIZE;
        s->tx_len -= (size_t)n;
        if ((size_t)n < run) break;
    }
    if (s->out) event_source_set_enabled(s->out, s->tx_len != 0);
    if (!s->tx_len && s->chr.lossy) chardev_stream_deliver(s);
}

/* Wait until the descriptor takes more. False: stop waiting. */
static bool wait_writable(struct chardev_stream *s)
{
    while (!event_loop_quitting(s->loop)) {
        struct pollfd p = {.fd = s->out_fd, .events = POLLOUT};
        int n = poll(&p, 1, QUIT_POLL_MS);
        if (n > 0) return true;
        if (n < 0 && errno != EINTR) return false;
    }
    return false;
}

void chardev_stream_write(struct chardev_stream *s, const u8 *buf, size_t len)
{
    if (s->out_fd < 0 || s->failed) return;
    if (s->chr.lossy && len > TX_SIZE - s->tx_len) return;
    if (!s->tx_len) {
        ssize_t n = write_some(s, buf, len);
        if (n < 0) {
            lost(s, (int)-n);
            return;
        }
        buf += n;
        len -= (size_t)n;
    }
    while (len) {
        if (!s->tx && !(s->tx = malloc(TX_SIZE))) {
            lost(s, ENOMEM);
            return;
        }
        size_t room = TX_SIZE - s->tx_len;
        if (!room) {
            if (!wait_writable(s)) return;
            flush_some(s);
            if (s->out_fd < 0 || s->failed) return;
            continue;
        }
        size_t tail = (s->tx_head + s->tx_len) % TX_SIZE;
        size_t n = MIN(MIN(len, room), TX_SIZE - tail);
        memcpy(s->tx + tail, buf, n);
        s->tx_len += n;
        buf += n;
        len -= n;
    }
    if (s->tx_len && s->out) event_source_set_enabled(s->out, true);
}

static void stream_write(struct chardev *c, const u8 *buf, size_t len)
{
    chardev_stream_write((struct chardev_stream *)c, buf, len);
}

/* ---- input ---- */

static bool pausing(const struct chardev_stream *s) { return s->pause && timer_armed(s->pause); }

static void update_input(struct chardev_stream *s)
{
    if (s->in) event_source_set_enabled(s->in, (s->drop_input || s->rx_len < sizeof(s->rx)) && !pausing(s));
}

static void pause_over(void *opaque) { chardev_stream_deliver(opaque); }

/* Somebody who floods us with commands gets a quarter of the loop's time, so that the machine lock is free for the rest. */
static void pause_for(struct chardev_stream *s, u64 start)
{
    struct clock *clock = event_loop_host_clock(s->loop);
    u64 now = clock_now(clock);
    if (!s->pause) s->pause = timer_create_on(clock, pause_over, s);
    if (s->pause) timer_arm(s->pause, now + 3 * (now - start));
}

void chardev_stream_deliver(struct chardev_stream *s)
{
    if (s->delivering || pausing(s)) return;
    s->delivering = true;
    u64 start = clock_now(event_loop_host_clock(s->loop));
    size_t had = s->rx_len;
    while (s->rx_len && s->chr.front && s->chr.front->receive && !(s->chr.lossy && s->tx_len)) {
        size_t room = s->chr.front->can_receive ? s->chr.front->can_receive(s->chr.front_opaque) : s->rx_len;
        size_t n = MIN(room, s->rx_len);
        if (!n) break;
        u8 part[64];
        n = MIN(n, sizeof(part));
        memcpy(part, s->rx, n);
        s->rx_len -= n;
        memmove(s->rx, s->rx + n, s->rx_len);
        s->chr.front->receive(s->chr.front_opaque, part, n);
    }
    s->delivering = false;
    if (s->rx_len != had && s->chr.lossy) pause_for(s, start);
    update_input(s);
}

void chardev_stream_accept_input(struct chardev *c) { chardev_stream_deliver((struct chardev_stream *)c); }

static void readable(void *opaque, short revents)
{
    struct chardev_stream *s = opaque;
    u8 spill[256]; /* the terminal's when rx is full */
    (void)revents;

    size_t room = sizeof(s->rx) - s->rx_len;
    u8 *to = room ? s->rx + s->rx_len : spill;
    ssize_t n = read(s->in_fd, to, room ? room : sizeof(spill));
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        if (s->hangup) {
            s->hangup(s, 0);
        } else {
            event_source_remove(s->in);
            s->in = NULL;
        }
        return;
    }
    size_t kept = s->filter ? s->filter(s, to, (size_t)n) : (size_t)n;
    if (room) s->rx_len += kept;
    chardev_stream_deliver(s);
}

static void writable(void *opaque, short revents)
{
    struct chardev_stream *s = opaque;
    (void)revents;
    flush_some(s);
}

/* ---- life ---- */

static const struct chardev_ops stream_ops = {
    .write = stream_write,
    .accept_input = chardev_stream_accept_input,
    .destroy = chardev_stream_destroy,
};

void chardev_stream_init(struct chardev_stream *s)
{
    if (!s->chr.ops) s->chr.ops = &stream_ops;
    s->in_fd = s->out_fd = -1;
}

int chardev_stream_attach(struct chardev_stream *s, int in_fd, int out_fd)
{
    s->in_fd = in_fd;
    s->out_fd = out_fd;
    if (in_fd >= 0 && !(s->in = event_loop_add(s->loop, in_fd, POLLIN, readable, s))) return -ENOMEM;
    if (out_fd >= 0) {
        s->out = event_loop_add(s->loop, out_fd, POLLOUT, writable, s);
        if (!s->out) return -ENOMEM;
        event_source_set_enabled(s->out, false);
    }
    update_input(s);
    chardev_set_up(&s->chr, true);
    return 0;
}

void chardev_stream_detach(struct chardev_stream *s)
{
    event_source_remove(s->in);
    event_source_remove(s->out);
    s->in = s->out = NULL;
    if (s->out_fd > STDERR_FILENO && s->out_fd != s->in_fd) close(s->out_fd);
    if (s->in_fd > STDERR_FILENO) close(s->in_fd);
    s->in_fd = s->out_fd = -1;
    s->tx_len = 0;
    if (s->chr.lossy) s->rx_len = 0; /* half a command is nothing for the next peer */
    chardev_set_up(&s->chr, false);
}

void chardev_stream_destroy(struct chardev *c)
{
    struct chardev_stream *s = (struct chardev_stream *)c;
    s->chr.front = NULL;
    while (s->tx_len && s->out_fd >= 0 && !s->failed && !s->chr.lossy && wait_writable(s)) flush_some(s);
    chardev_stream_detach(s);
    timer_destroy(s->pause);
    if (s->closed) s->closed(s);
    free(s->tx);
    free(s);
}
