/* In place of net_slirp.c where libslirp is not installed. */
#include "host/net_open.h"

#include <stdio.h>

bool net_user_available(void) { return false; }

struct netdev *net_slirp_open(struct event_loop *loop, const struct net_config *config)
{
    (void)loop;
    fprintf(stderr, "calque: -netdev user,id=%s: this build has no libslirp\n", config->id);
    return NULL;
}
