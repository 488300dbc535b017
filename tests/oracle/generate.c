/* Random cases: a start state, and a sequence of instructions that mostly do something sensible with it.
 *
 * The state is chosen while the instructions are: a register nobody has used yet can still get the start value that makes
 * a memory operand land in the data pages. Registers whose value is not known any more get it by a MOV put in front.
 * Some operands are left wild on purpose: faults are results too.
 *
 * Undefined flags are followed through the sequence, and instructions that would read one are not generated; so a
 * difference is never blamed on an undefined flag, but in the flags at the end, where oracle_case.undefined_at says so. */
#include <stdlib.h>
#include <string.h>

#include "build.h"

struct encoding {
    u8 b[16];
    unsigned n, disp_at, disp_size;
};

/* ---- addresses ---- */

unsigned pick_target(struct build *b, unsigned size, bool aligned)
{
    struct rng *r = &b->rng;
    unsigned p = rng_below(r, 100), t;
    if (p < 72) t = DATA_OFF + 64 + rng_below(r, DATA_SIZE - 640);
    else if (p < 82) t = DATA_OFF + GUEST_PAGE_SIZE * (1 + rng_below(r, 3)) - rng_below(r, size + 2); /* page crossing */
    else if (p < 86) t = RO_OFF + rng_below(r, GUEST_PAGE_SIZE - 64);
    else if (p < 88) t = RO_OFF - rng_below(r, size + 2);                   /* from writable into read-only */
    else if (p < 90) t = RO_OFF + GUEST_PAGE_SIZE - rng_below(r, size + 2); /* into nothing */
    else if (p < 92) t = DATA_OFF - 1 - rng_below(r, size + 2);             /* from nothing into data */
    else if (p < 94) t = DATA_OFF + rng_below(r, size + 2);
    else if (p < 96) t = STACK_OFF + rng_below(r, STACK_SIZE);
    else if (p < 98) t = DATA_OFF + 64 + rng_below(r, DATA_SIZE - 640);
    else t = rng_below(r, WINDOW_SIZE);
    if (aligned ? rng_percent(r, 92) : rng_percent(r, 40)) t &= ~(size ? size > 64 ? 63 : size - 1 : 0);
    return t;
}

u64 segment_base(const struct build *b, unsigned seg)
{
    const struct machine_state *s = &b->c->in;
    if (b->mode == CODE_64) return seg == SEG_FS ? s->fs_base : seg == SEG_GS ? s->gs_base : 0;
    const u16 selectors[SEG_COUNT] = {s->es, s->cs, s->ss, s->ds, s->fs, s->gs};
    return selector_base(selectors[seg]);
}

static u64 code_base(const struct build *b) { return selector_base(b->c->in.cs); }
static u64 code_address(const struct build *b, unsigned at) { return WINDOW + b->c->code_off + at - code_base(b); }
static u64 size_mask(unsigned size) { return size == 8 ? ~0ull : (1ull << 8 * size) - 1; }

/* ---- emitting ---- */

bool emit(struct build *b, const u8 *bytes, unsigned n, unsigned mnemonic)
{
    struct oracle_case *c = b->c;
    if (b->pos + n > CODE_MAX || c->ninsns >= MAX_INSNS) return false;
    memcpy(c->code + b->pos, bytes, n);
    c->at[c->ninsns] = (u16)b->pos;
    c->len[c->ninsns] = (u8)n;
    c->mnemonic[c->ninsns] = (u16)mnemonic;
    c->undefined_at[c->ninsns] = b->undefined;
    c->ninsns++;
    b->pos += n;
    return true;
}

bool emit_mov(struct build *b, unsigned reg, u64 value)
{
    u8 code[10];
    unsigned n = 0, size = b->width;
    if (size == 8) {
        u8 rex = (u8)(0x40 | (reg >> 3));
        if (value >> 32) rex |= 8;
        else size = 4;
        if (rex != 0x40) code[n++] = rex;
    } else if (size == 2 && value >> 16) {
        size = 4;
        code[n++] = 0x66;
    }
    code[n++] = (u8)(0xb8 | (reg & 7));
    memcpy(code + n, &value, size);
    if (b->keep >> reg & 1) return false;
    if (!emit(b, code, n + size, I_mov)) return false;
    b->state[reg] = REG_KNOWN;
    b->value[reg] = value & size_mask(b->width);
    return true;
}

bool ensure(struct build *b, unsigned reg, u64 value)
{
    if (b->state[reg] == REG_FREE) {
        if (b->mode != CODE_64) value &= 0xffffffff;
        b->c->in.regs[reg] = value;
        b->value[reg] = value;
        b->state[reg] = REG_KNOWN;
        return true;
    }
    if (b->state[reg] == REG_KNOWN && b->value[reg] == value) return true;
    return emit_mov(b, reg, value);
}

static void use(struct build *b, unsigned reg)
{
    if (b->state[reg] != REG_FREE) return;
    b->state[reg] = REG_KNOWN;
    b->value[reg] = b->c->in.regs[reg];
}

/* ---- one instruction's bytes ---- */

static unsigned pick_bit(struct rng *r, u64 mask)
{
    unsigned n = rng_below(r, (unsigned)__builtin_popcountll(mask));
    while (n--) mask &= mask - 1;
    return (unsigned)__builtin_ctzll(mask);
}

