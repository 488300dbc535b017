// build/tests/test_decode_host
/* The decoder against the host CPU: is a random byte string an instruction, and how long is it, in 64-, 32-
 * and 16-bit code?
 *
 * A string is put at the very end of a page that the next, non-executable one follows, and single-stepped: a
 * fetch fault on the second page means that the CPU wants more bytes, #UD means that there is no such
 * instruction, anything else that there is. Undefined for one side only is fine where a feature makes it so:
 * feature_gap(). CALQUE_ORACLE_COUNT and CALQUE_ORACLE_SEED as in decode_capstone.c. x86-64 Linux hosts with
 * FSGSBASE only; elsewhere the test is skipped. */
#include <criterion/criterion.h>

#if defined(__x86_64__) && defined(__linux__)

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "cpu/decode.h"

enum { PAGE = 4096, TRAP_UD = 6, TRAP_PF = 14, PF_FETCH = 16, GREG_RIP = 16, GREG_EFL = 17, GREG_CS = 18 };
enum { SEL_CODE64 = 0x33, SEL_CODE32 = 0x23, SEL_DATA = 0x2b, SEL_CODE16 = 0x07, SEL_DATA16 = 0x0f };

/* What the signal handler works with. */
static struct {
    u8 *page;    /* code; the page behind it is not executable */
    u64 fs_base; /* of this thread: tested code may change it */
    u64 rip;     /* where to start */
    u16 cs, data;
    volatile bool running;
    gregset_t saved; /* the test's own registers */
    volatile int trap, error;
    volatile u64 cr2, fault_rip;
} probe;

/* First called by the UD2 in run_probe(): starts the tested instruction. Then by what that led to: goes back.
 */
__attribute__((target("fsgsbase"), optimize("no-stack-protector"))) static void
on_signal(int sig, siginfo_t *info, void *context)
{
    __asm__ volatile("wrfsbase %0" : : "r"(probe.fs_base));
    (void)sig;
    (void)info;
    ucontext_t *uc = context;
    greg_t *g = uc->uc_mcontext.gregs;
    u16 data;
    if (!probe.running) {
        probe.running = true;
        for (int k = 0; k < NGREG; k++)
            probe.saved[k] = g[k];
        for (int k = 0; k < GREG_RIP; k++)
            g[k] = 0;
        g[GREG_RIP] = (greg_t)probe.rip;
        g[GREG_EFL] = 0x302; /* TF */
        g[GREG_CS] = (greg_t)(probe.cs | (u64)probe.data << 48);
        data = probe.data;
    } else {
        probe.running = false;
        probe.trap = (int)g[20];
        probe.error = (int)g[19];
        probe.cr2 = (u64)g[22];
        probe.fault_rip = (u64)g[GREG_RIP];
        for (int k = 0; k < NGREG; k++)
            g[k] = probe.saved[k];
        g[GREG_RIP] += 2;
        data = SEL_DATA;
    }
    uc->uc_flags |= 6; /* restore SS as given */
    uc->uc_mcontext.fpregs->cwd = 0x37f;
    uc->uc_mcontext.fpregs->swd = 0;
    uc->uc_mcontext.fpregs->ftw = 0;
    uc->uc_mcontext.fpregs->mxcsr = 0x1f80;
    __asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" : : "r"((u32)data));
    /* Nothing of ours within reach of FS:[displacement]. */
    if (probe.running) __asm__ volatile("wrfsbase %0" : : "r"(0ull));
}

enum verdict { HOST_UD, HOST_OK, HOST_MORE };

static enum verdict run_probe(const u8 *bytes, unsigned n, enum code_size mode)
{
    memcpy(probe.page + PAGE - n, bytes, n);
    probe.rip = mode == CODE_16 ? PAGE - n : (u64)(uintptr_t)probe.page + PAGE - n;
    probe.cs = mode == CODE_64 ? SEL_CODE64 : mode == CODE_32 ? SEL_CODE32 : SEL_CODE16;
    probe.data = mode == CODE_16 ? SEL_DATA16 : SEL_DATA;
    __asm__ volatile("ud2"
                     :
                     :
                     : "memory", "cc", "rax", "rcx", "rdx", "rbx", "rsi", "rdi", "r8", "r9", "r10", "r11",
                       "r12", "r13", "r14", "r15");
    if (probe.trap == TRAP_UD) return HOST_UD;
    if (probe.trap == TRAP_PF && (probe.error & PF_FETCH) && probe.cr2 == (u64)(uintptr_t)probe.page + PAGE &&
        probe.fault_rip == probe.rip)
        return HOST_MORE;
    return HOST_OK;
}

