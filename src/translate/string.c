/* String instructions without a REP prefix, upwards, in flat segments. The others are the handlers', which do runs of elements. */
#include "translate/tr.h"

bool translate_string(struct tr *t)
{
    const struct insn *i = t->i;
    struct emit *e = &t->e;
    const unsigned size = i->opsize, m = i->mnemonic;
    const unsigned prefixes = size == 8 ? E_W : size == 2 ? E_66 : 0, byte = size == 1;
    const bool source = m == I_movs || m == I_lods || m == I_cmps, dest = m != I_lods;
    const bool compare = m == I_cmps || m == I_scas;
    if (i->prefixes & (PFX_REP | PFX_REPNE) || i->addrsize != (t->is64 ? 8 : 4)) return false;
    if (source && (i->seg == SEG_FS || i->seg == SEG_GS || i->seg == SEG_CS)) return false;
    const u32 written = (source ? bit(H_SI) : 0) | (dest ? bit(H_DI) : 0) | (m == I_lods ? bit(H_AX) : 0);
    flags_before(t, true, written, compare);
    struct stub *s = new_stub(t);
    emit_op(e, 0, 0, 0xf7, 0, STATE(eflags));
    emit32(e, EFLAGS_DF);
    stub_from(t, s, CC_NE);
    if (source) {
        emit_probe(t, s, H_SI, 0, size, false);
        emit_op(e, prefixes, 0, 0x8b - byte, m == I_lods ? H_AX : T_B, t->at);
    }
    if (source && dest) emit_store(e, T_B, STATE(target));
    if (dest) {
        emit_probe(t, s, H_DI, 0, size, !compare);
        if (source) emit_load(e, T_B, STATE(target));
        emit_op(e, prefixes, 0, (compare ? 0x3bu : 0x89u) - byte, source ? T_B : H_AX, t->at);
    }
    if (source) emit_lea(e, t->is64, H_SI, rm_mem(H_SI, (s32)size));
    if (dest) emit_lea(e, t->is64, H_DI, rm_mem(H_DI, (s32)size));
    registers_written(t, written);
    if (compare) flags_made(t);
    stub_back(t, s);
    return true;
}
