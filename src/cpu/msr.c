/* Model-specific registers: the architectural ones, and the few others that operating systems touch unasked.
 *
 * Left out: performance monitoring, last branch records, power and thermal control (those that are read
 * anyway give what an idle, cool part gives). MTRRs and PAT are stored and validated but have no effect, as
 * guest memory is always coherent. Unknown registers are #GP(0) and logged. References: [SDM4] chapter 2,
 * [SDM3] 11.11 (MTRRs), 11.12 (PAT), 15.3 (machine check), 17.17 (TSC). */
#include "cpu/msr.h"

#include "core/log.h"
#include "cpu/cpuid.h"
#include "cpu/exec.h"

#define MSR_TSC                0x010u
#define MSR_PLATFORM_ID        0x017u
#define MSR_APIC_BASE          0x01bu
#define MSR_EBL_CR_POWERON     0x02au
#define MSR_SMI_COUNT          0x034u
#define MSR_CORE_THREAD_COUNT  0x035u
#define MSR_FEATURE_CONTROL    0x03au
#define MSR_TSC_ADJUST         0x03bu
#define MSR_SPEC_CTRL          0x048u
#define MSR_PRED_CMD           0x049u
#define MSR_BIOS_UPDT_TRIG     0x079u
#define MSR_BIOS_SIGN_ID       0x08bu
#define MSR_FSB_FREQ           0x0cdu
#define MSR_PLATFORM_INFO      0x0ceu
#define MSR_MTRRCAP            0x0feu
#define MSR_ARCH_CAPABILITIES  0x10au
#define MSR_BBL_CR_CTL         0x119u
#define MSR_BBL_CR_CTL3        0x11eu
#define MSR_SYSENTER_CS        0x174u
#define MSR_SYSENTER_ESP       0x175u
#define MSR_SYSENTER_EIP       0x176u
#define MSR_MCG_CAP            0x179u
#define MSR_MCG_STATUS         0x17au
#define MSR_MCG_CTL            0x17bu
#define MSR_PERF_STATUS        0x198u
#define MSR_PERF_CTL           0x199u
#define MSR_CLOCK_MODULATION   0x19au
#define MSR_THERM_INTERRUPT    0x19bu
#define MSR_THERM_STATUS       0x19cu
#define MSR_MISC_ENABLE        0x1a0u
#define MSR_TEMPERATURE_TARGET 0x1a2u
#define MSR_DEBUGCTL           0x1d9u
#define MSR_LASTBRANCHFROMIP   0x1dbu
#define MSR_LASTINTTOIP        0x1deu
#define MSR_MTRR_PHYSBASE0     0x200u
#define MSR_MTRR_PHYSMASK7     0x20fu
#define MSR_MTRR_FIX64K        0x250u
#define MSR_MTRR_FIX16K_80     0x258u
#define MSR_MTRR_FIX16K_A0     0x259u
#define MSR_MTRR_FIX4K_C0      0x268u
#define MSR_MTRR_FIX4K_F8      0x26fu
#define MSR_PAT                0x277u
#define MSR_MTRR_DEF_TYPE      0x2ffu
#define MSR_MC0_CTL            0x400u
#define MSR_TSC_DEADLINE       0x6e0u
#define MSR_X2APIC_FIRST       0x800u
#define MSR_X2APIC_LAST        0x8ffu
#define MSR_XSS                0xda0u
#define MSR_EFER               0xc0000080u
#define MSR_STAR               0xc0000081u
#define MSR_LSTAR              0xc0000082u
#define MSR_CSTAR              0xc0000083u
#define MSR_FMASK              0xc0000084u
#define MSR_FS_BASE            0xc0000100u
#define MSR_GS_BASE            0xc0000101u
#define MSR_KERNEL_GS_BASE     0xc0000102u
#define MSR_TSC_AUX            0xc0000103u
#define MSR_AMD_FIRST          0xc0010000u
#define MSR_AMD_LAST           0xc0011fffu
#define MSR_AMD_DE_CFG         0xc0011029u

#define MC_BANKS 10u
/* No microcode to update: any revision will do, but zero reads as "none loaded". */
#define UCODE_REVISION 1ull
/* RDCL_NO, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO,
 * BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO: an interpreter does not speculate. */
