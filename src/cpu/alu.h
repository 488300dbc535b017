/* Integer arithmetic with flags, on an x86-64 host: each primitive runs the host's own instruction and keeps the flags it
 * leaves, the undefined ones too, in the LAHF/SETO form of cpu->aflags. Exact by construction. */
#ifndef CPU_ALU_H
#define CPU_ALU_H

#include "core/types.h"

#if !defined(__x86_64__)
#error "this variant of alu.h needs an x86-64 host"
#endif

#define ALU_FLAGS_OUT "\n\tlahf\n\tseto %%al"
#define ALU_CF_IN     "btl $8, %k[f]\n\t"
/* OF from AL (1 + 7FH overflows), the others from AH. */
#define ALU_FLAGS_IN "addb $0x7f, %%al\n\tsahf\n\t"

#define ALU_BINARY(name, bits, text)                                                                          \
    static inline __attribute__((always_inline)) u##bits alu_##name##bits(u##bits a, u##bits b, u16 *fl)      \
    {                                                                                                         \
        u16 ax;                                                                                               \
        __asm__(text " %[b], %[a]" ALU_FLAGS_OUT : [a] "+q"(a), "=&a"(ax) : [b] "q"(b) : "cc");               \
        *fl = ax;                                                                                             \
        return a;                                                                                             \
    }
#define ALU_CARRY(name, bits, text)                                                                           \
    static inline __attribute__((always_inline)) u##bits alu_##name##bits(u##bits a, u##bits b, u16 *fl)      \
    {                                                                                                         \
        u16 ax;                                                                                               \
        __asm__(ALU_CF_IN text " %[b], %[a]" ALU_FLAGS_OUT                                                    \
                : [a] "+q"(a), "=&a"(ax)                                                                      \
                : [b] "q"(b), [f] "r"((u32)*fl)                                                               \
                : "cc");                                                                                      \
        *fl = ax;                                                                                             \
        return a;                                                                                             \
    }
