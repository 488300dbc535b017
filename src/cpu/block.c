/* The cache of decoded blocks. See block.h; how they are decoded: block_decode.c; several vCPUs: block_smp.c. */
#include "cpu/block.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/exec_local.h"

static u64 block_size(const struct block *b)
{
    return sizeof *b + (b->count + 1u) * sizeof(struct insn) + (b->trace ? block_size(b->trace) : 0);
}

void block_mark(u64 map[GRANULE_WORDS], unsigned offset, unsigned bytes)
{
    const unsigned last = MIN(offset + bytes - 1, GUEST_PAGE_SIZE - 1) >> GRANULE_SHIFT;
    for (unsigned g = offset >> GRANULE_SHIFT; g <= last; g++) map[g >> 6] |= 1ull << (g & 63);
}

/* More of the page is code from now on: stores there must be looked at. */
static void depend(struct cpu *cpu, struct code_page *p, unsigned offset, unsigned bytes)
{
    block_mark(p->map, offset, bytes);
    if (p->beside) tlb_forget_recent(cpu);
    p->beside = false;
}

void block_set_trace(struct block_cache *in, struct block *b, struct block *trace)
{
    in->bytes -= block_size(b);
    free(b->trace);
    b->trace = trace;
    in->bytes += block_size(b);
}

void block_depends(struct cpu *cpu, struct code_page *p, struct block *b, unsigned offset, unsigned bytes)
{
    depend(cpu, p, offset, bytes);
    block_mark(b->map, offset, bytes);
    b->ahead |= offset < b->offset || offset + bytes > (unsigned)b->offset + b->bytes;
}

static bool maps_overlap(const u64 a[GRANULE_WORDS], const u64 b[GRANULE_WORDS])
{
    u64 common = 0;
    for (unsigned n = 0; n < GRANULE_WORDS; n++) common |= a[n] & b[n];
    return common;
}

/* The block is out of its bucket. It is not freed yet: it may be running. */
static void kill_block(struct cpu *cpu, struct block_cache *in, struct block *b)
{
    b->dead = true;
    in->kills++;
    if (b->translation) in->discard(cpu, b);
    for (unsigned k = 0; k < b->count; k++) b->insns[k].fn = exec_block_end;
    for (unsigned k = 0; b->trace && k < b->trace->count; k++) b->trace->insns[k].fn = exec_block_end;
    b->next = in->graveyard;
    in->graveyard = b;
    in->bytes -= block_size(b);
    in->grave_bytes += block_size(b);
}

static void count_changes(struct code_page *p, const u64 map[GRANULE_WORDS], const u64 hit[GRANULE_WORDS])
{
    for (unsigned g = 0; g < ARRAY_LEN(p->changes); g++)
        if ((map[g >> 6] & hit[g >> 6]) >> (g & 63) & 1 && p->changes[g] < 0xff) p->changes[g]++;
}

/* The block is in no list of its tail's page any more. */
static void forget_tail(struct block_cache *in, struct block *b)
{
    struct block **at = &in->pages[b->tail]->tails;
    while (*at != b) at = &(*at)->next_tail;
    *at = b->next_tail;
}

/* The page's map, begun empty: a block of it, ... */
static void keep(struct code_page *p, const struct block *b)
{
    for (unsigned k = 0; k < GRANULE_WORDS; k++) p->map[k] |= b->map[k];
}

/* ... and, after all of them, those that end in it. */
static void recounted(struct cpu *cpu, struct block_cache *in, struct code_page *p)
{
    if (p->tails) p->map[0] |= 1;
    block_shown(cpu, in, p);
}

/* Find anew which granules the page's blocks depend on. */
static void recount(struct cpu *cpu, struct block_cache *in, struct code_page *p)
{
    memset(p->map, 0, sizeof p->map);
    for (unsigned n = 0; n < PAGE_BUCKETS; n++)
        for (const struct block *b = p->buckets[n]; b; b = b->next) keep(p, b);
    recounted(cpu, in, p);
}

/* Kill the blocks that end at the start of this page, whose own map the caller brings up to date. */
static void kill_tails(struct cpu *cpu, struct block_cache *in, struct code_page *p)
{
    for (struct block *b; (b = p->tails);) {
        struct code_page *home = in->pages[b->page];
        struct block **at = &home->buckets[block_bucket(b->offset, b->place)];
        while (*at != b) at = &(*at)->next;
        *at = b->next;
        p->tails = b->next_tail;
        u8 *changes = &home->changes[ARRAY_LEN(home->changes) - 1];
        if (b->translation && *changes < 0xff) ++*changes;
        kill_block(cpu, in, b);
        recount(cpu, in, home);
    }
}

/* Bytes of the block's page were written. True: it goes on, with another immediate if need be. This is how code is patched most:
 * constants, and pointers of inline caches. */
