/* Unix and TCP stream sockets as character back ends: one peer at a time, optionally with the telnet protocol.
 *
 * Without a peer, output is dropped. A server takes the next peer when the last one has gone.
 * Telnet ([RFC 854], [RFC 856], [RFC 857], [RFC 858]): we announce binary transmission, echo and suppress-go-ahead,
 * take BREAK for a serial break, and skip everything else that the peer negotiates. */
#define _GNU_SOURCE
#include "host/chardev_open.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/chardev_stream.h"
#include "host/unix_address.h"

/* [RFC 854] commands, [RFC 856..858] options. */
enum { TELNET_SE = 240, TELNET_BREAK = 243, TELNET_SB = 250, TELNET_WILL, TELNET_WONT, TELNET_DO, TELNET_DONT, TELNET_IAC };
enum { TELNET_BINARY = 0, TELNET_ECHO = 1, TELNET_SGA = 3 };

enum telnet_state { TELNET_DATA, TELNET_COMMAND, TELNET_OPTION, TELNET_SUB, TELNET_SUB_IAC };

struct chardev_socket {
    struct chardev_stream stream;   /* must stay first; attached while there is a peer */
    int listen_fd;                  /* servers; else -1 */
    struct event_source *listener;  /* accepts; enabled while there is no peer */
    char *name;                     /* for messages */
    const char *unlink_path;        /* the Unix socket we made, NULL: none */
    bool tcp;                       /* TCP, else Unix */
    bool nodelay;                   /* TCP_NODELAY */
    bool telnet;                    /* see above */
    enum telnet_state telnet_state; /* of the input */
};

/* ---- telnet ---- */

static size_t telnet_filter(struct chardev_stream *s, u8 *buf, size_t n)
{
    struct chardev_socket *sock = (struct chardev_socket *)s;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        u8 byte = buf[i];
        switch (sock->telnet_state) {
        case TELNET_DATA:
            if (byte == TELNET_IAC)
                sock->telnet_state = TELNET_COMMAND;
            else
                buf[kept++] = byte;
            break;
        case TELNET_COMMAND:
            sock->telnet_state = TELNET_DATA;
            if (byte == TELNET_IAC)
                buf[kept++] = byte;
            else if (byte == TELNET_BREAK) {
                if (s->chr.front && s->chr.front->break_received) s->chr.front->break_received(s->chr.front_opaque);
            } else if (byte == TELNET_SB)
                sock->telnet_state = TELNET_SUB;
            else if (byte >= TELNET_WILL)
                sock->telnet_state = TELNET_OPTION;
            break;
        case TELNET_OPTION: sock->telnet_state = TELNET_DATA; break;
        case TELNET_SUB:
            if (byte == TELNET_IAC) sock->telnet_state = TELNET_SUB_IAC;
            break;
        case TELNET_SUB_IAC: sock->telnet_state = byte == TELNET_SE ? TELNET_DATA : TELNET_SUB; break;
        }
    }
    return kept;
}

static void telnet_greet(struct chardev_socket *sock)
{
    static const u8 greeting[] = {
        TELNET_IAC, TELNET_WILL, TELNET_ECHO,   TELNET_IAC, TELNET_WILL, TELNET_SGA,
        TELNET_IAC, TELNET_WILL, TELNET_BINARY, TELNET_IAC, TELNET_DO,   TELNET_BINARY,
    };
    sock->telnet_state = TELNET_DATA;
    chardev_stream_write(&sock->stream, greeting, sizeof(greeting));
}

static void socket_write(struct chardev *c, const u8 *buf, size_t len)
{
    struct chardev_socket *sock = (struct chardev_socket *)c;
    if (sock->telnet) {
        /* A data byte 255 is doubled. */
        for (size_t i = 0; i < len; i++) {
            if (buf[i] != TELNET_IAC) continue;
            chardev_stream_write(&sock->stream, buf, i + 1);
            buf += i;
            len -= i;
            i = 0;
        }
    }
    chardev_stream_write(&sock->stream, buf, len);
}

/* ---- peers ---- */

static int adopt(struct chardev_socket *sock, int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    if (sock->tcp && sock->nodelay) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    int err = chardev_stream_attach(&sock->stream, fd, fd);
    if (err) return err;
    if (sock->listener) event_source_set_enabled(sock->listener, false);
    if (sock->telnet) telnet_greet(sock);
    return 0;
}

static void peer_gone(struct chardev_stream *s, int err)
{
    struct chardev_socket *sock = (struct chardev_socket *)s;
    (void)err;
    chardev_stream_detach(s);
    if (sock->listener) event_source_set_enabled(sock->listener, true);
}

static void incoming(void *opaque, short revents)
{
    struct chardev_socket *sock = opaque;
    (void)revents;
    int fd = accept4(sock->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0) adopt(sock, fd);
}

