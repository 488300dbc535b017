// build/tests/test_decode_capstone
/* The decoder against Capstone 4: lengths, validity and names of random byte strings in the three modes, and
 * of the code of installed binaries. CALQUE_ORACLE_COUNT sets the number of random strings (default:
 * 1,000,000), CALQUE_ORACLE_SEED the seed.
 *
 * Capstone is wrong, or older, in the cases that known_difference() names. Where the two disagree, the manual
 * and the host CPU decide (see decode_host.c, which has no such list but for features the host lacks). */
#include <capstone/capstone.h>
#include <criterion/criterion.h>
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cpu/decode.h"

/* One comparison. */
struct sample {
    enum code_size mode;
    const u8 *bytes;
    struct insn insn;
    int length; /* ours; <= 0: invalid */
    bool known; /* to Capstone */
    int cs_length;
    char name[32];
    char cs_name[CS_MNEMONIC_SIZE];
};

/* The number of prefixes, REX included; the opcode is bytes[that]. */
static unsigned prefix_count(const struct sample *s)
{
    unsigned k = 0;
    for (; k < 15; k++) {
        u8 b = s->bytes[k];
        bool prefix = b == 0x66 || b == 0x67 || b == 0xf0 || b == 0xf2 || b == 0xf3 || b == 0x2e ||
                      b == 0x3e || b == 0x26 || b == 0x36 || b == 0x64 || b == 0x65 ||
                      (s->mode == CODE_64 && (b & 0xf0) == 0x40);
        if (!prefix) break;
    }
    return k;
}

static bool has_prefix(const struct sample *s, u8 which) { return memchr(s->bytes, which, prefix_count(s)); }

static bool is_one_of(const char *name, const char *const *list)
{
    for (; *list; list++) {
        if (!strcmp(name, *list)) return true;
    }
    return false;
}

static bool starts(const char *s, const char *with) { return !strncmp(s, with, strlen(with)); }

/* Combinations of prefixes: Capstone forgets one of them, or takes a REX that is not next to the opcode. */
static const char several[] = "several prefixes";

/* Why Capstone accepts what is undefined. */
static const char *known_extra(const struct sample *s)
{
    static const char *const prefix64[] = {"swapgs", "rdfsbase", "rdgsbase", "wrfsbase", "wrgsbase", NULL};
    static const char *const sgx[] = {"encls", "enclu", NULL};
    static const char *const padlock[] = {"montmul", "xsha1", "xsha256", "xstore", NULL};
    const struct insn *i = &s->insn;
    const char *n = s->cs_name;
    bool vex = i->prefixes & PFX_VEX;
    unsigned prefixes = prefix_count(s);
    bool vex_prefix = prefixes < 14 && (s->bytes[prefixes] & 0xfe) == 0xc4 &&
                      (s->mode == CODE_64 || s->bytes[prefixes + 1] >= 0xc0);
    if (vex_prefix && prefixes) return "VEX behind 66, F2, F3, LOCK or REX";
    if (has_prefix(s, 0xf0)) return "LOCK where it is not allowed";
    if (i->map == 1 && !vex && (i->code == 0x0e || i->code == 0x0f)) return "3DNow!";
    if (i->map == 0 && !vex && i->code == 0x8f) return "XOP";
    if (i->map == 0 && !vex && i->code == 0x62) return "EVEX";
    if (vex && i->map == 3 && i->code >= 0x48 && i->code <= 0x7f && i->code != 0x4a && i->code != 0x4b &&
        i->code != 0x4c)
        return "FMA4, XOP";
    if (vex && n[0] == 'k') return "AVX-512 mask instructions";
    if (starts(n, "xcrypt") || starts(n, "xstore") || is_one_of(n, padlock)) return "VIA PadLock";
    if (is_one_of(n, sgx)) return "SGX";
    if (is_one_of(n, prefix64) && s->mode != CODE_64) return "64-bit mode only";
    if (i->map == 1 && !vex && i->code >= 0x20 && i->code <= 0x23)
        return "control and debug registers that do not exist";
    if (i->map == 0 && (i->code == 0x8e || i->code == 0x8c)) return "no MOV CS, no segment registers 6 and 7";
    if (vex && i->map == 2 && i->code >= 0x90 && i->code <= 0x93)
        return "gathers without SIB, or with a register used twice";
    if (vex) return "VEX.W and VEX.vvvv of instructions that reserve them"; /* the host agrees with us */
    if (i->map >= 1 && (has_prefix(s, 0x66) || has_prefix(s, 0xf2) || has_prefix(s, 0xf3)))
        return "mandatory prefix of another instruction (NP)";
    if (i->map >= 1 && has_prefix(s, 0x67) && s->mode == CODE_64) return "67 taken for 66 next to REX";
    return NULL;
}