#define ARCH_CAPABILITIES_VALUE 0x0d10e179ull
/* Fast strings; BTS and PEBS unavailable. */
#define MISC_ENABLE_FIXED 0x1800ull
/* What may be written of the rest: thermal and EIST enables, MONITOR, CPUID limit, xTPR, XD disable (all
 * without effect). */
#define MISC_ENABLE_WRITABLE 0x400c50089ull

static bool unknown(struct cpu *cpu, u32 index, const char *what)
{
    log_printf(LOG_UNIMP, "%s of unknown MSR %08x at %016llx\n", what, index, (unsigned long long)cpu->rip);
    return raise_gp0(cpu);
}

/* Memory types 0, 1, 4, 5, 6 everywhere, and 7 (UC-) in the PAT only. */
static bool types_valid(u64 types, bool pat)
{
    for (unsigned n = 0; n < 8; n++, types >>= 8) {
        u8 t = types & 0xff;
        if (t > (pat ? 7 : 6) || t == 2 || t == 3) return false;
    }
    return true;
}

/* The fixed-range registers have scattered numbers: index into mtrr_fixed[], or -1. */
static int fixed_index(u32 msr)
{
    if (msr == MSR_MTRR_FIX64K) return 0;
    if (msr == MSR_MTRR_FIX16K_80 || msr == MSR_MTRR_FIX16K_A0) return (int)(msr - MSR_MTRR_FIX16K_80) + 1;
    if (msr >= MSR_MTRR_FIX4K_C0 && msr <= MSR_MTRR_FIX4K_F8) return (int)(msr - MSR_MTRR_FIX4K_C0) + 3;
    return -1;
}

static bool is_apic(u32 msr)
{
    return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
           (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST);
}

/* Does the model have what this register belongs to? */
static bool present(const struct cpu *cpu, u32 msr)
{
    const struct cpu_model *m = cpu->model;
    if (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST)
        return cpu_has_bit(m, CPUID_1_ECX, CPUID_1_ECX_X2APIC);
    if (msr >= MSR_MC0_CTL && msr < MSR_MC0_CTL + 4 * MC_BANKS)
        return cpu_has_bit(m, CPUID_1_EDX, CPUID_1_EDX_MCA);
    if ((msr >= MSR_MTRR_PHYSBASE0 && msr <= MSR_MTRR_PHYSMASK7) || fixed_index(msr) >= 0)
        return cpu_has_bit(m, CPUID_1_EDX, CPUID_1_EDX_MTRR);
    if (msr >= MSR_AMD_FIRST && msr <= MSR_AMD_LAST) return m->amd;
    switch (msr) {
    case MSR_TSC: return m->has[FEAT_TSC];
    case MSR_APIC_BASE: return cpu_has_bit(m, CPUID_1_EDX, CPUID_1_EDX_APIC);
    case MSR_TSC_DEADLINE: return cpu_has_bit(m, CPUID_1_ECX, CPUID_1_ECX_TSC_DEADLINE);
    case MSR_TSC_ADJUST: return cpu_has_bit(m, CPUID_7_EBX, CPUID_7_EBX_TSC_ADJUST);
    case MSR_SPEC_CTRL: return cpu_has_bit(m, CPUID_7_EDX, CPUID_7_EDX_SPEC_CTRL | CPUID_7_EDX_SSBD);
    case MSR_PRED_CMD:
        return cpu_has_bit(m, CPUID_7_EDX, CPUID_7_EDX_SPEC_CTRL) ||
               cpu_has_bit(m, CPUID_8000_0008_EBX, CPUID_8000_0008_EBX_IBPB);
    case MSR_ARCH_CAPABILITIES: return cpu_has_bit(m, CPUID_7_EDX, CPUID_7_EDX_ARCH_CAPABILITIES);
    case MSR_MTRRCAP:
    case MSR_MTRR_DEF_TYPE: return cpu_has_bit(m, CPUID_1_EDX, CPUID_1_EDX_MTRR);
    case MSR_PAT: return cpu_has_bit(m, CPUID_1_EDX, CPUID_1_EDX_PAT);
    case MSR_SYSENTER_CS:
    case MSR_SYSENTER_ESP:
    case MSR_SYSENTER_EIP: return m->has[FEAT_SEP];
    case MSR_MCG_CAP:
    case MSR_MCG_STATUS:
    case MSR_MCG_CTL: return cpu_has_bit(m, CPUID_1_EDX, CPUID_1_EDX_MCA);
    case MSR_XSS: return m->has[FEAT_XSAVES];
    case MSR_EFER: return m->efer_mask;
    case MSR_STAR: return m->has[FEAT_SYSCALL];
    case MSR_LSTAR:
    case MSR_CSTAR:
    case MSR_FMASK:
    case MSR_FS_BASE:
    case MSR_GS_BASE:
    case MSR_KERNEL_GS_BASE: return m->has[FEAT_LM];
    case MSR_TSC_AUX: return m->has[FEAT_RDTSCP] || m->has[FEAT_RDPID];
    case MSR_FEATURE_CONTROL:
    case MSR_PLATFORM_INFO:
    case MSR_CORE_THREAD_COUNT:
    case MSR_SMI_COUNT: return !m->amd;
    default: return true;
    }
}

