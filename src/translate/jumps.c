/* Control transfers: direct jumps chain within a page, the others look their target up. */
#include "translate/tr.h"

/* Page offset of a direct branch's target; false: by handler. */
static bool branch_target(const struct tr *t, s32 *off)
{
    const struct insn *i = t->i;
    s64 target = (s64)t->b->offset + i->off + i->len + (s64)i->imm;
    if (i->opsize == 2 || target != (s32)target) return false;
    *off = (s32)target;
    return true;
}

/* A block at this page offset that is already translated. */
static const struct block *translated_at(const struct tr *t, s32 off)
{
    const struct code_page *p = t->bt->cache.pages[t->b->page];
    for (const struct block *b = p->buckets[off % PAGE_BUCKETS]; b; b = b->next)
        if (b->offset == off && b->mode == t->b->mode) return b->host ? b : NULL;
    return NULL;
}

/* Jump within the page. */
static void emit_direct(struct tr *t, unsigned cc, s32 off)
{
    u8 *site = emit_jump(&t->e, cc);
    const struct block *to = translated_at(t, off);
    if (to) {
        emit_patch(site, thunk_rw(t->bt, is_forward(t, off) ? to->host_forward : to->host));
        return;
    }
    t->exits[t->nexits++] = (struct exit_jump){site, off};
}

/* Look T_B, the target's RIP, up: go on with T_A at the entry, or at *miss[] with nothing but the scratch registers changed; T_B
 * is still the RIP, after the second miss only as the entry's `lin`. */
static void emit_lookup(struct tr *t, u8 *miss[2])
{
    struct emit *e = &t->e;
    _Static_assert(sizeof(struct jump_entry) == 32, "shift below");
    emit_store(e, T_B, rm_reg(T_A));
    emit_shift(e, 5, T_A, 13);
    emit_op(e, 0, 0, 0x33, T_A, rm_reg(T_B));
    emit_alu_imm(e, false, 4, T_A, JUMP_ENTRIES - 1);
    emit_shift(e, 4, T_A, 5);
    emit_op(e, E_W, 0, 0x03, T_A, STATE(jumps));
    emit_op(e, E_W, 0, 0x3b, T_B, rm_mem(T_A, offsetof(struct jump_entry, lin)));
    miss[0] = emit_jump(e, CC_NE);
    emit_mov_imm64(e, T_B, (u64)t->b->mode << 56);
    emit_op(e, E_W, 0, 0x03, T_B, STATE(code_gen));
    emit_op(e, E_W, 0, 0x3b, T_B, rm_mem(T_A, offsetof(struct jump_entry, key)));
    miss[1] = emit_jump(e, CC_NE);
}

static void emit_enter_entry(struct tr *t)
{
    struct emit *e = &t->e;
    emit_load(e, T_B, rm_mem(T_A, offsetof(struct jump_entry, lin)));
    emit_alu_imm(e, true, 4, T_B, -(s32)GUEST_PAGE_SIZE);
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
    emit_rip(t, T_B, off);
    emit_exit_rip(t);
    emit_patch(none, t->e.p);
    t->host = false;
}

void emit_exit_rip(struct tr *t) { emit_jump_to(&t->e, CC_ALWAYS, thunk_rw(t->bt, t->bt->exit_rip)); }

/* Jump out of the page, flags in memory. */
static void emit_far_jump(struct tr *t, s32 off)
{
    u8 *miss[2];
    emit_rip(t, T_B, off);
    emit_lookup(t, miss);
    emit_enter_entry(t);
    emit_patch(miss[1], t->e.p);
    emit_load(&t->e, T_B, rm_mem(T_A, offsetof(struct jump_entry, lin)));
    emit_patch(miss[0], t->e.p);
    emit_exit_rip(t);
}

void emit_go(struct tr *t, s32 off)
{
    if (in_page(off)) emit_direct(t, CC_ALWAYS, off);
    else emit_far_jump(t, off);
}

static bool translate_jcc(struct tr *t)
{
    s32 taken, next = t->b->offset + t->i->off + t->i->len;
    if (!branch_target(t, &taken)) return false;
    flags_to_host(t);
    if (!t->mem && !(flags_dead_at(t, taken) && flags_dead_at(t, next))) flags_to_mem(t);
    unsigned cc = t->i->code & 15;
    if (in_page(taken)) {
        emit_direct(t, cc, taken);
        emit_go(t, next);
    } else {
        u8 *site = emit_jump(&t->e, cc);
        emit_go(t, next);
        emit_patch(site, t->e.p);
        emit_far_jump(t, taken);
    }
    return true;
}

