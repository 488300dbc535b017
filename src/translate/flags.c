/* Where the guest's arithmetic flags are while a block is translated: in the host's, in cpu->aflags, or recoverable. */
#include "translate/tr.h"

#include "cpu/exec.h"

#define LOOK_AHEAD 8 /* instructions */

void emit_flags_save(struct emit *e)
{
    emit_store(e, H_AX, rm_reg(T_B));
    emit8(e, 0x9f); /* lahf */
    emit_op(e, 0, 1, 0x90, 0, rm_reg(H_AX)); /* seto al */
    emit_op(e, E_66, 0, 0x89, H_AX, STATE(aflags));
    emit_load(e, H_AX, rm_reg(T_B));
}

void emit_flags_restore(struct emit *e)
{
    emit_store(e, H_AX, rm_reg(T_B));
    emit_op(e, 0, 1, 0xb7, H_AX, STATE(aflags));
    emit8(e, 0x04); /* add al, 7fh: OF */
    emit8(e, 0x7f);
    emit8(e, 0x9e); /* sahf */
    emit_load(e, H_AX, rm_reg(T_B));
}

void emit_eflags(struct emit *e, unsigned reg, unsigned scratch)
{
    emit_op(e, 0, 1, 0xb7, scratch, STATE(aflags));
    emit_op(e, 0, 0, 0x8b, reg, rm_reg(scratch));
    emit_shift(e, 5, reg, 8);
    emit_alu_imm(e, false, 4, reg, 0xd5);
    emit_alu_imm(e, false, 4, scratch, 1);
    emit_shift(e, 4, scratch, 11);
    emit_op(e, 0, 0, 0x0b, reg, rm_reg(scratch));
    emit_op(e, 0, 0, 0x0b, reg, STATE(eflags));
}

void emit_set_aflags(struct emit *e)
{
    emit_alu_imm(e, false, 4, T_A, 0xd5);
    emit_shift(e, 4, T_A, 8);
    emit_shift(e, 5, T_B, 11);
    emit_alu_imm(e, false, 4, T_B, 1);
    emit_op(e, 0, 0, 0x0b, T_A, rm_reg(T_B));
    emit_op(e, E_66, 0, 0x89, T_A, STATE(aflags));
}

void emit_carry(struct emit *e)
{
    emit_op(e, E_66, 1, 0xba, 4, STATE(aflags)); /* bt */
    emit8(e, 8);
}

void flags_to_host(struct tr *t)
{
    if (t->host) return;
    if (t->rec_len) emit_bytes(&t->e, t->rec, t->rec_len);
    else emit_flags_restore(&t->e);
    t->host = true;
}

void flags_carry_to_host(struct tr *t)
{
    if (t->host) return;
    if (!t->mem && !t->carry_mem) {
        flags_to_host(t);
        return;
    }
    emit_carry(&t->e);
}

void flags_to_mem(struct tr *t)
{
    if (t->mem) return;
    flags_to_host(t);
    emit_flags_save(&t->e);
    t->mem = true;
}

void flags_before(struct tr *t, bool clobbers, u32 written, bool full)
{
    if (t->mem) {
        if (clobbers) t->host = false;
        return;
    }
    const bool conflict = !full && (t->rec_regs & written) && !(t->rec_len && flags_unseen(t));
    if (clobbers) {
        if (!t->rec_len || conflict) flags_to_mem(t);
        t->host = false;
    } else if (conflict) {
        flags_to_host(t);
    }
}

void registers_written(struct tr *t, u32 written)
{
    if (t->rec_len && (t->rec_regs & written)) t->rec_len = 0, t->rec_regs = 0;
}

void flags_made(struct tr *t)
{
    t->host = true;
    t->mem = t->entry = t->carry_mem = false;
    t->rec_len = 0;
}

/* ---- across blocks ----
 *
 * At a block's end the flags are in cpu->aflags, or nobody will see them: all successors overwrite them before anything reads them.
 * Until then a fault or an interrupt must find them all the same. So the block leaves, in the place of the flags, where the code
 * is that computes them: an offset in code memory, times 4, with AFLAG_PENDING. It is valid as long as the registers it
 * depends on stay. The ways out of translated code that lie before the successor's first change of the flags have it run
 * (bt->settle). */

