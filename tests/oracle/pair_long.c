/* Random kernels in 64-bit mode, and programs of theirs: see pair.c. */
#include "pair.h"

#include "cpu/mmu.h"

/* Linear addresses, mapped one to one but for the windows. */
enum {
    SLOTS = 0xb000, /* where user code comes back to */
    CODE = 0x10000, /* pages of code, the last half also for CPL 3 */
    CODE_PAGES = 8,
    FRAMES = 0x20000, /* what the windows show */
    NFRAMES = 16,
    STACK = 0x34000, /* top */
    FAULT_STACK = 0x38000,
    WINDOW = 0x100000, /* pages that come and go: the first half in one address space, the rest in both, and
                          global */
    WINDOW_PAGES = 16,
    GS_WINDOW = 0x120000, /* what GS points to */
    GS_PAGES = 4,
    ALIAS = 0x200000,    /* all of RAM once more, in a large page */
    TWINS = 0x40000,     /* other code for the pages of code */
    CHANGING = 0x400000, /* a large page that comes and goes */
};
#define ISLAND       0x800u /* data in the middle of each page of code */
#define ISLAND_BYTES 0x200u

#define P  1u
#define W  2u
#define U  4u
#define A  0x20u
#define D  0x40u
#define PS 0x80u
#define G  0x100u
#define NX (1ull << 63)

#define SEL_CODE      0x08
#define SEL_DATA      0x10
#define SEL_USER_DATA 0x23
#define SEL_USER_CODE 0x2b

/* ---- a program ---- */

static u32 patchable[64], npatchable; /* immediates of four bytes */
static bool user;                     /* the code being made is for CPL 3 */
static unsigned twins; /* pages of code that there are two of, by bit: they differ by constants */
static bool big;       /* PCIDs */
static bool calm;      /* little faults, so that there are loops that run for a while */

/* An instruction begins here. Over a page's island goes a jump. */
static void begin(void)
{
    if ((at & 0xfff) > ISLAND - 40 && (at & 0xfff) < ISLAND) {
        const u32 to = (at & ~0xfffu) + ISLAND + ISLAND_BYTES;
        begin_here();
        byte(0xe9);
        dword(to - at - 4);
        at = to;
    }
    begin_here();
}

#define BYTES(...)                                                                                           \
    do {                                                                                                     \
        begin();                                                                                             \
        const u8 b_[] = {__VA_ARGS__};                                                                       \
        memcpy(image + at, b_, sizeof b_);                                                                   \
        at += sizeof b_;                                                                                     \
    } while (0)

static void mov_imm32(unsigned reg, u32 v)
{
    begin();
    if (reg & 8) byte(0x41);
    byte(0xb8 | (reg & 7));
    if (npatchable < 64 && percent(40)) patchable[npatchable++] = at;
    dword(v);
}

static void mov_imm64(unsigned reg, u64 v)
{
    begin();
    byte(0x48 | (reg >> 3));
    byte(0xb8 | (reg & 7));
    qword(v);
}

/* Registers that addresses are made of, and others; R9 counts. */
static const u8 bases[] = {R_SI, R_DI, R_BX, R_BP, R_8, R_12, R_13, R_14};
static const u8 others[] = {R_AX, R_CX, R_DX, R_10, R_11, R_15};
static unsigned base_reg(void) { return bases[below(sizeof bases)]; }
static unsigned other_reg(void) { return others[below(sizeof others)]; }

static u32 somewhere(void)
{
    static const s16 offsets[] = {0,     8,     16,    64,    256, 0x7f8, 0xff0, 0xff8, 0xffc, 0xffd,
                                  0xffe, 0xfff, 0xfe0, 0xfc1, -1,  -2,    -7,    -8,    -16};
    const s32 in_page =
        percent(60) ? offsets[below(ARRAY_LEN(offsets))] : (s32)below(4096) & (percent(70) ? ~7 : ~0);
    const unsigned page = below(WINDOW_PAGES);
    switch (below(20)) {
    case 0: return ALIAS + FRAMES + below(NFRAMES) * 0x1000 + (u32)in_page;
    case 1: return CHANGING + FRAMES + below(NFRAMES) * 0x1000 + (u32)in_page;
    case 2:
        return CODE + (user ? 4 + below(4) : below(CODE_PAGES)) * 0x1000 + ISLAND + below(ISLAND_BYTES - 64);
    case 3: return ALIAS + CODE + below(CODE_PAGES) * 0x1000 + ISLAND + below(ISLAND_BYTES - 64);
    case 4: return STACK - 0x800 + below(0x700);
    case 5: return GS_WINDOW + below(GS_PAGES) * 0x1000 + (u32)in_page;
    default: return WINDOW + page * 0x1000 + (u32)in_page;
    }
}

