/* x86-64 host: guest x87 and vector instructions as little functions of host code around the very instruction.
 *
 * Normalisation: operand k of a vector instruction becomes host register xmm(1+k), ymm(1+k) or mm(1+k), a general register
 * becomes rax, and memory is addressed by the argument register of the function (rdi, rsi, rdx, rcx). Which field of the
 * encoding an operand sits in is found out with the decoder, from the same instruction with distinct register numbers.
 *
 * The code lives in one memfd, mapped twice: writable here, executable there, never both at one address. It only grows,
 * up to ARENA_SIZE; what does not fit any more (a guest that plays through all immediates) is built anew at each use.
 *
 * A host signal in the guest's instruction (SIGFPE: unmasked SIMD exception; SIGILL: the host lacks the instruction) is
 * turned into a return value by the handler installed here; other signals of that kind go to whoever was there before.
 *
 * References: [SDM2] ch. 2 (encodings), [SDM1] 8.1 (x87), 11.5 (SIMD floating-point exceptions). */
#include "cpu/fpu_host.h"

#include <cpuid.h>
#include <errno.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARENA_SIZE   (8u << 20)
#define SCRATCH_SIZE 1024u
#define ROOM         512u /* more than the longest operation needs */
#define MAX_OPS      30000u
#define HASH_SIZE    8192u

/* Offsets in the arena of constants that code refers to. */
#define CONST_MXCSR 0 /* the host's: all exceptions masked */
#define CONST_CW    4 /* the host's x87 control word */
#define CODE_START  64

static struct {
    pthread_mutex_t lock;      /* taken to add an operation */
    bool ready, failed;        /* set up, or not possible */
    u8 *rw, *rx;               /* the two mappings */
    u32 used;                  /* bytes of code */
    struct fpu_op *ops;        /* MAX_OPS, in the order of their code */
    u32 count;                 /* of ops; release store */
    struct fpu_op *hash[HASH_SIZE]; /* release stores at the head */
    pthread_mutex_t scratch_lock;   /* the reserved place below is in use */
    struct fpu_op scratch;
    u8 *scratch_rw, *scratch_rx;
    struct sigaction old_fpe, old_ill; /* who was there before */
} host = {.lock = PTHREAD_MUTEX_INITIALIZER, .scratch_lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- emitting ---- */

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R10 = 10 };
static const u8 arg_reg[FPU_MAX_OPERANDS] = {RDI, RSI, RDX, RCX};
#define CPU_REG R8 /* the vector functions' fifth argument */

struct emit {
    u8 *p;  /* next byte, writable mapping */
    u8 *rw; /* start of the piece there */
    u8 *rx; /* and in the executable mapping */
};

static u8 *here(const struct emit *e) { return e->rx + (e->p - e->rw); }
static void byte(struct emit *e, unsigned v) { *e->p++ = (u8)v; }
static void bytes(struct emit *e, const void *v, size_t n)
{
    memcpy(e->p, v, n);
    e->p += n;
}
static void imm32(struct emit *e, s64 v) { bytes(e, &(s32){(s32)v}, 4); }
static void imm64(struct emit *e, u64 v) { bytes(e, &v, 8); }

static const u8 pp_byte[4] = {0, 0x66, 0xf3, 0xf2};

/* [prefix] [REX] [0F [38|3A]] code */
static void legacy_opcode(struct emit *e, unsigned pp, bool w, unsigned reg, unsigned base, unsigned map, unsigned code)
{
    if (pp) byte(e, pp_byte[pp]);
    unsigned rex = 0x40u | (unsigned)w << 3 | (reg >> 3) << 2 | base >> 3;
    if (rex != 0x40) byte(e, rex);
    if (map) byte(e, 0x0f);
    if (map == 2) byte(e, 0x38);
    if (map == 3) byte(e, 0x3a);
    byte(e, code);
}

/* A three-byte VEX prefix and the opcode. */
static void vex_opcode(struct emit *e, unsigned pp, bool w, unsigned reg, unsigned base, unsigned map, unsigned code,
                       unsigned v, bool l)
{
    byte(e, 0xc4);
    byte(e, (reg < 8 ? 0x80u : 0) | 0x40u | (base < 8 ? 0x20u : 0) | map);
    byte(e, (unsigned)w << 7 | (~v & 15) << 3 | (unsigned)l << 2 | pp);
    byte(e, code);
}