static u32 written_register(const struct insn *i)
{
    const struct operand *o = &i->operands[0];
    u32 sp = i->mnemonic == I_push || i->mnemonic == I_pop ? bit(H_GSP) : 0;
    if (i->mnemonic == I_cbw) return bit(H_AX);
    if (i->mnemonic == I_cwd) return bit(H_DX);
    if ((o->kind != OPND_GPR && o->kind != OPND_GPRH) || !(o->access & OPND_WRITE) || !resident(o->reg)) return sp;
    return sp | bit(host_reg(o->reg));
}

/* What has become of the flags on the way to a place. */
struct way {
    bool faults;   /* something before it may fault */
    bool merged;   /* there are others, which only part of them can be seen in */
    bool lost;     /* what the flags are computed from is not there any more */
    unsigned hops; /* jumps that may still be followed */
};

static enum flags_fate look_ahead(struct tr *t, struct code_page *p, s32 off, struct way w)
{
    const u8 *code = t->cpu->ram->host + (t->b->page << GUEST_PAGE_SHIFT);
    const s32 start = off;
    /* Beyond the limit of CS there is a fault. */
    if (t->segmented && (u64)(u32)(t->page_rip + (u32)off) + 8 * 15 > t->limit) return FLAGS_LIVE;
    for (unsigned n = 0; n < LOOK_AHEAD && off < (s32)GUEST_PAGE_SIZE; n++) {
        struct insn i;
        int len = decode(&i, code + off, GUEST_PAGE_SIZE - (unsigned)off, t->cpu->code_size);
        if (len <= 0 || (i.prefixes & PFX_LOCK)) return FLAGS_LIVE;
        if (p->changes[off >> GRANULE_SHIFT]) return FLAGS_LIVE; /* or this block dies when that is patched again */
        bool memory = i.mnemonic == I_push || i.mnemonic == I_pop || i.mnemonic == I_call;
        for (unsigned k = 0; k < i.noperands; k++) memory |= i.operands[k].kind == OPND_MEM && i.mnemonic != I_lea;
        if (memory && (w.lost || w.merged)) return FLAGS_LIVE;
        w.faults |= memory;
        off += len;
        switch (i.mnemonic) {
        case I_lea:
            if (t->is64 && (i.opsize == 2 || i.addrsize != 8)) return FLAGS_LIVE;
            break;
        case I_mov: case I_movzx: case I_movsx: case I_movsxd: case I_cbw: case I_cwd: case I_nop: case I_not: case I_push:
        case I_pop: break;
        case I_add: case I_sub: case I_and: case I_or: case I_xor: case I_cmp: case I_test: case I_neg: case I_shl:
        case I_shr: case I_sar: case I_rol: case I_ror: case I_inc: case I_dec: case I_imul: {
            struct flag_use u = flags_of(&i);
            if (u.merges && !memory) {
                w.merged = true;
                break;
            }
            if (!u.full || u.needs) return FLAGS_LIVE;
            block_depends(t->cpu, p, t->b, (unsigned)start, (unsigned)(off - start));
            return w.faults || !w.lost ? FLAGS_PENDING : FLAGS_DEAD;
        }
        case I_jmp: case I_call: {
            const s64 target = off + (s64)i.imm;
            if (w.merged || i.operands[0].kind != OPND_REL || i.opsize == 2 || t->segmented || target < 0 || target >= (s32)GUEST_PAGE_SIZE ||
                !w.hops--)
                return FLAGS_LIVE;
            w.lost |= i.mnemonic == I_call && (t->rec_regs & bit(H_GSP));
            const enum flags_fate fate = look_ahead(t, p, (s32)target, w);
            if (fate != FLAGS_LIVE) block_depends(t->cpu, p, t->b, (unsigned)start, (unsigned)(off - start));
            return fate;
        }
        default:
            if (!simd_needs(t, &i) || i.opcode->reads || i.opcode->writes || i.opcode->undefined || w.lost) return FLAGS_LIVE;
            w.faults = true; /* it may not exist */
            w.lost |= (t->rec_regs & simd_writes(&i)) != 0;
        }
        w.lost |= (t->rec_regs & written_register(&i)) != 0;
    }
    return FLAGS_LIVE;
}

