/* What is known of an instruction while others are planned: derived from its row in opcodes.def, but for the registers that no operand
 * names. */
#include "translate/tr.h"

#include "cpu/exec.h"

static u32 implicit_writes(const struct insn *i)
{
    switch (i->mnemonic) {
    case I_push: case I_pop: return bit(R_SP);
    case I_cbw: case I_lahf: case I_cmpxchg: return bit(R_AX);
    case I_cwd: return bit(R_DX);
    case I_imul: return i->noperands > 1 ? 0 : bit(R_AX) | bit(R_DX);
    case I_mul: case I_div: case I_idiv: case I_cmpxchg8b: return bit(R_AX) | bit(R_DX);
    default: return 0;
    }
}

static void find_moved(const struct tr *t, const struct insn *i, struct effect *x)
{
    const struct operand *o = i->operands;
    if (i->mnemonic == I_push || i->mnemonic == I_pop) {
        if (t->half_stack || (i->mnemonic == I_pop && o->kind == OPND_GPR && o->reg == R_SP)) return;
        x->moved = R_SP;
        x->by = i->mnemonic == I_push ? -(s64)i->opsize : i->opsize;
        return;
    }
    if (o->kind != OPND_GPR || i->opsize != (t->is64 ? 8 : 4)) return;
    switch (i->mnemonic) {
    case I_add: case I_sub:
        if (o[1].kind != OPND_IMM) return;
        x->by = i->mnemonic == I_add ? (s32)i->imm : -(s64)(s32)i->imm;
        break;
    case I_inc: case I_dec: x->by = i->mnemonic == I_inc ? 1 : -1; break;
    case I_lea:
        if (i->addrsize != i->opsize || i->base != o->reg || i->index != REG_ZERO) return;
        x->by = (s32)i->disp;
        break;
    default: return;
    }
    x->moved = o->reg;
}

bool effect_of(const struct tr *t, const struct insn *i, struct effect *x)
{
    *x = (struct effect){.moved = REG_ZERO};
    if (i->fn == exec_undefined || !i->opcode || i->mnemonic == I_pause) return false; /* others may run meanwhile */
    const bool stack = i->mnemonic == I_push || i->mnemonic == I_pop;
    x->vector = simd_needs(t, i) != 0;
    if (!x->vector && ((i->opcode->cls != CLASS_IDENT && !stack) || (i->opcode->attr & ATTR_VECTOR))) return false;
    /* A vector instruction may find the state not live. */
    x->faults = x->vector || stack || i->mnemonic == I_div || i->mnemonic == I_idiv || (t->segmented && (i->opcode->attr & ATTR_PROT));
    x->written = x->vector ? simd_writes(i) : implicit_writes(i);
    for (unsigned k = 0; k < i->noperands; k++) {
        const struct operand *o = &i->operands[k];
        if (o->kind == OPND_MEM && o->size) x->faults = true;
        if ((o->kind == OPND_GPR || o->kind == OPND_GPRH) && (o->access & OPND_WRITE)) x->written |= bit(o->reg);
    }
    find_moved(t, i, x);
    return true;
}
