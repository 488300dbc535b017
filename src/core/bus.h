/* Address spaces: guest-physical memory and I/O ports are both a bus with regions on it.
 *
 * Regions may overlap; where they do, the highest priority wins, per direction: a region that is not
 * readable (or not writable) lets the next lower one show through for that direction. That is enough for
 * PAM shadowing, PCI BARs over RAM and ROM over RAM. Reads that nobody claims return all ones.
 *
 * Locking: the map changes, and device callbacks run, under the machine lock. bus_lookup() and accesses
 * that end in RAM may be made by a vCPU thread without it. */
#ifndef CORE_BUS_H
#define CORE_BUS_H

#include "core/types.h"

/* ---- host memory that backs guest memory ---- */

/* One anonymous mapping. Guest RAM, ROM images and video memory are chunks of it. A "RAM offset" is an
 * offset into it, and names a byte of guest memory independently of where the bus shows it. */
struct ram {
    u8 *host;       /* the memory, at the start of a large page of the host's */
    u64 size;       /* bytes, page multiple */
    u64 used;       /* bytes handed out by ram_alloc() */
    u16 *page_flags; /* for each 4 KiB page: RAM_PAGE_* (accessed with __atomic builtins) */
    void (*code_write)(void *opaque, u64 offset, u64 size); /* see ram_on_code_write() */
    void *code_opaque;
    void (*dirty_cleared)(void *opaque); /* see ram_on_dirty_cleared() */
    bool (*dirty_settled)(void *opaque); /* likewise */
    void *dirty_opaque;                  /* for both */
};

#define RAM_PAGE_DIRTY    0x0001 /* written since last asked, for video memory */
#define RAM_PAGE_BESIDE   0x00fe /* holds code, and may be stored to where nobody shows some (cpu/block_smp.c): by whom, 0: nobody */
#define RAM_PAGE_CODE     0xff00 /* how many vCPUs hold decoded or translated code from this page, ... */
#define RAM_PAGE_CODE_ONE 0x0100 /* ... in units of this */

/* NULL with a message on stderr when the host refuses. */
struct ram *ram_create(u64 size);
void ram_destroy(struct ram *r);
/* Reserve a page-aligned, zeroed chunk: its RAM offset. Asking for more than there is is our bug (assert). */
u64 ram_alloc(struct ram *r, u64 size);
/* Who must hear of writes to pages with RAM_PAGE_CODE that do not come from the vCPU's own stores. */
void ram_on_code_write(struct ram *r, void (*fn)(void *opaque, u64 offset, u64 size), void *opaque);
/* Note that [offset, offset + size) was written by a device or by DMA: sets DIRTY, reports CODE. */
void ram_note_write(struct ram *r, u64 offset, u64 size);
/* Which pages of [offset, offset + size) have been DIRTY since the last call: their bits are set in pages[] (the first
 * page is bit 0 of pages[0]), others are left alone. Whether there were any. A vCPU that stores through its TLB sets
 * the flag when it fills the entry: it must be told, and until ram_dirty_settled() its stores may go unnoticed. */
bool ram_take_dirty(struct ram *r, u64 offset, u64 size, u64 *pages);
bool ram_dirty_settled(struct ram *r);
/* Who tells the vCPUs (cleared), and knows whether all of them have heard it since (settled). */
void ram_on_dirty_cleared(struct ram *r, void (*cleared)(void *opaque), bool (*settled)(void *opaque), void *opaque);

/* To or from RAM that others look at and change meanwhile: the C library's memcpy() accesses some bytes twice, and words not as
 * such. Here sizes that processors access in one go do not tear, and what comes last is written last. Keeps off vector registers. */
static inline void ram_copy(void *to, const void *from, u64 size)
{
    u8 *t = to;
    const u8 *f = from;
    for (; size >= 8; size -= 8, t += 8, f += 8) __builtin_memcpy(t, f, 8);
    if (size & 4) {
        __builtin_memcpy(t, f, 4);
        t += 4;
        f += 4;
    }
    if (size & 2) {
        __builtin_memcpy(t, f, 2);
        t += 2;
        f += 2;
    }
    if (size & 1) *t = *f;
}

