// build/tests/test_decode
/* The decoder's rules one by one: modes, prefixes, addressing, operands, undefined forms. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "cpu/decode.h"

/* Decode hex text. */
static int dec(struct insn *i, enum code_size mode, const char *hex)
{
    u8 bytes[32];
    size_t n = 0;
    unsigned b;
    int used;
    for (; sscanf(hex, "%2x%n", &b, &used) == 1; hex += used)
        bytes[n++] = (u8)b;
    return decode(i, bytes, n, mode);
}

static struct insn good(enum code_size mode, const char *hex)
{
    struct insn i;
    int r = dec(&i, mode, hex);
    cr_assert(r > 0, "%s in mode %d: %d", hex, mode, r);
    cr_assert_eq(r, i.len);
    return i;
}

static void bad(enum code_size mode, const char *hex, int want)
{
    struct insn i;
    int r = dec(&i, mode, hex);
    cr_assert_eq(r, want, "%s in mode %d: %d", hex, mode, r);
}

#define UD16(hex) bad(CODE_16, hex, DECODE_UD)
#define UD32(hex) bad(CODE_32, hex, DECODE_UD)
#define UD64(hex) bad(CODE_64, hex, DECODE_UD)

Test(decode, length_name_and_opsize)
{
    static const struct {
        enum code_size mode;
        const char *hex;
        int len;
        const char *name;
        u8 opsize, addrsize;
    } cases[] = {
        {CODE_16, "b8 34 12", 3, "mov", 2, 2},
        {CODE_16, "66 b8 78 56 34 12", 6, "mov", 4, 2},
        {CODE_32, "b8 78 56 34 12", 5, "mov", 4, 4},
        {CODE_32, "66 b8 34 12", 4, "mov", 2, 4},
        {CODE_64, "b8 78 56 34 12", 5, "mov", 4, 8},
        {CODE_64, "48 b8 08 07 06 05 04 03 02 01", 10, "movabs", 8, 8},
        {CODE_64, "66 48 b8 08 07 06 05 04 03 02 01", 11, "movabs", 8, 8}, /* REX.W beats 66 */
        {CODE_64, "48 c7 c0 ff ff ff ff", 7, "mov", 8, 8},
        {CODE_32, "00 00", 2, "add", 1, 4},
        {CODE_64, "50", 1, "push", 8, 8},
        {CODE_64, "66 50", 2, "push", 2, 8},
        {CODE_64, "68 00 00 00 80", 5, "push", 8, 8},
        {CODE_64, "66 68 00 80", 4, "push", 2, 8},
        {CODE_32, "6a ff", 2, "push", 4, 4},
        {CODE_64, "e8 00 00 00 00", 5, "call", 8, 8},
        {CODE_64, "66 e8 00 00 00 00", 6, "call", 8, 8}, /* Intel: 66 ignored */
        {CODE_32, "66 e8 00 00", 4, "call", 2, 4},
        {CODE_16, "e8 00 00", 3, "call", 2, 2},
        {CODE_16, "66 e8 00 00 00 00", 6, "call", 4, 2},
        {CODE_64, "0f 84 00 00 00 00", 6, "je", 8, 8},
        {CODE_64, "66 0f 84 00 00 00 00", 7, "je", 8, 8},
        {CODE_64, "66 c3", 2, "ret", 8, 8},
        {CODE_64, "ff e0", 2, "jmp", 8, 8},
        {CODE_64, "ff 18", 2, "lcall", 4, 8},
        {CODE_64, "48 ff 28", 3, "ljmp", 8, 8},
        {CODE_64, "48 cb", 2, "retfq", 8, 8},
        {CODE_64, "48 cf", 2, "iretq", 8, 8},
        {CODE_64, "cf", 1, "iretd", 4, 8},
        {CODE_16, "cf", 1, "iret", 2, 2},
        {CODE_64, "9c", 1, "pushfq", 8, 8},
        {CODE_32, "9c", 1, "pushfd", 4, 4},
        {CODE_64, "98", 1, "cwde", 4, 8},
        {CODE_64, "48 98", 2, "cdqe", 8, 8},
        {CODE_16, "98", 1, "cbw", 2, 2},
        {CODE_16, "66 99", 2, "cdq", 4, 2},
        {CODE_64, "48 99", 2, "cqo", 8, 8},
        {CODE_64, "48 a5", 2, "movsq", 8, 8},
        {CODE_64, "67 a4", 2, "movsb", 1, 4},
        {CODE_16, "67 66 a5", 3, "movsd", 4, 4},
        {CODE_64, "48 6d", 2, "insd", 4, 8},
        {CODE_64, "48 ed", 2, "in", 4, 8},
        {CODE_16, "e3 00", 2, "jcxz", 2, 2},
        {CODE_16, "67 e3 00", 3, "jecxz", 2, 4},
        {CODE_64, "e3 00", 2, "jrcxz", 8, 8},
        {CODE_64, "67 e3 00", 3, "jecxz", 8, 4},
        {CODE_64, "90", 1, "nop", 4, 8},
        {CODE_64, "41 90", 2, "xchg", 4, 8},
        {CODE_64, "f3 90", 2, "pause", 4, 8},
        {CODE_64, "f3 41 90", 3, "pause", 4, 8}, /* seen on Sapphire Rapids */
        {CODE_32, "60", 1, "pushal", 4, 4},
        {CODE_32, "66 61", 2, "popaw", 2, 4},
        {CODE_32, "40", 1, "inc", 4, 4},
        {CODE_32, "63 c0", 2, "arpl", 4, 4},
        {CODE_64, "48 63 c0", 3, "movsxd", 8, 8},
        {CODE_32, "c4 00", 2, "les", 4, 4},
        {CODE_32, "c5 00", 2, "lds", 4, 4},
        {CODE_32, "c5 f8 77", 3, "vzeroupper", 4, 4},
        {CODE_32, "62 00", 2, "bound", 4, 4},
        {CODE_64, "0f 20 c0", 3, "mov", 8, 8},
        {CODE_32, "66 0f 20 c0", 4, "mov", 4, 4},
        {CODE_16, "0f 22 c0", 3, "mov", 4, 2},
        {CODE_64, "44 0f 20 c0", 4, "mov", 8, 8}, /* CR8 */
        {CODE_32, "0f 20 40", 3, "mov", 4, 4},    /* mod is ignored: no displacement */
        {CODE_64, "f3 0f b8 c1", 4, "popcnt", 4, 8},
        {CODE_64, "66 f3 48 0f b8 c1", 6, "popcnt", 8, 8},
        {CODE_64, "66 f3 0f b8 c1", 5, "popcnt", 2, 8},
        {CODE_64, "f3 0f bc c1", 4, "tzcnt", 4, 8},
        {CODE_64, "f2 0f bc c1", 4, "bsf", 4, 8},
        {CODE_64, "f3 0f bd c1", 4, "lzcnt", 4, 8},
        {CODE_64, "0f 38 f0 00", 4, "movbe", 4, 8},
        {CODE_64, "66 0f 38 f0 00", 5, "movbe", 2, 8},
        {CODE_64, "f2 0f 38 f0 c0", 5, "crc32", 1, 8},
        {CODE_64, "66 f2 0f 38 f1 c0", 6, "crc32", 2, 8},
        {CODE_64, "0f c7 08", 3, "cmpxchg8b", 4, 8},
        {CODE_64, "48 0f c7 08", 4, "cmpxchg16b", 8, 8},
        {CODE_32, "66 0f c7 08", 4, "cmpxchg8b", 4, 4},
        {CODE_64, "0f c7 f0", 3, "rdrand", 4, 8},
        {CODE_64, "f3 0f c7 f8", 4, "rdpid", 8, 8},
        {CODE_64, "f3 0f ae c0", 4, "rdfsbase", 4, 8},
        {CODE_64, "48 0f ae 00", 4, "fxsave64", 8, 8},
        {CODE_64, "0f ae e8", 3, "lfence", 4, 8},
        {CODE_64, "0f ae ff", 3, "sfence", 4, 8},
        {CODE_64, "0f ae 38", 3, "clflush", 4, 8},
        {CODE_64, "66 0f ae 38", 4, "clflushopt", 4, 8},
        {CODE_64, "f3 0f 1e fa", 4, "endbr64", 4, 8},
        {CODE_64, "66 0f 1f 84 00 00 00 00 00", 9, "nop", 2, 8},
        {CODE_64, "66 2e 0f 1f 84 00 00 00 00 00", 10, "nop", 2, 8},
        {CODE_64, "0f 01 f8", 3, "swapgs", 4, 8},
        {CODE_64, "0f 01 d0", 3, "xgetbv", 4, 8},
        {CODE_64, "0f 01 10", 3, "lgdt", 8, 8},
        {CODE_16, "66 0f 01 10", 4, "lgdt", 4, 2},
        {CODE_16, "0f 01 10", 3, "lgdt", 2, 2},
        {CODE_32, "d4 0a", 2, "aam", 4, 4},
        {CODE_32, "d6", 1, "salc", 4, 4},
        {CODE_32, "9a 78 56 34 12 08 00", 7, "lcall", 4, 4},
        {CODE_16, "ea 00 00 00 f0", 5, "ljmp", 2, 2},
        {CODE_16, "66 ea 00 00 00 00 08 00", 8, "ljmp", 4, 2},
        {CODE_32, "c8 10 00 01", 4, "enter", 4, 4},
        {CODE_32, "f6 c8 01", 3, "test", 1, 4}, /* F6 /1 */
        {CODE_64, "c7 f8 00 00 00 00", 6, "xbegin", 4, 8},
        {CODE_64, "c6 f8 01", 3, "xabort", 4, 8},
        {CODE_64, "0f b9 00", 3, "ud1", 4, 8},
        {CODE_64, "d9 d0", 2, "fnop", 4, 8},
        {CODE_64, "df c0", 2, "ffreep", 4, 8},
        {CODE_64, "dc d1", 2, "fcom", 4, 8},
        {CODE_64, "d9 30", 2, "fnstenv", 4, 8},
        {CODE_64, "66 0f 6e c0", 4, "movd", 4, 8},
        {CODE_64, "66 48 0f 6e c0", 5, "movq", 8, 8},
        {CODE_64, "c4 e1 f9 6e c0", 5, "vmovq", 8, 8},
        {CODE_32, "c4 e1 f9 6e c0", 5, "vmovd", 4, 4}, /* W ignored outside 64-bit mode */
        {CODE_64, "c5 f8 c2 c1 1f", 5, "vcmptrue_usps", 4, 8},
        {CODE_64, "0f c2 c1 05", 4, "cmpnltps", 4, 8},
        {CODE_64, "c4 e3 f9 16 c0 01", 6, "vpextrq", 8, 8},
        {CODE_64, "f3 f2 0f 10 c0", 5, "movsd", 4, 8}, /* the last of F2, F3 */
        {CODE_64, "66 f3 0f 10 c0", 5, "movss", 2, 8}, /* F2, F3 before 66 */
        {CODE_64, "f3 66 0f 10 c0", 5, "movss", 2, 8},
    };
    for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
        struct insn i = good(cases[k].mode, cases[k].hex);
        char name[32];
        insn_name(&i, name, sizeof name);
        cr_expect_eq(i.len, cases[k].len, "%s: length %d", cases[k].hex, i.len);
        cr_expect_str_eq(name, cases[k].name, "%s: %s", cases[k].hex, name);
        cr_expect_eq(i.opsize, cases[k].opsize, "%s: opsize %d", cases[k].hex, i.opsize);
        cr_expect_eq(i.addrsize, cases[k].addrsize, "%s: addrsize %d", cases[k].hex, i.addrsize);
    }
}

