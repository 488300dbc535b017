/* Paging: the page walk with its permission checks, and the TLB that caches it.
 *
 * 32-bit paging with PSE (and PSE-36), PAE, and 4-level paging (SDM vol 3A chapter 4). The linear address space is 48 bits
 * (no 5-level paging). Memory types (PAT, PCD, PWT) are stored but have no effect: guest memory is always coherent. */
#include "cpu/mmu.h"

#include <string.h>

#include "core/log.h"
#include "cpu/cpuid.h"
#include "cpu/exec.h"
#include "cpu/fpu_live.h"
#include "cpu/store_log.h"

#define PTE_P    0x001ull
#define PTE_W    0x002ull
#define PTE_U    0x004ull
#define PTE_A    0x020ull
#define PTE_D    0x040ull
#define PTE_PS   0x080ull
#define PTE_G    0x100ull
#define PTE_NX   (1ull << 63)

/* What the tables say of a page, in the low bits of tlb2_entry.page. */
#define PAGE_W         0x001u
#define PAGE_U         0x002u
#define PAGE_NX        0x004u
#define PAGE_D         0x008u
#define PAGE_KEY_SHIFT 4 /* protection key, bits 4-7 */

/* What a privilege may do with it. */
#define CAN_READ  1u
#define CAN_WRITE 2u
#define CAN_EXEC  4u

/* What a walk found. */
struct walk {
    gpa phys;        /* of the byte asked for */
    u64 page_mask;   /* size of the mapping - 1 */
    unsigned page;   /* PAGE_* */
    bool global;     /* stays over loads of CR3 */
    gpa entry;       /* of the mapping, in the tables */
};

/* Privilege of an access. */
struct who {
    bool user;     /* user-mode access */
    bool smap;     /* user pages are forbidden for data */
    unsigned context;
};

static inline struct who access_privilege(const struct cpu *cpu, unsigned acc)
{
    const unsigned context = mmu_context(cpu, acc);
    return (struct who){.user = context == TLB_USER, .smap = context == TLB_SUPERVISOR_SMAP, .context = context};
}

void mmu_forget_map(struct cpu *cpu)
{
    for (unsigned n = 0; n < ARRAY_LEN(cpu->spans); n++) cpu->spans[n] = (struct bus_span){.first = 1, .last = 0};
}

/* The span of RAM around a physical address; NULL: something else is there. */
static const struct bus_span *span_of(struct cpu *cpu, gpa addr)
{
    struct bus_span *s = cpu->spans, found;
    if (addr >= s[0].first && addr <= s[0].last) return s;
    if (addr >= s[1].first && addr <= s[1].last) return s + 1;
    if (!bus_ram_span(cpu->mem, addr, &found)) return NULL;
    s[1] = s[0]; /* the larger one stays: all of the memory below or above the hole */
    if (s[1].last - s[1].first < found.last - found.first || s[1].first > s[1].last) {
        s[0] = found;
        return s;
    }
    s[1] = found;
    return s + 1;
}

static u64 entry_read(struct cpu *cpu, gpa addr, unsigned size)
{
    const struct bus_span *s = span_of(cpu, addr);
    if (!s) {
        fpu_save(cpu);
        cpu->hooks->lock(cpu->hooks->opaque);
        u64 v = bus_read(cpu->mem, addr, size);
        cpu->hooks->unlock(cpu->hooks->opaque);
        return v;
    }
    u8 *host = s->host + (addr - s->first);
    return size == 8 ? __atomic_load_n((u64 *)(void *)host, __ATOMIC_RELAXED)
                     : __atomic_load_n((u32 *)(void *)host, __ATOMIC_RELAXED);
}

/* Set bits in an entry; false when somebody changed it meanwhile and the walk must start over. Entries in ROM or in
 * a device stay as they are. */
