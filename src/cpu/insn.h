/* A decoded instruction: what the decoder fills in, the same for every engine. */
#ifndef CPU_INSN_H
#define CPU_INSN_H

#include "core/types.h"

struct cpu;
struct insn;
struct opcode;

/* Mnemonics: I_add, I_mov, ... from mnemonics.def, one X(name) each. */
enum mnemonic {
    I_invalid,
#define X(name) I_##name,
#include "cpu/mnemonics.def"
#undef X
    MNEMONIC_COUNT
};

/* Code size of the current code segment. */
enum code_size { CODE_16, CODE_32, CODE_64 };

enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_COUNT };

enum operand_kind {
    OPND_NONE,
    OPND_GPR,  /* reg 0..15, the low `size` bytes */
    OPND_GPRH, /* AH CH DH BH as reg 0..3 (size 1, no REX) */
    OPND_MEM,  /* the instruction's one memory operand; size 0: only the address matters (LEA, INVLPG, ...) */
    OPND_IMM,  /* insn.imm, already sign- or zero-extended to the operand size and then to 64 bits */
    OPND_IMM2, /* insn.imm2: ENTER's second immediate and the like */
    OPND_REL,  /* branch displacement in insn.imm, sign-extended */
    OPND_FAR,  /* pointer in the instruction: offset in imm, selector in imm2 */
    OPND_SEG,  /* segment register: SEG_* */
    OPND_CR,
    OPND_DR,
    OPND_ST,  /* x87 stack register */
    OPND_MM,  /* MMX register */
    OPND_XMM, /* 128-bit register (or the low `size` bytes of it) */
    OPND_YMM,
};

#define OPND_READ  1
#define OPND_WRITE 2

struct operand {
    u8 kind;   /* enum operand_kind */
    u8 reg;    /* register number */
    u8 size;   /* bytes read or written; 0 when it is an address only or variable (FXSAVE) */
    u8 access; /* OPND_READ | OPND_WRITE */
};

/* Pseudo registers for insn.base and insn.index; they index cpu.regs[]. */
#define REG_ZERO 16 /* always 0 */
#define REG_RIP  17 /* base of RIP-relative addressing; see cpu.regs */

#define PFX_LOCK  0x01
#define PFX_REP   0x02 /* F3 as a prefix (not as part of the opcode) */
#define PFX_REPNE 0x04 /* F2 likewise */
#define PFX_66    0x08
#define PFX_67    0x10
#define PFX_REX   0x20 /* a REX prefix is present */
#define PFX_VEX   0x40
#define PFX_SEG   0x80 /* a segment override is present and effective */

typedef bool exec_fn(struct cpu *cpu, const struct insn *i);

struct insn {
    exec_fn *fn;                 /* engine: the interpreter's handler */
    const struct opcode *opcode; /* its row in opcodes.def */
    u64 imm;                     /* immediate, branch displacement, moffs address, or far offset */
    s64 disp;                    /* displacement of the memory operand */
    u8 base, index, scale;       /* address = regs[base] + (regs[index] << scale) + disp */
    u8 seg;                      /* effective segment of the memory operand (or of a string source) */
    u8 addrsize;                 /* 2, 4 or 8 */
    u8 opsize;                   /* effective operand size: 2, 4 or 8 (1 for byte forms) */
    u8 len;                      /* bytes, 1..15 */
    u8 prefixes;                 /* PFX_* */
    u16 mnemonic;                /* enum mnemonic */
    u16 imm2;                    /* second immediate or far selector */
    u16 off;                     /* engine: offset of the instruction from the start of its block */
    u8 noperands;
    u8 modrm;                    /* raw ModRM byte when there is one */
    u8 rex;                      /* W R X B as 8 4 2 1 (from REX or VEX) */
    u8 map;                      /* 0: one byte, 1: 0F, 2: 0F38, 3: 0F3A */
    u8 code;                     /* last opcode byte */
    u8 pp;                       /* mandatory prefix: 0, 1 (66), 2 (F3), 3 (F2) */
    u8 vex_l;                    /* VEX.L */
    u8 vex_v;                    /* VEX.vvvv, not inverted */
    u8 dst, src;                 /* engine: byte offsets of register operands in cpu.regs */
    struct operand operands[4];  /* in Intel order */
    u8 bytes[15];                /* the raw instruction */
};

#endif
