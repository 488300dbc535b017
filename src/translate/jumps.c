/* Control transfers: direct jumps are linked to their target (link.c), indirect ones look it up in the jump cache.
 *
 * A guest's call is a host's call, and a return a host's return, if the guest's stack agrees: the host's stack is cpu->returns[],
 * where each call leaves its return address (guest's and host's). There is a stack for each context of the TLB, and each is
 * emptied when code may be elsewhere than it was (cpu/code_gen.c). A return that finds another address than its own looks at
 * the next few, for frames that were left by a longjmp, or by the interpreter; what it still does not find is in the jump cache.
 *
 * Calls look at events, by the limit of the stack, which is out of reach when there are some: calls alone cannot keep
 * them out. Returns need not, as each has its call. So do blocks that are not entered by a forward jump. */
#include "translate/tr.h"

/* Page offset of a direct branch's target; false: by handler. */
static bool branch_target(const struct tr *t, s32 *off)
{
    const struct insn *i = t->i;
    s64 target = (s64)t->b->offset + i->off + i->len + (s64)i->imm;
    if (t->segmented) { /* a target beyond the limit is the handler's */
        const u32 rip = t->page_rip + (u32)target, cut = i->opsize == 2 ? (u16)rip : rip;
        *off = (s32)(cut - t->page_rip);
        return cut <= t->limit;
    }
    if (i->opsize == 2 || target != (s32)target) return false;
    *off = (s32)target;
    return true;
}

/* Does the instruction at this page offset cross into the next page? */
static bool crosses_at(const struct tr *t, s32 off)
{
    struct insn i;
    if (off <= (s32)GUEST_PAGE_SIZE - 15) return false;
    const u8 *code = t->cpu->ram->host + (t->b->page << GUEST_PAGE_SHIFT) + off;
    return decode(&i, code, GUEST_PAGE_SIZE - (unsigned)off, t->cpu->code_size) == DECODE_MORE;
}

/* The jump to a page offset, within the page or out of it. */
static struct link *emit_link(struct tr *t, unsigned cc, s32 off, bool other_mode)
{
    struct emit *e = &t->e;
    struct link *l = code_memory_data(&t->bt->code, sizeof *l);
    struct exit_jump *x = &t->exits[t->nexits++];
    *l = (struct link){.page = NO_PAGE, .from = t->home, .target = off, .insn = (u16)(t->b->offset + t->i->off),
                       .within = in_page(off) && !other_mode && !crosses_at(t, off)};
    *x = (struct exit_jump){.link = l, .settle = t->entry};
    l->quiet = cc == CC_CALL;
    if (l->within) {
        l->site = emit_jump(e, cc);
        return l;
    }
    u8 *skip = cc >= CC_ALWAYS ? NULL : emit_jump(e, cc ^ 1);
    l->ahead = (u16)t->ahead;
    if (!t->ahead) emit_load(e, T_B, STATE(page_rip));
    emit_load(e, T_A, STATE(code_key));
    emit_near(e, 0x3b, T_B, &l->page);
    x->misses[0] = emit_jump(e, CC_NE);
    emit_near(e, 0x3b, T_A, &l->key);
    x->misses[1] = emit_jump(e, CC_NE);
    emit_lea(e, t->is64, T_B, rm_mem(T_B, (off & -(s32)GUEST_PAGE_SIZE) - t->ahead));
    emit_store(e, T_B, STATE(page_rip));
    l->site = emit_jump(e, cc == CC_CALL ? CC_CALL : CC_ALWAYS);
    if (cc == CC_CALL) x->returns = e->p;
    if (skip) emit_patch(skip, e->p);
    return l;
}

static struct link *emit_direct(struct tr *t, unsigned cc, s32 off) { return emit_link(t, cc, off, false); }

void emit_go_mode(struct tr *t, s32 off) { emit_link(t, CC_ALWAYS, off, true); }

