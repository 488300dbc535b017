/* CPU models and the CPUID instruction.
 *
 * A model is a set of feature words plus identification. What a model may show is limited to what the
 * interpreter really does: each feature row says whether it is done in C, or by running the instruction on
 * the host's CPU (then the host must have it). The default model, max, is everything that is left after that.
 *
 * Model facts (family, model, stepping, levels, feature lists) follow the processors' own CPUID; names are
 * those users know from QEMU's -cpu. References: [SDM2] CPUID, [APM3] appendix E. */
#include "cpu/cpuid.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/mmu.h"

/* Who does the work. */
enum support {
    NONE, /* known by name, not implemented */
    SOFT, /* implemented in C, or nothing to implement */
    HOST, /* the host runs the instruction */
};

struct feature {
    const char *name;
    u8 word;     /* enum cpuid_word */
    u8 bit;      /* bit number in the word */
    u8 support;  /* enum support */
    bool in_max; /* part of -cpu max */
    u8 feat;     /* enum cpu_feature that decoding asks for, or FEAT_BASE */
};

#define W1D CPUID_1_EDX
#define W1C CPUID_1_ECX
#define W6A CPUID_6_EAX
#define W7B CPUID_7_EBX
#define W7C CPUID_7_ECX
#define W7D CPUID_7_EDX
#define WXS CPUID_D_1_EAX
#define X1D CPUID_8000_0001_EDX
#define X1C CPUID_8000_0001_ECX
#define X7D CPUID_8000_0007_EDX
#define X8B CPUID_8000_0008_EBX

