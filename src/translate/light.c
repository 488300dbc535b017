/* Light functions. See light.h. */
#include "translate/light.h"

#include "cpu/exec.h"
#include "cpu/fpu_live.h"
#include "cpu/run.h"
#include "translate/emit.h"
#include "translate/translate.h"

/* Add the granules that other vCPUs show. This one stores afterwards: see block_smp.c. False: it must tell them. */
static bool beside_others(struct cpu *cpu, struct block_cache *in, u64 page, u64 map[GRANULE_WORDS])
{
    u16 *flags = &cpu->ram->page_flags[page], was = __atomic_load_n(flags, __ATOMIC_SEQ_CST), now, by;
    if (in->besides % EMPTY_WRITES == EMPTY_WRITES - 1) return false;
    while ((by = was & RAM_PAGE_BESIDE) != block_beside(cpu) && by != BESIDE_SEVERAL) {
        now = was | (by ? BESIDE_SEVERAL : block_beside(cpu));
        if (__atomic_compare_exchange_n(flags, &was, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) break;
    }
    in->besides++;
    for (unsigned n = 0; n < cpu->count; n++) {
        const struct block_cache *other = block_other(cpu, n);
        for (unsigned k = 0; other && k < GRANULE_WORDS; k++) map[k] |= __atomic_load_n(&other->shown[page][k], __ATOMIC_RELAXED);
    }
    return true;
}

static bool is_code(const u64 map[GRANULE_WORDS], unsigned granule) { return map[granule >> 6] >> (granule & 63) & 1; }

/* A store goes beside the page's code: a recent range has the bytes around up to where there is code. */
static bool range_beside(struct cpu *cpu, const u64 map[GRANULE_WORDS], u64 lin, u64 size, u64 addend, struct tlb_recent *r)
{
    const u64 past = tlb_recent_past((unsigned)size);
    unsigned first = (unsigned)(lin & GUEST_PAGE_MASK) >> GRANULE_SHIFT, end = first + 1;
    while (first && !is_code(map, first - 1)) first--;
    while (end < GUEST_PAGE_SIZE >> GRANULE_SHIFT && !is_code(map, end)) end++;
    const u64 bytes = (u64)(end - first) << GRANULE_SHIFT;
    if (bytes <= past) return false;
    r->start = (lin & ~GUEST_PAGE_MASK) + ((u64)first << GRANULE_SHIFT);
    r->limit = bytes - past;
    r->addend = addend;
    tlb_use_recent(cpu->tlb, (unsigned)(r - cpu->tlb->recent));
    return true;
}

/* A store to a page that holds code, but not where it stores: its addend, or 0. slot: of the recent range; 0: none. */
static u64 beside_code(struct cpu *cpu, u64 lin, u64 size, u64 slot)
{
    struct bt *bt = cpu->engine;
    const unsigned from = (unsigned)(lin & GUEST_PAGE_MASK);
    u8 *host;
    if (from + size > GUEST_PAGE_SIZE || !(host = mmu_writable(cpu, lin))) return 0;
    const u64 page = (u64)(host - cpu->ram->host) >> GUEST_PAGE_SHIFT;
    struct code_page *p = bt->cache.pages[page];
    if (p ? p->empty_writes == EMPTY_WRITES : !cpu->smp) return 0;
    u64 any = 0, map[GRANULE_WORDS];
    for (unsigned n = 0; n < GRANULE_WORDS; n++) any |= map[n] = p ? p->map[n] : 0;
    if (p && !any) p->empty_writes++;
    if (cpu->smp && !beside_others(cpu, &bt->cache, page, map)) return 0;
    for (unsigned g = from >> GRANULE_SHIFT; g <= (from + size - 1) >> GRANULE_SHIFT; g++)
        if (is_code(map, g)) return 0;
    u16 *flags = &cpu->ram->page_flags[page];
    if (!(*flags & RAM_PAGE_DIRTY)) __atomic_fetch_or(flags, RAM_PAGE_DIRTY, __ATOMIC_RELAXED);
    const u64 addend = (u64)(uintptr_t)host - lin;
    if (slot && range_beside(cpu, map, lin, size, addend, &cpu->tlb->recent[slot]) && p) p->beside = true;
    return addend;
}

u64 light_fill(struct cpu *cpu, u64 addr, u64 a)
{
    struct bt *bt = cpu->engine;
    const u8 live = cpu->fpu_live;
    bt->fills++;
    if (a & FILL_DIRTY) return mmu_writable(cpu, addr) && cpu->tlb->e[tlb_index(addr)].write_tag == ((addr & ~GUEST_PAGE_MASK) | cpu->tlb->gen);
    return mmu_fill(cpu, addr, (unsigned)a) && cpu->fpu_live == live;
}

static const struct probe_site *probe_site(const struct cpu *cpu, const u8 *back)
{
    const struct bt *bt = cpu->engine;
    const u32 at = (u32)(back - bt->code.rx);
    const struct code_region *r = bt->code.regions;
    while (at >= (u32)(r->end - bt->code.rw)) r++;
    const bool cold = at >= (u32)(r->middle - bt->code.rw);
    const struct translation *t = code_memory_find(&bt->code, back - 1);
    while ((cold ? t->cold : t->hot) >= at) t = t->next;
    const struct probe_site *s = t->probes;
    while (s->back != at) s++;
    return s;
}

u64 light_probe(struct cpu *cpu, u64 addr, u64 a)
{
    struct bt *bt = cpu->engine;
    const u64 size = a >> 8 & 0xff, align = a >> 16;
    const unsigned acc = (unsigned)(a & 0xff);
    const u8 live = cpu->fpu_live;
    const struct tlb_entry *e = &cpu->tlb->e[tlb_index(addr)];
    bt->fills++;
    if ((addr & GUEST_PAGE_MASK) + size <= GUEST_PAGE_SIZE && !(addr & align) &&
        e->write_tag != ((addr & ~GUEST_PAGE_MASK) | cpu->tlb->gen | TLB_CODE) && mmu_fill(cpu, addr, acc) && cpu->fpu_live == live)
        return e->addend;
    /* A page walk can have emptied the returns, but for the one to us. */
    const struct probe_site *s = probe_site(cpu, (const u8 *)(uintptr_t)cpu->return_sp[-1].rip);
    const u64 addend = acc == ACC_WRITE && !align && cpu->fpu_live == live ? beside_code(cpu, addr, size, s->slot) : 0;
    cpu->return_sp[-1].rip = (u64)(uintptr_t)(bt->code.rx + (addend ? s->again : s->stub));
    return addend;
}

/* Remember the pages around the one just found that have the same addend, too. True: there are some. */
static bool widen(struct cpu *cpu, const struct tlb *t, struct tlb_recent *r, const struct look *l)
{
    enum { AROUND = 16 };
    gla first = r->start, end = first + GUEST_PAGE_SIZE;
    u64 size;
    if (mmu_large(cpu, first, r->addend, l->write ? ACC_WRITE : ACC_READ, &first, &size)) {
        end = first + size;
    } else {
#define HAS(lin) ({ \
        const struct tlb_entry *e_ = &t->e[tlb_index(lin)]; \
        (l->write ? e_->write_tag : e_->read_tag) == ((lin) | t->gen) && e_->addend == r->addend; \
    })
        for (unsigned n = 0; n < AROUND && first && HAS(first - GUEST_PAGE_SIZE); n++) first -= GUEST_PAGE_SIZE;
        for (unsigned n = 0; n < AROUND && end && HAS(end); n++) end += GUEST_PAGE_SIZE;
#undef HAS
    }
    r->start = first;
    r->limit = end - first - l->past;
    return end - first > GUEST_PAGE_SIZE;
}

