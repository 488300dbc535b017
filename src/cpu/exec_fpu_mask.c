/* Interpreter: vector instructions that access memory element by element, under a mask: MASKMOVQ, [V]MASKMOVDQU,
 * V[P]MASKMOV*, V[P]GATHER*; and VZEROALL, VZEROUPPER. Elements whose mask bit is clear are not accessed, so they neither
 * fault nor show on a bus.
 *
 * References: [SDM2] each instruction's page; 2.4.12 (gathers). */
#include "cpu/exec_fpu.h"

#include <string.h>

/* The next run of set bits of mask (of `n`) from *at on: its length, 0 at the end. */
static unsigned next_run(u32 mask, unsigned n, unsigned *at)
{
    unsigned k = *at, len = 0;
    while (k < n && !(mask >> k & 1)) k++;
    *at = k;
    while (k + len < n && (mask >> (k + len) & 1)) len++;
    return len;
}

static u64 truncate_ea(const struct insn *i, u64 ea) { return i->addrsize == 8 ? ea : i->addrsize == 4 ? (u32)ea : (u16)ea; }

/* Accesses are by bytes: none is misaligned, as processors raise no #AC for them.
 *
 * Write the bytes of data[0..n) that the mask names, all or nothing. */
static bool masked_write(struct cpu *cpu, const struct insn *i, u64 ea, const u8 *data, u32 mask, unsigned n)
{
    unsigned len;
    for (unsigned at = 0; (len = next_run(mask, n, &at)); at += len) {
        gla lin;
        TRY(seg_linear(cpu, i->seg, truncate_ea(i, ea + at + len - 1), 1, true, &lin));
        TRY(seg_linear(cpu, i->seg, truncate_ea(i, ea + at), 1, true, &lin));
        TRY(lin_probe_write(cpu, lin, len, ACC_WRITE));
    }
    for (unsigned k = 0; k < n; k++)
        if (mask >> k & 1) TRY(mem_write8(cpu, i->seg, truncate_ea(i, ea + k), data[k]));
    return true;
}

static bool masked_read(struct cpu *cpu, const struct insn *i, u64 ea, u8 *data, u32 mask, unsigned n)
{
    for (unsigned k = 0; k < n; k++)
        if (mask >> k & 1) TRY(mem_read8(cpu, i->seg, truncate_ea(i, ea + k), &data[k]));
    return true;
}

static u32 sign_bytes(const u8 *v, unsigned n)
{
    u32 mask = 0;
    for (unsigned k = 0; k < n; k++) mask |= (u32)(v[k] >> 7) << k;
    return mask;
}

/* Byte mask of elements whose sign bit is set. */
static u32 sign_elements(const u8 *v, unsigned n, unsigned element)
{
    u32 mask = 0;
    for (unsigned k = 0; k < n; k += element)
        if (v[k + element - 1] & 0x80) mask |= ((1u << element) - 1) << k;
    return mask;
}

/* ---- MASKMOVQ, MASKMOVDQU: to seg:rDI ---- */

static bool maskmovq(struct cpu *cpu, const struct insn *i)
{
    TRY(fpu_mmx_check(cpu, i));
    /* The registers' numbers are physical; the image is by stack order. */
    unsigned top = fx_top(cpu);
    const u8 *data = st_slot(cpu, (i->operands[0].reg - top) & 7);
    u32 mask = sign_bytes(st_slot(cpu, (i->operands[1].reg - top) & 7), 8);
    gla lin;
    /* The whole operand must be writable, whatever the mask [SDM2] MASKMOVQ leaves that to the processor. */
    TRY(seg_linear(cpu, i->seg, truncate_ea(i, cpu->regs[R_DI]), 8, true, &lin));
    TRY(lin_probe_write(cpu, lin, 8, ACC_WRITE));
    TRY(masked_write(cpu, i, truncate_ea(i, cpu->regs[R_DI]), data, mask, 8));
    fpu_set_top(cpu, 0);
    cpu->fpu.legacy[FX_TAG] = 0xff;
    return true;
}

static bool maskmovdqu(struct cpu *cpu, const struct insn *i)
{
    TRY(i->opcode->attr & ATTR_AVX ? fpu_avx_check(cpu) : fpu_sse_check(cpu));
    u32 mask = sign_bytes(xmm_slot(cpu, i->operands[1].reg), 16);
    gla lin; /* two halves, the high one first; both must be writable, whatever the mask */
    TRY(seg_linear(cpu, i->seg, truncate_ea(i, cpu->regs[R_DI] + 8), 8, true, &lin));
    TRY(lin_probe_write(cpu, lin, 8, ACC_WRITE));
    TRY(seg_linear(cpu, i->seg, truncate_ea(i, cpu->regs[R_DI]), 8, true, &lin));
    TRY(lin_probe_write(cpu, lin, 8, ACC_WRITE));
    return masked_write(cpu, i, truncate_ea(i, cpu->regs[R_DI]), xmm_slot(cpu, i->operands[0].reg), mask, 16);
}

/* ---- V[P]MASKMOV ---- */

static void ymm_get(struct cpu *cpu, unsigned reg, u8 v[32])
{
    memcpy(v, xmm_slot(cpu, reg), 16);
    memcpy(v + 16, ymm_high_slot(cpu, reg), 16);
}

