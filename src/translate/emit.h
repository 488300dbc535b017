/* x86-64 machine code, one instruction at a time: [SDM2] 2.1, 2.2. */
#ifndef TRANSLATE_EMIT_H
#define TRANSLATE_EMIT_H

#include <stddef.h>
#include <string.h>

#include "cpu/cpu.h"

enum { H_AX, H_CX, H_DX, H_BX, H_SP, H_BP, H_SI, H_DI, H_8, H_9, H_10, H_11, H_12, H_13, H_14, H_15, H_NONE };

struct emit {
    u8 *p;   /* the next byte; there is always room (bt_make_room() sees to it) */
    s32 cpu; /* where struct cpu is, below 2 GiB: its fields are at absolute addresses, which the host's processor forwards from
              * stores to loads sooner than those relative to RIP */
};

/* An r/m operand. */
struct rm {
    u8 kind;  /* RM_* */
    u8 reg;   /* register, or base (H_NONE: none) */
    u8 index; /* H_NONE: none */
    u8 scale;
    s32 disp;
};
enum { RM_REG, RM_MEM, RM_CPU /* the same from the start of struct cpu */ };

static inline struct rm rm_reg(unsigned reg) { return (struct rm){.kind = RM_REG, .reg = (u8)reg, .index = H_NONE}; }
static inline struct rm rm_mem(unsigned base, s32 disp)
{
    return (struct rm){.kind = RM_MEM, .reg = (u8)base, .index = H_NONE, .disp = disp};
}
static inline struct rm rm_cpu(size_t offset)
{
    return (struct rm){.kind = RM_CPU, .reg = H_NONE, .index = H_NONE, .disp = (s32)offset};
}
static inline struct rm rm_cpu_base(unsigned base, size_t offset)
{
    return (struct rm){.kind = RM_CPU, .reg = (u8)base, .index = H_NONE, .disp = (s32)offset};
}
/* A field of struct cpu. */
#define STATE(field) rm_cpu(offsetof(struct cpu, field))

static inline void emit8(struct emit *e, unsigned v) { *e->p++ = (u8)v; }
static inline void emit16(struct emit *e, unsigned v) { memcpy(e->p, &(u16){(u16)v}, 2); e->p += 2; }
static inline void emit32(struct emit *e, u64 v) { memcpy(e->p, &(u32){(u32)v}, 4); e->p += 4; }
static inline void emit64(struct emit *e, u64 v) { memcpy(e->p, &v, 8); e->p += 8; }

/* Prefixes of emit_op(). */
#define E_W    1u  /* REX.W */
#define E_66   2u
#define E_F3   4u
#define E_F2   8u
#define E_LOCK 16u
#define E_REX  32u /* a REX prefix even if empty: SPL, BPL, SIL, DIL */

/* ModRM, SIB and displacement. */
static inline void emit_modrm(struct emit *e, unsigned reg, struct rm rm)
{
    const bool base = rm.reg != H_NONE, index = rm.index != H_NONE;
    const unsigned r = (reg & 7) << 3;
    if (rm.kind == RM_CPU) rm.disp += e->cpu;
    if (rm.kind == RM_REG) {
        emit8(e, 0xc0 | r | (rm.reg & 7));
        return;
    }
    if (!base) {
        emit8(e, r | 4);
        emit8(e, (unsigned)rm.scale << 6 | (index ? rm.index & 7u : 4u) << 3 | 5);
        emit32(e, (u32)rm.disp);
        return;
    }
    unsigned mod = rm.disp == 0 && (rm.reg & 7) != 5 ? 0u : rm.disp == (s8)rm.disp ? 1u : 2u;
    if (index || (rm.reg & 7) == 4) {
        emit8(e, mod << 6 | r | 4);
        emit8(e, (unsigned)rm.scale << 6 | (index ? rm.index & 7u : 4u) << 3 | (rm.reg & 7u));
    } else {
        emit8(e, mod << 6 | r | (rm.reg & 7u));
    }
    if (mod == 1) emit8(e, (u8)rm.disp);
    if (mod == 2) emit32(e, (u32)rm.disp);
}

static inline void emit_op(struct emit *e, unsigned prefixes, unsigned map, unsigned code, unsigned reg, struct rm rm)
{
    const bool mem = rm.kind != RM_REG, base = rm.reg != H_NONE, index = mem && rm.index != H_NONE;
    if (prefixes & E_LOCK) emit8(e, 0xf0);
    if (prefixes & E_66) emit8(e, 0x66);
    if (prefixes & E_F3) emit8(e, 0xf3);
    if (prefixes & E_F2) emit8(e, 0xf2);
    unsigned rex = (prefixes & E_W ? 8u : 0) | (reg & 8 ? 4u : 0) | (index && (rm.index & 8) ? 2u : 0) |
                   (base && (rm.reg & 8) ? 1u : 0);
    if (rex || (prefixes & E_REX)) emit8(e, 0x40 | rex);
    if (map) emit8(e, 0x0f);
    if (map == 2) emit8(e, 0x38);
    if (map == 3) emit8(e, 0x3a);
    emit8(e, code);
    emit_modrm(e, reg, rm);
}