/* Why Capstone does not know it. */
static const char *known_missing(const struct sample *s)
{
    static const char *const newer[] = {"movdiri",
                                        "movdir64b",
                                        "gf2p8mulb",
                                        "gf2p8affineqb",
                                        "gf2p8affineinvqb",
                                        "vgf2p8mulb",
                                        "vgf2p8affineqb",
                                        "vgf2p8affineinvqb",
                                        "vaesenc",
                                        "vaesenclast",
                                        "vaesdec",
                                        "vaesdeclast",
                                        "vpclmulqdq",
                                        "umonitor",
                                        "umwait",
                                        "tpause",
                                        "serialize",
                                        "rdpkru",
                                        "wrpkru",
                                        "rdpid",
                                        "ud0",
                                        "vbroadcasti128",
                                        NULL};
    static const char *const prefixed[] = {"lfence", "mfence", "sfence", NULL};
    const struct insn *i = &s->insn;
    if (prefix_count(s) > 1) return several;
    if (is_one_of(s->name, newer)) return "newer than Capstone 4";
    if (is_one_of(s->name, prefixed)) return "fences with r/m other than 0";
    if (i->map == 1 && (i->code == 0x0d || (i->code >= 0x18 && i->code <= 0x1f))) return "reserved NOPs";
    if (i->map == 0 && (i->code == 0x8c || i->code == 0x8e)) return "REX.R is ignored with segment registers";
    if (i->map >= 1 && s->mode == CODE_16 && (i->prefixes & (PFX_66) || i->pp))
        return "mandatory prefixes in 16-bit mode";
    if (i->map >= 1 && s->mode == CODE_64 && (i->prefixes & PFX_67)) return "67 confuses mandatory prefixes";
    return NULL;
}

static const char *known_length(const struct sample *s)
{
    const struct insn *i = &s->insn;
    if (prefix_count(s) > 1) return several;
    if (i->mnemonic == I_ud0 || i->mnemonic == I_ud1) return "UD0 and UD1 have a ModRM byte";
    if (s->mode == CODE_64 && (i->prefixes & PFX_66)) {
        if (i->opcode->cls == CLASS_CONTROL)
            return "Intel ignores 66 on near branches (and REX.W sizes no RET)";
        if (i->mnemonic == I_extrq) return "SSE4a";
    }
    if (i->opcode->feature == FEAT_SSE4A) return "SSE4a";
    if (i->map >= 1 && s->mode == CODE_16) return "mandatory prefixes in 16-bit mode";
    return NULL;
}

static const char *known_name(const struct sample *s)
{
    static const char *const pairs[][2] = {
        {"ud1", "ud2b"},
        {"shl", "sal"},
        {"vcvtpd2ps", "vcvtpd2psx"},
        {"vcvtpd2dq", "vcvtpd2dqx"},
        {"vcvttpd2dq", "vcvttpd2dqx"},
        {"fstp", "fstpnce"},
        {"fneni", "feni8087_nop"},
        {"fndisi", "fdisi8087_nop"},
        {"fnsetpm", "fsetpm"},
        {"sysret", "sysretq"},
    };
    const struct insn *i = &s->insn;
    for (size_t k = 0; k < ARRAY_LEN(pairs); k++) {
        if (!strcmp(s->name, pairs[k][0]) && !strcmp(s->cs_name, pairs[k][1])) return "another spelling";
    }
    if (prefix_count(s) > 1) return several;
    if (!strcmp(s->name, "rdpid") && !strcmp(s->cs_name, "rdseed")) return "RDPID is newer than Capstone 4";
    if (i->opcode->feature == FEAT_WAITPKG || i->mnemonic == I_cldemote || i->mnemonic == I_wbnoinvd)
        return "newer than Capstone 4";
    if (s->mode != CODE_64 && (i->prefixes & PFX_VEX))
        return "VEX.W does not size general registers outside 64-bit mode";
    if (s->mode == CODE_16 && (i->mnemonic == I_cbw || i->mnemonic == I_cwd))
        return "Capstone inverts the size in 16-bit mode";
    if (s->mode == CODE_16 && i->mnemonic == I_jcxz && (i->prefixes & PFX_67)) return "ECX with 67";
    if (s->mode == CODE_16 && (i->pp || (i->prefixes & (PFX_66 | PFX_REP | PFX_REPNE))))
        return "mandatory prefixes in 16-bit mode";
    if (i->opcode->feature == FEAT_SSE4A) return "SSE4a";
    if (s->mode == CODE_64) {
        if (i->prefixes & PFX_67) return "67 taken for 66, or ignored";
        if (i->mnemonic == I_pause) return "PAUSE with REX.W or REX.R";
        if (i->mnemonic == I_ins || i->mnemonic == I_outs)
            return "port strings have no 64-bit size; REX cancels no 66";
        if ((i->mnemonic == I_pushf || i->mnemonic == I_popf) && (i->prefixes & PFX_REX))
            return "REX.W beats 66";
        if ((i->mnemonic == I_movq || i->mnemonic == I_movd) && (i->prefixes & PFX_REX))
            return "MOVQ is MOVD with REX.W";
        if (i->mnemonic == I_vmovq || i->mnemonic == I_vmovd) return "MOVQ is MOVD with REX.W";
    }
    return NULL;
}

