/* Guest blocks to host code. See translate.c. */
#ifndef TRANSLATE_TRANSLATE_H
#define TRANSLATE_TRANSLATE_H

#include "cpu/block.h"
#include "translate/code_memory.h"

/* A direct jump within a page that may be patched to go straight to its target. */
struct link {
    u8 *site;           /* its displacement, in the writable view */
    struct block *from; /* whose jump it is */
    s32 target;         /* offset from the page's start */
    bool forward;       /* the target may be entered without a look at events */
};

struct check;

struct bt {
    struct block_cache cache; /* first: cpu->engine points at both */
    struct code_memory code;
    u8 *enter;      /* host stack, guest registers, jump to the block: u64 (*)(void *host) */
    u8 *exit_rip;   /* r14 is the next RIP: returns 0 */
    u8 *exit_link;  /* r14 is a struct link: returns it */
    u8 *slow;       /* r14 is the struct insn, r15 its block's offset: runs its handler */
    u8 *denied;     /* r14 is a struct block whose instructions need the vector state live, when it cannot be: interprets it */
    u8 *fill, *fpu_load; /* light functions */
    size_t thunks;  /* bytes of the above */
    bool bmi2;      /* the host has RORX */
    unsigned hot;   /* interpretations before a block is translated */
    struct check *check;        /* -d check (check.c); else NULL */
    struct link *pending;       /* the jump that was just left by, to be patched */
    u64 pending_kills;          /* cache.kills then */
    u64 translated, flushes, bytes; /* statistics: blocks, times the memory was full, guest bytes */
    u64 refused[MNEMONIC_COUNT];    /* instructions translated to a call of their handler */
    u64 slow_calls[MNEMONIC_COUNT]; /* such calls, and slow paths taken */
};

/* Emit the thunks at the start of the code memory. */
void translate_thunks(struct bt *bt);
/* Translate a cached block; false: no room. Sets block->host. */
bool translate_block(struct bt *bt, struct cpu *cpu, struct block *b);

/* Patch a jump to go straight to its target. */
void translate_link(struct link *l, const struct block *to, const struct bt *bt);

/* Code of the current mode can be translated. */
bool bt_eligible(const struct cpu *cpu);
/* Before a block is looked up: drop everything when the code memory is full. */
void bt_make_room(struct cpu *cpu, struct bt *bt);
/* Enter translated code at the current CS:RIP: the link it left by, or NULL. Then an exception is recorded or cpu->rip set. */
struct link *bt_enter(struct cpu *cpu, struct bt *bt, void *host);

/* What translated code calls to run an instruction's handler. Non-zero: leave; cpu->rip is set. */
u64 bt_slow(struct cpu *cpu, const struct insn *i);
/* Interpret the block that is about to begin, and leave. */
u64 bt_denied(struct cpu *cpu, struct block *b);

#endif
