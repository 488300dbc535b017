/* Where the guest's arithmetic flags are while a block is translated: in the host's, in cpu->aflags, or recoverable. */
#include "translate/tr.h"

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

void flags_to_host(struct tr *t)
{
    if (t->host) return;
    if (t->rec_len) emit_bytes(&t->e, t->rec, t->rec_len);
    else emit_flags_restore(&t->e);
    t->host = true;
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
    bool conflict = !full && (t->rec_regs & written);
    if (clobbers) {
        if (!t->rec_len || conflict) flags_to_mem(t);
        t->host = false;
    } else if (conflict) {
        flags_to_host(t);
    }
}

void registers_written(struct tr *t, u32 written)
{
    if (t->rec_len && (t->rec_regs & written)) t->rec_len = 0;
}

void flags_made(struct tr *t)
{
    t->host = true;
    t->mem = false;
    t->rec_len = 0;
}

bool flags_dead_at(struct tr *t, s32 off)
{
    if (!in_page(off)) return false;
    struct code_page *p = t->bt->cache.pages[t->b->page];
    const u8 *code = t->cpu->ram->host + (t->b->page << GUEST_PAGE_SHIFT);
    const s32 start = off;
    for (unsigned n = 0; n < 6 && off < (s32)GUEST_PAGE_SIZE; n++) {
        struct insn i;
        int len = decode(&i, code + off, GUEST_PAGE_SIZE - (unsigned)off, t->cpu->code_size);
        if (len <= 0) return false;
        for (unsigned k = 0; k < i.noperands; k++)
            if (i.operands[k].kind == OPND_MEM && i.mnemonic != I_lea) return false;
        if (i.prefixes & PFX_LOCK) return false;
        off += len;
        switch (i.mnemonic) {
        case I_mov: case I_lea: case I_movzx: case I_movsx: case I_movsxd: case I_bswap: case I_cbw: case I_cwd: case I_nop:
            continue;
        case I_add: case I_sub: case I_and: case I_or: case I_xor: case I_cmp: case I_test: case I_neg: case I_shl:
        case I_shr: case I_sar: {
            struct flag_use u = flags_of(&i);
            if (!u.full || u.needs) return false;
            block_depends(p, t->b, (unsigned)start, (unsigned)(off - start));
            return true;
        }
        default: return false;
        }
    }
    return false;
}
