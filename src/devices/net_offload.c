/* Checksums and TCP segmentation in software, for network cards whose drivers leave them to the hardware.
 *
 * References: [RFC1071] Computing the Internet Checksum; [RFC791], [RFC8200] IP; [RFC9293] TCP. */
#include "devices/net_offload.h"

#include <string.h>

#include "core/big_endian.h"

#define TCP 6u
#define UDP 17u
#define TCP_FIN_PSH 0x09u
#define TCP_CWR     0x80u

u16 net_sum(const u8 *p, size_t len, u64 start)
{
    /* The sum does not depend on the order of bytes, so the host's is good until the end [RFC1071] 2. */
    u64 a = 0, b = 0;
    for (; len >= 16; p += 16, len -= 16) {
        u64 x, y;
        memcpy(&x, p, 8);
        memcpy(&y, p + 8, 8);
        a += (x & UINT32_MAX) + (x >> 32);
        b += (y & UINT32_MAX) + (y >> 32);
    }
    for (; len >= 2; p += 2, len -= 2) {
        u16 x;
        memcpy(&x, p, 2);
        a += x;
    }
    if (len) a += *p;
    a += b;
    while (a >> 16) a = (a & 0xffff) + (a >> 16);
    u64 total = (u64)__builtin_bswap16((u16)a) + start;
    while (total >> 16) total = (total & 0xffff) + (total >> 16);
    return (u16)total;
}

/* Of the addresses, the protocol and the length. */
static u64 pseudo_header(const u8 *ip, u8 protocol, size_t len)
{
    bool v6 = ip[0] >> 4 == 6;
    return (u64)net_sum(ip + (v6 ? 8 : 12), v6 ? 32 : 8, 0) + protocol + (len >> 16) + (len & 0xffff);
}

bool net_checksum_valid(const u8 *frame, size_t len)
{
    size_t ip_at = len >= 18 && be_get16(frame + 12) == 0x8100 ? 18 : 14;
    if (len < ip_at + 40) return false;
    const u8 *ip = frame + ip_at;
    u16 type = be_get16(ip - 2);
    size_t header, l4_len;
    u8 protocol;
    if (type == 0x0800 && ip[0] >> 4 == 4) {
        size_t total = be_get16(ip + 2);
        header = (ip[0] & 15u) * 4;
        if (header < 20 || total < header || total > len - ip_at) return false;
        if (be_get16(ip + 6) & 0x3fff) return false; /* a fragment */
        l4_len = total - header;
        protocol = ip[9];
    } else if (type == 0x86dd && ip[0] >> 4 == 6) {
        header = 40;
        l4_len = be_get16(ip + 4);
        protocol = ip[6]; /* an extension header is neither of the two */
        if (l4_len > len - ip_at - header) return false;
    } else {
        return false;
    }
    if (!(protocol == TCP ? l4_len >= 20 : protocol == UDP && l4_len >= 8)) return false;
    if (protocol == UDP && be_get16(ip + header + 6) == 0) return false; /* there is none */
    return net_sum(ip + header, l4_len, pseudo_header(ip, protocol, l4_len)) == 0xffff;
}

bool net_segment(const u8 *packet, size_t len, size_t ip, size_t tcp, size_t mss, u8 *scratch, size_t scratch_size,
                 void (*send)(void *opaque, u8 *frame, size_t len), void *opaque)
{
    if (ip >= len || tcp + 20 > len) return false;
    bool v6 = packet[ip] >> 4 == 6;
    size_t header = tcp + (packet[tcp + 12] >> 4) * 4u;
    if (tcp < ip + (v6 ? 40 : 20) || header < tcp + 20 || header > len || !mss || header + mss > scratch_size) return false;
    size_t payload = len - header, done = 0;
    u32 sequence = be_get32(packet + tcp + 4);
    for (u32 n = 0; done < payload || !n; n++) {
        size_t part = MIN(mss, payload - done), l4_len = header - tcp + part;
        u8 *i = scratch + ip, *t = scratch + tcp;
        memcpy(scratch, packet, header);
        memcpy(scratch + header, packet + header + done, part);
        if (v6) {
            be_put16(i + 4, (u32)(tcp - ip - 40 + l4_len));
        } else {
            be_put16(i + 2, (u32)(tcp - ip + l4_len));
            be_put16(i + 4, be_get16(i + 4) + n);
            be_put16(i + 10, 0);
            be_put16(i + 10, (u16)~net_sum(i, tcp - ip, 0));
        }
        be_put32(t + 4, sequence + (u32)done);
        if (n) t[13] &= (u8)~TCP_CWR; /* it says that the sender slowed down once [RFC3168] 6.1.2 */
        if (done + part < payload) t[13] &= (u8)~TCP_FIN_PSH;
        be_put16(t + 16, 0);
        be_put16(t + 16, (u16)~net_sum(t, l4_len, pseudo_header(i, TCP, l4_len)));
        send(opaque, scratch, header + part);
        done += part;
    }
    return true;
}
