/* build/tests/test_fpu_native : every x87, MMX, SSE, AVX encoding against the host CPU, on random operands.
 * CALQUE_ORACLE_COUNT=n runs n rounds instead of a few. */
#include <criterion/criterion.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include "core/bus.h"
#include "cpu/exec.h"
#include "fpu_support.h"

/* ---- the native side: load everything, run the instruction, store everything ---- */

struct native {
    u64 regs[16]; /* RSP is not loaded */
    u64 aflags;   /* AX as LAHF and SETO leave it */
    void *code;
    u8 area[1024] __attribute__((aligned(64)));
};

static struct native native __attribute__((used));
void native_run(void);
__asm__(".text\n.globl native_run\nnative_run:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "lea native(%rip),%rbp\n"
        "mov $7,%eax; xor %edx,%edx\n"
        "xrstor64 192(%rbp)\n" /* area: offset 192 */
        "mov 128(%rbp),%rax; add $0x7f,%al; sahf\n"
        "mov 0(%rbp),%rax; mov 8(%rbp),%rcx; mov 16(%rbp),%rdx; mov 24(%rbp),%rbx\n"
        "mov 48(%rbp),%rsi; mov 56(%rbp),%rdi; mov 64(%rbp),%r8; mov 72(%rbp),%r9; mov 80(%rbp),%r10\n"
        "mov 88(%rbp),%r11; mov 96(%rbp),%r12; mov 104(%rbp),%r13; mov 112(%rbp),%r14; mov 120(%rbp),%r15\n"
        "push 40(%rbp)\n"
        "push 136(%rbp)\n"
        "mov 8(%rsp),%rbp\n"
        "ret\n"
        ".globl native_back\nnative_back:\n"
        "mov %rbp,(%rsp)\n" /* where RBP came from */
        "lea native(%rip),%rbp\n"
        "mov %rax,0(%rbp); mov %rcx,8(%rbp); mov %rdx,16(%rbp); mov %rbx,24(%rbp)\n"
        "mov %rsi,48(%rbp); mov %rdi,56(%rbp); mov %r8,64(%rbp); mov %r9,72(%rbp); mov %r10,80(%rbp)\n"
        "mov %r11,88(%rbp); mov %r12,96(%rbp); mov %r13,104(%rbp); mov %r14,112(%rbp); mov %r15,120(%rbp)\n"
        "lahf; seto %al; movzx %ax,%eax; mov %rax,128(%rbp)\n"
        "pop 40(%rbp)\n"
        "mov $7,%eax; xor %edx,%edx\n"
        "xsave64 192(%rbp)\n"
        "fninit; vzeroupper\n"
        "ldmxcsr default_mxcsr(%rip)\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "ret\n"
        "default_mxcsr: .long 0x1f80\n");
extern char native_back[];
_Static_assert(offsetof(struct native, area) == 192 && offsetof(struct native, code) == 136, "see the assembly");

static sigjmp_buf escape;
static volatile int escape_mxcsr;

static void on_signal(int sig, siginfo_t *info, void *context)
{
    (void)info;
    ucontext_t *uc = context;
    escape_mxcsr = (int)uc->uc_mcontext.fpregs->mxcsr;
    siglongjmp(escape, sig);
}

static void catch_signals(void)
{
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigemptyset(&sa.sa_mask);
    sigaction(SIGFPE, &sa, NULL);
    sigaction(SIGILL, &sa, NULL);
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGTRAP, &sa, NULL);
}

/* 0, or the signal. */
static int run_native(const u8 *code, size_t n)
{
    static u8 *page;
    if (!page) page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, code, n);
    memcpy(page + n, "\xff\x25\0\0\0\0", 6); /* jmp [rip] */
    u64 back = (u64)(uintptr_t)native_back;
    memcpy(page + n + 6, &back, 8);
    native.code = page;
    int sig = sigsetjmp(escape, 1);
    if (sig == 0) native_run();
    return sig;
}

