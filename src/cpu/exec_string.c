/* String instructions and their REP forms. Runs that stay within one page of plain RAM are done at once; everything else goes
 * element by element. Between runs a repeated instruction looks at pending events and may be left with its registers
 * up to date, to be restarted (SDM vol 2 "REP"). */
#include "cpu/exec_local.h"

#include <string.h>

#define BY_SIZE(prefix) {prefix##8, prefix##16, prefix##32, prefix##64}

static inline u64 address_mask(const struct insn *i)
{
    return i->addrsize == 8 ? ~0ull : i->addrsize == 4 ? 0xffffffffull : 0xffffull;
}

/* Advance an index register by n elements in the direction of DF. */
static inline void advance(struct cpu *cpu, const struct insn *i, unsigned reg, u64 n)
{
    u64 bytes = n * i->opsize;
    reg_set(cpu, reg, i->addrsize, cpu->regs[reg] + (cpu->eflags & EFLAGS_DF ? -bytes : bytes));
}

static inline bool repeated(const struct insn *i) { return i->prefixes & (PFX_REP | PFX_REPNE); }

/* How many elements of `size` from `ea` upwards lie in the same page, below the window's limit and below the wrap of the
 * address size, at most `count`. The first one is known to be accessible. */
static u64 run_length(const struct cpu *cpu, const struct insn *i, unsigned seg, u64 ea, u64 limit, u64 count)
{
    u64 lin = cpu->win[seg].base + ea;
    u64 n = (GUEST_PAGE_SIZE - (lin & GUEST_PAGE_MASK)) / i->opsize;
    u64 top = MIN(limit, address_mask(i)) - ea; /* bytes after the first one */
    if (n > 1 && top < n * i->opsize - 1) n = (top + 1) / i->opsize;
    n = MIN(n, count);
    return n ? n : 1;
}

/* After n elements of a repeated instruction: count down, and decide how to go on. */
enum next { NEXT_DONE, NEXT_AGAIN, NEXT_LEAVE };
static inline enum next after_run(struct cpu *cpu, const struct insn *i, u64 n)
{
    if (!repeated(i)) return NEXT_DONE;
    u64 left = (cpu->regs[R_CX] - n) & address_mask(i);
    reg_set(cpu, R_CX, i->addrsize, left);
    if (!left) return NEXT_DONE;
    if (UNLIKELY(cpu->step || (__atomic_load_n(&cpu->events, __ATOMIC_RELAXED) & cpu->event_mask))) {
        cpu->rip = insn_rip(cpu, i);
        cpu->unfinished = true;
        return NEXT_LEAVE;
    }
    return NEXT_AGAIN;
}

/* With a 32-bit address size registers are cut to 32 bits, even when the count is 0 and when the first element faults: the
 * count always, the addresses by MOVS and STOS. [SDM2] REP does not say so; processors do it. */
static void cut_registers(struct cpu *cpu, const struct insn *i)
{
    cpu->regs[R_CX] = (u32)cpu->regs[R_CX];
    if (i->mnemonic == I_movs) cpu->regs[R_SI] = (u32)cpu->regs[R_SI];
    if (i->mnemonic == I_movs || i->mnemonic == I_stos) cpu->regs[R_DI] = (u32)cpu->regs[R_DI];
}

/* Loop over runs; `body` moves `n` elements (it may lower n) given `count` left. */
#define REPEAT(...)                                                                                           \
    do {                                                                                                      \
        const u64 mask = address_mask(i);                                                                     \
        exec_fn *const fn = i->fn;                                                                            \
        cpu->unfinished = false; /* what it was left for may have gone away */                                \
        if (repeated(i) && i->addrsize == 4) cut_registers(cpu, i);                                           \
        if (repeated(i) && !(cpu->regs[R_CX] & mask)) return true;                                            \
        for (;;) {                                                                                            \
            u64 count = repeated(i) ? cpu->regs[R_CX] & mask : 1, n = 1;                                      \
            if (cpu->step) count = 1;                                                                         \
            u64 si = cpu->regs[R_SI] & mask, di = cpu->regs[R_DI] & mask;                                     \
            (void)si, (void)di, (void)count;                                                                  \
            __VA_ARGS__                                                                                       \
            enum next next = after_run(cpu, i, n);                                                            \
            if (next != NEXT_AGAIN) return next == NEXT_DONE;                                                 \
            if (UNLIKELY(i->fn != fn)) { /* it has written over itself: go on with what is there now */       \
                cpu->rip = insn_rip(cpu, i);                                                                  \
                return false;                                                                                 \
            }                                                                                                 \
        }                                                                                                     \
    } while (0)

