/* The vCPU's cache of linear-to-host translations. Coherence with the guest's page tables is the guest's
 * business (SDM vol 3A 4.10); what the monitor itself changes (memory map, code pages) flushes by event. */
#ifndef CPU_TLB_H
#define CPU_TLB_H

#include "core/types.h"

#define TLB_ENTRIES 1024u
#define TLB2_SETS   2048u
#define TLB2_WAYS   4u
#define TLB_SPACES  16u /* address spaces (PCIDs) whose translations are kept */
#define TLB_LARGE   64u /* large pages that are kept... */
#define LARGE_SIZE  0x200000ull /* ... in parts of this size */
#define TLB_GEN_MAX 0x7ffu

/* Contexts: who accesses. */
enum {
    TLB_USER,            /* CPL 3 */
    TLB_SUPERVISOR,      /* CPL 0-2, SMAP off or overridden by EFLAGS.AC */
    TLB_SUPERVISOR_SMAP, /* CPL 0-2, user pages forbidden */
    TLB_CONTEXTS
};

/* A tag is the linear page address with the generation in its low 12 bits; a flush is a new generation. 0 never matches
 * (generations start at 1). Pages that are not plain RAM, or that need a look on each access, have no tag. The write_tag of a
 * page that may be written but holds code has TLB_CODE, too, so that it does not match. */
#define TLB_CODE 0x800u
struct tlb_entry {
    u64 read_tag, write_tag, exec_tag;
    u64 addend; /* host address = linear address + addend */
};

/* The translator's: a range of pages with one addend, that some of its accesses found last. All are forgotten whenever a page is. */
struct tlb_recent {
    u64 start;  /* its linear address */
    u64 limit;  /* that many places in it from its start are all inside, with as many bytes as the accesses have; 0: none */
    u64 addend; /* as in an entry */
    u32 since;  /* when somebody last looked how fast it is missed, in units of 64 ticks of the host's TSC */
    s16 left;   /* misses until that is next */
    u16 dense;  /* so many of the misses came fast, one after the other */
};
#define TLB_RECENT 256u /* access.c says what they are for */
#define TLB_MAP    TLB_RECENT /* behind them: what kernels have mapped for long, for reading; not forgotten with the others */
#define TLB_MAPS   8u

/* Pages of gs_pages[] */
#define TLB_GS_PAGES 64u

/* The class of accesses of so many bytes among them: those of class n have up to 8 << n... */
static inline unsigned tlb_recent_class(unsigned size) { return size <= 8 ? 0 : 29 - (unsigned)__builtin_clz(size - 1); }
/* ... so that the last so many places of a range are too near its end to begin at. */
static inline unsigned tlb_recent_past(unsigned size) { return (8u << tlb_recent_class(size)) - 1; }

struct tlb {
    u64 gen;           /* current generation, 1..TLB_GEN_MAX */
    bool local;        /* TLB_SUPERVISOR_SMAP: has entries of pages that are not global; else they stay over loads of CR3 */
    u64 recent_used[TLB_RECENT / 64]; /* a byte for each eight of recent[]: 1 if they may have pages */
    struct tlb_recent recent[TLB_RECENT + TLB_MAPS];
    u64 gs_base, gs_host; /* kernels' data of a processor: where GS begins, and where the host has that... */
    u64 gs_pages[2];      /* ... for these pages from there, which may be read; written. Likewise forgotten */
    struct tlb_entry e[TLB_ENTRIES];
};

/* recent[slot] has pages now. */
static inline void tlb_use_recent(struct tlb *t, unsigned slot) { ((u8 *)t->recent_used)[slot / 8] = 1; }

/* The second level, for mmu.c: what page walks found, whoever asked. Its tags have the generation in the low bits, too: that of
 * the address space, or for a global page TLB2_GLOBAL and the generation of global pages. */
#define TLB2_GLOBAL 0x800u
struct tlb2_entry {
    u64 tag;
    u64 page; /* host address of the page, with PAGE_* (mmu.c) in the low bits */
};

struct tlb2 {
    u64 global_gen;                  /* 1..TLB_GEN_MAX */
    u64 last_gen;                    /* the last generation given to an address space */
    struct {
        u16 pcid;
        u16 gen; /* 0: none */
        u64 code_gen; /* cpu->code_gen when it was left */
    } spaces[TLB_SPACES];            /* by PCID */
    u8 current;                      /* the one in use */
    u64 large[2][64];                /* hashed 2 MiB and 1 GiB ranges that a larger page lies in: INVLPG there flushes all */
    struct tlb2_entry parts[TLB_LARGE]; /* of large pages that lie in RAM, by address; the tag as below with LARGE_SIZE for a page */
    u8 victim;                       /* the way to replace next */
    struct tlb2_entry e[TLB2_SETS][TLB2_WAYS] __attribute__((aligned(64)));
};

/* As cheap as can be, since the translator computes it before each access. */
static inline unsigned tlb_index(gla lin)
{
    return (unsigned)(lin >> GUEST_PAGE_SHIFT) & (TLB_ENTRIES - 1);
}
static inline unsigned tlb2_set(gla lin)
{
    u64 n = lin >> GUEST_PAGE_SHIFT;
    return (unsigned)(n ^ n >> 11) & (TLB2_SETS - 1);
}

#endif
