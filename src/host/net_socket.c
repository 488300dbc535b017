/* Networks to another instance over a socket: on streams each frame has its length (32 bits, big-endian) in front;
 * of datagrams each is a frame.
 *
 * A stream that does not take frames as fast as the guest sends them buffers up to 1 MiB, then loses frames. One peer
 * at a time; when it goes, a listener waits for the next.
 *
 * Leaves out: reconnecting as a client, TLS, Unix datagram sockets. */
#define _GNU_SOURCE
#include "host/net_open.h"

#include <arpa/inet.h>
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

#include "host/unix_address.h"

#define RX_SIZE (NETDEV_FRAME_MAX + 4u)
#define TX_SIZE (1u << 20)
#define BATCH   64 /* datagrams taken in one round of the event loop */

struct net_socket {
    struct netdev dev;             /* must stay first */
    struct event_loop *loop;       /* watches our descriptors */
    struct event_source *listener; /* new peers; NULL: a client, or datagrams */
    struct event_source *source;   /* the peer; NULL: none */
    const char *unlink_path;       /* Unix socket to remove at the end, NULL: none */
    int listen_fd, fd;             /* -1: none */
    struct sockaddr_storage peer;  /* DGRAM: where frames go */
    socklen_t peer_len;            /* of it */
    bool full;                     /* the card's queue is: do not read */
    u8 *rx;                        /* STREAM: RX_SIZE bytes received */
    size_t rx_len;                 /* used */
    u8 *tx;                        /* STREAM: TX_SIZE bytes that wait */
    size_t tx_len;                 /* used */
};

/* ---- streams ---- */

static void update_events(struct net_socket *s)
{
    if (!s->source) return;
    /* A hang-up is reported all the time, and seen only behind what was received. */
    event_source_set_enabled(s->source, !s->full || s->tx_len);
    event_source_set_events(s->source, (short)((s->full ? 0 : POLLIN) | (s->tx_len ? POLLOUT : 0)));
}

static void hang_up(struct net_socket *s)
{
    event_source_remove(s->source);
    s->source = NULL;
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    s->rx_len = s->tx_len = 0;
    s->full = false;
    if (s->listener) event_source_set_enabled(s->listener, true);
    netdev_set_link(&s->dev, false);
}

/* Send from the buffer what goes. */
static void flush(struct net_socket *s)
{
    while (s->tx_len) {
        ssize_t n = send(s->fd, s->tx, s->tx_len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN) {
            hang_up(s);
            return;
        }
        if (n <= 0) break;
        s->tx_len -= (size_t)n;
        memmove(s->tx, s->tx + n, s->tx_len);
    }
    update_events(s);
}

static void transmit_stream(struct netdev *n, const u8 *frame, size_t len)
{
    struct net_socket *s = (struct net_socket *)n;
    if (s->fd < 0 || s->tx_len + 4 + len > TX_SIZE) return;
    u8 *to = s->tx + s->tx_len;
    u32 prefix = htonl((u32)len);
    memcpy(to, &prefix, 4);
    memcpy(to + 4, frame, len);
    bool waiting = s->tx_len;
    s->tx_len += 4 + len;
    if (!waiting) flush(s);
}

/* Take frames out of rx. False: the peer talks nonsense. */
static bool deliver_received(struct net_socket *s)
{
    size_t at = 0;
    while (!s->full && s->rx_len - at >= 4) {
        u32 len;
        memcpy(&len, s->rx + at, 4);
        len = ntohl(len);
        if (len > NETDEV_FRAME_MAX) return false;
        if (s->rx_len - at < 4 + (size_t)len) break;
        at += 4 + len;
        if (len && !netdev_deliver(&s->dev, s->rx + at - len, len)) s->full = true;
    }
    s->rx_len -= at;
    memmove(s->rx, s->rx + at, s->rx_len);
    return true;
}

