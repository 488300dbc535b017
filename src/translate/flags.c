/* Where the guest's arithmetic flags are while a block is translated: in the host's, in cpu->aflags, or recoverable. */
#include "translate/tr.h"

#include "cpu/cpuid.h"

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

/* Those of a set of guest registers that are in the host's. */
static u32 host_regs(u32 guest)
{
    const u32 moved = bit(R_SP) | bit(R_12), own = (bit(RESIDENT) - 1) & ~moved;
    return (guest & own) | (guest & bit(R_SP) ? bit(H_GSP) : 0) | (guest & bit(R_12) ? bit(H_G12) : 0);
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
        struct effect x;
        int len = decode(&i, code + off, GUEST_PAGE_SIZE - (unsigned)off, t->cpu->code_size);
        if (len <= 0) return FLAGS_LIVE;
        if (p->changes[off >> GRANULE_SHIFT]) return FLAGS_LIVE; /* or this block dies when that is patched again */
        off += len;
        if (i.mnemonic == I_jmp || i.mnemonic == I_call) {
            const s64 target = off + (s64)i.imm;
            const bool call = i.mnemonic == I_call;
            if (w.merged || (call && w.lost) || i.operands[0].kind != OPND_REL || i.opsize == 2 || t->segmented || target < 0 ||
                target >= (s32)GUEST_PAGE_SIZE || !w.hops--)
                return FLAGS_LIVE;
            w.faults |= call;
            w.lost |= call && (t->rec_regs & bit(H_GSP));
            const enum flags_fate fate = look_ahead(t, p, (s32)target, w);
            if (fate != FLAGS_LIVE) block_depends(t->cpu, p, t->home, (unsigned)start, (unsigned)(off - start));
            return fate;
        }
        if (!effect_of(t, &i, &x) || !cpu_has_feature(t->cpu->model, i.opcode->feature)) return FLAGS_LIVE;
        const struct flag_use u = flags_of(&i);
        if ((u.needs && !u.merges) || (x.faults && (w.lost || w.merged || u.merges))) return FLAGS_LIVE;
        w.faults |= x.faults;
        w.merged |= u.merges;
        if (u.full) {
            block_depends(t->cpu, p, t->home, (unsigned)start, (unsigned)(off - start));
            return w.faults || !w.lost ? FLAGS_PENDING : FLAGS_DEAD;
        }
        w.lost |= (t->rec_regs & host_regs(x.written)) != 0;
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
        struct effect x;
        if (!effect_of(t, i, &x) || x.faults) return false;
        const struct flag_use u = flags_of(i);
        if (u.full && !u.needs) return true;
        if (u.needs && !u.merges) return false;
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
    struct pending *p = &t->pending[t->npending++];
    *p = (struct pending){.site = t->e.p - 4, .rec_len = t->rec_len};
    memcpy(p->rec, t->rec, sizeof p->rec);
    t->mem = t->entry = true;
}

static void leave(struct tr *t, enum flags_fate fate)
{
    if (fate == FLAGS_LIVE) flags_to_mem(t);
    else if (fate == FLAGS_PENDING) flags_pend(t);
}

void flags_leave(struct tr *t, s32 off)
{
    if (!t->mem) leave(t, flags_at(t, off));
}

void flags_call(struct tr *t, s32 off)
{
    if (t->mem) return;
    leave(t, t->rec_len && !t->carry_mem ? fate_at(t, off, t->rec_regs & bit(H_GSP)) : FLAGS_LIVE);
}

void emit_pending(struct tr *t)
{
    struct emit *e = &t->e;
    _Static_assert(offsetof(struct cpu, aflags_pending) == offsetof(struct cpu, aflags) + 2, "stored as one");
    for (const struct pending *p = t->pending; p < t->pending + t->npending; p++) {
        const u32 v = (u32)(e->p - t->bt->code.rw) << 2 | AFLAG_PENDING;
        memcpy(p->site, &v, sizeof v);
        emit_bytes(e, p->rec, p->rec_len);
        emit_flags_save(e);
        emit8(e, 0xc3);
    }
}

void emit_settle(struct tr *t)
{
    if (t->entry) emit_call(t, t->bt->settle);
}