static void put_modrm(struct build *b, struct encoding *e, const struct form *f, bool address16)
{
    struct rng *r = &b->rng;
    unsigned reg, rm, mod;
    if (f->memory) {
        reg = pick_bit(r, f->reg_mask);
        mod = rng_below(r, 3);
        rm = form_gathers(f) && rng_percent(r, 95) ? 4 : rng_below(r, 8);
    } else {
        unsigned both = pick_bit(r, f->reg_rm);
        reg = both >> 3, rm = both & 7, mod = 3;
    }
    e->b[e->n++] = (u8)(mod << 6 | reg << 3 | rm);
    if (mod == 3) return;
    e->disp_size = mod == 1 ? 1 : mod == 2 ? address16 ? 2 : 4 : 0;
    if (address16) {
        if (mod == 0 && rm == 6) e->disp_size = 2;
    } else {
        if (rm == 4) {
            u8 sib = (u8)rng_next(r);
            if (mod == 0 && (sib & 7) == 5) e->disp_size = 4;
            e->b[e->n++] = sib;
        }
        if (mod == 0 && rm == 5) e->disp_size = 4;
    }
    e->disp_at = e->n;
    u64 disp = rng_percent(r, 60) ? rng_below(r, 256) : random_integer(r);
    memcpy(e->b + e->n, &disp, 4);
    e->n += e->disp_size;
}

static void build_bytes(struct build *b, const struct form *f, struct encoding *e)
{
    static const u8 pp_bytes[4] = {0, 0x66, 0xf3, 0xf2};
    static const u8 seg_bytes[6] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    struct rng *r = &b->rng;
    bool m64 = b->mode == CODE_64, p67;
    u8 prefixes[8];
    unsigned np = 0;
    memset(e, 0, sizeof *e);

    if (rng_percent(r, f->memory ? 10 : 2)) prefixes[np++] = seg_bytes[m64 ? 4 + rng_below(r, 2) : rng_below(r, 6)];
    if (rng_permille(r, 8)) prefixes[np++] = seg_bytes[rng_below(r, 6)];
    p67 = rng_percent(r, b->mode == CODE_16 ? 25 : b->mode == CODE_32 ? 6 : 6);
    if (b->mode == CODE_16 && form_gathers(f)) p67 = rng_percent(r, 95);
    if (p67) prefixes[np++] = 0x67;
    if (!f->vex && f->map != 2 && !f->pp && rng_percent(r, b->mode == CODE_16 ? 35 : 18)) prefixes[np++] = 0x66;
    else if (rng_permille(r, 5)) prefixes[np++] = 0x66;
    if (rng_permille(r, (f->attr & ATTR_LOCK) && f->memory ? 250 : 3)) prefixes[np++] = 0xf0;
    if (f->attr & ATTR_REP ? rng_percent(r, 60) : rng_permille(r, 5)) prefixes[np++] = rng_percent(r, 50) ? 0xf2 : 0xf3;
    if (!f->vex && f->pp) prefixes[np++] = pp_bytes[f->pp];
    for (unsigned k = np; k-- > 1;) {
        unsigned other = rng_below(r, k + 1);
        u8 t = prefixes[k];
        prefixes[k] = prefixes[other];
        prefixes[other] = t;
    }
    memcpy(e->b, prefixes, np);
    e->n = np;

    unsigned rxb = (unsigned)rng_next(r) & 7;
    if (f->vex) {
        u8 vvvv = rng_percent(r, 70) ? (u8)rng_below(r, 16) : 15;
        if (!m64) rxb = 0;
        if (f->map == 1 && !f->w && !(rxb & 3) && rng_percent(r, 60)) {
            e->b[e->n++] = 0xc5;
            e->b[e->n++] = (u8)((rxb & 4 ? 0 : 0x80) | vvvv << 3 | f->l << 2 | f->pp);
        } else {
            e->b[e->n++] = 0xc4;
            e->b[e->n++] = (u8)((~rxb & 7) << 5 | f->map);
            e->b[e->n++] = (u8)(f->w << 7 | vvvv << 3 | f->l << 2 | f->pp);
        }
    } else {
        if (m64 && (f->w || rng_percent(r, 40))) e->b[e->n++] = (u8)(0x40 | f->w << 3 | rxb);
        if (f->map) e->b[e->n++] = 0x0f;
        if (f->map == 2) e->b[e->n++] = 0x38;
        if (f->map == 3) e->b[e->n++] = 0x3a;
    }
    e->b[e->n++] = f->code;
    /* Without a ModRM byte in the row this is immediate bytes, as random as any. */
    put_modrm(b, e, f, b->mode == CODE_16 ? !p67 : b->mode == CODE_32 ? p67 : false);
    u64 imm = rng_percent(r, 50) ? rng_next(r) : random_integer(r);
    unsigned left = 15 - MIN(e->n, 15u);
    memcpy(e->b + e->n, &imm, MIN(left, 8u));
}

/* ---- registers the operand list does not show ---- */

static u32 implicit_written(const struct insn *i)
{
    switch (i->mnemonic) {
    case I_mul: case I_imul: case I_div: case I_idiv: case I_cwd: case I_mulx: case I_rdmsr: case I_rdpkru:
        return MASK(R_AX) | MASK(R_DX);
    case I_cmpxchg: case I_cbw: case I_lahf: case I_aaa: case I_aas: case I_aad: case I_aam: case I_daa: case I_das:
    case I_salc: case I_xlat: case I_fnstsw: case I_in:
        return MASK(R_AX);
    case I_cmpxchg8b: return MASK(R_AX) | MASK(R_DX);
    case I_movs: case I_cmps: case I_ins: case I_outs: case I_stos: case I_lods: case I_scas:
        return MASK(R_AX) | MASK(R_SI) | MASK(R_DI) | MASK(R_CX);
    case I_loop: case I_loope: case I_loopne: return MASK(R_CX);
    case I_pusha: case I_popa: return 0xff;
    case I_enter: case I_leave: return MASK(R_BP) | MASK(R_SP);
    case I_pcmpestri: case I_pcmpistri: case I_vpcmpestri: case I_vpcmpistri: return MASK(R_CX);
    default: return 0;
    }
}