#define STRING_FORMS(bits)                                                                                    \
    HANDLER(movs##bits)                                                                                       \
    {                                                                                                         \
        REPEAT({                                                                                              \
            u8 *from = mem_fast(cpu, i->seg, si, bits / 8, false), *to = mem_fast(cpu, SEG_ES, di, bits / 8, true); \
            if (LIKELY(from && to)) {                                                                         \
                if (count > 1 && !(cpu->eflags & EFLAGS_DF)) {                                                \
                    n = run_length(cpu, i, i->seg, si, cpu->win[i->seg].read_end - 1, count);                 \
                    n = run_length(cpu, i, SEG_ES, di, cpu->win[SEG_ES].write_end - 1, n);                    \
                }                                                                                             \
                if ((u64)(to - from) >= n * (bits / 8)) {                                                     \
                    memmove(to, from, n * (bits / 8));                                                        \
                } else {                                                                                      \
                    for (u64 k = 0; k < n; k++) ((mem##bits *)to)[k] = ((mem##bits *)from)[k];                \
                }                                                                                             \
            } else {                                                                                          \
                u##bits v;                                                                                    \
                TRY(mem_read##bits(cpu, i->seg, si, &v));                                                     \
                TRY(mem_write##bits(cpu, SEG_ES, di, v));                                                     \
            }                                                                                                 \
            advance(cpu, i, R_SI, n);                                                                         \
            advance(cpu, i, R_DI, n);                                                                         \
        });                                                                                                   \
    }                                                                                                         \
    HANDLER(stos##bits)                                                                                       \
    {                                                                                                         \
        u##bits v = REG##bits(R_AX * 8);                                                                      \
        REPEAT({                                                                                              \
            u8 *to = mem_fast(cpu, SEG_ES, di, bits / 8, true);                                               \
            if (LIKELY(to)) {                                                                                 \
                if (count > 1 && !(cpu->eflags & EFLAGS_DF))                                                  \
                    n = run_length(cpu, i, SEG_ES, di, cpu->win[SEG_ES].write_end - 1, count);                \
                for (u64 k = 0; k < n; k++) ((mem##bits *)to)[k] = v;                                         \
            } else {                                                                                          \
                TRY(mem_write##bits(cpu, SEG_ES, di, v));                                                     \
            }                                                                                                 \
            advance(cpu, i, R_DI, n);                                                                         \
        });                                                                                                   \
    }                                                                                                         \
    HANDLER(lods##bits)                                                                                       \
    {                                                                                                         \
        REPEAT({                                                                                              \
            u##bits v;                                                                                        \
            TRY(mem_read##bits(cpu, i->seg, si, &v));                                                         \
            SET##bits(R_AX * 8, v);                                                                           \
            advance(cpu, i, R_SI, n);                                                                         \
        });                                                                                                   \
    }                                                                                                         \
    HANDLER(cmps##bits)                                                                                       \
    {                                                                                                         \
        REPEAT({                                                                                              \
            u##bits a, b;                                                                                     \
            u16 fl;                                                                                           \
            TRY(mem_read##bits(cpu, SEG_ES, di, &b)); /* this one first, as processors do */                  \
            TRY(mem_read##bits(cpu, i->seg, si, &a));                                                         \
            alu_cmp##bits(a, b, &fl);                                                                         \
            advance(cpu, i, R_SI, n);                                                                         \
            advance(cpu, i, R_DI, n);                                                                         \
            if (comparison_ends(cpu, i, fl)) return true;                                                     \
        });                                                                                                   \
    }                                                                                                         \
    HANDLER(scas##bits)                                                                                       \
    {                                                                                                         \
        REPEAT({                                                                                              \
            u##bits b;                                                                                        \
            u16 fl;                                                                                           \
            TRY(mem_read##bits(cpu, SEG_ES, di, &b));                                                         \
            alu_cmp##bits(REG##bits(R_AX * 8), b, &fl);                                                       \
            advance(cpu, i, R_DI, n);                                                                         \
            if (comparison_ends(cpu, i, fl)) return true;                                                     \
        });                                                                                                   \
    }

/* REPE/REPNE CMPS and SCAS stop on the flag; then the element that decided is counted here. The flags change only with
 * the last element: a fault or an interrupt between two finds those from before the instruction ([SDM2] REP says so of
 * page faults; processors do it for all). */
static inline bool comparison_ends(struct cpu *cpu, const struct insn *i, u16 flags)
{
    bool equal = flags & AFLAG_ZF;
    bool ends = repeated(i) && equal != !!(i->prefixes & PFX_REP);
    if (ends || !repeated(i) || ((cpu->regs[R_CX] - 1) & address_mask(i)) == 0) cpu->aflags = flags;
    if (ends) reg_set(cpu, R_CX, i->addrsize, cpu->regs[R_CX] - 1);
    return ends;
}

STRING_FORMS(8)
STRING_FORMS(16)
STRING_FORMS(32)
STRING_FORMS(64)

/* INS and OUTS end the block like IN and OUT. The memory side is checked before the port is accessed. */

#define PORT_RUN 512u /* bytes, for which others wait for the machine lock */

/* How many elements may be moved before the lock is given back: one where each is looked at. */
static u64 port_run_length(const struct cpu *cpu, const struct insn *i, unsigned seg, u64 ea, u64 limit, u64 count)
{
    if ((cpu->eflags & EFLAGS_DF) || (cpu->watch & 2)) return 1;
    return run_length(cpu, i, seg, ea, limit, MIN(count, (u64)(PORT_RUN / i->opsize)));
}

/* So many elements between a port and a page of RAM, but no more once there are events: an access may change the memory map, or
 * end in an interrupt. How many it was. */
static u64 port_run(struct cpu *cpu, u16 port, u8 *host, unsigned size, u64 count, bool in)
{
    u64 n = 0;
    cpu->hooks->lock(cpu->hooks->opaque);
    do {
        u64 v = 0;
        if (in) v = bus_read(cpu->io, port, size);
        else memcpy(&v, host + n * size, size);
        if (in) memcpy(host + n * size, &v, size);
        else bus_write(cpu->io, port, v, size);
    } while (++n < count && !(__atomic_load_n(&cpu->events, __ATOMIC_RELAXED) & cpu->event_mask));
    cpu->hooks->unlock(cpu->hooks->opaque);
    return n;
}

HANDLER(ins_elements)
{
    u16 port = REG16(R_DX * 8);
    TRY(io_permitted(cpu, port, i->opsize));
    REPEAT({
        u8 *to = mem_fast(cpu, SEG_ES, di, i->opsize, true);
        if (LIKELY(to)) {
            n = port_run(cpu, port, to, i->opsize, port_run_length(cpu, i, SEG_ES, di, cpu->win[SEG_ES].write_end - 1, count), true);
        } else {
            u8 v[8];
            gla lin;
            TRY(seg_linear(cpu, SEG_ES, di, i->opsize, true, &lin));
            TRY(lin_probe_write(cpu, lin, i->opsize, ACC_WRITE));
            port_run(cpu, port, v, i->opsize, 1, true);
            TRY(mem_write_block(cpu, SEG_ES, di, v, i->opsize));
        }
        io_watch(cpu, port, i->opsize);
        advance(cpu, i, R_DI, n);
    });
}

HANDLER(outs_elements)
{
    u16 port = REG16(R_DX * 8);
    TRY(io_permitted(cpu, port, i->opsize));
    REPEAT({
        u8 v[8];
        u8 *from = mem_fast(cpu, i->seg, si, i->opsize, false);
        if (LIKELY(from)) n = port_run_length(cpu, i, i->seg, si, cpu->win[i->seg].read_end - 1, count);
        else TRY(mem_read_block(cpu, i->seg, si, v, i->opsize));
        n = port_run(cpu, port, from ? from : v, i->opsize, n, false);
        io_watch(cpu, port, i->opsize);
        advance(cpu, i, R_SI, n);
    });
}

HANDLER(ins) { return ins_elements(cpu, i) ? leave_block(cpu, i) : false; }
HANDLER(outs) { return outs_elements(cpu, i) ? leave_block(cpu, i) : false; }

exec_fn *exec_select_string(const struct insn *i)
{
    static exec_fn *const movs[4] = BY_SIZE(movs), *const stos[4] = BY_SIZE(stos), *const lods[4] = BY_SIZE(lods),
                   *const cmps[4] = BY_SIZE(cmps), *const scas[4] = BY_SIZE(scas);
    unsigned s = size_index(i->opsize);
    switch (i->mnemonic) {
    case I_movs: return movs[s];
    case I_stos: return stos[s];
    case I_lods: return lods[s];
    case I_cmps: return cmps[s];
    case I_scas: return scas[s];
    case I_ins: return ins;
    case I_outs: return outs;
    default: return NULL;
    }
}
