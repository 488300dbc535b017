/* Guest memory: one anonymous mapping, handed out in chunks, with flags for each page.
 *
 * Anonymous, not a memfd, because hosts give large pages to anonymous memory by default, and to shared memory only when
 * somebody has told them to: large pages save the host a fault for each page that is touched first, and most of its own TLB
 * misses. Pages nobody touched cost nothing on the host. */
#define _GNU_SOURCE
#include "core/bus.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/large.h"

struct ram *ram_create(u64 size)
{
    const char *failed;
    int err;
    struct ram *r = calloc(1, sizeof *r);
    if (!r) {
        failed = "allocate";
        goto no_struct;
    }
    r->size = (size + GUEST_PAGE_MASK) & ~GUEST_PAGE_MASK;
    failed = "map it";
    r->host = large_map(r->size, PROT_READ | PROT_WRITE, false);
    if (!r->host) goto no_map;
    failed = "allocate the page flags";
    r->page_flags = calloc(r->size >> GUEST_PAGE_SHIFT, sizeof r->page_flags[0]);
    if (!r->page_flags) goto no_flags;
    return r;

no_flags:
    munmap(r->host, r->size);
    errno = ENOMEM;
no_map:
    err = errno;
    free(r);
    errno = err;
no_struct:
    fprintf(stderr, "calque: guest memory of %llu bytes: cannot %s: %s\n", (unsigned long long)size, failed,
            strerror(errno));
    return NULL;
}

void ram_destroy(struct ram *r)
{
    if (!r) return;
    munmap(r->host, r->size);
    free(r->page_flags);
    free(r);
}

u64 ram_alloc(struct ram *r, u64 size)
{
    u64 offset = r->used;
    u64 rounded = (size + GUEST_PAGE_MASK) & ~GUEST_PAGE_MASK;
    assert(rounded >= size && rounded <= r->size - r->used);
    r->used += rounded;
    return offset; /* the mapping starts zeroed and no chunk is handed out twice */
}

void ram_on_code_write(struct ram *r, void (*fn)(void *opaque, u64 offset, u64 size), void *opaque)
{
    r->code_write = fn;
    r->code_opaque = opaque;
}

void ram_note_write(struct ram *r, u64 offset, u64 size)
{
    if (!size || offset >= r->size) return;
    u64 end = size > r->size - offset ? r->size : offset + size;
    u64 code_start = 0, code_end = 0; /* the run of code pages being collected; empty when equal */

    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* who has the flag set now will read the new bytes */
    for (u64 at = offset; at < end;) {
        u64 next = MIN((at | GUEST_PAGE_MASK) + 1, end);
        u16 *flags = &r->page_flags[at >> GUEST_PAGE_SHIFT];
        u16 was = __atomic_load_n(flags, __ATOMIC_RELAXED);
        /* The test first: a page that is written all the time is dirty already, and the read stays shared. */
        if (!(was & RAM_PAGE_DIRTY)) was = __atomic_fetch_or(flags, RAM_PAGE_DIRTY, __ATOMIC_SEQ_CST);
        if (was & RAM_PAGE_CODE) {
            if (code_start == code_end) code_start = at;
            code_end = next;
        } else if (code_start != code_end) {
            if (r->code_write) r->code_write(r->code_opaque, code_start, code_end - code_start);
            code_start = code_end = 0;
        }
        at = next;
    }
    if (code_start != code_end && r->code_write)
        r->code_write(r->code_opaque, code_start, code_end - code_start);
}

bool ram_take_dirty(struct ram *r, u64 offset, u64 size, u64 *pages)
{
    bool any = false;
    u16 *flags = &r->page_flags[offset >> GUEST_PAGE_SHIFT];
    for (u64 i = 0; i < size >> GUEST_PAGE_SHIFT; i++) {
        if (!(__atomic_load_n(&flags[i], __ATOMIC_RELAXED) & RAM_PAGE_DIRTY)) continue;
        __atomic_fetch_and(&flags[i], (u16)~RAM_PAGE_DIRTY, __ATOMIC_SEQ_CST);
        pages[i / 64] |= 1ull << i % 64;
        any = true;
    }
    if (any && r->dirty_cleared) r->dirty_cleared(r->dirty_opaque);
    return any;
}

bool ram_dirty_settled(struct ram *r) { return !r->dirty_settled || r->dirty_settled(r->dirty_opaque); }

void ram_on_dirty_cleared(struct ram *r, void (*cleared)(void *opaque), bool (*settled)(void *opaque), void *opaque)
{
    r->dirty_cleared = cleared;
    r->dirty_settled = settled;
    r->dirty_opaque = opaque;
}