static u32 implicit_read(const struct insn *i)
{
    u32 m = implicit_written(i);
    switch (i->mnemonic) {
    case I_cmpxchg8b: return m | MASK(R_BX) | MASK(R_CX);
    case I_jcxz: return MASK(R_CX);
    case I_sahf: case I_out: return MASK(R_AX);
    case I_mulx: return MASK(R_DX);
    case I_xlat: return m | MASK(R_BX);
    case I_maskmovq: case I_maskmovdqu: case I_vmaskmovdqu: return MASK(R_DI);
    case I_pcmpestri: case I_pcmpestrm: case I_vpcmpestri: case I_vpcmpestrm: return m | MASK(R_AX) | MASK(R_DX);
    case I_shl: case I_shr: case I_sar: case I_rol: case I_ror: case I_rcl: case I_rcr: case I_shld: case I_shrd:
        return MASK(R_CX);
    case I_wrmsr: case I_wrpkru: case I_xsetbv: case I_rdmsr: case I_rdpkru:
        return MASK(R_AX) | MASK(R_CX) | MASK(R_DX);
    default: return m;
    }
}

static u32 written(const struct insn *i)
{
    u32 m = implicit_written(i);
    for (unsigned k = 0; k < i->noperands; k++) {
        const struct operand *o = &i->operands[k];
        if ((o->kind == OPND_GPR || o->kind == OPND_GPRH) && (o->access & OPND_WRITE)) m |= MASK(o->reg);
    }
    return m;
}

/* Shifts and rotates read flags only to leave them alone when the count is 0. */
static bool passes_flags(unsigned mnemonic)
{
    switch (mnemonic) {
    case I_shl: case I_shr: case I_sar: case I_rol: case I_ror: case I_shld: case I_shrd: return true;
    default: return false;
    }
}

static bool defines_flags(const struct insn *i)
{
    return !((i->prefixes & (PFX_REP | PFX_REPNE)) && (i->mnemonic == I_cmps || i->mnemonic == I_scas));
}

static bool shows_x87_pointers(unsigned mnemonic)
{
    return mnemonic == I_fnstenv || mnemonic == I_fnsave || mnemonic == I_fxsave;
}

/* ---- operands with a purpose ---- */

static const struct operand *memory_operand(const struct insn *i)
{
    for (unsigned k = 0; k < i->noperands; k++)
        if (i->operands[k].kind == OPND_MEM) return &i->operands[k];
    return NULL;
}

/* Make the memory operand's offset `ea` by registers or displacement. False: give up on this instruction. */
static bool aim(struct build *b, struct encoding *e, const struct insn *i, u64 ea)
{
    u64 mask = size_mask(i->addrsize);
    bool base_reg = i->base < 16, index_reg = i->index < 16;
    ea &= mask;
    if (i->base == R_SP && b->mode != CODE_16) {
        /* Stay near the stack pointer, which only pushes and pops move. */
        s32 d = (s32)rng_below(&b->rng, 128) - 64;
        memcpy(e->b + e->disp_at, &d, e->disp_size);
        return true;
    }
    u64 index = 0;
    if (index_reg && i->index != i->base) {
        if (b->state[i->index] == REG_UNKNOWN || rng_percent(&b->rng, b->state[i->index] == REG_FREE ? 90 : 20)) {
            u64 v = rng_percent(&b->rng, 80) ? rng_below(&b->rng, 128) : random_integer(&b->rng);
            if (b->mode != CODE_64) v &= 0xffffffff;
            if (i->index == R_SP || !ensure(b, i->index, v)) return false;
        }
        index = b->value[i->index] << i->scale;
    }
    if (!base_reg) {
        u64 origin = i->base == REG_RIP ? code_address(b, b->pos) + i->len : 0;
        if (!e->disp_size) return false;
        u64 d = ea - origin - index;
        memcpy(e->b + e->disp_at, &d, e->disp_size);
        return true;
    }
    if (i->index == i->base) {
        if (!e->disp_size || e->disp_size == 1 || !ensure(b, i->base, rng_below(&b->rng, 256))) return false;
        u64 d = ea - b->value[i->base] - (b->value[i->base] << i->scale);
        memcpy(e->b + e->disp_at, &d, e->disp_size);
        return true;
    }
    u64 want = (ea - (u64)i->disp - index) & mask;
    if (b->state[i->base] == REG_KNOWN && (e->disp_size == 4 || e->disp_size == i->addrsize)) {
        u64 d = ea - index - b->value[i->base];
        if (i->addrsize != 8 || (s64)(s32)d == (s64)d) {
            memcpy(e->b + e->disp_at, &d, e->disp_size);
            return true;
        }
    }
    /* Garbage above the address size must not matter. */
    if (i->addrsize < b->width && rng_percent(&b->rng, 30)) want |= rng_next(&b->rng) & ~mask & size_mask(b->width);
    return ensure(b, i->base, want);
}

unsigned add_fixup(struct build *b, enum fixup_kind kind, unsigned at, unsigned size, unsigned next, unsigned skip)
{
    unsigned target = b->c->ninsns + 1 + skip;
    if (b->nfixups + 2 >= ARRAY_LEN(b->fixups)) return target;
    b->fixups[b->nfixups++] =
        (struct fixup){.kind = kind, .size = (u8)size, .selector = b->c->in.cs, .at = (u16)at, .next = (u16)next,
                       .target = (u16)target};
    b->join = MAX(b->join, target);
    return target;
}

/* Put `value` where the program sees the image at window offset t... */
static bool image_read(const struct build *b, unsigned t, void *out, unsigned size)
{
    for (unsigned k = 0; k < size; k++) {
        int at = image_offset(t + k);
        if (at < 0) return false;
        ((u8 *)out)[k] = b->g->image[at];
    }
    return true;
}

static u16 pick_selector(struct rng *r)
{
    static const u16 some[] = {0, 3, SEL_DATA_FLAT, SEL_CODE32_FLAT, SEL_CODE64, 0x7b, 0x10, 0x18, 0x43, 0x53, 0x83,
                               SEL_LDT(LDT_CODE16), SEL_LDT(LDT_DATA16), SEL_LDT(LDT_CODE32), SEL_LDT(LDT_DATA32),
                               SEL_LDT(LDT_SHORT), SEL_LDT(LDT_DOWN), SEL_LDT(LDT_RO), SEL_LDT(LDT_XO),
                               SEL_LDT(LDT_ABSENT), SEL_LDT(LDT_COUNT), SEL_LDT(40), 0x29, 0x2a, 0x28, 4, 0xfff8};
    return rng_percent(r, 90) ? some[rng_below(r, ARRAY_LEN(some))] : (u16)rng_next(r);
}

