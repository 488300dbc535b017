/* The decoder: prefixes, opcode lookup in the compiled rows of opcodes.def, ModRM/SIB/displacement, operands.
 *
 * Undefined here, as on the CPUs modelled: EVEX and XOP encodings. Prefix rules are Intel's where vendors
 * differ: near branches ignore 66 in 64-bit mode, LOCK is no alias for CR8.
 *
 * References: [SDM2] ch. 2 (formats), app. A; [SDM1] 3.7 (addressing). */
#include "cpu/decode.h"

#include <string.h>

#include "cpu/opcodes.h"

enum { MAX_LENGTH = 15 };

/* Prefixes and mode of the instruction at hand. */
struct context {
    const u8 *bytes;
    unsigned end;  /* bytes that may be looked at */
    unsigned pos;  /* next byte */
    bool m64;      /* 64-bit mode */
    bool p66, p67; /* size prefixes */
    u8 rep;        /* last of F3, F2: 2 or 3; else 0 */
    bool lock;
    bool w; /* REX.W or VEX.W */
    u8 seg; /* effective override, or SEG_COUNT */
};

static inline u64 fetch(struct context *c, unsigned size)
{
    u64 v = 0;
    memcpy(&v, c->bytes + c->pos, size); /* the host is little-endian, as is the guest */
    c->pos += size;
    return v;
}

static inline u64 sign_extend(u64 v, unsigned size)
{
    unsigned shift = 64 - size * 8;
    return (u64)((s64)(v << shift) >> shift);
}

#define NEED(c, n)                                                                                           \
    do {                                                                                                     \
        if ((c)->pos + (n) > (c)->end) return false;                                                         \
    } while (0)

/* 16-bit addressing forms, [SDM2] table 2-1. */
static bool decode_memory16(struct insn *i, struct context *c)
{
    static const u8 base[8] = {3, 3, 5, 5, REG_ZERO, REG_ZERO, 5, 3},
                    index[8] = {6, 7, 6, 7, 6, 7, REG_ZERO, REG_ZERO};
    unsigned mod = i->modrm >> 6, rm = i->modrm & 7;
    i->base = base[rm];
    i->index = index[rm];
    if (mod == 0 && rm == 6) i->base = REG_ZERO;
    unsigned size = mod == 1 ? 1 : mod == 2 || (mod == 0 && rm == 6) ? 2 : 0;
    NEED(c, size);
    if (size) i->disp = (s64)sign_extend(fetch(c, size), size);
    if (i->base == 5) i->seg = SEG_SS;
    return true;
}

/* 32- and 64-bit addressing forms, [SDM2] tables 2-2 and 2-3. A VSIB index is a vector register: index 4 is
 * one, too. */
static bool decode_memory32(struct insn *i, struct context *c, bool vsib)
{
    unsigned mod = i->modrm >> 6, rm = i->modrm & 7;
    unsigned disp = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    i->base = (u8)(rm | (i->rex & 1) << 3);
    i->index = REG_ZERO;
    if (rm == 4) {
        NEED(c, 1);
        u8 sib = (u8)fetch(c, 1);
        i->index = (u8)((sib >> 3 & 7) | (i->rex & 2) << 2);
        i->scale = sib >> 6;
        if (i->index == 4 && !vsib) {
            i->index = REG_ZERO;
            i->scale = 0;
        }
        i->base = (u8)((sib & 7) | (i->rex & 1) << 3);
        if ((sib & 7) == 5 && mod == 0) {
            i->base = REG_ZERO;
            disp = 4;
        }
    } else if (rm == 5 && mod == 0) {
        i->base = c->m64 ? REG_RIP : REG_ZERO;
        disp = 4;
    }
    NEED(c, disp);
    if (disp) i->disp = (s64)sign_extend(fetch(c, disp), disp);
    if (i->base == 4 || i->base == 5) i->seg = SEG_SS;
    return true;
}