static void give_up(struct bt *bt, const struct look *l)
{
    struct emit e = {.p = l->start};
    emit_jump_to(&e, CC_ALWAYS, l->probe);
    e.p = l->probed;
    emit_jump_to(&e, CC_ALWAYS, l->again);
    bt->given_up++;
}

/* The range among the kernel's maps (and its stack's) that has an address; NULL: none; `now`, when it is not yet time to look for more. */
static struct tlb_recent *map_of(struct cpu *cpu, struct tlb *t, gla lin, u64 addend, unsigned past, struct tlb_recent *now)
{
    enum { WORTH = 1 << 20, SELDOM = 64 };
    struct tlb_recent *maps = &t->recent[TLB_MAP], *empty = NULL;
    u64 size;
    gla start;
    for (unsigned n = 0; n < TLB_MAPS; n++) {
        if (lin - maps[n].start < maps[n].limit) return &maps[n];
        if (!maps[n].limit) empty = &maps[n];
    }
    if (lin - t->recent[0].start < t->recent[0].limit) return &t->recent[0];
    const u32 before = (u32)(__builtin_ia32_rdtsc() >> 6);
    if (!empty) return NULL;
    if (before - maps->since < SELDOM * (u32)maps->dense) return now;
    const bool found = mmu_mapped(cpu, lin, addend, &start, &size);
    maps->since = (u32)(__builtin_ia32_rdtsc() >> 6);
    maps->dense = (u16)MIN(maps->since - before, 0xffffu);
    if (!found || size < WORTH) return NULL;
    empty->start = start;
    empty->limit = size - past;
    empty->addend = addend;
    return empty;
}

