/* Split virtqueues: descriptor chains, direct and indirect, the available and used rings, and who is to be told when.
 *
 * Rings and buffers must be in RAM; the device works on them in place. Walks are bounded: by the size of the table for
 * loops, by VIRTQUEUE_SEGMENTS for long chains.
 *
 * Leaves out: packed rings (VIRTIO_F_RING_PACKED is not offered), VIRTIO_F_IN_ORDER.
 *
 * References: [VIRTIO] Virtual I/O Device (VIRTIO) Version 1.1, section 2.6. */
#include "devices/virtqueue.h"

#include <string.h>

#define DESC_SIZE     16u
#define DESC_NEXT     1u
#define DESC_WRITE    2u
#define DESC_INDIRECT 4u

#define AVAIL_NO_INTERRUPT 1u
#define USED_NO_NOTIFY     1u
#define RING_HEADER        4u /* flags and index in front of both rings */
#define USED_ENTRY         8u

static void fail(struct virtqueue *q, const char *why)
{
    if (q->dead) return;
    q->dead = true;
    q->failed(q, why);
}

void virtqueue_reset(struct virtqueue *q)
{
    q->size = q->max;
    q->ready = q->dead = false;
    q->vector = 0xffff;
    q->desc = q->avail = q->used = 0;
    q->next_avail = q->next_used = q->signalled = 0;
    q->has_signalled = false;
}

/* ---- guest memory ---- */

/* The map may have changed since the last call from outside. */
static bool begin(struct virtqueue *q)
{
    q->span = (struct bus_span){.first = 1, .last = 0};
    return q->ready && !q->dead;
}

/* RAM at address, contiguous for *size bytes or what is set there. NULL: no RAM. */
static u8 *map(struct virtqueue *q, gpa address, u64 *size, bool write, u64 *ram_offset, struct ram **ram)
{
    struct bus_span *s = &q->span;
    if (address < s->first || address > s->last) {
        struct bus_span found;
        if (!bus_ram_span(q->memory, address, &found)) {
            /* ROM, and pages whose directions differ. */
            bool page_ok;
            struct bus_target t = bus_lookup(q->memory, address, write, &page_ok);
            if (!t.host || !page_ok) return NULL;
            *size = MIN(*size, GUEST_PAGE_SIZE - (address & GUEST_PAGE_MASK));
            *ram_offset = t.ram_offset;
            *ram = t.ram;
            return t.host;
        }
        *s = found;
    }
    *size = MIN(*size - 1, s->last - address) + 1;
    *ram_offset = s->ram_offset + (address - s->first);
    *ram = s->ram;
    return s->host + (address - s->first);
}

static bool ring_read(struct virtqueue *q, gpa address, void *to, u64 size)
{
    u64 ram_offset;
    struct ram *ram;
    for (u8 *at = to; size;) {
        u64 n = size;
        const u8 *host = map(q, address, &n, false, &ram_offset, &ram);
        if (!host) {
            fail(q, "a ring is not in RAM");
            return false;
        }
        ram_copy(at, host, n);
        at += n;
        address += n;
        size -= n;
    }
    return true;
}

static u16 ring_read16(struct virtqueue *q, gpa address)
{
    u16 value = 0;
    ring_read(q, address, &value, 2);
    return value;
}

static void ring_write(struct virtqueue *q, gpa address, const void *from, u64 size)
{
    u64 ram_offset;
    struct ram *ram;
    for (const u8 *at = from; size;) {
        u64 n = size;
        u8 *host = map(q, address, &n, true, &ram_offset, &ram);
        if (!host) {
            fail(q, "a ring is not in RAM");
            return;
        }
        ram_copy(host, at, n);
        ram_note_write(ram, ram_offset, n);
        at += n;
        address += n;
        size -= n;
    }
}

/* The words behind the rings' entries [VIRTIO] 2.6.6, 2.6.8. */
static gpa used_event(const struct virtqueue *q) { return q->avail + RING_HEADER + 2u * q->size; }
static gpa avail_event(const struct virtqueue *q) { return q->used + RING_HEADER + USED_ENTRY * q->size; }

/* ---- taking chains ---- */

static unsigned waiting(struct virtqueue *q)
{
    u16 n = (u16)(ring_read16(q, q->avail + 2) - q->next_avail);
    __atomic_thread_fence(__ATOMIC_ACQUIRE); /* entries are looked at after the index */
    if (!q->dead && n > q->size) fail(q, "the available ring's index jumped");
    return q->dead ? 0 : n;
}

unsigned virtqueue_waiting(struct virtqueue *q) { return begin(q) ? waiting(q) : 0; }

/* Append the guest's buffer to the chain. */
static bool add_buffer(struct virtqueue *q, struct virtqueue_chain *c, gpa address, u32 size, bool write)
{
    if (!size) {
        fail(q, "an empty buffer");
        return false;
    }
    if (c->in && !write) {
        fail(q, "a buffer to read behind one to write"); /* [VIRTIO] 2.6.4.2 */
        return false;
    }
    *(write ? &c->in_size : &c->out_size) += size;
    for (u64 left = size; left;) {
        struct virtqueue_segment s;
        u64 n = left;
        s.host = map(q, address, &n, write, &s.ram_offset, &s.ram);
        if (!s.host) {
            fail(q, "a buffer is not in RAM");
            return false;
        }
        s.size = (u32)n;
        unsigned *count = write ? &c->in : &c->out;
        struct virtqueue_segment *last = *count ? &c->segments[c->out + c->in - 1] : NULL;
        if (last && last->host + last->size == s.host && last->size + n <= UINT32_MAX) {
            last->size += s.size;
        } else {
            if (c->out + c->in == VIRTQUEUE_SEGMENTS) {
                fail(q, "a chain of too many pieces");
                return false;
            }
            c->segments[c->out + c->in] = s;
            ++*count;
        }
        left -= n;
        address += n;
    }
    return true;
}