static void modrm_mem(struct emit *e, unsigned reg, unsigned base, s32 disp)
{
    byte(e, 0x80u | (reg & 7) << 3 | (base & 7));
    imm32(e, disp);
}
static void modrm_const(struct emit *e, unsigned reg, u32 constant)
{
    byte(e, 0x05u | reg << 3);
    imm32(e, (host.rx + constant) - (here(e) + 4));
}

/* A legacy instruction with [base + disp]. */
static void op_mem(struct emit *e, unsigned pp, bool w, unsigned map, unsigned code, unsigned reg, unsigned base, s32 disp)
{
    legacy_opcode(e, pp, w, reg, base, map, code);
    modrm_mem(e, reg, base, disp);
}
static void vex_mem(struct emit *e, unsigned pp, unsigned map, unsigned code, unsigned reg, unsigned v, bool l, unsigned base,
                    s32 disp)
{
    vex_opcode(e, pp, false, reg, base, map, code, v, l);
    modrm_mem(e, reg, base, disp);
}

static void ldmxcsr_host(struct emit *e)
{
    bytes(e, "\x0f\xae", 2);
    modrm_const(e, 2, CONST_MXCSR);
}
static void fldcw_host(struct emit *e)
{
    byte(e, 0xd9);
    modrm_const(e, 5, CONST_CW);
}
static void ret(struct emit *e) { byte(e, 0xc3); }

#define OFF_MXCSR   ((s32)(offsetof(struct cpu, fpu) + 24))
#define OFF_CW      ((s32)offsetof(struct cpu, fpu))
#define OFF_SW      ((s32)(offsetof(struct cpu, fpu) + 2))
#define OFF_XMM0    ((s32)(offsetof(struct cpu, fpu) + 160))
#define OFF_AFLAGS  ((s32)offsetof(struct cpu, aflags))
#define OFF_REG(r)  ((s32)(offsetof(struct cpu, regs) + 8 * (r)))
/* From an XMM register's place to that of the upper half. */
#define HIGH ((s32)(offsetof(struct xsave_area, ymm_high) - 160))

/* lahf; seto al; mov [base + aflags], ax */
static void save_flags(struct emit *e, unsigned base)
{
    bytes(e, "\x9f\x0f\x90\xc0", 4);
    op_mem(e, 1, false, 0, 0x89, RAX, base, OFF_AFLAGS);
}
/* mov ax, [base + aflags]; add al, 0x7f (OF); sahf */
static void load_flags(struct emit *e, unsigned base)
{
    op_mem(e, 1, false, 0, 0x8b, RAX, base, OFF_AFLAGS);
    bytes(e, "\x04\x7f\x9e", 3);
}

/* The entry that struct insn.fn points at: third argument, then on to the handler. */
static exec_fn *emit_entry(struct emit *e, const struct fpu_op *op, fpu_handler *handler)
{
    u8 *at = here(e);
    byte(e, 0x48), byte(e, 0xba), imm64(e, (u64)(uintptr_t)op);
    byte(e, 0x48), byte(e, 0xb8), imm64(e, (u64)(uintptr_t)handler);
    bytes(e, "\xff\xe0", 2);
    exec_fn *fn;
    memcpy(&fn, &at, sizeof fn);
    return fn;
}

static void align(struct emit *e)
{
    while ((uintptr_t)here(e) & 15) byte(e, 0xcc);
}

/* ---- vector instructions ---- */