bool msr_read(struct cpu *cpu, u32 index, u64 *value)
{
    const struct cpu_model *m = cpu->model;
    u64 v = 0;
    if (!present(cpu, index)) return unknown(cpu, index, "read");
    if (is_apic(index)) {
        cpu->hooks->lock(cpu->hooks->opaque);
        bool ok = cpu->hooks->apic_msr_read(cpu->hooks->opaque, index, value);
        cpu->hooks->unlock(cpu->hooks->opaque);
        return ok || raise_gp0(cpu);
    }
    int fixed = fixed_index(index);
    if (fixed >= 0) {
        v = cpu->mtrr_fixed[fixed];
    } else if (index >= MSR_MTRR_PHYSBASE0 && index <= MSR_MTRR_PHYSMASK7) {
        unsigned n = (index - MSR_MTRR_PHYSBASE0) / 2;
        v = index & 1 ? cpu->mtrr_mask[n] : cpu->mtrr_base[n];
    } else if (index >= MSR_MC0_CTL && index < MSR_MC0_CTL + 4 * MC_BANKS) {
        v = cpu->mc_bank[index - MSR_MC0_CTL];
    } else if (index >= MSR_AMD_FIRST && index <= MSR_AMD_LAST) {
        v = index == MSR_AMD_DE_CFG ? 2 : 0; /* LFENCE serialises */
    } else {
        switch (index) {
        case MSR_TSC: v = msr_tsc(cpu); break;
        case 0: /* P5 machine check address and type */
        case 1:
        case MSR_PLATFORM_ID:
        case MSR_EBL_CR_POWERON:
        case MSR_SMI_COUNT:
        case MSR_BBL_CR_CTL:
        case MSR_BBL_CR_CTL3:
        case MSR_PERF_CTL:
        case MSR_CLOCK_MODULATION:
        case MSR_THERM_INTERRUPT:
        case MSR_THERM_STATUS:
        case MSR_DEBUGCTL:
        case MSR_XSS: v = 0; break;
        case MSR_LASTBRANCHFROMIP ... MSR_LASTINTTOIP: v = 0; break;
        case MSR_CORE_THREAD_COUNT: v = m->cores << 16 | m->cores * m->threads; break;
        case MSR_FEATURE_CONTROL: v = 1; break; /* locked, nothing enabled */
        case MSR_TSC_ADJUST: v = cpu->tsc_adjust; break;
        case MSR_SPEC_CTRL: v = cpu->spec_ctrl; break;
        case MSR_BIOS_SIGN_ID: v = m->amd ? UCODE_REVISION : UCODE_REVISION << 32; break;
        case MSR_FSB_FREQ: v = 5; break;            /* 100 MHz */
        case MSR_PLATFORM_INFO: v = 10 << 8; break; /* times 10: 1 GHz */
        case MSR_MTRRCAP: v = 0x508; break;         /* 8 variable, fixed, WC */
        case MSR_ARCH_CAPABILITIES: v = ARCH_CAPABILITIES_VALUE; break;
        case MSR_SYSENTER_CS: v = cpu->sysenter_cs; break;
        case MSR_SYSENTER_ESP: v = cpu->sysenter_esp; break;
        case MSR_SYSENTER_EIP: v = cpu->sysenter_eip; break;
        case MSR_MCG_CAP: v = MC_BANKS | 0x100; break; /* MCG_CTL_P */
        case MSR_MCG_STATUS: v = cpu->mcg_status; break;
        case MSR_MCG_CTL: v = cpu->mcg_ctl; break;
        case MSR_PERF_STATUS: v = 10 << 8; break;
        case MSR_MISC_ENABLE: v = cpu->misc_enable | MISC_ENABLE_FIXED; break;
        case MSR_TEMPERATURE_TARGET: v = 100 << 16; break;
        case MSR_PAT: v = cpu->pat; break;
        case MSR_MTRR_DEF_TYPE: v = cpu->mtrr_def_type; break;
        case MSR_EFER: v = cpu->efer; break;
        case MSR_STAR: v = cpu->star; break;
        case MSR_LSTAR: v = cpu->lstar; break;
        case MSR_CSTAR: v = cpu->cstar; break;
        case MSR_FMASK: v = cpu->fmask; break;
        case MSR_FS_BASE: v = cpu->seg[SEG_FS].base; break;
        case MSR_GS_BASE: v = cpu->seg[SEG_GS].base; break;
        case MSR_KERNEL_GS_BASE: v = cpu->kernel_gs_base; break;
        case MSR_TSC_AUX: v = cpu->tsc_aux; break;
        default: return unknown(cpu, index, "read");
        }
    }
    *value = v;
    return true;
}

