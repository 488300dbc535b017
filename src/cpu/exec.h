/* What instruction handlers work with: registers, memory operands, exceptions, leaving a block.
 *
 * A handler returns true to go on with the next instruction of the block. It returns false when an exception was
 * recorded (cpu->exc.vector >= 0; nothing of the instruction's effects may be visible) or when it has set cpu->rip
 * itself and the block ends (branches, mode changes, anything with ATTR_END). Before it touches state, a handler has
 * done everything that can fault. Handlers check privilege and mode themselves; CPUID features are checked at decode. */
#ifndef CPU_EXEC_H
#define CPU_EXEC_H

#include "cpu/cpu.h"
#include "cpu/decode.h"
#include "cpu/mmu.h"

/* ---- handler selection: each returns NULL for mnemonics that are not its own ---- */
exec_fn *exec_select_int(const struct insn *i); /* exec_int*.c: integer, control flow, string, I/O */
exec_fn *exec_select_sys(const struct insn *i); /* exec_sys.c: segments, far transfers, system registers */
exec_fn *exec_select_fpu(const struct insn *i); /* exec_fpu*.c: x87, MMX, SSE, AVX, XSAVE */

/* ---- exceptions: record one and return false ---- */
static inline bool raise_exc(struct cpu *cpu, int vector)
{
    cpu->exc = (struct exception){.vector = (s16)vector};
    return false;
}
static inline bool raise_err(struct cpu *cpu, int vector, u32 error_code)
{
    cpu->exc = (struct exception){.vector = (s16)vector, .has_error = 1, .error_code = error_code};
    return false;
}
static inline bool raise_gp0(struct cpu *cpu) { return raise_err(cpu, EXC_GP, 0); }
static inline bool raise_ud(struct cpu *cpu) { return raise_exc(cpu, EXC_UD); }

/* Propagate a recorded exception. */
#define TRY(call)                                                                                             \
    do {                                                                                                      \
        if (!(call)) return false;                                                                            \
    } while (0)

/* ---- where we are ---- */
static inline u64 insn_rip(const struct cpu *cpu, const struct insn *i) { return (cpu->block_rip + i->off) & cpu->ip_mask; }
static inline u64 next_rip(const struct cpu *cpu, const struct insn *i)
{
    return (cpu->block_rip + i->off + i->len) & cpu->ip_mask;
}
/* End the block after this instruction. */
static inline bool leave_block(struct cpu *cpu, const struct insn *i)
{
    cpu->rip = next_rip(cpu, i);
    return false;
}

/* ---- registers ---- */
static inline u8 *reg8_ptr(struct cpu *cpu, const struct operand *o)
{
    return (u8 *)&cpu->regs[o->reg] + (o->kind == OPND_GPRH);
}
static inline u64 reg_get(const struct cpu *cpu, unsigned reg, unsigned size)
{
    u64 v = cpu->regs[reg];
    return size == 8 ? v : size == 4 ? (u32)v : size == 2 ? (u16)v : (u8)v;
}
/* Write a register with the architecture's rule: 32-bit writes clear the upper half, 8/16-bit ones keep it. */
static inline void reg_set(struct cpu *cpu, unsigned reg, unsigned size, u64 v)
{
    switch (size) {
    case 8: cpu->regs[reg] = v; break;
    case 4: cpu->regs[reg] = (u32)v; break;
    case 2: __builtin_memcpy(&cpu->regs[reg], &v, 2); break;
    default: *(u8 *)&cpu->regs[reg] = (u8)v; break;
    }
}

/* ---- memory ---- */

/* Offset of the memory operand within its segment. */
static inline u64 insn_ea(const struct cpu *cpu, const struct insn *i)
{
    u64 ea = cpu->regs[i->base] + (cpu->regs[i->index] << i->scale) + (u64)i->disp;
    return i->addrsize == 8 ? ea : i->addrsize == 4 ? (u32)ea : (u16)ea;
}

