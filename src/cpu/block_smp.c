/* Code that several vCPUs run, and write. Each has decoded code of its own (block.h); all see the same RAM.
 *
 * A store to a page that any vCPU has code of (RAM_PAGE_CODE) takes a slow path: it is done, then the storing vCPU looks at the
 * granules that each other one shows (block_cache.shown), and queues what was written for those that show some of it. A vCPU
 * that decodes shows the granules before it reads the bytes. With a fence between the two steps on either side, the store is
 * seen by the decoder, or the granule by who stores.
 *
 * That does not hold for stores that others make without a look: through their TLBs to a page that held no code until now, or
 * beside code by an earlier look (light.c). They are asked to come out of their code once, and not waited for. Until all have
 * done so the page is unsettled: its new blocks are interpreted only, found each time by find_block_slow(), which compares the
 * whole page with the copy that they were decoded from. */
#include "cpu/block.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/mmu.h"

/* ---- asking others ---- */

/* Can [offset, offset + size) go with a request that waits? When many do, a page is written as a whole. */
static bool joins(const struct block_queue *q, struct block_asked *a, u64 offset, u64 size)
{
    if (a->what != CODE_WRITTEN || !size) return false;
    const u64 end = offset + size, old_end = a->offset + a->size;
    const bool close = q->used > QUEUED / 8 && (a->offset ^ end) >> GUEST_PAGE_SHIFT == 0 && (offset ^ old_end) >> GUEST_PAGE_SHIFT == 0;
    if (offset != old_end && !close) return false;
    a->offset = MIN(a->offset, offset);
    a->size = MAX(end, old_end) - a->offset;
    return true;
}

static void ask(struct cpu *cpu, struct block_cache *in, enum block_request what, u64 offset, u64 size)
{
    enum { LOOK_BACK = 4 }; /* requests */
    pthread_mutex_lock(&in->mutex);
    struct block_queue *q = in->filling;
    bool joined = false;
    for (unsigned n = 1; what == CODE_WRITTEN && !joined && n <= MIN(q->used, LOOK_BACK) && q->used <= QUEUED; n++)
        joined = joins(q, &q->asked[q->used - n], offset, size);
    if (!joined && q->used < QUEUED && size) q->asked[q->used++] = (struct block_asked){what, offset, size};
    else if (!joined) q->used = QUEUED + 1;
    pthread_mutex_unlock(&in->mutex);
    cpu_event_set(cpu, EVENT_INVALIDATE);
}

void block_take_queue(struct cpu *cpu, struct block_cache *in)
{
    pthread_mutex_lock(&in->mutex);
    struct block_queue *q = in->filling;
    in->filling = &in->queues[q == in->queues];
    pthread_mutex_unlock(&in->mutex);
    tlb_forget_recent(cpu); /* ranges beside code end where others may have new code */
    if (q->used > QUEUED) {
        block_kill_all(cpu, in);
        tlb_flush_all(cpu);
    }
    for (unsigned n = 0; n < q->used && q->used <= QUEUED; n++) {
        const struct block_asked *a = &q->asked[n];
        switch (a->what) {
        case CODE_WRITTEN: block_written(cpu, in, a->offset, a->size); break;
        case CODE_BEGINS: tlb_protect_code(cpu, a->offset); break;
        case CODE_ENDED: block_drop_empty(cpu, in, a->offset >> GUEST_PAGE_SHIFT); break;
        }
    }
    q->used = 0;
}

static bool shows_range(const struct block_cache *in, u64 offset, u64 size)
{
    const u64 end = offset + size;
    for (u64 page = offset >> GUEST_PAGE_SHIFT; page < in->page_count && page << GUEST_PAGE_SHIFT < end; page++) {
        const u64 start = page << GUEST_PAGE_SHIFT, from = MAX(offset, start);
        if (block_shows(in, page, (unsigned)(from - start), (unsigned)(MIN(end, start + GUEST_PAGE_SIZE) - from))) return true;
    }
    return false;
}

void block_invalidate(struct cpu *cpu, struct block_cache *in, u64 offset, u64 size)
{
    if (!in->running || pthread_equal(pthread_self(), in->thread)) {
        block_written(cpu, in, offset, size);
        return;
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!size || shows_range(in, offset, size)) ask(cpu, in, CODE_WRITTEN, offset, size);
}

/* ---- stores ---- */

/* One store in EMPTY_WRITES to pages with code where nobody shows some looks whether the page holds code at all. */
static void tell_others(struct cpu *cpu, u64 offset, unsigned size)
{
    struct block_cache *in = cpu->engine, *other;
    const u64 page = offset >> GUEST_PAGE_SHIFT;
    const bool look = ++in->besides % EMPTY_WRITES == 0;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (unsigned n = 0; n < cpu->count; n++) {
        if (!(other = block_other(cpu, n))) continue;
        if (block_shows(other, page, (unsigned)(offset & GUEST_PAGE_MASK), size)) ask(cpu->all[n], other, CODE_WRITTEN, offset, size);
        else if (look && __atomic_load_n(&other->pages[page], __ATOMIC_RELAXED) && !block_shows(other, page, 0, GUEST_PAGE_SIZE))
            ask(cpu->all[n], other, CODE_ENDED, offset, 1);
    }
}

