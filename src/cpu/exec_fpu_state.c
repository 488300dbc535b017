/* Interpreter: saving and restoring x87 and vector state: FXSAVE, FXRSTOR, the XSAVE family, MXCSR.
 *
 * State components: x87 (0), SSE (1), AVX (2), PKRU (9). A component counts as in use when it differs from its initial
 * configuration (XINUSE). The modified optimisation of XSAVEOPT and XSAVES is not done. IA32_XSS is 0.
 *
 * References: [SDM1] 10.5 (FXSAVE), 13 (XSAVE); [SDM2] each instruction's page. */
#include "cpu/exec_fpu.h"

#include <string.h>

#include "cpu/cpuid.h"

enum { COMP_X87 = 1, COMP_SSE = 2, COMP_AVX = 4, COMP_PKRU = 1 << 9 };
#define COMPACTED (1ull << 63)

static u32 load32(const u8 *p)
{
    u32 v;
    memcpy(&v, p, 4);
    return v;
}
static u64 load64(const u8 *p)
{
    u64 v;
    memcpy(&v, p, 8);
    return v;
}

/* ---- the legacy region ---- */

/* Bytes 0..159 (without MXCSR, whose place is left alone) as the guest sees them; wide: 64-bit pointers. */
static void x87_image(struct cpu *cpu, u8 *out, bool wide)
{
    memcpy(out, cpu->fpu.legacy, FX_MXCSR);
    memcpy(out + FX_ST, st_slot(cpu, 0), 128);
    if (wide) return;
    memcpy(out + 12, fx16(cpu, FX_CS), 2);
    memset(out + 14, 0, 2);
    memcpy(out + 20, fx16(cpu, FX_DS), 2);
    memset(out + 22, 0, 2);
}

/* The pointers have as many bits as linear addresses. */
static u64 canonicalise(u64 a) { return (u64)((s64)(a << 16) >> 16); }

static void x87_load(struct cpu *cpu, const u8 *in, bool wide)
{
    u16 cw, sw, fop;
    memcpy(&cw, in + FX_CW, 2);
    memcpy(&sw, in + FX_SW, 2);
    memcpy(&fop, in + FX_OP, 2);
    cw = fx_fix_cw(cw);
    *fx16(cpu, FX_CW) = cw;
    *fx16(cpu, FX_SW) = fx_fix_sw(sw, cw);
    cpu->fpu.legacy[FX_TAG] = in[FX_TAG];
    cpu->fpu.legacy[FX_TAG + 1] = 0;
    *fx16(cpu, FX_OP) = fop & 0x7ff;
    if (wide) {
        *fx64(cpu, FX_IP) = canonicalise(load64(in + FX_IP));
        *fx64(cpu, FX_DP) = canonicalise(load64(in + FX_DP));
        *fx16(cpu, FX_CS) = *fx16(cpu, FX_DS) = 0;
    } else {
        *fx64(cpu, FX_IP) = load32(in + FX_IP);
        *fx64(cpu, FX_DP) = load32(in + FX_DP);
        memcpy(fx16(cpu, FX_CS), in + 12, 2);
        memcpy(fx16(cpu, FX_DS), in + 20, 2);
    }
    for (unsigned n = 0; n < 8; n++) {
        memcpy(st_slot(cpu, n), in + FX_ST + 16 * n, 10);
        memset(st_slot(cpu, n) + 10, 0, 6);
    }
    fpu_update_ferr(cpu);
}

/* All of it as after FNINIT, and the registers zero. */
static void x87_reset(struct cpu *cpu)
{
    fpu_x87_init(cpu);
    memset(st_slot(cpu, 0), 0, 128);
}

static void mxcsr_image(struct cpu *cpu, u8 *out)
{
    memcpy(out + FX_MXCSR, fx32(cpu, FX_MXCSR), 4);
    memcpy(out + FX_MXCSR_MASK, &(u32){MXCSR_VALID}, 4);
}

/* Bytes of the XMM or upper-half area that exist in the current mode. */
static unsigned vector_bytes(const struct cpu *cpu) { return cpu_code64(cpu) ? 256 : 128; }
static bool wide(const struct insn *i) { return i->rex & 8; }

