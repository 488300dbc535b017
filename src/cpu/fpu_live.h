/* The guest's x87 and vector state in the host's registers, for translated code.
 *
 * While cpu->fpu_live is not 0 no code may touch the host's x87, MMX or vector registers but translated code: what runs then is
 * compiled for general registers only (CMakeLists.txt has the list), and calls fpu_save() before it calls anything else: the C
 * library, devices, other handlers. */
#ifndef CPU_FPU_LIVE_H
#define CPU_FPU_LIVE_H

#include "cpu/cpu.h"

/* Bring the state back into cpu->fpu if it is not there, and the host's registers into the state that C code expects. */
void fpu_save_live(struct cpu *cpu);
static inline void fpu_save(struct cpu *cpu)
{
    if (__builtin_expect(cpu->fpu_live, 0)) fpu_save_live(cpu);
}

#endif
