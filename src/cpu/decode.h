/* Machine code -> struct insn, for every mode, from opcodes.def. */
#ifndef CPU_DECODE_H
#define CPU_DECODE_H

#include "cpu/insn.h"

/* Arithmetic flags by their EFLAGS bits, for the flag columns. */
#define FLAG_CF 0x001u
#define FLAG_PF 0x004u
#define FLAG_AF 0x010u
#define FLAG_ZF 0x040u
#define FLAG_SF 0x080u
#define FLAG_OF 0x800u
#define FLAG_DF 0x400u

/* How the translator treats an instruction; see docs/ARCHITECTURE.md. The memory class is any row with a
 * memory operand whose class is CLASS_IDENT. */
enum insn_class { CLASS_IDENT, CLASS_CONTROL, CLASS_SENSITIVE, CLASS_RARE };

/* CPUID feature a row depends on. */
enum cpu_feature {
    FEAT_BASE, /* 80386 */
    FEAT_486, /* CMPXCHG, XADD, BSWAP, INVLPG, ... */
    FEAT_FPU, FEAT_TSC, FEAT_MSR, FEAT_CX8, FEAT_CX16, FEAT_SEP, FEAT_CMOV, FEAT_CLFLUSH, FEAT_CLFLUSHOPT, FEAT_CLWB,
    FEAT_MMX, FEAT_FXSR, FEAT_SSE, FEAT_SSE2, FEAT_SSE3, FEAT_SSSE3, FEAT_SSE41, FEAT_SSE42, FEAT_SSE4A,
    FEAT_POPCNT, FEAT_AES, FEAT_PCLMUL, FEAT_MOVBE, FEAT_MONITOR, FEAT_XSAVE, FEAT_XSAVEOPT, FEAT_XSAVEC, FEAT_XSAVES,
    FEAT_AVX, FEAT_F16C, FEAT_FMA, FEAT_AVX2, FEAT_VAES, FEAT_VPCLMUL, FEAT_GFNI, FEAT_SHA, FEAT_BMI1, FEAT_BMI2,
    FEAT_LZCNT, FEAT_ADX, FEAT_RDRAND, FEAT_RDSEED, FEAT_FSGSBASE, FEAT_INVPCID, FEAT_SMAP, FEAT_PKU, FEAT_RDPID,
    FEAT_RDTSCP, FEAT_SYSCALL, FEAT_LM, FEAT_LAHF64, FEAT_3DNOWPREFETCH, FEAT_NOP /* 0F 1F */, FEAT_VMX, FEAT_SVM,
    FEAT_SMM, FEAT_MOVDIRI, FEAT_MOVDIR64B, FEAT_SERIALIZE, FEAT_WAITPKG, FEAT_CLDEMOTE, FEAT_WBNOINVD, FEAT_RTM, FEAT_CET,
    FEATURE_COUNT
};

/* Attributes of a row. */
#define ATTR_LOCK    0x0001u /* LOCK allowed when the destination is memory */
#define ATTR_CPL0    0x0002u /* #GP unless CPL is 0 */
#define ATTR_X87     0x0004u /* x87: CR0.EM/TS checks, pending exceptions unless ATTR_NOWAIT */
#define ATTR_NOWAIT  0x0008u /* x87 without the pending-exception check (FNINIT, FNSTSW, ...) */
#define ATTR_MMX     0x0010u /* touches MMX state */
#define ATTR_SSE     0x0020u /* legacy SSE: CR0.EM/TS, CR4.OSFXSR checks */
#define ATTR_AVX     0x0040u /* VEX-encoded vector: CR4.OSXSAVE, XCR0 checks */
#define ATTR_ALIGN   0x0080u /* memory operand must be aligned to its size, else #GP (legacy SSE) */
#define ATTR_FPEXC   0x0100u /* may raise SIMD floating-point exceptions (uses MXCSR) */
#define ATTR_NO64    0x0200u /* invalid in 64-bit mode */
#define ATTR_ONLY64  0x0400u /* valid only in 64-bit mode */
#define ATTR_END     0x0800u /* ends a block: changes control flow, mode, or what may be fetched next */
#define ATTR_PROT    0x1000u /* #UD in real and V86 mode */
#define ATTR_VECTOR  (ATTR_X87 | ATTR_MMX | ATTR_SSE | ATTR_AVX)
#define ATTR_REP     0x2000u /* string instruction: REP prefixes repeat it */

struct opcode {
    const char *name; /* Intel mnemonic, base form */
    u16 mnemonic;     /* enum mnemonic */
    u16 attr;         /* ATTR_* */
    u16 reads;        /* flags read */
    u16 writes;       /* flags written with defined values (or left unchanged conditionally) */
    u16 undefined;    /* flags left undefined */
    u8 cls;           /* enum insn_class */
    u8 feature;       /* enum cpu_feature */
};

enum {
    DECODE_UD = 0,    /* no such instruction: #UD */
    DECODE_MORE = -1, /* the bytes end inside the instruction */
    DECODE_LONG = -2, /* longer than 15 bytes: #GP(0) */
};

/* Decode one instruction from bytes[0..avail). Returns its length, or one of the DECODE_ codes above. Pure:
 * depends on nothing but its arguments. LOCK on a row or form that does not allow it is DECODE_UD. (For DECODE_UD
 * out->len tells how many bytes were needed to know it.) CPUID gating is the engine's business (opcode->feature). */
int decode(struct insn *out, const u8 *bytes, size_t avail, enum code_size size);

/* The Intel mnemonic in its sized form, as Capstone prints it ("movsb", "cdqe", "jne", ...). */
const char *insn_name(const struct insn *i, char *buf, size_t len);

#endif