void emit_go(struct tr *t, s32 off) { emit_direct(t, CC_ALWAYS, off); }

/* PUSH and POP on the host's stack. */
static void emit_push_host(struct emit *e, unsigned reg)
{
    emit8(e, 0x41);
    emit8(e, 0x50 | (reg & 7));
}

static void emit_pop_host(struct emit *e, unsigned reg)
{
    emit8(e, 0x41);
    emit8(e, 0x58 | (reg & 7));
}

void emit_find(struct emit *e, u8 *misses[2])
{
    _Static_assert(sizeof(struct jump_entry) == 32, "shift below");
    emit_store(e, T_B, rm_reg(T_A));
    emit_shift(e, 5, T_A, 13);
    emit_op(e, 0, 0, 0x33, T_A, rm_reg(T_B));
    emit_alu_imm(e, false, 4, T_A, JUMP_ENTRIES - 1);
    emit_shift(e, 4, T_A, 5);
    emit_op(e, E_W, 0, 0x03, T_A, STATE(jumps));
    emit_op(e, E_W, 0, 0x3b, T_B, rm_mem(T_A, offsetof(struct jump_entry, lin)));
    misses[0] = emit_jump(e, CC_NE);
    emit_load(e, T_B, STATE(code_key));
    emit_op(e, E_W, 0, 0x3b, T_B, rm_mem(T_A, offsetof(struct jump_entry, key)));
    misses[1] = emit_jump(e, CC_NE);
}

void emit_enter_page(struct emit *e, bool segmented)
{
    if (segmented) {
        emit_load(e, T_B, rm_mem(T_A, offsetof(struct jump_entry, block)));
        emit_load32(e, T_B, rm_mem(T_B, offsetof(struct block, place)));
    } else {
        emit_load(e, T_B, rm_mem(T_A, offsetof(struct jump_entry, lin)));
        emit_alu_imm(e, true, 4, T_B, -(s32)GUEST_PAGE_SIZE);
    }
    emit_store(e, T_B, STATE(page_rip));
}

/* What the return of the call expects, in T_B; in segmented code that of this code segment. */
static void emit_return_rip(struct tr *t)
{
    emit_rip(t, T_B, t->b->offset + t->i->off + t->i->len);
    if (t->segmented) emit_op(&t->e, E_W, 0, 0x03, T_B, STATE(code_tag));
}

/* Look T_B, the target's RIP, up in the jump cache, and go there with the stack pointer moved; on a miss the stub does all of
 * the instruction again, from the unchanged state. Without a stub the target is within the limit. */
static void emit_indirect(struct tr *t, struct stub *s, s32 move_sp, bool call)
{
    struct emit *e = &t->e;
    if (t->segmented) {
        emit_store(e, T_B, STATE(target));
        emit_op(e, 0, 0, 0x03, T_B, STATE(win[SEG_CS].base));
    }
    emit_find(e, t->find.misses);
    t->find.back = e->p;
    t->find.stub = s;
    t->find.move_sp = move_sp;
    if (move_sp) emit_move_sp(t, move_sp);
    if (call) {
        emit_return_rip(t);
        emit_push_host(e, T_B);
    }
    emit_enter_page(e, t->segmented);
    emit_op(e, 0, 0, 0xff, call ? 2 : 4, rm_mem(T_A, offsetof(struct jump_entry, host)));
}

