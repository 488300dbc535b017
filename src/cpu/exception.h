/* Interrupt delivery beyond what exec.h offers to everybody. */
#ifndef CPU_EXCEPTION_H
#define CPU_EXCEPTION_H

#include "cpu/exec.h"

/* DR6 bits that a #DB can carry: raise_debug() keeps them in the pending exception until it is delivered. */
#define DR6_BD 0x2000u
#define DR6_BS 0x4000u
#define DR6_BT 0x8000u
static inline bool raise_debug(struct cpu *cpu, u32 dr6_bits)
{
    cpu->exc = (struct exception){.vector = EXC_DB, .error_code = dr6_bits};
    return false;
}

/* INT n in virtual-8086 mode with VME, its bit in the TSS's redirection bitmap clear: through the IVT at
 * linear address 0, without leaving the mode (SDM vol 3A 20.3.3). False: an exception is recorded. */
bool interrupt_v86(struct cpu *cpu, unsigned vector, u64 return_rip);

#endif