static u8 effective_opsize(const struct context *c, enum code_size size, unsigned rule, bool p66)
{
    u8 plain = c->m64 ? (c->w ? 8 : p66 ? 2 : 4) : (size == CODE_32) != p66 ? 4 : 2;
    switch (rule) {
    case OPSIZE_B: return 1;
    case OPSIZE_D64: return c->m64 && plain == 4 ? 8 : plain;
    case OPSIZE_F64: return c->m64 ? 8 : plain;
    case OPSIZE_Z: return plain == 8 ? 4 : plain;
    case OPSIZE_Y: return c->m64 && c->w ? 8 : 4;
    case OPSIZE_R: return c->m64 ? 8 : 4;
    default: return plain;
    }
}

static u8 type_size(const struct insn *i, const struct context *c, unsigned type)
{
    static const u8 fixed[] = {
        [TYPE_N] = 0, [TYPE_B] = 1,  [TYPE_W] = 2,   [TYPE_D] = 4,
        [TYPE_Q] = 8, [TYPE_T] = 10, [TYPE_DQ] = 16, [TYPE_QQ] = 32,
    };
    if (type < ARRAY_LEN(fixed)) return fixed[type];
    switch (type) {
    case TYPE_X: return (u8)(16 << i->vex_l);
    case TYPE_HX: return (u8)(8 << i->vex_l);
    case TYPE_FX: return (u8)(4 << i->vex_l);
    case TYPE_EX: return (u8)(2 << i->vex_l);
    case TYPE_V: return i->opsize;
    case TYPE_Z: return i->opsize == 8 ? 4 : i->opsize;
    case TYPE_Y: return c->m64 && c->w ? 8 : 4;
    case TYPE_R: return c->m64 ? 8 : 4;
    case TYPE_A: return i->addrsize;
    case TYPE_P: return (u8)(i->opsize + 2);
    case TYPE_S: return c->m64 ? 10 : 6;
    case TYPE_O:
    case TYPE_C: return (u8)(i->opsize * 2);
    case TYPE_M: return i->opsize == 2 ? 14 : 28;
    case TYPE_G: return i->opsize == 2 ? 94 : 108;
    default: return 0;
    }
}

static inline void set_gpr(struct operand *o, const struct insn *i, unsigned reg)
{
    o->kind = OPND_GPR;
    o->reg = (u8)reg;
    /* AH, CH, DH, BH instead of SPL, BPL, SIL, DIL without any REX prefix. */
    if (o->size == 1 && (reg & ~3u) == 4 && !(i->prefixes & PFX_REX)) {
        o->kind = OPND_GPRH;
        o->reg = (u8)(reg - 4);
    }
}

static inline void set_vector(struct operand *o, unsigned reg)
{
    o->kind = o->size == 32 ? OPND_YMM : OPND_XMM;
    o->reg = (u8)reg;
}

enum operand_result { OPERAND_OK, OPERAND_MORE, OPERAND_UD };

static enum operand_result decode_immediate(struct insn *i, struct context *c, struct operand *o,
                                            unsigned type)
{
    unsigned size = type == TYPE_B || type == TYPE_S   ? 1
                    : type == TYPE_W                   ? 2
                    : type == TYPE_Z && i->opsize == 8 ? 4
                                                       : i->opsize;
    if (c->pos + size > c->end) return OPERAND_MORE;
    i->imm = fetch(c, size);
    if (type == TYPE_S || type == TYPE_Z) i->imm = sign_extend(i->imm, size);
    o->kind = OPND_IMM;
    o->size = type == TYPE_B ? 1 : type == TYPE_W ? 2 : i->opsize;
    return OPERAND_OK;
}