static bool host_has_avx(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

/* ---- random state ---- */

static u64 rng = 88172645463325252ull;
static u64 rnd(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    return rng ^= rng << 17;
}

static const u32 singles[] = {0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001,
                              1, 0x807fffff, 0x7f7fffff, 0x00800000, 0x4f000000, 0xcf000000, 0x3fc00000, 0x33800000};
static const u64 doubles[] = {0, 1ull << 63, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000, 0xfff0000000000000,
                              0x7ff8000000000000, 0x7ff0000000000001, 1, 0x7fefffffffffffff, 0x0010000000000000,
                              0x41e0000000000000, 0xc3e0000000000000, 0x3ff8000000000000, 0x36a0000000000001};

static void random_vector(u8 *p, unsigned n)
{
    for (unsigned k = 0; k < n; k += 8) {
        u64 v = rnd();
        switch (rnd() % 4) {
        case 0: v = (u64)singles[rnd() % ARRAY_LEN(singles)] | (u64)singles[rnd() % ARRAY_LEN(singles)] << 32; break;
        case 1: v = doubles[rnd() % ARRAY_LEN(doubles)]; break;
        case 2: v &= 0x3fffffff3fffffffull; break;
        default: break;
        }
        memcpy(p + k, &v, 8);
    }
}

static void random_st(u8 *slot)
{
    static const struct {
        u16 e;
        u64 m;
    } special[] = {{0, 0}, {0x8000, 0}, {0x3fff, 1ull << 63}, {0xbfff, 1ull << 63}, {0x7fff, 1ull << 63}, {0xffff, 1ull << 63},
                   {0x7fff, 3ull << 62}, {0x7fff, 0xa000000000000000}, {0, 1}, {0, 1ull << 63}, {0x4000, 1}, {0x7ffe, ~0ull},
                   {1, 1ull << 63}, {0x3ffe, 0xffffffffffffffff}, {0x401d, 0xfffffffe00000000}, {0x7fff, 0}, {0x4005, 0xc8 * 1ull << 56}};
    u16 e;
    u64 m;
    if (rnd() % 3 == 0) {
        unsigned k = rnd() % ARRAY_LEN(special);
        e = special[k].e, m = special[k].m;
    } else {
        e = (u16)(0x3fff - 40 + rnd() % 80) | (u16)(rnd() & 0x8000);
        m = rnd() | 1ull << 63;
        if (rnd() % 2) m &= ~0ull << (rnd() % 64);
        m |= 1ull << 63;
    }
    memset(slot, 0, 16);
    memcpy(slot, &m, 8);
    memcpy(slot + 8, &e, 2);
}

#define DATA 0x20000u /* guest address of the memory operand's page */

static void randomise(struct fixture *f, bool x87)
{
    struct cpu *cpu = f->cpu;
    u8 *l = cpu->fpu.legacy;
    for (unsigned n = 0; n < 16; n++) cpu->regs[n] = rnd() % 3 ? rnd() : rnd() % 40;
    cpu->aflags = (u16)((rnd() & 0xd500) | 0x200 | (rnd() & 1));
    memset(&cpu->fpu, 0, sizeof cpu->fpu);
    /* x87: valid values, a stack of any depth, no pending exception. */
    u16 cw = 0x37f, sw = 0;
    u8 tag = 0xff;
    if (x87) {
        cw = (u16)(0x40 | (rnd() & 0xf00) | (rnd() % 3 ? 0x3f : rnd() & 0x3f));
        sw = (u16)(rnd() & 0x7f3f & ~(u64)(~cw & 0x3f));
        if (rnd() % 2) sw &= 0x7f00;
        tag = (u8)(rnd() % 4 ? rnd() | rnd() | rnd() : rnd());
        if (rnd() % 2) tag = (u8)(0xff << (sw >> 11 & 7)); /* an ordinary stack */
    } else {
        sw = (u16)(rnd() & 0x7f00);
        tag = (u8)rnd();
    }
    memcpy(l, &cw, 2);
    memcpy(l + 2, &sw, 2);
    l[4] = tag;
    for (unsigned n = 0; n < 8; n++) {
        if (x87) random_st(l + 32 + 16 * n);
        else random_vector(l + 32 + 16 * n, 8);
    }
    static const u32 mxcsrs[] = {0x1f80, 0x1f80, 0x9fc0, 0x7f80, 0x3f80, 0x5fbf, 0x1e80, 0x1f00, 0x0f80, 0x0000, 0x1c00, 0x17a0};
    u32 mxcsr = mxcsrs[rnd() % ARRAY_LEN(mxcsrs)];
    memcpy(l + 24, &mxcsr, 4);
    random_vector(l + 160, 256);
    random_vector(cpu->fpu.ymm_high, 256);
    if (x87 && rnd() % 2) {
        u8 slot[16];
        random_st(slot);
        memcpy(f->host + DATA, slot, 16);
    } else {
        random_vector(f->host + DATA, 128);
    }
    if (x87 && rnd() % 4 == 0) /* packed BCD digits */
        for (unsigned k = 0; k < 10; k++) f->host[DATA + k] = (u8)(rnd() % 10 << 4 | rnd() % 10);
}

/* ---- comparison ---- */

static void print_code(const u8 *code, size_t n, const char *name)
{
    fprintf(stderr, "%s:", name);
    for (size_t k = 0; k < n; k++) fprintf(stderr, " %02x", code[k]);
    fprintf(stderr, "\n");
}

static bool differs(const char *what, const void *guest, const void *host, size_t n)
{
    if (!memcmp(guest, host, n)) return false;
    fprintf(stderr, "  %s guest:", what);
    for (size_t k = 0; k < n; k++) fprintf(stderr, "%02x", ((const u8 *)guest)[k]);
    fprintf(stderr, " host:");
    for (size_t k = 0; k < n; k++) fprintf(stderr, "%02x", ((const u8 *)host)[k]);
    fprintf(stderr, "\n");
    return true;
}

/* Leave random exception flags in the host's x87: they are nobody's business. */
static void dirty_host_flags(void)
{
    u8 env[28];
    __asm__ volatile("fnstenv %0" : "=m"(env));
    env[4] = (u8)(rnd() & 0x3f);
    __asm__ volatile("fldenv %0" : : "m"(env));
}

static unsigned compared, with_exception;
static u8 native_bv = 7; /* components that are not in their initial configuration */

/* Run code (with its memory operand at [rbx]) on both sides. `offset`: of the operand from the page. */
static bool same(struct fixture *f, const struct insn *i, const u8 *code, size_t n, unsigned offset)
{
    static u8 buffer[4096] __attribute__((aligned(4096)));
    struct cpu *cpu = f->cpu;
    bool x87 = i->opcode->attr & ATTR_X87, bad = false;
    memcpy(buffer, f->host + DATA, 1024);
    cpu->regs[R_BX] = cpu->regs[R_DI] = DATA + offset;

    memset(&native, 0, sizeof native);
    memcpy(native.regs, cpu->regs, sizeof native.regs);
    native.regs[R_BX] = native.regs[R_DI] = (u64)(uintptr_t)buffer + offset;
    native.aflags = cpu->aflags;
    memcpy(native.area, cpu->fpu.legacy, 464);
    native.area[512] = native_bv;
    memcpy(native.area + 576, cpu->fpu.ymm_high, 256);
    struct xsave_area before = cpu->fpu;
    int sig = run_native(code, n);
    if (x87) dirty_host_flags();
    bool ok = run_code(cpu, code, n);
    compared++;

    if (sig) {
        with_exception++;
        int want = sig == SIGFPE ? EXC_XM : sig == SIGILL ? EXC_UD : EXC_GP;
        if (ok || cpu->exc.vector != want) {
            fprintf(stderr, "  signal %d, guest ok %d exception %d\n", sig, ok, cpu->exc.vector);
            bad = true;
        }
        if (sig == SIGFPE) memcpy(before.legacy + 24, (const int *)&escape_mxcsr, 4);
        bad |= differs("legacy", cpu->fpu.legacy, before.legacy, 416);
        bad |= differs("ymm_high", cpu->fpu.ymm_high, before.ymm_high, 256);
        if (bad) print_code(code, n, i->opcode->name);
        return !bad;
    }
    if (!ok) {
        fprintf(stderr, "  guest exception %d\n", cpu->exc.vector);
        bad = true;
    }
    const u8 *g = cpu->fpu.legacy, *h = native.area;
    bad |= differs("cw sw tag", g, h, 6);
    if (x87 && cpu->exc.vector < 0) {
        bool control = i->mnemonic == I_fwait || i->mnemonic == I_fneni || i->mnemonic == I_fndisi ||
                       i->mnemonic == I_fnsetpm || i->mnemonic == I_fnclex || i->mnemonic == I_fninit ||
                       i->mnemonic == I_fnstsw || i->mnemonic == I_fldcw || i->mnemonic == I_fnstcw;
        bool loads = i->mnemonic == I_fldenv || i->mnemonic == I_frstor || i->mnemonic == I_fxrstor;
        u64 ip;
        memcpy(&ip, h + 8, 8);
        if (ip && !loads) ip = INSN_RIP; /* the host's is the code page */
        if (control) cr_expect(ip == 0, "%s changes FIP on the host", i->opcode->name);
        bad |= differs("fip", g + 8, &ip, 8);
        bad |= differs("fop", g + 6, h + 6, 2);
    }
    bad |= differs("mxcsr", g + 24, h + 24, 4);
    bad |= differs("st", g + 32, h + 32, 128);
    for (unsigned r = 0; r < 16; r++) {
        char name[8];
        snprintf(name, sizeof name, "ymm%u", r);
        u8 gy[32], hy[32];
        memcpy(gy, g + 160 + 16 * r, 16);
        memcpy(hy, h + 160 + 16 * r, 16);
        memcpy(gy + 16, cpu->fpu.ymm_high + 16 * r, 16);
        memcpy(hy + 16, h + 576 + 16 * r, 16);
        bad |= differs(name, gy, hy, 32);
        if (r == R_SP || r == R_BX || r == R_DI) continue;
        snprintf(name, sizeof name, "r%u", r);
        bad |= differs(name, &cpu->regs[r], &native.regs[r], 8);
    }
    u16 aflags = (u16)native.aflags;
    bad |= differs("aflags", &cpu->aflags, &aflags, 2);
    bad |= differs("memory", f->host + DATA, buffer, 1024);
    if (bad) print_code(code, n, i->opcode->name);
    if (bad && x87) {
        fprintf(stderr, "  before:");
        for (unsigned k = 0; k < 160; k++) fprintf(stderr, "%s%02x", k % 16 ? "" : "\n    ", before.legacy[k]);
        fprintf(stderr, "\n");
    }
    return !bad;
}

static unsigned rounds(unsigned normal)
{
    const char *v = getenv("CALQUE_ORACLE_COUNT");
    return v ? (unsigned)strtoul(v, NULL, 0) : normal;
}

/* ---- vectors ---- */

/* Encode: vex 0 legacy, 1 VEX. ModRM register or [rbx]. Returns the length. */
static size_t encode(u8 *c, bool vex, unsigned map, unsigned pp, unsigned code, bool w, bool l, bool mem, unsigned reg_ext,
                     bool vsib)
{
    static const u8 prefix[4] = {0, 0x66, 0xf3, 0xf2};
    size_t n = 0;
    unsigned reg = reg_ext < 8 ? reg_ext : (unsigned)(rnd() & 15), rm = mem ? 3 : (unsigned)(rnd() & 15), v = (unsigned)(rnd() & 15);
    unsigned x = (unsigned)(rnd() & 15);
    if (reg == 4 || reg == 3 || reg == 7) reg += reg_ext < 8 ? 0 : 8; /* may be a GPR: neither RSP nor the pointers */
    if (!mem && (rm == 4 || rm == 3 || rm == 7)) rm += 8;
    if (rnd() % 2) v = 0;
    if (vex) {
        c[n++] = 0xc4;
        c[n++] = (u8)((reg < 8) << 7 | (vsib ? x < 8 : 1) << 6 | (rm < 8) << 5 | map);
        c[n++] = (u8)(w << 7 | (~v & 15) << 3 | l << 2 | pp);
    } else {
        if (pp) c[n++] = prefix[pp];
        unsigned rex = 0x40u | (unsigned)w << 3 | (reg >> 3) << 2 | rm >> 3;
        if (rex != 0x40) c[n++] = (u8)rex;
        c[n++] = 0x0f;
        if (map == 2) c[n++] = 0x38;
        if (map == 3) c[n++] = 0x3a;
    }
    c[n++] = (u8)code;
    c[n++] = (u8)((mem ? 0 : 0xc0) | (reg & 7) << 3 | (vsib ? 4 : rm & 7));
    if (vsib) c[n++] = (u8)((rnd() & 3) << 6 | (x & 7) << 3 | 3);
    c[n++] = (u8)rnd(); /* an immediate, when there is one */
    return n;
}

static bool state_insn(unsigned m)
{
    return m == I_fxsave || m == I_fxrstor || m == I_ldmxcsr || m == I_vldmxcsr || (m >= I_xsave && m <= I_xrstors) ||
           m == I_movntss || m == I_movntsd;
}

/* Every opcode of the three maps, `count` times in each form. Returns failures. */
static unsigned fuzz_vectors(struct fixture *f, bool vex, unsigned count)
{
    unsigned failures = 0;
    for (unsigned map = 1; map <= 3; map++)
    for (unsigned code = 0; code < 256; code++)
    for (unsigned pp = 0; pp < 4; pp++)
    for (unsigned form = 0; form < (vex ? 8u : 4u); form++)
    for (unsigned ext = 0; ext < 8; ext++) {
        bool w = form & 1, mem = form & 2, l = form & 4;
        bool group = map == 1 && ((code >= 0x71 && code <= 0x73) || code == 0xae);
        if (ext && !group) break;
        bool gathers = vex && map == 2 && code >= 0x90 && code <= 0x93;
        for (unsigned k = 0; k < count * (vex ? 2 : 1); k++) {
            u8 c[16];
            size_t n = encode(c, vex, map, pp, code, w, l, mem, group ? ext : 8, gathers);
            struct insn i;
            int len = decode(&i, c, n, CODE_64);
            if (len <= 0 || i.map != map || i.code != code || !(i.opcode->attr & (ATTR_MMX | ATTR_SSE | ATTR_AVX)) || state_insn(i.mnemonic)) continue;
            if (!f->model->has[i.opcode->feature]) continue;
            randomise(f, false);
            if (gathers) /* small indices */
                for (unsigned r = 0; r < 4; r++) {
                    u8 *at = (r < 2 ? f->cpu->fpu.legacy + 160 : f->cpu->fpu.ymm_high) + 16 * (i.index & 15) + 8 * (r & 1);
                    u64 small = (rnd() & 7) | (i.code & 1 ? 0 : (rnd() & 7) << 32);
                    memcpy(at, &small, 8);
                }
            unsigned offset = k % 4 == 3 && !gathers ? (unsigned)rnd() % 33 : 64 & (0 - (unsigned)(rnd() & 1));
            if (!same(f, &i, c, (size_t)len, offset)) failures++;
            if (failures > 20) return failures;
        }
    }
    return failures;
}

Test(fpu_native, sse_and_mmx)
{
    struct fixture f;
    if (!host_has_avx()) cr_skip_test("the host has no AVX");
    catch_signals();
    fixture_open(&f, CODE_64);
    cr_expect_eq(fuzz_vectors(&f, false, rounds(24)), 0);
    fprintf(stderr, "sse, mmx: %u compared, %u with exceptions\n", compared, with_exception);
    cr_expect_gt(compared, 10000u);
    cr_expect_gt(with_exception, 100u);
    fixture_close(&f);
}

Test(fpu_native, avx)
{
    struct fixture f;
    catch_signals();
    fixture_open(&f, CODE_64);
    if (!host_has_avx()) cr_skip_test("the host has no AVX");
    for (unsigned n = FEAT_AVX; n <= FEAT_GFNI; n++) f.model->has[n] = true; /* what it lacks is #UD on both sides */
    cr_expect_eq(fuzz_vectors(&f, true, rounds(12)), 0);
    fprintf(stderr, "avx: %u compared, %u with exceptions\n", compared, with_exception);
    cr_expect_gt(compared, 10000u);
    fixture_close(&f);
}

/* ---- x87 ---- */

Test(fpu_native, x87)
{
    struct fixture f;
    if (!host_has_avx()) cr_skip_test("the host has no AVX");
    catch_signals();
    fixture_open(&f, CODE_64);
    unsigned failures = 0;
    for (unsigned code = 0xd8; code <= 0xdf; code++)
    for (unsigned modrm = 0; modrm < 256 && failures < 20; modrm++) {
        if (modrm < 0xc0 && ((modrm & 7) != 3 || modrm >= 0x40)) continue;
        u8 c[2] = {(u8)code, (u8)modrm};
        struct insn i;
        if (decode(&i, c, 2, CODE_64) != 2) continue;
        /* Environments hold the host's own pointers: see fpu_x87.c. */
        if (i.mnemonic == I_fnstenv || i.mnemonic == I_fnsave || i.mnemonic == I_fldenv || i.mnemonic == I_frstor) continue;
        for (unsigned k = 0; k < rounds(150) && failures < 20; k++) {
            randomise(&f, true);
            if (!same(&f, &i, c, 2, (unsigned)rnd() % 33)) failures++;
        }
    }
    fprintf(stderr, "x87: %u compared\n", compared);
    cr_expect_eq(failures, 0);
    cr_expect_gt(compared, 10000u);
    fixture_close(&f);
}

/* ---- saving and restoring ---- */

static size_t code_of(u8 *c, bool w, u8 a, u8 b, u8 modrm)
{
    size_t n = 0;
    if (w) c[n++] = 0x48;
    c[n++] = a;
    if (a == 0x0f) c[n++] = b;
    c[n++] = modrm;
    return n;
}

Test(fpu_native, environment)
{
    struct fixture f;
    if (!host_has_avx()) cr_skip_test("the host has no AVX");
    catch_signals();
    fixture_open(&f, CODE_64);
    unsigned failures = 0;
    static const struct {
        u8 code, modrm;
        bool loads, whole;
    } cases[] = {{0xd9, 0x33, false, false}, {0xd9, 0x23, true, false}, {0xdd, 0x33, false, true}, {0xdd, 0x23, true, true}};
    for (unsigned k = 0; k < rounds(2000) && failures < 10; k++) {
        unsigned n = (unsigned)rnd() % ARRAY_LEN(cases);
        bool small = rnd() & 1;
        u8 c[4] = {0x66, cases[n].code, cases[n].modrm};
        struct insn i;
        int len = decode(&i, c + !small, 2u + small, CODE_64);
        cr_assert_eq(len, 2 + small);
        randomise(&f, true);
        u8 *m = f.host + DATA;
        for (unsigned b = 0; b < 128; b++) m[b] = (u8)rnd();
        if (cases[n].loads) {
            unsigned size = small ? 14 : 28;
            if (cases[n].whole)
                for (unsigned r = 0; r < 8; r++) {
                    u8 slot[16];
                    random_st(slot);
                    memcpy(m + size + 10 * r, slot, 10);
                }
            /* Selectors are not kept by this host when it says so; the pointers are. */
        }
        if (!same(&f, &i, c + !small, (size_t)len, 0)) failures++;
    }
    cr_expect_eq(failures, 0);
    fixture_close(&f);
}

Test(fpu_native, fxsave_xsave)
{
    struct fixture f;
    catch_signals();
    fixture_open(&f, CODE_64);
    if (!host_has_avx()) cr_skip_test("the host has no AVX");
    unsigned failures = 0;
    static const struct {
        u8 b, modrm;
    } cases[] = {{0xae, 0x03}, {0xae, 0x0b}, {0xae, 0x23}, {0xae, 0x2b}, {0xae, 0x33}, {0xc7, 0x23}, {0xae, 0x2b}, {0xae, 0x2b}};
    for (unsigned k = 0; k < rounds(8000) && failures < 10; k++) {
        unsigned n = (unsigned)rnd() % ARRAY_LEN(cases);
        bool w = rnd() & 1;
        u8 c[4];
        size_t len = code_of(c, w, 0x0f, cases[n].b, cases[n].modrm);
        struct insn i;
        cr_assert_eq(decode(&i, c, len, CODE_64), (int)len);
        randomise(&f, true);
        struct xsave_area *a = &f.cpu->fpu;
        native_bv = (u8)(rnd() % 2 ? 7 : rnd() & 7);
        u32 mxcsr = rnd() % 2 ? 0x1f80 : 0x9fc0;
        memcpy(a->legacy + 24, &mxcsr, 4);
        if (!(native_bv & 1)) {
            memset(a->legacy, 0, 24);
            memset(a->legacy + 32, 0, 128);
            a->legacy[0] = 0x7f, a->legacy[1] = 3;
        }
        if (!(native_bv & 2)) memset(a->legacy + 160, 0, 256);
        if (!(native_bv & 4)) memset(a->ymm_high, 0, 256);
        f.cpu->regs[R_AX] = rnd() % 4 ? rnd() & 7 : ~0ull;
        f.cpu->regs[R_DX] = 0;
        if (f.cpu->regs[R_AX] & 8) f.cpu->regs[R_AX] = 7; /* the host has more components */

        u8 *m = f.host + DATA;
        for (unsigned b = 0; b < 1024; b += 8) memcpy(m + b, &(u64){rnd()}, 8);
        for (unsigned r = 0; r < 8; r++) random_st(m + 32 + 16 * r);
        m[13] = 0x12, m[14] = m[15] = 0, m[21] = 0x34, m[22] = m[23] = 0; /* canonical pointers */
        memset(m + 28, 0xff, 2);
        if (rnd() % 8) memcpy(m + 24, &(u32){(u32)rnd() & 0xffff}, 4);
        if (rnd() % 8) {
            memset(m + 512, 0, 64);
            m[512] = (u8)(rnd() & 7);
            if (rnd() % 2) {
                m[520] = (u8)(rnd() % 4 ? 7 : rnd() & 7);
                m[527] = 0x80;
            }
            if (rnd() % 4 == 0) m[512 + rnd() % 64] ^= (u8)(1u << (rnd() & 7));
            m[512] &= 7, m[520] &= 7, m[513] = m[514] = m[521] = m[522] = 0;
        }
        unsigned offset = rnd() % 8 ? 0 : (unsigned)rnd() % 64;
        if (!same(&f, &i, c, len, offset)) failures++;
    }
    native_bv = 7;
    fprintf(stderr, "fxsave, xsave: %u compared, %u with exceptions\n", compared, with_exception);
    cr_expect_eq(failures, 0);
    cr_expect_gt(with_exception, 100u);
    fixture_close(&f);
}

/* When the table of operations is full, instructions still run (and right). */
Test(fpu_native, more_operations_than_the_table_holds)
{
    struct fixture f;
    catch_signals();
    fixture_open(&f, CODE_64);
    if (!host_has_avx()) cr_skip_test("the host has no AVX");
    /* Instructions with an immediate: map, opcode, prefix. */
    static const u8 with_imm[][3] = {{1, 0x70, 1}, {1, 0x70, 2}, {1, 0x70, 3}, {1, 0xc2, 0}, {1, 0xc2, 1}, {1, 0xc2, 2},
                                     {1, 0xc2, 3}, {1, 0xc6, 0}, {1, 0xc6, 1}, {3, 0x0f, 1}, {3, 0x0e, 1}, {3, 0x0d, 1},
                                     {3, 0x0c, 1}, {3, 0x08, 1}, {3, 0x09, 1}, {3, 0x0a, 1}, {3, 0x0b, 1}, {3, 0x42, 1},
                                     {3, 0x40, 1}, {3, 0x21, 1}, {3, 0x44, 1}, {3, 0x60, 1}, {3, 0x61, 1}, {3, 0x62, 1},
                                     {3, 0x63, 1}, {3, 0xdf, 1}};
    unsigned failures = 0, cached = 0, uncached = 0;
    exec_fn *last = NULL;
    for (unsigned vex = 0; vex < 2; vex++)
    for (unsigned k = 0; k < ARRAY_LEN(with_imm); k++)
    for (unsigned form = 0; form < (vex ? 8u : 4u); form++)
    for (unsigned imm = 0; imm < 256 && failures < 10; imm++) {
        u8 c[16];
        size_t n = encode(c, vex, with_imm[k][0], with_imm[k][2], with_imm[k][1], form & 1, form & 4, form & 2, 8, false);
        c[n - 1] = (u8)imm;
        struct insn i;
        if (decode(&i, c, n, CODE_64) != (int)n) continue;
        exec_fn *fn = exec_select_fpu(&i);
        if (fn == last) uncached++; /* one handler for all of them */
        else cached++;
        last = fn;
        if (imm % 16) continue;
        randomise(&f, false);
        if (!same(&f, &i, c, n, 0)) failures++;
    }
    fprintf(stderr, "table: %u cached, %u not\n", cached, uncached);
    cr_expect_eq(failures, 0);
    cr_expect_gt(cached, 20000u);
    cr_expect_gt(uncached, 1000u);
    fixture_close(&f);
}
