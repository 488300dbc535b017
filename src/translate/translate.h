/* Guest blocks to host code. See translate.c. */
#ifndef TRANSLATE_TRANSLATE_H
#define TRANSLATE_TRANSLATE_H

#include "cpu/block.h"
#include "translate/code_memory.h"

/* A direct jump, and what it is patched to go straight to. One that stays in its page holds until either block dies: blocks of a
 * page see the same page. One that leaves it, or the mode of its block, or leads to an instruction that crosses into the next page,
 * compares `page` and `key` each time it runs. */
struct link {
    u64 page;             /* page_rip that it holds for, plus `ahead`; NO_PAGE: not linked */
    u64 key;              /* cpu->code_key that it holds under */
    u8 *site;             /* the jump's displacement, in the writable view */
    u8 *stub;             /* where that leads while it is not linked */
    struct block *from;   /* whose jump it is */
    struct block *to;     /* NULL: not linked */
    struct link *next, **at; /* among the links to `to` */
    struct link *sibling; /* the next one of `from` */
    s32 target;           /* offset from the start of the page */
    u16 ahead;            /* it is reached with so much more than page_rip in a register; 0: with none */
    u16 insn;             /* offset in the page of the instruction that jumps */
    bool quiet;           /* the target need not look at events, whatever the direction */
    bool within;          /* in the page of `from`: never compares */
    s8 pushed;            /* bytes that the stack pointer has moved for it (a call) */
};
#define NO_PAGE 1ull

/* A look at recent pages of the TLB (access.c), and how to go without: jumps from `start` to `probe`, and from `probed` to `again`.
 * All in the writable view. */
#define LOOK_WAYS 7u
struct look {
    u8 *start, *probe, *probed, *again;
    u16 ways[LOOK_WAYS]; /* other ranges of the context that it looks at next; 0: none */
    u16 past;         /* bytes that an access has after its first, at most */
    u16 slot;         /* tlbs[context].recent[slot] */
    u8 context;
    bool write;       /* pages that may be written */
    u8 strange;       /* times that a range for long did not have it, ... */
    u8 *fields[3];    /* ... whose fields are at these displacements */
};

/* An immediate in code that was written before: it is changed in place when the guest patches it. */
struct imm_site {
    const struct insn *insn;
    u8 *at; /* in the writable view */
    u8 bytes;
    struct imm_site *next; /* in its block */
};

/* A call of a shared probe (bt->probes). Offsets in the code memory. */
struct probe_site {
    u32 back;  /* where it returns to */
    u32 stub;  /* ... or instead, when the access needs its handler... */
    u32 again; /* ... or when the addend is for this one access only */
    u8 slot;   /* what else may have that: in tlb.recent[]; 0: nothing */
};

/* A block's host code. Lies in the same region of code memory. */
struct translation {
    struct block *block;      /* NULL: dead */
    u8 *leave;                /* leaves for the block's start, in the writable view */
    struct link *in, *out;    /* jumps to and from it */
    struct translation *next; /* in its region */
    struct translation *plain; /* another one of the block, that this one goes on in (group.c), or NULL */
    u32 hot, cold;            /* where what runs all the time begins (~0: it is with the rest), and the rest: offsets in the code memory */
    struct probe_site *probes; /* its calls of shared probes */
    struct imm_site *imms;
    const struct imm_site *adjusted; /* the one that the guest has patched */
};

struct check;
struct tr;

/* Shared probes: for 1 to 32 bytes that may lie anywhere, and for 16 and 32 that must be aligned; by whether they are written. */
#define PROBE_ALIGNED 6u
#define PROBE_CLASSES 8u

/* Why a block is interpreted, however often it runs. */
enum bt_refusal { REFUSED_NOT, REFUSED_OUTSIDE, REFUSED_ALIGNMENT, REFUSED_LOG, REFUSED_FPU, REFUSED_STEP, REFUSAL_COUNT };