static void emit_find_slow(struct tr *t)
{
    struct emit *e = &t->e;
    if (!t->find.back) return;
    emit_patch(t->find.misses[1], e->p);
    emit_load(e, T_B, rm_mem(T_A, offsetof(struct jump_entry, lin)));
    emit_patch(t->find.misses[0], e->p);
    if (t->segmented) emit_load(e, T_B, STATE(target));
    emit_call(t, t->bt->find);
    emit_op(e, E_W, 0, 0x85, T_A, rm_reg(T_A));
    emit_jump_to(e, CC_NE, t->find.back);
    if (t->find.stub) {
        stub_from(t, t->find.stub, CC_ALWAYS);
        return;
    }
    u8 *bad = NULL;
    if (t->is64) {
        emit_compare_canonical(e, T_B);
        bad = emit_jump(e, CC_NE);
    }
    if (t->find.move_sp) emit_move_sp(t, t->find.move_sp);
    emit_exit_rip(t);
    if (!bad) return;
    emit_patch(bad, e->p);
    u64 gp;
    memcpy(&gp, &(struct exception){.vector = EXC_GP, .has_error = 1}, sizeof gp);
    emit_mov_imm64(e, T_A, gp);
    emit_store(e, T_A, STATE(exc));
    emit_rip(t, T_B, t->b->offset + t->i->off);
    emit_exit_rip(t);
}

/* The target in T_B must not lie beyond the limit of CS. */
static void emit_code_limit(struct tr *t, struct stub *s)
{
    if (!t->segmented) return;
    emit_alu_imm(&t->e, false, 7, T_B, (s32)t->limit);
    stub_from(t, s, CC_A);
}

static void emit_limit_slow(struct tr *t)
{
    struct emit *e = &t->e;
    if (!t->too_low.site) return;
    emit_patch(t->too_low.site, e->p);
    emit_call(t, t->bt->limit);
    emit_op(e, 0, 0, 0x85, T_A, rm_reg(T_A));
    emit_jump_to(e, CC_E, t->too_low.retry);
    stub_from(t, t->too_low.stub, CC_ALWAYS);
}

static void emit_unexpected(struct tr *t)
{
    struct emit *e = &t->e;
    const struct unexpected *u = &t->unexpected;
    if (!u->site) return;
    emit_patch(u->site, e->p);
    emit_call(t, t->segmented ? t->bt->unexpected_segmented : t->bt->unexpected);
    emit_op(e, E_W, 0, 0x85, T_A, rm_reg(T_A));
    u8 *found = emit_jump(e, CC_NE);
    if (t->segmented) {
        emit_op(e, 0, 0, 0x8b, T_B, rm_reg(T_B));
        emit_code_limit(t, u->stub);
        emit_indirect(t, u->stub, u->move_sp, false);
    } else {
        emit_call(t, t->bt->find);
        emit_op(e, E_W, 0, 0x85, T_A, rm_reg(T_A));
        stub_from(t, u->stub, CC_E);
        emit_enter_page(e, false);
    }
    emit_patch(found, e->p);
    emit_move_sp(t, u->move_sp);
    emit_op(e, 0, 0, 0xff, 4, rm_mem(T_A, offsetof(struct jump_entry, host)));
}

void emit_ways_out(struct tr *t)
{
    struct emit *e = &t->e;
    for (unsigned n = 0; n < t->nexits; n++) {
        const struct exit_jump *x = &t->exits[n];
        struct link *l = x->link;
        for (unsigned k = 0; k < 2; k++)
            if (x->misses[k]) emit_patch(x->misses[k], e->p);
        if (x->returns) {
            emit_near(e, 0x8d, T_B, x->returns);
            emit_push_host(e, T_B);
        }
        l->stub = e->p;
        emit_patch(l->site, e->p);
        if (x->settle) emit_call(t, t->bt->settle);
        emit_near(e, 0x8d, T_B, l);
        emit_jump_to(e, CC_ALWAYS, thunk_rw(t->bt, t->bt->link));
    }
    emit_unexpected(t);
    emit_find_slow(t);
    emit_limit_slow(t);
}

void emit_rip(struct tr *t, unsigned reg, s32 off)
{
    emit_load(&t->e, reg, STATE(page_rip));
    emit_lea(&t->e, t->is64, reg, rm_mem(reg, off));
}