static inline void emit_load(struct emit *e, unsigned reg, struct rm rm) { emit_op(e, E_W, 0, 0x8b, reg, rm); }
static inline void emit_load32(struct emit *e, unsigned reg, struct rm rm) { emit_op(e, 0, 0, 0x8b, reg, rm); }
static inline void emit_store(struct emit *e, unsigned reg, struct rm rm) { emit_op(e, E_W, 0, 0x89, reg, rm); }
static inline void emit_lea(struct emit *e, bool wide, unsigned reg, struct rm rm) { emit_op(e, wide ? E_W : 0, 0, 0x8d, reg, rm); }
static inline void emit_mov_imm64(struct emit *e, unsigned reg, u64 v)
{
    if (v == (u32)v) {
        if (reg & 8) emit8(e, 0x41);
        emit8(e, 0xb8 | (reg & 7));
        emit32(e, v);
    } else {
        emit8(e, 0x48 | (reg >> 3));
        emit8(e, 0xb8 | (reg & 7));
        emit64(e, v);
    }
}
/* Group 1 by its /n with a 32-bit immediate. */
static inline void emit_alu_imm(struct emit *e, bool wide, unsigned n, unsigned reg, s32 imm)
{
    bool small = imm == (s8)imm;
    emit_op(e, wide ? E_W : 0, 0, small ? 0x83 : 0x81, n, rm_reg(reg));
    if (small) emit8(e, (u8)imm);
    else emit32(e, (u32)imm);
}
/* Shift group by its /n. */
static inline void emit_shift(struct emit *e, unsigned n, unsigned reg, unsigned count)
{
    emit_op(e, E_W, 0, 0xc1, n, rm_reg(reg));
    emit8(e, count);
}
/* A VEX-encoded instruction in its three-byte form. pp: 0, 1 (66), 2 (F3), 3 (F2). */
static inline void emit_vex(struct emit *e, unsigned pp, bool w, bool l, unsigned map, unsigned code, unsigned reg, unsigned v,
                            struct rm rm)
{
    emit8(e, 0xc4);
    emit8(e, (reg & 8 ? 0 : 0x80u) | (rm.index != H_NONE && (rm.index & 8) ? 0 : 0x40u) |
                 (rm.reg != H_NONE && (rm.reg & 8) ? 0 : 0x20u) | map);
    emit8(e, (unsigned)w << 7 | (~v & 15) << 3 | (unsigned)l << 2 | pp);
    emit8(e, code);
    emit_modrm(e, reg, rm);
}
/* RORX reg, from, count (64 bits): VEX.LZ.F2.0F3A.W1 F0 /r ib. Leaves the flags alone. */
static inline void emit_rorx(struct emit *e, unsigned reg, unsigned from, unsigned count)
{
    emit8(e, 0xc4);
    emit8(e, (reg & 8 ? 0 : 0x80u) | 0x40 | (from & 8 ? 0 : 0x20u) | 3);
    emit8(e, 0xfb);
    emit8(e, 0xf0);
    emit8(e, 0xc0 | (reg & 7) << 3 | (from & 7));
    emit8(e, count);
}
#define CC_B 2u
#define CC_AE 3u
#define CC_E 4u
#define CC_NE 5u
#define CC_BE 6u
#define CC_A 7u
#define CC_S 8u
#define CC_ALWAYS 16u
#define CC_CALL 17u

/* JMP, CALL and Jcc rel32: the place of the displacement, for emit_patch(). */
static inline u8 *emit_jump(struct emit *e, unsigned cc)
{
    if (cc < 16) {
        emit8(e, 0x0f);
        emit8(e, 0x80 | cc);
    } else {
        emit8(e, cc == CC_CALL ? 0xe8 : 0xe9);
    }
    emit32(e, 0);
    return e->p - 4;
}
static inline void emit_patch(u8 *site, const u8 *target)
{
    s32 d = (s32)(target - (site + 4));
    __atomic_store_n((s32 *)(void *)site, d, __ATOMIC_RELAXED);
}
static inline void emit_jump_to(struct emit *e, unsigned cc, const u8 *target) { emit_patch(emit_jump(e, cc), target); }

/* An instruction with an operand in the same code memory: [RIP + displacement]. */
static inline void emit_near(struct emit *e, unsigned code, unsigned reg, const void *operand)
{
    emit8(e, 0x48 | (reg & 8 ? 4 : 0));
    emit8(e, code);
    emit8(e, (reg & 7) << 3 | 5);
    emit32(e, 0);
    emit_patch(e->p - 4, operand);
}

#endif