/* ---- regions ---- */

struct region_ops {
    u64 (*read)(void *opaque, u64 offset, unsigned size);
    void (*write)(void *opaque, u64 offset, u64 value, unsigned size);
    u8 min_size, max_size; /* access sizes implemented, bytes (0: 1 and 8); the bus splits larger accesses
                              (little-endian, ascending) and widens smaller ones: a widened read is done
                              aligned and the part extracted; a narrower write is passed with the bytes
                              around it zero */
};

struct bus;
struct region;

/* name: for logs; size: one past the highest address (0x10000 for ports, 1 << 52 for memory). */
struct bus *bus_create(const char *name, u64 size);
void bus_destroy(struct bus *b);

/* A device region, enabled at once. Strings and ops are not copied. */
struct region *bus_add(struct bus *b, const char *name, gpa base, u64 size, int priority,
                       const struct region_ops *ops, void *opaque);
/* A piece of host memory, readable; writable unless rom. Page aligned. */
struct region *bus_add_ram(struct bus *b, const char *name, gpa base, u64 size, int priority, struct ram *ram,
                           u64 ram_offset, bool rom);
void region_remove(struct region *r);
void region_set_enabled(struct region *r, bool enabled);
void region_set_base(struct region *r, gpa base);
/* Which directions the region answers (PAM). */
void region_set_access(struct region *r, bool readable, bool writable);
gpa region_base(const struct region *r);
bool region_enabled(const struct region *r);

/* Group several changes into one rebuild. Nests. */
void bus_begin_update(struct bus *b);
void bus_end_update(struct bus *b);
/* Called after each rebuild of the map (vCPUs must drop cached translations). Several may register. */
void bus_on_change(struct bus *b, void (*fn)(void *opaque), void *opaque);
/* A20 gate: AND mask applied to every address (all ones, or ~(1 << 20)). Counts as a map change. */
void bus_set_address_mask(struct bus *b, u64 mask);

/* List what answers where: for people. */
struct _IO_FILE;
void bus_print(const struct bus *b, struct _IO_FILE *out);

/* ---- accesses ---- */

/* What a physical page shows in one direction. */
struct bus_target {
    u8 *host;       /* host address of that byte, or NULL for a device or nothing */
    u64 ram_offset; /* when host: its RAM offset */
    struct ram *ram;
};
/* Resolve addr for reading or writing. The answer holds for the whole 4 KiB page around addr only if
 * page_ok is set (a page split between regions is resolved access by access). */
struct bus_target bus_lookup(struct bus *b, gpa addr, bool write, bool *page_ok);

/* Whole pages in a row that show one piece of RAM, the same for reading and for writing. */
struct bus_span {
    gpa first, last; /* addresses, inclusive; empty: first > last */
    u8 *host;        /* host address of first */
    u64 ram_offset;  /* RAM offset of first */
    struct ram *ram;
};
/* The span around addr; false: there is none. Looks addr up like bus_lookup(); the answer holds until the map changes. */
bool bus_ram_span(struct bus *b, gpa addr, struct bus_span *span);

/* Accesses of 1, 2, 4 or 8 bytes at any alignment. Device regions need the machine lock. A write to RAM goes
 * through ram_note_write(). */
u64 bus_read(struct bus *b, gpa addr, unsigned size);
void bus_write(struct bus *b, gpa addr, u64 value, unsigned size);
/* DMA: whole blocks, in RAM by memcpy, elsewhere in the largest naturally aligned accesses up to 8 bytes. */
void bus_read_block(struct bus *b, gpa addr, void *buf, u64 size);
void bus_write_block(struct bus *b, gpa addr, const void *buf, u64 size);

#endif
