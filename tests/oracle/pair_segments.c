/* Random programs in 16-bit and 32-bit segments, without paging: see pair.c. Real mode, with limits from
 * protected mode now and then
 * ("unreal mode"), virtual-8086 mode, and protected mode with segments that end early, grow downwards, or are
 * not there.
 *
 * What strays, strays on both sides in the same way: there is no TLB to tell of. DX counts the program's
 * rounds. */
#include "pair.h"

enum {
    CODE = 0x10000, /* a segment of 64 KiB */
    DATA = 0x20000,
    STACK = 0x30000,
    KERNEL_STACK = 0x48000, /* top: for interrupts of virtual-8086 mode */
};

/* Selectors. */
enum {
    FLAT_CODE = 0x08,
    FLAT_DATA = 0x10,
    CODE16 = 0x18,
    CODE32 = 0x20,
    DATA64K = 0x28,
    STACK16 = 0x50,
    STACK32 = 0x58,
    OTHER16 = 0x60,
    OTHER32 = 0x78
};

static const u64 gdt[] = {
    0,
    0x00cf9b000000ffff,
    0x00cf93000000ffff,
    0x00009b010000ffff,
    0x00409b010000ffff,
    0x000093020000ffff,
    0x0000930200007fff, /* 30: ends early */
    0x0000970200007fff, /* 38: grows down, to 64 KiB */
    0x0040970200000fff, /* 40: ... to 4 GiB */
    0x000091020000ffff, /* 48: read-only */
    0x000093030000ffff,
    0x004093030000ffff,
    0x00009b00fff0ffff, /* 60: the code once more */
    0x000013020000ffff, /* 68: not present */
    0x000093020003fff0, /* 70: begins and ends anywhere */
    0x00409b00fff0ffff,
    0x0000990100007fff, /* 80: execute-only */
};

static bool real, v86, wide; /* wide: 32-bit code */
static u32 base;             /* of the code segment that the next instruction is made for */

static u32 offset(void) { return at - base; }

#define OPERAND(n)                                                                                           \
    do {                                                                                                     \
        if (((n) == 4) != wide) byte(0x66);                                                                  \
    } while (0)

static unsigned reg(void) { return (unsigned)PICK(R_AX, R_CX, R_BX, R_SI, R_DI, R_BP); }

static u32 place(void)
{
    static const u16 places[] = {0,      1,      2,      0xfff,  0x7ffe, 0x7fff, 0x7ffc, 0x8000,
                                 0xfffe, 0xffff, 0xfffc, 0xfffd, 0xfff8, 0xfff0, 0x1000};
    return percent(35) ? places[below(ARRAY_LEN(places))] : percent(80) ? below(0x4000) : below(0x10000);
}

static void mov_imm(unsigned r, u32 v)
{
    begin_here();
    byte(0xb8 | r);
    if (wide)
        dword(percent(95) ? v : rng_next(&rng));
    else
        word(v);
}

static u16 selector(void)
{
    if (real || v86)
        return (u16)PICK(0x2000, 0x2000, 0x2001, 0x1000, 0x3000, 0x2fff, 0, rng_next(&rng) & 0x3fff);
    return (u16)(percent(90) ? below(ARRAY_LEN(gdt)) * 8 : rng_next(&rng));
}

/* ModRM and what follows. */
static void modrm(unsigned r, bool address16)
{
    const unsigned mod = below(3), rm = below(8);
    if (address16) {
        byte(mod << 6 | r << 3 | rm);
        if (mod == 2 || (mod == 0 && rm == 6))
            word(percent(50) ? place() : below(256) - 128);
        else if (mod == 1)
            byte(rng_next(&rng));
        return;
    }
    if (rm == 4) {
        byte(mod << 6 | r << 3 | 4),
            byte(below(4) << 6 | (u64)PICK(1, 3, 4, 6, 7) << 3 | PICK(0, 1, 3, 4, 5, 6, 7));
        if (mod == 0 && (image[at - 1] & 7) == 5) dword(place());
    } else {
        byte(mod << 6 | r << 3 | rm);
        if (mod == 0 && rm == 5) dword(percent(95) ? place() : rng_next(&rng));
    }
    if (mod == 1) byte(rng_next(&rng));
    if (mod == 2) dword(percent(90) ? below(512) - 256 : rng_next(&rng));
}