static bool survives(struct cpu *cpu, struct block_cache *in, struct block *b, unsigned from, unsigned bytes)
{
    const unsigned start = b->offset, end = start + b->bytes, to = from + bytes;
    if (!b->translation || (b->ahead && (from < start || to > end)) || block_crosses(b) || b->mode != cpu->mode_key) return false;
    const u8 *code = cpu->ram->host + (b->page << GUEST_PAGE_SHIFT) + start;
    for (unsigned k = 0; k < b->count; k++) {
        struct insn *i = &b->insns[k];
        u64 imm;
        if (start + i->off >= to || start + i->off + i->len <= from) continue;
        if (!i->opcode || !block_other_immediate(cpu, i, code + i->off, end - start - i->off, &imm)) return false;
        if (imm != i->imm && !in->adjust(cpu, b, i, imm)) return false;
        i->imm = imm;
        memcpy(i->bytes, code + i->off, i->len);
    }
    return true;
}

void block_kill_granules(struct cpu *cpu, struct block_cache *in, struct code_page *p, const u64 hit[GRANULE_WORDS],
                         unsigned from, unsigned bytes)
{
    if (hit[0] & 1) kill_tails(cpu, in, p);
    memset(p->map, 0, sizeof p->map);
    for (unsigned n = 0; n < PAGE_BUCKETS; n++) {
        for (struct block **at = &p->buckets[n], *b; (b = *at);) {
            if (maps_overlap(b->map, hit) && !(bytes && survives(cpu, in, b, from, bytes))) {
                *at = b->next;
                if (block_crosses(b)) forget_tail(in, b);
                if (b->translation) count_changes(p, b->map, hit);
                kill_block(cpu, in, b);
            } else {
                keep(p, b);
                at = &b->next;
            }
        }
    }
    recounted(cpu, in, p);
    p->empty_writes = 0;
}

static const u64 all_granules[GRANULE_WORDS] = {~0ull, ~0ull, ~0ull, ~0ull};

/* The page holds no code any more. */
static void drop_page(struct cpu *cpu, struct block_cache *in, struct code_page *p)
{
    block_kill_granules(cpu, in, p, all_granules, 0, 0);
    *(p->older ? &p->older->newer : &in->oldest) = p->newer;
    *(p->newer ? &p->newer->older : &in->newest) = p->older;
    in->pages[p->page] = NULL;
    __atomic_fetch_sub(&cpu->ram->page_flags[p->page], RAM_PAGE_CODE_ONE, __ATOMIC_SEQ_CST);
    free(p->copy);
    free(p);
}

void block_kill_all(struct cpu *cpu, struct block_cache *in)
{
    while (in->oldest) drop_page(cpu, in, in->oldest);
}

void block_bury(struct cpu *cpu, struct block_cache *in)
{
    if (in->graveyard) cpu_code_flush(cpu);
    while (in->graveyard) {
        struct block *b = in->graveyard;
        in->graveyard = b->next;
        free(b->trace);
        free(b);
    }
    in->grave_bytes = 0;
}

static bool empty(const struct code_page *p)
{
    static const u64 none[GRANULE_WORDS];
    return !memcmp(p->map, none, sizeof none);
}

/* A store to a page with code that hit none of it. Code that is written again soon after (a program that patches itself) finds the
 * page still marked; one that now holds data must not make stores slow for ever. */
static void wrote_no_code(struct cpu *cpu, struct block_cache *in, struct code_page *p)
{
    if (empty(p) && ++p->empty_writes >= EMPTY_WRITES) drop_page(cpu, in, p);
}

void block_drop_empty(struct cpu *cpu, struct block_cache *in, u64 page)
{
    struct code_page *p = in->pages[page];
    if (p && empty(p)) drop_page(cpu, in, p);
}

static void page_written(struct cpu *cpu, struct block_cache *in, struct code_page *p, unsigned from, unsigned bytes)
{
    u64 hit[GRANULE_WORDS] = {0};
    block_mark(hit, from, bytes);
    if (maps_overlap(p->map, hit)) block_kill_granules(cpu, in, p, hit, from, bytes);
    else wrote_no_code(cpu, in, p);
}

void block_unchanged(struct cpu *cpu, struct block_cache *in, u64 offset)
{
    struct code_page *p = in->pages[offset >> GUEST_PAGE_SHIFT];
    if (p) wrote_no_code(cpu, in, p);
}

void block_written(struct cpu *cpu, struct block_cache *in, u64 offset, u64 size)
{
    if (!size) {
        block_kill_all(cpu, in);
        return;
    }
    u64 end = offset + size;
    for (u64 page = offset >> GUEST_PAGE_SHIFT; page < in->page_count && page << GUEST_PAGE_SHIFT < end; page++) {
        struct code_page *p = in->pages[page];
        if (!p) continue;
        u64 base = page << GUEST_PAGE_SHIFT;
        unsigned from = offset > base ? (unsigned)(offset - base) : 0;
        unsigned to = end < base + GUEST_PAGE_SIZE ? (unsigned)(end - base) : GUEST_PAGE_SIZE;
        page_written(cpu, in, p, from, to - from);
    }
}