/* ModRM, SIB and displacement of a memory operand; rex: its X and B go there. extra: bytes that follow. */
struct mem {
    u8 bytes[6], n, rex;
    bool rip;
    u32 target;   /* if so */
    unsigned seg; /* 0x65 or 0 */
};

static struct mem memory(void)
{
    struct mem m = {0};
    const unsigned p = below(100);
    if (p < 8) { /* absolute */
        m.bytes[0] = 4;
        m.bytes[1] = 0x25;
        memcpy(m.bytes + 2, &(u32){somewhere()}, 4);
        m.n = 6;
        return m;
    }
    if (p < 18) {
        m.bytes[0] = 5;
        m.n = 5;
        m.rip = true;
        m.target = somewhere();
        return m;
    }
    if (p < 28) { /* of GS */
        const u32 disp = percent(85)
                             ? below(GS_PAGES) * 0x1000 + (percent(50) ? below(0x100) * 8 : 0xff0 + below(16))
                             : below(0x80000);
        m.seg = 0x65;
        m.bytes[0] = 4;
        m.bytes[1] = 0x25;
        memcpy(m.bytes + 2, &disp, 4);
        m.n = 6;
        return m;
    }
    const unsigned base = p < 36 ? R_SP : base_reg(), index = other_reg();
    const bool indexed = p < 45 && base != R_SP;
    const s32 disp = percent(30) ? 0 : percent(70) ? (s32)below(256) - 128 : (s32)below(8192) - 4096;
    const bool small = disp == (s8)disp;
    if (indexed) { /* by a register made small */
        begin();
        if (index & 8) byte(0x41);
        byte(0x83), byte(0xe0 | (index & 7)), byte(0x7f); /* and index, 7fh */
    }
    if (base != R_SP && percent(35)) mov_imm32(base, somewhere());
    m.rex = (u8)(base >> 3 | (indexed ? index >> 3 << 1 : 0));
    m.bytes[m.n++] = (u8)((small ? 0x40 : 0x80) | (indexed || (base & 7) == 4 ? 4 : base & 7));
    if (indexed || (base & 7) == 4)
        m.bytes[m.n++] = (u8)(indexed ? below(4) << 6 | (index & 7) << 3 | (base & 7) : 0x20 | (base & 7));
    memcpy(m.bytes + m.n, &disp, small ? 1 : 4);
    m.n = (u8)(m.n + (small ? 1 : 4));
    return m;
}

/* prefix: 0, 66h, F2h, F3h or F0h; map: 0, 1 (0F), 2 (0F 38). */
static void with_memory(unsigned prefix, unsigned w, unsigned map, unsigned code, unsigned reg,
                        const void *imm, unsigned imm_bytes)
{
    struct mem m = memory();
    begin();
    if (m.seg) byte(m.seg);
    if (prefix == 0xf0 || prefix == 0x66 || prefix == 0xf2 || prefix == 0xf3) byte(prefix);
    const unsigned rex = 0x40 | w << 3 | (reg >> 3) << 2 | m.rex;
    if (rex != 0x40 || percent(20)) byte(rex);
    if (map) byte(0x0f);
    if (map == 2) byte(0x38);
    byte(code);
    m.bytes[0] |= (u8)((reg & 7) << 3);
    if (m.rip) {
        const s32 d = (s32)(m.target - (at + 5 + imm_bytes));
        memcpy(m.bytes + 1, &d, 4);
    }
    memcpy(image + at, m.bytes, m.n);
    at += m.n;
    memcpy(image + at, imm, imm_bytes);
    at += imm_bytes;
}