/* Choose operand values for the kinds of instruction that would otherwise mostly fault or do nothing. May emit MOVs.
 * t: window offset of the memory operand, or -1. */
static bool prepare(struct build *b, const struct insn *i, int t)
{
    struct rng *r = &b->rng;
    switch (i->mnemonic) {
    case I_div:
    case I_idiv:
        if (b->state[R_DX] == REG_FREE && i->opsize > 1 && rng_percent(r, 75)) {
            use(b, R_AX);
            bool negative = i->mnemonic == I_idiv && b->state[R_AX] == REG_KNOWN &&
                            (b->value[R_AX] >> (8 * i->opsize - 1) & 1) && rng_percent(r, 70);
            return ensure(b, R_DX, negative ? ~0ull : rng_percent(r, 50) ? 0 : rng_below(r, 64));
        }
        break;
    case I_bt:
    case I_bts:
    case I_btr:
    case I_btc:
        if (i->noperands > 1 && i->operands[1].kind == OPND_GPR && b->state[i->operands[1].reg] == REG_FREE && t >= 0 &&
            i->operands[1].reg != i->base && i->operands[1].reg != i->index)
            return ensure(b, i->operands[1].reg, (u64)((s64)rng_below(r, 2048) - 1024));
        break;
    case I_cmpxchg:
        if (t >= 0 && b->state[R_AX] == REG_FREE && i->base != R_AX && i->index != R_AX && rng_percent(r, 50)) {
            u64 v = rng_next(r);
            if (image_read(b, (unsigned)t, &v, i->operands[0].size)) return ensure(b, R_AX, v);
        }
        break;
    case I_cmpxchg8b:
        if (t >= 0 && b->state[R_AX] == REG_FREE && b->state[R_DX] == REG_FREE && rng_percent(r, 50)) {
            u64 v[2] = {0, 0};
            if (image_read(b, (unsigned)t, v, i->opsize == 8 ? 16 : 8)) {
                bool wide = i->opsize == 8;
                return ensure(b, R_AX, wide ? v[0] : (u32)v[0]) && ensure(b, R_DX, wide ? v[1] : v[0] >> 32);
            }
        }
        break;
    case I_movs:
    case I_cmps:
    case I_stos:
    case I_lods:
    case I_scas:
    case I_ins:
    case I_outs: {
        u64 mask = size_mask(i->addrsize);
        unsigned size = i->opsize;
        if (i->prefixes & (PFX_REP | PFX_REPNE)) {
            u64 count = rng_percent(r, 15) ? 0 : rng_percent(r, 85) ? rng_below(r, 20) : rng_below(r, 3000);
            if (i->addrsize < b->width && rng_percent(r, 30)) count |= rng_next(r) & ~mask & size_mask(b->width);
            if (!ensure(b, R_CX, count)) return false;
        }
        u64 src = WINDOW + pick_target(b, size, false) - segment_base(b, i->seg);
        u64 dst = WINDOW + pick_target(b, size, false) - segment_base(b, SEG_ES);
        u64 above = i->addrsize < b->width && rng_percent(r, 30) ? rng_next(r) & ~mask & size_mask(b->width) : 0;
        if (i->mnemonic != I_stos && i->mnemonic != I_scas && !ensure(b, R_SI, (src & mask) | above)) return false;
        if (i->mnemonic != I_lods && !ensure(b, R_DI, (dst & mask) | above)) return false;
        return true;
    }
    case I_xlat: {
        u64 table = WINDOW + pick_target(b, 256, false) - segment_base(b, i->seg);
        return ensure(b, R_BX, table & size_mask(i->addrsize));
    }
    case I_maskmovq:
    case I_maskmovdqu:
    case I_vmaskmovdqu: {
        u64 at = WINDOW + pick_target(b, 16, false) - segment_base(b, i->seg);
        return ensure(b, R_DI, at & size_mask(i->addrsize));
    }
    case I_movdir64b:
        if (i->operands[0].kind == OPND_GPR) {
            u64 at = WINDOW + (pick_target(b, 64, true) & ~63u) - segment_base(b, SEG_ES);
            return ensure(b, i->operands[0].reg, at & size_mask(i->addrsize));
        }
        break;
    case I_leave:
    case I_enter: {
        u64 at = WINDOW + STACK_OFF + 256 + rng_below(r, STACK_SIZE - 512) - segment_base(b, SEG_SS);
        return ensure(b, R_BP, at & size_mask(b->width));
    }
    case I_mov_sreg:
        if (i->operands[0].kind == OPND_SEG && i->operands[1].kind == OPND_GPR && i->operands[1].reg != R_SP)
            return ensure(b, i->operands[1].reg, pick_selector(r));
        break;
    case I_verr:
    case I_verw:
        if (i->operands[0].kind == OPND_GPR && i->operands[0].reg != R_SP)
            return ensure(b, i->operands[0].reg, pick_selector(r));
        break;
    case I_lar:
    case I_lsl:
        if (i->operands[1].kind == OPND_GPR && i->operands[1].reg != R_SP)
            return ensure(b, i->operands[1].reg, pick_selector(r));
        break;
    case I_wrfsbase:
    case I_wrgsbase:
        if (i->operands[0].reg != R_SP && rng_percent(r, 70))
            return ensure(b, i->operands[0].reg,
                          i->opsize == 8 ? rng_next(r) >> (17 + rng_below(r, 30)) : WINDOW + DATA_OFF);
        break;
    case I_loop:
    case I_loope:
    case I_loopne:
    case I_jcxz:
        if (rng_percent(r, 50)) return ensure(b, R_CX, rng_below(r, 3));
        break;
    default: break;
    }
    return true;
}

