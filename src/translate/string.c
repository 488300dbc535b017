/* String instructions, upwards: those without a REP prefix, and in flat segments REP MOVS and STOS within a page. The others are
 * the handlers', which do runs of elements. */
#include "translate/tr.h"

/* The handler does what goes downwards. */
static void emit_upwards(struct tr *t, struct stub *s)
{
    emit_op(&t->e, 0, 0, 0xf7, 0, STATE(eflags));
    emit32(&t->e, EFLAGS_DF);
    stub_from(t, s, CC_NE);
}

/* ... and runs that leave the page that `reg` points to. */
static void emit_run_in_page(struct tr *t, struct stub *s, unsigned reg, unsigned shift)
{
    struct emit *e = &t->e;
    emit_op(e, 0, 0, 0x8b, T_B, rm_reg(reg));
    emit_alu_imm(e, false, 4, T_B, GUEST_PAGE_MASK);
    emit_lea(e, true, T_B, (struct rm){.kind = RM_MEM, .reg = T_B, .index = H_CX, .scale = (u8)shift});
    emit_alu_imm(e, true, 7, T_B, GUEST_PAGE_SIZE);
    stub_from(t, s, CC_A);
}

/* REP MOVS and STOS by the host's own, on host addresses: both pages are there, so nothing faults in between. */
static bool translate_run(struct tr *t, unsigned prefixes, bool source)
{
    struct emit *e = &t->e;
    const unsigned size = t->i->opsize, w = t->is64 ? E_W : 0;
    const unsigned shift = size == 8 ? 3 : size == 4 ? 2 : size == 2 ? 1 : 0;
    const u32 written = bit(H_CX) | bit(H_DI) | (source ? bit(H_SI) : 0);
    flags_before(t, true, written, false);
    struct stub *s = new_stub(t);
    emit_op(e, w, 0, 0x85, H_CX, rm_reg(H_CX));
    u8 *nothing = emit_jump(e, CC_E);
    emit_upwards(t, s);
    emit_alu_imm(e, true, 7, H_CX, GUEST_PAGE_SIZE);
    stub_from(t, s, CC_A);
    emit_run_in_page(t, s, H_DI, shift);
    if (source) { /* probed first, so that the other page is not marked written when there is nothing to write */
        emit_run_in_page(t, s, H_SI, shift);
        emit_probe_run(t, s, H_SI, false);
        emit_store(e, T_A, STATE(target));
    }
    emit_probe_run(t, s, H_DI, true);
    if (source) {
        emit_load(e, T_B, STATE(target));
        emit_op(e, E_W, 0, 0x03, H_SI, rm_reg(T_B));
    }
    emit_op(e, E_W, 0, 0x03, H_DI, rm_reg(T_A));
    emit8(e, 0xf3);
    if (prefixes & E_66) emit8(e, 0x66);
    if (prefixes & E_W) emit8(e, 0x48);
    emit8(e, (source ? 0xa5u : 0xabu) - (size == 1));
    emit_op(e, w, 0, 0x2b, H_DI, rm_reg(T_A));
    if (source) emit_op(e, w, 0, 0x2b, H_SI, rm_reg(T_B));
    emit_patch(nothing, e->p);
    registers_written(t, written);
    stub_back(t, s);
    return true;
}

bool translate_string(struct tr *t)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    const unsigned size = i->opsize, m = i->mnemonic;
    const unsigned prefixes = size_prefix(size), byte = size == 1;
    const bool source = m == I_movs || m == I_lods || m == I_cmps, dest = m != I_lods;
    const bool compare = m == I_cmps || m == I_scas;
    const bool repeated = i->prefixes & (PFX_REP | PFX_REPNE);
    if (t->segmented ? repeated : i->addrsize != (t->is64 ? 8 : 4) || (repeated && m != I_movs && m != I_stos)) return false;
    if (!t->segmented && source && (i->seg == SEG_FS || i->seg == SEG_GS || i->seg == SEG_CS)) return false;
    if (repeated) return translate_run(t, prefixes, source);
    const u32 written = (source ? bit(H_SI) : 0) | (dest ? bit(H_DI) : 0) | (m == I_lods ? bit(H_AX) : 0);
    flags_before(t, true, written, compare);
    struct stub *s = new_stub(t);
    emit_upwards(t, s);
    if (source) {
        emit_element(t, s, i->seg, H_SI, size, false);
        emit_op(e, prefixes, 0, 0x8b - byte, m == I_lods ? H_AX : T_B, t->at);
    }
    if (source && dest) emit_store(e, T_B, STATE(target));
    if (dest) {
        emit_element(t, s, SEG_ES, H_DI, size, !compare);
        if (source) emit_load(e, T_B, STATE(target));
        emit_op(e, prefixes, 0, (compare ? 0x3bu : 0x89u) - byte, source ? T_B : H_AX, t->at);
    }
    const unsigned w = size_prefix(i->addrsize);
    if (source) emit_op(e, w, 0, 0x8d, H_SI, rm_mem(H_SI, (s32)size));
    if (dest) emit_op(e, w, 0, 0x8d, H_DI, rm_mem(H_DI, (s32)size));
    registers_written(t, written);
    if (compare) flags_made(t);
    stub_back(t, s);
    return true;
}