static struct code_page *new_code_page(struct cpu *cpu, struct block_cache *in, u64 page)
{
    struct code_page *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->page = page;
    p->older = in->newest;
    *(p->older ? &p->older->newer : &in->oldest) = p;
    in->newest = in->pages[page] = p;
    if (block_page_begins(cpu, p)) return p;
    drop_page(cpu, in, p);
    return NULL;
}

/* Instruction bytes by linear address, one page's worth: their RAM offset, or false for a device page. False with an exception
 * recorded when the fetch faults. */
static bool fetch_page(struct cpu *cpu, gla lin, u64 *ram_offset, gpa *phys)
{
    const struct tlb_entry *e = &cpu->tlb->e[tlb_index(lin)];
    if (e->exec_tag == ((lin & ~GUEST_PAGE_MASK) | cpu->tlb->gen)) {
        *ram_offset = (u64)(lin + e->addend - (u64)(uintptr_t)cpu->ram->host);
        return true;
    }
    TRY(mmu_translate(cpu, lin, ACC_EXEC, phys));
    bool page_ok;
    struct bus_target t = bus_lookup(cpu->mem, *phys, false, &page_ok);
    if (!t.host || !page_ok) return false;
    *ram_offset = t.ram_offset;
    return true;
}

/* The page, which holds code from now on; NULL: no memory. */
static struct code_page *code_page(struct cpu *cpu, struct block_cache *in, u64 page)
{
    return in->pages[page] ? in->pages[page] : new_code_page(cpu, in, page);
}

static void add_block(struct cpu *cpu, struct block_cache *in, struct code_page *p, struct block *b, unsigned offset)
{
    b->offset = (u16)offset;
    b->page = p->page;
    b->place = block_place(cpu, cpu->rip, offset);
    struct block **bucket = &p->buckets[block_bucket(offset, b->place)];
    b->next = *bucket;
    *bucket = b;
    block_depends(cpu, p, b, offset, b->bytes);
    p->empty_writes = 0;
    b->changes = 0;
    const unsigned last = MIN(offset + b->bytes - 1u, GUEST_PAGE_SIZE - 1) >> GRANULE_SHIFT;
    for (unsigned g = offset >> GRANULE_SHIFT; g <= last; g++) b->changes = MAX(b->changes, p->changes[g]);
    in->bytes += block_size(b);
}

/* The instruction at this RAM offset crosses into the next linear page: its block, made if need be. NULL: an exception is
 * recorded, or it is not all in RAM. */
static struct block *crossing_block(struct cpu *cpu, struct block_cache *in, gla lin, u64 ram_offset, struct block *b)
{
    const gla next = next_page(cpu, lin);
    u64 tail_offset;
    gpa phys;
    if (cpu_code64(cpu) && !canonical(next)) return NULL;
    if (!fetch_page(cpu, next, &tail_offset, &phys)) return NULL;
    const u64 tail = tail_offset >> GUEST_PAGE_SHIFT;
    cpu_code_seen(cpu, next);
    if (b && b->dead) b = NULL; /* the page walk has set a bit in one of its pages */
    if (in->pages[tail] && in->pages[tail]->copy) {
        block_compare(cpu, in, in->pages[tail]);
        if (b && b->dead) b = NULL;
    }
    if (b && b->tail == tail) return b;
    if (b) {
        struct code_page *old = in->pages[b->tail];
        kill_tails(cpu, in, old);
        recount(cpu, in, old);
    }
    struct code_page *p = code_page(cpu, in, ram_offset >> GUEST_PAGE_SHIFT), *q = code_page(cpu, in, tail);
    u8 code[15];
    const unsigned offset = (unsigned)(ram_offset & GUEST_PAGE_MASK), first = MIN(15u, (unsigned)GUEST_PAGE_SIZE - offset);
    const u8 *head, *rest;
    if (!p || !q || !(head = block_bytes(cpu, in, p, offset, first)) || !(rest = block_bytes(cpu, in, q, 0, sizeof code))) return NULL;
    memcpy(code, head, first);
    memcpy(code + first, rest, sizeof code - first);
    if (!(b = block_decode(cpu, code, sizeof code, 1))) return NULL;
    add_block(cpu, in, p, b, offset);
    if (block_crosses(b)) { /* not when it was written meanwhile by another vCPU */
        b->tail = tail;
        b->next_tail = q->tails;
        q->tails = b;
        depend(cpu, q, 0, 1);
    }
    block_shown(cpu, in, p);
    block_shown(cpu, in, q);
    return b;
}

