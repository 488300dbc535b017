/* Which encodings there are: found by asking decode() about every opcode, and what of them may run natively. */
#ifndef ORACLE_FORMS_H
#define ORACLE_FORMS_H

#include "oracle.h"

struct cpu_model;

/* One opcode with fixed prefix, map, W and L, in its memory or its register forms, all with the same mnemonic. */
struct form {
    u16 mnemonic;
    u8 vex, map, pp, code, w, l;
    bool memory;   /* ModRM.mod != 3 */
    u8 reg_mask;   /* usable ModRM.reg values of memory forms */
    u64 reg_rm;    /* usable reg << 3 | rm of register forms */
    u16 attr;      /* of the row: ATTR_* */
};

/* Its memory operand has a vector of indices. */
static inline bool form_gathers(const struct form *f) { return f->vex && f->map == 2 && (f->code & 0xfc) == 0x90; }

enum form_class { FORMS_INT, FORMS_X87, FORMS_MMX, FORMS_SSE, FORMS_AVX, FORMS_CLASSES };

struct form_list {
    struct form *forms; /* sorted by mnemonic */
    unsigned count;
    unsigned first[MNEMONIC_COUNT + 1]; /* forms of mnemonic m: first[m] .. first[m + 1] - 1 */
    u16 mnemonics[FORMS_CLASSES][MNEMONIC_COUNT];
    unsigned nmnemonics[FORMS_CLASSES];
};

/* only: a mnemonic's name, or NULL. */
struct form_list *forms_create(enum code_size mode, const struct cpu_model *model, const char *only);
void forms_destroy(struct form_list *l);
/* May this instruction run on both sides with comparable results? */
bool form_runnable(const struct insn *i, enum code_size mode, const struct cpu_model *model);
const char *mnemonic_name(unsigned mnemonic);

#endif