Test(decode, effective_addresses)
{
    enum { Z = REG_ZERO, RIP = REG_RIP };
    static const struct {
        enum code_size mode;
        const char *hex; /* all are MOV r, [m] */
        u8 base, index, scale, seg;
        s64 disp;
    } cases[] = {
        {CODE_16, "8b 00", 3, 6, 0, SEG_DS, 0},
        {CODE_16, "8b 01", 3, 7, 0, SEG_DS, 0},
        {CODE_16, "8b 02", 5, 6, 0, SEG_SS, 0},
        {CODE_16, "8b 03", 5, 7, 0, SEG_SS, 0},
        {CODE_16, "8b 04", Z, 6, 0, SEG_DS, 0},
        {CODE_16, "8b 05", Z, 7, 0, SEG_DS, 0},
        {CODE_16, "8b 06 34 12", Z, Z, 0, SEG_DS, 0x1234},
        {CODE_16, "8b 46 fe", 5, Z, 0, SEG_SS, -2},
        {CODE_16, "8b 87 00 80", 3, Z, 0, SEG_DS, -0x8000},
        {CODE_16, "67 8b 45 01", 5, Z, 0, SEG_SS, 1},
        {CODE_32, "8b 05 78 56 34 12", Z, Z, 0, SEG_DS, 0x12345678},
        {CODE_32, "8b 04 24", 4, Z, 0, SEG_SS, 0},
        {CODE_32, "8b 04 65 00 00 00 80", Z, Z, 0, SEG_DS, -0x80000000ll}, /* no base, no index */
        {CODE_32, "8b 04 8d 04 00 00 00", Z, 1, 2, SEG_DS, 4},
        {CODE_32, "8b 44 8d 04", 5, 1, 2, SEG_SS, 4},
        {CODE_32, "8b 44 28 04", 0, 5, 0, SEG_DS, 4}, /* EBP as index: DS */
        {CODE_32, "67 8b 07", 3, Z, 0, SEG_DS, 0},
        {CODE_64, "8b 05 fc ff ff ff", RIP, Z, 0, SEG_DS, -4},
        {CODE_64, "67 8b 05 fc ff ff ff", RIP, Z, 0, SEG_DS, -4},
        {CODE_64, "41 8b 05 fc ff ff ff", RIP, Z, 0, SEG_DS, -4}, /* REX.B does not make it R13 */
        {CODE_64, "41 8b 45 00", 13, Z, 0, SEG_DS, 0},
        {CODE_64, "41 8b 04 24", 12, Z, 0, SEG_DS, 0},
        {CODE_64, "8b 04 25 00 00 00 80", Z, Z, 0, SEG_DS, -0x80000000ll},
        {CODE_64, "41 8b 04 25 10 00 00 00", Z, Z, 0, SEG_DS, 0x10},
        {CODE_64, "42 8b 04 20", 0, 12, 0, SEG_DS, 0}, /* R12 can be an index */
        {CODE_64, "8b 45 00", 5, Z, 0, SEG_SS, 0},
        {CODE_64, "64 8b 45 00", 5, Z, 0, SEG_FS, 0},
        {CODE_64, "65 8b 00", 0, Z, 0, SEG_GS, 0},
        {CODE_64, "2e 8b 00", 0, Z, 0, SEG_DS, 0},
        {CODE_64, "65 2e 36 8b 00", 0, Z, 0, SEG_GS, 0}, /* ignored ones cancel nothing */
        {CODE_64, "3e 8b 45 00", 5, Z, 0, SEG_SS, 0},
        {CODE_32, "2e 8b 00", 0, Z, 0, SEG_CS, 0},
        {CODE_32, "65 2e 36 8b 00", 0, Z, 0, SEG_SS, 0},
        {CODE_32, "26 8b 45 00", 5, Z, 0, SEG_ES, 0},
    };
    for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
        struct insn i = good(cases[k].mode, cases[k].hex);
        cr_expect_eq(i.operands[1].kind, OPND_MEM, "%s", cases[k].hex);
        cr_expect(i.base == cases[k].base && i.index == cases[k].index && i.scale == cases[k].scale &&
                      i.disp == cases[k].disp && i.seg == cases[k].seg,
                  "%s: base %d index %d scale %d seg %d disp %lld", cases[k].hex, i.base, i.index, i.scale,
                  i.seg, (long long)i.disp);
    }
}

