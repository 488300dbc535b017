/* What CPUID reports: CPU models for -cpu, and the features that decoding and system registers depend on. */
#ifndef CPU_CPUID_H
#define CPU_CPUID_H

#include <stdio.h>

#include "core/types.h"
#include "cpu/decode.h"

struct cpu;

/* Feature words, one per CPUID register that holds feature bits. */
enum cpuid_word {
    CPUID_1_EDX,
    CPUID_1_ECX,
    CPUID_6_EAX,
    CPUID_7_EBX,
    CPUID_7_ECX,
    CPUID_7_EDX,
    CPUID_D_1_EAX,
    CPUID_8000_0001_EDX,
    CPUID_8000_0001_ECX,
    CPUID_8000_0007_EDX,
    CPUID_8000_0008_EBX,
    CPUID_WORDS
};

/* The feature bits that other code asks for by name; the rest are known to cpuid.c alone. */
#define CPUID_1_EDX_PSE               (1u << 3)
#define CPUID_1_EDX_APIC              (1u << 9)
#define CPUID_1_EDX_MTRR              (1u << 12)
#define CPUID_1_EDX_PGE               (1u << 13)
#define CPUID_1_EDX_MCA               (1u << 14)
#define CPUID_1_EDX_PAT               (1u << 16)
#define CPUID_1_ECX_PCID              (1u << 17)
#define CPUID_1_ECX_X2APIC            (1u << 21)
#define CPUID_1_ECX_TSC_DEADLINE      (1u << 24)
#define CPUID_7_EBX_TSC_ADJUST        (1u << 1)
#define CPUID_7_EDX_SPEC_CTRL         (1u << 26)
#define CPUID_7_EDX_ARCH_CAPABILITIES (1u << 29)
#define CPUID_7_EDX_SSBD              (1u << 31)
#define CPUID_8000_0001_EDX_NX        (1u << 20)
#define CPUID_8000_0001_EDX_1G        (1u << 26)
#define CPUID_8000_0008_EBX_IBPB      (1u << 12)

/* TSC ticks a second: what the hook counts and what CPUID says. */
#define CPUID_TSC_HZ 1000000000u

struct cpu_model {
    char name[32];               /* as given to -cpu */
    char vendor[13];             /* leaf 0 */
    char brand[49];              /* leaves 0x80000002-4 */
    u32 family, model, stepping; /* display family and model */
    u32 level, xlevel;           /* highest basic and extended leaf */
    u32 words[CPUID_WORDS];      /* feature bits, without the dynamic ones */
    unsigned cores, threads;     /* per package, and per core */
    bool amd;                    /* AuthenticAMD: SYSCALL outside 64-bit mode, no SYSENTER in long mode */
    u64 cr4_mask;                /* CR4 bits that may be set */
    u64 efer_mask;               /* EFER bits that may be set */
    u64 xcr0_mask;               /* XCR0 bits that may be set; 0 without XSAVE */
    bool has[FEATURE_COUNT];     /* by enum cpu_feature */
};

/* Parse -cpu MODEL[,+feature|-feature|feature[=on|off]|property=value]...: 0, or -EINVAL with a message on
 * stderr. */
int cpu_model_parse(const char *spec, struct cpu_model **out);
void cpu_model_destroy(struct cpu_model *m);
/* The names -cpu knows, one a line, and then the features: `-cpu help`. */
void cpu_model_list(FILE *f);
/* The name of model number i; NULL: there are no more. */
const char *cpu_model_name(size_t i);
/* Topology of one package (leaves 1, 4 and 0xb). */
void cpu_model_set_topology(struct cpu_model *m, unsigned cores, unsigned threads);
/* Leaf 1 EAX, which is also EDX after reset. */
u32 cpu_model_signature(const struct cpu_model *m);

static inline bool cpu_has_feature(const struct cpu_model *m, enum cpu_feature f) { return m->has[f]; }
static inline bool cpu_has_bit(const struct cpu_model *m, enum cpuid_word word, u32 bit)
{
    return m->words[word] & bit;
}

/* The CPUID instruction: EAX, EBX, ECX, EDX in out[0..3]. */
void cpuid_query(struct cpu *cpu, u32 leaf, u32 subleaf, u32 out[4]);

#endif