/* Selectors and pushes that later instructions of the same kind need in memory are put there by a PUSH. */
static bool emit_push(struct build *b, u32 value, bool fix, unsigned skip)
{
    u8 code[5] = {0x68};
    unsigned size = b->mode == CODE_16 ? 2 : 4;
    memcpy(code + 1, &value, size);
    if (!emit(b, code, 1 + size, I_push)) return false;
    if (fix) add_fixup(b, FIX_ABS, b->pos - size, size, 0, skip);
    return true;
}

static u16 pick_code_selector(struct build *b, unsigned *skip);

/* What RET, RETF or IRET is to pop. In 64-bit mode IRET always pops SS:RSP. */
static bool push_return_frame(struct build *b, const struct insn *i)
{
    struct rng *r = &b->rng;
    unsigned skip = rng_below(r, 4);
    u16 selector = b->c->in.cs;
    if (i->mnemonic != I_ret) selector = pick_code_selector(b, &skip);
    if (i->mnemonic == I_iret && b->mode == CODE_64) {
        static const u16 stacks[] = {SEL_DATA_FLAT, SEL_DATA_FLAT, SEL_LDT(LDT_DATA32), SEL_LDT(LDT_DATA16)};
        u16 ss = rng_percent(r, 90) ? stacks[rng_below(r, ARRAY_LEN(stacks))] : pick_selector(r);
        if (!emit_push(b, ss, false, 0)) return false;
        if (!emit_push(b, WINDOW + STACK_OFF + 0x400 + rng_below(r, 0x800), false, 0)) return false;
    }
    /* No AC from a misaligned stack: IRETQ sets it before it reads SS:RSP, and Linux takes the #AC, which was AC free when
     * the instruction began, for a split lock, and has it tried again for ever. */
    u32 flags = 0x202 | (u32)(rng_next(r) & (b->mode == CODE_64 ? 0x204cd5 : 0x244cd5));
    if (i->mnemonic == I_iret && !emit_push(b, flags, false, 0)) return false;
    if (i->mnemonic != I_ret && !emit_push(b, selector, false, 0)) return false;
    if (!emit_push(b, 0, true, skip + 1)) return false;
    b->fixups[b->nfixups - 1].selector = selector;
    return true;
}

void add_patch(struct build *b)
{
    struct oracle_case *c = b->c;
    struct rng *r = &b->rng;
    u8 store[8] = {0xc6}, load[2];
    unsigned n = 1, start = b->pos, disp = b->mode == CODE_16 ? 2 : 4;
    if (c->ninsns + 4 > MAX_INSNS || b->pos + 80 > CODE_MAX || (b->keep & MASK(R_DX))) return;
    const bool counter = rng_percent(r, 50); /* CL, which counts in loops, not a constant */
    if (counter) store[0] = 0x88;
    store[n++] = (u8)((counter ? R_CX << 3 : 0) | (b->mode == CODE_16 ? 6 : 5));
    n += disp;
    if (counter) use(b, R_CX);
    else store[n++] = (u8)rng_next(r);
    if (!emit(b, store, n, I_mov)) return;
    for (unsigned k = rng_below(r, 3); k-- > 0;)
        if (!add_instruction(b)) break;
    unsigned reg = rng_below(r, 4);
    if (b->keep >> reg & 1) reg = R_DX;
    load[0] = (u8)(0xb0 | reg);
    load[1] = 0;
    use(b, reg);
    u64 at = code_address(b, b->pos + 1) + code_base(b) - segment_base(b, SEG_DS);
    if (!emit(b, load, 2, I_mov)) return;
    b->state[reg] = REG_UNKNOWN;
    if (b->mode == CODE_64) at -= code_address(b, start) + n;
    memcpy(c->code + start + 2, &at, disp);
}

/* ---- one instruction ---- */

static const struct form *pick_form(struct build *b)
{
    const struct form_list *l = b->g->forms;
    static const u8 weights[FORMS_CLASSES] = {50, 14, 9, 16, 11};
    struct rng *r = &b->rng;
    for (;;) {
        unsigned p = rng_below(r, 100), class = 0;
        while (class < FORMS_CLASSES - 1u && p >= weights[class]) p -= weights[class++];
        if (!l->nmnemonics[class]) continue;
        unsigned m = l->mnemonics[class][rng_below(r, l->nmnemonics[class])];
        return &l->forms[l->first[m] + rng_below(r, l->first[m + 1] - l->first[m])];
    }
}

#define SKIP_TO_END 100

/* A code segment to go to, and how far: in another mode the only instruction to meet is the INT3 at the end. */
static u16 pick_code_selector(struct build *b, unsigned *skip)
{
    static const u16 others[] = {SEL_CODE32_FLAT, SEL_CODE64, SEL_LDT(LDT_CODE16), SEL_LDT(LDT_CODE32), SEL_LDT(LDT_XO)};
    *skip = rng_below(&b->rng, 4);
    if (rng_percent(&b->rng, 50)) return b->c->in.cs;
    *skip = SKIP_TO_END;
    return rng_percent(&b->rng, 85) ? others[rng_below(&b->rng, ARRAY_LEN(others))] : pick_selector(&b->rng);
}

