/* build/tests/test_effect: what the translator knows of instructions ahead (translate/effect.c). */
#include <criterion/criterion.h>

#include "translate/tr.h"

#define AX (1u << R_AX)
#define CX (1u << R_CX)
#define DX (1u << R_DX)
#define BX (1u << R_BX)
#define SP (1u << R_SP)

static const struct {
    const char *text;
    u8 bytes[8];
    u32 written;
    u8 moved;
    s64 by;
    enum { RUNS, FAULTS, VECTOR, UNKNOWN } what;
} cases[] = {
    {"add rbx, -16", {0x48, 0x83, 0xc3, 0xf0}, BX, R_BX, -16, RUNS},
    {"sub rsp, 1000h", {0x48, 0x81, 0xec, 0, 0x10, 0, 0}, SP, R_SP, -0x1000, RUNS},
    {"add ebx, 16", {0x83, 0xc3, 0x10}, BX, REG_ZERO, 0, RUNS},
    {"add rbx, rcx", {0x48, 0x01, 0xcb}, BX, REG_ZERO, 0, RUNS},
    {"add [rbx], rcx", {0x48, 0x01, 0x0b}, 0, REG_ZERO, 0, FAULTS},
    {"lock add [rbx], rcx", {0xf0, 0x48, 0x01, 0x0b}, 0, REG_ZERO, 0, FAULTS},
    {"dec rcx", {0x48, 0xff, 0xc9}, CX, R_CX, -1, RUNS},
    {"lea rbx, [rbx+8]", {0x48, 0x8d, 0x5b, 8}, BX, R_BX, 8, RUNS},
    {"lea rbx, [rcx+8]", {0x48, 0x8d, 0x59, 8}, BX, REG_ZERO, 0, RUNS},
    {"lea rbx, [ebx+8]", {0x67, 0x48, 0x8d, 0x5b, 8}, BX, REG_ZERO, 0, RUNS},
    {"nop [rax]", {0x0f, 0x1f, 0x00}, 0, REG_ZERO, 0, RUNS},
    {"push rcx", {0x51}, SP, R_SP, -8, FAULTS},
    {"pop rcx", {0x59}, SP | CX, R_SP, 8, FAULTS},
    {"pop rsp", {0x5c}, SP, REG_ZERO, 0, FAULTS},
    {"mov ah, cl", {0x88, 0xcc}, AX, REG_ZERO, 0, RUNS},
    {"cdqe", {0x48, 0x98}, AX, REG_ZERO, 0, RUNS},
    {"cqo", {0x48, 0x99}, DX, REG_ZERO, 0, RUNS},
    {"lahf", {0x9f}, AX, REG_ZERO, 0, RUNS},
    {"mul rcx", {0x48, 0xf7, 0xe1}, AX | DX, REG_ZERO, 0, RUNS},
    {"imul rbx, rcx", {0x48, 0x0f, 0xaf, 0xd9}, BX, REG_ZERO, 0, RUNS},
    {"div rcx", {0x48, 0xf7, 0xf1}, AX | DX, REG_ZERO, 0, FAULTS},
    {"xchg rbx, rcx", {0x48, 0x87, 0xcb}, BX | CX, REG_ZERO, 0, RUNS},
    {"cmpxchg rbx, rcx", {0x48, 0x0f, 0xb1, 0xcb}, AX | BX, REG_ZERO, 0, RUNS},
    {"cmpxchg16b [rbx]", {0x48, 0x0f, 0xc7, 0x0b}, AX | DX, REG_ZERO, 0, FAULTS},
    {"addps xmm0, xmm1", {0x0f, 0x58, 0xc1}, 0, REG_ZERO, 0, VECTOR},
    {"pmovmskb ecx, xmm1", {0x66, 0x0f, 0xd7, 0xc9}, CX, REG_ZERO, 0, VECTOR},
    {"fnstsw ax", {0xdf, 0xe0}, AX, REG_ZERO, 0, VECTOR},
    {"pause", {0xf3, 0x90}, 0, REG_ZERO, 0, UNKNOWN},
    {"jmp", {0xeb, 0}, 0, REG_ZERO, 0, UNKNOWN},
    {"movsb", {0xa4}, 0, REG_ZERO, 0, UNKNOWN},
    {"mov eax, ds", {0x8c, 0xd8}, 0, REG_ZERO, 0, UNKNOWN},
    {"fninit", {0xdb, 0xe3}, 0, REG_ZERO, 0, UNKNOWN},
};

Test(effect, of_instructions)
{
    struct tr *t = calloc(1, sizeof *t);
    t->is64 = true;
    for (unsigned n = 0; n < ARRAY_LEN(cases); n++) {
        const char *text = cases[n].text;
        struct insn i;
        struct effect x;
        cr_assert_gt(decode(&i, cases[n].bytes, sizeof cases[n].bytes, CODE_64), 0, "%s", text);
        cr_assert_eq(effect_of(t, &i, &x), cases[n].what != UNKNOWN, "%s", text);
        if (cases[n].what == UNKNOWN) continue;
        cr_assert_eq(x.written, cases[n].written, "%s: writes %#x", text, x.written);
        cr_assert_eq(x.moved, cases[n].moved, "%s: moves %u", text, x.moved);
        cr_assert_eq(x.by, cases[n].by, "%s: by %lld", text, (long long)x.by);
        cr_assert_eq(x.faults, cases[n].what != RUNS, "%s", text);
        cr_assert_eq(x.vector, cases[n].what == VECTOR, "%s", text);
    }
    free(t);
}