/* ModRM.reg is part of the opcode. */
static bool is_group(const struct insn *i)
{
    return i->map == 1 && ((i->code >= 0x71 && i->code <= 0x73) || (i->code == 0x78 && i->pp == 1));
}
static bool is_is4(const struct insn *i) { return (i->prefixes & PFX_VEX) && i->map == 3 && i->code >= 0x4a && i->code <= 0x4c; }
static bool has_imm8(const struct insn *i)
{
    if (i->map == 3) return true;
    if (i->map != 1) return false;
    return (i->code >= 0x70 && i->code <= 0x73) || i->code == 0xc2 || i->code == 0xc4 || i->code == 0xc5 ||
           i->code == 0xc6;
}
static bool is_memory_form(const struct insn *i) { return i->modrm < 0xc0; }
/* SSE4a's EXTRQ and INSERTQ with two immediates. */
static bool has_two_imm8(const struct insn *i) { return i->map == 1 && i->code == 0x78; }
/* An implicit XMM0 operand. */
static bool reads_xmm0(const struct insn *i)
{
    switch (i->mnemonic) {
    case I_pblendvb:
    case I_blendvps:
    case I_blendvpd:
    case I_sha256rnds2: return true;
    default: return false;
    }
}
/* Bit 0: explicit lengths in rax, rdx; bit 1: mask result in XMM0; -1: none of these. */
static int pcmpstr_kind(const struct insn *i)
{
    switch (i->mnemonic) {
    case I_pcmpestri:
    case I_vpcmpestri: return 1;
    case I_pcmpestrm:
    case I_vpcmpestrm: return 3;
    case I_pcmpistri:
    case I_vpcmpistri: return 0;
    case I_pcmpistrm:
    case I_vpcmpistrm: return 2;
    default: return -1;
    }
}

/* REX.W or VEX.W as far as it has a meaning here: outside 64-bit mode W does not widen general operands, and the decoder
 * has already decided their size. */
static bool effective_w(const struct insn *i)
{
    if (!(i->rex & 8)) return false;
    for (unsigned k = 0; k < i->noperands; k++)
        if (i->operands[k].kind == OPND_GPR) return i->operands[k].size == 8;
    if (i->map == 1 && (i->code == 0x6e || (i->code == 0x7e && i->pp == 1) || (i->code == 0x2a && i->pp >= 2)))
        return i->operands[i->code == 0x7e ? 0 : i->noperands - 1].size == 8;
    /* VPCMPESTRx: the lengths in RAX and RDX, which the row does not list; opsize says what W means. */
    if (i->map == 3 && (i->code & 0xfe) == 0x60) return i->opsize == 8;
    if (i->map == 3 && i->code == 0x16) return i->operands[0].size == 8;
    if (i->map == 3 && i->code == 0x22) return i->operands[i->noperands - 2].size == 8;
    return true;
}

static u64 vector_key(const struct insn *i)
{
    u64 key = i->code | (u64)i->map << 8 | (u64)i->pp << 10 | (u64)effective_w(i) << 12;
    if (i->prefixes & PFX_VEX) key |= 1u << 13 | (u64)i->vex_l << 14;
    if (is_memory_form(i)) key |= 1u << 15;
    if (is_group(i)) key |= (u64)(i->modrm >> 3 & 7) << 16;
    if (has_imm8(i) && !is_is4(i)) key |= (u64)(i->imm & 0xff) << 20;
    if (has_two_imm8(i)) key |= (u64)(i->imm & 0xff) << 20 | (u64)(i->imm2 & 0xff) << 28;
    return key | 1ull << 40;
}

/* The encoding's fields. */
struct fields {
    unsigned reg, rm, v, is4;
};

/* Encode the instruction with the given fields; for memory, rm is the base register. */
static void encode_vector(struct emit *e, const struct insn *i, const struct fields *f, bool w)
{
    unsigned reg = is_group(i) ? i->modrm >> 3 & 7u : f->reg;
    if (i->prefixes & PFX_VEX)
        vex_opcode(e, i->pp, w, reg, 0, i->map, i->code, f->v, i->vex_l);
    else
        legacy_opcode(e, i->pp, w, reg, 0, i->map, i->code);
    byte(e, (is_memory_form(i) ? 0 : 0xc0u) | reg << 3 | f->rm);
    if (has_imm8(i)) byte(e, is_is4(i) ? f->is4 << 4 : (unsigned)i->imm & 0xff);
    if (has_two_imm8(i)) byte(e, (unsigned)i->imm & 0xff), byte(e, (unsigned)i->imm2 & 0xff);
}

/* Which operand sits in which field: decode the instruction with distinct register numbers. Fields without an operand
 * keep a harmless value (VEX.vvvv must be all ones then, 0 here). */
