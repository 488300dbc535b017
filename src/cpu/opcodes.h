/* The rows of opcodes.def, as written and in the compiled form the decoder looks up. */
#ifndef CPU_OPCODES_H
#define CPU_OPCODES_H

#include "cpu/decode.h"

/* A row as written. struct insn's opcode pointer points at .op. */
struct opcode_row {
    struct opcode op;
    const char *encoding; /* notation: opcodes.def */
    const char *operands;
};

extern const struct opcode_row opcode_rows[];
extern const unsigned opcode_row_count;

/* Opcode maps: legacy 0..3 (one byte, 0F, 0F38, 0F3A), then the VEX maps. */
enum { SPACE_VEX_0F = 4, SPACE_COUNT = 7 };

/* What a form is matched against: the ModRM byte and, above it, */
#define KEY_REG      0x0100u /* ModRM.mod is 3 */
#define KEY_PP       0x0600u /* mandatory prefix: none, 66, F3, F2 */
#define KEY_PP_F     0x0400u /* ... is F3 or F2 */
#define KEY_PP_SHIFT 9
#define KEY_W        0x0800u /* REX.W, VEX.W */
#define KEY_L        0x1000u /* VEX.L */
#define KEY_64       0x2000u /* 64-bit mode */
#define KEY_B        0x4000u /* REX.B */

/* Operand letters of opcodes.def. */
enum operand_method {
    METHOD_A,
    METHOD_B,
    METHOD_C,
    METHOD_D,
    METHOD_E,
    METHOD_G,
    METHOD_H,
    METHOD_I,
    METHOD_I1,
    METHOD_I2,
    METHOD_J,
    METHOD_K,
    METHOD_L,
    METHOD_M,
    METHOD_N,
    METHOD_O,
    METHOD_P,
    METHOD_Q,
    METHOD_R,
    METHOD_S,
    METHOD_U,
    METHOD_V,
    METHOD_W,
    METHOD_Z,
    METHOD_GPR, /* a fixed one, in arg */
    METHOD_SEG, /* likewise */
    METHOD_ST0,
    METHOD_STI,
};

/* Operand types of opcodes.def; types of fixed size come first. */
enum operand_type {
    TYPE_N,
    TYPE_B,
    TYPE_W,
    TYPE_D,
    TYPE_Q,
    TYPE_T,
    TYPE_DQ,
    TYPE_QQ,
    TYPE_X,
    TYPE_HX,
    TYPE_FX,
    TYPE_EX,
    TYPE_V,
    TYPE_Z,
    TYPE_Y,
    TYPE_R,
    TYPE_A,
    TYPE_P,
    TYPE_S,
    TYPE_O,
    TYPE_C,
    TYPE_M,
    TYPE_G,
};

enum opsize_rule { OPSIZE_V, OPSIZE_B, OPSIZE_D64, OPSIZE_F64, OPSIZE_Z, OPSIZE_Y, OPSIZE_R };

#define FORM_MODRM  0x01u /* has a ModRM byte */
#define FORM_ANYMOD 0x02u /* r/m is a register whatever mod says */
#define FORM_PP     0x04u /* the mandatory prefix is part of the opcode */
#define FORM_VVVV   0x08u /* uses VEX.vvvv, which otherwise must be 1111b */
#define FORM_VSIB   0x10u

struct operand_spec {
    u8 method; /* enum operand_method */
    u8 type;   /* enum operand_type */
    u8 access; /* OPND_READ | OPND_WRITE */
    u8 arg;    /* fixed register number */
};

/* A compiled row. */
struct opcode_form {
    u32 mask, value; /* matches when (key & mask) == value */
    u16 row;         /* in opcode_rows[] */
    u8 flags;        /* FORM_* */
    u8 opsize;       /* enum opsize_rule */
    u8 noperands;
    struct operand_spec operands[4];
};

/* The candidates for one opcode byte, in matching order. */
struct opcode_slot {
    u16 first; /* in opcode_order[] */
    u8 count;
    u8 flags; /* FORM_MODRM when its forms have one (all or none do) */
};

extern struct opcode_form opcode_forms[];
extern u16 opcode_order[];
extern struct opcode_slot opcode_slots[SPACE_COUNT][256];

/* Compile the rows, once; any thread. */
void opcodes_init(void);

#endif