/* Names are normalised: '_' and '.' are '-'. Aliases follow the name they stand for. */
static const struct feature features[] = {
    {"fpu", W1D, 0, SOFT, true, FEAT_FPU},
    {"vme", W1D, 1, SOFT, true, FEAT_BASE},
    {"de", W1D, 2, SOFT, true, FEAT_BASE},
    {"pse", W1D, 3, SOFT, true, FEAT_BASE},
    {"tsc", W1D, 4, SOFT, true, FEAT_TSC},
    {"msr", W1D, 5, SOFT, true, FEAT_MSR},
    {"pae", W1D, 6, SOFT, true, FEAT_BASE},
    {"mce", W1D, 7, SOFT, true, FEAT_BASE},
    {"cx8", W1D, 8, SOFT, true, FEAT_CX8},
    {"apic", W1D, 9, SOFT, true, FEAT_BASE},
    {"sep", W1D, 11, SOFT, true, FEAT_SEP},
    {"mtrr", W1D, 12, SOFT, true, FEAT_BASE},
    {"pge", W1D, 13, SOFT, true, FEAT_BASE},
    {"mca", W1D, 14, SOFT, true, FEAT_BASE},
    {"cmov", W1D, 15, SOFT, true, FEAT_CMOV},
    {"pat", W1D, 16, SOFT, true, FEAT_BASE},
    {"pse36", W1D, 17, SOFT, true, FEAT_BASE},
    {"pn", W1D, 18, NONE, false, FEAT_BASE},
    {"clflush", W1D, 19, SOFT, true, FEAT_CLFLUSH},
    {"ds", W1D, 21, NONE, false, FEAT_BASE},
    {"acpi", W1D, 22, NONE, false, FEAT_BASE},
    {"mmx", W1D, 23, SOFT, true, FEAT_MMX},
    {"fxsr", W1D, 24, SOFT, true, FEAT_FXSR},
    {"sse", W1D, 25, SOFT, true, FEAT_SSE},
    {"sse2", W1D, 26, SOFT, true, FEAT_SSE2},
    {"ss", W1D, 27, SOFT, true, FEAT_BASE},
    {"ht", W1D, 28, SOFT, false, FEAT_BASE},
    {"tm", W1D, 29, NONE, false, FEAT_BASE},
    {"ia64", W1D, 30, NONE, false, FEAT_BASE},
    {"pbe", W1D, 31, NONE, false, FEAT_BASE},

    {"sse3", W1C, 0, HOST, true, FEAT_SSE3},
    {"pni", W1C, 0, HOST, true, FEAT_SSE3},
    {"pclmulqdq", W1C, 1, HOST, true, FEAT_PCLMUL},
    {"dtes64", W1C, 2, NONE, false, FEAT_BASE},
    {"monitor", W1C, 3, SOFT, false, FEAT_MONITOR},
    {"ds-cpl", W1C, 4, NONE, false, FEAT_BASE},
    {"vmx", W1C, 5, NONE, false, FEAT_VMX},
    {"smx", W1C, 6, NONE, false, FEAT_BASE},
    {"est", W1C, 7, NONE, false, FEAT_BASE},
    {"tm2", W1C, 8, NONE, false, FEAT_BASE},
    {"ssse3", W1C, 9, HOST, true, FEAT_SSSE3},
    {"cid", W1C, 10, NONE, false, FEAT_BASE},
    {"fma", W1C, 12, HOST, true, FEAT_FMA},
    {"cx16", W1C, 13, SOFT, true, FEAT_CX16},
    {"xtpr", W1C, 14, NONE, false, FEAT_BASE},
    {"pdcm", W1C, 15, NONE, false, FEAT_BASE},
    {"pcid", W1C, 17, SOFT, true, FEAT_BASE},
    {"dca", W1C, 18, NONE, false, FEAT_BASE},
    {"sse4-1", W1C, 19, HOST, true, FEAT_SSE41},
    {"sse4-2", W1C, 20, HOST, true, FEAT_SSE42},
    {"x2apic", W1C, 21, SOFT, true, FEAT_BASE},
    {"movbe", W1C, 22, SOFT, true, FEAT_MOVBE},
    {"popcnt", W1C, 23, SOFT, true, FEAT_POPCNT},
    {"tsc-deadline", W1C, 24, SOFT, true, FEAT_BASE},
    {"aes", W1C, 25, HOST, true, FEAT_AES},
    {"xsave", W1C, 26, SOFT, true, FEAT_XSAVE},
    {"avx", W1C, 28, HOST, true, FEAT_AVX},
    {"f16c", W1C, 29, HOST, true, FEAT_F16C},
    {"rdrand", W1C, 30, SOFT, true, FEAT_RDRAND},
    {"hypervisor", W1C, 31, SOFT, true, FEAT_BASE},

    {"arat", W6A, 2, SOFT, true, FEAT_BASE},

    {"fsgsbase", W7B, 0, SOFT, true, FEAT_FSGSBASE},
    {"tsc-adjust", W7B, 1, SOFT, true, FEAT_BASE},
    {"sgx", W7B, 2, NONE, false, FEAT_BASE},
    {"bmi1", W7B, 3, SOFT, true, FEAT_BMI1},
    {"hle", W7B, 4, NONE, false, FEAT_BASE},
    {"avx2", W7B, 5, HOST, true, FEAT_AVX2},
    {"fdp-excptn-only", W7B, 6, SOFT, true, FEAT_BASE}, /* so it is even where it is not shown: exec_fpu_x87.c */
    {"smep", W7B, 7, SOFT, true, FEAT_BASE},
    {"bmi2", W7B, 8, SOFT, true, FEAT_BMI2},
    {"erms", W7B, 9, SOFT, true, FEAT_BASE},
    {"invpcid", W7B, 10, SOFT, true, FEAT_INVPCID},
    {"rtm", W7B, 11, NONE, false, FEAT_RTM},
    {"mpx", W7B, 14, NONE, false, FEAT_BASE},
    {"avx512f", W7B, 16, NONE, false, FEAT_BASE},
    {"avx512dq", W7B, 17, NONE, false, FEAT_BASE},
    {"rdseed", W7B, 18, SOFT, true, FEAT_RDSEED},
    {"adx", W7B, 19, SOFT, true, FEAT_ADX},
    {"smap", W7B, 20, SOFT, true, FEAT_SMAP},
    {"avx512ifma", W7B, 21, NONE, false, FEAT_BASE},
    {"clflushopt", W7B, 23, SOFT, true, FEAT_CLFLUSHOPT},
    {"clwb", W7B, 24, SOFT, true, FEAT_CLWB},
    {"intel-pt", W7B, 25, NONE, false, FEAT_BASE},
    {"avx512cd", W7B, 28, NONE, false, FEAT_BASE},
    {"sha-ni", W7B, 29, HOST, true, FEAT_SHA},
    {"avx512bw", W7B, 30, NONE, false, FEAT_BASE},
    {"avx512vl", W7B, 31, NONE, false, FEAT_BASE},

    {"umip", W7C, 2, SOFT, true, FEAT_BASE},
    {"pku", W7C, 3, SOFT, true, FEAT_PKU},
    {"waitpkg", W7C, 5, NONE, false, FEAT_WAITPKG},
    {"shstk", W7C, 7, NONE, false, FEAT_CET},
    {"gfni", W7C, 8, HOST, true, FEAT_GFNI},
    {"vaes", W7C, 9, HOST, true, FEAT_VAES},
    {"vpclmulqdq", W7C, 10, HOST, true, FEAT_VPCLMUL},
    {"la57", W7C, 16, NONE, false, FEAT_BASE},
    {"rdpid", W7C, 22, SOFT, true, FEAT_RDPID},
    {"cldemote", W7C, 25, NONE, false, FEAT_CLDEMOTE},
    {"movdiri", W7C, 27, NONE, false, FEAT_MOVDIRI},
    {"movdir64b", W7C, 28, NONE, false, FEAT_MOVDIR64B},
    {"pks", W7C, 31, NONE, false, FEAT_BASE},

    {"fsrm", W7D, 4, SOFT, true, FEAT_BASE},
    {"md-clear", W7D, 10, SOFT, false, FEAT_BASE},
    {"serialize", W7D, 14, NONE, false, FEAT_SERIALIZE},
    {"spec-ctrl", W7D, 26, SOFT, false, FEAT_BASE},
    {"stibp", W7D, 27, SOFT, false, FEAT_BASE},
    {"arch-capabilities", W7D, 29, SOFT, true, FEAT_BASE},
    {"ssbd", W7D, 31, SOFT, false, FEAT_BASE},

    {"xsaveopt", WXS, 0, SOFT, true, FEAT_XSAVEOPT},
    {"xsavec", WXS, 1, SOFT, true, FEAT_XSAVEC},
    {"xgetbv1", WXS, 2, SOFT, true, FEAT_BASE},
    {"xsaves", WXS, 3, SOFT, true, FEAT_XSAVES},

    {"syscall", X1D, 11, SOFT, true, FEAT_SYSCALL},
    {"nx", X1D, 20, SOFT, true, FEAT_BASE},
    {"xd", X1D, 20, SOFT, true, FEAT_BASE},
    {"mmxext", X1D, 22, NONE, false, FEAT_BASE},
    {"fxsr-opt", X1D, 25, NONE, false, FEAT_BASE},
    {"pdpe1gb", X1D, 26, SOFT, true, FEAT_BASE},
    {"rdtscp", X1D, 27, SOFT, true, FEAT_RDTSCP},
    {"lm", X1D, 29, SOFT, true, FEAT_LM},
    {"i64", X1D, 29, SOFT, true, FEAT_LM},
    {"3dnowext", X1D, 30, NONE, false, FEAT_BASE},
    {"3dnow", X1D, 31, NONE, false, FEAT_BASE},

    {"lahf-lm", X1C, 0, SOFT, true, FEAT_LAHF64},
    {"cmp-legacy", X1C, 1, NONE, false, FEAT_BASE},
    {"svm", X1C, 2, NONE, false, FEAT_SVM},
    {"cr8legacy", X1C, 4, NONE, false, FEAT_BASE},
    {"abm", X1C, 5, SOFT, true, FEAT_LZCNT},
    {"lzcnt", X1C, 5, SOFT, true, FEAT_LZCNT},
    {"sse4a", X1C, 6, HOST, false, FEAT_SSE4A},
    {"misalignsse", X1C, 7, NONE, false, FEAT_BASE},
    {"3dnowprefetch", X1C, 8, SOFT, true, FEAT_3DNOWPREFETCH},
    {"xop", X1C, 11, NONE, false, FEAT_BASE},
    {"fma4", X1C, 16, NONE, false, FEAT_BASE},
    {"tbm", X1C, 21, NONE, false, FEAT_BASE},
    {"topoext", X1C, 22, NONE, false, FEAT_BASE},

    {"invtsc", X7D, 8, SOFT, true, FEAT_BASE},

    {"clzero", X8B, 0, NONE, false, FEAT_BASE},
    {"wbnoinvd", X8B, 9, SOFT, true, FEAT_WBNOINVD},
    {"ibpb", X8B, 12, SOFT, false, FEAT_BASE},
};