static bool find_fields(const struct insn *i, struct fields *f, bool w)
{
    bool vex = i->prefixes & PFX_VEX, mem = is_memory_form(i);
    const struct fields probe[2] = {{1, 2, 3, 4}, {1, 2, 0, 4}};
    struct insn d;
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        u8 code[16];
        struct emit e = {code, code, code};
        encode_vector(&e, i, &probe[attempt], w);
        if (decode(&d, code, (size_t)(e.p - code), CODE_64) <= 0 || d.mnemonic != i->mnemonic) continue;
        *f = (struct fields){0, 0, 0, 0};
        for (unsigned k = 0; k < d.noperands; k++) {
            const struct operand *o = &d.operands[k];
            unsigned number = o->kind == OPND_GPR ? RAX : 1 + k;
            if (o->kind == OPND_MEM) f->rm = arg_reg[k];
            else if (o->kind == OPND_IMM || o->kind == OPND_IMM2) continue;
            else if (o->reg == 1 && !is_group(i)) f->reg = number;
            else if (o->reg == 2 && !mem) f->rm = number;
            else if (o->reg == 3 && vex) f->v = number;
            else if (o->reg == 4 && vex) f->is4 = number;
            else return false;
        }
        return true;
    }
    return false;
}

static void load_operand(struct emit *e, unsigned k, const struct operand *o, bool vex)
{
    unsigned base = arg_reg[k], reg = 1 + k;
    switch (o->kind) {
    case OPND_XMM:
    case OPND_YMM:
        if (!vex) {
            op_mem(e, 0, false, 1, 0x10, reg, base, 0); /* movups */
            break;
        }
        vex_mem(e, 0, 1, 0x10, reg, 0, false, base, 0); /* vmovups */
        if (o->kind == OPND_YMM) {
            vex_mem(e, 1, 3, 0x18, reg, reg, true, base, HIGH); /* vinsertf128 ymm, ymm, [high], 1 */
            byte(e, 1);
        }
        break;
    case OPND_MM: op_mem(e, 0, false, 1, 0x6f, reg, base, 0); break;
    case OPND_GPR: op_mem(e, 0, true, 0, 0x8b, RAX, base, 0); break;
    default: break;
    }
}

static void store_operand(struct emit *e, unsigned k, const struct operand *o, bool vex)
{
    unsigned base = arg_reg[k], reg = 1 + k;
    switch (o->kind) {
    case OPND_XMM:
    case OPND_YMM:
        if (!vex) {
            op_mem(e, 0, false, 1, 0x11, reg, base, 0);
            break;
        }
        /* VEX clears what is above the result: the host has done so, both halves are stored. */
        vex_mem(e, 0, 1, 0x11, reg, 0, false, base, 0);
        vex_mem(e, 1, 3, 0x19, reg, 0, true, base, HIGH); /* vextractf128 [high], ymm, 1 */
        byte(e, 1);
        break;
    case OPND_MM:
        op_mem(e, 0, false, 1, 0x7f, reg, base, 0);
        op_mem(e, 1, false, 0, 0xc7, 0, base, 8); /* exponent and sign: all ones [SDM1] 9.2 */
        bytes(e, "\xff\xff", 2);
        break;
    case OPND_GPR: op_mem(e, 0, true, 0, 0x89, RAX, base, 0); break;
    default: break;
    }
}

/* [V]PCMPESTRI and its kin: lengths in rax and rdx, result in rcx or XMM0. */
static void emit_pcmpstr(struct emit *e, const struct insn *i, const struct fields *f, bool w, int kind, bool vex)
{
    if (kind & 1) {
        op_mem(e, 0, true, 0, 0x8b, RAX, CPU_REG, OFF_REG(R_AX));
        op_mem(e, 0, true, 0, 0x8b, RDX, CPU_REG, OFF_REG(R_DX));
    }
    encode_vector(e, i, f, w);
    if (!(kind & 2)) {
        op_mem(e, 0, true, 0, 0x89, RCX, CPU_REG, OFF_REG(R_CX));
    } else if (vex) {
        vex_mem(e, 0, 1, 0x11, 0, 0, false, CPU_REG, OFF_XMM0);
        vex_mem(e, 1, 3, 0x19, 0, 0, true, CPU_REG, OFF_XMM0 + HIGH);
        byte(e, 1);
    } else {
        op_mem(e, 0, false, 1, 0x11, 0, CPU_REG, OFF_XMM0);
    }
}

