/* The guest's x87 and vector state in the host's registers, for translated code.
 *
 * While cpu->fpu_live is not 0 no code may touch the host's x87, MMX or vector registers but translated code: what runs then is
 * compiled for general registers only (CMakeLists.txt has the list), and calls fpu_save() before it calls anything else: the C
 * library, devices, other handlers. */
#ifndef CPU_FPU_LIVE_H
#define CPU_FPU_LIVE_H

#include "cpu/cpu.h"

/* cpu->fpu_live: the instructions that may run as they are. They could not cause an exception: neither #UD nor #NM, and all
 * floating-point exceptions are masked. */
#define FPU_SSE 1u
#define FPU_AVX 2u
#define FPU_X87 4u /* x87 and MMX */

/* Translated code has, right in front of each x87 instruction that leaves its address in the x87's instruction pointer, four
 * bytes with the offset of the guest's instruction in its page; the page's RIP is in cpu->x87_page. */

/* Bring the state back into cpu->fpu if it is not there, and the host's registers into the state that C code expects. */
void fpu_save_live(struct cpu *cpu);
static inline void fpu_save(struct cpu *cpu)
{
    if (__builtin_expect(cpu->fpu_live, 0)) fpu_save_live(cpu);
}

/* Make at least these FPU_* live. False: not allowed now, the instructions' handlers must sort it out. */
bool fpu_load(struct cpu *cpu, unsigned need);

#endif
