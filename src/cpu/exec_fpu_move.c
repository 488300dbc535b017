/* Interpreter: SSE and AVX moves and a few logic operations between registers, which are too frequent to go through a
 * host operation (exec_fpu.c). They have no floating-point semantics: bytes are copied.
 *
 * References: [SDM2] 2.4, and each instruction's page. */
#include "cpu/exec_fpu.h"

#include <string.h>

/* 16 bytes anywhere. */
typedef u64 v128 __attribute__((vector_size(16), aligned(1), may_alias));

static inline v128 *xmm(struct cpu *cpu, const struct operand *o) { return (v128 *)(void *)xmm_slot(cpu, o->reg); }
static inline v128 *high(struct cpu *cpu, const struct operand *o) { return (v128 *)(void *)ymm_high_slot(cpu, o->reg); }
static inline u64 *low64(struct cpu *cpu, const struct operand *o) { return (u64 *)(void *)xmm_slot(cpu, o->reg); }
static const v128 zero128 = {0, 0};

#define SSE(name)                                                                                             \
    static bool name(struct cpu *cpu, const struct insn *i)                                                   \
    {                                                                                                         \
        TRY(fpu_sse_check(cpu));                                                                              \
        const struct operand *o = i->operands;                                                                \
        (void)o;
#define AVX(name)                                                                                             \
    static bool name(struct cpu *cpu, const struct insn *i)                                                   \
    {                                                                                                         \
        TRY(fpu_avx_check(cpu));                                                                              \
        const struct operand *o = i->operands;
#define END                                                                                                   \
    return true;                                                                                              \
    }

/* ---- whole registers ---- */

static inline __attribute__((always_inline)) bool load128(struct cpu *cpu, const struct insn *i, v128 *out, bool aligned)
{
    u64 ea = insn_ea(cpu, i);
    const v128 *p = mem_fast(cpu, i->seg, ea, 16, false);
    if (aligned && UNLIKELY(!p || ((uintptr_t)p & 15))) TRY(fpu_aligned(cpu, i, ea, 16, 16, false));
    if (LIKELY(p)) {
        *out = *p;
        return true;
    }
    return mem_read_slow(cpu, i->seg, ea, out, 16);
}

static inline __attribute__((always_inline)) bool store128(struct cpu *cpu, const struct insn *i, v128 v, bool aligned)
{
    u64 ea = insn_ea(cpu, i);
    v128 *p = mem_fast(cpu, i->seg, ea, 16, true);
    if (aligned && UNLIKELY(!p || ((uintptr_t)p & 15))) TRY(fpu_aligned(cpu, i, ea, 16, 16, true));
    if (LIKELY(p)) {
        *p = v;
        return true;
    }
    return mem_write_slow(cpu, i->seg, ea, &v, 16);
}

SSE(mov_x_x) *xmm(cpu, o) = *xmm(cpu, o + 1); END
SSE(mov_x_m)
    v128 v;
    TRY(load128(cpu, i, &v, false));
    *xmm(cpu, o) = v;
END
SSE(mova_x_m)
    v128 v;
    TRY(load128(cpu, i, &v, true));
    *xmm(cpu, o) = v;
END
SSE(mov_m_x) return store128(cpu, i, *xmm(cpu, o + 1), false); }
SSE(mova_m_x) return store128(cpu, i, *xmm(cpu, o + 1), true); }

/* VEX: 128 bits clear the upper half. */
AVX(vmov_r_r)
    v128 upper = o[1].kind == OPND_YMM ? *high(cpu, o + 1) : zero128;
    *xmm(cpu, o) = *xmm(cpu, o + 1);
    *high(cpu, o) = upper;
END
AVX(vmov_r_m)
    v128 v[2] = {zero128, zero128};
    u64 ea = insn_ea(cpu, i);
    if (i->opcode->attr & ATTR_ALIGN) TRY(fpu_aligned(cpu, i, ea, o[1].size, o[1].size, false));
    TRY(mem_read_block(cpu, i->seg, ea, v, o[1].size));
    *xmm(cpu, o) = v[0];
    *high(cpu, o) = v[1];
