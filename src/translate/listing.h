/* What has been made of a block, for people: -d op and -d out_asm. */
#ifndef TRANSLATE_LISTING_H
#define TRANSLATE_LISTING_H

#include "core/log.h"
#include "cpu/block.h"

struct tr;

/* Where an instruction's host code begins, and what is known there. */
struct listing_line {
    const u8 *at;    /* in the writable view */
    bool by_handler; /* the interpreter's handler does it */
    bool host, mem;  /* where the guest's flags are after it: in the host's, in cpu->aflags */
    u8 recoverable;  /* bytes of code that would make them again; 0: none */
    u8 fpu;          /* what of the vector state the rest of the block needs live */
};

struct listing {
    struct listing_line lines[BLOCK_MAX];
    unsigned count;
};

#define listing_wanted() log_enabled(LOG_OP | LOG_OUT_ASM)

/* Before and after an instruction is translated. */
void listing_begin(struct tr *t);
void listing_end(struct tr *t, bool by_handler);
/* The block is translated: its instructions from `start` (writable view) to `body`, what is out of line from `cold` to `end`. */
void listing_print(struct tr *t, const u8 *start, const u8 *body, const u8 *cold, const u8 *end);

#endif