static void stream_ready(void *opaque, short revents)
{
    struct net_socket *s = opaque;
    if (revents & POLLOUT) flush(s);
    if (s->fd < 0 || !(revents & (POLLIN | POLLHUP | POLLERR))) return;
    ssize_t n = 0;
    if (s->rx_len < RX_SIZE) {
        n = recv(s->fd, s->rx + s->rx_len, RX_SIZE - s->rx_len, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n <= 0) {
            hang_up(s);
            return;
        }
    }
    s->rx_len += (size_t)n;
    if (!deliver_received(s)) {
        fprintf(stderr, "calque: -netdev %s: the peer does not send frames: closed\n", s->dev.id);
        hang_up(s);
        return;
    }
    update_events(s);
}

static void resume_stream(struct netdev *n)
{
    struct net_socket *s = (struct net_socket *)n;
    if (!s->full) return;
    s->full = false;
    if (s->fd >= 0 && deliver_received(s)) update_events(s);
}

/* 0 or -errno. */
static int adopt(struct net_socket *s, int fd)
{
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* fails on Unix sockets, which need it not */
    s->source = event_loop_add(s->loop, fd, POLLIN, stream_ready, s);
    if (!s->source) {
        close(fd);
        return -ENOMEM;
    }
    s->fd = fd;
    if (s->listener) event_source_set_enabled(s->listener, false);
    netdev_set_link(&s->dev, true);
    return 0;
}

static void incoming(void *opaque, short revents)
{
    struct net_socket *s = opaque;
    (void)revents;
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0) adopt(s, fd);
}

/* ---- datagrams ---- */

static void transmit_datagram(struct netdev *n, const u8 *frame, size_t len)
{
    struct net_socket *s = (struct net_socket *)n;
    /* As on a cable, nobody knows whether the frame arrives. */
    while (sendto(s->fd, frame, len, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&s->peer, s->peer_len) < 0 &&
           errno == EINTR)
        continue;
}

static void datagram_ready(void *opaque, short revents)
{
    struct net_socket *s = opaque;
    u8 frame[NETDEV_FRAME_MAX];
    (void)revents;
    for (int i = 0; i < BATCH && !s->full; i++) {
        ssize_t n = recv(s->fd, frame, sizeof(frame), MSG_DONTWAIT);
        if (n < 0) return;
        if (n && !netdev_deliver(&s->dev, frame, (size_t)n)) s->full = true;
    }
    update_events(s);
}

static void resume_datagram(struct netdev *n)
{
    struct net_socket *s = (struct net_socket *)n;
    s->full = false;
    update_events(s);
}

/* ---- opening ---- */

static void destroy(struct netdev *n)
{
    struct net_socket *s = (struct net_socket *)n;
    event_source_remove(s->source);
    event_source_remove(s->listener);
    if (s->fd >= 0) close(s->fd);
    if (s->listen_fd >= 0) close(s->listen_fd);
    if (s->unlink_path) unlink(s->unlink_path);
    free(s->rx);
    free(s->tx);
    free(s);
}

static const struct netdev_ops stream_ops = {
    .transmit = transmit_stream, .resume = resume_stream, .destroy = destroy};
static const struct netdev_ops datagram_ops = {
    .transmit = transmit_datagram, .resume = resume_datagram, .destroy = destroy};

/* The address of HOST:PORT; no host: any, to listen, or this machine. 0 or -errno with a message. */
static int resolve(const char *id, const char *host, const char *port, int type, bool passive,
                   struct sockaddr_storage *to, socklen_t *len)
{
    struct addrinfo hints = {.ai_socktype = type, .ai_flags = passive ? AI_PASSIVE : 0}, *list;
    int err = getaddrinfo(host && *host ? host : NULL, port, &hints, &list);
    if (err) {
        fprintf(stderr, "calque: -netdev %s: %s:%s: %s\n", id, host ? host : "", port, gai_strerror(err));
        return -EADDRNOTAVAIL;
    }
    memcpy(to, list->ai_addr, list->ai_addrlen);
    *len = list->ai_addrlen;
    freeaddrinfo(list);
    return 0;
}

