/* Guest blocks to host code: same instruction set, so that most instructions are the guest's own with registers renamed.
 *
 * Registers: guest RAX RCX RDX RBX RBP RSI RDI R8-R11 live in the host registers of the same name, guest RSP in r12, guest R12 in
 * r13; guest R13-R15 stay in cpu->regs. r14 and r15 are scratch. struct cpu is at an absolute address (emit.h).
 *
 * Flags: within a block the guest's arithmetic flags may be in the host's flags, in cpu->aflags, or recoverable by repeating
 * (or undoing and repeating) the instruction that made them; any fault or slow path finds them exact. Between blocks see
 * flags.c.
 *
 * Memory: the TLB is probed inline. On a miss, as for every instruction that is not translated inline, the interpreter's handler
 * runs the whole instruction from the state before it: faults are precise by construction.
 *
 * Blocks are position independent: cpu->page_rip is the linear address of their page. How they follow each other: link.c.
 *
 * DEVIATION: an interrupt taken between two blocks may push arithmetic flags that the next instructions overwrite unseen, when
 * they cannot be computed again.
 *
 * Which flags an instruction leaves undefined is the host's affair, as in the interpreter (cpu/alu.h). The code below relies on
 * their not depending on the flags before, for shifts by a constant other than 0, BSF, BSR, LZCNT, TZCNT, POPCNT and IMUL:
 * measured on Intel processors. */
#include "translate/translate.h"

#include <stdio.h>
#include <stdlib.h>

#include "translate/perfmap.h"
#include "translate/tr.h"

bool translate_insn(struct tr *t, bool *ended)
{
    *ended = false;
    if (t->i->fn == exec_undefined || !t->i->opcode) return false;
    /* In STI's shadow: a jump by handler leaves for the run loop, which looks at events. */
    if (t->poll && t->i->mnemonic != I_ret && t->i->opcode->cls == CLASS_CONTROL) return false;
    return translate_jump(t, ended) || translate_integer(t) || translate_simd(t) || translate_system(t, ended);
}

static void note_probes(struct tr *t, struct translation *tn)
{
    const u8 *rw = t->bt->code.rw;
    if (!t->ncalls) return;
    tn->probes = code_memory_data(&t->bt->code, t->ncalls * sizeof *tn->probes);
    for (unsigned n = 0; n < t->ncalls; n++) {
        const struct probe_call *c = &t->calls[n];
        tn->probes[n] = (struct probe_site){.back = (u32)(c->back - rw), .stub = (u32)(c->stub->start - rw),
                                            .again = (u32)(c->again - rw), .slot = c->slot};
    }
}

/* Translate the block, or the plain translation of one that has groups. */
static struct translation *translate(struct tr *t)
{
    struct bt *bt = t->bt;
    struct block *b = t->b, *home = t->home;
    struct code_region *region = code_memory_current(&bt->code);
    u8 *start = t->plain ? region->cold : (u8 *)(((uintptr_t)region->code + 15) & ~(uintptr_t)15);
    t->e.p = start;
    t->shared = NULL;
    t->run = NULL;
    t->groups[GROUP_RUN].open = false;
    t->ahead = 0;
    t->host = false;
    t->mem = t->entry = true;
    t->carry_mem = false;
    t->rec_len = 0;
    t->nstubs = t->nmisses = t->nothers = t->ncalls = t->nexits = t->nsides = t->npending = 0;
    t->poll = false;
    t->listing.count = 0;
    t->find.back = NULL;
    t->imms = NULL;
    t->too_low.site = t->unexpected.site = NULL;
    t->align = 0;
    struct emit *e = &t->e;

    u8 *poll_site = NULL;
    if (b != home || b->insns[b->count - 1].mnemonic != I_call) { /* which looks at events itself */
        emit_compare_returns(t);
        poll_site = emit_jump(e, CC_B);
    }
    u8 *forward = e->p;
    u8 *counted = NULL;
    if (bt->check) {
        emit_op(e, 0, 0, 0x83, 5, STATE(blocks_left)); /* sub dword, 1 */
        emit8(e, 1);
        counted = emit_jump(e, CC_S);
    }
    t->fpu[b->count] = 0;
    for (unsigned n = b->count; n-- > 0;) t->fpu[n] = (u8)(t->fpu[n + 1] | simd_needs(t, &b->insns[n]));
    t->x87_page = false;
    emit_fpu_entry(t);