static enum flags_fate fate_at(struct tr *t, s32 off, bool lost)
{
    if (!in_page(off)) return FLAGS_LIVE;
    struct block_cache *in = &t->bt->cache;
    struct code_page *p = in->pages[t->b->page];
    enum flags_fate fate = FLAGS_LIVE;
    if (block_show(t->cpu, in, p, 0, GUEST_PAGE_SIZE)) fate = look_ahead(t, p, off, (struct way){.lost = lost, .hops = 2});
    block_shown(t->cpu, in, p);
    return fate;
}

enum flags_fate flags_at(struct tr *t, s32 off) { return fate_at(t, off, !t->rec_len || t->carry_mem); }

bool flags_unseen(const struct tr *t)
{
    const struct block *b = t->b;
    for (const struct insn *i = t->i + 1; i < b->insns + b->count; i++) {
        if (i->fn == exec_undefined || !i->opcode || (i->prefixes & PFX_LOCK)) return false;
        for (unsigned k = 0; k < i->noperands; k++) {
            const unsigned kind = i->operands[k].kind;
            if (kind != OPND_GPR && kind != OPND_GPRH && kind != OPND_IMM && !(kind == OPND_MEM && i->mnemonic == I_lea)) return false;
        }
        switch (i->mnemonic) {
        case I_lea: case I_mov: case I_movzx: case I_movsx: case I_movsxd: case I_cbw: case I_cwd: case I_nop: case I_not: break;
        case I_add: case I_sub: case I_and: case I_or: case I_xor: case I_cmp: case I_test: case I_neg: case I_shl:
        case I_shr: case I_sar: case I_rol: case I_ror: case I_inc: case I_dec: case I_imul: {
            const struct flag_use u = flags_of(i);
            if (u.full && !u.needs) return true;
            if (u.needs && !u.merges) return false;
            break;
        }
        default: return false;
        }
    }
    return false;
}

bool flags_worth(struct tr *t, u32 regs)
{
    const struct insn *jcc = t->i + 1;
    if (t->segmented || jcc == t->b->insns + t->b->count || jcc->mnemonic != I_jcc) return false;
    const s64 next = t->b->offset + jcc->off + jcc->len, taken = next + (s64)jcc->imm;
    const u32 before = t->rec_regs;
    t->rec_regs = regs;
    const bool worth = fate_at(t, (s32)next, false) == FLAGS_PENDING ||
                       (taken == (s32)taken && fate_at(t, (s32)taken, false) == FLAGS_PENDING);
    t->rec_regs = before;
    return worth;
}

void flags_pend(struct tr *t)
{
    if (t->mem) return;
    emit_op(&t->e, 0, 0, 0xc7, 0, STATE(aflags));
    emit32(&t->e, 0);
    t->pending_site = t->e.p - 4;
    t->mem = t->entry = true;
}

void flags_leave(struct tr *t, s32 off)
{
    if (t->mem) return;
    switch (flags_at(t, off)) {
    case FLAGS_LIVE: flags_to_mem(t); break;
    case FLAGS_PENDING: flags_pend(t); break;
    case FLAGS_DEAD: break;
    }
}

void flags_call(struct tr *t, s32 off)
{
    if (t->mem) return;
    const bool lost = t->rec_regs & bit(H_GSP);
    switch (t->rec_len && !t->carry_mem ? fate_at(t, off, lost) : FLAGS_LIVE) {
    case FLAGS_LIVE: flags_to_mem(t); break;
    case FLAGS_PENDING: flags_pend(t); break;
    case FLAGS_DEAD: break;
    }
}

void emit_pending(struct tr *t)
{
    struct emit *e = &t->e;
    _Static_assert(offsetof(struct cpu, aflags_pending) == offsetof(struct cpu, aflags) + 2, "stored as one");
    if (!t->pending_site) return;
    const u32 v = (u32)(e->p - t->bt->code.rw) << 2 | AFLAG_PENDING;
    memcpy(t->pending_site, &v, sizeof v);
    emit_bytes(e, t->rec, t->rec_len);
    emit_flags_save(e);
    emit8(e, 0xc3);
}

void emit_settle(struct tr *t)
{
    if (t->entry) emit_call(t, t->bt->settle);
}
