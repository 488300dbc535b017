/* Bit operations: BT and relatives, scans and counts, CRC32, BMI1/2, ADX, random numbers. */
#include "cpu/exec_local.h"

#include <immintrin.h>

/* ---- BT, BTS, BTR, BTC ----
 * With a register bit offset and a memory operand the offset reaches beyond the operand: a bit string of 2^16..2^64 bits
 * (SDM vol 1 3.1.1.9). The access is to the operand-sized unit that holds the bit. */
static inline u64 bit_string_ea(const struct cpu *cpu, const struct insn *i, unsigned bits)
{
    u64 ea = insn_ea(cpu, i);
    if (i->operands[1].kind == OPND_IMM) return ea;
    u64 raw = reg_get(cpu, i->operands[1].reg, bits / 8);
    s64 offset = bits == 16 ? (s16)raw : bits == 32 ? (s32)raw : (s64)raw;
    ea += (u64)((offset >> (bits == 16 ? 4 : bits == 32 ? 5 : 6)) * (s64)(bits / 8));
    return i->addrsize == 8 ? ea : i->addrsize == 4 ? (u32)ea : (u16)ea;
}

#define BIT_NUMBER(bits) ((u##bits)((i->operands[1].kind == OPND_IMM ? i->imm : REG##bits(i->src)) & (bits - 1)))
#define BIT_OP(op, bits)                                                                                      \
    HANDLER(op##_r##bits)                                                                                     \
    {                                                                                                         \
        SET##bits(i->dst, alu_##op##bits(REG##bits(i->dst), BIT_NUMBER(bits), &cpu->aflags));                 \
        return true;                                                                                          \
    }                                                                                                         \
    HANDLER(op##_m##bits)                                                                                     \
    {                                                                                                         \
        u64 ea = bit_string_ea(cpu, i, bits);                                                                 \
        u16 fl = cpu->aflags;                                                                                 \
        u##bits n = BIT_NUMBER(bits), v;                                                                      \
        u##bits *p = i->prefixes & PFX_LOCK ? mem_locked(cpu, i->seg, ea, bits / 8)                           \
                                            : mem_fast(cpu, i->seg, ea, bits / 8, true);                      \
        if (LIKELY(p)) {                                                                                      \
            u##bits seen = *(mem##bits *)p, result;                                                           \
            do {                                                                                              \
                v = seen;                                                                                     \
                fl = cpu->aflags;                                                                             \
                result = alu_##op##bits(v, n, &fl);                                                           \
                if (!(i->prefixes & PFX_LOCK)) {                                                              \
                    *(mem##bits *)p = result;                                                                 \
                    break;                                                                                    \
                }                                                                                             \
                seen = __sync_val_compare_and_swap(p, v, result);                                             \
            } while (seen != v);                                                                              \
            if (i->prefixes & PFX_LOCK) mem_locked_end(cpu);                                                  \
        } else {                                                                                              \
            mem_split_lock();                                                                                 \
            bool ok = mem_rmw_slow(cpu, i->seg, ea, &v, bits / 8);                                            \
            if (ok) ok = mem_write##bits(cpu, i->seg, ea, alu_##op##bits(v, n, &fl));                         \
            mem_split_unlock();                                                                               \
            TRY(ok);                                                                                          \
        }                                                                                                     \
        cpu->aflags = fl;                                                                                     \
        return true;                                                                                          \
    }
#define BT_READ(bits)                                                                                         \
    HANDLER(bt_r##bits)                                                                                       \
    {                                                                                                         \
        alu_bt##bits(REG##bits(i->dst), BIT_NUMBER(bits), &cpu->aflags);                                      \
        return true;                                                                                          \
    }                                                                                                         \
    HANDLER(bt_m##bits)                                                                                       \
    {                                                                                                         \
        u##bits v;                                                                                            \
        TRY(mem_read##bits(cpu, i->seg, bit_string_ea(cpu, i, bits), &v));                                    \
        alu_bt##bits(v, BIT_NUMBER(bits), &cpu->aflags);                                                      \
        return true;                                                                                          \
    }
#define BIT_OPS(bits) BT_READ(bits) BIT_OP(bts, bits) BIT_OP(btr, bits) BIT_OP(btc, bits)
BIT_OPS(16)
BIT_OPS(32)
BIT_OPS(64)

/* ---- scans and counts: destination register, source register or memory ---- */
#define SCAN_OP(op, bits)                                                                                     \
    HANDLER(op##_##bits)                                                                                      \
    {                                                                                                         \
        u##bits v;                                                                                            \
        if (i->operands[1].kind == OPND_MEM)                                                                  \
            TRY(mem_read##bits(cpu, i->seg, insn_ea(cpu, i), &v));                                            \
        else                                                                                                  \
            v = REG##bits(i->src);                                                                            \
        SET##bits(i->dst, alu_##op##bits(REG##bits(i->dst), v, &cpu->aflags));                                \
        return true;                                                                                          \
    }
/* BSF and BSR of zero leave the destination alone, all 64 bits of it: [SDM2] BSF leaves it open, processors agree. */
#define FIND_OP(op, bits)                                                                                     \
    HANDLER(op##_##bits)                                                                                      \
    {                                                                                                         \
        u##bits v;                                                                                            \
        if (i->operands[1].kind == OPND_MEM)                                                                  \
            TRY(mem_read##bits(cpu, i->seg, insn_ea(cpu, i), &v));                                            \
        else                                                                                                  \
            v = REG##bits(i->src);                                                                            \
        u##bits r = alu_##op##bits(REG##bits(i->dst), v, &cpu->aflags);                                       \
        if (v) SET##bits(i->dst, r);                                                                          \
        return true;                                                                                          \
    }
#define SCAN_OPS(op) SCAN_OP(op, 16) SCAN_OP(op, 32) SCAN_OP(op, 64)
#define FIND_OPS(op) FIND_OP(op, 16) FIND_OP(op, 32) FIND_OP(op, 64)
FIND_OPS(bsf)
FIND_OPS(bsr)
SCAN_OPS(tzcnt)
SCAN_OPS(lzcnt)
SCAN_OPS(popcnt)
SCAN_OP(adcx, 32)
SCAN_OP(adcx, 64)
SCAN_OP(adox, 32)
SCAN_OP(adox, 64)

/* Any general operand, zero-extended. */
static bool operand_value(struct cpu *cpu, const struct insn *i, unsigned n, u64 *v)
{
    const struct operand *o = &i->operands[n];
    *v = 0;
    switch (o->kind) {
    case OPND_MEM: return mem_read_block(cpu, i->seg, insn_ea(cpu, i), v, o->size);
    case OPND_GPRH: *v = *reg8_ptr(cpu, o); return true;
    case OPND_IMM: *v = i->imm; return true;
    default: *v = reg_get(cpu, o->reg, o->size); return true;
    }
}

__attribute__((target("sse4.2"))) HANDLER(crc32)
{
    u64 v, crc = REG32(i->dst);
    TRY(operand_value(cpu, i, 1, &v));
    switch (i->operands[1].size) {
    case 1: crc = _mm_crc32_u8((u32)crc, (u8)v); break;
    case 2: crc = _mm_crc32_u16((u32)crc, (u16)v); break;
    case 4: crc = _mm_crc32_u32((u32)crc, (u32)v); break;
    default: crc = _mm_crc32_u64(crc, v); break;
    }
    REG64(i->dst) = crc;
    return true;
}

/* ---- BMI1, BMI2: 32 or 64 bits ---- */
#define BMI_BINARY(op, first, second)                                                                         \
    HANDLER(op)                                                                                               \
    {                                                                                                         \
        u64 a, b;                                                                                             \
        TRY(operand_value(cpu, i, first, &a) && operand_value(cpu, i, second, &b));                           \
        unsigned reg = i->operands[0].reg;                                                                    \
        if (i->opsize == 8)                                                                                   \
            reg_set(cpu, reg, 8, alu_##op##64(a, b, &cpu->aflags));                                           \
        else                                                                                                  \
            reg_set(cpu, reg, 4, alu_##op##32((u32)a, (u32)b, &cpu->aflags));                                 \
        return true;                                                                                          \
    }
BMI_BINARY(andn, 1, 2)
BMI_BINARY(bextr, 1, 2)
BMI_BINARY(bzhi, 1, 2)
BMI_BINARY(pdep, 1, 2)
BMI_BINARY(pext, 1, 2)
BMI_BINARY(shlx, 1, 2)
BMI_BINARY(shrx, 1, 2)
BMI_BINARY(sarx, 1, 2)

#define BMI_UNARY(op)                                                                                         \
    HANDLER(op)                                                                                               \
    {                                                                                                         \
        u64 a;                                                                                                \
        TRY(operand_value(cpu, i, 1, &a));                                                                    \
        unsigned reg = i->operands[0].reg;                                                                    \
        if (i->opsize == 8)                                                                                   \
            reg_set(cpu, reg, 8, alu_##op##64(a, &cpu->aflags));                                              \
        else                                                                                                  \
            reg_set(cpu, reg, 4, alu_##op##32((u32)a, &cpu->aflags));                                         \
        return true;                                                                                          \
    }
BMI_UNARY(blsi)
BMI_UNARY(blsr)
BMI_UNARY(blsmsk)

HANDLER(rorx)
{
    u64 a;
    TRY(operand_value(cpu, i, 1, &a));
    unsigned n = (unsigned)i->imm & (i->opsize == 8 ? 63 : 31);
    if (i->opsize == 8)
        a = n ? a >> n | a << (64 - n) : a;
    else
        a = n ? (u32)a >> n | (u32)a << (32 - n) : (u32)a;
    reg_set(cpu, i->operands[0].reg, i->opsize, a);
    return true;
}

/* MULX: high half to the first operand, low to the second; the high half wins when they are the same. */
HANDLER(mulx)
{
    u64 a;
    TRY(operand_value(cpu, i, 2, &a));
    unsigned __int128 r = i->opsize == 8 ? (unsigned __int128)a * cpu->regs[R_DX] : (u64)(u32)a * (u32)cpu->regs[R_DX];
    reg_set(cpu, i->operands[1].reg, i->opsize, (u64)r);
    reg_set(cpu, i->operands[0].reg, i->opsize, (u64)(r >> (8 * i->opsize)));
    return true;
}

/* ---- RDRAND, RDSEED: the host's own; flags all zero but CF ---- */
__attribute__((target("rdrnd,rdseed"))) HANDLER(random_number)
{
    unsigned long long v = 0;
    bool ok;
    unsigned tries = 16;
    do {
        ok = i->mnemonic == I_rdseed ? _rdseed64_step(&v) : _rdrand64_step(&v);
    } while (!ok && --tries);
    reg_set(cpu, i->operands[0].reg, i->opsize, ok ? v : 0);
    cpu->aflags = ok ? AFLAG_CF : 0;
    return true;
}

exec_fn *exec_select_bits(const struct insn *i)
{
#define WIDE(prefix) {NULL, prefix##16, prefix##32, prefix##64}
#define WIDE2(prefix) {NULL, NULL, prefix##32, prefix##64}
    static exec_fn *const bt_r[4] = WIDE(bt_r), *const bt_m[4] = WIDE(bt_m), *const bts_r[4] = WIDE(bts_r),
                   *const bts_m[4] = WIDE(bts_m), *const btr_r[4] = WIDE(btr_r), *const btr_m[4] = WIDE(btr_m),
                   *const btc_r[4] = WIDE(btc_r), *const btc_m[4] = WIDE(btc_m), *const bsf[4] = WIDE(bsf_),
                   *const bsr[4] = WIDE(bsr_), *const tzcnt[4] = WIDE(tzcnt_), *const lzcnt[4] = WIDE(lzcnt_),
                   *const popcnt[4] = WIDE(popcnt_), *const adcx[4] = WIDE2(adcx_), *const adox[4] = WIDE2(adox_);
    unsigned s = size_index(i->opsize);
    bool mem = i->operands[0].kind == OPND_MEM;
    switch (i->mnemonic) {
    case I_bt: return mem ? bt_m[s] : bt_r[s];
    case I_bts: return mem ? bts_m[s] : bts_r[s];
    case I_btr: return mem ? btr_m[s] : btr_r[s];
    case I_btc: return mem ? btc_m[s] : btc_r[s];
    case I_bsf: return bsf[s];
    case I_bsr: return bsr[s];
    case I_tzcnt: return tzcnt[s];
    case I_lzcnt: return lzcnt[s];
    case I_popcnt: return popcnt[s];
    case I_adcx: return adcx[s];
    case I_adox: return adox[s];
    case I_crc32: return crc32;
    case I_andn: return andn;
    case I_bextr: return bextr;
    case I_bzhi: return bzhi;
    case I_pdep: return pdep;
    case I_pext: return pext;
    case I_shlx: return shlx;
    case I_shrx: return shrx;
    case I_sarx: return sarx;
    case I_blsi: return blsi;
    case I_blsr: return blsr;
    case I_blsmsk: return blsmsk;
    case I_rorx: return rorx;
    case I_mulx: return mulx;
    case I_rdrand:
    case I_rdseed: return random_number;
    default: return NULL;
    }
}