static bool build_vector(struct emit *e, struct fpu_op *op, const struct insn *i)
{
    bool vex = i->prefixes & PFX_VEX, w = effective_w(i), mmx = false;
    bool mxcsr = i->opcode->attr & ATTR_FPEXC;
    bool flags = i->opcode->writes != 0;
    int pcmpstr = pcmpstr_kind(i);
    struct fields f;
    if (!find_fields(i, &f, w)) return false;

    op->mem = -1;
    op->operands = 0;
    for (unsigned k = 0; k < i->noperands; k++) {
        const struct operand *o = &i->operands[k];
        if (o->kind == OPND_IMM || o->kind == OPND_IMM2) break;
        op->operands = (u8)(k + 1);
        if (o->kind == OPND_MM) mmx = true;
        if (o->kind != OPND_MEM) continue;
        op->mem = (s8)k;
        op->mem_size = o->size;
        op->mem_access = o->access;
    }

    u8 *start = here(e);
    memcpy(&op->run.vector, &start, sizeof op->run.vector);
    if (mxcsr) op_mem(e, 0, false, 1, 0xae, 2, CPU_REG, OFF_MXCSR);
    for (unsigned k = 0; k < op->operands; k++) load_operand(e, k, &i->operands[k], vex);
    if (reads_xmm0(i)) op_mem(e, 0, false, 1, 0x10, 0, CPU_REG, OFF_XMM0);
    op->start = here(e);
    if (pcmpstr >= 0) emit_pcmpstr(e, i, &f, w, pcmpstr, vex);
    else encode_vector(e, i, &f, w);
    if (flags) save_flags(e, CPU_REG);
    for (unsigned k = 0; k < op->operands; k++)
        if (i->operands[k].access & OPND_WRITE) store_operand(e, k, &i->operands[k], vex);
    bytes(e, "\x31\xc0", 2); /* xor eax, eax */
    /* From here on also after a signal, with eax set. */
    op->recover = here(e);
    if (mxcsr) {
        op_mem(e, 0, false, 1, 0xae, 3, CPU_REG, OFF_MXCSR);
        ldmxcsr_host(e);
    }
    if (vex) bytes(e, "\xc5\xf8\x77", 3); /* vzeroupper */
    if (mmx) bytes(e, "\x0f\x77", 2);     /* emms */
    ret(e);
    return true;
}

/* ---- x87 ---- */

static u64 x87_key(const struct insn *i)
{
    unsigned modrm = i->modrm;
    if (modrm < 0xc0) modrm &= 0x38;
    return i->code | (u64)modrm << 8 | 2ull << 40;
}

/* in rdi, out rsi, mem rdx, cpu rcx */
static void build_x87_full(struct emit *e, struct fpu_op *op, const struct insn *i)
{
    bool flags = i->opcode->reads | i->opcode->writes;
    u8 *start = here(e);
    memcpy(&op->run.x87, &start, sizeof op->run.x87);
    bytes(e, "\x48\x0f\xae\x0f", 4); /* fxrstor64 [rdi] */
    if (flags) load_flags(e, RCX);
    byte(e, i->code);
    byte(e, i->modrm < 0xc0 ? (i->modrm & 0x38u) | RDX : i->modrm);
    if (flags) save_flags(e, RCX);
    bytes(e, "\x48\x0f\xae\x06", 4); /* fxsave64 [rsi] */
    bytes(e, "\xdb\xe3", 2);         /* fninit: the calling convention's empty stack */
    fldcw_host(e);
    ldmxcsr_host(e);
    ret(e);
}

/* What the short form does with the stack. */
struct brief {
    bool st0, sti;   /* load these (ST(i) first, so that it is ST(1)) */
    u8 code, modrm;  /* the instruction on ST, ST(1) */
    u8 results;      /* registers left when it is done */
    u8 result;       /* 1 + which of them is stored to out; 0: none */
    bool flags;      /* EFLAGS out */
};