static inline enum operand_result decode_operand(struct insn *i, struct context *c,
                                                 const struct operand_spec *spec, struct operand *o)
{
    unsigned reg = (i->modrm >> 3 & 7) | (i->rex & 4) << 1, rm = (i->modrm & 7) | (i->rex & 1) << 3;
    bool memory = i->modrm < 0xc0;
    o->access = spec->access;
    o->size = type_size(i, c, spec->type);
    o->reg = 0;
    switch (spec->method) {
    case METHOD_E:
        if (memory) goto mem;
        /* fall through */
    case METHOD_R: set_gpr(o, i, rm); break;
    case METHOD_G: set_gpr(o, i, reg); break;
    case METHOD_M:
    case METHOD_K:
    mem:
        o->kind = OPND_MEM;
        break;
    case METHOD_I: return decode_immediate(i, c, o, spec->type);
    case METHOD_I1:
        o->kind = OPND_IMM;
        o->size = 1;
        i->imm = 1;
        break;
    case METHOD_I2:
        if (c->pos + 1 > c->end) return OPERAND_MORE;
        i->imm2 = (u16)fetch(c, 1);
        o->kind = OPND_IMM2;
        break;
    case METHOD_J: {
        unsigned size = spec->type == TYPE_B ? 1 : i->opsize == 2 ? 2 : 4;
        if (c->pos + size > c->end) return OPERAND_MORE;
        i->imm = sign_extend(fetch(c, size), size);
        o->kind = OPND_REL;
        o->size = i->opsize;
        break;
    }
    case METHOD_Z: set_gpr(o, i, (i->code & 7) | (i->rex & 1) << 3); break;
    case METHOD_GPR:
        o->kind = OPND_GPR;
        o->reg = spec->arg;
        break;
    case METHOD_W:
        if (memory) goto mem;
        /* fall through */
    case METHOD_U: set_vector(o, rm); break;
    case METHOD_V: set_vector(o, reg); break;
    case METHOD_H: set_vector(o, i->vex_v); break;
    case METHOD_L:
        if (c->pos + 1 > c->end) return OPERAND_MORE;
        i->imm = fetch(c, 1);
        set_vector(o, (unsigned)i->imm >> 4 & (c->m64 ? 15 : 7));
        break;
    case METHOD_Q:
        if (memory) goto mem;
        /* fall through */
    case METHOD_N:
        o->kind = OPND_MM;
        o->reg = rm & 7;
        break;
    case METHOD_P:
        o->kind = OPND_MM;
        o->reg = reg & 7;
        break;
    case METHOD_B: set_gpr(o, i, i->vex_v); break;
    case METHOD_A:
        if (c->pos + o->size > c->end) return OPERAND_MORE;
        i->imm = fetch(c, i->opsize);
        i->imm2 = (u16)fetch(c, 2);
        o->kind = OPND_FAR;
        break;
    case METHOD_O:
        if (c->pos + i->addrsize > c->end) return OPERAND_MORE;
        i->imm = fetch(c, i->addrsize);
        i->disp = (s64)i->imm;
        o->kind = OPND_MEM;
        break;
    case METHOD_S:
        o->kind = OPND_SEG;
        o->reg = reg & 7;
        if (o->reg >= SEG_COUNT) return OPERAND_UD;
        break;
    case METHOD_SEG:
        o->kind = OPND_SEG;
        o->reg = spec->arg;
        o->size = 2;
        break;
    case METHOD_C: /* CR0, 2, 3, 4 and 8 */
        o->kind = OPND_CR;
        o->reg = (u8)reg;
        if (!(0x11du >> reg & 1)) return OPERAND_UD;
        break;
    case METHOD_D:
        o->kind = OPND_DR;
        o->reg = (u8)reg;
        if (reg > 7) return OPERAND_UD;
        break;
    case METHOD_ST0:
        o->kind = OPND_ST;
        o->size = 10;
        break;
    case METHOD_STI:
        o->kind = OPND_ST;
        o->size = 10;
        o->reg = i->modrm & 7;
        break;
    }
    return OPERAND_OK;
}