static bool translate_jmp(struct tr *t)
{
    s32 target;
    if (!branch_target(t, &target)) return false;
    if (!flags_dead_at(t, target)) flags_to_mem(t);
    emit_go(t, target);
    return true;
}

/* Push the return address without moving the stack pointer yet. */
static struct stub *emit_push_return(struct tr *t)
{
    const s32 size = t->is64 ? 8 : 4, next = t->b->offset + t->i->off + t->i->len;
    struct stub *s = new_stub(t);
    emit_probe(t, s, H_GSP, -size, (unsigned)size, true);
    emit_rip(t, T_B, next);
    emit_op(&t->e, t->is64 ? E_W : 0, 0, 0x89, T_B, t->at);
    return s;
}

static bool translate_call(struct tr *t)
{
    const s32 size = t->is64 ? 8 : 4;
    s32 target;
    if (t->i->opsize != size || !branch_target(t, &target)) return false;
    flags_to_mem(t);
    struct stub *s = emit_push_return(t);
    if (in_page(target)) {
        emit_move_sp(t, -size);
        emit_direct(t, CC_ALWAYS, target);
    } else {
        u8 *miss[2];
        emit_rip(t, T_B, target);
        emit_lookup(t, miss);
        emit_move_sp(t, -size);
        emit_enter_entry(t);
        s->sites[s->nsites++] = miss[0];
        s->sites[s->nsites++] = miss[1];
    }
    return true;
}

/* On a miss the handler does it all again, from the unchanged state. */
static void emit_indirect(struct tr *t, struct stub *s, s32 move_sp)
{
    u8 *miss[2];
    emit_lookup(t, miss);
    if (move_sp) emit_move_sp(t, move_sp);
    emit_enter_entry(t);
    s->sites[s->nsites++] = miss[0];
    s->sites[s->nsites++] = miss[1];
}

static bool translate_ret(struct tr *t)
{
    const s32 size = t->is64 ? 8 : 4;
    if (t->i->opsize != size) return false;
    flags_to_mem(t);
    struct stub *s = new_stub(t);
    emit_probe(t, s, H_GSP, 0, (unsigned)size, false);
    emit_op(&t->e, t->is64 ? E_W : 0, 0, 0x8b, T_B, t->at);
    emit_indirect(t, s, size + (t->i->operands[0].kind == OPND_IMM ? (u16)t->i->imm : 0));
    return true;
}

static bool translate_indirect(struct tr *t, bool call)
{
    const struct insn *i = t->i;
    const s32 size = t->is64 ? 8 : 4;
    const struct operand *o = &i->operands[0];
    bool mem = o->kind == OPND_MEM;
    if (i->opsize != size || (mem && !address_ok(t))) return false;
    /* The push could change the operand, which the handler would read again. */
    if (call && mem && (i->base == R_SP || i->index == R_SP)) return false;
    flags_to_mem(t);
    struct stub *s;
    if (call) {
        /* First the operand, so that its fault comes first; then the push. */
        if (mem) {
            s = new_stub(t);
            emit_address(t, s, (unsigned)size, false);
            emit_op(&t->e, t->is64 ? E_W : 0, 0, 0x8b, T_B, t->at);
            emit_store(&t->e, T_B, STATE(target));
        }
        s = emit_push_return(t);
    } else {
        s = new_stub(t);
        if (mem) emit_address(t, s, (unsigned)size, false);
    }
    if (mem && call) emit_load(&t->e, T_B, STATE(target));
    else if (mem) emit_op(&t->e, t->is64 ? E_W : 0, 0, 0x8b, T_B, t->at);
    else if (resident(o->reg)) emit_op(&t->e, t->is64 ? E_W : 0, 0, 0x8b, T_B, rm_reg(host_reg(o->reg)));
    else emit_load(&t->e, T_B, guest_mem(o->reg));
    emit_indirect(t, s, call ? -size : 0);
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
    default: return *ended = false;
    }
}

void translate_link(struct link *l, const struct block *to, const struct bt *bt)
{
    emit_patch(l->site, thunk_rw(bt, l->forward ? to->host_forward : to->host));
}