static bool open_stream(struct net_socket *s, const struct net_config *c)
{
    struct sockaddr_storage at = {0};
    socklen_t len = sizeof(struct sockaddr_un);
    s->dev.link_down = true;
    s->rx = malloc(RX_SIZE);
    s->tx = malloc(TX_SIZE);
    if (!s->rx || !s->tx) return false;
    if (c->fd >= 0) return adopt(s, c->fd) == 0;
    if (!c->path && resolve(c->id, c->address, c->port, SOCK_STREAM, c->server, &at, &len)) return false;
    int err = c->path ? unix_address((struct sockaddr_un *)&at, c->path, c->server) : 0;
    if (err) {
        fprintf(stderr, "calque: -netdev %s: %s: %s\n", c->id, c->path, strerror(-err));
        return false;
    }
    int fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | (c->server ? SOCK_NONBLOCK : 0), 0), failed;
    const char *verb = c->server ? "listen on" : "connect to";
    if (fd >= 0 && c->server) {
        if (!c->path) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        failed = bind(fd, (struct sockaddr *)&at, len) < 0 || listen(fd, 1) < 0;
    } else {
        failed = fd < 0 || connect(fd, (struct sockaddr *)&at, len) < 0;
    }
    if (failed) {
        fprintf(stderr, "calque: -netdev %s: cannot %s %s%s%s: %s\n", c->id, verb,
                c->path ? c->path : c->address ? c->address : "", c->path ? "" : ":", c->path ? "" : c->port,
                strerror(errno));
        if (fd >= 0) close(fd);
        return false;
    }
    if (!c->server) return adopt(s, fd) == 0;
    s->listen_fd = fd;
    s->unlink_path = c->path;
    s->listener = event_loop_add(s->loop, fd, POLLIN, incoming, s);
    return s->listener != NULL;
}

/* Join the group on the interface of the local address, if one is given. 0 or -errno. */
static int join_group(struct net_socket *s, const struct net_config *c)
{
    struct ip_mreq group = {.imr_multiaddr = ((struct sockaddr_in *)&s->peer)->sin_addr};
    if (c->local_address && inet_pton(AF_INET, c->local_address, &group.imr_interface) != 1) return -EINVAL;
    setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(s->fd, (struct sockaddr *)&s->peer, s->peer_len) < 0 ||
        setsockopt(s->fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof(group)) < 0 ||
        setsockopt(s->fd, IPPROTO_IP, IP_MULTICAST_LOOP, &(int){1}, sizeof(int)) < 0)
        return -errno;
    if (c->local_address &&
        setsockopt(s->fd, IPPROTO_IP, IP_MULTICAST_IF, &group.imr_interface, sizeof(group.imr_interface)) < 0)
        return -errno;
    return 0;
}

static bool open_datagram(struct net_socket *s, const struct net_config *c)
{
    if (resolve(c->id, c->address, c->port, SOCK_DGRAM, false, &s->peer, &s->peer_len)) return false;
    s->fd = socket(s->peer.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int err = s->fd < 0 ? -errno : 0;
    if (!err && !c->local_port) {
        err = s->peer.ss_family == AF_INET ? join_group(s, c) : -EAFNOSUPPORT;
    } else if (!err) {
        struct sockaddr_storage local = {0};
        socklen_t len;
        if (resolve(c->id, c->local_address, c->local_port, SOCK_DGRAM, true, &local, &len)) return false;
        setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        if (bind(s->fd, (struct sockaddr *)&local, len) < 0) err = -errno;
    }
    if (err) {
        fprintf(stderr, "calque: -netdev %s: %s:%s: %s\n", c->id, c->address, c->port, strerror(-err));
        return false;
    }
    s->source = event_loop_add(s->loop, s->fd, POLLIN, datagram_ready, s);
    return s->source != NULL;
}

struct netdev *net_socket_open(struct event_loop *loop, const struct net_config *config)
{
    struct net_socket *s = calloc(1, sizeof(*s));
    if (!s) {
        fprintf(stderr, "calque: out of memory\n");
        return NULL;
    }
    s->loop = loop;
    s->fd = s->listen_fd = -1;
    s->dev.id = config->id;
    s->dev.ops = config->kind == NET_STREAM ? &stream_ops : &datagram_ops;
    if (config->kind == NET_STREAM ? open_stream(s, config) : open_datagram(s, config)) return &s->dev;
    destroy(&s->dev);
    return NULL;
}