static void with_memory(unsigned prefix, bool both, unsigned map, unsigned code, unsigned r, unsigned imm)
{
    static const u8 segs[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    const bool other = percent(15), half = both && percent(30);
    if (percent(50)) mov_imm((unsigned)PICK(R_BX, R_SI, R_DI, R_BP), place());
    begin_here();
    if (percent(25)) byte(segs[below(6)]);
    if (prefix) byte(prefix);
    if (other) byte(0x67);
    if (half) byte(0x66);
    if (map) byte(0x0f);
    byte(code);
    modrm(r, wide == other);
    while (imm-- > 0)
        byte(rng_next(&rng));
}

static void access_memory(void)
{
    switch (below(26)) {
    case 0:
    case 1: with_memory(0, true, 0, 0x8b, reg(), 0); break;
    case 2:
    case 3: with_memory(0, true, 0, 0x89, reg(), 0); break;
    case 4: with_memory(0, false, 0, PICK(0x88, 0x8a, 0x86), PICK(0, 1, 3, 4, 5, 7), 0); break;
    case 5:
    case 6: with_memory(0, true, 0, below(8) << 3 | (unsigned)PICK(1, 3), reg(), 0); break;
    case 7: with_memory(0, false, 0, 0x80, below(8), 1); break;
    case 8:
    case 9: with_memory(0, true, 0, 0x83, below(8), 1); break;
    case 10: with_memory(0, true, 0, 0xff, below(2), 0); break;
    case 11: with_memory(0, true, 0, 0xff, 6, 0); break;
    case 12: with_memory(0, true, 1, PICK(0xb6, 0xb7, 0xbe, 0xbf, 0xaf), reg(), 0); break;
    case 13: with_memory(0, true, 1, PICK(0xa3, 0xab, 0xb3, 0xbb), reg(), 0); break;
    case 14:
        with_memory(percent(50) ? 0xf0 : 0, true, 1, PICK(0xb0, 0xb1, 0xc0, 0xc1), PICK(1, 3, 5, 6, 7), 0);
        break;
    case 15: with_memory(0xf0, true, 0, PICK(0x01, 0x09, 0x21, 0x29, 0x31, 0x87), reg(), 0); break;
    case 16: with_memory(0, true, 0, PICK(0xd1, 0xd3), PICK(0, 1, 2, 3, 4, 5, 7), 0); break;
    case 17: with_memory(0, true, 1, 0x40 | below(16), reg(), 0); break;
    case 18: with_memory(0, false, 1, 0x90 | below(16), 0, 0); break;
    case 19: with_memory(0, true, 0, PICK(0xc4, 0xc5), reg(), 0); break; /* les, lds */
    case 20: with_memory(0, true, 1, PICK(0xb4, 0xb5), reg(), 0); break; /* lfs, lgs */
    case 21: with_memory(0, false, 0, PICK(0x8e, 0x8c), PICK(0, 3, 4, 5, 0, 3), 0); break;
    case 22:
        with_memory(PICK(0, 0x66, 0xf2, 0xf3), false, 1, PICK(0x10, 0x11, 0x58, 0x6f, 0x7f), below(8), 0);
        break;
    case 23: with_memory(0, false, 0, PICK(0xd8, 0xd9, 0xdb, 0xdd, 0xdf), PICK(0, 2, 3, 5, 7), 0); break;
    case 24:
        if (percent(20)) with_memory(0, true, 0, 0x62, reg(), 0); /* bound */
        break;
    default: with_memory(0, true, 0, 0x8d, reg(), 0); break;
    }
}

static void string_insn(void)
{
    if (percent(60)) mov_imm(R_SI, place());
    if (percent(60)) mov_imm(R_DI, place());
    const bool rep = percent(60);
    if (rep) mov_imm(R_CX, percent(80) ? below(30) : below(600));
    if (percent(15)) begin_here(), byte(0xfd);
    begin_here();
    if (percent(15)) byte(PICK(0x26, 0x2e, 0x36, 0x64));
    if (percent(15)) byte(0x67);
    if (percent(25)) byte(0x66);
    if (rep) byte(percent(70) ? 0xf3 : 0xf2);
    byte(PICK(0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa6, 0xa7, 0xae, 0xaf));
    begin_here(), byte(0xfc);
}

static void arithmetic(void)
{
    const unsigned a = reg(), b = reg();
    begin_here();
    if (percent(25)) byte(0x66);
    switch (below(6)) {
    case 0:
    case 1: byte(below(8) << 3 | 1), byte(0xc0 | b << 3 | a); break;
    case 2: byte(0x83), byte(0xc0 | below(8) << 3 | a), byte(rng_next(&rng)); break;
    case 3: byte(0x40 | below(2) << 3 | a); break;
    case 4: byte(0xc1), byte(0xc0 | PICK(0, 1, 4, 5, 7) << 3 | a), byte(1 + below(15)); break;
    default: byte(PICK(0x27, 0x2f, 0x37, 0x3f, 0x98, 0xf8, 0xf9, 0xf5, 0x9e, 0x9f)); break;
    }
}

static void stack_insn(void)
{
    begin_here();
    if (percent(20)) byte(0x66);
    switch (below(9)) {
    case 0:
    case 1: byte(0x50 | reg()); break;
    case 2:
    case 3: byte(0x58 | reg()); break;
    case 4: byte(PICK(0x06, 0x0e, 0x16, 0x1e)); break;
    case 5: byte(PICK(0x07, 0x1f)); break;
    case 6: byte(0x6a), byte(rng_next(&rng)); break;
    case 7: byte(0xc8), word(below(32)), byte(percent(70) ? 0 : below(4)); break; /* enter */
    default: byte(0xc9); break;
    }
    if (percent(6)) mov_imm(R_SP, percent(50) ? 0x8000 : place()), mov_imm(R_BP, place());
}

/* There and back, or on, by another selector for the same code. */
static void far_transfer(void)
{
    const bool same = base == CODE;
    const u32 to = same ? CODE - 16 : CODE;
    const u16 sel = (u16)(real || v86 ? to >> 4
                          : same      ? (wide ? OTHER32 : OTHER16)
                                      : (wide ? CODE32 : CODE16));
    begin_here();
    byte(0xea);
    const u32 target = at + (wide ? 6 : 4) - to;
    if (wide)
        dword(target);
    else
        word(target);
    word(sel);
    base = to;
}

static void system_insn(void)
{
    switch (below(16)) {
    case 0:
    case 1:
    case 2:
    case 3: { /* load a segment */
        const unsigned s = (unsigned)PICK(0, 3, 0, 3, 4, 5, 2);
        mov_imm(R_AX, s == 2 ? (u32)(real || v86 ? PICK(0x3000, 0x3001, 0x2000)
                                                 : PICK(STACK16, STACK32, DATA64K, 0x38, 0x40, 0x70))
                             : selector());
        begin_here(), byte(0x8e), byte(0xc0 | s << 3);
        break;
    }
    case 4: begin_here(), byte(0xfa); break;
    case 5: begin_here(), byte(0xfb); break;
    case 6:
        begin_here(), byte(0x9c);
        begin_here(), byte(0x58);
        break;
    case 7: /* popf */
        begin_here(), byte(0x68);
        if (wide)
            dword(2 | (rng_next(&rng) & (0xcd5 | (percent(60) ? 0x200 : 0) | (percent(8) ? 0x100 : 0))));
        else
            word(2 | (rng_next(&rng) & (0xcd5 | (percent(60) ? 0x200 : 0) | (percent(8) ? 0x100 : 0))));
        begin_here(), byte(0x9d);
        break;
    case 8: begin_here(), byte(0xe6), byte(0x80); break;
    case 9: begin_here(), byte(0xcd), byte(0x30 + below(16)); break;
    case 10: begin_here(), byte(PICK(0xcc, 0xce, 0xd7)); break;
    case 11:
    case 12: far_transfer(); break;
    case 13:
        begin_here(), byte(0x60);
        begin_here(), byte(0x61);
        break;
    case 14: /* limits of 4 GiB for a while */
        if (!real) break;
        begin_here(), byte(0x0f), byte(0x20), byte(0xc0);
        begin_here(), byte(0x0c), byte(1);
        begin_here(), byte(0x0f), byte(0x22), byte(0xc0);
        mov_imm(R_BX, (u32)PICK(FLAT_DATA, FLAT_DATA, 0x30, DATA64K));
        begin_here(), byte(0x8e), byte(0xc3 | (u64)PICK(0, 3, 4) << 3);
        begin_here(), byte(0x24), byte(0xfe);
        begin_here(), byte(0x0f), byte(0x22), byte(0xc0);
        break;
    default: begin_here(), byte(0x8c), byte(0xc0 | below(6) << 3 | reg()); break; /* mov r, sreg */
    }
}

static void item(void)
{
    const unsigned p = below(100);
    if (p < 45)
        access_memory();
    else if (p < 60)
        arithmetic();
    else if (p < 72)
        stack_insn();
    else if (p < 79)
        string_insn();
    else if (p < 82) { /* a jump over something */
        begin_here(), byte(percent(70) ? 0x70 | below(16) : PICK(0xe3, 0xeb));
        const u32 site = at;
        byte(0);
        arithmetic();
        image[site] = (u8)(at - site - 1);
    } else if (p < 86) { /* a loop */
        mov_imm(R_CX, 1 + below(5));
        const u32 head = at;
        arithmetic();
        begin_here(), byte(PICK(0xe2, 0xe2, 0xe1, 0xe0)), byte(head - at - 1);
    } else {
        system_insn();
    }
}

static void items(unsigned n)
{
    while (n-- > 0)
        item();
}

static void build(void)
{
    for (u32 n = 0; n < 0x10000; n += 8) {
        put64(DATA + n, random_data(&rng));
        put64(STACK + n, random_data(&rng));
    }
    memcpy(image + GDT, gdt, sizeof gdt);
    for (unsigned v = 0; v < 256; v++) {
        const u32 to = HANDLERS + 16 * v;
        image[to] = 0xf4;
        if (real)
            memcpy(image + 4 * v, &(u16[2]){(u16)(16 * v), HANDLERS >> 4}, 4);
        else
            put64(IDT + 8 * v, (to & 0xffff) | FLAT_CODE << 16 | (percent(50) ? 0xee00ull : 0xef00ull) << 32);
    }
    memcpy(image + TSS + 4, &(u32[2]){KERNEL_STACK, FLAT_DATA}, 8);
    memcpy(image + TSS + 0x66, &(u16){0x68}, 2);
    u32 functions[2];
    base = CODE;
    for (unsigned n = 0; n < 2; n++) {
        at = CODE + (n ? 0x2000 - below(40) : 0x1000 + below(0x400));
        functions[n] = offset();
        items(2 + below(10));
        if (base != CODE) far_transfer();
        begin_here(), byte(0xc3);
    }
    at = CODE + below(256);
    put64(LARGE, offset());
    begin_here(), byte(0xba);
    if (wide)
        dword(1 + below(25));
    else
        word(1 + below(25));
    const u32 head = at;
    for (unsigned n = 2 + below(5); n-- > 0;) {
        items(1 + below(8));
        if (base != CODE) far_transfer();
        if (percent(60)) {
            begin_here(), byte(0xe8);
            const u32 to = functions[below(2)] - offset() - (wide ? 4 : 2);
            if (wide)
                dword(to);
            else
                word(to);
        }
    }
    begin_here(), byte(0x4a); /* dec dx */
    begin_here(), byte(0x0f), byte(0x85);
    if (wide)
        dword(head - at - 4);
    else
        word(head - at - 2);
    begin_here(), byte(0xf4);
}

static void generate_as(bool is_real, bool is_v86, bool is_wide)
{
    real = is_real, v86 = is_v86, wide = is_wide;
    build();
}

static void generate_real(void) { generate_as(true, false, false); }
static void generate_v86(void) { generate_as(false, true, false); }
static void generate_16(void) { generate_as(false, false, false); }
static void generate_32(void) { generate_as(false, false, true); }

static struct segment of(u16 selector)
{
    u64 d = 0;
    if (selector / 8 < ARRAY_LEN(gdt)) memcpy(&d, image + GDT + (selector & 0xfff8), 8);
    struct segment s = {.selector = selector,
                        .attr = (u16)(d >> 40 & 0xf0ff),
                        .limit = (u32)((d & 0xffff) | (d >> 32 & 0xf0000))};
    if (s.attr & SEG_G) s.limit = s.limit << 12 | 0xfff;
    s.base = (d >> 16 & 0xffffff) | (d >> 56) << 24;
    return s;
}

static struct segment of_v86(u16 selector)
{
    return (struct segment){.selector = selector,
                            .base = (u64)selector << 4,
                            .limit = 0xffff,
                            .attr = SEG_P | SEG_DPL | SEG_S | 3};
}

static void load(struct cpu *cpu)
{
    u64 entry;
    memcpy(&entry, image + LARGE, 8);
    cpu->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_DE;
    cpu->gdtr = (struct descriptor_table){GDT, sizeof gdt - 1};
    cpu->idtr = real ? (struct descriptor_table){0, 0x3ff} : (struct descriptor_table){IDT, 0x7ff};
    cpu->tr = (struct segment){.selector = 0xf8, .base = TSS, .limit = 0x67, .attr = SEG_P | 0xb};
    cpu->cr0 = CR0_ET | CR0_NE | (real ? 0 : CR0_PE);
    for (unsigned n = 0; n < SEG_COUNT; n++) {
        const u32 where = n == SEG_CS ? CODE : n == SEG_SS ? STACK : DATA;
        if (v86)
            cpu->seg[n] = of_v86((u16)(where >> 4));
        else if (real)
            cpu->seg[n].selector = (u16)(where >> 4), cpu->seg[n].base = where;
        else
            cpu->seg[n] = of(n == SEG_CS   ? (wide ? CODE32 : CODE16)
                             : n == SEG_SS ? (wide ? STACK32 : STACK16)
                                           : DATA64K);
    }
    for (unsigned n = 0; n < 8; n++)
        cpu->regs[n] = 0x1000u + n * 0x700;
    cpu->regs[R_SP] = 0x8000;
    cpu->rip = entry;
    if (!v86) return;
    cpu->cpl = 3;
    cpu->eflags |= EFLAGS_VM | (entry & 1 ? EFLAGS_IOPL : 0);
    if (entry & 2) cpu->cr4 |= CR4_VME;
}

static void frame(const struct machine *m, unsigned vector, u64 f[12])
{
    const struct cpu *cpu = m->cpu;
    const u64 sp = cpu->seg[SEG_SS].base +
                   (cpu->seg[SEG_SS].attr & SEG_DB ? (u32)cpu->regs[R_SP] : (u16)cpu->regs[R_SP]);
    const u8 *pushed = m->ram->host + (sp & (LARGE - 1));
    if (!real && has_error(vector)) memcpy(&f[5], pushed, 4), pushed += 4;
    for (unsigned n = 0; n < (v86 ? 5u : 3u); n++, pushed += real ? 2 : 4)
        memcpy(&f[n], pushed, real ? 2 : 4);
    for (unsigned n = 0; n < 4 && v86; n++, pushed += 4)
        memcpy(&f[6 + n], pushed, 2);
    if (!v86) f[3] = cpu->regs[R_SP] + (real ? 6 : has_error(vector) ? 16 : 12);
    f[1] &= 0xffff;
}

static void go_on(struct cpu *cpu, const u64 f[12], u64 rip)
{
    static const u8 order[4] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    cpu->rip = rip;
    if (v86 && (f[2] & EFLAGS_VM)) {
        cpu->cpl = 3;
        cpu->seg[SEG_CS] = of_v86((u16)f[1]);
        cpu->seg[SEG_SS] = of_v86((u16)f[4]);
        for (unsigned n = 0; n < 4; n++)
            cpu->seg[order[n]] = of_v86((u16)f[6 + n]);
    } else if (real) {
        cpu->seg[SEG_CS].selector = (u16)f[1];
        cpu->seg[SEG_CS].base = f[1] << 4;
    } else {
        cpu->seg[SEG_CS] = of((u16)f[1]);
    }
    const bool small = !v86 && !(cpu->seg[SEG_SS].attr & SEG_DB);
    cpu->regs[R_SP] = small ? (cpu->regs[R_SP] & ~0xffffull) | (u16)f[3] : f[3];
    cpu_set_eflags(cpu, (u32)f[2] & ~EFLAGS_RF);
}

const struct kind pair_real = {"real", CODE_16, generate_real, load, frame, go_on, NULL};
const struct kind pair_v86 = {"v86", CODE_16, generate_v86, load, frame, go_on, NULL};
const struct kind pair_protected16 = {"protected16", CODE_16, generate_16, load, frame, go_on, NULL};
const struct kind pair_protected32 = {"protected32", CODE_32, generate_32, load, frame, go_on, NULL};
