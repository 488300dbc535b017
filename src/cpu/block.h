/* Decoded guest code, cached per physical page: what the interpreter and the translator run from.
 *
 * A block is a run of instructions within one physical page. It knows nothing of linear addresses, so that every mapping of
 * the page shares it. An instruction that crosses into another page is a block by itself. Instructions outside RAM are decoded anew
 * each time.
 *
 * A block dies when bytes that it depends on are written (block_invalidate()). The running block may be among them: a dead
 * block's handlers are replaced by one that leaves the block. Its memory is freed later, at the top of the run loop: the jump
 * cache may still point at it. */
#ifndef CPU_BLOCK_H
#define CPU_BLOCK_H

#include <pthread.h>

#include "cpu/exec.h"

#define JUMP_ENTRIES    8192u
#define PAGE_BUCKETS    256u
#define BLOCK_MAX       64u          /* instructions */
#define CACHE_LIMIT     (256u << 20) /* bytes of decoded code, then the pages that came first are dropped */
#define GRAVEYARD_LIMIT (1u << 20)   /* bytes of dead blocks, then they are freed, and the jump cache starts over */
#define GRANULE_SHIFT   4            /* code bitmap: 16 bytes a bit */
#define GRANULE_WORDS   (GUEST_PAGE_SIZE >> GRANULE_SHIFT >> 6)
#define EMPTY_WRITES    256u         /* to a page whose blocks are all dead, then it counts as data */
#define QUEUED          512u         /* requests by others; when there are more: all code is dropped */

struct translation;

struct block {
    void *host;         /* translated code: entered from anywhere (looks at events); NULL: none */
    void *host_forward; /* ... by a forward jump */
    bool solo;          /* -d check: is not run twice, or not together with others */
    u32 host_bytes;     /* of the translated code */
    struct translation *translation; /* what else the translator knows of it; NULL: it is not translated */
    struct block *trace; /* the translator's: what it translates instead, this block with what follows it (translate/trace.c), or NULL */
    u64 page;           /* RAM page number; ~0: the uncached block */
    u64 map[GRANULE_WORDS]; /* granules of its page that it depends on */
    u64 tail;           /* RAM page number of what crosses into the next page (block_crosses()) */
    struct block *next_tail; /* in that page's list */
    u32 hot;            /* times it was interpreted, for the translator */
    u64 seen, seen_insns; /* the host's TSC, and cpu->insn_count, when it was interpreted last... */
    u32 soon, close;    /* ... and how often that was soon, or very soon, after the last time */
    u8 changes;         /* the greatest of its granules' when it was decoded */
    struct block *next; /* in its page's bucket, or in the graveyard */
    u16 offset;         /* in the page */
    u16 bytes;          /* guest bytes covered */
    u16 count;          /* instructions, without the sentinel */
    u8 mode;            /* cpu->mode_key it was decoded for */
    u64 place;          /* ... and block_place() */
    bool dead;          /* what it depends on was written */
    bool ahead;         /* it depends on more than its own bytes */
    struct insn insns[];
};

/* Decoded code of one physical page. */
struct code_page {
    struct block *buckets[PAGE_BUCKETS]; /* by block_bucket() */
    struct block *tails;                 /* blocks of other pages that end at the start of this one */
    u8 *copy;                            /* unsettled (block_smp.c): what its blocks were decoded from; else NULL */
    u64 map[GRANULE_WORDS];              /* granules that blocks depend on */
    u64 page;                            /* RAM page number */
    u8 changes[GUEST_PAGE_SIZE >> GRANULE_SHIFT]; /* times that translated code died by a write to the granule */
    u32 empty_writes;                    /* since its last block died */
    bool beside;                         /* a recent range of the TLB may have granules of it that no block depends on */
    struct code_page *older, *newer;     /* by when their first block was made */
};

/* Linear address -> block, while nothing was flushed. The block may have died meanwhile. */
struct jump_entry {
    gla lin;
    u64 key; /* cpu->code_key it was made under */
    struct block *block;
    void *host; /* its translated code, or what leaves translated code */
};

/* What other threads ask for. */
enum block_request {
    CODE_WRITTEN, /* [offset, offset + size) of RAM was written */
    CODE_BEGINS,  /* this page holds code from now on: stores to it must be looked at */
    CODE_ENDED,   /* this one is written again and again; perhaps there is no code left in it */
};
struct block_asked {
    enum block_request what;
    u64 offset, size; /* RAM; size 0: all of it */
};
struct block_queue {
    struct block_asked asked[QUEUED];
    unsigned used; /* more than QUEUED: there was no room */
};