static bool entry_set(struct cpu *cpu, gpa addr, unsigned size, u64 old, u64 bits)
{
    const struct bus_span *s = span_of(cpu, addr);
    bool same;
    if (!s) return true;
    u8 *host = s->host + (addr - s->first);
    if (cpu->log) cpu->log->tables++;
    if (size == 8) {
        same = __atomic_compare_exchange_n((u64 *)(void *)host, &old, old | bits, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    } else {
        u32 old32 = (u32)old;
        same = __atomic_compare_exchange_n((u32 *)(void *)host, &old32, old32 | (u32)bits, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_RELAXED);
    }
    if (same) {
        const u64 offset = s->ram_offset + (addr - s->first);
        if (__atomic_load_n(&s->ram->page_flags[offset >> GUEST_PAGE_SHIFT], __ATOMIC_RELAXED) & RAM_PAGE_CODE) fpu_save(cpu);
        ram_note_write(s->ram, offset, size);
    }
    return same;
}

/* Protection keys: does the key of a user page forbid this data access? */
static bool key_forbids(const struct cpu *cpu, unsigned key, bool user, bool write)
{
    key &= 15;
    if (cpu->pkru >> 2 * key & 1) return true;
    return write && (cpu->pkru >> (2 * key + 1) & 1) && (user || (cpu->cr0 & CR0_WP));
}

/* CAN_*. */
static inline unsigned allowed(const struct cpu *cpu, struct who who, unsigned page)
{
    const bool user_page = page & PAGE_U;
    unsigned can = 0;
    if (who.user ? user_page : !(user_page && who.smap)) {
        can = CAN_READ;
        if ((page & PAGE_W) || (!who.user && !(cpu->cr0 & CR0_WP))) can |= CAN_WRITE;
        if (user_page && (cpu->cr4 & CR4_PKE) && cpu_long(cpu)) {
            if (key_forbids(cpu, page >> PAGE_KEY_SHIFT, who.user, false)) can = 0;
            if (key_forbids(cpu, page >> PAGE_KEY_SHIFT, who.user, true)) can &= ~CAN_WRITE;
        }
    }
    if (!(page & PAGE_NX) && (who.user ? user_page : !(user_page && (cpu->cr4 & CR4_SMEP)))) can |= CAN_EXEC;
    return can;
}

static u64 reserved_bits(const struct cpu *cpu, unsigned level, u64 e, bool pae, bool large)
{
    if (!pae) return large && (e & (1u << 21)) ? 1 : 0; /* PSE-36 with 40 address bits uses bits 13..20 */
    u64 r = ((1ull << 52) - 1) & ~PHYS_MASK;
    if (!cpu_long(cpu)) r |= 0x7ffull << 52;
    if (!(cpu->efer & EFER_NXE)) r |= PTE_NX;
    if (level == 4 || (level == 3 && !cpu_has_bit(cpu->model, CPUID_8000_0001_EDX, CPUID_8000_0001_EDX_1G))) r |= PTE_PS;
    if (large) r |= level == 2 ? 0x1fe000ull : 0x3fffe000ull;
    return e & r;
}

enum walk_kind {
    WALK,
    WALK_SILENT, /* nothing is changed; entries that would have to be are errors */
    WALK_PROBE,  /* nothing is changed, permissions are not checked */
};

/* Returns 0 and fills *w, or the #PF error code with bit 31 set (so that it is never 0). */
static u32 walk_once(struct cpu *cpu, gla lin, unsigned acc, struct who who, enum walk_kind kind, struct walk *w, bool *again)
{
    const bool pae = cpu->cr4 & CR4_PAE, is_long = cpu_long(cpu);
    const bool write = acc & ACC_WRITE, fetch = acc & ACC_EXEC;
    const unsigned size = pae ? 8 : 4, bits = pae ? 9 : 10;
    u32 code = 0x80000000u | (write ? PF_W : 0) | (who.user ? PF_U : 0);
    if (fetch && ((pae && (cpu->efer & EFER_NXE)) || (cpu->cr4 & CR4_SMEP))) code |= PF_I;

    u64 rights = PTE_W | PTE_U; /* ANDed over the levels */
    u64 nx = 0;
    unsigned level = is_long ? 4 : 2;
    gpa table;
    *again = false;
    if (is_long) {
        table = cpu->cr3 & PHYS_MASK & ~0xfffull;
    } else if (pae) {
        u64 pdpte = cpu->pdpte[lin >> 30 & 3];
        if (!(pdpte & PTE_P)) return code;
        table = pdpte & PHYS_MASK & ~0xfffull;
    } else {
        table = cpu->cr3 & 0xfffff000u;
    }

    for (;; level--) {
        unsigned shift = 12 + bits * (level - 1);
        gpa addr = table + (lin >> shift & ((1u << bits) - 1)) * size;
        if (kind == WALK_SILENT && !span_of(cpu, addr)) return code; /* the bus reads it, and needs vector registers (fpu_live.h) */
        u64 e = entry_read(cpu, addr, size);
        if (!(e & PTE_P)) return code;
        bool leaf = level == 1 || ((e & PTE_PS) && level <= 3 && (pae || (cpu->cr4 & CR4_PSE)));
        if (reserved_bits(cpu, level, e, pae, leaf && level > 1)) return code | PF_P | PF_RSVD;
        rights &= e;
        if (pae) nx |= e & PTE_NX;
        if (!leaf) {
            if (kind == WALK_SILENT && !(e & PTE_A)) return code;
            if (kind == WALK && !(e & PTE_A) && !entry_set(cpu, addr, size, e, PTE_A)) {
                *again = true;
                return 0;
            }
            table = pae ? e & PHYS_MASK & ~0xfffull : e & 0xfffff000u;
            continue;
        }
        w->page_mask = (1ull << shift) - 1;
        w->entry = addr;
        if (pae)
            w->phys = (e & PHYS_MASK & ~w->page_mask) | (lin & w->page_mask);
        else if (level == 2)
            w->phys = ((e & 0xffc00000u) | (e >> 13 & 0xff) << 32) | (lin & w->page_mask);
        else
            w->phys = (e & 0xfffff000u) | (lin & w->page_mask);
        if (kind == WALK_PROBE) return 0;

        w->global = (e & PTE_G) && (cpu->cr4 & CR4_PGE);
        w->page = (rights & PTE_W ? PAGE_W : 0) | (rights & PTE_U ? PAGE_U : 0) |
                  (nx && (cpu->efer & EFER_NXE) ? PAGE_NX : 0) | (unsigned)(pae ? e >> 59 & 15 : 0) << PAGE_KEY_SHIFT;
        const unsigned can = allowed(cpu, who, w->page);
        if (!(can & (fetch ? CAN_EXEC : write ? CAN_WRITE : CAN_READ))) {
            bool by_key = (cpu->cr4 & CR4_PKE) && is_long && (w->page & PAGE_U) && !fetch &&
                          key_forbids(cpu, w->page >> PAGE_KEY_SHIFT, who.user, write);
            return code | PF_P | (by_key ? PF_PK : 0);
        }
        u64 set = (PTE_A | (write ? PTE_D : 0)) & ~e;
        if (set && kind == WALK_SILENT) return code;
        if (set && !entry_set(cpu, addr, size, e, set)) {
            *again = true;
            return 0;
        }
        if ((e | set) & PTE_D) w->page |= PAGE_D;
        return 0;
    }
}

static u32 walk(struct cpu *cpu, gla lin, unsigned acc, struct who who, enum walk_kind kind, struct walk *w)
{
    if (!(cpu->cr0 & CR0_PG)) {
        *w = (struct walk){.phys = lin & 0xffffffffu, .page_mask = GUEST_PAGE_MASK, .page = PAGE_W | PAGE_U | PAGE_D};
        return 0;
    }
    for (;;) {
        bool again;
        u32 r = walk_once(cpu, lin, acc, who, kind, w, &again);
        if (!again) return r;
    }
}

bool mmu_load_pdptes(struct cpu *cpu, u64 cr3)
{
    u64 p[4];
    for (unsigned n = 0; n < 4; n++) {
        p[n] = entry_read(cpu, (cr3 & 0xffffffe0u) + 8 * n, 8);
        /* SDM vol 3A 4.4.1: reserved are bits 1-2, 5-8 and those above MAXPHYADDR. */
        if ((p[n] & PTE_P) && (p[n] & (0x1e6ull | ~PHYS_MASK))) return raise_gp0(cpu);
    }
    memcpy(cpu->pdpte, p, sizeof p);
    return true;
}

/* ---- the TLB: maintenance ---- */

static void forget_recent(struct tlb *t)
{
    for (unsigned w = 0; w < ARRAY_LEN(t->recent_used); w++)
        for (struct tlb_recent *r = &t->recent[w * 64]; t->recent_used[w]; t->recent_used[w] >>= 8, r += 8)
            for (unsigned k = 0; k < 8 && (t->recent_used[w] & 1); k++) r[k].limit = 0;
    t->gs_pages[0] = t->gs_pages[1] = 0;
}

void tlb_forget_recent(struct cpu *cpu)
{
    for (unsigned n = 0; n < TLB_CONTEXTS; n++) forget_recent(&cpu->tlbs[n]);
}

/* A generation nobody has yet. */
static u64 new_generation(struct cpu *cpu)
{
    struct tlb2 *t = &cpu->tlb2;
    if (t->last_gen == TLB_GEN_MAX || t->global_gen == TLB_GEN_MAX) {
        fpu_save(cpu); /* memset() */
        for (unsigned n = 0; n < TLB_CONTEXTS; n++) memset(cpu->tlbs[n].e, 0, sizeof cpu->tlbs[n].e);
        memset(t->spaces, 0, sizeof t->spaces);
        memset(t->parts, 0, sizeof t->parts);
        memset(t->e, 0, sizeof t->e);
        t->current = 0;
        t->global_gen = t->last_gen = 1;
        cpu->tlbs[TLB_SUPERVISOR_SMAP].gen = 1;
    }
    return ++t->last_gen;
}

static unsigned current_pcid(const struct cpu *cpu) { return cpu->cr4 & CR4_PCIDE ? cpu->cr3 & 0xfff : 0; }

void tlb_switch_space(struct cpu *cpu, unsigned pcid, bool keep)
{
    struct tlb2 *t = &cpu->tlb2;
    struct tlb *kernel = &cpu->tlbs[TLB_SUPERVISOR_SMAP];
    const unsigned n = pcid % TLB_SPACES;
    if (kernel->local) kernel->gen = new_generation(cpu);
    u64 gen = keep && t->spaces[n].pcid == pcid ? t->spaces[n].gen : 0;
    t->spaces[t->current].code_gen = cpu->code_gen;
    cpu_code_switch(cpu, gen ? t->spaces[n].code_gen : 0);
    if (!gen) gen = new_generation(cpu);
    t->current = (u8)n;
    t->spaces[n].pcid = (u16)pcid;
    t->spaces[n].gen = (u16)gen;
    cpu->tlbs[TLB_USER].gen = cpu->tlbs[TLB_SUPERVISOR].gen = gen;
    forget_recent(&cpu->tlbs[TLB_USER]);
    forget_recent(&cpu->tlbs[TLB_SUPERVISOR]);
    if (kernel->local) {
        forget_recent(kernel);
        for (unsigned k = 0; k < TLB_MAPS; k++) kernel->recent[TLB_MAP + k].limit = 0;
    }
    kernel->local = false;
}

void tlb_flush_space(struct cpu *cpu, unsigned pcid)
{
    struct tlb2 *t = &cpu->tlb2;
    if (pcid == current_pcid(cpu)) tlb_switch_space(cpu, pcid, false);
    else if (t->spaces[pcid % TLB_SPACES].pcid == pcid) t->spaces[pcid % TLB_SPACES].gen = 0;
}

void tlb_flush_spaces(struct cpu *cpu)
{
    for (unsigned n = 0; n < TLB_SPACES; n++) cpu->tlb2.spaces[n].gen = 0;
    tlb_switch_space(cpu, current_pcid(cpu), false);
}

void tlb_flush_all(struct cpu *cpu)
{
    struct tlb2 *t = &cpu->tlb2;
    for (unsigned n = 0; n < ARRAY_LEN(t->large[0]); n++) t->large[0][n] = t->large[1][n] = 0;
    t->global_gen++;
    cpu->tlbs[TLB_SUPERVISOR_SMAP].local = true;
    cpu->code_local = true;
    tlb_flush_spaces(cpu);
    cpu->code_local = false; /* whatever code runs now is looked up anew */
}

/* What INVLPG and the like need to know of pages larger than the TLB's: the place of an address in tlb2.large. The upper half of
 * the address space, where kernels map memory in large pages, has one half of it. */
static unsigned large_bit(unsigned level, gla lin)
{
    u64 n = lin >> (level == 3 ? 30 : 21);
    return ((unsigned)(n ^ n >> 9) & 2047) | (unsigned)(lin >> 47 & 1) << 11;
}

void tlb_flush_page(struct cpu *cpu, gla lin)
{
    struct tlb2 *t = &cpu->tlb2;
    for (unsigned level = 2; level <= 3; level++) {
        unsigned n = large_bit(level, lin);
        if (t->large[level - 2][n >> 6] >> (n & 63) & 1) {
            tlb_flush_all(cpu);
            return;
        }
    }
    for (unsigned n = 0; n < TLB_CONTEXTS; n++)
        cpu->tlbs[n].e[tlb_index(lin)] = (struct tlb_entry){0};
    tlb_forget_recent(cpu);
    struct tlb_recent *map = &cpu->tlbs[TLB_SUPERVISOR_SMAP].recent[TLB_MAP];
    for (unsigned n = 0; n < TLB_MAPS; n++) {
        const gla largest = (1ull << 30) - 1; /* what one page of theirs can cover */
        if (map[n].limit && lin >= (map[n].start & ~largest) && lin <= ((map[n].start + map[n].limit) | largest)) map[n].limit = 0;
    }
    struct tlb2_entry *e = t->e[tlb2_set(lin)];
    for (unsigned n = 0; n < TLB2_WAYS; n++)
        if (!((e[n].tag ^ lin) >> GUEST_PAGE_SHIFT)) e[n].tag = 0;
    if (cpu_code_was_seen(cpu, lin)) cpu_code_flush(cpu);
}

void tlb_forget_context(struct cpu *cpu, unsigned context)
{
    struct tlb *t = &cpu->tlbs[context];
    for (unsigned n = 0; n < TLB_ENTRIES; n++) t->e[n].read_tag = t->e[n].write_tag = t->e[n].exec_tag = 0;
    forget_recent(t);
}

void tlb_protect_code(struct cpu *cpu, u64 ram_offset)
{
    u64 host = (u64)(uintptr_t)(cpu->ram->host + ram_offset);
    tlb_forget_recent(cpu);
    for (unsigned c = 0; c < TLB_CONTEXTS; c++) {
        for (unsigned n = 0; n < TLB_ENTRIES; n++) {
            struct tlb_entry *e = &cpu->tlbs[c].e[n];
            if (e->write_tag && (e->write_tag & ~GUEST_PAGE_MASK) + e->addend == host) e->write_tag = 0;
        }
    }
}

/* Do the enabled data breakpoints touch this page? Then every access to it takes the slow path. */
static bool page_watched(const struct cpu *cpu, gla page)
{
    if (!(cpu->watch & 1)) return false;
    for (unsigned n = 0; n < 4; n++) {
        if (!(cpu->dr[7] >> 2 * n & 3) || !(cpu->dr[7] >> (16 + 4 * n) & 1)) continue;
        if ((cpu->dr[n] & ~GUEST_PAGE_MASK) == page) return true;
    }
    return false;
}

/* ---- the TLB: filling ---- */

/* For tlb_flush_page(). */
static void note_large(struct tlb2 *t, gla lin, u64 page_mask)
{
    if (page_mask == GUEST_PAGE_MASK) return;
    /* 4 MiB pages mark both halves. */
    const unsigned level = page_mask >> 22 > 1 ? 3 : 2;
    const gla first = lin & ~page_mask;
    for (unsigned k = 0; k < 2; k++) {
        unsigned n = large_bit(level, level == 3 ? lin : k ? first + (page_mask & ~0x1fffffull) : first);
        t->large[level - 2][n >> 6] |= 1ull << (n & 63);
    }
}

static void tlb2_insert(struct cpu *cpu, gla lin, const struct walk *w, const u8 *host)
{
    struct tlb2 *t = &cpu->tlb2;
    struct tlb2_entry *set = t->e[tlb2_set(lin)], *e = NULL;
    const u64 page = lin & ~GUEST_PAGE_MASK, tag = page | (w->global ? TLB2_GLOBAL | t->global_gen : t->spaces[t->current].gen);
    /* In the same address space there must not be two. */
    for (unsigned n = 0; n < TLB2_WAYS && !e; n++)
        if (set[n].tag == tag) e = &set[n];
    if (!e) e = &set[t->victim++ % TLB2_WAYS];
    e->tag = tag;
    e->page = ((u64)(uintptr_t)host & ~GUEST_PAGE_MASK) | w->page;
    const u64 into = lin & (LARGE_SIZE - 1) & ~GUEST_PAGE_MASK;
    if (w->page_mask >= LARGE_SIZE - 1)
        t->parts[lin / LARGE_SIZE % TLB_LARGE] = (struct tlb2_entry){.tag = tag - into, .page = e->page - into};
    note_large(t, lin, w->page_mask);
}

/* Put what is allowed (CAN_*) of plain RAM at `host` into the first level for accesses without a look. */
static inline void fill(struct cpu *cpu, struct who who, gla lin, u8 *host, unsigned page, unsigned can, bool global, unsigned acc)
{
    struct tlb *tlb = &cpu->tlbs[who.context];
    const u64 tag = (lin & ~GUEST_PAGE_MASK) | tlb->gen;
    struct tlb_entry e = {.addend = (u64)(uintptr_t)host - lin};
    if (can & CAN_READ) e.read_tag = tag;
    if ((can & CAN_EXEC) && (global || (acc & ACC_EXEC))) {
        e.exec_tag = tag;
        if (!global && !who.user) cpu->code_local = true;
    }
    if ((can & CAN_WRITE) && (page & PAGE_D)) {
        u16 *flags = &cpu->ram->page_flags[(u64)(host - cpu->ram->host) >> GUEST_PAGE_SHIFT];
        u16 seen = __atomic_load_n(flags, __ATOMIC_SEQ_CST);
        e.write_tag = tag | TLB_CODE;
        if (!(seen & RAM_PAGE_CODE)) {
            e.write_tag = tag;
            /* Stores through the TLB are not seen one by one: count the page as written from now on. */
            if (acc & ACC_WRITE && !(seen & RAM_PAGE_DIRTY)) __atomic_fetch_or(flags, RAM_PAGE_DIRTY, __ATOMIC_RELAXED);
            else if (!(seen & RAM_PAGE_DIRTY)) e.write_tag = 0;
        }
    }
    if (!global) tlb->local = true;
    tlb->e[tlb_index(lin)] = e;
}

/* Pages whose accesses always take the slow path: watched ones, and page 0 in 64-bit mode, whose tag an access that wraps around
 * the top of the address space would match. */
static bool never_cached(const struct cpu *cpu, gla lin)
{
    const gla page = lin & ~GUEST_PAGE_MASK;
    return (!page && cpu_long(cpu)) || page_watched(cpu, page);
}

/* From the second level into the first; NULL: not there, or not for this access. */
static u8 *refill(struct cpu *cpu, gla lin, unsigned acc, struct who who)
{
    const struct tlb2 *t = &cpu->tlb2;
    const struct tlb2_entry *e = t->e[tlb2_set(lin)];
    const u64 page = lin & ~GUEST_PAGE_MASK, tag = page | t->spaces[t->current].gen, global = page | TLB2_GLOBAL | t->global_gen;
    const unsigned want = acc & ACC_EXEC ? CAN_EXEC : acc & ACC_WRITE ? CAN_WRITE : CAN_READ;
    for (unsigned n = 0; n < TLB2_WAYS; n++, e++) {
        if (e->tag != tag && e->tag != global) continue;
        const unsigned can = allowed(cpu, who, (unsigned)e->page);
        if (!(can & want) || ((acc & ACC_WRITE) && !(e->page & PAGE_D))) return NULL;
        if (never_cached(cpu, lin)) return NULL;
        u8 *host = (u8 *)(uintptr_t)((e->page & ~GUEST_PAGE_MASK) | (lin & GUEST_PAGE_MASK));
        fill(cpu, who, lin, host, (unsigned)e->page & (unsigned)GUEST_PAGE_MASK, can, e->tag == global, acc);
        return host;
    }
    return NULL;
}

/* The part of a large page that an address lies in, if it may be accessed (ACC_READ or ACC_WRITE) without a look, all of it: its host
 * address; else NULL. */
static u8 *large_part(struct cpu *cpu, gla lin, unsigned acc, struct who who)
{
    const struct tlb2 *t = &cpu->tlb2;
    const struct tlb2_entry *e = &t->parts[lin / LARGE_SIZE % TLB_LARGE];
    const u64 part = lin & ~(LARGE_SIZE - 1);
    const bool local = e->tag == (part | t->spaces[t->current].gen);
    if (!local && e->tag != (part | TLB2_GLOBAL | t->global_gen)) return NULL;
    if (part != (u32)part && !cpu_code64(cpu)) return NULL; /* there 32-bit addresses have wrapped */
    const unsigned can = allowed(cpu, who, (unsigned)e->page);
    if (!(can & (acc & ACC_WRITE ? CAN_WRITE : CAN_READ)) || !part || (cpu->watch & 1)) return NULL;
    u8 *host = (u8 *)(uintptr_t)(e->page & ~GUEST_PAGE_MASK);
    const struct bus_span *s = cpu->spans;
    for (unsigned n = 0;; n++, s++) {
        if (n == ARRAY_LEN(cpu->spans)) return NULL;
        if (s->first <= s->last && host >= s->host && (u64)(host - s->host) + LARGE_SIZE - 1 <= s->last - s->first) break;
    }
    cpu->tlbs[who.context].local |= local;
    if (!(acc & ACC_WRITE)) return host;
    if (!(e->page & PAGE_D)) return NULL;
    u16 *flags = &cpu->ram->page_flags[(u64)(host - cpu->ram->host) >> GUEST_PAGE_SHIFT];
    for (unsigned n = 0; n < LARGE_SIZE >> GUEST_PAGE_SHIFT; n++) {
        const u16 seen = __atomic_load_n(&flags[n], __ATOMIC_SEQ_CST);
        if (seen & RAM_PAGE_CODE) return NULL;
        if (!(seen & RAM_PAGE_DIRTY)) __atomic_fetch_or(&flags[n], RAM_PAGE_DIRTY, __ATOMIC_RELAXED);
    }
    return host;
}

bool mmu_large(struct cpu *cpu, gla lin, u64 addend, unsigned acc, gla *start, u64 *size)
{
    const struct who who = access_privilege(cpu, acc);
    const gla part = lin & ~(LARGE_SIZE - 1);
    u8 *host = large_part(cpu, part, acc, who);
    if (!host || (u64)(uintptr_t)host - part != addend) return false;
    *start = part;
    *size = LARGE_SIZE;
    while (large_part(cpu, *start + *size, acc, who) == host + *size) *size += LARGE_SIZE;
    for (gla below; below = *start - LARGE_SIZE, large_part(cpu, below, acc, who) == host - LARGE_SIZE; host -= LARGE_SIZE) {
        *start = below;
        *size += LARGE_SIZE;
    }
    return true;
}

/* The run of pages around an address that are plain RAM with this addend, global, and may be read, within LARGE_SIZE. */
static bool run_at(struct cpu *cpu, gla lin, u64 addend, struct who who, gla *first, gla *end)
{
    const u64 ignored = PTE_W | PTE_D | PTE_NX | 0xe00;
    const gla part = lin & ~(LARGE_SIZE - 1);
    struct walk w;
    bool again;
    if (!canonical(lin) || never_cached(cpu, lin)) return false;
    lin &= ~GUEST_PAGE_MASK;
    if (walk_once(cpu, lin, ACC_READ, who, WALK_SILENT, &w, &again) || !w.global) return false;
    const struct bus_span *found = span_of(cpu, w.phys);
    if (!found) return false;
    const struct bus_span s = *found; /* reading entries may find others in its place */
    if ((u64)(uintptr_t)(s.host + (w.phys - s.first)) != lin + addend) return false;
    *first = part;
    *end = part + LARGE_SIZE;
    if (w.page_mask == GUEST_PAGE_MASK) {
        const u64 entry = entry_read(cpu, w.entry, 8);
#define LIKE(at) (!(((entry_read(cpu, w.entry + (u64)((s64)((at) - lin) >> GUEST_PAGE_SHIFT) * 8, 8) - ((at) - lin)) ^ entry) & ~ignored))
        for (*first = lin; *first > part && LIKE(*first - GUEST_PAGE_SIZE);) *first -= GUEST_PAGE_SIZE;
        for (*end = lin + GUEST_PAGE_SIZE; *end < part + LARGE_SIZE && LIKE(*end);) *end += GUEST_PAGE_SIZE;
#undef LIKE
    }
    return w.phys - s.first >= lin - *first && s.last - w.phys >= *end - lin - 1;
}

bool mmu_mapped(struct cpu *cpu, gla lin, u64 addend, gla *start, u64 *size)
{
    const struct who who = access_privilege(cpu, ACC_READ);
    gla end, first, last;
    if (!cpu_long(cpu) || (cpu->watch & 1) || !run_at(cpu, lin, addend, who, start, &end)) return false;
    while (!(end & (LARGE_SIZE - 1)) && run_at(cpu, end, addend, who, &first, &last)) end = last;
    while (!(*start & (LARGE_SIZE - 1)) && run_at(cpu, *start - 1, addend, who, &first, &last)) *start = first;
    *size = end - *start;
    return true;
}

/* Translate, and remember the page in the TLB when it is plain RAM. *t is the target in the direction of the access. */
static bool translate(struct cpu *cpu, gla lin, unsigned acc, gpa *phys, struct bus_target *t)
{
    struct who who = access_privilege(cpu, acc);
    struct walk w;
    u32 code = walk(cpu, lin, acc, who, WALK, &w);
    if (code) {
        if (log_enabled(LOG_MMU)) fpu_save(cpu);
        log_printf(LOG_MMU, "page fault: cr2=%016llx error=%02x rip=%016llx cpl=%u\n", (unsigned long long)lin,
                   code & 0xff, (unsigned long long)cpu->rip, cpu->cpl);
        cpu->cr2 = lin;
        return raise_err(cpu, EXC_PF, code & 0x7fffffffu);
    }
    *phys = w.phys;
    if ((acc & ACC_EXEC) && !who.user && !w.global) cpu->code_local = true;
    const struct bus_span *s = span_of(cpu, w.phys);
    bool page_ok;
    if (s) {
        *t = (struct bus_target){.host = s->host + (w.phys - s->first), .ram_offset = s->ram_offset + (w.phys - s->first), .ram = s->ram};
        if (never_cached(cpu, lin)) return true;
        tlb2_insert(cpu, lin, &w, t->host);
        fill(cpu, who, lin, t->host, w.page, allowed(cpu, who, w.page), w.global, acc);
        return true;
    }
    *t = bus_lookup(cpu->mem, w.phys, acc & ACC_WRITE, &page_ok);
    /* ROM: for reading only. */
    if (!t->host || !page_ok || (acc & ACC_WRITE) || never_cached(cpu, lin)) return true;
    note_large(&cpu->tlb2, lin, w.page_mask);
    fill(cpu, who, lin, t->host, w.page & ~PAGE_D, allowed(cpu, who, w.page), w.global, acc);
    return true;
}

bool mmu_translate(struct cpu *cpu, gla lin, unsigned acc, gpa *out)
{
    struct bus_target t;
    return translate(cpu, lin, acc, out, &t);
}

bool mmu_fill(struct cpu *cpu, gla lin, unsigned acc)
{
    if (cpu_code64(cpu) ? !canonical(lin) : lin != (u32)lin) return false;
    const struct who who = access_privilege(cpu, acc);
    const struct tlb *tlb = &cpu->tlbs[who.context];
    const struct tlb_entry *e = &tlb->e[tlb_index(lin)];
    const u64 *tag = acc & ACC_WRITE ? &e->write_tag : acc & ACC_EXEC ? &e->exec_tag : &e->read_tag, want = (lin & ~GUEST_PAGE_MASK) | tlb->gen;
    if (*tag == want) return false;
    if (refill(cpu, lin, acc, who)) return *tag == want;
    const u64 cr2 = cpu->cr2;
    struct bus_target t;
    gpa phys;
    if (translate(cpu, lin, acc, &phys, &t)) return *tag == want;
    cpu->exc.vector = -1; /* the slow path will find out again */
    cpu->cr2 = cr2;
    return false;
}

u8 *mmu_writable(struct cpu *cpu, gla lin)
{
    const struct tlb_entry *e = &cpu->tlb->e[tlb_index(lin)];
    if (e->write_tag == ((lin & ~GUEST_PAGE_MASK) | cpu->tlb->gen | TLB_CODE)) return (u8 *)(uintptr_t)(lin + e->addend);
    if (cpu_code64(cpu) ? !canonical(lin) : lin != (u32)lin) return NULL;
    return refill(cpu, lin, ACC_WRITE, access_privilege(cpu, ACC_WRITE));
}

bool mmu_probe(struct cpu *cpu, gla lin, gpa *out)
{
    struct walk w;
    if (cpu_long(cpu) && !canonical(lin)) return false;
    if (walk(cpu, lin, ACC_READ | ACC_SUPER, (struct who){0}, WALK_PROBE, &w)) return false;
    *out = w.phys;
    return true;
}

bool mmu_resolve(struct cpu *cpu, gla lin, unsigned acc, struct mmu_piece *p)
{
    const struct tlb *tlb = &cpu->tlbs[mmu_context(cpu, acc)];
    const struct tlb_entry *e = &tlb->e[tlb_index(lin)];
    u64 want = (lin & ~GUEST_PAGE_MASK) | tlb->gen;
    if ((acc & ACC_WRITE ? e->write_tag : acc & ACC_EXEC ? e->exec_tag : e->read_tag) == want) {
        p->t.host = (u8 *)(uintptr_t)(lin + e->addend);
        p->t.ram = NULL; /* nothing to note: not a code page, already dirty */
        return true;
    }
    p->t.host = refill(cpu, lin, acc, access_privilege(cpu, acc));
    p->t.ram = NULL;
    /* A page that may not be stored to without a look is translated again, for its target. */
    if (p->t.host && (!(acc & ACC_WRITE) || e->write_tag == want)) return true;
    return translate(cpu, lin, acc, &p->phys, &p->t);
}