/* ---- FXSAVE, FXRSTOR ---- */

/* Misaligned is #GP, but where alignment checks are on #AC goes first [SDM2] FXSAVE. */
static bool fx_aligned(struct cpu *cpu, const struct insn *i, u64 ea, bool write)
{
    gla lin;
    TRY(seg_linear(cpu, i->seg, ea, 8, write, &lin));
    return fpu_aligned(cpu, i, ea, 512, 16, write);
}

static bool fxsave(struct cpu *cpu, const struct insn *i)
{
    if (cpu->cr0 & (CR0_EM | CR0_TS)) return raise_exc(cpu, EXC_NM);
    u64 ea = insn_ea(cpu, i);
    TRY(fx_aligned(cpu, i, ea, true));
    u8 image[FX_END];
    x87_image(cpu, image, wide(i));
    mxcsr_image(cpu, image);
    memcpy(image + FX_XMM, xmm_slot(cpu, 0), 256);
    gla lin; /* all of it must be there, though not all is written */
    TRY(seg_linear(cpu, i->seg, ea, 512, true, &lin));
    TRY(lin_probe_write(cpu, lin, 512, ACC_WRITE));
    return mem_write_block(cpu, i->seg, ea, image, FX_XMM + vector_bytes(cpu));
}

static bool fxrstor(struct cpu *cpu, const struct insn *i)
{
    if (cpu->cr0 & (CR0_EM | CR0_TS)) return raise_exc(cpu, EXC_NM);
    u64 ea = insn_ea(cpu, i);
    TRY(fx_aligned(cpu, i, ea, false));
    u8 image[512]; /* all of it must be there */
    TRY(mem_read_block(cpu, i->seg, ea, image, sizeof image));
    u32 mxcsr = load32(image + FX_MXCSR);
    if (mxcsr & ~MXCSR_VALID) return raise_gp0(cpu);
    x87_load(cpu, image, wide(i));
    *fx32(cpu, FX_MXCSR) = mxcsr;
    memcpy(xmm_slot(cpu, 0), image + FX_XMM, vector_bytes(cpu));
    return true;
}

/* ---- MXCSR ---- */

static bool mxcsr_check(struct cpu *cpu, const struct insn *i)
{
    return i->opcode->attr & ATTR_AVX ? fpu_avx_check(cpu) : fpu_sse_check(cpu);
}

static bool ldmxcsr(struct cpu *cpu, const struct insn *i)
{
    TRY(mxcsr_check(cpu, i));
    u32 v;
    TRY(mem_read32(cpu, i->seg, insn_ea(cpu, i), &v));
    if (v & ~MXCSR_VALID) return raise_gp0(cpu);
    *fx32(cpu, FX_MXCSR) = v;
    return true;
}

static bool stmxcsr(struct cpu *cpu, const struct insn *i)
{
    TRY(mxcsr_check(cpu, i));
    return mem_write32(cpu, i->seg, insn_ea(cpu, i), *fx32(cpu, FX_MXCSR));
}

/* ---- XSAVE ---- */

static bool all_zero(const u8 *p, size_t n) { return !*p && !memcmp(p, p + 1, n - 1); }

/* XINUSE [SDM1] 13.6. */
static u64 in_use(struct cpu *cpu)
{
    u64 used = 0;
    const u8 *l = cpu->fpu.legacy;
    if (*fx16(cpu, FX_CW) != 0x37f || !all_zero(l + FX_SW, FX_MXCSR - FX_SW) || !all_zero(l + FX_ST, 128) ||
        !all_zero(l + FX_CS, 4))
        used |= COMP_X87;
    if (!all_zero(xmm_slot(cpu, 0), 256)) used |= COMP_SSE;
    if (!all_zero(cpu->fpu.ymm_high, 256)) used |= COMP_AVX;
    if (cpu->pkru) used |= COMP_PKRU;
    return used;
}

