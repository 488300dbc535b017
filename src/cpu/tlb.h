/* The vCPU's cache of linear-to-host translations. Coherence with the guest's page tables is the guest's
 * business (SDM vol 3A 4.10); what the monitor itself changes (memory map, code pages) flushes by event. */
#ifndef CPU_TLB_H
#define CPU_TLB_H

#include "core/types.h"

#define TLB_ENTRIES 1024u

/* Contexts: who accesses. */
enum {
    TLB_USER,            /* CPL 3 */
    TLB_SUPERVISOR,      /* CPL 0-2, SMAP off or overridden by EFLAGS.AC */
    TLB_SUPERVISOR_SMAP, /* CPL 0-2, user pages forbidden */
    TLB_CONTEXTS
};

/* A tag is the linear page address with the generation in its low 12 bits; a flush is a new generation. 0 never matches
 * (generations start at 1). Pages that are not plain RAM, or that need a look on each access, have no tag. */
struct tlb_entry {
    u64 read_tag, write_tag, exec_tag;
    u64 addend; /* host address = linear address + addend */
};

struct tlb {
    u64 gen; /* current generation, 1..0xfff */
    struct tlb_entry e[TLB_ENTRIES];
};

/* As cheap as can be, since the translator computes it before each access. */
static inline unsigned tlb_index(gla lin)
{
    return (unsigned)(lin >> GUEST_PAGE_SHIFT) & (TLB_ENTRIES - 1);
}

#endif