/* The arithmetic and compare opcodes, in their forms that pop nothing. */
static bool brief_register_form(const struct insn *i, struct brief *b)
{
    unsigned n = i->modrm >> 3 & 7;
    switch (i->code) {
    case 0xd8: /* ST = ST op ST(i); FCOM, FCOMP */
        *b = (struct brief){true, true, 0xd8, (u8)((n == 3 ? 0xd0 : 0xc0 + 8 * n) + 1), 2, n == 2 || n == 3 ? 0 : 1, false};
        return true;
    case 0xdc: /* ST(i) = ST(i) op ST */
    case 0xde:
        if (n == 2 || n == 3) break;
        *b = (struct brief){true, true, 0xdc, (u8)(0xc0 + 8 * n + 1), 2, 2, false};
        return true;
    case 0xdd:
        if (n == 4 || n == 5) { /* FUCOM, FUCOMP */
            *b = (struct brief){true, true, 0xdd, 0xe1, 2, 0, false};
            return true;
        }
        return false;
    case 0xdb:
    case 0xdf:
        if (n == 5 || n == 6) { /* FUCOMI, FCOMI */
            *b = (struct brief){true, true, 0xdb, (u8)(0xc0 + 8 * n + 1), 2, 0, true};
            return true;
        }
        return false;
    case 0xda:
        if (i->modrm == 0xe9) { /* FUCOMPP */
            *b = (struct brief){true, true, 0xdd, 0xe1, 2, 0, false};
            return true;
        }
        return false;
    case 0xd9: break;
    default: return false;
    }
    if (i->code != 0xd9) { /* DC, DE: FCOM, FCOMP, FCOMPP */
        *b = (struct brief){true, true, 0xd8, 0xd1, 2, 0, false};
        return true;
    }
    switch (i->mnemonic) {
    case I_ftst:
    case I_fxam: *b = (struct brief){true, false, 0xd9, i->modrm, 1, 0, false}; return true;
    case I_fsqrt:
    case I_frndint:
    case I_f2xm1:
    case I_fsin:
    case I_fcos: *b = (struct brief){true, false, 0xd9, i->modrm, 1, 1, false}; return true;
    case I_fprem:
    case I_fprem1:
    case I_fscale: *b = (struct brief){true, true, 0xd9, i->modrm, 2, 1, false}; return true;
    case I_fyl2x:
    case I_fyl2xp1:
    case I_fpatan: *b = (struct brief){true, true, 0xd9, i->modrm, 1, 1, false}; return true;
    case I_fld1:
    case I_fldl2t:
    case I_fldl2e:
    case I_fldpi:
    case I_fldlg2:
    case I_fldln2:
    case I_fldz: *b = (struct brief){false, false, 0xd9, i->modrm, 1, 1, false}; return true;
    default: return false;
    }
}

static bool brief_memory_form(const struct insn *i, struct brief *b)
{
    u8 modrm = (u8)((i->modrm & 0x38) | RCX);
    switch (i->mnemonic) {
    case I_fadd:
    case I_fmul:
    case I_fsub:
    case I_fsubr:
    case I_fdiv:
    case I_fdivr:
    case I_fiadd:
    case I_fimul:
    case I_fisub:
    case I_fisubr:
    case I_fidiv:
    case I_fidivr: *b = (struct brief){true, false, i->code, modrm, 1, 1, false}; return true;
    case I_fcom:
    case I_ficom: *b = (struct brief){true, false, i->code, modrm, 1, 0, false}; return true;
    case I_fcomp:
    case I_ficomp: *b = (struct brief){true, false, i->code, modrm, 0, 0, false}; return true;
    case I_fld:
    case I_fild: *b = (struct brief){false, false, i->code, modrm, 1, 1, false}; return true;
    case I_fst:
    case I_fist: *b = (struct brief){true, false, i->code, modrm, 1, 0, false}; return true;
    case I_fstp:
    case I_fistp:
    case I_fisttp: *b = (struct brief){true, false, i->code, modrm, 0, 0, false}; return true;
    default: return false;
    }
}

/* st0 rdi, sti rsi, out rdx, mem rcx, cpu r8; the status word in eax, with flags the guest has already or that are new. On
 * entry the host's x87 is empty, the guest has no unmasked exception pending, and no stack fault is coming (the caller has
 * looked at the tags). Popping is the caller's business. */