static bool xsave_check(struct cpu *cpu, const struct insn *i, u64 *ea, bool write)
{
    if (!(cpu->cr4 & CR4_OSXSAVE)) return raise_ud(cpu);
    if ((i->opcode->attr & ATTR_CPL0) && cpu->cpl) return raise_gp0(cpu);
    if (cpu->cr0 & CR0_TS) return raise_exc(cpu, EXC_NM);
    *ea = insn_ea(cpu, i);
    return fpu_aligned(cpu, i, *ea, 576, 64, write);
}

static u64 requested(const struct cpu *cpu)
{
    return cpu->xcr0 & ((u64)(u32)cpu->regs[R_DX] << 32 | (u32)cpu->regs[R_AX]);
}

/* Offset of a component of the extended region; formats [SDM1] 13.4. */
static unsigned component_offset(u64 component, u64 xcomp_bv)
{
    if (component == COMP_AVX) return 576;
    if (!(xcomp_bv & COMPACTED)) return offsetof(struct xsave_area, pkru);
    return xcomp_bv & COMP_AVX ? 832 : 576;
}

/* Pieces of the area to be written, so that all of them can be checked before the first is. */
struct pieces {
    struct piece {
        unsigned at, size; /* bytes of the area */
        const u8 *data;
    } p[8];
    unsigned n;
};

static void add_piece(struct pieces *w, unsigned at, const void *data, unsigned size)
{
    w->p[w->n++] = (struct piece){at, size, data};
}

static u64 area_ea(const struct insn *i, u64 ea, unsigned at)
{
    ea += at;
    return i->addrsize == 8 ? ea : i->addrsize == 4 ? (u32)ea : (u16)ea;
}

static bool write_pieces(struct cpu *cpu, const struct insn *i, u64 ea, const struct pieces *w)
{
    for (unsigned k = 0; k < w->n; k++) {
        gla lin;
        TRY(seg_linear(cpu, i->seg, area_ea(i, ea, w->p[k].at), w->p[k].size, true, &lin));
        TRY(lin_probe_write(cpu, lin, w->p[k].size, ACC_WRITE));
    }
    for (unsigned k = 0; k < w->n; k++)
        TRY(mem_write_block(cpu, i->seg, area_ea(i, ea, w->p[k].at), w->p[k].data, w->p[k].size));
    return true;
}

/* XSAVE, XSAVEOPT: standard format. XSAVEC, XSAVES: compacted. */
static bool xsave(struct cpu *cpu, const struct insn *i)
{
    u64 ea, rfbm = requested(cpu), header[2];
    TRY(xsave_check(cpu, i, &ea, true));
    bool compact = i->mnemonic == I_xsavec || i->mnemonic == I_xsaves;
    u64 used = in_use(cpu), write = rfbm;
    u8 image[FX_XMM];
    struct pieces w = {.n = 0};

    if (compact) {
        if (*fx32(cpu, FX_MXCSR) != MXCSR_INIT) used |= COMP_SSE;
        write = rfbm & used;
        header[0] = rfbm & used;
        header[1] = rfbm | COMPACTED;
    } else {
        TRY(mem_read_block(cpu, i->seg, area_ea(i, ea, 512), header, 8));
        header[0] = (header[0] & ~rfbm) | (rfbm & used);
        if (i->mnemonic == I_xsaveopt) write = rfbm & used;
    }
    if (write & COMP_X87) {
        x87_image(cpu, image, wide(i));
        add_piece(&w, 0, image, FX_MXCSR);
        add_piece(&w, FX_ST, image + FX_ST, 128);
    }
    if (compact ? write & COMP_SSE : rfbm & (COMP_SSE | COMP_AVX)) {
        mxcsr_image(cpu, image);
        add_piece(&w, FX_MXCSR, image + FX_MXCSR, 8);
    }
    if (write & COMP_SSE) add_piece(&w, FX_XMM, xmm_slot(cpu, 0), vector_bytes(cpu));
    add_piece(&w, 512, header, compact ? 16 : 8);
    if (write & COMP_AVX) add_piece(&w, component_offset(COMP_AVX, compact ? header[1] : 0), cpu->fpu.ymm_high, vector_bytes(cpu));
    u64 pkru = cpu->pkru;
    if (write & COMP_PKRU) add_piece(&w, component_offset(COMP_PKRU, compact ? header[1] : 0), &pkru, 8);
    return write_pieces(cpu, i, ea, &w);
}

