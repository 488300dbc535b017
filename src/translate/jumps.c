/* Control transfers: direct jumps are linked to their target (link.c), indirect ones look it up in the jump cache, returns first
 * where the call left word. */
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
    *l = (struct link){.page = NO_PAGE, .from = t->b, .target = off, .insn = (u16)(t->b->offset + t->i->off),
                       .within = in_page(off) && !other_mode && !crosses_at(t, off)};
    *x = (struct exit_jump){.link = l, .settle = t->entry};
    if (l->within) {
        l->site = emit_jump(e, cc);
        return l;
    }
    u8 *skip = cc == CC_ALWAYS ? NULL : emit_jump(e, cc ^ 1);
    emit_load(e, T_B, STATE(page_rip));
    emit_load(e, T_A, STATE(code_key));
    emit_near(e, 0x3b, T_B, &l->page);
    x->misses[0] = emit_jump(e, CC_NE);
    emit_near(e, 0x3b, T_A, &l->key);
    x->misses[1] = emit_jump(e, CC_NE);
    emit_lea(e, t->is64, T_B, rm_mem(T_B, off & -(s32)GUEST_PAGE_SIZE));
    emit_store(e, T_B, STATE(page_rip));
    l->site = emit_jump(e, CC_ALWAYS);
    if (skip) emit_patch(skip, e->p);
    return l;
}

static struct link *emit_direct(struct tr *t, unsigned cc, s32 off) { return emit_link(t, cc, off, false); }

void emit_go_mode(struct tr *t, s32 off) { emit_link(t, CC_ALWAYS, off, true); }

void emit_go(struct tr *t, s32 off) { emit_direct(t, CC_ALWAYS, off); }

void emit_ways_out(struct tr *t)
{
    struct emit *e = &t->e;
    for (unsigned n = 0; n < t->nexits; n++) {
        const struct exit_jump *x = &t->exits[n];
        struct link *l = x->link;
        l->stub = e->p;
        emit_patch(l->site, e->p);
        for (unsigned k = 0; k < 2; k++)
            if (x->misses[k]) emit_patch(x->misses[k], e->p);
        if (x->settle) emit_call(t, t->bt->settle);
        emit_near(e, 0x8d, T_B, l);
        emit_jump_to(e, CC_ALWAYS, thunk_rw(t->bt, t->bt->link));
    }
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
    if (t->find.move_sp) emit_move_sp(t, t->find.move_sp);
    emit_exit_rip(t);
}

/* The target in T_B must not lie beyond the limit of CS. */
static void emit_code_limit(struct tr *t, struct stub *s)
{
    if (!t->segmented) return;
    emit_alu_imm(&t->e, false, 7, T_B, (s32)t->limit);
    stub_from(t, s, CC_A);
}

/* Look T_B, the target's RIP, up in the jump cache, and go there with the stack pointer moved; on a miss the stub does all of
 * the instruction again, from the unchanged state. Without a stub any target is valid. */
