/* The host's character back ends: what a guest's serial port can be connected to. */
#ifndef HOST_CHARDEV_OPEN_H
#define HOST_CHARDEV_OPEN_H

#include "core/chardev.h"
#include "core/types.h"
#include "host/event_loop.h"

enum chardev_kind {
    CHARDEV_NULL,   /* output vanishes, no input */
    CHARDEV_STDIO,  /* our standard input and output */
    CHARDEV_FILE,   /* output to a file */
    CHARDEV_PIPE,   /* a named pipe, or the pair PATH.in and PATH.out */
    CHARDEV_PTY,    /* a new pseudo terminal, whose name is printed */
    CHARDEV_UNIX,   /* a Unix stream socket */
    CHARDEV_TCP,    /* a TCP connection */
};

/* As given by -serial, -chardev and their like. */
struct chardev_config {
    enum chardev_kind kind;
    const char *label; /* for messages: "serial0", or the -chardev's id */
    const char *path;  /* FILE, PIPE, UNIX */
    const char *host;  /* TCP: NULL or "": any address */
    const char *port;  /* TCP: number or service name */
    bool has_fd;       /* UNIX: a socket that we were started with: */
    int fd;            /* its number; path is for messages */
    bool append;       /* FILE: keep what is there */
    bool server;       /* UNIX, TCP: listen, else connect */
    bool wait;         /* UNIX, TCP servers: do not start before somebody connects */
    bool nodelay;      /* TCP: send small packets at once */
    bool telnet;       /* UNIX, TCP servers: speak the telnet protocol (RFC 854) */
    bool signals;      /* STDIO: Ctrl-C and friends act on us, not on the guest */
    bool mux;          /* several front ends share it: chardev_mux.c */
};

/* Open a back end. NULL with a message on stderr. The strings must live as long as it does. */
struct chardev *chardev_open(struct event_loop *loop, const struct chardev_config *config);
/* What a front end attaches to: a new port of a back end with `mux`, else the back end itself. NULL with a message. The port
 * lives as long as the back end; the first one made has the input first. */
struct chardev *chardev_port(struct chardev *c);
/* The name of a pseudo terminal, NULL for others. */
const char *chardev_pty_path(const struct chardev *c);
/* As a user would write it: "unix:/tmp/x,server=on". */
void chardev_describe(const struct chardev_config *config, char *buf, size_t size);
/* Send what is still buffered (waiting for slow readers until event_loop_quitting()), then close. */
void chardev_close(struct chardev *c);

#endif
