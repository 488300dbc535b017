/* Two-operand arithmetic, increments, shifts, multiplication and division, decimal adjustment. */
#include "cpu/exec_local.h"

/* One two-operand operation in all its operand shapes: register, memory, immediate. */
struct alu_forms {
    exec_fn *rr[4], *ri[4], *rm[4], *mr[4], *mi[4], *lock_mr[4], *lock_mi[4];
};

#define ALU_FORMS(op, bits)                                                                                   \
    HANDLER(op##_rr##bits) { SET##bits(i->dst, alu_##op##bits(REG##bits(i->dst), REG##bits(i->src), &cpu->aflags)); return true; } \
    HANDLER(op##_ri##bits) { SET##bits(i->dst, alu_##op##bits(REG##bits(i->dst), (u##bits)i->imm, &cpu->aflags)); return true; } \
    HANDLER(op##_rm##bits)                                                                                    \
    {                                                                                                         \
        u##bits v;                                                                                            \
        TRY(mem_read##bits(cpu, i->seg, insn_ea(cpu, i), &v));                                                \
        SET##bits(i->dst, alu_##op##bits(REG##bits(i->dst), v, &cpu->aflags));                                \
        return true;                                                                                          \
    }                                                                                                         \
    HANDLER(op##_mr##bits) { RMW(bits, alu_##op##bits(v, REG##bits(i->src), &fl)) }                           \
    HANDLER(op##_mi##bits) { RMW(bits, alu_##op##bits(v, (u##bits)i->imm, &fl)) }                             \
    HANDLER(op##_lock_mr##bits) { LOCKED_RMW(bits, alu_##op##bits(v, REG##bits(i->src), &fl)) }               \
    HANDLER(op##_lock_mi##bits) { LOCKED_RMW(bits, alu_##op##bits(v, (u##bits)i->imm, &fl)) }

/* cmp and test write nothing but flags, which the translator may make again from what came from memory. */
#define COMPARE_FORMS(op, bits)                                                                               \
    HANDLER(op##_rr##bits) { alu_##op##bits(REG##bits(i->dst), REG##bits(i->src), &cpu->aflags); return true; } \
    HANDLER(op##_ri##bits) { alu_##op##bits(REG##bits(i->dst), (u##bits)i->imm, &cpu->aflags); return true; } \
    HANDLER(op##_rm##bits)                                                                                    \
    {                                                                                                         \
        u##bits v;                                                                                            \
        TRY(mem_read##bits(cpu, i->seg, insn_ea(cpu, i), &v));                                                \
        cpu->compared = v;                                                                                    \
        alu_##op##bits(REG##bits(i->dst), v, &cpu->aflags);                                                   \
        return true;                                                                                          \
    }                                                                                                         \
    HANDLER(op##_mr##bits)                                                                                    \
    {                                                                                                         \
        u##bits v;                                                                                            \
        TRY(mem_read##bits(cpu, i->seg, insn_ea(cpu, i), &v));                                                \
        cpu->compared = v;                                                                                    \
        alu_##op##bits(v, REG##bits(i->src), &cpu->aflags);                                                   \
        return true;                                                                                          \
    }                                                                                                         \
    HANDLER(op##_mi##bits)                                                                                    \
    {                                                                                                         \
        u##bits v;                                                                                            \
        TRY(mem_read##bits(cpu, i->seg, insn_ea(cpu, i), &v));                                                \
        cpu->compared = v;                                                                                    \
        alu_##op##bits(v, (u##bits)i->imm, &cpu->aflags);                                                     \
        return true;                                                                                          \
    }

#define BY_SIZE(prefix) {prefix##8, prefix##16, prefix##32, prefix##64}
#define ALU_OP(op)                                                                                            \
    ALU_FORMS(op, 8) ALU_FORMS(op, 16) ALU_FORMS(op, 32) ALU_FORMS(op, 64)                                    \
    static const struct alu_forms op##_forms = {BY_SIZE(op##_rr), BY_SIZE(op##_ri), BY_SIZE(op##_rm),         \
                                                BY_SIZE(op##_mr), BY_SIZE(op##_mi), BY_SIZE(op##_lock_mr),    \
                                                BY_SIZE(op##_lock_mi)};
#define COMPARE_OP(op)                                                                                        \
    COMPARE_FORMS(op, 8) COMPARE_FORMS(op, 16) COMPARE_FORMS(op, 32) COMPARE_FORMS(op, 64)                    \
    static const struct alu_forms op##_forms = {.rr = BY_SIZE(op##_rr), .ri = BY_SIZE(op##_ri),               \
                                                .rm = BY_SIZE(op##_rm), .mr = BY_SIZE(op##_mr),               \
                                                .mi = BY_SIZE(op##_mi)};
ALU_OP(add)
ALU_OP(or)
ALU_OP(adc)
ALU_OP(sbb)
ALU_OP(and)
ALU_OP(sub)
ALU_OP(xor)
COMPARE_OP(cmp)
COMPARE_OP(test)

static const struct alu_forms *const binary_forms[MNEMONIC_COUNT] = {
    [I_add] = &add_forms, [I_or] = &or_forms,   [I_adc] = &adc_forms, [I_sbb] = &sbb_forms,   [I_and] = &and_forms,
    [I_sub] = &sub_forms, [I_xor] = &xor_forms, [I_cmp] = &cmp_forms, [I_test] = &test_forms,
};

/* ---- one operand ---- */
struct unary_forms {
    exec_fn *r[4], *m[4], *lock_m[4];
};

static inline u8 alu_not8(u8 a, u16 *fl) { (void)fl; return (u8)~a; }
static inline u16 alu_not16(u16 a, u16 *fl) { (void)fl; return (u16)~a; }
static inline u32 alu_not32(u32 a, u16 *fl) { (void)fl; return ~a; }
static inline u64 alu_not64(u64 a, u16 *fl) { (void)fl; return ~a; }

#define UNARY_FORMS(op, bits)                                                                                 \
    HANDLER(op##_r##bits) { SET##bits(i->dst, alu_##op##bits(REG##bits(i->dst), &cpu->aflags)); return true; } \
    HANDLER(op##_m##bits) { RMW(bits, alu_##op##bits(v, &fl)) }                                               \
    HANDLER(op##_lock_m##bits) { LOCKED_RMW(bits, alu_##op##bits(v, &fl)) }
#define UNARY_OP(op)                                                                                          \
    UNARY_FORMS(op, 8) UNARY_FORMS(op, 16) UNARY_FORMS(op, 32) UNARY_FORMS(op, 64)                            \
    static const struct unary_forms op##_forms = {BY_SIZE(op##_r), BY_SIZE(op##_m), BY_SIZE(op##_lock_m)};
UNARY_OP(inc)
UNARY_OP(dec)
UNARY_OP(neg)
UNARY_OP(not)

/* ---- shifts and rotates: by immediate (also the implied 1) or by CL ---- */
struct shift_forms {
    exec_fn *ri[4], *rc[4], *mi[4], *mc[4];
};
#define CL REG8(R_CX * 8)
/* Rotates of a register by an immediate above 1 leave OF alone, unlike those by CL and of memory: undefined by the manual, what
 * Intel's processors do. */
#define ROTATE_IMM(op, bits)                                                                                  \
    static inline u##bits op##_imm##bits(u##bits a, u8 count, u16 *fl)                                        \
    {                                                                                                         \
        const u16 of = *fl & 0xff;                                                                            \
        a = alu_##op##bits(a, count, fl);                                                                     \
        if ((count & (bits == 64 ? 63 : 31)) > 1) *fl = (u16)((*fl & 0xff00) | of);                           \
        return a;                                                                                             \
    }
ROTATE_IMM(rol, 8) ROTATE_IMM(rol, 16) ROTATE_IMM(rol, 32) ROTATE_IMM(rol, 64)
ROTATE_IMM(ror, 8) ROTATE_IMM(ror, 16) ROTATE_IMM(ror, 32) ROTATE_IMM(ror, 64)

#define SHIFT_FORMS(op, by_imm, bits)                                                                         \
    HANDLER(op##_ri##bits) { SET##bits(i->dst, by_imm##bits(REG##bits(i->dst), (u8)i->imm, &cpu->aflags)); return true; } \
    HANDLER(op##_rc##bits) { SET##bits(i->dst, alu_##op##bits(REG##bits(i->dst), CL, &cpu->aflags)); return true; } \
    HANDLER(op##_mi##bits) { RMW(bits, alu_##op##bits(v, (u8)i->imm, &fl)) }                                 \
    HANDLER(op##_mc##bits) { RMW(bits, alu_##op##bits(v, CL, &fl)) }
#define SHIFT_OP(op, by_imm)                                                                                  \
    SHIFT_FORMS(op, by_imm, 8) SHIFT_FORMS(op, by_imm, 16) SHIFT_FORMS(op, by_imm, 32) SHIFT_FORMS(op, by_imm, 64) \
    static const struct shift_forms op##_forms = {BY_SIZE(op##_ri), BY_SIZE(op##_rc), BY_SIZE(op##_mi),       \
                                                  BY_SIZE(op##_mc)};
SHIFT_OP(shl, alu_shl)
SHIFT_OP(shr, alu_shr)
SHIFT_OP(sar, alu_sar)
SHIFT_OP(rol, rol_imm)
SHIFT_OP(ror, ror_imm)
SHIFT_OP(rcl, alu_rcl)
SHIFT_OP(rcr, alu_rcr)

#define DOUBLE_SHIFT_FORMS(op, bits)                                                                          \
    HANDLER(op##_ri##bits) { SET##bits(i->dst, alu_##op##bits(REG##bits(i->dst), REG##bits(i->src), (u8)i->imm, &cpu->aflags)); return true; } \
    HANDLER(op##_rc##bits) { SET##bits(i->dst, alu_##op##bits(REG##bits(i->dst), REG##bits(i->src), CL, &cpu->aflags)); return true; } \
    HANDLER(op##_mi##bits) { RMW(bits, alu_##op##bits(v, REG##bits(i->src), (u8)i->imm, &fl)) }               \
    HANDLER(op##_mc##bits) { RMW(bits, alu_##op##bits(v, REG##bits(i->src), CL, &fl)) }
#define BY_WIDE_SIZE(prefix) {NULL, prefix##16, prefix##32, prefix##64}
#define DOUBLE_SHIFT_OP(op)                                                                                   \
    DOUBLE_SHIFT_FORMS(op, 16) DOUBLE_SHIFT_FORMS(op, 32) DOUBLE_SHIFT_FORMS(op, 64)                          \
    static const struct shift_forms op##_forms = {BY_WIDE_SIZE(op##_ri), BY_WIDE_SIZE(op##_rc),               \
                                                  BY_WIDE_SIZE(op##_mi), BY_WIDE_SIZE(op##_mc)};
DOUBLE_SHIFT_OP(shld)
DOUBLE_SHIFT_OP(shrd)

static const struct shift_forms *const shift_table[MNEMONIC_COUNT] = {
    [I_shl] = &shl_forms, [I_shr] = &shr_forms, [I_sar] = &sar_forms,   [I_rol] = &rol_forms,   [I_ror] = &ror_forms,
    [I_rcl] = &rcl_forms, [I_rcr] = &rcr_forms, [I_shld] = &shld_forms, [I_shrd] = &shrd_forms,
};

/* ---- multiply and divide ---- */

/* The operand of size opsize, from register or memory. */
#define SOURCE(bits, n, v)                                                                                    \
    u##bits v;                                                                                                \
    if (i->operands[n].kind == OPND_MEM)                                                                      \
        TRY(mem_read##bits(cpu, i->seg, insn_ea(cpu, i), &v));                                                \
    else                                                                                                      \
        v = REG##bits((n) == 0 ? i->dst : i->src)

HANDLER(mul_8)
{
    SOURCE(8, 0, v);
    u16 ax = REG8(0), f;
    __asm__("mulb %[v]\n\tmov %%ax, %%cx\n\tlahf\n\tseto %%al" : "+a"(ax), "=&c"(f) : [v] "q"(v) : "cc");
    REG16(0) = f;
    cpu->aflags = ax;
    return true;
}
HANDLER(imul_8)
{
    SOURCE(8, 0, v);
    u16 ax = REG8(0), f;
    __asm__("imulb %[v]\n\tmov %%ax, %%cx\n\tlahf\n\tseto %%al" : "+a"(ax), "=&c"(f) : [v] "q"(v) : "cc");
    REG16(0) = f;
    cpu->aflags = ax;
    return true;
}
#define WIDE_MULTIPLY(name, op, bits)                                                                         \
    HANDLER(name##_##bits)                                                                                    \
    {                                                                                                         \
        SOURCE(bits, 0, v);                                                                                   \
        u##bits high, low = alu_##op##bits(REG##bits(R_AX * 8), v, &high, &cpu->aflags);                      \
        SET##bits(R_AX * 8, low);                                                                             \
        SET##bits(R_DX * 8, high);                                                                            \
        return true;                                                                                          \
    }
WIDE_MULTIPLY(mul, mul, 16)
WIDE_MULTIPLY(mul, mul, 32)
WIDE_MULTIPLY(mul, mul, 64)
WIDE_MULTIPLY(imul, smul, 16)
WIDE_MULTIPLY(imul, smul, 32)
WIDE_MULTIPLY(imul, smul, 64)
#define SIGNED_MULTIPLY(bits)                                                                                 \
    HANDLER(imul2_##bits)                                                                                     \
    {                                                                                                         \
        SOURCE(bits, 1, v);                                                                                   \
        SET##bits(i->dst, alu_imul##bits(REG##bits(i->dst), v, &cpu->aflags));                                \
        return true;                                                                                          \
    }                                                                                                         \
    HANDLER(imul3_##bits)                                                                                     \
    {                                                                                                         \
        SOURCE(bits, 1, v);                                                                                   \
        SET##bits(i->dst, alu_imul##bits(v, (u##bits)i->imm, &cpu->aflags));                                  \
        return true;                                                                                          \
    }
SIGNED_MULTIPLY(16)
SIGNED_MULTIPLY(32)
SIGNED_MULTIPLY(64)

/* DIV and IDIV leave the flags undefined: here, unchanged. */
HANDLER(div_8)
{
    SOURCE(8, 0, v);
    u16 a = REG16(0);
    if (!v || a / v > 0xff) return raise_exc(cpu, EXC_DE);
    REG16(0) = (u16)((a % v) << 8 | a / v);
    return true;
}
HANDLER(idiv_8)
{
    SOURCE(8, 0, v);
    s32 a = (s16)REG16(0), d = (s8)v;
    if (!d || a / d > 127 || a / d < -128) return raise_exc(cpu, EXC_DE);
    REG16(0) = (u16)((u8)(a % d) << 8 | (u8)(a / d));
    return true;
}
#define DIVIDE(bits, wide, swide)                                                                             \
    HANDLER(div_##bits)                                                                                       \
    {                                                                                                         \
        SOURCE(bits, 0, v);                                                                                   \
        if (REG##bits(R_DX * 8) >= v) return raise_exc(cpu, EXC_DE); /* zero, or the quotient overflows */    \
        wide a = (wide)REG##bits(R_DX * 8) << bits | REG##bits(R_AX * 8);                                     \
        u##bits q = (u##bits)(a / v), r = (u##bits)(a % v);                                                   \
        SET##bits(R_AX * 8, q);                                                                               \
        SET##bits(R_DX * 8, r);                                                                               \
        return true;                                                                                          \
    }                                                                                                         \
    HANDLER(idiv_##bits)                                                                                      \
    {                                                                                                         \
        SOURCE(bits, 0, v);                                                                                   \
        wide a = (wide)REG##bits(R_DX * 8) << bits | REG##bits(R_AX * 8);                                     \
        s##bits d = (s##bits)v;                                                                               \
        /* Magnitudes, so that the most negative dividend does not overflow. */                               \
        bool negative = (swide)a < 0;                                                                         \
        wide ua = negative ? -a : a;                                                                          \
        u##bits ud = d < 0 ? (u##bits)-(u##bits)d : (u##bits)d;                                               \
        if (!ud || (ua >> bits) >= ud) return raise_exc(cpu, EXC_DE);                                         \
        wide uq = ua / ud, ur = ua % ud;                                                                      \
        bool minus = negative != (d < 0);                                                                     \
        if (uq > (wide)(((u##bits)1 << (bits - 1)) - !minus)) return raise_exc(cpu, EXC_DE);                  \
        SET##bits(R_AX * 8, (u##bits)(minus ? -uq : uq));                                                     \
        SET##bits(R_DX * 8, (u##bits)(negative ? -ur : ur));                                                  \
        return true;                                                                                          \
    }
DIVIDE(16, u32, s32)
DIVIDE(32, u64, s64)
DIVIDE(64, unsigned __int128, __int128)

/* ---- decimal adjustment: SDM vol 2; undefined flags as Intel processors leave them ---- */

static void set_szp(struct cpu *cpu, u8 v, u16 keep)
{
    u16 f = 0;
    alu_test8(v, v, &f);
    cpu->aflags = (u16)((f & (AFLAG_SF | AFLAG_ZF | AFLAG_PF)) | keep);
}

HANDLER(decimal_adjust)
{
    bool subtract = i->mnemonic == I_das;
    u8 al = REG8(0), old = al;
    bool cf = cpu->aflags & AFLAG_CF, af = cpu->aflags & AFLAG_AF, carry = false;
    if ((al & 15) > 9 || af) {
        carry = cf || (subtract ? al < 6 : al > 0xf9);
        al = subtract ? (u8)(al - 6) : (u8)(al + 6);
        af = true;
    }
    if (old > 0x99 || cf) {
        al = subtract ? (u8)(al - 0x60) : (u8)(al + 0x60);
        carry = true;
    }
    REG8(0) = al;
    set_szp(cpu, al, (u16)((carry ? AFLAG_CF : 0) | (af ? AFLAG_AF : 0)));
    return true;
}

HANDLER(ascii_adjust)
{
    u16 ax = REG16(0);
    bool adjust = (ax & 15) > 9 || (cpu->aflags & AFLAG_AF);
    if (adjust) ax = i->mnemonic == I_aaa ? (u16)(ax + 0x106) : (u16)(ax - 0x106);
    ax &= 0xff0f;
    REG16(0) = ax;
    set_szp(cpu, (u8)ax, adjust ? AFLAG_CF | AFLAG_AF : 0);
    return true;
}

HANDLER(ascii_multiply) /* AAM */
{
    u8 base = (u8)i->imm, al = REG8(0);
    if (!base) return raise_exc(cpu, EXC_DE);
    REG16(0) = (u16)((al / base) << 8 | al % base);
    set_szp(cpu, REG8(0), 0);
    return true;
}

HANDLER(ascii_divide) /* AAD */
{
    u16 f = 0;
    u8 v = alu_add8(REG8(0), (u8)(REG8(1) * (u8)i->imm), &f);
    REG16(0) = v;
    cpu->aflags = f;
    return true;
}

HANDLER(salc)
{
    REG8(0) = cpu->aflags & AFLAG_CF ? 0xff : 0;
    return true;
}

exec_fn *exec_select_alu(const struct insn *i)
{
    static exec_fn *const mul_fns[4] = BY_SIZE(mul_), *const imul_fns[4] = BY_SIZE(imul_), *const div_fns[4] = BY_SIZE(div_),
                   *const idiv_fns[4] = BY_SIZE(idiv_);
    static exec_fn *const imul2_fns[4] = BY_WIDE_SIZE(imul2_), *const imul3_fns[4] = BY_WIDE_SIZE(imul3_);
    unsigned s = size_index(i->opsize), a = i->operands[0].kind, b = i->operands[1].kind;
    bool lock = i->prefixes & PFX_LOCK;
    const struct alu_forms *f = binary_forms[i->mnemonic];
    if (f) {
        if (a == OPND_MEM) return b == OPND_IMM ? (lock ? f->lock_mi : f->mi)[s] : (lock ? f->lock_mr : f->mr)[s];
        return b == OPND_MEM ? f->rm[s] : b == OPND_IMM ? f->ri[s] : f->rr[s];
    }
    const struct shift_forms *sh = shift_table[i->mnemonic];
    if (sh) {
        unsigned count = i->mnemonic == I_shld || i->mnemonic == I_shrd ? i->operands[2].kind : b;
        if (a == OPND_MEM) return count == OPND_IMM ? sh->mi[s] : sh->mc[s];
        return count == OPND_IMM ? sh->ri[s] : sh->rc[s];
    }
    const struct unary_forms *u = NULL;
    switch (i->mnemonic) {
    case I_inc: u = &inc_forms; break;
    case I_dec: u = &dec_forms; break;
    case I_neg: u = &neg_forms; break;
    case I_not: u = &not_forms; break;
    case I_mul: return mul_fns[s];
    case I_imul: return b == OPND_NONE ? imul_fns[s] : i->operands[2].kind == OPND_NONE ? imul2_fns[s] : imul3_fns[s];
    case I_div: return div_fns[s];
    case I_idiv: return idiv_fns[s];
    case I_daa:
    case I_das: return decimal_adjust;
    case I_aaa:
    case I_aas: return ascii_adjust;
    case I_aam: return ascii_multiply;
    case I_aad: return ascii_divide;
    case I_salc: return salc;
    default: return NULL;
    }
    return a == OPND_MEM ? (lock ? u->lock_m[s] : u->m[s]) : u->r[s];
}