/* cmp and test: the result is the first operand, unchanged. */
#define ALU_COMPARE(name, bits)                                                                               \
    static inline __attribute__((always_inline)) u##bits alu_##name##bits(u##bits a, u##bits b, u16 *fl)      \
    {                                                                                                         \
        u16 ax;                                                                                               \
        __asm__(#name " %[b], %[a]" ALU_FLAGS_OUT : "=&a"(ax) : [a] "q"(a), [b] "q"(b) : "cc");               \
        *fl = ax;                                                                                             \
        return a;                                                                                             \
    }
#define ALU_UNARY(name, bits)                                                                                 \
    static inline __attribute__((always_inline)) u##bits alu_##name##bits(u##bits a, u16 *fl)                 \
    {                                                                                                         \
        u16 ax;                                                                                               \
        __asm__(ALU_CF_IN #name " %[a]" ALU_FLAGS_OUT : [a] "+q"(a), "=&a"(ax) : [f] "r"((u32)*fl) : "cc");   \
        *fl = ax;                                                                                             \
        return a;                                                                                             \
    }
#define ALU_SHIFT(name, bits)                                                                                 \
    static inline __attribute__((always_inline)) u##bits alu_##name##bits(u##bits a, u8 count, u16 *fl)       \
    {                                                                                                         \
        u16 ax = *fl;                                                                                         \
        __asm__(ALU_FLAGS_IN #name " %%cl, %[a]" ALU_FLAGS_OUT : [a] "+q"(a), "+a"(ax) : "c"(count) : "cc");  \
        *fl = ax;                                                                                             \
        return a;                                                                                             \
    }
#define ALU_DOUBLE_SHIFT(name, bits)                                                                          \
    static inline u##bits alu_##name##bits(u##bits a, u##bits b, u8 count, u16 *fl)                           \
    {                                                                                                         \
        u16 ax = *fl;                                                                                         \
        __asm__(ALU_FLAGS_IN #name " %%cl, %[b], %[a]" ALU_FLAGS_OUT                                          \
                : [a] "+r"(a), "+a"(ax)                                                                       \
                : "c"(count), [b] "r"(b)                                                                      \
                : "cc");                                                                                      \
        *fl = ax;                                                                                             \
        return a;                                                                                             \
    }
/* Unary bit operations whose destination keeps its value when the source is zero (BSF, BSR). */
#define ALU_SCAN(name, bits)                                                                                  \
    static inline u##bits alu_##name##bits(u##bits a, u##bits b, u16 *fl)                                     \
    {                                                                                                         \
        u16 ax = *fl;                                                                                         \
        __asm__(ALU_FLAGS_IN #name " %[b], %[a]" ALU_FLAGS_OUT : [a] "+r"(a), "+a"(ax) : [b] "r"(b) : "cc");  \
        *fl = ax;                                                                                             \
        return a;                                                                                             \
    }
/* BMI: dst = op(src1, src2); "swap" says which comes last in AT&T order. */
#define ALU_BMI3(name, bits, order)                                                                           \
    static inline u##bits alu_##name##bits(u##bits a, u##bits b, u16 *fl)                                     \
    {                                                                                                         \
        u16 ax = *fl;                                                                                         \
        u##bits r;                                                                                            \
        __asm__(ALU_FLAGS_IN #name order ALU_FLAGS_OUT                                                        \
                : [r] "=&r"(r), "+a"(ax)                                                                      \
                : [a] "r"(a), [b] "r"(b)                                                                      \
                : "cc");                                                                                      \
        *fl = ax;                                                                                             \
        return r;                                                                                             \
    }
#define ALU_BMI2OP(name, bits)                                                                                \
    static inline u##bits alu_##name##bits(u##bits a, u16 *fl)                                                \
    {                                                                                                         \
        u16 ax = *fl;                                                                                         \
        u##bits r;                                                                                            \
        __asm__(ALU_FLAGS_IN #name " %[a], %[r]" ALU_FLAGS_OUT : [r] "=&r"(r), "+a"(ax) : [a] "r"(a) : "cc"); \
        *fl = ax;                                                                                             \
        return r;                                                                                             \
    }
/* Widening multiply: low half returned, high half in *high. */
#define ALU_MUL(name, bits, text)                                                                               \
    static inline u##bits alu_##name##bits(u##bits a, u##bits b, u##bits *high, u16 *fl)                      \
    {                                                                                                         \
        u##bits lo = a, hi, low;                                                                                  \
        u16 f;                                                                                                \
        __asm__(text " %[b]\n\tmov %%rax, %%rcx\n\tlahf\n\tseto %%al"                                        \
                : "+a"(lo), "=&d"(hi), "=&c"(low)                                                               \
                : [b] "r"(b)                                                                                  \
                : "cc");                                                                                      \
        f = (u16)lo;                                                                                          \
        *fl = f;                                                                                              \
        *high = hi;                                                                                           \
        return low;                                                                                           \
    }

#define ALU_DEFINE(bits)                                                                                      \
    ALU_BINARY(add, bits, "add")                                                                              \
    ALU_BINARY(or, bits, "or")                                                                                \
    ALU_BINARY(and, bits, "and")                                                                              \
    ALU_BINARY(sub, bits, "sub")                                                                              \
    ALU_BINARY(xor, bits, "xor")                                                                              \
    ALU_CARRY(adc, bits, "adc")                                                                               \
    ALU_CARRY(sbb, bits, "sbb")                                                                               \
    ALU_COMPARE(cmp, bits)                                                                                    \
    ALU_COMPARE(test, bits)                                                                                   \
    ALU_UNARY(inc, bits)                                                                                      \
    ALU_UNARY(dec, bits)                                                                                      \
    ALU_UNARY(neg, bits)                                                                                      \
    ALU_SHIFT(shl, bits)                                                                                      \
    ALU_SHIFT(shr, bits)                                                                                      \
    ALU_SHIFT(sar, bits)                                                                                      \
    ALU_SHIFT(rol, bits)                                                                                      \
    ALU_SHIFT(ror, bits)                                                                                      \
    ALU_SHIFT(rcl, bits)                                                                                      \
    ALU_SHIFT(rcr, bits)
ALU_DEFINE(8)
ALU_DEFINE(16)
ALU_DEFINE(32)
ALU_DEFINE(64)

#define ALU_DEFINE_WIDE(bits)                                                                                 \
    ALU_DOUBLE_SHIFT(shld, bits)                                                                              \
    ALU_DOUBLE_SHIFT(shrd, bits)                                                                              \
    ALU_SCAN(bsf, bits)                                                                                       \
    ALU_SCAN(bsr, bits)                                                                                       \
    ALU_SCAN(tzcnt, bits)                                                                                     \
    ALU_SCAN(lzcnt, bits)                                                                                     \
    ALU_SCAN(popcnt, bits)                                                                                    \
    ALU_SCAN(imul, bits)                                                                                      \
    ALU_MUL(mul, bits, "mul")                                                                                   \
    ALU_MUL(smul, bits, "imul")                                                                            \
    ALU_SCAN(bt, bits)                                                                                        \
    ALU_SCAN(bts, bits)                                                                                       \
    ALU_SCAN(btr, bits)                                                                                       \
    ALU_SCAN(btc, bits)
ALU_DEFINE_WIDE(16)
ALU_DEFINE_WIDE(32)
ALU_DEFINE_WIDE(64)

#define ALU_DEFINE_BMI(bits)                                                                                  \
    ALU_BMI3(andn, bits, " %[b], %[a], %[r]")                                                                 \
    ALU_BMI3(bextr, bits, " %[b], %[a], %[r]")                                                                \
    ALU_BMI3(bzhi, bits, " %[b], %[a], %[r]")                                                                 \
    ALU_BMI3(pdep, bits, " %[b], %[a], %[r]")                                                                 \
    ALU_BMI3(pext, bits, " %[b], %[a], %[r]")                                                                 \
    ALU_BMI3(shlx, bits, " %[b], %[a], %[r]")                                                                 \
    ALU_BMI3(shrx, bits, " %[b], %[a], %[r]")                                                                 \
    ALU_BMI3(sarx, bits, " %[b], %[a], %[r]")                                                                 \
    ALU_BMI2OP(blsi, bits)                                                                                    \
    ALU_BMI2OP(blsr, bits)                                                                                    \
    ALU_BMI2OP(blsmsk, bits)                                                                                  \
    ALU_SCAN(adcx, bits)                                                                                      \
    ALU_SCAN(adox, bits)
ALU_DEFINE_BMI(32)
ALU_DEFINE_BMI(64)

#endif