void cpu_stored(struct cpu *cpu, u64 offset, unsigned size, bool same)
{
    u16 *flags = &cpu->ram->page_flags[offset >> GUEST_PAGE_SHIFT];
    const u16 was = __atomic_load_n(flags, __ATOMIC_SEQ_CST);
    if (!(was & RAM_PAGE_CODE)) return;
    if (!(was & RAM_PAGE_DIRTY)) __atomic_fetch_or(flags, RAM_PAGE_DIRTY, __ATOMIC_SEQ_CST);
    if (same) {
        cpu->engine_ops->unchanged(cpu, offset);
        return;
    }
    cpu->engine_ops->invalidate(cpu, offset, size);
    if (cpu->smp) tell_others(cpu, offset, size);
}

/* ---- decoding ---- */

/* Have all others come out of their code since they were asked to? */
static bool others_passed(const struct cpu *cpu)
{
    for (unsigned n = 0; n < cpu->count; n++) {
        const struct cpu *other = cpu->all[n];
        if (!other || other == cpu || !__atomic_load_n(&other->in_guest, __ATOMIC_SEQ_CST)) continue;
        if (__atomic_load_n(&other->events, __ATOMIC_SEQ_CST) & EVENT_INVALIDATE) return false;
    }
    return true;
}

/* The others have been asked. */
static bool unsettle(struct cpu *cpu, struct code_page *p)
{
    if (p->copy || others_passed(cpu)) return true;
    if (!(p->copy = malloc(GUEST_PAGE_SIZE))) return false;
    memcpy(p->copy, cpu->ram->host + (p->page << GUEST_PAGE_SHIFT), GUEST_PAGE_SIZE);
    return true;
}

bool block_page_begins(struct cpu *cpu, struct code_page *p)
{
    struct block_cache *other;
    u16 *flags = &cpu->ram->page_flags[p->page], was = __atomic_load_n(flags, __ATOMIC_SEQ_CST), now;
    do now = (u16)((was & RAM_PAGE_CODE ? was : was & ~RAM_PAGE_BESIDE) + RAM_PAGE_CODE_ONE);
    while (!__atomic_compare_exchange_n(flags, &was, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    tlb_protect_code(cpu, p->page << GUEST_PAGE_SHIFT);
    if (!cpu->smp) return true;
    /* Also when others have code of it: they may still be asking. */
    for (unsigned n = 0; n < cpu->count; n++)
        if ((other = block_other(cpu, n))) ask(cpu->all[n], other, CODE_BEGINS, p->page << GUEST_PAGE_SHIFT, 1);
    return unsettle(cpu, p);
}

bool block_show(struct cpu *cpu, struct block_cache *in, struct code_page *p, unsigned offset, unsigned bytes)
{
    if (!cpu->smp) return true;
    u64 map[GRANULE_WORDS];
    memcpy(map, p->map, sizeof map);
    block_mark(map, offset, bytes);
    for (unsigned k = 0; k < GRANULE_WORDS; k++) __atomic_store_n(&in->shown[p->page][k], map[k], __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    const u16 beside = __atomic_load_n(&cpu->ram->page_flags[p->page], __ATOMIC_SEQ_CST) & RAM_PAGE_BESIDE;
    return !beside || beside == block_beside(cpu);
}

void block_shown(const struct cpu *cpu, struct block_cache *in, const struct code_page *p)
{
    for (unsigned k = 0; cpu->smp && k < GRANULE_WORDS; k++) __atomic_store_n(&in->shown[p->page][k], p->map[k], __ATOMIC_RELAXED);
}

const u8 *block_bytes(struct cpu *cpu, struct block_cache *in, struct code_page *p, unsigned offset, unsigned bytes)
{
    if (!block_show(cpu, in, p, offset, bytes) && !p->copy) {
        for (unsigned n = 0; n < cpu->count; n++)
            if (block_other(cpu, n)) cpu_event_set(cpu->all[n], EVENT_INVALIDATE);
        if (!unsettle(cpu, p)) return NULL;
    }
    return (p->copy ? p->copy : cpu->ram->host + (p->page << GUEST_PAGE_SHIFT)) + offset;
}

void block_compare(struct cpu *cpu, struct block_cache *in, struct code_page *p)
{
    const bool passed = others_passed(cpu);
    const u8 *now = cpu->ram->host + (p->page << GUEST_PAGE_SHIFT);
    u64 hit[GRANULE_WORDS] = {0};
    if (memcmp(p->copy, now, GUEST_PAGE_SIZE)) {
        for (unsigned at = 0; at < GUEST_PAGE_SIZE; at += 1u << GRANULE_SHIFT) {
            if (!memcmp(p->copy + at, now + at, 1u << GRANULE_SHIFT)) continue;
            memcpy(p->copy + at, now + at, 1u << GRANULE_SHIFT);
            block_mark(hit, at, 1);
        }
        block_kill_granules(cpu, in, p, hit, 0, 0);
    }
    if (!passed) return;
    free(p->copy);
    p->copy = NULL;
}