Test(decode, moffs_follows_the_address_size)
{
    struct insn i = good(CODE_64, "48 a1 08 07 06 05 04 03 02 01");
    cr_assert_eq(i.imm, 0x0102030405060708ull);
    cr_assert_eq((u64)i.disp, i.imm);
    cr_assert_eq(i.base, REG_ZERO);
    cr_assert_eq(i.operands[0].kind, OPND_GPR);
    cr_assert_eq(i.operands[0].size, 8);
    cr_assert_eq(i.operands[1].kind, OPND_MEM);
    cr_assert_eq(good(CODE_64, "67 a0 04 03 02 01").imm, 0x01020304);
    cr_assert_eq(good(CODE_16, "a2 fe ff").imm, 0xfffe);
    cr_assert_eq(good(CODE_16, "67 a2 04 03 02 01").len, 6);
}

Test(decode, immediates)
{
    cr_assert_eq(good(CODE_64, "48 05 ff ff ff ff").imm, ~0ull); /* sign-extended */
    cr_assert_eq(good(CODE_64, "83 c0 80").imm, (u64)-128);
    cr_assert_eq(good(CODE_64, "04 80").imm, 0x80); /* byte operations: zero-extended */
    cr_assert_eq(good(CODE_64, "c1 e0 ff").imm, 0xff);
    cr_assert_eq(good(CODE_32, "cd 80").imm, 0x80);
    cr_assert_eq(good(CODE_64, "6a 80").imm, (u64)-128);
    cr_assert_eq(good(CODE_64, "eb fe").imm, (u64)-2);
    cr_assert_eq(good(CODE_16, "e9 fd ff").imm, (u64)-3);
    cr_assert_eq(good(CODE_64, "d1 e0").imm, 1);
    cr_assert_eq(good(CODE_32, "c2 00 80").imm, 0x8000);
    struct insn i = good(CODE_32, "c8 34 12 1f");
    cr_assert_eq(i.imm, 0x1234);
    cr_assert_eq(i.imm2, 0x1f);
    cr_assert_eq(i.operands[1].kind, OPND_IMM2);
    i = good(CODE_32, "ea 78 56 34 12 cd ab");
    cr_assert_eq(i.imm, 0x12345678);
    cr_assert_eq(i.imm2, 0xabcd);
    cr_assert_eq(i.operands[0].kind, OPND_FAR);
    i = good(CODE_64, "69 c1 00 00 00 80"); /* three operands */
    cr_assert_eq(i.noperands, 3);
    cr_assert_eq(i.operands[0].reg, 0);
    cr_assert_eq(i.operands[1].reg, 1);
    cr_assert_eq(i.imm, 0xffffffff80000000ull);
}