    bool ended = false;
    for (unsigned n = 0; n < b->count && !ended; n++) {
        t->i = &b->insns[n];
        t->fpu_after = t->fpu[n + 1];
        if (listing_wanted()) listing_begin(t);
        if (t->plain) {
            t->plain_at[n] = e->p;
            t->plain_host[n] = t->host;
        }
        group_probe(t, n);
        run_before(t, n);
        const bool own = translate_insn(t, &ended);
        if (!own) {
            run_end(t, n);
            by_handler(t);
        }
        run_after(t, n);
        if (listing_wanted()) listing_end(t, !own);
        if (own) continue;
        ended = false;
        if (!t->i->opcode || (t->i->opcode->attr & ATTR_END)) {
            /* What may be fetched next can have changed. */
            emit_rip(t, T_B, b->offset + t->i->off + t->i->len);
            emit_exit_rip(t);
            ended = true;
        }
    }
    if (!ended) {
        const s32 next = b->offset + b->insns[b->count - 1].off + b->insns[b->count - 1].len;
        if (t->poll) flags_to_mem(t);
        else flags_leave(t, next);
        if (t->poll) emit_poll(t, next);
        emit_go(t, next);
    }
    u8 *end = e->p;
    if (!t->plain) {
        region->code = end;
        e->p = region->cold;
    }
    u8 *rest = e->p;
    emit_side_exits(t);
    emit_pending(t);
    emit_ways_out(t);
    emit_runs_slow(t);
    for (unsigned n = 0; n < t->nothers; n++) emit_other_page(t, &t->others[n]);
    for (unsigned n = 0; n < t->nmisses; n++) emit_miss(t, &t->misses[n]);
    for (unsigned n = 0; n < t->nstubs; n++) emit_stub(t, &t->stubs[n]);
    emit_fpu_entry_slow(t);
    if (poll_site) {
        emit_patch(poll_site, e->p);
        emit_call(t, bt->limit);
        emit_op(e, 0, 0, 0x85, T_A, rm_reg(T_A));
        emit_jump_to(e, CC_E, forward);
    }
    if (counted) emit_patch(counted, e->p);
    struct translation *tn = code_memory_data(&bt->code, sizeof *tn);
    *tn = (struct translation){.block = home, .leave = e->p, .next = bt->translations[bt->code.current],
                               .imms = t->imms, .hot = t->plain ? ~0u : (u32)(start - bt->code.rw), .cold = (u32)(region->cold - bt->code.rw)};
    bt->translations[bt->code.current] = tn;
    if (!t->plain) code_memory_begins(&bt->code, start, tn);
    code_memory_begins(&bt->code, region->cold, tn);
    note_probes(t, tn);
    emit_call(t, bt->settle);
    emit_rip(t, T_B, b->offset);
    emit_exit_rip(t);
    home->host_bytes = (u32)(end - start);
    home->host = code_memory_rx(&bt->code, start);
    home->host_forward = code_memory_rx(&bt->code, forward);
    const struct code_page *p = bt->cache.pages[b->page];
    if (!t->plain) home->translation = tn;
    for (unsigned n = 0; n < t->nexits; n++) {
        struct link *l = t->exits[n].link;
        l->sibling = tn->out;
        tn->out = l;
        if (t->plain) continue; /* it may lead to the block itself, which is not there yet */
        struct block *to = l->within ? block_at(p, (unsigned)l->target, b->mode, b->place) : NULL;
        if (to && to->host && !block_crosses(to)) translate_link(bt, l, to, is_forward(t, l->target) || l->quiet);
    }
    if (listing_wanted()) listing_print(t, start, end, rest, e->p);
    perfmap_add(home->host, home->host_bytes, "guest%s:%llx", b->mode & MODE_RING0 ? "-kernel" : "", (unsigned long long)t->cpu->rip);
    perfmap_add(code_memory_rx(&bt->code, rest), (size_t)(e->p - rest), "slow:%llx", (unsigned long long)t->cpu->rip);
    bt->translated += !t->plain;
    bt->runs += t->plain ? 0 : t->nruns;
    bt->bytes += home->bytes;
    bt->host_bytes += home->host_bytes;
    bt->cold_bytes += (u64)(e->p - rest);
    region->cold = e->p;
    code_memory_filled(&bt->code);
    return tn;
}

struct tr *translate_state(void)
{
    struct tr *t = calloc(1, sizeof *t);
    if (!t) fprintf(stderr, "calque: no memory for the translator\n");
    return t;
}

void translate_block(struct bt *bt, struct cpu *cpu, struct block *b, bool loop, bool close)
{
    struct tr *t = bt->tr;
    struct translation *plain = NULL;
    t->bt = bt;
    t->cpu = cpu;
    t->b = t->home = b;
    t->e.cpu = (s32)(uintptr_t)cpu;
    t->is64 = (b->mode & 3) == CODE_64;
    t->segmented = !t->is64 && !(b->mode & MODE_FLAT);
    t->half_stack = t->segmented && !(b->mode & MODE_STACK32);
    t->page_rip = (u32)b->place;
    t->limit = (u32)(b->place >> 32);
    t->context = b->mode >> 2 & 3;
    t->loop = loop;
    t->close = close;
    const struct code_region *region = code_memory_current(&bt->code);
    const bool room = region->middle - region->code > 2 * (ptrdiff_t)CODE_ROOM && region->data - region->cold > 3 * (ptrdiff_t)CODE_ROOM;
    block_set_trace(&bt->cache, b, NULL);
    if (room) block_set_trace(&bt->cache, b, trace_of(t));
    if (b->trace) t->b = b->trace;
    bt->traces += b->trace != NULL;
    group_plan(t, room);
    run_plan(t);
    if (t->ngroups) {
        t->plain = true;
        plain = translate(t);
        t->plain = false;
    }
    translate(t)->plain = plain;
}