u64 light_unmapped(struct cpu *cpu, u64 addr, u64 a)
{
    enum { OFTEN = 3, STRANGE = 8 };
    struct bt *bt = cpu->engine;
    struct look *l = (struct look *)(void *)code_memory_rw(&bt->code, (void *)(uintptr_t)addr);
    struct tlb *t = &cpu->tlbs[l->context];
    const struct tlb_recent *r = map_of(cpu, t, cpu->lin, a, l->past, &t->recent[l->slot]);
    bt->looks++;
    t->recent[TLB_MAP].left = OFTEN;
    if (r == &t->recent[l->slot]) return a;
    if (++l->strange == STRANGE) {
        give_up(bt, l);
    } else if (r) { /* look there from now on */
        const s32 move = (s32)((r - t->recent - l->slot) * (s64)sizeof *r);
        l->slot = (u16)(r - t->recent);
        for (unsigned n = 0; n < ARRAY_LEN(l->fields); n++) {
            s32 disp;
            memcpy(&disp, l->fields[n], sizeof disp);
            disp += move;
            memcpy(l->fields[n], &disp, sizeof disp);
        }
    }
    return a;
}

u64 light_missed(struct cpu *cpu, u64 addr, u64 a)
{
    enum { OFTEN = 3, RARELY = 31, MISSES = 4096, CYCLES = 100 }; /* fewer between misses: it costs more than it gains */
    (void)a;
    struct bt *bt = cpu->engine;
    const struct look *l = (const struct look *)(void *)code_memory_rw(&bt->code, (void *)(uintptr_t)addr);
    struct tlb *t = &cpu->tlbs[l->context];
    struct tlb_recent *r = &t->recent[l->slot];
    const u32 now = (u32)(__builtin_ia32_rdtsc() >> 6);
    const unsigned missed = r->dense ? RARELY + 1 : OFTEN + 1;
    const bool wide = widen(cpu, t, r, l);
    r->dense = (u16)(now - r->since < missed * CYCLES >> 6 ? r->dense + missed : !wide); /* a page on its own need not be widened soon */
    bt->looks++;
    const unsigned way = l->ways[bt->looks % LOOK_WAYS];
    if (way) {
        struct tlb_recent *w = &t->recent[way];
        w->start = r->start;
        w->limit = r->limit;
        w->addend = r->addend;
        tlb_use_recent(t, way);
    }
    if (r->dense >= MISSES && l->start) {
        give_up(bt, l);
        r->dense = 0;
    }
    r->since = (u32)(__builtin_ia32_rdtsc() >> 6);
    r->left = r->dense ? RARELY : OFTEN;
    return r->addend;
}

u64 light_gs_page(struct cpu *cpu, u64 addr, u64 a)
{
    struct tlb *t = cpu->tlb;
    const u64 base = cpu->win[SEG_GS].base, page = 1ull << (addr & (TLB_GS_PAGES - 1));
    if (base & GUEST_PAGE_MASK) return a;
    if (t->gs_base != base || t->gs_host != a) t->gs_pages[0] = t->gs_pages[1] = 0;
    t->gs_base = base;
    t->gs_host = a;
    t->gs_pages[0] |= page;
    if (addr & 256) t->gs_pages[1] |= page;
    return a;
}