Test(decode, byte_registers)
{
    struct insn i = good(CODE_64, "88 e0"); /* mov al, ah */
    cr_assert_eq(i.operands[1].kind, OPND_GPRH);
    cr_assert_eq(i.operands[1].reg, 0);
    i = good(CODE_64, "40 88 e0"); /* mov al, spl */
    cr_assert_eq(i.operands[1].kind, OPND_GPR);
    cr_assert_eq(i.operands[1].reg, 4);
    i = good(CODE_64, "b7 01");
    cr_assert_eq(i.operands[0].kind, OPND_GPRH);
    cr_assert_eq(i.operands[0].reg, 3);
    i = good(CODE_64, "41 b7 01");
    cr_assert_eq(i.operands[0].kind, OPND_GPR);
    cr_assert_eq(i.operands[0].reg, 15);
    i = good(CODE_64, "0f b6 c4"); /* movzx eax, ah */
    cr_assert_eq(i.operands[1].kind, OPND_GPRH);
    cr_assert_eq(i.operands[0].kind, OPND_GPR);
    cr_assert_eq(i.operands[0].size, 4);
}

Test(decode, rex_counts_only_right_before_the_opcode)
{
    struct insn i = good(CODE_64, "48 66 89 c8");
    cr_assert_eq(i.opsize, 2);
    cr_assert_eq(i.rex, 0);
    cr_assert_not(i.prefixes & PFX_REX);
    i = good(CODE_64, "48 41 89 c8"); /* the first of two is void, too */
    cr_assert_eq(i.opsize, 4);
    cr_assert_eq(i.operands[0].reg, 8);
    i = good(CODE_64, "4f 64 8b 00");
    cr_assert_eq(i.operands[0].reg, 0);
    cr_assert_eq(i.seg, SEG_FS);
}