void emit_poll(struct tr *t, s32 off)
{
    emit_load32(&t->e, T_B, STATE(events));
    emit_op(&t->e, 0, 0, 0x85, T_B, STATE(event_mask));
    u8 *none = emit_jump(&t->e, CC_E);
    emit_settle(t);
    emit_rip(t, T_B, off);
    emit_exit_rip(t);
    emit_patch(none, t->e.p);
    t->host = false;
}

void emit_exit_rip(struct tr *t) { emit_jump_to(&t->e, CC_ALWAYS, thunk_rw(t->bt, t->bt->exit_rip)); }

static struct side_exit *side_exit(struct tr *t, unsigned cc, s32 off)
{
    struct side_exit *x = &t->sides[t->nsides++];
    *x = (struct side_exit){.site = emit_jump(&t->e, cc), .insn = t->i, .off = off, .flags = t->flags, .fate = FLAGS_DEAD};
    return x;
}

/* A trace has got over a jump: to -d check that is the beginning of a block. */
static void next_piece(struct tr *t)
{
    if (!t->bt->check) return;
    flags_to_mem(t);
    emit_op(&t->e, 0, 0, 0x83, 5, STATE(blocks_left)); /* sub dword, 1 */
    emit8(&t->e, 1);
    t->host = false;
    side_exit(t, CC_S, t->b->offset + t->i[1].off)->counted = true;
}

/* In the middle of a trace: there is a jump only for the other way. */
static void translate_jcc_over(struct tr *t, s32 taken, s32 next)
{
    const bool jumps = t->b->offset + t->i[1].off == taken;
    const unsigned cc = (t->i->code & 15u) ^ jumps;
    const s32 off = jumps ? next : taken;
    const enum flags_fate fate = t->mem ? FLAGS_DEAD : flags_at(t, off);
    if (fate != FLAGS_DEAD || !in_page(off) || crosses_at(t, off)) side_exit(t, cc, off)->fate = (u8)fate;
    else emit_direct(t, cc, off);
    next_piece(t);
}

void emit_side_exits(struct tr *t)
{
    t->ahead = 0;
    for (unsigned n = 0; n < t->nsides; n++) {
        const struct side_exit *x = &t->sides[n];
        emit_patch(x->site, t->e.p);
        t->i = x->insn;
        t->flags = x->flags;
        if (x->fate == FLAGS_LIVE) emit_flags_save(&t->e);
        else if (x->fate == FLAGS_PENDING) flags_pend(t);
        if (x->counted) {
            emit_settle(t);
            emit_rip(t, T_B, x->off);
            emit_exit_rip(t);
        } else {
            emit_go(t, x->off);
        }
    }
}

static bool translate_jcc(struct tr *t)
{
    s32 taken, next = t->b->offset + t->i->off + t->i->len;
    if (!branch_target(t, &taken)) return false;
    flags_to_host(t);
    if (trace_goes_on(t)) {
        translate_jcc_over(t, taken, next);
        return true;
    }
    const unsigned cc = t->i->code & 15;
    const enum flags_fate at_taken = t->mem ? FLAGS_DEAD : flags_at(t, taken), at_next = t->mem ? FLAGS_DEAD : flags_at(t, next);
    if (at_taken == FLAGS_LIVE && at_next == FLAGS_LIVE) flags_to_mem(t);
    if (at_taken == FLAGS_PENDING || at_next == FLAGS_PENDING) flags_pend(t);
    if (at_taken == FLAGS_LIVE && at_next != FLAGS_LIVE) { /* saved only on the way that needs it */
        emit_direct(t, cc ^ 1, next);
        emit_flags_save(&t->e);
        t->entry = false;
        emit_go(t, taken);
        return true;
    }
    emit_direct(t, cc, taken);
    if (at_next == FLAGS_LIVE && at_taken != FLAGS_LIVE) {
        emit_flags_save(&t->e);
        t->entry = false;
    }
    emit_go(t, next);
    return true;
}