static void build_x87_brief(struct emit *e, struct fpu_op *op, const struct insn *i)
{
    struct brief b;
    op->brief = NULL;
    if (!(i->modrm < 0xc0 ? brief_memory_form(i, &b) : brief_register_form(i, &b))) return;
    align(e);
    u8 *start = here(e);
    memcpy(&op->brief, &start, sizeof op->brief);
    /* Flags are not cleared after use, which is slow: those the guest has set may stay, the others must go. */
    op_mem(e, 0, false, 0, 0x8a, R10, CPU_REG, OFF_SW); /* mov r10b, [r8 + sw] */
    bytes(e, "\x41\xf6\xd2", 3);                       /* not r10b */
    bytes(e, "\xdf\xe0", 2);                           /* fnstsw ax */
    bytes(e, "\x44\x20\xd0", 3);                       /* and al, r10b */
    bytes(e, "\xa8\x3f\x74\x02\xdb\xe2", 6);          /* test al, 3f; jz +2; fnclex */
    op_mem(e, 0, false, 0, 0xd9, 5, CPU_REG, OFF_CW); /* fldcw: the guest's */
    if (b.sti) bytes(e, "\xdb\x2e", 2);               /* fld tbyte [rsi] */
    if (b.st0) bytes(e, "\xdb\x2f", 2);               /* fld tbyte [rdi] */
    byte(e, b.code), byte(e, b.modrm);
    if (b.flags) bytes(e, "\x9f\x0f\x90\xc0\x41\x89\xc1", 7); /* lahf; seto al; mov r9d, eax */
    bytes(e, "\xdf\xe0", 2);                                  /* fnstsw ax */
    bytes(e, "\x84\xc0", 2);                                  /* test al, al: ES is the sign */
    byte(e, 0x0f), byte(e, 0x88);                             /* js retry */
    u8 *js = e->p;
    imm32(e, 0);
    for (unsigned r = 1; r <= b.results; r++) {
        if (r == b.result) bytes(e, "\xdb\x3a", 2); /* fstp tbyte [rdx] */
        else bytes(e, "\xdd\xd8", 2);               /* fstp st(0) */
    }
    if (b.flags) {
        bytes(e, "\x66\x45\x89\x88", 4); /* mov [r8 + aflags], r9w */
        imm32(e, OFF_AFLAGS);
    }
    fldcw_host(e);
    bytes(e, "\x0f\xb7\xc0", 3); /* movzx eax, ax */
    ret(e);
    s32 rel = (s32)(e->p - (js + 4));
    memcpy(js, &rel, 4);
    bytes(e, "\xdb\xe3", 2); /* fninit */
    fldcw_host(e);
    byte(e, 0xb8), imm32(e, FPU_X87_RETRY); /* mov eax, imm */
    ret(e);
}

static void build_x87(struct emit *e, struct fpu_op *op, const struct insn *i)
{
    op->mem = -1;
    for (unsigned k = 0; k < i->noperands; k++) {
        if (i->operands[k].kind != OPND_MEM) continue;
        op->mem = (s8)k;
        op->mem_size = i->operands[k].size;
        op->mem_access = i->operands[k].access;
    }
    op->start = op->recover = here(e);
    build_x87_full(e, op, i);
    op->recover = NULL;
    build_x87_brief(e, op, i);
}

/* ---- signals ---- */

/* Indices into gregs[] (sys/ucontext.h has names for them, but REG_RIP is also insn.h's). */
enum { GREG_RAX = 13, GREG_RIP = 16 };

static const struct fpu_op *op_at(const u8 *pc)
{
    if (pc >= host.scratch_rx && pc < host.scratch_rx + SCRATCH_SIZE) return &host.scratch;
    if (pc < host.rx || pc >= host.rx + ARENA_SIZE) return NULL;
    u32 low = 0, high = __atomic_load_n(&host.count, __ATOMIC_ACQUIRE);
    while (high - low > 1) {
        u32 mid = low + (high - low) / 2;
        if (host.ops[mid].start <= pc) low = mid;
        else high = mid;
    }
    return high > low ? &host.ops[low] : NULL;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    const u8 *pc;
    memcpy(&pc, &uc->uc_mcontext.gregs[GREG_RIP], sizeof pc);
    const struct fpu_op *op = op_at(pc);
    if (op && op->recover && pc >= op->start && pc < op->recover) {
        uc->uc_mcontext.gregs[GREG_RIP] = (greg_t)(uintptr_t)op->recover;
        uc->uc_mcontext.gregs[GREG_RAX] = sig == SIGFPE ? FPU_SIMD_EXCEPTION : FPU_ILLEGAL;
        return;
    }
    const struct sigaction *old = sig == SIGFPE ? &host.old_fpe : &host.old_ill;
    if (old->sa_flags & SA_SIGINFO) old->sa_sigaction(sig, info, context);
    else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) old->sa_handler(sig);
    else signal(sig, SIG_DFL); /* returns to the instruction, which traps again */
}

/* ---- the arena ---- */