static void access_memory(void)
{
    const u32 imm = (u32)rng_next(&rng);
    const unsigned size = below(4); /* 0: bytes, 1: words, 2: 4, 3: 8 */
    const unsigned prefix = size == 1 ? 0x66 : 0, w = size == 3, wide = size != 0,
                   iz = size == 1 ? 2
                        : size    ? 4
                                  : 1;
    switch (below(34)) {
    case 0:
    case 1:
    case 2: with_memory(prefix, w, 0, 0x8a | wide, other_reg(), NULL, 0); break;
    case 3:
    case 4:
    case 5: with_memory(prefix, w, 0, 0x88 | wide, other_reg(), NULL, 0); break;
    case 6:
    case 7: with_memory(prefix, w, 0, below(8) << 3 | wide, other_reg(), NULL, 0); break;
    case 8:
    case 9: with_memory(prefix, w, 0, below(8) << 3 | 2 | wide, other_reg(), NULL, 0); break;
    case 10: with_memory(prefix, w, 0, 0x80 | wide, below(8), &imm, iz); break;
    case 11: with_memory(prefix, w, 0, 0x83, below(8), &imm, 1); break;
    case 12: with_memory(prefix, w, 0, 0xc6 | wide, 0, &imm, iz); break;
    case 13: with_memory(prefix, w, 0, 0xfe | wide, below(2), NULL, 0); break;
    case 14: with_memory(prefix, w, 0, 0xf6 | wide, 2 + below(6), NULL, 0); break;
    case 15: with_memory(0, 0, 0, 0xff, 6, NULL, 0); break; /* push */
    case 16: with_memory(0, 0, 0, 0x8f, 0, NULL, 0); break; /* pop */
    case 17: with_memory(0, w, 1, PICK(0xb6, 0xb7, 0xbe, 0xbf), other_reg(), NULL, 0); break;
    case 18:
        with_memory(size == 1 ? 0x66 : 0, w, 1, PICK(0xa3, 0xab, 0xb3, 0xbb, 0xaf, 0xa5, 0xad), other_reg(),
                    NULL, 0);
        break;
    case 19: with_memory(prefix, w, 1, 0xba, 4 + below(4), &imm, 1); break;
    case 20:
        with_memory(percent(50) ? 0xf0 : prefix, w, 1, PICK(0xb0, 0xb1, 0xc0, 0xc1), other_reg(), NULL, 0);
        break;
    case 21: with_memory(percent(50) ? 0xf0 : 0, w, 1, 0xc7, 1, NULL, 0); break; /* cmpxchg8b, 16b */
    case 22:
        with_memory(0xf0, w, 0, PICK(0x00, 0x01, 0x09, 0x11, 0x21, 0x29, 0x31), other_reg(), NULL, 0);
        break;
    case 23: with_memory(prefix, w, 0, 0x86 | wide, other_reg(), NULL, 0); break; /* xchg */
    case 24:
        with_memory(prefix, w, 0, PICK(0xd0, 0xd1, 0xd2, 0xd3), PICK(0, 1, 2, 3, 4, 5, 7), NULL, 0);
        break;
    case 25: with_memory(prefix, w, 1, 0x40 | below(16), other_reg(), NULL, 0); break; /* cmovcc */
    case 26: with_memory(0, 0, 1, 0x90 | below(16), 0, NULL, 0); break;
    case 27:
        with_memory(PICK(0, 0x66, 0xf2, 0xf3), 0, 1, PICK(0x10, 0x11, 0x58, 0x59, 0x5e), below(16), NULL, 0);
        break;
    case 28: with_memory(PICK(0, 0x66), 0, 1, PICK(0x28, 0x29, 0x54, 0x57), below(16), NULL, 0); break;
    case 29: with_memory(PICK(0x66, 0xf3), 0, 1, PICK(0x6f, 0x7f), below(16), NULL, 0); break;
    case 30: with_memory(0, 0, 1, 0xae, percent(70) ? 3 : 2, NULL, 0); break; /* stmxcsr, ldmxcsr */
    case 31:
        with_memory(0, 0, 0, PICK(0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf), PICK(0, 0, 2, 3, 5, 7),
                    NULL, 0);
        break;
    case 32: with_memory(0, w, 2, PICK(0xf0, 0xf1), other_reg(), NULL, 0); break; /* movbe */
    default: with_memory(percent(50) ? 0xf0 : 0, w, 0, PICK(0x81, 0x83), below(7), &imm, 1); break;
    }
}