END
AVX(vmov_m_r)
    v128 v[2] = {*xmm(cpu, o + 1), *high(cpu, o + 1)};
    u64 ea = insn_ea(cpu, i);
    if (i->opcode->attr & ATTR_ALIGN) TRY(fpu_aligned(cpu, i, ea, o[0].size, o[0].size, true));
    return mem_write_block(cpu, i->seg, ea, v, o[0].size);
}

/* ---- parts ---- */

SSE(movq_x_x) *xmm(cpu, o) = (v128){*low64(cpu, o + 1), 0}; END
SSE(movq_x_m)
    u64 v;
    TRY(mem_read64(cpu, i->seg, insn_ea(cpu, i), &v));
    *xmm(cpu, o) = (v128){v, 0};
END
SSE(movq_m_x) return mem_write64(cpu, i->seg, insn_ea(cpu, i), *low64(cpu, o + 1)); }
SSE(movq_x_r) *xmm(cpu, o) = (v128){cpu->regs[o[1].reg], 0}; END
SSE(movq_r_x) cpu->regs[o[0].reg] = *low64(cpu, o + 1); END
SSE(movd_x_r) *xmm(cpu, o) = (v128){(u32)cpu->regs[o[1].reg], 0}; END
SSE(movd_r_x) cpu->regs[o[0].reg] = (u32)*low64(cpu, o + 1); END
SSE(movd_x_m)
    u32 v;
    TRY(mem_read32(cpu, i->seg, insn_ea(cpu, i), &v));
    *xmm(cpu, o) = (v128){v, 0};
END
SSE(movd_m_x) return mem_write32(cpu, i->seg, insn_ea(cpu, i), (u32)*low64(cpu, o + 1)); }
SSE(movss_x_x) memcpy(xmm(cpu, o), xmm(cpu, o + 1), 4); END
SSE(movsd_x_x) *low64(cpu, o) = *low64(cpu, o + 1); END
SSE(movlps_x_m)
    u64 v;
    TRY(mem_read64(cpu, i->seg, insn_ea(cpu, i), &v));
    low64(cpu, o)[0] = v;
END
SSE(movhps_x_m)
    u64 v;
    TRY(mem_read64(cpu, i->seg, insn_ea(cpu, i), &v));
    low64(cpu, o)[1] = v;
END
SSE(movhps_m_x) return mem_write64(cpu, i->seg, insn_ea(cpu, i), low64(cpu, o + 1)[1]); }
SSE(movlhps_x_x) low64(cpu, o)[1] = low64(cpu, o + 1)[0]; END
SSE(movhlps_x_x) low64(cpu, o)[0] = low64(cpu, o + 1)[1]; END

AVX(vmovq_x_m)
    u64 v;
    TRY(mem_read64(cpu, i->seg, insn_ea(cpu, i), &v));
    *xmm(cpu, o) = (v128){v, 0};
    *high(cpu, o) = zero128;
END
AVX(vmovq_m_x) return mem_write64(cpu, i->seg, insn_ea(cpu, i), *low64(cpu, o + 1)); }
AVX(vmovd_x_m)
    u32 v;
    TRY(mem_read32(cpu, i->seg, insn_ea(cpu, i), &v));
    *xmm(cpu, o) = (v128){v, 0};
    *high(cpu, o) = zero128;
END
AVX(vmovd_m_x) return mem_write32(cpu, i->seg, insn_ea(cpu, i), (u32)*low64(cpu, o + 1)); }

/* ---- logic ---- */

SSE(xor_x_x) *xmm(cpu, o) ^= *xmm(cpu, o + 1); END
SSE(or_x_x) *xmm(cpu, o) |= *xmm(cpu, o + 1); END
SSE(and_x_x) *xmm(cpu, o) &= *xmm(cpu, o + 1); END
SSE(andn_x_x) *xmm(cpu, o) = ~*xmm(cpu, o) & *xmm(cpu, o + 1); END