#define INTEL "GenuineIntel"
#define AMD   "AuthenticAMD"

#define F_P5  "fpu vme de pse tsc msr mce cx8 mmx "
#define F_P2  F_P5 "pae sep mtrr pge mca cmov pat pse36 fxsr apic "
#define F_P3  F_P2 "sse "
#define F_X64 F_P3 "sse2 clflush syscall nx lm "
#define F_QEMU64                                                                                             \
    "fpu de pse tsc msr mce cx8 mmx pae sep mtrr pge mca cmov pat pse36 fxsr apic sse sse2 clflush "
#define F_CORE2     F_X64 "ss sse3 ssse3 lahf-lm cx16 "
#define F_PENRYN    F_CORE2 "sse4-1 "
#define F_NEHALEM   F_PENRYN "sse4-2 popcnt "
#define F_WESTMERE  F_NEHALEM "pclmulqdq aes arat "
#define F_SANDY     F_WESTMERE "rdtscp tsc-deadline x2apic xsave xsaveopt avx "
#define F_IVY       F_SANDY "f16c rdrand fsgsbase smep erms "
#define F_HASWELL   F_IVY "fma movbe pcid bmi1 avx2 bmi2 invpcid abm "
#define F_BROADWELL F_HASWELL "rdseed adx smap 3dnowprefetch "
#define F_SKYLAKE   F_BROADWELL "xsavec xgetbv1 "

static const struct {
    const char *name;
    const char *vendor;
    u32 family, model, stepping, level, xlevel;
    const char *brand;    /* "": no brand string leaves */
    const char *features; /* NULL: everything that is marked in_max */
} models[] = {
    /* An Atom family 6 model 0x1c in name: an in-order core that does not speculate, as is true of an
     * interpreter; guests then leave out their costly Spectre and Meltdown mitigations by themselves. */
    {"max", INTEL, 6, 0x1c, 10, 0x16, 0x80000008, "Calque Virtual CPU", NULL},
    {"host", INTEL, 6, 0x1c, 10, 0x16, 0x80000008, "Calque Virtual CPU", NULL},
    {"qemu64", AMD, 15, 107, 1, 0xd, 0x80000008, "QEMU Virtual CPU version 2.5+",
     F_QEMU64 "sse3 cx16 hypervisor syscall nx lm lahf-lm"},
    {"qemu32", INTEL, 6, 6, 3, 4, 0x80000004, "QEMU Virtual CPU version 2.5+",
     "fpu de pse tsc msr mce cx8 mmx pae sep mtrr pge mca cmov pat pse36 fxsr apic sse sse2 sse3 hypervisor"},
    {"kvm64", INTEL, 15, 6, 1, 0xd, 0x80000008, "Common KVM processor",
     F_QEMU64 "vme sse3 cx16 hypervisor syscall nx lm"},
    {"kvm32", INTEL, 15, 6, 1, 5, 0x80000008, "Common 32-bit KVM processor", F_QEMU64 "vme sse3 hypervisor"},
    {"486", INTEL, 4, 8, 0, 1, 0, "", "fpu vme pse"},
    {"pentium", INTEL, 5, 4, 3, 1, 0, "", F_P5},
    {"pentium2", INTEL, 6, 5, 2, 2, 0, "", F_P2},
    {"pentium3", INTEL, 6, 7, 3, 2, 0, "", F_P3},
    {"n270", INTEL, 6, 28, 2, 10, 0x80000008, "Intel(R) Atom(TM) CPU N270   @ 1.60GHz",
     F_P3 "sse2 clflush ss sse3 ssse3 movbe nx lahf-lm"},
    {"coreduo", INTEL, 6, 14, 8, 10, 0x80000008, "Genuine Intel(R) CPU           T2600  @ 2.16GHz",
     F_P3 "sse2 clflush ss sse3 nx"},
    {"core2duo", INTEL, 6, 15, 11, 10, 0x80000008, "Intel(R) Core(TM)2 Duo CPU     T7700  @ 2.40GHz",
     F_CORE2},
    {"Conroe", INTEL, 6, 15, 3, 10, 0x80000008, "Intel Celeron_4x0 (Conroe/Merom Class Core 2)", F_CORE2},
    {"Penryn", INTEL, 6, 23, 3, 10, 0x80000008, "Intel Core 2 Duo P9xxx (Penryn Class Core 2)", F_PENRYN},
    {"Nehalem", INTEL, 6, 26, 3, 11, 0x80000008, "Intel Core i7 9xx (Nehalem Class Core i7)", F_NEHALEM},
    {"Westmere", INTEL, 6, 44, 1, 11, 0x80000008, "Westmere E56xx/L56xx/X56xx (Nehalem-C)", F_WESTMERE},
    {"SandyBridge", INTEL, 6, 42, 1, 0xd, 0x80000008, "Intel Xeon E312xx (Sandy Bridge)", F_SANDY},
    {"IvyBridge", INTEL, 6, 58, 9, 0xd, 0x80000008, "Intel Xeon E3-12xx v2 (Ivy Bridge)", F_IVY},
    {"Haswell", INTEL, 6, 60, 4, 0xd, 0x80000008, "Intel Core Processor (Haswell)", F_HASWELL},
    {"Broadwell", INTEL, 6, 61, 2, 0xd, 0x80000008, "Intel Core Processor (Broadwell)", F_BROADWELL},
    {"Opteron_G1", AMD, 15, 6, 1, 5, 0x80000008, "AMD Opteron 240 (Gen 1 Class Opteron)", F_X64 "vme sse3"},
    {"Opteron_G2", AMD, 15, 6, 1, 5, 0x80000008, "AMD Opteron 22xx (Gen 2 Class Opteron)",
     F_X64 "vme sse3 cx16 lahf-lm"},
    {"Opteron_G3", AMD, 16, 2, 3, 5, 0x80000008, "AMD Opteron 23xx (Gen 3 Class Opteron)",
     F_X64 "vme sse3 cx16 lahf-lm monitor popcnt abm sse4a rdtscp"},
    {"EPYC", AMD, 23, 1, 2, 0xd, 0x80000008, "AMD EPYC Processor",
     F_X64 "sse3 pclmulqdq ssse3 fma cx16 sse4-1 sse4-2 movbe popcnt aes xsave avx f16c rdrand lahf-lm abm "
           "sse4a 3dnowprefetch "
           "pdpe1gb rdtscp fsgsbase bmi1 avx2 smep bmi2 rdseed adx smap clflushopt sha-ni xsaveopt xsavec "
           "xgetbv1 arat"},
    {"Skylake-Client", INTEL, 6, 94, 3, 0xd, 0x80000008, "Intel Core Processor (Skylake)", F_SKYLAKE},
};