struct block_cache {
    struct jump_entry jumps[JUMP_ENTRIES];
    struct code_page **pages; /* by RAM page number */
    u64 page_count;
    struct code_page *oldest, *newest; /* the same in order */
    u64 bytes, limit;         /* held by blocks that live, and when to drop some */
    struct block *graveyard;  /* dead, maybe still running */
    u64 grave_bytes;          /* held by those */
    struct block *scratch;    /* the uncached one-instruction block */
    void *no_host;            /* jump_entry.host of blocks without translated code */
    u64 kills;                /* blocks that died */
    void (*discard)(struct cpu *cpu, struct block *b); /* the translator's: a translated block dies */
    bool (*adjust)(struct cpu *cpu, struct block *b, const struct insn *i, u64 imm); /* ... gets another immediate; false: it cannot */
    pthread_t thread;         /* the vCPU's thread, once running */
    bool running;             /* thread is valid */
    u64 (*shown)[GRANULE_WORDS]; /* by RAM page number: granules that blocks may depend on, for other vCPUs to read */
    u32 besides;              /* stores to pages with code that hit none of another vCPU's */
    pthread_mutex_t mutex;    /* protects the queue that is being filled */
    struct block_queue queues[2], *filling; /* requests from other threads */
};

/* 0 or -errno with a message. */
int block_cache_init(struct block_cache *in, struct cpu *cpu);
void block_cache_destroy(struct block_cache *in, struct cpu *cpu);
/* The vCPU's thread runs from now on; it is the only one to touch the cache. */
void block_cache_start(struct block_cache *in);
void block_invalidate(struct cpu *cpu, struct block_cache *in, u64 offset, u64 size);
/* The vCPU's own store left the byte at this RAM offset as it was. */
void block_unchanged(struct cpu *cpu, struct block_cache *in, u64 offset);
/* Do what other threads asked for. */
void block_take_queue(struct cpu *cpu, struct block_cache *in);
void block_kill_all(struct cpu *cpu, struct block_cache *in);
/* Free the dead blocks; none of them may be running. */
void block_bury(struct cpu *cpu, struct block_cache *in);
/* The block gets a trace, which lives as long as the block, or until it gets another one, or NULL; none of its code may be running. */
void block_set_trace(struct block_cache *in, struct block *b, struct block *trace);
/* The block depends on these bytes of its page. */
void block_depends(struct cpu *cpu, struct code_page *p, struct block *b, unsigned offset, unsigned bytes);
struct block *find_block_slow(struct cpu *cpu, struct block_cache *in, gla lin, struct jump_entry *j);
/* The handler of a dead block's instructions, and of the sentinel at the end. */
bool exec_block_end(struct cpu *cpu, const struct insn *i);
/* The handler of instructions that do not exist. */
bool exec_undefined(struct cpu *cpu, const struct insn *i);

/* ---- block_decode.c ---- */

/* Decode from `code` up to a block end, the end of the bytes, or `max` instructions (BLOCK_MAX). NULL, with no block, only when the
 * first instruction needs more bytes than there are, or there is no memory. */
struct block *block_decode(struct cpu *cpu, const u8 *code, unsigned avail, unsigned max);
/* Do the bytes now hold the same instruction, but for its immediate? Which goes to *imm. */
bool block_other_immediate(struct cpu *cpu, const struct insn *old, const u8 *code, unsigned avail, u64 *imm);

/* ---- for block_smp.c ---- */

/* [offset, offset + size) of RAM was written. */
void block_written(struct cpu *cpu, struct block_cache *in, u64 offset, u64 size);
/* Kill the blocks of a page that depend on the granules of `hit`, but for those that survive a write of these bytes; bytes 0: kill
 * all of them. */
void block_kill_granules(struct cpu *cpu, struct block_cache *in, struct code_page *p, const u64 hit[GRANULE_WORDS],
                         unsigned from, unsigned bytes);
/* Drop a page that has no blocks left. */
void block_drop_empty(struct cpu *cpu, struct block_cache *in, u64 page);
/* Set the bits of the granules that hold [offset, offset + bytes) of a page. */
void block_mark(u64 map[GRANULE_WORDS], unsigned offset, unsigned bytes);

/* ---- several vCPUs (block_smp.c) ---- */

