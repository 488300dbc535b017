/* The host's network back ends: what a guest's card can be connected to. */
#ifndef HOST_NET_OPEN_H
#define HOST_NET_OPEN_H

#include "core/netdev.h"
#include "core/types.h"
#include "host/event_loop.h"

#define NET_LIST_MAX 32 /* hostfwd=, guestfwd= and dnssearch= items */

enum net_kind {
    NET_USER,   /* libslirp: NAT without privileges, with DHCP, DNS and TFTP servers */
    NET_TAP,    /* a tap interface of the host */
    NET_STREAM, /* frames with a length in front on a stream socket, to one other instance */
    NET_DGRAM,  /* a frame per UDP packet, to one other instance or a multicast group */
};

/* As given by -netdev and -nic. Strings are NULL when not given. */
struct net_config {
    enum net_kind kind;   /* which of the following count */
    char *id;             /* for messages */

    bool restricted;      /* USER: nothing but what hostfwd and guestfwd allow */
    bool ipv4, ipv6;      /* USER: these exist */
    char *net, *host, *dhcpstart, *dns;           /* USER: addresses; net as ADDRESS[/MASK or bits] */
    char *hostname, *domainname;                  /* USER: what DHCP says */
    char *tftp, *bootfile, *tftp_server_name;     /* USER: network boot */
    char *hostfwd[NET_LIST_MAX];                  /* USER: "PROTOCOL:ADDRESS:PORT-ADDRESS:PORT" */
    char *guestfwd[NET_LIST_MAX];                 /* USER: "tcp:ADDRESS:PORT-cmd:COMMAND" */
    char *dnssearch[NET_LIST_MAX + 1];            /* USER: domains, NULL at the end */
    int hostfwd_count, guestfwd_count, dnssearch_count; /* used entries */

    char *ifname;         /* TAP: the interface, created if need be */
    char *script;         /* TAP: run with the interface's name, "no" or NULL: none */
    char *downscript;     /* TAP: likewise, at the end */
    int fd;               /* TAP and STREAM: an open descriptor, -1: none */

    bool server;          /* STREAM: listen */
    char *path;           /* STREAM: of a Unix socket; else TCP */
    char *address, *port; /* STREAM and DGRAM: peer, group, or where to listen */
    char *local_address, *local_port; /* DGRAM: where we receive; port NULL: a multicast group */
};

/* Open a back end. NULL with a message on stderr. The strings must live as long as it does. Close it with
 * netdev_close(). */
struct netdev *net_open(struct event_loop *loop, const struct net_config *config);

/* Was libslirp there when this was built? */
bool net_user_available(void);

/* Write all frames of n to a pcap file, cut to snap_length bytes. 0 or -errno with a message. */
int net_dump_start(struct netdev *n, struct clock *clock, const char *path, u32 snap_length);

/* ---- the kinds ---- */
struct netdev *net_slirp_open(struct event_loop *loop, const struct net_config *config);
struct netdev *net_tap_open(struct event_loop *loop, const struct net_config *config);
struct netdev *net_socket_open(struct event_loop *loop, const struct net_config *config);

#endif