/* ---- what this host allows ---- */

/* The host's own words, for the HOST rows. */
static void host_words(u32 words[CPUID_WORDS])
{
    u32 a, b, c, d;
    memset(words, 0, CPUID_WORDS * sizeof *words);
    if (__get_cpuid(1, &a, &b, &c, &d)) words[CPUID_1_EDX] = d, words[CPUID_1_ECX] = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
        words[CPUID_7_EBX] = b, words[CPUID_7_ECX] = c, words[CPUID_7_EDX] = d;
    if (__get_cpuid(0x80000001, &a, &b, &c, &d))
        words[CPUID_8000_0001_EDX] = d, words[CPUID_8000_0001_ECX] = c;
}

static bool needs_vex(u8 feat)
{
    switch (feat) {
    case FEAT_AVX:
    case FEAT_AVX2:
    case FEAT_FMA:
    case FEAT_F16C:
    case FEAT_VAES:
    case FEAT_VPCLMUL: return true;
    default: return false;
    }
}

static bool supported(const struct feature *f, const u32 host[CPUID_WORDS])
{
    if (f->support == NONE) return false;
    if (f->support == SOFT) return true;
    if (needs_vex(f->feat) && !__builtin_cpu_supports("avx"))
        return false; /* the host's system must save it, too */
    return host[f->word] >> f->bit & 1;
}

/* ---- parsing ---- */

/* Compare a name of length n with a row's, '_' and '.' counting as '-'. */
static bool name_is(const char *name, size_t n, const char *row)
{
    for (size_t k = 0; k < n; k++) {
        char c = name[k] == '_' || name[k] == '.' ? '-' : name[k];
        if (c != row[k]) return false;
    }
    return row[n] == 0;
}

static const struct feature *find_feature(const char *name, size_t n)
{
    for (size_t k = 0; k < ARRAY_LEN(features); k++)
        if (name_is(name, n, features[k].name)) return &features[k];
    return NULL;
}

static bool parse_number(const char *s, size_t n, u32 max, u32 *out)
{
    char buf[24], *end;
    if (n == 0 || n >= sizeof buf || s[0] == '-') return false;
    memcpy(buf, s, n);
    buf[n] = 0;
    errno = 0;
    unsigned long long v = strtoull(buf, &end, 0);
    if (errno || *end || v > max) return false;
    *out = (u32)v;
    return true;
}

static bool parse_bool(const char *s, size_t n, bool *out)
{
    static const char *const words[][2] = {{"off", "on"}, {"no", "yes"}, {"false", "true"}, {"n", "y"}};
    for (size_t k = 0; k < 2 * ARRAY_LEN(words); k++) {
        const char *w = words[k / 2][k % 2];
        if (strlen(w) != n || memcmp(s, w, n)) continue;
        *out = k % 2;
        return true;
    }
    return false;
}

/* What the options of one -cpu asked for. */
struct request {
    const char *spec;             /* the whole option, for messages */
    u32 explicit_on[CPUID_WORDS]; /* bits switched on by name */
    bool enforce;                 /* features that cannot be had are errors */
};