static bool write_efer(struct cpu *cpu, u64 v)
{
    if (v & ~cpu->model->efer_mask) return raise_gp0(cpu);
    if (((v ^ cpu->efer) & EFER_LME) && (cpu->cr0 & CR0_PG)) return raise_gp0(cpu);
    v = (v & ~EFER_LMA) | (cpu->efer & EFER_LMA); /* LMA is read-only */
    if ((v ^ cpu->efer) & EFER_NXE) tlb_flush_all(cpu);
    cpu->efer = v;
    cpu_update_mode(cpu);
    return true;
}

static bool write_mtrr(struct cpu *cpu, u32 index, u64 v)
{
    int fixed = fixed_index(index);
    if (fixed >= 0) {
        if (!types_valid(v, false)) return raise_gp0(cpu);
        cpu->mtrr_fixed[fixed] = v;
        return true;
    }
    unsigned n = (index - MSR_MTRR_PHYSBASE0) / 2;
    if (v & ~PHYS_MASK) return raise_gp0(cpu);
    if (index & 1) {
        if (v & 0x7ff) return raise_gp0(cpu);
        cpu->mtrr_mask[n] = v;
    } else {
        if ((v & 0xf00) || !types_valid(v & 0xff, false)) return raise_gp0(cpu);
        cpu->mtrr_base[n] = v;
    }
    return true;
}

static bool canonical_or_gp(struct cpu *cpu, u64 v) { return canonical(v) || raise_gp0(cpu); }

/* FS and GS bases take effect at once, in every mode. */
static void write_base(struct cpu *cpu, unsigned seg, u64 v)
{
    cpu->seg[seg].base = v;
    cpu->win[seg].base = v;
}