struct bt {
    struct block_cache cache; /* first: cpu->engine points at both */
    struct code_memory code;
    struct translation *translations[CODE_REGIONS]; /* by region */
    u8 *enter;      /* host stack, guest registers, jump to the block: void (*)(void *host) */
    u8 *exit_rip;   /* T_B is the next RIP */
    u8 *link;       /* T_B is a struct link in the executable view: goes on at its target */
    u8 *find;       /* T_B is a RIP: called, returns its jump_entry in T_A, or 0 */
    u8 *slow;       /* r14 is the struct insn, r15 its block's offset: runs its handler */
    u8 *denied;     /* r14 is a struct block whose instructions need the vector state live, when it cannot be: interprets it */
    u8 *unexpected; /* T_B is a RIP that a return leads to: called, returns a jump_entry in T_A, or 0 */
    u8 *unexpected_segmented; /* the same for segmented code; T_B, with cpu->code_tag in it, stays when T_A is 0 */
    u8 *return_other; /* cpu->return_other */
    u8 *fill, *probe, *missed, *unmapped, *gs_page, *fpu_load, *pause, *limit; /* light functions */
    u8 *probes[TLB_CONTEXTS][2][PROBE_CLASSES]; /* T_B is a linear address, which goes to cpu->lin: called, returns the addend in T_A, or elsewhere */
    u8 *stack_probes[TLB_CONTEXTS][2][4]; /* the same for accesses of 1 << n bytes to the stack, and its recent range is that from now on */
    u8 *syscall[TLB_CONTEXTS], *sysret[TLB_CONTEXTS]; /* by the kernel's context (syscall.c) */
    u8 *settle;     /* computes flags that are pending (flags.c) */
    bool bmi2;      /* the host has RORX */
    unsigned hot;   /* interpretations before a block is translated */
    unsigned not_soon, not_close; /* times that it may come later than in a loop, in a close one, the first one with them */
    struct tr *tr;  /* translate_state() */
    struct check *check; /* -d check (check.c); else NULL */
    s32 unpush;     /* with an exception from a link: what the stack pointer must move back */
    u64 translated, evictions;  /* statistics: blocks, regions given up... */
    u64 bytes, host_bytes, cold_bytes; /* ... bytes of the guest's code, of the host's, and of that out of line */
    u64 traces;                 /* blocks translated with others (trace.c) */
    u64 runs;                   /* of accesses that share a probe (run.c) */
    u64 links, finds, entries;  /* light look-ups of direct and of indirect jumps, entries from the run loop */
    u64 fills;                  /* calls of light_fill() and light_probe() */
    u64 looks, given_up;       /* calls of light_missed(), looks at recent pages that it ended */
    u64 interpreted[REFUSAL_COUNT]; /* runs of blocks by why they are interpreted; REFUSED_NOT: not translated yet */
    u64 refused[MNEMONIC_COUNT];    /* instructions translated to a call of their handler */
    u64 slow_calls[MNEMONIC_COUNT]; /* such calls, and slow paths taken */
};

/* Emit the thunks at the start of the code memory. */
void translate_thunks(struct bt *bt, const struct cpu *cpu);
/* What is known of a block while it is translated. For free(); NULL: no memory, with a message. */
struct tr *translate_state(void);
/* Translate a cached block, as one that runs in a loop, in a close one, or in none; there must be room in the code memory. Sets block->host. */
void translate_block(struct bt *bt, struct cpu *cpu, struct block *b, bool loop, bool close);

/* Patch a jump to go straight to its target. */
void translate_link(struct bt *bt, struct link *l, struct block *to, bool forward);
/* The guest has changed an immediate: change it in the host code, too. False: not where it may be. */
bool translate_adjust(struct cpu *cpu, struct block *b, const struct insn *i, u64 imm);
/* A block's host code goes: nothing leads to it any more but the jump cache, if `redirect` by a way out of its entries. */
void translate_discard(struct cpu *cpu, struct block *b, bool redirect);

/* Can the block at the current CS:RIP be translated? */
enum bt_refusal bt_refuses(const struct cpu *cpu, const struct block *b);
/* Before a block is translated: when the code memory is full, give up the region that was filled first. */
void bt_make_room(struct cpu *cpu, struct bt *bt);
/* Enter translated code at the current CS:RIP. Afterwards an exception is recorded, or cpu->rip is where to go on. */
void bt_enter(struct cpu *cpu, struct bt *bt, const struct block *b, void *host);

/* What translated code calls to run an instruction's handler. 0: go on; BT_LEAVE: leave, cpu->rip is set; else the host code of
 * where to go on. */
#define BT_LEAVE 1u
u64 bt_slow(struct cpu *cpu, const struct insn *i);
/* Interpret the block that is about to begin, and leave. */
u64 bt_denied(struct cpu *cpu, struct block *b);

#endif