Test(decode, vex_with_other_prefixes)
{
    UD64("66 c5 f8 58 c0");
    UD64("f2 c5 f8 58 c0");
    UD64("f3 c5 f8 58 c0");
    UD64("f0 c5 f8 58 c0");
    UD64("40 c5 f8 58 c0");
    good(CODE_64, "40 64 c5 f8 58 00"); /* a void REX does no harm */
    good(CODE_64, "67 c5 f8 58 00");
}

Test(decode, vex_fields)
{
    struct insn i = good(CODE_64, "c4 41 1d 58 c2"); /* vaddpd ymm8, ymm12, ymm10 */
    cr_assert_eq(i.mnemonic, I_vaddpd);
    cr_assert_eq(i.vex_l, 1);
    cr_assert_eq(i.vex_v, 12);
    cr_assert_eq(i.operands[0].kind, OPND_YMM);
    cr_assert_eq(i.operands[0].reg, 8);
    cr_assert_eq(i.operands[1].reg, 12);
    cr_assert_eq(i.operands[2].reg, 10);
    cr_assert_eq(i.operands[2].size, 32);
    i = good(CODE_64, "c4 e3 7d 4a c1 f0"); /* vblendvps: register by immediate */
    cr_assert_eq(i.operands[3].kind, OPND_YMM);
    cr_assert_eq(i.operands[3].reg, 15);
    cr_assert_eq(good(CODE_32, "c4 e3 7d 4a c1 f0").operands[3].reg, 7);
    cr_assert_eq(good(CODE_32, "c4 c1 38 58 c0").operands[2].reg, 0); /* B ignored in 32-bit mode */
    cr_assert_eq(good(CODE_32, "c4 e1 38 58 c0").operands[1].reg, 0); /* vvvv's top bit, too */
    UD64("c5 e8 28 c0");                                              /* vmovaps has no vvvv operand */
    UD32("c4 e1 38 28 c0");                                           /* there the top bit counts */
    UD64("c5 fc 16 c0");                                              /* vmovlhps: L must be 0 */
    UD64("c4 e2 f9 18 c0");                                           /* vbroadcastss: W must be 0 */
    UD64("c4 e0 78 58 c0");                                           /* map 0 */
    UD64("c4 e4 78 58 c0");                                           /* map 4 */
    good(CODE_64, "c5 fe 58 c0");                                     /* scalar: L ignored */
    UD64("c4 e2 7c f2 c0");                                           /* andn: L must be 0 */
    cr_assert_eq(good(CODE_64, "c4 e2 f8 f2 c0").opsize, 8);
    cr_assert_eq(good(CODE_32, "c4 e2 f8 f2 c0").opsize, 4);
    cr_assert(good(CODE_64, "c5 f8 77").opcode->attr & ATTR_PROT);
}

