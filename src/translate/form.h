/* What the translator needs to know of an instruction to encode it anew: its operands, and what it does to the flags. */
#ifndef TRANSLATE_FORM_H
#define TRANSLATE_FORM_H

#include "cpu/decode.h"

/* Every arithmetic flag. */
#define ALL_FLAGS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

/* A set of registers with one member. */
static inline u32 bit(unsigned reg) { return 1u << reg; }

static inline const struct operand *memory_operand(const struct insn *i)
{
    for (unsigned k = 0; k < i->noperands; k++)
        if (i->operands[k].kind == OPND_MEM) return &i->operands[k];
    return NULL;
}

/* An instruction with a ModRM byte, or that could have one. */
struct form {
    u8 map, code;
    u8 reg;        /* guest register, or opcode extension */
    bool has_reg;  /* reg is a register */
    bool is_mem;   /* r/m is memory */
    u8 rm;         /* guest register, if not */
    bool reg_byte, rm_byte; /* their sizes are one byte */
    bool reg_read, reg_write, rm_read, rm_write;
    u8 imm_bytes;
    u8 rm_size;    /* bytes of the r/m operand */
    unsigned prefix; /* E_F2, E_F3 */
    u32 implicit;  /* other host registers written */
};

/* Fill *f; false: the instruction is left to its handler. */
bool form_of(const struct insn *i, struct form *f);

/* What the instruction does to the flags. */
struct flag_use {
    bool needs; /* the flags before, all or in part... */
    bool merges; /* ... only to leave them as they were, or some of them */
    bool full;  /* sets all, whatever they were */
    bool writes;
};

struct flag_use flags_of(const struct insn *i);

#endif