static void string_insn(void)
{
    const bool rep = percent(60);
    if (percent(70)) mov_imm32(R_SI, somewhere());
    if (percent(70)) mov_imm32(R_DI, WINDOW + below(WINDOW_PAGES * 0x1000));
    if (rep) mov_imm32(R_CX, percent(10) ? 0 : percent(70) ? below(40) : below(900));
    if (percent(12)) BYTES(0xfd);
    begin();
    const unsigned code = (unsigned)PICK(0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa6, 0xa7, 0xae, 0xaf);
    if (percent(20)) byte(0x66);
    if (rep) byte(percent(70) ? 0xf3 : 0xf2);
    if (percent(40)) byte(0x48);
    byte(code);
    BYTES(0xfc);
}

static void arithmetic(void)
{
    const unsigned a = other_reg(), b = percent(80) ? other_reg() : base_reg();
    begin();
    if (percent(15)) byte(0x66);
    const unsigned rex = 0x40 | (percent(50) ? 8u : 0) | (b >> 3) << 2 | a >> 3;
    switch (below(8)) {
    case 0:
    case 1:
    case 2: byte(rex), byte(below(8) << 3 | 1), byte(0xc0 | (b & 7) << 3 | (a & 7)); break;
    case 3:
        byte(rex & ~4u), byte(0x83), byte(0xc0 | below(8) << 3 | (a & 7)), byte((u8)rng_next(&rng));
        break;
    case 4: byte(rex), byte(0x0f), byte(0x40 | below(16)), byte(0xc0 | (a & 7) << 3 | (b & 7)); break;
    case 5: byte(rex & ~4u), byte(0xff), byte(0xc0 | below(2) << 3 | (a & 7)); break;
    case 6:
        byte(rex & ~4u), byte(0xc1), byte(0xc0 | (u8)PICK(0, 1, 4, 5, 7) << 3 | (a & 7)), byte(1 + below(15));
        break;
    default: byte(rex), byte(0x85), byte(0xc0 | (b & 7) << 3 | (a & 7)); break;
    }
}

static void step_base(void)
{
    const unsigned b = base_reg();
    const s32 by = (s32)PICK(1, 8, 16, 0x1000, 64, (u64)-8, (u64)-0x1000, 0x800);
    begin();
    byte(0x48 | b >> 3), byte(0x81), byte(0xc0 | (b & 7)), dword((u32)by);
}

static void stack_insns(void)
{
    for (unsigned n = 1 + below(4); n-- > 0;) {
        const unsigned r = percent(50) ? other_reg() : base_reg();
        begin();
        if (r & 8) byte(0x41);
        byte(0x50 | (r & 7));
    }
    if (percent(50)) arithmetic();
    for (unsigned n = 1 + below(4); n-- > 0;) {
        const unsigned r = other_reg();
        begin();
        if (r & 8) byte(0x41);
        byte(0x58 | (r & 7));
    }
}

/* ---- what kernels do ---- */

static u64 random_entry(bool global)
{
    u64 frame = FRAMES + below(NFRAMES) * 0x1000u;
    if (percent(calm ? 4 : 12))
        frame = MMIO_AT + below(2) * 0x1000u;
    else if (percent(calm ? 2 : 6))
        frame = ROM_AT;
    return frame | (percent(calm ? 98 : 88) ? P : 0) | (percent(calm ? 96 : 75) ? W : 0) |
           (percent(calm ? 90 : 60) ? U : 0) | (percent(60) ? A : 0) | (percent(50) ? D : 0) |
           (global ? G : 0) | (!calm && percent(30) ? NX : 0);
}

static u32 pte(unsigned space, u32 linear) { return TABLES + space * SPACE + 0x3000 + (linear >> 12) * 8; }

static void store_imm(u32 where, u64 v)
{
    mov_imm64(R_AX, v);
    begin();
    byte(0x48), byte(0x89), byte(4), byte(0x25), dword(where);
}

static void invlpg(u32 linear)
{
    begin();
    byte(0x0f), byte(0x01), byte(0x3c), byte(0x25), dword(linear);
}

static void load_cr3(unsigned space)
{
    mov_imm64(R_AX, (TABLES + space * SPACE) | (big ? space + 1 : 0) | (big && percent(40) ? 1ull << 63 : 0));
    BYTES(0x0f, 0x22, 0xd8);
}