/* Slow paths of the accessors below: exact in every case (mem.c). */
bool mem_read_slow(struct cpu *cpu, unsigned seg, u64 ea, void *buf, unsigned size);
bool mem_write_slow(struct cpu *cpu, unsigned seg, u64 ea, const void *buf, unsigned size);
/* First half of a read-modify-write: checks everything a write would check, then reads. The mem_write that follows at the
 * same address cannot fault. */
bool mem_rmw_slow(struct cpu *cpu, unsigned seg, u64 ea, void *buf, unsigned size);
/* Serialises locked operations that cannot use a host atomic: MMIO, watched pages, operands that cross a cache line.
 * DEVIATION: plain stores of other vCPUs may come between the two halves of those. */
void mem_split_lock(void);
void mem_split_unlock(void);
/* Slow paths of mem_locked() and mem_locked_end(). */
void *mem_locked_slow(struct cpu *cpu, unsigned seg, u64 ea, unsigned size);
void mem_locked_report(struct cpu *cpu);

/* Host address of size bytes at seg:ea when the TLB has it, else NULL. */
static inline __attribute__((always_inline)) void *mem_fast(struct cpu *cpu, unsigned seg, u64 ea, unsigned size, bool write)
{
    const struct segment_window *w = &cpu->win[seg];
    /* By the last byte: the sum can wrap around to 0, which a closed window must not let through. */
    if (__builtin_expect(ea + (size - 1) >= (write ? w->write_end : w->read_end), 0)) return NULL;
    u64 lin = (w->base + ea) & cpu->lin_mask;
    const struct tlb *t = cpu->tlb;
    const struct tlb_entry *e = &t->e[tlb_index(lin)];
    u64 want = ((lin + size - 1) & ~GUEST_PAGE_MASK) | t->gen;
    if (__builtin_expect((write ? e->write_tag : e->read_tag) != want, 0)) return NULL;
    return (void *)(uintptr_t)(lin + e->addend);
}

/* Host address for an atomic operation on size bytes at seg:ea, which mem_locked_end() must follow. NULL: take the two-step path
 * under mem_split_lock(), which also raises what there is to raise. The host must not see a locked operation across two cache
 * lines: where that is not forbidden it costs as much as a thousand instructions. */
static inline __attribute__((always_inline)) void *mem_locked(struct cpu *cpu, unsigned seg, u64 ea, unsigned size)
{
    void *p = mem_fast(cpu, seg, ea, size, true);
    if (__builtin_expect(p && ((uintptr_t)p & 63) + size <= 64, 1)) return p;
    return mem_locked_slow(cpu, seg, ea, size);
}
static inline void mem_locked_end(struct cpu *cpu)
{
    if (__builtin_expect(cpu->locked_size, 0)) mem_locked_report(cpu);
}

#define DEFINE_MEM_ACCESS(bits)                                                                               \
    static inline __attribute__((always_inline)) bool mem_read##bits(struct cpu *cpu, unsigned seg, u64 ea,   \
                                                                     u##bits *out)                            \
    {                                                                                                         \
        const void *p = mem_fast(cpu, seg, ea, bits / 8, false);                                              \
        if (__builtin_expect(p != NULL, 1)) {                                                                 \
            __builtin_memcpy(out, p, bits / 8);                                                               \
            return true;                                                                                      \
        }                                                                                                     \
        return mem_read_slow(cpu, seg, ea, out, bits / 8);                                                    \
    }                                                                                                         \
    static inline __attribute__((always_inline)) bool mem_write##bits(struct cpu *cpu, unsigned seg, u64 ea,  \
                                                                      u##bits v)                              \
    {                                                                                                         \
        void *p = mem_fast(cpu, seg, ea, bits / 8, true);                                                     \
        if (__builtin_expect(p != NULL, 1)) {                                                                 \
            __builtin_memcpy(p, &v, bits / 8);                                                                \
            return true;                                                                                      \
        }                                                                                                     \
        return mem_write_slow(cpu, seg, ea, &v, bits / 8);                                                    \
    }