/* JCXZ and LOOP that count in CX. Flags are in memory. */
static bool translate_counted16(struct tr *t, s32 taken, s32 next)
{
    struct emit *e = &t->e;
    const unsigned m = t->i->mnemonic;
    u8 *not_taken = NULL;
    if (m != I_jcxz) emit_op(e, E_66, 0, 0x8d, H_CX, rm_mem(H_CX, -1));
    if (m == I_loope || m == I_loopne) {
        flags_to_host(t);
        not_taken = emit_jump(e, m == I_loope ? CC_NE : CC_E);
    }
    emit_op(e, E_66, 0, 0x85, H_CX, rm_reg(H_CX));
    t->host = false;
    registers_written(t, bit(H_CX));
    emit_direct(t, m == I_jcxz ? CC_E : CC_NE, taken);
    if (not_taken) emit_patch(not_taken, e->p);
    emit_go(t, next);
    return true;
}

/* JCXZ and LOOP as they are: they count in the same register, and leave the flags alone. */
static bool translate_counted(struct tr *t)
{
    struct emit *e = &t->e;
    s32 taken, next = t->b->offset + t->i->off + t->i->len;
    if (!branch_target(t, &taken)) return false;
    flags_to_mem(t);
    if (t->i->addrsize == 2) return translate_counted16(t, taken, next);
    if (t->i->code == 0xe0 || t->i->code == 0xe1) flags_to_host(t); /* LOOPNE, LOOPE */
    if (t->i->addrsize == 4) emit8(e, 0x67);
    emit8(e, t->i->code);
    emit8(e, 5); /* over the jump */
    u8 *site = emit_jump(e, CC_ALWAYS);
    t->host = false;
    registers_written(t, bit(H_CX));
    emit_go(t, taken);
    emit_patch(site, e->p);
    emit_go(t, next);
    return true;
}

static bool translate_jmp(struct tr *t)
{
    s32 target;
    if (!branch_target(t, &target)) return false;
    if (trace_goes_on(t)) {
        next_piece(t);
        return true;
    }
    flags_leave(t, target);
    emit_go(t, target);
    return true;
}

/* The return of a call can be expected where its block knows the page, and that there is no wrap. */
static bool expects_return(const struct tr *t)
{
    const s32 next = t->b->offset + t->i->off + t->i->len;
    return in_page(next) && !(t->segmented && t->i->opsize == 2 && t->page_rip + (u32)next > 0xffff);
}

void emit_compare_returns(struct tr *t)
{
    emit_op(&t->e, E_W, 0, 0x3b, H_SP, rm_cpu(offsetof(struct cpu, return_limit) + t->context * sizeof(u64)));
}

/* Push the return address, also in T_B, without moving the stack pointer yet. */
static struct stub *emit_push_return(struct tr *t)
{
    struct emit *e = &t->e;
    const s32 size = t->i->opsize;
    struct stub *s = new_stub(t);
    t->too_low.retry = e->p;
    t->too_low.stub = s;
    emit_compare_returns(t);
    t->too_low.site = emit_jump(e, CC_B);
    struct group *g = group_member(t);
    if (g) group_address(t, g);
    else emit_stack(t, s, H_GSP, -size, (unsigned)size, true);
    emit_rip(t, T_B, t->b->offset + t->i->off + t->i->len);
    emit_op(e, size_prefix((unsigned)size), 0, 0x89, T_B, t->at);
    return s;
}

/* Where the expected return goes on. */
static void emit_return_point(struct tr *t)
{
    emit_pop_host(&t->e, T_B);
    if (t->segmented) emit_mov_imm64(&t->e, T_B, t->page_rip);
    else emit_alu_imm(&t->e, true, 4, T_B, -(s32)GUEST_PAGE_SIZE);
    emit_store(&t->e, T_B, STATE(page_rip));
    emit_direct(t, CC_ALWAYS, t->b->offset + t->i->off + t->i->len)->quiet = true;
}