/* Before the machine starts: wait for the first peer. 0 or -errno. */
static int wait_for_peer(struct chardev_socket *sock)
{
    fprintf(stderr, "calque: waiting for a connection on %s\n", sock->name);
    for (;;) {
        if (event_loop_quitting(sock->stream.loop)) return -EINTR;
        struct pollfd p = {.fd = sock->listen_fd, .events = POLLIN};
        if (poll(&p, 1, 100) <= 0) continue;
        int fd = accept4(sock->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) return adopt(sock, fd);
        if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED) return -errno;
    }
}

/* ---- opening ---- */

/* A socket that listens at, or is connected to, the address: fd or -errno. */
static int socket_at(const struct chardev_config *config, int family, const struct sockaddr *address, socklen_t len)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | (config->server ? SOCK_NONBLOCK : 0), 0);
    if (fd < 0) return -errno;
    int failed;
    if (config->server) {
        if (family != AF_UNIX) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        failed = bind(fd, address, len) < 0 || listen(fd, 1) < 0;
    } else {
        failed = connect(fd, address, len) < 0;
    }
    if (failed) {
        int err = errno;
        close(fd);
        return -err;
    }
    return fd;
}

static int unix_socket(const struct chardev_config *config)
{
    struct sockaddr_un address;
    if (config->has_fd) {
        int flags = fcntl(config->fd, F_GETFL);
        if (flags < 0 || fcntl(config->fd, F_SETFD, FD_CLOEXEC) < 0) return -errno;
        if (config->server && fcntl(config->fd, F_SETFL, flags | O_NONBLOCK) < 0) return -errno;
        return config->fd;
    }
    int err = unix_address(&address, config->path, config->server);
    if (err) return err;
    return socket_at(config, AF_UNIX, (struct sockaddr *)&address, sizeof(address));
}

static int tcp_socket(const struct chardev_config *config, const char *name)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = config->server ? AI_PASSIVE : 0};
    struct addrinfo *list;
    const char *host = config->host && config->host[0] ? config->host : NULL;
    int err = getaddrinfo(host, config->port, &hints, &list);
    if (err) {
        fprintf(stderr, "calque: %s: %s: %s\n", config->label, name, gai_strerror(err));
        return -EADDRNOTAVAIL; /* said already */
    }
    int fd = -ENOENT;
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
        fd = socket_at(config, a->ai_family, a->ai_addr, a->ai_addrlen);
    freeaddrinfo(list);
    if (fd < 0)
        fprintf(stderr, "calque: %s: cannot %s %s: %s\n", config->label, config->server ? "listen on" : "connect to", name,
                strerror(-fd));
    return fd;
}

static void closed(struct chardev_stream *s)
{
    struct chardev_socket *sock = (struct chardev_socket *)s;
    event_source_remove(sock->listener);
    if (sock->listen_fd >= 0) close(sock->listen_fd);
    if (sock->unlink_path) unlink(sock->unlink_path);
    free(sock->name);
}

static const struct chardev_ops socket_ops = {
    .write = socket_write,
    .accept_input = chardev_stream_accept_input,
    .destroy = chardev_stream_destroy,
};

struct chardev *chardev_socket_open(struct event_loop *loop, const struct chardev_config *config)
{
    struct chardev_socket *sock = calloc(1, sizeof(*sock));
    if (!sock) {
        fprintf(stderr, "calque: out of memory\n");
        return NULL;
    }
    struct chardev_stream *s = &sock->stream;
    sock->listen_fd = -1;
    sock->tcp = config->kind == CHARDEV_TCP;
    sock->nodelay = config->nodelay;
    sock->telnet = config->telnet;
    s->loop = loop;
    s->chr.ops = &socket_ops;
    s->hangup = peer_gone;
    s->closed = closed;
    if (sock->telnet) s->filter = telnet_filter;
    chardev_stream_init(s);

    int n = sock->tcp ? asprintf(&sock->name, "tcp:%s:%s", config->host ? config->host : "", config->port)
                      : asprintf(&sock->name, "unix:%s", config->path);
    if (n < 0) {
        sock->name = NULL;
        fprintf(stderr, "calque: out of memory\n");
        goto fail;
    }
    s->name = sock->name;

    int fd;
    if (sock->tcp) {
        fd = tcp_socket(config, sock->name);
    } else {
        fd = unix_socket(config);
        if (fd < 0)
            fprintf(stderr, "calque: %s: cannot %s %s: %s\n", config->label, config->server ? "listen on" : "connect to",
                    sock->name, strerror(-fd));
    }
    if (fd < 0) goto fail;

    int err;
    if (config->server) {
        sock->listen_fd = fd;
        if (!sock->tcp && !config->has_fd) sock->unlink_path = config->path;
        sock->listener = event_loop_add(loop, fd, POLLIN, incoming, sock);
        err = sock->listener ? 0 : -ENOMEM;
        if (!err && config->wait) err = wait_for_peer(sock);
    } else {
        err = adopt(sock, fd);
    }
    if (err) {
        fprintf(stderr, "calque: %s: %s: %s\n", config->label, sock->name, strerror(-err));
        goto fail;
    }
    return &s->chr;

fail:
    chardev_stream_destroy(&s->chr);
    return NULL;
}
