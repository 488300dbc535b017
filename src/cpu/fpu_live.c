/* The guest's x87 and vector state in the host's registers. See fpu_live.h.
 *
 * Vector registers are moved one by one: XSAVE and XRSTOR take 270 cycles together, this 60 (measured on Sapphire Rapids).
 * The x87 goes with FXSAVE, and only when it is asked for. The upper halves of the YMM registers are loaded only when one of them
 * is not zero: host processors pay for upper halves in use when SSE instructions run.
 *
 * The x87's instruction pointer is exact: fpu_live.h. Its operand pointer and opcode are for unmasked exceptions only, which do not
 * happen here. DEVIATION: the code segment stored with the instruction pointer is the one at the time of saving.
 *
 * References: [SDM1] 8.1.8 (pointers), 10.5 (FXSAVE), 11.6.4 (MXCSR). */
#include "cpu/fpu_live.h"

#include "cpu/exec_fpu.h"

#define MXCSR_MASKS 0x1f80u
#define CW_MASKS    0x003fu

/* In front of an x87 instruction: fpu_live.h. */
typedef u32 mark __attribute__((aligned(1)));

#define EACH_REGISTER(x)                                                                                      \
    x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11) x(12) x(13) x(14) x(15)

/* What may be live as things are. */
static unsigned allowed(struct cpu *cpu)
{
    unsigned a = 0;
    if (cpu->cr0 & CR0_TS) return 0;
    const bool simd_masked = (*fx32(cpu, FX_MXCSR) & MXCSR_MASKS) == MXCSR_MASKS;
    if (!(cpu->cr0 & CR0_EM)) {
        if ((cpu->cr4 & CR4_OSFXSR) && simd_masked) a |= FPU_SSE;
        if ((*fx16(cpu, FX_CW) & CW_MASKS) == CW_MASKS && !(*fx16(cpu, FX_SW) & SW_ES)) a |= FPU_X87;
    }
    if ((cpu->cr4 & CR4_OSXSAVE) && (cpu->xcr0 & 6) == 6 && cpu_protected(cpu) && !cpu_v86(cpu) && simd_masked) a |= FPU_AVX;
    return a;
}

static void save_x87(struct cpu *cpu)
{
    const u64 dp = *fx64(cpu, FX_DP);
    const u16 op = *fx16(cpu, FX_OP);
    __asm__ volatile("fxsave64 %0\n\temms" : "+m"(cpu->fpu.legacy));
    *fx64(cpu, FX_DP) = dp;
    *fx16(cpu, FX_OP) = op;
    const mark *host_ip = (const mark *)(uintptr_t)*fx64(cpu, FX_IP);
    if (host_ip) {
        *fx64(cpu, FX_IP) = (cpu->x87_page + host_ip[-1]) & cpu->ip_mask;
        *fx16(cpu, FX_CS) = cpu->seg[SEG_CS].selector;
    } else {
        *fx64(cpu, FX_IP) = *fx64(cpu, FX_IP_KEPT);
    }
    if (*fx16(cpu, FX_CW) != 0x37f) __asm__ volatile("fldcw %0" : : "m"((const u16){0x37f}));
}

static void load_x87(struct cpu *cpu)
{
    /* 0 there tells whether an instruction has changed it. */
    *fx64(cpu, FX_IP_KEPT) = *fx64(cpu, FX_IP);
    *fx64(cpu, FX_IP) = 0;
    __asm__ volatile("fxrstor64 %0" : : "m"(cpu->fpu.legacy));
}

static void load_vectors(struct cpu *cpu)
{
#define LOAD(n) "movaps " #n "*16(%0), %%xmm" #n "\n\t"
    __asm__ volatile(EACH_REGISTER(LOAD) "ldmxcsr %1" : : "r"(xmm_slot(cpu, 0)), "m"(*fx32(cpu, FX_MXCSR)) : "memory");
}

/* Before the lower halves, which are loaded by instructions that leave the upper ones alone. */
static void load_upper(struct cpu *cpu)
{
    bool used;
    __asm__ volatile("vmovaps (%1), %%ymm0\n\t"
                     "vorps 32(%1), %%ymm0, %%ymm0\n\tvorps 64(%1), %%ymm0, %%ymm0\n\tvorps 96(%1), %%ymm0, %%ymm0\n\t"
                     "vorps 128(%1), %%ymm0, %%ymm0\n\tvorps 160(%1), %%ymm0, %%ymm0\n\tvorps 192(%1), %%ymm0, %%ymm0\n\t"
                     "vorps 224(%1), %%ymm0, %%ymm0\n\tvptest %%ymm0, %%ymm0\n\tvzeroupper"
                     : "=@ccnz"(used)
                     : "r"(cpu->fpu.ymm_high)
                     : "memory");
    if (!used) return;
#define LOAD_UPPER(n) "vinsertf128 $1, " #n "*16(%0), %%ymm" #n ", %%ymm" #n "\n\t"
    __asm__ volatile(EACH_REGISTER(LOAD_UPPER) : : "r"(cpu->fpu.ymm_high) : "memory");
}

void fpu_save_live(struct cpu *cpu)
{
    const unsigned live = cpu->fpu_live;
    cpu->fpu_live = 0;
    if (live & FPU_AVX) {
#define SAVE_UPPER(n) "vextractf128 $1, %%ymm" #n ", " #n "*16(%0)\n\t"
        __asm__ volatile(EACH_REGISTER(SAVE_UPPER) "vzeroupper" : : "r"(cpu->fpu.ymm_high) : "memory");
    }
    if (live & FPU_X87) {
        save_x87(cpu);
    } else {
#define SAVE(n) "movaps %%xmm" #n ", " #n "*16(%1)\n\t"
        __asm__ volatile(EACH_REGISTER(SAVE) "stmxcsr %0" : "=m"(*fx32(cpu, FX_MXCSR)) : "r"(xmm_slot(cpu, 0)) : "memory");
    }
    __asm__ volatile("ldmxcsr %0" : : "m"((const u32){MXCSR_INIT}));
}

bool fpu_load(struct cpu *cpu, unsigned need)
{
    if (!(need & ~cpu->fpu_live)) return true;
    fpu_save(cpu); /* more than is live: from the start */
    const unsigned may = allowed(cpu);
    if (need & ~may) return false;
    if (may & FPU_AVX) load_upper(cpu);
    if (need & FPU_X87) load_x87(cpu);
    else load_vectors(cpu);
    cpu->fpu_live = (u8)(need & FPU_X87 ? may : may & ~FPU_X87);
    return true;
}
