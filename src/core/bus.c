/* The bus: regions in priority order, flattened into one sorted table per direction.
 *
 * A change of the map rebuilds the tables (views), an access is a binary search in one. Among regions of
 * equal priority the one added last wins.
 *
 * vCPU threads look addresses up without the machine lock while another thread rebuilds. There are two views:
 * the one in use, and the one the next rebuild writes, guarded by a sequence number that is odd while it is
 * being written. A reader copies one table entry out and starts again if the number moved under it, which
 * takes two rebuilds during one look-up. Tables that were outgrown stay allocated until the bus goes, so a
 * late reader never touches freed memory; they double in size, so they are bounded by the last one.
 *
 * Leaves out: wait states, bus errors (nobody claims a read: all ones; a write: dropped), locked cycles. */
#include "core/bus.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

#define MAX_LISTENERS 16

struct region {
    struct bus *bus;              /* where it is shown */
    struct region *next;          /* next in descending priority */
    const char *name;             /* for logs */
    gpa base;                     /* first address */
    u64 size;                     /* bytes */
    int priority;                 /* higher hides lower */
    bool enabled;                 /* shown at all */
    bool access[2];               /* answers reads [0], writes [1] */
    bool rom;                     /* host memory that is never writable */
    struct ram *ram;              /* host memory behind it, or NULL for a device */
    u64 ram_offset;               /* when ram: where in it */
    const struct region_ops *ops; /* when a device */
    void *opaque;                 /* when a device: passed to ops */
};

/* What a run of addresses shows in one direction: host memory, a device, or nothing (ram and ops NULL).
 * Read word by word while it may be rewritten, hence 8-byte members only. */
struct range {
    u64 last;                     /* last address, inclusive: the map covers all of u64 */
    u64 base;                     /* the region's base: offsets count from here */
    struct ram *ram;              /* host memory */
    u64 ram_offset;               /* RAM offset of base */
    const struct region_ops *ops; /* a device */
    void *opaque;                 /* a device's own pointer */
    const char *name;             /* the region's, for logs */
};
#define RANGE_WORDS (sizeof(struct range) / sizeof(u64))

/* A sorted, gapless list of ranges. */
struct table {
    struct table *retired; /* the outgrown table before this one */
    u64 capacity;          /* entries allocated; never changes */
    u64 count;             /* entries used, at least 1 */
    u64 *starts;           /* first address of each: what the search runs over */
    struct range *ranges;  /* the entries */
};

struct view {
    u64 seq;               /* odd while being written */
    u64 mask;              /* AND mask of every address */
    struct table *flat[2]; /* for reads [0], writes [1] */
};

struct bus {
    const char *name;       /* for logs */
    u64 size;               /* one past the highest address */
    struct region *regions; /* in descending priority */
    size_t region_count;    /* length of that list */
    u64 mask;               /* A20: what the next rebuild puts in the view */
    struct view views[2];   /* one in use, one to be rebuilt */
    struct view *current;   /* the one in use */
    u64 *cuts;              /* scratch of the rebuild: region boundaries */
    size_t cuts_capacity;   /* entries allocated there */
    unsigned update_depth;  /* open bus_begin_update() calls */
    bool update_pending;    /* something changed meanwhile */
    size_t listener_count;  /* used entries of listeners */
    struct {
        void (*fn)(void *opaque); /* see bus_on_change() */
        void *opaque;             /* its argument */
    } listeners[MAX_LISTENERS];   /* who hears of map changes */
};

/* ---- tables that readers may be looking at ---- */