DEFINE_MEM_ACCESS(8)
DEFINE_MEM_ACCESS(16)
DEFINE_MEM_ACCESS(32)
DEFINE_MEM_ACCESS(64)

/* Blocks of up to 512 bytes (FXSAVE and the like), all checked before any byte is written. */
bool mem_read_block(struct cpu *cpu, unsigned seg, u64 ea, void *buf, unsigned size);
bool mem_write_block(struct cpu *cpu, unsigned seg, u64 ea, const void *buf, unsigned size);

/* After a port access: I/O breakpoints (DR7 R/W = 2 with CR4.DE). */
void io_watch_slow(struct cpu *cpu, u16 port, unsigned size);
static inline void io_watch(struct cpu *cpu, u16 port, unsigned size)
{
    if (__builtin_expect(cpu->watch & 2, 0)) io_watch_slow(cpu, port, size);
}

/* ---- stack: width is the operand size; uses SS.B for the pointer; RSP changes only when the access succeeded ---- */
bool push(struct cpu *cpu, unsigned size, u64 value);
bool pop(struct cpu *cpu, unsigned size, u64 *value);
/* Mask of the stack pointer: 0xffff, 0xffffffff or all ones. */
static inline u64 stack_mask(const struct cpu *cpu)
{
    return cpu_code64(cpu) ? ~0ull : cpu->seg[SEG_SS].attr & SEG_DB ? 0xffffffffull : 0xffffull;
}
/* Set the low part of RSP selected by stack_mask (32-bit writes clear the upper half). */
static inline void stack_set(struct cpu *cpu, u64 sp)
{
    u64 m = stack_mask(cpu);
    reg_set(cpu, R_SP, m == 0xffff ? 2 : m == 0xffffffff ? 4 : 8, sp);
}

/* ---- flags in their LAHF/SETO form ---- */
#define AFLAG_OF 0x0001u
#define AFLAG_PENDING 0x0002u /* only within translated code: they are still to be computed */
#define AFLAG_CF 0x0100u
#define AFLAG_PF 0x0400u
#define AFLAG_AF 0x1000u
#define AFLAG_ZF 0x4000u
#define AFLAG_SF 0x8000u

/* ---- protected-mode machinery (segment.c, task.c, exception.c) ---- */

/* MOV/POP/LDS... to ES, SS, DS, FS, GS with all checks of the current mode; calls cpu_update_mode(). */
bool load_segment(struct cpu *cpu, unsigned seg, u16 selector);
/* Real and V86 mode: base = selector << 4. cpu_update_mode() must follow. */
void load_segment_real(struct cpu *cpu, unsigned seg, u16 selector);
/* The same with what depends on it. */
void switch_segment_real(struct cpu *cpu, unsigned seg, u16 selector);

enum interrupt_kind { INT_EXTERNAL, INT_EXCEPTION, INT_SOFT /* INT n */, INT_SOFT3 /* INT3, INTO */, INT_SOFT1 /* INT1 */, INT_NMI };
/* Deliver a vector through the IVT or IDT. return_rip is pushed. False: a nested exception is recorded. */
bool interrupt(struct cpu *cpu, unsigned vector, enum interrupt_kind kind, bool has_error, u32 error_code, u64 return_rip);
/* Deliver the recorded exception with cpu->rip as the faulting instruction's address, with double and triple fault
 * rules; true: delivered, false: triple fault (cpu->shutdown set). Handles RF, DR6, DR7.GD as the vector needs. */
bool deliver_exception(struct cpu *cpu);
/* TSS switches: by CALL/JMP, IRET or a task gate. */
enum task_switch_kind { TASK_JMP, TASK_CALL, TASK_IRET, TASK_INT };
bool task_switch(struct cpu *cpu, u16 selector, enum task_switch_kind kind, bool has_error, u32 error_code, u64 next_rip);

/* I/O permission for [port, port+size): CPL/IOPL and the TSS bitmap. False: #GP(0) (or #PF) is recorded. */
bool io_permitted(struct cpu *cpu, u16 port, unsigned size);

#endif