static const char *known_difference(const struct sample *s)
{
    if (s->known != (s->length > 0)) return s->known ? known_extra(s) : known_missing(s);
    if (s->length != s->cs_length) return known_length(s);
    return known_name(s);
}

/* One decoder of Capstone per mode. */
struct oracle {
    csh handles[3];
    cs_insn *insn;
    unsigned failures;
};

static void oracle_open(struct oracle *o)
{
    static const cs_mode modes[3] = {[CODE_16] = CS_MODE_16, [CODE_32] = CS_MODE_32, [CODE_64] = CS_MODE_64};
    memset(o, 0, sizeof *o);
    for (int m = 0; m < 3; m++)
        cr_assert_eq(cs_open(CS_ARCH_X86, modes[m], &o->handles[m]), CS_ERR_OK);
    o->insn = cs_malloc(o->handles[0]);
    cr_assert(o->insn);
}

static void oracle_close(struct oracle *o)
{
    cs_free(o->insn, 1);
    for (int m = 0; m < 3; m++)
        cs_close(&o->handles[m]);
}

/* Compare one instruction; our length. */
static int oracle_check(struct oracle *o, enum code_size mode, const u8 *bytes, size_t n)
{
    struct sample s = {.mode = mode, .bytes = bytes};
    s.length = decode(&s.insn, bytes, n, mode);
    const u8 *p = bytes;
    uint64_t address = 0x1000;
    s.known = cs_disasm_iter(o->handles[mode], &p, &n, &address, o->insn);
    strcpy(s.name, "-");
    strcpy(s.cs_name, "-");
    if (s.length > 0) insn_name(&s.insn, s.name, sizeof s.name);
    if (s.known) {
        const char *last = strrchr(o->insn->mnemonic, ' '); /* behind "lock", "rep", ... */
        strcpy(s.cs_name, last ? last + 1 : o->insn->mnemonic);
        s.cs_length = o->insn->size;
    }
    bool same = s.known ? s.length == s.cs_length && !strcmp(s.name, s.cs_name) : s.length <= 0;
    if (same || known_difference(&s)) return s.length;
    char hex[64] = "";
    for (int k = 0; k < 15; k++)
        snprintf(hex + k * 3, 4, "%02x ", bytes[k]);
    cr_log_error("mode %d: %s: %d %s, Capstone: %d %s", 16 << mode, hex, s.length, s.name, s.cs_length,
                 s.cs_name);
    o->failures++;
    return s.length;
}

/* ---- random byte strings ---- */

static u32 random_next(u64 *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (u32)(*state >> 16);
}