u64 light_limit(struct cpu *cpu, u64 addr, u64 a)
{
    (void)addr;
    (void)a;
    cpu_limit_returns(cpu);
    if (cpu->return_sp < &cpu->returns[cpu->returns_context][RETURN_ROOM]) cpu_empty_returns(cpu, cpu->returns_context);
    return (__atomic_load_n(&cpu->events, __ATOMIC_SEQ_CST) & cpu->event_mask) != 0;
}

u64 light_fpu_load(struct cpu *cpu, u64 addr, u64 a)
{
    (void)a;
    return fpu_load(cpu, (unsigned)addr);
}

u64 light_pause(struct cpu *cpu, u64 addr, u64 a)
{
    (void)addr;
    (void)a;
    cpu_pause(cpu);
    return 0;
}

/* Code of cpu->rip that can be gone on with at once, without the run loop. */
static u64 go_on(struct cpu *cpu)
{
    struct bt *bt = cpu->engine;
    if (cpu->step || cpu->halted || cpu->shutdown || bt->check || bt->cache.grave_bytes > GRAVEYARD_LIMIT) return BT_LEAVE;
    cpu->event_mask = run_event_mask(cpu);
    if (__atomic_load_n(&cpu->events, __ATOMIC_RELAXED) & cpu->event_mask) return BT_LEAVE;
    const gla lin = block_lin(cpu);
    struct jump_entry *j = jump_slot(&bt->cache, lin);
    if ((j->lin != lin || j->key != cpu->code_key) && !(j = (struct jump_entry *)(uintptr_t)light_find(cpu, cpu->rip, 0)))
        return BT_LEAVE;
    if (j->host == bt->cache.no_host) return BT_LEAVE;
    cpu->page_rip = (cpu->rip - j->block->offset) & cpu->ip_mask;
    return (u64)(uintptr_t)j->host;
}

/* Handlers that keep off the vector state, as what they call does: cpu/lin.c and so on. Not with the x87's state live, which is
 * saved with the code segment of its last instruction. */
static bool handler_is_light(const struct cpu *cpu, const struct insn *i)
{
    static const bool light[MNEMONIC_COUNT] = {
        [I_syscall] = true, [I_sysret] = true, [I_sysenter] = true, [I_sysexit] = true, [I_iret] = true, [I_swapgs] = true,
        [I_mov_cr] = true,  [I_invlpg] = true, [I_mov] = true,      [I_movzx] = true,   [I_movsx] = true, [I_movsxd] = true,
        [I_push] = true,    [I_pop] = true,    [I_call] = true,     [I_ret] = true,     [I_jmp] = true,  [I_jcc] = true,
        [I_cmp] = true,     [I_test] = true,   [I_add] = true,      [I_sub] = true,     [I_and] = true,  [I_or] = true,
    };
    return light[i->mnemonic] && !(i->prefixes & PFX_LOCK) && !(cpu->fpu_live & FPU_X87);
}

/* Runs the handler and delivers its exception. */
static u64 run_handler(struct cpu *cpu, const struct insn *i)
{
    struct bt *bt = cpu->engine;
    exec_fn *fn = i->fn;
    const u64 key = cpu->code_key;
    bt->slow_calls[i->mnemonic]++;
    if (!handler_is_light(cpu, i)) fpu_save(cpu);
    if (!fn(cpu, i)) {
        if (cpu->exc.vector < 0) return go_on(cpu);
        cpu->rip = insn_rip(cpu, i);
        return !bt->check && deliver_exception(cpu) ? go_on(cpu) : BT_LEAVE;
    }
    if (i->fn != fn || cpu->code_key != key || cpu->step ||
        (__atomic_load_n(&cpu->events, __ATOMIC_RELAXED) & cpu->event_mask)) {
        cpu->rip = next_rip(cpu, i);
        return go_on(cpu);
    }
    return 0;
}

u64 bt_slow(struct cpu *cpu, const struct insn *i)
{
    const u64 next = run_handler(cpu, i);
    if (next == BT_LEAVE) fpu_save(cpu);
    return next;
}