Test(decode, gathers)
{
    struct insn i = good(CODE_64, "c4 c2 69 90 04 e0"); /* vpgatherdd xmm0, [r8 + xmm4*8], xmm2 */
    cr_assert_eq(i.base, 8);
    cr_assert_eq(i.index, 4);
    cr_assert_eq(i.scale, 3);
    cr_assert_eq(i.operands[1].kind, OPND_MEM);
    cr_assert_eq(i.operands[1].size, 4);
    cr_assert_eq(i.operands[2].reg, 2);
    UD64("c4 e2 69 90 00");    /* no SIB byte */
    UD64("c4 e2 69 90 c0");    /* a register */
    UD64("c4 e2 69 90 14 20"); /* destination = mask */
    UD64("c4 e2 69 90 24 20"); /* destination = index */
    UD64("c4 e2 59 90 04 20"); /* mask = index */
    UD16("c4 e2 69 90 04 20"); /* 16-bit addressing */
    UD32("67 c4 e2 69 90 04 20");
    good(CODE_16, "67 c4 e2 69 90 04 20");
}

Test(decode, invalid_in_64_bit_mode)
{
    static const char *const codes[] = {"06",
                                        "07",
                                        "0e",
                                        "16",
                                        "17",
                                        "1e",
                                        "1f",
                                        "27",
                                        "2f",
                                        "37",
                                        "3f",
                                        "60",
                                        "61",
                                        "62 00 00 00 00 00",
                                        "82 c0 00",
                                        "9a 00 00 00 00 00 00",
                                        "ce",
                                        "d4 0a",
                                        "d5 0a",
                                        "d6",
                                        "ea 00 00 00 00 00 00"};
    for (size_t k = 0; k < ARRAY_LEN(codes); k++)
        UD64(codes[k]);
    UD32("0f 01 f8");          /* swapgs */
    UD32("f3 0f ae c0");       /* rdfsbase */
    UD32("c4 c0 00 00");       /* VEX, map 0 */
    UD32("62 f1 7c 48 58 c0"); /* EVEX */
    UD64("62 f1 7c 48 58 c0");
    UD64("8f e9 78 80 c0"); /* XOP */
    UD64("0f 0f c0 9e");    /* 3DNow! */
    UD64("0f 0e");
}

Test(decode, lock)
{
    good(CODE_64, "f0 01 00");
    good(CODE_64, "f0 0f c7 08");
    good(CODE_64, "f0 86 00");
    good(CODE_64, "f0 0f ba 28 01");
    cr_assert(good(CODE_64, "f0 48 0f b1 08").prefixes & PFX_LOCK);
    UD64("f0 01 c0");       /* register destination */
    UD64("f0 03 00");       /* memory source */
    UD64("f0 39 00");       /* cmp */
    UD64("f0 0f ba 20 01"); /* bt */
    UD64("f0 89 00");
    UD64("f0 90");
    UD64("f0 a5");
    UD32("f0 40");
    UD32("f0 0f 20 c0"); /* CR8 on AMD only */
    UD64("f0 0f 1f 00");
}

Test(decode, undefined_forms)
{
    UD64("8d c0"); /* lea register */
    UD64("8e c8"); /* mov cs */
    UD64("8e f0"); /* no such segment register */
    UD64("8c f0");
    UD64("0f 20 c8");    /* CR1 */
    UD64("44 0f 20 c8"); /* CR9 */
    UD64("44 0f 21 c0"); /* DR8 */
    UD64("0f 01 c0");
    UD64("66 0f 01 e8"); /* serialize takes no prefix */
    UD32("c7 c8 00 00 00 00");
    UD32("fe d0");
    UD32("ff f8");
    UD32("8f c8");
    UD64("0f 00 f0");
    UD64("0f ba c0 00");
    UD64("0f c7 c8");
    UD64("db e5");
    UD64("d9 d1");
    UD64("0f 24 c0");
    UD64("0f 04");
    UD64("0f 38 0c c0");
    UD64("0f 0a");
    UD64("0f a6 c0");
}