/* The block at this RAM offset, decoded if need be. NULL: an exception is recorded, or its instruction is not all in RAM. */
static struct block *cached_block(struct cpu *cpu, struct block_cache *in, gla lin, u64 ram_offset)
{
    unsigned offset = (unsigned)(ram_offset & GUEST_PAGE_MASK);
    struct code_page *p = in->pages[ram_offset >> GUEST_PAGE_SHIFT];
    if (p && p->copy) block_compare(cpu, in, p);
    struct block *b = p ? block_at(p, offset, cpu->mode_key, block_place(cpu, cpu->rip, offset)) : NULL;
    if (b && !block_crosses(b)) return b;
    if (!b) {
        while (in->bytes > in->limit && in->oldest != p) drop_page(cpu, in, in->oldest);
        if (!p && !(p = new_code_page(cpu, in, ram_offset >> GUEST_PAGE_SHIFT))) return NULL;
        const unsigned bytes = MIN(GUEST_PAGE_SIZE - offset, 15 * BLOCK_MAX);
        const u8 *code = block_bytes(cpu, in, p, offset, bytes);
        if (!code) return NULL;
        b = block_decode(cpu, code, bytes, BLOCK_MAX);
        if (b) {
            add_block(cpu, in, p, b, offset);
            block_shown(cpu, in, p);
            return b;
        }
    }
    return crossing_block(cpu, in, lin, ram_offset, b);
}

/* One instruction that lies outside RAM, or begins or ends there, in the scratch block. */
static struct block *uncached_block(struct cpu *cpu, struct block_cache *in, gla lin)
{
    u8 code[15];
    unsigned have = 0;
    free(in->scratch);
    in->scratch = NULL;
    while (have < sizeof code) {
        gla at = cpu_code64(cpu) ? lin + have : (u32)(lin + have);
        unsigned n = MIN((unsigned)sizeof code - have, GUEST_PAGE_SIZE - (unsigned)(at & GUEST_PAGE_MASK));
        u64 offset;
        gpa phys = 0;
        if (cpu_code64(cpu) && !canonical(at)) {
            raise_gp0(cpu);
            return NULL;
        }
        if (fetch_page(cpu, at, &offset, &phys)) {
            memcpy(code + have, cpu->ram->host + offset, n);
        } else {
            if (cpu->exc.vector >= 0) return NULL;
            cpu->hooks->lock(cpu->hooks->opaque);
            bus_read_block(cpu->mem, phys, code + have, n);
            cpu->hooks->unlock(cpu->hooks->opaque);
        }
        have += n;
        in->scratch = block_decode(cpu, code, have, 1);
        if (in->scratch) return in->scratch;
    }
    raise_gp0(cpu);
    return NULL;
}

struct block *find_block_slow(struct cpu *cpu, struct block_cache *in, gla lin, struct jump_entry *j)
{
    u64 offset;
    gpa phys;
    if (cpu->rip > cpu->code_limit || (cpu_code64(cpu) && !canonical(lin))) {
        raise_gp0(cpu);
        return NULL;
    }
    struct block *b = NULL;
    if (fetch_page(cpu, lin, &offset, &phys))
        b = cached_block(cpu, in, lin, offset);
    if (cpu->exc.vector >= 0) return NULL;
    if (!b) return uncached_block(cpu, in, lin);
    cpu_code_seen(cpu, lin);
    if (!block_unsettled(in, b))
        *j = (struct jump_entry){.lin = lin, .key = cpu->code_key, .block = b, .host = b->host ? b->host : in->no_host};
    return b;
}

int block_cache_init(struct block_cache *in, struct cpu *cpu)
{
    in->page_count = cpu->ram->size >> GUEST_PAGE_SHIFT;
    in->pages = calloc(in->page_count, sizeof in->pages[0]);
    in->shown = calloc(in->page_count, sizeof in->shown[0]);
    if (!in->pages || !in->shown) {
        fprintf(stderr, "calque: no memory for the code cache\n");
        free(in->pages);
        free(in->shown);
        return -ENOMEM;
    }
    in->filling = in->queues;
    for (unsigned n = 0; n < JUMP_ENTRIES; n++) in->jumps[n].key = ~0ull;
    in->limit = CACHE_LIMIT;
    pthread_mutex_init(&in->mutex, NULL);
    return 0;
}

void block_cache_destroy(struct block_cache *in, struct cpu *cpu)
{
    block_kill_all(cpu, in);
    block_bury(cpu, in);
    free(in->scratch);
    free(in->pages);
    free(in->shown);
    pthread_mutex_destroy(&in->mutex);
}

void block_cache_start(struct block_cache *in)
{
    in->thread = pthread_self();
    in->running = true;
}