/* A page with its first block: stores to it take the slow path from now on. False: no memory. */
bool block_page_begins(struct cpu *cpu, struct code_page *p);
/* Before bytes of the page are read that blocks will depend on: show them to the other vCPUs. False: others may still store there
 * unnoticed. */
bool block_show(struct cpu *cpu, struct block_cache *in, struct code_page *p, unsigned offset, unsigned bytes);
/* Afterwards: show p->map, as always when that has changed. */
void block_shown(const struct cpu *cpu, struct block_cache *in, const struct code_page *p);
/* What to decode a block from; shows it. NULL: no memory. */
const u8 *block_bytes(struct cpu *cpu, struct block_cache *in, struct code_page *p, unsigned offset, unsigned bytes);
/* Of an unsettled page: the code that was written dies, and the page may settle. */
void block_compare(struct cpu *cpu, struct block_cache *in, struct code_page *p);

/* RAM_PAGE_BESIDE: only this vCPU; or several. */
#define BESIDE_SEVERAL RAM_PAGE_BESIDE
static inline u16 block_beside(const struct cpu *cpu) { return (u16)((cpu->index + 1) << 1); }

/* The cache of another vCPU; NULL: there is none with this number, or it is this one. */
static inline struct block_cache *block_other(const struct cpu *cpu, unsigned n)
{
    const struct cpu *other = cpu->all[n];
    return other && other != cpu ? other->engine : NULL;
}

/* Does the vCPU show code in [from, from + bytes) of a page? */
static inline bool block_shows(const struct block_cache *in, u64 page, unsigned from, unsigned bytes)
{
    for (unsigned g = from >> GRANULE_SHIFT; g <= (from + bytes - 1) >> GRANULE_SHIFT; g++)
        if (__atomic_load_n(&in->shown[page][g >> 6], __ATOMIC_RELAXED) >> (g & 63) & 1) return true;
    return false;
}

static inline gla code_lin(const struct cpu *cpu, u64 rip)
{
    return cpu->code_size == CODE_64 ? rip : (u32)(cpu->seg[SEG_CS].base + rip);
}
static inline gla block_lin(const struct cpu *cpu) { return code_lin(cpu, cpu->rip); }

static inline struct jump_entry *jump_slot(struct block_cache *in, gla lin)
{
    return &in->jumps[(lin ^ lin >> 13) & (JUMP_ENTRIES - 1)];
}

/* A block of one instruction, part of which is in the next linear page: it runs only where both pages are mapped. */
static inline bool block_crosses(const struct block *b) { return b->offset + b->bytes > (int)GUEST_PAGE_SIZE; }

/* The linear page after this one. */
static inline gla next_page(const struct cpu *cpu, gla lin)
{
    const gla next = (lin | GUEST_PAGE_MASK) + 1;
    return cpu->code_size == CODE_64 ? next : (u32)next;
}

static inline unsigned block_bucket(unsigned offset, u64 place) { return (offset + (unsigned)(place >> 4)) % PAGE_BUCKETS; }

/* A block of a page that was decoded already. */
static inline struct block *block_at(const struct code_page *p, unsigned offset, u8 mode, u64 place)
{
    struct block *b = p->buckets[block_bucket(offset, place)];
    while (b && (b->offset != offset || b->mode != mode || b->place != place)) b = b->next;
    return b;
}

/* What a block with this RIP and page offset depends on besides mode_key. Segmented code: how its page lies in the code segment, so
 * that within the page nothing is left to ask. The RIP of the page's start in the lower half, it may lie before the segment's, and
 * the segment's limit in the upper half. */
static inline u64 block_place(const struct cpu *cpu, u64 rip, unsigned offset)
{
    return (cpu->mode_key & MODE_FLAT) || cpu_code64(cpu) ? 0 : (u32)(rip - offset) | cpu->code_limit << 32;
}

/* The block lies in an unsettled page: it is compared before each run, and only interpreted. */
static inline bool block_unsettled(const struct block_cache *in, const struct block *b)
{
    return in->pages[b->page]->copy || (block_crosses(b) && in->pages[b->tail]->copy);
}

/* The block at the current CS:RIP; NULL: an exception is recorded. */
static inline struct block *find_block(struct cpu *cpu, struct block_cache *in)
{
    gla lin = block_lin(cpu);
    struct jump_entry *j = jump_slot(in, lin);
    if (__builtin_expect(j->lin == lin && j->key == cpu->code_key && !j->block->dead, 1)) return j->block;
    return find_block_slow(cpu, in, lin, j);
}

#endif