/* property=value. 1: taken, 0: not a property, -EINVAL: bad value, with a message. */
static int parse_property(struct cpu_model *m, struct request *rq, const char *name, size_t n,
                          const char *value, size_t vn)
{
    static const struct {
        const char *name;
        u32 max;
        size_t offset;
    } numbers[] = {
        {"family", 0x10e, offsetof(struct cpu_model, family)},
        {"model", 0xff, offsetof(struct cpu_model, model)},
        {"stepping", 15, offsetof(struct cpu_model, stepping)},
        {"level", 0x1f, offsetof(struct cpu_model, level)},
        {"xlevel", 0x800000ff, offsetof(struct cpu_model, xlevel)},
    };
    for (size_t k = 0; k < ARRAY_LEN(numbers); k++) {
        if (!name_is(name, n, numbers[k].name)) continue;
        if (parse_number(value, vn, numbers[k].max, (u32 *)(void *)((char *)m + numbers[k].offset))) return 1;
        goto bad;
    }
    if (name_is(name, n, "vendor")) {
        if (vn != 12) goto bad;
        memcpy(m->vendor, value, 12);
        return 1;
    }
    if (name_is(name, n, "model-id")) {
        if (vn > 48) goto bad;
        memset(m->brand, 0, sizeof m->brand);
        memcpy(m->brand, value, vn);
        return 1;
    }
    if (name_is(name, n, "phys-bits")) {
        u32 bits;
        if (parse_number(value, vn, 64, &bits) && bits == PHYS_BITS) return 1;
        goto bad;
    }
    bool value_on = false, known = parse_bool(value, vn, &value_on), on = known && value_on,
         off = known && !value_on;
    if (name_is(name, n, "enforce")) {
        if (!on && !off) goto bad;
        rq->enforce = on;
        return 1;
    }
    /* Without meaning here, but part of many command lines. */
    if (name_is(name, n, "check") || name_is(name, n, "migratable") || name_is(name, n, "host-phys-bits")) {
        if (!on && !off) goto bad;
        return 1;
    }
    if (name_is(name, n, "kvm") || name_is(name, n, "pmu")) {
        if (!off) goto bad;
        return 1;
    }
    return 0;

bad:
    fprintf(stderr, "calque: -cpu %s: bad value for '%.*s': '%.*s'\n", rq->spec, (int)n, name, (int)vn,
            value);
    return -EINVAL;
}

static int parse_item(struct cpu_model *m, struct request *rq, const char *item, size_t n)
{
    bool on = true;
    const char *name = item, *value = memchr(item, '=', n);
    size_t len = value ? (size_t)(value - item) : n;
    if (n && (*item == '+' || *item == '-')) {
        on = *item == '+';
        name++;
        len = n - 1;
    } else if (value) {
        size_t vn = n - len - 1;
        value++;
        int r = parse_property(m, rq, name, len, value, vn);
        if (r) return r < 0 ? r : 0;
        if (!parse_bool(value, vn, &on) && find_feature(name, len)) {
            fprintf(stderr, "calque: -cpu %s: '%.*s' must be on or off\n", rq->spec, (int)len, name);
            return -EINVAL;
        }
    } else {
        int r = parse_property(m, rq, name, len, "on", 2);
        if (r > 0) return 0;
    }
    const struct feature *f = find_feature(name, len);
    if (!f) {
        fprintf(stderr, "calque: -cpu %s: unknown feature or property '%.*s'\n", rq->spec, (int)len, name);
        return -EINVAL;
    }
    u32 bit = 1u << f->bit;
    if (on) {
        m->words[f->word] |= bit;
        rq->explicit_on[f->word] |= bit;
    } else {
        m->words[f->word] &= ~bit;
        rq->explicit_on[f->word] &= ~bit;
    }
    return 0;
}

/* Drop what is not implemented, with one line that names it when a person asked for it. */
static int drop_unsupported(struct cpu_model *m, const struct request *rq)
{
    u32 host[CPUID_WORDS], usable[CPUID_WORDS] = {0};
    host_words(host);
    for (size_t k = 0; k < ARRAY_LEN(features); k++)
        if (supported(&features[k], host)) usable[features[k].word] |= 1u << features[k].bit;

    bool any = false;
    for (size_t k = 0; k < ARRAY_LEN(features); k++) {
        const struct feature *f = &features[k];
        u32 bit = 1u << f->bit;
        if (!(m->words[f->word] & bit) || (usable[f->word] & bit)) continue;
        if (k && features[k - 1].word == f->word && features[k - 1].bit == f->bit) continue; /* an alias */
        if (rq->enforce || (rq->explicit_on[f->word] & bit)) {
            fprintf(stderr,
                    any           ? " %s"
                    : rq->enforce ? "calque: -cpu %2$s: not available: %1$s"
                                  : "calque: warning: -cpu %2$s: left out, not available: %1$s",
                    f->name, rq->spec);
            any = true;
        }
    }
    if (any) fputc('\n', stderr);
    for (unsigned w = 0; w < CPUID_WORDS; w++)
        m->words[w] &= usable[w];
    return any && rq->enforce ? -EINVAL : 0;
}

static void clear_feature(struct cpu_model *m, const char *name)
{
    const struct feature *f = find_feature(name, strlen(name));
    m->words[f->word] &= ~(1u << f->bit);
}

static bool has_name(const struct cpu_model *m, const char *name)
{
    const struct feature *f = find_feature(name, strlen(name));
    return m->words[f->word] >> f->bit & 1;
}

