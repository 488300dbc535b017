/* Traces: in loops a block is translated together with the blocks that mostly follow it, and a loop several times over. Jumps
 * within a trace cost nothing but the condition; accesses on both sides of them share probes (group.c), and its end looks at events
 * once for all.
 *
 * A trace is a block that is in no list: copies of the instructions of others, at their offsets from its first one's. It
 * stays in the page and goes nowhere before that block, which depends on all the bytes, and dies with any of them.
 *
 * Which way a jump mostly goes is known from how often what it leads to was interpreted; if that is not clear, the trace ends. */
#include "translate/tr.h"

#include <stdlib.h>

#define PIECES     8u  /* blocks */
#define TRACE_MAX  48u /* instructions */
#define ROUNDS     4u  /* of a loop */
_Static_assert(TRACE_MAX <= BLOCK_MAX && PIECES + 2 <= MAX_EXITS, "arrays of struct tr");

/* Nothing in it needs a handler, but for what it ends with. */
static bool simple(const struct tr *t, const struct block *b)
{
    for (unsigned n = 0; n + 1u < b->count; n++) {
        struct effect x;
        if (!effect_of(t, &b->insns[n], &x)) return false;
    }
    return b->insns[b->count - 1].opcode && b->insns[b->count - 1].opcode->cls == CLASS_CONTROL;
}

static unsigned fpu_needs(const struct tr *t, const struct block *b)
{
    unsigned needs = 0;
    for (unsigned n = 0; n < b->count; n++) needs |= simd_needs(t, &b->insns[n]);
    return needs;
}

/* The block of this offset in the page; NULL: it is not known. */
static const struct block *at(const struct tr *t, s64 off)
{
    const struct block *b = t->home;
    return off >= 0 && off < GUEST_PAGE_SIZE ? block_at(t->bt->cache.pages[b->page], (unsigned)off, b->mode, b->place) : NULL;
}

/* How often was it interpreted? */
static u32 times(const struct tr *t, s64 off)
{
    const struct block *b = at(t, off);
    return b ? b->hot : 0;
}

/* The same block, if it can be a part. */
static const struct block *piece(const struct tr *t, s64 off)
{
    const struct block *b = t->home, *p = off < b->offset ? NULL : at(t, off);
    return p && !block_crosses(p) && !p->changes && simple(t, p) && !(fpu_needs(t, p) & ~fpu_needs(t, b)) ? p : NULL;
}

/* What mostly follows a block; NULL: that is not known, or it cannot be a part. */
static const struct block *follows(const struct tr *t, const struct block *b)
{
    const struct insn *last = &b->insns[b->count - 1];
    const bool jmp = last->mnemonic == I_jmp;
    if ((!jmp && last->mnemonic != I_jcc) || last->operands[0].kind != OPND_REL || last->opsize == 2) return NULL;
    const s64 next = (s64)b->offset + last->off + last->len, target = next + (s64)last->imm;
    if (jmp || target == t->home->offset) return piece(t, target);
    const u32 before = t->home->hot - 1, seldom = t->home->hot / 4, often = before - MIN(before, seldom);
    const u32 taken = times(t, target), not_taken = times(t, next);
    if (taken >= often && not_taken <= seldom) return piece(t, target);
    return not_taken >= often && taken <= seldom ? piece(t, next) : NULL;
}

/* Append a copy of a block to the trace. */
static void append(struct block *trace, const struct block *b)
{
    const u16 from = (u16)(b->offset - trace->offset);
    for (unsigned n = 0; n < b->count; n++) {
        struct insn *i = &trace->insns[trace->count++];
        *i = b->insns[n];
        i->off = (u16)(i->off + from);
        if (i->base == REG_RIP) i->disp += from;
    }
}

struct block *trace_of(const struct tr *t)
{
    const struct block *b = t->home, *pieces[PIECES] = {b};
    unsigned npieces = 1, count = b->count;
    if (!t->loop || t->segmented || b->changes || block_crosses(b) || !simple(t, b)) return NULL;
    for (const struct block *p = b; (p = follows(t, p)) && npieces < PIECES && count + p->count <= TRACE_MAX;) {
        if (p == b) { /* once more around, as often as there is room for */
            const unsigned round = npieces, insns = count;
            for (unsigned n = 1; n < ROUNDS && npieces + round <= PIECES && count + insns <= TRACE_MAX; n++) {
                memcpy(pieces + npieces, pieces, round * sizeof pieces[0]);
                npieces += round;
                count += insns;
            }
            break;
        }
        for (unsigned n = 0; n < npieces && p; n++)
            if (pieces[n] == p) p = NULL; /* a loop in it */
        if (!p) break;
        pieces[npieces++] = p;
        count += p->count;
    }
    if (npieces == 1) return NULL;
    struct block *trace = calloc(1, sizeof *trace + count * sizeof(struct insn));
    if (!trace) return NULL;
    *trace = (struct block){.page = b->page, .offset = b->offset, .bytes = b->bytes, .mode = b->mode, .place = b->place};
    for (unsigned n = 0; n < npieces; n++) {
        append(trace, pieces[n]);
        block_depends(t->cpu, t->bt->cache.pages[b->page], t->home, pieces[n]->offset, pieces[n]->bytes);
    }
    return trace;
}
