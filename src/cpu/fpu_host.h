/* Running guest x87 and vector instructions as host instructions.
 *
 * An operation (struct fpu_op) is one distinct encoding with its operands normalised: register operands are loaded from
 * and stored to the places the caller passes pointers to, and the memory operand is whatever host memory the caller
 * points at. So one operation serves every register combination, and their number is bounded by the instruction set.
 * The implementation is chosen by file: fpu_host_x86.c on x86-64 hosts. */
#ifndef CPU_FPU_HOST_H
#define CPU_FPU_HOST_H

#include "cpu/exec.h"

/* What happened in an operation. */
enum fpu_result {
    FPU_DONE,
    FPU_SIMD_EXCEPTION, /* unmasked SIMD floating-point exception: nothing stored, but MXCSR's flags */
    FPU_ILLEGAL,        /* the host does not have the instruction: nothing stored */
};

struct fpu_op;
/* An instruction handler that is also told its operation. */
typedef bool fpu_handler(struct cpu *cpu, const struct insn *i, const struct fpu_op *op);
/* Vector form: pointers for operands 0..3. A register operand's points at its 16 (MMX: 10) bytes in cpu->fpu.legacy or
 * at the 8 bytes of the general register, a memory operand's at host memory aligned to the operand's size. */
typedef unsigned fpu_vector_run(void *p0, void *p1, void *p2, void *p3, struct cpu *cpu);
/* x87, full form: FXSAVE images before and after (16-byte aligned; may be the same), memory operand. */
typedef void fpu_x87_run(const void *in, void *out, void *mem, struct cpu *cpu);
/* x87, short form: 10-byte values of ST(0) and ST(i) in, result out (may be one of them), memory operand. Returns the
 * status word's exception and condition flags; FPU_X87_RETRY: an unmasked exception, nothing was done but the memory
 * operand may have been written. */
typedef unsigned fpu_x87_short_run(const void *st0, const void *sti, void *out, void *mem, struct cpu *cpu);
#define FPU_X87_RETRY 0x10000u

enum { FPU_MAX_OPERANDS = 4 };

struct fpu_op {
    exec_fn *entry;            /* what struct insn.fn points at: calls the handler with this operation */
    union {
        fpu_vector_run *vector;
        fpu_x87_run *x87;
    } run;
    fpu_x87_short_run *brief;  /* x87: the short form, or NULL */
    u64 key;                   /* the normalised encoding */
    struct fpu_op *next;       /* hash chain */
    const u8 *start, *recover; /* host code from where to where it may trap, and where it goes on then */
    s8 mem;                    /* index of the memory operand, -1: none */
    u8 mem_size;               /* its bytes */
    u8 mem_access;             /* OPND_READ, OPND_WRITE */
    u8 operands;               /* how many leading operands are registers or memory */
    u8 guard;                  /* the caller's: which checks come first */
    u8 flags;                  /* the caller's */
    u16 mask;                  /* the caller's */
};

/* What the caller binds a new operation to. `setup` fills in the fields that are the caller's. */
struct fpu_binding {
    fpu_handler *handler;
    void (*setup)(struct fpu_op *op, const struct insn *i);
};

/* The operation of a decoded vector, MMX or x87 instruction, made when there is none yet. NULL when the table is full (or
 * there is no executable memory): then the instruction runs through fpu_host_uncached(). Thread safe. */
const struct fpu_op *fpu_host_op(const struct insn *i, const struct fpu_binding *bind);

/* Build the operation in a reserved place, under a lock, run it, and forget it. #UD when there is no executable memory. */
bool fpu_host_uncached(struct cpu *cpu, const struct insn *i, const struct fpu_binding *bind);

#endif