/* The header's rules [SDM1] 13.8, 13.12. */
static bool header_valid(const struct cpu *cpu, const struct insn *i, const u8 h[64])
{
    u64 bv = load64(h), comp = load64(h + 8);
    if (!(comp & COMPACTED)) {
        if (i->mnemonic == I_xrstors) return false;
        return !(bv & ~cpu->xcr0) && all_zero(h + 8, 16);
    }
    if (cpu->model && !cpu_has_feature(cpu->model, FEAT_XSAVEC)) return false;
    return !(comp & ~COMPACTED & ~cpu->xcr0) && !(bv & ~comp) && !(bv & COMPACTED) && all_zero(h + 16, 48);
}

static bool xrstor(struct cpu *cpu, const struct insn *i)
{
    u64 ea, rfbm = requested(cpu);
    u8 h[64], image[FX_END], high[256], pkru[8] = {0};
    TRY(xsave_check(cpu, i, &ea, false));
    TRY(mem_read_block(cpu, i->seg, area_ea(i, ea, 512), h, sizeof h));
    if (!header_valid(cpu, i, h)) return raise_gp0(cpu);
    u64 comp = load64(h + 8), load = rfbm & load64(h), init = rfbm & ~load64(h);
    bool compact = comp & COMPACTED;
    unsigned n = vector_bytes(cpu);

    /* Read everything first. */
    bool load_mxcsr = compact ? load & COMP_SSE : rfbm & (COMP_SSE | COMP_AVX);
    if (load & COMP_X87) {
        TRY(mem_read_block(cpu, i->seg, ea, image, FX_MXCSR));
        TRY(mem_read_block(cpu, i->seg, area_ea(i, ea, FX_ST), image + FX_ST, 128));
    }
    u32 mxcsr = MXCSR_INIT;
    if (load_mxcsr) {
        TRY(mem_read_block(cpu, i->seg, area_ea(i, ea, FX_MXCSR), &mxcsr, 4));
        if (mxcsr & ~MXCSR_VALID) return raise_gp0(cpu);
    }
    if (load & COMP_SSE) TRY(mem_read_block(cpu, i->seg, area_ea(i, ea, FX_XMM), image + FX_XMM, n));
    if (load & COMP_AVX) TRY(mem_read_block(cpu, i->seg, area_ea(i, ea, component_offset(COMP_AVX, comp)), high, n));
    if (load & COMP_PKRU) TRY(mem_read_block(cpu, i->seg, area_ea(i, ea, component_offset(COMP_PKRU, comp)), pkru, 8));

    if (load & COMP_X87) x87_load(cpu, image, wide(i));
    if (init & COMP_X87) x87_reset(cpu);
    if (load_mxcsr || (compact && (init & COMP_SSE))) *fx32(cpu, FX_MXCSR) = mxcsr;
    if (load & COMP_SSE) memcpy(xmm_slot(cpu, 0), image + FX_XMM, n);
    if (init & COMP_SSE) memset(xmm_slot(cpu, 0), 0, n);
    if (load & COMP_AVX) memcpy(cpu->fpu.ymm_high, high, n);
    if (init & COMP_AVX) memset(cpu->fpu.ymm_high, 0, n);
    if (((load | init) & COMP_PKRU) && cpu->pkru != load32(pkru)) {
        cpu->pkru = load32(pkru); /* the TLB holds what the old rights allowed */
        tlb_flush_all(cpu);
    }
    return true;
}

exec_fn *exec_select_fpu_state(const struct insn *i)
{
    switch (i->mnemonic) {
    case I_fxsave: return fxsave;
    case I_fxrstor: return fxrstor;
    case I_ldmxcsr:
    case I_vldmxcsr: return ldmxcsr;
    case I_stmxcsr:
    case I_vstmxcsr: return stmxcsr;
    case I_xsave:
    case I_xsaveopt:
    case I_xsavec:
    case I_xsaves: return xsave;
    case I_xrstor:
    case I_xrstors: return xrstor;
    default: return NULL;
    }
}
