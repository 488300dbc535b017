/* Shared by the exec_fpu*.c files only: the guest's x87 and vector state, and the checks in front of its use. */
#ifndef CPU_EXEC_FPU_H
#define CPU_EXEC_FPU_H

#include "cpu/exec.h"
#include "cpu/fpu_host.h"

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Bounds of cpu->fpu.legacy, SDM vol 1 table 10-2. Bytes 464..511 are "available": the processor state that has no place in
 * the 64-bit format is kept there, and never shown to the guest. */
enum {
    FX_CW = 0,
    FX_SW = 2,
    FX_TAG = 4, /* abridged, a bit per physical register: 1 = not empty */
    FX_OP = 6,
    FX_IP = 8,  /* 64 bits */
    FX_DP = 16, /* 64 bits */
    FX_MXCSR = 24,
    FX_MXCSR_MASK = 28,
    FX_ST = 32,   /* ST(0)..ST(7), 16 bytes each */
    FX_XMM = 160, /* XMM0..15 */
    FX_END = 416,
    FX_CS = 464,   /* selector of the last x87 instruction */
    FX_DS = 466,   /* selector of its memory operand */
    FX_FERR = 468, /* FERR# is asserted */
    FX_IP_KEPT = 472, /* fpu_live.c: the instruction pointer while the x87 is in the host's registers */
};

#define MXCSR_VALID 0xffffu /* writable bits */
#define MXCSR_INIT  0x1f80u

/* Status word. */
#define SW_FLAGS 0x003fu /* IE DE ZE OE UE PE */
#define SW_SF    0x0040u
#define SW_ES    0x0080u
#define SW_C0    0x0100u
#define SW_C1    0x0200u
#define SW_C2    0x0400u
#define SW_C3    0x4000u
#define SW_B     0x8000u

static inline u16 *fx16(struct cpu *cpu, unsigned at) { return (u16 *)(void *)(cpu->fpu.legacy + at); }
static inline u32 *fx32(struct cpu *cpu, unsigned at) { return (u32 *)(void *)(cpu->fpu.legacy + at); }
static inline u64 *fx64(struct cpu *cpu, unsigned at) { return (u64 *)(void *)(cpu->fpu.legacy + at); }
static inline u8 *st_slot(struct cpu *cpu, unsigned n) { return cpu->fpu.legacy + FX_ST + 16 * n; }
static inline u8 *xmm_slot(struct cpu *cpu, unsigned n) { return cpu->fpu.legacy + FX_XMM + 16 * n; }
static inline u8 *ymm_high_slot(struct cpu *cpu, unsigned n) { return cpu->fpu.ymm_high + 16 * n; }
static inline unsigned fx_top(struct cpu *cpu) { return *fx16(cpu, FX_SW) >> 11 & 7; }

/* As the processor keeps them whatever is loaded. */
static inline u16 fx_fix_cw(u16 cw) { return (u16)((cw & 0x1f3f) | 0x40); }
static inline u16 fx_fix_sw(u16 sw, u16 cw)
{
    return (u16)((sw & 0x7f7f) | (sw & ~cw & SW_FLAGS ? SW_ES | SW_B : 0));
}

/* ---- checks; false: an exception is recorded, or the block was left ---- */

/* No #NM, #UD for legacy SSE instructions on XMM registers. */
bool fpu_sse_denied(struct cpu *cpu);
static inline __attribute__((always_inline)) bool fpu_sse_check(struct cpu *cpu)
{
    if (LIKELY(!(cpu->cr0 & (CR0_EM | CR0_TS)) && (cpu->cr4 & CR4_OSFXSR))) return true;
    return fpu_sse_denied(cpu);
}
/* VEX-encoded. */
bool fpu_avx_check(struct cpu *cpu);
/* MMX; includes pending x87 exceptions. */
bool fpu_mmx_check(struct cpu *cpu, const struct insn *i);
/* x87 instructions that wait. */
bool fpu_pending(struct cpu *cpu, const struct insn *i);
static inline __attribute__((always_inline)) bool fpu_wait_check(struct cpu *cpu, const struct insn *i)
{
    if (UNLIKELY(*fx16(cpu, FX_SW) & SW_ES)) return fpu_pending(cpu, i);
    return true;
}
/* FERR# follows ES down: call after anything that may have cleared it. */
void fpu_update_ferr(struct cpu *cpu);
/* Turn the stack so that TOP becomes `top` (no register changes its contents, tags included). */
void fpu_set_top(struct cpu *cpu, unsigned top);
/* x87 back to its state after FNINIT (registers keep their contents). */
void fpu_x87_init(struct cpu *cpu);

/* #GP(0) unless the operand at i->seg:ea is aligned (after segment checks). */
bool fpu_aligned(struct cpu *cpu, const struct insn *i, u64 ea, unsigned size, unsigned align, bool write);

/* ---- selection by file: each returns NULL for mnemonics that are not its own ---- */
exec_fn *exec_select_x87(const struct insn *i);
exec_fn *exec_select_fpu_state(const struct insn *i);
exec_fn *exec_select_fpu_mask(const struct insn *i);
exec_fn *exec_select_fpu_move(const struct insn *i);

#endif