static void emit_indirect(struct tr *t, struct stub *s, s32 move_sp)
{
    struct emit *e = &t->e;
    _Static_assert(sizeof(struct jump_entry) == 32, "shift below");
    if (t->segmented) {
        emit_store(e, T_B, STATE(target));
        emit_op(e, 0, 0, 0x03, T_B, STATE(win[SEG_CS].base));
    }
    emit_store(e, T_B, rm_reg(T_A));
    emit_shift(e, 5, T_A, 13);
    emit_op(e, 0, 0, 0x33, T_A, rm_reg(T_B));
    emit_alu_imm(e, false, 4, T_A, JUMP_ENTRIES - 1);
    emit_shift(e, 4, T_A, 5);
    emit_op(e, E_W, 0, 0x03, T_A, STATE(jumps));
    emit_op(e, E_W, 0, 0x3b, T_B, rm_mem(T_A, offsetof(struct jump_entry, lin)));
    t->find.misses[0] = emit_jump(e, CC_NE);
    emit_load(e, T_B, STATE(code_key));
    emit_op(e, E_W, 0, 0x3b, T_B, rm_mem(T_A, offsetof(struct jump_entry, key)));
    t->find.misses[1] = emit_jump(e, CC_NE);
    t->find.back = e->p;
    t->find.stub = s;
    t->find.move_sp = move_sp;
    if (move_sp) emit_move_sp(t, move_sp);
    if (t->segmented) {
        emit_load(e, T_B, rm_mem(T_A, offsetof(struct jump_entry, block)));
        emit_load32(e, T_B, rm_mem(T_B, offsetof(struct block, place)));
    } else {
        emit_load(e, T_B, rm_mem(T_A, offsetof(struct jump_entry, lin)));
        emit_alu_imm(e, true, 4, T_B, -(s32)GUEST_PAGE_SIZE);
    }
    emit_store(e, T_B, STATE(page_rip));
    emit_op(e, 0, 0, 0xff, 4, rm_mem(T_A, offsetof(struct jump_entry, host)));
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

/* ---- predicted returns ---- */

/* The entry for the stack pointer whose low bits T_A is to have. */
static struct rm return_entry(struct tr *t, size_t field)
{
    _Static_assert(sizeof(struct return_entry) == 16, "scale below");
    struct rm m = rm_gs(offsetof(struct cpu, returns) + t->context * sizeof t->cpu->returns[0] + field);
    m.index = T_A;
    m.scale = 1;
    return m;
}

/* A call has pushed T_B, its return address, `size` bytes below the stack pointer: remember it. Returns the displacement that
 * emit_return_point() needs; NULL: not remembered. Uses T_A and T_B. Segmented code: for this code segment only. */
static u8 *emit_expect_return(struct tr *t, s32 size)
{
    struct emit *e = &t->e;
    const s32 next = t->b->offset + t->i->off + t->i->len;
    if (!in_page(next)) return NULL;
    if (t->segmented) {
        if (size == 2 && t->page_rip + (u32)next > 0xffff) return NULL;
        emit_rip(t, T_B, next);
        emit_op(e, E_W, 0, 0x03, T_B, STATE(code_tag));
    }
    emit_lea(e, false, T_A, rm_mem(H_GSP, -size));
    emit_alu_imm(e, false, 4, T_A, (RETURN_ENTRIES - 1) << 3);
    emit_store(e, T_B, return_entry(t, offsetof(struct return_entry, rip)));
    emit_near(e, 0x8d, T_B, e->p);
    u8 *site = e->p - 4;
    emit_store(e, T_B, return_entry(t, offsetof(struct return_entry, host)));
    return site;
}

/* Where the predicted return goes on: T_B is its RIP. */
static void emit_return_point(struct tr *t, u8 *site)
{
    if (!site) return;
    emit_patch(site, t->e.p);
    if (t->segmented) emit_mov_imm64(&t->e, T_B, t->page_rip);
    else emit_alu_imm(&t->e, true, 4, T_B, -(s32)GUEST_PAGE_SIZE);
    emit_store(&t->e, T_B, STATE(page_rip));
    emit_direct(t, CC_ALWAYS, t->b->offset + t->i->off + t->i->len)->poll = true;
}

static bool translate_jcc(struct tr *t)
{
    s32 taken, next = t->b->offset + t->i->off + t->i->len;
    if (!branch_target(t, &taken)) return false;
    flags_to_host(t);
    const unsigned cc = t->i->code & 15;
    const enum flags_fate at_taken = t->mem ? FLAGS_DEAD : flags_at(t, taken), at_next = t->mem ? FLAGS_DEAD : flags_at(t, next);
    if (at_taken == FLAGS_LIVE && at_next == FLAGS_LIVE) flags_to_mem(t);
    if (at_taken == FLAGS_PENDING || at_next == FLAGS_PENDING) flags_pend(t);
    if (at_taken == FLAGS_LIVE && at_next != FLAGS_LIVE) { /* saved only on the way that needs it */
        u8 *site = emit_jump(&t->e, cc);
        emit_go(t, next);
        emit_patch(site, t->e.p);
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
    flags_leave(t, target);
    emit_go(t, target);
    return true;
}

/* Push the return address without moving the stack pointer yet. */
static struct stub *emit_push_return(struct tr *t)
{
    const s32 size = t->i->opsize, next = t->b->offset + t->i->off + t->i->len;
    struct stub *s = new_stub(t);
    emit_stack(t, s, H_GSP, -size, (unsigned)size, true);
    emit_rip(t, T_B, next);
    emit_op(&t->e, size_prefix((unsigned)size), 0, 0x89, T_B, t->at);
    return s;
}

static bool translate_call(struct tr *t)
{
    const s32 size = t->i->opsize;
    s32 target;
    if (!stack_size_ok(t) || !branch_target(t, &target)) return false;
    flags_to_mem(t);
    emit_push_return(t);
    u8 *expected = emit_expect_return(t, size);
    emit_move_sp(t, -size);
    emit_direct(t, CC_ALWAYS, target)->pushed = (s8)size;
    emit_return_point(t, expected);
    return true;
}

static bool translate_ret(struct tr *t)
{
    const s32 size = t->i->opsize;
    if (!stack_size_ok(t)) return false;
    flags_to_mem(t);
    struct stub *s = new_stub(t);
    emit_stack(t, s, H_GSP, 0, (unsigned)size, false);
    emit_load_size(&t->e, (unsigned)size, T_B, t->at);
    const s32 move_sp = size + (t->i->operands[0].kind == OPND_IMM ? (u16)t->i->imm : 0);
    struct emit *e = &t->e;
    emit_op(e, 0, 0, 0x8b, T_A, rm_reg(H_GSP));
    emit_alu_imm(e, false, 4, T_A, (RETURN_ENTRIES - 1) << 3);
    if (t->segmented) emit_op(e, E_W, 0, 0x03, T_B, STATE(code_tag));
    emit_op(e, E_W, 0, 0x3b, T_B, return_entry(t, offsetof(struct return_entry, rip)));
    u8 *other = emit_jump(e, CC_NE);
    emit_move_sp(t, move_sp);
    emit_op(e, 0, 0, 0xff, 4, return_entry(t, offsetof(struct return_entry, host)));
    emit_patch(other, e->p);
    if (t->segmented) emit_op(e, 0, 0, 0x8b, T_B, rm_reg(T_B));
    emit_code_limit(t, s);
    emit_indirect(t, s, move_sp);
    return true;
}

static bool translate_indirect(struct tr *t, bool call)
{
    const struct insn *i = t->i;
    const s32 size = i->opsize;
    const struct operand *o = &i->operands[0];
    bool mem = o->kind == OPND_MEM;
    if (!stack_size_ok(t) || (mem && !address_ok(t))) return false;
    /* The push could change the operand, which the handler would read again: it does not get there when no target can be wrong but
     * by the limit, which is looked at before. */
    const bool again = t->is64;
    if (call && mem && again && (i->base == R_SP || i->index == R_SP)) return false;
    flags_to_mem(t);
    struct stub *s;
    u8 *expected = NULL;
    if (call) {
        /* First the operand, so that its fault comes first; then the push. */
        if (mem) {
            s = new_stub(t);
            emit_address(t, s, (unsigned)size, false);
            emit_load_size(&t->e, (unsigned)size, T_B, t->at);
            emit_code_limit(t, s);
            emit_store(&t->e, T_B, STATE(target));
        }
        s = emit_push_return(t);
        expected = emit_expect_return(t, size);
    } else {
        s = new_stub(t);
        if (mem) emit_address(t, s, (unsigned)size, false);
    }
    if (mem && call) emit_load(&t->e, T_B, STATE(target));
    else if (mem) emit_load_size(&t->e, (unsigned)size, T_B, t->at);
    else if (resident(o->reg)) emit_load_size(&t->e, (unsigned)size, T_B, rm_reg(host_reg(o->reg)));
    else emit_load(&t->e, T_B, guest_mem(o->reg));
    if (!(call && mem)) emit_code_limit(t, s);
    emit_indirect(t, call && mem && !again ? NULL : s, call ? -size : 0);
    emit_return_point(t, expected);
    return true;
}

bool translate_jump(struct tr *t, bool *ended)
{
    const struct insn *i = t->i;
    *ended = true;
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