/* The low n bytes; what is above becomes zero. */
static void ymm_set(struct cpu *cpu, unsigned reg, const u8 *v, unsigned n)
{
    u8 whole[32] = {0};
    memcpy(whole, v, n);
    memcpy(xmm_slot(cpu, reg), whole, 16);
    memcpy(ymm_high_slot(cpu, reg), whole + 16, 16);
}

static unsigned mask_element(const struct insn *i)
{
    return i->mnemonic == I_vmaskmovpd || i->mnemonic == I_vpmaskmovq ? 8 : 4;
}

static bool vmaskmov_load(struct cpu *cpu, const struct insn *i)
{
    TRY(fpu_avx_check(cpu));
    unsigned n = i->vex_l ? 32 : 16;
    u8 mask[32], v[32] = {0};
    ymm_get(cpu, i->operands[1].reg, mask);
    TRY(masked_read(cpu, i, insn_ea(cpu, i), v, sign_elements(mask, n, mask_element(i)), n));
    ymm_set(cpu, i->operands[0].reg, v, n);
    return true;
}

static bool vmaskmov_store(struct cpu *cpu, const struct insn *i)
{
    TRY(fpu_avx_check(cpu));
    unsigned n = i->vex_l ? 32 : 16;
    u8 mask[32], v[32];
    ymm_get(cpu, i->operands[1].reg, mask);
    ymm_get(cpu, i->operands[2].reg, v);
    return masked_write(cpu, i, insn_ea(cpu, i), v, sign_elements(mask, n, mask_element(i)), n);
}

/* ---- gathers ---- */

/* Elements are loaded in ascending order. When one faults, those before it are done and their mask elements cleared, so
 * that the instruction can be restarted [SDM2] VGATHERDPS. */
static bool gather(struct cpu *cpu, const struct insn *i)
{
    TRY(fpu_avx_check(cpu));
    unsigned dst_reg = i->operands[0].reg, mask_reg = i->operands[2].reg, index_reg = i->index;
    if (dst_reg == mask_reg || dst_reg == index_reg || mask_reg == index_reg) return raise_ud(cpu);
    unsigned data = i->rex & 8 ? 8 : 4, idx = i->code & 1 ? 8 : 4; /* element sizes */
    unsigned count = (i->vex_l ? 32u : 16u) / MAX(data, idx);
    unsigned n = count * data;
    u8 dst[32], mask[32], index[32];
    ymm_get(cpu, dst_reg, dst);
    ymm_get(cpu, mask_reg, mask);
    ymm_get(cpu, index_reg, index);
    /* The mask is spread over its elements first, those without an index too: visible when an element faults. */
    unsigned length = i->vex_l ? 32 : 16;
    for (unsigned k = 0; k < length; k += data) memset(mask + k, mask[k + data - 1] & 0x80 ? 0xff : 0, data);
    memset(mask + length, 0, sizeof mask - length);
    bool ok = true;
    for (unsigned k = 0; k < count && ok; k++) {
        u8 *m = mask + k * data;
        if (!*m) continue;
        s64 x;
        if (idx == 8) {
            memcpy(&x, index + 8 * k, 8);
        } else {
            s32 x32;
            memcpy(&x32, index + 4 * k, 4);
            x = x32;
        }
        u64 ea = truncate_ea(i, cpu->regs[i->base] + ((u64)x << i->scale) + (u64)i->disp);
        u8 v[8];
        ok = masked_read(cpu, i, ea, v, (1u << data) - 1, data);
        if (ok) {
            memcpy(dst + k * data, v, data);
            memset(dst + n, 0, sizeof dst - n); /* with the first element written, not before */
            memset(m, 0, data);
        }
    }
    if (ok) { /* at the end only */
        memset(dst + n, 0, sizeof dst - n);
        memset(mask, 0, sizeof mask);
    }
    ymm_set(cpu, dst_reg, dst, 32);
    ymm_set(cpu, mask_reg, mask, 32);
    return ok;
}

/* ---- VZEROALL, VZEROUPPER: eight registers outside 64-bit mode ---- */

static bool vzero(struct cpu *cpu, const struct insn *i)
{
    TRY(fpu_avx_check(cpu));
    size_t bytes = cpu_code64(cpu) ? 256 : 128;
    memset(cpu->fpu.ymm_high, 0, bytes);
    if (i->mnemonic == I_vzeroall) memset(xmm_slot(cpu, 0), 0, bytes);
    return true;
}

exec_fn *exec_select_fpu_mask(const struct insn *i)
{
    switch (i->mnemonic) {
    case I_maskmovq: return maskmovq;
    case I_maskmovdqu:
    case I_vmaskmovdqu: return maskmovdqu;
    case I_vmaskmovps:
    case I_vmaskmovpd:
    case I_vpmaskmovd:
    case I_vpmaskmovq: return i->operands[0].kind == OPND_MEM ? vmaskmov_store : vmaskmov_load;
    case I_vgatherdps:
    case I_vgatherdpd:
    case I_vgatherqps:
    case I_vgatherqpd:
    case I_vpgatherdd:
    case I_vpgatherdq:
    case I_vpgatherqd:
    case I_vpgatherqq: return gather;
    case I_vzeroall:
    case I_vzeroupper: return vzero;
    default: return NULL;
    }
}