static void flip(unsigned cr, unsigned bit)
{
    BYTES(0x0f, 0x20, 0xc0 | (u8)(cr << 3)); /* mov rax, cr */
    BYTES(0x48, 0x0f, 0xba, 0xf8, (u8)bit);  /* btc rax, bit */
    BYTES(0x0f, 0x22, 0xc0 | (u8)(cr << 3));
}

/* INVPCID, by a descriptor among the slots. */
static void invpcid(unsigned type, unsigned pcid, u32 linear)
{
    store_imm(SLOTS + 0x20, pcid);
    store_imm(SLOTS + 0x28, linear);
    mov_imm64(R_AX, type);
    begin();
    byte(0x66), byte(0x0f), byte(0x38), byte(0x82), byte(4), byte(0x25), dword(SLOTS + 0x20);
}

/* A page that is not global, of one address space. */
static void flush(unsigned space, u32 linear)
{
    const unsigned p = below(10);
    if (p == 0)
        flip(4, 7), flip(4, 7); /* PGE */
    else if (big)
        invpcid(p < 5 ? 0 : p < 8 ? 1 : p == 8 ? 2 : 3, space + 1, linear + below(4096));
    else if (p < 6)
        invlpg(linear + below(4096));
    else
        load_cr3(below(2));
}

static void set_entry(unsigned space, u32 linear, u64 entry)
{
    store_imm(pte(space, linear), entry);
    flush(space, linear);
}

/* To and fro, each time that the program comes by. */
static void turn_entry(unsigned space, u32 linear, u64 by)
{
    mov_imm64(R_AX, by);
    begin();
    byte(0x48), byte(0x31), byte(4), byte(0x25), dword(pte(space, linear)); /* xor [entry], rax */
    flush(space, linear);
}

static void remap(void)
{
    const unsigned page = below(WINDOW_PAGES);
    if (percent(15)) { /* for both, but not global: the second store is to the one or the other's tables */
        const u32 linear = GS_WINDOW + page % GS_PAGES * 0x1000;
        const u64 entry = random_entry(false);
        set_entry(0, linear, entry);
        set_entry(1, linear, entry);
    } else if (page < WINDOW_PAGES / 2) {
        if (percent(50))
            set_entry(below(2), WINDOW + page * 0x1000, random_entry(false));
        else
            turn_entry(below(2), WINDOW + page * 0x1000,
                       below(NFRAMES) * 0x1000 | (percent(20) ? W : 0) | (percent(10) ? P : 0));
    } else { /* global */
        const u32 linear = WINDOW + page * 0x1000;
        const u64 entry = random_entry(true);
        store_imm(pte(0, linear), entry);
        store_imm(pte(1, linear), entry);
        if (percent(80))
            invlpg(linear + below(4096));
        else
            flip(4, 7), flip(4, 7);
    }
}

static u64 code_entry(unsigned page, bool twin)
{
    return ((twin ? TWINS : CODE) + page * 0x1000u) | P | W | A | D | (page >= CODE_PAGES / 2 ? U : 0);
}

/* Other code in a page that does not run now. */
static void remap_code(void)
{
    const unsigned page = 1 + below(CODE_PAGES - 1), space = below(2);
    if (!(twins >> page & 1) || at >> 12 == CODE / 0x1000 + page || (at + 200) >> 12 == CODE / 0x1000 + page)
        return;
    turn_entry(space, CODE + page * 0x1000, code_entry(page, false) ^ code_entry(page, true));
}

