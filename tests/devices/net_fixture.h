/* What the tests of simple network cards share: a network and an interrupt pin that remember what they saw last. */
#ifndef TESTS_DEVICES_NET_FIXTURE_H
#define TESTS_DEVICES_NET_FIXTURE_H

#include <stdlib.h>
#include <string.h>

#include "core/netdev.h"

static const u8 mac[6] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
static int irq, sent;   /* level of the pin; frames sent */
static size_t sent_len; /* the last of them */
static u8 last[4096];

static void transmit(struct netdev *n, const u8 *frame, size_t len)
{
    (void)n;
    sent++;
    sent_len = len;
    memcpy(last, frame, MIN(len, sizeof(last)));
}

static void destroy(struct netdev *n) { free(n); }
static const struct netdev_ops net_ops = {.transmit = transmit, .destroy = destroy};

static void pirq(void *opaque, int n, int level)
{
    (void)opaque;
    (void)n;
    irq = level;
}

#endif