/* Prefixes about as often as they are met, every map equally often. */
static void random_code(u64 *st, u8 bytes[16])
{
    static const u8 seg[] = {0x2e, 0x3e, 0x26, 0x36, 0x64, 0x65}, mandatory[] = {0x66, 0xf2, 0xf3};
    unsigned n = 0, map = random_next(st) % 8;
    if (random_next(st) % 8 == 0) bytes[n++] = seg[random_next(st) % 6];
    if (random_next(st) % 16 == 0) bytes[n++] = 0x67;
    if (map < 6) {
        u32 k = random_next(st) % 8;
        if (k < 3)
            bytes[n++] = mandatory[k];
        else if (random_next(st) % 32 == 0)
            bytes[n++] = 0xf0;
        if (random_next(st) % 3 == 0) bytes[n++] = 0x40 | (random_next(st) & 15);
    }
    if (map >= 2 && map < 6) bytes[n++] = 0x0f;
    if (map == 4) bytes[n++] = 0x38;
    if (map == 5) bytes[n++] = 0x3a;
    if (map >= 6) bytes[n++] = map == 6 ? 0xc5 : 0xc4;
    if (map == 7) bytes[n++] = (u8)((random_next(st) & 0xe0) | (1 + random_next(st) % 3));
    if (map >= 6) bytes[n++] = (u8)(random_next(st) % 2 ? random_next(st) : random_next(st) | 0x78);
    while (n < 16)
        bytes[n++] = (u8)random_next(st);
}

static u64 environment(const char *name, u64 otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

Test(decode_capstone, random_strings, .timeout = 3600)
{
    struct oracle o;
    oracle_open(&o);
    u64 seed = environment("CALQUE_ORACLE_SEED", 88172645463325252ull),
        count = environment("CALQUE_ORACLE_COUNT", 1000000);
    for (u64 k = 0; k < count && o.failures < 50; k++) {
        u8 bytes[16];
        random_code(&seed, bytes);
        oracle_check(&o, (enum code_size)(random_next(&seed) % 3), bytes, 15);
    }
    cr_assert_eq(o.failures, 0);
    oracle_close(&o);
}

/* ---- real code ---- */

/* Walk the executable section .text of a 64-bit ELF file. */
static size_t walk_text(struct oracle *o, const char *path, size_t limit)
{
    size_t instructions = 0;
    int fd = open(path, O_RDONLY);
    struct stat st;
    if (fd < 0) return 0;
    if (fstat(fd, &st) < 0) {
        close(fd);
        return 0;
    }
    const u8 *image = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (image == MAP_FAILED) return 0;
    const Elf64_Ehdr *header = (const void *)image;
    if (!memcmp(image, ELFMAG, SELFMAG) && header->e_ident[EI_CLASS] == ELFCLASS64 &&
        header->e_machine == EM_X86_64) {
        const Elf64_Shdr *sections = (const void *)(image + header->e_shoff);
        const char *names = (const char *)image + sections[header->e_shstrndx].sh_offset;
        for (unsigned k = 0; k < header->e_shnum; k++) {
            if (strcmp(names + sections[k].sh_name, ".text")) continue;
            const u8 *code = image + sections[k].sh_offset;
            size_t size = sections[k].sh_size;
            for (size_t at = 0; at + 15 <= size && instructions < limit && o->failures < 50; instructions++) {
                /* EVEX code in hand-written routines is skipped by Capstone's length. */
                int length = oracle_check(o, CODE_64, code + at, 15);
                at += length > 0 ? (size_t)length : o->insn->size ? o->insn->size : 1;
            }
        }
    }
    munmap((void *)(uintptr_t)image, (size_t)st.st_size);
    return instructions;
}

Test(decode_capstone, installed_code, .timeout = 600)
{
    static const char *const files[] = {"/bin/bash", "/lib/x86_64-linux-gnu/libc.so.6",
                                        "/lib/x86_64-linux-gnu/libm.so.6", "/lib64/libc.so.6"};
    struct oracle o;
    oracle_open(&o);
    size_t total = 0;
    for (size_t k = 0; k < ARRAY_LEN(files); k++)
        total += walk_text(&o, files[k], 400000);
    if (!total) cr_skip_test("no x86-64 binaries here");
    cr_assert_eq(o.failures, 0);
    oracle_close(&o);
}

/* The binaries' bytes, read as 16- and 32-bit code. */
Test(decode_capstone, installed_bytes_in_other_modes, .timeout = 600)
{
    struct oracle o;
    oracle_open(&o);
    FILE *f = fopen("/proc/self/exe", "rb");
    cr_assert(f);
    static u8 bytes[1 << 18];
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    cr_assert_gt(n, 4096);
    for (size_t at = 0; at + 15 <= n && o.failures < 50; at++) {
        oracle_check(&o, CODE_16, bytes + at, 15);
        oracle_check(&o, CODE_32, bytes + at, 15);
    }
    cr_assert_eq(o.failures, 0);
    oracle_close(&o);
}