static void system_insn(void)
{
    switch (below(24)) {
    case 0:
    case 1:
    case 2:
    case 3: remap(); break;
    case 4: remap_code(); break;
    case 5:
    case 6: load_cr3(below(2)); break;
    case 7: flip(0, 16); break; /* WP */
    case 8: flip(4, 21); break; /* SMAP */
    case 9: flip(4, 7); break;  /* PGE */
    case 10:
        if (!calm) flip(0, 3); /* TS */
        break;
    case 11: BYTES(0x0f, 0x01, 0xcb); break; /* stac */
    case 12: BYTES(0x0f, 0x01, 0xca); break;
    case 13: BYTES(0x0f, 0x01, 0xf8); break; /* swapgs */
    case 14:
        mov_imm32(R_AX, percent(70) ? GS_WINDOW : somewhere());
        BYTES(0xf3, 0x48, 0x0f, 0xae, 0xd8); /* wrgsbase rax */
        break;
    case 15: { /* NXE */
        if (calm) break;
        mov_imm32(R_CX, 0xc0000080);
        BYTES(0x0f, 0x32);
        BYTES(0x0f, 0xba, 0xf8, 11);
        BYTES(0x0f, 0x30);
        break;
    }
    case 16: { /* the large page that changes */
        const u64 table = TABLES + 0x2000 + 16,
                  entry = percent(80) ? P | W | PS | (percent(50) ? A | D : 0) | (percent(50) ? U : 0) : 0;
        store_imm((u32)table, entry);
        store_imm((u32)table + SPACE, entry);
        if (big)
            flip(4, 7), flip(4, 7);
        else
            invlpg(CHANGING + below(LARGE));
        break;
    }
    case 17: BYTES(0xfa); break;
    case 18: BYTES(0xfb); break;
    case 19: /* popf */
        begin();
        byte(0x68), dword((u32)(2 | (rng_next(&rng) &
                                     (0x8d5 | (percent(60) ? 0x200 : 0) |
                                      (percent(calm ? 2 : 15) ? 0x100 : 0) | (percent(20) ? 0x40000 : 0)))));
        BYTES(0x9d);
        break;
    case 20: BYTES(0xe6, 0x80); break; /* an interrupt */
    case 21:
        if (percent(40))
            BYTES(0xe6, 0x81); /* an NMI */
        else
            BYTES(0x0f, 0x06); /* clts */
        break;
    case 22: { /* a breakpoint on data, or none */
        if (calm && percent(80)) break;
        if (percent(60)) {
            mov_imm32(R_AX, somewhere());
            BYTES(0x0f, 0x23, 0xc0);
        }
        mov_imm32(R_AX, percent(50) ? 0x400 : 0x402 | (u32)PICK(1, 3) << 16 | below(4) << 18);
        BYTES(0x0f, 0x23, 0xf8);
        break;
    }
    default:
        BYTES(0x9c);
        BYTES(0x58);
        break; /* pushf; pop rax */
    }
}

/* Change an immediate in code, maybe of what comes next. */
static void patch_code(void)
{
    if (!npatchable) return;
    const u32 where = patchable[below(npatchable)] + (percent(50) ? ALIAS : 0);
    begin();
    if (percent(50))
        byte(0xc7), byte(4), byte(0x25), dword(where), dword(somewhere());
    else
        byte(0xc6), byte(4), byte(0x25), dword(where + below(2)), byte((u8)rng_next(&rng));
}

static void forward_jump(void)
{
    begin();
    byte(0x70 | below(16));
    const u32 site = at;
    byte(0);
    arithmetic();
    if (percent(50)) arithmetic();
    if (at - site - 1 < 120) image[site] = (u8)(at - site - 1); /* not over an island */
}

static void item(void)
{
    const unsigned p = below(100);
    if (p < 50)
        access_memory();
    else if (p < 62)
        arithmetic();
    else if (p < 67)
        step_base();
    else if (p < 72)
        stack_insns();
    else if (p < 77)
        string_insn();
    else if (p < 80)
        forward_jump();
    else if (p < 84)
        patch_code();
    else if (!user)
        system_insn();
    else if (p < 86)
        BYTES(0xcc);
    else
        arithmetic();
}

static void items(unsigned n)
{
    while (n-- > 0 && nstarts < MAX_INSNS - 64)
        item();
}

/* Room for about so many instructions at a place of a page. */
static void place(unsigned page)
{
    at = CODE + page * 0x1000 + (percent(50) ? below(0x300) : 0x1000 - 0x600 + below(0x200));
}