static bool translate_call(struct tr *t)
{
    const s32 size = t->i->opsize;
    s32 target;
    if (!stack_size_ok(t) || !branch_target(t, &target)) return false;
    const bool expected = expects_return(t);
    flags_call(t, target);
    emit_push_return(t);
    if (expected && t->segmented) emit_return_rip(t);
    if (expected) emit_push_host(&t->e, T_B);
    emit_move_sp(t, -size);
    t->ahead = t->segmented ? 0 : t->b->offset + t->i->off + t->i->len;
    struct link *l = emit_direct(t, expected ? CC_CALL : CC_ALWAYS, target);
    t->ahead = 0;
    l->pushed = (s8)size;
    l->quiet = true;
    if (expected) emit_return_point(t);
    return true;
}

static bool translate_ret(struct tr *t)
{
    const s32 size = t->i->opsize;
    if (!stack_size_ok(t)) return false;
    struct emit *e = &t->e;
    flags_to_mem(t);
    struct stub *s = new_stub(t);
    if (t->poll) {
        emit_load32(e, T_B, STATE(events));
        emit_op(e, 0, 0, 0x85, T_B, STATE(event_mask));
        stub_from(t, s, CC_NE);
    }
    struct group *g = group_member(t);
    if (g) group_address(t, g);
    else emit_stack(t, s, H_GSP, 0, (unsigned)size, false);
    emit_load_size(e, (unsigned)size, T_B, t->at);
    if (t->segmented) emit_op(e, E_W, 0, 0x03, T_B, STATE(code_tag));
    emit_op(e, E_W, 0, 0x3b, T_B, rm_mem(H_SP, offsetof(struct return_entry, rip)));
    t->unexpected.site = emit_jump(e, CC_NE);
    t->unexpected.stub = s;
    t->unexpected.move_sp = size + (t->i->operands[0].kind == OPND_IMM ? (u16)t->i->imm : 0);
    emit_move_sp(t, t->unexpected.move_sp);
    emit8(e, 0xc3);
    return true;
}

static bool translate_indirect(struct tr *t, bool call)
{
    const struct insn *i = t->i;
    const s32 size = t->i->opsize;
    const struct operand *o = &i->operands[0];
    const bool mem = o->kind == OPND_MEM, expected = call && expects_return(t);
    if (!stack_size_ok(t) || (mem && !address_ok(t))) return false;
    flags_to_mem(t);
    struct stub *s = new_stub(t);
    if (mem) {
        emit_address(t, s, (unsigned)size, false);
        emit_load_size(&t->e, (unsigned)size, T_B, t->at);
        emit_code_limit(t, s);
    }
    if (call) {
        /* First the operand, so that its fault comes first; then the push. */
        if (mem) emit_store(&t->e, T_B, STATE(target));
        s = emit_push_return(t);
        if (mem) emit_load(&t->e, T_B, STATE(target));
    }
    if (!mem && resident(o->reg)) emit_load_size(&t->e, (unsigned)size, T_B, rm_reg(host_reg(o->reg)));
    else if (!mem) emit_load(&t->e, T_B, guest_mem(o->reg));
    if (!mem) emit_code_limit(t, s);
    /* The push can have changed the operand, which the handler would read again. */
    emit_indirect(t, call && mem ? NULL : s, call ? -size : 0, expected);
    if (expected) emit_return_point(t);
    return true;
}

bool translate_jump(struct tr *t, bool *ended)
{
    const struct insn *i = t->i;
    *ended = !trace_goes_on(t);
    switch (i->mnemonic) {
    case I_jcc: return translate_jcc(t);
    case I_jmp: return i->operands[0].kind == OPND_REL ? translate_jmp(t) : translate_indirect(t, false);
    case I_call: return i->operands[0].kind == OPND_REL ? translate_call(t) : translate_indirect(t, true);
    case I_ret: return translate_ret(t);
    case I_jcxz:
    case I_loop:
    case I_loope:
    case I_loopne: return *ended = translate_counted(t);
    default: return *ended = false;
    }
}