bool msr_write(struct cpu *cpu, u32 index, u64 v)
{
    if (!present(cpu, index)) return unknown(cpu, index, "write");
    if (is_apic(index)) {
        cpu->hooks->lock(cpu->hooks->opaque);
        bool ok = cpu->hooks->apic_msr_write(cpu->hooks->opaque, index, v);
        cpu->hooks->unlock(cpu->hooks->opaque);
        return ok || raise_gp0(cpu);
    }
    if (fixed_index(index) >= 0 || (index >= MSR_MTRR_PHYSBASE0 && index <= MSR_MTRR_PHYSMASK7))
        return write_mtrr(cpu, index, v);
    if (index >= MSR_MC0_CTL && index < MSR_MC0_CTL + 4 * MC_BANKS) {
        if ((index & 3) == 0 && v && v != ~0ull)
            return raise_gp0(cpu);                        /* MCi_CTL: all or nothing, [SDM3] 15.3.2.1 */
        if ((index & 3) == 1 && v) return raise_gp0(cpu); /* MCi_STATUS can only be cleared */
        cpu->mc_bank[index - MSR_MC0_CTL] = v;
        return true;
    }
    if (index >= MSR_AMD_FIRST && index <= MSR_AMD_LAST) return true;

    switch (index) {
    case MSR_TSC: {
        u64 delta = v - msr_tsc(cpu);
        cpu->tsc_offset += delta;
        cpu->tsc_adjust += delta;
        break;
    }
    case MSR_TSC_ADJUST:
        cpu->tsc_offset += v - cpu->tsc_adjust;
        cpu->tsc_adjust = v;
        break;
    case MSR_SPEC_CTRL:
        if (v & ~7ull) return raise_gp0(cpu);
        cpu->spec_ctrl = v;
        break;
    case MSR_PRED_CMD:
        if (v & ~1ull) return raise_gp0(cpu);
        break;
    case 0:
    case 1:
    case MSR_EBL_CR_POWERON:
    case MSR_BIOS_UPDT_TRIG:
    case MSR_BIOS_SIGN_ID:
    case MSR_BBL_CR_CTL:
    case MSR_BBL_CR_CTL3:
    case MSR_PERF_CTL:
    case MSR_CLOCK_MODULATION:
    case MSR_THERM_INTERRUPT:
    case MSR_THERM_STATUS: break;
    case MSR_DEBUGCTL: /* DEVIATION: LBR and BTF are accepted and do nothing */
        if (v & ~0xffc3ull) return raise_gp0(cpu);
        if (v) log_printf(LOG_UNIMP, "IA32_DEBUGCTL = %llx has no effect\n", (unsigned long long)v);
        break;
    case MSR_SYSENTER_CS: cpu->sysenter_cs = (u32)v; break;
    case MSR_SYSENTER_ESP:
        TRY(canonical_or_gp(cpu, v));
        cpu->sysenter_esp = v;
        break;
    case MSR_SYSENTER_EIP:
        TRY(canonical_or_gp(cpu, v));
        cpu->sysenter_eip = v;
        break;
    case MSR_MCG_STATUS: cpu->mcg_status = v; break;
    case MSR_MCG_CTL:
        if (v && v != ~0ull) return raise_gp0(cpu);
        cpu->mcg_ctl = v;
        break;
    case MSR_MISC_ENABLE: cpu->misc_enable = v & MISC_ENABLE_WRITABLE; break;
    case MSR_PAT:
        if (!types_valid(v, true)) return raise_gp0(cpu);
        cpu->pat = v;
        break;
    case MSR_MTRR_DEF_TYPE:
        if ((v & ~0xcffull) || !types_valid(v & 0xff, false)) return raise_gp0(cpu);
        cpu->mtrr_def_type = v;
        break;
    case MSR_XSS:
        if (v) return raise_gp0(cpu);
        break;
    case MSR_EFER: return write_efer(cpu, v);
    case MSR_STAR: cpu->star = v; break;
    case MSR_LSTAR:
        TRY(canonical_or_gp(cpu, v));
        cpu->lstar = v;
        break;
    case MSR_CSTAR:
        TRY(canonical_or_gp(cpu, v));
        cpu->cstar = v;
        break;
    case MSR_FMASK: cpu->fmask = v; break;
    case MSR_FS_BASE:
        TRY(canonical_or_gp(cpu, v));
        write_base(cpu, SEG_FS, v);
        break;
    case MSR_GS_BASE:
        TRY(canonical_or_gp(cpu, v));
        write_base(cpu, SEG_GS, v);
        break;
    case MSR_KERNEL_GS_BASE:
        TRY(canonical_or_gp(cpu, v));
        cpu->kernel_gs_base = v;
        break;
    case MSR_TSC_AUX:
        if (v >> 32) return raise_gp0(cpu);
        cpu->tsc_aux = v;
        break;
    default: return unknown(cpu, index, "write");
    }
    return true;
}