static void generate(void)
{
    npatchable = 0;
    big = percent(25);
    twins = percent(60) ? (unsigned)rng_next(&rng) & ((1u << CODE_PAGES) - 2) : 0;
    calm = percent(50);
    for (unsigned n = 0; n < NFRAMES * 512u; n++)
        put64(FRAMES + 8 * n, random_data(&rng));
    for (unsigned n = 0; n < 512; n++)
        put64(LARGE + 8 * n, random_data(&rng));
    for (unsigned space = 0; space < 2; space++) {
        const u32 t = TABLES + space * SPACE;
        put64(t, (t + 0x1000) | P | W | U | A);
        put64(t + 0x1000, (t + 0x2000) | P | W | U | A);
        put64(t + 0x2000, (t + 0x3000) | P | W | U | A);
        put64(t + 0x2008, P | W | U | A | D | PS | G);
        put64(t + 0x2010, P | W | U | A | D | PS);
        for (unsigned n = 0; n < 512; n++) {
            const bool users =
                n * 0x1000 >= CODE + CODE_PAGES / 2 * 0x1000 && n * 0x1000 < CODE + CODE_PAGES * 0x1000;
            put64(t + 0x3000 + 8 * n,
                  n * 0x1000ull | P | W | A | D | (users || n * 0x1000 >> 12 >= 0x33 ? U : 0) | G);
        }
    }
    for (unsigned n = 0; n < WINDOW_PAGES; n++) {
        const bool global = n >= WINDOW_PAGES / 2;
        const u64 entry = random_entry(global);
        put64(pte(0, WINDOW + n * 0x1000), entry);
        put64(pte(1, WINDOW + n * 0x1000), global ? entry : random_entry(false));
    }
    for (unsigned n = 0; n < GS_PAGES; n++) {
        const u64 entry = percent(85) ? (FRAMES + n * 0x1000u) | P | W | A | D : random_entry(false);
        for (unsigned space = 0; space < 2; space++)
            put64(pte(space, GS_WINDOW + n * 0x1000), entry);
    }
    for (unsigned v = 0; v < 256; v++) {
        const u64 to = HANDLERS + 16 * v;
        put64(IDT + 16 * v, (to & 0xffff) | SEL_CODE << 16 | (0xee01ull << 32));
        image[to] = 0xf4;
    }
    static const u64 gdt[] = {0,
                              0x00af9b000000ffff,
                              0x00cf93000000ffff,
                              0x00cffb000000ffff,
                              0x00cff3000000ffff,
                              0x00affb000000ffff};
    memcpy(image + GDT, gdt, sizeof gdt);
    put64(TSS + 0x24, FAULT_STACK);

    u32 kernel[3], users[2], entry;
    for (unsigned n = 0; n < 2; n++) { /* for CPL 3 */
        user = true;
        place(CODE_PAGES / 2 + 1 + n * 2 - below(2));
        users[n] = at;
        items(2 + below(12));
        BYTES(0x0f, 0x05);
    }
    user = false;
    for (unsigned n = 0; n < 3; n++) {
        place(1 + n % 2 + (n == 2));
        if (n == 1) at = CODE + 0x2000 - below(48);
        kernel[n] = at;
        items(2 + below(12));
        BYTES(0xc3);
    }
    at = SLOTS + 0x100;                            /* LSTAR */
    BYTES(0xff, 0x24, 0x25, 0, 0xb0 & 0xff, 0, 0); /* jmp [SLOTS] */
    at = CODE + below(64);
    entry = at;
    mov_imm32(R_9, 2 + below(calm ? 60 : 12));
    const u32 head = at;
    for (unsigned n = 1 + below(6); n-- > 0;) {
        items(1 + below(8));
        if (percent(40)) remap_code();
        if (percent(60)) { /* call */
            const u32 to = kernel[below(3)];
            if (percent(60)) {
                begin();
                byte(0xe8), dword(to - at - 4);
            } else {
                mov_imm32(R_BX, to);
                BYTES(0xff, 0xd3);
            }
        }
        if (percent(30)) { /* to CPL 3, and back */
            begin();
            byte(0x48), byte(0xc7), byte(4), byte(0x25), dword(SLOTS);
            const u32 back = at;
            dword(0);
            mov_imm32(R_CX, users[below(2)]);
            mov_imm32(R_11, 2 | (percent(50) ? 0x200 : 0) | (percent(calm ? 1 : 10) ? 0x100 : 0));
            BYTES(0x48, 0x0f, 0x07);
            memcpy(image + back, &at, 4);
        }
    }
    BYTES(0x41, 0xff, 0xc9); /* dec r9d */
    begin();
    byte(0x0f), byte(0x85), dword(head - at - 4);
    BYTES(0xf4);
    put64(0, entry);
    memcpy(image + TWINS, image + CODE, CODE_PAGES * 0x1000);
    for (unsigned n = 0; n < npatchable; n++)
        image[patchable[n] - CODE + TWINS] ^= 1;
    for (unsigned page = 1; page < CODE_PAGES; page++) {
        for (unsigned space = 0; space < 2 && (twins >> page & 1); space++)
            put64(pte(space, CODE + page * 0x1000), code_entry(page, space));
    }
}

