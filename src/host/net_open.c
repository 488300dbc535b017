/* Opens a network back end by its kind. */
#include "host/net_open.h"

struct netdev *net_open(struct event_loop *loop, const struct net_config *config)
{
    struct netdev *n = NULL;
    switch (config->kind) {
    case NET_USER: n = net_slirp_open(loop, config); break;
    case NET_TAP: n = net_tap_open(loop, config); break;
    case NET_STREAM:
    case NET_DGRAM: n = net_socket_open(loop, config); break;
    }
    if (n) n->id = config->id;
    return n;
}