static bool control_flow(struct build *b, const struct insn *i, struct encoding *e, unsigned at)
{
    struct rng *r = &b->rng;
    unsigned skip = rng_below(r, 4);
    if (i->noperands >= 1 && i->operands[i->noperands - 1].kind == OPND_REL) {
        bool byte = i->map == 0 && ((i->code & 0xf0) == 0x70 || i->code == 0xeb || (i->code & 0xfc) == 0xe0);
        unsigned size = byte ? 1 : i->opsize == 2 && b->mode != CODE_64 ? 2 : 4;
        if (!byte && i->map == 0 && rng_percent(r, 3)) return true; /* wherever */
        add_fixup(b, FIX_REL, at + i->len - size, size, at + i->len, skip);
    } else if ((i->mnemonic == I_jmpf || i->mnemonic == I_callf) && rng_percent(r, 85)) {
        u16 selector = pick_code_selector(b, &skip);
        unsigned where = at + i->len - 2 - i->opsize;
        bool memory = i->operands[0].kind == OPND_MEM;
        if (memory && b->nslots >= SLOT_COUNT) return false;
        if (memory) where = SLOT_FIRST + SLOT_SIZE * b->nslots++;
        if (memory && !aim(b, e, i, code_address(b, where) - segment_base(b, i->seg) + code_base(b))) return false;
        add_fixup(b, memory ? FIX_SLOT : FIX_ABS, where, i->opsize, 0, skip);
        b->fixups[b->nfixups - 1].selector = selector;
        b->fixups[b->nfixups - 1].far = true;
    } else if (i->mnemonic == I_jmp || i->mnemonic == I_call) {
        /* By register: see below; by memory: a slot behind the code. */
        if (i->operands[0].kind == OPND_MEM && b->nslots < SLOT_COUNT) {
            unsigned slot = SLOT_FIRST + SLOT_SIZE * b->nslots++;
            u64 ea = code_address(b, slot) - segment_base(b, i->seg) + code_base(b);
            if (!aim(b, e, i, ea)) return false;
            add_fixup(b, FIX_SLOT, slot, 8, 0, skip);
        }
    }
    return true;
}

static bool reads_undefined(const struct build *b, const struct insn *i)
{
    return !passes_flags(i->mnemonic) && (i->opcode->reads & b->undefined);
}

static void track_flags(struct build *b, const struct insn *i)
{
    const struct opcode *op = i->opcode;
    u16 defined = defines_flags(i) ? op->writes & ~op->reads : 0;
    if (i->mnemonic == I_popf || i->mnemonic == I_sahf || i->mnemonic == I_iret) defined = op->writes;
    if (i->mnemonic == I_adc || i->mnemonic == I_sbb || i->mnemonic == I_cmc || i->mnemonic == I_daa ||
        i->mnemonic == I_das || i->mnemonic == I_aaa || i->mnemonic == I_aas || i->mnemonic == I_adcx ||
        i->mnemonic == I_adox)
        defined = op->writes;
    if (b->c->ninsns <= b->join) defined = 0;
    b->undefined = (u16)((b->undefined & ~defined) | op->undefined);
}

/* Append an instruction and note what is known afterwards. */
static bool append(struct build *b, const struct insn *i, const u8 *code)
{
    for (unsigned k = 0; k < i->noperands; k++) {
        const struct operand *o = &i->operands[k];
        if (o->kind == OPND_GPR || o->kind == OPND_GPRH) use(b, o->reg);
    }
    if (i->base < 16) use(b, i->base);
    if (i->index < 16) use(b, i->index);
    u32 implicit = implicit_read(i);
    for (unsigned k = 0; k < 16; k++)
        if (implicit >> k & 1) use(b, k);
    if (!emit(b, code, i->len, i->mnemonic)) return false;
    u32 dead = written(i);
    for (unsigned k = 0; k < 16; k++)
        if ((dead >> k & 1) && k != R_SP) b->state[k] = REG_UNKNOWN;
    track_flags(b, i);
    if (i->opcode->attr & ATTR_X87) b->x87 = true;
    if (shows_x87_pointers(i->mnemonic)) b->x87_shown = true;
    return true;
}

bool add_bytes(struct build *b, const u8 *code)
{
    struct insn i;
    if (decode(&i, code, 15, b->mode) <= 0 || !form_runnable(&i, b->mode, b->g->o.model)) return false;
    return !reads_undefined(b, &i) && !(written(&i) & b->keep) && append(b, &i, code);
}

