/* The common part of back ends that are file descriptors: buffered output that neither stalls nor gets lost,
 * and input at the pace of the guest. */
#ifndef HOST_CHARDEV_STREAM_H
#define HOST_CHARDEV_STREAM_H

#include "core/chardev.h"
#include "core/types.h"
#include "host/chardev_open.h"
#include "host/event_loop.h"

#define CHARDEV_STREAM_INPUT  4096
#define CHARDEV_STREAM_OUTPUT (1u << 20)

struct chardev_stream {
    struct chardev chr;         /* must stay first */
    struct event_loop *loop;    /* for both directions */
    const char *name;           /* of the file or peer, for messages */
    int in_fd, out_fd;          /* -1: not connected in that direction; may be equal */
    bool drop_input;            /* a person types: what the guest does not take is dropped */
    bool poll_first;            /* out_fd is blocking: ask poll() before each small write */
    bool failed;                /* an error was reported: output vanishes from then on */
    struct event_source *in;    /* POLLIN on in_fd */
    struct event_source *out;   /* POLLOUT on out_fd, enabled while output waits */
    u8 rx[CHARDEV_STREAM_INPUT]; /* input that the guest has not taken yet */
    size_t rx_len;              /* bytes in rx */
    struct timer *pause;        /* lossy: input waits until it fires, NULL: never had to */
    bool delivering;            /* inside front->receive(): it may call accept_input() */
    u8 *tx;                     /* output that waits, allocated when first needed */
    size_t tx_head, tx_len;     /* from where, how many bytes */

    /* ---- set by the back end; all may be NULL ---- */
    /* Look at n bytes of input, in place: how many are for the guest. */
    size_t (*filter)(struct chardev_stream *s, u8 *buf, size_t n);
    /* The peer has gone (end of input, or hang-up: err 0; else the errno of a write). Without it: end of input
     * is the end of input, and a write error ends the machine with a message. */
    void (*hangup)(struct chardev_stream *s, int err);
    /* Free what the back end added, after the descriptors were closed. */
    void (*closed)(struct chardev_stream *s);
};

/* s is zeroed, at the start of a heap block, and has its loop, name and callbacks set. */
void chardev_stream_init(struct chardev_stream *s);
/* Connect; either fd may be -1. In case of poll_first the fds may be blocking, else they are non-blocking. */
int chardev_stream_attach(struct chardev_stream *s, int in_fd, int out_fd);
/* Close both fds (but not standard input and output) and forget waiting output. */
void chardev_stream_detach(struct chardev_stream *s);
/* Send bytes of the back end's own, in order with the guest's. */
void chardev_stream_write(struct chardev_stream *s, const u8 *buf, size_t len);
/* Give the guest input of the back end's own making. */
void chardev_stream_deliver(struct chardev_stream *s);
/* What chardev_ops has to offer, for back ends with a write of their own. */
void chardev_stream_accept_input(struct chardev *c);
void chardev_stream_destroy(struct chardev *c);

/* Back ends, called by chardev_open(). */
struct chardev *chardev_stdio_open(struct event_loop *loop, const struct chardev_config *config);
struct chardev *chardev_file_open(struct event_loop *loop, const struct chardev_config *config);
struct chardev *chardev_pty_open(struct event_loop *loop, const struct chardev_config *config);
struct chardev *chardev_socket_open(struct event_loop *loop, const struct chardev_config *config);

/* Shares back, which it takes over, among ports. NULL with a message. */
struct chardev *chardev_mux_create(struct event_loop *loop, struct chardev *back);

#endif