static void load(struct cpu *cpu)
{
    cpu->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE | CR0_WP | CR0_MP;
    cpu->cr4 =
        CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_FSGSBASE | CR4_PGE | CR4_DE | (big ? CR4_PCIDE : 0);
    cpu->cr3 = TABLES | big;
    cpu->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    cpu->star = (u64)SEL_CODE << 32 | 0x18ull << 48;
    cpu->lstar = SLOTS + 0x100;
    cpu->fmask = EFLAGS_TF | EFLAGS_AC | EFLAGS_IF | EFLAGS_DF;
    cpu->gdtr = (struct descriptor_table){GDT, 47};
    cpu->idtr = (struct descriptor_table){IDT, 0xfff};
    cpu->tr = (struct segment){.selector = 0x30, .base = TSS, .limit = 0x67, .attr = SEG_P | 0xb};
    cpu->seg[SEG_CS] =
        (struct segment){.selector = SEL_CODE, .limit = ~0u, .attr = SEG_P | SEG_S | SEG_L | SEG_G | 0xb};
    cpu->seg[SEG_SS] =
        (struct segment){.selector = SEL_DATA, .limit = ~0u, .attr = SEG_P | SEG_S | SEG_DB | SEG_G | 3};
    cpu->seg[SEG_GS].base = GS_WINDOW;
    cpu->kernel_gs_base = GS_WINDOW + 0x1000;
    memcpy(&cpu->rip, image, 8);
    for (unsigned n = 0; n < 16; n++)
        cpu->regs[n] = FRAMES + n * 0x1000;
    for (unsigned n = 0; n < sizeof bases; n++)
        cpu->regs[bases[n]] = WINDOW + (n + 4) * 0x1000 + 64 * n;
    cpu->regs[R_SP] = STACK - 0x400;
}

static void frame(const struct machine *m, unsigned vector, u64 f[12])
{
    const u64 *pushed = (const u64 *)(const void *)(m->ram->host + m->cpu->regs[R_SP]);
    if (has_error(vector)) f[5] = *pushed++;
    memcpy(f, pushed, 40);
}

static void go_on(struct cpu *cpu, const u64 f[12], u64 rip)
{
    const bool to_user = (f[1] & 3) == 3;
    cpu->seg[SEG_CS] =
        (struct segment){.selector = (u16)f[1],
                         .limit = ~0u,
                         .attr = (u16)(SEG_P | SEG_S | SEG_L | SEG_G | 0xb | (to_user ? SEG_DPL : 0))};
    cpu->seg[SEG_SS] =
        (struct segment){.selector = (u16)f[4],
                         .limit = ~0u,
                         .attr = (u16)(SEG_P | SEG_S | SEG_DB | SEG_G | 3 | (to_user ? SEG_DPL : 0))};
    cpu->cpl = to_user ? 3 : 0;
    cpu->rip = rip;
    cpu->regs[R_SP] = f[3];
    cpu_set_eflags(cpu, (u32)f[2] & ~EFLAGS_RF);
}

/* The program has changed what it runs by, and did not flush it: what the TLBs have had of it is seen. */
static bool strayed(const struct machine *m)
{
    if ((m->cpu->cr3 & ~0xfffull) != TABLES && (m->cpu->cr3 & ~0xfffull) != TABLES + SPACE) return true;
    for (u32 n = TABLES; n < TABLES + 2 * SPACE; n += 8) {
        const u32 in_space = (n - TABLES) % SPACE,
                  linear = in_space < 0x3000 ? 0 : (in_space - 0x3000) / 8 * 0x1000;
        u64 x, y;
        memcpy(&x, m->ram->host + n, 8);
        memcpy(&y, image + n, 8);
        if (in_space == 0x2010 || (linear >= CODE && linear < CODE + CODE_PAGES * 0x1000) ||
            (linear >= WINDOW && linear < GS_WINDOW + GS_PAGES * 0x1000))
            continue;
        if ((x ^ y) & ~(u64)(A | D)) return true;
    }
    return false;
}

const struct kind pair_long = {"long", CODE_64, generate, load, frame, go_on, strayed};