static u64 load(const u64 *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static void store(u64 *p, u64 value) { __atomic_store_n(p, value, __ATOMIC_RELAXED); }

static void load_range(struct range *to, const struct range *from)
{
    const u64 *src = (const u64 *)from;
    u64 *dst = (u64 *)to;
    for (size_t i = 0; i < RANGE_WORDS; i++)
        dst[i] = load(&src[i]);
}

static void store_range(struct range *to, const struct range *from)
{
    const u64 *src = (const u64 *)from;
    u64 *dst = (u64 *)to;
    for (size_t i = 0; i < RANGE_WORDS; i++)
        store(&dst[i], src[i]);
}

static struct table *table_create(size_t capacity)
{
    struct table *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->starts = calloc(capacity, sizeof *t->starts);
    t->ranges = calloc(capacity, sizeof *t->ranges);
    if (!t->starts || !t->ranges) {
        free(t->starts);
        free(t->ranges);
        free(t);
        return NULL;
    }
    t->capacity = capacity;
    return t;
}

static void table_destroy(struct table *t)
{
    while (t) {
        struct table *retired = t->retired;
        free(t->starts);
        free(t->ranges);
        free(t);
        t = retired;
    }
}

static void view_write_begin(struct view *v)
{
    __atomic_store_n(&v->seq, v->seq + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE); /* odd before any of what follows */
}

static void view_write_end(struct view *v) { __atomic_store_n(&v->seq, v->seq + 1, __ATOMIC_RELEASE); }

/* Make room for `need` entries in both tables of v, keeping what they hold. */
static int view_reserve(struct view *v, size_t need)
{
    for (int dir = 0; dir < 2; dir++) {
        struct table *old = v->flat[dir];
        if (old && old->capacity >= need) continue;
        struct table *t = table_create(MAX(need, old ? 2 * old->capacity : 64));
        if (!t) return -ENOMEM;
        if (old) {
            t->retired = old;
            t->count = old->count;
            memcpy(t->starts, old->starts, old->count * sizeof *t->starts);
            memcpy(t->ranges, old->ranges, old->count * sizeof *t->ranges);
        } else {
            t->count = 1; /* nothing anywhere */
            t->ranges[0].last = UINT64_MAX;
        }
        view_write_begin(v);
        __atomic_store_n(&v->flat[dir], t, __ATOMIC_RELEASE);
        view_write_end(v);
    }
    return 0;
}

/* Room in everything a rebuild of n regions writes, so that changing the map can not fail later. Each region
 * has two ends, which cut the address space in at most 2n + 1 pieces. */
static int bus_reserve(struct bus *b, size_t n)
{
    size_t need = 2 * n + 1;
    if (b->cuts_capacity < need) {
        size_t capacity = MAX(need, 2 * b->cuts_capacity);
        u64 *cuts = realloc(b->cuts, capacity * sizeof *cuts);
        if (!cuts) return -ENOMEM;
        b->cuts = cuts;
        b->cuts_capacity = capacity;
    }
    int err = view_reserve(&b->views[0], need);
    return err ? err : view_reserve(&b->views[1], need);
}

/* ---- flattening ---- */

static bool region_answers(const struct region *r, bool write)
{
    return r->enabled && r->access[write] && !(write && r->rom) && r->size && r->base < r->bus->size;
}

/* Last address shown: a region may be moved over the end of the bus by the guest, and is cut there. */
static u64 region_last(const struct region *r)
{
    return r->size > r->bus->size - r->base ? r->bus->size - 1 : r->base + r->size - 1;
}

static int compare_cuts(const void *a, const void *b)
{
    u64 x = *(const u64 *)a, y = *(const u64 *)b;
    return (x > y) - (x < y);
}

static void flatten(struct bus *b, bool write, struct table *t)
{
    size_t cuts = 0, count = 0;
    const struct region *previous = NULL;

    b->cuts[cuts++] = 0;
    for (const struct region *r = b->regions; r; r = r->next) {
        if (!region_answers(r, write)) continue;
        b->cuts[cuts++] = r->base;
        b->cuts[cuts++] = region_last(r) + 1;
    }
    qsort(b->cuts, cuts, sizeof *b->cuts, compare_cuts);

    for (size_t i = 0; i < cuts; i++) {
        u64 start = b->cuts[i];
        if (i && start == b->cuts[i - 1]) continue;
        const struct region *top = b->regions;
        while (top && !(region_answers(top, write) && start >= top->base && start <= region_last(top)))
            top = top->next;
        if (i && top == previous) continue; /* the same shows on */
        previous = top;

        struct range range = {.last = UINT64_MAX};
        if (top) {
            range.base = top->base;
            range.ram = top->ram;
            range.ram_offset = top->ram_offset;
            range.ops = top->ops;
            range.opaque = top->opaque;
            range.name = top->name;
        }
        if (count) store(&t->ranges[count - 1].last, start - 1);
        store(&t->starts[count], start);
        store_range(&t->ranges[count], &range);
        count++;
    }
    store(&t->count, count);
}

static bool same_view(const struct view *a, const struct view *b)
{
    if (a->mask != b->mask) return false;
    for (int dir = 0; dir < 2; dir++) {
        const struct table *x = a->flat[dir], *y = b->flat[dir];
        if (x->count != y->count || memcmp(x->starts, y->starts, x->count * sizeof *x->starts) ||
            memcmp(x->ranges, y->ranges, x->count * sizeof *x->ranges))
            return false;
    }
    return true;
}

static void map_changed(struct bus *b)
{
    if (b->update_depth) {
        b->update_pending = true;
        return;
    }
    struct view *v = b->current == &b->views[0] ? &b->views[1] : &b->views[0];
    view_write_begin(v);
    store(&v->mask, b->mask);
    flatten(b, false, v->flat[0]);
    flatten(b, true, v->flat[1]);
    view_write_end(v);
    /* Sizing a BAR and the like: nothing moved, so nobody need drop what they cached. */
    if (same_view(v, b->current)) return;
    __atomic_store_n(&b->current, v, __ATOMIC_RELEASE);
    for (size_t i = 0; i < b->listener_count; i++)
        b->listeners[i].fn(b->listeners[i].opaque);
}

/* ---- the map ---- */

struct bus *bus_create(const char *name, u64 size)
{
    struct bus *b = calloc(1, sizeof *b);
    if (!b || bus_reserve(b, 0)) {
        fprintf(stderr, "calque: out of memory for bus %s\n", name);
        bus_destroy(b);
        return NULL;
    }
    b->name = name;
    b->size = size;
    b->mask = b->views[0].mask = b->views[1].mask = ~0ull;
    b->current = &b->views[0];
    return b;
}

void bus_destroy(struct bus *b)
{
    if (!b) return;
    while (b->regions) {
        struct region *next = b->regions->next;
        free(b->regions);
        b->regions = next;
    }
    for (int i = 0; i < 2; i++) {
        table_destroy(b->views[i].flat[0]);
        table_destroy(b->views[i].flat[1]);
    }
    free(b->cuts);
    free(b);
}

static struct region *add_region(struct bus *b, const struct region *fields)
{
    struct region *r = malloc(sizeof *r);
    if (!r || bus_reserve(b, b->region_count + 1)) {
        fprintf(stderr, "calque: out of memory for region %s\n", fields->name);
        free(r);
        return NULL;
    }
    *r = *fields;
    r->bus = b;
    r->enabled = r->access[0] = r->access[1] = true;
    struct region **at = &b->regions;
    while (*at && (*at)->priority > r->priority)
        at = &(*at)->next;
    r->next = *at;
    *at = r;
    b->region_count++;
    map_changed(b);
    return r;
}

struct region *bus_add(struct bus *b, const char *name, gpa base, u64 size, int priority,
                       const struct region_ops *ops, void *opaque)
{
    return add_region(
        b, &(struct region){
               .name = name, .base = base, .size = size, .priority = priority, .ops = ops, .opaque = opaque});
}

struct region *bus_add_ram(struct bus *b, const char *name, gpa base, u64 size, int priority, struct ram *ram,
                           u64 ram_offset, bool rom)
{
    assert(!((base | size | ram_offset) & GUEST_PAGE_MASK));
    assert(size <= ram->size && ram_offset <= ram->size - size);
    return add_region(b, &(struct region){.name = name,
                                          .base = base,
                                          .size = size,
                                          .priority = priority,
                                          .ram = ram,
                                          .ram_offset = ram_offset,
                                          .rom = rom});
}

void region_remove(struct region *r)
{
    if (!r) return;
    struct bus *b = r->bus;
    struct region **at = &b->regions;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    b->region_count--;
    bool shown = r->enabled;
    free(r);
    if (shown) map_changed(b);
}

void region_set_enabled(struct region *r, bool enabled)
{
    if (r->enabled == enabled) return;
    r->enabled = enabled;
    map_changed(r->bus);
}

void region_set_base(struct region *r, gpa base)
{
    if (r->base == base) return;
    r->base = base;
    if (r->enabled) map_changed(r->bus);
}

void region_set_access(struct region *r, bool readable, bool writable)
{
    if (r->access[0] == readable && r->access[1] == writable) return;
    r->access[0] = readable;
    r->access[1] = writable;
    if (r->enabled) map_changed(r->bus);
}

gpa region_base(const struct region *r) { return r->base; }
bool region_enabled(const struct region *r) { return r->enabled; }

void bus_begin_update(struct bus *b) { b->update_depth++; }

void bus_end_update(struct bus *b)
{
    assert(b->update_depth);
    if (--b->update_depth || !b->update_pending) return;
    b->update_pending = false;
    map_changed(b);
}

void bus_on_change(struct bus *b, void (*fn)(void *opaque), void *opaque)
{
    assert(b->listener_count < MAX_LISTENERS);
    b->listeners[b->listener_count].fn = fn;
    b->listeners[b->listener_count].opaque = opaque;
    b->listener_count++;
}

void bus_set_address_mask(struct bus *b, u64 mask)
{
    /* A naturally aligned access must stay contiguous under the mask. */
    assert((mask & GUEST_PAGE_MASK) == GUEST_PAGE_MASK);
    if (b->mask == mask) return;
    b->mask = mask;
    map_changed(b);
}

/* ---- look-up ---- */

/* Where an address leads. */
struct hit {
    struct range range; /* a copy of the entry */
    u64 start;          /* first address of the range */
    u64 addr;           /* the address after the mask */
    u64 mask;           /* the mask */
};

/* Index of the last of n ascending starts that is <= addr; starts[0] is 0. */
static size_t search(const u64 *starts, size_t n, u64 addr)
{
    size_t low = 0;
    while (n > 1) {
        size_t half = n / 2;
        if (load(&starts[low + half]) <= addr) low += half;
        n -= half;
    }
    return low;
}

static void find(struct bus *b, gpa addr, bool write, struct hit *hit)
{
    for (;;) {
        const struct view *v = __atomic_load_n(&b->current, __ATOMIC_ACQUIRE);
        u64 seq = __atomic_load_n(&v->seq, __ATOMIC_ACQUIRE);
        const struct table *t = __atomic_load_n(&v->flat[write], __ATOMIC_ACQUIRE);
        hit->mask = load(&v->mask);
        hit->addr = addr & hit->mask;
        size_t i = search(t->starts, load(&t->count), hit->addr);
        hit->start = load(&t->starts[i]);
        load_range(&hit->range, &t->ranges[i]);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (!(seq & 1) && load(&v->seq) == seq) return;
    }
}

static u8 *host_address(const struct hit *h)
{
    return h->range.ram->host + h->range.ram_offset + (h->addr - h->range.base);
}

struct bus_target bus_lookup(struct bus *b, gpa addr, bool write, bool *page_ok)
{
    struct hit h;
    find(b, addr, write, &h);
    u64 page = h.addr & ~GUEST_PAGE_MASK;
    if (page_ok) *page_ok = h.start <= page && h.range.last >= (page | GUEST_PAGE_MASK);
    if (!h.range.ram) return (struct bus_target){0};
    return (struct bus_target){.host = host_address(&h),
                               .ram_offset = h.range.ram_offset + (h.addr - h.range.base),
                               .ram = h.range.ram};
}

bool bus_ram_span(struct bus *b, gpa addr, struct bus_span *span)
{
    struct hit r, w;
    find(b, addr, false, &r);
    find(b, addr, true, &w);
    const struct range *range = &r.range;
    if (!range->ram || range->ram != w.range.ram || range->ram_offset - range->base != w.range.ram_offset - w.range.base ||
        r.mask != w.mask || (addr & ~r.mask))
        return false;
    u64 start = MAX(r.start, w.start), last = MIN(range->last, w.range.last);
    if (~r.mask) { /* up to where an address line is masked */
        const u64 below = (~r.mask & -~r.mask) - 1;
        start = MAX(start, addr & ~below);
        last = MIN(last, addr | below);
    }
    span->first = (start + GUEST_PAGE_MASK) & ~GUEST_PAGE_MASK;
    span->last = ((last + 1) & ~GUEST_PAGE_MASK) - 1;
    if (span->first < start || addr < span->first || addr > span->last || span->last > last) return false;
    span->ram = range->ram;
    span->ram_offset = range->ram_offset + (span->first - range->base);
    span->host = range->ram->host + span->ram_offset;
    return true;
}

/* ---- devices: repairing access sizes ---- */

static u64 size_mask(unsigned size) { return ~0ull >> (64 - 8 * size); }

/* How an access of `size` bytes at `offset` reaches the device: in units of *unit, the first one at the
 * offset returned. Smaller than the device's smallest, or misaligned to that: aligned units around it.
 * Otherwise in pieces of at most its largest from the offset on, aligned or not: port devices rely on that.
 */
static u64 device_split(const struct region_ops *ops, u64 offset, unsigned size, unsigned *unit)
{
    unsigned min = ops->min_size ? ops->min_size : 1, max = ops->max_size ? ops->max_size : 8;
    if (size < min || (offset & (min - 1))) {
        *unit = min;
        return offset & ~(u64)(min - 1);
    }
    *unit = MIN(size, max);
    return offset;
}

static u64 device_read(const struct bus *b, const struct hit *h, unsigned size)
{
    const struct region_ops *ops = h->range.ops;
    u64 offset = h->addr - h->range.base, value = 0;
    unsigned unit;

    if (!ops->read) return size_mask(size);
    for (u64 at = device_split(ops, offset, size, &unit); at < offset + size; at += unit) {
        u64 part = ops->read(h->range.opaque, at, unit) & size_mask(unit);
        value |= at < offset ? part >> 8 * (offset - at) : part << 8 * (at - offset);
    }
    value &= size_mask(size);
    log_printf(LOG_IO, "%s: read %s+0x%llx size %u: 0x%llx\n", b->name, h->range.name,
               (unsigned long long)offset, size, (unsigned long long)value);
    return value;
}

static void device_write(const struct bus *b, const struct hit *h, u64 value, unsigned size)
{
    const struct region_ops *ops = h->range.ops;
    u64 offset = h->addr - h->range.base;
    unsigned unit;

    value &= size_mask(size);
    log_printf(LOG_IO, "%s: write %s+0x%llx size %u: 0x%llx\n", b->name, h->range.name,
               (unsigned long long)offset, size, (unsigned long long)value);
    if (!ops->write) return;
    for (u64 at = device_split(ops, offset, size, &unit); at < offset + size; at += unit) {
        u64 part = at < offset ? value << 8 * (offset - at) : value >> 8 * (at - offset);
        ops->write(h->range.opaque, at, part & size_mask(unit), unit);
    }
}

/* ---- accesses ---- */

static void log_unclaimed(const struct bus *b, const char *what, u64 addr, u64 size)
{
    log_printf(LOG_UNIMP, "%s: unclaimed %s at 0x%llx size %llu\n", b->name, what, (unsigned long long)addr,
               (unsigned long long)size);
}

/* One access that lies within the range it hit. */
static u64 read_hit(const struct bus *b, const struct hit *h, unsigned size)
{
    if (h->range.ram) {
        const u8 *host = host_address(h);
        u64 value = 0;
        switch (size) { /* constant sizes, so that each is one host access */
        case 1: memcpy(&value, host, 1); break;
        case 2: memcpy(&value, host, 2); break;
        case 4: memcpy(&value, host, 4); break;
        case 8: memcpy(&value, host, 8); break;
        }
        return value;
    }
    if (h->range.ops) return device_read(b, h, size);
    log_unclaimed(b, "read", h->addr, size);
    return size_mask(size);
}

static void write_hit(const struct bus *b, const struct hit *h, u64 value, unsigned size)
{
    if (h->range.ram) {
        u8 *host = host_address(h);
        switch (size) { /* as in read_hit() */
        case 1: memcpy(host, &value, 1); break;
        case 2: memcpy(host, &value, 2); break;
        case 4: memcpy(host, &value, 4); break;
        case 8: memcpy(host, &value, 8); break;
        }
        ram_note_write(h->range.ram, (u64)(host - h->range.ram->host), size);
    } else if (h->range.ops) {
        device_write(b, h, value, size);
    } else {
        log_unclaimed(b, "write", h->addr, size);
    }
}

/* How many of `size` bytes from the hit on lie in its range, and are contiguous under the address mask. */
static u64 hit_extent(const struct hit *h, u64 size)
{
    u64 more = h->range.last - h->addr;
    /* The mask leaves the offset in the page alone, so addresses are contiguous at least up to its end. */
    if (h->mask != ~0ull) more = MIN(more, GUEST_PAGE_MASK - (h->addr & GUEST_PAGE_MASK));
    return size - 1 <= more ? size : more + 1;
}

/* The largest naturally aligned access at addr that is no longer than size. */
static unsigned aligned_piece(u64 addr, u64 size)
{
    unsigned piece = 8;
    while (piece > size || (addr & (piece - 1)))
        piece /= 2;
    return piece;
}

u64 bus_read(struct bus *b, gpa addr, unsigned size)
{
    struct hit h;
    find(b, addr, false, &h);
    if (hit_extent(&h, size) == size) return read_hit(b, &h, size);

    u64 value = 0;
    for (unsigned done = 0; done < size;) {
        find(b, addr + done, false, &h);
        unsigned piece = aligned_piece(h.addr, hit_extent(&h, size - done));
        value |= read_hit(b, &h, piece) << 8 * done;
        done += piece;
    }
    return value;
}

void bus_write(struct bus *b, gpa addr, u64 value, unsigned size)
{
    struct hit h;
    find(b, addr, true, &h);
    if (hit_extent(&h, size) == size) {
        write_hit(b, &h, value, size);
        return;
    }
    for (unsigned done = 0; done < size;) {
        find(b, addr + done, true, &h);
        unsigned piece = aligned_piece(h.addr, hit_extent(&h, size - done));
        write_hit(b, &h, value >> 8 * done, piece);
        done += piece;
    }
}

/* Descriptors are small, and shared with the driver. */
static void copy_block(u8 *to, const u8 *from, u64 size)
{
    if (size <= 32) ram_copy(to, from, size);
    else memcpy(to, from, size);
}

void bus_read_block(struct bus *b, gpa addr, void *buf, u64 size)
{
    u8 *to = buf;
    while (size) {
        struct hit h;
        find(b, addr, false, &h);
        u64 n = hit_extent(&h, size);
        if (h.range.ram) {
            copy_block(to, host_address(&h), n);
        } else if (h.range.ops) {
            n = aligned_piece(h.addr, n); /* one at a time: the device may change the map */
            u64 value = device_read(b, &h, (unsigned)n);
            memcpy(to, &value, n); /* both little-endian */
        } else {
            log_unclaimed(b, "block read", h.addr, n);
            memset(to, 0xff, n);
        }
        to += n;
        addr += n;
        size -= n;
    }
}

void bus_write_block(struct bus *b, gpa addr, const void *buf, u64 size)
{
    const u8 *from = buf;
    while (size) {
        struct hit h;
        find(b, addr, true, &h);
        u64 n = hit_extent(&h, size);
        if (h.range.ram) {
            u8 *host = host_address(&h);
            copy_block(host, from, n);
            ram_note_write(h.range.ram, (u64)(host - h.range.ram->host), n);
        } else if (h.range.ops) {
            n = aligned_piece(h.addr, n);
            u64 value = 0;
            memcpy(&value, from, n);
            device_write(b, &h, value, (unsigned)n);
        } else {
            log_unclaimed(b, "block write", h.addr, n);
        }
        from += n;
        addr += n;
        size -= n;
    }
}

/* ---- for people ---- */

void bus_print(const struct bus *b, struct _IO_FILE *out)
{
    for (const struct region *r = b->regions; r; r = r->next) {
        const char *kind = !r->ram ? "i/o" : r->rom ? "rom" : "ram";
        fprintf(out, "  %016llx-%016llx (prio %d, %s): %s%s\n", (unsigned long long)r->base,
                (unsigned long long)(r->base + r->size - 1), r->priority, kind, r->name, r->enabled ? "" : " [disabled]");
    }
}
