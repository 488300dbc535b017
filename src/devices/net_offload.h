/* What network cards do to frames for their drivers: Internet checksums and the cutting of large TCP packets. */
#ifndef DEVICES_NET_OFFLOAD_H
#define DEVICES_NET_OFFLOAD_H

#include "core/types.h"

/* The one's complement sum of big-endian words on top of start, which may be several such sums added up. */
u16 net_sum(const u8 *p, size_t len, u64 start);
/* Does the Ethernet frame hold a whole TCP or UDP packet whose checksum is there and right? */
bool net_checksum_valid(const u8 *frame, size_t len);

/* Cut a packet whose TCP header starts at tcp behind an IPv4 or IPv6 header at ip, into segments of mss bytes of payload,
 * complete with their checksums; send() gets each in scratch, which has room for the longest. False: it cannot be cut. */
bool net_segment(const u8 *packet, size_t len, size_t ip, size_t tcp, size_t mss, u8 *scratch, size_t scratch_size,
                 void (*send)(void *opaque, u8 *frame, size_t len), void *opaque);

#endif