static bool set_up(void)
{
    if (host.ready || host.failed) return host.ready;
    host.failed = true;
    int fd = (int)syscall(SYS_memfd_create, "calque-fpu", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, ARENA_SIZE) < 0) goto fail;
    host.rw = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (host.rw == MAP_FAILED) goto fail;
    host.rx = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    if (host.rx == MAP_FAILED) {
        munmap(host.rw, ARENA_SIZE);
        goto fail;
    }
    host.ops = calloc(MAX_OPS, sizeof *host.ops);
    if (!host.ops) {
        munmap(host.rw, ARENA_SIZE);
        munmap(host.rx, ARENA_SIZE);
        goto fail;
    }
    close(fd);
    memcpy(host.rw + CONST_MXCSR, &(u32){0x1f80}, 4);
    memcpy(host.rw + CONST_CW, &(u16){0x37f}, 2);
    host.scratch_rw = host.rw + CODE_START;
    host.scratch_rx = host.rx + CODE_START;
    host.used = CODE_START + SCRATCH_SIZE;
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGFPE, &sa, &host.old_fpe);
    sigaction(SIGILL, &sa, &host.old_ill);
    host.failed = false;
    host.ready = true;
    return true;
fail:
    fprintf(stderr, "calque: no executable memory for x87 and vector instructions: %s\n", strerror(errno));
    if (fd >= 0) close(fd);
    return false;
}

static bool is_x87(const struct insn *i) { return i->map == 0 && i->code >= 0xd8 && i->code <= 0xdf; }

static bool build(struct emit *e, struct fpu_op *op, const struct insn *i, const struct fpu_binding *bind)
{
    if (is_x87(i)) build_x87(e, op, i);
    else if (!build_vector(e, op, i)) return false;
    align(e);
    op->entry = emit_entry(e, op, bind->handler);
    align(e);
    if (bind->setup) bind->setup(op, i);
    return true;
}

static struct fpu_op *find(u64 key)
{
    struct fpu_op *op = __atomic_load_n(&host.hash[(key * 0x9e3779b97f4a7c15ull) >> 51], __ATOMIC_ACQUIRE);
    while (op && op->key != key) op = op->next;
    return op;
}

const struct fpu_op *fpu_host_op(const struct insn *i, const struct fpu_binding *bind)
{
    _Static_assert(HASH_SIZE == 1u << 13, "the hash takes the top 13 bits");
    u64 key = is_x87(i) ? x87_key(i) : vector_key(i);
    struct fpu_op *op = find(key);
    if (op) return op;
    pthread_mutex_lock(&host.lock);
    op = find(key);
    if (!op && set_up() && host.count < MAX_OPS && host.used + ROOM <= ARENA_SIZE) {
        struct emit e = {host.rw + host.used, host.rw + host.used, host.rx + host.used};
        op = &host.ops[host.count];
        *op = (struct fpu_op){.key = key};
        if (build(&e, op, i, bind)) {
            host.used += (u32)(e.p - e.rw);
            struct fpu_op **head = &host.hash[(key * 0x9e3779b97f4a7c15ull) >> 51];
            op->next = *head;
            __atomic_store_n(&host.count, host.count + 1, __ATOMIC_RELEASE);
            __atomic_store_n(head, op, __ATOMIC_RELEASE);
        } else {
            op = NULL;
        }
    }
    pthread_mutex_unlock(&host.lock);
    return op;
}

bool fpu_host_uncached(struct cpu *cpu, const struct insn *i, const struct fpu_binding *bind)
{
    pthread_mutex_lock(&host.lock);
    bool ready = set_up();
    pthread_mutex_unlock(&host.lock);
    if (!ready) return raise_ud(cpu);
    pthread_mutex_lock(&host.scratch_lock);
    struct emit e = {host.scratch_rw, host.scratch_rw, host.scratch_rx};
    host.scratch = (struct fpu_op){.mem = -1};
    bool ok;
    if (build(&e, &host.scratch, i, bind)) {
        /* Code was written through another linear address: a serialising instruction [SDM3A] 8.1.3. */
        unsigned a, b, c, d;
        __cpuid(0, a, b, c, d);
        ok = bind->handler(cpu, i, &host.scratch);
    } else {
        ok = raise_ud(cpu);
    }
    pthread_mutex_unlock(&host.scratch_lock);
    return ok;
}