bool virtqueue_pop(struct virtqueue *q, struct virtqueue_chain *c)
{
    if (!begin(q) || !waiting(q)) return false;
    u16 i = ring_read16(q, q->avail + RING_HEADER + 2u * (q->next_avail & (q->size - 1u)));
    u64 table = q->desc, entries = q->size, steps = 0;
    bool indirect = false;
    c->head = i;
    c->out = c->in = 0;
    c->out_size = c->in_size = 0;
    for (;;) {
        struct {
            u64 address;
            u32 length;
            u16 flags, next;
        } d;
        if (i >= entries) {
            fail(q, "a descriptor that does not exist");
            return false;
        }
        if (steps++ == entries) {
            fail(q, "a loop of descriptors");
            return false;
        }
        if (!ring_read(q, table + (u64)i * DESC_SIZE, &d, DESC_SIZE)) return false;
        if (d.flags & DESC_INDIRECT) {
            /* A table of its own, once and at the end [VIRTIO] 2.6.5.3. */
            if (indirect || !d.length || d.length % DESC_SIZE || d.length / DESC_SIZE > 65536) {
                fail(q, "a bad indirect table");
                return false;
            }
            indirect = true;
            table = d.address;
            entries = d.length / DESC_SIZE;
            i = 0;
            steps = 0;
            continue;
        }
        if (!add_buffer(q, c, d.address, d.length, d.flags & DESC_WRITE)) return false;
        if (!(d.flags & DESC_NEXT)) break;
        i = d.next;
    }
    q->next_avail++;
    return true;
}

void virtqueue_unpop(struct virtqueue *q, unsigned n) { q->next_avail = (u16)(q->next_avail - n); }

void virtqueue_want_notify(struct virtqueue *q, bool wanted)
{
    if (!begin(q)) return;
    if (q->event_index) {
        /* An event index that is not moved on asks for nothing. */
        if (wanted) ring_write(q, avail_event(q), &q->next_avail, 2);
    } else {
        u16 flags = wanted ? 0 : USED_NO_NOTIFY;
        ring_write(q, q->used, &flags, 2);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* before the caller looks at the available ring again */
}

/* ---- giving them back ---- */

void virtqueue_fill(struct virtqueue *q, unsigned i, u16 head, u32 written)
{
    if (!begin(q)) return;
    const u32 entry[2] = {head, written};
    ring_write(q, q->used + RING_HEADER + USED_ENTRY * ((q->next_used + i) & (q->size - 1u)), entry, USED_ENTRY);
}

void virtqueue_flush(struct virtqueue *q, unsigned n)
{
    if (!begin(q)) return;
    q->next_used = (u16)(q->next_used + n);
    /* Forget the last interrupt before the index comes around to it. */
    if ((u16)(q->next_used - q->signalled) < n) q->has_signalled = false;
    __atomic_thread_fence(__ATOMIC_RELEASE); /* data and entries are there before the index says so */
    ring_write(q, q->used + 2, &q->next_used, 2);
}

bool virtqueue_wants_interrupt(struct virtqueue *q)
{
    if (!begin(q)) return false;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the index is out before the driver's wish is read */
    if (!q->event_index) return !(ring_read16(q, q->avail) & AVAIL_NO_INTERRUPT) && !q->dead;
    u16 event = ring_read16(q, used_event(q)), before = q->signalled;
    bool first = !q->has_signalled;
    q->signalled = q->next_used;
    q->has_signalled = true;
    /* Has the index passed the entry that the driver waits for? [VIRTIO] 2.6.7.1 */
    return !q->dead && (first || (u16)(q->next_used - event - 1) < (u16)(q->next_used - before));
}

/* ---- contents ---- */

size_t virtqueue_copy(const struct virtqueue_segment *s, unsigned count, u64 at, void *buf, size_t size, bool to_guest)
{
    size_t done = 0;
    for (unsigned i = 0; i < count && done < size; i++) {
        if (at >= s[i].size) {
            at -= s[i].size;
            continue;
        }
        size_t n = MIN(s[i].size - at, size - done);
        u8 *host = s[i].host + at, *other = (u8 *)buf + done;
        if (to_guest) {
            memcpy(host, other, n);
            ram_note_write(s[i].ram, s[i].ram_offset + at, n);
        } else {
            memcpy(other, host, n);
        }
        done += n;
        at = 0;
    }
    return done;
}

size_t virtqueue_read(const struct virtqueue_chain *c, u64 at, void *to, size_t size)
{
    return virtqueue_copy(c->segments, c->out, at, to, size, false);
}

size_t virtqueue_write(const struct virtqueue_chain *c, u64 at, const void *from, size_t size)
{
    return virtqueue_copy(c->segments + c->out, c->in, at, (void *)from, size, true);
}