/* Features that make no sense without another one. */
static void drop_dependents(struct cpu_model *m)
{
    static const char *const pairs[][2] = {
        {"fpu", "mmx"},
        {"mmx", "sse"},
        {"fxsr", "sse"},
        {"sse", "sse2"},
        {"sse2", "sse3"},
        {"sse3", "ssse3"},
        {"ssse3", "sse4-1"},
        {"sse4-1", "sse4-2"},
        {"sse2", "aes"},
        {"sse2", "pclmulqdq"},
        {"sse2", "sha-ni"},
        {"sse2", "gfni"},
        {"fxsr", "xsave"},
        {"xsave", "xsaveopt"},
        {"xsave", "xsavec"},
        {"xsave", "xgetbv1"},
        {"xsave", "xsaves"},
        {"xsave", "avx"},
        {"sse4-2", "avx"},
        {"xsave", "pku"},
        {"avx", "avx2"},
        {"avx", "fma"},
        {"avx", "f16c"},
        {"avx", "vaes"},
        {"avx", "vpclmulqdq"},
        {"pae", "nx"},
        {"pae", "lm"},
        {"lm", "pcid"},
        {"lm", "fsgsbase"},
        {"lm", "pdpe1gb"},
        {"lm", "cx16"},
        {"lm", "pku"},
        {"tsc", "rdtscp"},
        {"tsc", "tsc-deadline"},
        {"apic", "tsc-deadline"},
        {"apic", "x2apic"},
        {"cx8", "cx16"},
    };
    for (size_t k = 0; k < ARRAY_LEN(pairs); k++)
        if (!has_name(m, pairs[k][0])) clear_feature(m, pairs[k][1]);
}

/* Everything that follows from the feature words. */
static void derive(struct cpu_model *m)
{
    for (size_t k = 0; k < ARRAY_LEN(features); k++)
        if (m->words[features[k].word] >> features[k].bit & 1) m->has[features[k].feat] = true;
    m->has[FEAT_BASE] = true;
    m->has[FEAT_486] = m->family >= 4;
    m->has[FEAT_NOP] = m->family >= 6;
    /* PREFETCHW is a no-op on every 64-bit processor, whatever the bit says ([SDM2] PREFETCHW). */
    if (m->has[FEAT_LM]) m->has[FEAT_3DNOWPREFETCH] = true;
    m->amd = !strcmp(m->vendor, AMD);

    static const struct {
        const char *name;
        u64 cr4;
    } cr4[] = {
        {"vme", CR4_VME | CR4_PVI}, {"tsc", CR4_TSD},        {"de", CR4_DE},     {"pse", CR4_PSE},
        {"pae", CR4_PAE},           {"mce", CR4_MCE},        {"pge", CR4_PGE},   {"mmx", CR4_PCE},
        {"fxsr", CR4_OSFXSR},       {"sse", CR4_OSXMMEXCPT}, {"umip", CR4_UMIP}, {"fsgsbase", CR4_FSGSBASE},
        {"pcid", CR4_PCIDE},        {"xsave", CR4_OSXSAVE},  {"smep", CR4_SMEP}, {"smap", CR4_SMAP},
        {"pku", CR4_PKE},
    };
    m->cr4_mask = 0;
    for (size_t k = 0; k < ARRAY_LEN(cr4); k++)
        if (has_name(m, cr4[k].name)) m->cr4_mask |= cr4[k].cr4;

    m->efer_mask = 0;
    if (has_name(m, "syscall")) m->efer_mask |= EFER_SCE;
    if (has_name(m, "lm")) m->efer_mask |= EFER_LME | EFER_LMA;
    if (has_name(m, "nx")) m->efer_mask |= EFER_NXE;

    m->xcr0_mask = 0;
    if (has_name(m, "xsave")) {
        m->xcr0_mask = 1;
        if (has_name(m, "sse")) m->xcr0_mask |= 2;
        if (has_name(m, "avx")) m->xcr0_mask |= 4;
        if (has_name(m, "pku")) m->xcr0_mask |= 1u << 9;
    }
}

int cpu_model_parse(const char *spec, struct cpu_model **out)
{
    size_t n = strcspn(spec, ",");
    size_t k = 0;
    while (k < ARRAY_LEN(models) && !(strlen(models[k].name) == n && !memcmp(spec, models[k].name, n)))
        k++;
    if (k == ARRAY_LEN(models)) {
        fprintf(stderr, "calque: -cpu %s: no CPU model '%.*s' (-cpu help lists them)\n", spec, (int)n, spec);
        return -EINVAL;
    }
    struct cpu_model *m = calloc(1, sizeof *m);
    if (!m) {
        fprintf(stderr, "calque: -cpu %s: out of memory\n", spec);
        return -ENOMEM;
    }
    struct request rq = {.spec = spec};
    memcpy(m->name, spec, n);
    strcpy(m->vendor, models[k].vendor);
    strcpy(m->brand, models[k].brand);
    m->family = models[k].family;
    m->model = models[k].model;
    m->stepping = models[k].stepping;
    m->level = models[k].level;
    m->xlevel = models[k].xlevel;
    m->cores = m->threads = 1;
    if (models[k].features) {
        for (const char *p = models[k].features; *p;) {
            size_t len = strcspn(p, " ");
            const struct feature *f = find_feature(p, len);
            m->words[f->word] |= 1u << f->bit;
            p += len;
            p += strspn(p, " ");
        }
    } else {
        u32 host[CPUID_WORDS];
        host_words(host);
        for (size_t r = 0; r < ARRAY_LEN(features); r++)
            if (features[r].in_max && supported(&features[r], host))
                m->words[features[r].word] |= 1u << features[r].bit;
    }

    int err = 0;
    for (const char *p = spec + n; *p == ',' && !err;) {
        p++;
        size_t len = strcspn(p, ",");
        err = parse_item(m, &rq, p, len);
        p += len;
    }
    if (!err) err = drop_unsupported(m, &rq);
    if (err) {
        free(m);
        return err;
    }
    drop_dependents(m);
    derive(m);
    *out = m;
    return 0;
}