static bool try_instruction(struct build *b)
{
    const struct generator *g = b->g;
    struct rng *r = &b->rng;
    const struct form *f = pick_form(b);
    struct encoding e;
    struct insn i;
    build_bytes(b, f, &e);
    int len = decode(&i, e.b, 15, b->mode);
    if (len <= 0 || !form_runnable(&i, b->mode, g->o.model)) return false;
    if (i.mnemonic == I_int && (i.imm & 0xff) == 0x80) return false;
    if (i.mnemonic == I_xlat && i.addrsize > b->width) return false;
    if (reads_undefined(b, &i)) return false;
    /* The host has no FCS and FDS, and updates FDP on exceptions only (CPUID.7:EBX[13] and [6]). */
    if (shows_x87_pointers(i.mnemonic) ? b->x87 || b->keep : b->x87_shown && (i.opcode->attr & ATTR_X87)) return false;
    if (written(&i) & b->keep) return false;
    /* Wild instruction pointers from FAR operands and returns are mostly plain #GP; now and then is enough. */
    bool cpl0 = i.opcode->attr & ATTR_CPL0;
    if ((cpl0 || i.mnemonic == I_in || i.mnemonic == I_out || i.mnemonic == I_ins || i.mnemonic == I_outs ||
         i.mnemonic == I_int || i.mnemonic == I_cli || i.mnemonic == I_sti || i.mnemonic == I_hlt) &&
        !g->o.only && rng_percent(r, 70))
        return false;
    if (i.len > 15 || b->pos + 45u > CODE_MAX || b->c->ninsns + 6 > MAX_INSNS) return false;

    /* Registers the operand list names are in use from here on; those of the address are dealt with below. */
    const struct operand *mem = memory_operand(&i);
    int t = -1;
    bool wild = rng_permille(r, 15);
    bool indirect = (i.mnemonic == I_jmp || i.mnemonic == I_call) && i.noperands && i.operands[0].kind != OPND_REL;
    if (mem && i.addrsize <= b->width * 2u && !wild && !(indirect && i.operands[0].kind == OPND_MEM)) {
        unsigned size = mem->size ? mem->size : i.mnemonic == I_fxsave || i.mnemonic == I_fxrstor ? 512 : 16;
        bool vsib = i.index >= 16 ? false : (i.opcode->attr & ATTR_AVX) && i.map == 2 && (i.code & 0xfc) == 0x90;
        t = (int)pick_target(b, size, (i.opcode->attr & ATTR_ALIGN) || size >= 512);
        u64 ea = WINDOW + (unsigned)t - segment_base(b, i.seg);
        struct insn j = i;
        if (vsib) {
            j.index = REG_ZERO;
            if (b->c->ninsns == 0) { /* small indices */
                u8 *x = b->c->in.legacy + 160 + 16 * i.index, *y = b->c->in.ymm_high + 16 * i.index;
                bool q = i.code & 1;
                for (unsigned k = 0; k < 16; k += q ? 8 : 4) {
                    s64 v[2] = {(s64)rng_below(r, 64) - 32, (s64)rng_below(r, 64) - 32};
                    memcpy(x + k, &v[0], q ? 8 : 4);
                    memcpy(y + k, &v[1], q ? 8 : 4);
                }
            }
        }
        if (i.mnemonic == I_bt || i.mnemonic == I_bts || i.mnemonic == I_btr || i.mnemonic == I_btc) {
            /* A register bit offset first, so that it can be chosen. */
            if (!prepare(b, &i, t)) return false;
        }
        if (!aim(b, &e, &j, ea)) return false;
    }
    if (i.mnemonic != I_bt && i.mnemonic != I_bts && i.mnemonic != I_btr && i.mnemonic != I_btc && !prepare(b, &i, t))
        return false;
    if (i.mnemonic == I_ret || i.mnemonic == I_retf || i.mnemonic == I_iret) {
        if (rng_percent(r, 85) && i.opsize == (b->mode == CODE_64 ? 8 : b->width) && !push_return_frame(b, &i)) return false;
    }
    if (indirect && i.operands[0].kind == OPND_GPR && i.operands[0].reg != R_SP && rng_percent(r, 90)) {
        unsigned reg = i.operands[0].reg;
        if (b->keep >> reg & 1) return false;
        b->state[reg] = REG_UNKNOWN;
        if (!emit_mov(b, reg, b->mode == CODE_16 ? 0x1000 : 0x10001000)) return false;
        unsigned size = b->mode == CODE_16 ? 2 : 4;
        add_fixup(b, FIX_ABS, b->pos - size, size, 0, rng_below(r, 3) + 1);
        b->state[reg] = REG_UNKNOWN;
    }
    if (!control_flow(b, &i, &e, b->pos)) return false;

    /* Patched now: the final form. */
    struct insn final;
    if (decode(&final, e.b, 15, b->mode) != i.len) return false;
    return append(b, &final, e.b);
}

/* A case must not be left half changed by an attempt that failed. */
bool add_instruction(struct build *b)
{
    for (unsigned tries = 0; tries < 60; tries++) {
        struct oracle_case *c = b->c;
        const struct build saved = *b;
        const struct machine_state in = c->in;
        const unsigned ninsns = c->ninsns;
        if (try_instruction(b)) return true;
        const struct rng rng = b->rng;
        memset(c->code + saved.pos, 0xcc, b->pos - saved.pos);
        c->in = in;
        c->ninsns = ninsns;
        *b = saved;
        b->rng = rng;
    }
    return false;
}

void forget_all(struct build *b)
{
    b->undefined |= FLAGS_ARITH; /* as they may be when it comes round again */
    forget_registers(b);
}

void forget_registers(struct build *b)
{
    for (unsigned k = 0; k < 16; k++) {
        use(b, k);
        if (k != R_SP) b->state[k] = REG_UNKNOWN;
    }
}

/* MOV CX, n; body; LOOP or DEC + JNZ back to the body. */
static void add_loop(struct build *b)
{
    if (b->keep || b->join >= b->c->ninsns || b->c->ninsns + 10 > MAX_INSNS || b->pos + 180 > CODE_MAX) return;
    if (!emit_mov(b, R_CX, 1 + rng_below(&b->rng, 6))) return;
    unsigned head = b->pos, body = 1 + rng_below(&b->rng, 3);
    b->keep = MASK(R_CX);
    forget_all(b);
    while (body--) add_instruction(b);
    u8 code[2] = {0xe2, (u8)(head - (b->pos + 2))};
    if (b->pos + 2 - head <= 128) emit(b, code, 2, I_loop);
    b->keep = 0;
}

/* ---- whole cases ---- */

static void apply_fixups(struct build *b)
{
    struct oracle_case *c = b->c;
    for (unsigned k = 0; k < b->nfixups; k++) {
        const struct fixup *f = &b->fixups[k];
        unsigned to = f->target < c->ninsns ? c->at[f->target] : b->pos;
        u64 v = f->kind == FIX_REL ? (u64)to - f->next : WINDOW + c->code_off + to - selector_base(f->selector);
        memcpy(c->code + f->at, &v, f->size);
        if (f->far) memcpy(c->code + f->at + f->size, &f->selector, 2);
        if (f->kind == FIX_SLOT) c->code_len = MAX(c->code_len, f->at + (unsigned)SLOT_SIZE);
    }
}

/* Undefined here, but defined on hosts that have more: EVEX and AVX-512's mask instructions, AVX-VNNI, AMX, ENQCMD,
 * PTWRITE. */