/* Everything up to the opcode: 1, or a DECODE_ code. *space is the opcode map. */
static int decode_prefixes(struct insn *i, struct context *c, unsigned *space)
{
    u8 rex = 0;
    bool have_rex = false;
    for (;;) {
        if (c->pos >= c->end) return DECODE_MORE;
        u8 b = c->bytes[c->pos];
        switch (b) {
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
            /* In 64-bit mode they are ignored, even as to cancelling an earlier FS or GS. */
            if (!c->m64) c->seg = b >> 3 & 3;
            break;
        case 0x64:
        case 0x65: c->seg = b & 7; break;
        case 0x66: c->p66 = true; break;
        case 0x67: c->p67 = true; break;
        case 0xf0: c->lock = true; break;
        case 0xf2: c->rep = 3; break;
        case 0xf3: c->rep = 2; break;
        case 0x40 ... 0x4f:
            if (!c->m64) goto opcode;
            rex = b & 15;
            have_rex = true;
            c->pos++;
            continue;
        default: goto opcode;
        }
        /* A REX prefix counts only right before the opcode. */
        rex = 0;
        have_rex = false;
        c->pos++;
    }
opcode:
    if (have_rex) i->prefixes |= PFX_REX;
    i->rex = rex;
    u8 b = c->bytes[c->pos++];
    if (b == 0x0f) {
        if (c->pos >= c->end) return DECODE_MORE;
        b = c->bytes[c->pos++];
        i->map = 1;
        if (b == 0x38 || b == 0x3a) {
            if (c->pos >= c->end) return DECODE_MORE;
            i->map = b == 0x38 ? 2 : 3;
            b = c->bytes[c->pos++];
        }
    } else if (b == 0xc4 || b == 0xc5) {
        /* VEX, but outside 64-bit mode only when it could not be a memory operand of LES or LDS. */
        if (c->pos >= c->end) return DECODE_MORE;
        u8 v = c->bytes[c->pos];
        if (c->m64 || v >= 0xc0) {
            c->pos++;
            if (c->p66 || c->rep || c->lock || have_rex) return DECODE_UD;
            u8 last = v;
            i->rex = v & 0x80 ? 0 : 4;
            i->map = 1;
            if (b == 0xc4) {
                if (c->pos >= c->end) return DECODE_MORE;
                last = c->bytes[c->pos++];
                i->map = v & 31;
                i->rex = (u8)((~v >> 5 & 7) | (last >> 4 & 8));
                if (i->map < 1 || i->map > 3) return DECODE_UD;
            }
            i->vex_v = ~last >> 3 & 15;
            if (!c->m64) i->rex &= 8;
            i->vex_l = last >> 2 & 1;
            i->pp = last & 3;
            i->prefixes |= PFX_VEX;
            if (c->pos >= c->end) return DECODE_MORE;
            b = c->bytes[c->pos++];
            i->code = b;
            *space = SPACE_VEX_0F + i->map - 1u;
            return 1;
        }
    }
    i->code = b;
    *space = i->map;
    return 1;
}

static int finish(struct insn *i, const struct context *c, int result)
{
    if (result == DECODE_MORE && c->end == MAX_LENGTH) result = DECODE_LONG;
    i->len = (u8)c->pos;
    return result;
}