/* ---- selection ---- */

/* Vector register, general register, memory. */
enum shape { X_X, X_M, M_X, X_R, R_X, OTHER };

static enum shape shape_of(const struct insn *i)
{
    if (i->noperands != 2) return OTHER;
    u8 a = i->operands[0].kind, b = i->operands[1].kind;
    bool va = a == OPND_XMM || a == OPND_YMM, vb = b == OPND_XMM || b == OPND_YMM;
    if (va && vb) return X_X;
    if (va && b == OPND_MEM) return X_M;
    if (vb && a == OPND_MEM) return M_X;
    if (va && b == OPND_GPR) return X_R;
    if (vb && a == OPND_GPR) return R_X;
    return OTHER;
}

/* One per shape, in the order X_X, X_M, M_X, X_R, R_X. */
#define BY_SHAPE(...)                                                                                         \
    {                                                                                                         \
        static exec_fn *const by_shape[] = {__VA_ARGS__};                                                     \
        return s < ARRAY_LEN(by_shape) ? by_shape[s] : NULL;                                                  \
    }

exec_fn *exec_select_fpu_move(const struct insn *i)
{
    enum shape s = shape_of(i);
    if (s == OTHER) return NULL;
    switch (i->mnemonic) {
    case I_movaps:
    case I_movapd:
    case I_movdqa:
    case I_movntps:
    case I_movntpd:
    case I_movntdq:
    case I_movntdqa: BY_SHAPE(mov_x_x, mova_x_m, mova_m_x)
    case I_movups:
    case I_movupd:
    case I_movdqu:
    case I_lddqu: BY_SHAPE(mov_x_x, mov_x_m, mov_m_x)
    case I_vmovaps:
    case I_vmovapd:
    case I_vmovdqa:
    case I_vmovntps:
    case I_vmovntpd:
    case I_vmovntdq:
    case I_vmovntdqa:
    case I_vmovups:
    case I_vmovupd:
    case I_vmovdqu:
    case I_vlddqu: BY_SHAPE(vmov_r_r, vmov_r_m, vmov_m_r)
    case I_movq: BY_SHAPE(movq_x_x, movq_x_m, movq_m_x, movq_x_r, movq_r_x)
    case I_movd: BY_SHAPE(NULL, movd_x_m, movd_m_x, movd_x_r, movd_r_x)
    case I_movss: BY_SHAPE(movss_x_x, movd_x_m, movd_m_x)
    case I_movsd: BY_SHAPE(movsd_x_x, movq_x_m, movq_m_x)
    case I_vmovq: BY_SHAPE(NULL, vmovq_x_m, vmovq_m_x)
    case I_vmovd: BY_SHAPE(NULL, vmovd_x_m, vmovd_m_x)
    case I_vmovss: BY_SHAPE(NULL, vmovd_x_m, vmovd_m_x)
    case I_vmovsd: BY_SHAPE(NULL, vmovq_x_m, vmovq_m_x)
    case I_movlps:
    case I_movlpd: BY_SHAPE(NULL, movlps_x_m, movq_m_x)
    case I_movhps:
    case I_movhpd: BY_SHAPE(NULL, movhps_x_m, movhps_m_x)
    case I_movlhps: BY_SHAPE(movlhps_x_x)
    case I_movhlps: BY_SHAPE(movhlps_x_x)
    case I_pxor:
    case I_xorps:
    case I_xorpd: BY_SHAPE(xor_x_x)
    case I_por:
    case I_orps:
    case I_orpd: BY_SHAPE(or_x_x)
    case I_pand:
    case I_andps:
    case I_andpd: BY_SHAPE(and_x_x)
    case I_pandn:
    case I_andnps:
    case I_andnpd: BY_SHAPE(andn_x_x)
    default: return NULL;
    }
}