void cpu_model_destroy(struct cpu_model *m) { free(m); }

const char *cpu_model_name(size_t i) { return i < ARRAY_LEN(models) ? models[i].name : NULL; }

void cpu_model_list(FILE *f)
{
    fprintf(f, "CPU models:\n");
    for (size_t k = 0; k < ARRAY_LEN(models); k++)
        fprintf(f, "  %-16s %s\n", models[k].name, models[k].brand);
    fprintf(f, "\nFeatures:\n ");
    u32 host[CPUID_WORDS];
    size_t column = 1;
    host_words(host);
    for (size_t k = 0; k < ARRAY_LEN(features); k++) {
        if (!supported(&features[k], host)) continue;
        if (column + strlen(features[k].name) > 76) {
            fprintf(f, "\n ");
            column = 1;
        }
        column += (size_t)fprintf(f, " %s", features[k].name);
    }
    fprintf(f, "\n");
}

void cpu_model_set_topology(struct cpu_model *m, unsigned cores, unsigned threads)
{
    m->cores = cores ? cores : 1;
    m->threads = threads ? threads : 1;
}

u32 cpu_model_signature(const struct cpu_model *m)
{
    u32 family = m->family > 15 ? 15 : m->family;
    u32 v = m->stepping | (m->model & 15) << 4 | family << 8;
    if (m->family >= 6) v |= (m->model >> 4) << 16;
    if (m->family > 15) v |= (m->family - 15) << 20;
    return v;
}

/* ---- the instruction ---- */

static u32 log2_up(u32 n)
{
    u32 bits = 0;
    while ((1u << bits) < n)
        bits++;
    return bits;
}

static u32 word4(const char *s)
{
    u32 v;
    memcpy(&v, s, 4);
    return v;
}

static void leaf_1(struct cpu *cpu, const struct cpu_model *m, u32 out[4])
{
    u32 count = m->cores * m->threads, id = cpu->hooks->apic_id(cpu->hooks->opaque);
    out[0] = cpu_model_signature(m);
    out[1] = id << 24 | (count > 1 ? (1u << log2_up(count)) << 16 : 0);
    if (m->has[FEAT_CLFLUSH]) out[1] |= 8u << 8; /* 64-byte lines */
    out[2] = m->words[CPUID_1_ECX];
    out[3] = m->words[CPUID_1_EDX];
    if (count > 1) out[3] |= 1u << 28; /* HTT: EBX[23:16] is valid */
    if (cpu->cr4 & CR4_OSXSAVE) out[2] |= 1u << 27;
    if (out[3] & CPUID_1_EDX_APIC) { /* follows IA32_APIC_BASE[11]: SDM vol 3A 10.4.3 */
        u64 base = 1u << 11;
        cpu->hooks->lock(cpu->hooks->opaque);
        bool known = cpu->hooks->apic_msr_read(cpu->hooks->opaque, 0x1b, &base);
        cpu->hooks->unlock(cpu->hooks->opaque);
        if (known && !(base & 1u << 11)) out[3] &= ~CPUID_1_EDX_APIC;
    }
}

/* Deterministic cache parameters: 32 KiB L1 twice, 2 MiB L2 (private), 16 MiB L3 (of the package). */
static void leaf_4(const struct cpu_model *m, u32 subleaf, u32 out[4])
{
    static const struct {
        u8 type, level;
        u16 ways;
        u32 sets;
    } caches[] = {{1, 1, 8, 64}, {2, 1, 8, 64}, {3, 2, 16, 2048}, {3, 3, 16, 16384}};
    if (subleaf >= ARRAY_LEN(caches)) return;
    u32 sharing = 1u << log2_up(caches[subleaf].level == 3 ? m->cores * m->threads : m->threads);
    out[0] = caches[subleaf].type | (u32)caches[subleaf].level << 5 | 1u << 8 | (sharing - 1) << 14 |
             ((1u << log2_up(m->cores)) - 1) << 26;
    out[1] = 63u | (caches[subleaf].ways - 1u) << 22;
    out[2] = caches[subleaf].sets - 1;
    out[3] = 0;
}

/* Topology: threads below cores. */
static void leaf_b(struct cpu *cpu, const struct cpu_model *m, u32 subleaf, u32 out[4])
{
    out[2] = subleaf & 0xff;
    out[3] = cpu->hooks->apic_id(cpu->hooks->opaque);
    if (subleaf == 0) {
        out[0] = log2_up(m->threads);
        out[1] = m->threads;
        out[2] |= 1u << 8;
    } else if (subleaf == 1) {
        out[0] = log2_up(m->threads) + log2_up(m->cores);
        out[1] = m->threads * m->cores;
        out[2] |= 2u << 8;
    }
}

/* XSAVE areas: SDM vol 1 13.2. AVX at 576, PKRU at 2688 in the standard format (struct xsave_area). */
static u32 xsave_size(u64 components, bool compacted)
{
    u32 size = 576;
    if (components & 4) size = 832;
    if (components & 1u << 9) size = compacted ? size + 8 : 2696;
    return size;
}

