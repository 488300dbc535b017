/* Inside the generator: a case under construction. */
#ifndef ORACLE_BUILD_H
#define ORACLE_BUILD_H

#include "forms.h"
#include "oracle.h"
#include "random.h"

enum { R_AX, R_CX, R_DX, R_BX, R_SP, R_BP, R_SI, R_DI };

#define FLAGS_ARITH (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

/* What is known about a register at this point of the sequence. */
enum reg_state {
    REG_FREE,    /* not used yet: its start value can be chosen */
    REG_KNOWN,   /* value[] holds it */
    REG_UNKNOWN,
};

enum fixup_kind { FIX_REL, FIX_ABS, FIX_SLOT };
struct fixup {
    enum fixup_kind kind;
    u8 size;        /* of the field; of a far pointer the offset's */
    u16 selector;   /* whose segment the address is an offset in; stored behind it if far */
    bool far;
    u16 at;         /* field in code[] */
    u16 next;       /* end of the instruction, for FIX_REL */
    u16 target;     /* instruction index; beyond the last: the end */
};

#define CODE_MAX   600 /* instructions */
#define SLOT_FIRST 604 /* pointers to code, for indirect jumps */
#define SLOT_SIZE  16
#define SLOT_COUNT 6

#define POOL 512u

struct generator {
    struct generator_options o;
    struct form_list *forms;
    unsigned mnemonics;
    u64 image_batch;        /* what image[] and pools[] hold */
    u8 image[IMAGE_SIZE];
    u64 pools[4][POOL];     /* values for vector registers: doubles, singles, and any */
};

/* One case under construction. */
struct build {
    const struct generator *g;
    struct oracle_case *c;
    struct rng rng;
    enum code_size mode;
    unsigned width;             /* of a register: 2, 4, 8 */
    enum reg_state state[16];
    u64 value[16];
    u16 undefined;              /* flags undefined at this point */
    unsigned join;              /* index of the furthest jump target: until there definitions may be jumped over */
    bool x87;                   /* an x87 instruction has changed the pointers */
    bool x87_shown;             /* an instruction shows them, which a return may lead to once more */
    u16 keep;                   /* registers that must not be written (loop counters) */
    struct fixup fixups[32];
    unsigned nfixups, nslots;
    unsigned pos;
};

#define MASK(r) (1u << (r))

/* ---- generate.c ---- */

/* A window offset for an operand of size bytes. */
unsigned pick_target(struct build *b, unsigned size, bool aligned);
/* The segment's base at the start. */
u64 segment_base(const struct build *b, unsigned seg);
bool emit(struct build *b, const u8 *bytes, unsigned n, unsigned mnemonic);
/* MOV reg, value; in 64-bit mode with 32 bits when they are enough. */
bool emit_mov(struct build *b, unsigned reg, u64 value);
/* Make the register hold the value in front of the next instruction. */
bool ensure(struct build *b, unsigned reg, u64 value);
/* Append the instruction, if it may come here and leaves alone what must be kept. */
bool add_bytes(struct build *b, const u8 *code);
/* A random one. */
bool add_instruction(struct build *b);
/* Self-modifying code: a store into the immediate of a later MOV. */
void add_patch(struct build *b);
/* The instruction `skip` after the next one is the target of this field of the code. */
unsigned add_fixup(struct build *b, enum fixup_kind kind, unsigned at, unsigned size, unsigned next, unsigned skip);
/* The registers' values are not known any more; ... */
void forget_registers(struct build *b);
/* ... nor are the flags: what follows may run more than once. */
void forget_all(struct build *b);

/* ---- start.c ---- */

/* Choose the state that the case begins in. */
void start_state(struct build *b);

/* ---- walk.c ---- */

/* What compilers make: accesses near each other by a register that moves, in a loop or in a function perhaps. */
void add_walk(struct build *b);

#endif
