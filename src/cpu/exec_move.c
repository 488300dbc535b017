/* Data movement: MOV and its relatives, stack, exchanges, port I/O. */
#include "cpu/exec_local.h"

#define BY_SIZE(prefix)      {prefix##8, prefix##16, prefix##32, prefix##64}
#define BY_WIDE_SIZE(prefix) {NULL, prefix##16, prefix##32, prefix##64}

#define MOVE_FORMS(bits)                                                                                      \
    HANDLER(mov_rr##bits) { SET##bits(i->dst, REG##bits(i->src)); return true; }                              \
    HANDLER(mov_ri##bits) { SET##bits(i->dst, (u##bits)i->imm); return true; }                                \
    HANDLER(mov_rm##bits)                                                                                     \
    {                                                                                                         \
        u##bits v;                                                                                            \
        TRY(mem_read##bits(cpu, i->seg, insn_ea(cpu, i), &v));                                                \
        SET##bits(i->dst, v);                                                                                 \
        return true;                                                                                          \
    }                                                                                                         \
    HANDLER(mov_mr##bits) { return mem_write##bits(cpu, i->seg, insn_ea(cpu, i), REG##bits(i->src)); }        \
    HANDLER(mov_mi##bits) { return mem_write##bits(cpu, i->seg, insn_ea(cpu, i), (u##bits)i->imm); }          \
    HANDLER(xchg_r##bits)                                                                                     \
    {                                                                                                         \
        u##bits a = REG##bits(i->dst), b = REG##bits(i->src);                                                 \
        SET##bits(i->dst, b);                                                                                 \
        SET##bits(i->src, a);                                                                                 \
        return true;                                                                                          \
    }                                                                                                         \
    /* XCHG with memory is locked with or without the prefix (SDM vol 3A 8.1.2.1). */                         \
    static bool xchg_mem##bits(struct cpu *cpu, const struct insn *i, unsigned reg)                           \
    {                                                                                                         \
        u64 ea = insn_ea(cpu, i);                                                                             \
        u##bits *p = mem_locked(cpu, i->seg, ea, bits / 8), v;                                                \
        if (LIKELY(p)) {                                                                                      \
            __asm__ volatile("xchg %[v], (%[p])" : [v] "=q"(v) : "0"(REG##bits(reg)), [p] "r"(p) : "memory"); \
            mem_locked_end(cpu);                                                                              \
        } else {                                                                                              \
            mem_split_lock();                                                                                 \
            bool ok = mem_rmw_slow(cpu, i->seg, ea, &v, bits / 8) &&                                          \
                      mem_write##bits(cpu, i->seg, ea, REG##bits(reg));                                       \
            mem_split_unlock();                                                                               \
            TRY(ok);                                                                                          \
        }                                                                                                     \
        SET##bits(reg, v);                                                                                    \
        return true;                                                                                          \
    }                                                                                                         \
    HANDLER(xchg_mr##bits) { return xchg_mem##bits(cpu, i, i->src); }                                         \
    HANDLER(xchg_rm##bits) { return xchg_mem##bits(cpu, i, i->dst); }
MOVE_FORMS(8)
MOVE_FORMS(16)
MOVE_FORMS(32)
MOVE_FORMS(64)

/* ---- XADD, CMPXCHG ---- */
#define XADD_FORMS(bits)                                                                                      \
    HANDLER(xadd_r##bits)                                                                                     \
    {                                                                                                         \
        u##bits a = REG##bits(i->dst), b = REG##bits(i->src);                                                 \
        u##bits sum = alu_add##bits(a, b, &cpu->aflags);                                                      \
        SET##bits(i->src, a);                                                                                 \
        SET##bits(i->dst, sum);                                                                               \
        return true;                                                                                          \
    }                                                                                                         \
    HANDLER(xadd_m##bits)                                                                                     \
    {                                                                                                         \
        RMW_STEPS(bits, alu_add##bits(v, REG##bits(i->src), &fl))                                             \
        SET##bits(i->src, v);                                                                                 \
        cpu->aflags = fl;                                                                                     \
        return true;                                                                                          \
    }                                                                                                         \
    HANDLER(xadd_lock_m##bits)                                                                                \
    {                                                                                                         \
        LOCKED_RMW_STEPS(bits, alu_add##bits(v, REG##bits(i->src), &fl))                                      \
        SET##bits(i->src, v);                                                                                 \
        cpu->aflags = fl;                                                                                     \
        return true;                                                                                          \
    }                                                                                                         \
    HANDLER(cmpxchg_r##bits)                                                                                  \
    {                                                                                                         \
        u##bits a = REG##bits(R_AX * 8), d = REG##bits(i->dst);                                               \
        alu_cmp##bits(a, d, &cpu->aflags);                                                                    \
        if (a == d) {                                                                                         \
            SET##bits(i->dst, REG##bits(i->src));                                                             \
        } else {                                                                                              \
            SET##bits(R_AX * 8, d);                                                                           \
        }                                                                                                     \
        return true;                                                                                          \
    }                                                                                                         \
    HANDLER(cmpxchg_m##bits)                                                                                  \
    {                                                                                                         \
        u64 ea = insn_ea(cpu, i);                                                                             \
        u##bits a = REG##bits(R_AX * 8), d;                                                                   \
        u##bits *p = mem_locked(cpu, i->seg, ea, bits / 8);                                                   \
        if (LIKELY(p)) {                                                                                      \
            d = __sync_val_compare_and_swap(p, a, REG##bits(i->src));                                         \
            mem_locked_end(cpu);                                                                              \
        } else {                                                                                              \
            mem_split_lock();                                                                                 \
            bool ok = mem_rmw_slow(cpu, i->seg, ea, &d, bits / 8) &&                                          \
                      mem_write##bits(cpu, i->seg, ea, a == d ? REG##bits(i->src) : d);                       \
            mem_split_unlock();                                                                               \
            TRY(ok);                                                                                          \
        }                                                                                                     \
        alu_cmp##bits(a, d, &cpu->aflags);                                                                    \
        if (a != d) SET##bits(R_AX * 8, d);                                                                   \
        return true;                                                                                          \
    }
XADD_FORMS(8)
XADD_FORMS(16)
XADD_FORMS(32)
XADD_FORMS(64)

/* CMPXCHG8B/16B: opsize 8 (REX.W) selects the 16-byte form, which must be aligned. */
HANDLER(cmpxchg8b)
{
    u64 ea = insn_ea(cpu, i);
    if (i->opsize == 8) {
        unsigned __int128 old, expect = (unsigned __int128)cpu->regs[R_DX] << 64 | cpu->regs[R_AX];
        unsigned __int128 desired = (unsigned __int128)cpu->regs[R_CX] << 64 | cpu->regs[R_BX];
        gla lin;
        if ((cpu->win[i->seg].base + ea) & 15) return raise_gp0(cpu); /* before the address itself is judged */
        TRY(seg_linear(cpu, i->seg, ea, 16, true, &lin));
        void *p = mem_locked(cpu, i->seg, ea, 16);
        bool same;
        if (LIKELY(p)) {
            u64 lo = (u64)expect, hi = (u64)(expect >> 64);
            __asm__ volatile("lock cmpxchg16b %[m]"
                             : [m] "+m"(*(unsigned __int128 *)p), "+a"(lo), "+d"(hi), "=@ccz"(same)
                             : "b"((u64)desired), "c"((u64)(desired >> 64))
                             : "memory");
            old = (unsigned __int128)hi << 64 | lo;
            mem_locked_end(cpu);
        } else {
            mem_split_lock();
            bool ok = mem_rmw_slow(cpu, i->seg, ea, &old, 16);
            if (ok) {
                same = old == expect;
                ok = mem_write_block(cpu, i->seg, ea, same ? &desired : &old, 16);
            }
            mem_split_unlock();
            TRY(ok);
            same = old == expect;
        }
        cpu->aflags = (u16)((cpu->aflags & ~AFLAG_ZF) | (same ? AFLAG_ZF : 0));
        if (!same) {
            cpu->regs[R_AX] = (u64)old;
            cpu->regs[R_DX] = (u64)(old >> 64);
        }
        return true;
    }
    u64 expect = (u64)REG32(R_DX * 8) << 32 | REG32(R_AX * 8), old;
    u64 desired = (u64)REG32(R_CX * 8) << 32 | REG32(R_BX * 8);
    u64 *p = mem_locked(cpu, i->seg, ea, 8);
    if (LIKELY(p)) {
        old = __sync_val_compare_and_swap(p, expect, desired);
        mem_locked_end(cpu);
    } else {
        mem_split_lock();
        bool ok = mem_rmw_slow(cpu, i->seg, ea, &old, 8) &&
                  mem_write64(cpu, i->seg, ea, old == expect ? desired : old);
        mem_split_unlock();
        TRY(ok);
    }
    cpu->aflags = (u16)((cpu->aflags & ~AFLAG_ZF) | (old == expect ? AFLAG_ZF : 0));
    if (old != expect) {
        SET32(R_AX * 8, (u32)old);
        SET32(R_DX * 8, (u32)(old >> 32));
    }
    return true;
}

/* ---- widening moves: the destination size is opsize, the source size is the second operand's ---- */
#define WIDEN(name, from, to, cast)                                                                           \
    HANDLER(name##_r##from##_##to) { SET##to(i->dst, (u##to)(s##to)(cast)REG##from(i->src)); return true; }   \
    HANDLER(name##_m##from##_##to)                                                                            \
    {                                                                                                         \
        u##from v;                                                                                            \
        TRY(mem_read##from(cpu, i->seg, insn_ea(cpu, i), &v));                                                \
        SET##to(i->dst, (u##to)(s##to)(cast)v);                                                               \
        return true;                                                                                          \
    }
WIDEN(movzx, 8, 16, u8)
WIDEN(movzx, 8, 32, u8)
WIDEN(movzx, 8, 64, u8)
WIDEN(movzx, 16, 16, u16)
WIDEN(movzx, 16, 32, u16)
WIDEN(movzx, 16, 64, u16)
WIDEN(movsx, 8, 16, s8)
WIDEN(movsx, 8, 32, s8)
WIDEN(movsx, 8, 64, s8)
WIDEN(movsx, 16, 16, s16)
WIDEN(movsx, 16, 32, s16)
WIDEN(movsx, 16, 64, s16)
WIDEN(movsx, 32, 64, s32)
WIDEN(movsx, 32, 32, s32)
/* MOVSXD with a 16-bit operand size moves the low word. */

HANDLER(lea16) { SET16(i->dst, (u16)insn_ea(cpu, i)); return true; }
HANDLER(lea32) { SET32(i->dst, (u32)insn_ea(cpu, i)); return true; }
HANDLER(lea64) { SET64(i->dst, insn_ea(cpu, i)); return true; }

/* ---- stack ---- */
#define STACK_FORMS(bits)                                                                                     \
    HANDLER(push_r##bits) { return push(cpu, bits / 8, REG##bits(i->dst)); }                                  \
    HANDLER(push_i##bits) { return push(cpu, bits / 8, (u##bits)i->imm); }                                    \
    HANDLER(push_m##bits)                                                                                     \
    {                                                                                                         \
        u##bits v;                                                                                            \
        TRY(mem_read##bits(cpu, i->seg, insn_ea(cpu, i), &v));                                                \
        return push(cpu, bits / 8, v);                                                                        \
    }                                                                                                         \
    HANDLER(pop_r##bits)                                                                                      \
    {                                                                                                         \
        u64 v;                                                                                                \
        TRY(pop(cpu, bits / 8, &v));                                                                          \
        SET##bits(i->dst, (u##bits)v);                                                                        \
        return true;                                                                                          \
    }                                                                                                         \
    /* The address is computed with the incremented stack pointer (SDM vol 2 "POP"). */                       \
    HANDLER(pop_m##bits)                                                                                      \
    {                                                                                                         \
        u64 v, sp = cpu->regs[R_SP];                                                                          \
        TRY(pop(cpu, bits / 8, &v));                                                                          \
        if (mem_write##bits(cpu, i->seg, insn_ea(cpu, i), (u##bits)v)) return true;                           \
        cpu->regs[R_SP] = sp;                                                                                 \
        return false;                                                                                         \
    }
STACK_FORMS(16)
STACK_FORMS(32)
STACK_FORMS(64)

HANDLER(pusha)
{
    u64 sp = cpu->regs[R_SP], mask = stack_mask(cpu);
    u8 image[32];
    if (i->opsize == 2)
        for (unsigned n = 0; n < 8; n++) __builtin_memcpy(image + 2 * n, &cpu->regs[7 - n], 2);
    else
        for (unsigned n = 0; n < 8; n++) __builtin_memcpy(image + 4 * n, &cpu->regs[7 - n], 4);
    u64 base = (sp - 8u * i->opsize) & mask;
    gla first; /* the first push decides on #AC before a later one meets a page fault */
    TRY(seg_linear(cpu, SEG_SS, (sp - i->opsize) & mask, i->opsize, true, &first));
    if (base + 8u * i->opsize - 1 <= mask) {
        TRY(mem_write_block(cpu, SEG_SS, base, image, 8u * i->opsize));
    } else { /* wraps around the stack segment: element by element */
        for (unsigned n = 8; n-- > 0;)
            TRY(mem_write_block(cpu, SEG_SS, (base + n * i->opsize) & mask, image + n * i->opsize, i->opsize));
    }
    stack_set(cpu, base);
    return true;
}

HANDLER(popa)
{
    u64 sp = cpu->regs[R_SP], mask = stack_mask(cpu);
    u8 image[32];
    u64 base = sp & mask;
    gla first;
    TRY(seg_linear(cpu, SEG_SS, base, i->opsize, false, &first));
    if (base + 8u * i->opsize - 1 <= mask) {
        TRY(mem_read_block(cpu, SEG_SS, base, image, 8u * i->opsize));
    } else {
        for (unsigned n = 0; n < 8; n++)
            TRY(mem_read_block(cpu, SEG_SS, (base + n * i->opsize) & mask, image + n * i->opsize, i->opsize));
    }
    for (unsigned n = 0; n < 8; n++) {
        u32 v = 0;
        if (7 - n == R_SP) continue;
        if (i->opsize == 2) __builtin_memcpy(&v, image + 2 * n, 2);
        else __builtin_memcpy(&v, image + 4 * n, 4);
        reg_set(cpu, 7 - n, i->opsize, v);
    }
    stack_set(cpu, sp + 8u * i->opsize);
    return true;
}

HANDLER(enter)
{
    u16 bytes = (u16)i->imm;
    unsigned level = i->imm2 & 31, size = i->opsize;
    u64 mask = stack_mask(cpu), sp = cpu->regs[R_SP], bp = cpu->regs[R_BP];
    u64 old_sp = sp;
    bool ok = push(cpu, size, bp);
    u64 frame = cpu->regs[R_SP];
    for (unsigned n = 1; ok && n < level; n++) {
        u64 v = 0;
        bp -= size;
        ok = mem_read_block(cpu, SEG_SS, bp & mask, &v, size) && push(cpu, size, v);
    }
    if (ok && level) ok = push(cpu, size, frame);
    /* The new top must be writable even though nothing is stored there. */
    u64 top = (cpu->regs[R_SP] - bytes) & mask;
    u8 probe[8];
    if (ok) ok = mem_rmw_slow(cpu, SEG_SS, top, probe, size);
    if (!ok) {
        cpu->regs[R_SP] = old_sp;
        return false;
    }
    stack_set(cpu, top);
    reg_set(cpu, R_BP, size, frame);
    return true;
}

HANDLER(leave)
{
    u64 mask = stack_mask(cpu), v = 0;
    u64 sp = cpu->regs[R_BP] & mask;
    TRY(mem_read_block(cpu, SEG_SS, sp, &v, i->opsize));
    stack_set(cpu, sp + i->opsize);
    reg_set(cpu, R_BP, i->opsize, v);
    return true;
}

/* ---- the rest ---- */
HANDLER(xlat)
{
    u64 ea = cpu->regs[R_BX] + REG8(0);
    ea = i->addrsize == 8 ? ea : i->addrsize == 4 ? (u32)ea : (u16)ea;
    u8 v;
    TRY(mem_read8(cpu, i->seg, ea, &v));
    REG8(0) = v;
    return true;
}

HANDLER(cbw)
{
    switch (i->opsize) {
    case 2: REG16(0) = (u16)(s8)REG8(0); break;
    case 4: SET32(0, (u32)(s16)REG16(0)); break;
    default: REG64(0) = (u64)(s32)REG32(0); break;
    }
    return true;
}

HANDLER(cwd)
{
    switch (i->opsize) {
    case 2: REG16(R_DX * 8) = (u16)((s16)REG16(0) >> 15); break;
    case 4: SET32(R_DX * 8, (u32)((s32)REG32(0) >> 31)); break;
    default: REG64(R_DX * 8) = (u64)((s64)REG64(0) >> 63); break;
    }
    return true;
}

HANDLER(bswap)
{
    if (i->opsize == 8)
        REG64(i->dst) = __builtin_bswap64(REG64(i->dst));
    else if (i->opsize == 4)
        SET32(i->dst, __builtin_bswap32(REG32(i->dst)));
    else
        REG16(i->dst) = 0; /* undefined by the manual; what processors do */
    return true;
}

HANDLER(movbe)
{
    u64 v = 0, r;
    unsigned size = i->opsize;
    bool store = i->operands[0].kind == OPND_MEM;
    if (store)
        v = reg_get(cpu, i->operands[1].reg, size);
    else
        TRY(mem_read_block(cpu, i->seg, insn_ea(cpu, i), &v, size));
    r = __builtin_bswap64(v) >> (64 - 8 * size);
    if (store) return mem_write_block(cpu, i->seg, insn_ea(cpu, i), &r, size);
    reg_set(cpu, i->operands[0].reg, size, r);
    return true;
}

HANDLER(movnti) { return i->opsize == 8 ? mem_write64(cpu, i->seg, insn_ea(cpu, i), REG64(i->src)) : mem_write32(cpu, i->seg, insn_ea(cpu, i), REG32(i->src)); }

HANDLER(nop) { return true; }

HANDLER(fence)
{
    __sync_synchronize();
    return true;
}

/* PREFETCH never faults; CLFLUSH does, like a one-byte load. */
HANDLER(cache_line)
{
    u8 v;
    return mem_read8(cpu, i->seg, insn_ea(cpu, i), &v);
}

HANDLER(pause_hint)
{
    (void)i;
    cpu_pause(cpu);
    return true;
}

/* ---- ports ---- */
HANDLER(in)
{
    u16 port = i->operands[1].kind == OPND_IMM ? (u8)i->imm : REG16(R_DX * 8);
    unsigned size = i->operands[0].size;
    TRY(io_permitted(cpu, port, size));
    cpu->hooks->lock(cpu->hooks->opaque);
    u64 v = bus_read(cpu->io, port, size);
    cpu->hooks->unlock(cpu->hooks->opaque);
    io_watch(cpu, port, size);
    reg_set(cpu, R_AX, size, v);
    return leave_block(cpu, i);
}

HANDLER(out)
{
    u16 port = i->operands[0].kind == OPND_IMM ? (u8)i->imm : REG16(R_DX * 8);
    unsigned size = i->operands[1].size;
    TRY(io_permitted(cpu, port, size));
    cpu->hooks->lock(cpu->hooks->opaque);
    bus_write(cpu->io, port, reg_get(cpu, R_AX, size), size);
    cpu->hooks->unlock(cpu->hooks->opaque);
    io_watch(cpu, port, size);
    return leave_block(cpu, i);
}

#define SELECT_WIDEN(name)                                                                                    \
    do {                                                                                                      \
        unsigned from = i->operands[1].size;                                                                  \
        if (from == 1) return i->opsize == 2 ? PICK(name, 8_16) : i->opsize == 4 ? PICK(name, 8_32) : PICK(name, 8_64); \
        return i->opsize == 2 ? PICK(name, 16_16) : i->opsize == 4 ? PICK(name, 16_32) : PICK(name, 16_64);   \
    } while (0)
#define PICK(name, sizes) (mem ? name##_m##sizes : name##_r##sizes)

exec_fn *exec_select_move(const struct insn *i)
{
    static exec_fn *const mov_rr[4] = BY_SIZE(mov_rr), *const mov_ri[4] = BY_SIZE(mov_ri), *const mov_rm[4] = BY_SIZE(mov_rm),
                   *const mov_mr[4] = BY_SIZE(mov_mr), *const mov_mi[4] = BY_SIZE(mov_mi), *const xchg_r[4] = BY_SIZE(xchg_r),
                   *const xchg_mr[4] = BY_SIZE(xchg_mr), *const xchg_rm[4] = BY_SIZE(xchg_rm), *const xadd_r[4] = BY_SIZE(xadd_r),
                   *const xadd_m[4] = BY_SIZE(xadd_m),
                   *const xadd_lock_m[4] = BY_SIZE(xadd_lock_m), *const cmpxchg_r[4] = BY_SIZE(cmpxchg_r),
                   *const cmpxchg_m[4] = BY_SIZE(cmpxchg_m);
    static exec_fn *const push_r[4] = BY_WIDE_SIZE(push_r), *const push_i[4] = BY_WIDE_SIZE(push_i),
                   *const push_m[4] = BY_WIDE_SIZE(push_m), *const pop_r[4] = BY_WIDE_SIZE(pop_r),
                   *const pop_m[4] = BY_WIDE_SIZE(pop_m), *const lea[4] = BY_WIDE_SIZE(lea);
    unsigned s = size_index(i->opsize), a = i->operands[0].kind, b = i->operands[1].kind;
    bool mem = b == OPND_MEM;
    switch (i->mnemonic) {
    case I_mov:
        if (a == OPND_MEM) return b == OPND_IMM ? mov_mi[s] : mov_mr[s];
        return b == OPND_MEM ? mov_rm[s] : b == OPND_IMM ? mov_ri[s] : mov_rr[s];
    case I_xchg: return a == OPND_MEM ? xchg_mr[s] : b == OPND_MEM ? xchg_rm[s] : xchg_r[s];
    case I_xadd: return a == OPND_MEM ? (i->prefixes & PFX_LOCK ? xadd_lock_m : xadd_m)[s] : xadd_r[s];
    case I_cmpxchg: return a == OPND_MEM ? cmpxchg_m[s] : cmpxchg_r[s];
    case I_cmpxchg8b: return cmpxchg8b;
    case I_movzx: SELECT_WIDEN(movzx);
    case I_movsx: SELECT_WIDEN(movsx);
    case I_movsxd: return i->opsize == 8 ? PICK(movsx, 32_64) : i->opsize == 4 ? PICK(movsx, 32_32) : PICK(movsx, 16_16);
    case I_lea: return lea[s];
    case I_push: return a == OPND_MEM ? push_m[s] : a == OPND_IMM ? push_i[s] : push_r[s];
    case I_pop: return a == OPND_MEM ? pop_m[s] : pop_r[s];
    case I_pusha: return pusha;
    case I_popa: return popa;
    case I_enter: return enter;
    case I_leave: return leave;
    case I_xlat: return xlat;
    case I_cbw: return cbw;
    case I_cwd: return cwd;
    case I_bswap: return bswap;
    case I_movbe: return movbe;
    case I_movnti:
    case I_movdiri: return movnti;
    case I_pause: return pause_hint;
    case I_nop:
    case I_prefetch:
    case I_cldemote: return nop;
    case I_lfence:
    case I_sfence:
    case I_mfence: return fence;
    case I_clflush:
    case I_clflushopt:
    case I_clwb: return cache_line;
    case I_in: return in;
    case I_out: return out;
    default: return NULL;
    }
}