Test(decode, prefixes_select_or_forbid)
{
    UD64("f3 0f 50 c0");
    UD64("66 0f 52 c0"); /* rsqrtps: no 66 form */
    UD64("f3 0f c7 f0"); /* rdrand with F3 */
    UD64("f2 0f 77");    /* emms */
    UD64("0f b8 c0");    /* popcnt without F3 */
    UD64("66 0f 01 d0"); /* xgetbv */
    UD64("0f 38 f6 c0"); /* adcx without 66 */
    cr_assert(good(CODE_64, "f3 a4").prefixes & PFX_REP);
    cr_assert(good(CODE_64, "f2 ae").prefixes & PFX_REPNE);
    cr_assert_not(good(CODE_64, "f3 0f 10 c0").prefixes & (PFX_REP | PFX_REPNE)); /* part of the opcode */
    cr_assert(good(CODE_64, "f3 c3").prefixes & PFX_REP);
    cr_assert_eq(good(CODE_64, "f3 f2 a6").prefixes & (PFX_REP | PFX_REPNE), PFX_REPNE);
    cr_assert(good(CODE_64, "64 8b 00").prefixes & PFX_SEG);
    cr_assert_not(good(CODE_64, "36 8b 00").prefixes & PFX_SEG);
}

Test(decode, incomplete_and_too_long)
{
    bad(CODE_64, "", DECODE_MORE);
    bad(CODE_64, "66", DECODE_MORE);
    bad(CODE_64, "0f", DECODE_MORE);
    bad(CODE_64, "0f 38", DECODE_MORE);
    bad(CODE_64, "48 8b", DECODE_MORE);
    bad(CODE_64, "48 8b 04", DECODE_MORE);
    bad(CODE_64, "48 8b 04 25 00 00 00", DECODE_MORE);
    bad(CODE_32, "c4", DECODE_MORE);
    bad(CODE_32, "c4 c0", DECODE_MORE);
    bad(CODE_64, "c5 f8", DECODE_MORE);
    bad(CODE_64, "b8 00 00 00", DECODE_MORE);
    bad(CODE_32, "9a 00 00 00 00 00", DECODE_MORE);
    bad(CODE_64, "0f 0b", 2);
    /* 15 bytes are fine, 16 are not, and what is undefined within 15 bytes is undefined. */
    cr_assert_eq(good(CODE_64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 90").len, 15);
    bad(CODE_64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", DECODE_LONG);
    bad(CODE_64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66", DECODE_LONG);
    bad(CODE_64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66", DECODE_MORE);
    bad(CODE_64, "2e 2e 2e 2e 2e 48 81 84 00 00 00 00 00 00 00 00 00", DECODE_LONG);
    bad(CODE_64, "2e 2e 2e 48 81 84 00 00 00 00 00 00 00 00 00", 15);
    bad(CODE_64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 06", DECODE_UD);
}

Test(decode, every_truncation_asks_for_more)
{
    static const u8 code[] = {0x66, 0x64, 0x67, 0x48, 0x81, 0x84, 0x8d, 1, 2, 3, 4, 5, 6, 7, 8};
    struct insn i;
    for (size_t n = 0; n < sizeof code; n++)
        cr_expect_eq(decode(&i, code, n, CODE_64), DECODE_MORE, "%zu bytes", n);
    cr_assert_eq(decode(&i, code, sizeof code, CODE_64), (int)sizeof code);
    cr_assert(!memcmp(i.bytes, code, sizeof code));
}

Test(decode, operands)
{
    struct insn i = good(CODE_32, "8c d8"); /* mov eax, ds */
    cr_assert_eq(i.mnemonic, I_mov_sreg);
    cr_assert_eq(i.operands[0].kind, OPND_GPR);
    cr_assert_eq(i.operands[0].size, 4);
    cr_assert_eq(i.operands[1].kind, OPND_SEG);
    cr_assert_eq(i.operands[1].reg, SEG_DS);
    i = good(CODE_32, "8c 18"); /* to memory: always 16 bits */
    cr_assert_eq(i.operands[0].size, 2);
    i = good(CODE_64, "44 0f 22 c0"); /* mov cr8, rax */
    cr_assert_eq(i.operands[0].kind, OPND_CR);
    cr_assert_eq(i.operands[0].reg, 8);
    cr_assert_eq(i.operands[1].size, 8);
    i = good(CODE_64, "4d 03 38"); /* add r15, [r8] */
    cr_assert_eq(i.operands[0].reg, 15);
    cr_assert_eq(i.operands[0].access, OPND_READ | OPND_WRITE);
    cr_assert_eq(i.operands[1].access, OPND_READ);
    cr_assert_eq(i.operands[1].size, 8);
    i = good(CODE_64, "f3 0f 10 08"); /* movss xmm1, [rax] clears the rest */
    cr_assert_eq(i.operands[0].size, 16);
    cr_assert_eq(i.operands[1].size, 4);
    i = good(CODE_64, "f3 0f 10 c8"); /* from a register it does not */
    cr_assert_eq(i.operands[0].size, 4);
    i = good(CODE_64, "0f 6f c8"); /* movq mm1, mm0 */
    cr_assert_eq(i.operands[0].kind, OPND_MM);
    cr_assert_eq(good(CODE_64, "45 0f 6f c8").operands[0].reg, 1); /* REX does not reach MMX registers */
    i = good(CODE_64, "de c1");                                    /* faddp st1, st0 */
    cr_assert_eq(i.mnemonic, I_faddp);
    cr_assert_eq(i.operands[0].kind, OPND_ST);
    cr_assert_eq(i.operands[0].reg, 1);
    i = good(CODE_64, "d3 e0");
    cr_assert_eq(i.operands[1].kind, OPND_GPR);
    cr_assert_eq(i.operands[1].reg, 1);
    cr_assert_eq(i.operands[1].size, 1);
    cr_assert_eq(good(CODE_64, "48 8d 00").operands[1].size, 0);
    cr_assert_eq(good(CODE_16, "0f b2 00").operands[1].size, 4);
    cr_assert_eq(good(CODE_64, "48 0f b2 00").operands[1].size, 10);
    cr_assert_eq(good(CODE_64, "0f 01 10").operands[0].size, 10);
    cr_assert_eq(good(CODE_32, "0f 01 10").operands[0].size, 6);
    cr_assert_eq(good(CODE_64, "48 0f c7 08").operands[0].size, 16);
    cr_assert_eq(good(CODE_64, "dd 30").operands[0].size, 108);
    cr_assert_eq(good(CODE_16, "d9 20").operands[0].size, 14);
}

Test(decode, rows)
{
    const struct opcode *o = good(CODE_64, "19 c0").opcode;
    cr_assert_eq(o->reads, FLAG_CF);
    cr_assert_eq(o->writes, FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF);
    cr_assert(o->attr & ATTR_LOCK);
    o = good(CODE_64, "ff c0").opcode; /* inc: CF stays */
    cr_assert_not(o->writes & FLAG_CF);
    o = good(CODE_64, "0f 4f c1").opcode; /* cmovg */
    cr_assert_eq(o->reads, FLAG_ZF | FLAG_SF | FLAG_OF);
    o = good(CODE_64, "d3 e0").opcode; /* count may be 0 */
    cr_assert(o->reads & FLAG_ZF);
    cr_assert_eq(good(CODE_64, "d1 e0").opcode->reads, 0);
    cr_assert(good(CODE_64, "fb").opcode->attr & ATTR_END);
    cr_assert_not(good(CODE_64, "fa").opcode->attr & ATTR_END);
    cr_assert(good(CODE_64, "8e d0").opcode->attr & ATTR_END);
    cr_assert_not(good(CODE_64, "8e d8").opcode->attr & ATTR_END);
    cr_assert(good(CODE_64, "0f 58 00").opcode->attr & ATTR_ALIGN);
    cr_assert_not(good(CODE_64, "f3 0f 58 00").opcode->attr & ATTR_ALIGN);
    cr_assert_not(good(CODE_64, "c5 f8 58 00").opcode->attr & ATTR_ALIGN);
    cr_assert(good(CODE_64, "c5 f8 28 00").opcode->attr & ATTR_ALIGN);
    cr_assert_eq(good(CODE_64, "c5 fd fc c0").opcode->feature, FEAT_AVX2);
    cr_assert_eq(good(CODE_64, "c5 f9 fc c0").opcode->feature, FEAT_AVX);
    cr_assert_eq(good(CODE_64, "e8 00 00 00 00").opcode->cls, CLASS_CONTROL);
    cr_assert_eq(good(CODE_64, "0f 22 c0").opcode->cls, CLASS_SENSITIVE);
}
