/* Near control transfers, conditions and flag instructions. */
#include "cpu/exec_local.h"

/* Truncate an instruction pointer to the operand size. */
static inline u64 ip_truncate(const struct cpu *cpu, const struct insn *i, u64 ip)
{
    return i->opsize == 2 ? (u16)ip : ip & cpu->ip_mask;
}

static inline u64 branch_target(const struct cpu *cpu, const struct insn *i)
{
    return ip_truncate(cpu, i, cpu->block_rip + i->off + i->len + i->imm);
}

#define FOR_EACH_CONDITION(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
#define CONDITIONAL(cc)                                                                                       \
    HANDLER(jcc_##cc) { return condition(cpu->aflags, cc) ? jump_to(cpu, branch_target(cpu, i)) : leave_block(cpu, i); } \
    HANDLER(setcc_r_##cc) { REG8(i->dst) = condition(cpu->aflags, cc); return true; }                         \
    HANDLER(setcc_m_##cc) { return mem_write8(cpu, i->seg, insn_ea(cpu, i), condition(cpu->aflags, cc)); }    \
    HANDLER(cmov32_rr_##cc)                                                                                   \
    {                                                                                                         \
        u32 v = condition(cpu->aflags, cc) ? REG32(i->src) : REG32(i->dst);                                   \
        SET32(i->dst, v);                                                                                     \
        return true;                                                                                          \
    }                                                                                                         \
    HANDLER(cmov64_rr_##cc)                                                                                   \
    {                                                                                                         \
        if (condition(cpu->aflags, cc)) REG64(i->dst) = REG64(i->src);                                        \
        return true;                                                                                          \
    }
FOR_EACH_CONDITION(CONDITIONAL)

/* CMOVcc in the forms not stamped out above: the source is read, and may fault, in any case. */
HANDLER(cmov)
{
    u64 v = 0;
    if (i->operands[1].kind == OPND_MEM)
        TRY(mem_read_block(cpu, i->seg, insn_ea(cpu, i), &v, i->opsize));
    else
        v = reg_get(cpu, i->operands[1].reg, i->opsize);
    unsigned reg = i->operands[0].reg;
    if (!condition(cpu->aflags, i->code & 15)) v = reg_get(cpu, reg, i->opsize);
    reg_set(cpu, reg, i->opsize, v);
    return true;
}

HANDLER(jmp_rel) { return jump_to(cpu, branch_target(cpu, i)); }

/* The operand of an indirect branch. */
static bool indirect_target(struct cpu *cpu, const struct insn *i, u64 *target)
{
    *target = 0;
    if (i->operands[0].kind != OPND_MEM) {
        *target = reg_get(cpu, i->operands[0].reg, i->opsize);
        return true;
    }
    switch (i->opsize) {
    case 8: return mem_read64(cpu, i->seg, insn_ea(cpu, i), target);
    case 4: return mem_read32(cpu, i->seg, insn_ea(cpu, i), (u32 *)(void *)target);
    default: return mem_read16(cpu, i->seg, insn_ea(cpu, i), (u16 *)(void *)target);
    }
}

HANDLER(jmp_indirect)
{
    u64 target;
    TRY(indirect_target(cpu, i, &target));
    return jump_to(cpu, target);
}

/* The push comes first: a bad target leaves the return address below the unchanged stack pointer. [SDM2] CALL has it the
 * other way round; this is what processors do. */
static bool call_to(struct cpu *cpu, const struct insn *i, u64 target)
{
    u64 sp = cpu->regs[R_SP];
    TRY(push(cpu, i->opsize, next_rip(cpu, i)));
    if (UNLIKELY(target > cpu->code_limit) || UNLIKELY(cpu->code_limit == ~0ull && !canonical(target))) {
        cpu->regs[R_SP] = sp;
        return raise_gp0(cpu);
    }
    cpu->rip = target;
    return false;
}

HANDLER(call_rel) { return call_to(cpu, i, branch_target(cpu, i)); }

HANDLER(call_indirect)
{
    u64 target;
    TRY(indirect_target(cpu, i, &target));
    return call_to(cpu, i, target);
}

HANDLER(ret)
{
    u64 target, sp = cpu->regs[R_SP];
    TRY(pop(cpu, i->opsize, &target));
    if (UNLIKELY(target > cpu->code_limit) || UNLIKELY(cpu->code_limit == ~0ull && !canonical(target))) {
        cpu->regs[R_SP] = sp;
        return raise_gp0(cpu);
    }
    if (i->operands[0].kind == OPND_IMM) stack_set(cpu, cpu->regs[R_SP] + (u16)i->imm);
    cpu->rip = target;
    return false;
}

/* LOOP, LOOPE, LOOPNE, JCXZ count in the address-size register. */
HANDLER(loop)
{
    u64 mask = i->addrsize == 8 ? ~0ull : i->addrsize == 4 ? 0xffffffffull : 0xffffull;
    u64 count = cpu->regs[R_CX] & mask;
    bool zf = cpu->aflags & AFLAG_ZF, taken;
    if (i->mnemonic == I_jcxz) {
        taken = count == 0;
    } else {
        count = (count - 1) & mask;
        taken = count != 0 && (i->mnemonic == I_loop || (i->mnemonic == I_loope ? zf : !zf));
    }
    if (!taken) {
        if (i->mnemonic != I_jcxz) reg_set(cpu, R_CX, i->addrsize, count);
        return leave_block(cpu, i);
    }
    jump_to(cpu, branch_target(cpu, i));
    if (cpu->exc.vector < 0 && i->mnemonic != I_jcxz) reg_set(cpu, R_CX, i->addrsize, count);
    return false;
}

/* The upper bound is not read when the lower one decides. */
HANDLER(bound)
{
    u64 ea = insn_ea(cpu, i), mask = i->addrsize == 4 ? 0xffffffffull : 0xffffull;
    if (i->opsize == 2) {
        u16 b;
        s16 v = (s16)reg_get(cpu, i->operands[0].reg, 2);
        TRY(mem_read16(cpu, i->seg, ea, &b));
        if (v < (s16)b) return raise_exc(cpu, EXC_BR);
        TRY(mem_read16(cpu, i->seg, (ea + 2) & mask, &b));
        return v > (s16)b ? raise_exc(cpu, EXC_BR) : true;
    }
    u32 b;
    s32 v = (s32)reg_get(cpu, i->operands[0].reg, 4);
    TRY(mem_read32(cpu, i->seg, ea, &b));
    if (v < (s32)b) return raise_exc(cpu, EXC_BR);
    TRY(mem_read32(cpu, i->seg, (ea + 4) & mask, &b));
    return v > (s32)b ? raise_exc(cpu, EXC_BR) : true;
}

HANDLER(undefined) { return raise_ud(cpu); }

/* ---- flags ---- */
HANDLER(clc) { cpu->aflags &= (u16)~AFLAG_CF; return true; }
HANDLER(stc) { cpu->aflags |= AFLAG_CF; return true; }
HANDLER(cmc) { cpu->aflags ^= AFLAG_CF; return true; }
HANDLER(cld) { cpu->eflags &= ~EFLAGS_DF; return true; }
HANDLER(std) { cpu->eflags |= EFLAGS_DF; return true; }
HANDLER(lahf) { REG8(1) = (u8)((cpu->aflags >> 8 & 0xd5) | 2); return true; }
HANDLER(sahf) { cpu->aflags = (u16)((cpu->aflags & AFLAG_OF) | (REG8(1) & 0xd5) << 8); return true; }

/* RTM: XBEGIN aborts at once to its fallback with EAX = 0 (no retry), which is always allowed. */
HANDLER(xbegin)
{
    TRY(jump_to(cpu, branch_target(cpu, i)) || cpu->exc.vector < 0);
    SET32(R_AX * 8, 0);
    return false;
}

exec_fn *exec_select_flow(const struct insn *i)
{
#define JCC(cc) jcc_##cc,
#define SETCC_R(cc) setcc_r_##cc,
#define SETCC_M(cc) setcc_m_##cc,
#define CMOV32(cc) cmov32_rr_##cc,
#define CMOV64(cc) cmov64_rr_##cc,
    static exec_fn *const jcc[16] = {FOR_EACH_CONDITION(JCC)}, *const setcc_r[16] = {FOR_EACH_CONDITION(SETCC_R)},
                   *const setcc_m[16] = {FOR_EACH_CONDITION(SETCC_M)}, *const cmov32[16] = {FOR_EACH_CONDITION(CMOV32)},
                   *const cmov64[16] = {FOR_EACH_CONDITION(CMOV64)};
    unsigned cc = i->code & 15;
    bool mem = i->operands[0].kind == OPND_MEM;
    switch (i->mnemonic) {
    case I_jcc: return jcc[cc];
    case I_setcc: return mem ? setcc_m[cc] : setcc_r[cc];
    case I_cmovcc:
        if (i->operands[1].kind == OPND_MEM || i->opsize == 2) return cmov;
        return i->opsize == 8 ? cmov64[cc] : cmov32[cc];
    case I_jmp: return i->operands[0].kind == OPND_REL ? jmp_rel : jmp_indirect;
    case I_call: return i->operands[0].kind == OPND_REL ? call_rel : call_indirect;
    case I_ret: return ret;
    case I_loop:
    case I_loope:
    case I_loopne:
    case I_jcxz: return loop;
    case I_bound: return bound;
    case I_ud0:
    case I_ud1:
    case I_ud2: return undefined;
    case I_clc: return clc;
    case I_stc: return stc;
    case I_cmc: return cmc;
    case I_cld: return cld;
    case I_std: return std;
    case I_lahf: return lahf;
    case I_sahf: return sahf;
    case I_xbegin: return xbegin;
    default: return NULL;
    }
}