/* False when the host cannot do it. */
static bool prepare(void)
{
    if (!(getauxval(AT_HWCAP2) & 2)) return false; /* FSGSBASE */
    void *want = (void *)(uintptr_t)0x20000000;    /* 32-bit code must reach it */
    probe.page = mmap(want, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (probe.page != want || mprotect(probe.page + PAGE, PAGE, PROT_READ | PROT_WRITE)) return false;
    memset(probe.page, 0x90, PAGE);
    syscall(SYS_arch_prctl, ARCH_GET_FS, &probe.fs_base);
    struct user_desc code = {
        .entry_number = 0, .base_addr = 0x20000000, .limit = 0xffff, .contents = MODIFY_LDT_CONTENTS_CODE};
    struct user_desc data = {.entry_number = 1, .limit = 0xfffff, .limit_in_pages = 1};
    if (syscall(SYS_modify_ldt, 1, &code, sizeof code) || syscall(SYS_modify_ldt, 1, &data, sizeof data))
        return false;
    /* SYSCALL, INT 80h with zeroed registers mean read(0): give it nothing to wait for. */
    int null = open("/dev/null", O_RDONLY);
    if (null < 0 || dup2(null, 0) < 0) return false;
    static u8 stack[1 << 17];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaltstack(&alt, NULL);
    static const int signals[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP};
    for (size_t k = 0; k < ARRAY_LEN(signals); k++)
        sigaction(signals[k], &action, NULL);
    return true;
}

/* Features that the host may lack, or that user code cannot use: our instruction may be #UD there. */
static bool host_may_lack(const struct insn *i)
{
    switch (i->opcode->feature) {
    case FEAT_SSE4A:
    case FEAT_VMX:
    case FEAT_SVM:
    case FEAT_SMM:
    case FEAT_MONITOR:
    case FEAT_SMAP:
    case FEAT_PKU:
    case FEAT_WAITPKG:
    case FEAT_RTM:
    case FEAT_SYSCALL:
    case FEAT_MOVDIRI:
    case FEAT_MOVDIR64B:
    case FEAT_SERIALIZE:
    case FEAT_GFNI:
    case FEAT_VAES:
    case FEAT_VPCLMUL:
    case FEAT_SHA:
    case FEAT_AVX:
    case FEAT_AVX2:
    case FEAT_FMA:
    case FEAT_F16C:
    case FEAT_BMI1:
    case FEAT_BMI2:
    case FEAT_ADX:
    case FEAT_RDPID:
    case FEAT_INVPCID:
    case FEAT_XSAVES:
    case FEAT_XSAVEC:
    case FEAT_XSAVEOPT:
    case FEAT_RDSEED:
    case FEAT_CX16:
    case FEAT_AES:
    case FEAT_PCLMUL:
    case FEAT_LAHF64: break;
    default: return i->mnemonic == I_ud0 || i->mnemonic == I_ud1 || i->mnemonic == I_ud2;
    }
    /* But where the host has the feature, it decides. */
    switch (i->opcode->feature) {
    case FEAT_AVX: return !__builtin_cpu_supports("avx");
    case FEAT_AVX2: return !__builtin_cpu_supports("avx2");
    case FEAT_FMA: return !__builtin_cpu_supports("fma");
    case FEAT_BMI1: return !__builtin_cpu_supports("bmi");
    case FEAT_BMI2: return !__builtin_cpu_supports("bmi2");
    case FEAT_AES: return !__builtin_cpu_supports("aes");
    case FEAT_PCLMUL: return !__builtin_cpu_supports("pclmul");
    case FEAT_GFNI: return !__builtin_cpu_supports("gfni");
    case FEAT_VPCLMUL: return !__builtin_cpu_supports("vpclmulqdq");
    default: return true;
    }
}

/* Encodings of features that Calque leaves out and the host may have. */
static bool we_lack(const struct insn *i, const u8 *bytes)
{
    bool vex = i->prefixes & PFX_VEX;
    if (vex) {
        /* AVX-512 masks, AVX-VNNI, AVX-IFMA, AVX-NE-CONVERT, AMX and what else came later than AVX2 */
        if (i->map == 1) return (i->code >= 0x41 && i->code <= 0x4b) || (i->code >= 0x90 && i->code <= 0x99);
        if (i->map == 2)
            return (i->code >= 0x48 && i->code <= 0x5f) || i->code >= 0xb0 || i->code == 0x72 ||
                   i->code == 0x6c;
        return i->code >= 0x30 && i->code <= 0x33;
    }
    for (unsigned k = 0; k < 15; k++) {
        if (bytes[k] == 0x62) return true; /* EVEX, or a void guess at it: never BOUND, which we know */
        if (bytes[k] == 0x0f) break;
    }
    if (i->map == 2)
        return i->code == 0xf8 || i->code >= 0xd8 || i->code == 0xf9; /* ENQCMD, key locker, ... */
    /* TDX, SGX, TSXLDTRK, user interrupts, PTWRITE, CET. */
    return i->map == 1 && (i->code == 0x01 || i->code == 0xae || i->code == 0xc7);
}

static u32 random_next(u64 *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (u32)(*state >> 16);
}

/* Any prefixes in any order, every map. */
static void random_code(u64 *st, u8 bytes[16])
{
    static const u8 prefixes[] = {0x66, 0x66, 0x66, 0xf2, 0xf2, 0xf3, 0xf3, 0x67,
                                  0xf0, 0x2e, 0x3e, 0x26, 0x36, 0x64, 0x65, 0x67};
    unsigned n = 0, k = random_next(st) % 8,
             count = k < 4   ? 0
                     : k < 6 ? 1
                     : k < 7 ? 2
                             : 3,
             map = random_next(st) % 8;
    while (count--)
        bytes[n++] = prefixes[random_next(st) % 16];
    if (random_next(st) % 3 == 0) bytes[n++] = 0x40 | (random_next(st) & 15);
    if (map >= 2 && map < 6) bytes[n++] = 0x0f;
    if (map == 4) bytes[n++] = 0x38;
    if (map == 5) bytes[n++] = 0x3a;
    if (map >= 6) bytes[n++] = map == 6 ? 0xc5 : 0xc4;
    if (map == 7) bytes[n++] = (u8)((random_next(st) & 0xe0) | (1 + random_next(st) % 3));
    if (map >= 6) bytes[n++] = (u8)(random_next(st) % 2 ? random_next(st) : random_next(st) | 0x78);
    while (n < 16)
        bytes[n++] = (u8)random_next(st);
}

static bool agrees(const struct insn *i, int length, const u8 *bytes, enum code_size mode)
{
    if (length <= 0) return run_probe(bytes, 15, mode) == HOST_UD || we_lack(i, bytes);
    enum verdict whole = run_probe(bytes, (unsigned)length, mode);
    if (whole == HOST_UD) return host_may_lack(i);
    if (whole != HOST_OK || length == 1) return whole == HOST_OK;
    enum verdict part = run_probe(bytes, (unsigned)length - 1, mode);
    return part == HOST_MORE || (part == HOST_UD && host_may_lack(i));
}

static u64 environment(const char *name, u64 otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

Test(decode_host, random_strings, .timeout = 3600)
{
    if (!prepare()) cr_skip_test("needs FSGSBASE and modify_ldt()");
    u64 seed = environment("CALQUE_ORACLE_SEED", 0x123456789abcdefull),
        count = environment("CALQUE_ORACLE_COUNT", 100000);
    unsigned failures = 0;
    for (u64 k = 0; k < count && failures < 50; k++) {
        u8 bytes[16];
        random_code(&seed, bytes);
        enum code_size mode = (enum code_size)(random_next(&seed) % 3);
        struct insn i;
        int length = decode(&i, bytes, 15, mode);
        if (length < 0 || agrees(&i, length, bytes, mode)) continue;
        char hex[64] = "", name[32] = "-";
        for (int b = 0; b < 15; b++)
            snprintf(hex + b * 3, 4, "%02x ", bytes[b]);
        if (length > 0) insn_name(&i, name, sizeof name);
        cr_log_error("mode %d: %s: %d %s (host: trap %d)", 16 << mode, hex, length, name, probe.trap);
        failures++;
    }
    cr_assert_eq(failures, 0);
}

#else

Test(decode_host, random_strings) { cr_skip_test("the host is no x86-64 Linux"); }

#endif
