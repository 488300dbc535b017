/* Shared by the integer handler files only: operand shapes and the macros that stamp out handlers by size. */
#ifndef CPU_EXEC_LOCAL_H
#define CPU_EXEC_LOCAL_H

#include "cpu/alu.h"
#include "cpu/exec.h"

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Guest memory may be unaligned. */
typedef u8 mem8;
typedef u16 __attribute__((aligned(1), may_alias)) mem16;
typedef u32 __attribute__((aligned(1), may_alias)) mem32;
typedef u64 __attribute__((aligned(1), may_alias)) mem64;

/* A register operand by insn.dst or insn.src: byte offset into cpu->regs. */
#define REG8(offset)  (*((u8 *)cpu->regs + (offset)))
#define REG16(offset) (*(u16 *)(void *)((u8 *)cpu->regs + (offset)))
#define REG32(offset) (*(u32 *)(void *)((u8 *)cpu->regs + (offset)))
#define REG64(offset) (*(u64 *)(void *)((u8 *)cpu->regs + (offset)))
#define SET8(offset, v)  (REG8(offset) = (v))
#define SET16(offset, v) (REG16(offset) = (v))
#define SET32(offset, v) (REG64(offset) = (u32)(v))
#define SET64(offset, v) (REG64(offset) = (v))

#define HANDLER(name)                                                                                         \
    static bool name(__attribute__((unused)) struct cpu *cpu, __attribute__((unused)) const struct insn *i)

/* Handlers by operand size: index 0..3 for 1, 2, 4, 8 bytes. */
static inline unsigned size_index(unsigned bytes) { return (unsigned)__builtin_ctz(bytes); }

/* Read-modify-write of the memory operand: `expr` computes the new value from the old one, `v`, and may change `fl`, a
 * copy of the flags. Afterwards v and fl are still there. */
#define RMW_STEPS(bits, expr)                                                                                 \
    u64 ea = insn_ea(cpu, i);                                                                                 \
    mem##bits *p = mem_fast(cpu, i->seg, ea, bits / 8, true);                                                 \
    u16 fl = cpu->aflags;                                                                                     \
    u##bits v;                                                                                                \
    if (LIKELY(p)) {                                                                                          \
        v = *p;                                                                                               \
        *p = (expr);                                                                                          \
    } else {                                                                                                  \
        TRY(mem_rmw_slow(cpu, i->seg, ea, &v, bits / 8));                                                     \
        TRY(mem_write##bits(cpu, i->seg, ea, (expr)));                                                        \
    }

/* The same under LOCK: atomic towards the other vCPUs and the devices. */
#define LOCKED_RMW_STEPS(bits, expr)                                                                          \
    u64 ea = insn_ea(cpu, i);                                                                                 \
    u##bits *p = mem_locked(cpu, i->seg, ea, bits / 8);                                                       \
    u16 fl;                                                                                                   \
    u##bits v;                                                                                                \
    if (LIKELY(p)) {                                                                                          \
        u##bits seen = *(mem##bits *)p;                                                                       \
        do {                                                                                                  \
            v = seen;                                                                                         \
            fl = cpu->aflags;                                                                                 \
            u##bits new_value = (expr);                                                                       \
            seen = __sync_val_compare_and_swap(p, v, new_value);                                              \
        } while (seen != v);                                                                                  \
        mem_locked_end(cpu);                                                                                  \
    } else {                                                                                                  \
        fl = cpu->aflags;                                                                                     \
        mem_split_lock();                                                                                     \
        bool ok = mem_rmw_slow(cpu, i->seg, ea, &v, bits / 8);                                                \
        if (ok) ok = mem_write##bits(cpu, i->seg, ea, (expr));                                                \
        mem_split_unlock();                                                                                   \
        TRY(ok);                                                                                              \
    }

#define RMW(bits, expr)                                                                                       \
    RMW_STEPS(bits, expr)                                                                                     \
    cpu->aflags = fl;                                                                                         \
    return true;
#define LOCKED_RMW(bits, expr)                                                                                \
    LOCKED_RMW_STEPS(bits, expr)                                                                              \
    cpu->aflags = fl;                                                                                         \
    return true;

/* Condition codes on the LAHF/SETO form, by the low nibble of the opcode. */
static inline __attribute__((always_inline)) bool condition(u16 f, unsigned cc)
{
    bool r;
    switch (cc >> 1) {
    case 0: r = f & AFLAG_OF; break;
    case 1: r = f & AFLAG_CF; break;
    case 2: r = f & AFLAG_ZF; break;
    case 3: r = f & (AFLAG_CF | AFLAG_ZF); break;
    case 4: r = f & AFLAG_SF; break;
    case 5: r = f & AFLAG_PF; break;
    case 6: r = (f >> 15 ^ f) & 1; break;
    default: r = ((f >> 15 ^ f) & 1) || (f & AFLAG_ZF); break;
    }
    return r ^ (cc & 1);
}

/* Jump within the code segment, with the checks of SDM vol 2 "JMP". */
static inline bool jump_to(struct cpu *cpu, u64 target)
{
    if (UNLIKELY(target > cpu->code_limit) || UNLIKELY(cpu->code_limit == ~0ull && !canonical(target)))
        return raise_gp0(cpu);
    cpu->rip = target;
    return false;
}

/* Selection by file: each returns NULL for mnemonics that are not its own. */
exec_fn *exec_select_alu(const struct insn *i);
exec_fn *exec_select_move(const struct insn *i);
exec_fn *exec_select_flow(const struct insn *i);
exec_fn *exec_select_string(const struct insn *i);
exec_fn *exec_select_bits(const struct insn *i);

#endif