int decode(struct insn *out, const u8 *bytes, size_t avail, enum code_size size)
{
    opcodes_init();
    memset(out, 0, offsetof(struct insn, operands));
    struct insn *i = out;
    struct context ctx = {.bytes = bytes,
                          .end = avail < MAX_LENGTH ? (unsigned)avail : MAX_LENGTH,
                          .m64 = size == CODE_64,
                          .seg = SEG_COUNT};
    struct context *c = &ctx;
    unsigned space = 0;
    int result = decode_prefixes(i, c, &space);
    if (result != 1) return finish(i, c, result);

    /* Look the form up. */
    const struct opcode_slot *slot = &opcode_slots[space][i->code];
    bool vex = i->prefixes & PFX_VEX;
    unsigned pp = vex ? i->pp : c->rep ? c->rep : c->p66;
    c->w = i->rex & 8;
    u32 key = pp << KEY_PP_SHIFT | (c->w ? KEY_W : 0) | (i->vex_l ? KEY_L : 0) | (c->m64 ? KEY_64 : 0) |
              (i->rex & 1 ? KEY_B : 0);
    if (slot->flags & FORM_MODRM) {
        if (c->pos >= c->end) return finish(i, c, DECODE_MORE);
        i->modrm = (u8)fetch(c, 1);
        key |= i->modrm | (i->modrm >= 0xc0 ? KEY_REG : 0);
    }
    const struct opcode_form *f = NULL;
    for (unsigned k = 0; k < slot->count; k++) {
        const struct opcode_form *candidate = &opcode_forms[opcode_order[slot->first + k]];
        if ((key & candidate->mask) == candidate->value) {
            f = candidate;
            break;
        }
    }
    if (!f) return finish(i, c, DECODE_UD);
    if (vex) {
        if (i->vex_v && !(f->flags & FORM_VVVV)) return finish(i, c, DECODE_UD);
        /* Outside 64-bit mode the top bit is ignored, but only where vvvv is an operand (seen on Sapphire
         * Rapids). */
        if (!c->m64) i->vex_v &= 7;
    }
    const struct opcode *op = &opcode_rows[f->row].op;
    i->opcode = op;
    i->mnemonic = op->mnemonic;

    /* Sizes and prefixes. */
    bool fixed_pp = f->flags & FORM_PP;
    i->pp = fixed_pp ? (u8)pp : 0;
    i->opsize = effective_opsize(c, size, f->opsize, c->p66 && !(fixed_pp && pp == 1));
    i->addrsize = c->m64 ? (c->p67 ? 4 : 8) : (size == CODE_32) != c->p67 ? 4 : 2;
    i->prefixes |= (u8)((c->lock ? PFX_LOCK : 0) | (c->p66 ? PFX_66 : 0) | (c->p67 ? PFX_67 : 0) |
                        (c->seg < SEG_COUNT ? PFX_SEG : 0));
    if (c->rep && !(fixed_pp && pp >= 2)) i->prefixes |= c->rep == 2 ? PFX_REP : PFX_REPNE;

    /* The memory operand. */
    i->base = i->index = REG_ZERO;
    i->seg = SEG_DS;
    if ((f->flags & FORM_MODRM) && i->modrm < 0xc0 && !(f->flags & FORM_ANYMOD)) {
        bool vsib = f->flags & FORM_VSIB;
        if (vsib && (i->addrsize == 2 || (i->modrm & 7) != 4)) return finish(i, c, DECODE_UD);
        bool done = i->addrsize == 2 ? decode_memory16(i, c) : decode_memory32(i, c, vsib);
        if (!done) return finish(i, c, DECODE_MORE);
    }
    if (c->seg < SEG_COUNT) i->seg = c->seg;

    /* Operands. */
    bool ud = false;
    for (unsigned k = 0; k < f->noperands; k++) {
        enum operand_result r = decode_operand(i, c, &f->operands[k], &i->operands[k]);
        if (r == OPERAND_MORE) return finish(i, c, DECODE_MORE);
        ud |= r == OPERAND_UD;
    }
    i->noperands = f->noperands;
    for (unsigned k = f->noperands; k < ARRAY_LEN(i->operands); k++)
        i->operands[k] = (struct operand){0};

    if (c->lock && !((op->attr & ATTR_LOCK) && i->operands[0].kind == OPND_MEM)) ud = true;
    if (f->flags & FORM_VSIB) {
        /* Destination, index and mask must be three different registers, [SDM2] VPGATHERDD. */
        unsigned dst = i->operands[0].reg, mask = i->operands[2].reg;
        if (dst == mask || dst == i->index || mask == i->index) ud = true;
    }
    if (ud) return finish(i, c, DECODE_UD);
    i->len = (u8)c->pos;
    memcpy(i->bytes, bytes, c->pos);
    if (c->pos < sizeof i->bytes) memset(i->bytes + c->pos, 0, sizeof i->bytes - c->pos);
    return i->len;
}
