/* Shared by the handlers of exec_sys*.c. */
#ifndef CPU_EXEC_SYS_H
#define CPU_EXEC_SYS_H

#include "cpu/exec.h"

#include "cpu/decode.h"

/* The end of a handler that has done its work: the block ends where the opcode table says so. */
static inline bool sys_done(struct cpu *cpu, const struct insn *i)
{
    return i->opcode->attr & ATTR_END ? leave_block(cpu, i) : true;
}
/* Protected mode and not virtual-8086: where selectors have descriptors. */
static inline bool sys_protected(const struct cpu *cpu) { return cpu_protected(cpu) && !cpu_v86(cpu); }
/* Truncate an offset to the address size of the instruction. */
static inline u64 sys_ea_add(const struct insn *i, u64 ea, unsigned n)
{
    ea += n;
    return i->addrsize == 8 ? ea : i->addrsize == 4 ? (u32)ea : (u16)ea;
}
/* A 16-bit source operand: register or memory. */
bool sys_read16(struct cpu *cpu, const struct insn *i, const struct operand *o, u16 *out);
/* Store a selector-like value: 16 bits to memory, the operand size (zero-extended) to a register. */
bool sys_store16(struct cpu *cpu, const struct insn *i, const struct operand *o, u64 value);

/* exec_sys_far.c */
exec_fn sys_jmpf, sys_callf, sys_retf, sys_iret;
/* exec_sys_fast.c */
exec_fn sys_syscall, sys_sysret, sys_sysenter, sys_sysexit, sys_swapgs, sys_rdfsbase, sys_wrfsbase;
/* exec_sys_seg.c */
exec_fn sys_mov_sreg, sys_push_sreg, sys_pop_sreg, sys_load_far, sys_lldt, sys_ltr, sys_sldt, sys_str,
    sys_lgdt, sys_lidt, sys_sgdt, sys_sidt, sys_lar, sys_lsl, sys_verr, sys_verw, sys_arpl;
/* exec_sys_reg.c */
exec_fn sys_mov_cr, sys_mov_dr, sys_smsw, sys_lmsw, sys_clts, sys_invlpg, sys_invpcid, sys_xgetbv, sys_xsetbv,
    sys_rdpkru, sys_wrpkru;

#endif