static void leaf_d(struct cpu *cpu, const struct cpu_model *m, u32 subleaf, u32 out[4])
{
    if (!m->xcr0_mask) return;
    switch (subleaf) {
    case 0:
        out[0] = (u32)m->xcr0_mask;
        out[1] = xsave_size(cpu->xcr0, false);
        out[2] = xsave_size(m->xcr0_mask, false);
        out[3] = (u32)(m->xcr0_mask >> 32);
        break;
    case 1:
        out[0] = m->words[CPUID_D_1_EAX];
        out[1] = m->words[CPUID_D_1_EAX] & 0xa ? xsave_size(cpu->xcr0, true) : 0;
        break;
    case 2:
        if (m->xcr0_mask & 4) out[0] = 256, out[1] = 576;
        break;
    case 9:
        if (m->xcr0_mask & 1u << 9) out[0] = 8, out[1] = 2688;
        break;
    }
}

static void basic_leaf(struct cpu *cpu, const struct cpu_model *m, u32 leaf, u32 subleaf, u32 out[4])
{
    switch (leaf) {
    case 0:
        out[0] = m->level;
        out[1] = word4(m->vendor);
        out[3] = word4(m->vendor + 4);
        out[2] = word4(m->vendor + 8);
        break;
    case 1: leaf_1(cpu, m, out); break;
    case 2: /* 0xff: see leaf 4; 0xf0: 64-byte prefetch. Older ones: 16 KiB L1 twice, 512 KiB L2. */
        if (m->level >= 4)
            out[0] = 0x00feff01, out[1] = 0xf0;
        else
            out[0] = 0x03020101, out[3] = 0x0c040843;
        break;
    case 4: leaf_4(m, subleaf, out); break;
    case 5:
        if (m->has[FEAT_MONITOR]) out[0] = out[1] = 64, out[2] = 3;
        break;
    case 6: out[0] = m->words[CPUID_6_EAX]; break;
    case 7:
        if (subleaf) break;
        out[1] = m->words[CPUID_7_EBX];
        out[2] = m->words[CPUID_7_ECX];
        out[3] = m->words[CPUID_7_EDX];
        if (cpu->cr4 & CR4_PKE) out[2] |= 1u << 4; /* OSPKE */
        break;
    case 0xb: leaf_b(cpu, m, subleaf, out); break;
    case 0xd: leaf_d(cpu, m, subleaf, out); break;
    case 0x15: /* the crystal is the TSC, and the APIC timer's clock as well */
        out[0] = out[1] = 1;
        out[2] = CPUID_TSC_HZ;
        break;
    case 0x16:
        out[0] = out[1] = CPUID_TSC_HZ / 1000000;
        out[2] = 100;
        break;
    }
}

static void extended_leaf(const struct cpu_model *m, u32 leaf, u32 out[4])
{
    switch (leaf) {
    case 0x80000000:
        out[0] = m->xlevel;
        if (m->amd) {
            out[1] = word4(m->vendor);
            out[3] = word4(m->vendor + 4);
            out[2] = word4(m->vendor + 8);
        }
        break;
    case 0x80000001:
        if (m->amd) out[0] = cpu_model_signature(m);
        out[2] = m->words[CPUID_8000_0001_ECX];
        out[3] = m->words[CPUID_8000_0001_EDX];
        if (m->amd) out[3] |= m->words[CPUID_1_EDX] & 0x0183f3ff; /* [APM3] E.4.2: repeated bits */
        if (m->amd && m->cores > 1) out[2] |= 2;                  /* CmpLegacy */
        break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004:
        for (unsigned k = 0; k < 4; k++)
            out[k] = word4(m->brand + (leaf - 0x80000002) * 16 + k * 4);
        break;
    case 0x80000005:
        if (m->amd) out[0] = out[1] = 0x01ff01ff, out[2] = out[3] = 0x20080140;
        break;
    case 0x80000006: out[2] = 2048u << 16 | 8u << 12 | 64; break; /* L2: 2 MiB, 16 ways */
    case 0x80000007: out[3] = m->words[CPUID_8000_0007_EDX]; break;
    case 0x80000008:
        out[0] = PHYS_BITS | 48u << 8;
        if (!m->has[FEAT_LM]) out[0] = (has_name(m, "pae") ? 36 : 32) | 32u << 8;
        out[1] = m->words[CPUID_8000_0008_EBX];
        if (m->amd && m->cores * m->threads > 1)
            out[2] = log2_up(m->cores * m->threads) << 12 | (m->cores * m->threads - 1);
        break;
    }
}

/* Hypervisor leaves: our signature, and clock rates where VMware and KVM put them too. */
static void hypervisor_leaf(u32 leaf, u32 out[4])
{
    static const char signature[] = "CalqueCalque";
    switch (leaf) {
    case 0x40000000:
        out[0] = 0x40000010;
        for (unsigned k = 0; k < 3; k++)
            out[1 + k] = word4(signature + 4 * k);
        break;
    case 0x40000010:
        out[0] = out[1] = CPUID_TSC_HZ / 1000; /* TSC and APIC bus, kHz */
        break;
    }
}

void cpuid_query(struct cpu *cpu, u32 leaf, u32 subleaf, u32 out[4])
{
    const struct cpu_model *m = cpu->model;
    memset(out, 0, 4 * sizeof *out);
    if ((m->words[CPUID_1_ECX] >> 31) && leaf >= 0x40000000 && leaf <= 0x400000ff) {
        hypervisor_leaf(leaf, out);
    } else if (leaf >= 0x80000000 && leaf <= m->xlevel) {
        extended_leaf(m, leaf, out);
    } else {
        /* Beyond either range Intel answers with the highest basic leaf, AMD with zeros. */
        if (leaf > m->level) {
            if (m->amd) return;
            leaf = m->level;
        }
        basic_leaf(cpu, m, leaf, subleaf, out);
    }
}
