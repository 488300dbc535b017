/* Requests' data, wherever they are. */
#include "core/block.h"

#include <string.h>

/* The next bytes of the data, at most size: how many, and where. */
static u8 *next(const struct block_request *r, size_t at, size_t *size)
{
    if (r->buf) return r->buf + at;
    const struct iovec *p = r->pieces;
    while (at >= p->iov_len) at -= p++->iov_len;
    *size = MIN(*size, p->iov_len - at);
    return (u8 *)p->iov_base + at;
}

void block_put(const struct block_request *r, size_t at, const u8 *from, size_t size)
{
    for (size_t n; size; at += n, size -= n) {
        n = size;
        u8 *to = next(r, at, &n);
        if (from) {
            memcpy(to, from, n);
            from += n;
        } else {
            memset(to, 0, n);
        }
    }
}

void block_get(const struct block_request *r, size_t at, u8 *to, size_t size)
{
    for (size_t n; size; at += n, to += n, size -= n) {
        n = size;
        memcpy(to, next(r, at, &n), n);
    }
}