static bool host_has_more(const u8 *p)
{
    static const u8 legacy[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    unsigned n = 0;
    while (n < 14 && (memchr(legacy, p[n], sizeof legacy) || (p[n] & 0xf0) == 0x40)) n++;
    if (n > 10) return false;
    if (p[n] == 0x62) return true;
    if (p[n] == 0x0f && p[n + 1] == 0x38 && p[n + 2] == 0xf8) return true;
    if (p[n] == 0x0f && p[n + 1] == 0x01 && (p[n + 2] & 0xfc) == 0xcc) return true; /* TDX */
    if (p[n] == 0x0f && p[n + 1] == 0xae && (p[n + 2] & 0x38) == 0x20) return true;
    if (p[n] != 0xc4 && p[n] != 0xc5) return false;
    unsigned map = p[n] == 0xc5 ? 1 : p[n + 1] & 31;
    u8 code = p[n] == 0xc5 ? p[n + 2] : p[n + 3];
    return map == 1 ? (code >= 0x41 && code <= 0x4b) || (code >= 0x90 && code <= 0x99)
                    : map == 2 ? (code >= 0x50 && code <= 0x53) || (code >= 0x48 && code <= 0x4b) || (code >= 0x5c && code <= 0x5f)
                               : map == 3 && code >= 0x30 && code <= 0x33;
}

/* Any bytes, for what decode() refuses: the host must refuse them too. */
static bool undefined_bytes(struct build *b)
{
    struct rng *r = &b->rng;
    u8 code[16];
    struct insn i;
    for (unsigned tries = 0; tries < 200; tries++) {
        unsigned n = 0;
        while (n < 4 && rng_percent(r, 35)) {
            static const u8 prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x48, 0x41, 0x4c};
            code[n++] = prefixes[rng_below(r, ARRAY_LEN(prefixes))];
        }
        unsigned kind = rng_below(r, 5);
        if (kind == 1) code[n++] = 0x0f;
        if (kind == 2) code[n++] = 0x0f, code[n++] = rng_percent(r, 50) ? 0x38 : 0x3a;
        if (kind == 3) code[n++] = 0xc5, code[n++] = (u8)rng_next(r);
        if (kind == 4) code[n++] = 0xc4, code[n++] = (u8)((rng_next(r) & 0xe0) | (1 + rng_below(r, 3))), code[n++] = (u8)rng_next(r);
        while (n < 15) code[n++] = (u8)rng_next(r);
        int len = decode(&i, code, 15, b->mode);
        if (len != DECODE_UD || host_has_more(code)) continue;
        memcpy(b->c->code, code, 15);
        b->c->at[0] = 0;
        b->c->len[0] = i.len && i.len <= 15 ? i.len : 15;
        b->c->mnemonic[0] = I_invalid;
        b->c->ninsns = 1;
        b->pos = 15;
        return true;
    }
    return false;
}

static void generate_pools(struct generator *g, u64 batch)
{
    struct rng r = rng_seeded(g->o.seed ^ 0xa5a5a5a5, batch);
    for (unsigned n = 0; n < POOL; n++) {
        g->pools[0][n] = random_double(&r);
        g->pools[1][n] = random_single(&r) | (u64)random_single(&r) << 32;
        g->pools[2][n] = random_data(&r);
        g->pools[3][n] = random_data(&r);
    }
    generate_image(g, batch, g->image);
    g->image_batch = batch;
}

void generate_case(struct generator *g, u64 index, struct oracle_case *c)
{
    if (g->image_batch != index / BATCH) generate_pools(g, index / BATCH);
    struct build b = {.g = g, .c = c, .rng = rng_seeded(g->o.seed, index), .mode = g->o.mode,
                      .width = g->o.mode == CODE_64 ? 8 : g->o.mode == CODE_32 ? 4 : 2};
    struct rng *r = &b.rng;
    memset(c, 0, sizeof *c);
    memset(c->code, 0xcc, sizeof c->code);
    c->index = index;
    c->mode = g->o.mode;
    start_state(&b);

    unsigned n = g->o.min_insns + rng_below(r, g->o.max_insns - g->o.min_insns + 1);
    if (rng_percent(r, 40)) n = g->o.min_insns;
    unsigned where = rng_below(r, 100);
    c->code_off = CODE_OFF + (where < 80   ? rng_below(r, 0xc00)
                              : where < 95 ? GUEST_PAGE_SIZE - rng_below(r, 16 * n + 1)
                                           : GUEST_PAGE_SIZE + rng_below(r, 0xc00));
    c->in.rip = code_address(&b, 0);

    if (g->o.undefined_opcodes) {
        undefined_bytes(&b);
    } else {
        for (unsigned k = 0; k < n; k++) {
            if (n > 3 && rng_percent(r, 8)) add_loop(&b);
            if (n > 2 && rng_percent(r, 3)) add_patch(&b);
            if (n > 1 && !g->o.only && rng_percent(r, 12)) add_walk(&b);
            add_instruction(&b);
        }
    }
    c->code_len = b.pos + 1;
    c->undefined_at[c->ninsns] = b.undefined;
    apply_fixups(&b);
}

void generate_image(const struct generator *g, u64 batch, u8 *image)
{
    struct rng r = rng_seeded(g->o.seed ^ 0x5a5a5a5a, batch);
    memset(image, 0xcc, CODE_SIZE); /* it begins with the code: see CODE_PAGES */
    for (unsigned at = CODE_SIZE; at < IMAGE_SIZE; at += 8) {
        u64 v = random_data(&r);
        u8 x[10];
        if ((at & 0xff) == 0x40) random_extended(&r, x); /* an extended-precision number every so often */
        memcpy(image + at, (at & 0xff) == 0x40 ? x : (const u8 *)&v, 8);
    }
}

struct generator *generator_create(const struct generator_options *o)
{
    struct generator *g = calloc(1, sizeof *g);
    if (!g) return NULL;
    g->o = *o;
    g->image_batch = ~0ull;
    g->forms = forms_create(o->mode, o->model, o->only);
    if (!g->forms) {
        free(g);
        return NULL;
    }
    for (unsigned k = 0; k < FORMS_CLASSES; k++) g->mnemonics += g->forms->nmnemonics[k];
    return g;
}

void generator_destroy(struct generator *g)
{
    if (!g) return;
    forms_destroy(g->forms);
    free(g);
}

unsigned generator_mnemonics(const struct generator *g) { return g->mnemonics; }
